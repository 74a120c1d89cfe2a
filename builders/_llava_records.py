"""Records of the LLaVA layout, decoded quickly where all is plain, else one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from vision_ift import RecordError

from ._json_records import MAX_RECORD_BYTES, Span, first_spans, parse, split, too_long
from ._json_scanner import Broken


class Turn(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One entry of ``conversations``."""

    speaker: str = msgspec.field(name="from")
    value: str


class Record(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One record of the layout; absent keys are ``UNSET``."""

    conversations: list[Turn]
    id: str | int | UnsetType = UNSET
    image: str | list[str] | UnsetType | None = UNSET
    images: str | list[str] | UnsetType | None = UNSET
    task_name: str | UnsetType | None = UNSET
    model: str | UnsetType | None = UNSET
    system: str | UnsetType | None = UNSET


TAG = "<image>"
KEYS = frozenset(Record.__struct_fields__)

_TURN_KEYS = frozenset(("from", "value"))

_LIST = msgspec.json.Decoder(list[Record])
_LINES = msgspec.json.Decoder(list[tuple[Record]])


class Found(NamedTuple):
    """A record as it was read.

    Attributes:
        name: Its id; its place in the file where it has none.
        extras: Its keys that are not of the layout.
        odd: Whether a text in it is no Unicode (a lone surrogate), which Arrow cannot hold.
    """

    name: str
    record: Record
    extras: dict[str, Any]
    odd: bool


def move_system(record: Record) -> int:
    """Make a record's system text its first turn, unless it has the tag, which there is text.

    Returns how many turns were added.
    """
    system = record.system
    if not isinstance(system, str) or not system or TAG in system:
        return 0
    record.conversations.insert(0, Turn("system", system))
    record.system = UNSET
    return 1


def quick_records(span: Span, data: bytes) -> list[Record] | None:
    """Decode a span at once; ``None`` where anything in it is not plainly of the layout.

    The decoder keeps the last of two equal keys in silence; whoever uses this must count
    the keys (see ``_llava_columns``).
    """
    try:
        if span.kind == "list":
            return _LIST.decode(b"".join((b"[", data, b"]")))
        # One list a line, so that a record cannot end on another line than its own; the newlines
        # stay, so that one inside a string is still refused.
        lines = data.rstrip(b" \t\r\n").replace(b"\n", b"],\n[")
        return [record for (record,) in _LINES.decode(b"".join((b"[[", lines, b"]]")))]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def exact_records(span: Span, data: bytes) -> list[tuple[int, Found | RecordError]] | None:
    """Read a span's records one by one, each with its offset; ``None`` if its cut was wrong."""
    if span.end - span.start > MAX_RECORD_BYTES:
        return [(span.start, too_long(span.end - span.start))]
    records = split(span, data)
    if records is None:
        return None
    found: list[tuple[int, Found | RecordError]] = []
    for offset, text in records:
        try:
            found.append((offset, _exact(span, offset, text)))
        except RecordError as error:
            found.append((offset, error))
    return found


def records_of(path: Path) -> Iterator[Record]:
    """Read a file's records for what they say of others; what is broken is passed over."""
    for span in first_spans(path, guess=False):
        if isinstance(span, Broken):
            return
        data = span.read() if span.end - span.start <= MAX_RECORD_BYTES else b""
        quick = quick_records(span, data) if data else None
        if quick is not None:
            yield from quick
            continue
        for _, found in exact_records(span, data) or ():
            if isinstance(found, Found):
                yield found.record


def name_of(record: Record, span: Span, offset: int) -> str:
    """The record's id as text; where it has none, or an empty one, its place in the file."""
    unnamed = record.id is UNSET or record.id == ""
    return f"{Path(span.path).stem}@{offset}" if unnamed else str(record.id)


def _exact(span: Span, offset: int, text: bytes) -> Found:
    value = parse(text)
    if not isinstance(value, dict):
        raise RecordError(f"a record is an object, not {_kind(value)}", reason="bad_record")
    odd = b"\\ud" in text.lower() and not _encodes(value)
    known = {key: value[key] for key in value if key in KEYS}
    extras = {key: value[key] for key in value if key not in KEYS}
    if "system" not in known and isinstance(extras.get("system_prompt"), str):
        known["system"] = extras.pop("system_prompt")
    turns = known.get("conversations")
    if isinstance(turns, list):
        more = {}
        for number, turn in enumerate(turns):
            if isinstance(turn, dict) and not turn.keys() <= _TURN_KEYS:
                more[str(number)] = {k: v for k, v in turn.items() if k not in _TURN_KEYS}
                turns[number] = {k: v for k, v in turn.items() if k in _TURN_KEYS}
        if more:
            extras["turns"] = {**more, "": extras["turns"]} if "turns" in extras else more
    try:
        record = msgspec.convert(known, Record)
    except msgspec.ValidationError as error:
        raise RecordError(str(error), reason="bad_record") from None
    except UnicodeEncodeError:  # msgspec encodes a text that stands where none may
        raise RecordError(
            "a text with a lone surrogate stands where there is no text", reason="bad_record"
        ) from None
    move_system(record)
    return Found(name_of(record, span, offset), record, extras, odd)


def _kind(value: Any) -> str:
    return {list: "a list", str: "a string", type(None): "null", bool: "true or false"}.get(
        type(value), "a number"
    )


def _encodes(value: Any) -> bool:
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        return False
    return True
