"""What will be delivered: exact counts, the order, the shard of every row.

A plan is a pure function of the recipe and of the selections (tables' digests and the rows that
filters leave), of the draw, and of the counters that it goes on from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import msgspec
import numpy as np

from vision_ift._build import Progress, build, default_root, silent
from vision_ift._errors import IntegrityError, MissingInputError, RecipeError, UsageError
from vision_ift._plan.amounts import SHARES, Amounts, amounts, stage_key
from vision_ift._plan.budget import Values, rows_for_tokens
from vision_ift._plan.continued import counters_after
from vision_ift._plan.lock import After, Lock, read_lock
from vision_ift._plan.order import Order
from vision_ift._plan.permute import Permutation
from vision_ift._plan.planned import Plan, Segment
from vision_ift._plan.token_counts import token_counts
from vision_ift._recipe.recipe import Entry, Recipe, Stage
from vision_ift._recipe.select import Excluded, Selection, select
from vision_ift._table import Table

__all__ = ["Plan", "Segment", "arrange", "plan"]

#: A draw is found by going through those before it; more than this is a slip of the keyboard.
_MOST_EPOCH = 9999

#: Gives the tokens of every row of an entry's selection.
TokensOf = Callable[[str], Values]


def plan(
    recipe: Recipe | str | Path,
    *,
    root: Path | str | None = None,
    tables: Path | str | None = None,
    total: int | None = None,
    epoch: int = 0,
    after: tuple[Plan | Lock | Path | str, int] | None = None,
    allow_missing: bool = False,
    strict: bool = False,
    jobs: int = 1,
    progress: Progress = silent,
) -> Plan:
    """Plan a recipe: build the tables that are missing, select their rows, fix every count.

    Args:
        recipe: A recipe, the name of a shipped one, the path of a YAML file, or the path of a lock
            (``.json``), whose plan is then made again.
        root, tables, strict, jobs, progress: As for :func:`vision_ift.build`.
        total: Conversations to deliver instead of what the recipe says (weights only).
        epoch: Which draw of the recipe, from 0. Each draw goes on in every source where the one
            before ended, so rows that were not given yet come first, in an order of its own.
        after: A plan, a lock or a lock's path, and a position in it: every source goes on where it
            stood there. What this plan delivers counts from that position on.
        allow_missing: Leave out sources whose files are not there or whose rows are all filtered
            away; with weights the others take their share in proportion.

    Raises:
        UnknownNameError: No such recipe.
        RecipeError: The recipe cannot be planned.
        MissingInputError: A source is not under ``root`` (and ``allow_missing`` is false).
        IntegrityError: A lock is damaged, or the plan made from it is another one; the message says
            which source changed.
        UsageError: A position past the end of the plan to go on from, or a bad ``epoch``.

    >>> plan("coco_mix", root="nowhere")
    Traceback (most recent call last):
    vision_ift._errors.MissingInputError: source coco_ift: there is no folder nowhere; ...
    """
    if isinstance(recipe, str | Path) and Path(recipe).suffix == ".json":
        if total is not None or epoch or after is not None:
            raise UsageError("a lock says itself what is delivered", hint="give its recipe instead")
        return _again(
            read_lock(recipe),
            Path(recipe),
            root=root,
            tables=tables,
            strict=strict,
            jobs=jobs,
            progress=progress,
        )
    if not isinstance(recipe, Recipe):
        recipe = Recipe.read(recipe)
    lock, at = (_lock_of(after[0]), after[1]) if after is not None else (None, 0)
    if lock is not None and not 0 <= at <= lock.rows:
        lock.given(at)  # says so before a table is built
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
    copies = _without_copies(recipe, found, root=root, jobs=jobs, progress=progress)
    planned = arrange(
        recipe,
        found,
        root=root,
        total=total,
        epoch=epoch,
        after=None if lock is None else (lock, at),
        tokens_of=_counter(recipe, found, root=root, jobs=jobs, progress=progress),
    )
    return replace(planned, unknown_excludes=excluded.unknown, copies=copies)


def _lock_of(what: Plan | Lock | Path | str) -> Lock:
    if isinstance(what, Plan):
        return msgspec.convert(what.lock(), Lock)
    return what if isinstance(what, Lock) else read_lock(what)


def _without_copies(
    recipe: Recipe,
    found: dict[str, Selection | str],
    *,
    root: Path,
    jobs: int,
    progress: Progress,
) -> dict[str, int]:
    """Leave out what the recipe's rule on duplicates says, in place; count it by entry."""
    if recipe.duplicates is None:
        return {}
    from vision_ift._likeness.groups import extra_copies

    present = {name: one for name, one in found.items() if isinstance(one, Selection)}
    extra = extra_copies(present, recipe.duplicates, root=root, jobs=jobs, progress=progress)
    counts: dict[str, int] = {}
    for name, selection in present.items():
        left_out = extra.get(name, np.empty(0, np.int64))
        rows = np.arange(len(selection.table)) if selection.rows is None else selection.rows
        kept = rows[~np.isin(rows, left_out)]
        counts[name] = len(rows) - len(kept)
        if not len(kept):
            raise RecipeError(
                f"{name}: all of its {len(rows):,} rows are copies of rows before them",
                hint="leave it out of the mix, or change the rule on duplicates",
            )
        if counts[name]:
            found[name] = Selection(selection.table, kept.astype(np.int64))
    return counts


