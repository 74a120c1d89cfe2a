"""InternVL JSON Lines: LLaVA's layout, the system turn among the others, and a meta file.

Its reader (``internvl_chat/internvl/train/internvl_chat_finetune.py``) puts a tag before the first
turn of a record whose ``image`` is a text, where that turn has none; of a list it does not, so a
picture that is shown later stands in a list of one.
"""

from __future__ import annotations

import json
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
    shown,
)
from vision_ift._convert.out import Out
from vision_ift._convert.pictures import Pictures

IMAGES: tuple[Mode, ...] = ("path", "copy")
SOURCE = "llava"
UNREAD = ("<video>",)

_MARKS = (*MEDIA, *TOKENS, "<img>", "</img>", "<IMG_CONTEXT>")


def write(rows: Iterable[Row], out: Out, pictures: Pictures, tally: Tally) -> None:
    """Write ``NAME.jsonl`` and ``NAME.meta.json``."""

    def say(row: Row) -> Row:
        refuse_marks(row, _MARKS)
        place_of(row)
        made = llava.record(row, pictures, tally, system=True)
        if len(row["images"]) == 1 and not shown(row["messages"][0]):
            made["image"] = [made["image"]]
        return made

    out.lines(tally.said(rows, say))
    meta = {
        out.name: {
            "root": out.base,
            "annotation": f"{out.name}.jsonl",
            "data_augment": False,
            "repeat_time": 1,
            "length": tally.rows,
        }
    }
    out.text(f"{out.name}.meta.json", json.dumps(meta, indent=1) + "\n")


def read(file: Path, root: Path, work: Path, images: str) -> Iterator[Batch]:
    """Read a file of this layout: the source ``llava`` does."""
    del work
    return built(SOURCE, root, file, images)
