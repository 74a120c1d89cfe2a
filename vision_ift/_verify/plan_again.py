"""The plan of an export, made again for a repair."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vision_ift._build import Progress
from vision_ift._errors import IntegrityError, MissingInputError, RecipeError
from vision_ift._export.manifest import PLAN, RECIPE
from vision_ift._plan.lock import Lock
from vision_ift._plan.plan import Plan, arrange, plan
from vision_ift._recipe.recipe import Recipe
from vision_ift._recipe.select import Selection
from vision_ift._verify.standing import Standing


def plan_again(
    standing: Standing,
    *,
    recipe: Recipe | Plan | str | Path | None,
    root: Path | str | None,
    tables: Path | str | None,
    jobs: int,
    progress: Progress,
) -> Plan:
    """Make the plan that the layout names.

    Args:
        standing: What is known of the export: its lock and recipe are used where they are sound.
        recipe: The recipe, plan or plan's lock to use instead of the export's.
        root, tables, jobs, progress: As for :func:`vision_ift.plan`.

    Raises:
        MissingInputError: A source is gone, or no recipe is left.
        IntegrityError: The plan that comes out is another one.
    """
    folder, layout, lock = standing.folder, standing.layout, standing.lock
    assert layout is not None
    make = functools.partial(plan, root=root, tables=tables, jobs=jobs, progress=progress)
    if isinstance(recipe, Plan):
        made = recipe
    elif isinstance(recipe, str | Path) and Path(recipe).suffix == ".json":
        made = make(recipe)
    elif recipe is None and lock is not None and lock.recipe and PLAN not in standing.damaged_files:
        made = make(folder / PLAN)
    else:
        asked = _recipe_of(standing) if recipe is None else recipe
        if not isinstance(asked, Recipe):
            asked = Recipe.read(asked)
        made = _of_recipe(asked, lock, make, digest=layout.plan_digest, rows=layout.rows)
    if made.digest != layout.plan_digest:
        raise IntegrityError(
            f"the export in {folder} was made of the plan {layout.plan_digest} of "
            f"{layout.rows:,} rows; {made.recipe.name} under {made.root} now gives the plan "
            f"{made.digest} of {len(made):,} rows",
            hint="bring back the recipe or the plan's lock (--recipe) and the sources (--root) "
            "that it was made of",
        )
    return made


def _of_recipe(
    asked: Recipe, lock: Lock | None, make: Callable[..., Plan], *, digest: str, rows: int
) -> Plan:
    """Plan a recipe with what the lock says of the draw, or without a lock as a total may have
    been given beside it."""
    if lock is None:
        made = make(asked)
        if made.digest != digest and len(made) != rows:
            with contextlib.suppress(RecipeError):
                made = make(asked, total=rows)
        return made
    left_out = bool(lock.missing)
    made = make(asked, total=lock.total, epoch=lock.epoch, allow_missing=left_out)
    if made.digest == digest or not (lock.after or lock.counters):
        return made
    # It went on from another plan, of which the lock has what every source had given.
    found: dict[str, Selection | str] = {
        entry.name: one if one is not None else made.missing[entry.name]
        for entry, one in zip(asked.mix, made.selections, strict=True)
    }
    again = arrange(
        asked,
        found,
        root=made.root,
        total=lock.total,
        epoch=lock.epoch,
        after=lock.after,
        counters=lock.counters,
    )
    return replace(again, unknown_excludes=made.unknown_excludes, copies=made.copies)


def _recipe_of(standing: Standing) -> Recipe:
    if RECIPE in standing.damaged_files:
        raise MissingInputError(
            f"{standing.folder / RECIPE} is damaged", hint="give the recipe with --recipe"
        )
    return Recipe.read(standing.folder / RECIPE)
