"""Rows to convert, and what came back, for the tests beside it."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from tests.rows import table_of
from vision_ift._conversation import IMAGE, Conversation, Message, Part
from vision_ift._pictures.images import Images
from vision_ift._table import Table

#: Formats whose pictures are files, and those that hold them.
WITH_FILES = ("llava", "llamafactory", "swift", "qwen", "internvl")
EMBEDDING = ("trl", "finevision", "openai")
ALL = (*WITH_FILES, *EMBEDDING)


def file_of(to: str, out: Path, name: str = "llava") -> Path:
    """Name the file of rows that a conversion writes."""
    ending = {
        "llava": ".json",
        "llamafactory": ".json",
        "qwen": ".json",
        "trl": "-00000.parquet",
        "finevision": "-00000.parquet",
    }.get(to, ".jsonl")
    return out / f"{name}{ending}"


def draw(path: Path, number: int, *, kind: str = "JPEG") -> None:
    """Draw a small picture that no other number gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (24 + number % 9, 16), (number * 37 % 256, number * 91 % 256, 80))
    data = io.BytesIO()
    picture.save(data, kind)
    path.write_bytes(data.getvalue())


def turn(role: Any, *parts: str | None) -> Message:
    """Make a turn of texts, and ``None`` for pictures."""
    return Message(role, tuple(IMAGE if text is None else Part("text", text) for text in parts))


def one(
    name: str, *messages: Message, images: tuple[str, ...] = (), **columns: Any
) -> Conversation:
    """Make a conversation with other columns filled."""
    columns = {
        "task": "t",
        "license": "CC-BY-4.0",
        "language": "en",
        "split": "val",
        "meta": {"n": [1, "字"]},
        **columns,
    }
    paths = tuple(f"their/{path}" for path in images)
    return Conversation(id=name, images=images, image_paths=paths, messages=messages, **columns)


def plain(name: str = "a/1", picture: str = "p/1.jpg") -> Conversation:
    """Make a row that every format can say."""
    return one(
        name,
        turn("user", None, "What is this?"),
        turn("assistant", '一只猫 \u2028 \\ "'),
        turn("user", "And now?"),
        turn("assistant", "Still."),
        images=(picture,),
    )


def laid(folder: Path, rows: Iterable[Conversation]) -> tuple[Path, Table]:
    """Draw the rows' pictures under a root, and write the rows as a table."""
    root = folder / "root"
    listed = list(rows)
    root.mkdir(parents=True)
    for number, path in enumerate(sorted({path for row in listed for path in row.images})):
        kind = {"png": "PNG", "gif": "GIF", "webp": "WEBP"}.get(path.rpartition(".")[2], "JPEG")
        draw(root / path, number, kind=kind)
    return root, table_of(folder / "table", listed, source="llava")


def rows_of(table: Table, root: Path) -> list[dict[str, Any]]:
    """Give a table's rows with the bytes of their pictures in place of references."""
    images = Images(root)
    found = []
    for batch in table.batches():
        for row in batch.to_pylist():
            row["images"] = [images.read(image["path"]) for image in row["images"]]
            found.append(row)
    return found
