"""From a plan to WebDataset shards, whole or resumable.

A shard is a pure function of (plan, layout, number), so an export that was stopped goes on with
the numbers that have no record, and its bytes are those of a run that was never stopped. The order
of writing is what makes that safe: a shard under a temporary name, fsync, rename, fsync of the
folder; then its record; when all are there, the files for other readers; the manifest last.
"""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from vision_ift import _sidecars
from vision_ift._build import Progress, silent
from vision_ift._card import CARD, card
from vision_ift._disk import explained, locked, sync_folder
from vision_ift._errors import DiskError, MissingInputError, OutputError, RecordError, UsageError
from vision_ift._images import Images
from vision_ift._manifest import (
    DONE,
    LAYOUT,
    LOCK,
    MANIFEST,
    OWN,
    PLAN,
    RECIPE,
    Layout,
    Manifest,
    Shard,
    encode,
    in_place,
    index_path,
    indexes,
    merge,
    put,
    read,
    record,
    recorded,
)
from vision_ift._plan import Plan, plan
from vision_ift._recipe import Recipe
from vision_ift._run import local
from vision_ift._shard import documents, row_bytes, write_shard

#: What a shard comes to where nothing is asked: small enough for many workers, large enough that
#: a file costs nothing.
SHARD_BYTES = 500_000_000

#: Shards have six digits.
_MOST_SHARDS = 10**6

#: Rows measured to turn bytes a shard into rows a shard.
_MEASURED_ROWS = 1024

#: What the index, the records and SQLite's file take for a row, in bytes, generously.
_INDEX_ROW_BYTES = 600


class ExportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an export holds; JSON-able by ``msgspec.to_builtins``.

    Attributes:
        out: The folder.
        rows, images: Conversations and pictures in it.
        dropped: Reason to number of rows of the plan that are not in it.
        shards, bytes: Number of shards and their bytes together.
        plan_digest: Names the plan.
        export_digest: Names the shards: equal for equal bytes.
    """

    schema_version: int
    out: str
    rows: int
    images: int
    dropped: dict[str, int]
    shards: int
    bytes: int
    plan_digest: str
    export_digest: str


def export(
    recipe: Recipe | Plan | str | Path,
    *,
    out: Path | str,
    root: Path | str | None = None,
    tables: Path | str | None = None,
    total: int | None = None,
    shard_bytes: int = SHARD_BYTES,
    jobs: int = 1,
    allow_missing: bool = False,
    strict: bool = False,
    split: str = "train",
    text: bool = True,
    progress: Progress = silent,
) -> ExportReport:
    """Write a plan as WebDataset shards with a card, indexes and a manifest.

    The same call after a crash, a kill or a full disk goes on where it stopped; after a finished
    export it returns at once. The bytes are the same for any ``jobs``, on every machine.

    Args:
        recipe: A recipe, the name of a shipped one, the path of a YAML file, or a plan.
        out: The folder to write: new, empty, or holding this export unfinished.
        root, tables, total, allow_missing: As for :func:`vision_ift.plan`; not with a plan.
        shard_bytes: Bytes a shard, about: rows a shard are this by the mean size of 1,024 rows.
        jobs: Processes.
        strict: Stop at the first row whose picture is missing or not JPEG, PNG, WebP or GIF, which
            otherwise is left out and counted.
        split: What the shards are named after: ``train-000000.tar``.
        text: Also write the words of each conversation as a ``.txt`` member.
        progress: Told how many rows are done.

    Raises:
        OutputError: ``out`` holds something else, or another plan's export.
        DiskError: The disk is too small, full or failing.
        LockedError: Somebody else is writing there.
        RecordError: With ``strict``, a row that cannot be written.
        MissingInputError: No row of the plan can be written.
        IntegrityError: A shard has to be written again, but its pictures have changed.

    >>> export("coco_mix", root="nowhere", out="shards")
    Traceback (most recent call last):
    vision_ift._errors.MissingInputError: source coco_ift: there is no folder nowhere; ...
    """
    if not re.fullmatch(r"[A-Za-z0-9_]{1,40}", split):
        raise UsageError(f"split {split!r} names no file", hint="use letters, digits and _")
    if shard_bytes < 1:
        raise UsageError(f"shard_bytes is {shard_bytes}; give 1 or more")
    if isinstance(recipe, Plan):
        if (root, tables, total) != (None, None, None) or allow_missing:
            raise UsageError("root, tables, total and allow_missing are the plan's own")
        planned = recipe
    else:
        planned = plan(
            recipe,
            root=root,
            tables=tables,
            total=total,
            allow_missing=allow_missing,
            strict=strict,
            jobs=jobs,
            progress=progress,
        )
    if not len(planned):
        raise MissingInputError(f"the plan of {planned.recipe.name} has no rows")
    folder = Path(out)
    asked = _Asked(shard_bytes, split, text)
    manifest = _finished(folder, planned, asked)
    if manifest is None:
        _claim(folder)
        with locked(folder / LOCK):
            manifest = _write(folder, planned, asked, jobs=jobs, strict=strict, progress=progress)
    if strict:
        _refuse_dropped(folder, manifest.dropped, manifest.dropped_first)
    return _report(folder, manifest)


class _Asked(NamedTuple):
    """What a caller can choose of the layout."""

    shard_bytes: int
    split: str
    text: bool


def _report(folder: Path, manifest: Manifest) -> ExportReport:
    return ExportReport(
        schema_version=manifest.schema_version,
        out=str(folder),
        rows=manifest.rows,
        images=manifest.images,
        dropped=manifest.dropped,
        shards=len(manifest.shards),
        bytes=manifest.bytes,
        plan_digest=manifest.plan_digest,
        export_digest=manifest.export_digest,
    )


def _finished(folder: Path, planned: Plan, asked: _Asked) -> Manifest | None:
    """Give the manifest of a finished export of just this, all of whose files are there."""
    layout = read(folder / LAYOUT, Layout)
    manifest = read(folder / MANIFEST, Manifest)
    if layout is None or manifest is None or _differences(layout, planned, asked):
        return None
    beside = [CARD, PLAN, RECIPE, *_sidecars.names(manifest)]
    complete = all(in_place(folder, shard) for shard in manifest.shards) and all(
        (folder / name).exists() for name in beside
    )
    return manifest if complete else None


def _differences(layout: Layout, planned: Plan, asked: _Asked) -> list[str]:
    """Say how a folder's layout differs from what is asked."""
    now = {"plan": planned.digest, **asked._asdict()}
    there = {"plan": layout.plan_digest, **{name: getattr(layout, name) for name in asked._fields}}
    return [f"{name} {there[name]}, not {now[name]}" for name in now if now[name] != there[name]]


