"""What is pushed as Parquet: the rows of a split, in order, cut into shards before the first byte.

A shard is a function of (rows, cut, number), whatever its rows come from.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from vision_ift._conversation import SCHEMA_VERSION
from vision_ift._errors import MissingInputError, RecordError, UsageError
from vision_ift._pictures.images import Images
from vision_ift._plan.plan import Plan
from vision_ift._table import Table

#: Rows measured to turn bytes a shard into rows a shard.
_MEASURED_ROWS = 1024

#: Shards have five digits, as those that `datasets` writes.
_MOST_SHARDS = 10**5


class Rows(Protocol):
    """The rows of one split; pickles, so that other processes build shards of it too.

    Attributes:
        split: Its name.
        root: Where the pictures lie.
        digest: Names the rows: equal for equal rows in equal order.
    """

    @property
    def split(self) -> str: ...

    @property
    def root(self) -> Path: ...

    @property
    def digest(self) -> str: ...

    def __len__(self) -> int: ...

    def take(self, places: NDArray[np.int64]) -> pa.Table:
        """Read the conversations at these places, in this order."""
        ...


@dataclass(frozen=True)
class RowsOfPlan:
    """A plan's rows, all in one split."""

    plan: Plan
    split: str

    @property
    def root(self) -> Path:
        """Where the pictures lie."""
        return self.plan.root

    @property
    def digest(self) -> str:
        """The plan's own."""
        return self.plan.digest

    def __len__(self) -> int:
        return len(self.plan)

    def take(self, places: NDArray[np.int64]) -> pa.Table:
        """Read the conversations at these places, in this order."""
        if len(places) and int(places[-1]) - int(places[0]) + 1 == len(places):
            return self.plan.rows(int(places[0]), int(places[-1]) + 1)
        found = [self.plan.at(place) for place in places.tolist()]
        sources = np.array([source for source, _ in found], np.int32)
        return self.plan.take(sources, np.array([row for _, row in found], np.int64))


@dataclass(frozen=True)
class RowsOfTable:
    """The rows of one of the authors' splits, in the table's order."""

    table: Table
    root: Path
    split: str
    numbers: NDArray[np.int64]

    @property
    def digest(self) -> str:
        """The table's, and which rows of it."""
        return xxhash.xxh3_128_hexdigest(f"{self.table.digest} {self.split}".encode())

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, places: NDArray[np.int64]) -> pa.Table:
        """Read the conversations at these places, in this order."""
        return self.table.take(self.numbers[places])


def splits_of(table: Table, root: Path) -> list[RowsOfTable]:
    """Give a table's rows by the authors' splits, ``train`` first."""
    column = pa.chunked_array([batch.column("split") for batch in table.batches(["split"])])
    names = column.to_numpy(zero_copy_only=False) if len(column) else np.empty(0, object)
    found = sorted(set(names.tolist()), key=lambda name: (name != "train", name))
    return [RowsOfTable(table, root, name, np.flatnonzero(names == name)) for name in found]


class Cut(NamedTuple):
    """How a split is cut into shards.

    Attributes:
        rows: Rows of the split.
        rows_per_shard: Shard ``k`` holds the rows ``k * rows_per_shard`` and so on.
        measured_rows, measured_bytes: The rows that were measured, and what they hold; another
            size later says that pictures changed.
        key: Names all that decides a shard's rows: the rows, the cut, and the sizes measured.
    """

    rows: int
    rows_per_shard: int
    measured_rows: int
    measured_bytes: int
    key: str

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return -(-self.rows // self.rows_per_shard)

    def span(self, number: int) -> tuple[int, int]:
        """The places of a shard's rows: from, and to (not included)."""
        return number * self.rows_per_shard, min((number + 1) * self.rows_per_shard, self.rows)

    def bytes_of(self, number: int) -> int:
        """About how many bytes a shard comes to."""
        start, stop = self.span(number)
        return (stop - start) * self.measured_bytes // max(1, self.measured_rows)


def cut(rows: Rows, *, max_shard_bytes: int) -> Cut:
    """Fix the shards of a split by the mean size of 1,024 of its rows.

    Raises:
        UsageError: There would be 100,000 shards or more.
    """
    count = min(_MEASURED_ROWS, len(rows))
    places = np.array([place * len(rows) // count for place in range(count)], np.int64)
    size = _measure(rows, places)
    per_shard = max(1, max_shard_bytes * count // max(1, size)) if count else 1
    said = [SCHEMA_VERSION, rows.digest, rows.split, len(rows), per_shard, count, size]
    found = Cut(
        len(rows), per_shard, count, size, xxhash.xxh3_128_hexdigest(json.dumps(said).encode())
    )
    if found.shards >= _MOST_SHARDS:
        raise UsageError(
            f"{max_shard_bytes:,} bytes a shard come to {found.shards:,} shards; fewer than "
            f"{_MOST_SHARDS:,} have a name",
            hint="give a larger max_shard_bytes",
        )
    return found


def _measure(rows: Rows, places: NDArray[np.int64]) -> int:
    """Bytes of some rows with their pictures; one that is missing counts nothing."""
    if not len(places):
        return 0
    read = rows.take(places)
    images = Images(rows.root)
    pictures = read.column("images").combine_chunks().flatten().field("path").to_pylist()
    total: int = sum(column.nbytes for column in read.columns if len(column))
    return total + sum(_size(images, reference) for reference in pictures)


def _size(images: Images, reference: str) -> int:
    try:
        return images.size(reference)
    except (MissingInputError, RecordError):
        return 0


def shard_path(config: str, split: str, number: int, shards: int) -> str:
    """Name a Parquet file as `datasets` does.

    >>> shard_path("coco_mix", "train", 3, 12)
    'coco_mix/train-00003-of-00012.parquet'
    """
    return f"{config}/{split}-{number:05d}-of-{shards:05d}.parquet"
