"""Whether an export is what it says, and how it is mended."""
