"""Which rows of a table a recipe's entry takes: ``where``, caps, excludes, answered rows only.

``where`` is SQL over one row, run by DuckDB with external access off. Before it runs, DuckDB's own
parser says what it is made of: comparisons, arithmetic and functions of this row whose answer never
changes; no subquery, window, aggregate, file, clock or chance.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from vision_ift import _registry
from vision_ift._errors import MissingInputError, RecipeError, UnknownNameError
from vision_ift._recipe import Entry
from vision_ift._table import Table

#: Column of ``where`` to the Parquet column that brings it, and what it holds.
COLUMNS = {
    "id": "id",
    "split": "split",
    "source": "source",
    "task": "task",
    "language": "language",
    "license": "license",
    "meta": "meta",
    "rounds": "messages.list.element.role",
    "images": "image_paths.list.element",
    "chars": "messages.list.element.content.list.element.text",
}

_CLASSES = {
    "BETWEEN",
    "CASE",
    "CAST",
    "COLLATE",
    "COLUMN_REF",
    "COMPARISON",
    "CONJUNCTION",
    "CONSTANT",
    "FUNCTION",
    "OPERATOR",
    "TYPE",
}


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows of a table that an entry takes; ``rows`` is ``None`` where that is all of them."""

    table: Table
    rows: NDArray[np.int64] | None

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
    """Find the rows that an entry takes.

    Excluded rows are taken out before ``cap_per_task`` counts.

    Raises:
        RecipeError: ``where`` is not a condition on one row.
    """
    prompts = sorted(_registry.find(entry.source).prompt_splits & set(table.report.splits))
    if entry.where is None and entry.cap_per_task is None and not prompts and not excluded:
        return Selection(table, None)
    condition = _Condition(entry) if entry.where is not None else None
    wanted = {"split"}  # always one column, for the number of rows of a constant condition
    if condition is not None:
        wanted |= condition.columns
    if entry.cap_per_task is not None:
        wanted |= {"id", "task"}
    if excluded:
        wanted |= {"id"}
    rows = _scalars(table, sorted(wanted))
    keep = np.ones(len(table), bool)
    if condition is not None:
        keep &= condition.test(rows)
    if excluded:
        keep &= ~excluded.among(rows["id"])
    if prompts:
        answered = pc.invert(pc.is_in(rows["split"], pa.array(prompts)))
        keep &= answered.to_numpy()
    kept = np.flatnonzero(keep).astype(np.int64)
    if entry.cap_per_task is not None:
        kept = _capped(rows, kept, entry.cap_per_task, key=_key(seed, entry.name))
    return Selection(table, None if len(kept) == len(table) else kept)


def _key(seed: int, name: str) -> int:
    return xxhash.xxh3_64_intdigest(f"cap {seed} {name}".encode())


def _capped(rows: pa.Table, kept: NDArray[np.int64], cap: int, *, key: int) -> NDArray[np.int64]:
    """Keep ``cap`` rows of each task: those with the lowest keyed hash of their ids.

    A hash of the id, not a place in the file, so that the choice is stable when the source grows.
    """
    ids = rows["id"].take(pa.array(kept))
    tasks = rows["task"].take(pa.array(kept)).combine_chunks().dictionary_encode("encode")
    codes = tasks.indices.to_numpy()
    hashes = np.fromiter(
        (xxhash.xxh3_64_intdigest(name.encode(), key) for name in ids.to_pylist()),
        np.uint64,
        len(kept),
    )
    order = np.lexsort((hashes, codes))
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    counts = np.diff(starts, append=len(order))
    rank = np.arange(len(order)) - np.repeat(starts, counts)
    return np.sort(kept[order[rank < cap]])


def _scalars(table: Table, names: list[str]) -> pa.Table:
    """Read the columns that ``where`` may use; lists are reduced to their counts at once."""
    batches = []
    for batch in table.batches([COLUMNS[name] for name in names]):
        arrays = []
        for name in names:
            if name == "rounds":
                messages = batch.column("messages")
                users = pc.equal(messages.flatten().field("role"), "user")
                arrays.append(_sums(messages.offsets, users.cast(pa.int64())))
            elif name == "images":
                arrays.append(pc.list_value_length(batch.column("image_paths")).cast(pa.int64()))
            elif name == "chars":
                messages = batch.column("messages")
                parts = messages.flatten().field("content")
                lengths = pc.utf8_length(parts.flatten().field("text")).cast(pa.int64())
                turns = _sums(parts.offsets, pc.fill_null(lengths, 0))
                arrays.append(_sums(messages.offsets, turns))
            else:
                arrays.append(batch.column(name))
        batches.append(pa.RecordBatch.from_arrays(arrays, names))
    if not batches:
        return pa.table(
            {
                name: pa.array([], pa.int64() if COLUMNS[name] != name else pa.string())
                for name in names
            }
        )
    return pa.Table.from_batches(batches)


