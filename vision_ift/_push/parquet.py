"""One Parquet shard: some rows with their pictures inside, as `datasets` and the viewer read them.

Pictures are bytes as they are. Row groups are bounded by bytes, since the Hub's viewer refuses to
scan more than 286 MiB at once, and so that an array of pictures stays far below the 2 GB that its
32-bit offsets reach. Columns of pictures are not compressed (they are already), the others are; a
page index and content-defined chunks are written as `datasets` writes them, so a store that keeps
equal chunks once keeps them once. Equal rows give equal bytes with the same version of pyarrow.

Sources: Parquet page index, https://parquet.apache.org/docs/file-format/pageindex/; the viewer's
limit, https://huggingface.co/docs/dataset-viewer.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from vision_ift._archives.archive import SCHEME
from vision_ift._conversation import SCHEMA
from vision_ift._disk import explained
from vision_ift._errors import DiskError, IntegrityError, MissingInputError, RecordError
from vision_ift._pictures.images import Images, image_format, open_file
from vision_ift._push.rows import Cut, Rows

#: A row group ends before its pictures pass so many bytes; one row may hold more.
GROUP_BYTES = 48_000_000
GROUP_ROWS = 10_000

#: A row group, and the pictures of the row that no longer fits, mostly.
_BUFFER_BYTES = GROUP_BYTES * 5 // 4

#: More in one row cannot stand in an array of pictures.
_MOST_ROW_BYTES = 1_900_000_000

#: Rows whose words are read at once.
_STEP_ROWS = 1024

#: How many dropped rows of a reason are named.
_FIRST = 10

#: Those of `datasets` 5, in the file's metadata under this name.
_CHUNKING = {"min_chunk_size": 256 * 1024, "max_chunk_size": 1024 * 1024, "norm_level": 0}
_CHUNKING_KEY = "content_defined_chunking"

#: pyarrow cuts pages by content since this version.
_CHUNKING_SINCE = 21

_PICTURES = ("images.list.element.bytes", "images.list.element.path")
_WORDS = (
    "id",
    "image_paths.list.element",
    "split",
    "messages.list.element.role",
    "messages.list.element.content.list.element.type",
    "messages.list.element.content.list.element.text",
    "source",
    "task",
    "language",
    "license",
    "meta",
)


class Share(msgspec.Struct, kw_only=True):
    """What one source has in a shard."""

    rows: int = 0
    images: int = 0
    licenses: dict[str, int] = {}
    languages: dict[str, int] = {}


class Blob(msgspec.Struct, kw_only=True):
    """A file of a repository, as it is pushed.

    Attributes:
        path: In the repository.
        sha256, bytes: Of the file.
    """

    path: str
    sha256: str = ""
    bytes: int = 0


class Shard(Blob, kw_only=True):
    """One finished file of a split; without a sha256 where all rows were dropped.

    Attributes:
        split, number: Which one.
        rows, images: Conversations and pictures in it.
        row_bytes: What its rows take in memory, as `datasets` counts them.
        shares: By source.
        dropped: Reason to number of rows left out.
        dropped_first: Reason to the first ten of them: the row's id and the picture's reference.
    """

    split: str
    number: int
    rows: int = 0
    images: int = 0
    row_bytes: int = 0
    shares: dict[str, Share] = {}
    dropped: dict[str, int] = {}
    dropped_first: dict[str, list[dict[str, str]]] = {}


def write_shard(
    rows: Rows, how: Cut, number: int, path: str, file: Path, *, strict: bool = False
) -> Shard:
    """Write one shard to a file that is not there yet.

    Args:
        rows, how, number: What it is a function of.
        path: Its name in the repository.
        file: Where to write it here; it stays away where all rows are dropped.
        strict: Stop at the first row that cannot be written, instead of dropping it.

    Raises:
        RecordError: With ``strict``, a picture is missing or no picture.
        IntegrityError: A picture changed while it was read.
        DiskError: The disk is full or failing.
    """
    shard = Shard(path=path, split=rows.split, number=number)
    with explained(file):
        try:
            with file.open("xb") as handle:
                sink = _Hashed(handle)
                _write(rows, how.span(number), shard, sink, strict=strict)
            if shard.rows:
                shard.sha256, shard.bytes = sink.digest.hexdigest(), sink.size
            else:
                file.unlink()
        except BaseException:
            file.unlink(missing_ok=True)
            raise
    return shard


class _Hashed:
    """A file that is hashed while it is written, so that nobody has to read it again for that."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0
        self.closed = False

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self._file.write(data)
        self.size += len(data)
        return len(data)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self.closed = True


