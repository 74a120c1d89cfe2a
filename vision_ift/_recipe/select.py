"""Which rows of a table a recipe's entry takes, in this sequence.

1. Rows without an answer are never taken.
2. ``where`` keeps the rows for which it is true (``_condition.py``).
3. ``exclude`` leaves out the rows whose ids are listed.
4. ``subset`` keeps a share of those, by a keyed hash of their ids.
5. ``cap_per_task`` keeps so many rows of each task, those with the lowest hashes.

The hash is one for the last two, keyed by the recipe's seed and the entry's name. So 1 % lies
inside 10 % inside everything, under a cap too; and as it is of the id, not of a place, no choice
moves when the source grows or is laid out anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from vision_ift import _registry
from vision_ift._errors import MissingInputError, RecipeError
from vision_ift._recipe.condition import Condition
from vision_ift._recipe.keyed import keyed_hashes
from vision_ift._recipe.recipe import Entry
from vision_ift._table import Table

#: Columns that a table has not: the Parquet column of which each is made.
_MADE_OF = {
    "rounds": "messages.list.element.role",
    "images": "image_paths.list.element",
    "chars": "messages.list.element.content.list.element.text",
}
#: Rows that are tested at once: enough to make a query's start cheap, few enough to bound memory.
_STEP_ROWS = 1 << 17


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows of a table that an entry takes.

    Attributes:
        rows: Their numbers, ascending; ``None`` where that is all of them.
        cut: Rows that only the cap on each task left out.
    """

    table: Table
    rows: NDArray[np.int64] | None
    cut: int = 0

    def __len__(self) -> int:
        return len(self.table) if self.rows is None else len(self.rows)

    @property
    def digest(self) -> str:
        """Names the selection: the table's digest and the rows kept of it."""
        if self.rows is None:
            return self.table.digest
        kept = xxhash.xxh3_64_hexdigest(self.rows.astype("<i8").tobytes())
        return f"{self.table.digest}/{kept}"


class Excluded:
    """Ids that a recipe leaves out, and which of them were met in its tables.

    Args:
        files: Lists of one ``{"id": …}`` a line, as ``vision-ift check`` writes them; other keys
            mean nothing here, and empty lines are passed over.

    Raises:
        MissingInputError: A list cannot be read.
        RecipeError: A line is broken; with file and line.
    """

    def __init__(self, files: Sequence[str] = ()) -> None:
        ids: set[str] = set()
        for file in files:
            ids.update(_listed(file))
        self._ids = pa.array(sorted(ids), pa.string())
        self._met = np.zeros(len(ids), bool)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> list[str]:
        """The listed ids, sorted."""
        ids: list[str] = self._ids.to_pylist()
        return ids

    @property
    def unknown(self) -> int:
        """How many of the ids stood in none of the tables so far."""
        return int(len(self._met) - self._met.sum())

    def among(self, ids: pa.ChunkedArray) -> NDArray[np.bool_]:
        """Say for each id whether it is listed, and remember that it was met."""
        places = pc.index_in(ids, self._ids).to_numpy()
        listed: NDArray[np.bool_] = ~np.isnan(places) if places.dtype.kind == "f" else places >= 0
        self._met[places[listed].astype(np.int64)] = True
        return listed


class _Line(msgspec.Struct):
    id: str


#: The longest line of an exclude list, in bytes.
_MAX_LINE = 1 << 20


def _listed(file: str) -> set[str]:
    decoder = msgspec.json.Decoder(_Line)
    found: set[str] = set()
    number = 0
    try:
        with Path(file).open("rb") as lines:
            while line := lines.readline(_MAX_LINE + 1):
                number += 1
                if len(line) > _MAX_LINE:
                    raise RecipeError(
                        "a line of an exclude list is too long", file=file, line=number
                    )
                if line.strip():
                    found.add(decoder.decode(line).id)
    except OSError as error:
        raise MissingInputError(
            f"exclude list {file} cannot be read: {error.strerror}",
            hint="its path is relative to the recipe's file",
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"not a line of an exclude list: {error}",
            hint='write {"id": "source/their id"}',
            file=file,
            line=number,
        ) from None
    return found


def select(table: Table, entry: Entry, *, seed: int, excluded: Excluded | None = None) -> Selection:
    """Find the rows that an entry takes: where, exclude, subset, cap_per_task.

    Raises:
        RecipeError: ``where`` is not a condition on one row, or fails on one.
    """
    prompts = sorted(_registry.find(entry.source).prompt_splits & set(table.report.splits))
    hashed = entry.subset is not None or entry.cap_per_task is not None
    if entry.where is None and not hashed and not prompts and not excluded:
        return Selection(table, None)
    try:
        condition = Condition(entry.where) if entry.where is not None else None
        wanted = {"split"}  # always one column, for the number of rows of a constant condition
        wanted |= condition.columns if condition is not None else set()
        wanted |= {"id"} if hashed or excluded else set()
        wanted |= {"task"} if entry.cap_per_task is not None else set()
        kept = _Kept(entry, key=_key(seed, entry.name))
        first = 0
        for rows in _scalars(table, sorted(wanted)):
            keep = condition.test(rows) if condition is not None else np.ones(len(rows), bool)
            if excluded:
                keep &= ~excluded.among(rows["id"])
            if prompts:
                answered = pc.invert(pc.is_in(rows["split"], pa.array(prompts)))
                keep &= answered.to_numpy()
            kept.add(first, rows, np.flatnonzero(keep).astype(np.int64))
            first += len(rows)
    except RecipeError as error:
        raise RecipeError(f"{entry.name}: {error.message}", hint=error.hint) from None
    numbers = kept.numbers()
    return Selection(table, None if len(numbers) == len(table) else numbers, cut=kept.cut)


