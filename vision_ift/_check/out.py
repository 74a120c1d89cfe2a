"""The files that a check leaves: ``check.json``, two Parquet files, and the exclude list."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from vision_ift._disk import explained, sync_file, write_file

REPORT = "check.json"
IMAGES = "images.parquet"
ROWS = "rows.parquet"
EXCLUDE = "exclude.jsonl"


class CheckWriter:
    """Writes the files of a check under temporary names, and puts them in place at the end.

    Args:
        folder: Where to write; ``None`` writes nothing.

    Raises:
        OutputError: The folder cannot be written.
        DiskError: The disk is full or fails.
    """

    def __init__(self, folder: Path | str | None) -> None:
        self._folder = Path(folder) if folder is not None else None
        self._parquet: dict[str, pq.ParquetWriter] = {}
        self._list: BinaryIO | None = None

    def __enter__(self) -> CheckWriter:
        if self._folder is not None:
            with explained(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True)
                self._list = self._temporary(EXCLUDE).open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if self._folder is None:
            return
        self._close()
        for name in (IMAGES, ROWS, EXCLUDE):
            self._temporary(name).unlink(missing_ok=True)

    def rows(self, batch: pa.RecordBatch) -> None:
        """Add lines to ``rows.parquet``."""
        self._write(ROWS, batch)

    def images(self, batch: pa.RecordBatch) -> None:
        """Add lines to ``images.parquet``."""
        self._write(IMAGES, batch)

    def exclude(self, name: str, reason: str, detail: str) -> None:
        """Add a row to the exclude list."""
        if self._folder is None or self._list is None:
            return
        line = msgspec.json.encode({"id": name, "reason": reason, "detail": detail})
        with explained(self._folder / EXCLUDE):
            self._list.write(line + b"\n")

    def finish(self, report: bytes) -> None:
        """Put all files in place, the report last."""
        if self._folder is None:
            return
        with explained(self._folder):
            self._close()
            for name in (IMAGES, ROWS, EXCLUDE):
                temporary, path = self._temporary(name), self._folder / name
                if temporary.exists():
                    sync_file(temporary)
                    temporary.replace(path)
                else:  # nothing to list; what an earlier check wrote is not true any more
                    path.unlink(missing_ok=True)
        write_file(self._folder / REPORT, msgspec.json.format(report, indent=1) + b"\n")

    def _write(self, name: str, batch: pa.RecordBatch) -> None:
        if self._folder is None:
            return
        with explained(self._folder / name):
            if name not in self._parquet:
                self._parquet[name] = pq.ParquetWriter(
                    self._temporary(name), batch.schema, compression="zstd", compression_level=1
                )
            self._parquet[name].write_batch(batch)

    def _close(self) -> None:
        for writer in self._parquet.values():
            writer.close()
        self._parquet.clear()
        if self._list is not None:
            self._list.close()
            self._list = None

    def _temporary(self, name: str) -> Path:
        assert self._folder is not None
        return self._folder / f".{name}.{os.getpid()}.tmp"