def _write(rows: Rows, span: tuple[int, int], shard: Shard, sink: _Hashed, *, strict: bool) -> None:
    chunking = int(pa.__version__.partition(".")[0]) >= _CHUNKING_SINCE
    options: dict[str, Any] = {"use_content_defined_chunking": _CHUNKING} if chunking else {}
    writer = pq.ParquetWriter(
        pa.PythonFile(sink, mode="w"),
        SCHEMA,
        compression=dict.fromkeys(_PICTURES, "none") | dict.fromkeys(_WORDS, "zstd"),
        use_dictionary=list(_WORDS),
        # The smallest and the largest picture tell nothing.
        write_statistics=list(_WORDS),
        write_page_index=True,
        **options,
    )
    try:
        group = _Group()
        for row, references in _each(rows, span):
            try:
                group.read(rows, references)
            except RecordError as error:
                if strict:
                    error.hint = "without strict the row is dropped and counted"
                    raise
                _drop(shard, error, row.column("id")[0].as_py())
                continue
            if group.full:
                _flush(group, writer, shard)
            group.keep(row)
        _flush(group, writer, shard)
        if chunking:
            writer.add_key_value_metadata({_CHUNKING_KEY: json.dumps(_CHUNKING)})
    finally:
        writer.close()


def _each(rows: Rows, span: tuple[int, int]) -> Iterator[tuple[pa.RecordBatch, list[str]]]:
    """Yield every row as a batch of one, and the references of its pictures."""
    for start in range(*span, _STEP_ROWS):
        read = rows.take(np.arange(start, min(start + _STEP_ROWS, span[1]), dtype=np.int64))
        (batch,) = read.combine_chunks().to_batches()
        column = batch.column("images")
        at = (column.offsets.to_numpy() - column.offsets[0].as_py()).tolist()
        references = column.flatten().field("path").to_pylist()
        for number in range(batch.num_rows):
            yield batch.slice(number, 1), references[at[number] : at[number + 1]]


