"""Two plans side by side: rows, shares, repeats, and the rows that they share, by table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from vision_ift._build import Progress, silent
from vision_ift._plan.continued import distinct, marked
from vision_ift._plan.lock import Lock, LockedPart
from vision_ift._plan.permute import Permutation
from vision_ift._plan.plan import Plan
from vision_ift._plan.summary import shown_tokenizer, summarise

Mask = NDArray[np.bool_]


class _Draw(NamedTuple):
    """What a plan gives of one part: occurrences ``start`` to ``stop`` of its selection.

    ``kept`` are the selection's rows in its table (``None``: all); ``known`` says whether we have
    them at all, for a lock alone does not.
    """

    part: LockedPart
    start: int
    stop: int
    seed: int
    known: bool
    kept: NDArray[np.int64] | None

    @property
    def table(self) -> str:
        return self.part.selection.partition("/")[0]

    @property
    def order(self) -> Permutation:
        return Permutation(self.part.name, self.part.rows, seed=self.seed)

    @property
    def distinct(self) -> int:
        return distinct(self.order, self.start, self.stop)

    def mask(self) -> Mask:
        """Mark the rows of the table that are given."""
        inside = marked(self.order, self.start, self.stop)
        if self.kept is None:
            return inside
        found = np.zeros(self.part.table_rows, np.bool_)
        found[self.kept[inside]] = True
        return found


def compare(
    first: Plan | Lock,
    second: Plan | Lock,
    *,
    tokenizer: str | None = None,
    image_tokens: str | None = None,
    jobs: int = 1,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Compare two plans: the object that ``vision-ift plan A B --json`` prints.

    Args:
        first, second: Plans, or locks.
        tokenizer, image_tokens: What counts tokens; ``None``: what both recipes name, where they
            name the same.
        jobs, progress: As for the counting of tokens.

    Returns:
        ``plans``: name, digest, rows of both; ``parts``: by name of an entry what each delivers
        (``None`` where it has no such entry); ``tables``: for every table that both read, the
        different rows that each gives of it and ``shared``, how many they have in common
        (``shared_least`` and ``shared_most`` are equal where that is known exactly);
        ``not_compared``: entries of one name and source whose tables are not the same, so that
        no row of one can be found in the other.

    Rows are known of plans, and of locks as far as a selection is a whole table or that of the
    other side; else bounds are given.
    """
    sides = [_draws(one) for one in (first, second)]
    selections = {draw.part.selection: draw for side in sides for draw in side if draw.known}
    sides = [
        [
            draw
            if draw.known or draw.part.selection not in selections
            else draw._replace(known=True, kept=selections[draw.part.selection].kept)
            for draw in side
        ]
        for side in sides
    ]
    names = list(dict.fromkeys(draw.part.name for side in sides for draw in side))
    by_name = [{draw.part.name: draw for draw in side} for side in sides]
    totals = [sum(draw.stop - draw.start for draw in side) for side in sides]
    rules = _rules(first, second, tokenizer, image_tokens)
    tokens = [_tokens(one, rules, jobs, progress) for one in (first, second)]
    parts = []
    for name in names:
        sides_of = zip(by_name, totals, tokens, strict=True)
        parts.append(
            {
                "name": name,
                "plans": [
                    {**_described(side[name], total), **known[name]} if name in side else None
                    for side, total, known in sides_of
                ],
            }
        )
    tables = [{draw.table for draw in side if draw.stop > draw.start} for side in sides]
    shared = [
        _shared(*([draw for draw in side if draw.table == digest] for side in sides))
        for digest in sorted(tables[0] & tables[1])
    ]
    apart = [
        name
        for name in names
        if all(name in side for side in by_name)
        and by_name[0][name].table != by_name[1][name].table
    ]
    return {
        "plans": [
            {
                "name": one.recipe.name if isinstance(one, Plan) else one.name,
                "plan_digest": one.digest,
                "rows": total,
            }
            for one, total in zip((first, second), totals, strict=True)
        ],
        "tokenizer": shown_tokenizer(rules[0]),
        "image_rule": rules[1],
        "parts": parts,
        "tables": shared,
        "not_compared": apart,
    }


