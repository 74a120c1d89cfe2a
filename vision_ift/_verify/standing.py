"""What an export says of itself, read without trust, and where its files contradict each other.

Manifest, layout, plan lock, recipe, records and index were written from the same facts, so each can
be held against the others. Where two disagree, the digest over all shards' digests in the manifest
says which is right.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from vision_ift._conversation import SCHEMA_VERSION
from vision_ift._errors import IntegrityError, MissingInputError, RecipeError
from vision_ift._export.manifest import (
    GROUPS,
    INDEX,
    LAYOUT,
    MANIFEST,
    OWN,
    PLAN,
    RECIPE,
    Layout,
    Manifest,
    Shard,
    ShardFile,
    index_path,
    merge,
    record_path,
)
from vision_ift._plan.lock import Lock, read_lock
from vision_ift._recipe.recipe import Recipe
from vision_ift._recipe.yaml import read_yaml
from vision_ift._verify.finding import Finding, found, load, opened, plain, read_bytes
from vision_ift._verify.index import batches, fault
from vision_ift._verify.shard import Answer, headers_agree

#: More shards than this have no name.
MOST_SHARDS = 10**6

#: The largest record of a shard, in bytes.
_RECORD_BYTES = 1 << 24

_DIGEST = re.compile(r"[0-9a-f]{32}")
_GROUP = re.compile(r"[A-Za-z0-9_-]{1,100}")


_WrongWith = Callable[[pa.RecordBatch, Shard | ShardFile, int], str]


@dataclass
class Standing:
    """What could be read of an export, and what is wrong with that.

    Attributes:
        folder: The export.
        layout, manifest, lock: ``None`` where they cannot be read.
        shards: Number to what the shard should be; by the manifest where that is sound, else by
            the records.
        records: Number to record, those that can be read.
        parts: Number to the shard's part of the index, those that are sound in themselves.
        findings: What is wrong.
        answers: What looking at the shards gave.
    """

    folder: Path
    layout: Layout | None = None
    manifest: Manifest | None = None
    lock: Lock | None = None
    shards: dict[int, ShardFile] = field(default_factory=dict)
    records: dict[int, Shard] = field(default_factory=dict)
    parts: dict[int, pa.RecordBatch] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    def add(self, kind: str, file: str, detail: str, *, number: int = -1) -> None:
        """Note a finding."""
        self.findings.append(Finding(kind=kind, file=file, detail=detail, number=number))

    @property
    def damaged_files(self) -> set[str]:
        """The files that findings are about."""
        return {one.file for one in self.findings}


def stand(folder: Path) -> Standing:
    """Read an export's own files and hold them against each other.

    Raises:
        MissingInputError: The folder holds no export, or an unfinished one.
    """
    standing = Standing(folder)
    gone = 0
    for name, kind in ((LAYOUT, Layout), (MANIFEST, Manifest)):
        word = name.rpartition("/")[2].removesuffix(".json")
        try:
            setattr(standing, word, load(folder, name, kind))
        except (IntegrityError, MissingInputError) as error:
            gone += isinstance(error, MissingInputError)
            standing.findings.append(found(error, name, otherwise=word))
    if gone == 2:
        raise MissingInputError(
            f"{folder} holds no export", hint="vision-ift export RECIPE --out FOLDER writes one"
        )
    _read_lock(standing)
    _settle_layout(standing)
    _read_records(standing)
    if standing.layout is not None and not (folder / MANIFEST).exists():
        layout = standing.layout
        raise MissingInputError(
            f"{folder} is unfinished: {len(standing.records):,} of {layout.shards:,} shards have a "
            "record, and there is no manifest",
            hint="run the same vision-ift export command again: it goes on where it stopped",
        )
    _settle_shards(standing)
    _read_recipe(standing)
    _read_index(standing)
    _hold_records(standing)
    _hold_manifest(standing)
    return standing


def _settle_layout(standing: Standing) -> None:
    """Note a layout whose values make no sense, and go on without it."""
    layout = standing.layout
    if layout is None:
        return
    sane = (
        layout.rows >= 1
        and layout.rows_per_shard >= 1
        and layout.shard_bytes >= 1
        and layout.measured_rows >= 1
        and re.fullmatch(r"[A-Za-z0-9_]{1,40}", layout.split)
        and _DIGEST.fullmatch(layout.plan_digest)
        and all(
            group.rows >= 1 and group.rows_per_shard >= 1 and _GROUP.fullmatch(group.name)
            for group in layout.groups
        )
        and min(layout.dropped.values(), default=1) >= 1
    )
    manifest = standing.manifest
    if not sane or layout.shards > MOST_SHARDS:
        standing.add("layout", LAYOUT, "its values make no sense")
    elif manifest is not None and (wrong := _layout_differences(layout, manifest)):
        standing.add("layout", LAYOUT, f"the manifest has another {', '.join(wrong)}")
    elif standing.lock is not None and standing.lock.rows != layout.rows:
        standing.add("layout", LAYOUT, f"it has {layout.rows:,} rows, the plan another number")
    else:
        if layout.uniform:
            _hold_groups(standing, layout)
        return
    standing.layout = None


def _hold_groups(standing: Standing, layout: Layout) -> None:
    """Hold the file that says each row's group against its digest."""
    rows = sum(group.rows for group in layout.groups) + sum(layout.dropped.values())
    try:
        data = read_bytes(standing.folder, GROUPS, limit=2 * layout.rows)
        digest = xxhash.xxh3_128(data).hexdigest()
        if digest != layout.groups_digest or rows != layout.rows:
            raise IntegrityError(f"{GROUPS} is not the one that was written")
    except (IntegrityError, MissingInputError) as error:
        standing.findings.append(found(error, GROUPS, otherwise="layout"))


