"""Files and folders that a user names in an option."""

from __future__ import annotations

from pathlib import Path

from vision_ift._errors import MissingInputError


def existing(source: str, root: Path, path: str) -> Path:
    """Give a file that the user named: relative to ROOT, or absolute because they typed it so.

    Raises:
        MissingInputError: There is no such file.
    """
    file = root / path  # an absolute path replaces the root
    if not file.is_file():
        raise MissingInputError(
            f"source {source}: there is no file {file}",
            hint="path is relative to ROOT; write it absolute to read a file that lies elsewhere",
        )
    return file


def folders_of(text: str) -> tuple[str, ...]:
    """Split a list of folders with commas between them.

    >>> folders_of("coco/train2017, gqa/images/")
    ('coco/train2017', 'gqa/images')
    """
    return tuple(part.strip().rstrip("/") for part in text.split(",") if part.strip())
