"""A complete root of drawn pictures with true annotations, for trying things out and for tests."""

from vision_ift.demo._draw import draw

__all__ = ["draw"]
