"""The file beside a conversion whose format has no place for the columns of a row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import pyarrow as pa

from vision_ift._builder import Batch
from vision_ift._conversation import SCHEMA
from vision_ift._convert.marks import KEY, Rest, read_rest
from vision_ift._convert.restored import with_rest
from vision_ift._errors import IntegrityError

#: The longest line that is read, in bytes.
_MAX_LINE_BYTES = 64 << 20

_PART = re.compile(r"-\d{5}$")


class _Line(msgspec.Struct):
    rest: str = msgspec.field(name=KEY)


_LINE = msgspec.json.Decoder(_Line)


def beside_of(file: Path) -> Path:
    """Name the file beside one that was written: ``mix-00000.parquet`` has ``mix.beside.jsonl``."""
    return file.with_name(f"{_PART.sub('', file.stem)}.beside.jsonl")


def read_beside(file: Path) -> Iterator[Rest] | None:
    """Read the file beside one of theirs; ``None`` where there is none.

    Raises:
        IntegrityError: While reading: a line is not what a conversion writes.
    """
    path = beside_of(file)
    if not path.is_file() or (_PART.search(file.stem) and not file.stem.endswith("-00000")):
        return None
    return _lines(path)


def _lines(path: Path) -> Iterator[Rest]:
    with path.open("rb") as lines:
        number = 0
        while data := lines.readline(_MAX_LINE_BYTES):
            number += 1
            try:
                rest = read_rest(_LINE.decode(data).rest)
            except (msgspec.DecodeError, UnicodeError):
                rest = None
            if rest is None:
                raise IntegrityError(
                    f"{path}, line {number}: not what a conversion writes",
                    hint="move the file away to read the rows without it",
                )
            yield rest


def together(batches: Iterable[Batch], rests: Iterator[Rest] | None, file: Path) -> Iterator[Batch]:
    """Give rows the columns that stand beside the file, line by line.

    Raises:
        IntegrityError: A record was dropped or the lines do not fit the rows, so that nobody knows
            which line is whose.
    """
    if rests is None:
        yield from batches
        return
    for batch in batches:
        rows = []
        for row in batch.rows.to_pylist():
            rest = next(rests, None)
            if rest is None or batch.dropped or len(rest.image_paths) != len(row["images"]):
                raise IntegrityError(
                    f"{beside_of(file)} does not fit {file}",
                    hint="move it away to read the rows without it",
                )
            rows.append(with_rest(row, rest))
        yield Batch(pa.RecordBatch.from_pylist(rows, SCHEMA), batch.dropped, batch.absent)