def _key(seed: int, name: str) -> int:
    return xxhash.xxh3_64_intdigest(f"cap {seed} {name}".encode())


class _Kept:
    """The rows that pass, a batch at a time, by ``subset`` and ``cap_per_task``."""

    def __init__(self, entry: Entry, *, key: int) -> None:
        self._below = _threshold(entry.subset)
        self._cap = entry.cap_per_task
        self._key = key
        self._tasks: dict[str | None, int] = {}
        #: By task, the largest hash that may still be among its lowest.
        self._limits = np.empty(0, np.uint64)
        self._pieces: list[tuple[NDArray[Any], ...]] = []
        self._waiting = 0
        self._passed = 0
        #: Rows that the cap left out; known once the numbers are.
        self.cut = 0

    def add(self, first: int, rows: pa.Table, kept: NDArray[np.int64]) -> None:
        """Take rows ``kept`` of a batch that starts at row ``first`` of the table."""
        if self._below is None and self._cap is None:
            self._pieces.append((first + kept,))
            return
        ids = rows["id"].combine_chunks()
        hashes = keyed_hashes(ids if len(kept) == len(ids) else ids.take(pa.array(kept)), self._key)
        if self._below is not None:
            inside = hashes <= np.uint64(self._below)
            kept, hashes = kept[inside], hashes[inside]
        if self._cap is None:
            self._pieces.append((first + kept,))
        else:
            self._passed += len(kept)
            codes = self._codes(rows["task"].combine_chunks().take(pa.array(kept)))
            low = hashes <= self._limits[codes]
            self._pieces.append((first + kept[low], codes[low], hashes[low]))
            self._waiting += int(low.sum())
            if self._waiting > 4 * _STEP_ROWS:
                self._prune()

    def _codes(self, tasks: pa.Array) -> NDArray[np.int64]:
        """Number the tasks, the same in every batch."""
        encoded = tasks.dictionary_encode("encode")
        known = [
            self._tasks.setdefault(t, len(self._tasks)) for t in encoded.dictionary.to_pylist()
        ]
        new = np.full(len(self._tasks) - len(self._limits), np.iinfo(np.uint64).max, np.uint64)
        self._limits = np.concatenate([self._limits, new])
        codes: NDArray[np.int64] = np.asarray(known, np.int64)[encoded.indices.to_numpy()]
        return codes

    def _prune(self) -> None:
        """Keep each task's lowest rows so far, and remember how low a later one has to be."""
        assert self._cap is not None
        kept, codes, hashes = (np.concatenate(one) for one in zip(*self._pieces, strict=True))
        # Small numbers are sorted by counting; the hashes are never sorted, only parted.
        order = np.argsort(codes.astype(np.min_scalar_type(len(self._tasks))), kind="stable")
        counts = np.bincount(codes, minlength=len(self._tasks))
        ends = np.cumsum(counts)
        by_task = hashes[order]
        for task in np.flatnonzero(counts > self._cap).tolist():
            own = by_task[ends[task] - counts[task] : ends[task]]
            self._limits[task] = np.partition(own, self._cap - 1)[self._cap - 1]
        low = hashes <= self._limits[codes]
        more = np.bincount(codes[low], minlength=len(self._tasks)) - self._cap
        for task in np.flatnonzero(more > 0).tolist():  # of equal hashes the first rows stay
            equal = np.flatnonzero((codes == task) & (hashes == self._limits[task]))
            low[equal[len(equal) - more[task] :]] = False
        self._pieces = [(kept[low], codes[low], hashes[low])]
        self._waiting = 0

    def numbers(self) -> NDArray[np.int64]:
        """Give the row numbers, ascending."""
        if not self._pieces:
            return np.empty(0, np.int64)
        if self._cap is not None:
            self._prune()
            self.cut = self._passed - len(self._pieces[0][0])
        return np.sort(np.concatenate([piece[0] for piece in self._pieces]))


def _threshold(share: Fraction | None) -> int | None:
    """The largest hash that is inside a share; ``None`` where all are."""
    if share is None or share >= 1:
        return None
    return int(share * 2**64) - 1


def _scalars(table: Table, names: list[str]) -> Iterator[pa.Table]:
    """Read columns that ``where`` may use, so many rows at a time; lists are reduced to counts."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in table.batches([_MADE_OF.get(name, name) for name in names]):
        waiting.append(pa.RecordBatch.from_arrays([_scalar(batch, name) for name in names], names))
        rows += batch.num_rows
        if rows >= _STEP_ROWS:
            yield pa.Table.from_batches(waiting)
            waiting, rows = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting)


def _scalar(batch: pa.RecordBatch, name: str) -> pa.Array:
    if name == "rounds":
        messages = batch.column("messages")
        users = pc.equal(messages.flatten().field("role"), "user")
        return _sums(messages.offsets, users.cast(pa.int64()))
    if name == "images":
        return pc.list_value_length(batch.column("image_paths")).cast(pa.int64())
    if name == "chars":
        messages = batch.column("messages")
        parts = messages.flatten().field("content")
        lengths = pc.utf8_length(parts.flatten().field("text")).cast(pa.int64())
        turns = _sums(parts.offsets, pc.fill_null(lengths, 0))
        return _sums(messages.offsets, turns)
    return batch.column(name)


def _sums(offsets: pa.Array, values: pa.Array) -> pa.Array:
    """Sum ``values`` within each list of ``offsets``."""
    ends = np.concatenate([[0], np.cumsum(values.to_numpy(zero_copy_only=False))])
    at = offsets.to_numpy() - offsets[0].as_py()
    return pa.array(ends[at[1:]] - ends[at[:-1]], pa.int64())
