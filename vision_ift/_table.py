"""A table: a source's conversations as Parquet, pictures by reference.

A folder with ``part-00000.parquet`` … and ``build.json``, which is written last: what it does not
name does not exist. Row groups hold exactly ``GROUP_ROWS`` rows (the last one fewer), whatever the
builder's batches were, and the digest is taken over those groups' contents, not over the file's
bytes, so it is the same for every version of Parquet's writer.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from vision_ift._conversation import SCHEMA, SCHEMA_VERSION
from vision_ift._disk import explained
from vision_ift._errors import IntegrityError, MissingInputError

GROUP_ROWS = 8192
PART_GROUPS = 32
REPORT = "build.json"
_MAPPED = "rows.arrow"


class BuildReport(msgspec.Struct, kw_only=True):
    """What ``build.json`` says of a table.

    Attributes:
        rows, images: Rows, and pictures shown in them (one shown twice counts twice).
        unique_images: Different references among them.
        splits: Rows a split.
        dropped: Reason to number of records.
        dropped_first: Reason to the first ten of them: file, record and what was found.
        broken: How many of the dropped broke a rule (the others are left out by rule).
        absent: Parts of the source whose files are not under ROOT, with the files wanted.
        options: The options that differ from their defaults.
        inputs: The files read, relative to ROOT, with their sizes in bytes (folders: -1).
        fingerprint: Digest of the inputs' names, sizes and times, of the options and of the code.
        digest: xxh3-128 of the rows' contents; the same on every machine.
    """

    schema_version: int = SCHEMA_VERSION
    source: str
    rows: int
    images: int
    unique_images: int
    splits: dict[str, int]
    dropped: dict[str, int]
    dropped_first: dict[str, list[dict[str, str]]]
    broken: int = 0
    absent: list[dict[str, Any]]
    options: dict[str, Any]
    inputs: dict[str, int]
    parts: list[str]
    fingerprint: str
    digest: str


class Table:
    """One source's rows, opened.

    Args:
        path: The folder that ``build`` wrote.

    Raises:
        MissingInputError: There is no finished table in it.
        IntegrityError: ``build.json`` cannot be read, or is of another version.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            data = (self.path / REPORT).read_bytes()
        except OSError:
            raise MissingInputError(
                f"{self.path} holds no finished table ({REPORT} is missing)",
                hint="run vision-ift build",
            ) from None
        try:
            self.report = msgspec.json.decode(data, type=BuildReport)
        except msgspec.DecodeError as error:
            raise IntegrityError(f"{self.path / REPORT}: {error}") from None
        if self.report.schema_version != SCHEMA_VERSION:
            raise IntegrityError(
                f"{self.path} is of schema version {self.report.schema_version}; "
                f"this is version {SCHEMA_VERSION}",
                hint="build it again",
            )

    def __len__(self) -> int:
        return self.report.rows

    def __reduce__(self) -> tuple[object, ...]:
        return Table, (self.path,)  # another process maps the rows itself

    @property
    def source(self) -> str:
        """The source's name."""
        return self.report.source

    @property
    def digest(self) -> str:
        """xxh3-128 of the rows' contents, 32 hex digits."""
        return self.report.digest

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, a row group at a time."""
        for part in self.report.parts:
            with pq.ParquetFile(self.path / part, page_checksum_verification=True) as file:
                for group in range(file.num_row_groups):
                    rows = file.read_row_group(group, columns=columns, use_threads=False)
                    yield from rows.combine_chunks().to_batches()

    def group(self, number: int) -> pa.RecordBatch:
        """Give one row group: the rows from ``number * GROUP_ROWS`` on."""
        part, group = divmod(number, PART_GROUPS)
        with pq.ParquetFile(
            self.path / self.report.parts[part], page_checksum_verification=True
        ) as file:
            (rows,) = file.read_row_group(group, use_threads=False).combine_chunks().to_batches()
        return rows

    def take(self, rows: NDArray[np.int64]) -> pa.Table:
        """Give the rows of these numbers, in this order; a row may be asked for twice.

        The first call writes an uncompressed copy beside the Parquet files, which later calls (of
        all processes) map into memory, so that a random row costs no decoding.
        """
        groups = self._mapped
        order = np.argsort(rows, kind="stable")
        number = rows[order] // GROUP_ROWS
        cuts = np.flatnonzero(np.diff(number)) + 1
        pieces = []
        for run in np.split(order, cuts):
            if len(run):
                group = int(rows[run[0]] // GROUP_ROWS)
                pieces.append(groups[group].take(pa.array(rows[run] - group * GROUP_ROWS)))
        if not pieces:
            return SCHEMA.empty_table()
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(rows))
        return pa.Table.from_batches(pieces).combine_chunks().take(pa.array(back))

    @cached_property
    def _mapped(self) -> list[pa.RecordBatch]:
        path = self.path / _MAPPED
        if not path.exists():
            temporary = path.with_name(f"{_MAPPED}.{os.getpid()}.tmp")
            with explained(path):
                try:
                    with (
                        pa.OSFile(str(temporary), "wb") as sink,
                        ipc.new_file(sink, SCHEMA) as writer,
                    ):
                        for batch in self.batches():
                            writer.write_batch(batch.cast(SCHEMA))
                    temporary.replace(path)
                finally:
                    temporary.unlink(missing_ok=True)
        reader = ipc.open_file(pa.memory_map(str(path)))
        return [reader.get_batch(number) for number in range(reader.num_record_batches)]


class TableWriter:
    """Writes a table's parts; ``close`` gives their names and the digest.

    Args:
        folder: An existing folder; its parts are written under temporary names.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._writer: pq.ParquetWriter | None = None
        self._groups = 0
        self._digest = xxhash.xxh3_128(f"vision_ift table {SCHEMA_VERSION}".encode())
        self.parts: list[str] = []

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        self._waiting.append(batch)
        self._waiting_rows += batch.num_rows
        while self._waiting_rows >= GROUP_ROWS:
            rows = pa.Table.from_batches(self._waiting, SCHEMA)
            self._write_group(rows.slice(0, GROUP_ROWS))
            rest = rows.slice(GROUP_ROWS)
            self._waiting = rest.to_batches()
            self._waiting_rows = rest.num_rows

    def close(self) -> str:
        """Write what is left and give the digest, 32 hex digits."""
        if self._waiting_rows:
            self._write_group(pa.Table.from_batches(self._waiting, SCHEMA))
        self._finish_part()
        return self._digest.hexdigest()

    def _write_group(self, rows: pa.Table) -> None:
        rows = rows.combine_chunks()
        self._digest.update(content_digest(rows))
        if self._writer is None:
            name = f"part-{len(self.parts):05d}.parquet"
            self.parts.append(name)
            # zstd 1 halves the files at little cost; page checksums find a flipped bit.
            self._writer = pq.ParquetWriter(
                self._folder / name,
                SCHEMA,
                compression="zstd",
                compression_level=1,
                write_page_checksum=True,
            )
        self._writer.write_table(rows, row_group_size=GROUP_ROWS)
        self._groups += 1
        if self._groups % PART_GROUPS == 0:
            self._finish_part()

    def _finish_part(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def content_digest(rows: pa.Table) -> bytes:
    """Hash a table's contents: 16 bytes, the same however its buffers are laid out."""
    digest = xxhash.xxh3_128(rows.num_rows.to_bytes(8, "little"))
    for column in rows.columns:
        for chunk in column.combine_chunks().chunks if column.num_chunks > 1 else column.chunks:
            _hash_array(chunk, digest)
    return digest.digest()


def _hash_array(array: pa.Array, digest: Any) -> None:
    """Feed an array's validity, lengths and values into a digest, children after parents."""
    if array.null_count:
        valid = array.is_valid().to_numpy(zero_copy_only=False)
        digest.update(b"n")
        digest.update(np.packbits(valid).tobytes())
        array = array.drop_null()
    else:
        digest.update(b"v")
    if pa.types.is_struct(array.type):
        for child in array.flatten():
            _hash_array(child, digest)
    elif pa.types.is_list(array.type):
        digest.update(np.diff(array.offsets.to_numpy()).astype("<i4").tobytes())
        _hash_array(array.flatten(), digest)
    else:
        if not len(array):
            return
        _, offsets_buffer, values = array.buffers()
        offsets = np.frombuffer(offsets_buffer, "<i4")[array.offset : array.offset + len(array) + 1]
        digest.update(np.diff(offsets).tobytes())
        if values is not None:
            digest.update(memoryview(values)[offsets[0] : offsets[-1]])


def row_digests(rows: pa.RecordBatch) -> list[int]:
    """Hash what each row says and shows: 64 bits of its words, turns and references."""
    turns = _bounds(rows.column("messages"))
    messages = rows.column("messages").flatten()
    parts = _bounds(messages.field("content"))
    texts = messages.field("content").flatten().field("text")
    references = rows.column("images").flatten().field("path")
    words, ends = _bytes(texts)
    names, name_ends = _bytes(references)
    # Where one part ends and the next begins counts too: the lengths, each by its place in the row.
    places = parts[turns]
    lengths = np.diff(ends).astype(np.uint64)
    inside = np.arange(len(lengths)) - np.repeat(places[:-1], np.diff(places))
    weighted = (lengths + np.uint64(1)) * _odd(inside)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(weighted, dtype=np.uint64)])
    mixed = sums[places[1:]] - sums[places[:-1]]
    said, shown = ends[places], name_ends[_bounds(rows.column("images"))]
    of_words = _slices(words, said)
    of_names = _slices(names, shown)
    whole: list[int] = ((mixed ^ of_words) * _odd(np.ones(1, np.int64)) + of_names).tolist()
    return whole


