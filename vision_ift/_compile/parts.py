"""The parts of a plan as other trainers take them: a small recipe each, and what is taken of it.

A part's recipe says that entry alone, with its filters, its name and the seed, so that exporting
it gives the same rows that the whole recipe selects. Where an entry's amount is a promise (a count,
or times through) that asks for fewer rows than there are, the part holds exactly the plan's rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import gcd
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from vision_ift._errors import RecipeError
from vision_ift._plan.amounts import SHARES
from vision_ift._plan.plan import Plan
from vision_ift._recipe.recipe import Entry, Recipe
from vision_ift._recipe.select import Excluded, Selection, select
from vision_ift._recipe.yaml import node_of, write_yaml

#: Characters of a file's name; the rest of an entry's name is in the file.
_MAX_SLUG = 60

_UNFIT = re.compile(r"[^A-Za-z0-9_]+")


@dataclass(frozen=True, slots=True)
class Part:
    """One entry's rows, as a file or folder of its own.

    Attributes:
        name: The entry's name.
        slug: What its files are called: letters, figures, ``_`` and ``-``.
        source: Its source.
        rows: Rows that the part holds.
        exact: Whether these are the very rows that the plan delivers, not all that it chooses from.
        files: File name to content: the part's recipe, and the list of copies left out.
    """

    name: str
    slug: str
    source: str
    rows: int
    exact: bool
    files: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Use:
    """What a stage takes of a part: ``weight`` as a share of the stage, and exact rows."""

    part: Part
    weight: int
    delivered: int


@dataclass(frozen=True, slots=True)
class Leg:
    """One stage of the plan.

    Attributes:
        name: The stage's name.
        slug: The same, as a part of a file's name.
        key: The seed of the stage's order.
        rows: Rows that it delivers.
        shares: Whether its amounts are shares; else they are counts.
        uses: What it takes of each part; parts of which it takes none are not here.
    """

    name: str
    slug: str
    key: int
    rows: int
    shares: bool
    uses: tuple[Use, ...]


def legs_of(plan: Plan, *, taken: tuple[str, ...]) -> list[Leg]:
    """Take a plan apart into its stages and what each takes of which part.

    Args:
        plan: The plan.
        taken: Names that no part's file may have, without endings.

    Raises:
        RecipeError: The plan delivers nothing, or its parts cannot be said as recipes.
    """
    if not len(plan):
        raise RecipeError(f"{plan.recipe.name} delivers no rows", hint="vision-ift plan shows why")
    kinds = {stage.name: stage.mix[0].kind for stage in plan.recipe.stages}
    slugs = _Slugs(taken)
    parts: dict[str, Part] = {}
    uses: list[list[Use]] = []
    for segment in plan.segments:
        counts = segment.order.counts(segment.stop - segment.start)
        divisor = gcd(*segment.order.weights)
        uses.append([])
        numbers = segment.numbers.tolist()
        for number, weight, count in zip(numbers, segment.order.weights, counts, strict=True):
            if count:
                name = plan.recipe.mix[number].name
                if name not in parts:
                    parts[name] = _part(plan, number, slugs.of(name))
                uses[-1].append(Use(parts[name], weight // divisor, count))
    stages = _Slugs(())
    return [
        Leg(
            name=segment.name,
            slug=stages.of(segment.name),
            key=segment.order.seed,
            rows=segment.stop - segment.start,
            shares=kinds[segment.name] in SHARES,
            uses=tuple(of_leg),
        )
        for segment, of_leg in zip(plan.segments, uses, strict=True)
    ]


def parts_of(legs: list[Leg]) -> Iterator[Part]:
    """Give every part once, in the sequence of the stages."""
    met: set[str] = set()
    for leg in legs:
        for use in leg.uses:
            if use.part.slug not in met:
                met.add(use.part.slug)
                yield use.part


class _Slugs:
    """Names of files: plain, and different also where capitals do not count."""

    def __init__(self, taken: tuple[str, ...]) -> None:
        self._taken = set(taken)

    def of(self, name: str) -> str:
        plain = _UNFIT.sub("-", name).strip("-_")[:_MAX_SLUG] or "part"
        slug, number = plain, 1
        while slug.lower() in self._taken:
            number += 1
            slug = f"{plain}-{number}"
        self._taken.add(slug.lower())
        return slug


def _part(plan: Plan, number: int, slug: str) -> Part:
    entry, selection = plan.recipe.mix[number], plan.selections[number]
    assert selection is not None  # it delivers rows
    delivered = sum(
        count
        for one, count in zip(plan.recipe.mix, plan.counts(), strict=True)
        if one.name == entry.name
    )
    places = [one.kind for one in plan.recipe.mix if one.name == entry.name]
    exact = (
        places[0] not in SHARES
        and len(places) == 1
        and not plan.counters.get(entry.name)
        and delivered < len(selection)
    )
    asked: dict[str, Any] = {
        "name": entry.name,
        "description": f"The part {entry.name} of {plan.recipe.name}.",
        "seed": plan.recipe.seed,
    }
    files: dict[str, bytes] = {}
    lists = ["exclude.jsonl"] if plan.recipe.exclude else []
    kept = entry
    if plan.copies.get(entry.name):
        if entry.cap_per_task is not None:  # a cap would fill up with other rows: list them too
            kept = msgspec.structs.replace(entry, cap_per_task=None)
        ids = _left_out(plan, kept, selection)
        lists.append(f"{slug}.copies.jsonl")
        files[lists[-1]] = listed(ids)
    if lists:
        asked["exclude"] = lists
    asked["mix"] = [_said(kept, delivered if exact else None)]
    text = write_yaml(node_of(asked))
    _check(text, kept, plan.recipe.seed)
    files = {f"{slug}.yaml": text.encode(), **files}
    rows = delivered if exact else len(selection)
    return Part(entry.name, slug, entry.source, rows, exact, files)


def _said(entry: Entry, count: int | None) -> dict[str, Any]:
    """Write an entry as a recipe has it, once or by its count."""
    said: dict[str, Any] = {"source": entry.source, "name": entry.name}
    if entry.path is not None:
        said["path"] = entry.path
    said |= {"repeat": 1} if count is None else {"count": count}
    if entry.where is not None:
        said["where"] = entry.where
    if entry.subset is not None:
        said["subset"] = entry.subset
    if entry.cap_per_task is not None:
        said["cap_per_task"] = entry.cap_per_task
    if entry.options:
        said["options"] = dict(entry.options)
    return said


def _check(text: str, entry: Entry, seed: int) -> None:
    """Read the part's recipe back: whatever stands in names and conditions, it says this entry."""
    again = Recipe.parse(text)
    one = again.mix[0]
    alike = msgspec.structs.replace(one, kind=entry.kind, amount=entry.amount)
    if len(again.mix) != 1 or alike != entry or again.seed != seed:
        raise RecipeError(
            f"{entry.name} cannot be said as a recipe of its own",
            hint="give it a plainer name, path or options",
        )


def _left_out(plan: Plan, entry: Entry, selection: Selection) -> list[str]:
    """The ids of the rows that the entry would take, and the plan does not."""
    excluded = Excluded(plan.recipe.exclude)
    before = select(selection.table, entry, seed=plan.recipe.seed, excluded=excluded)
    gone = np.setdiff1d(_rows(before), _rows(selection), assume_unique=True)
    ids: list[str] = selection.table.take(gone.astype(np.int64)).column("id").to_pylist()
    return ids


def _rows(selection: Selection) -> NDArray[np.int64]:
    return np.arange(len(selection.table)) if selection.rows is None else selection.rows


def listed(ids: list[str]) -> bytes:
    """Write an exclude list.

    >>> listed(["b", "a"])
    b'{"id":"a"}\\n{"id":"b"}\\n'
    """
    return b"".join(
        json.dumps({"id": one}, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        for one in sorted(ids)
    )


def share(use: Use, leg: Leg) -> Fraction:
    """The share of a part in its stage: by its weight, or by the rows it delivers."""
    if leg.shares:
        return Fraction(use.weight, sum(one.weight for one in leg.uses))
    return Fraction(use.delivered, leg.rows)
