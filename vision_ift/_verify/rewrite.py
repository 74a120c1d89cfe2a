"""Damaged shards, written again beside the export and put in place where they come out right."""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from vision_ift._build import Progress
from vision_ift._disk import explained, sync_folder
from vision_ift._errors import IntegrityError, MissingInputError, RecordError
from vision_ift._export.manifest import GROUPS, OWN, Layout, Shard, record
from vision_ift._export.shard import write_shard
from vision_ift._plan.plan import Plan
from vision_ift._run import local
from vision_ift._verify.finding import MOST_PLACES, Finding, Place, opened, read_at
from vision_ift._verify.index import END_BYTES, members_of
from vision_ift._verify.shard import digests

#: Bytes compared at once.
_PIECE = 1 << 20

#: What the folders are called in which shards are made.
_SCRATCH = ".repair-"


class Task(NamedTuple):
    """One shard to write; pickles.

    Attributes:
        number, expected: Which, and the digest it must have; empty where nothing says it.
        rows: The rows it must have; -1 where nothing says it.
        in_place: Whether the shard itself is damaged; else only what is said of it, and the shard
            is made elsewhere and thrown away.
        strict: Whether no row of it was dropped when it was first written.
    """

    number: int
    expected: str
    rows: int
    in_place: bool
    strict: bool


class Rewritten(NamedTuple):
    """What became of a task: why it could not be done, or what the shard had had otherwise."""

    task: Task
    failure: str = ""
    restored: Finding | None = None


def write_again(
    folder: Path,
    made: Plan,
    layout: Layout,
    tasks: list[Task],
    *,
    jobs: int,
    progress: Progress,
) -> Iterator[Rewritten]:
    """Write shards, or what is said of them, and yield what became of each, in order."""
    if not tasks:
        return
    with _scratch(folder, layout) as scratch:
        work = functools.partial(_write_one, made, layout, folder, scratch)
        for done, one in enumerate(local(min(jobs, len(tasks)))(work, tasks), 1):
            yield one
            progress("repair", done, len(tasks))


def remove_scratch(folder: Path) -> None:
    """Remove what a repair that was killed left behind."""
    with explained(folder):
        for left in sorted((folder / OWN).glob(f"{_SCRATCH}*")):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)


def _write_one(made: Plan, layout: Layout, folder: Path, scratch: Path, task: Task) -> Rewritten:
    """Do one task; runs in any process."""
    number = task.number
    fresh = scratch / layout.name(number)
    try:
        shard, part = write_shard(
            made, layout, number, scratch, expected=task.expected, strict=task.strict
        )
        if task.rows >= 0 and shard.rows != task.rows:
            return Rewritten(task, f"the sources now give {shard.rows:,} rows, not {task.rows:,}")
        if task.rows < 0 and not _is_there(folder, shard):
            return Rewritten(
                task, "neither manifest nor record is left, and the sources give another shard"
            )
        restored = None
        if task.in_place:
            restored = _restored(folder, scratch, shard, part)
            with explained(folder / shard.name):
                (folder / shard.name).parent.mkdir(exist_ok=True)
                fresh.replace(folder / shard.name)
                sync_folder((folder / shard.name).parent)
        record(folder, shard, part)
        return Rewritten(task, restored=restored)
    except (IntegrityError, MissingInputError, RecordError) as error:
        return Rewritten(task, error.message.replace(str(scratch), str(folder)))
    finally:
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()


def _restored(folder: Path, scratch: Path, shard: Shard, part: pa.RecordBatch) -> Finding | None:
    """Say which bytes of the shard that is there are others than in the one just written."""
    try:
        with opened(folder, shard.name) as old, opened(scratch, shard.name) as new:
            places, rows = differences(old, new, part, shard.bytes)
    except (IntegrityError, MissingInputError):
        return None
    return Finding(
        kind="digest",
        file=shard.name,
        detail=f"of its bytes these were others, in {rows:,} of {shard.rows:,} rows",
        number=shard.number,
        rows=rows,
        places=places[:MOST_PLACES],
    )


def differences(old: int, new: int, part: pa.RecordBatch, size: int) -> tuple[list[Place], int]:
    """Compare a shard with the one that it should be, member by member.

    Args:
        old, new: Descriptors of the two files.
        part: The new one's part of the index.
        size: The new one's size, in bytes.

    Returns:
        A place for each member that differs, from the first to the last byte that does, header and
        padding included; and in how many rows.
    """
    members = members_of(part)
    starts = np.append(members.headers, size - END_BYTES)
    spans: dict[int, list[int]] = {}  # first byte, last byte, how many
    for offset in range(0, size, _PIECE):
        right = np.frombuffer(read_at(new, offset, _PIECE), np.uint8)
        there = np.frombuffer(read_at(old, offset, len(right)), np.uint8)
        other = np.ones(len(right), bool)  # also where the old one has ended
        other[: len(there)] = right[: len(there)] != there
        at = offset + np.flatnonzero(other)
        if not len(at):
            continue
        found, first = np.unique(np.searchsorted(starts, at, "right") - 1, return_index=True)
        last = np.append(first[1:], len(at)) - 1
        for member, begin, end in zip(found.tolist(), first.tolist(), last.tolist(), strict=True):
            span = spans.setdefault(member, [int(at[begin]), 0, 0])
            span[1] = int(at[end])
            span[2] += end - begin + 1
    keys = part.column("key")
    rows = set()
    places = []
    for member, (start, stop, count) in sorted(spans.items()):
        what = f"{count:,} {'byte was another' if count == 1 else 'bytes were others'}"
        if member == len(members.headers):
            places.append(Place(start=start, stop=stop + 1, what=f"the archive's end: {what}"))
            continue
        row = int(np.searchsorted(members.first, member, "right")) - 1
        rows.add(row)
        key = keys[row].as_py()
        name = f"{key}.{members.names[member]}"
        places.append(
            Place(start=start, stop=stop + 1, row=key, member=name, what=f"{name}: {what}")
        )
    if read_at(old, size, 1):
        places.append(Place(start=size, stop=size + 1, what="more followed"))
    return places, len(rows)


def _is_there(folder: Path, shard: Shard) -> bool:
    """Say whether a shard that nothing tells about is what the sources give, or is gone."""
    try:
        with opened(folder, shard.name) as descriptor:
            return digests(descriptor)[0] == shard.xxh3_128
    except MissingInputError:
        return True
    except IntegrityError:
        return False


@contextmanager
def _scratch(folder: Path, layout: Layout) -> Iterator[Path]:
    """A folder on the export's disk in which shards are made."""
    with explained(folder):
        scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=folder / OWN))
    try:
        if layout.uniform:
            with explained(scratch):
                (scratch / GROUPS).parent.mkdir()
                shutil.copyfile(folder / GROUPS, scratch / GROUPS)
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)  # what stays the next repair removes
