"""Qwen-VL's fine-tuning JSON: LLaVA's layout, several pictures, and an entry of its data list.

Its reader (``qwen-vl-finetune/qwenvl/data/data_processor.py``) splits the words of ``human`` at the
tags, strips the pieces, takes everybody else for the assistant, and every picture must have a tag.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from vision_ift._builder import Batch
from vision_ift._convert import llava
from vision_ift._convert.marks import (
    MEDIA,
    TOKENS,
    Mode,
    Row,
    Tally,
    built,
    place_of,
    refuse_marks,
)
from vision_ift._convert.out import Out
from vision_ift._convert.pictures import Pictures

IMAGES: tuple[Mode, ...] = ("path", "copy")
SOURCE = "llava"
UNREAD = ("<video>",)


def write(rows: Iterable[Row], out: Out, pictures: Pictures, tally: Tally) -> None:
    """Write ``NAME.json`` and ``NAME.qwen.py``, the entry of ``qwenvl/data/__init__.py``."""

    def say(row: Row) -> Row:
        refuse_marks(row, (*MEDIA, *TOKENS))
        place_of(row)
        return llava.record(row, pictures, tally, system=False)

    out.list(tally.said(rows, say))
    out.text(
        f"{out.name}.qwen.py",
        "# For qwenvl/data/__init__.py; both paths are relative to this file's folder.\n"
        f'data_dict["{out.name}"] = {{\n'
        f'    "annotation_path": "{out.name}.json",\n'
        f'    "data_path": "{out.base}",\n'
        "}\n",
    )


def read(file: Path, root: Path, work: Path, images: str) -> Iterator[Batch]:
    """Read a file of this layout: the source ``llava`` does."""
    del work
    return built(SOURCE, root, file, images)
