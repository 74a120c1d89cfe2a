"""The files beside the shards from which other readers know them without reading them.

=========================  =================================================================
file                       who reads it
=========================  =================================================================
train-000000.tar.idx       Megatron-Energon: where each conversation starts
.nv-meta/                  Megatron-Energon: counts, splits, dataset class, SQLite index
wids.json                  wids (random access): shards with their lengths
sizes.json                 open_clip: shards with their lengths
vision_ift/index.arrow     ours: where every member lies (``INDEX_SCHEMA``)
=========================  =================================================================

In a uniform export each group's folder has its own of the first four. All are made from the
records of the shards alone. ``index.sqlite`` has the same content on every machine, the others the
same bytes.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc

from vision_ift._cards.text import dump_yaml
from vision_ift._disk import explained, sync_file, sync_folder
from vision_ift._errors import DiskError
from vision_ift._export.manifest import INDEX, INDEX_SCHEMA, Manifest, ShardFile, encode, put

ENERGON = ".nv-meta"

#: The version of Energon whose files these are.
ENERGON_VERSION = "7.4.1"

#: Rows of one statement; SQLite takes at least 999 values.
_INSERTED_ROWS = 100

_TABLES = """
CREATE TABLE samples (
    tar_file_id INTEGER NOT NULL,
    sample_key TEXT NOT NULL UNIQUE,
    sample_index INTEGER NOT NULL,
    byte_offset INTEGER,
    byte_size INTEGER
);
CREATE TABLE sample_parts (
    tar_file_id INTEGER,
    sample_index INTEGER,
    part_name TEXT,
    content_byte_offset INTEGER,
    content_byte_size INTEGER
);
"""
_INDEXES = """
CREATE INDEX idx_samples_by_tar_and_idx ON samples(tar_file_id, sample_index);
CREATE INDEX idx_sample_parts_seq
    ON sample_parts(tar_file_id, sample_index, content_byte_offset);
CREATE INDEX idx_sample_parts_full
    ON sample_parts(
        tar_file_id, sample_index, part_name, content_byte_offset, content_byte_size
    );
"""


class Tree(NamedTuple):
    """A folder that other readers read as a whole: the export, or one group of a uniform one.

    Attributes:
        folder: Relative to the export, empty or with a slash at its end.
        name: What it is called; another content has another name.
        shards: Their names are relative to the export.
        first: The number of its first shard among those of the manifest.
    """

    folder: str
    name: str
    shards: list[ShardFile]
    first: int

    @property
    def rows(self) -> dict[str, int]:
        """Rows by the shards' names in this folder."""
        return {shard.name.removeprefix(self.folder): shard.rows for shard in self.shards}


def trees(manifest: Manifest) -> list[Tree]:
    """Give the folders that other readers read: one, or in a uniform export one a group."""
    if not manifest.uniform:
        return [Tree("", manifest.export_digest, manifest.shards, 0)]
    found, first = [], 0
    for group in manifest.groups:
        name = f"{manifest.export_digest}-{group.name}"
        found.append(Tree(f"{group.name}/", name, manifest.shards_of(group.name), first))
        first += len(found[-1].shards)
    return found


def names(manifest: Manifest) -> list[str]:
    """List the files that :func:`write_sidecars` writes, relative to the export."""
    own = (".info.json", "split.yaml", "dataset.yaml", "index.sqlite", "index.uuid")
    beside = [*(f"{ENERGON}/{name}" for name in own), "wids.json", "sizes.json"]
    return [
        *(f"{shard.name}.idx" for shard in manifest.shards),
        *(f"{tree.folder}{name}" for tree in trees(manifest) for name in beside),
        INDEX,
    ]


def write_sidecars(folder: Path, manifest: Manifest, index: Iterable[pa.RecordBatch]) -> None:
    """Write all of them.

    Args:
        folder: The export.
        manifest: What it holds.
        index: A batch of ``INDEX_SCHEMA`` for each shard of the manifest, in order.

    Raises:
        DiskError: The disk is full, read-only or failing.
    """
    write_index(folder / INDEX, index)
    with ipc.open_file(pa.memory_map(str(folder / INDEX))) as reader:
        for tree in trees(manifest):
            numbers = range(tree.first, tree.first + len(tree.shards))
            for number, shard in zip(numbers, tree.shards, strict=True):
                put(folder / f"{shard.name}.idx", tar_index(reader.get_batch(number)))
            write_tree(folder / tree.folder, tree, manifest, map(reader.get_batch, numbers))