def _layout_differences(layout: Layout, manifest: Manifest) -> list[str]:
    same = ("plan_digest", "rows_per_shard", "split", "text", "uniform")
    return [name for name in same if getattr(layout, name) != getattr(manifest, name)]


def _read_records(standing: Standing) -> None:
    layout, folder = standing.layout, standing.folder
    if layout is None:
        return
    for number in range(layout.shards):
        name = record_path(Path(), number).as_posix()
        try:
            record = load(folder, name, Shard, limit=_RECORD_BYTES)
            if (record.number, record.name) != (number, layout.name(number)):
                raise IntegrityError(f"{name} is about {record.name[:100]}")
            if record.rows and not _DIGEST.fullmatch(record.xxh3_128):
                raise IntegrityError(f"{name} holds no digest")
            if not record.rows and (record.xxh3_128 or record.bytes):
                raise IntegrityError(f"{name} has no rows, but bytes")
        except (IntegrityError, MissingInputError) as error:
            standing.findings.append(found(error, name, otherwise="record", number=number))
        else:
            standing.records[number] = record


def _export_digest(shards: dict[int, ShardFile] | dict[int, Shard], numbers: range) -> str:
    """The digest over all shards' digests, as the manifest has it."""
    digest = xxhash.xxh3_128(f"vision_ift export {SCHEMA_VERSION}".encode())
    for number in numbers:
        one = shards.get(number)
        fast = bytes.fromhex(one.xxh3_128) if one is not None else b""
        digest.update(number.to_bytes(8, "little") + fast)
    return digest.hexdigest()


def _settle_shards(standing: Standing) -> None:
    """Decide what every shard should be, and note which of manifest and records is wrong."""
    layout, manifest, records = standing.layout, standing.manifest, standing.records
    of_records = {number: file_of(one) for number, one in records.items() if one.rows}
    if manifest is None:
        standing.shards = of_records
        return
    if layout is not None:
        numbers = {layout.name(number): number for number in range(layout.shards)}
    else:
        numbers = {one.name: number for number, one in enumerate(manifest.shards)}
    lines: dict[int, ShardFile] = {}
    for one in manifest.shards:
        number = numbers.get(one.name, -1)
        known = number >= 0 and number not in lines and plain(one.name)
        if not known or one.rows < 1 or not _DIGEST.fullmatch(one.xxh3_128):
            standing.add("manifest", MANIFEST, f"it names a shard {one.name[:100]!r} that is none")
            continue
        lines[number] = one
    if list(lines) != sorted(lines):
        standing.add("manifest", MANIFEST, "its shards are out of order")
    standing.shards = lines
    if layout is None:
        return
    every = range(layout.shards)
    complete = len(records) == layout.shards
    if _export_digest(lines, every) == manifest.export_digest:
        for number in every:
            record, line = records.get(number), lines.get(number)
            if record is not None and (file_of(record) if record.rows else None) != line:
                name = record_path(Path(), number).as_posix()
                standing.add("record", name, "the manifest says otherwise", number=number)
                del records[number]
        return
    standing.add("manifest", MANIFEST, "its shards' digests do not give its export_digest")
    if complete and _export_digest(records, every) == manifest.export_digest:
        standing.shards = of_records


