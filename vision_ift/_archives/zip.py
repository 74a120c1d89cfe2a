"""Zip files read in place: the directory once, then a member by one or two reads.

The directory is parsed here and not by `zipfile`, whose objects take 650 bytes and 5 µs a member,
and which reads no zip over HTTP without thousands of small requests.

Reference: PKWARE, APPNOTE.TXT 6.3.10; Info-ZIP's unicode path field, extra field 0x7075.
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from vision_ift._archives.members import (
    MAX_MEMBERS,
    Column,
    Members,
    check_size,
    damaged,
    plain_name,
    unquoted,
)
from vision_ift._archives.ranges import Bytes

try:  # thirteen times as fast, where it is installed: the CRC takes more than half of a read
    from isal.isal_zlib import crc32
except ImportError:
    from zlib import crc32

#: The largest ratio of unpacked to packed bytes, beyond ten million bytes.
_MAX_RATIO = 200
_RATIO_FROM_BYTES = 10_000_000

#: The largest directory that is taken into memory, in bytes.
_MAX_DIRECTORY_BYTES = 1 << 30

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_LENGTHS = struct.Struct("<3H")
_ENTRY = np.dtype(
    [
        ("signature", "<u4"),
        ("version", "u1"),
        ("system", "u1"),
        ("needs", "<u2"),
        ("flags", "<u2"),
        ("method", "<u2"),
        ("time", "<u4"),
        ("crc", "<u4"),
        ("packed", "<u4"),
        ("size", "<u4"),
        ("name", "<u2"),
        ("extra", "<u2"),
        ("comment", "<u2"),
        ("disk", "<u2"),
        ("inner", "<u2"),
        ("outer", "<u4"),
        ("offset", "<u4"),
    ]
)
assert _ENTRY.itemsize == 46
_LOCAL = struct.Struct("<4s22x2H")

_STORED, _DEFLATED = 0, 8
_ENCRYPTED = -1  # instead of the method
_UTF8_FLAG = 0x800

#: What only unusual names have, where each stands between line breaks.
_ODD = (b"\n/", b"\n.", b"\n\n", b"//", b"/.", b"/\n", b"\0", b"\\")

#: The fixed parts of all entries.
Heads = np.ndarray[tuple[int], np.dtype[np.void]]

_UNIX, _DOS, _MAC = 3, 0, 19


class Zip:
    """The members of one zip file.

    Of several members of one name the last counts, as it would lie on the disk if the archive were
    unpacked. Folders are no members.

    Attributes:
        passed_over: What is no member here, counted: ``duplicate name``, ``link``, ``device``,
            ``unsafe name``, ``unreadable name``.
        damage: Always empty: a damaged directory is an error.

    Raises:
        RecordError: It is not a zip file, is damaged, or has no members (reason ``bad_image``).
    """

    damage = ""

    def __init__(self, file: Bytes) -> None:
        self.path = file.path
        self._file = file
        self._where = f"archive {file.path}"
        directory = _Directory(file, self._where)
        self._members = Members(directory.names, directory.numbers)
        if self._members.replaced:
            directory.passed_over["duplicate name"] = self._members.replaced
        self.passed_over: Mapping[str, int] = dict(sorted(directory.passed_over.items()))
        if not self._members:
            raise damaged(self._where, "it holds no files", hint="fetch it again")

    def __contains__(self, member: str) -> bool:
        return self._members.get(member) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def size(self, member: str, *, quoted: bool = False) -> int:
        """Give the unpacked size of a member in bytes, as the directory states it."""
        return self._members.find(unquoted(member, quoted=quoted), self.path)[2]

    def read(self, member: str, *, quoted: bool = False) -> bytes:
        """Read one member and check its CRC.

        Raises:
            MissingInputError: There is no such member.
            RecordError: It is too large, encrypted, packed in a way that is not read here, or
                damaged (reason ``bad_image``).
        """
        name = unquoted(member, quoted=quoted)
        offset, packed, size, crc, method, limit = self._members.find(name, self.path)
        where = f"{self._where}, member {name!r}"
        check_size(where, max(size, packed))
        if size > _RATIO_FROM_BYTES and size > packed * _MAX_RATIO:
            raise damaged(where, f"unpacks to {size:,} bytes from {packed:,}")
        if method == _ENCRYPTED:
            raise damaged(where, "it is encrypted", hint="unpack the archive with its password")
        if method not in (_STORED, _DEFLATED):
            raise damaged(where, f"packed by method {method}, not deflate", hint="pack it anew")
        if method == _STORED and packed != size:
            raise damaged(where, f"{packed:,} bytes are stored where {size:,} are stated")
        data = self._packed(where, offset, packed, limit)
        if method == _DEFLATED:
            try:
                data = zlib.decompressobj(-15).decompress(data, size + 1)
            except zlib.error as error:
                raise damaged(where, str(error)) from None
        if len(data) != size or crc32(data) != crc:
            raise damaged(where, "the bytes are damaged (CRC)", hint="fetch the archive again")
        return data

    def _packed(self, where: str, offset: int, packed: int, limit: int) -> bytes:
        """Read a member's bytes as they lie behind its local header."""
        # Over HTTP the bytes behind the header come along: the name and what else stands there
        # seldom take 512.
        ahead = packed + 512 if self._file.far else 0
        block = self._file.read_at(offset, max(30, min(30 + ahead, limit - offset)))
        if len(block) < 30 or block[:4] != b"PK\x03\x04":
            raise damaged(where, f"no local header at {offset:,}", hint="fetch the archive again")
        # The local header repeats the name with an extra field of its own length.
        _, name_bytes, extra_bytes = _LOCAL.unpack_from(block)
        begin = 30 + name_bytes + extra_bytes
        if offset + begin + packed > limit:
            raise damaged(where, "it overlaps another member or the directory")
        if len(block) >= begin + packed:
            return block[begin : begin + packed]
        return self._file.read_at(offset + begin, packed)


