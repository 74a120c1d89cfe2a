"""A plan's lock: what was planned, as JSON, without a path of this machine.

From a lock alone one can tell what every source had given at any position, so a run whose recipe
changes can go on from one, and the same plan can be made again from it anywhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from vision_ift._errors import IntegrityError, MissingInputError, RecipeError, UsageError
from vision_ift._plan.order import Order

#: Of the lock's own form.
LOCK_VERSION = 1

#: A lock is this long at most, in bytes; ten thousand parts take a twentieth of it.
_MOST_BYTES = 64 << 20

#: What a digest is made of: all that decides which row stands where, and what was asked for it.
_PART_KEYS = (
    *("number", "name", "source", "kind", "amount", "where", "cap_per_task"),
    *("selection", "table_rows", "rows", "delivered"),
)
_STAGE_KEYS = ("key", "start", "stop", "numbers", "weights", "starts")


class LockedPart(msgspec.Struct, frozen=True, kw_only=True):
    """One source number of a plan.

    Attributes:
        number: The place of the entry in the recipe, over all stages.
        selection: Digest of the table and of the rows kept of it.
        table_rows, rows: Rows of the table; those that the entry takes.
        delivered: Rows that this plan gives of it.
    """

    number: int
    name: str
    source: str
    kind: str
    amount: str
    where: str | None = None
    cap_per_task: int | None = None
    subset: str | None = None
    copies: int = 0
    selection: str
    table_rows: int
    rows: int
    delivered: int


class LockedStage(msgspec.Struct, frozen=True, kw_only=True):
    """One stage: positions ``start`` to ``stop``, and all that its order is made of."""

    name: str
    key: int
    start: int
    stop: int
    numbers: list[int]
    weights: list[int]
    starts: list[int]
    temperature: str | None = None
    cap: int | None = None
    tokens: int | None = None
    reached: int | None = None


class After(msgspec.Struct, frozen=True, kw_only=True):
    """The plan that this one goes on from, and the position at which it was left."""

    plan: str
    at: int


class Given(NamedTuple):
    """What a part had given, ``rows`` from its first on, of which this plan gave ``own``."""

    part: LockedPart
    rows: int
    own: int


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """A lock as it was read and checked.

    Attributes:
        digest: Names the plan.
        rows: Rows of the plan.
        seed: The recipe's.
        epoch: Which draw of the recipe it is.
        total: Rows asked for beside the recipe.
        after: What it goes on from.
        counters: What every part had given before, by name.
        recipe: The recipe's YAML; empty where it was made in Python.
        duplicates: The rule that left out copies, and how many of which part.
    """

    schema_version: int
    name: str
    digest: str
    rows: int
    seed: int
    parts: list[LockedPart]
    stages: list[LockedStage]
    missing: list[str] = []
    epoch: int = 0
    total: int | None = None
    after: After | None = None
    counters: dict[str, int] = {}
    recipe: str = ""
    duplicates: dict[str, Any] | None = None

    def given(self, at: int) -> dict[str, Given]:
        """Say what every part had given when ``at`` rows of the plan were delivered.

        Raises:
            UsageError: The plan has fewer rows, or ``at`` is negative.
        """
        if not 0 <= at <= self.rows:
            raise UsageError(
                f"position {at:,} of a plan of {self.rows:,} rows", hint="give 0 up to its rows"
            )
        parts = {part.number: part for part in self.parts}
        found: dict[str, Given] = {}
        for part in self.parts:
            found.setdefault(part.name, Given(part, self.counters.get(part.name, 0), 0))
        for stage in self.stages:
            names = [parts[number].name for number in stage.numbers]
            order = Order(names, stage.weights, seed=stage.key)
            counts = order.counts(min(max(at - stage.start, 0), stage.stop - stage.start))
            for name, start, count in zip(names, stage.starts, counts, strict=True):
                part, before, own = found[name]
                found[name] = Given(part, max(before, start + count), own + count)
        return found


def digest_of(lock: Mapping[str, Any]) -> str:
    """Digest what a lock says of the rows: 32 hex digits."""
    chosen = {
        "seed": lock["seed"],
        "parts": [{key: part[key] for key in _PART_KEYS} for part in lock["parts"]],
        "stages": [{key: stage[key] for key in _STAGE_KEYS} for stage in lock["stages"]],
    }
    text = json.dumps(chosen, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def encode_lock(lock: Mapping[str, Any]) -> bytes:
    """Write a lock as the bytes of its file."""
    return (json.dumps(lock, indent=1, sort_keys=True) + "\n").encode()


def read_lock(path: Path | str) -> Lock:
    """Read a lock and check that it is whole.

    Raises:
        MissingInputError: There is no such file.
        IntegrityError: It is no lock, of another version, damaged, or was changed by hand.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise MissingInputError(f"lock {path} cannot be read: {error.strerror}") from None
    if len(data) > _MOST_BYTES:
        raise IntegrityError(f"lock {path} is longer than any lock")
    try:
        raw = msgspec.json.decode(data)
        version = raw["schema_version"] if isinstance(raw, dict) else None
        if version != LOCK_VERSION:
            raise IntegrityError(
                f"lock {path} is of version {version!r}; this reads version {LOCK_VERSION}",
                hint="plan the recipe again with --lock",
            )
        lock = msgspec.convert(raw, Lock)
        _check(lock)
        found = digest_of(raw)
    except (msgspec.MsgspecError, KeyError, RecursionError, UnicodeDecodeError) as error:
        raise IntegrityError(
            f"lock {path} is not one: {error}", hint="plan the recipe again with --lock"
        ) from None
    except (_BrokenError, RecipeError) as error:  # an order that cannot be
        raise IntegrityError(
            f"lock {path} is damaged: {error}", hint="plan the recipe again with --lock"
        ) from None
    if found != lock.digest:
        raise IntegrityError(
            f"lock {path} says digest {lock.digest}, but what it holds has {found}: "
            "it was changed after it was written",
            hint="plan the recipe again with --lock",
        )
    return lock


class _BrokenError(ValueError):
    """Says what in a lock does not fit together."""


def _check(lock: Lock) -> None:
    parts = {part.number: part for part in lock.parts}
    if len(parts) != len(lock.parts):
        raise _BrokenError("two of its parts have one number")
    delivered = dict.fromkeys(parts, 0)
    place = 0
    for stage in lock.stages:
        sizes = {len(stage.numbers), len(stage.weights), len(stage.starts)}
        if len(sizes) != 1 or not set(stage.numbers) <= set(parts):
            raise _BrokenError(f"stage {stage.name} names parts that it does not hold")
        if stage.start != place or stage.stop < stage.start or min(stage.starts, default=0) < 0:
            raise _BrokenError(f"stage {stage.name} does not follow the one before")
        order = Order([parts[n].name for n in stage.numbers], stage.weights, seed=stage.key)
        for number, count in zip(stage.numbers, order.counts(stage.stop - place), strict=True):
            delivered[number] += count
        place = stage.stop
    if place != lock.rows or any(parts[n].delivered != count for n, count in delivered.items()):
        raise _BrokenError("its counts are not those of its stages")
    if any(count < 0 for count in lock.counters.values()) or lock.epoch < 0:
        raise _BrokenError("it counts below 0")
    if any(not 1 <= part.rows <= part.table_rows for part in lock.parts):
        raise _BrokenError("a part has more rows than its table, or none")
