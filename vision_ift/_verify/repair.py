"""Writing what is damaged of an export anew, and nothing else.

A shard is a pure function of (plan, layout, number), so a damaged one is written again from the
sources and has to come to the digest that was recorded. Records, index, manifest and the files for
other readers follow from what is sound. Each round mends what the findings of a look allow; the
next look finds what stands on that.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pyarrow as pa
import xxhash

from vision_ift._build import Progress
from vision_ift._disk import explained, locked, sync_file, sync_folder, write_file
from vision_ift._errors import IntegrityError, MissingInputError
from vision_ift._export import sidecars as _sidecars
from vision_ift._export.manifest import (
    INDEX,
    LAYOUT,
    LOCK,
    MANIFEST,
    PLAN,
    RECIPE,
    Layout,
    encode,
    file_digests,
    index_path,
    merge,
    record,
    record_path,
)
from vision_ift._plan.plan import Plan
from vision_ift._recipe.recipe import Recipe
from vision_ift._verify.beside import made_again
from vision_ift._verify.finding import Finding, opened, read_bytes
from vision_ift._verify.plan_again import plan_again
from vision_ift._verify.rewrite import Task, remove_scratch, write_again
from vision_ift._verify.shard import digests
from vision_ift._verify.standing import Mended, Standing

#: Records; shards; manifest; what is made of all; and a last look.
_ROUNDS = 6

#: Looks at the export; reads the shards if it is told to.
Look = Callable[[bool], Standing]


def mend(
    folder: Path,
    look: Look,
    *,
    root: Path | str | None,
    tables: Path | str | None,
    recipe: Recipe | Plan | str | Path | None,
    jobs: int,
    progress: Progress,
) -> tuple[Standing, Mended]:
    """Look, write what is damaged, and look again, under the export's lock.

    Args:
        folder: The export.
        look: Looks at it.
        root, tables, recipe, jobs, progress: As for :func:`vision_ift.verify`.

    Returns:
        The last look, with the reason in each finding that is left; and what was written.

    Raises:
        LockedError: Somebody else is writing there.
        MissingInputError: Sources are gone.
        IntegrityError: The plan made now is not the one of the export.
    """
    _refuse_links(folder, LOCK)
    mended = Mended([], [])
    reasons: dict[str, str] = {}
    made: list[Plan] = []

    def planned() -> Plan:  # once, and only if something needs it
        if not made:
            made.append(
                plan_again(
                    standing, recipe=recipe, root=root, tables=tables, jobs=jobs, progress=progress
                )
            )
        return made[0]

    with locked(folder / LOCK):
        remove_scratch(folder)
        standing = look(True)
        for _ in range(_ROUNDS):
            if not standing.findings:
                break
            wrote = _turn_bits_back(standing)
            if not wrote and standing.layout is not None:
                wrote = _mend_once(
                    standing, planned, reasons, mended.restored, jobs=jobs, progress=progress
                )
            if not wrote:
                break
            mended.files.extend(name for name in wrote if name not in mended.files)
            standing = _look_again(look, standing, set(wrote))
    for place, one in enumerate(standing.findings):
        why = reasons.get(one.file) or _CANNOT.get(one.kind, "")
        if why:
            detail = f"{one.detail}; not repaired: {why}"
            standing.findings[place] = msgspec.structs.replace(one, detail=detail)
    return standing, mended


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


_CANNOT = {
    "extra": "a file that is not ours is yours to remove",
    "layout": "no other file says all that it said; export to a new folder",
}

#: The largest file in which a flipped bit is looked for, in bytes: a second's work.
_MOST_TURNED = 16 << 10


def _turn_bits_back(standing: Standing) -> list[str]:
    """Mend the small files of ours in which one bit has flipped: the digest tells which."""
    manifest = standing.manifest
    wrote: list[str] = []
    if manifest is None or MANIFEST in standing.damaged_files:
        return wrote
    for name in sorted({LAYOUT, PLAN, RECIPE} & standing.damaged_files & manifest.files.keys()):
        try:
            data = bytearray(read_bytes(standing.folder, name, limit=_MOST_TURNED))
        except (IntegrityError, MissingInputError):
            continue
        right = bytes.fromhex(manifest.files[name])
        for bit in range(8 * len(data)):
            data[bit // 8] ^= 1 << bit % 8
            if xxhash.xxh3_128_digest(data) == right:
                write_file(standing.folder / name, bytes(data))
                wrote.append(name)
                break
            data[bit // 8] ^= 1 << bit % 8
    return wrote


def _mend_once(
    standing: Standing,
    planned: Callable[[], Plan],
    reasons: dict[str, str],
    restored: list[Finding],
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
    if INDEX in damaged and MANIFEST in damaged:  # which has the digest of the other
        wrote += _write_index(standing)
    own = _own_files(standing, damaged, planned)
    for name, data in own.items():
        if _is_digest_of(standing, name, data):
            write_file(folder / name, data)
            wrote.append(name)
        else:
            reasons[name] = "what is made again now is not what was written"
    if tasks:
        wrote += _mend_shards(
            standing, planned(), tasks, reasons, restored, jobs=jobs, progress=progress
        )
    elif MANIFEST in damaged and len(standing.records) == layout.shards:
        records = [one for _, one in sorted(standing.records.items())]
        manifest = merge(planned(), layout, records)
        files = file_digests(folder, uniform=layout.uniform)
        write_file(folder / MANIFEST, encode(msgspec.structs.replace(manifest, files=files)))
        wrote.append(MANIFEST)
    if not wrote:
        beside = damaged.keys() - {PLAN, RECIPE, MANIFEST, LAYOUT}
        wrote += _write_beside(standing, sorted(beside))
    return wrote


def _mend_shards(
    standing: Standing,
    made: Plan,
    tasks: list[Task],
    reasons: dict[str, str],
    restored: list[Finding],
    *,
    jobs: int,
    progress: Progress,
) -> list[str]:
    """Write shards and what is said of them; give the files written."""
    layout = standing.layout
    assert layout is not None
    wrote: list[str] = []
    for one in write_again(standing.folder, made, layout, tasks, jobs=jobs, progress=progress):
        number = one.task.number
        notes = [path(Path(), number).as_posix() for path in (record_path, index_path)]
        names = [layout.name(number)] * one.task.in_place
        if one.failure:
            reasons.update(dict.fromkeys(names + notes, one.failure))
            continue
        if one.restored is not None:
            restored.append(one.restored)
        if not one.task.in_place or standing.damaged_files & set(notes):
            names += notes
        wrote += names
    return wrote


def _own_files(
    standing: Standing, damaged: dict[str, Finding], planned: Callable[[], Plan]
) -> dict[str, bytes]:
    """Make the plan's lock and the recipe again, where they are damaged."""
    own: dict[str, bytes] = {}
    if PLAN in damaged:
        own[PLAN] = encode(planned().lock())
    if RECIPE in damaged:
        text = standing.lock.recipe if standing.lock is not None and PLAN not in damaged else ""
        own[RECIPE] = (text or planned().recipe.text).encode()
    return own


