"""Tars read in place: their headers are walked once, then a member is one read.

Read are ustar, the old format before it, GNU's long names and PAX paths and sizes. Only regular
files are members; what else stands in the tar is counted.

References: POSIX.1-2017, `pax` (ustar and pax interchange formats); GNU tar manual, "Basic Tar
Format".
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from vision_ift._archives.members import (
    MAX_MEMBERS,
    Members,
    check_size,
    damaged,
    plain_name,
    unquoted,
)
from vision_ift._archives.ranges import Bytes

_BLOCK = 512
_WINDOW_BYTES = 4096
_MAX_ABOUT_BYTES = 1 << 20
_NOTHING = bytes(_BLOCK)

#: Type flags: regular files (the last: contiguous), what has no contents, what describes others.
_REGULAR = frozenset((b"0", b"\0", b"7"))
_FOLDER, _SPARSE = b"5", b"S"
_BARE = {b"1": "link", b"2": "link", b"3": "device", b"4": "device", b"6": "device"}
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL = b"L", b"K", b"x", b"g"
_ABOUT_THE_NEXT = frozenset((_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL))

#: First bytes of what a tar is often packed with.
_PACKED = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)

_PAX_RECORD = re.compile(rb"([1-9][0-9]{0,6}) ([^=\n]+)=")
_OCTAL = re.compile(rb"[0-7]*")


class Tar:
    """The members of one tar that is not compressed.

    Of several members of one name the last counts, as tar itself has it. A tar that ends before its
    end mark gives the members that are whole.

    Attributes:
        passed_over: What is no member here, counted: ``device``, ``duplicate name``, ``link``,
            ``sparse file``, ``unknown kind``, ``unreadable name``, ``unsafe name``.
        damage: Where and how the tar is cut off or damaged; empty where it is whole.

    Raises:
        RecordError: It is compressed, not a tar at all, or has no members (reason ``bad_image``).
    """

    def __init__(self, file: Bytes) -> None:
        self.path = file.path
        self.damage = ""
        self._file = file
        self._where = f"archive {file.path}"
        self._window, self._window_at = b"", 0
        names: list[bytes] = []
        numbers = array("q")  # offset, size
        passed_over: Counter[str] = Counter()
        for number, (kind, raw, offset, size) in enumerate(self._walk(), 1):
            if number > MAX_MEMBERS:
                raise damaged(self._where, f"it has more than {MAX_MEMBERS:,} members")
            name, why = _judge(kind, raw)
            if name is not None:
                names.append(name)
                numbers.extend((offset, size))
            elif why:
                passed_over[why] += 1
        self._window = b""
        self._members = Members(names, np.array(numbers, np.int64).reshape(-1, 2))
        if self._members.replaced:
            passed_over["duplicate name"] = self._members.replaced
        self.passed_over: Mapping[str, int] = dict(sorted(passed_over.items()))
        if not self._members:
            raise damaged(self._where, self._nothing(), hint="fetch it again")

    def __contains__(self, member: str) -> bool:
        return self._members.get(member) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def size(self, member: str, *, quoted: bool = False) -> int:
        """Give the size of a member in bytes."""
        return self._find(unquoted(member, quoted=quoted))[1]

    def read(self, member: str, *, quoted: bool = False) -> bytes:
        """Read one member; a tar has no checksum of contents.

        Raises:
            MissingInputError: There is no such member.
            RecordError: It is too large, or the file has become shorter (reason ``bad_image``).
        """
        name = unquoted(member, quoted=quoted)
        offset, size = self._find(name)
        where = f"{self._where}, member {name!r}"
        check_size(where, size)
        data = self._file.read_at(offset, size)
        if len(data) != size:
            raise damaged(where, f"{len(data):,} of {size:,} bytes are there")
        return data

    def _find(self, name: str) -> tuple[int, ...]:
        note = f"the archive is damaged: {self.damage}; fetch it again" if self.damage else ""
        return self._members.find(name, self.path, note=note)

    def _block(self, at: int, length: int = _BLOCK) -> bytes:
        """Read a little; small members' headers come from one read."""
        begin = at - self._window_at
        if not 0 <= begin <= len(self._window) - length:
            self._window = self._file.read_at(at, max(length, _WINDOW_BYTES))
            self._window_at, begin = at, 0
        return self._window[begin : begin + length]

    def _walk(self) -> Iterator[tuple[bytes, bytes, int, int]]:
        """Yield kind, name, place and size of one entry after the other until the end or damage."""
        at = 0
        about: dict[bytes, bytes] = {}
        while (header := self._block(at)) != _NOTHING:
            if len(header) < _BLOCK:
                self.damage = f"it ends at {self._file.size:,} bytes without an end mark"
                return
            try:
                kind, name, size = _parse(header)
                if kind in _ABOUT_THE_NEXT:
                    about.update(self._about(kind, at + _BLOCK, size))
                    at += _BLOCK + _padded(size)
                    continue
                if b"size" in about and kind not in _BARE:
                    size = _decimal(about[b"size"])
            except ValueError as error:
                self.damage = f"the header at {at:,}: {error}"
                return
            name = about.get(b"path", name)
            if any(key.startswith(b"GNU.sparse.") for key in about):
                kind = _SPARSE
            about = {}
            begin = at + _BLOCK + (self._sparse_map(at, header) if header[156:157] == b"S" else 0)
            end = begin if kind in _BARE or kind == _FOLDER else begin + size
            if end > self._file.size:
                self.damage = f"the member at {at:,} is cut off at {self._file.size:,} bytes"
                return
            yield kind, name, begin, size
            at = begin + _padded(end - begin)

    def _about(self, kind: bytes, at: int, size: int) -> dict[bytes, bytes]:
        """Read what a header says about the next member: its name, its size."""
        if size > _MAX_ABOUT_BYTES:
            raise ValueError(f"{size:,} bytes about one member")
        value = self._block(at, size)
        if len(value) != size:
            raise ValueError("it is cut off")
        if kind == _LONG_NAME:
            return {b"path": value.rstrip(b"\0")}
        if kind == _LONG_LINK:
            return {}
        records = _pax_records(value)
        if kind == _PAX:
            return records
        if records.keys() & {b"path", b"size"}:
            raise ValueError("it states one name or size for all members")
        return {}

    def _sparse_map(self, at: int, header: bytes) -> int:
        """Give the bytes of a GNU sparse file's map, which stands before its contents."""
        length, more = 0, header[482]
        while more:
            length += _BLOCK
            block = self._block(at + length)
            more = block[504] if len(block) == _BLOCK else 0
        return length

    def _nothing(self) -> str:
        """Say why no member was found."""
        head = self._block(0)
        if not head:
            return "it is empty (0 bytes)"
        for signature, name in _PACKED:
            if head.startswith(signature):
                return f"it is packed with {name}, and such tars are not read in place"
        if head.startswith(b"version https://git-lfs"):
            return "it is a Git LFS pointer, not the archive itself"
        return f"it holds no files ({self.damage})" if self.damage else "it holds no files"


