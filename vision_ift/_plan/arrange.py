"""A recipe and the selections of its entries to a plan: arithmetic alone, no file is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from vision_ift._errors import MissingInputError, RecipeError, UsageError
from vision_ift._plan.amounts import SHARES, Amounts, amounts, stage_key
from vision_ift._plan.budget import Values, rows_for_tokens
from vision_ift._plan.continued import counters_after
from vision_ift._plan.lock import After, Lock
from vision_ift._plan.order import Order
from vision_ift._plan.permute import Permutation
from vision_ift._plan.planned import Plan, Segment
from vision_ift._recipe.recipe import Recipe, Stage
from vision_ift._recipe.select import Selection

#: A draw is found by going through those before it; more than this is a slip of the keyboard.
_MOST_EPOCH = 9999

#: Gives the tokens of every row of an entry's selection.
TokensOf = Callable[[str], Values]


def arrange(
    recipe: Recipe,
    found: Mapping[str, Selection | str],
    *,
    root: Path,
    total: int | None = None,
    epoch: int = 0,
    after: tuple[Lock, int] | After | None = None,
    counters: Mapping[str, int] | None = None,
    tokens_of: TokensOf | None = None,
) -> Plan:
    """Make the plan of a recipe from the selections of its entries: arithmetic alone.

    Args:
        recipe: What is asked for.
        found: Name of an entry to its selection, or to why it is left out.
        root: Where the pictures lie.
        total: Overrides the amount of the only stage.
        epoch: Which draw.
        after: What to go on from: a lock and a position; or its name alone, with ``counters``.
        counters: What was given before this plan's first draw, where ``after`` does not say.
        tokens_of: Gives the tokens of every row of an entry, where a stage has a budget of tokens.
    """
    _refuse_total(recipe, total)
    if not 0 <= epoch <= _MOST_EPOCH:
        raise UsageError(f"epoch is {epoch}", hint=f"give 0 to {_MOST_EPOCH}")
    base: dict[str, int] = dict(counters or {})
    planned = Plan(recipe, root, (), (), ())
    if isinstance(after, tuple):
        lock, at = after
        base, changed, gone = counters_after(lock, at, found, seed=recipe.seed)
        after = After(plan=lock.digest, at=at)
        planned = replace(planned, changed=changed, gone=gone)
    tag = f"\0after {after.plan} {after.at}" if after is not None else ""
    given = dict(base)
    if counters is None:  # they say where this draw starts; else it is where those before it ended
        for number in range(epoch):
            each = f"{tag}\0draw {number}" if number else tag
            _draw(recipe, found, given, total, tokens_of, each)
    before = {name: count for name, count in sorted(given.items()) if count}
    last = f"{tag}\0draw {epoch}" if epoch else tag
    segments, asked = _draw(recipe, found, given, total, tokens_of, last)
    chosen = [found[entry.name] for entry in recipe.mix]
    return replace(
        planned,
        selections=tuple(one if isinstance(one, Selection) else None for one in chosen),
        segments=tuple(segments),
        asked=tuple(asked),
        missing={
            name: f"{one}; {_share_of(recipe, name, found)}"
            for name, one in found.items()
            if isinstance(one, str)
        },
        total=total,
        epoch=epoch,
        counters=before,
        after=after,
    )


def _refuse_total(recipe: Recipe, total: int | None) -> None:
    if total is None:
        return
    if len(recipe.stages) > 1:
        raise RecipeError(f"{recipe.name} has stages, so a total for all of it says nothing")
    if recipe.stages[0].mix[0].kind not in SHARES:
        raise RecipeError(
            f"a total goes with weights, but {recipe.name} gives a {recipe.stages[0].mix[0].kind}"
        )
    if total < 1:
        raise RecipeError(f"total is {total}; give 1 or more")


def _draw(
    recipe: Recipe,
    found: Mapping[str, Selection | str],
    given: dict[str, int],
    total: int | None,
    tokens_of: TokensOf | None,
    tag: str,
) -> tuple[list[Segment], list[Fraction]]:
    """Fix every stage of one draw; ``given`` is what each part gave, before and then after it."""
    segments: list[Segment] = []
    asked: list[Fraction] = []
    first = start = 0
    for stage in recipe.stages:
        chosen = [found[entry.name] for entry in stage.mix]
        places = [place for place, one in enumerate(chosen) if isinstance(one, Selection)]
        if not places:
            reasons = "; ".join(str(one) for one in chosen)
            raise MissingInputError(
                f"{recipe.name}: no source of stage {stage.name} is there ({reasons})"
            )
        entries = [stage.mix[place] for place in places]
        come_to = amounts(stage, entries, [len(chosen[place]) for place in places], total=total)
        starts = tuple(given.get(entry.name, 0) for entry in entries)
        rows = come_to.rows
        if rows != 0:
            order = Order(
                [entry.name for entry in entries],
                come_to.weights,
                seed=stage_key(recipe, stage, draw=tag),
            )
            reached = None
            if rows is None:
                rows, reached = _stop(recipe, stage, order, found, starts, come_to, tokens_of)
            segments.append(
                Segment(
                    name=stage.name,
                    start=start,
                    stop=start + rows,
                    order=order,
                    numbers=np.array([first + place for place in places], np.int32),
                    starts=starts,
                    reached=reached,
                )
            )
            for entry, count in zip(entries, order.counts(rows), strict=True):
                given[entry.name] = given.get(entry.name, 0) + count
            start += rows
        by_place = dict(zip(places, come_to.asked(rows), strict=True))
        asked += [by_place.get(place, Fraction(0)) for place in range(len(chosen))]
        first += len(chosen)
    return segments, asked


def _stop(
    recipe: Recipe,
    stage: Stage,
    order: Order,
    found: Mapping[str, Selection | str],
    starts: tuple[int, ...],
    come_to: Amounts,
    tokens_of: TokensOf | None,
) -> tuple[int, int]:
    """Find where a budget of tokens ends a stage, and what it then holds."""
    assert tokens_of is not None, "who plans a budget of tokens says how they are counted"
    assert come_to.tokens is not None, "no rows are given, so tokens are"
    return rows_for_tokens(
        order,
        [Permutation(name, len(found[name]), seed=recipe.seed) for name in order.names],
        [tokens_of(name) for name in order.names],
        come_to.tokens,
        starts=starts,
        what=f"stage {stage.name}",
    )


def _share_of(recipe: Recipe, name: str, found: Mapping[str, Selection | str]) -> str:
    """Say what became of a missing entry's share."""
    for stage in recipe.stages:
        for entry in stage.mix:
            if entry.name != name:
                continue
            if entry.kind not in SHARES:
                return f"its {entry.kind} of {entry.amount} is not delivered"
            left = [e for e in stage.mix if isinstance(found[e.name], Selection)]
            sizes = [len(found[e.name]) for e in left]
            weights = amounts(stage, left, sizes).weights if left else []
            now = ", ".join(
                f"{e.name} {weight / sum(weights):.1%}"
                for e, weight in zip(left, weights, strict=True)
            )
            whole = sum(other.amount for other in stage.mix)
            share = f" of {float(entry.amount / whole):.1%}" if entry.kind == "weight" else ""
            return f"its share{share} went to the others: {now}"
    raise AssertionError(name)