class _Directory:
    """The parsed directory: names and numbers of the members, and what is none.

    Almost all entries are plain, and their numbers are taken in vectors; the others one by one.
    """

    def __init__(self, file: Bytes, where: str) -> None:
        self._where = where
        self.passed_over: Counter[str] = Counter()
        begin, length, stated, shift = find_directory(file, where)
        heads, names, extras = _split(file.read_at(begin, length), length, where)
        if len(names) & 0xFFFF != stated & 0xFFFF:  # some writers let the short count run over
            raise damaged(where, f"{len(names):,} members where {stated:,} are stated", hint=_HINT)
        numbers = np.empty((len(heads), 6), np.int64)
        for place, column in enumerate(("offset", "packed", "size", "crc", "method")):
            numbers[:, place] = heads[column]
        numbers[heads["flags"] & 1 != 0, 4] = _ENCRYPTED
        kept = np.ones(len(heads), bool)
        kinds = np.where(
            (heads["system"] == _UNIX) | (heads["system"] == _MAC),
            heads["outer"] >> 16 & 0o170000,
            0,
        )
        for row in _unusual(heads, kinds, names, extras).tolist():
            fields = extra_fields(extras[row])
            self._long_sizes(numbers[row], fields.get(1, b""))
            name = self._judge(
                stated_name(
                    names[row], int(heads["system"][row]), int(heads["flags"][row]), fields
                ),
                int(kinds[row]),
            )
            kept[row] = name is not None
            names[row] = name or b""
        if not kept.all():
            names = [names[row] for row in np.flatnonzero(kept).tolist()]
        self.names, self.numbers = names, numbers[kept]
        self.numbers[:, 0] += shift
        self.numbers[:, 5] = _limits(self.numbers[:, 0], begin)

    def _judge(self, name: str | None, kind: int) -> bytes | None:
        """Give an entry's name as a member's; ``None``: it is none, and counted if no folder."""
        if kind == stat.S_IFDIR or (name is not None and name.endswith("/")):
            return None
        why = "unsafe name"
        if name is None:
            why = "unreadable name"
        elif kind not in (0, stat.S_IFREG):
            why = "link" if kind == stat.S_IFLNK else "device"
        elif (plain := plain_name(name)) is not None:
            return plain.encode()
        self.passed_over[why] += 1
        return None

    def _long_sizes(self, numbers: Column, field: bytes) -> None:
        """Take from the zip64 field what does not fit the entry."""
        at = 0
        for place in (2, 1, 0):  # size, packed size, offset: the field's order
            if numbers[place] == 0xFFFFFFFF:
                if len(field) < at + 8:
                    raise damaged(self._where, "a zip64 size is missing", hint=_HINT)
                (value,) = struct.unpack_from("<Q", field, at)
                if value >= 1 << 62:
                    raise damaged(self._where, "a zip64 size is absurd", hint=_HINT)
                numbers[place] = value
                at += 8


def _split(directory: bytes, length: int, where: str) -> tuple[Heads, list[bytes], list[bytes]]:
    """Cut the directory into the fixed parts of its entries, their names and their extra fields."""
    heads, names, extras = bytearray(), [], []
    at = 0
    while at < length:
        name_at = at + 46
        try:
            name_bytes, extra_bytes, comment_bytes = _LENGTHS.unpack_from(directory, at + 28)
        except struct.error:
            raise damaged(where, "its directory is cut off", hint=_HINT) from None
        heads += directory[at:name_at]
        extra_at = name_at + name_bytes
        at = extra_at + extra_bytes + comment_bytes
        names.append(directory[name_at:extra_at])
        extras.append(directory[extra_at : extra_at + extra_bytes])
    table = np.frombuffer(heads, _ENTRY) if at == length else None
    if table is None or (table["signature"] != 0x02014B50).any():
        raise damaged(where, "its directory is damaged", hint=_HINT)
    return table, names, extras


