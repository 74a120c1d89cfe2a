"""A plan in figures: what was asked, what is delivered, how often, under which licence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import pyarrow.compute as pc

from vision_ift import _registry
from vision_ift._build import Progress, silent
from vision_ift._plan.amounts import SHARES, capped_parts
from vision_ift._plan.budget import Values, given_sum
from vision_ift._plan.continued import distinct, met
from vision_ift._plan.licences import judge, together
from vision_ift._plan.permute import Permutation
from vision_ift._plan.plan import Plan
from vision_ift._plan.row_figures import row_figures
from vision_ift._plan.token_counts import STATES, TokenCounts, token_counts
from vision_ift._recipe.select import Selection

#: How many rows that cannot be counted are named.
FIRST = 10


def summarise(
    plan: Plan,
    *,
    tokenizer: str | None = None,
    image_tokens: str | None = None,
    jobs: int = 1,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Describe a plan as plain data: the object that ``vision-ift plan --json`` prints.

    ``asked`` is the amount to the nearest row, ``delivered`` the plan's exact count, ``repeats``
    passes over the selection, ``unique`` different rows, ``images`` pictures shown, ``rounds`` user
    turns with their answers. ``text_tokens`` and ``image_tokens`` are ``None`` where nothing says
    how to count them.

    Args:
        plan: The plan.
        tokenizer, image_tokens: Names from ``_tokens.py``; ``None``: the recipe's own.
        jobs: Processes that count tokens.
        progress: Told how many are counted.
    """
    tokenizer = tokenizer or plan.recipe.tokenizer
    image_tokens = image_tokens or plan.recipe.image_tokens
    counted: dict[str, TokenCounts] = {}
    for entry, selection in zip(plan.recipe.mix, plan.selections, strict=True):
        if selection is not None and entry.name not in counted:
            counted[entry.name] = token_counts(
                selection.table,
                tokenizer,
                image_tokens,
                root=plan.root,
                jobs=jobs,
                progress=progress,
            )
    parts = _parts(plan, counted)
    for part in parts:  # without a tokenizer or a rule a count of 0 would be a lie
        part["text_tokens"] = part["text_tokens"] if tokenizer else None
        part["image_tokens"] = part["image_tokens"] if image_tokens else None
    present = _selections(plan)
    uncounted = [one for name in present for one in _uncounted(name, present[name], counted[name])]
    went_on = _went_on(plan)
    return {
        "name": plan.recipe.name,
        "rows": len(plan),
        **{key: _total(parts, key) for key in ("images", "rounds", "text_tokens", "image_tokens")},
        "tokenizer": shown_tokenizer(tokenizer),
        "image_rule": image_tokens,
        "uncounted": uncounted,
        "unique": sum(_unique(plan).values()),
        "dropped": _dropped(present),
        "plan_digest": plan.digest,
        "certificate": float(plan.certificate),
        "epoch": plan.epoch,
        "licenses": together(part["licenses"] for part in parts if part["delivered"]),
        "stages": _stages(plan),
        "sources": parts,
        "missing": dict(plan.missing),
        "after": None if plan.after is None else {"plan": plan.after.plan, "at": plan.after.at},
        "continued": went_on,
        "warnings": _warnings(plan, uncounted, went_on),
    }


def shown_tokenizer(name: str | None) -> str | None:
    """Name a tokenizer without the folders of this machine.

    >>> shown_tokenizer("hf:/home/me/models/qwen"), shown_tokenizer("chars/4")
    ('hf:qwen', 'chars/4')
    """
    if name is None or not name.startswith("hf:"):
        return name
    return f"hf:{PurePath(name[3:]).name}"


