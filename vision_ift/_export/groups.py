"""Which rows of a plan lie in which shard: its stretch of the plan, or of one group's rows.

A uniform export groups rows by the formats of their pictures. The group of every row is settled
before the first shard, by looking at the first bytes of every picture once, and kept in a small
file, so that a shard stays a pure function of (plan, layout, number).
"""

from __future__ import annotations

import functools
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from vision_ift._archives.archive import SCHEME
from vision_ift._errors import IntegrityError, MissingInputError, RecordError, UsageError
from vision_ift._export.document import documents, member_names
from vision_ift._export.encode import encoded, in_tar, names_as_json
from vision_ift._export.manifest import FIRST, GROUPS, Group, Layout
from vision_ift._pictures.images import Images, image_format, open_file
from vision_ift._plan.plan import Plan
from vision_ift._run import Run
from vision_ift._table import GROUP_ROWS, Table

#: Rows read from the tables at once.
_CHUNK_ROWS = 4096

#: Positions of a plan that are worked out at once to find the rows of one group.
_BLOCK_ROWS = 1 << 17

#: The group of a row that is left out.
_LEFT_OUT = 0xFFFF

#: Each group has shards of its own, so thousands of groups are a mistake.
_MOST_GROUPS = 4096

Rows = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]


def keys(plan: Plan) -> tuple[int, list[str]]:
    """Give the width of a position in keys, and what each source number's keys end with."""
    endings = [re.sub(r"[^A-Za-z0-9_-]", "_", name)[:60] for name in plan.names]
    return max(9, len(str(len(plan)))), endings


