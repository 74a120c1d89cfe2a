"""Unpacks the members of a fetched archive that a source reads, and nothing else.

An archive is somebody else's: a name that leaves its folder, a link, a device, an encrypted or
overlapping member, or one that unpacks to far more than it should, is refused before anything of
the archive is written. What is written has a temporary name until its length and CRC are right.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

from vision_ift._disk import explained, sync_file, sync_folder
from vision_ift._errors import DiskError, IntegrityError, OutputError, RecordError
from vision_ift._pictures.images import safe_path

#: Members of one archive, and bytes of one member, at most.
MAX_MEMBERS = 2_000_000
MAX_TAR_MEMBERS = 100_000  # tarfile keeps them all
MAX_MEMBER_BYTES = 16 << 30

#: Beyond ten megabytes nothing may unpack to more than this many times its size.
MAX_RATIO = 200
_FREE_OF_RATIO = 10_000_000

#: Left free on the disk.
RESERVE_BYTES = 256 << 20

_CHUNK = 1 << 20


class Member(NamedTuple):
    """A file that was unpacked: its place under ROOT, its size, and its CRC-32."""

    place: str
    bytes: int
    crc32: int


class _Found(NamedTuple):
    """A member that is wanted, before it is written; the CRC of a tar's member is not known."""

    name: str
    place: str
    bytes: int
    crc32: int | None


def place_of(member: str, rules: Mapping[str, str]) -> str | None:
    """Where a member goes, or ``None`` where no rule wants it.

    A rule is a member's whole name and its place (``**/`` before it: in any folder), or a folder
    with ``*`` and an ending and the folder where its direct members go.

    >>> place_of("train2017/9.jpg", {"train2017/*.jpg": "coco/train2017/"})
    'coco/train2017/9.jpg'
    >>> place_of("train2017/sub/9.jpg", {"train2017/*.jpg": "coco/train2017/"}) is None
    True
    """
    if member in rules:
        return rules[member]
    folder, _, name = member.rpartition("/")
    if f"**/{name}" in rules:
        return rules[f"**/{name}"]
    for pattern, place in rules.items():
        head, star, ending = pattern.partition("*")
        inside = f"{folder}/" if folder else ""
        if star and head == inside and name.endswith(ending) and name.strip("."):
            return f"{place}{name}"
    return None


def unpack(
    archive: Path,
    rules: Mapping[str, str],
    *,
    root: Path,
    replace: bool = False,
    told: Callable[[int, int], None] | None = None,
) -> list[Member]:
    """Unpack what the rules want of a zip or a ``.tar.gz`` below ROOT.

    A file that is there with the same bytes stays, so that unpacking goes on where it stopped.

    Args:
        archive: The file; its name ends with ``.zip``, ``.tar.gz`` or ``.tgz``.
        rules: Members and where they go (see :func:`place_of`).
        root: ROOT; links that the user placed below it are followed.
        replace: Replace files that are there with other bytes.
        told: Told how many bytes are unpacked, and of how many.

    Returns:
        The files, sorted by place.

    Raises:
        IntegrityError: The archive is damaged or hostile, or lacks a wanted member.
        OutputError: Another file is in the place of a member.
        DiskError: There is no room.
    """
    opened = _Zip if archive.name.endswith(".zip") else _Tar
    with _explained(archive), opened(archive) as members:
        wanted = _wanted(archive, members, rules)
        total = sum(one.bytes for one in wanted)
        _check_room(root, total)
        made: list[Member] = []
        done = 0
        for found, stream in members.streams({one.name: one for one in wanted}):
            made.append(_put(archive, found, stream, root=root, replace=replace))
            done += found.bytes
            if told is not None:
                told(done, total)
    # One by one this would take minutes for a hundred thousand small pictures.
    os.sync()
    for folder in sorted({(root / one.place).parent for one in made}):
        sync_folder(folder)
    return sorted(made)


def _wanted(archive: Path, members: _Zip | _Tar, rules: Mapping[str, str]) -> list[_Found]:
    wanted: list[_Found] = []
    places: set[str] = set()
    for name, size, crc32, why_not in members.listed():
        try:
            safe_path(name)
        except RecordError as error:
            raise IntegrityError(f"archive {archive}: {error.detail}") from None
        place = place_of(name, rules)
        if place is None:
            continue
        if why_not or size > MAX_MEMBER_BYTES:
            why_not = why_not or f"it holds {size:,} bytes"
            raise IntegrityError(f"archive {archive}, member {name!r} is refused: {why_not}")
        if place in places:
            raise IntegrityError(f"archive {archive} holds {name!r} twice")
        places.add(place)
        wanted.append(_Found(name, place, size, crc32))
    lacking = [
        pattern
        for pattern, place in rules.items()
        if not any(
            one.place == place or ("*" in pattern and one.place.startswith(place)) for one in wanted
        )
    ]
    if lacking:
        raise IntegrityError(
            f"archive {archive} holds no {', '.join(lacking)}",
            hint="its publisher changed it: unpack it by hand as docs/sources.md lays out",
        )
    return wanted


def _check_room(root: Path, total: int) -> None:
    free = shutil.disk_usage(root).free
    if total + RESERVE_BYTES > free:
        raise DiskError(
            f"unpacking needs {total:,} bytes below {root}, where {free:,} are free",
            hint="free some space and run the same command again: it goes on where it stopped",
        )


