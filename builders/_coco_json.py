"""Reads other people's JSON record by record, so that one bad record costs one record.

The document is walked once to find where each record begins and ends (which also proves that it is
JSON); records are then decoded into typed structs, some hundreds in one call, and one by one where
that fails. Memory holds those few, not the decoded file.
"""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import ijson
import msgspec

from vision_ift import Dropped

T = TypeVar("T")

#: COCO writes a picture's id with twelve digits.
ImageId = Annotated[int, msgspec.Meta(ge=0, lt=10**12)]
#: Ids that another program (or a 64-bit column) can hold exactly.
NumberId = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
#: The longest question, answer or explanation that is taken.
Text = Annotated[str, msgspec.Meta(max_length=100_000)]
Word = Annotated[str, msgspec.Meta(max_length=1_000)]

#: Records decoded in one call: nearly as fast as the whole file, in the memory of a few.
_TOGETHER = 512

_FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NOT_UNICODE = "a text is not valid Unicode (a lone surrogate, or bytes that are not UTF-8)"
_BYTE = re.compile(r"\(byte (\d+)\)")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
#: An escape in JSON text; the group holds where it is half of a surrogate pair and stands alone.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
#: Stands for a lone surrogate until its record is refused: a code point that no text may use.
_LONE = rb"\ufdd0"


class Unreadable(Exception):  # noqa: N818 - it never leaves this source
    """A whole file that cannot be read; carries how it is counted."""

    def __init__(self, dropped: Dropped) -> None:
        super().__init__(dropped.detail)
        self.dropped = dropped


def mapped(path: Path) -> mmap.mmap | bytes:
    """Give a file's bytes without copying them; an empty file cannot be mapped."""
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return b""
        return mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)


def read_document(root: Path, file: str, kind: type[T]) -> T:
    """Decode a file whose records are left as ``msgspec.Raw``.

    Raises:
        Unreadable: It is not JSON, is cut off, says a key of its top level twice, or has another
            layout (reason ``broken_json``).
    """
    data = mapped(root / file)
    try:
        document = _decode(data, kind)
    except _FAULTS as error:
        raise Unreadable(broken(file, error, len(data))) from None
    for key in getattr(kind, "__struct_fields__", ()):
        _refuse_repeated(data, key, file)
    return document


