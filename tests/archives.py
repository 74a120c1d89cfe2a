"""Archives made byte by byte: also such as no writer makes."""

from __future__ import annotations

import io
import struct
import tarfile
import zlib
from dataclasses import dataclass, field

UNIX, DOS = 3, 0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One member of a zip; what is not given is stated truly."""

    name: bytes
    data: bytes = b"picture"
    method: int = 0
    flags: int = 0
    system: int = UNIX
    mode: int = 0o100644
    crc: int | None = None
    size: int | None = None
    packed: int | None = None
    extra: bytes = b""
    local_extra: bytes = b""
    offset: int | None = None
    descriptor: bytes = b""

    def body(self) -> bytes:
        """The bytes as they stand in the archive."""
        if self.method != 8:
            return self.data
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        return packer.compress(self.data) + packer.flush()


def zipped(*entries: Entry, before: bytes = b"", comment: bytes = b"", **end: int) -> bytes:
    """Make a zip; ``end`` overrides what the end states: ``count``, ``length``, ``begin``."""
    out, directory = bytearray(before), bytearray()
    for entry in entries:
        body = entry.body()
        crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
        size = len(entry.data) if entry.size is None else entry.size
        packed = len(body) if entry.packed is None else entry.packed
        place = len(out) - len(before) if entry.offset is None else entry.offset
        stated = (0, 0, 0) if entry.descriptor else (crc, packed, size)
        out += struct.pack(
            "<4s5H3L2H",
            b"PK\3\4",
            20,
            entry.flags,
            entry.method,
            0,
            33,
            *(min(one, 0xFFFFFFFF) for one in stated),
            len(entry.name),
            len(entry.local_extra),
        )
        out += entry.name + entry.local_extra + body + entry.descriptor
        directory += struct.pack(
            "<4s4B4H3L5H2L",
            b"PK\1\2",
            20,
            entry.system,
            20,
            0,
            entry.flags,
            entry.method,
            0,
            33,
            crc,
            packed,
            size,
            len(entry.name),
            len(entry.extra),
            0,
            0,
            0,
            entry.mode << 16,
            place,
        )
        directory += entry.name + entry.extra
    count = end.get("count", len(entries))
    tail = struct.pack(
        "<4s4H2LH",
        b"PK\5\6",
        end.get("disk", 0),
        0,
        count,
        count,
        end.get("length", len(directory)),
        end.get("begin", len(out) - len(before)),
        len(comment),
    )
    return bytes(out + directory) + tail + comment


def zipped64(*entries: Entry, before: bytes = b"") -> bytes:
    """Make a zip whose end states nothing itself: all stands in the zip64 records."""
    data = zipped(*entries, before=before)
    short = data[-22:]
    count, length, begin = struct.unpack_from("<10xH2L", short)
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length, begin)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, begin + length, 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data[:-22] + end64 + locator + end


def unicode_path(raw: bytes, name: str) -> bytes:
    """Make Info-ZIP's extra field that states the name in UTF-8 beside the raw one."""
    value = struct.pack("<BL", 1, zlib.crc32(raw)) + name.encode()
    return struct.pack("<2H", 0x7075, len(value)) + value


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One entry of a tar, header written by :mod:`tarfile` unless ``raw`` is given."""

    name: str
    data: bytes = b"picture"
    kind: bytes = tarfile.REGTYPE
    link: str = ""
    pax: dict[str, str] = field(default_factory=dict)


def tarred(*pieces: Piece, style: int = tarfile.USTAR_FORMAT) -> bytes:
    """Make a tar with :mod:`tarfile`, of 10,240-byte records."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=style) as file:
        for piece in pieces:
            info = tarfile.TarInfo(piece.name)
            info.type, info.linkname, info.pax_headers = piece.kind, piece.link, piece.pax
            info.size = len(piece.data) if piece.kind in (tarfile.REGTYPE, b"?") else 0
            file.addfile(info, io.BytesIO(piece.data))
    return out.getvalue()


def tar_block(
    name: bytes,
    size: bytes,
    *,
    kind: bytes = b"0",
    data: bytes = b"",
    magic: bytes = b"ustar\x0000",
) -> bytes:
    """Make one header and its contents by hand; ``size`` is the field as it stands."""
    header = bytearray(512)
    header[: len(name)] = name
    header[124 : 124 + len(size)] = size
    header[148:156] = b" " * 8
    header[156:157] = kind
    header[257 : 257 + len(magic)] = magic
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data + bytes(-len(data) % 512)
