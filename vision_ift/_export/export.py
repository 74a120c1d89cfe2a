"""From a plan to WebDataset shards, whole or resumable, by one process or by many.

A shard is a pure function of (plan, layout, number), so an export that was stopped goes on with
the numbers that have no record, and its bytes are those of a run that was never stopped. The order
of writing is what makes that safe: a shard under a temporary name, fsync, rename, fsync of the
folder; then its record; when all are there, the files for other readers; the manifest last.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from vision_ift._build import Progress, silent
from vision_ift._disk import explained, sync_folder
from vision_ift._errors import MissingInputError, OutputError, RecordError, UsageError
from vision_ift._export import sidecars as _sidecars
from vision_ift._export.card import CARD, card
from vision_ift._export.manifest import (
    DONE,
    GROUPS,
    LAYOUT,
    MANIFEST,
    OWN,
    PLAN,
    RECIPE,
    Layout,
    Manifest,
    Shard,
    encode,
    file_digests,
    in_place,
    index_path,
    indexes,
    merge,
    put,
    read,
    record,
    recorded,
)
from vision_ift._export.ranks import Rank, leave_no_locks, rank_of, settling, working
from vision_ift._export.settle import Asked, check_space, clean, differences, settle
from vision_ift._export.shard import write_shard
from vision_ift._export.shared import call_on_each
from vision_ift._plan.plan import Plan, plan
from vision_ift._recipe.recipe import Recipe
from vision_ift._run import local

#: What a shard comes to where nothing is asked: small enough for many workers, large enough that
#: a file costs nothing.
SHARD_BYTES = 500_000_000


class ExportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an export holds; JSON-able by ``msgspec.to_builtins``.

    Attributes:
        out: The folder.
        rows, images: Conversations and pictures in it.
        dropped: Reason to number of rows of the plan that are not in it.
        shards, bytes: Number of shards and their bytes together.
        plan_digest: Names the plan.
        export_digest: Names the shards: equal for equal bytes; empty while it is not finished.
        finished: Whether the whole export is there; ``False`` where other ranks have still to
            write shards, and the counts are then those of the shards that are there.
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
    finished: bool = True


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
    uniform: bool = False,
    rank: int | Literal["auto"] | None = None,
    world_size: int | None = None,
    progress: Progress = silent,
) -> ExportReport:
    """Write a plan as WebDataset shards with a card, indexes and a manifest.

    The same call after a crash, a kill or a full disk goes on where it stopped; after a finished
    export it returns at once. The bytes are the same for any ``jobs`` and any number of ranks, on
    every machine.

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
        uniform: Group the rows by the formats of their pictures, each group in a folder of its own
            (``img1-jpg/``), for readers that want the same members in every row; inside a group
            they keep the plan's order. Otherwise all rows keep it, for training.
        rank, world_size: Write only the shards whose number modulo ``world_size`` is ``rank``, side
            by side with the others in one folder; whoever comes last finishes the export.
            ``rank="auto"`` asks torchrun, Slurm or Kubernetes for both.
        progress: Told how many rows are done.

    Raises:
        OutputError: ``out`` holds something else, or another plan's export.
        DiskError: The disk is too small, full or failing.
        LockedError: Somebody else is writing there.
        RecordError: With ``strict``, a row that cannot be written.
        MissingInputError: No row of the plan can be written.
        IntegrityError: Pictures have changed since the export was begun, or while they were read.

    >>> export("coco_mix", root="nowhere", out="shards")
    Traceback (most recent call last):
    vision_ift._errors.MissingInputError: source coco_ift: there is no folder nowhere; ...
    """
    if not re.fullmatch(r"[A-Za-z0-9_]{1,40}", split):
        raise UsageError(f"split {split!r} names no file", hint="use letters, digits and _")
    if shard_bytes < 1:
        raise UsageError(f"shard_bytes is {shard_bytes}; give 1 or more")
    mine = rank_of(rank, world_size)
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
    asked = Asked(shard_bytes, split, text, uniform)
    manifest = _finished(folder, planned, asked)
    if manifest is None:
        _claim(folder)
        with working(folder, mine):
            found = _write(
                folder, planned, asked, rank=mine, jobs=jobs, strict=strict, progress=progress
            )
        if isinstance(found, ExportReport):
            return found
        manifest = found
    if strict:
        _refuse_dropped(folder, manifest.dropped, manifest.dropped_first)
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


def _finished(folder: Path, planned: Plan, asked: Asked) -> Manifest | None:
    """Give the manifest of a finished export of just this, all of whose files are there."""
    layout = read(folder / LAYOUT, Layout)
    manifest = read(folder / MANIFEST, Manifest)
    if layout is None or manifest is None or differences(layout, planned, asked):
        return None
    beside = [CARD, PLAN, RECIPE, *([GROUPS] if asked.uniform else [])]
    beside += _sidecars.names(manifest)
    complete = all(in_place(folder, shard) for shard in manifest.shards) and all(
        (folder / name).exists() for name in beside
    )
    return manifest if complete else None


def _claim(folder: Path) -> None:
    """Make the folder ours, or refuse one that holds something else."""
    with explained(folder):
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder} is not a folder", hint="name another one")
        if (
            folder.is_dir()
            and not (folder / LAYOUT).exists()
            and any(entry.name != OWN for entry in folder.iterdir())
            and not (folder / LAYOUT).exists()  # another rank may have come between
        ):
            raise OutputError(f"{folder} is not empty and holds no export", hint="name another one")
        (folder / DONE).mkdir(parents=True, exist_ok=True)
        for path in (folder / OWN, folder, folder.parent):
            sync_folder(path)


def _write(
    folder: Path,
    planned: Plan,
    asked: Asked,
    *,
    rank: Rank | None,
    jobs: int,
    strict: bool,
    progress: Progress,
) -> Manifest | ExportReport:
    """Write the shards that are missing; give the manifest once none is."""
    with settling(folder, rank):
        layout = settle(folder, planned, asked, run=local(jobs))
        _clean_rest(folder, layout)
    if strict:
        _refuse_dropped(folder, layout.dropped, layout.dropped_first)
    numbers = range(layout.shards)
    mine = numbers if rank is None else numbers[rank.rank :: rank.world_size]
    _clean_shards(folder, layout, mine)
    shards = _in_place(folder, layout, numbers)
    pending = [number for number in mine if number not in shards]
    if strict:
        for shard in shards.values():
            _refuse_dropped(folder, shard.dropped, shard.dropped_first)
    check_space(folder, layout, [number for number in numbers if number not in shards])
    total = sum(_span_rows(layout, number) for number in mine)
    done = total - sum(_span_rows(layout, number) for number in pending)
    progress("export", done, total)
    tasks = [(number, _expected(folder, layout, number)) for number in pending]
    work = functools.partial(_write_one, planned, layout, folder, strict)
    for shard in call_on_each(work, tasks, jobs=min(jobs, max(1, len(tasks)))):
        shards[shard.number] = shard
        done += _span_rows(layout, shard.number)
        progress("export", done, total)
    with settling(folder, rank):
        if rank is not None:
            shards = _in_place(folder, layout, numbers)
        if len(shards) < layout.shards:
            return _unfinished(folder, layout, list(shards.values()))
        manifest = _finished(folder, planned, asked) if rank is not None else None
        if manifest is None:
            manifest = _finish(folder, planned, layout, [shards[one] for one in numbers])
        leave_no_locks(folder)
    return manifest


def _in_place(folder: Path, layout: Layout, numbers: Sequence[int]) -> dict[int, Shard]:
    """Read the records of the shards that are whole."""
    found = {}
    for number in numbers:
        shard = recorded(folder, layout, number)
        if shard is not None and in_place(folder, shard) and index_path(folder, number).exists():
            found[number] = shard
    return found


def _expected(folder: Path, layout: Layout, number: int) -> str:
    """Give the digest that a lost shard had."""
    shard = recorded(folder, layout, number)
    return shard.xxh3_128 if shard is not None else ""


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
    files = file_digests(folder, uniform=layout.uniform)
    manifest = msgspec.structs.replace(manifest, files=files)
    put(folder / MANIFEST, encode(manifest))
    return manifest


def _unfinished(folder: Path, layout: Layout, shards: list[Shard]) -> ExportReport:
    """Report what is there while other ranks have still to write theirs."""
    dropped = dict(layout.dropped)
    for shard in shards:
        for reason, rows in shard.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + rows
    return ExportReport(
        schema_version=layout.schema_version,
        out=str(folder),
        rows=sum(shard.rows for shard in shards),
        images=sum(shard.images for shard in shards),
        dropped=dropped,
        shards=sum(1 for shard in shards if shard.rows),
        bytes=sum(shard.bytes for shard in shards),
        plan_digest=layout.plan_digest,
        export_digest="",
        finished=False,
    )


def _clean_shards(folder: Path, layout: Layout, numbers: Sequence[int]) -> None:
    """Remove what a killed run left of these shards, which nobody else can be writing."""
    own = {layout.name(number) for number in numbers}
    own |= {f"{DONE}/{number:06d}.{ending}" for number in numbers for ending in ("json", "arrow")}
    clean(folder, ["", *(group.name for group in layout.groups), DONE], own.__contains__)


def _clean_rest(folder: Path, layout: Layout) -> None:
    """Remove what a killed run left of the files that are written before and after the shards."""
    clean(folder, [OWN], lambda _: True)
    for place in ["", *(f"{group.name}/" for group in layout.groups)]:
        clean(folder, [f"{place}{_sidecars.ENERGON}"], lambda _: True)
        clean(folder, [place.rstrip("/")], lambda name: not name.endswith(".tar"))


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
