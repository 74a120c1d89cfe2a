"""Rows out of an export: random access through its index, and only the bytes that are asked for."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, Literal, TypedDict, cast

import msgspec
import xxhash

from vision_ift._conversation import SCHEMA_VERSION
from vision_ift._errors import IntegrityError
from vision_ift._export.manifest import INDEX, MANIFEST, PLAN, Manifest
from vision_ift._stream.blocks import (
    Damage,
    Handed,
    LocalFolder,
    Range,
    RemoteFolder,
    in_order,
    open_folder,
    read_rest,
)
from vision_ift._stream.epochs import ByRows, ByShards, Numbers
from vision_ift._stream.lines import BLOCK, Index, Lines

#: One row as it is given.
Row = dict[str, Any]

#: What turns a picture's bytes and its name into what the row holds for it.
Picture = Callable[[bytes, str], Any]

#: A shard's path in the export; a uniform one has a folder a group.
_SHARD_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,250}/)?[A-Za-z0-9_][A-Za-z0-9_-]*\.tar")

#: Threads that fetch, where the caller asks for none.
_REMOTE_THREADS = 6

#: Rows that one thread reads at once.
_CHUNK_ROWS = 16


class _Signatures(dict[str, bytes]):
    """What the members of each ending begin with; ``00.jpg`` is a ``jpg``."""

    def __missing__(self, ending: str) -> bytes:
        found = self.get(ending.rpartition(".")[2], b"") if "." in ending else b""
        self[ending] = found
        return found


_SIGNATURES = _Signatures(jpg=b"\xff\xd8\xff", png=b"\x89PNG\r\n\x1a\n", gif=b"GIF8", webp=b"RIFF")


class _Part(TypedDict):
    type: str
    text: str | None


class _Turn(TypedDict):
    role: str
    content: list[_Part]


_TYPES: dict[str, Any] = {
    "id": str,
    "image_paths": list[str],
    "split": str,
    "messages": list[_Turn],
    "source": str,
    "task": str | None,
    "language": str | None,
    "license": str | None,
    "meta": str,
}


def parser(columns: Iterable[str]) -> Callable[[Any], Row] | None:
    """Make what reads these columns of a JSON member, typed; ``None`` where none is asked for."""
    wanted = {name: _TYPES[name] for name in columns if name in _TYPES}
    if not wanted:
        return None
    kind = TypedDict("Wanted", wanted)  # type: ignore[misc]  # the columns are the caller's
    decoder: Any = msgspec.json.Decoder(kind)
    return cast(Callable[[Any], Row], decoder.decode)


def as_bytes(data: bytes, path: str) -> dict[str, Any]:
    """What a row holds for a picture that is not decoded."""
    return {"bytes": data, "path": path}


class Lost:
    """A position whose row cannot be given: why and where."""

    __slots__ = ("key", "offset", "reason", "shard", "why")

    def __init__(self, damage: Damage, shard: str, key: str, offset: int) -> None:
        self.reason = damage.reason
        self.why = damage.why
        self.shard = shard
        self.key = key
        self.offset = offset


class ExportRows:
    """The rows of an export.

    Args:
        place: Its folder or URL.
        seed, order: What later epochs are made of; ``order`` ``None`` is ``shards`` behind a URL.
        columns: What the rows hold.
        picture: Makes what they hold for a picture; ``None``: its bytes and its name.
        threads: Threads that read ahead; 0 reads in the caller's.
        handed: The index of a remote export, where another process has fetched it.

    Raises:
        MissingInputError: There is no finished export.
        IntegrityError: Its manifest or index is damaged.
        ServiceError: Its store does not answer.
    """

    def __init__(
        self,
        place: str,
        *,
        seed: int,
        order: Literal["rows", "shards"] | None,
        columns: tuple[str, ...],
        picture: Picture | None,
        threads: int,
        handed: Handed | None = None,
    ) -> None:
        self._folder: LocalFolder | RemoteFolder = open_folder(place, handed)
        self._threads = threads
        self.order: Literal["rows", "shards"] = order or (
            "shards" if self._folder.remote else "rows"
        )
        self._seed = seed
        self._columns = columns
        self._parse = parser(columns)
        self._pictures = "images" in columns
        self._picture = picture
        self.manifest = self._read_manifest()
        self._shards = [(shard.name, shard.bytes) for shard in self.manifest.shards]
        self.rows = self.manifest.rows
        self.digest = self.manifest.export_digest
        if not all(_SHARD_NAME.fullmatch(name) for name, _ in self._shards):
            raise IntegrityError(f"{self._folder.place}/{MANIFEST} names what cannot be a shard")

    def _read_manifest(self) -> Manifest:
        where = f"{self._folder.place}/{MANIFEST}"
        try:
            manifest = msgspec.json.decode(self._folder.fetch(MANIFEST), type=Manifest)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise IntegrityError(f"{where} cannot be read: {error}") from None
        if manifest.schema_version != SCHEMA_VERSION:
            raise IntegrityError(
                f"{where} is of version {manifest.schema_version}; this is {SCHEMA_VERSION}"
            )
        return manifest

    @cached_property
    def _index(self) -> Index:
        folder = self._folder
        if isinstance(folder, RemoteFolder):
            path, data = None, folder.index(INDEX, self.manifest.files.get(INDEX, ""))
        else:
            path, data = f"{folder.base}/{INDEX}", folder.index(INDEX)
        index = Index(data, self.manifest, where=folder.place, path=path)
        if len(index) != self.rows:
            raise IntegrityError(f"{self._folder.place}: the manifest's rows do not add up")
        return index

    @cached_property
    def _order(self) -> ByRows | ByShards:
        if self.order == "rows":
            names = [part.name for part in self.manifest.parts]
            return ByRows(self._index, names, seed=self._seed)
        lock = self._folder.fetch(PLAN)
        digest = self.manifest.files.get(PLAN)
        if digest and xxhash.xxh3_128_hexdigest(lock) != digest:
            raise IntegrityError(
                f"{self._folder.place}/{PLAN} is not the file that the manifest names",
                hint="vision-ift verify says what is wrong with the export",
            )
        return ByShards(self._index, lock, self.manifest.plan_digest, seed=self._seed)

    @property
    def place(self) -> str:
        """Where the export lies: what a link led to when it was opened."""
        return self._folder.base

    @property
    def handed(self) -> Handed | None:
        """The index of a remote export that this process has fetched."""
        return self._folder.handed if isinstance(self._folder, RemoteFolder) else None

    def first_positions(self, epoch: int, positions: Numbers) -> Numbers:
        """Give the positions of epoch 0 whose rows stand at positions of another one."""
        return self._order.first_positions(epoch, positions)

    def read(self, windows: Iterable[tuple[int, Numbers]]) -> Iterator[Row | Lost]:
        """Yield a row for each position of (epoch, positions), in their sequence."""
        places = itertools.chain.from_iterable(
            zip(*self._index.split(self._order.lines(epoch, positions)), strict=True)
            for epoch, positions in windows
        )
        if isinstance(self._folder, RemoteFolder):
            return self._read_remote(self._folder, places)
        folder = self._folder
        if not self._threads:
            return self._read_local(folder, places)
        several = in_order(
            lambda some: list(self._read_local(folder, some)),
            _chunks(places),
            threads=self._threads,
        )
        return itertools.chain.from_iterable(several)

    def _read_local(
        self, folder: LocalFolder, places: Iterable[tuple[int, int]]
    ) -> Iterator[Row | Lost]:
        shards, opened, parts = self._shards, folder.opened, self._index.opened
        for shard, line in places:
            name, size = shards[shard]
            lines = parts.get(shard) or self._index.lines(shard)
            try:
                file = opened.get(name) or folder.file(name, size)
                row = self._row(lines, line, os.pread, file.descriptor)
            except Damage as damage:
                yield Lost(damage, name, lines.key(line), lines.offset[line])
            except OSError as error:
                failed = Damage("read_error", f"reading failed: {error.strerror}")
                yield Lost(failed, name, lines.key(line), lines.offset[line])
            else:
                yield row

    def _read_remote(
        self, folder: RemoteFolder, places: Iterable[tuple[int, int]]
    ) -> Iterator[Row | Lost]:
        # The ranges run ahead of the rows, by as many as are under way.
        ahead, behind = itertools.tee(places)
        names = [name for name, _ in self._shards]
        ranges = (self._span(shard, line) for shard, line in ahead)
        found = folder.read(names, ranges, threads=self._threads or _REMOTE_THREADS)
        for (shard, line), data in zip(behind, found, strict=True):
            lines = self._index.lines(shard)
            try:
                if isinstance(data, Damage):
                    raise data
                row = self._row(lines, line, _cut, (data, self._span(shard, line).start))
            except Damage as damage:
                yield Lost(damage, names[shard], lines.key(line), lines.offset[line])
            else:
                yield row

    def _span(self, shard: int, line: int) -> Range:
        """The bytes of a shard that a row needs; none where its line cannot be right."""
        lines = self._index.lines(shard)
        if line in lines.bad:
            return Range(shard, 0, 0)
        low, high = lines.image_at[line], lines.image_at[line + 1] - 1
        start, stop = lines.json_offset[line] - BLOCK, lines.json_offset[line]
        if self._parse is not None:
            stop += lines.json_size[line]
        if self._pictures and low <= high:
            start = lines.image_offset[low]
            if self._parse is None:
                stop = lines.image_offset[high] + lines.image_size[high]
        elif self._parse is None:
            stop = start
        return Range(shard, start, stop)

    def _row(
        self, lines: Lines, line: int, piece: Callable[[Any, int, int], bytes], source: Any
    ) -> Row:
        """Put a row together from pieces of its shard."""
        if line in lines.bad:
            raise Damage("bad_index", "the index leads out of the shard, or of the row")
        key = lines.key(line)
        images: list[Any] = []
        if self._pictures:
            picture = self._picture
            at = lines.image_at
            for number in range(at[line], at[line + 1]):
                size, start = lines.image_size[number], lines.image_offset[number]
                data = piece(source, size, start)
                if len(data) != size:
                    data = read_rest(piece, source, data, size, start)
                name = lines.endings[lines.image_ending[number]]
                if not data.startswith(_SIGNATURES[name]):
                    raise Damage("bad_bytes", f"{key}.{name} does not begin as its format does")
                path = f"{key}.{name}"
                images.append(picture(data, path) if picture else {"bytes": data, "path": path})
        if (parse := self._parse) is None:
            return {"images": images}
        size, start = lines.json_size[line] + BLOCK, lines.json_offset[line] - BLOCK
        data = piece(source, size, start)
        if len(data) != size:
            data = read_rest(piece, source, data, size, start)
        if not data.startswith(f"{key}.json\0".encode()):
            raise Damage("bad_bytes", f"no header of {key}.json stands before its contents")
        try:
            row = parse(memoryview(data)[BLOCK:])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Damage("broken_json", f"{key}.json: {error}") from None
        if not self._pictures:
            return row
        row["images"] = images
        return {name: row[name] for name in self._columns}


def _cut(source: tuple[memoryview, int], size: int, offset: int) -> bytes:
    """Do what ``os.pread`` does on what was fetched."""
    data, start = source
    return bytes(data[offset - start : offset - start + size])


def _chunks(places: Iterable[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    several = iter(places)
    while some := list(itertools.islice(several, _CHUNK_ROWS)):
        yield some