def _put(archive: Path, found: _Found, stream: IO[bytes], *, root: Path, replace: bool) -> Member:
    """Write one member under a temporary name, check it, and give it its own."""
    path = root / found.place
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    if found.crc32 is not None and not replace and path.exists():
        if path.is_file() and crc_of(path) == (found.bytes, found.crc32):
            return Member(found.place, found.bytes, found.crc32)
        raise _occupied(path, archive)
    temporary = path.with_name(f".{path.name}.part")
    crc = 0
    size = 0
    with explained(path):
        temporary.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.fdopen(os.open(temporary, flags, 0o666), "wb")
    try:
        with file:
            while data := stream.read(_CHUNK):
                size += len(data)
                if size > found.bytes:
                    break
                crc = zlib.crc32(data, crc)
                with explained(path):
                    file.write(data)
        if size != found.bytes or (found.crc32 is not None and crc != found.crc32):
            raise IntegrityError(f"archive {archive}, member {found.name!r} is damaged")
        if found.crc32 is None and not replace and path.exists():
            if crc_of(path) != (size, crc):
                raise _occupied(path, archive)
        else:
            if found.bytes >= _CHUNK:
                sync_file(temporary)
            with explained(path):
                temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return Member(found.place, size, crc)


def _occupied(path: Path, archive: Path) -> OutputError:
    return OutputError(
        f"{path} is there and is not what {archive.name} holds",
        hint="move it away and fetch again, or fetch with --update to replace it",
    )


def crc_of(path: Path) -> tuple[int, int]:
    """The size of a file and the CRC-32 of its bytes."""
    crc = size = 0
    with path.open("rb") as file:
        while data := file.read(_CHUNK):
            crc = zlib.crc32(data, crc)
            size += len(data)
    return size, crc


@contextlib.contextmanager
def _explained(archive: Path) -> Iterator[None]:
    """Say of damage in our words."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        gzip.BadGzipFile,
        zlib.error,
        EOFError,
        struct.error,
        NotImplementedError,
        ValueError,  # an offset before the file's start
    ) as error:
        raise IntegrityError(
            f"archive {archive} is damaged: {error}", hint="delete it and fetch again"
        ) from None


_Listed = Iterator[tuple[str, int, int | None, str]]


class _Zip:
    """A zip's members; its directory says all before anything is unpacked."""

    def __init__(self, path: Path) -> None:
        self._bytes = path.stat().st_size
        self._path = path
        self._zip = zipfile.ZipFile(path)

    def __enter__(self) -> _Zip:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def listed(self) -> _Listed:
        infos = self._zip.infolist()
        if len(infos) > MAX_MEMBERS:
            raise IntegrityError(f"archive {self._path} holds {len(infos):,} members")
        if sum(info.compress_size for info in infos) > self._bytes:
            raise IntegrityError(f"archive {self._path} is refused: its members overlap")
        for info in infos:
            if not info.is_dir():
                yield info.orig_filename, info.file_size, info.CRC, self._why_not(info)

    def _why_not(self, info: zipfile.ZipInfo) -> str:
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            return "it is no regular file"
        if info.flag_bits & 1:
            return "it is encrypted"
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            return "it is packed by a method other than deflate"
        if info.file_size > max(_FREE_OF_RATIO, info.compress_size * MAX_RATIO):
            return f"{info.compress_size:,} bytes unpack to {info.file_size:,}"
        return ""

    def streams(self, wanted: dict[str, _Found]) -> Iterator[tuple[_Found, IO[bytes]]]:
        for info in self._zip.infolist():
            if info.orig_filename in wanted and not info.is_dir():
                with self._zip.open(info) as stream:
                    yield wanted[info.orig_filename], stream


class _Bounded(io.RawIOBase):
    """A gzip stream that stops at what its file may unpack to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = gzip.open(path)  # noqa: SIM115 - closed by close()
        self._left = max(_FREE_OF_RATIO, path.stat().st_size * MAX_RATIO)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        # The header of a member states a size, and tarfile asks for it at once.
        if size < 0 or size > 64 << 20:
            raise IntegrityError(f"archive {self._path} is refused: a header of {size:,} bytes")
        data = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise IntegrityError(f"archive {self._path} is refused: it unpacks to too much")
        return data

    def close(self) -> None:
        self._file.close()
        super().close()


class _Tar:
    """A ``.tar.gz``'s members; it is read twice, so that nothing is written of a bad one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> _Tar:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def _members(self) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        with (
            _Bounded(self._path) as stream,
            tarfile.open(fileobj=stream, mode="r|", errorlevel=2) as tar,
        ):
            for count, member in enumerate(tar):
                if count >= MAX_TAR_MEMBERS:
                    raise IntegrityError(f"archive {self._path} holds too many members")
                yield tar, member

    def listed(self) -> _Listed:
        for _, member in self._members():
            if member.isdir():
                continue
            why_not = ""
            if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.sparse:
                why_not = "it is no regular file"
            yield member.name, member.size, None, why_not

    def streams(self, wanted: dict[str, _Found]) -> Iterator[tuple[_Found, IO[bytes]]]:
        for tar, member in self._members():
            if member.name in wanted and not member.isdir():
                stream = tar.extractfile(member)
                if stream is None:
                    raise IntegrityError(f"archive {self._path} changed while it was unpacked")
                yield wanted[member.name], stream