def _decode(data: mmap.mmap | bytes, kind: type[T]) -> T:
    """Decode a document; a lone surrogate in a record costs that record, not the file."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        whole = bytes(data)
        marked = _ESCAPE.sub(_mark, whole)
        if marked == whole:
            raise
        return msgspec.json.decode(marked, type=kind)


def _mark(escape: re.Match[bytes]) -> bytes:
    return _LONE if escape[1] else escape[0]


def broken(file: str, error: Exception, size: int) -> Dropped:
    """Count a file whose bytes are not the JSON that the layout asks for."""
    found = _BYTE.search(str(error))
    if isinstance(error, msgspec.ValidationError):
        place = "top level"
    else:
        place = f"byte {found[1] if found else size}"
    return Dropped(
        reason="broken_json",
        file=file,
        record=place,
        detail=f"{error}; nothing of this file is used, fetch it again",
    )


def _refuse_repeated(data: mmap.mmap | bytes, key: str, file: str) -> None:
    """Refuse a document that says one of its top keys twice: decoders would keep the last."""
    quoted = b'"%s"' % key.encode()
    first = data.find(quoted)
    if first < 0 or data.find(quoted, first + 1) < 0:
        return
    # Seldom: some text of a record is that very word, or it is a key of a record too.
    depth_one = sum(
        event == "map_key" and prefix == "" and value == key
        for prefix, event, value in ijson.parse(bytes(data))
    )
    if depth_one > 1:
        raise Unreadable(
            Dropped(
                reason="broken_json",
                file=file,
                record="top level",
                detail=f"the key {key!r} comes {depth_one} times; nothing of this file is used",
            )
        )


def records(
    raws: Sequence[msgspec.Raw], kind: type[T], *, file: str, name: str = "record"
) -> Iterator[tuple[int, T | Dropped]]:
    """Decode records; give each with its place in the list, from 1.

    A record is refused as ``bad_record`` where a field is missing or of the wrong type, or a field
    that is read comes twice in it, and as ``bad_text`` where a text is not valid Unicode.
    """
    fields = msgspec.structs.fields(kind)  # type: ignore[arg-type]  # a Struct type
    many = msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]  # made at run time
    for start in range(0, len(raws), _TOGETHER):
        some = raws[start : start + _TOGETHER]
        data = b"[" + b",".join(some) + b"]"
        try:
            decoded: list[T] | None = many.decode(data)
        except _FAULTS:
            decoded = None
        if decoded is not None and _LONE not in data and not _may_repeat(data, decoded, fields):
            yield from enumerate(decoded, start + 1)
        else:
            yield from _one_by_one(some, start + 1, kind, file, name)


def _may_repeat(
    data: bytes, decoded: list[T], fields: tuple[msgspec.structs.FieldInfo, ...]
) -> bool:
    """Whether the names of the fields come more often than the records can say them once."""
    for field in fields:
        expected = len(decoded)
        if not field.required:
            empty = field.default
            if empty is msgspec.NODEFAULT:
                empty = field.default_factory()
            expected = sum(getattr(record, field.name) != empty for record in decoded)
        if data.count(b'"%s"' % field.encode_name.encode()) > expected:
            return True
    return False


def _one_by_one(
    raws: Sequence[msgspec.Raw], first: int, kind: type[T], file: str, name: str
) -> Iterator[tuple[int, T | Dropped]]:
    decoder = msgspec.json.Decoder(kind)
    for number, raw in enumerate(raws, first):
        data = bytes(raw)
        place = f"{name} {number}"
        try:
            record = decoder.decode(data)
        except _FAULTS as error:
            yield number, refused(data, error, file=file, record=place)
            continue
        if _LONE in data:
            yield number, Dropped(reason="bad_text", file=file, record=place, detail=_NOT_UNICODE)
        elif twice := _repeated(data):
            detail = f"the key {twice!r} comes twice"
            yield number, Dropped(reason="bad_record", file=file, record=place, detail=detail)
        else:
            yield number, record


def lines(root: Path, file: str, kind: type[T]) -> Iterator[tuple[int, T | Dropped]]:
    """Decode JSON Lines; a line that is not JSON is counted as ``broken_json`` and passed over."""
    decoder = msgspec.json.Decoder(kind)
    with (root / file).open("rb") as stream:
        for number, data in enumerate(stream, 1):
            if not data.strip():
                continue
            place = f"line {number}"
            try:
                record = decoder.decode(data)
            except (msgspec.ValidationError, UnicodeDecodeError) as error:
                yield number, refused(data, error, file=file, record=place)
                continue
            except (msgspec.DecodeError, RecursionError) as error:
                fault = refused(data, error, file=file, record=place)
                if fault.reason != "bad_text":
                    fault = msgspec.structs.replace(fault, reason="broken_json")
                yield number, fault
                continue
            twice = _repeated(data)
            if twice is not None:
                detail = f"the key {twice!r} comes twice"
                yield number, Dropped(reason="bad_record", file=file, record=place, detail=detail)
                continue
            yield number, record


def refused(data: bytes, error: Exception, *, file: str, record: str) -> Dropped:
    """Count a record that does not decode."""
    # A lone surrogate ends msgspec's search for its pair: the message is about the bytes after it.
    surrogate = not isinstance(error, msgspec.ValidationError) and _SURROGATE.search(data)
    if isinstance(error, UnicodeDecodeError) or surrogate:
        return Dropped(reason="bad_text", file=file, record=record, detail=_NOT_UNICODE)
    return Dropped(reason="bad_record", file=file, record=record, detail=str(error))


def _repeated(data: bytes) -> str | None:
    """Name a key that comes twice in one object of a record."""
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        found.extend(key for key in dict.fromkeys(keys) if keys.count(key) > 1)
        return {}

    json.loads(data, object_pairs_hook=look)
    return found[0] if found else None
