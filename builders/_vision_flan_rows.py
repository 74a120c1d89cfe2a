"""Which of Vision-Flan's rows are kept: marks, evaluation tasks left out, a budget, all counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from vision_ift import Batch, Conversation, Dropped
from vision_ift._conversation import SCHEMA
from vision_ift._errors import IntegrityError

from ._vision_flan_budget import Budget
from ._vision_flan_marks import marked, marked_rows

_DETAILS = {
    "eval_source": "the task is drawn from a test or benchmark split",
    "over_budget": "the budget of num_tasks and per_task is spent",
}


class Rule(NamedTuple):
    """What is kept of a release.

    Attributes:
        release: Its name, put into every row's ``meta``.
        file: The annotations, for messages.
        drop_eval: Whether rows from evaluation sets are left out.
        budget: Applied to what is then left.
    """

    release: str
    file: str
    drop_eval: bool = False
    budget: Budget = Budget()

    def left_out(self, counts: Counter[tuple[str, str]]) -> list[Dropped]:
        """Make one ``Dropped`` for each reason and task, in their order."""
        return [
            Dropped(
                reason=reason,
                file=self.file,
                record=f"task {task}",
                detail=_DETAILS[reason],
                count=count,
                by_rule=True,
            )
            for (reason, task), count in sorted(counts.items())
        ]


def kept(
    read: Callable[[], Iterator[Conversation | Dropped]], rule: Rule
) -> Iterator[Conversation | Dropped]:
    """Yield marked conversations one by one; with a budget all are read twice."""
    taken = None
    if rule.budget:
        named = (one for one in _marked(read, rule, Counter()) if isinstance(one, Conversation))
        taken = rule.budget.taken(([one.task or ""], [one.id]) for one in named)
    counts: Counter[tuple[str, str]] = Counter()
    place = 0
    for one in _marked(read, rule, counts):
        if taken is not None and isinstance(one, Conversation):
            place += 1
            if place > len(taken):
                raise _changed(rule)
            if not taken[place - 1]:
                counts["over_budget", one.task or ""] += 1
                continue
        yield one
    yield from rule.left_out(counts)


def kept_batches(read: Callable[[], Iterator[Batch]], rule: Rule) -> Iterator[Batch]:
    """Yield the same in vectors."""
    taken = None
    if rule.budget:
        taken = rule.budget.taken(
            (_tasks(batch.rows), _ids(batch.rows))
            for batch in _marked_batches(read, rule, Counter())
        )
    counts: Counter[tuple[str, str]] = Counter()
    place = 0
    for batch in _marked_batches(read, rule, counts):
        rows = batch.rows
        if taken is not None:
            mine = taken[place : place + rows.num_rows]
            if len(mine) < rows.num_rows:
                raise _changed(rule)
            place += rows.num_rows
            rows = _split(rows, pa.array(mine), "over_budget", counts)
        yield batch._replace(rows=rows)
    if left_out := rule.left_out(counts):
        yield Batch(pa.RecordBatch.from_pylist([], SCHEMA), left_out)


def _marked(
    read: Callable[[], Iterator[Conversation | Dropped]],
    rule: Rule,
    counts: Counter[tuple[str, str]],
) -> Iterator[Conversation | Dropped]:
    for one in read():
        if isinstance(one, Conversation):
            one = marked(one, rule.release)
            if rule.drop_eval and one.meta["eval_source"]:
                counts["eval_source", one.task or ""] += 1
                continue
        yield one


def _marked_batches(
    read: Callable[[], Iterator[Batch]], rule: Rule, counts: Counter[tuple[str, str]]
) -> Iterator[Batch]:
    for batch in read():
        rows, held_out = marked_rows(batch.rows, rule.release)
        if rule.drop_eval:
            rows = _split(rows, pc.invert(held_out), "eval_source", counts)
        yield batch._replace(rows=rows)


def _split(
    rows: pa.RecordBatch, keep: pa.Array, reason: str, counts: Counter[tuple[str, str]]
) -> pa.RecordBatch:
    """Keep some rows and count the others by their task."""
    if pc.all(keep).as_py() is not False:
        return rows
    for task in _tasks(rows.filter(pc.invert(keep))):
        counts[reason, task] += 1
    return rows.filter(keep)


def _tasks(rows: pa.RecordBatch) -> list[str]:
    return [task or "" for task in rows.column("task").to_pylist()]


def _ids(rows: pa.RecordBatch) -> list[str]:
    """The record's own ids, without the source's name."""
    return [name.partition("/")[2] for name in rows.column("id").to_pylist()]


def _changed(rule: Rule) -> IntegrityError:
    return IntegrityError(f"{rule.file} changed while it was read", hint="build again")
