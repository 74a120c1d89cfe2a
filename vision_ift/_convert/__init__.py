"""Rows to the files of other trainers, and back."""
