"""From a source's files to its table, once."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from vision_ift import _registry
from vision_ift._builder import Absent, Batch, Builder, Dropped
from vision_ift._conversation import SCHEMA_VERSION
from vision_ift._disk import (
    explained,
    locked,
    recover_folder,
    replace_folder,
    sync_file,
    write_file,
)
from vision_ift._errors import MissingInputError, OutputError, RecordError, unopened
from vision_ift._run import local
from vision_ift._table import REPORT, BuildReport, Table, TableWriter, row_digests

#: How many dropped records of a reason are named in the report.
FIRST = 10

#: Told what is being done, how much is done, and of how much (0: not known).
Progress = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """Say nothing."""


def default_root() -> Path:
    """ROOT where none is given: ``VISION_IFT_ROOT``, else ``~/.cache/vision_ift/sources``."""
    return Path(os.environ.get("VISION_IFT_ROOT") or "~/.cache/vision_ift/sources").expanduser()


def default_tables() -> Path:
    """Where tables are kept: ``VISION_IFT_TABLES``, else ``~/.cache/vision_ift/tables``."""
    return Path(os.environ.get("VISION_IFT_TABLES") or "~/.cache/vision_ift/tables").expanduser()


def build(
    source: str,
    *,
    root: Path | str | None = None,
    out: Path | str | None = None,
    tables: Path | str | None = None,
    options: Mapping[str, Any] | None = None,
    strict: bool = False,
    jobs: int = 1,
    progress: Progress = silent,
) -> Table:
    """Build a source's table, or open it where it is there and its files did not change.

    Args:
        source: The source's name (``vision-ift sources`` lists them).
        root: Where the authors' files lie; ``None``: ``VISION_IFT_ROOT``, else
            ``~/.cache/vision_ift/sources``.
        out: The folder to write; ``None``: ``tables/<source>-<fingerprint>``.
        tables: Where tables are kept; ``None``: ``VISION_IFT_TABLES``, else
            ``~/.cache/vision_ift/tables``.
        options: The source's own options; text is converted.
        strict: Stop at the first record that breaks a rule, instead of counting it.
        jobs: Processes that parse.
        progress: Told how many rows are done.

    Returns:
        The table: Parquet with pictures by reference, and ``build.json``. The rows are the same for
        any ``jobs``.

    Raises:
        UnknownNameError: No such source or option.
        MissingInputError: None of the source's files lie under ``root``.
        RecordError: With ``strict``, a record that breaks a rule.
        OutputError: ``out`` holds something else.

    >>> build("coco_ift", root="nowhere")
    Traceback (most recent call last):
    vision_ift._errors.MissingInputError: source coco_ift: there is no folder nowhere; ...
    """
    builder = _registry.find(source)
    root = Path(root).expanduser() if root is not None else default_root()
    checked = builder.options(dict(options or {}))
    inputs = _inputs(builder, root, checked)
    fingerprint = _fingerprint(builder, checked, inputs)
    if out is not None:
        folder = Path(out)
    else:
        folder = Path(tables or default_tables()).expanduser() / f"{source}-{fingerprint[:16]}"
    with explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / f".{folder.name}.lock", wait=True):
        recover_folder(folder)
        if (folder / REPORT).exists():
            table = Table(folder)
            if table.report.fingerprint == fingerprint and not (strict and table.report.broken):
                return table
        elif folder.exists() and any(folder.iterdir()):
            raise OutputError(
                f"{folder} is not empty and holds no table", hint="name another folder"
            )
        unfinished = folder.with_name(f".{folder.name}.unfinished")
        with explained(unfinished):
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            try:
                report = _write(
                    builder, root, unfinished, checked, strict=strict, jobs=jobs, progress=progress
                )
                report.inputs = {name: size for name, size, _ in inputs}
                report.fingerprint = fingerprint
                for part in report.parts:
                    sync_file(unfinished / part)
                encoded = msgspec.json.encode(report, order="sorted")
                write_file(unfinished / REPORT, msgspec.json.format(encoded, indent=1) + b"\n")
                replace_folder(unfinished, folder)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return Table(folder)


def describe_inputs(
    source: str,
    *,
    root: Path | str | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, int]:
    """List the files that :func:`build` would read: path under ROOT to bytes (folders: -1)."""
    builder = _registry.find(source)
    where = Path(root).expanduser() if root is not None else default_root()
    found = _inputs(builder, where, builder.options(dict(options or {})))
    return {name: size for name, size, _ in found}


def fingerprint(source: str, *, root: Path | str, options: Mapping[str, Any] | None = None) -> str:
    """Digest, without building it, of all that decides a table's rows: files, options, code.

    Raises:
        UnknownNameError: No such source or option.
        MissingInputError: None of the source's files lie under ``root``.
    """
    builder = _registry.find(source)
    checked = builder.options(dict(options or {}))
    return _fingerprint(builder, checked, _inputs(builder, Path(root), checked))


def _inputs(builder: Builder, root: Path, options: dict[str, Any]) -> list[tuple[str, int, int]]:
    """Name, size and time of all that decides the table; folders count by their time alone."""
    hint = f"vision-ift fetch {builder.name} brings it or says where it comes from"
    if not root.is_dir():
        raise MissingInputError(
            f"source {builder.name}: there is no folder {root}",
            hint=f"give --root or VISION_IFT_ROOT; {hint}",
        )
    found = []
    for path in builder.inputs(root, **options):
        try:
            status = path.stat()
        except OSError as error:
            raise unopened(f"source {builder.name}: {path}", error, hint=hint) from None
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
        size = -1 if path.is_dir() else status.st_size
        found.append((name, size, status.st_mtime_ns))
    if not any(size >= 0 for _, size, _ in found):
        raise MissingInputError(
            f"source {builder.name}: none of its files are under {root} "
            f"(looked for {', '.join(builder.files) or 'its path'})",
            hint=hint,
        )
    return found


def _fingerprint(
    builder: Builder, options: dict[str, Any], inputs: list[tuple[str, int, int]]
) -> str:
    """Digest of all that decides the rows: files, options, and the code that reads them."""
    digest = hashlib.sha256()
    digest.update(json.dumps([SCHEMA_VERSION, builder.name, options, inputs]).encode())
    module = sys.modules[type(builder).__module__]
    own = Path(inspect.getfile(module))
    shared = sorted(own.parent.glob("_*.py"))
    for path in (own, *shared, Path(inspect.getfile(Builder))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _write(
    builder: Builder,
    root: Path,
    folder: Path,
    options: dict[str, Any],
    *,
    strict: bool,
    jobs: int,
    progress: Progress,
) -> BuildReport:
    writer = TableWriter(folder)
    ids = Ids(builder)
    dropped: dict[str, int] = {}
    first: dict[str, list[dict[str, str]]] = {}
    absent: list[Absent] = []
    splits: dict[str, int] = {}
    references: set[bytes] = set()
    rows = images = broken = 0
    for batch in builder.batches(root, run=local(jobs), **options):
        kept = ids.settle(batch)
        for one in kept.dropped:
            if strict and not one.by_rule:
                raise RecordError(
                    one.detail or one.reason,
                    reason=one.reason,
                    source=builder.name,
                    file=one.file,
                    record=one.record,
                    hint="without --strict it is dropped and counted",
                )
            dropped[one.reason] = dropped.get(one.reason, 0) + one.count
            broken += 0 if one.by_rule else one.count
            named = first.setdefault(one.reason, [])
            if len(named) < FIRST:
                named.append({"file": one.file, "record": one.record, "detail": one.detail})
        absent.extend(kept.absent)
        if kept.rows.num_rows:
            writer.write(kept.rows)
            rows += kept.rows.num_rows
            for value in kept.rows.column("split").value_counts().to_pylist():
                splits[value["values"]] = splits.get(value["values"], 0) + value["counts"]
            shown = kept.rows.column("images").flatten().field("path")
            images += len(shown)
            references.update(
                xxhash.xxh3_64_digest(path.encode()) for path in pc.unique(shown).to_pylist()
            )
        progress(f"build {builder.name}", rows, 0)
    digest = writer.close()
    return BuildReport(
        source=builder.name,
        rows=rows,
        images=images,
        unique_images=len(references),
        splits=dict(sorted(splits.items())),
        dropped=dict(sorted(dropped.items())),
        dropped_first=dict(sorted(first.items())),
        broken=broken,
        absent=[{"name": one.name, "wanted": list(one.wanted)} for one in absent],
        options=options,
        inputs={},
        parts=writer.parts,
        fingerprint="",
        digest=digest,
    )


#: Beyond this, the last number given to an id is remembered instead of tried for.
_REMEMBERED = 2


class Ids:
    """Keeps ids unique over a whole source, by the builder's rule for a repeated one."""

    def __init__(self, builder: Builder) -> None:
        self._number = builder.repeated_ids == "number"
        # Ids are remembered by their digests. Where a repeated one is dropped they have 128 bits,
        # so that no two ids are ever taken for one; where it is numbered 64 are enough, for a
        # collision would cost a number behind an id, not a row.
        self._digest = xxhash.xxh3_64_intdigest if self._number else xxhash.xxh3_128_intdigest
        # Each id's first row (its digest), and the pairs of id and row of all later ones.
        self._seen: dict[int, int] = {}
        self._later: set[int] = set()
        self._numbers: dict[int, int] = {}

    def settle(self, batch: Batch) -> Batch:
        """Drop or number the rows of a batch whose id was met before.

        A row that only repeats another one, words and pictures, is dropped in either case.
        """
        ids = batch.rows.column("id").to_pylist()
        keys = list(map(self._digest, map(str.encode, ids)))
        digests = row_digests(batch.rows) if self._number else [0] * len(keys)
        seen = self._seen
        if len(set(keys)) == len(keys) and seen.keys().isdisjoint(keys):
            seen.update(zip(keys, digests, strict=True))
            return batch
        dropped: list[int] = []
        for row, (key, digest) in enumerate(zip(keys, digests, strict=True)):
            first = seen.setdefault(key, -1)
            if first == -1:
                seen[key] = digest
                continue
            pair = hash((key, digest))
            if digest == first or pair in self._later:
                dropped.append(row)
            else:
                self._later.add(pair)
                ids[row] = self._numbered(ids[row], key, digest)
        rows = batch.rows
        if self._number:
            rows = rows.set_column(0, rows.schema.field(0), pa.array(ids, pa.string()))
        if not dropped:
            return batch._replace(rows=rows)
        keep = np.ones(len(ids), bool)
        keep[dropped] = False
        detail = "a record before it is the same" if self._number else "a record before it has it"
        more = [Dropped(reason="duplicate_id", record=ids[row], detail=detail) for row in dropped]
        return Batch(rows.filter(pa.array(keep)), [*batch.dropped, *more], batch.absent)

    def _numbered(self, name: str, key: int, digest: int) -> str:
        """Give the next free ``name#2``, ``name#3`` …; a source may itself use such a name."""
        number = self._numbers.get(key, 1)
        while True:
            number += 1
            numbered = f"{name}#{number}"
            taken = self._digest(numbered.encode())
            if taken not in self._seen:
                self._seen[taken] = digest
                if number > _REMEMBERED:  # a few numbers are found again sooner than looked up
                    self._numbers[key] = number
                return numbered
