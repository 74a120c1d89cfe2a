"""Every byte of our own files: their digests in the manifest, and the form of our JSON."""

from __future__ import annotations

from pathlib import Path

import msgspec

from vision_ift._errors import IntegrityError, MissingInputError
from vision_ift._export.manifest import (
    GROUPS,
    INDEX,
    LAYOUT,
    MANIFEST,
    PLAN,
    RECIPE,
    encode,
    record_path,
)
from vision_ift._verify.finding import DIGEST, found, opened, read_bytes
from vision_ift._verify.shard import digests
from vision_ift._verify.standing import Standing

#: Of two digests that differ in fewer hex digits than this, one was damaged: those of two contents
#: agree in so many by chance once in 10**20.
_DAMAGED_DIGITS = 9

#: The files whose digests a manifest has, and of what kind a finding about each is.
_HELD = {LAYOUT: "layout", PLAN: "plan", RECIPE: "recipe", INDEX: "index", GROUPS: "layout"}


def hold_digests(standing: Standing) -> None:
    """Hold our other files against the digests in the manifest; one of before has none."""
    manifest = standing.manifest
    if manifest is None or not manifest.files:
        _hold_recipe(standing)
        return
    wanted = set(_HELD) if manifest.uniform else set(_HELD) - {GROUPS}
    if set(manifest.files) != wanted or not all(map(DIGEST.fullmatch, manifest.files.values())):
        standing.add("manifest", MANIFEST, "its files are not those of an export, with digests")
    # What is known to be damaged is not read again: it may be of any size.
    for name in sorted((wanted & set(manifest.files)) - standing.damaged_files):
        right = manifest.files[name]
        try:
            with opened(standing.folder, name) as descriptor:
                there, _ = digests(descriptor)
        except (IntegrityError, MissingInputError) as error:
            standing.findings.append(found(error, name, otherwise=_HELD[name]))
            continue
        if there == right:
            continue
        digits = sum(one != other for one, other in zip(there, right, strict=False))
        if not DIGEST.fullmatch(right):
            continue
        if digits < _DAMAGED_DIGITS:
            standing.add("manifest", MANIFEST, f"its digest of {name} is damaged")
        else:
            standing.add(_HELD[name], name, f"its digest is {there}, {right} was written")


def _hold_recipe(standing: Standing) -> None:
    """Hold the recipe against the text of it in the plan's lock, where no digest says more."""
    if standing.lock is None or not standing.lock.recipe or RECIPE in standing.damaged_files:
        return
    if read_bytes(standing.folder, RECIPE) != standing.lock.recipe.encode():
        standing.add("recipe", RECIPE, f"it is not the text that {PLAN} has")


def hold_forms(standing: Standing) -> None:
    """Hold the manifest and the records to the form of our JSON, in which every byte counts."""
    manifest = standing.manifest
    if manifest is None or MANIFEST in standing.damaged_files:
        return
    raw = msgspec.json.decode(read_bytes(standing.folder, MANIFEST))
    if odd := sorted(set(raw) - set(manifest.__struct_fields__)):
        standing.add("manifest", MANIFEST, f"it says {odd[0][:100]!r}, which none does")
    if not manifest.files:
        return
    records = ((record_path(Path(), number).as_posix(), number) for number in standing.records)
    for name, number in [(MANIFEST, -1), *records]:
        if name in standing.damaged_files:
            continue
        data = read_bytes(standing.folder, name)
        if encode(msgspec.json.decode(data)) != data:
            kind = "manifest" if number < 0 else "record"
            standing.add(kind, name, "it is not in the form that is always written", number=number)
