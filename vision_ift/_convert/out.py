"""The files of one conversion: streamed under temporary names, put in place all at once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from vision_ift._convert.marks import KEY, Row, rest_of
from vision_ift._disk import explained, sync_file, sync_folder
from vision_ift._errors import OutputError

#: A Parquet row group holds at most so many rows and, about, bytes of pictures; a file so many.
_GROUP_ROWS = 256
_GROUP_BYTES = 32 << 20
_FILE_BYTES = 500_000_000

_ENCODER = msgspec.json.Encoder()


class Out:
    """The files that a conversion writes into one folder.

    Args:
        folder: An existing folder.
        name: What the files are called.
        base: What the paths of pictures are relative to, seen from the folder.
        known: Files of an earlier conversion, which may be replaced.
        dry: Write nothing.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        base: str = ".",
        known: Iterable[str] = (),
        dry: bool = False,
    ) -> None:
        self.folder = folder
        self.name = name
        self.base = base
        self.files: list[str] = []
        self._known = set(known)
        self._dry = dry
        self._waiting: list[tuple[Path, Path]] = []

    def may_replace(self, name: str) -> None:
        """Let a file of this name be replaced."""
        self._known.add(name)

    @contextlib.contextmanager
    def file(self, name: str) -> Iterator[BinaryIO]:
        """Open a file to write, which is put in place by :meth:`finish`."""
        with explained(self.folder / name), self.temporary(name).open("wb") as file:
            yield file

    def temporary(self, name: str) -> Path:
        """Give the place to write a file at until :meth:`finish`.

        Raises:
            OutputError: The folder has a file of that name which no conversion wrote.
        """
        path = self.folder / name
        if path.exists() and name not in self._known:
            raise OutputError(
                f"{path} is there, and no conversion wrote it", hint="choose another --name"
            )
        self.files.append(name)
        if self._dry:
            return Path(os.devnull)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._waiting.append((temporary, path))
        return temporary

    def finish(self) -> None:
        """Put all files in place."""
        with explained(self.folder):
            for temporary, _ in self._waiting:
                sync_file(temporary)
            for temporary, path in self._waiting:
                temporary.replace(path)
            self._waiting = []
            sync_folder(self.folder)

    def drop(self) -> None:
        """Remove what was not put in place."""
        for temporary, _ in self._waiting:
            temporary.unlink(missing_ok=True)

    def list(self, records: Iterable[Row]) -> None:
        """Write ``NAME.json``: a JSON list, one record a line."""
        with self.file(f"{self.name}.json") as file:
            mark = b"[\n"
            for record in records:
                file.write(mark + _ENCODER.encode(record))
                mark = b",\n"
            file.write(b"[]\n" if mark == b"[\n" else b"\n]\n")

    def lines(self, records: Iterable[Row], name: str = "") -> None:
        """Write ``NAME.jsonl``: one record a line."""
        with self.file(name or f"{self.name}.jsonl") as file:
            for record in records:
                file.write(_ENCODER.encode(record) + b"\n")

    def text(self, name: str, text: str) -> None:
        """Write a small file."""
        with self.file(name) as file:
            file.write(text.encode())

    def beside(self, records: Iterable[tuple[Row, Row]]) -> Iterator[Row]:
        """Give the records on, and write ``NAME.beside.jsonl``: what each has no place for."""
        with self.file(f"{self.name}.beside.jsonl") as file:
            for row, record in records:
                file.write(_ENCODER.encode({KEY: rest_of(row)}) + b"\n")
                yield record

    def parquet(self, records: Iterable[Row], schema: pa.Schema) -> None:
        """Write ``NAME-00000.parquet`` and so on; pictures are bounded in every row group."""
        writer: pq.ParquetWriter | None = None
        rows: list[Row] = []
        group = size = number = 0
        for record in records:
            rows.append(record)
            group += sum(len(one["bytes"] or b"") for one in record["images"])
            if len(rows) < _GROUP_ROWS and group < _GROUP_BYTES:
                continue
            writer = writer or self._writer(number, schema)
            writer.write_table(pa.Table.from_pylist(rows, schema))
            size += group
            rows, group = [], 0
            if size >= _FILE_BYTES:
                writer.close()
                writer, size, number = None, 0, number + 1
        if rows or (writer is None and not number):
            writer = writer or self._writer(number, schema)
            writer.write_table(pa.Table.from_pylist(rows, schema))
        if writer is not None:
            writer.close()

    def _writer(self, number: int, schema: pa.Schema) -> Any:
        return pq.ParquetWriter(
            self.temporary(f"{self.name}-{number:05d}.parquet"),
            schema,
            compression="snappy",
            write_page_checksum=True,
        )