def _odd(numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A large odd factor for each number (the multiples of the golden ratio's 64 bits)."""
    return (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) | np.uint64(1)


def _slices(data: memoryview, bounds: NDArray[np.int64]) -> NDArray[np.uint64]:
    digest = xxhash.xxh3_64_intdigest
    at = bounds.tolist()
    return np.fromiter(
        (digest(data[start:stop]) for start, stop in itertools.pairwise(at)),
        np.uint64,
        len(at) - 1,
    )


def _bounds(lists: pa.Array) -> NDArray[np.int64]:
    """Where each list starts and ends in the flattened values."""
    offsets = lists.offsets.to_numpy().astype(np.int64)
    return np.asarray(offsets - offsets[0])


def _bytes(texts: pa.Array) -> tuple[memoryview, NDArray[np.int64]]:
    """A string array's bytes, and where each text starts and ends in them."""
    if not len(texts):
        return memoryview(b""), np.zeros(1, np.int64)
    _, offsets, values = texts.buffers()
    bounds = np.frombuffer(offsets, "<i4")[texts.offset : texts.offset + len(texts) + 1]
    first, last = int(bounds[0]), int(bounds[-1])
    data = memoryview(values)[first:last] if values is not None else memoryview(b"")
    return data, bounds.astype(np.int64) - first