class _Group:
    """The row group that is being filled: pictures in one buffer, words as slices of tables."""

    def __init__(self) -> None:
        self._buffer: NDArray[np.uint8] = np.empty(_BUFFER_BYTES, np.uint8)
        self._images: Images | None = None
        self._clear()

    def _clear(self) -> None:
        self.rows: list[pa.RecordBatch] = []
        self._counts: list[int] = []
        self._ends: list[int] = []
        self._names: list[str] = []
        self._kept = 0  # pictures of the rows that are kept
        self._new: list[int] = []

    @property
    def _end(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def full(self) -> bool:
        """Whether the row that was read last belongs to the next group."""
        return bool(self.rows) and (self._end > GROUP_BYTES or len(self.rows) >= GROUP_ROWS)

    def read(self, rows: Rows, references: list[str]) -> None:
        """Read a row's pictures behind those that are kept.

        Raises:
            RecordError: One is missing, or no picture; nothing of the row is kept then.
        """
        if self._images is None:
            self._images = Images(rows.root)
        first = self._end
        try:
            for reference in references:
                self._read(self._images, reference)
            if self._end - first > _MOST_ROW_BYTES:
                raise RecordError(
                    f"its pictures hold {self._end - first:,} bytes; at most "
                    f"{_MOST_ROW_BYTES:,} stand in a row",
                    reason="bad_image",
                    record=references[0],
                )
        except RecordError:
            del self._ends[self._kept :], self._names[self._kept :]
            raise

    def _read(self, images: Images, reference: str) -> None:
        try:
            if reference.startswith(SCHEME):
                data = images.read(reference)
                view = self._room(len(data))
                view[:] = np.frombuffer(data, np.uint8)
            else:
                view = self._read_file(f"{images.root}/{reference}", reference)
        except MissingInputError as error:
            raise RecordError(error.message, reason="missing_image", record=reference) from None
        except RecordError as error:
            raise RecordError(error.detail, reason=error.reason, record=reference) from None
        kind = image_format(view[:16].tobytes())
        if kind is None:
            raise RecordError(
                "the picture is not JPEG, PNG, WebP or GIF", reason="bad_image", record=reference
            )
        # Where `datasets` finds a file of this name it forgets the bytes, so it is one that no
        # folder has: the digest of the picture.
        self._names.append(f"{xxhash.xxh3_128_hexdigest(view.data)}.{kind}")
        self._ends.append(self._end + len(view))

    def _read_file(self, path: str, reference: str) -> NDArray[np.uint8]:
        file, size = open_file(path)
        try:
            view = self._room(size)
            done = 0
            while done < size and (count := os.preadv(file, [view.data[done:]], done)):
                done += count
            if done < size or os.pread(file, 1, size):
                raise IntegrityError(
                    f"{reference} changed while it was read",
                    hint="run the same command again once nobody writes it",
                )
        except OSError as error:
            if isinstance(error, (MissingInputError, DiskError)):
                raise
            raise DiskError(f"reading {reference} failed: {error.strerror}") from error
        finally:
            os.close(file)
        return view

    def _room(self, size: int) -> NDArray[np.uint8]:
        end = self._end
        if end + size > len(self._buffer):
            larger = np.empty(max(end + size, end + _BUFFER_BYTES // 4), np.uint8)
            larger[:end] = self._buffer[:end]
            self._buffer = larger
        return self._buffer[end : end + size]

    def keep(self, row: pa.RecordBatch) -> None:
        """Take the row whose pictures were read last."""
        self.rows.append(row)
        self._counts.append(len(self._ends) - self._kept)
        self._kept = len(self._ends)

    def table(self) -> pa.Table:
        """Give the rows that are kept, as they are written; the pictures are not copied."""
        words = pa.Table.from_batches(self.rows).combine_chunks()
        ends = np.array([0, *self._ends[: self._kept]], np.int64).astype(np.int32)
        data = pa.BinaryArray.from_buffers(
            pa.binary(), self._kept, [None, pa.py_buffer(ends), pa.py_buffer(self._buffer)]
        )
        pictures = pa.StructArray.from_arrays(
            [data, pa.array(self._names[: self._kept], pa.string())],
            fields=list(SCHEMA.field("images").type.value_type),
        )
        counts = np.concatenate([[0], np.cumsum(np.array(self._counts, np.int64))])
        lists = pa.ListArray.from_arrays(
            pa.array(counts.astype(np.int32)), pictures, type=SCHEMA.field("images").type
        )
        place = SCHEMA.get_field_index("images")
        return words.set_column(place, SCHEMA.field(place), lists).cast(SCHEMA)

    def next(self) -> None:
        """Begin the next group with what was read and is not kept."""
        end = self._ends[self._kept - 1] if self._kept else 0
        rest, names = self._ends[self._kept :], self._names[self._kept :]
        more = (rest[-1] if rest else end) - end
        buffer = (
            np.empty(_BUFFER_BYTES, np.uint8) if len(self._buffer) > _BUFFER_BYTES >= more else None
        )
        target = self._buffer if buffer is None else buffer
        target[:more] = self._buffer[end : end + more].copy()
        self._buffer = target
        self._clear()
        self._ends, self._names = [one - end for one in rest], names


def _flush(group: _Group, writer: pq.ParquetWriter, shard: Shard) -> None:
    if not group.rows:
        return
    rows = group.table()
    writer.write_table(rows, row_group_size=len(rows))
    _count(shard, rows)
    shard.row_bytes += rows.nbytes
    group.next()


def _count(shard: Shard, rows: pa.Table) -> None:
    shard.rows += len(rows)
    counts = np.diff(rows.column("images").combine_chunks().offsets.to_numpy()).tolist()
    shard.images += sum(counts)
    names = (rows.column(name).to_pylist() for name in ("source", "license", "language"))
    for source, license_, language, images in zip(*names, counts, strict=True):
        share = shard.shares.setdefault(source, Share())
        share.rows += 1
        share.images += images
        for found, value in ((share.licenses, license_), (share.languages, language)):
            found[value or "unknown"] = found.get(value or "unknown", 0) + 1


def _drop(shard: Shard, error: RecordError, name: str) -> None:
    shard.dropped[error.reason] = shard.dropped.get(error.reason, 0) + 1
    named = shard.dropped_first.setdefault(error.reason, [])
    if len(named) < _FIRST:  # the reference alone: an error's words may hold a path of this machine
        named.append({"id": name, "image": error.record})
