"""The LLaVA layout: ``id``, ``image`` and ``conversations`` of ``from`` and ``value``.

The layout's rules: a picture stands where ``<image>`` stands in the text; one newline on either
side of the tag belongs to the tag; there are as many tags as pictures. ``from`` is ``human`` or
``user``, ``gpt`` or ``assistant``, or ``system`` (the first turn; also a key ``system`` or
``system_prompt`` of the record). A record without an id, or with an empty one, is named by the byte
at which it starts. Keys that are not of the layout are kept in ``meta``.

Two ways lead from a file to rows, and a test holds them equal: ``conversations`` makes one
conversation of one record, ``batches`` makes columns of thousands at once.
"""

from __future__ import annotations

import contextlib
import functools
import gc
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pyarrow as pa
from msgspec import UNSET

from vision_ift import Batch, Conversation, Dropped, RecordError
from vision_ift._conversation import SCHEMA
from vision_ift._run import Run

from ._json_records import MAX_RECORD_BYTES, Span, exact_spans, first_spans, split
from ._json_scanner import Broken
from ._llava_columns import quick_rows_of, rows_of
from ._llava_records import Found, Record, exact_records, name_of, quick_records
from ._llava_rows import Described, Reading, new_places, settle
from ._pictures import pictures_of

__all__ = ["Described", "Reading", "batches", "conversations", "new_places"]


def conversations(readings: list[Reading]) -> Iterator[Conversation | Dropped]:
    """Read files record by record, the plain way, in the order of the files."""
    for reading in readings:
        pictures = pictures_of(reading.places)
        for span in first_spans(Path(reading.path), guess=False):
            if isinstance(span, Broken):
                yield _broken(span, reading)
                continue
            for offset, found in exact_records(span, _read(span)) or ():
                yield (
                    Dropped.of(found, file=reading.file, record=f"byte {offset}")
                    if isinstance(found, RecordError)
                    else settle(found, reading, pictures)
                )


def batches(readings: list[Reading], run: Run) -> Iterator[Batch]:
    """Read files in vectors, some megabytes at a time, wherever ``run`` does the work."""
    for reading in readings:
        work = functools.partial(_read_span, reading)
        path = Path(reading.path)
        wrong = None
        with contextlib.closing(_generated(run, work, first_spans(path))) as read:
            for start, batch in read:
                if batch is None:
                    wrong = start
                    break
                yield batch
        if wrong is not None:  # from a wrong guess on nothing is guessed
            for _, batch in run(work, exact_spans(path, wrong)):
                assert batch is not None
                yield batch


def _generated(
    run: Run,
    work: Callable[[Span | Broken], tuple[int, Batch | None]],
    spans: Iterator[Span | Broken],
) -> Generator[tuple[int, Batch | None], None, None]:
    """Run the work as a generator, whose closing ends the processes behind it."""
    yield from run(work, spans)


def _read_span(reading: Reading, span: Span | Broken) -> tuple[int, Batch | None]:
    """Read one span; no batch if it does not end where a record does."""
    # Tens of thousands of small objects live for a moment and hold no cycles: the collector would
    # look at all of them several times (a tenth of the time).
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _span_batch(reading, span)
    finally:
        if collecting:
            gc.enable()


def _span_batch(reading: Reading, span: Span | Broken) -> tuple[int, Batch | None]:
    if isinstance(span, Broken):
        nothing = pa.RecordBatch.from_pylist([], SCHEMA)
        return span.offset, Batch(nothing, [_broken(span, reading)])
    pictures = pictures_of(reading.places)
    data = _read(span)
    records = quick_records(span, data) if data else None
    if records is not None:
        names = _names(records, span, data)
        batch = quick_rows_of(records, names, data, reading, pictures)
        if batch is not None:
            return span.start, batch
    exact = exact_records(span, data)
    if exact is None:
        return span.start, None
    found = [(place, one) for place, (_, one) in enumerate(exact) if isinstance(one, Found)]
    refused = [
        (place, Dropped.of(one, file=reading.file, record=f"byte {offset}"))
        for place, (offset, one) in enumerate(exact)
        if isinstance(one, RecordError)
    ]
    batch = rows_of(
        [one for _, one in found],
        reading,
        pictures,
        places=[place for place, _ in found],
        refused=refused,
    )
    return span.start, batch


def _read(span: Span) -> bytes:
    """The span's bytes; none of a record that is too long to be read."""
    return span.read() if span.end - span.start <= MAX_RECORD_BYTES else b""


def _names(records: list[Record], span: Span, data: bytes) -> list[str]:
    names = [record.id for record in records]
    if UNSET in names or "" in names:
        offsets = [offset for offset, _ in split(span, data) or ()]
        return [
            name_of(record, span, offset) for record, offset in zip(records, offsets, strict=True)
        ]
    return [name if type(name) is str else str(name) for name in names]


def _broken(broken: Broken, reading: Reading) -> Dropped:
    return Dropped(
        reason="broken_json",
        file=reading.file,
        record=f"byte {broken.offset}",
        detail=f"{broken.detail}; nothing after it is read",
    )
