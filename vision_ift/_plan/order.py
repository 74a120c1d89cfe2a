"""Which source every row of a plan comes from: arithmetic on integers, no state, no arrays to keep.

The sources are the leaves of a Huffman tree over their weights. Each inner node deals its rows to
its two children: it cuts its own numbering 0, 1, 2, … into strata that hold one row of the lighter
child each (the *small* one), and a hash picks which row of the stratum that is. Counts, single
rows, ranges and the inverse are all one walk through the tree; every other number in between is
never computed. The bits are fixed by SplitMix64 (Steele, Lea and Flood 2014) and by SHA-256 of the
sources' names, so a plan is the same on every machine and in every later version.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import gcd
from operator import index
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vision_ift._errors import RecipeError, UsageError

#: The largest sum of weights, once their common divisor is taken out; vector work then fits int64.
MOST_WEIGHT = 2**42
#: Rows that are dealt at once: at most what keeps products in 64 bits, at least what still fits the
#: cache; more sources take larger chunks. No result depends on it.
MOST_CHUNK, LEAST_CHUNK = 2**20, 2**17

_WORD = 2**64
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


class Dealt(NamedTuple):
    """What one source gives to a range: ``places`` (ascending) hold ``first``, ``first + 1``, …"""

    source: int
    first: int
    places: NDArray[np.intp]


class Order:
    """The endless sequence of (source, occurrence) that named sources of given weights make.

    Position ``n`` holds the ``j``-th row that its source gives (both from 0). In *every* prefix
    each source is within its :meth:`certificate` (below 3.36 rows) of its weight's share, and after
    ``total`` positions each has given exactly its weight: rows to deliver are weights too. Neither
    a common factor of the weights nor the sequence of the sources in the call changes the order.

    Args:
        names: The sources' names, unique; ties and hashes go by them.
        weights: One integer per source, from 0 (never appears); their sum over their greatest
            common divisor is at most 2**42.
        seed: From 0 to 2**64 - 1.

    Raises:
        RecipeError: Names or weights that cannot be planned, or a source that is too rare.

    >>> order = Order(["coco_ift", "vision_flan"], [2, 1], seed=17)
    >>> [order.at(n) for n in range(3)]
    [(0, 0), (1, 0), (0, 1)]
    >>> order.counts(3_000_000_000)
    [2000000000, 1000000000]
    """

    def __init__(self, names: Sequence[str], weights: Sequence[int], *, seed: int) -> None:
        self.names = tuple(names)
        self.weights = _checked_weights(self.names, weights)
        self.seed = checked_seed(seed)
        self.total = sum(self.weights)
        self._root, self._leaves = _grow(self.names, self.weights, self.seed)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.names, self.weights, self.seed)

    def counts(self, n: int) -> list[int]:
        """Count the rows of every source among the first ``n`` positions, for any ``n`` from 0."""
        counts = [0] * len(self.names)
        todo = [(self._root, _checked_position(n))]
        while todo:
            node, rows = todo.pop()
            if isinstance(node, _Split):
                small = node.count(rows)
                todo += ((node.small, small), (node.large, rows - small))
            else:
                counts[node] = rows
        return counts

    def at(self, n: int) -> tuple[int, int]:
        """Give (source, occurrence) at position ``n``, for any ``n`` from 0."""
        n = _checked_position(n)
        node = self._root
        while isinstance(node, _Split):
            small = node.count(n)
            if node.count(n + 1) > small:
                node, n = node.small, small
            else:
                node, n = node.large, n - small
        return node, n

    def position(self, source: int, occurrence: int) -> int:
        """Find where ``occurrence`` of a source stands: the inverse of :meth:`at`."""
        n = _checked_position(occurrence)
        for split, is_small in _climb(self._leaf(source)):
            n = split.slot(n) if is_small else split.large_slot(n)
        return n

    def positions(self, source: int, occurrences: NDArray[np.int64]) -> NDArray[np.int64]:
        """Find where many occurrences of one source stand: (n,) int64 to (n,) int64, any sequence.

        Raises:
            UsageError: A negative occurrence, or one whose position is 2**63 or more.
        """
        leaf = self._leaf(source)
        places = np.asarray(occurrences, dtype=np.int64)
        if places.size == 0:
            return places.copy()
        _checked_position(int(places.min()))
        if self.position(source, int(places.max())) >= 2**63:
            raise UsageError(f"occurrence {places.max()} stands past position 2**63 - 1")
        words = places.astype(np.uint64)
        for split, is_small in _climb(leaf):
            words = split.slots_of(words) if is_small else split.large_slots_of(words)
        return words.astype(np.int64)

    def runs(self, start: int, stop: int) -> Iterator[Dealt]:
        """Deal positions ``start`` to before ``stop``, one :class:`Dealt` a source and chunk.

        This is the fast way to fill an array, for a source's rows come in one piece:
        ``rows[run.places] = rows_of(run.source, run.first, len(run.places))``. Places count from
        ``start``. Sources that have no row in a chunk are left out.
        """
        start, stop = _checked_range(start, stop)
        chunk = min(MOST_CHUNK, max(LEAST_CHUNK, 2**12 * len(self.names)))
        for low in range(start, stop, chunk):
            high = min(low + chunk, stop)
            places = np.arange(low - start, high - start, dtype=np.intp)
            todo = [(self._root, low, places)]
            while todo:
                node, first, places = todo.pop()
                if not isinstance(node, _Split):
                    yield Dealt(node, first, places)
                    continue
                slots, given = node.slots(first, first + len(places))
                if len(slots) < len(places):
                    kept = np.ones(len(places), dtype=np.bool_)
                    kept[slots] = False
                    todo.append((node.large, first - given, places.compress(kept)))
                if len(slots):
                    todo.append((node.small, given, places.take(slots, mode="clip")))

    def slice(self, start: int, stop: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Give positions ``start`` to ``stop`` (not included) as two arrays of ``stop - start``.

        Returns:
            Source numbers (int32) and occurrences (int64); where a range is cut changes nothing.

        Raises:
            UsageError: ``start`` is negative or past ``stop``, or ``stop`` is past 2**63 - 1.

        >>> order = Order(["a", "b"], [1, 1], seed=0)
        >>> sources, occurrences = order.slice(10**15, 10**15 + 4)
        >>> occurrences.tolist()
        [500000000000000, 500000000000000, 500000000000001, 500000000000001]
        """
        start, stop = _checked_range(start, stop)
        sources = np.empty(stop - start, dtype=np.int32)
        occurrences = np.empty(stop - start, dtype=np.int64)
        for source, first, places in self.runs(start, stop):
            sources[places] = source
            occurrences[places] = np.arange(first, first + len(places), dtype=np.int64)
        return sources, occurrences

    def certificate(self) -> list[tuple[Fraction, Fraction]]:
        """Give the exact (D, U) of every source: ``-D <= count(n) - n * share <= U`` for all ``n``.

        Any window of positions is within ``D + U`` of its share. All values are below 3.36.

        *One split.* Let the small child hold p = a/d of a node, in lowest terms, and e(n) be its
        count in the node's first n rows less n·p. With j = floor(n·p), n lies in stratum j, and all
        strata before it have given their row. If stratum j has not, e = j - n·p, minus the fraction
        of a multiple of 1/d: e >= -(1 - 1/d). If it has, its row is below n, so n is at least one
        past the stratum's first row, n·p >= j + p, and e = j + 1 - n·p <= 1 - p. The large child
        errs by -e.

        *The path.* A node deals the integer count that it was dealt, so an error is passed on in
        proportion and the split's own is added: count_i(n) - n·w_i is the sum, over the nodes v
        from leaf i up to just below the root, of (w_i / w_v)·(±e_v), where e_v is the error of the
        split that deals to v. Taking each at its end gives D and U.

        *The constant.* |e_v| < 1. On the way up from leaf i, call the weights w_0 < w_1 < w_2 ….
        When Huffman's rule merged node k with a sibling, it took the two lightest, so what is
        merged with node k + 1 later, then present or made of things then present, weighs at least
        w_k: w_{k+2} >= w_{k+1} + w_k. Hence w_k >= F_{k+1}·w_0 with Fibonacci's F, and the sum is
        below the sum of all 1/F_k, which is 3.35988….
        """
        bounds = []
        for weight, leaf in zip(self.weights, self._leaves, strict=True):
            below = above = Fraction(0)
            node_weight = weight
            for split, is_small in _climb(leaf):
                low, high = 1 - Fraction(1, split.rows), 1 - Fraction(split.share, split.rows)
                if not is_small:
                    low, high = high, low
                below += Fraction(weight, node_weight) * low
                above += Fraction(weight, node_weight) * high
                node_weight = split.weight
            bounds.append((below, above))
        return bounds

    def _leaf(self, source: int) -> _Side | None:
        if not 0 <= source < len(self.names):
            raise UsageError(f"no source {source}; the order has {len(self.names)}, from 0")
        if self.weights[source] == 0:
            raise UsageError(f"source {self.names[source]!r} has weight 0 and never appears")
        return self._leaves[source]