_Rules = tuple[str | None, str | None]


def _rules(
    first: Plan | Lock, second: Plan | Lock, tokenizer: str | None, image_tokens: str | None
) -> _Rules:
    """What counts the tokens of both; a lock has no rows to count."""
    if not (isinstance(first, Plan) and isinstance(second, Plan)):
        return None, None
    one, two = first.recipe, second.recipe
    same = one.tokenizer if one.tokenizer == two.tokenizer else None
    rule = one.image_tokens if one.image_tokens == two.image_tokens else None
    return tokenizer or same, image_tokens or rule


def _tokens(
    what: Plan | Lock, rules: _Rules, jobs: int, progress: Progress
) -> defaultdict[str, dict[str, int | None]]:
    """The tokens of every part; ``None`` where nothing counts them for both."""
    none: dict[str, int | None] = {"text_tokens": None, "image_tokens": None}
    found: defaultdict[str, dict[str, int | None]] = defaultdict(lambda: dict(none))
    if isinstance(what, Lock) or rules == (None, None):
        return found
    # What the recipe itself names must not speak where the other's does not.
    alike = msgspec.structs.replace(what.recipe, tokenizer=rules[0], image_tokens=rules[1])
    for part in summarise(replace(what, recipe=alike), jobs=jobs, progress=progress)["sources"]:
        of_part = found[part["name"]]
        for key in none:
            if part[key] is not None:
                of_part[key] = (of_part[key] or 0) + part[key]
    return found


def _described(draw: _Draw, total: int) -> dict[str, Any]:
    count = draw.stop - draw.start
    return {
        "available": draw.part.rows,
        "delivered": count,
        "share": round(count / total, 6) if total else 0.0,
        "repeats": round(count / draw.part.rows, 4),
        "unique": draw.distinct,
    }


def _draws(what: Plan | Lock) -> list[_Draw]:
    """What a plan or a lock gives, a part by its name over all stages."""
    lock = msgspec.convert(what.lock(), Lock) if isinstance(what, Plan) else what
    counts: dict[str, int] = {}
    parts: dict[str, LockedPart] = {}
    for part in lock.parts:
        counts[part.name] = counts.get(part.name, 0) + part.delivered
        parts.setdefault(part.name, part)
    kept: dict[str, NDArray[np.int64] | None] = {}
    if isinstance(what, Plan):
        for name, selection in zip(what.names, what.selections, strict=True):
            if selection is not None:
                kept[name] = selection.rows
    found = []
    for name, part in parts.items():
        start = lock.counters.get(name, 0)
        whole = "/" not in part.selection  # all rows of its table, so nobody has to tell which
        found.append(
            _Draw(
                part, start, start + counts[name], lock.seed, whole or name in kept, kept.get(name)
            )
        )
    return found


def _shared(first: Sequence[_Draw], second: Sequence[_Draw]) -> dict[str, Any]:
    """Count the rows of one table that both sides give."""
    size = first[0].part.table_rows
    told = {
        "source": first[0].part.source,
        "names": sorted({draw.part.name for draw in (*first, *second)}),
    }
    if all(draw.known for draw in (*first, *second)):
        masks = [np.logical_or.reduce([draw.mask() for draw in side]) for side in (first, second)]
        rows = [int(np.count_nonzero(mask)) for mask in masks]
        both = int(np.count_nonzero(masks[0] & masks[1]))
        return {**told, "rows": rows, "shared_least": both, "shared_most": both}
    least = [max(draw.distinct for draw in side) for side in (first, second)]
    most = [min(size, sum(draw.distinct for draw in side)) for side in (first, second)]
    return {
        **told,
        "rows": most,
        "shared_least": max(0, sum(least) - size),
        "shared_most": min(most),
    }