def write_tree(
    folder: Path,
    tree: Tree,
    manifest: Manifest,
    index: Iterator[pa.RecordBatch],
    *,
    sqlite: bool = True,
) -> None:
    """Write what lies beside the shards of one folder but ``.tar.idx``; errors as above.

    ``index.sqlite``, which takes the longest, can be left out.
    """
    with explained(folder / ENERGON):
        (folder / ENERGON).mkdir(exist_ok=True)
    counts = tree.rows
    put(folder / "sizes.json", encode(counts))
    put(folder / "wids.json", encode(_wids(manifest, tree)))
    if sqlite:
        _write_sqlite(folder / ENERGON / "index.sqlite", index)
    info = {"energon_version": ENERGON_VERSION, "shard_counts": counts}
    put(folder / ENERGON / ".info.json", encode(info))
    splits = {"split_parts": {manifest.split: list(counts)}, "exclude": []}
    put(folder / ENERGON / "split.yaml", dump_yaml(splits))
    kind = {"__module__": "megatron.energon", "__class__": "CrudeWebdataset"}
    put(folder / ENERGON / "dataset.yaml", dump_yaml(kind))
    name = uuid.uuid5(uuid.NAMESPACE_OID, f"vision_ift export {tree.name}")
    put(folder / ENERGON / "index.uuid", f"{name}\n".encode())


def tar_index(rows: pa.RecordBatch) -> bytes:
    """Give Energon's ``.tar.idx``: little-endian 64-bit offsets of each first header, and the end.

    The end is where the last member's blocks end, before the two blocks of zeros.
    """
    offsets = rows.column("offset").to_numpy()
    end = offsets[-1] + rows.column("size")[-1].as_py()
    return bytes(np.append(offsets, end).astype("<u8").tobytes())


def _wids(manifest: Manifest, tree: Tree) -> dict[str, Any]:
    # wids keeps downloads by this name, so another content needs another one. Its md5sum is left
    # out: wids checks it only where it is given, and it would cost a second pass over all bytes.
    return {
        "wids_version": 1,
        "name": f"{manifest.name}-{tree.name}",
        "shardlist": [
            {"url": name, "nsamples": shard.rows, "filesize": shard.bytes}
            for name, shard in zip(tree.rows, tree.shards, strict=True)
        ],
    }


def write_index(path: Path, index: Iterable[pa.RecordBatch]) -> None:
    """Write our index of all shards, whole or not at all; errors as :func:`write_sidecars`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with explained(path):
            with (
                pa.OSFile(str(temporary), "wb") as sink,
                ipc.new_file(sink, INDEX_SCHEMA) as writer,
            ):
                for batch in index:
                    writer.write_batch(batch)
            sync_file(temporary)
            temporary.replace(path)
            sync_folder(path.parent)
    finally:
        with suppress(OSError):  # what stopped the writing tells more
            temporary.unlink(missing_ok=True)


def _write_sqlite(path: Path, index: Iterator[pa.RecordBatch]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with explained(path):
            temporary.unlink(missing_ok=True)
            try:
                _fill(temporary, index)
            except sqlite3.OperationalError as error:
                # The low byte is the kind of error; SQLite does not say which system error it was.
                if error.sqlite_errorcode & 255 not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                    raise
                raise DiskError(
                    f"writing {path} failed: {error}",
                    hint="free some space and run the same command again: it goes on where it "
                    "stopped",
                ) from error
            sync_file(temporary)
            temporary.replace(path)
            sync_folder(path.parent)
    finally:
        with suppress(OSError):  # what stopped the writing tells more
            temporary.unlink(missing_ok=True)


def _fill(path: Path, index: Iterator[pa.RecordBatch]) -> None:
    # No journal: the file appears under its name when it is whole, and nobody else opens it before.
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE;"
            + _TABLES
        )
        database.execute("BEGIN")
        for number, batch in enumerate(index):
            columns = [
                batch.column(name).to_numpy(zero_copy_only=False).tolist()
                for name in ("key", "offset", "size")
            ]
            lines = zip(itertools.repeat(number), columns[0], itertools.count(), *columns[1:])
            _insert(database, "samples", lines)
            _insert(database, "sample_parts", _members(number, batch))
        database.execute("COMMIT")
        database.executescript(_INDEXES)


def _insert(
    database: sqlite3.Connection, table: str, rows: Iterator[tuple[int | str, ...]]
) -> None:
    """Insert rows of five columns, many by one statement: in 0.6 of the time of one each."""
    while some := list(itertools.islice(rows, _INSERTED_ROWS)):
        places = ",".join(["(?,?,?,?,?)"] * len(some))
        database.execute(
            f"INSERT INTO {table} VALUES {places}",  # noqa: S608 - the names are ours
            list(itertools.chain.from_iterable(some)),
        )


def _members(number: int, batch: pa.RecordBatch) -> Iterator[tuple[int, int, str, int, int]]:
    """Yield shard, conversation, ending, offset and size of every member."""
    at, names, offsets, sizes = (
        batch.column("image_names").offsets.to_pylist(),
        *(
            batch.column(name).flatten().to_numpy(zero_copy_only=False).tolist()
            for name in ("image_names", "image_offsets", "image_sizes")
        ),
    )
    texts = (
        batch.column(name).to_numpy().tolist()
        for name in ("json_offset", "json_size", "text_offset", "text_size")
    )
    first = at[0]
    for place, (json_at, json_size, text_at, text_size) in enumerate(zip(*texts, strict=True)):
        for image in range(at[place] - first, at[place + 1] - first):
            yield number, place, names[image], offsets[image], sizes[image]
        yield number, place, "json", json_at, json_size
        if text_at:
            yield number, place, "txt", text_at, text_size
