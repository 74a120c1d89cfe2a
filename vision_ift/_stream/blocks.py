"""The bytes of an export, on this machine or behind a URL.

On this machine a shard is opened once and read by ``pread``. Behind a URL shards are read by
ranges: neighbours are fetched in one request, a few requests are under way at once, and what waits
in memory is bounded. Web servers are asked by the client that reads archives in place, every other
store by fsspec; retries are theirs.
"""

from __future__ import annotations

import mmap
import os
import re
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import xxhash

from vision_ift._archives.ranges import RemoteFile, is_url
from vision_ift._errors import (
    IntegrityError,
    MissingInputError,
    RecordError,
    ServiceError,
    unopened,
)

T = TypeVar("T")
R = TypeVar("R")

#: The largest index that is fetched, in bytes: 16 GiB are about 100 million rows.
MOST_INDEX_BYTES = 16 << 30

#: The largest JSON file of an export that is read whole.
MOST_JSON_BYTES = 256 << 20

#: Ranges closer than this are fetched together.
_GAP_BYTES = 64 << 10

#: One request fetches about so much, at least one row.
_BLOCK_BYTES = 4 << 20

#: Whole files are fetched in pieces of this size.
_PIECE_BYTES = 16 << 20

#: Shards kept open.
_MOST_OPEN = 256

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::[A-Za-z][A-Za-z0-9+.-]*)*://")


class Damage(Exception):  # noqa: N818 - it never leaves the package; a policy decides what it is
    """One row cannot be given: why, as a stable word and in words."""

    def __init__(self, reason: str, why: str) -> None:
        super().__init__(why)
        self.reason = reason
        self.why = why


class Range(NamedTuple):
    """Some bytes of a shard."""

    shard: int
    start: int
    stop: int


def is_remote(place: str) -> bool:
    """Tell a URL from a path on this machine; ``file://`` is a path."""
    return bool(_URL.match(place)) and not place.startswith("file://")


