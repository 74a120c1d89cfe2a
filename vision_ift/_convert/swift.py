"""ms-swift JSON Lines: ``messages`` with tags in the text, ``images``, and ``objects``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from vision_ift._builder import Batch
from vision_ift._convert import llamafactory
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
SOURCE = "messages"
UNREAD = ("<img>", "<video>", "<audio>", "<ref-object>", "<bbox>")

_MARKS = (*MEDIA, *TOKENS, "<img>", "<ref-object>", "<bbox>", "<cot-process>")


def write(rows: Iterable[Row], out: Out, pictures: Pictures, tally: Tally) -> None:
    """Write ``NAME.jsonl``."""

    def say(row: Row) -> Row:
        refuse_marks(row, _MARKS)
        place_of(row)
        made = llamafactory.record(row, pictures, tally)
        objects = objects_of(row["meta"], len(made["images"]))
        if not objects["bbox"]:
            return made
        tally.meet("objects")
        return {**made, "objects": objects}

    out.lines(tally.said(rows, say))


def objects_of(meta: str, images: int) -> dict[str, Any]:
    """Give the boxes that a row's ``meta`` has as ms-swift's ``objects``: corners in pixels.

    ``meta``, or its ``rounds``, have them as COCO does: x, y, width and height in pixels, all of
    the picture of index ``image``.

    >>> objects_of('{"rounds":[{"boxes":[[1,2,3,4]],"image":0}]}', 1)
    {'ref': [], 'bbox': [[1.0, 2.0, 4.0, 6.0]], 'image_id': [0]}
    """
    found: dict[str, Any] = {"ref": [], "bbox": [], "image_id": []}
    if '"boxes"' not in meta:
        return found
    try:
        whole = msgspec.json.decode(meta, type=_Meta)
    except msgspec.DecodeError:  # boxes of another kind
        return found
    for held in (whole, *whole.rounds):
        if not 0 <= held.image < images:
            continue
        for x, y, width, height in held.boxes:
            found["bbox"].append([x, y, x + width, y + height])
            found["image_id"].append(held.image)
    return found


class _Boxes(msgspec.Struct):
    boxes: list[tuple[float, float, float, float]] = []
    image: int = 0


class _Meta(_Boxes):
    rounds: list[_Boxes] = []


def read(file: Path, root: Path, work: Path, images: str) -> Iterator[Batch]:
    """Read a file of this layout: the source ``messages`` does."""
    del work
    return built(SOURCE, root, file, images)
