"""FineVision Parquet: ``images``, ``texts`` of ``user`` and ``assistant``, ``source``, ratings.

The layout has no place for a picture: its readers show all before the first question. What else a
row has goes into ``NAME.beside.jsonl``, a line a row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from vision_ift._builder import Batch
from vision_ift._conversation import FEATURES_JSON, SCHEMA
from vision_ift._convert.beside import read_beside, together
from vision_ift._convert.marks import (
    MEDIA,
    TOKENS,
    Mode,
    Row,
    Tally,
    built,
    joined,
    place_of,
    refuse_marks,
    shown,
)
from vision_ift._convert.out import Out
from vision_ift._convert.pictures import Pictures
from vision_ift._convert.trl import held
from vision_ift._errors import RecordError

IMAGES: tuple[Mode, ...] = ("embed",)
SOURCE = "messages"
UNREAD = ()

#: The ratings that FineVision has of every turn, and the least of each; ours are null.
QUALITIES = ("relevance", "image_correspondence", "visual_dependency", "formatting")

_INT: dict[str, Any] = {"dtype": "int64", "_type": "Value"}
_ROUND = pa.struct([("user", pa.string()), ("assistant", pa.string())])
_FEATURES: dict[str, Any] = {
    "images": FEATURES_JSON["images"],
    "texts": {
        "feature": {"user": FEATURES_JSON["id"], "assistant": FEATURES_JSON["id"]},
        "_type": "List",
    },
    "source": FEATURES_JSON["id"],
    **{f"{name}_ratings": {"feature": _INT, "_type": "List"} for name in QUALITIES},
    **{f"{name}_min": _INT for name in QUALITIES},
}
FINEVISION_SCHEMA = pa.schema(
    [
        SCHEMA.field("images"),
        ("texts", pa.list_(_ROUND)),
        ("source", pa.string()),
        *((f"{name}_ratings", pa.list_(pa.int64())) for name in QUALITIES),
        *((f"{name}_min", pa.int64()) for name in QUALITIES),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)


def write(rows: Iterable[Row], out: Out, pictures: Pictures, tally: Tally) -> None:
    """Write ``NAME-00000.parquet`` and so on, and ``NAME.beside.jsonl``."""

    def say(row: Row) -> tuple[Row, Row]:
        refuse_marks(row, (*MEDIA, *TOKENS))
        return row, _record(row, pictures, tally)

    out.parquet(out.beside(tally.said(rows, say)), FINEVISION_SCHEMA)


def _record(row: Row, pictures: Pictures, tally: Tally) -> Row:
    turns = row["messages"]
    if turns[0]["role"] == "system":
        raise RecordError("it begins with a system turn", reason="system_turn", turn=0)
    place_of(row)
    for number, turn in enumerate(turns):
        kinds = [part["type"] for part in turn["content"]]
        late = number > 0 or "image" in kinds[kinds.index("text") if "text" in kinds else 0 :]
        if shown(turn) and (late or "text" not in kinds):
            raise RecordError(
                f"turn {number} shows a picture elsewhere than before the first question",
                reason="image_place",
                turn=number,
            )
    texts = [joined(turn["content"], tally) for turn in turns]
    return {
        "images": [held(one, pictures) for one in row["images"]],
        "texts": [
            {"user": user, "assistant": assistant}
            for user, assistant in zip(texts[::2], texts[1::2], strict=True)
        ],
        "source": row["source"],
    }


def read(file: Path, root: Path, work: Path, images: str) -> Iterator[Batch]:
    """Read a file of this layout: the source ``messages`` does."""
    del work
    return together(built(SOURCE, root, file, images), read_beside(file), file)