def _parts(plan: Plan, counted: Mapping[str, TokenCounts]) -> list[dict[str, Any]]:
    """Describe every source number that is there."""
    parts: list[dict[str, Any]] = []
    delivered = plan.counts()
    given = dict(plan.counters)
    for number, entry in enumerate(plan.recipe.mix):
        selection = plan.selections[number]
        if selection is None:
            continue
        count, start = delivered[number], given.get(entry.name, 0)
        given[entry.name] = start + count
        order = Permutation(entry.name, len(selection), seed=plan.recipe.seed)
        licence = _registry.find(entry.source).license
        report = selection.table.report
        parts.append(
            {
                "number": number,
                "name": entry.name,
                "source": entry.source,
                "kind": entry.kind,
                "amount": str(entry.amount),
                "table_rows": len(selection.table),
                "available": len(selection),
                "asked": round(plan.asked[number]),
                "delivered": count,
                "share": round(count / len(plan), 6) if len(plan) else 0.0,
                "repeats": round(count / len(selection), 4),
                "unique": distinct(order, start, start + count),
                **_sums(selection, counted[entry.name], order, start, count),
                "license": licence,
                "licenses": judge(_statements(selection, licence)),
                "copies": plan.copies.get(entry.name, 0),
                "cut": selection.cut,
                "dropped": report.dropped,
                "absent": [one["name"] for one in report.absent],
            }
        )
    return parts


def _selections(plan: Plan) -> dict[str, Selection]:
    """The selections that are there, by name."""
    return {
        entry.name: selection
        for entry, selection in zip(plan.recipe.mix, plan.selections, strict=True)
        if selection is not None
    }


def _dropped(present: Mapping[str, Selection]) -> dict[str, int]:
    """Count what the tables' builds dropped, by reason."""
    dropped: dict[str, int] = {}
    for selection in present.values():
        for reason, records in selection.table.report.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + records
    return dict(sorted(dropped.items()))


def _total(parts: list[dict[str, Any]], key: str) -> int | None:
    values = [part[key] for part in parts]
    return None if None in values else sum(values)


def _sums(
    selection: Selection, tokens: TokenCounts, order: Permutation, start: int, count: int
) -> dict[str, int]:
    """Sum what the rows that a source gives hold."""
    figures = row_figures(selection.table)
    values = {
        "images": figures.images,
        "rounds": figures.rounds,
        "text_tokens": tokens.text,
        "image_tokens": tokens.image,
    }
    return {key: _sum(one, selection, order, start, count) for key, one in values.items()}


def _sum(values: Values, selection: Selection, order: Permutation, start: int, count: int) -> int:
    """Sum a value of a table's rows over what a source gives."""
    if not count:
        return 0
    chosen = values if selection.rows is None else values[selection.rows]
    return given_sum(chosen, order, start, start + count)


def _stages(plan: Plan) -> list[dict[str, Any]]:
    asked = {stage.name: stage for stage in plan.recipe.stages}
    return [
        {
            "name": one.name,
            "start": one.start,
            "stop": one.stop,
            "tokens_asked": None if one.reached is None else asked[one.name].tokens,
            "tokens_reached": one.reached,
        }
        for one in plan.segments
    ]


def _statements(selection: Selection, of_source: str) -> dict[str, int]:
    """Count the selected rows by what their licence says; the source speaks where a row does not.

    A source's statement may cover more than its rows state each for themselves (its pictures, or
    who wrote it), so what is not in the table of known licences stays visible.
    """
    counts: dict[str, int] = {}
    start = 0
    for batch in selection.table.batches(["license"]):
        column = batch.column("license")
        stop = start + batch.num_rows
        if selection.rows is not None:
            low, high = np.searchsorted(selection.rows, (start, stop))
            column = column.take(selection.rows[low:high] - start)
        start = stop
        for one in pc.value_counts(column).to_pylist():
            name = one["values"] or of_source
            counts[name] = counts.get(name, 0) + one["counts"]
    return counts


def _uncounted(name: str, selection: Selection, tokens: TokenCounts) -> list[dict[str, Any]]:
    """Name the selected rows whose pictures' tokens are not known."""
    state = tokens.state if selection.rows is None else tokens.state[selection.rows]
    found = []
    for code, words in STATES.items():
        places = np.flatnonzero(state == code)
        if len(places):
            first = places[:FIRST] if selection.rows is None else selection.rows[places[:FIRST]]
            ids = selection.table.take(first.astype(np.int64)).column("id").to_pylist()
            found.append({"name": name, "why": words, "rows": len(places), "first": ids})
    return found