def file_of(shard: Shard) -> ShardFile:
    """A shard as the manifest names it."""
    return ShardFile(**{name: getattr(shard, name) for name in ShardFile.__struct_fields__})


def _read_lock(standing: Standing) -> None:
    try:
        with opened(standing.folder, PLAN):  # a link is not followed
            lock = read_lock(standing.folder / PLAN)
        right = standing.manifest or standing.layout
        if right is not None and lock.digest != right.plan_digest:
            raise IntegrityError(f"{PLAN} is of the plan {lock.digest[:40]}, not of this one's")
        standing.lock = lock
    except (IntegrityError, MissingInputError) as error:
        standing.findings.append(found(error, PLAN, otherwise="plan"))


def _read_recipe(standing: Standing) -> None:
    try:
        data = read_bytes(standing.folder, RECIPE, limit=1 << 20)
        try:
            text = data.decode()
            read_yaml(text, file=RECIPE)
        except (UnicodeDecodeError, RecipeError) as error:
            raise IntegrityError(f"{RECIPE} cannot be read: {error}") from None
        try:
            recipe = Recipe.parse(text, file=RECIPE)
        except RecipeError:
            return  # it names a source that is not installed here, or was made in Python
        names = dict(enumerate((entry.name, entry.source) for entry in recipe.mix))
        if standing.lock is not None and any(
            names.get(part.number) != (part.name, part.source) for part in standing.lock.parts
        ):
            raise IntegrityError(f"{RECIPE} has other parts than the plan")
    except (IntegrityError, MissingInputError) as error:
        standing.findings.append(found(error, RECIPE, otherwise="recipe"))


def _read_index(standing: Standing) -> None:
    """Read the index; hold every part against the manifest and the record's own part."""
    manifest, layout = standing.manifest, standing.layout
    text = layout.text if layout is not None else manifest is not None and manifest.text

    def wrong_with(part: pa.RecordBatch, shard: Shard | ShardFile, number: int) -> str:
        return fault(
            part,
            shard,
            number=number,
            text=text,
            plan_rows=layout.rows if layout is not None else 1 << 60,
            formats=layout.formats(number) if layout is not None else None,
        )

    _read_whole_index(standing, wrong_with)
    _read_index_parts(standing, wrong_with)


def _read_whole_index(standing: Standing, wrong_with: _WrongWith) -> None:
    numbers = sorted(standing.shards)
    try:
        with batches(standing.folder, INDEX, most=len(numbers)) as read:
            if len(read) != len(numbers):
                raise IntegrityError(f"{INDEX} has {len(read):,} parts, not {len(numbers):,}")
            for number, part in zip(numbers, read, strict=True):
                if wrong := wrong_with(part, standing.shards[number], number):
                    standing.add("index", INDEX, f"part {number}: {wrong}", number=number)
                else:
                    standing.parts[number] = part
    except (IntegrityError, MissingInputError) as error:
        standing.findings.append(found(error, INDEX, otherwise="index"))
    positions = [part.column("position") for part in standing.parts.values()]
    rows = sum(map(len, positions))
    if rows and pc.count_distinct(pa.chunked_array(positions)).as_py() != rows:
        standing.add("index", INDEX, "a position stands twice in it")


def _read_index_parts(standing: Standing, wrong_with: _WrongWith) -> None:
    """Read the parts that lie beside the records; they stand in where the index has none."""
    for number, record in standing.records.items():
        name = index_path(Path(), number).as_posix()
        try:
            with batches(standing.folder, name, most=1) as read:
                if len(read) != 1:
                    raise IntegrityError(f"{name} has no part")
                part = read[0]
            if wrong := wrong_with(part, record, number):
                raise IntegrityError(f"{name}: {wrong}")
            if number in standing.parts and not part.equals(standing.parts[number]):
                _settle_parts(standing, record, part)
                continue
        except (IntegrityError, MissingInputError) as error:
            standing.findings.append(found(error, name, otherwise="index", number=number))
        else:
            if record.rows:
                standing.parts.setdefault(number, part)


def _settle_parts(standing: Standing, record: Shard, part: pa.RecordBatch) -> None:
    """Let the shard's own headers say which of the two places of the index is wrong."""
    number, shard = record.number, file_of(record)
    name = index_path(Path(), number).as_posix()
    of_whole = headers_agree(standing.folder, shard, standing.parts[number])
    of_part = headers_agree(standing.folder, shard, part)
    detail = f"part {number} differs from {name}"
    if of_part or not of_whole:
        standing.add("index", INDEX, detail, number=number)
        standing.parts[number] = part
    if of_whole or not of_part:
        standing.add("index", name, f"it differs from {INDEX}", number=number)
    if of_whole == of_part:
        del standing.parts[number]


def _hold_records(standing: Standing) -> None:
    """Hold what the records count against the index."""
    for number, record in list(standing.records.items()):
        part = standing.parts.get(number)
        if part is None:
            continue
        names = {
            one["values"]: one["counts"]
            for one in pc.value_counts(part.column("image_names").flatten()).to_pylist()
        }
        sources = {
            str(one["values"]): one["counts"]
            for one in pc.value_counts(part.column("source")).to_pylist()
        }
        shares = {source: share.rows for source, share in record.shares.items()}
        if names != record.image_names or sources != shares:
            name = record_path(Path(), number).as_posix()
            standing.add("record", name, "it counts otherwise than the index", number=number)
            del standing.records[number]


def _hold_manifest(standing: Standing) -> None:
    """Make the manifest again of the records and the lock, and compare."""
    manifest, layout, lock = standing.manifest, standing.layout, standing.lock
    if (
        manifest is None
        or layout is None
        or lock is None
        or len(standing.records) != layout.shards
        or MANIFEST in standing.damaged_files
    ):
        return
    planned = [0] * len(manifest.parts)
    try:
        for part in lock.parts:
            planned[part.number] = part.delivered
        like_a_plan: Any = SimpleNamespace(
            names=[part.name for part in manifest.parts],
            asked=[Fraction(part.asked) for part in manifest.parts],
            missing=lock.missing,
            recipe=SimpleNamespace(name=lock.name, mix=manifest.parts),
            counts=lambda: planned,
        )
        again = merge(like_a_plan, layout, [one for _, one in sorted(standing.records.items())])
        # The shares asked for stand rounded in the manifest and nowhere else.
        parts = [
            msgspec.structs.replace(new, asked=old.asked)
            for new, old in zip(again.parts, manifest.parts, strict=True)
        ]
        again = msgspec.structs.replace(again, parts=parts, files=manifest.files)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        standing.add("manifest", MANIFEST, f"it does not fit the records and the plan: {error}")
        return
    for name in again.__struct_fields__:
        if getattr(again, name) != getattr(manifest, name):
            standing.add("manifest", MANIFEST, f"its {name} is not what the records give")
            return


def positions_told(standing: Standing) -> int:
    """How many rows of the plan the export accounts for: delivered and dropped."""
    layout = standing.layout
    left_out = sum(layout.dropped.values()) if layout is not None else 0
    return left_out + sum(one.rows + sum(one.dropped.values()) for one in standing.records.values())


def tars(folder: Path) -> list[str]:
    """List the tars in an export but hidden ones and those in our own folder; walk no link."""
    return sorted(
        itertools.chain.from_iterable(_tars_in(folder, place) for place in ("", *_folders(folder)))
    )


def _folders(folder: Path) -> list[str]:
    return sorted(
        one.name
        for one in folder.iterdir()
        if one.is_dir() and not one.is_symlink() and one.name[0] != "." and one.name != OWN
    )


def _tars_in(folder: Path, place: str) -> list[str]:
    return [
        f"{place}/{one.name}" if place else one.name
        for one in (folder / place).iterdir()
        if one.name.endswith((".tar", ".tar.gz", ".tgz")) and not one.name.startswith(".")
    ]
