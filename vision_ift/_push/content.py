"""What is to be pushed, whatever it is given as: rows for Parquet, or the files of an export."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_ift import _registry
from vision_ift._build import Progress, build, default_root
from vision_ift._errors import MissingInputError, UnknownNameError, UsageError
from vision_ift._export.manifest import MANIFEST, Manifest
from vision_ift._plan.plan import Plan, plan
from vision_ift._push.from_export import manifest_of
from vision_ift._push.rows import Cut, Rows, RowsOfPlan, cut, splits_of
from vision_ift._recipe.recipe import Recipe, shipped
from vision_ift._table import REPORT, Table

_CONFIG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}")
_SPLIT = re.compile(r"[A-Za-z0-9_]{1,40}")


@dataclass(frozen=True)
class RowsContent:
    """Rows that become Parquet.

    Attributes:
        title: The recipe's or the source's name.
        config: The configuration that they become.
        digest: Names all of them.
        splits: Each with its cut.
    """

    title: str
    config: str
    digest: str
    splits: list[tuple[Rows, Cut]]


@dataclass(frozen=True)
class ExportContent:
    """An export; its files go under ``prefix``, which is empty or ends with a slash."""

    folder: Path
    manifest: Manifest
    config: str
    prefix: str


Content = RowsContent | ExportContent


def content_of(
    what: Plan | Table | Recipe | str | Path,
    *,
    config: str | None,
    split: str,
    max_shard_bytes: int,
    root: Path | str | None,
    tables: Path | str | None,
    total: int | None,
    allow_missing: bool,
    strict: bool,
    jobs: int,
    progress: Progress,
) -> Content:
    """Find out what is meant, plan or build it, and cut it into shards.

    Raises:
        UsageError: Options that mean nothing for it, or a bad name of a configuration or split.
        UnknownNameError: Nothing has that name.
    """
    _check(config, split, max_shard_bytes)
    found = _opened(what)
    if isinstance(found, Path):
        _refuse(f"{found} is an export", root=root, tables=tables, total=total)
        manifest = manifest_of(found)
        assert manifest is not None
        name = config or "default"
        return ExportContent(found, manifest, name, "" if name == "default" else f"{name}/")
    if isinstance(found, str):
        table = build(found, root=root, tables=tables, strict=strict, jobs=jobs, progress=progress)
        _refuse(f"{found} is a source and is pushed whole", total=total)
        found = table
    if isinstance(found, Table):
        _refuse("a table is pushed whole", total=total)
        place = Path(root).expanduser() if root is not None else default_root()
        splits: list[Rows] = [*splits_of(found, place)]
        for one in splits:
            _check(None, one.split, 1)
        return _cut(found.source, config, found.digest, splits, max_shard_bytes)
    if not isinstance(found, Plan):
        found = plan(
            found,
            root=root,
            tables=tables,
            total=total,
            allow_missing=allow_missing,
            strict=strict,
            jobs=jobs,
            progress=progress,
        )
    else:
        _refuse("a plan says itself what it is of", root=root, tables=tables, total=total)
    return _cut(
        found.recipe.name, config, found.digest, [RowsOfPlan(found, split)], max_shard_bytes
    )


def _cut(
    title: str, config: str | None, digest: str, splits: list[Rows], max_shard_bytes: int
) -> RowsContent:
    if not any(len(rows) for rows in splits):
        raise MissingInputError(f"{title} has no rows")
    name = config or title
    if not _CONFIG.fullmatch(name):
        raise UsageError(f"{name!r} names no configuration", hint="give one with --config")
    cuts = [(rows, cut(rows, max_shard_bytes=max_shard_bytes)) for rows in splits if len(rows)]
    return RowsContent(title, name, digest, cuts)


def _opened(what: Plan | Table | Recipe | str | Path) -> Plan | Table | Recipe | str | Path:
    """Give a plan, a table, a recipe (or what ``plan`` reads one from), a source's name as text,
    or the folder of an export as a path."""
    if isinstance(what, Plan | Table | Recipe):
        return what
    path = Path(what)
    if (path / REPORT).is_file():
        return Table(path)
    if (path / MANIFEST).is_file():
        return path
    if path.suffix in (".yaml", ".yml"):
        return Recipe.read(path)
    if path.is_dir():
        raise MissingInputError(
            f"{path} holds neither a finished table nor a finished export",
            hint="vision-ift build and vision-ift export make them",
        )
    name = str(what)
    if name in shipped():
        return Recipe.read(name)
    if name in _registry.names():
        return name
    raise UnknownNameError(
        "source, recipe, table or export",
        name,
        [*shipped(), *_registry.names()],
        hint="a recipe of your own is a .yaml file",
    )


def _check(config: str | None, split: str, max_shard_bytes: int) -> None:
    if config is not None and not _CONFIG.fullmatch(config):
        raise UsageError(f"{config!r} names no configuration", hint="use letters, digits, _ . -")
    if not _SPLIT.fullmatch(split):
        raise UsageError(f"split {split!r} names no file", hint="use letters, digits and _")
    if max_shard_bytes < 1:
        raise UsageError(f"max_shard_bytes is {max_shard_bytes}; give 1 or more")


def _refuse(why: str, **options: Any) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise UsageError(f"{why}: {', '.join(given)} mean nothing here", hint="leave them out")
