"""TRL Parquet: ``images`` and ``messages`` of parts, as its vision SFT trainer takes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from vision_ift._builder import Batch
from vision_ift._conversation import FEATURES_JSON, SCHEMA
from vision_ift._convert.marks import KEY, Mode, Row, Tally, built, rest_of
from vision_ift._convert.out import Out
from vision_ift._convert.pictures import Pictures

IMAGES: tuple[Mode, ...] = ("embed", "copy", "path")
SOURCE = "messages"
UNREAD = ()

_COLUMNS = ("id", "images", "messages")

#: What `datasets` reads the columns as: pictures decode when a row is taken.
TRL_SCHEMA = pa.schema(
    [*(SCHEMA.field(name) for name in _COLUMNS), (KEY, pa.string())],
    metadata={
        "huggingface": json.dumps(
            {
                "info": {
                    "features": {
                        **{name: FEATURES_JSON[name] for name in _COLUMNS},
                        KEY: FEATURES_JSON["id"],
                    }
                }
            }
        )
    },
)


def write(rows: Iterable[Row], out: Out, pictures: Pictures, tally: Tally) -> None:
    """Write ``NAME-00000.parquet`` and so on."""

    def say(row: Row) -> Row:
        return {
            "id": row["id"],
            "images": [held(one, pictures) for one in row["images"]],
            "messages": row["messages"],
            KEY: rest_of(row),
        }

    out.parquet(tally.said(rows, say), TRL_SCHEMA)


def held(picture: Row, pictures: Pictures) -> Row:
    """Give a picture as `datasets` stores it: its bytes, or the path of a file."""
    if pictures.mode != "embed":
        return {"bytes": None, "path": pictures.name(picture)}
    data = pictures.data(picture)
    # Named by its content, which is the name of no file of the reader's: `datasets` prefers those.
    return {"bytes": data, "path": pictures.content_name(data)}


def read(file: Path, root: Path, work: Path, images: str) -> Iterator[Batch]:
    """Read a file of this layout: the source ``messages`` does, the bytes stay in the file."""
    del work
    return built(SOURCE, root, file, images)
