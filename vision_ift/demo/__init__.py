"""Draws a small root with true annotations."""
