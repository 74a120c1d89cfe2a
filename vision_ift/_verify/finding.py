"""What a check of an export finds, and reading an export's files without trusting them.

Nothing outside the export is opened: names are plain relative paths, links are not followed, and
what is not a regular file is not read. Lengths are capped before anything is allocated.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from vision_ift._conversation import SCHEMA_VERSION
from vision_ift._errors import IntegrityError, MissingInputError, RecordError, VisionIFTError
from vision_ift._export.manifest import OWN
from vision_ift._pictures.images import safe_path

#: The largest of our own JSON and YAML files that is read, in bytes: a manifest of a million shards
#: comes to 200 MB.
MAX_TEXT_BYTES = 1 << 29

#: An xxh3-128, as our files write it.
DIGEST = re.compile(r"[0-9a-f]{32}")

#: Places in a shard that are listed one by one; the others are counted.
MOST_PLACES = 20

#: Kinds of findings, as stable words for scripts.
KINDS: dict[str, str] = {
    "missing": "a file that the manifest or a reader needs is not there",
    "extra": "a tar that the manifest does not name",
    "link": "a file is a link, or no regular file; nothing behind it is read",
    "unreadable": "the system cannot read the file",
    "size": "a shard is longer or shorter than the manifest says",
    "digest": "a shard's bytes are not those that were written",
    "index": "the index does not agree with the shard, the record or the manifest",
    "record": "a shard's record cannot be read or does not agree with the manifest",
    "layout": "the layout cannot be read or does not agree with the manifest",
    "manifest": "the manifest cannot be read or contradicts itself",
    "plan": "the plan's lock cannot be read or is not that of the export",
    "recipe": "the recipe cannot be read or is not that of the plan",
    "sidecar": "a file for other readers is not what the manifest and the index give",
    "sha256": "the SHA-256 of a shard is not the one that was noted",
}


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """One damaged stretch of a shard.

    Attributes:
        start, stop: Byte offsets in the file: from, to (not included).
        row: The conversation's key; empty for the archive's end.
        member: The member's name (``000000017-llava.json``); empty where it is all of them.
        what: What is wrong there.
    """

    start: int
    stop: int
    row: str = ""
    member: str = ""
    what: str = ""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong with an export.

    Attributes:
        kind: One of :data:`KINDS`.
        file: Which file, relative to the export.
        detail: What was found, and what should be there.
        number: The shard's number, where it is about one; -1 otherwise.
        rows: How many conversations of the shard are known to be damaged.
        places: The first of the damaged stretches.
    """

    kind: str
    file: str
    detail: str
    number: int = -1
    rows: int = 0
    places: list[Place] = []

    def __str__(self) -> str:
        return f"{self.file}: {self.detail}"


S = TypeVar("S", bound=msgspec.Struct)


@contextmanager
def opened(folder: Path, name: str) -> Iterator[int]:
    """Open a regular file of an export for reading, through no link; give its descriptor.

    Raises:
        MissingInputError: It is not there.
        IntegrityError: The name leaves the export, a part of it is a link, or it cannot be read.
    """
    if not plain(name):
        raise IntegrityError(f"the name {name[:200]!r} leaves the export")
    *parents, last = name.split("/")
    held: list[int] = []
    try:
        try:
            held.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            for part in parents:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                held.append(os.open(part, flags, dir_fd=held[-1]))
            # Not blocking: opening a pipe would wait for somebody to write to it.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            held.append(os.open(last, flags, dir_fd=held[-1]))
            regular = stat.S_ISREG(os.fstat(held[-1]).st_mode)
        except FileNotFoundError:
            raise MissingInputError(f"{name} is not there") from None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
                raise _LinkError(f"{name} is a link or no file; it is not followed") from None
            raise _UnreadableError(f"{name} cannot be read: {error.strerror}") from error
        if not regular:
            raise _LinkError(f"{name} is no regular file")
        try:
            yield held[-1]
        except OSError as error:
            if isinstance(error, VisionIFTError):
                raise
            raise _UnreadableError(f"{name} cannot be read: {error.strerror}") from error
    finally:
        for descriptor in held:
            os.close(descriptor)


class _LinkError(IntegrityError):
    """A file that is not looked into."""


class _UnreadableError(IntegrityError):
    """A file that the system does not give."""


def plain(name: str) -> bool:
    """Say whether a name is a relative path that stays in the export."""
    try:
        return safe_path(name) == name
    except RecordError:
        return False


def found(
    error: IntegrityError | MissingInputError, file: str, *, otherwise: str, number: int = -1
) -> Finding:
    """Turn an error on reading a file into a finding; of the kind ``otherwise`` if it is none."""
    if isinstance(error, MissingInputError):
        kind = "missing"
    else:
        kind = otherwise
        if isinstance(error, _LinkError):
            kind = "link"
        elif isinstance(error, _UnreadableError):
            kind = "unreadable"
    detail = error.message
    return Finding(kind=kind, file=file, detail=detail.removeprefix(f"{file} "), number=number)


def read_bytes(folder: Path, name: str, *, limit: int = MAX_TEXT_BYTES) -> bytes:
    """Read one of an export's small files.

    Raises:
        MissingInputError, IntegrityError: As for :func:`opened`; also where it is too large.
    """
    with opened(folder, name) as descriptor:
        size = os.fstat(descriptor).st_size
        if size > limit:
            raise IntegrityError(f"{name} has {size:,} bytes; at most {limit:,} make sense")
        return read_at(descriptor, 0, size)


def read_at(descriptor: int, offset: int, size: int) -> bytes:
    """Read so many bytes from an offset, fewer only at the file's end."""
    data = os.pread(descriptor, size, offset)
    while len(data) < size:  # a read may give less than was asked
        more = os.pread(descriptor, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def load(folder: Path, name: str, kind: type[S], *, limit: int = MAX_TEXT_BYTES) -> S:
    """Read one of our JSON files as a struct.

    Raises:
        MissingInputError, IntegrityError: As for :func:`read_bytes`; also where it is not the JSON
            that we write.
    """
    data = read_bytes(folder, name, limit=limit)
    try:
        value = msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise IntegrityError(f"{name} cannot be read: {error}") from None
    version = getattr(value, "schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise IntegrityError(f"{name} is of version {version}; this is {SCHEMA_VERSION}")
    return value


def tars(folder: Path) -> list[str]:
    """List the tars in an export but hidden ones and those in our own folder; walk no link."""
    return sorted(
        itertools.chain.from_iterable(_tars_in(folder, place) for place in ("", *_folders(folder)))
    )


def _folders(folder: Path) -> list[str]:
    return sorted(
        one.name
        for one in folder.iterdir()
        if one.is_dir() and not one.is_symlink() and one.name[0] != "." and one.name != OWN
    )


def _tars_in(folder: Path, place: str) -> list[str]:
    return [
        f"{place}/{one.name}" if place else one.name
        for one in (folder / place).iterdir()
        if one.name.endswith((".tar", ".tar.gz", ".tgz")) and not one.name.startswith(".")
    ]