def _judge(kind: bytes, raw: bytes) -> tuple[bytes | None, str]:
    """Give an entry's name as a member's; else why it is none, with no words for folders."""
    if kind == _FOLDER or (kind in _REGULAR and raw.endswith(b"/")):  # the second before ustar
        return None, ""
    if kind not in _REGULAR:
        return None, "sparse file" if kind == _SPARSE else _BARE.get(kind, "unknown kind")
    try:
        name = plain_name(raw.decode())
    except UnicodeDecodeError:
        return None, "unreadable name"
    return (None, "unsafe name") if name is None else (name.encode(), "")


def _padded(size: int) -> int:
    return size + -size % _BLOCK


def _parse(header: bytes) -> tuple[bytes, bytes, int]:
    """Give kind, name and size of a header whose checksum is right."""
    stated = _number(header[148:156])
    rest = header[:148] + b" " * 8 + header[156:]
    if sum(rest) != stated and sum(memoryview(rest).cast("b")) != stated:  # old tars signed them
        raise ValueError("its checksum is wrong")
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and header[345]:
        name = header[345:500].partition(b"\0")[0] + b"/" + name
    return header[156:157], name, _number(header[124:136])


def _number(field: bytes) -> int:
    """Read an octal number, or one of 256 where it would not fit (GNU)."""
    if field[0] & 0x80:
        value = int.from_bytes(field[1:], "big")
        if field[0] != 0x80 or value >= 1 << 62:
            raise ValueError("a number in it is absurd")
        return value
    digits = field.partition(b"\0")[0].strip(b" ")
    if not _OCTAL.fullmatch(digits):
        raise ValueError("a number in it is damaged")
    return int(digits or b"0", 8)


def _decimal(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > 18:
        raise ValueError("a size is damaged")
    return int(digits)


def _pax_records(value: bytes) -> dict[bytes, bytes]:
    """Read ``LENGTH KEY=VALUE`` lines; of equal keys the last counts."""
    records = {}
    at = 0
    while at < len(value):
        found = _PAX_RECORD.match(value, at)
        end = at + int(found[1]) if found else 0
        if found is None or not found.end() < end <= len(value) or value[end - 1] != 0x0A:
            raise ValueError("its PAX records are damaged")
        records[found[2]] = value[found.end() : end - 1]
        at = end
    return records
