"""OpenAI's fine-tuning JSON Lines: ``messages`` with pictures as base64 data URLs.

Limits as the vision fine-tuning guide states them (developers.openai.com/api/docs/guides):
``MAX_IMAGES`` pictures a row, ``MAX_IMAGE_BYTES`` a picture, JPEG, PNG or WebP, none in answers.
What else a row has goes into ``NAME.beside.jsonl``, a line a row.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from vision_ift._builder import Batch, Dropped
from vision_ift._convert.beside import read_beside, together
from vision_ift._convert.marks import Mode, Row, Tally, built, joined, place_of, shown
from vision_ift._convert.out import Out
from vision_ift._convert.pictures import Pictures
from vision_ift._errors import RecordError
from vision_ift._pictures.images import image_format

IMAGES: tuple[Mode, ...] = ("embed",)
SOURCE = "messages"
UNREAD = ()

MAX_IMAGES = 10
MAX_IMAGE_BYTES = 10_000_000

#: The longest record that is read, in bytes: ten of the largest pictures, and words.
_MAX_LINE_BYTES = 160_000_000

_TYPES = {"jpg": "jpeg", "png": "png", "webp": "webp"}
_ENCODER = msgspec.json.Encoder()


def write(rows: Iterable[Row], out: Out, pictures: Pictures, tally: Tally) -> None:
    """Write ``NAME.jsonl`` and ``NAME.beside.jsonl``."""

    def say(row: Row) -> tuple[Row, Row]:
        place_of(row)
        if len(row["images"]) > MAX_IMAGES:
            raise RecordError(
                f"{len(row['images'])} pictures; at most {MAX_IMAGES} are taken",
                reason="image_count",
            )
        urls = iter([_url(pictures.data(one)) for one in row["images"]])
        turns = [
            {"role": turn["role"], "content": _content(turn, urls, tally)}
            for turn in row["messages"]
        ]
        return row, {"messages": turns}

    out.lines(out.beside(tally.said(rows, say)))


def _content(turn: Row, urls: Iterator[str], tally: Tally) -> Any:
    parts = turn["content"]
    if turn["role"] != "user" or (len(parts) == 1 and not shown(turn)):
        return joined(parts, tally)
    return [
        {"type": "text", "text": part["text"]}
        if part["type"] == "text"
        else {"type": "image_url", "image_url": {"url": next(urls)}}
        for part in parts
    ]


def _url(data: bytes) -> str:
    kind = image_format(data)
    if kind not in _TYPES:
        raise RecordError(
            f"a picture is {kind}; JPEG, PNG and WebP are taken", reason="image_format"
        )
    if len(data) > MAX_IMAGE_BYTES:
        raise RecordError(
            f"a picture of {len(data):,} bytes; at most {MAX_IMAGE_BYTES:,} are taken",
            reason="image_size",
        )
    return f"data:image/{_TYPES[kind]};base64,{base64.b64encode(data).decode()}"


def read(file: Path, root: Path, work: Path, images: str) -> Iterator[Batch]:
    """Read a file of this layout: pictures are unpacked, the source ``messages`` reads the rest.

    The pictures go to ``work/images``, named by their content.
    """
    del root, images
    pictures = Pictures("copy", None, work)
    dropped: list[Dropped] = []
    plain = work / f"{file.stem}.jsonl"
    with plain.open("wb") as out, file.open("rb") as lines:
        number = 0
        while data := lines.readline(_MAX_LINE_BYTES):
            number += 1
            if len(data) == _MAX_LINE_BYTES:
                detail = f"longer than {_MAX_LINE_BYTES:,} bytes; nothing after it is read"
                dropped.append(
                    Dropped(
                        reason="bad_record", file=file.name, record=f"line {number}", detail=detail
                    )
                )
                break
            if not data.strip():
                continue
            try:
                out.write(_ENCODER.encode(_unpacked(data, pictures)) + b"\n")
            except RecordError as error:
                dropped.append(Dropped.of(error, file=file.name, record=f"line {number}"))
    if dropped:
        yield Batch(_nothing(), dropped)
    rests = None if dropped else read_beside(file)
    yield from together(built(SOURCE, work, plain, ""), rests, file)
    plain.unlink()


def _nothing() -> Any:
    import pyarrow as pa

    from vision_ift._conversation import SCHEMA

    return pa.RecordBatch.from_pylist([], SCHEMA)


def _unpacked(data: bytes, pictures: Pictures) -> Any:
    """Give a record with names for the pictures that it holds."""
    try:
        record = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(f"not JSON: {error}", reason="broken_json") from None
    turns = record.get("messages") if isinstance(record, dict) else None
    for turn in turns if isinstance(turns, list) else ():
        content = turn.get("content") if isinstance(turn, dict) else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and part.get("type") == "image_url":
                part["image_url"] = {"url": _unpacked_url(part.get("image_url"), pictures)}
    return record


def _unpacked_url(given: Any, pictures: Pictures) -> str:
    url = given.get("url") if isinstance(given, dict) else given
    head, mark, text = url.partition(";base64,") if isinstance(url, str) else ("", "", "")
    if not mark or not head.startswith("data:image/"):
        raise RecordError("a picture is no base64 data URL", reason="unsafe_path")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RecordError(f"a picture is not base64: {error}", reason="bad_image") from None
    return pictures.name({"bytes": data, "path": "data URL"})
