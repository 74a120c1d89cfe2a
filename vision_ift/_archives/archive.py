"""Archives read in place: ``vift://ARCHIVE!/MEMBER``, an archive's directory read once a process.

`datasets` opens ``zip://member::archive`` anew for every picture, central directory included; at
181,000 members that is seconds a picture. Here the directory is read once, and a member is one or
two ``pread`` calls at its offset, safe between threads and after a fork.

Read are zip (also over HTTP), tar, and Parquet with embedded pictures, where a member is named
``COLUMN/ROW`` or, of several pictures a row, ``COLUMN/ROW/ENTRY``.

Members are percent-encoded in a reference, so that ``::``, ``*``, ``#`` or a line break inside a
name mean nothing to the libraries that the reference passes through.
"""

from __future__ import annotations

import functools
import io
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol
from urllib.parse import quote

from fsspec.spec import AbstractFileSystem

from vision_ift._archives.parquet import Parquet
from vision_ift._archives.ranges import LocalFile, RemoteFile, is_url
from vision_ift._archives.tar import Tar
from vision_ift._archives.zip import Zip
from vision_ift._errors import MissingInputError, RecordError, unopened

SCHEME = "vift://"
ARCHIVE_SUFFIXES = (".zip", ".tar", ".parquet")

_PACKED_TAR = re.compile(r"\.(tar\.\w+|t[bgx]z2?|tzst)$", re.IGNORECASE)
_LOST_SLASH = re.compile(r"^(https?):/+", re.IGNORECASE)


class Archive(Protocol):
    """An archive whose members are read by name, by any thread and after a fork.

    Attributes:
        path: Its path or URL.
        passed_over: What stands in it and is no member (links, devices, unsafe names …), counted.
        damage: Where and how it is cut off, though members before are read; empty if it is whole.
    """

    @property
    def path(self) -> str: ...
    @property
    def passed_over(self) -> Mapping[str, int]: ...
    @property
    def damage(self) -> str: ...
    def __contains__(self, member: str) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...
    def size(self, member: str, *, quoted: bool = False) -> int:
        """Give a member's size in bytes."""

    def read(self, member: str, *, quoted: bool = False) -> bytes:
        """Read a member and check what can be checked."""


def quote_member(member: str) -> str:
    """Write a member's name so that only letters, digits and ``/_.-`` stand as they are.

    >>> quote_member("a b/c::d.jpg")
    'a%20b/c%3A%3Ad.jpg'
    """
    return quote(member, safe="/")


def archive_of(path: str) -> Archive:
    """Give the archive at a path or URL, read once a process for as long as the file is the same.

    Its kind is told by its ending, and whatever is neither ``.tar`` nor ``.parquet`` is a zip.

    Raises:
        MissingInputError: There is no such file.
        ServiceError: Its server does not answer, or ignores range requests.
        RecordError: It is damaged, holds nothing, or is of a kind that is not read in place
            (reason ``bad_image``).
    """
    if is_url(path):
        return _opened(_LOST_SLASH.sub(r"\1://", path), 0, 0, 0)
    try:
        status = os.stat(path)  # noqa: PTH116 - a hot path
    except OSError as error:
        raise unopened(f"archive {path}", error) from None
    return _opened(path, status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _opened(path: str, inode: int, size: int, modified_ns: int) -> Archive:  # noqa: ARG001 - the key
    remote = is_url(path)
    name = path.partition("?")[0].lower() if remote else path.lower()
    if _PACKED_TAR.search(name):
        raise RecordError(
            f"archive {path} is a compressed tar, and those are not read in place",
            reason="bad_image",
            hint="unpack it to a plain .tar (gunzip) or to a folder",
        )
    if remote and name.endswith((".tar", ".parquet")):
        raise RecordError(
            f"archive {path}: only zip files are read over HTTP",
            reason="bad_image",
            hint="download it and put it under ROOT",
        )
    if name.endswith(".parquet"):
        return Parquet(path)
    if name.endswith(".tar"):
        return Tar(LocalFile(path))
    return Zip(RemoteFile(path) if remote else LocalFile(path))


class ArchiveFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """The fsspec face of ``vift://archive!/member``, found through the group ``fsspec.specs``.

    The archive's path is absolute here (see :func:`vision_ift._pictures.images.absolute`) or a URL;
    `datasets` makes two slashes of the three that such a path has, so both mean the same.

    >>> import fsspec
    >>> fsspec.get_filesystem_class("vift").protocol
    'vift'
    """

    protocol = "vift"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        place = path.removeprefix(SCHEME).lstrip("/")
        return _LOST_SLASH.sub(r"\1://", place) if is_url(place) else "/" + place

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
        except (OSError, RecordError):
            return False
        return True