def _claim(folder: Path) -> None:
    """Make the folder ours, or refuse one that holds something else."""
    with explained(folder):
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder} is not a folder", hint="name another one")
        if (
            folder.is_dir()
            and not (folder / LAYOUT).exists()
            and any(entry.name != OWN for entry in folder.iterdir())
        ):
            raise OutputError(f"{folder} is not empty and holds no export", hint="name another one")
        (folder / DONE).mkdir(parents=True, exist_ok=True)
        for path in (folder / OWN, folder, folder.parent):
            sync_folder(path)


def _write(
    folder: Path,
    planned: Plan,
    asked: _Asked,
    *,
    jobs: int,
    strict: bool,
    progress: Progress,
) -> Manifest:
    layout = _settle(folder, planned, asked)
    _clean(folder)
    shards: dict[int, Shard] = {}
    pending: list[tuple[int, str]] = []
    for number in range(layout.shards):
        shard = recorded(folder, layout, number)
        if shard is not None and in_place(folder, shard) and index_path(folder, number).exists():
            shards[number] = shard
        else:
            pending.append((number, shard.xxh3_128 if shard is not None else ""))
    if strict:
        for shard in shards.values():
            _refuse_dropped(folder, shard.dropped, shard.dropped_first)
    _check_space(folder, layout, pending)
    done = sum(_span_rows(layout, number) for number in shards)
    progress("export", done, layout.rows)
    work = functools.partial(_write_one, planned, layout, folder, strict)
    for shard in local(min(jobs, max(1, len(pending))))(work, pending):
        shards[shard.number] = shard
        done += _span_rows(layout, shard.number)
        progress("export", done, layout.rows)
    return _finish(folder, planned, layout, [shards[number] for number in sorted(shards)])


def _write_one(
    planned: Plan, layout: Layout, folder: Path, strict: bool, task: tuple[int, str]
) -> Shard:
    """Write and record one shard; runs in any process."""
    number, expected = task
    shard, index = write_shard(planned, layout, number, folder, expected=expected, strict=strict)
    record(folder, shard, index)
    return shard


