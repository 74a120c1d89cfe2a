"""Which row of a source every occurrence is: a keyed permutation for each pass over its rows.

Large sources go through an eight-round Feistel network over a mixed radix (Black and Rogaway 2002)
whose round functions are tables of about √N words; up to 4096 rows are sorted by random keys
instead, because a Feistel network on few rows makes few of their orders. All words come from
Philox4x32-10 (Salmon et al. 2011) at counters that hold the place, the round and the pass.
Nothing here knows of the other sources, of weights, or of the plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from math import isqrt
from operator import index
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vision_ift._errors import RecipeError, UsageError
from vision_ift._plan.order import Order, checked_name, checked_seed, hash_key

#: Sources up to this size are sorted; larger ones pass through the Feistel network.
MOST_SORTED = 4096
#: The largest source: its radices, and so its tables, have up to 2**21 words.
MOST_ROWS = 2**42

_ROUNDS = 8
_BLOCK = 2**15  # places that pass the network at once: they stay in the cache
_SORTED_BLOCK = 2**18  # keys that are sorted at once
_LOW = np.uint64(2**32 - 1)
_HALF = np.uint64(32)
_SORTED_MARK = np.uint64(2**31)

_Words: TypeAlias = NDArray[np.uint64]
_Piece: TypeAlias = tuple[int, int, int]  # pass, first place, place after the last


class Permutation:
    """The rows of one source in the sequence in which it gives them, pass after pass.

    Occurrence ``j`` is row π(j mod size) with the permutation π of pass ``j div size``: every row
    comes once before any row comes again. Only name, size and seed decide it.

    Args:
        name: The source's name.
        size: Its rows, from 1 to 2**42.
        seed: From 0 to 2**64 - 1.

    Raises:
        RecipeError: A size, name or seed out of its range.

    >>> few = Permutation("coco_ift", 5, seed=17)
    >>> few.slice(0, 10).tolist()
    [3, 1, 0, 2, 4, 1, 0, 3, 2, 4]
    >>> Permutation("coco_ift", 10**9, seed=17).row(3_000_000_000)
    499229416
    """

    def __init__(self, name: str, size: int, *, seed: int) -> None:
        self.name = checked_name(name)
        self.seed = checked_seed(seed)
        if not 1 <= size <= MOST_ROWS:
            raise RecipeError(
                f"source {name!r} holds {size} rows; a plan takes sources of 1 to 2**42 rows",
                hint="leave it out of the mix, or loosen its filters" if size < 1 else "split it",
            )
        self.size = index(size)
        self._set_key(hash_key("rows", self.seed, name.encode()))

    def _set_key(self, key: int) -> None:
        self._key = key
        low = isqrt(self.size - 1) + 1
        self._radices = low, -(-self.size // low)
        # A pass's tables or order are kept, for a plan is read in sequence and crosses passes.
        self._tables = lru_cache(maxsize=2)(partial(_round_tables, self._radices, key))
        self._sorted = lru_cache(maxsize=2)(partial(_sorted_pass, self.size, key))

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.name, self.size, self.seed)

    def row(self, occurrence: int) -> int:
        """Give the row that one occurrence is."""
        return int(self.rows(np.array([occurrence], dtype=np.int64))[0])

    def rows(self, occurrences: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the rows of many occurrences: (n,) int64 to (n,) int64, any sequence.

        Raises:
            UsageError: A negative occurrence.
        """
        occurrences = np.asarray(occurrences, dtype=np.int64)
        if occurrences.size == 0:
            return occurrences.copy()
        if (least := occurrences.min()) < 0:
            raise UsageError(f"occurrence {least} is negative; occurrences count from 0")
        passes, places = np.divmod(occurrences, self.size)
        if passes[0] == passes[-1] and (passes == passes[0]).all():
            return self._pass_rows(places, int(passes[0]))
        rows = np.empty(len(occurrences), dtype=np.int64)
        by_pass = np.argsort(passes, kind="stable")
        numbers, starts = np.unique(passes[by_pass], return_index=True)
        step = 1 if self.size > MOST_SORTED else max(1, _SORTED_BLOCK // self.size)
        stops = [*starts[step::step].tolist(), len(by_pass)]
        for which, (start, stop) in enumerate(zip(starts[::step].tolist(), stops, strict=True)):
            members = by_pass[start:stop]
            some = numbers[which * step : (which + 1) * step]
            if len(some) == 1:
                rows[members] = self._pass_rows(places[members], int(some[0]))
            else:
                orders = _sorted_passes(self.size, self._key, some)
                rows[members] = orders[np.searchsorted(some, passes[members]), places[members]]
        return rows

    def slice(self, start: int, stop: int) -> NDArray[np.int64]:
        """Give the rows of occurrences ``start`` to ``stop`` (not included), in sequence.

        Raises:
            UsageError: ``start`` is negative or past ``stop``, or ``stop`` is past 2**63 - 1.
        """
        if not 0 <= start <= stop < 2**63:
            raise UsageError(f"no range of occurrences from {start} to {stop}")
        rows = np.empty(stop - start, dtype=np.int64)
        done = 0
        while done < len(rows):
            number, place = divmod(start + done, self.size)
            left = len(rows) - done
            if self.size > MOST_SORTED:
                count = min(left, self.size - place, _BLOCK)
                places = np.arange(place, place + count, dtype=np.int64)
                rows[done : done + count] = self._pass_rows(places, number)
            elif place + left <= self.size:
                count = left
                rows[done:] = self._sorted(number)[0][place : place + left]
            else:
                passes = -(-min(place + left, max(_SORTED_BLOCK, self.size)) // self.size)
                numbers = number + np.arange(passes, dtype=np.int64)
                some = _sorted_passes(self.size, self._key, numbers).ravel()[place : place + left]
                count = len(some)
                rows[done : done + count] = some
            done += count
        return rows

    def occurrence(self, row: int, pass_number: int) -> int:
        """Find which occurrence a row is in one pass: the inverse of :meth:`row`."""
        return int(self.occurrences(np.array([row], dtype=np.int64), pass_number)[0])

    def occurrences(self, rows: NDArray[np.int64], pass_number: int) -> NDArray[np.int64]:
        """Find which occurrences rows are in one pass: (n,) int64 to (n,) int64.

        Raises:
            UsageError: A row that the source does not have, or a pass whose occurrences do not
                fit 63 bits.
        """
        if not 0 <= pass_number < 2**63 // self.size:
            raise UsageError(f"no pass {pass_number} over the {self.size} rows of {self.name!r}")
        return self._pass_places(rows, pass_number) + pass_number * self.size

    def _pass_rows(self, places: NDArray[np.int64], number: int) -> NDArray[np.int64]:
        """Give the rows at places of one pass."""
        if self.size <= MOST_SORTED:
            return self._sorted(number)[0][places]
        return _walk(places, self.size, self._radices, self._tables(number), backward=False)

    def _pass_places(self, rows: NDArray[np.int64], number: int) -> NDArray[np.int64]:
        """Give the places of rows in one pass."""
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < self.size:
            raise UsageError(f"source {self.name!r} has rows 0 to {self.size - 1}")
        if self.size <= MOST_SORTED:
            return self._sorted(number)[1][rows]
        return _walk(rows, self.size, self._radices, self._tables(number), backward=True)


def deal(
    order: Order,
    permutations: Sequence[Permutation],
    start: int,
    stop: int,
    *,
    starts: Sequence[int] | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Give (source, row) at positions ``start`` to ``stop`` (not included) of an order.

    Args:
        order: The order of the sources.
        permutations: The rows of every source, by source number.
        start: The first position.
        stop: The position after the last.
        starts: What every source has given before position 0, for a recipe that goes on from
            another; 0 for each if not given.

    Returns:
        Source numbers (int32) and row numbers (int64), both of ``stop - start``.

    >>> order = Order(["a", "b"], [1, 1], seed=0)
    >>> rows = [Permutation("a", 3, seed=0), Permutation("b", 10**6, seed=0)]
    >>> sources, numbers = deal(order, rows, 0, 6)
    >>> sorted(numbers[sources == 0].tolist())
    [0, 1, 2]
    """
    assert len(permutations) == len(order.names), "one permutation a source"
    sources = np.empty(stop - start, dtype=np.int32)
    rows = np.empty(stop - start, dtype=np.int64)
    for source, first, places in order.runs(start, stop):
        if starts is not None:
            first += starts[source]
        sources[places] = source
        rows[places] = permutations[source].slice(first, first + len(places))
    return sources, rows


def overlap(permutation: Permutation, first: range, second: range) -> int:
    """Count the rows that two draws of a source share, exactly.

    A draw is a range of occurrences. It is at most two pieces of passes, or holds a whole pass and
    so every row. Within a pass, rows are shared where the pieces meet; between passes, a row of
    the smaller draw is looked up in the larger one. Time grows with the smaller draw, memory not.

    >>> rows = Permutation("coco_ift", 1000, seed=17)
    >>> overlap(rows, range(0, 600), range(400, 1000))
    200
    >>> overlap(rows, range(0, 600), range(1000, 2000))
    600
    """
    draws = [_pieces(permutation.size, draw) for draw in (first, second)]
    few, many = sorted(draws, key=lambda pieces: sum(high - low for _, low, high in pieces))
    if few and many[0][2] - many[0][1] == permutation.size:
        many = [(few[0][0], 0, permutation.size)]  # all rows are all rows, whichever the pass
    shared = 0
    for which, (number, low, high) in enumerate(few):
        if which == 0 and len(many) == 1 and many[0][0] == number:
            shared += max(0, min(high, many[0][2]) - max(low, many[0][1]))
            continue
        for start in range(low, high, _BLOCK):
            places = np.arange(start, min(start + _BLOCK, high), dtype=np.int64)
            rows = permutation._pass_rows(places, number)
            found = np.zeros(len(rows), dtype=np.bool_)
            for piece in many:
                found |= _holds(permutation, piece, rows, places, number)
            for piece in few[:which]:
                found &= ~_holds(permutation, piece, rows, places, number)
            shared += int(np.count_nonzero(found))
    return shared


def _pieces(size: int, draw: range) -> list[_Piece]:
    """Cut a draw at the ends of passes; one whole pass says as much as the whole draw."""
    if draw.step != 1 or draw.start < 0 or draw.stop > 2**63 - 1:
        raise UsageError(f"{draw} is not a range of occurrences")
    pieces: list[_Piece] = []
    start = draw.start
    while start < draw.stop:
        number, low = divmod(start, size)
        high = min(size, low + draw.stop - start)
        if high - low == size:
            return [(number, 0, size)]
        pieces.append((number, low, high))
        start += high - low
    return pieces


def _holds(
    permutation: Permutation,
    piece: _Piece,
    rows: NDArray[np.int64],
    places: NDArray[np.int64],
    number: int,
) -> NDArray[np.bool_]:
    """Tell which rows (at ``places`` of pass ``number``) a piece holds."""
    piece_number, low, high = piece
    if high - low == permutation.size:
        return np.ones(len(rows), dtype=np.bool_)
    if piece_number != number:
        places = permutation._pass_places(rows, piece_number)
    return (places >= low) & (places < high)


def _walk(
    numbers: NDArray[np.int64],
    size: int,
    radices: tuple[int, int],
    tables: NDArray[np.uint32],
    *,
    backward: bool,
) -> NDArray[np.int64]:
    """Send numbers through the network, again and again until they come out below ``size``."""
    found = np.empty_like(numbers)
    for start in range(0, len(numbers), _BLOCK):
        block = slice(start, start + _BLOCK)
        found[block] = _pass_rounds(numbers[block], radices, tables, backward=backward)
    while len(outside := np.flatnonzero(found >= size)):
        found[outside] = _pass_rounds(found[outside], radices, tables, backward=backward)
    return found


def _pass_rounds(
    numbers: NDArray[np.int64],
    radices: tuple[int, int],
    tables: NDArray[np.uint32],
    *,
    backward: bool,
) -> NDArray[np.int64] | NDArray[np.uint32]:
    """Send numbers through the network once.

    A number is high · low_radix + low. Even rounds add a table's word for the high digit to the
    low one, odd rounds the other way. Unsigned minimum does "mod radix" for sums below two radices.
    """
    low_radix, high_radix = radices
    if low_radix * high_radix <= 2**32:
        low = numbers.astype(np.uint32)
        high = low // np.uint32(low_radix)
        word = high * np.uint32(low_radix)
        low -= word
    else:
        wide = numbers // low_radix
        high = wide.astype(np.uint32)
        wide *= low_radix
        low = np.subtract(numbers, wide, out=wide).astype(np.uint32)
        word = np.empty_like(low)
    for number in range(_ROUNDS)[:: -1 if backward else 1]:
        if number % 2 == 0:
            given, taken, radix = high, low, np.uint32(low_radix)
        else:
            given, taken, radix = low, high, np.uint32(high_radix)
        np.take(tables[number], given, out=word, mode="clip")  # "raise" would copy through a buffer
        if backward:
            taken -= word
            np.add(taken, radix, out=word)
        else:
            taken += word
            np.subtract(taken, radix, out=word)
        np.minimum(taken, word, out=taken)
    if low_radix * high_radix <= 2**32:
        high *= np.uint32(low_radix)
        high += low
        return high
    found = high.astype(np.int64)
    found *= low_radix
    found += low
    return found


def _round_tables(radices: tuple[int, int], key: int, pass_number: int) -> NDArray[np.uint32]:
    """Make the tables of one pass: (rounds, radix rounded up to 4) uint32, word · radix >> 32."""
    fours = -(-max(radices) // 4)
    words = philox4x32(
        (
            np.arange(fours, dtype=np.uint64),
            np.arange(_ROUNDS, dtype=np.uint64)[:, None],
            np.array(pass_number & 0xFFFFFFFF, dtype=np.uint64),
            np.array(pass_number >> 32, dtype=np.uint64),
        ),
        key,
    )
    modulus = np.array(radices * (_ROUNDS // 2), dtype=np.uint64)[:, None]
    tables = np.empty((_ROUNDS, fours, 4), dtype=np.uint32)
    for lane, word in enumerate(words):
        word *= modulus
        word >>= _HALF
        tables[:, :, lane] = word
    return tables.reshape(_ROUNDS, fours * 4)


def _sorted_pass(
    size: int, key: int, pass_number: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Make the order of one pass over few rows, and its inverse."""
    order = _sorted_passes(size, key, np.array([pass_number], dtype=np.int64))[0]
    inverse = np.empty_like(order)
    inverse[order] = np.arange(size)
    return order, inverse


def _sorted_passes(size: int, key: int, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Make the orders of many passes over few rows: (passes, size)."""
    passes = numbers.astype(np.uint64)[:, None]
    upper, lower, _, _ = philox4x32(
        (
            np.arange(size, dtype=np.uint64),
            np.array(0, dtype=np.uint64),
            passes & _LOW,
            passes >> _HALF | _SORTED_MARK,
        ),
        key,
    )
    upper <<= _HALF
    upper |= lower
    return np.argsort(upper, axis=1, kind="stable").astype(np.int64, copy=False)


def philox4x32(
    counters: tuple[_Words, _Words, _Words, _Words], key: int
) -> tuple[_Words, _Words, _Words, _Words]:
    """Give the four words of Philox4x32-10 at each counter; the counters' words broadcast.

    >>> zero = np.zeros(1, dtype=np.uint64)
    >>> [f"{int(word[0]):08x}" for word in philox4x32((zero, zero, zero, zero), 0)]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    first, second, third, fourth = counters
    for number in range(10):
        low_key = np.uint64((key + number * 0x9E3779B9) & 0xFFFFFFFF)
        high_key = np.uint64(((key >> 32) + number * 0xBB67AE85) & 0xFFFFFFFF)
        one = first * np.uint64(0xD2511F53)
        two = third * np.uint64(0xCD9E8D57)
        first = (two >> _HALF) ^ (second ^ low_key)
        third = (one >> _HALF) ^ (fourth ^ high_key)
        second = two & _LOW
        fourth = one & _LOW
    return first, second, third, fourth


def _rebuild(name: str, size: int, seed: int) -> Permutation:
    return Permutation(name, size, seed=seed)
