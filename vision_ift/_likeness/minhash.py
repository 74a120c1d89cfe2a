"""Texts that are nearly the same: MinHash with banding, each pair checked exactly.

Two texts are as alike as their sets of three-word runs: the Jaccard index, the size of what both
have over the size of what either has. MinHash values that agree in a whole band make a candidate
(Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", section 3.4); a candidate counts when
its index, taken over the sets themselves, is high enough. The bands are chosen so that a pair right
at the threshold is found with a probability of 0.99 at least.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vision_ift._errors import UsageError
from vision_ift._likeness.words import Words

#: Words of a run; of two short questions that differ in one word, few runs are equal.
SHINGLE_WORDS = 3

#: Values of a signature. Over random pairs the estimate is off by 0.022 on average, as theory has
#: it for so many independent ones; rensa's, which are not independent, need 128 for that.
_VALUES = 192

#: The lowest likeness that is looked for: below it, nearly every pair is a candidate.
MIN_SIMILARITY = 0.5

#: Probability with which a pair right at the threshold becomes a candidate, at least.
_SURE = 0.99

#: Texts hashed at a time.
_TEXTS = 1 << 14

#: Texts of one bucket that each other one in it is compared with, at most.
_LEADERS = 32

#: Shingles compared at a time.
_COMPARED = 1 << 20

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _factors(count: int) -> NDArray[np.uint64]:
    """Odd numbers, the same for ever: SplitMix64 (Steele, Lea and Flood 2014) from a fixed seed."""
    found, state = [], 17
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        mixed = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB % 2**64
        found.append(mixed ^ mixed >> 31 | 1)
    return np.array(found, np.uint64)


_FACTORS = _factors(_VALUES)


class Alike(NamedTuple):
    """Pairs of texts, their exact Jaccard index, and how many texts may miss a pair."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    similarity: NDArray[np.float64]
    crowded: int = 0


