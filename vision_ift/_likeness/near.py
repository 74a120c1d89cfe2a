"""All pairs of 64-bit hashes within a Hamming distance: exact, without comparing each with each.

Two hashes that differ in at most ``d`` bits, cut into ``m`` bands, differ in at most ``r_k`` bits
of some band k wherever the ``r_k`` add up to ``d - m + 1`` (the pigeonhole principle; Norouzi,
Punjani and Fleet, "Fast Exact Search in Hamming Space with Multi-Index Hashing", 2014, section 3).
So each band is an index, and every hash asks it for all values that differ in ``r_k`` bits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vision_ift._errors import UsageError

#: The farthest distance that is searched for; beyond it half of all pictures look alike.
MAX_DISTANCE = 16

#: Hashes that ask at a time, and candidates that are compared at a time.
_QUERIES = 1 << 16
_CANDIDATES = 1 << 22


class Pairs(NamedTuple):
    """Places in ``queries`` and in ``among``, and the bits in which the two hashes differ."""

    query: NDArray[np.int64]
    found: NDArray[np.int64]
    distance: NDArray[np.uint8]


def within(
    queries: NDArray[np.uint64], among: NDArray[np.uint64], distance: int
) -> Iterator[Pairs]:
    """Yield all pairs at most ``distance`` bits apart, each once, for some queries at a time.

    Equal hashes should be given once: their pairs are as many as their product.

    Args:
        queries, among: Hashes; a pair of the same place in both is given too.
        distance: 0 to ``MAX_DISTANCE``.

    Raises:
        UsageError: ``distance`` is out of range.
    """
    if not 0 <= distance <= MAX_DISTANCE:
        raise UsageError(f"distance is {distance}", hint=f"give 0 to {MAX_DISTANCE} bits of 64")
    if not len(queries) or not len(among):
        return
    bands = _bands(len(among), distance)
    indexes = [_Band(among, low, width) for low, width, _ in bands]
    for start in range(0, len(queries), _QUERIES):
        asked = queries[start : start + _QUERIES]
        codes: list[NDArray[np.int64]] = []
        for index, (_, _, radius) in zip(indexes, bands, strict=True):
            own = index.keys(asked)
            for bits in range(radius + 1):
                for flipped in itertools.combinations(range(index.width), bits):
                    mask = sum(1 << bit for bit in flipped)
                    codes += _compared(asked, among, index, own ^ mask, distance)
        pairs = np.unique(np.concatenate(codes)) if codes else np.empty(0, np.int64)
        query, found = np.divmod(pairs, len(among))
        apart = np.bitwise_count(asked[query] ^ among[found])
        if len(query):
            yield Pairs(query + start, found, apart)


def _bands(size: int, distance: int) -> list[tuple[int, int, int]]:
    """Choose the bands that cost least: lowest bit, width and radius of each."""

    def plan(number: int) -> list[tuple[int, int, int]]:
        edges = [64 * k // number for k in range(number + 1)]
        base, more = divmod(distance - number + 1, number)
        return [
            (low, high - low, base + (place < more))
            for place, (low, high) in enumerate(itertools.pairwise(edges))
        ]

    def cost(number: int) -> float:
        total = 0.0
        for _, width, radius in plan(number):
            asks = sum(math.comb(width, bits) for bits in range(radius + 1))
            # A candidate costs about twice what a look-up does; an index has 2**width entries.
            total += asks * (1 + 2 * size / 2**width)
        return total

    if distance < 2:  # pieces of 16 bits, of which one at least must be equal
        return [(16 * place, 16, 0) for place in range(distance + 1)]
    # Two bands would need an index of 32 GB each.
    return plan(min(range(3, distance + 2), key=cost))


class _Band:
    """Some bits of all hashes, and where each of their values stands."""

    def __init__(self, hashes: NDArray[np.uint64], low: int, width: int) -> None:
        self.width = width
        self._low = np.uint64(low)
        self._mask = np.uint64((1 << width) - 1)
        keys = self.keys(hashes)
        self.order = np.argsort(keys, kind="stable").astype(np.int64)
        counts = np.bincount(keys, minlength=1 << width)
        self.starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])

    def keys(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        return ((hashes >> self._low) & self._mask).astype(np.int64)


def _compared(
    asked: NDArray[np.uint64],
    among: NDArray[np.uint64],
    index: _Band,
    keys: NDArray[np.int64],
    distance: int,
) -> Iterator[NDArray[np.int64]]:
    """Compare each query with all that the index has under its key; give pairs as one number."""
    starts = index.starts[keys]
    counts = index.starts[keys + 1] - starts
    met = np.flatnonzero(counts)
    if not len(met):
        return
    sums = np.cumsum(counts[met])
    at = 0
    while at < len(met):  # a few at a time where many hashes share a value
        done = int(sums[at - 1]) if at else 0
        stop = max(int(np.searchsorted(sums, done + _CANDIDATES, side="right")), at + 1)
        some = met[at:stop]
        query = np.repeat(some, counts[some])
        first = np.repeat(starts[some] - (sums[at:stop] - counts[some] - done), counts[some])
        found = index.order[first + np.arange(len(query))]
        close = np.bitwise_count(asked[query] ^ among[found]) <= distance
        yield query[close] * len(among) + found[close]
        at = stop