def _sums(offsets: pa.Array, values: pa.Array) -> pa.Array:
    """Sum ``values`` within each list of ``offsets``."""
    ends = np.concatenate([[0], np.cumsum(values.to_numpy(zero_copy_only=False))])
    at = offsets.to_numpy() - offsets[0].as_py()
    return pa.array(ends[at[1:]] - ends[at[:-1]], pa.int64())


class _Condition:
    """A checked ``where``."""

    def __init__(self, entry: Entry) -> None:
        assert entry.where is not None
        self._entry = entry
        # Put together as text because it is parsed, and refused below, before it ever runs.
        self._sql = f"SELECT (\n{entry.where}\n) AS keep FROM conversations"  # noqa: S608 - see above
        self._connection = duckdb.connect(config={"threads": 1})
        self._connection.execute("SET enable_external_access=false")
        self._connection.execute("SET lock_configuration=true")
        self.columns = self._parsed()

    def _error(self, what: str, hint: str = "") -> RecipeError:
        return RecipeError(f"{self._entry.name}: where {self._entry.where!r} {what}", hint=hint)

    def _parsed(self) -> set[str]:
        """Check what the condition is made of and list the columns that it reads."""
        answer = self._connection.execute("SELECT json_serialize_sql(?)", [self._sql]).fetchall()
        tree = json.loads(answer[0][0])
        if tree["error"]:
            raise self._error(f"is not SQL: {tree.get('error_message', '')}")
        statements = tree["statements"]
        node = statements[0]["node"]
        plain = len(statements) == 1 and node["type"] == "SELECT_NODE"
        if not plain or len(node["select_list"]) != 1 or node["from_table"]["type"] != "BASE_TABLE":
            raise self._error("is not one condition")
        columns: set[str] = set()
        for part in _walk(node["select_list"][0]):
            kind = part["class"]
            if kind not in _CLASSES:
                raise self._error(
                    f"has a {kind.lower()}",
                    hint="it may only test the columns of one row",
                )
            if kind == "COLUMN_REF":
                (*_, name) = part["column_names"]
                if name not in COLUMNS or len(part["column_names"]) > 1:
                    error = UnknownNameError("column", ".".join(part["column_names"]), COLUMNS)
                    raise self._error(f"reads {error.message}", hint=error.hint)
                columns.add(name)
            if kind == "FUNCTION" and part["function_name"].lower() not in _steady_functions():
                raise self._error(
                    f"calls {part['function_name']}",
                    hint="only functions of one row whose answer never changes are taken",
                )
        return columns

    def test(self, rows: pa.Table) -> NDArray[np.bool_]:
        """Say for each row whether the condition is true (unknown counts as false)."""
        self._connection.register("conversations", rows)
        try:
            result = self._connection.sql(self._sql).to_arrow_table()
        except duckdb.Error as error:
            raise self._error(f"fails: {str(error).splitlines()[0]}") from None
        keep = result.column("keep")
        if keep.type != pa.bool_():
            raise self._error(
                f"gives {keep.type}, not true or false", hint="compare it with something"
            )
        found: NDArray[np.bool_] = pc.fill_null(keep, False).to_numpy()
        return found


@cache
def _steady_functions() -> frozenset[str]:
    """DuckDB's functions of one row whose answer depends on their arguments alone."""
    rows = duckdb.connect().execute(
        "SELECT function_name, bool_and(function_type = 'scalar' AND stability = 'CONSISTENT') "
        "FROM duckdb_functions() WHERE function_type IN ('scalar', 'aggregate', 'table') "
        "GROUP BY ALL"
    )
    steady = {name for name, good in rows.fetchall() if good}
    return frozenset(steady - {"getenv", "getvariable", "current_setting", "error"})


def _walk(tree: Any) -> Any:
    """Yield every expression of a serialised statement."""
    if isinstance(tree, dict):
        if "class" in tree:
            yield tree
        for value in tree.values():
            yield from _walk(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _walk(value)
