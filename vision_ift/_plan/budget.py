"""How many rows a budget of tokens comes to, and what a source's rows add up to: exact sums."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vision_ift._errors import RecipeError
from vision_ift._plan.order import Order
from vision_ift._plan.permute import Permutation

#: Rows that are summed at once.
_CHUNK = 2**18

#: Stages that are estimated longer than this begin with whole passes' sums.
_FAR = 2**22

Values = NDArray[Any]


class Stop(NamedTuple):
    """Where a budget ends a stage: after ``rows`` rows, which hold ``tokens`` tokens."""

    rows: int
    tokens: int


def given_sum(values: Values, permutation: Permutation, start: int, stop: int) -> int:
    """Sum a value of every row that occurrences ``start`` to ``stop`` (not included) give.

    Whole passes count by the sum of all values, the two ends row by row.
    """

    def upto(end: int) -> int:
        whole, rest = divmod(end, permutation.size)
        first = whole * permutation.size
        found = whole * int(values.sum(dtype=np.int64))
        for low in range(0, rest, _CHUNK):
            rows = permutation.slice(first + low, first + min(low + _CHUNK, rest))
            found += int(values[rows].sum(dtype=np.int64))
        return found

    return upto(stop) - upto(start)


def rows_for_tokens(
    order: Order,
    permutations: Sequence[Permutation],
    tokens: Sequence[Values],
    budget: int,
    *,
    starts: Sequence[int],
    what: str,
) -> Stop:
    """Find the first position by which an order has given so many tokens.

    Args:
        order: The order of the sources.
        permutations, tokens: By source: its rows in sequence, and the tokens of each row.
        budget: Tokens, 1 or more.
        starts: What every source has given before position 0.
        what: What to call the stage in an error.

    Raises:
        RecipeError: No row has a token.
    """
    means = [Fraction(int(one.sum(dtype=np.int64)), len(one)) for one in tokens]
    mean = sum(
        (weight * each for weight, each in zip(order.weights, means, strict=True)), Fraction(0)
    )
    if not mean:
        raise RecipeError(
            f"{what}: none of its rows has a token, so no number of them comes to {budget:,}"
        )
    low = _safe_start(order, permutations, tokens, budget, starts, mean / order.total)
    before = _prefix(order, permutations, tokens, starts, low)
    while True:
        found = np.empty(_CHUNK, np.int64)
        for source, first, places in order.runs(low, low + _CHUNK):
            first += starts[source]
            found[places] = tokens[source][permutations[source].slice(first, first + len(places))]
        sums = np.cumsum(found)
        if before + int(sums[-1]) >= budget:
            place = int(np.searchsorted(sums, budget - before))
            return Stop(low + place + 1, before + int(sums[place]))
        before += int(sums[-1])
        low += _CHUNK


def _safe_start(
    order: Order,
    permutations: Sequence[Permutation],
    tokens: Sequence[Values],
    budget: int,
    starts: Sequence[int],
    mean: Fraction,
) -> int:
    """Find a position that is surely before the end, and near it where the end is far."""
    guess = int(budget / mean)
    if guess <= _FAR:
        return 0
    for percent in (99, 95, 80, 50):
        place = guess * percent // 100
        if _prefix(order, permutations, tokens, starts, place) < budget:
            return place
    return 0


def _prefix(
    order: Order,
    permutations: Sequence[Permutation],
    tokens: Sequence[Values],
    starts: Sequence[int],
    stop: int,
) -> int:
    """Sum the tokens of all positions before ``stop``."""
    return sum(
        given_sum(tokens[source], permutations[source], starts[source], starts[source] + count)
        for source, count in enumerate(order.counts(stop))
        if count
    )
