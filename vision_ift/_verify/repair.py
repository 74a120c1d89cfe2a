"""Writing what is damaged of an export anew, and nothing else.

A shard is a pure function of (plan, layout, number), so a damaged one is written again from the
sources and has to come to the digest that was recorded. Records, index, manifest and the files for
other readers follow from what is sound. Each round mends what the findings of a look allow; the
next look finds what stands on that.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa

from vision_ift._build import Progress
from vision_ift._disk import explained, locked, sync_file, sync_folder, write_file
from vision_ift._errors import (
    IntegrityError,
    MissingInputError,
    RecipeError,
    RecordError,
)
from vision_ift._export import sidecars as _sidecars
from vision_ift._export.manifest import (
    GROUPS,
    INDEX,
    LAYOUT,
    LOCK,
    MANIFEST,
    OWN,
    PLAN,
    RECIPE,
    Layout,
    Shard,
    encode,
    index_path,
    merge,
    record,
    record_path,
)
from vision_ift._export.shard import write_shard
from vision_ift._plan.plan import Plan, plan
from vision_ift._recipe.recipe import Recipe
from vision_ift._run import local
from vision_ift._verify.beside import made_again
from vision_ift._verify.finding import Finding, opened
from vision_ift._verify.shard import digests
from vision_ift._verify.standing import Standing

#: Records; shards; manifest; what is made of all; and a last look.
_ROUNDS = 6

#: Looks at the export; reads the shards if it is told to.
Look = Callable[[bool], Standing]


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


def mend(
    folder: Path,
    look: Look,
    *,
    root: Path | str | None,
    tables: Path | str | None,
    recipe: Recipe | Plan | str | Path | None,
    jobs: int,
    progress: Progress,
) -> tuple[Standing, list[str]]:
    """Look, write what is damaged, and look again, under the export's lock.

    Args:
        folder: The export.
        look: Looks at it.
        root, tables, recipe, jobs, progress: As for :func:`vision_ift.verify`.

    Returns:
        The last look, with the reason in each finding that is left; and the files written.

    Raises:
        LockedError: Somebody else is writing there.
        MissingInputError: Sources are gone.
        IntegrityError: The plan made now is not the one of the export.
    """
    _refuse_links(folder, LOCK)
    repaired: list[str] = []
    reasons: dict[str, str] = {}

    made: list[Plan] = []

    def planned() -> Plan:  # once, and only if something needs it
        if not made:
            made.append(
                _plan_again(
                    standing, recipe=recipe, root=root, tables=tables, jobs=jobs, progress=progress
                )
            )
        return made[0]

    with locked(folder / LOCK):
        standing = look(True)
        for _ in range(_ROUNDS):
            if not standing.findings or standing.layout is None:
                break
            wrote = _mend_once(standing, planned, reasons, jobs=jobs, progress=progress)
            repaired += [name for name in wrote if name not in repaired]
            if not wrote:
                break
            standing = _look_again(look, standing, set(wrote))
    if standing.layout is None:
        reasons[LAYOUT] = "no other file says all that it said; export to a new folder"
    for place, one in enumerate(standing.findings):
        why = reasons.get(one.file) or _CANNOT.get(one.kind, "")
        if why:
            detail = f"{one.detail}; not repaired: {why}"
            standing.findings[place] = msgspec.structs.replace(one, detail=detail)
    return standing, repaired


def _look_again(look: Look, before: Standing, wrote: set[str]) -> Standing:
    """Look without reading what was read, unless the shards should now be others."""
    standing = look(False)
    if standing.shards != before.shards:
        return look(True)
    known = standing.damaged_files | wrote
    for answer in before.answers:
        standing.findings += [one for one in answer.findings if one.file not in known]
    standing.answers = [
        one._replace(findings=[]) if one.name in wrote else one for one in before.answers
    ]
    return standing


_CANNOT = {"extra": "a file that is not ours is yours to remove"}


def _mend_once(
    standing: Standing,
    planned: Callable[[], Plan],
    reasons: dict[str, str],
    *,
    jobs: int,
    progress: Progress,
) -> list[str]:
    """Write what the findings of one look allow; give the files written."""
    folder, layout = standing.folder, standing.layout
    assert layout is not None
    damaged = {one.file: one for one in standing.findings if one.file not in reasons}
    for name in list(damaged):
        try:
            _refuse_links(folder, name, last=False)
        except IntegrityError as error:
            reasons[name] = error.message
            del damaged[name]
    wrote: list[str] = []
    tasks, again = _tasks(standing, layout, damaged)
    for number, part in again.items():  # its record is sound and the whole index has its part
        record(folder, standing.records[number], part)
        wrote.append(index_path(Path(), number).as_posix())
    if tasks or {PLAN, RECIPE, MANIFEST} & damaged.keys():
        made = planned()
        if PLAN in damaged:
            write_file(folder / PLAN, encode(made.lock()))
            wrote.append(PLAN)
        if RECIPE in damaged:
            write_file(folder / RECIPE, made.recipe.text.encode())
            wrote.append(RECIPE)
        wrote += _write_shards(standing, made, layout, tasks, reasons, jobs=jobs, progress=progress)
        if MANIFEST in damaged and len(standing.records) == layout.shards and not tasks:
            records = [one for _, one in sorted(standing.records.items())]
            write_file(folder / MANIFEST, encode(merge(made, layout, records)))
            wrote.append(MANIFEST)
    if not wrote:
        beside = damaged.keys() - {PLAN, RECIPE, MANIFEST, LAYOUT}
        wrote += _write_beside(standing, sorted(beside))
    return wrote


def _tasks(
    standing: Standing, layout: Layout, damaged: dict[str, Finding]
) -> tuple[list[Task], dict[int, pa.RecordBatch]]:
    """Which shards have to be made, and which parts of the index are to be had without."""
    tasks: list[Task] = []
    again: dict[int, pa.RecordBatch] = {}
    for number in range(layout.shards):
        shard, known = standing.shards.get(number), standing.records.get(number)
        in_place = shard is not None and shard.name in damaged
        if in_place and damaged[layout.name(number)].kind in ("index", "sha256"):
            in_place = False  # the shard is as it was written
        part_gone = index_path(Path(), number).as_posix() in damaged
        if part_gone and known is not None and number in standing.parts and not in_place:
            again[number] = standing.parts[number]
            continue
        if in_place or part_gone or record_path(Path(), number).as_posix() in damaged:
            tasks.append(
                Task(
                    number,
                    shard.xxh3_128 if shard is not None else "",
                    shard.rows if shard is not None else 0 if standing.manifest else -1,
                    in_place,
                    known is not None and not known.dropped,
                )
            )
    return tasks, again


def _write_shards(
    standing: Standing,
    made: Plan,
    layout: Layout,
    tasks: list[Task],
    reasons: dict[str, str],
    *,
    jobs: int,
    progress: Progress,
) -> list[str]:
    wrote: list[str] = []
    if not tasks:
        return wrote
    with _scratch(standing.folder, layout) as scratch:
        work = functools.partial(_write_one, made, layout, standing.folder, scratch)
        for done, (task, failure) in enumerate(local(min(jobs, len(tasks)))(work, tasks), 1):
            name = layout.name(task.number)
            notes = record_path(Path(), task.number), index_path(Path(), task.number)
            names = [name] * task.in_place + [one.as_posix() for one in notes]
            if failure:
                reasons.update(dict.fromkeys(names, failure))
            elif task.in_place and not standing.damaged_files & {one.as_posix() for one in notes}:
                wrote.append(name)
            else:
                wrote += names
            progress("repair", done, len(tasks))
    return wrote


def _write_one(
    made: Plan, layout: Layout, folder: Path, scratch: Path, task: Task
) -> tuple[Task, str]:
    """Write one shard or what is said of it; give why it could not be; runs in any process."""
    number = task.number
    try:
        if task.in_place:
            (folder / layout.name(number)).parent.mkdir(exist_ok=True)
        shard, part = write_shard(
            made,
            layout,
            number,
            folder if task.in_place else scratch,
            expected=task.expected,
            strict=task.strict,
        )
    except (IntegrityError, MissingInputError, RecordError) as error:
        return task, error.message
    finally:
        if not task.in_place:
            (scratch / layout.name(number)).unlink(missing_ok=True)
    if task.rows >= 0 and shard.rows != task.rows:
        return task, f"the sources now give {shard.rows:,} rows, not {task.rows:,}"
    if task.rows < 0 and not _is_there(folder, shard):
        return task, "neither manifest nor record is left, and the sources give another shard"
    record(folder, shard, part)
    return task, ""


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
    """A folder on the export's disk in which shards are made that are not kept."""
    with explained(folder):
        scratch = Path(tempfile.mkdtemp(prefix=".repair-", dir=folder / OWN))
    try:
        if layout.uniform:
            (scratch / GROUPS).parent.mkdir()
            shutil.copyfile(folder / GROUPS, scratch / GROUPS)
        yield scratch
    finally:
        shutil.rmtree(scratch)


