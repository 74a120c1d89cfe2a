"""All pairs within a distance: exactly those that comparing each with each finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vision_ift._errors import UsageError
from vision_ift._likeness import near as _near
from vision_ift._likeness.near import within

Found = set[tuple[int, int, int]]


def every(queries: NDArray[np.uint64], among: NDArray[np.uint64], distance: int) -> Found:
    """The control: quadratic."""
    apart = np.bitwise_count(queries[:, None] ^ among[None, :])
    places = zip(*np.nonzero(apart <= distance), strict=True)
    return {(int(a), int(b), int(apart[a, b])) for a, b in places}


def found(queries: NDArray[np.uint64], among: NDArray[np.uint64], distance: int) -> Found:
    pairs: list[tuple[int, int, int]] = []
    for some in within(queries, among, distance):
        pairs += zip(some.query.tolist(), some.found.tolist(), some.distance.tolist(), strict=True)
    assert len(pairs) == len(set(pairs))
    return set(pairs)


@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(0, 19), st.sets(st.integers(0, 63), max_size=18)), max_size=30),
    st.integers(0, 16),
)
def test_it_finds_what_a_quadratic_search_finds(
    base: list[int], changes: list[tuple[int, set[int]]], distance: int
) -> None:
    among = np.array(base, np.uint64)
    queries = np.array(
        [base[place % len(base)] ^ sum(1 << bit for bit in bits) for place, bits in changes],
        np.uint64,
    )
    assert found(queries, among, distance) == every(queries, among, distance)


@pytest.mark.parametrize("distance", range(17))
def test_the_bands_leave_no_gap(distance: int) -> None:
    for size in (10, 10**4, 10**7):
        bands = _near._bands(size, distance)
        assert sum(radius + 1 for _, _, radius in bands) == distance + 1
        covered = [bit for low, width, _ in bands for bit in range(low, low + width)]
        assert len(covered) == len(set(covered))
        assert max(covered) < 64


def test_many_queries_and_crowded_buckets_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_near, "_QUERIES", 7)
    monkeypatch.setattr(_near, "_CANDIDATES", 5)
    hashes = np.arange(60, dtype=np.uint64)
    assert found(hashes, hashes, 3) == every(hashes, hashes, 3)


def test_nothing_is_near_nothing_and_far_is_refused() -> None:
    none = np.empty(0, np.uint64)
    assert found(none, np.ones(1, np.uint64), 4) == set()
    assert found(np.ones(1, np.uint64), none, 4) == set()
    with pytest.raises(UsageError, match="0 to 16 bits"):
        list(within(none, none, 17))
