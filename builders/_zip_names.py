"""The names in a zip's directory, read in blocks and kept by nobody.

``vision_ift._archives.zip`` opens an archive so that members can be read; to say which pictures
there are takes a fifth of its time and, however many members there are, a few megabytes. What is a
member and what it is called is decided by that module's rules, since it reads them later.
"""

from __future__ import annotations

import re
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vision_ift import RecordError
from vision_ift._archives.members import plain_name
from vision_ift._archives.ranges import LocalFile
from vision_ift._archives.zip import extra_fields, find_directory, stated_name

_BLOCK_BYTES = 1 << 20
_ENTRY_BYTES = 46
_LONGEST_BYTES = _ENTRY_BYTES + 3 * 0xFFFF
_ENTRY = struct.Struct("<4sxBxxH18xHHH4xL4x")  # mark, system, flags, three lengths, attributes
_MARK = re.compile(rb"PK\x01\x02")
_FILES = (0, stat.S_IFREG)
_HAS_KINDS = (3, 19)  # Unix and macOS write a file's kind
#: The field with another name for the member, as its bytes stand.
_RENAMING = b"up"
#: Signs that mean the same by every rule; the newline stands between names.
_PLAIN_SIGNS = bytes(sign for sign in range(0x20, 0x7F) if sign not in b"\\:") + b"\n"
#: What ends a part of a name: 2; what must not follow it: 2 and 1.
_ROLES = np.zeros(256, np.uint8)
_ROLES[[ord("/"), ord("\n"), ord(".")]] = 2, 2, 1


class Names(NamedTuple):
    """Some members of an archive.

    Attributes:
        names: What they are called.
        offsets: The byte of the file at which each one's directory entry begins.
        simple: Whether there are some, and all names are printable ASCII without colons,
            backslashes, and parts that begin with a dot.
    """

    names: list[str]
    offsets: list[int]
    simple: bool


def members(path: Path) -> Iterator[Names]:
    """Yield the members of an archive, some thousands at a time.

    Raises:
        MissingInputError: There is no such file.
        RecordError: It is not a zip file, or its directory is damaged (reason ``bad_image``).
    """
    file = LocalFile(str(path))
    begin, length, _, _ = find_directory(file, f"archive {path}")
    end = begin + length
    base, data = begin, b""
    while base < end:
        have = base + len(data)
        data += file.read_at(have, min(_BLOCK_BYTES, end - have))
        whole = base + len(data) >= end
        block, at = _at_once(data, base, whole=whole) or _one_by_one(data, base, whole=whole)
        if not at:
            raise RecordError(
                f"archive {path}: no directory entry at byte {base:,}",
                reason="bad_image",
                hint="fetch it again; `unzip -t` names the damage",
            )
        yield block
        base, data = base + at, data[at:]


def _at_once(data: bytes, base: int, *, whole: bool) -> tuple[Names, int] | None:
    """Read a block in vectors; ``None`` where anything in it is not plainly in order.

    Wherever an entry's mark stands, an entry is thought to begin. If the first stands at the
    block's start and each of the others where the one before it ends, they are the entries.
    """
    begins = np.array([found.start() for found in _MARK.finditer(data)], np.int64)
    begins = begins[begins <= len(data) - _ENTRY_BYTES]
    if not len(begins) or begins[0]:
        return None
    signs = np.frombuffer(data, np.uint8)

    def number(place: int) -> NDArray[np.int64]:
        return signs[begins + place] + (signs[begins + place + 1].astype(np.int64) << 8)

    names = begins + _ENTRY_BYTES
    extras = names + number(28)
    notes = extras + number(30)
    ends = notes + number(32)
    if (ends[:-1] != begins[1:]).any():
        return None
    kinds = (number(40) & 0o170000)[np.isin(signs[begins + 5], _HAS_KINDS)]
    if not np.isin(kinds, _FILES).all():
        return None
    count = len(begins) if ends[-1] <= len(data) else len(begins) - 1
    at = int(ends[count - 1]) if count else 0
    if not count or (whole and at != len(data)):
        return None
    cuts = list(zip(names[:count].tolist(), extras[:count].tolist(), strict=True))
    joined = b"\n".join((b"", *[data[start:end] for start, end in cuts], b""))
    if (
        joined.translate(None, _PLAIN_SIGNS)
        or joined.count(b"\n") != count + 1
        or _has_odd_parts(joined)
    ):
        return None
    if (notes > extras)[:count].any():
        pairs = zip(extras[:count].tolist(), notes[:count].tolist(), strict=True)
        if _RENAMING in b"".join([data[start:end] for start, end in pairs]):
            return None
    found = joined[1:-1].decode().split("\n")
    return Names(found, (begins[:count] + base).tolist(), simple=True), at


def _has_odd_parts(joined: bytes) -> bool:
    """Whether a part of a name is empty or begins with a dot, or a name is that of a folder."""
    roles = _ROLES[np.frombuffer(joined, np.uint8)]
    return bool(((roles[:-1] == 2) & (roles[1:] > 0)).any())


def _one_by_one(data: bytes, base: int, *, whole: bool) -> tuple[Names, int]:
    """Read a block by all rules; it ends where no whole entry is left, or none begins."""
    names: list[str] = []
    offsets: list[int] = []
    at = 0
    last = len(data) - (_ENTRY_BYTES if whole else _LONGEST_BYTES)
    while at <= last:
        mark, system, flags, *lengths, attributes = _ENTRY.unpack_from(data, at)
        name_at, (length, extra, note) = at + _ENTRY_BYTES, lengths
        after = name_at + length + extra + note
        if mark != b"PK\x01\x02" or after > len(data):
            break
        if system not in _HAS_KINDS or stat.S_IFMT(attributes >> 16) in _FILES:
            begin = name_at + length
            name = _named(data[name_at:begin], system, flags, data[begin : begin + extra])
            if name is not None:
                names.append(name)
                offsets.append(base + at)
        at = after
    return Names(names, offsets, simple=False), at


def name_at(file: LocalFile, offset: int) -> str | None:
    """Give the name of the member whose directory entry begins at ``offset``."""
    data = file.read_at(offset, _ENTRY_BYTES + 512)
    _, system, flags, name_bytes, extra_bytes, _, _ = _ENTRY.unpack_from(data)
    end = _ENTRY_BYTES + name_bytes + extra_bytes
    if end > len(data):
        data += file.read_at(offset + len(data), end - len(data))
    raw = data[_ENTRY_BYTES : _ENTRY_BYTES + name_bytes]
    return _named(raw, system, flags, data[_ENTRY_BYTES + name_bytes : end])


def _named(raw: bytes, system: int, flags: int, extra: bytes) -> str | None:
    name = stated_name(raw, system, flags, extra_fields(extra) if extra else {})
    return None if name is None or name.endswith("/") else plain_name(name)