def _by_name(plan: Plan) -> dict[str, int]:
    """Rows that every part gives, over all stages."""
    counts: dict[str, int] = {}
    for entry, selection, count in zip(
        plan.recipe.mix, plan.selections, plan.counts(), strict=True
    ):
        if selection is not None:
            counts[entry.name] = counts.get(entry.name, 0) + count
    return counts


def _sizes(plan: Plan) -> dict[str, int]:
    return {name: len(selection) for name, selection in _selections(plan).items()}


def _unique(plan: Plan) -> dict[str, int]:
    """Different rows that every part gives."""
    sizes = _sizes(plan)
    found = {}
    for name, count in _by_name(plan).items():
        order, start = (
            Permutation(name, sizes[name], seed=plan.recipe.seed),
            plan.counters.get(name, 0),
        )
        found[name] = distinct(order, start, start + count)
    return found


def _went_on(plan: Plan) -> dict[str, dict[str, Any]]:
    """Say for each part that does not begin at its first row how much of it comes again."""
    if plan.after is None and not plan.epoch:
        return {}
    sizes = _sizes(plan)
    found: dict[str, dict[str, Any]] = {}
    for name, count in _by_name(plan).items():
        start, changed = plan.counters.get(name, 0), plan.changed.get(name)
        order = Permutation(name, sizes[name], seed=plan.recipe.seed)
        one = met(order, start, count, changed)
        found[name] = {
            "start": start,
            "again_least": one.again_least,
            "again_most": one.again_most,
            "new_least": one.rows - one.again_most,
            "new_most": one.rows - one.again_least,
            "changed": "" if changed is None else changed.describe(name),
        }
    for name, count in plan.gone.items():
        found[name] = {"gone": count}
    return found


def _warnings(
    plan: Plan,
    uncounted: list[dict[str, Any]],
    went_on: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """Say what a reader should know before they start."""
    found: list[str] = []
    sizes, given = _sizes(plan), _by_name(plan)
    most = plan.recipe.max_repeats
    shares = {entry.name for entry in plan.recipe.mix if entry.kind in (*SHARES, "count")}
    for name, size in sizes.items():
        if given[name] > most * size:
            found.append(
                f"{name} is read {given[name] / size:.1f} times (max_repeats is {float(most):g}); "
                "its rows are few"
            )
        elif given[name] > size and name in shares:
            found.append(
                f"{name} is exhausted: {given[name]:,} rows are asked of the {size:,} it has, so "
                f"{given[name] - size:,} come again"
            )
    for stage in plan.recipe.stages:
        here = {entry.name: sizes[entry.name] for entry in stage.mix if entry.name in sizes}
        found += [
            f"stage {stage.name}: the cap bites: {name} has {here[name]:,} rows and weighs as "
            f"{stage.cap:,}"
            for name in capped_parts(stage, here)
        ]
    caps = {entry.name: entry.cap_per_task for entry in plan.recipe.mix}
    found += [
        f"{name}: cap_per_task of {caps[name]:,} bites: it cuts {one.cut:,} of "
        f"{one.cut + len(one) + plan.copies.get(name, 0):,} rows"
        for name, one in _selections(plan).items()
        if one.cut
    ]
    found += [f"{name} is left out: {why}" for name, why in plan.missing.items()]
    if plan.unknown_excludes:
        found.append(
            f"{plan.unknown_excludes:,} ids of the exclude lists stand in none of the tables"
        )
    for one in uncounted:
        found.append(
            f"{one['name']}: {one['rows']:,} rows count without a picture's tokens, because "
            f"{one['why']}: {', '.join(one['first'][:3])}{' …' if one['rows'] > 3 else ''}"
        )
    found += [f"{name}: {n:,} copies are left out" for name, n in plan.copies.items() if n]
    found += [str(one["changed"]) for one in went_on.values() if one.get("changed")]
    return found
