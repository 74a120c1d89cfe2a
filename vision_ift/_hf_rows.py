"""What a configuration of the `datasets` face stands for: its cache key, its splits, its rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vision_ift import __version__, _registry
from vision_ift._build import Progress, build, default_root, fingerprint, silent
from vision_ift._conversation import FEATURES_JSON, SCHEMA, SCHEMA_VERSION
from vision_ift._errors import MissingInputError, UnknownNameError, UsageError
from vision_ift._pictures.images import absolute
from vision_ift._plan.plan import Plan, plan
from vision_ift._recipe.recipe import Recipe, shipped
from vision_ift._table import GROUP_ROWS, Table

#: Rows of one range: the unit that `datasets` deals out to processes and workers. Both divide
#: ``GROUP_ROWS``, so that a range lies in one row group.
_MOST_ROWS = 1024
_LEAST_ROWS = 32

#: Ranges that a small source is cut into, so that a few workers have something to do.
_WANTED_RANGES = 32

Ranges = list[tuple[int, int]]
#: Gives the rows from ``start`` to ``stop``; must pickle.
Rows = Callable[[int, int], pa.Table]


def names() -> list[str]:
    """List the configurations: every source and every shipped recipe, sorted."""
    return sorted({*_registry.names(), *shipped()})


def check_name(name: str) -> None:
    """Refuse a name that is neither a source nor a shipped recipe."""
    if name not in names():
        raise UnknownNameError("source or recipe", name, names())


@dataclass(frozen=True, kw_only=True)
class Request:
    """One configuration with its arguments.

    Args:
        source: The source, or ``None`` for a recipe.
        recipe: The recipe, or ``None`` for a source.
        root: Where the authors' files lie, absolute.
        options: The source's own options.
        total: Conversations of a recipe, instead of what it says.
        allow_missing: Leave out parts of a recipe whose files are not there.
        tables: Where tables are kept.
        strict: Stop at the first record that breaks a rule.
    """

    source: str | None
    recipe: Recipe | None
    root: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    total: int | None = None
    allow_missing: bool = False
    tables: str | None = None
    strict: bool = False

    @classmethod
    def of(
        cls,
        name: str | None,
        *,
        root: Path | str | None = None,
        recipe: Path | str | None = None,
        options: Mapping[str, Any] | None = None,
        total: int | None = None,
        allow_missing: bool = False,
        tables: Path | str | None = None,
        strict: bool = False,
    ) -> Request:
        """Check what ``load_dataset`` was given.

        Raises:
            UnknownNameError: There is no such source, recipe or option.
            UsageError: No name, or an argument that does not go with it.
            RecipeError: The recipe cannot be read.
        """
        if (name is None) == (recipe is None):
            raise UsageError(
                'the name of a source or recipe is missing: load_dataset("vision_ift", NAME)'
                if name is None
                else f"both a name ({name}) and recipe={recipe} are given",
                hint=f"names: {', '.join(names())}",
            )
        if name is not None:
            check_name(name)
        source = name if name in _registry.names() else None
        for given, argument, wanted in (
            (options, "options", "a source (a recipe's options stand in its mix)"),
            (total, "total", "a recipe"),
            (allow_missing, "allow_missing", "a recipe"),
        ):
            if given and (source is None) == (argument != "options"):
                continue
            if given:
                raise UsageError(f"{argument}= goes with {wanted}, not with {name or recipe}")
        if total is not None and (isinstance(total, bool) or not isinstance(total, int)):
            raise UsageError(f"total is {total!r}", hint="give a whole number")
        return cls(
            source=source,
            recipe=Recipe.read(recipe or str(name)) if source is None else None,
            root=Path(root if root is not None else default_root()).expanduser().absolute(),
            options=_registry.find(source).options(dict(options or {})) if source else {},
            total=total,
            allow_missing=bool(allow_missing),
            tables=str(tables) if tables is not None else None,
            strict=bool(strict),
        )

    def cache_key(self) -> str:
        """Digest of all that decides the rows, 16 hex digits, without building anything.

        It covers the recipe's text, the contents of its exclude lists, and name, size and time of
        the source files: `datasets` itself would go on giving the rows of before when an annotation
        file was edited.
        """
        parts: list[Any] = [__version__, SCHEMA_VERSION, FEATURES_JSON, str(self.root)]
        if self.source is not None:
            parts.append(_inputs(self.source, self.root, self.options))
        else:
            assert self.recipe is not None
            parts.append(self.recipe.text)
            parts += [_contents(path) for path in self.recipe.exclude]
            parts += [_inputs(e.source, self.root, e.all_options) for e in self.recipe.mix]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def splits(self, progress: Progress = silent) -> dict[str, tuple[Rows, Ranges]]:
        """Build or open the tables and give each split's rows and the ranges to ask for.

        Raises:
            MissingInputError: The files are not under ROOT, or hold no record that can be used.
        """
        if self.source is not None:
            return self._source_splits(progress)
        assert self.recipe is not None
        planned = plan(
            self.recipe,
            root=self.root,
            tables=self.tables,
            total=self.total,
            allow_missing=self.allow_missing,
            strict=self.strict,
            progress=progress,
        )
        rows, step = len(planned), _step(len(planned))
        ranges = [(start, min(start + step, rows)) for start in range(0, rows, step)]
        return {"train": (PlanRows(planned, str(self.root)), ranges)}

    def _source_splits(self, progress: Progress) -> dict[str, tuple[Rows, Ranges]]:
        assert self.source is not None
        table = build(
            self.source,
            root=self.root,
            tables=self.tables,
            options=self.options,
            strict=self.strict,
            progress=progress,
        )
        if not len(table):
            dropped = ", ".join(f"{count} {why}" for why, count in table.report.dropped.items())
            raise MissingInputError(
                f"source {self.source}: its files under {self.root} hold no record that can be "
                f"used (dropped: {dropped or 'none'})",
                hint=f"{table.path / 'build.json'} names the first ones",
            )
        return {
            split: (SplitRows(str(table.path), table.digest, split, str(self.root)), ranges)
            for split, ranges in _ranges(table).items()
        }


def _inputs(source: str, root: Path, options: Mapping[str, Any]) -> str:
    try:
        return fingerprint(source, root=root, options=options)
    except MissingInputError:
        return "absent"


def _contents(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return "absent"  # planning says so


def _step(rows: int) -> int:
    """Rows a range: a power of two that cuts a small source into enough ranges."""
    step = _MOST_ROWS
    while step > _LEAST_ROWS and rows < step * _WANTED_RANGES:
        step //= 2
    return step


def _ranges(table: Table) -> dict[str, Ranges]:
    """For each split, ``train`` first, the ranges of the table that hold rows of it."""
    order = sorted(table.report.splits, key=lambda split: (split != "train", split))
    ranges: dict[str, Ranges] = {split: [] for split in order}
    step, first = _step(len(table)), 0
    for batch in table.batches(["split"]):
        codes = pc.index_in(batch.column("split"), pa.array(order, pa.string())).to_numpy()
        starts = np.arange(0, len(codes), step)
        for code, split in enumerate(order):
            held = np.logical_or.reduceat(codes == code, starts)
            ranges[split] += [
                (first + start, first + min(start + step, len(codes)))
                for start in starts[held].tolist()
            ]
        first += len(codes)
    return ranges


@dataclass(frozen=True)
class SplitRows:
    """The rows of one split of a table; a range counts the table's rows."""

    table: str
    digest: str
    split: str
    root: str

    def __call__(self, start: int, stop: int) -> pa.Table:
        """Give the split's rows among the table's rows from ``start`` to ``stop``."""
        group = start // GROUP_ROWS
        rows = _group(self.table, self.digest, group)
        rows = rows.slice(start - group * GROUP_ROWS, stop - start)
        return located(rows.filter(pc.equal(rows.column("split"), self.split)), self.root)


