"""The index of an export, opened: where every conversation lies, in the sequence of the plan.

A *line* is a row's number in the index, shard after shard. In most exports lines stand in the
plan's order; in a uniform one the ``position`` column says where each belongs.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
from numpy.typing import NDArray

from vision_ift._errors import IntegrityError
from vision_ift._export.manifest import INDEX, INDEX_SCHEMA, Manifest

#: Shards whose part of the index is kept open.
_MOST_OPEN = 4096

#: The size of a tar's header.
BLOCK = 512

#: The largest member that is read, in bytes.
MOST_MEMBER_BYTES = 1 << 30

_COLUMNS = {name: place for place, name in enumerate(INDEX_SCHEMA.names)}


class Lines:
    """One shard's part of the index: columns that give Python's own numbers, without a copy.

    Args:
        batch: The part; its buffers are known to be as long as they say.
        shard_bytes: The size of the shard.

    Attributes:
        bad: The lines that lead out of their shard or row; nothing is read by them.
        image_at: Where the pictures of each line start among those of the shard.
        image_ending: For each picture the place of its member's ending in ``endings``.
    """

    __slots__ = (
        "_keys",
        "bad",
        "endings",
        "image_at",
        "image_ending",
        "image_offset",
        "image_size",
        "json_offset",
        "json_size",
        "offset",
        "size",
    )

    def __init__(self, batch: pa.RecordBatch, shard_bytes: int) -> None:
        def column(name: str) -> NDArray[Any]:
            return _numbers(batch.column(_COLUMNS[name]))

        offset, size = column("offset"), column("size")
        json_offset, json_size = column("json_offset"), column("json_size")
        starts, sizes, names = (
            batch.column(_COLUMNS[f"image_{one}"]) for one in ("offsets", "sizes", "names")
        )
        at = _numbers(starts.offsets)
        image_offset, image_size = _numbers(starts.values), _numbers(sizes.values)
        self.image_at = at.data
        self.offset, self.size = offset.data, size.data
        self.json_offset, self.json_size = json_offset.data, json_size.data
        self.image_offset, self.image_size = image_offset.data, image_size.data
        self._keys = _texts(batch.column(_COLUMNS["key"]))
        self.endings, self.image_ending = _endings(names.values)

        # Each step says that what the next one adds cannot pass 63 bits.
        good = (offset >= 0) & (size >= 0) & (offset <= shard_bytes) & (size <= shard_bytes)
        good &= offset + size <= shard_bytes
        good &= (json_offset >= offset + BLOCK) & (json_offset <= shard_bytes)
        good &= (json_size >= 0) & (json_size <= MOST_MEMBER_BYTES)
        good &= json_offset + json_size <= offset + size
        if all(one.offsets.equals(starts.offsets) for one in (sizes, names)):
            rows = np.repeat(np.arange(len(offset)), np.diff(at))
            first, last = int(at[0]), int(at[-1])
            image_offset, image_size = image_offset[first:last], image_size[first:last]
            inside = (image_offset >= offset[rows] + BLOCK) & (image_offset <= json_offset[rows])
            inside &= (image_size >= 0) & (image_size <= MOST_MEMBER_BYTES)
            inside &= image_offset + image_size <= json_offset[rows]
            good[rows[~inside]] = False
        else:
            good[:] = False
        self.bad = frozenset(np.flatnonzero(~good).tolist())

    def key(self, line: int) -> str:
        """A conversation's key."""
        at, data = self._keys
        return str(data[at[line] : at[line + 1]], "utf-8")


def _numbers(array: pa.Array) -> NDArray[Any]:
    """An array of numbers without nulls; Arrow's own ``to_numpy`` imports pandas first."""
    kind = np.int32 if array.type == pa.int32() else np.int64
    _, data = array.buffers()
    if not len(array):
        return np.zeros(0, kind)
    start = array.offset * np.dtype(kind).itemsize
    return np.frombuffer(data, kind, count=len(array), offset=start)


def _texts(array: pa.Array) -> tuple[memoryview, memoryview]:
    """Where each text of an array starts, and the bytes of all."""
    _, offsets, data = array.buffers()
    if not len(array):
        return memoryview(bytes(4)).cast("i"), memoryview(b"")
    at = memoryview(offsets)[4 * array.offset : 4 * (array.offset + len(array) + 1)].cast("i")
    return at, memoryview(data) if data is not None else memoryview(b"")


def _endings(array: pa.Array) -> tuple[list[str], memoryview]:
    """The different endings of a shard's image members, and which of them each member has."""
    at, data = _texts(array)
    bounds = np.array(at)
    lengths = np.diff(bounds)
    endings: list[str] = []
    which = np.zeros(len(array), np.uint32)
    letters = np.frombuffer(data, np.uint8)
    for length in sorted(set(lengths.tolist())):  # np.unique imports numpy.ma first
        places = np.flatnonzero(lengths == length)
        words = letters[bounds[places, None] + np.arange(length)] if length else None
        if words is None or (words == words[0]).all():
            which[places] = len(endings)
            endings.append("" if words is None else words[0].tobytes().decode())
            continue
        several = np.ascontiguousarray(words).view(f"S{length}").ravel().tolist()
        numbers = {word: len(endings) + n for n, word in enumerate(sorted(set(several)))}
        which[places] = [numbers[word] for word in several]
        endings.extend(word.decode() for word in numbers)
    return endings, which.astype(np.min_scalar_type(len(endings))).data