def _finish(folder: Path, planned: Plan, layout: Layout, shards: list[Shard]) -> Manifest:
    manifest = merge(planned, layout, shards)
    if not manifest.rows:
        reasons = ", ".join(f"{rows:,} {reason}" for reason, rows in manifest.dropped.items())
        raise MissingInputError(
            f"no row of {manifest.name} can be exported (dropped: {reasons})",
            hint=f"see whether the pictures are under {planned.root}, then use a new folder",
        )
    _sidecars.write_sidecars(folder, manifest, indexes(folder, layout))
    put(folder / CARD, card(manifest).encode())
    put(folder / MANIFEST, encode(manifest))
    return manifest


def _settle(folder: Path, planned: Plan, asked: _Asked) -> Layout:
    """Read the layout that an earlier run fixed, or fix it, before the first shard."""
    layout = read(folder / LAYOUT, Layout)
    if layout is None:
        rows, size = _measure(planned, text=asked.text)
        layout = Layout(
            plan_digest=planned.digest,
            rows=len(planned),
            rows_per_shard=max(1, asked.shard_bytes * rows // size),
            measured_rows=rows,
            measured_bytes=size,
            **asked._asdict(),
        )
        if layout.shards > _MOST_SHARDS:
            raise UsageError(
                f"{asked.shard_bytes:,} bytes a shard come to {layout.shards:,} shards; at most "
                f"{_MOST_SHARDS:,} have a name",
                hint="give a larger shard_bytes",
            )
    elif differences := _differences(layout, planned, asked):
        raise OutputError(
            f"{folder} holds another export: {'; '.join(differences)}",
            hint="name another folder, or ask for the same again",
        )
    elif _measure(planned, text=asked.text) != (layout.measured_rows, layout.measured_bytes):
        raise OutputError(
            f"pictures under {planned.root} have changed since the export to {folder} was begun",
            hint="bring the old ones back, or export to a new folder",
        )
    put(folder / PLAN, encode(planned.lock()))
    put(folder / RECIPE, planned.recipe.text.encode())
    put(folder / LAYOUT, encode(layout))
    return layout


def _measure(planned: Plan, *, text: bool) -> tuple[int, int]:
    """Give the number of evenly spaced rows measured, and the bytes they take in a tar.

    A picture that is missing counts nothing: its row will be left out.
    """
    count = min(_MEASURED_ROWS, len(planned))
    found = [planned.at(place * len(planned) // count) for place in range(count)]
    images = Images(planned.root)
    total = 0
    for source in sorted({source for source, _ in found}):
        table = planned.tables[source]
        assert table is not None
        rows = np.array([row for one, row in found if one == source], np.int64)
        for document, references in documents(table.take(rows)):
            total += row_bytes(document, [_size(images, one) for one in references], text=text)
    return count, total


def _size(images: Images, reference: str) -> int:
    try:
        return images.size(reference)
    except (MissingInputError, RecordError):
        return 0


def _clean(folder: Path) -> None:
    """Remove what a killed run left under temporary names."""
    with explained(folder):
        for place in (folder, folder / OWN, folder / DONE, folder / _sidecars.ENERGON):
            for path in place.glob(".*.tmp"):
                if re.fullmatch(r"\..+\.[0-9]+\.tmp", path.name):
                    path.unlink(missing_ok=True)


def _check_space(folder: Path, layout: Layout, pending: Iterable[tuple[int, str]]) -> None:
    rows = sum(_span_rows(layout, number) for number, _ in pending)
    needed = rows * layout.measured_bytes // layout.measured_rows + rows * _INDEX_ROW_BYTES
    with explained(folder):
        free = shutil.disk_usage(folder).free
    if needed > free:
        raise DiskError(
            f"{folder} needs about {needed:,} bytes more, and {free:,} are free",
            hint="free some space and run the same command again: it goes on where it stopped",
        )


def _span_rows(layout: Layout, number: int) -> int:
    start, stop = layout.span(number)
    return stop - start


def _refuse_dropped(
    folder: Path, dropped: dict[str, int], first: dict[str, list[dict[str, str]]]
) -> None:
    for reason in sorted(dropped):
        named = first[reason][0]
        raise RecordError(
            f"{named['image']}: left out of {folder} as {reason}, as {dropped[reason]:,} in all",
            reason=reason,
            record=named["id"],
            hint="without strict it is dropped and counted; else export to a new folder",
        )
