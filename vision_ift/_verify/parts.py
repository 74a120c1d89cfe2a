"""The index of an export as a whole and in parts, each held against the other and the records."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc
import xxhash

from vision_ift._errors import IntegrityError, MissingInputError
from vision_ift._export.manifest import INDEX, INDEX_SCHEMA, Shard, ShardFile, index_path
from vision_ift._verify.finding import found, read_bytes
from vision_ift._verify.index import batches, fault
from vision_ift._verify.shard import headers_agree
from vision_ift._verify.standing import Standing, file_of

_WrongWith = Callable[[pa.RecordBatch, Shard | ShardFile, int], str]


def read_index(standing: Standing) -> None:
    """Read the index; hold every part against the manifest and the record's own part."""
    manifest, layout = standing.manifest, standing.layout
    text = layout.text if layout is not None else manifest is not None and manifest.text

    def wrong_with(part: pa.RecordBatch, shard: Shard | ShardFile, number: int) -> str:
        return fault(
            part,
            shard,
            number=number,
            text=text,
            plan_rows=layout.rows if layout is not None else 1 << 60,
            formats=layout.formats(number) if layout is not None else None,
        )

    _read_whole_index(standing, wrong_with)
    _read_index_parts(standing, wrong_with)


def _read_whole_index(standing: Standing, wrong_with: _WrongWith) -> None:
    numbers = sorted(standing.shards)
    try:
        with batches(standing.folder, INDEX, most=len(numbers)) as read:
            if len(read) != len(numbers):
                raise IntegrityError(f"{INDEX} has {len(read):,} parts, not {len(numbers):,}")
            for number, part in zip(numbers, read, strict=True):
                if wrong := wrong_with(part, standing.shards[number], number):
                    standing.add("index", INDEX, f"part {number}: {wrong}", number=number)
                else:
                    standing.parts[number] = part
    except (IntegrityError, MissingInputError) as error:
        standing.findings.append(found(error, INDEX, otherwise="index"))
    positions = [part.column("position") for part in standing.parts.values()]
    rows = sum(map(len, positions))
    if rows and pc.count_distinct(pa.chunked_array(positions)).as_py() != rows:
        standing.add("index", INDEX, "a position stands twice in it")


def _read_index_parts(standing: Standing, wrong_with: _WrongWith) -> None:
    """Read the parts that lie beside the records; they stand in where the index has none."""
    for number, record in standing.records.items():
        name = index_path(Path(), number).as_posix()
        try:
            with batches(standing.folder, name, most=1) as read:
                if len(read) != 1:
                    raise IntegrityError(f"{name} has no part")
                part = read[0]
            if wrong := wrong_with(part, record, number):
                raise IntegrityError(f"{name}: {wrong}")
            if number in standing.parts and not part.equals(standing.parts[number]):
                _settle_parts(standing, record, part)
                continue
        except (IntegrityError, MissingInputError) as error:
            standing.findings.append(found(error, name, otherwise="index", number=number))
        else:
            if record.rows:
                standing.parts.setdefault(number, part)


def _settle_parts(standing: Standing, record: Shard, part: pa.RecordBatch) -> None:
    """Let the shard's own headers say which of the two places of the index is wrong."""
    number, shard = record.number, file_of(record)
    name = index_path(Path(), number).as_posix()
    of_whole = headers_agree(standing.folder, shard, standing.parts[number])
    of_part = headers_agree(standing.folder, shard, part)
    detail = f"part {number} differs from {name}"
    if of_part or not of_whole:
        standing.add("index", INDEX, detail, number=number)
        standing.parts[number] = part
    if of_whole or not of_part:
        standing.add("index", name, f"it differs from {INDEX}", number=number)
    if of_whole == of_part:
        del standing.parts[number]


class _Hashed(io.RawIOBase):
    """A file that keeps the digest of what is written to it, and nothing else."""

    def __init__(self) -> None:
        self.digest = xxhash.xxh3_128()

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        piece = memoryview(data).cast("B")  # type: ignore[arg-type]  # bytes, or a buffer of Arrow
        self.digest.update(piece)
        return len(piece)


def hold_encoding(standing: Standing) -> None:
    """Hold every byte of the parts beside the records, also those that say nothing.

    Their framing is pyarrow's. So the whole index is encoded again first: where that gives its
    digest, this pyarrow writes as the one that wrote them, and the parts have to come out the same.
    """
    manifest = standing.manifest
    if manifest is None or INDEX not in manifest.files or INDEX in standing.damaged_files:
        return
    hashed = _Hashed()
    parts = sorted(standing.parts.items())
    with ipc.new_file(pa.PythonFile(hashed, "w"), INDEX_SCHEMA) as writer:
        for _, part in parts:
            writer.write_batch(part)
    if hashed.digest.hexdigest() != manifest.files[INDEX]:
        return
    for number, part in parts:
        name = index_path(Path(), number).as_posix()
        if number not in standing.records or name in standing.damaged_files:
            continue
        sink = pa.BufferOutputStream()
        with ipc.new_file(sink, INDEX_SCHEMA) as writer:
            writer.write_batch(part)
        right = sink.getvalue()
        try:
            there = read_bytes(standing.folder, name, limit=right.size)
            if there != right.to_pybytes():
                raise IntegrityError(f"{name} holds the right rows, but not as they were written")
        except (IntegrityError, MissingInputError) as error:
            standing.findings.append(found(error, name, otherwise="index", number=number))
