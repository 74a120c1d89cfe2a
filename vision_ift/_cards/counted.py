"""What was counted: a table's or a plan's rows, pictures, rounds, tokens, tasks and licences."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.compute as pc

from vision_ift._build import Progress, silent
from vision_ift._plan.row_figures import row_figures
from vision_ift._plan.token_counts import token_counts
from vision_ift._table import Table

#: How many tasks a card lists, the largest first.
MOST_TASKS = 20


class CountedPart(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan delivers of one entry of its recipe.

    Attributes:
        name, source: What it is called, and its source.
        available: Rows of its selection.
        asked, delivered: Rows asked for, and the plan's exact count.
        repeats: Times through the selection.
        images, rounds, text_tokens, image_tokens: In the rows delivered; tokens are ``None`` where
            nothing says how to count them.
    """

    name: str
    source: str
    available: int
    asked: int
    delivered: int
    share: float
    repeats: float
    images: int
    rounds: int
    text_tokens: int | None = None
    image_tokens: int | None = None


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted in a table or a plan.

    Attributes:
        rows, images, rounds: Conversations, pictures shown, user turns with their answers.
        unique_images: Different pictures, by their references; ``None`` for a plan.
        text_tokens, image_tokens: ``None`` where nothing says how to count them; ``tokenizer`` and
            ``image_rule`` say how.
        splits, tasks, languages, licenses: What a row says of itself to the number of rows.
        parts: Of a plan.
        dropped: Reason to records that are not in it.
        missing: Parts that were not there.
        digest: Of the table's rows, or the plan's.
    """

    rows: int
    images: int | None = None
    unique_images: int | None = None
    rounds: int | None = None
    text_tokens: int | None = None
    image_tokens: int | None = None
    tokenizer: str | None = None
    image_rule: str | None = None
    splits: dict[str, int] = {}
    tasks: dict[str, int] = {}
    languages: dict[str, int] = {}
    licenses: dict[str, int] = {}
    parts: tuple[CountedPart, ...] = ()
    dropped: dict[str, int] = {}
    missing: tuple[str, ...] = ()
    digest: str = ""


def count_table(
    table: Table,
    *,
    root: Path,
    tokenizer: str | None = None,
    image_tokens: str | None = None,
    jobs: int = 1,
    progress: Progress = silent,
) -> Counted:
    """Count a table.

    Args:
        table: The table.
        root: Where the pictures lie; looked at for ``image_tokens`` alone.
        tokenizer, image_tokens: Names from ``_tokens.py``; ``None``: not counted.
        jobs: Processes that count tokens.
        progress: Told how many row groups are counted.
    """
    figures = row_figures(table)
    tokens = token_counts(table, tokenizer, image_tokens, root=root, jobs=jobs, progress=progress)
    said = _values(table)
    report = table.report
    return Counted(
        rows=report.rows,
        images=report.images,
        unique_images=report.unique_images,
        rounds=int(figures.rounds.sum(dtype="int64")),
        text_tokens=int(tokens.text.sum(dtype="int64")) if tokenizer else None,
        image_tokens=int(tokens.image.sum(dtype="int64")) if image_tokens else None,
        tokenizer=tokenizer,
        image_rule=image_tokens,
        splits=dict(report.splits),
        tasks=said["task"],
        languages=said["language"],
        licenses=said["license"],
        dropped=dict(report.dropped),
        missing=tuple(one["name"] for one in report.absent),
        digest=report.digest,
    )


def _values(table: Table) -> dict[str, dict[str, int]]:
    """Count the values of three columns, the most frequent first, equal ones by name."""
    columns = ("task", "language", "license")
    counts: dict[str, dict[str, int]] = {name: {} for name in columns}
    for batch in table.batches(list(columns)):
        for name in columns:
            found = counts[name]
            for one in pc.value_counts(batch.column(name)).to_pylist():
                value = "none" if one["values"] is None and name == "task" else one["values"]
                value = "unknown" if value is None else value
                found[value] = found.get(value, 0) + one["counts"]
    return {
        name: dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
        for name, found in counts.items()
    }


def of_summary(summary: Mapping[str, Any]) -> Counted:
    """Take from a plan's summary (``vision_ift._plan.summary.summarise``) what a card shows."""
    fields = CountedPart.__struct_fields__
    return Counted(
        rows=summary["rows"],
        images=summary["images"],
        rounds=summary["rounds"],
        text_tokens=summary["text_tokens"],
        image_tokens=summary["image_tokens"],
        tokenizer=summary["tokenizer"],
        image_rule=summary["image_rule"],
        licenses=dict(summary["licenses"]["licenses"]),
        parts=tuple(
            CountedPart(**{name: part[name] for name in fields}) for part in summary["sources"]
        ),
        dropped=dict(summary["dropped"]),
        missing=tuple(sorted(summary["missing"])),
        digest=summary["plan_digest"],
    )