@lru_cache(maxsize=2)
def _group(table: str, digest: str, number: int) -> pa.Table:  # noqa: ARG001 - part of the key
    """Read a row group; the ranges in it are asked for one after the other."""
    return pa.Table.from_batches([Table(table).group(number)])


@dataclass(frozen=True)
class PlanRows:
    """The rows of a plan; a range counts places in its order."""

    plan: Plan
    root: str

    def __call__(self, start: int, stop: int) -> pa.Table:
        """Give the rows at the places from ``start`` to ``stop``."""
        return located(self.plan.rows(start, stop), self.root)


def located(rows: pa.Table, root: str) -> pa.Table:
    """Make the references absolute: `datasets` opens relative ones against the current folder."""
    images = rows.column("images").combine_chunks()
    counts = pc.list_value_length(images).to_numpy()
    pictures = images.flatten()
    paths = [
        None if reference is None else absolute(reference, root)
        for reference in pictures.field("path").to_pylist()
    ]
    offsets = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    kind = SCHEMA.field("images").type
    moved = pa.ListArray.from_arrays(
        pa.array(offsets),
        pa.StructArray.from_arrays(
            [pictures.field("bytes"), pa.array(paths, pa.string())], fields=list(kind.value_type)
        ),
    )
    return rows.set_column(rows.schema.get_field_index("images"), "images", moved)


def tables(rows: Rows, ranges: Ranges) -> Iterator[tuple[str, pa.Table]]:
    """Yield the rows of each range, as `datasets` wants them: a key and a table."""
    for start, stop in ranges:
        yield f"{start}-{stop}", rows(start, stop)