def _write_beside(standing: Standing, names: list[str]) -> list[str]:
    """Make the damaged files for other readers again, and the whole index, of what is sound."""
    if not names:
        return []
    wrote: list[str] = []
    if INDEX in names and set(standing.parts) == set(standing.shards):
        parts = [part for _, part in sorted(standing.parts.items())]
        _sidecars.write_index(standing.folder / INDEX, parts)
        wrote.append(INDEX)
    with made_again(standing) as again:
        for name in names:
            if again is None or not (again / name).is_file():
                continue
            (standing.folder / name).parent.mkdir(exist_ok=True)
            _put_file(again / name, standing.folder / name)
            wrote.append(name)
    return wrote


def _put_file(source: Path, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with explained(path):
        try:
            shutil.copyfile(source, temporary)
            sync_file(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


def _refuse_links(folder: Path, name: str, *, last: bool = True) -> None:
    """Refuse to write through a link, which may lead out of the export."""
    place = folder
    parts = name.split("/")
    for part in parts if last else parts[:-1]:
        place /= part
        try:
            mode = place.lstat().st_mode
        except FileNotFoundError:
            return
        if stat.S_ISLNK(mode):
            raise IntegrityError(
                f"{place} is a link; nothing is written through it", hint="put a file in its place"
            )


def _plan_again(
    standing: Standing,
    *,
    recipe: Recipe | Plan | str | Path | None,
    root: Path | str | None,
    tables: Path | str | None,
    jobs: int,
    progress: Progress,
) -> Plan:
    """Make the plan that the layout names."""
    folder, layout, lock = standing.folder, standing.layout, standing.lock
    assert layout is not None
    make = functools.partial(plan, root=root, tables=tables, jobs=jobs, progress=progress)
    if isinstance(recipe, Plan):
        made = recipe
    elif recipe is None and lock is not None and lock.recipe:
        made = make(folder / PLAN)
    else:
        asked = _recipe_of(standing) if recipe is None else recipe
        if not isinstance(asked, Recipe):
            asked = Recipe.read(asked)
        left_out = lock is not None and bool(lock.missing)
        made = make(
            asked,
            total=lock.total if lock is not None else None,
            epoch=lock.epoch if lock is not None else 0,
            allow_missing=left_out,
        )
        if made.digest != layout.plan_digest and len(made) != layout.rows:
            with contextlib.suppress(RecipeError):  # perhaps a total was given beside the recipe
                made = make(asked, total=layout.rows, allow_missing=left_out)
    if made.digest != layout.plan_digest:
        raise IntegrityError(
            f"the export in {folder} was made of the plan {layout.plan_digest} of "
            f"{layout.rows:,} rows; {made.recipe.name} under {made.root} now gives the plan "
            f"{made.digest} of {len(made):,} rows",
            hint="bring back the recipe (--recipe) and the sources (--root) that it was made of",
        )
    return made


def _recipe_of(standing: Standing) -> Recipe:
    if RECIPE in standing.damaged_files:
        raise MissingInputError(
            f"{standing.folder / RECIPE} is damaged", hint="give the recipe with --recipe"
        )
    return Recipe.read(standing.folder / RECIPE)