class _File:
    """An open file that closes when nobody reads it any more."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


class LocalFolder:
    """An export on this machine."""

    remote = False

    def __init__(self, place: str) -> None:
        self.place = place.removeprefix("file://")
        #: Where that led when it was opened: a link that is turned later must not mix two exports.
        self.base = os.path.realpath(self.place)
        #: Shards that are open, by name.
        self.opened: dict[str, _File] = {}
        self._lock = threading.Lock()

    def fetch(self, name: str) -> bytes:
        """Read a small file whole.

        Raises:
            MissingInputError: There is none.
            IntegrityError: It is too large to be what it should be.
        """
        path = Path(self.base) / name
        told = f"{self.place}/{name}"
        try:
            size = path.stat().st_size
            if size > MOST_JSON_BYTES:
                raise IntegrityError(f"{told} holds {size:,} bytes; it cannot be ours")
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise MissingInputError(
                f"{told} is not there", hint=f"is {self.place} a finished export of vision-ift?"
            ) from None
        except OSError as error:
            raise unopened(told, error) from None

    def index(self, name: str) -> pa.Buffer:
        """Map the index into memory; its digest is left to ``verify``, as it may be gigabytes."""
        path = Path(self.base) / name
        try:
            with path.open("rb") as file:
                return pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except ValueError:
            raise IntegrityError(f"{self.place}/{name} is empty") from None
        except OSError as error:
            raise MissingInputError(
                f"{self.place}/{name} cannot be opened: {error.strerror}",
                hint=f"is {self.place} a finished export of vision-ift?",
            ) from None

    def file(self, name: str, size: int) -> _File:
        """Give an open shard of ``size`` bytes.

        Raises:
            Damage: It is not there, or has another size.
        """
        file = self.opened.get(name)
        if file is not None:
            return file
        try:
            descriptor = os.open(f"{self.base}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Damage("missing_shard", f"the shard cannot be opened: {error.strerror}") from None
        file = _File(descriptor)
        found = os.fstat(descriptor).st_size
        if found != size:
            raise Damage("shard_size", f"the shard holds {found:,} bytes, not {size:,}")
        with self._lock:
            self.opened[name] = file
            if len(self.opened) > _MOST_OPEN:
                self.opened.pop(next(iter(self.opened)), None)
        return file


def read_rest(
    piece: Callable[[Any, int, int], bytes], source: Any, data: bytes, size: int, offset: int
) -> bytes:
    """Go on where a read gave fewer bytes than asked for: a signal, or more than 2 GiB.

    Raises:
        Damage: There are no more.
    """
    while len(data) < size:
        more = piece(source, size - len(data), offset + len(data))
        if not more:
            raise Damage("short_read", f"{len(data):,} bytes of {size:,} are there")
        data += more
    return data


class _WebServer:
    """Files of a web server, read with our own patience: the two calls that we need of fsspec."""

    def __init__(self) -> None:
        self._files: dict[str, RemoteFile] = {}

    def _file(self, url: str) -> RemoteFile:
        if (found := self._files.get(url)) is None:
            found = self._files[url] = RemoteFile(url)
        return found

    def size(self, url: str) -> int:
        return self._file(url).size

    def cat_file(self, url: str, *, start: int, end: int) -> bytes:
        return self._file(url).read_at(start, end - start)


class Handed(NamedTuple):
    """An index that a process of this machine has fetched: a file that it holds open."""

    process: int
    descriptor: int
    size: int
    digest: str


def _mapped_again(handed: Handed) -> pa.Buffer | None:
    """Map what another process has fetched; ``None`` where that process or file is gone."""
    try:
        with Path(f"/proc/{handed.process}/fd/{handed.descriptor}").open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):
        return None
    if len(data) != handed.size or xxhash.xxh3_128_hexdigest(data) != handed.digest:
        return None
    return pa.py_buffer(data)


class RemoteFolder:
    """An export behind a URL: a web server's by our own client, all else through fsspec.

    Args:
        place: The URL.
        handed: The index, where another process has fetched it already.
    """

    remote = True

    def __init__(self, place: str, handed: Handed | None = None) -> None:
        self.place = self.base = place.rstrip("/")
        self._handed = handed
        self._store: Any
        if is_url(self.place):
            self._store, self._path = _WebServer(), self.place
            return
        import fsspec

        try:
            self._store, self._path = fsspec.core.url_to_fs(self.place)
        except (ImportError, ValueError) as error:
            raise MissingInputError(f"{place} cannot be read: {error}") from None

    def _call(self, name: str, function: Callable[[str], T]) -> T:
        """Call the store and turn its errors into ours."""
        try:
            return function(f"{self._path}/{name}")
        except (FileNotFoundError, MissingInputError):
            raise MissingInputError(
                f"{self.place}/{name} is not there",
                hint=f"is {self.place} a finished export of vision-ift?",
            ) from None
        except RecordError as error:
            raise IntegrityError(error.detail) from None
        except Exception as error:  # every store has errors of its own, of no common type
            told = getattr(error, "message", str(error)).partition("\n")[0][:300]
            raise ServiceError(
                f"reading {self.place}/{name} failed: {told or type(error).__name__}",
                hint="try again later: a stream goes on from its cursor",
            ) from error

    def fetch(self, name: str) -> bytes:
        """Read a small file whole; errors as for :meth:`LocalFolder.fetch`."""
        size = self._size(name)
        if size > MOST_JSON_BYTES:
            raise IntegrityError(f"{self.place}/{name} holds {size:,} bytes; it cannot be ours")
        return self._piece(name, 0, size)

    def _size(self, name: str) -> int:
        found = self._call(name, self._store.size)
        if not isinstance(found, int):
            raise ServiceError(f"{self.place}/{name}: the server does not tell its size")
        return found

    def _piece(self, name: str, start: int, stop: int) -> bytes:
        if start == stop:
            return b""
        data: bytes = self._call(
            name, lambda path: self._store.cat_file(path, start=start, end=stop)
        )
        if len(data) != stop - start:
            raise ServiceError(
                f"{self.place}/{name}: {stop - start:,} bytes from {start:,} on were asked for, "
                f"{len(data):,} came",
                hint="the file has changed, or its server cannot give ranges",
            )
        return data

    def index(self, name: str, digest: str) -> pa.Buffer:
        """Fetch the index into a file without a name and map that.

        Args:
            name: Its path in the export.
            digest: Its xxh3-128; empty where the manifest does not say it.

        Raises:
            IntegrityError: It is too large, or has another digest.
        """
        if self._handed is not None and (data := _mapped_again(self._handed)) is not None:
            return data
        size = self._size(name)
        if not 0 < size <= MOST_INDEX_BYTES:
            raise IntegrityError(f"{self.place}/{name} holds {size:,} bytes; it cannot be ours")
        found = xxhash.xxh3_128()
        with tempfile.TemporaryFile() as file:
            for start in range(0, size, _PIECE_BYTES):
                piece = self._piece(name, start, min(start + _PIECE_BYTES, size))
                found.update(piece)
                file.write(piece)
            file.flush()
            kept = _File(os.dup(file.fileno()))  # for processes that this one starts
        if digest and found.hexdigest() != digest:
            raise IntegrityError(
                f"{self.place}/{name} has the digest {found.hexdigest()}, and the manifest names "
                f"{digest}",
                hint="it was changed, or is still being replaced: try again later",
            )
        self._index_file = kept
        self._handed = Handed(os.getpid(), kept.descriptor, size, found.hexdigest())
        return pa.py_buffer(mmap.mmap(kept.descriptor, 0, access=mmap.ACCESS_READ))

    @property
    def handed(self) -> Handed | None:
        """Where another process of this machine finds the index; ``None`` before it is read."""
        return self._handed

    def read(
        self, names: Sequence[str], ranges: Iterator[Range], *, threads: int
    ) -> Iterator[memoryview | Damage]:
        """Yield the bytes of each range, in order; neighbours come in one request.

        What is under way or waits is at most ``2 * threads`` blocks.

        Raises:
            ServiceError: The store does not answer, or gives other bytes than asked for.
        """

        def fetch(block: list[Range]) -> list[memoryview | Damage]:
            start = min(one.start for one in block)
            stop = max(one.stop for one in block)
            try:
                data = memoryview(self._piece(names[block[0].shard], start, stop))
            except MissingInputError as error:
                return [Damage("missing_shard", error.message) for _ in block]
            return [data[one.start - start : one.stop - start] for one in block]

        for found in in_order(fetch, _blocks(ranges), threads=threads):
            yield from found


def _blocks(ranges: Iterator[Range]) -> Iterator[list[Range]]:
    """Gather ranges that stand close together, one after the other."""
    block: list[Range] = []
    for one in ranges:
        if block:
            last = block[-1]
            near = one.shard == last.shard and 0 <= one.start - last.stop <= _GAP_BYTES
            if not near or one.stop - block[0].start > _BLOCK_BYTES:
                yield block
                block = []
        block.append(one)
    if block:
        yield block


def in_order(
    function: Callable[[T], R], things: Iterator[T], *, threads: int, ahead: int = 2
) -> Iterator[R]:
    """Call a function on each of many things, by threads, and yield the answers in order.

    At most ``ahead * threads`` are under way or wait. Without threads it is a plain map.
    """
    if threads < 1:
        yield from map(function, things)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="vision_ift")
    waiting: deque[Future[R]] = deque()
    try:
        for thing in things:
            waiting.append(pool.submit(function, thing))
            if len(waiting) >= ahead * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        pool.shutdown(wait=True, cancel_futures=True)


def open_folder(place: str, handed: Handed | None = None) -> LocalFolder | RemoteFolder:
    """Open the folder of an export, by path or URL."""
    return RemoteFolder(place, handed) if is_remote(place) else LocalFolder(place)
