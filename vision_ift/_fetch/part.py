"""A file that is arriving: ``.NAME.part`` and a note of how much of it is known to be good."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from vision_ift._disk import explained, sync_folder, write_file
from vision_ift._origin import shown

#: Bytes read of a file at once.
CHUNK_BYTES = 1 << 20

#: After so many new bytes the part is made durable and the note is renewed.
NOTE_BYTES = 64 << 20


class Arrived(NamedTuple):
    """What a download brought: its size, SHA-256 in hex, and the server's name of the version."""

    bytes: int
    sha256: str
    etag: str


def part_of(path: Path) -> Path:
    """Where a file lies while it arrives."""
    return path.with_name(f".{path.name}.part")


class _Note(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a part is known to be good."""

    url: str
    etag: str
    bytes: int
    sha256: str


class Part:
    """A file that is arriving; only what its note vouches for is taken up again.

    A crash can leave a file longer than what reached the disk, so the bytes up to the note are
    read again and held against its digest before the server is asked for the rest.
    """

    def __init__(self, path: Path, *, url: str) -> None:
        self._path = path
        self._place = part_of(path)
        self._note_place = path.with_name(f".{path.name}.part.json")
        self._url = shown(url)
        self.etag = ""
        self.bytes = 0
        self._noted = 0
        self._hash = hashlib.sha256()

    def __enter__(self) -> Self:
        with explained(self._place):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._file = os.fdopen(os.open(self._place, flags, 0o666), "r+b", buffering=0)
            if not self._resume():
                self.restart()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None and self.bytes:
                self.note()
        finally:
            self._file.close()
        if kind is not None and not self.bytes:
            self._place.unlink(missing_ok=True)
            self._note_place.unlink(missing_ok=True)

    def _resume(self) -> bool:
        try:
            note = msgspec.json.decode(self._note_place.read_bytes(), type=_Note)
        except (FileNotFoundError, msgspec.DecodeError):
            return False
        if note.url != self._url or os.fstat(self._file.fileno()).st_size < note.bytes:
            return False
        left = note.bytes
        while left:
            data = self._file.read(min(CHUNK_BYTES, left))
            if not data:
                return False
            self._hash.update(data)
            left -= len(data)
        if self.digest != note.sha256:
            return False
        self._file.truncate(note.bytes)
        self.bytes = self._noted = note.bytes
        self.etag = note.etag
        return True

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def restart(self) -> None:
        """Begin again from nothing."""
        with explained(self._place):
            self._note_place.unlink(missing_ok=True)
            self._file.seek(0)
            self._file.truncate(0)
        self._hash = hashlib.sha256()
        self.etag = ""
        self.bytes = self._noted = 0

    def write(self, data: bytes) -> None:
        with explained(self._place):
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
        self._hash.update(data)
        self.bytes += len(data)
        if self.bytes - self._noted >= NOTE_BYTES:
            self.note()

    def note(self) -> None:
        """Make what is there durable, and say so."""
        if self.bytes == self._noted:
            return
        with explained(self._place):
            os.fsync(self._file.fileno())
        note = _Note(url=self._url, etag=self.etag, bytes=self.bytes, sha256=self.digest)
        write_file(self._note_place, msgspec.json.encode(note))
        self._noted = self.bytes

    def git_sha1(self) -> str:
        digest = hashlib.sha1(b"blob %d\0" % self.bytes, usedforsecurity=False)
        self._file.seek(0)
        while data := self._file.read(CHUNK_BYTES):
            digest.update(data)
        return digest.hexdigest()

    def finish(self) -> Arrived:
        """Give the file its name."""
        with explained(self._path):
            os.fsync(self._file.fileno())
            self._place.replace(self._path)
            self._note_place.unlink(missing_ok=True)
            sync_folder(self._path.parent)
        return Arrived(self.bytes, self.digest, self.etag)
