"""Departures from the weights over every prefix of a million rows, beside independent draws."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from vision_ift._plan.order import Order

ROWS = 10**6
CHUNK = 2**16
BOUND = 3.36


def worst(chunks: Iterator[NDArray[np.int32]], weights: list[int]) -> float:
    """The largest |count - n * share| of any source over all prefixes, counted in integers."""
    total = sum(weights)
    before = np.zeros(len(weights), np.int64)
    start = 0
    most = 0
    for sources in chunks:
        n = np.arange(start + 1, start + len(sources) + 1)
        for source, weight in enumerate(weights):
            counts = before[source] + np.cumsum(sources == source)
            most = max(most, int(np.abs(counts * total - n * weight).max()))
            before[source] = counts[-1]
        start += len(sources)
    return most / total


def weights_of(sources: int) -> list[int]:
    """Zipf's: 1, 1/2, 1/3 … in whole numbers."""
    return [10**6 // (k + 1) for k in range(sources)]


def ours(weights: list[int]) -> Iterator[NDArray[np.int32]]:
    order = Order([f"source_{k}" for k in range(len(weights))], weights, seed=17)
    for start in range(0, ROWS, CHUNK):
        yield order.slice(start, min(start + CHUNK, ROWS))[0]


def drawn(weights: list[int]) -> Iterator[NDArray[np.int32]]:
    """One independent draw a row, as loaders do it."""
    chance = np.array(weights) / sum(weights)
    edges = np.cumsum(chance)
    generator = np.random.default_rng(17)
    for start in range(0, ROWS, CHUNK):
        picks = generator.random(min(CHUNK, ROWS - start))
        found = np.searchsorted(edges, picks, side="right")
        yield np.minimum(found, len(weights) - 1).astype(np.int32)


@pytest.mark.parametrize("sources", [4, 20, 300])
def test_no_prefix_strays_further_than_the_proof_allows(sources: int) -> None:
    weights = weights_of(sources)
    order = Order([f"source_{k}" for k in range(sources)], weights, seed=17)
    found = worst(ours(weights), weights)
    certified = max(float(max(pair)) for pair in order.certificate())
    assert found <= certified < BOUND


@pytest.mark.parametrize("sources", [4, 20])
def test_the_control_strays_much_further(sources: int) -> None:
    """Independent draws go astray by about the square root of the rows."""
    assert worst(drawn(weights_of(sources)), weights_of(sources)) > 100 * BOUND
