"""LLaVA JSON: ``id``, ``image``, and ``conversations`` of ``from`` and ``value``.

LLaVA 1.5's own trainer reads one picture a record, moves its tag to the front of the turn, and
knows no system turn; LLaVA-NeXT reads several (github.com/haotian-liu/LLaVA, ``train.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from vision_ift._builder import Batch
from vision_ift._convert.marks import (
    KEY,
    MEDIA,
    Mode,
    Row,
    Tally,
    built,
    joined,
    marked,
    refuse_marks,
    rest_of,
)
from vision_ift._convert.out import Out
from vision_ift._convert.pictures import Pictures

IMAGES: tuple[Mode, ...] = ("path", "copy")
SOURCE = "llava"
UNREAD = ("<ImageHere>", "<video>")

_MARKS = (*MEDIA, "<im_start>", "<im_end>", "<im_patch>", "<ImageHere>")
_SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt"}


def record(row: Row, pictures: Pictures, tally: Tally, *, system: bool) -> Row:
    """Say a row in this layout.

    Args:
        row: The row.
        pictures: Gives the pictures' paths.
        tally: Told what is lost.
        system: The system turn is one of ``conversations``; else it is a key of its own.
    """
    made: Row = {"id": row["id"]}
    turns = row["messages"]
    if turns[0]["role"] == "system" and not system:
        made["system"] = joined(turns[0]["content"], tally)
        tally.lose("system_unread")
        turns = turns[1:]
    names = [pictures.name(one) for one in row["images"]]
    if names:
        made["image"] = names[0] if len(names) == 1 else names
    made["conversations"] = [
        {
            "from": _SPEAKERS[turn["role"]],
            "value": marked(turn["content"], tally, lines=True),
        }
        for turn in turns
    ]
    made[KEY] = rest_of(row)
    return made


def write(rows: Iterable[Row], out: Out, pictures: Pictures, tally: Tally) -> None:
    """Write ``NAME.json``."""

    def say(row: Row) -> Row:
        refuse_marks(row, _MARKS)
        return record(row, pictures, tally, system=False)

    out.list(tally.said(rows, say))


def read(file: Path, root: Path, work: Path, images: str) -> Iterator[Batch]:
    """Read a file of this layout: the source ``llava`` does."""
    del work
    return built(SOURCE, root, file, images)
