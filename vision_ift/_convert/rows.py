"""What is converted: a source, a recipe, a table or an export, row by row in its order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vision_ift import _registry
from vision_ift._build import build, default_root
from vision_ift._convert.marks import Row
from vision_ift._errors import MissingInputError, UsageError
from vision_ift._export.manifest import MANIFEST
from vision_ift._plan.plan import Plan, plan
from vision_ift._stream.stream import stream
from vision_ift._table import REPORT, Table

#: Rows of a plan that are read at once.
_WINDOW = 2048


class Found(NamedTuple):
    """What was found: its name, how many rows, where their pictures lie, and the rows.

    ``root`` is ``None`` where the rows bring the bytes of their pictures.
    """

    name: str
    total: int
    root: Path | None
    rows: Iterator[Row]


def rows_of(
    what: str,
    *,
    root: Path | str | None = None,
    tables: Path | str | None = None,
    total: int | None = None,
    **how: Any,
) -> Found:
    """Find what a name means.

    Raises:
        UnknownNameError: No such source or recipe.
        UsageError: ``total`` or ``allow_missing`` with something else than a recipe.
        MissingInputError: A folder that holds neither a table nor an export, or no files.
    """
    recipe = not Path(what).is_dir() and what not in _registry.names()
    if not recipe and (total is not None or how.get("allow_missing")):
        raise UsageError(
            f"{what} is no recipe, and --total and --allow-missing go with one",
            hint="write a recipe of one source",
        )
    where = Path(root).expanduser() if root is not None else default_root()
    path = Path(what)
    if (path / MANIFEST).is_file():
        found = stream(path)
        return Found(path.resolve().name, found.rows, None, iter(found))
    if (path / REPORT).is_file():
        table = Table(path)
        return Found(table.source, len(table), where, _of_table(table))
    if path.is_dir():
        raise MissingInputError(
            f"{what} holds neither a finished table nor a finished export",
            hint="run vision-ift build or vision-ift export",
        )
    if not recipe:
        how.pop("allow_missing", None)
        table = build(what, root=where, tables=tables, **how)
        return Found(what, len(table), where, _of_table(table))
    planned = plan(what, root=where, tables=tables, total=total, **how)
    return Found(planned.recipe.name, len(planned), where, _of_plan(planned))


def _of_table(table: Table) -> Iterator[Row]:
    for batch in table.batches():
        for start in range(0, batch.num_rows, _WINDOW):
            yield from batch.slice(start, _WINDOW).to_pylist()


def _of_plan(planned: Plan) -> Iterator[Row]:
    for start in range(0, len(planned), _WINDOW):
        yield from planned.rows(start, min(start + _WINDOW, len(planned))).to_pylist()
