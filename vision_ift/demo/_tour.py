"""The whole path once, on a drawn root: build, plan, export and load ``coco_mix``."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from vision_ift._build import Progress, build, silent
from vision_ift._errors import OutputError
from vision_ift._export.export import export
from vision_ift._plan.plan import plan
from vision_ift._recipe.recipe import Recipe
from vision_ift.demo._draw import draw

RECIPE = "coco_mix"

T = TypeVar("T")


def tour(folder: Path, *, jobs: int = 1, progress: Progress = silent) -> dict[str, Any]:
    """Draw a root below ``folder``, and take ``coco_mix`` from its files to loaded pictures.

    Returns:
        ``steps``: what each step made, in words, with its seconds; ``next``: three commands to
        type; ``rows``, ``images``, ``plan_digest`` and ``export_digest`` of the export.

    Raises:
        OutputError: ``folder`` exists and is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise OutputError(
            f"{folder} is not empty", hint="remove it, or give another folder with --out"
        )
    root, tables, shards = folder / "root", folder / "tables", folder / "shards"
    steps: list[tuple[str, str, str]] = []

    def step(name: str, work: Callable[[], T], say: Callable[[T], str]) -> T:
        begin = time.perf_counter()
        made = work()
        steps.append((name, say(made), f"{time.perf_counter() - begin:.1f}"))
        return made

    step("draw", lambda: draw(root), lambda _: f"a root with true annotations in {root}")
    for source in dict.fromkeys(entry.source for entry in Recipe.read(RECIPE).mix):
        step(
            f"build {source}",
            lambda source=source: build(  # type: ignore[misc]  # mypy cannot infer the default
                source, root=root, tables=tables, jobs=jobs, progress=progress
            ),
            lambda table: (
                f"{table.report.rows:,} rows, {table.report.images:,} images shown, "
                f"{sum(table.report.dropped.values()):,} records dropped and counted"
            ),
        )
    made = step(
        f"plan {RECIPE}",
        lambda: plan(RECIPE, root=root, tables=tables),
        lambda found: (
            f"{len(found):,} rows, each prefix within {float(found.certificate):.2f} rows"
            " of the weights"
        ),
    )
    # Small shards, so that there are several to look at.
    report = step(
        f"export {RECIPE}",
        lambda: export(made, out=shards, shard_bytes=2_000_000, jobs=jobs, progress=progress),
        lambda found: (
            f"{found.shards} WebDataset shards, {found.bytes / 1e6:.1f} MB, {found.images:,} images"
        ),
    )
    step(
        "load",
        lambda: _loaded(folder),
        lambda found: (
            f'load_dataset("vision_ift", "{RECIPE}"): {found[0]:,} rows, '
            f"{found[1]:,} pictures decoded"
        ),
    )
    return {
        "steps": steps,
        "next": [
            f"vision-ift plan {RECIPE} --root {root}",
            f"vision-ift build coco_ift --root {root} --out table --option rounds=single",
            f"vision-ift export {RECIPE} --root {root} --out shards --total 1000",
        ],
        "rows": report.rows,
        "images": report.images,
        "plan_digest": report.plan_digest,
        "export_digest": report.export_digest,
    }


def _loaded(folder: Path) -> tuple[int, int]:
    """Load the mix through `datasets` and decode the first pictures."""
    import datasets

    import vision_ift  # noqa: F401 - makes the name known to `datasets`

    rows = datasets.load_dataset(
        "vision_ift",
        RECIPE,
        data_dir=str(folder / "root"),
        tables=str(folder / "tables"),
        cache_dir=str(folder / "cache"),
        split="train",
    )
    first = rows[: min(len(rows), 50)]
    return len(rows), sum(len(images) for images in first["images"])
