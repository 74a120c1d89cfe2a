"""Going on from another plan: where every source starts, and what comes again.

A counter is the number of rows that a part has given so far under its selection and seed, which
together fix the sequence of its rows. Occurrences 0 to the counter were given, whatever weights,
stages or other sources there were, so a part that is still the same goes on at its counter: what
it has not given yet comes first.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from vision_ift._plan.lock import Given, Lock
from vision_ift._plan.permute import Permutation, overlap
from vision_ift._recipe.select import Selection

#: Occurrences that are marked at once.
_CHUNK = 2**18


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """A part that is not what it was, so that its old counter says nothing about its rows.

    Attributes:
        what: What changed: ``its rows``, ``the seed``, or both.
        seen: Different rows that it had given.
        known: The old part's rows are this part's rows: what comes again can be counted.
        seed: The old seed.
        count: The old counter.
        table: Whether the table is the same, and its rows.
    """

    what: str
    seen: int
    known: bool
    seed: int
    count: int
    table: bool
    table_rows: int

    def describe(self, name: str) -> str:
        """Say it in a sentence."""
        return (
            f"{name} starts from its first row again: {self.what} changed, and the "
            f"{self.count:,} rows it had given ({self.seen:,} different ones) were of another "
            "sequence"
        )


class Met(msgspec.Struct, frozen=True, kw_only=True):
    """Of the different rows that a part now gives, how many were given before.

    ``again_least`` and ``again_most`` are equal where it is known exactly.
    """

    again_least: int
    again_most: int
    rows: int


def counters_after(
    lock: Lock, at: int, found: Mapping[str, Selection | str], *, seed: int
) -> tuple[dict[str, int], dict[str, Changed], dict[str, int]]:
    """Say where every part starts that goes on from a plan at a position.

    Returns:
        Counters by name (parts that are new, or changed, are not in it), what changed by name,
        and the counters of the parts that are no more.

    Raises:
        UsageError: The plan has fewer rows.
    """
    counters: dict[str, int] = {}
    changed: dict[str, Changed] = {}
    gone: dict[str, int] = {}
    for name, given in sorted(lock.given(at).items()):
        selection = found.get(name)
        if not isinstance(selection, Selection):
            gone[name] = given.rows
        elif selection.digest == given.part.selection and lock.seed == seed:
            counters[name] = given.rows
        elif given.rows:
            changed[name] = _change(given, selection, lock.seed, seed)
    return counters, changed, gone


def _change(given: Given, selection: Selection, old_seed: int, seed: int) -> Changed:
    same = selection.digest == given.part.selection
    words = [] if same else ["its rows"]
    words += ["the seed"] if old_seed != seed else []
    return Changed(
        what=" and ".join(words),
        seen=min(given.rows, given.part.rows),
        known=same,
        seed=old_seed,
        count=given.rows,
        table=selection.table.digest == given.part.selection.partition("/")[0],
        table_rows=len(selection.table),
    )


def met(permutation: Permutation, start: int, count: int, changed: Changed | None = None) -> Met:
    """Count the rows that occurrences ``start`` on give again.

    Args:
        permutation: The part's rows in sequence.
        start: Its counter.
        count: The rows it gives from there.
        changed: What it was before, where it is another part now.

    >>> rows = Permutation("coco_ift", 1000, seed=17)
    >>> met(rows, 600, 600)
    Met(again_least=114, again_most=114, rows=514)
    """
    rows = distinct(permutation, start, start + count)
    if changed is None:
        again = overlap(permutation, range(start), range(start, start + count))
        return Met(again_least=again, again_most=again, rows=rows)
    if changed.known:
        old = Permutation(permutation.name, permutation.size, seed=changed.seed)
        before = marked(old, 0, changed.count)
        again = int(np.count_nonzero(before & marked(permutation, start, start + count)))
        return Met(again_least=again, again_most=again, rows=rows)
    least = max(0, changed.seen + rows - changed.table_rows) if changed.table else 0
    return Met(again_least=least, again_most=min(changed.seen, rows), rows=rows)


def distinct(permutation: Permutation, start: int, stop: int) -> int:
    """Count the different rows that a range of occurrences gives.

    From the first row of a pass on these are as many as can be; a range that ends one pass and
    begins the next may give a row in both.

    >>> rows = Permutation("coco_ift", 1000, seed=17)
    >>> distinct(rows, 0, 900), distinct(rows, 900, 1100), distinct(rows, 900, 2000)
    (900, 189, 1000)
    """
    count, size = stop - start, permutation.size
    edge = -(-start // size) * size
    if count <= 0 or stop <= edge or start == edge:
        return max(0, min(count, size))
    if stop - edge >= size:
        return size
    return count - overlap(permutation, range(start, edge), range(edge, stop))


def marked(permutation: Permutation, start: int, stop: int) -> NDArray[np.bool_]:
    """Mark the rows that a range of occurrences gives: one byte for each row of the source."""
    edge = -(-start // permutation.size) * permutation.size
    if stop - edge >= permutation.size:  # a whole pass is in it
        return np.ones(permutation.size, np.bool_)
    found = np.zeros(permutation.size, np.bool_)
    for low in range(start, stop, _CHUNK):
        found[permutation.slice(low, min(low + _CHUNK, stop))] = True
    return found
