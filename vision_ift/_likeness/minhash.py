"""Texts that are nearly the same: MinHash (rensa) with banding, each pair checked exactly.

Two texts are as alike as their sets of three-word runs: the Jaccard index, the size of what both
have over the size of what either has. MinHash values that agree in a whole band make a candidate
(Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", section 3.4); a candidate counts when
its index, taken over the sets themselves, is high enough. The bands are chosen so that a pair right
at the threshold is found with a probability of 0.99 at least.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vision_ift._errors import MissingExtraError, UsageError
from vision_ift._likeness.words import Words

#: Words of a run; of two short questions that differ in one word, few runs are equal.
SHINGLE_WORDS = 3

#: Values of a signature, and the seed of its permutations.
_VALUES, _SEED = 128, 17

#: The lowest likeness that is looked for: below it, nearly every pair is a candidate.
MIN_SIMILARITY = 0.5

#: Probability with which a pair right at the threshold becomes a candidate, at least.
_SURE = 0.99

#: Texts hashed at a time.
_TEXTS = 1 << 14

#: Texts of one bucket that each other one in it is compared with, at most.
_LEADERS = 32

#: Shingles compared at a time.
_COMPARED = 1 << 23


class Alike(NamedTuple):
    """Pairs of texts and their exact Jaccard index."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    similarity: NDArray[np.float64]


def band_rows(similarity: float) -> int:
    """Values a band: as many as leave a pair at the threshold with 0.99 of being found.

    >>> band_rows(0.8)
    6
    """
    if not MIN_SIMILARITY <= similarity <= 1:
        raise UsageError(f"text similarity is {similarity:g}", hint=f"give {MIN_SIMILARITY:g} to 1")
    fitting = [
        rows for rows in range(1, 17) if 1 - (1 - similarity**rows) ** (_VALUES // rows) >= _SURE
    ]
    return max(fitting)


def band_keys(sets: Words, similarity: float) -> NDArray[np.uint64]:
    """Hash each text's bands: one line a band, one column a text.

    Raises:
        MissingExtraError: The extra ``dedup`` is not installed.
    """
    try:
        from rensa import RMinHash
    except ImportError:
        raise MissingExtraError("near-duplicates of texts", "dedup") from None
    rows = band_rows(similarity)
    bands = _VALUES // rows
    keys = np.empty((bands, len(sets)), np.uint64)
    for start in range(0, len(sets), _TEXTS):
        stop = min(start + _TEXTS, len(sets))
        bounds = sets.bounds[start : stop + 1]
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            sets.hashes[bounds[0] : bounds[-1]],
            (bounds - bounds[0]).astype(np.uint64),
            bands * rows,
            _SEED,
        )
        values = np.array(matrix.to_rows(), np.uint64).reshape(stop - start, bands, rows)
        mixed = np.zeros((stop - start, bands), np.uint64)
        for place in range(rows):
            mixed = (mixed ^ values[:, :, place]) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(32)
        keys[:, start:stop] = mixed.T
    return keys


def alike(sets: Words, similarity: float) -> Alike:
    """Find the pairs among texts, ``left`` before ``right``.

    Equal texts should be given once. Where more than 32 texts share a band, each is compared with
    the first 32 of them; what is close to none of those is not paired by that band.
    """
    codes = []
    full = sets.counts > 0
    for keys in band_keys(sets, similarity):
        order = np.argsort(keys, kind="stable")
        order = order[full[order]]
        same = keys[order]
        first = np.flatnonzero(np.concatenate([[True], same[1:] != same[:-1]]))
        place = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
        leaders = np.minimum(place, _LEADERS)
        right = np.repeat(np.arange(len(order)), leaders)
        starts = np.cumsum(leaders) - leaders
        left = right - place[right] + (np.arange(len(right)) - np.repeat(starts, leaders))
        codes.append(np.unique(order[left] * len(sets) + order[right]))
    pairs = np.unique(np.concatenate(codes)) if codes else np.empty(0, np.int64)
    left, right = np.divmod(pairs, max(len(sets), 1))
    return _checked(sets, left, sets, right, similarity)


class Index:
    """Texts that others are compared with.

    Args:
        sets: Their shingles.
        similarity: The lowest Jaccard index that counts.
    """

    def __init__(self, sets: Words, similarity: float) -> None:
        self._sets = sets
        self._similarity = similarity
        keys = band_keys(sets, similarity)
        self._orders = [np.argsort(band, kind="stable") for band in keys]
        self._keys = [band[order] for band, order in zip(keys, self._orders, strict=True)]
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
