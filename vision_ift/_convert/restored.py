"""Rows of a file of theirs as a table; what we wrote before comes back as it was."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import xxhash

from vision_ift import _registry
from vision_ift._build import FIRST, Ids
from vision_ift._builder import Batch, Dropped
from vision_ift._conversation import SCHEMA, encode_meta
from vision_ift._convert.marks import KEY, REFUSED, Rest, Row, read_rest
from vision_ift._convert.pictures import FOLDER
from vision_ift._disk import explained, replace_folder, sync_file, write_file
from vision_ift._errors import OutputError, RecordError
from vision_ift._table import REPORT, BuildReport, Table, TableWriter

_META = msgspec.json.Decoder(dict[str, Any])


def restored(batches: Iterable[Batch], unread: Sequence[str]) -> Iterator[Batch]:
    """Give back the columns that a conversion of ours kept, and refuse marks that were not read."""
    for batch in batches:
        rows = batch.rows.to_pylist()
        dropped = list(batch.dropped)
        kept = []
        for row in rows:
            mark = _unread(row, unread)
            if mark:
                dropped.append(
                    Dropped(reason="marker", record=row["id"], detail=f"its text holds {mark}")
                )
            else:
                kept.append(_back(row))
        yield Batch(pa.RecordBatch.from_pylist(kept, SCHEMA), dropped, batch.absent)


def _unread(row: Row, unread: Sequence[str]) -> str | None:
    if not unread:
        return None
    texts = [part["text"] for turn in row["messages"] for part in turn["content"] if part["text"]]
    return next((mark for mark in unread if any(mark in text for text in texts)), None)


def _back(row: Row) -> Row:
    if f'"{KEY}"' not in row["meta"]:
        return row
    rest = read_rest(_META.decode(row["meta"]).get(KEY))
    if rest is None or not rest.id or len(rest.image_paths) != len(row["images"]):
        return row
    return {**row, **{name: getattr(rest, name) for name in Rest.__struct_fields__}}


def with_rest(row: Row, rest: Rest) -> Row:
    """Put the columns of a file beside it into a row's ``meta``, where :func:`restored` looks."""
    text = msgspec.json.encode(rest).decode()
    return {**row, "meta": encode_meta({KEY: text})}


def tabulate(
    source: str,
    batches: Iterable[Batch],
    out: Path,
    *,
    files: dict[str, int],
    work: Path,
    strict: bool = False,
) -> Table:
    """Write batches as a table.

    Args:
        source: The source that reads the layout; by its rule ids are made unique.
        batches: The rows.
        out: The folder; what it holds must be a table, or nothing.
        files: The files read, by name, with their sizes in bytes.
        work: Where reading unpacks pictures, which are then kept beside the table.
        strict: Stop at the first record that is dropped.

    Raises:
        OutputError: The folder holds something else.
        RecordError: With ``strict``, a record breaks a rule.
    """
    if out.exists() and any(out.iterdir()) and not (out / REPORT).is_file():
        raise OutputError(f"{out} is not empty and holds no table", hint="name another folder")
    unfinished = out.with_name(f".{out.name}.{os.getpid()}.unfinished")
    with explained(unfinished):
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        try:
            report = _write(source, batches, unfinished, strict=strict)
            report.inputs = files
            if (work / FOLDER).is_dir():
                (work / FOLDER).rename(unfinished / FOLDER)
            for part in report.parts:
                sync_file(unfinished / part)
            encoded = msgspec.json.encode(report, order="sorted")
            write_file(unfinished / REPORT, msgspec.json.format(encoded, indent=1) + b"\n")
            replace_folder(unfinished, out)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return Table(out)


def _write(source: str, batches: Iterable[Batch], folder: Path, *, strict: bool) -> BuildReport:
    writer = TableWriter(folder)
    ids = Ids(_registry.find(source))
    dropped: dict[str, int] = {}
    first: dict[str, list[dict[str, str]]] = {}
    splits: dict[str, int] = {}
    references: set[bytes] = set()
    rows = images = 0
    for batch in batches:
        kept = ids.settle(batch)
        for one in kept.dropped:
            if strict:
                raise RecordError(
                    one.detail or REFUSED.get(one.reason, one.reason),
                    reason=one.reason,
                    file=one.file,
                    record=one.record,
                    hint="without --strict it is dropped and counted",
                )
            dropped[one.reason] = dropped.get(one.reason, 0) + one.count
            named = first.setdefault(one.reason, [])
            if len(named) < FIRST:
                named.append({"file": one.file, "record": one.record, "detail": one.detail})
        if kept.rows.num_rows:
            writer.write(kept.rows)
            rows += kept.rows.num_rows
            for value in kept.rows.column("split").value_counts().to_pylist():
                splits[value["values"]] = splits.get(value["values"], 0) + value["counts"]
            shown = kept.rows.column("images").flatten().field("path")
            images += len(shown)
            references.update(
                xxhash.xxh3_64_digest(path.encode()) for path in shown.unique().to_pylist()
            )
    digest = writer.close()
    return BuildReport(
        source=source,
        rows=rows,
        images=images,
        unique_images=len(references),
        splits=dict(sorted(splits.items())),
        dropped=dict(sorted(dropped.items())),
        dropped_first=dict(sorted(first.items())),
        broken=sum(dropped.values()),
        absent=[],
        options={},
        inputs={},
        parts=writer.parts,
        fingerprint="",
        digest=digest,
    )
