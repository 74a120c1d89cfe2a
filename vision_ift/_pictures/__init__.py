"""Pictures by reference: found, read, measured, and decoded within limits."""