def band_rows(similarity: float) -> int:
    """Values a band: as many as leave a pair at the threshold with 0.99 of being found.

    >>> band_rows(0.8)
    7
    """
    if not MIN_SIMILARITY <= similarity <= 1:
        raise UsageError(f"text similarity is {similarity:g}", hint=f"give {MIN_SIMILARITY:g} to 1")
    fitting = [
        rows for rows in range(1, 17) if 1 - (1 - similarity**rows) ** (_VALUES // rows) >= _SURE
    ]
    return max(fitting)


def band_keys(sets: Words, similarity: float) -> Iterator[NDArray[np.uint64]]:
    """Hash each text's bands, a band at a time: (texts,) uint64; empty texts have 0.

    A value of a signature is the least of a text's shingles, each times an odd number: shingles are
    hashes already, so the product orders them as good as anew.
    """
    rows = band_rows(similarity)
    full = np.flatnonzero(sets.counts)
    starts = sets.bounds[full]  # an empty text begins where the next one does, so all are in here
    cuts = [*range(0, len(full), _TEXTS), len(full)]
    for band in range(_VALUES // rows):
        keys = np.zeros(len(sets), np.uint64)
        for low, high in itertools.pairwise(cuts):
            first = int(starts[low])
            last = int(starts[high]) if high < len(full) else len(sets.hashes)
            mixed = np.zeros(high - low, np.uint64)
            for factor in _FACTORS[band * rows : (band + 1) * rows]:
                products = sets.hashes[first:last] * factor
                mixed ^= np.minimum.reduceat(products, starts[low:high] - first)
                mixed *= _GOLDEN
                mixed ^= mixed >> np.uint64(32)
            keys[full[low:high]] = mixed
        yield keys


def alike(sets: Words, similarity: float) -> Alike:
    """Find the pairs among texts, ``left`` before ``right``.

    Equal texts should be given once. Where more than 32 texts share a band, each is compared with
    the first 32 of them only; ``crowded`` counts the texts that were not compared with all of one
    band, and are close to none that they were compared with.
    """
    codes = [np.empty(0, np.int64)]
    size = max(len(sets), 1)
    full = sets.counts > 0
    in_crowd = np.zeros(len(sets), bool)
    for keys in band_keys(sets, similarity):
        order = np.argsort(keys, kind="stable")
        order = order[full[order]]
        same = keys[order]
        new = np.ones(len(order), bool)
        new[1:] = same[1:] != same[:-1]
        place = np.arange(len(order)) - np.maximum.accumulate(
            np.where(new, np.arange(len(order)), 0)
        )
        in_crowd[order[place > _LEADERS]] = True
        late = np.flatnonzero(place)
        for start in range(0, len(late), _TEXTS):
            some = late[start : start + _TEXTS]
            leaders = np.minimum(place[some], _LEADERS)
            right = np.repeat(some, leaders)
            starts = np.cumsum(leaders) - leaders
            left = right - place[right] + (np.arange(len(right)) - np.repeat(starts, leaders))
            codes.append(order[left] * size + order[right])
        codes = [np.unique(np.concatenate(codes))]
    left, right = np.divmod(codes[0], size)
    found = _checked(sets, left, sets, right, similarity)
    in_crowd[found.right] = False
    return found._replace(crowded=int(in_crowd.sum()))


class Index:
    """Texts that others are compared with.

    Args:
        sets: Their shingles.
        similarity: The lowest Jaccard index that counts.
    """

    def __init__(self, sets: Words, similarity: float) -> None:
        self._sets = sets
        self._similarity = similarity
        self._orders: list[NDArray[np.int64]] = []
        self._keys: list[NDArray[np.uint64]] = []
        for band in band_keys(sets, similarity):
            self._orders.append(np.argsort(band, kind="stable"))
            self._keys.append(band[self._orders[-1]])
        self._full = sets.counts > 0

    def alike(self, queries: Words) -> Alike:
        """Find the pairs of a query (``left``) and a text of the index (``right``)."""
        codes = []
        size = max(len(self._sets), 1)
        asked = np.flatnonzero(queries.counts > 0)
        for number, keys in enumerate(band_keys(queries, self._similarity)):
            starts = np.searchsorted(self._keys[number], keys[asked], side="left")
            counts = np.searchsorted(self._keys[number], keys[asked], side="right") - starts
            met = np.flatnonzero(counts)
            query = np.repeat(asked[met], counts[met])
            first = np.repeat(starts[met] - (np.cumsum(counts[met]) - counts[met]), counts[met])
            found = self._orders[number][first + np.arange(len(query))]
            codes.append(np.unique((query * size + found)[self._full[found]]))
        pairs = np.unique(np.concatenate(codes)) if codes else np.empty(0, np.int64)
        left, right = np.divmod(pairs, size)
        return _checked(queries, left, self._sets, right, self._similarity)


def _checked(
    left_sets: Words,
    left: NDArray[np.int64],
    right_sets: Words,
    right: NDArray[np.int64],
    similarity: float,
) -> Alike:
    """Keep the pairs whose exact index is high enough."""
    exact = np.concatenate([np.empty(0), *_indexes(left_sets, left, right_sets, right)])
    keep = exact >= similarity - 1e-12
    return Alike(left[keep], right[keep], exact[keep])


def _indexes(
    left_sets: Words, left: NDArray[np.int64], right_sets: Words, right: NDArray[np.int64]
) -> Iterator[NDArray[np.float64]]:
    """The Jaccard index of each pair: equal neighbours among both sets, sorted together."""
    sizes = left_sets.counts[left] + right_sets.counts[right]
    sums = np.cumsum(sizes)
    at = 0
    while at < len(left):
        done = int(sums[at - 1]) if at else 0
        stop = max(int(np.searchsorted(sums, done + _COMPARED, side="right")), at + 1)
        pair = np.concatenate(
            [
                np.repeat(np.arange(stop - at), left_sets.counts[left[at:stop]]),
                np.repeat(np.arange(stop - at), right_sets.counts[right[at:stop]]),
            ]
        )
        hashes = np.concatenate(
            [_gathered(left_sets, left[at:stop]), _gathered(right_sets, right[at:stop])]
        )
        order = np.lexsort((hashes, pair))
        pair, hashes = pair[order], hashes[order]
        twice = (pair[1:] == pair[:-1]) & (hashes[1:] == hashes[:-1])
        both = np.bincount(pair[1:][twice], minlength=stop - at)
        yield both / (sizes[at:stop] - both)
        at = stop


def _gathered(sets: Words, texts: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The sets of some texts, one after the other."""
    counts = sets.counts[texts]
    ends = np.cumsum(counts)
    places = np.repeat(sets.bounds[texts] - (ends - counts), counts)
    return sets.hashes[places + np.arange(len(places))]