def _unusual(heads: Heads, kinds: Column, names: list[bytes], extras: list[bytes]) -> Column:
    """Give the rows whose name is not plain ASCII text of a file, or whose sizes do not fit."""
    unusual = ~np.isin(kinds, (0, stat.S_IFREG))
    for column in ("size", "packed", "offset"):
        unusual |= heads[column] == 0xFFFFFFFF
    text = b"\n".join((b"", *names, b""))
    starts = np.cumsum([1, *(len(name) + 1 for name in names)])
    odd = [at + marker.startswith(b"\n") for marker in _ODD for at in _places(marker, text)]
    unusual[np.searchsorted(starts, odd, side="right") - 1] = True
    if not text.isascii():
        unusual |= np.logical_or.reduceat(np.frombuffer(text, np.uint8) > 127, starts[:-1])
    unusual |= np.fromiter((b"up" in extra for extra in extras), bool, len(extras))
    return np.flatnonzero(unusual)


def _places(marker: bytes, text: bytes) -> Iterator[int]:
    at = text.find(marker)
    while at >= 0:
        yield at
        at = text.find(marker, at + 1)


def _limits(offsets: Column, begin: int) -> Column:
    """Give for each member where the next begins; for two in one place, that place itself.

    A bomb of overlapping members holds petabytes in a few megabytes; none of these can be read.
    """
    distinct, counts = np.unique(offsets, return_counts=True)
    following = np.minimum(np.append(distinct, begin)[1:], begin)
    limits = np.where(counts > 1, distinct, following)
    return limits[np.searchsorted(distinct, offsets)]


_HINT = "fetch it again; `unzip -t` names the damage"


def find_directory(file: Bytes, where: str) -> tuple[int, int, int, int]:
    """Give begin, length and stated entries of the directory, and what to add to its offsets."""
    if file.size == 0:
        raise damaged(where, "it is empty (0 bytes)", hint="fetch it again")
    tail = file.read_at(max(0, file.size - 65_557 - 76), 65_557 + 76)
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0:
        if at + 22 <= len(tail) and at + 22 + _END.unpack_from(tail, at)[7] <= len(tail):
            break
        at = tail.rfind(b"PK\x05\x06", 0, at)
    if at < 0:
        raise damaged(where, _without_end(file), hint=_HINT)
    end_at = file.size - len(tail) + at
    _, disk, first_disk, here, stated, length, begin, _ = _END.unpack_from(tail, at)
    if at >= 20 and tail[at - 20 : at - 16] == b"PK\x06\x07":
        _, _, place, _ = _LOCATOR64.unpack_from(tail, at - 20)
        end_at -= 20 + _END64.size
        for position in (place, end_at):  # the second where something was put before the archive
            block = file.read_at(position, _END64.size) if 0 <= position < file.size else b""
            if block[:4] == b"PK\x06\x06" and len(block) == _END64.size:
                break
        else:
            raise damaged(where, "its zip64 directory is not found", hint=_HINT)
        _, _, _, _, disk, first_disk, here, stated, length, begin = _END64.unpack(block)
        end_at = position
    if disk or first_disk or here != stated:
        raise damaged(where, "it is one part of several", hint="put the parts together: zip -s 0")
    shift = end_at - length - begin  # bytes before the archive, as in one that unpacks itself
    if shift < 0 or stated * 46 > length:
        raise damaged(where, "its directory is damaged", hint=_HINT)
    if stated > MAX_MEMBERS or length > _MAX_DIRECTORY_BYTES:
        raise damaged(
            where,
            f"{stated:,} members, a directory of {length:,} bytes; at most {MAX_MEMBERS:,} and "
            f"{_MAX_DIRECTORY_BYTES:,} are read",
        )
    return begin + shift, length, stated, shift


def _without_end(file: Bytes) -> str:
    head = file.read_at(0, 64)
    if head.startswith(b"PK\x03\x04"):
        return f"it is cut off at {file.size:,} bytes: the directory at its end is missing"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the archive itself"
    return f"it is no zip file ({file.size:,} bytes, the first are {head[:8]!r})"


def extra_fields(extra: bytes) -> dict[int, bytes]:
    """Split an extra field; what is not whole is left out."""
    fields: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if at + 4 + length > len(extra):
            break
        fields[kind] = extra[at + 4 : at + 4 + length]
        at += 4 + length
    return fields


def stated_name(raw: bytes, system: int, flags: int, fields: dict[int, bytes]) -> str | None:
    """Read a name: UTF-8 by flag or field, or as Unix writes it; else code page 437."""
    field = fields.get(0x7075, b"")
    if len(field) > 5 and field[0] == 1 and struct.unpack_from("<L", field, 1)[0] == crc32(raw):
        raw, flags = field[5:], _UTF8_FLAG
    try:
        if raw.isascii() or flags & _UTF8_FLAG or system in (_UNIX, _MAC):
            name = raw.decode()
        else:
            name = raw.decode("cp437")
    except UnicodeDecodeError:
        if flags & _UTF8_FLAG:
            return None
        name = raw.decode("cp437")
    if "\\" in name and system == _DOS and "/" not in name:
        name = name.replace("\\", "/")
    return name
