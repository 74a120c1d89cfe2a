"""A plan becomes WebDataset shards, with a manifest, indexes and a card."""