class _Split:
    """One inner node: of its rows, ``share`` in ``rows`` (lowest terms) go to the small child.

    Stratum ``j`` is [A_j, A_{j+1}) with A_j = ceil(j · rows / share).
    """

    __slots__ = ("above", "key", "large", "rows", "share", "small", "weight")

    def __init__(self, small: _Node, large: _Node, weights: tuple[int, int], key: int) -> None:
        self.small = small
        self.large = large
        self.weight = sum(weights)
        divisor = gcd(*weights)
        self.share = weights[0] // divisor
        self.rows = self.weight // divisor
        self.key = key
        self.above: _Side | None = None

    def slot(self, j: int) -> int:
        """Find the row of this node that is the small child's ``j``-th."""
        first = -(-j * self.rows // self.share)
        length = -(-(j + 1) * self.rows // self.share) - first
        return first + ((splitmix64(self.key, j) >> 32) * length >> 32)

    def large_slot(self, m: int) -> int:
        """Find the row of this node that is the large child's ``m``-th.

        Before stratum j the large child has A_j - j rows, which grows with j since a stratum has
        two rows or more; the last j with A_j - j <= m is floor(m · share / (rows - share)).
        """
        j = m * self.share // (self.rows - self.share)
        return m + j + (m + j >= self.slot(j))

    def count(self, n: int) -> int:
        """Count the small child's rows among the first ``n``."""
        j = n * self.share // self.rows
        return j + (self.slot(j) < n)

    def slots(self, start: int, stop: int) -> tuple[NDArray[np.intp], int]:
        """Find the small child's rows in [start, stop), at most a chunk, and the count before them.

        The rows count from ``start``. Whatever may be large is taken out in Python's integers;
        what is left fits: k · remainder < 2**20 · 2**42 for the k-th stratum of the range.
        """
        j = start * self.share // self.rows
        strata = (stop - 1) * self.share // self.rows - j + 1
        step, remainder = divmod(self.rows, self.share)
        first, carry = divmod(j * self.rows + self.share - 1, self.share)
        words = splitmix64_range(self.key, j, strata)
        words >>= np.uint64(32)
        k = np.arange(strata + 1, dtype=np.int64)
        edges = k * step
        if remainder:
            k *= remainder
            k += carry
            k //= self.share
            edges += k
            words *= (edges[1:] - edges[:-1]).view(np.uint64)
        else:
            words *= np.uint64(step)
        words >>= np.uint64(32)
        slots = edges[:-1]
        slots += words.view(np.int64)
        slots += first - start
        missed = int(slots[0] < 0)  # the first stratum began, and gave its row, before start
        return slots[missed : strata - int(slots[-1] >= stop - start)], j + missed

    def slots_of(self, j: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Do :meth:`slot` for many, in any sequence."""
        first, rest = _scale(j, self.rows, self.share)
        first += rest > 0
        end, rest = _scale(j + np.uint64(1), self.rows, self.share)
        end += rest > 0
        words = splitmix64_many(self.key, j)
        words >>= np.uint64(32)
        words *= end - first
        words >>= np.uint64(32)
        return first + words

    def large_slots_of(self, m: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Do :meth:`large_slot` for many, in any sequence."""
        j, _ = _scale(m, self.share, self.rows - self.share)
        place = m + j
        place += place >= self.slots_of(j)
        return place


_Node: TypeAlias = _Split | int
_Side: TypeAlias = tuple[_Split, bool]  # a node's parent, and whether the node is its small child


def splitmix64(seed: int, n: int) -> int:
    """Give output ``n`` (from 0) of SplitMix64, whose state is a counter.

    >>> splitmix64(1234567, 0)
    6457827717110365317
    """
    word = (seed + (n + 1) * _GOLDEN) % _WORD
    word = (word ^ word >> 30) * _MIX_1 % _WORD
    word = (word ^ word >> 27) * _MIX_2 % _WORD
    return word ^ word >> 31


def splitmix64_range(seed: int, first: int, length: int) -> NDArray[np.uint64]:
    """Give outputs ``first``, ``first + 1``, … of SplitMix64."""
    words = np.arange(length, dtype=np.uint64)
    return _mix(words, (seed + (first + 1) * _GOLDEN) % _WORD)


def splitmix64_many(seed: int, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Give the numbered outputs of SplitMix64."""
    return _mix(numbers.copy(), (seed + _GOLDEN) % _WORD)


def _mix(words: NDArray[np.uint64], start: int) -> NDArray[np.uint64]:
    """Turn counters into SplitMix64's outputs, in place."""
    words *= np.uint64(_GOLDEN)
    words += np.uint64(start)
    shifted = words >> np.uint64(30)
    words ^= shifted
    words *= np.uint64(_MIX_1)
    np.right_shift(words, np.uint64(27), out=shifted)
    words ^= shifted
    words *= np.uint64(_MIX_2)
    np.right_shift(words, np.uint64(31), out=shifted)
    words ^= shifted
    return words


def _scale(
    numbers: NDArray[np.uint64], times: int, over: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Give floor(number · times / over) and the remainder, exactly, for factors up to 2**42.

    A number is taken as q · over + (upper · 2**21 + lower): products are then below 2**63, and the
    remainder of the upper part joins the lower part as in long division.
    """
    quotient, rest = np.divmod(numbers, np.uint64(over))
    upper = (rest >> np.uint64(21)) * np.uint64(times)
    lower = (rest & np.uint64(2**21 - 1)) * np.uint64(times)
    first, rest = np.divmod(upper, np.uint64(over))
    second, rest = np.divmod((rest << np.uint64(21)) + lower, np.uint64(over))
    quotient *= np.uint64(times)
    quotient += first << np.uint64(21)
    quotient += second
    return quotient, rest


def _grow(
    names: tuple[str, ...], weights: tuple[int, ...], seed: int
) -> tuple[_Node, list[_Side | None]]:
    """Merge the two lightest until one is left; ties go by the smallest source name inside.

    Returns the root and the side of its parent that each source hangs on.
    """
    leaves: list[_Side | None] = [None] * len(names)
    heap: list[tuple[int, str, bytes, _Node]] = [
        (weight, name, hashlib.sha256(b"source\0" + name.encode()).digest(), source)
        for source, (name, weight) in enumerate(zip(names, weights, strict=True))
        if weight
    ]
    heapq.heapify(heap)
    while len(heap) > 1:
        small_weight, small_name, small_label, small = heapq.heappop(heap)
        large_weight, large_name, large_label, large = heap[0]
        label = hashlib.sha256(b"split\0" + small_label + large_label).digest()
        key = hash_key("order", seed, label)
        split = _Split(small, large, (small_weight, large_weight), key)
        if -(-split.rows // split.share) >= 2**32:  # a stratum times a hash must fit 64 bits
            rare = sorted(_leaf_names(small, names))
            more = f" and {len(rare) - 3} more" if len(rare) > 3 else ""
            raise RecipeError(
                f"source {', '.join(map(repr, rare[:3]))}{more} is too rare:"
                " less than one row in 2**32 of what it is mixed with",
                hint="give it a larger weight, or leave it out",
            )
        for child, is_small in ((small, True), (large, False)):
            if isinstance(child, _Split):
                child.above = split, is_small
            else:
                leaves[child] = split, is_small
        name = min(small_name, large_name)
        heapq.heapreplace(heap, (small_weight + large_weight, name, label, split))
    return heap[0][3], leaves


def _leaf_names(node: _Node, names: tuple[str, ...]) -> list[str]:
    if isinstance(node, _Split):
        return _leaf_names(node.small, names) + _leaf_names(node.large, names)
    return [names[node]]


def _climb(side: _Side | None) -> Iterator[_Side]:
    """Give the splits from one node up to the root, and which side the way comes from."""
    while side:
        yield side
        side = side[0].above


def hash_key(purpose: str, seed: int, label: bytes) -> int:
    """Take 64 bits of SHA-256, little-endian, for one purpose, seed and label."""
    digest = hashlib.sha256(f"vision_ift {purpose} {seed}\0".encode() + label).digest()
    return int.from_bytes(digest[:8], "little")


def checked_seed(seed: int) -> int:
    """Refuse a seed that is not from 0 to 2**64 - 1."""
    if isinstance(seed, bool) or not 0 <= index(seed) < _WORD:
        raise RecipeError(f"seed {seed!r} is not an integer from 0 to 2**64 - 1")
    return index(seed)


def checked_name(name: str) -> str:
    """Refuse a name that is empty or has no bytes in UTF-8."""
    if not name or any("\ud800" <= letter <= "\udfff" for letter in name):
        raise RecipeError(f"source name {name!r} is empty or not valid Unicode")
    return name


def _checked_weights(names: tuple[str, ...], weights: Sequence[int]) -> tuple[int, ...]:
    if len(weights) != len(names):
        raise RecipeError(f"{len(names)} sources, but {len(weights)} weights")
    seen: set[str] = set()
    for name, weight in zip(names, weights, strict=True):
        if checked_name(name) in seen:
            raise RecipeError(f"source {name!r} is named twice", hint="give one of them an alias")
        seen.add(name)
        if isinstance(weight, bool) or not hasattr(weight, "__index__") or weight < 0:
            raise RecipeError(f"source {name!r}: weight {weight!r} is not an integer from 0")
    whole = tuple(index(weight) for weight in weights)
    if not any(whole):
        raise RecipeError("no source has a positive weight, so there is nothing to mix")
    if (most := sum(whole) // gcd(*whole)) > MOST_WEIGHT:
        raise RecipeError(
            f"the weights add up to {most}, more than 2**42",
            hint="write them with fewer digits, or ask for fewer rows",
        )
    return whole


def _checked_position(n: int) -> int:
    if index(n) < 0:
        raise UsageError(f"{n} is negative; positions and occurrences count from 0")
    return index(n)


def _checked_range(start: int, stop: int) -> tuple[int, int]:
    start, stop = index(start), index(stop)
    if not 0 <= start <= stop < 2**63:
        raise UsageError(f"no range of positions from {start} to {stop}")
    return start, stop


def _rebuild(names: tuple[str, ...], weights: tuple[int, ...], seed: int) -> Order:
    return Order(names, weights, seed=seed)