def shard_rows(plan: Plan, layout: Layout, number: int, folder: Path) -> Iterator[Rows]:
    """Yield the rows of a shard, some thousands at once: positions, source and row numbers."""
    start, stop = layout.span(number)
    if not layout.uniform:
        for at in range(start, stop, _CHUNK_ROWS):
            end = min(at + _CHUNK_ROWS, stop)
            yield np.arange(at, end), *plan.slice(at, end)
        return
    group, _ = layout.place(number)
    wanted = np.flatnonzero(_groups(folder / GROUPS, layout.groups_digest) == group)[start:stop]
    waiting: list[Rows] = []
    rows = 0
    for positions in np.split(wanted, np.flatnonzero(np.diff(wanted // _BLOCK_ROWS)) + 1):
        first = int(positions[0])
        sources, numbers = plan.slice(first, int(positions[-1]) + 1)
        for at in range(0, len(positions), _CHUNK_ROWS):
            some = positions[at : at + _CHUNK_ROWS]
            waiting.append((some, sources[some - first], numbers[some - first]))
            rows += len(some)
            if rows >= _CHUNK_ROWS:
                yield _joined(waiting)
                waiting, rows = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(pieces: list[Rows]) -> Rows:
    positions, sources, rows = (np.concatenate(column) for column in zip(*pieces, strict=True))
    return positions, sources, rows


@functools.lru_cache(maxsize=1)
def _groups(path: Path, digest: str) -> NDArray[np.uint16]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise IntegrityError(f"{path} cannot be read: {error.strerror}") from None
    if xxhash.xxh3_128_hexdigest(data) != digest:
        raise IntegrityError(
            f"{path} is not the file that the layout names",
            hint="run the export again: it makes the file anew",
        )
    return np.frombuffer(data, "<u2")


class Grouped(NamedTuple):
    """The groups of a plan's rows.

    Attributes:
        data: What the groups' file holds.
        groups: The groups, those of fewer pictures first, then by name.
        dropped, dropped_first: As for a :class:`~vision_ift._export.manifest.Shard`.
    """

    data: bytes
    groups: list[Group]
    dropped: dict[str, int]
    dropped_first: dict[str, list[dict[str, str]]]


class _Task(NamedTuple):
    """Some rows of one table; small, as it goes to another process."""

    source: int
    table: Path
    rows: NDArray[np.int64]


class _Looked(NamedTuple):
    """What was found of the rows of one task: a kind for each, and what it takes in a tar.

    A kind is the formats of its pictures, or why it is left out with a ``!`` before it.
    """

    kinds: list[tuple[str, ...]]
    kind: NDArray[np.int64]
    bytes: NDArray[np.int64]


def find_groups(plan: Plan, *, shard_bytes: int, text: bool, run: Run) -> Grouped:
    """Look at the first bytes of every picture of a plan and group its rows.

    Raises:
        UsageError: The formats come in more than 4,096 different rows.
    """
    kinds: dict[tuple[str, ...], int] = {}
    found: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
    tasks = list(_tasks(plan))
    looked = run(functools.partial(_look, plan.root, text), tasks)
    for task, one in zip(tasks, looked, strict=True):
        if task.source not in found:
            table = plan.tables[task.source]
            assert table is not None
            found[task.source] = np.zeros(len(table), np.int64), np.zeros(len(table), np.int64)
        of_row, size = found[task.source]
        numbers = np.array([kinds.setdefault(kind, len(kinds)) for kind in one.kinds], np.int64)
        of_row[task.rows] = numbers[one.kind]
        size[task.rows] = one.bytes
        if len(kinds) > _MOST_GROUPS:
            raise UsageError(
                f"the pictures of {plan.recipe.name} come in more than {_MOST_GROUPS:,} "
                "combinations of formats",
                hint="export without uniform",
            )
    return _settled(plan, list(kinds), found, shard_bytes)


def _tasks(plan: Plan) -> Iterator[_Task]:
    """Yield the rows of each table that the plan delivers, by the table's row groups."""
    used = [np.zeros(len(table) if table is not None else 0, np.bool_) for table in plan.tables]
    for start in range(0, len(plan), _BLOCK_ROWS):
        sources, rows = plan.slice(start, min(start + _BLOCK_ROWS, len(plan)))
        for source in np.unique(sources):
            used[source][rows[sources == source]] = True
    for source, (mask, table) in enumerate(zip(used, plan.tables, strict=True)):
        if table is None:
            continue
        rows = np.flatnonzero(mask)
        cuts = np.flatnonzero(np.diff(rows // GROUP_ROWS)) + 1
        for some in np.split(rows, cuts):
            if len(some):
                yield _Task(source, table.path, some)


_opened = functools.lru_cache(maxsize=8)(Table)


def _look(root: Path, text: bool, task: _Task) -> _Looked:
    """Look at the pictures of some rows of a table; runs in any process."""
    images = Images(root)
    table = _opened(task.table)
    seen: dict[str, tuple[str, int]] = {}
    kinds: dict[tuple[str, ...], int] = {}
    kind: list[int] = []
    size: list[NDArray[np.int64]] = []
    for some in encoded(table.take(task.rows)):
        names = []
        pictures = np.zeros(len(some), np.int64)
        for number in range(len(some)):
            found = []
            for reference in some.references(number):
                if reference not in seen:
                    seen[reference] = look(images, reference)
                found.append(seen[reference])
            formats = tuple(name for name, _ in found)
            reason = next((one for one in formats if one.startswith("!")), None)
            key = formats if reason is None else (reason,)
            kind.append(kinds.setdefault(key, len(kinds)))
            names.append(names_as_json(member_names(list(formats))))
            pictures[number] = in_tar(np.array([one for _, one in found], np.int64)).sum()
        size.append(some.sizes(names, text=text) + pictures)
    return _Looked(list(kinds), np.array(kind, np.int64), np.concatenate(size))


def look(images: Images, reference: str) -> tuple[str, int]:
    """Give a picture's format and size, or why it cannot be exported, with a ``!`` before it."""
    try:
        if reference.startswith(SCHEME):
            data = images.read(reference)
            size = len(data)
        else:
            file, size = open_file(f"{images.root}/{reference}")
            try:
                data = os.pread(file, 12, 0)
            finally:
                os.close(file)
    except MissingInputError:
        return "!missing_image", 0
    except RecordError as error:
        return f"!{error.reason}", 0
    return image_format(data) or "!bad_image", size


def _settled(
    plan: Plan,
    kinds: list[tuple[str, ...]],
    found: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]],
    shard_bytes: int,
) -> Grouped:
    """Number the groups and say the group of every position."""
    named = sorted(
        (kind for kind in kinds if not (kind and kind[0].startswith("!"))),
        key=lambda kind: (len(kind), group_name(kind)),
    )
    number = {kind: place for place, kind in enumerate(named)}
    group_of_kind = np.array([number.get(kind, _LEFT_OUT) for kind in kinds], np.int64)
    groups = np.empty(len(plan), np.dtype("<u2"))
    rows = np.zeros(len(kinds), np.int64)
    sizes = np.zeros(len(kinds), np.int64)
    dropped: dict[str, int] = {}
    first: dict[str, list[int]] = {}
    for start in range(0, len(plan), _BLOCK_ROWS):
        sources, numbers = plan.slice(start, min(start + _BLOCK_ROWS, len(plan)))
        kind = np.empty(len(sources), np.int64)
        for source in np.unique(sources):
            here = sources == source
            of_row, size = found[int(source)]
            kind[here] = of_row[numbers[here]]
            np.add.at(sizes, kind[here], size[numbers[here]])
        rows += np.bincount(kind, minlength=len(kinds))
        groups[start : start + len(kind)] = group_of_kind[kind]
        for one in np.unique(kind[group_of_kind[kind] == _LEFT_OUT]):
            (mark,) = kinds[one]
            places = np.flatnonzero(kind == one)
            reason = mark.removeprefix("!")
            dropped[reason] = dropped.get(reason, 0) + len(places)
            first.setdefault(reason, []).extend((places[:FIRST] + start).tolist())
    made = [
        Group(
            name=group_name(kind),
            formats=member_names(list(kind)),
            rows=int(rows[place]),
            rows_per_shard=max(1, shard_bytes * int(rows[place]) // int(sizes[place])),
            bytes=int(sizes[place]),
        )
        for kind, place in sorted(
            ((kind, kinds.index(kind)) for kind in named), key=lambda pair: number[pair[0]]
        )
    ]
    named_first = {
        reason: [_name_dropped(plan, place, reason) for place in places[:FIRST]]
        for reason, places in first.items()
    }
    return Grouped(groups.tobytes(), made, dropped, named_first)


def _name_dropped(plan: Plan, position: int, reason: str) -> dict[str, str]:
    images = Images(plan.root)
    ((document, references),) = documents(plan.rows(position, position + 1))
    guilty = (one for one in references if look(images, one)[0] == f"!{reason}")
    return {"id": document.id, "image": next(guilty, "")}


def group_name(formats: tuple[str, ...]) -> str:
    """Name the folder of a group.

    >>> group_name(()), group_name(("jpg",)), group_name(("jpg", "jpg", "png"))
    ('img0', 'img1-jpg', 'img3-jpg2-png')
    """
    runs = [(name, len(list(same))) for name, same in itertools.groupby(formats)]
    name = "-".join(
        [f"img{len(formats)}", *(name + (str(count) if count > 1 else "") for name, count in runs)]
    )
    if len(name) > 80:
        digest = xxhash.xxh3_64_hexdigest("/".join(formats).encode())
        return f"{name[:60]}-{digest}"
    return name
