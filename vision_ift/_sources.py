"""What lies under ROOT of each source, and what its authors claim beside what was found."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any, Literal

import msgspec

from vision_ift import _registry
from vision_ift._build import default_root, default_tables, fingerprint
from vision_ift._builder import Builder
from vision_ift._errors import IntegrityError, MissingInputError
from vision_ift._locks import Part, shipped_lock
from vision_ift._table import REPORT, BuildReport

State = Literal["present", "partly", "missing"]


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """A table of a source that was built under the tables folder.

    Attributes:
        rows, dropped: What was found: rows, and records that did not become part of one.
        options: The options that differ from their defaults.
        current: Whether it is of the files that lie under ROOT now.
        path: The table.
    """

    rows: int
    dropped: int
    options: dict[str, Any]
    current: bool
    path: str


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a source stands.

    Attributes:
        state: ``present``, ``partly`` (some parts are missing) or ``missing``.
        here, missing: Its parts, and for the missing ones the files that would bring them.
        claimed: The counts that its authors claim.
        built: Tables of it, with the counts found; the one of the files under ROOT first.
        options: The source's options and their defaults.
    """

    name: str
    title: str
    homepage: str
    license: str
    languages: tuple[str, ...]
    options: dict[str, str]
    state: State
    here: tuple[str, ...]
    missing: dict[str, tuple[str, ...]]
    claimed: dict[str, int]
    built: tuple[Built, ...]

    def lines(self) -> list[str]:
        """Say it to a person, in lines of at most 76 columns."""
        lines = [self.title, f"licence: {self.license}; languages: {', '.join(self.languages)}"]
        if self.missing:
            named = [f"{name} ({wanted[0]})" for name, wanted in self.missing.items()]
            lines.append(f"missing: {'; '.join(named)}")
        if self.claimed:
            counts = "; ".join(f"{name}: {count:,}" for name, count in self.claimed.items())
            lines.append(f"claimed by its authors: {counts}")
        # A table of older files, or of an older version of the builder, says something only where
        # there is none of those of now.
        newer = any(one.current for one in self.built)
        for one in self.built:
            if newer and not one.current:
                continue
            of = "" if one.current else ", of other files or an older version"
            options = "".join(f", {name}={value}" for name, value in one.options.items())
            line = f"found: {one.rows:,} rows, {one.dropped:,} dropped{options}{of}"
            if line not in lines:
                lines.append(line)
        if self.options:
            options = ", ".join(f"{name}={value}" for name, value in self.options.items())
            lines.append(f"options: {options}")
        return [
            row
            for line in lines
            for row in textwrap.wrap(
                line, 76, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
            )
        ]


def stand(*, root: Path | str | None = None, tables: Path | str | None = None) -> list[Standing]:
    """Say of every source what is there; no file of data is opened.

    Args:
        root: ROOT; ``None``: ``VISION_IFT_ROOT``, else ``~/.cache/vision_ift/sources``.
        tables: Where tables are kept; ``None``: ``VISION_IFT_TABLES``, else
            ``~/.cache/vision_ift/tables``.

    >>> [one.state for one in stand(root="nowhere", tables="nowhere")][0]
    'missing'
    """
    where = Path(root).expanduser() if root is not None else default_root()
    kept = Path(tables).expanduser() if tables is not None else default_tables()
    return [_stand(_registry.find(name), where, kept) for name in _registry.names()]


def _stand(builder: Builder, root: Path, tables: Path) -> Standing:
    parts = shipped_lock(builder).parts
    found = {part.name: _is_there(root, part) for part in parts}
    needed = [part for part in parts if not part.optional]
    count = sum(found[part.name] for part in needed)
    state: State = "missing"
    if count:
        state = "present" if count == len(needed) else "partly"
    return Standing(
        name=builder.name,
        title=builder.title,
        homepage=builder.homepage,
        license=builder.license,
        languages=builder.languages,
        options={key: str(value.default) for key, value in builder.parameters().items()},
        state=state,
        here=tuple(name for name, there in found.items() if there),
        missing={part.name: part.any_of for part in needed if not found[part.name]},
        claimed=dict(getattr(builder, "claimed", {})),
        built=_built(builder, root, tables),
    )


def _is_there(root: Path, part: Part) -> bool:
    """Whether a file of the part is there, or a folder of it that is not empty."""
    for pattern in part.any_of:
        paths = root.glob(pattern) if "*" in pattern else (root / pattern,)
        for path in paths:
            if path.is_file():
                return True
            if path.is_dir():
                with os.scandir(path) as entries:
                    if any(not entry.name.startswith(".") for entry in entries):
                        return True
    return False


def _built(builder: Builder, root: Path, tables: Path) -> tuple[Built, ...]:
    now: dict[str, str] = {}
    found = []
    for path in sorted(tables.glob(f"{builder.name}-*/{REPORT}")):
        try:
            report = msgspec.json.decode(path.read_bytes(), type=BuildReport)
        except (OSError, msgspec.DecodeError):
            continue  # `build` says what is wrong with it, and makes it anew
        if report.source != builder.name:
            continue
        key = str(sorted(report.options.items()))
        if key not in now:
            try:
                now[key] = fingerprint(builder.name, root=root, options=report.options)
            except (MissingInputError, IntegrityError, ValueError):
                now[key] = ""  # no files, or options of another version
        found.append(
            Built(
                rows=report.rows,
                dropped=sum(report.dropped.values()),
                options=report.options,
                current=report.fingerprint == now[key],
                path=str(path.parent),
            )
        )
    return tuple(sorted(found, key=lambda one: (not one.current, len(one.options), one.path)))
