"""The bytes of one shard: their digest, and where they are damaged.

A tar that this package wrote has no free byte but the contents of its members: headers, padding
and end follow from the index. So damage there is found to the byte. A content has no digest of its
own; what it lets be seen (a PNG's checksums, JSON that is not as it is always written, text that is
not the JSON's, blocks of zeros) names the conversation; where nothing shows, the finding says so.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa
import xxhash

from vision_ift._errors import IntegrityError, MissingInputError
from vision_ift._export.document import Document
from vision_ift._export.manifest import ShardFile
from vision_ift._export.ustar import BLOCK, header
from vision_ift._pictures.images import image_format
from vision_ift._verify.finding import MOST_PLACES, Finding, Place, found, opened, read_at
from vision_ift._verify.index import END_BYTES, Members, members_of

#: Bytes read at once: they stay in the processor's cache while they are hashed.
_PIECE = 1 << 20

#: So many zeros in a row are in no picture and no text: a page that never reached the disk.
_ZEROS = bytes(4096)

#: The largest member that is looked into for damage, in bytes.
_LOOKED_INTO = 256 << 20


class Asked(NamedTuple):
    """One shard to check; pickles.

    Attributes:
        number: Its number, -1 where it is not known.
        shard: What the manifest says of it.
        part: Its part of the index, where that is sound in itself.
        whole: Read every byte, not only the ends.
        sha256: Also take this digest.
    """

    number: int
    shard: ShardFile
    part: pa.RecordBatch | None
    whole: bool
    sha256: bool = False


class Answer(NamedTuple):
    """What was found of one shard: bytes read, digests (empty where not taken), findings."""

    number: int
    name: str
    read: int
    xxh3_128: str
    sha256: str
    findings: list[Finding]


def check_shard(folder: Path, asked: Asked) -> Answer:
    """Check one shard; runs in any process."""
    number, shard = asked.number, asked.shard
    read, digest, sha256 = 0, "", ""
    findings: list[Finding] = []
    try:
        with opened(folder, shard.name) as descriptor:
            size = os.fstat(descriptor).st_size
            if asked.whole:
                digest, sha256 = digests(descriptor, sha256=asked.sha256)
                read = size
            sound = digest == shard.xxh3_128
            if size != shard.bytes or (asked.whole and not sound):
                findings.append(_damaged(descriptor, size, asked, digest))
            elif asked.part is not None:
                findings += _against_index(descriptor, asked, sound=sound)
    except (IntegrityError, MissingInputError) as error:
        findings.append(found(error, shard.name, otherwise="unreadable", number=number))
    return Answer(number, shard.name, read, digest, sha256, findings)


def headers_agree(folder: Path, shard: ShardFile, part: pa.RecordBatch) -> bool:
    """Say whether a shard's headers are those that a part of the index asks for."""
    keys = part.column("key").to_pylist()
    try:
        with opened(folder, shard.name) as descriptor:
            faults = _header_faults(descriptor, members_of(part), keys, range(len(keys)))
            return next(faults, None) is None
    except (IntegrityError, MissingInputError):
        return False


def digests(descriptor: int, *, sha256: bool = False) -> tuple[str, str]:
    """Give the xxh3-128 of a whole file, and its SHA-256 where that is asked."""
    fast = xxhash.xxh3_128()
    slow = None
    if sha256:
        import hashlib

        slow = hashlib.sha256()
    buffer = bytearray(_PIECE)
    view = memoryview(buffer)
    offset = 0
    while count := os.preadv(descriptor, [buffer], offset):
        piece = view[:count]
        fast.update(piece)
        if slow is not None:
            slow.update(piece)
        offset += count
    return fast.hexdigest(), slow.hexdigest() if slow is not None else ""


def _against_index(descriptor: int, asked: Asked, *, sound: bool) -> list[Finding]:
    """Hold the headers of a shard (all of them where it was read, else the first and the last,
    and the end) against the index."""
    assert asked.part is not None
    members = members_of(asked.part)
    keys = asked.part.column("key")
    faults: list[Place] = []
    if sound:
        faults = list(_header_faults(descriptor, members, keys.to_pylist(), range(len(keys))))
    elif len(keys):
        rows = sorted({0, len(keys) - 1})
        ends = {row: keys[row].as_py() for row in rows}
        faults = list(_header_faults(descriptor, members, ends, rows))
        faults += _end_faults(descriptor, asked.shard.bytes - END_BYTES, asked.shard.bytes)
    if not faults:
        return []
    if sound:  # every byte is as it was written, so the index is to blame
        return [
            Finding(
                kind="index",
                file=asked.shard.name,
                detail=f"the shard is sound, but the index is not about it: {faults[0].what}",
                number=asked.number,
                rows=len({one.row for one in faults}),
                places=faults[:MOST_PLACES],
            )
        ]
    return [_of_places(asked, faults, "its first or last blocks are damaged")]


def _of_places(asked: Asked, faults: list[Place], detail: str, kind: str = "digest") -> Finding:
    rows = len({one.row for one in faults if one.row})
    return Finding(
        kind=kind,
        file=asked.shard.name,
        detail=detail,
        number=asked.number,
        rows=rows,
        places=faults[:MOST_PLACES],
    )