def _is_digest_of(standing: Standing, name: str, data: bytes) -> bool:
    """Say whether bytes are those that the manifest has the digest of, where it has a sound one."""
    manifest = standing.manifest
    if manifest is None or MANIFEST in standing.damaged_files or name not in manifest.files:
        return True
    return xxhash.xxh3_128_hexdigest(data) == manifest.files[name]


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


def _write_beside(standing: Standing, names: list[str]) -> list[str]:
    """Make the damaged files for other readers again, and the whole index, of what is sound."""
    if not names:
        return []
    wrote = _write_index(standing) if INDEX in names else []
    with made_again(standing, sqlite=True) as again:
        for name in names:
            if again is None or not (again / name).is_file():
                continue
            (standing.folder / name).parent.mkdir(exist_ok=True)
            _put_file(again / name, standing.folder / name)
            wrote.append(name)
    return wrote


def _write_index(standing: Standing) -> list[str]:
    """Write the whole index of its parts, where all are sound."""
    folder, manifest = standing.folder, standing.manifest
    if set(standing.parts) != set(standing.shards):
        return []
    parts = [part for _, part in sorted(standing.parts.items())]
    _sidecars.write_index(folder / INDEX, parts)
    if manifest is None or MANIFEST in standing.damaged_files or INDEX not in manifest.files:
        return [INDEX]
    with opened(folder, INDEX) as descriptor:
        digest, _ = digests(descriptor)
    if digest == manifest.files[INDEX]:
        return [INDEX]
    # Another pyarrow frames the same rows otherwise, so their digest is another one now.
    files = {**manifest.files, INDEX: digest}
    write_file(folder / MANIFEST, encode(msgspec.structs.replace(manifest, files=files)))
    return [INDEX, MANIFEST]


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
