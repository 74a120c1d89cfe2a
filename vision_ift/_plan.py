"""What will be delivered: exact counts, the order, the shard of every row.

A plan is a pure function of the recipe and of the selections (tables' digests and the rows that
filters leave). It holds no list of rows: position to (source, row) is arithmetic, done in
``_order.py`` (which source) and ``_permute.py`` (which of its rows).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from math import lcm
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vision_ift._build import Progress, build, default_root, silent
from vision_ift._conversation import SCHEMA, SCHEMA_VERSION
from vision_ift._errors import MissingInputError, RecipeError, UsageError
from vision_ift._order import MOST_WEIGHT, Order
from vision_ift._permute import Permutation, deal
from vision_ift._recipe import Entry, Recipe, Stage
from vision_ift._select import Excluded, Selection, select
from vision_ift._table import Table


@dataclass(frozen=True, slots=True)
class Segment:
    """One stage of a plan: positions ``start`` to ``stop`` (not included).

    ``numbers`` are the source numbers of the order's own sources, ``starts`` what each of them had
    given before.
    """

    name: str
    start: int
    stop: int
    order: Order
    numbers: NDArray[np.int32]
    starts: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """What will be delivered; made by :func:`plan`.

    A source number is the place of an entry in the recipe (over all stages, from 0); a row number
    is the place of a conversation in that entry's table.

    Attributes:
        recipe: What was asked for.
        root: Where the pictures lie.
        selections: By source number; ``None`` where the source was left out.
        segments: The stages that deliver rows.
        asked: By source number, the rows that the amounts come to before rounding to whole rows of
            the order.
        missing: Name of an entry left out to why, and what became of its share.
        unknown_excludes: Ids of the recipe's exclude lists that stand in none of its tables.
    """

    recipe: Recipe
    root: Path
    selections: tuple[Selection | None, ...]
    segments: tuple[Segment, ...]
    asked: tuple[Fraction, ...]
    missing: Mapping[str, str] = field(default_factory=dict)
    unknown_excludes: int = 0

    def __len__(self) -> int:
        return self.segments[-1].stop if self.segments else 0

    @property
    def names(self) -> list[str]:
        """The entries' names, by source number."""
        return [entry.name for entry in self.recipe.mix]

    @property
    def tables(self) -> list[Table | None]:
        """The entries' tables, by source number."""
        return [one.table if one is not None else None for one in self.selections]

    @cached_property
    def _permutations(self) -> tuple[Permutation | None, ...]:
        return tuple(
            Permutation(entry.name, len(selection), seed=self.recipe.seed)
            if selection is not None and len(selection)
            else None
            for entry, selection in zip(self.recipe.mix, self.selections, strict=True)
        )

    def slice(self, start: int, stop: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Give the rows at positions ``start`` to ``stop`` (not included).

        Returns:
            Source numbers and row numbers, each of ``stop - start``; where a range is cut changes
            nothing.

        Raises:
            UsageError: The range is not within the plan.
        """
        if not 0 <= start <= stop <= len(self):
            raise UsageError(f"positions {start} to {stop} of a plan of {len(self)} rows")
        pieces = []
        for segment in self.segments:
            low, high = max(start, segment.start), min(stop, segment.stop)
            if low < high:
                pieces.append(self._deal(segment, low - segment.start, high - segment.start))
        if not pieces:
            return np.empty(0, np.int32), np.empty(0, np.int64)
        if len(pieces) == 1:
            return pieces[0]
        return (
            np.concatenate([sources for sources, _ in pieces]),
            np.concatenate([rows for _, rows in pieces]),
        )

    def _deal(
        self, segment: Segment, low: int, high: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        permutations: Sequence[Any] = [self._permutations[number] for number in segment.numbers]
        local, rows = deal(segment.order, permutations, low, high, starts=segment.starts)
        for place, number in enumerate(segment.numbers):
            selection = self.selections[number]
            assert selection is not None
            if selection.rows is not None:
                mask = local == place
                rows[mask] = selection.rows[rows[mask]]
        return np.take(segment.numbers, local, mode="clip"), rows

    def at(self, position: int) -> tuple[int, int]:
        """Give the source number and the row number at one position."""
        sources, rows = self.slice(position, position + 1)
        return int(sources[0]), int(rows[0])

    def position(self, source: int, occurrence: int) -> int:
        """Give the position at which a source gives its ``occurrence``-th row (from 0).

        Raises:
            UsageError: The source gives fewer rows.
        """
        for segment in self.segments:
            places = np.flatnonzero(segment.numbers == source)
            if len(places):
                found = segment.order.position(int(places[0]), occurrence)
                if found < segment.stop - segment.start:
                    return segment.start + found
        raise UsageError(f"source {source} gives no row number {occurrence}")

    def counts(self, stop: int | None = None) -> list[int]:
        """Count the rows of every source number before ``stop`` (``None``: all)."""
        stop = len(self) if stop is None else stop
        found = [0] * len(self.selections)
        for segment in self.segments:
            if stop > segment.start:
                upto = min(stop, segment.stop) - segment.start
                for number, count in zip(segment.numbers, segment.order.counts(upto), strict=True):
                    found[number] += count
        return found

    def rows(self, start: int, stop: int) -> pa.Table:
        """Read the conversations at positions ``start`` to ``stop``, in plan order."""
        sources, numbers = self.slice(start, stop)
        pieces, places = [], []
        for source in np.unique(sources):
            table = self.tables[source]
            assert table is not None
            where = np.flatnonzero(sources == source)
            pieces.append(table.take(numbers[where]))
            places.append(where)
        if not pieces:
            return SCHEMA.empty_table()
        if len(pieces) == 1:
            return pieces[0]
        back = np.empty(stop - start, np.int64)
        back[np.concatenate(places)] = np.arange(stop - start)
        return pa.concat_tables(pieces).combine_chunks().take(pa.array(back))

    @cached_property
    def certificate(self) -> Fraction:
        """The furthest that any prefix of a stage lets a source stray from its share, in rows."""
        bounds = [
            max(low, high) for segment in self.segments for low, high in segment.order.certificate()
        ]
        return max(bounds, default=Fraction(0))

    @cached_property
    def digest(self) -> str:
        """Names what is delivered: the same recipe and selections give the same 32 hex digits."""
        lock = self._lock()
        for stage in lock["stages"]:
            del stage["name"]  # what a stage is called changes nothing that its key does not
        text = json.dumps(lock, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def lock(self) -> dict[str, Any]:
        """Describe the plan as JSON, without a path of this machine: counts, digests, stages."""
        return {
            "schema_version": SCHEMA_VERSION,
            "name": self.recipe.name,
            "digest": self.digest,
            "rows": len(self),
            "missing": sorted(self.missing),  # without the reasons, which name local paths
            **self._lock(),
        }

    def _lock(self) -> dict[str, Any]:
        parts = []
        delivered = self.counts()
        for number, (entry, selection) in enumerate(
            zip(self.recipe.mix, self.selections, strict=True)
        ):
            if selection is None:
                continue
            parts.append(
                {
                    "number": number,
                    "name": entry.name,
                    "source": entry.source,
                    "kind": entry.kind,
                    "amount": str(entry.amount),
                    "where": entry.where,
                    "cap_per_task": entry.cap_per_task,
                    "selection": selection.digest,
                    "table_rows": len(selection.table),
                    "rows": len(selection),
                    "delivered": delivered[number],
                }
            )
        stages = [
            {
                "name": segment.name,
                "key": segment.order.seed,
                "start": segment.start,
                "stop": segment.stop,
                "numbers": segment.numbers.tolist(),
                "weights": list(segment.order.weights),
                "starts": list(segment.starts),
            }
            for segment in self.segments
        ]
        return {"seed": self.recipe.seed, "parts": parts, "stages": stages}


def plan(
    recipe: Recipe | str | Path,
    *,
    root: Path | str | None = None,
    tables: Path | str | None = None,
    total: int | None = None,
    allow_missing: bool = False,
    strict: bool = False,
    jobs: int = 1,
    progress: Progress = silent,
) -> Plan:
    """Plan a recipe: build the tables that are missing, select their rows, fix every count.

    Args:
        recipe: A recipe, the name of a shipped one, or the path of a YAML file.
        root, tables, strict, jobs, progress: As for :func:`vision_ift.build`.
        total: Conversations to deliver instead of what the recipe says (weights only).
        allow_missing: Leave out sources whose files are not there or whose rows are all filtered
            away; with weights the others take their share in proportion.

    Raises:
        UnknownNameError: No such recipe.
        RecipeError: The recipe cannot be planned.
        MissingInputError: A source is not under ``root`` (and ``allow_missing`` is false).

    >>> plan("coco_mix", root="nowhere")
    Traceback (most recent call last):
    vision_ift._errors.MissingInputError: source coco_ift: there is no folder nowhere; ...
    """
    if not isinstance(recipe, Recipe):
        recipe = Recipe.read(recipe)
    root = Path(root).expanduser() if root is not None else default_root()
    excluded = Excluded(recipe.exclude)
    found: dict[str, Selection | str] = {}
    for entry in recipe.mix:
        if entry.name not in found:
            try:
                table = build(
                    entry.source,
                    root=root,
                    tables=tables,
                    options=entry.all_options,
                    strict=strict,
                    jobs=jobs,
                    progress=progress,
                )
                selection = select(table, entry, seed=recipe.seed, excluded=excluded)
                if not len(selection):
                    raise _nothing_left(entry, table)
                found[entry.name] = selection
            except MissingInputError as error:
                if not allow_missing:
                    error.hint += "; or leave it out with --allow-missing"
                    raise
                found[entry.name] = error.message
    planned = arrange(recipe, found, root=root, total=total)
    return replace(planned, unknown_excludes=excluded.unknown)


def _nothing_left(entry: Entry, table: Table) -> MissingInputError:
    counted = ", ".join(f"{count:,} {reason}" for reason, count in table.report.dropped.items())
    if len(table):
        return MissingInputError(
            f"source {entry.source}: none of its {len(table):,} rows is left by the recipe "
            f"({entry.where or 'answered rows only'})",
            hint="change where or exclude",
        )
    return MissingInputError(
        f"source {entry.source}: its files hold no row (dropped: {counted or 'none'})",
        hint=f"vision-ift build {entry.source} names the first ten of each",
    )


def arrange(
    recipe: Recipe,
    found: Mapping[str, Selection | str],
    *,
    root: Path,
    total: int | None = None,
) -> Plan:
    """Make the plan of a recipe from the selections of its entries: arithmetic alone.

    Args:
        recipe: What is asked for.
        found: Name of an entry to its selection, or to why it is left out.
        root: Where the pictures lie.
        total: Overrides the amount of the only stage.
    """
    if total is not None:
        if len(recipe.stages) > 1:
            raise RecipeError(f"{recipe.name} has stages, so a total for all of it says nothing")
        if recipe.stages[0].mix[0].kind != "weight":
            raise RecipeError(
                f"a total goes with weights, but {recipe.name} gives a "
                f"{recipe.stages[0].mix[0].kind}"
            )
        if total < 1:
            raise RecipeError(f"total is {total}; give 1 or more")
    selections: list[Selection | None] = []
    asked: list[Fraction] = []
    segments: list[Segment] = []
    given: dict[str, int] = {}
    start = 0
    for stage in recipe.stages:
        first = len(selections)
        chosen = [found[entry.name] for entry in stage.mix]
        present = [one if isinstance(one, Selection) else None for one in chosen]
        selections.extend(present)
        numbers = [number for number, one in enumerate(present) if one is not None]
        if not numbers:
            reasons = "; ".join(str(one) for one in chosen)
            raise MissingInputError(
                f"{recipe.name}: no source of stage {stage.name} is there ({reasons})"
            )
        amounts, rows = _amounts(stage, [stage.mix[n] for n in numbers], present, total)
        asked.extend(
            amounts[numbers.index(n)] if n in numbers else Fraction(0) for n in range(len(present))
        )
        if rows:
            names = [stage.mix[n].name for n in numbers]
            order = Order(
                names,
                _weights(stage, [stage.mix[n] for n in numbers], amounts),
                seed=_stage_key(recipe, stage),
            )
            segments.append(
                Segment(
                    name=stage.name,
                    start=start,
                    stop=start + rows,
                    order=order,
                    numbers=np.array([first + n for n in numbers], np.int32),
                    starts=tuple(given.get(name, 0) for name in names),
                )
            )
            for name, count in zip(names, order.counts(rows), strict=True):
                given[name] = given.get(name, 0) + count
            start += rows
    missing = {
        name: f"{one}; {_share_of(recipe, name, found)}"
        for name, one in found.items()
        if isinstance(one, str)
    }
    return Plan(recipe, root, tuple(selections), tuple(segments), tuple(asked), missing)


def _amounts(
    stage: Stage,
    entries: list[Entry],
    present: list[Selection | None],
    total: int | None,
) -> tuple[list[Fraction], int]:
    """Rows asked of each present entry, and rows of the whole stage."""
    sizes = [len(one) for one in present if one is not None]
    kind = entries[0].kind
    if kind == "weight":
        rows = total or stage.total or _whole(sum(sizes) * stage.epochs)
        whole = sum((entry.amount for entry in entries), Fraction(0))
        if not whole:
            raise RecipeError(f"stage {stage.name}: the sources that are there all weigh 0")
        return [entry.amount / whole * rows for entry in entries], rows
    if kind == "count":
        counts = [_whole(entry.amount * stage.epochs) for entry in entries]
    else:
        counts = [
            _whole(size * entry.amount * stage.epochs)
            for entry, size in zip(entries, sizes, strict=True)
        ]
    return [Fraction(count) for count in counts], sum(counts)


def _whole(amount: Fraction) -> int:
    """Round to the nearest whole number, halves up."""
    return int(amount + Fraction(1, 2))


def _weights(stage: Stage, entries: list[Entry], amounts: list[Fraction]) -> list[int]:
    """The order's integer weights: the recipe's own for weights, the exact counts otherwise."""
    exact = [e.amount for e in entries] if entries[0].kind == "weight" else amounts
    common = lcm(*(amount.denominator for amount in exact))
    weights = [int(amount * common) for amount in exact]
    if sum(weights) > MOST_WEIGHT and entries[0].kind == "weight":
        raise RecipeError(
            f"stage {stage.name}: the weights have too many digits together",
            hint="round them",
        )
    return weights


def _stage_key(recipe: Recipe, stage: Stage) -> int:
    """A 64-bit seed for the stage's order, from the recipe's seed and the stage's name."""
    text = f"vision_ift stage\0{recipe.seed}\0{stage.name}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def _share_of(recipe: Recipe, name: str, found: Mapping[str, Selection | str]) -> str:
    """Say what became of a missing entry's share."""
    for stage in recipe.stages:
        for entry in stage.mix:
            if entry.name != name:
                continue
            if entry.kind != "weight":
                return f"its {entry.kind} of {entry.amount} is not delivered"
            whole = sum(other.amount for other in stage.mix)
            left = [e for e in stage.mix if isinstance(found[e.name], Selection)]
            rest = sum(other.amount for other in left)
            now = ", ".join(f"{e.name} {float(e.amount / rest):.1%}" for e in left if rest)
            return f"its share of {float(entry.amount / whole):.1%} went to the others: {now}"
    raise AssertionError(name)
