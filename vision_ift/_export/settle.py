"""What is settled before the first shard: the layout, and that the disk is large enough.

The layout is a pure function of the plan, of what was asked and of the pictures, so that several
machines that settle it side by side come to the same.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash

from vision_ift._disk import explained
from vision_ift._errors import (
    DiskError,
    MissingInputError,
    OutputError,
    RecordError,
    UsageError,
)
from vision_ift._export.document import member_names
from vision_ift._export.encode import encoded, in_tar, names_as_json
from vision_ift._export.groups import find_groups
from vision_ift._export.manifest import GROUPS, LAYOUT, PLAN, RECIPE, Layout, encode, put, read
from vision_ift._pictures.images import Images
from vision_ift._plan.plan import Plan
from vision_ift._run import Run

#: Shards have six digits.
_MOST_SHARDS = 10**6

#: Rows measured to turn bytes a shard into rows a shard.
_MEASURED_ROWS = 1024

#: Up to so many rows it is quicker to work out all positions than 1,024 of them one by one.
_SMALL_PLAN = 1 << 17

#: What a row takes in the index, in its part of the index and in SQLite's file, in bytes; and a
#: member in the last of them.
_INDEX_ROW_BYTES = 620


_TEMPORARY = re.compile(r"\.(.+)\.[0-9]+\.tmp")


class Asked(NamedTuple):
    """What a caller can choose of the layout."""

    shard_bytes: int
    split: str
    text: bool
    uniform: bool


def differences(layout: Layout, plan: Plan, asked: Asked) -> list[str]:
    """Say how a folder's layout differs from what is asked."""
    now = {"plan": plan.digest, **asked._asdict()}
    there = {"plan": layout.plan_digest, **{name: getattr(layout, name) for name in asked._fields}}
    return [f"{name} {there[name]}, not {now[name]}" for name in now if now[name] != there[name]]


def settle(folder: Path, plan: Plan, asked: Asked, *, run: Run) -> Layout:
    """Read the layout that an earlier run fixed, or fix it, before the first shard.

    Raises:
        OutputError: The folder holds another export, or pictures have changed since it was begun.
    """
    layout = read(folder / LAYOUT, Layout)
    if layout is None:
        layout = _new_layout(folder, plan, asked, run)
    elif found := differences(layout, plan, asked):
        raise OutputError(
            f"{folder} holds another export: {'; '.join(found)}",
            hint="name another folder, or ask for the same again",
        )
    elif _measure(plan, text=asked.text) != (layout.measured_rows, layout.measured_bytes):
        raise OutputError(
            f"pictures under {plan.root} have changed since the export to {folder} was begun",
            hint="bring the old ones back, or export to a new folder",
        )
    elif layout.uniform:
        _restore_groups(folder, plan, layout, run)
    put(folder / PLAN, encode(plan.lock()))
    put(folder / RECIPE, plan.recipe.text.encode())
    put(folder / LAYOUT, encode(layout))
    return layout


def _new_layout(folder: Path, plan: Plan, asked: Asked, run: Run) -> Layout:
    rows, size = _measure(plan, text=asked.text)
    layout = Layout(
        plan_digest=plan.digest,
        rows=len(plan),
        rows_per_shard=max(1, asked.shard_bytes * rows // size),
        measured_rows=rows,
        measured_bytes=size,
        **asked._asdict(),
    )
    if asked.uniform:
        found = find_groups(plan, shard_bytes=asked.shard_bytes, text=asked.text, run=run)
        put(folder / GROUPS, found.data)
        layout = Layout(
            plan_digest=plan.digest,
            rows=len(plan),
            rows_per_shard=layout.rows_per_shard,
            measured_rows=rows,
            measured_bytes=size,
            groups=found.groups,
            groups_digest=xxhash.xxh3_128_hexdigest(found.data),
            dropped=found.dropped,
            dropped_first=found.dropped_first,
            **asked._asdict(),
        )
    if layout.shards > _MOST_SHARDS:
        raise UsageError(
            f"{asked.shard_bytes:,} bytes a shard come to {layout.shards:,} shards; at most "
            f"{_MOST_SHARDS:,} have a name",
            hint="give a larger shard_bytes",
        )
    return layout


def _restore_groups(folder: Path, plan: Plan, layout: Layout, run: Run) -> None:
    """Make the groups' file anew where it is not what the layout names."""
    path = folder / GROUPS
    try:
        found = path.read_bytes()
    except OSError:
        found = b""
    if xxhash.xxh3_128_hexdigest(found) == layout.groups_digest:
        return
    again = find_groups(plan, shard_bytes=layout.shard_bytes, text=layout.text, run=run)
    if xxhash.xxh3_128_hexdigest(again.data) != layout.groups_digest:
        raise OutputError(
            f"pictures under {plan.root} have changed since the export to {folder} was begun",
            hint="bring the old ones back, or export to a new folder",
        )
    put(path, again.data)


def _measure(plan: Plan, *, text: bool) -> tuple[int, int]:
    """Give the number of evenly spaced rows measured, and the bytes they take in a tar.

    A picture that is missing counts nothing: its row will be left out.
    """
    count = min(_MEASURED_ROWS, len(plan))
    places = [place * len(plan) // count for place in range(count)]
    if len(plan) <= _SMALL_PLAN:
        all_sources, all_rows = plan.slice(0, len(plan))
        sources, rows = all_sources[places], all_rows[places]
    else:
        found = [plan.at(place) for place in places]
        sources = np.array([source for source, _ in found], np.int32)
        rows = np.array([row for _, row in found], np.int64)
    images = Images(plan.root)
    total = 0
    for some in encoded(plan.take(sources, rows)):
        names = []
        for number in range(len(some)):
            sizes = [_size(images, reference) for reference in some.references(number)]
            names.append(names_as_json(member_names(["jpg"] * len(sizes))))
            total += int(in_tar(np.array(sizes, np.int64)).sum())
        total += int(some.sizes(names, text=text).sum())
    return count, total


def _size(images: Images, reference: str) -> int:
    try:
        return images.size(reference)
    except (MissingInputError, RecordError):
        return 0


def bytes_needed(layout: Layout, numbers: Iterable[int]) -> int:
    """Say about how many bytes some shards of an export come to, with all that lies beside them."""
    needed = 0
    for number in numbers:
        start, stop = layout.span(number)
        size, rows = layout.measured_bytes, layout.measured_rows
        if layout.uniform:
            group = layout.groups[layout.place(number)[0]]
            size, rows = group.bytes, group.rows
        needed += (stop - start) * size // rows + (stop - start) * _INDEX_ROW_BYTES
    return needed


def check_space(folder: Path, layout: Layout, numbers: Sequence[int]) -> None:
    """Refuse to begin where the disk is too small for these shards.

    Raises:
        DiskError: It is.
    """
    needed = bytes_needed(layout, numbers)
    with explained(folder):
        free = shutil.disk_usage(folder).free
    if needed > free:
        raise DiskError(
            f"{folder} needs about {needed:,} bytes more, and {free:,} are free",
            hint="free some space and run the same command again: it goes on where it stopped",
        )


def clean(folder: Path, places: Iterable[str], wanted: Callable[[str], bool]) -> None:
    """Remove temporary files in some folders of an export, of the files whose paths are wanted."""
    with explained(folder):
        for place in places:
            for path in (folder / place).glob(".*.tmp"):
                meant = _TEMPORARY.fullmatch(path.name)
                if meant and wanted(f"{place}/{meant[1]}".lstrip("/")):
                    path.unlink(missing_ok=True)
