"""What will be delivered: exact counts, the order, the shard of every row.

A plan is a pure function of the recipe and of the selections (tables' digests and the rows that
filters leave), of the draw, and of the counters that it goes on from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TypedDict, Unpack

import msgspec
import numpy as np

from vision_ift._build import Progress, build, default_root, silent
from vision_ift._errors import IntegrityError, MissingInputError, RecipeError, UsageError
from vision_ift._plan.arrange import TokensOf, arrange
from vision_ift._plan.budget import Values
from vision_ift._plan.lock import Lock, read_lock
from vision_ift._plan.planned import Plan, Segment
from vision_ift._plan.token_counts import token_counts
from vision_ift._recipe.recipe import Entry, Recipe
from vision_ift._recipe.select import Excluded, Selection, select
from vision_ift._table import Table

__all__ = ["Plan", "Segment", "arrange", "plan"]


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
        how = (root, tables, strict, jobs, progress)
        return _again(read_lock(recipe), Path(recipe), *how)
    if not isinstance(recipe, Recipe):
        recipe = Recipe.read(recipe)
    lock, at = (_lock_of(after[0]), after[1]) if after is not None else (None, 0)
    if lock is not None and not 0 <= at <= lock.rows:
        lock.given(at)  # says so before a table is built
    root = Path(root).expanduser() if root is not None else default_root()
    excluded = Excluded(recipe.exclude)
    making: _Making = {
        "root": root,
        "tables": tables,
        "strict": strict,
        "jobs": jobs,
        "progress": progress,
    }
    found = _select(recipe, excluded, allow_missing=allow_missing, **making)
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


class _Making(TypedDict):
    """How tables are made; as for :func:`vision_ift.build`."""

    root: Path
    tables: Path | str | None
    strict: bool
    jobs: int
    progress: Progress


def _select(
    recipe: Recipe, excluded: Excluded, *, allow_missing: bool, **making: Unpack[_Making]
) -> dict[str, Selection | str]:
    """Build each entry's table and select its rows; where it may be missing, say why it is."""
    found: dict[str, Selection | str] = {}
    for entry in recipe.mix:
        if entry.name in found:
            continue
        try:
            table = build(entry.source, options=entry.all_options, **making)
            selection = select(table, entry, seed=recipe.seed, excluded=excluded)
            if not len(selection):
                raise _nothing_left(entry, table)
            found[entry.name] = selection
        except MissingInputError as error:
            if not allow_missing:
                error.hint += "; or leave it out with --allow-missing"
                raise
            found[entry.name] = error.message
    return found


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
            found[name] = replace(selection, rows=kept.astype(np.int64))
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
    changed = _changed(lock, found)
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


def _changed(lock: Lock, found: Mapping[str, Selection | str]) -> list[str]:
    """Say which sources are not what a lock's plan was made of."""
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
    return changed


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
