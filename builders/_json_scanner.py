"""Follows strings and brackets through the bytes of a JSON list, however long."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

SPACE = re.compile(rb"[ \t\r\n]*+")
NEXT_BRACKET = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+(["{}\[\]])?', re.DOTALL)
_STRING_REST = re.compile(rb'(?:[^"\\]++|\\.)*+("?)', re.DOTALL)
_SCALAR = re.compile(rb'[^\s,\[\]{}"]*+')


class Broken(NamedTuple):
    """Where a file stops making sense; nothing after it is read."""

    path: str
    offset: int
    detail: str


def elements(path: str, file: BinaryIO, start: int) -> Iterator[tuple[int, int] | Broken]:
    """Yield begin and end of each value of a list; last a ``Broken`` where its structure is lost.

    Args:
        path: The file's name, for messages.
        file: The file; at ``start`` a value begins, or the list ends where it has none.
        start: Offset behind the opening bracket, or of a later value.
    """
    scanner = _Scanner(file, start)
    byte = scanner.peek()
    if byte == b"]":
        yield from _after_list(path, scanner)
        return
    while True:
        begin = scanner.offset
        if not scanner.skip_value():
            cut = scanner.offset > begin
            detail = "a record is cut short" if cut else "no record follows the comma or ["
            yield Broken(path, begin, detail)
            return
        yield begin, scanner.offset
        byte = scanner.peek()
        if byte == b"]":
            yield from _after_list(path, scanner)
            return
        if byte != b",":
            found = "the file ends" if not byte else f"found {byte!r}"
            yield Broken(path, scanner.offset, f"a comma or ] should stand here; {found}")
            return
        scanner.at += 1
        scanner.peek()


def _after_list(path: str, scanner: _Scanner) -> Iterator[Broken]:
    scanner.at += 1
    if scanner.peek():
        yield Broken(path, scanner.offset, "data behind the end of the list")


class _Scanner:
    """Follows strings and brackets through a file, a block at a time, keeping none of it."""

    def __init__(self, file: BinaryIO, start: int) -> None:
        file.seek(start)
        self._file = file
        self._base = start
        self._data = b""
        self.at = 0

    @property
    def offset(self) -> int:
        return self._base + self.at

    def _grow(self) -> bool:
        block = self._file.read(1 << 20)
        self._base += self.at
        self._data = self._data[self.at :] + block
        self.at = 0
        return bool(block)

    def peek(self) -> bytes:
        """Move over white space and give the byte behind it; nothing at the file's end."""
        while True:
            self.at = SPACE.match(self._data, self.at).end()  # type: ignore[union-attr]  # it always matches
            if self.at < len(self._data) or not self._grow():
                return self._data[self.at : self.at + 1]

    def skip_value(self) -> bool:
        """Move behind the value that begins here; False where none does or the file ends in it."""
        byte = self.peek()
        if byte in b"{[" and byte:
            return self._skip_brackets()
        if byte == b'"':
            self.at += 1
            return self._skip_string()
        begin = self.offset
        while True:
            self.at = _SCALAR.match(self._data, self.at).end()  # type: ignore[union-attr]  # it always matches
            if self.at < len(self._data) or not self._grow():
                return self.offset > begin

    def _skip_brackets(self) -> bool:
        depth = 0
        while True:
            found = NEXT_BRACKET.match(self._data, self.at)
            byte = found[1]  # type: ignore[index]  # matches the empty string too
            self.at = found.end()  # type: ignore[union-attr]  # it always matches
            if byte is None:
                if not self._grow():
                    return False
            elif byte == b'"':  # a string that this block does not end
                if not self._skip_string():
                    return False
            else:
                depth += 1 if byte in b"{[" else -1
                if depth == 0:
                    return True

    def _skip_string(self) -> bool:
        while True:
            found = _STRING_REST.match(self._data, self.at)
            self.at = found.end()  # type: ignore[union-attr]  # it always matches
            if found[1]:  # type: ignore[index]  # it always matches
                return True
            if not self._grow():
                return False
