"""A plan in figures: what was asked, what is delivered, how often, under which licence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from vision_ift import _registry
from vision_ift._permute import Permutation
from vision_ift._plan import Plan
from vision_ift._select import Selection

#: A source that is read more often than this is worth a warning: repeats beyond about four passes
#: add little (Muennighoff et al. 2023, "Scaling data-constrained language models").
MANY_PASSES = 4.0


def summarise(plan: Plan) -> dict[str, Any]:
    """Describe a plan as plain data: the object that ``vision-ift plan --json`` prints.

    ``asked`` is the amount to the nearest row, ``delivered`` the plan's exact count, ``repeats``
    passes over the selection, ``unique`` different rows, ``images`` pictures shown.
    """
    parts: list[dict[str, Any]] = []
    dropped: dict[str, int] = {}
    warnings: list[str] = []
    delivered = plan.counts()
    before: dict[str, int] = {}
    counted: set[str] = set()
    for number, entry in enumerate(plan.recipe.mix):
        selection = plan.selections[number]
        if selection is None:
            continue
        count, start = delivered[number], before.get(entry.name, 0)
        before[entry.name] = start + count
        passes = count / len(selection)
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
                "repeats": round(passes, 4),
                "unique": min(count, len(selection)),
                "images": _images(plan, number, selection, start, count),
                "license": _registry.find(entry.source).license,
                "dropped": selection.table.report.dropped,
                "absent": [one["name"] for one in selection.table.report.absent],
            }
        )
        if passes > MANY_PASSES:
            warnings.append(f"{entry.name} is read {passes:.1f} times; its rows are few")
        if entry.name not in counted:
            counted.add(entry.name)
            for reason, records in selection.table.report.dropped.items():
                dropped[reason] = dropped.get(reason, 0) + records
    warnings += [f"{name} is left out: {why}" for name, why in plan.missing.items()]
    if plan.unknown_excludes:
        warnings.append(
            f"{plan.unknown_excludes:,} ids of the exclude lists stand in none of the tables"
        )
    return {
        "name": plan.recipe.name,
        "rows": len(plan),
        "images": sum(part["images"] for part in parts),
        "dropped": dict(sorted(dropped.items())),
        "plan_digest": plan.digest,
        "certificate": float(plan.certificate),
        "stages": [
            {"name": one.name, "start": one.start, "stop": one.stop} for one in plan.segments
        ],
        "sources": parts,
        "missing": dict(plan.missing),
        "warnings": warnings,
    }


def _images(plan: Plan, number: int, selection: Selection, start: int, count: int) -> int:
    """Count the pictures in a source's rows: whole passes by their sum, the ends row by row."""
    shown = _image_counts(selection)
    size = len(selection)
    order = Permutation(plan.recipe.mix[number].name, size, seed=plan.recipe.seed)

    def upto(stop: int) -> int:
        whole, rest = divmod(stop, size)
        tail = int(shown[order.slice(whole * size, stop)].sum()) if rest else 0
        return whole * int(shown.sum()) + tail

    return upto(start + count) - upto(start)


def _image_counts(selection: Selection) -> NDArray[np.int64]:
    """Pictures of every selected row."""
    counts = [
        pc.list_value_length(batch.column("image_paths")).to_numpy(zero_copy_only=False)
        for batch in selection.table.batches(["image_paths.list.element"])
    ]
    whole = np.concatenate(counts).astype(np.int64) if counts else np.empty(0, np.int64)
    return whole if selection.rows is None else whole[selection.rows]