def _counter(
    recipe: Recipe,
    found: Mapping[str, Selection | str],
    *,
    root: Path,
    jobs: int,
    progress: Progress,
) -> TokensOf:
    """Give the tokens of an entry's rows by the recipe's tokenizer and rule."""

    @cache
    def tokens_of(name: str) -> Values:
        selection = found[name]
        assert isinstance(selection, Selection)
        if recipe.tokenizer is None:
            raise RecipeError(
                f"{recipe.name} has a budget of tokens, but nothing says how they are counted",
                hint="name a tokenizer beside it, e.g. tokenizer: chars/4",
            )
        counts = token_counts(
            selection.table,
            recipe.tokenizer,
            recipe.image_tokens,
            root=root,
            jobs=jobs,
            progress=progress,
        )
        tokens = counts.text.astype(np.int64) + counts.image
        return tokens if selection.rows is None else tokens[selection.rows]

    return tokens_of


def _again(
    lock: Lock,
    path: Path,
    *,
    root: Path | str | None,
    tables: Path | str | None,
    strict: bool,
    jobs: int,
    progress: Progress,
) -> Plan:
    """Make the plan of a lock again, or say which source changed."""
    if not lock.recipe:
        raise IntegrityError(
            f"lock {path} has no recipe in it: its plan was made of one written in Python",
            hint="plan that recipe, and compare the digests",
        )
    recipe = Recipe.parse(lock.recipe, file=str(path.with_suffix(".yaml")))
    recipe = msgspec.structs.replace(recipe, name=lock.name)
    made = plan(
        recipe,
        root=root,
        tables=tables,
        allow_missing=bool(lock.missing),
        strict=strict,
        jobs=jobs,
        progress=progress,
    )
    found: dict[str, Selection | str] = {
        entry.name: one if one is not None else made.missing[entry.name]
        for entry, one in zip(recipe.mix, made.selections, strict=True)
    }
    parts = {part.name: part for part in lock.parts}
    changed = []
    for name, one in found.items():
        if (name in parts) != isinstance(one, Selection):
            changed.append(f"{name} is {'no longer' if name in parts else 'now'} there")
        elif isinstance(one, Selection) and one.digest != parts[name].selection:
            before, now = parts[name].selection, one.digest
            what = "table" if before.partition("/")[0] != now.partition("/")[0] else "selection"
            changed.append(
                f"the {what} of {name} has {len(one):,} rows (digest {now}); "
                f"it had {parts[name].rows:,} ({before})"
            )
    if not changed:
        again = arrange(
            recipe,
            found,
            root=made.root,
            total=lock.total,
            epoch=lock.epoch,
            after=lock.after,
            counters=lock.counters,
            tokens_of=_counter(recipe, found, root=made.root, jobs=jobs, progress=progress),
        )
        if again.digest == lock.digest:
            return replace(again, unknown_excludes=made.unknown_excludes, copies=made.copies)
        changed = ["its rows are the same, but what is asked of them is not"]
    raise IntegrityError(
        f"lock {path}: the plan cannot be made again: {'; '.join(changed)}",
        hint="bring back the files that it was made of, or plan the recipe anew",
    )


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
