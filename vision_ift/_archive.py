"""Archives read in place: ``vift://archive!/member``, a zip's directory kept once a process.

`datasets` opens ``zip://member::archive`` anew for every picture, central directory included; at
181,000 members that is seconds a picture. Here the directory is read once, and a member is one or
two ``pread`` calls at its offset, safe between threads and after a fork.

Members are percent-encoded in a reference, so that ``::``, ``*``, ``#`` or a line break inside a
name mean nothing to the libraries that the reference passes through.
"""

from __future__ import annotations

import functools
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote

from fsspec.spec import AbstractFileSystem

from vision_ift._errors import MissingInputError, RecordError

SCHEME = "vift://"
ARCHIVE_SUFFIXES = (".zip",)

#: The largest member that is read, and the largest ratio of unpacked to packed bytes beyond 10 MB.
MAX_MEMBER_BYTES = 256 << 20
_MAX_RATIO = 200
_MAX_MEMBERS = 20_000_000


def quote_member(member: str) -> str:
    """Write a member's name so that only letters, digits and ``/_.-`` stand as they are.

    >>> quote_member("a b/c::d.jpg")
    'a%20b/c%3A%3Ad.jpg'
    """
    return quote(member, safe="/")


class Archive:
    """The members of one zip file, read in place.

    Raises:
        MissingInputError: There is no such file.
        RecordError: It is not a zip file, or its directory is damaged (reason ``bad_image``).
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                infos = archive.infolist()
        except OSError as error:
            raise MissingInputError(f"archive {path} cannot be opened: {error.strerror}") from None
        except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError, struct.error) as error:
            raise RecordError(
                f"archive {path} is damaged: {error}",
                reason="bad_image",
                hint="fetch it again; `unzip -t` names the damage",
            ) from None
        if len(infos) > _MAX_MEMBERS:
            raise RecordError(
                f"archive {path} has {len(infos):,} members; at most {_MAX_MEMBERS:,} are read",
                reason="bad_image",
            )
        # Offset, packed size, size, method, CRC: a fifth of the memory of ZipInfo objects.
        self._members: dict[str, tuple[int, int, int, int, int]] = {
            info.filename: (
                info.header_offset,
                info.compress_size,
                info.file_size,
                info.compress_type if not info.flag_bits & 1 else -1,
                info.CRC,
            )
            for info in infos
            if not info.is_dir()
        }
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if descriptor := getattr(self, "_descriptor", None):
            os.close(descriptor)

    def __contains__(self, member: str) -> bool:
        return member in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def size(self, member: str, *, quoted: bool = False) -> int:
        """The unpacked size of a member in bytes, as the directory states it."""
        return self._entry(member, quoted=quoted)[2]

    def _entry(self, member: str, *, quoted: bool) -> tuple[int, int, int, int, int]:
        name = unquote(member) if quoted else member
        try:
            return self._members[name]
        except KeyError:
            raise MissingInputError(f"archive {self.path} has no member {name!r}") from None

    def read(self, member: str, *, quoted: bool = False) -> bytes:
        """Read one member and check its CRC.

        Raises:
            MissingInputError: There is no such member.
            RecordError: It is too large, encrypted, packed in a way that is not read here, or
                damaged (reason ``bad_image``).
        """
        offset, packed, size, method, crc = self._entry(member, quoted=quoted)
        where = f"archive {self.path}, member {unquote(member) if quoted else member!r}"
        if size > MAX_MEMBER_BYTES or packed > MAX_MEMBER_BYTES:
            raise RecordError(f"{where}: {size:,} bytes are too many", reason="bad_image")
        if size > 10_000_000 and size > packed * _MAX_RATIO:
            raise RecordError(
                f"{where}: unpacks to {size:,} bytes from {packed:,}", reason="bad_image"
            )
        if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise RecordError(
                f"{where}: encrypted or packed by a method other than deflate", reason="bad_image"
            )
        # The local header repeats the name with an extra field of its own length.
        header = os.pread(self._descriptor, 30, offset)
        if len(header) != 30 or header[:4] != b"PK\x03\x04":
            raise RecordError(f"{where}: no local header at {offset}", reason="bad_image")
        name_length, extra_length = struct.unpack_from("<HH", header, 26)
        data = os.pread(self._descriptor, packed, offset + 30 + name_length + extra_length)
        if method == zipfile.ZIP_DEFLATED and len(data) == packed:
            unpacker = zlib.decompressobj(-15)
            try:
                data = unpacker.decompress(data, size + 1)
            except zlib.error as error:
                raise RecordError(f"{where}: {error}", reason="bad_image") from None
        if len(data) != size or zlib.crc32(data) != crc:
            raise RecordError(f"{where}: the bytes are damaged", reason="bad_image")
        return data


@functools.lru_cache(maxsize=256)
def _opened(path: str, inode: int, size: int, modified_ns: int) -> Archive:  # noqa: ARG001 - the key
    return Archive(path)


def archive_of(path: str) -> Archive:
    """Give the archive at ``path``, read once a process for as long as the file is the same."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a hot path
    except OSError as error:
        raise MissingInputError(f"archive {path} cannot be opened: {error.strerror}") from None
    return _opened(path, status.st_ino, status.st_size, status.st_mtime_ns)


class ArchiveFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """The fsspec face of ``vift://archive!/member``, found through the group ``fsspec.specs``.

    The archive's path is absolute here (see :func:`vision_ift._images.absolute`); `datasets` makes
    two slashes of the three that such a reference has, so both mean the same.

    >>> import fsspec
    >>> fsspec.get_filesystem_class("vift").protocol
    'vift'
    """

    protocol = "vift"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix(SCHEME).lstrip("/")

    def _split(self, path: str) -> tuple[Archive, str]:
        archive, mark, member = self._strip_protocol(path).partition("!/")
        if not mark:
            raise MissingInputError(
                f"{path!r} names no member", hint=f"write {SCHEME}ARCHIVE.zip!/MEMBER"
            )
        return archive_of(archive), member

    def _open(self, path: str, mode: str = "rb", **_: Any) -> io.BytesIO:
        if mode != "rb":
            raise MissingInputError(f"{path!r} can only be read (mode 'rb')")
        archive, member = self._split(path)
        return io.BytesIO(archive.read(member, quoted=True))

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Describe a member as fsspec asks for it: name, size in bytes, type ``file``."""
        archive, member = self._split(path)
        return {"name": path, "size": archive.size(member, quoted=True), "type": "file"}

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        """Read a member, or a slice of it."""
        archive, member = self._split(path)
        return archive.read(member, quoted=True)[start:end]

    def exists(self, path: str, **_: Any) -> bool:
        """Say whether the archive and the member exist."""
        try:
            self.info(path)
        except OSError:
            return False
        return True