def _damaged(descriptor: int, size: int, asked: Asked, digest: str) -> Finding:
    """Say where a shard is damaged, as far as its own bytes tell."""
    shard = asked.shard
    kind = "digest" if size == shard.bytes else "size"
    if kind == "size":
        detail = f"it has {size:,} bytes, {shard.bytes:,} were written"
    else:
        detail = f"its digest is {digest}, {shard.xxh3_128} was written"
    if asked.part is None:
        return _of_places(asked, [], f"{detail}; without an index its rows are not told", kind)
    faults = list(_faults(descriptor, size, asked.part, whole=asked.whole))
    if size > shard.bytes:
        extra = Place(start=shard.bytes, stop=size, what=f"{size - shard.bytes:,} bytes too many")
        faults.append(extra)
    if not faults:
        detail += (
            "; headers, padding and end are sound, so a content is damaged, and which one does not "
            "show; where the sources still give this shard, --repair says which bytes were others"
        )
        faults = [Place(start=0, stop=size, what="some content")]
    return _of_places(asked, faults, detail, kind)


def _faults(descriptor: int, size: int, index: pa.RecordBatch, *, whole: bool) -> Iterator[Place]:
    """Walk a damaged shard after its index and yield what is wrong, in order."""
    members = members_of(index)
    keys: list[str] = index.column("key").to_pylist()
    for row, key in enumerate(keys):
        start = int(members.headers[members.first[row]])
        last = members.first[row + 1] - 1
        stop = int(members.headers[last] + BLOCK + members.sizes[last] + -members.sizes[last] % 512)
        if stop > size:
            what = "it is not there" if start >= size else "its end is not there"
            yield Place(start=start, stop=stop, row=key, what=what)
            continue
        if whole:
            yield from _header_faults(descriptor, members, keys, (row,))
            yield from _content_faults(descriptor, members, key, row)
    end = stop if keys else 0
    yield from _end_faults(descriptor, end, end + END_BYTES)


def _header_faults(
    descriptor: int,
    members: Members,
    keys: list[str] | dict[int, str],
    rows: range | list[int] | tuple[int, ...],
) -> Iterator[Place]:
    """Yield the headers and paddings of rows that are not what the index asks for."""
    first, headers, sizes = members.first, members.headers, members.sizes
    for row in rows:
        for place in range(first[row], first[row + 1]):
            at, size = int(headers[place]), int(sizes[place])
            name = f"{keys[row]}.{members.names[place]}"
            if os.pread(descriptor, BLOCK, at) != header(name.encode("ascii"), size):
                yield Place(
                    start=at,
                    stop=at + BLOCK,
                    row=keys[row],
                    member=name,
                    what=f"the header of {name} is not there",
                )


def _end_faults(descriptor: int, start: int, stop: int) -> list[Place]:
    if read_at(descriptor, start, stop - start) == bytes(stop - start):
        return []
    return [Place(start=start, stop=stop, what="the archive's end is damaged")]


def _content_faults(descriptor: int, members: Members, key: str, row: int) -> Iterator[Place]:
    """Yield the contents and paddings of a row in which damage can be seen."""
    document: Document | None = None
    for place in range(members.first[row], members.first[row + 1]):
        at, size = int(members.headers[place]) + BLOCK, int(members.sizes[place])
        name = members.names[place]
        padding = -size % BLOCK
        what = ""
        if read_at(descriptor, at + size, padding) != bytes(padding):
            yield Place(
                start=at + size,
                stop=at + size + padding,
                row=key,
                member=f"{key}.{name}",
                what="the padding after it is not zeros",
            )
        if size > _LOOKED_INTO:
            continue
        data = read_at(descriptor, at, size)
        if name == "json":
            document = _document(data)
            if document is None:
                what = "it is not the JSON that is always written"
        elif name == "txt":
            if document is not None and data != document.words.encode("utf-8", "replace"):
                what = "it does not say what the JSON says: one of the two is damaged"
        else:
            what = _picture_fault(data, name.rpartition(".")[2])
        if not what and _ZEROS in data:
            what = "4,096 zeros in a row"
        if what:
            yield Place(start=at, stop=at + size, row=key, member=f"{key}.{name}", what=what)


def _document(data: bytes) -> Document | None:
    """Decode a JSON member, if it stands there as it is always written."""
    try:
        value = msgspec.json.decode(data, type=Document)
        return value if msgspec.json.encode(value) == data else None
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _picture_fault(data: bytes, kind: str) -> str:
    if image_format(data) != kind:
        return f"it does not begin as a {kind}"
    if kind != "png":
        return ""
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        crc = data[at + 8 + length : at + 12 + length]
        if zlib.crc32(data[at + 4 : at + 8 + length]) != int.from_bytes(crc, "big"):
            # Some were published with wrong checksums; those are wrong from the first chunk on.
            return f"the checksum of a chunk at {at:,} does not hold" if at > 8 else ""
        at += 12 + length
    return ""