class Index:
    """The whole index.

    Args:
        data: ``index.arrow``.
        manifest: What the export holds.
        where: The export, for messages.
        path: The same file on this machine, where it has a name: one column of all shards is then
            read without mapping pages of the others.

    Raises:
        IntegrityError: It is no index of this export.
    """

    def __init__(
        self, data: pa.Buffer, manifest: Manifest, *, where: str, path: str | None = None
    ) -> None:
        self._data = data
        self._path = path
        self._where = where
        self._manifest = manifest
        try:
            self._reader = ipc.open_file(pa.BufferReader(data))
        except (pa.ArrowInvalid, OSError) as error:
            raise self._broken(str(error)) from None
        if not self._reader.schema.equals(INDEX_SCHEMA):
            raise self._broken("it has other columns than this version of vision_ift writes")
        if self._reader.num_record_batches != len(manifest.shards):
            raise self._broken(
                f"it is about {self._reader.num_record_batches} shards, the manifest names "
                f"{len(manifest.shards)}"
            )
        #: The first line of every shard, and the number of all lines.
        self.starts = np.zeros(len(manifest.shards) + 1, np.int64)
        np.cumsum([shard.rows for shard in manifest.shards], out=self.starts[1:])
        #: Parts that are open: shard to lines.
        self.opened: dict[int, Lines] = {}

    def __len__(self) -> int:
        return int(self.starts[-1])

    def _broken(self, why: str) -> IntegrityError:
        return IntegrityError(
            f"{self._where}/{INDEX} cannot be used: {why.partition(chr(10))[0][:300]}",
            hint="vision-ift verify says what is wrong with the export",
        )

    @cached_property
    def _sources(self) -> Any:
        options = ipc.IpcReadOptions(included_fields=[_COLUMNS["source"]], use_threads=False)
        file = pa.OSFile(self._path) if self._path else pa.BufferReader(self._data)
        return ipc.open_file(file, options=options)

    def _batch(self, shard: int, *, full: bool = False, reader: Any = None) -> pa.RecordBatch:
        try:
            batch = (reader or self._reader).get_batch(shard)
            batch.validate(full=full)
        except (pa.ArrowInvalid, OSError) as error:
            raise self._broken(f"part {shard}: {error}") from None
        if batch.num_rows != self._manifest.shards[shard].rows:
            raise self._broken(
                f"{self._manifest.shards[shard].name} has {batch.num_rows} lines, the manifest "
                f"says {self._manifest.shards[shard].rows}"
            )
        return batch

    def lines(self, shard: int) -> Lines:
        """One shard's part."""
        found = self.opened.get(shard)
        if found is None:
            batch = self._batch(shard, full=True)
            found = Lines(batch, self._manifest.shards[shard].bytes)
            if len(self.opened) >= _MOST_OPEN:
                self.opened.pop(next(iter(self.opened)), None)
            self.opened[shard] = found
        return found

    def sources(self, shard: int) -> NDArray[np.int32]:
        """The sources of one shard's lines."""
        return _numbers(self._batch(shard, reader=self._sources).column(0))

    def positions(self, shard: int) -> NDArray[np.int64]:
        """The positions in the plan of one shard's lines."""
        return _numbers(self._batch(shard).column(_COLUMNS["position"]))

    def counts(self, sources: NDArray[Any], most: int) -> NDArray[np.int64]:
        """Count the rows of each of ``most`` sources, and refuse any other.

        Raises:
            IntegrityError: There is one.
        """
        try:
            counts = np.bincount(sources, minlength=most)
        except (ValueError, MemoryError):  # a negative one, or one that is far too large
            counts = np.zeros(0, np.int64)
        if len(counts) != most:
            raise self._broken(f"it names a source that is none of the {most}")
        return counts

    @cached_property
    def in_order(self) -> bool:
        """Say whether the lines stand in the plan's order."""
        if not any("/" in shard.name for shard in self._manifest.shards):
            return True  # only a uniform export has folders, one a group
        last = -1
        for shard in range(len(self._manifest.shards)):
            positions = self.positions(shard)
            if len(positions) and int(positions[0]) <= last:
                return False
            last = int(positions[-1]) if len(positions) else last
        return True

    @cached_property
    def order(self) -> NDArray[Any] | None:
        """The lines in the plan's order; ``None`` where they stand in it."""
        if self.in_order:
            return None
        positions = np.concatenate(
            [self.positions(shard) for shard in range(len(self._manifest.shards))]
        )
        order = np.argsort(positions, kind="stable")
        if (np.diff(positions[order]) <= 0).any():
            raise self._broken("two lines have one position")
        return order.astype(np.uint32) if len(order) < 2**32 else order

    def split(self, lines: NDArray[np.int64]) -> tuple[list[int], list[int]]:
        """Give the shard of each line and its number in it."""
        shards = np.searchsorted(self.starts, lines, side="right") - 1
        return shards.tolist(), (lines - self.starts[shards]).tolist()
