"""The addresses of DataComp-1B's pictures, read from its metadata in one stream.

The metadata are Parquet files of 1.4 billion rows (``uid``, ``url``, ``text`` and scores), here or
on the Hub. Each file is read some thousand rows at a time and joined with the uids asked for by
DuckDB, whose own access to files and network is shut: memory holds the uids and one batch.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from vision_ift._errors import (
    MissingInputError,
    RecordError,
    ServiceError,
    UsageError,
    VisionIFTError,
)

HUB = "hf://datasets/mlfoundations/datacomp_1b"

#: A usable address: http or https, a host, no spaces or control characters, not endless.
_ADDRESS = r"^https?://[^\s/?#\x00-\x20\x7f]+[^\s\x00-\x20\x7f]*$"
_MAX_URL_CHARS = 8192

_BATCH_ROWS = 65_536
_BUFFER_BYTES = 1 << 20
_MEMORY = "1GB"


class Addresses(msgspec.Struct, frozen=True):
    """The addresses found, uids that have bad ones only, and the metadata's rows."""

    rows: pa.Table
    bad: int
    seen: int


def addresses(uids: list[str], place: str) -> Addresses:
    """Stream the metadata past the names; of several addresses of one uid the first in order."""
    connection = duckdb.connect(config={"threads": 2, "memory_limit": _MEMORY})
    with closing(connection):
        connection.execute("SET enable_external_access=false")
        connection.execute("SET lock_configuration=true")
        connection.register("wanted", pa.table({"uid": pa.array(uids, pa.string())}))
        counted = _Counted(place)
        connection.register("metadata", pa.RecordBatchReader.from_batches(_SCHEMA, counted.rows()))
        try:
            relation = connection.sql(_SQL, params=[_ADDRESS, _MAX_URL_CHARS])
            found = relation.to_arrow_table()
        except duckdb.Error as error:
            if counted.error is not None:
                raise counted.error from None
            raise RecordError(
                f"metadata {place} cannot be joined: {str(error).splitlines()[0]}",
                reason="bad_record",
            ) from None
        if counted.error is not None:
            raise counted.error
    good = found.filter(found["url"].is_valid())
    rows = good.select(["url", "uid", "caption"]).combine_chunks()
    return Addresses(rows, found.num_rows - good.num_rows, counted.seen)


_SCHEMA = pa.schema([("uid", pa.string()), ("url", pa.string()), ("text", pa.string())])
_SQL = """
WITH met AS (
    SELECT uid, text,
           CASE WHEN length(url) <= $2 AND regexp_full_match(url, $1) THEN url END AS url
    FROM metadata JOIN wanted USING (uid)
)
SELECT uid, min(url) AS url,
       min({'url': url, 'text': coalesce(text, '')}) FILTER (url IS NOT NULL).text AS caption
FROM met GROUP BY uid ORDER BY uid
"""


class _Counted:
    """The metadata's rows as a stream; an error on the way is kept, as DuckDB words it anew."""

    def __init__(self, place: str) -> None:
        self._place = place
        self.seen = 0
        self.error: Exception | None = None

    def rows(self) -> Iterator[pa.RecordBatch]:
        """Yield ``uid``, ``url`` and ``text``, some thousand rows at a time."""
        try:
            for batch in _batches(self._place):
                self.seen += batch.num_rows
                yield batch
        except VisionIFTError as error:
            self.error = error
            raise
        except Exception as error:  # the Hub's client raises what its HTTP library does
            self.error = ServiceError(f"metadata {self._place} cannot be read: {error}")
            raise


def _batches(place: str) -> Iterator[pa.RecordBatch]:
    for name, file in _files(place):
        try:
            with closing(file), pq.ParquetFile(file, buffer_size=_BUFFER_BYTES) as parquet:
                yield from _columns(name, parquet)
        except pa.ArrowException as error:
            raise RecordError(
                f"metadata {name} cannot be read: {error}",
                reason="bad_record",
                hint="fetch it again",
            ) from None
        except OSError as error:
            if isinstance(error, MissingInputError):
                raise
            raise ServiceError(f"metadata {name} cannot be read: {error}") from None


def _columns(name: str, parquet: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    there = parquet.schema_arrow.names
    if not {"uid", "url"} <= set(there):
        raise RecordError(
            f"metadata {name} has no columns uid and url; it has {', '.join(there[:20])}",
            reason="bad_record",
        )
    wanted = [column for column in _SCHEMA.names if column in there]
    for batch in parquet.iter_batches(_BATCH_ROWS, columns=wanted, use_threads=False):
        columns = [
            batch.column(column).cast(pa.string())
            if column in wanted
            else pa.nulls(batch.num_rows, pa.string())
            for column in _SCHEMA.names
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=_SCHEMA)


def _files(place: str) -> Iterator[tuple[str, Any]]:
    """Open the metadata's files one after the other, sorted by name."""
    if "://" in place:
        if not place.startswith("hf://"):
            raise UsageError(
                f"metadata {place} is neither a path nor hf://datasets/…",
                hint="download it and name the folder",
            )
        yield from _hub_files(place)
        return
    path = Path(place).expanduser()
    if path.is_dir():
        found = sorted(path.rglob("*.parquet"))
    else:
        found = sorted(Path(name) for name in glob.glob(str(path), recursive=True))  # noqa: PTH207 - absolute patterns too
    found = [one for one in found if one.is_file()]
    if not found:
        raise MissingInputError(
            f"there is no Parquet file at {place}",
            hint=f"name a file, folder or pattern, or {HUB}",
        )
    for one in found:
        yield str(one), one.open("rb")


def _hub_files(place: str) -> Iterator[tuple[str, Any]]:
    from huggingface_hub import HfFileSystem

    hub = HfFileSystem()
    try:
        pattern = place if place.endswith(".parquet") else f"{place.rstrip('/')}/**/*.parquet"
        names = sorted(hub.glob(pattern))
    except Exception as error:  # noqa: BLE001 - whatever the client raises: HTTP, names, sockets
        raise ServiceError(f"the Hub does not list {place}: {error}") from None
    if not names:
        raise MissingInputError(f"the Hub has no Parquet file under {place}")
    for name in names:
        try:
            file = hub.open(name, "rb")
        except Exception as error:  # noqa: BLE001 - as above
            raise ServiceError(f"the Hub does not give {name}: {error}") from None
        yield name, file
