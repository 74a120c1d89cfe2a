"""LLaMA-Factory: ``messages`` with tags in the text, ``images``, and an entry of its list.

The entry goes into ``dataset_info.json``; what that file says of other data stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vision_ift._builder import Batch
from vision_ift._convert.marks import (
    KEY,
    MEDIA,
    TOKENS,
    Mode,
    Row,
    Tally,
    built,
    marked,
    place_of,
    refuse_marks,
    rest_of,
)
from vision_ift._convert.out import Out
from vision_ift._convert.pictures import Pictures
from vision_ift._errors import OutputError

IMAGES: tuple[Mode, ...] = ("path", "copy")
SOURCE = "messages"
UNREAD = ("<video>", "<audio>")

INFO = "dataset_info.json"

#: The largest list of data sets that is read, in bytes.
_MAX_INFO_BYTES = 64 << 20


def record(row: Row, pictures: Pictures, tally: Tally) -> Row:
    """Say a row as ``messages`` with tags in the text."""
    if row["images"]:
        tally.meet("images")
    return {
        "id": row["id"],
        "messages": [
            {"role": turn["role"], "content": marked(turn["content"], tally, lines=False)}
            for turn in row["messages"]
        ],
        "images": [pictures.name(one) for one in row["images"]],
        KEY: rest_of(row),
    }


def write(rows: Iterable[Row], out: Out, pictures: Pictures, tally: Tally) -> None:
    """Write ``NAME.json``, and its entry into ``dataset_info.json``."""
    listed = _merged(out)

    def say(row: Row) -> Row:
        refuse_marks(row, (*MEDIA, *TOKENS))
        place_of(row)
        return record(row, pictures, tally)

    out.list(tally.said(rows, say))
    out.text(INFO, json.dumps(listed, ensure_ascii=False, indent=2) + "\n")


def _merged(out: Out) -> dict[str, Any]:
    """Read the list that is there, and add the entry of this conversion."""
    path = out.folder / INFO
    listed: Any = {}
    if path.exists():
        try:
            if path.stat().st_size > _MAX_INFO_BYTES:
                raise ValueError(f"it holds more than {_MAX_INFO_BYTES:,} bytes")
            listed = json.loads(path.read_bytes())
            if not isinstance(listed, dict):
                raise ValueError("it is no object")
        except (ValueError, RecursionError) as error:
            raise OutputError(f"{path} cannot be added to: {error}") from None
    entry = {
        "file_name": f"{out.name}.json",
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
            "system_tag": "system",
        },
    }
    if listed.get(out.name, entry) != entry:
        raise OutputError(
            f"{path} has another data set named {out.name!r}", hint="choose another --name"
        )
    out.may_replace(INFO)
    return {**listed, out.name: entry}


def read(file: Path, root: Path, work: Path, images: str) -> Iterator[Batch]:
    """Read a file of this layout: the source ``messages`` does."""
    del work
    return built(SOURCE, root, file, images)
