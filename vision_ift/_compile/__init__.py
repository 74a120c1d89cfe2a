"""One recipe to what others run: Energon, LLaMA-Factory, ms-swift, `datasets`."""
