"""``where``: SQL over one row, checked before it runs.

DuckDB's own parser says what a condition is made of, and only what is listed here is taken:
comparisons, ``AND OR NOT``, ``IN``, ``BETWEEN``, ``LIKE``, ``CASE``, arithmetic, casts to plain
types, and functions of this row whose answer never changes and is no longer than what they are
given. There is no subquery, window, aggregate, lambda, list, file, clock, chance or setting, and
nothing that makes long text of short. What is left runs in a database of its own with external
access off, on so many rows at a time, with a limit on its memory and its seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from threading import Event, Thread
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vision_ift._errors import RecipeError, UnknownNameError

#: What a condition may read, and its type.
COLUMNS: dict[str, pa.DataType] = {
    **dict.fromkeys(("id", "split", "source", "task", "language", "license", "meta"), pa.string()),
    **dict.fromkeys(("rounds", "images", "chars"), pa.int64()),
}

#: Functions that a condition may call, operators among them. Each gives a truth value, a number, or
#: a text no longer than one that it is given.
FUNCTIONS = frozenset(
    name
    for names in (
        "+ - * / // % ** ^ & | << >> ~ @ abs ceil ceiling exp floor greatest least ln log log10",
        "log2 mod pow power round sign sqrt trunc",
        "~~ !~~ ~~* !~~* ^@ contains ends_with instr position prefix regexp_extract",
        "regexp_full_match regexp_matches starts_with strpos suffix",
        "char_length character_length lcase left len length lower ltrim right rtrim split_part",
        "strlen substr substring trim ucase upper",
        "->> json_array_length json_contains json_exists json_extract json_extract_string",
        "json_type json_valid json_value",
        "if nullif",
    )
    for name in names.split()
)
#: LIKE and ILIKE. Some versions of DuckDB try every place for every ``%``: two of them are a square
#: of the text's length, five are for ever, and nothing interrupts a row.
_LIKE = frozenset({"~~", "!~~", "~~*", "!~~*"})
_CLASSES = {
    *("BETWEEN", "CASE", "CAST", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT"),
    *("FUNCTION", "OPERATOR", "TYPE"),
}
_OPERATORS = {
    *("OPERATOR_NOT", "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL", "OPERATOR_COALESCE"),
    *("OPERATOR_NULLIF", "COMPARE_IN", "COMPARE_NOT_IN", "ARRAY_EXTRACT", "ARRAY_SLICE"),
}
_TYPES = {
    *("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT"),
    *("UINTEGER", "UBIGINT", "FLOAT", "DOUBLE", "DECIMAL", "VARCHAR", "DATE", "TIMESTAMP"),
}
#: Parts of a SELECT that a condition never brings; each is empty.
_EMPTY = ("modifiers", "where_clause", "group_expressions", "group_sets", "having", "sample")

MAX_CHARS = 10_000
_MAX_MEMORY = "1GB"
_MAX_SECONDS = 60.0


class Condition:
    """A checked ``where``.

    Attributes:
        columns: The columns that it reads.

    Raises:
        RecipeError: It is not a condition on one row.

    >>> sorted(Condition("rounds >= 2 AND language = 'en'").columns)
    ['language', 'rounds']
    """

    def __init__(self, text: str) -> None:
        self._text = text
        if not text.strip():
            raise self._error("is empty", hint="write a condition, or remove the key")
        if len(text) > MAX_CHARS:
            raise self._error(
                f"is {len(text):,} characters long",
                hint=f"at most {MAX_CHARS:,}; lists of ids go into exclude files",
            )
        # Put together as text because it is parsed, and refused below, before it ever runs.
        self._sql = f"SELECT (\n{text}\n) AS keep FROM conversations"  # noqa: S608 - see above
        self._connection = _database().cursor()
        self.columns = self._parsed()
        empty = pa.table({name: pa.array([], kind) for name, kind in COLUMNS.items()})
        self.test(empty)  # finds wrong types, and calls that fit no function

    def _error(self, what: str, hint: str = "") -> RecipeError:
        shown = self._text if len(self._text) <= 80 else self._text[:80] + "…"
        return RecipeError(f"where {shown!r} {what}", hint=hint)

    def _parsed(self) -> set[str]:
        """Check what the condition is made of and list the columns that it reads."""
        try:
            answer = self._connection.execute("SELECT json_serialize_sql(?)", [self._sql])
            tree = json.loads(answer.fetchall()[0][0])
        except (duckdb.Error, RecursionError) as error:
            raise self._error(f"is not SQL: {_first_line(error)}") from None
        if tree["error"]:
            raise self._error(f"is not SQL: {tree.get('error_message', '')}")
        statements = tree["statements"]
        node = statements[0]["node"]
        if (
            len(statements) != 1
            or node["type"] != "SELECT_NODE"
            or len(node["select_list"]) != 1
            or node["from_table"]["type"] != "BASE_TABLE"
            or any(node.get(part) for part in _EMPTY)
        ):
            raise self._error("is not one condition")
        columns: set[str] = set()
        for part in _walk(node["select_list"][0]):
            self._check(part, columns)
        return columns

    def _check(self, part: dict[str, Any], columns: set[str]) -> None:
        kind = part["class"]
        name = str(part.get("function_name", "")).lower()
        if kind not in _CLASSES or (kind == "OPERATOR" and part["type"] not in _OPERATORS):
            what = kind if kind != "OPERATOR" else part["type"]
            raise self._error(
                f"has a {what.lower().replace('_', ' ')}",
                hint="write meta->>'$.key' for a value of meta"
                if kind == "LAMBDA"
                else "it may only test the columns of one row",
            )
        if name in _LIKE:
            pattern = _text_constant(_arguments(part)[1])
            if pattern is None or pattern.rstrip("%").count("%") > 1:
                raise self._error(
                    "has a LIKE whose pattern is not a text with one % (and one at its end)",
                    hint="regexp_matches(column, 'a.*b.*c') takes any number",
                )
        if kind == "COLUMN_REF":
            (*above, column) = part["column_names"]
            if above or column not in COLUMNS:
                error = UnknownNameError("column", ".".join((*above, column))[:80], COLUMNS)
                raise self._error(f"reads {error.message}", hint=error.hint)
            columns.add(column)
        if kind == "FUNCTION" and (name not in FUNCTIONS or part.get("schema")):
            near = get_close_matches(name, FUNCTIONS, n=1, cutoff=0.8)
            raise self._error(
                f"calls {part['function_name'][:80]}",
                hint=f"did you mean {near[0]}?"
                if near and near[0] != name
                else "only functions of one row whose answer never changes are taken, see "
                "docs/recipes.md",
            )
        # DuckDB 2 writes a cast's type as an expression of its own, DuckDB 1 inside the cast.
        cast = part.get("type_name") if kind == "TYPE" else part.get("cast_type", {}).get("id")
        if cast is not None and cast.upper() not in _TYPES:
            raise self._error(
                f"casts to {cast[:80]}", hint="cast to BIGINT, DOUBLE, VARCHAR, BOOLEAN or DATE"
            )

    def test(self, rows: pa.Table) -> NDArray[np.bool_]:
        """Say for each row whether the condition is true (unknown counts as false).

        Raises:
            RecipeError: It fails on a row, takes too long, or does not give a truth value.
        """
        self._connection.register("conversations", rows)
        try:
            with _interrupted_after(_MAX_SECONDS, self._connection):
                result = self._connection.sql(self._sql).to_arrow_table()
        except duckdb.InterruptException:
            raise self._error(
                f"takes more than {_MAX_SECONDS:g} s for {len(rows):,} rows",
                hint="write it simpler",
            ) from None
        except duckdb.Error as error:
            hint = ""
            if isinstance(error, duckdb.ConversionException):
                hint = "TRY_CAST gives NULL where a cast fails"
            raise self._error(f"fails: {_first_line(error)}", hint=hint) from None
        finally:
            self._connection.unregister("conversations")
        keep = result.column("keep")
        if keep.type != pa.bool_():
            raise self._error(
                f"gives {keep.type}, not true or false", hint="compare it with something"
            )
        found: NDArray[np.bool_] = pc.fill_null(keep, False).to_numpy()
        return found


@cache
def _database() -> Any:
    """One empty database in memory, from which nothing else can be reached."""
    connection = duckdb.connect(config={"threads": 1})
    connection.execute(f"SET memory_limit='{_MAX_MEMORY}'")
    connection.execute("SET temp_directory=''")
    connection.execute("SET enable_external_access=false")
    connection.execute("SET autoload_known_extensions=false")
    connection.execute("SET autoinstall_known_extensions=false")
    connection.execute("SET lock_configuration=true")
    return connection


@contextmanager
def _interrupted_after(seconds: float, connection: Any) -> Iterator[None]:
    """Interrupt what runs inside after so long, again and again: a query forgets earlier ones."""
    done = Event()

    def watch() -> None:
        if not done.wait(seconds):
            while not done.wait(0.1):
                connection.interrupt()

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _arguments(call: dict[str, Any]) -> list[dict[str, Any]]:
    """What a function is given; DuckDB 1 and 2 serialise it differently."""
    given = call.get("children") or [one["expression"] for one in call.get("arguments", [])]
    return [*given, {}, {}]


def _text_constant(part: dict[str, Any]) -> str | None:
    """A text written in the condition."""
    literal, value = part.get("literal"), part.get("value")
    found = literal.get("text") if literal and literal.get("kind") == "STRING" else None
    if value and value.get("type", {}).get("id") == "VARCHAR":
        found = value.get("value")
    return found if isinstance(found, str) else None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


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
