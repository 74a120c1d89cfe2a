"""The records of a large JSON list or of JSON Lines, in pieces that fit in memory.

A file is cut into spans of about ``SPAN_BYTES``; a span is decoded anywhere, by anyone. Lines are
cut at line ends. A list is cut twice over:

*Guessed* spans cost nothing: the bytes between the first two records (``}, {"id"``) are looked for
at the end of every block. *Exact* spans come from a scanner that follows strings and brackets
through every byte.

**Why a guess that decodes is right.** Whether a byte of a JSON text is structure or part of a
string, and how deep it lies, is decided by the bytes before it alone. A span starts where a record
starts: the first one by construction, each later one because the span before it was proved. Read
after a ``[``, such a span puts a reader into exactly the state in which it would be inside the
whole file. If ``[`` + span + ``]`` is a complete JSON text, the reader stood, after the span's last
byte, inside the outer list and behind a complete value; it stands so in the file too, so the cut
lies between two records. A cut inside a string leaves the string open, a cut between two turns
leaves a bracket open, and either fails to decode. Nothing was assumed about the bytes that follow.
The same holds for the scanner, which knows less than a decoder (strings and brackets only) but is
as deterministic: where it ends a span behind a value at depth zero, the cut is a boundary. A span
that neither proves is read again, with the rest of the file, by exact spans.

ijson could do the scanner's work, but it says no byte offsets, and it turns a lone surrogate into
``?`` without a word.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, NoReturn

import msgspec

from vision_ift import RecordError

from ._json_scanner import NEXT_BRACKET, SPACE, Broken, elements

#: Bytes of a span; one that is longer holds a single record.
SPAN_BYTES = 1 << 21

#: The longest record that is decoded, and the deepest nesting in one.
MAX_RECORD_BYTES = 32 << 20
MAX_DEPTH = 64

_VALUES = msgspec.json.Decoder(list[msgspec.Raw])
_WHITE = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_FIRST_KEY = re.compile(rb'\s*+,\s*+\{\s*+"[^"\\]++"')


class Span(NamedTuple):
    """Some whole records of a file: bytes ``start`` to ``end``, without what is around them."""

    path: str
    start: int
    end: int
    kind: Literal["list", "lines"]
    #: Whether the cut is known to be a boundary, or is to be proved by decoding.
    exact: bool

    def read(self) -> bytes:
        """Read the span's bytes."""
        with Path(self.path).open("rb") as file:
            file.seek(self.start)
            return file.read(self.end - self.start)


def first_spans(path: Path, *, guess: bool = True) -> Iterator[Span | Broken]:
    """Cut a file into spans; those of a list are guessed, unless ``guess`` is false.

    A list of records and JSON Lines are told apart by the first byte, not by the file's ending. A
    byte order mark of UTF-8 is skipped.
    """
    with path.open("rb") as file:
        head = file.read(1 << 16)
        start = len(_BOM) if head.startswith(_BOM) else 0
        start = SPACE.match(head, start).end()  # type: ignore[union-attr]  # matches nothing too
        byte = head[start : start + 1]
        if byte == b"[" and guess:
            yield from _guessed_spans(str(path), file, start + 1)
        elif byte == b"[":
            yield from exact_spans(path, start + 1)
        elif byte == b"{":
            yield from _line_spans(str(path), file, start)
        elif not byte:
            yield Broken(str(path), start, "the file is empty")
        else:
            yield Broken(
                str(path), start, "neither a list of records nor JSON Lines (is it UTF-8 text?)"
            )


def exact_spans(path: Path, start: int) -> Iterator[Span | Broken]:
    """Cut a list into spans, from a record's first byte on, by following its structure."""
    with path.open("rb") as file:
        first = last = start
        for element in elements(str(path), file, start):
            if isinstance(element, Broken):
                if last > first:
                    yield Span(str(path), first, last, "list", exact=True)
                yield element
                return
            begin, end = element
            if last > first and end - first > SPAN_BYTES:
                yield Span(str(path), first, last, "list", exact=True)
                first = begin
            elif last == first:
                first = begin
            last = end
        if last > first:
            yield Span(str(path), first, last, "list", exact=True)


def split(span: Span, data: bytes) -> list[tuple[int, bytes]] | None:
    """Give the offset and the bytes of each record of a span; ``None`` if its cut is no boundary.

    Blank lines are no records.
    """
    if span.kind == "lines":
        records = []
        offset = span.start
        for line in data.split(b"\n"):
            if line.strip(_WHITE):
                records.append((offset, line))
            offset += len(line) + 1
        return records
    try:
        values = _VALUES.decode(b"".join((b"[", data, b"]")))
    except (msgspec.MsgspecError, RecursionError):
        return _split_by_scanner(span, data)
    records = []
    end = 0
    for value in values:  # nothing but white space and a comma stands between two values
        text = bytes(value)
        begin = data.index(text, end)
        end = begin + len(text)
        records.append((span.start + begin, text))
    return records


def _split_by_scanner(span: Span, data: bytes) -> list[tuple[int, bytes]] | None:
    records = []
    for element in elements(span.path, io.BytesIO(data + b"]"), 0):
        if isinstance(element, Broken):
            return None
        begin, end = element
        records.append((span.start + begin, data[begin:end]))
    return records


