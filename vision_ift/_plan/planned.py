"""A plan: positions to (source, row) by arithmetic, exact counts, and the lock that says it all.

A plan holds no list of rows: position to (source, row) is arithmetic, done in ``_order.py`` (which
source) and ``_permute.py`` (which of its rows).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vision_ift._conversation import SCHEMA
from vision_ift._errors import UsageError
from vision_ift._plan.continued import Changed
from vision_ift._plan.lock import LOCK_VERSION, After, digest_of
from vision_ift._plan.order import Order
from vision_ift._plan.permute import Permutation, deal
from vision_ift._recipe.recipe import Recipe
from vision_ift._recipe.select import Selection
from vision_ift._table import Table


@dataclass(frozen=True, slots=True)
class Segment:
    """One stage of a plan: positions ``start`` to ``stop`` (not included).

    ``numbers`` are the source numbers of the order's own sources, ``starts`` what each of them had
    given before. Where a budget of tokens ended the stage, ``reached`` is what its rows hold.
    """

    name: str
    start: int
    stop: int
    order: Order
    numbers: NDArray[np.int32]
    starts: tuple[int, ...]
    reached: int | None = None


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
        total: Rows asked for beside the recipe.
        epoch: Which draw of the recipe it is, from 0.
        counters: Name of an entry to the rows of it that were given before this plan.
        after: The plan and the position that it goes on from.
        changed: Name of an entry that is not what it was there to what can be said of it.
        gone: Name of a part of that plan which is no more to the rows it had given.
        copies: Name of an entry to the rows that the rule on duplicates left out.
    """

    recipe: Recipe
    root: Path
    selections: tuple[Selection | None, ...]
    segments: tuple[Segment, ...]
    asked: tuple[Fraction, ...]
    missing: Mapping[str, str] = field(default_factory=dict)
    unknown_excludes: int = 0
    total: int | None = None
    epoch: int = 0
    counters: Mapping[str, int] = field(default_factory=dict)
    after: After | None = None
    changed: Mapping[str, Changed] = field(default_factory=dict)
    gone: Mapping[str, int] = field(default_factory=dict)
    copies: Mapping[str, int] = field(default_factory=dict)

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
        """The rows of every source number in the sequence in which it gives them."""
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
        return self.take(*self.slice(start, stop))

    def take(self, sources: NDArray[np.int32], rows: NDArray[np.int64]) -> pa.Table:
        """Read the conversations of these source and row numbers, in this order."""
        pieces, places = [], []
        for source in np.unique(sources):
            table = self.tables[source]
            assert table is not None
            where = np.flatnonzero(sources == source)
            pieces.append(table.take(rows[where]))
            places.append(where)
        if not pieces:
            return SCHEMA.empty_table()
        if len(pieces) == 1:
            return pieces[0]
        back = np.empty(len(rows), np.int64)
        back[np.concatenate(places)] = np.arange(len(rows))
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
        return digest_of(self._locked)

    def lock(self) -> dict[str, Any]:
        """Describe the plan as JSON, without a path of this machine: counts, digests, stages.

        The plan can be made again from it (:func:`vision_ift.plan` takes the file), and a later
        plan can go on from it at any position.
        """
        rule = self.recipe.duplicates
        return {
            "schema_version": LOCK_VERSION,
            "name": self.recipe.name,
            "digest": self.digest,
            "rows": len(self),
            "missing": sorted(self.missing),  # without the reasons, which name local paths
            "epoch": self.epoch,
            "total": self.total,
            "after": None if self.after is None else {"plan": self.after.plan, "at": self.after.at},
            "counters": dict(sorted(self.counters.items())),
            "recipe": self.recipe.text,
            "duplicates": None
            if rule is None
            else {"by": rule.by, "near": rule.near, "keep": rule.keep},
            **self._locked,
        }

    @cached_property
    def _locked(self) -> dict[str, Any]:
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
                    "subset": None if entry.subset is None else str(entry.subset),
                    "copies": self.copies.get(entry.name, 0),
                    "selection": selection.digest,
                    "table_rows": len(selection.table),
                    "rows": len(selection),
                    "delivered": delivered[number],
                }
            )
        asked = {stage.name: stage for stage in self.recipe.stages}
        stages = []
        for segment in self.segments:
            stage = asked[segment.name]
            stages.append(
                {
                    "name": segment.name,
                    "key": segment.order.seed,
                    "start": segment.start,
                    "stop": segment.stop,
                    "numbers": segment.numbers.tolist(),
                    "weights": list(segment.order.weights),
                    "starts": list(segment.starts),
                    "temperature": str(stage.temperature),
                    "cap": stage.cap,
                    "tokens": stage.tokens,
                    "reached": segment.reached,
                }
            )
        return {"seed": self.recipe.seed, "parts": parts, "stages": stages}
