"""Figures of every row of a table, computed once and kept beside it: pictures, rounds.

A file ``NAME-KEY.arrow`` holds one number a row and column, uncompressed, so that it is mapped and
not read. Its name has the table's digest in it, so it is never another table's; where the folder
cannot be written, the figures are made anew each time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc
import xxhash
from numpy.typing import NDArray

from vision_ift._table import Table

#: Of what these files hold; a change of how anything is counted changes it.
_VERSION = 1

Columns = Mapping[str, NDArray[Any]]


class Figures(NamedTuple):
    """By row of a table: pictures shown, and user turns with their answers."""

    images: NDArray[np.uint32]
    rounds: NDArray[np.uint32]


def row_figures(table: Table) -> Figures:
    """Give pictures and rounds of every row of a table."""
    found = kept_columns(table, "figures", "", lambda: (_count(table), True))
    return Figures(found["images"], found["rounds"])


def _count(table: Table) -> Columns:
    images = np.zeros(len(table), np.uint32)
    rounds = np.zeros(len(table), np.uint32)
    start = 0
    for batch in table.batches(["image_paths.list.element", "messages.list.element.role"]):
        stop = start + batch.num_rows
        images[start:stop] = pc.list_value_length(batch.column("image_paths")).to_numpy()
        messages = batch.column("messages")
        users = pc.equal(messages.flatten().field("role"), "user").to_numpy(zero_copy_only=False)
        rounds[start:stop] = sums_within(messages.offsets, users)
        start = stop
    return {"images": images, "rounds": rounds}


def sums_within(offsets: pa.Array, values: NDArray[Any]) -> NDArray[np.int64]:
    """Sum values within each list of ``offsets``."""
    ends = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    at = offsets.to_numpy().astype(np.int64) - offsets[0].as_py()
    return np.asarray(ends[at[1:]] - ends[at[:-1]])


def kept_columns(
    table: Table, name: str, key: str, make: Callable[[], tuple[Columns, bool]]
) -> Columns:
    """Open columns that were kept, or make them and keep them.

    Args:
        table: The table; one number of each column for each of its rows.
        name: What the file is called.
        key: All that decides the numbers beside the table.
        make: Makes them, and says whether they may be kept.
    """
    digest = xxhash.xxh3_64_hexdigest(f"{_VERSION}\0{table.digest}\0{key}".encode())
    path = table.path / f"{name}-{digest}.arrow"
    with contextlib.suppress(OSError, pa.ArrowInvalid):  # not there, or cut off: made again
        batch = ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        if batch.num_rows == len(table):
            names = batch.schema.names
            return {one: batch.column(one).to_numpy() for one in names}
    columns, good = make()
    if good and len(table):
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        with contextlib.suppress(OSError):  # a folder that cannot be written costs time alone
            try:
                batch = pa.RecordBatch.from_pydict({k: pa.array(v) for k, v in columns.items()})
                with (
                    pa.OSFile(str(temporary), "wb") as sink,
                    ipc.new_file(sink, batch.schema) as writer,
                ):
                    writer.write_batch(batch)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
    return columns
