"""Rows of a Parquet file as plain data, with the bytes of pictures left where they are."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vision_ift import RecordError

#: Rows decoded at once; fewer where the bytes of pictures must be read.
_ROWS = 256
_ROWS_WITH_BYTES = 16

#: Stands for the bytes of a picture that are inside the file.
INSIDE = object()

#: The key under which a row lists columns of bytes that are not pictures; they are not read.
UNREAD = "unread_columns"


class _Pictures(NamedTuple):
    """A column of pictures: ``leaf`` is where its bytes are, ``path`` where their names are."""

    column: str
    leaf: str
    path: str | None
    several: bool


def parquet_rows(
    file: Path, *, pictures: Collection[str]
) -> Iterator[tuple[int, dict[str, Any] | RecordError]]:
    """Yield a file's rows, each with its number; nulls are left out.

    In the columns named by ``pictures``, ``{"bytes": INSIDE, "path": …}`` stands for a picture
    whose bytes are in the file. Whether they are is read from the file's own counts of nulls, so a
    row group whose pictures are all inside, or all outside, is read without a byte of them.
    """
    row = 0
    try:
        with pq.ParquetFile(file) as table:
            shown = _picture_columns(table, pictures)
            unread = _byte_columns(table.schema_arrow, {one.column for one in shown})
            plain = [
                name
                for name in table.schema_arrow.names
                if name not in unread and name not in {one.column for one in shown}
            ]
            for group in range(table.num_row_groups):
                where = {one.column: _where(table, group, one) for one in shown}
                columns = plain + [
                    one.path if one.path and where[one.column] != "mixed" else one.column
                    for one in shown
                ]
                rows = _ROWS_WITH_BYTES if "mixed" in where.values() else _ROWS
                for batch in table.iter_batches(
                    batch_size=rows, row_groups=[group], columns=columns, use_threads=False
                ):
                    for value in batch.to_pylist():
                        for one in shown:
                            value[one.column] = _marked(value[one.column], where[one.column])
                        value = {key: part for key, part in value.items() if part is not None}
                        yield row, value | ({UNREAD: unread} if unread else {})
                        row += 1
    except (pa.ArrowException, OSError) as error:
        yield row, RecordError(f"not Parquet: {error}", reason="bad_record")


def _picture_columns(table: pq.ParquetFile, names: Collection[str]) -> list[_Pictures]:
    """The columns of these names that can hold bytes, single ones or lists."""
    leaves = [table.schema.column(n).path for n in range(len(table.schema))]
    found = []
    for field in table.schema_arrow:
        kind, several = field.type, False
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            kind, several = kind.value_type, True
        inside = [
            leaf for leaf in leaves if leaf == field.name or leaf.startswith(field.name + ".")
        ]
        if field.name not in names or not inside:
            continue
        if pa.types.is_struct(kind) and "bytes" in kind.names:
            leaf = next(one for one in inside if one.endswith(".bytes"))
            path = next((one for one in inside if one.endswith(".path")), None)
            found.append(_Pictures(field.name, leaf, path, several))
        elif _is_bytes(kind):
            found.append(_Pictures(field.name, inside[0], None, several))
    return found


def _where(
    table: pq.ParquetFile, group: int, one: _Pictures
) -> Literal["inside", "outside", "mixed"]:
    """Say where the bytes of a row group's pictures are, without reading them."""
    metadata = table.metadata.row_group(group)
    chunk = next(
        chunk
        for chunk in map(metadata.column, range(metadata.num_columns))
        if chunk.path_in_schema == one.leaf
    )
    if one.path is None or chunk.statistics is None or not chunk.statistics.has_null_count:
        return "mixed"
    given = chunk.num_values - chunk.statistics.null_count
    if not given:
        return "outside"
    named = table.read_row_group(group, columns=[one.path], use_threads=False).column(0)
    values = pc.list_flatten(named) if one.several else named
    return "inside" if given == len(values) - values.null_count else "mixed"


def _marked(value: Any, where: str) -> Any:
    """Put ``INSIDE`` for the bytes."""
    if isinstance(value, list):
        return [_marked(one, where) for one in value]
    if isinstance(value, bytes):
        return {"bytes": INSIDE}
    if isinstance(value, dict):
        inside = where == "inside" or (where == "mixed" and value.get("bytes") is not None)
        return {**value, "bytes": INSIDE if inside else None}
    return value


def _byte_columns(schema: pa.Schema, pictures: set[str]) -> list[str]:
    return sorted(
        field.name for field in schema if field.name not in pictures and _holds_bytes(field.type)
    )


def _holds_bytes(kind: pa.DataType) -> bool:
    if _is_bytes(kind):
        return True
    return any(_holds_bytes(kind.field(n).type) for n in range(kind.num_fields))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )
