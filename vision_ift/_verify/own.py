"""What an export says of itself, read without trust, and where its files contradict each other.

Manifest, layout, plan lock, recipe, records and index were written from the same facts, so each can
be held against the others. Where two disagree, the digest over all shards' digests in the manifest
says which is right. The manifest also has the digests of the other files; what it says itself and
nothing else does is held to the form in which it is always written.
"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pyarrow.compute as pc
import xxhash

from vision_ift._conversation import SCHEMA_VERSION
from vision_ift._errors import IntegrityError, MissingInputError, RecipeError
from vision_ift._export.manifest import (
    GROUPS,
    LAYOUT,
    MANIFEST,
    PLAN,
    RECIPE,
    Layout,
    Manifest,
    Shard,
    ShardFile,
    merge,
    record_path,
)
from vision_ift._plan.lock import read_lock
from vision_ift._recipe.recipe import Recipe
from vision_ift._recipe.yaml import read_yaml
from vision_ift._verify.finding import DIGEST, found, load, opened, plain, read_bytes
from vision_ift._verify.held import hold_digests, hold_forms
from vision_ift._verify.parts import hold_encoding, read_index
from vision_ift._verify.standing import Standing, file_of

#: More shards than this have no name.
MOST_SHARDS = 10**6

#: The largest record of a shard, in bytes.
_RECORD_BYTES = 1 << 24

_GROUP = re.compile(r"[A-Za-z0-9_-]{1,100}")


def stand(folder: Path, *, thorough: bool = False) -> Standing:
    """Read an export's own files and hold them against each other.

    Args:
        folder: The export.
        thorough: Also hold the encoding of the index's parts, which is made again for that.

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
    read_index(standing)
    _hold_records(standing)
    _hold_manifest(standing)
    hold_digests(standing)
    hold_forms(standing)
    if thorough:
        hold_encoding(standing)
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
        and DIGEST.fullmatch(layout.plan_digest)
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
            if record.rows and not DIGEST.fullmatch(record.xxh3_128):
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
        if not known or one.rows < 1 or not DIGEST.fullmatch(one.xxh3_128):
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
    if complete and not _add_up(manifest, lines) and _add_up(manifest, of_records):
        standing.add("manifest", MANIFEST, "its shards do not add up to its rows, images and bytes")
        standing.shards = of_records
        return
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


def _add_up(manifest: Manifest, shards: dict[int, ShardFile]) -> bool:
    return all(
        getattr(manifest, name) == sum(getattr(one, name) for one in shards.values())
        for name in ("rows", "images", "bytes")
    )


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
        uncounted = any(
            sum(counts.values()) != share.rows
            for share in record.shares.values()
            for counts in (share.licenses, share.languages)
        )
        if names != record.image_names or sources != shares or uncounted:
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
            if name != "parts" or not _hold_words(standing, manifest):
                standing.add("manifest", MANIFEST, f"its {name} is not what the records give")
            return
    if parts and abs(sum(part.asked for part in parts) - 1) > 5e-7 * len(parts) + 1e-9:
        standing.add("manifest", MANIFEST, "the shares that it says were asked for do not give 1")


def _hold_words(standing: Standing, manifest: Manifest) -> bool:
    """Note the only record of several that counts a licence or language unknown to the manifest."""
    odd = {
        number
        for number, record in standing.records.items()
        for source, share in record.shares.items()
        if share.licenses.keys() - manifest.parts[int(source)].licenses.keys()
        or share.languages.keys() - manifest.parts[int(source)].languages.keys()
    }
    if len(odd) != 1 or len(standing.records) < 2:
        return False
    (number,) = odd
    name = record_path(Path(), number).as_posix()
    standing.add("record", name, "it counts words that the manifest does not have", number=number)
    del standing.records[number]
    return True
