"""Pictures that lie in a column of a Parquet file, read in place: ``COLUMN/ROW/ENTRY``.

A column holds pictures as `datasets` and FineVision write them (``struct<bytes, path>``) or as
plain binary: one a row (``image/17``) or a list a row (``images/17/0``). A row group's column is
decoded as a whole, so the last ones are kept, and rows are best asked for in their order.
"""

from __future__ import annotations

import os
import re
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vision_ift._archives.members import check_size, damaged, unquoted
from vision_ift._errors import MissingInputError, RecordError

#: Decoded columns of row groups that a process keeps, in bytes; the last one always.
_KEPT_BYTES = 256 << 20

#: The largest row group of which a column is decoded, in bytes.
_MAX_GROUP_BYTES = 4 << 30

#: What pyarrow raises for damaged files; the last for names.
_FAULTS = (pa.ArrowException, OSError, UnicodeDecodeError)

_NUMBER = re.compile(r"0|[1-9][0-9]{0,11}")


_Key = tuple[object, str, int]


class _Kept:
    """What was decoded last, by all files of this process together, up to ``_KEPT_BYTES``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: OrderedDict[_Key, tuple[Any, int]] = OrderedDict()
        self._bytes = 0
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock, self._groups, self._bytes = threading.Lock(), OrderedDict(), 0

    def get(self, key: _Key) -> Any:
        with self._lock:
            if key not in self._groups:
                return None
            self._groups.move_to_end(key)
            return self._groups[key][0]

    def put(self, key: _Key, values: Any) -> None:
        with self._lock:
            self._groups[key] = values, values.nbytes
            self._bytes += values.nbytes
            while len(self._groups) > 1 and self._bytes > _KEPT_BYTES:
                self._bytes -= self._groups.popitem(last=False)[1][1]


_kept = _Kept()


class Parquet:
    """The embedded pictures of one Parquet file as members.

    Iterating and counting read all pictures; asking for one reads its row group.

    Attributes:
        passed_over: Always empty: a row without bytes is no member and nothing else.
        damage: Always empty: a damaged file is an error.

    Raises:
        RecordError: It is not a Parquet file, or no column holds pictures (reason ``bad_image``).
    """

    damage = ""
    passed_over: Mapping[str, int] = {}

    def __init__(self, path: str) -> None:
        self.path = path
        self._where = f"archive {path}"
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._token = object()
        if not os.path.isfile(path):  # noqa: PTH113 - a FIFO would be waited for
            raise MissingInputError(f"archive {path} is not a regular file")
        try:
            self._file = pq.ParquetFile(path, page_checksum_verification=True)
            metadata, schema = self._file.metadata, self._file.schema_arrow
            #: Column to whether it holds a list of pictures a row.
            self._columns: dict[str, bool] = {
                field.name: _is_list(field.type)
                for field in schema
                if _holds_pictures(field.type) and schema.names.count(field.name) == 1
            }
        except _FAULTS as error:
            raise self._broken(error) from None
        rows = (metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))
        self._starts = [0, *accumulate(rows)]
        if not self._columns:
            raise damaged(
                self._where,
                f"no column holds pictures (columns: {', '.join(schema.names)[:200]})",
                hint="pictures are struct<bytes, path> or binary, one a row or a list",
            )

    def __contains__(self, member: str) -> bool:
        return self._picture(member) is not None

    def __iter__(self) -> Iterator[str]:
        for column, listed in self._columns.items():
            for number, start in enumerate(self._starts[:-1]):
                for row, value in enumerate(self._group(column, number), start):
                    entries = (value.values or ()) if listed else (value,)
                    for entry, one in enumerate(entries):
                        if _bytes(one) is not None:
                            yield f"{column}/{row}/{entry}" if listed else f"{column}/{row}"

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def size(self, member: str, *, quoted: bool = False) -> int:
        """Give the size of a picture in bytes."""
        return int(self._found(unquoted(member, quoted=quoted)).size)

    def read(self, member: str, *, quoted: bool = False) -> bytes:
        """Read one picture.

        Raises:
            MissingInputError: There is no such column, row or entry, or it has no bytes.
            RecordError: The picture is too large, or the file is damaged (reason ``bad_image``).
        """
        name = unquoted(member, quoted=quoted)
        buffer = self._found(name)
        check_size(f"{self._where}, member {name!r}", buffer.size)
        data: bytes = buffer.to_pybytes()
        return data

    def _found(self, member: str) -> Any:
        buffer = self._picture(member)
        if buffer is None:
            raise MissingInputError(
                f"archive {self.path} has no member {member!r}",
                hint=f"members are COLUMN/ROW or COLUMN/ROW/ENTRY of {', '.join(self._columns)}",
            )
        return buffer

    def _picture(self, member: str) -> Any:
        """Give a picture's Arrow buffer, or ``None`` where there is none."""
        column, _, last = member.rpartition("/")
        row, entry = last, None
        if self._columns.get(column) is not False:  # a column's name may hold slashes, too
            column, _, row = column.rpartition("/")
            entry = last
            if not self._columns.get(column):
                return None
        if not (_NUMBER.fullmatch(row) and (entry is None or _NUMBER.fullmatch(entry))):
            return None
        if int(row) >= self._starts[-1]:
            return None
        number = bisect_right(self._starts, int(row)) - 1
        value = self._group(column, number)[int(row) - self._starts[number]]
        if entry is not None:
            if not value.is_valid or int(entry) >= len(value.values):
                return None
            value = value.values[int(entry)]
        return _bytes(value)

    def _group(self, column: str, number: int) -> Any:
        """Give a column of a row group, decoded once for as long as it is kept."""
        key = (self._token, column, number)
        values = _kept.get(key)
        if values is None:
            if self._process != os.getpid():  # the lock may have been held when this one forked
                self._process, self._lock = os.getpid(), threading.Lock()
            with self._lock:
                values = _kept.get(key)
                if values is None:
                    values = self._decode(column, number)
                    _kept.put(key, values)
        return values

    def _decode(self, column: str, number: int) -> Any:
        # All columns together: asking a damaged file for one column's size aborts the process
        # (pyarrow 26, an exception of C++ that nobody catches).
        size = self._file.metadata.row_group(number).total_byte_size
        if size > _MAX_GROUP_BYTES:
            raise damaged(
                self._where,
                f"row group {number} holds {size:,} bytes; at most {_MAX_GROUP_BYTES:,} are "
                "decoded at once",
                hint="write the file anew with row groups of 100 rows",
            )
        try:
            table = self._file.read_row_group(number, columns=[column], use_threads=False)
            values = table.column(column)
        except _FAULTS as error:
            raise self._broken(error) from None
        if len(values) != self._starts[number + 1] - self._starts[number]:
            raise damaged(self._where, f"row group {number} has not the rows that it states")
        return values

    def _broken(self, error: Exception) -> RecordError:
        first = str(error).strip().splitlines() or [type(error).__name__]
        return damaged(self._where, f"it is no Parquet file that can be read: {first[0]}")


def _is_list(kind: Any) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _holds_pictures(kind: Any) -> bool:
    if _is_list(kind):
        kind = kind.value_type
    if pa.types.is_struct(kind):
        place = kind.get_field_index("bytes")
        if place < 0:
            return False
        kind = kind.field(place).type
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _bytes(value: Any) -> Any:
    """Give the buffer of a binary or struct scalar, or ``None``."""
    if value.is_valid and isinstance(value, pa.StructScalar):
        value = value["bytes"]
    return value.as_buffer() if value.is_valid else None