def parsed_records(path: Path) -> Iterator[tuple[int, Any]]:
    """Decode a file's records one by one, each with its offset; what is refused, as an error."""
    for span in first_spans(path, guess=False):
        if isinstance(span, Broken):
            error = RecordError(f"{span.detail}; nothing after it is read", reason="broken_json")
            yield span.offset, error
            continue
        long = span.end - span.start > MAX_RECORD_BYTES
        for offset, data in [(span.start, b"")] if long else split(span, span.read()) or ():
            try:
                if long:
                    raise too_long(span.end - span.start)
                yield offset, parse(data)
            except RecordError as error:
                yield offset, error


def too_long(size: int) -> RecordError:
    """Give the error of a record that is not even read."""
    return RecordError(
        f"a record of {size:,} bytes; at most {MAX_RECORD_BYTES:,} are read", reason="bad_record"
    )


def parse(data: bytes) -> Any:
    """Decode one record, refusing all that would be lost or changed on the way.

    Raises:
        RecordError: ``bad_text`` for bytes that are not UTF-8; ``broken_json`` for what is no JSON,
            NaN and Infinity too; ``bad_record`` for a key that stands twice, a number too large
            for a double, more than ``MAX_RECORD_BYTES`` or ``MAX_DEPTH``.
    """
    if len(data) > MAX_RECORD_BYTES:
        raise too_long(len(data))
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _depth(data) > MAX_DEPTH:
        raise RecordError(f"nested more than {MAX_DEPTH} deep", reason="bad_record")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecordError(f"not UTF-8: {error.reason}", reason="bad_text") from None
    try:
        return _DECODER.decode(text)
    except RecordError:
        raise
    except json.JSONDecodeError as error:
        raise RecordError(
            f"not JSON: {error.msg} at character {error.pos} of the record", reason="broken_json"
        ) from None
    except ValueError as error:  # an integer of more digits than Python converts
        raise RecordError(str(error), reason="bad_record") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise RecordError(f"the key {twice!r} stands twice in an object", reason="bad_record")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise RecordError(f"the number {text[:40]} is too large", reason="bad_record")
    return value


def _constant(text: str) -> NoReturn:
    raise RecordError(f"{text} is not JSON", reason="broken_json")


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_float=_finite, parse_constant=_constant)


def _depth(data: bytes) -> int:
    depth = deepest = position = 0
    while found := NEXT_BRACKET.match(data, position):
        if found[1] is None or found[1] == b'"':
            break
        depth += 1 if found[1] in b"{[" else -1
        deepest = max(deepest, depth)
        position = found.end()
    return deepest


def _line_spans(path: str, file: BinaryIO, start: int) -> Iterator[Span]:
    size = file.seek(0, io.SEEK_END)
    while start < size:
        end = _line_end(file, start, size)
        yield Span(path, start, end, "lines", exact=True)
        start = end


def _line_end(file: BinaryIO, start: int, size: int) -> int:
    """Give the end of the last line that ends within a span's length, else of the first line."""
    if start + SPAN_BYTES >= size:
        return size
    file.seek(start)
    found = file.read(SPAN_BYTES).rfind(b"\n")
    if found >= 0:
        return start + found + 1
    position = start + SPAN_BYTES
    while block := file.read(SPAN_BYTES):
        found = block.find(b"\n")
        if found >= 0:
            return position + found + 1
        position += len(block)
    return size


def _guessed_spans(path: str, file: BinaryIO, start: int) -> Iterator[Span | Broken]:
    size = file.seek(0, io.SEEK_END)
    file.seek(max(size - (1 << 16), 0))
    end = size - (1 << 16) if size > 1 << 16 else 0
    end += len(file.read().rstrip(_WHITE))
    file.seek(end - 1)
    if file.read(1) != b"]" or end <= start:
        yield from exact_spans(Path(path), start)
        return
    end -= 1
    separator = _separator(path, file, start) if end - start > SPAN_BYTES else b""
    while end - start > SPAN_BYTES:
        # The cut is near the block's end as a rule; the span's bytes are read by who decodes it.
        cut = -1
        for tail in (min(1 << 16, SPAN_BYTES), SPAN_BYTES):
            file.seek(start + SPAN_BYTES - tail)
            cut = file.read(tail).rfind(separator) if separator else -1
            if cut > 0:
                cut += start + SPAN_BYTES - tail
                break
        if cut <= start:
            yield from exact_spans(Path(path), start)
            return
        yield Span(path, start, cut + 1, "list", exact=False)
        start = cut + separator.index(b"{", 1)
    yield Span(path, start, end, "list", exact=False)


def _separator(path: str, file: BinaryIO, start: int) -> bytes:
    """Give the bytes from the first record's last brace to the second one's first key."""
    element = next(elements(path, file, start), None)
    if element is None or isinstance(element, Broken):
        return b""
    file.seek(element[1] - 1)
    head = file.read(4096)
    found = _FIRST_KEY.match(head, 1) if head[:1] == b"}" else None
    return head[: found.end()] if found else b""
