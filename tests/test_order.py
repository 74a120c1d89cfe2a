from __future__ import annotations

import pickle
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_ift._errors import RecipeError, UsageError
from vision_ift._plan import order as _order
from vision_ift._plan.order import (
    MOST_WEIGHT,
    Order,
    _scale,
    _Split,
    splitmix64,
    splitmix64_many,
    splitmix64_range,
)

FOUR = ["coco_ift", "vision_flan", "mminstruct", "mm_instruct"]
FAR = [0, 10**12, 10**18]
NEVER_OFF = (Fraction(0), Fraction(0))

weight_lists = st.one_of(
    st.lists(st.integers(0, 12), min_size=1, max_size=8),
    st.lists(st.just(0) | st.integers(2**10, 2**38), min_size=1, max_size=8),
    st.lists(st.integers(0, 60).map(lambda power: 3 * power**5), min_size=1, max_size=30),
).filter(any)
seeds = st.integers(0, 2**64 - 1)


@st.composite
def orders(draw: st.DrawFn) -> Order:
    weights = draw(weight_lists)
    return Order([f"source {k}" for k in range(len(weights))], weights, seed=draw(seeds))


def pairs(order: Order, start: int, stop: int) -> list[tuple[int, int]]:
    sources, occurrences = order.slice(start, stop)
    return list(zip(sources.tolist(), occurrences.tolist(), strict=True))


def test_splitmix64_is_the_published_one() -> None:
    golden = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [splitmix64(1234567, n) for n in range(3)] == golden
    assert splitmix64_range(1234567, 0, 3).tolist() == golden


@given(seeds, st.integers(0, 2**63 - 1))
def test_splitmix64_vectors_equal_the_scalar(seed: int, first: int) -> None:
    words = [splitmix64(seed, first + k) for k in range(5)]
    numbers = np.arange(first, first + 5, dtype=np.uint64)
    assert splitmix64_range(seed, first, 5).tolist() == words
    assert splitmix64_many(seed, numbers).tolist() == words


@given(st.integers(0, 2**63 - 1), st.integers(1, MOST_WEIGHT), st.integers(1, MOST_WEIGHT))
def test_scale_is_exact(number: int, times: int, over: int) -> None:
    if number * times // over >= 2**64:
        number = 2**62 * over // times % 2**63
    quotient, rest = _scale(np.array([number], dtype=np.uint64), times, over)
    assert (int(quotient[0]), int(rest[0])) == divmod(number * times, over)


def test_golden_split() -> None:
    split = _Split(0, 1, (3, 7), 42)
    slots = [2, 4, 7, 11, 14, 19, 20, 26, 28, 32, 34, 38]
    assert [split.slot(j) for j in range(12)] == slots
    assert split.slots(0, 40)[0].tolist() == slots
    far = 10**12
    letters = "".join(
        "S" if split.count(n + 1) > split.count(n) else "L" for n in range(far, far + 10)
    )
    assert letters == "LLSLSLLLLS"


def test_golden_order() -> None:
    # Ours, from the first version on: names, tree and hashes together. Never to change.
    order = Order(FOUR, [4, 3, 2, 1], seed=17)
    sources, occurrences = order.slice(0, 20)
    assert sources.tolist() == [1, 0, 2, 2, 0, 1, 0, 3, 0, 1, 2, 1, 0, 2, 0, 0, 1, 1, 0, 3]
    assert occurrences.tolist() == [0, 0, 0, 1, 1, 1, 2, 0, 3, 2, 2, 3, 4, 3, 5, 6, 4, 5, 7, 1]
    assert order.at(10**18) == (3, 10**17)
    assert sources.dtype == np.int32
    assert occurrences.dtype == np.int64


@given(orders())
def test_totals_are_exact(order: Order) -> None:
    assert order.counts(0) == [0] * len(order.names)
    assert order.counts(order.total) == list(order.weights)


def test_finite_plans() -> None:
    small = Order(["a", "b", "c"], [5, 3, 2], seed=3)
    assert np.bincount(small.slice(0, 10)[0]).tolist() == [5, 3, 2]
    counts = [1_999_999_999_999, 1_500_000_000_000, 500_000_000_001]
    large = Order(["a", "b", "c"], counts, seed=3)
    assert large.counts(4 * 10**12) == counts
    last = large.slice(4 * 10**12 - 1000, 4 * 10**12)[1]
    assert last.max() == max(counts) - 1


def worst_errors(order: Order, n: int) -> list[Fraction]:
    shares = [Fraction(weight, order.total) for weight in order.weights]
    return [count - n * share for count, share in zip(order.counts(n), shares, strict=True)]


@given(orders(), st.lists(st.integers(0, 2**80), max_size=20))
def test_every_prefix_is_within_the_certificate(order: Order, further: list[int]) -> None:
    bounds = order.certificate()
    for n in [*range(60), *further, order.total - 1, order.total + 1]:
        counts = order.counts(n)
        assert sum(counts) == n
        for error, (below, above) in zip(worst_errors(order, n), bounds, strict=True):
            assert -below <= error <= above


@pytest.mark.parametrize("weights", [[1, 1, 1, 1], [10, 5, 3, 2], [1, 50_000, 30_000, 20_000]])
def test_long_prefixes_are_within_the_certificate(weights: list[int]) -> None:
    order = Order(FOUR, weights, seed=5)
    rows = 200_000
    sources, _ = order.slice(0, rows)
    # count · total - n · weight, so that all is in integers
    ns = np.arange(rows + 1)
    for source, (below, above) in enumerate(order.certificate()):
        counts = np.concatenate([[0], np.cumsum(sources == source)])
        errors = counts * order.total - ns * weights[source]
        assert -below * order.total <= int(errors.min())
        assert int(errors.max()) <= above * order.total


def test_independent_draws_break_the_certificate() -> None:
    drawn = np.random.default_rng(0).choice(4, size=200_000, p=[0.25] * 4)
    counts = np.cumsum(drawn == 0)
    assert np.abs(4 * counts - np.arange(1, 200_001)).max() > 4 * 50


def test_certificates_stay_below_the_proved_constant() -> None:
    rng = np.random.default_rng(1)
    for size in (2, 3, 7, 40, 150):
        weights = (rng.pareto(0.7, size) * 1000).astype(int) + 1
        order = Order([f"s{k}" for k in range(size)], weights.tolist(), seed=0)
        assert max(map(max, order.certificate())) < Fraction(336, 100)


def test_fibonacci_weights_come_close_to_the_constant() -> None:
    # Each sibling is barely heavier than the node one below: the slowest growth there is.
    weights, below, node = [2, 10**6], 10**6 - 1, 10**6 + 2
    while len(weights) < 22:
        weights.append(below + 1)
        below, node = node, node + weights[-1]
    certificate = Order([f"s{k}" for k in range(22)], weights, seed=0).certificate()
    assert Fraction(33597, 10**4) < max(map(max, certificate)) < Fraction(33598, 10**4)


def test_four_equal_sources_have_three_quarters() -> None:
    # Each |e| < 1 taken as 1 would say 3/2: the ends are 1 - 1/d and 1 - p.
    quarters = Fraction(3, 4)
    assert Order(FOUR, [9, 9, 9, 9], seed=1).certificate() == [(quarters, quarters)] * 4


@given(orders(), st.sampled_from(FAR), st.integers(0, 50), st.integers(0, 50))
def test_slice_equals_at(order: Order, start: int, before: int, after: int) -> None:
    cut, stop = start + before, start + before + after
    singles = [order.at(n) for n in range(start, stop)]
    assert pairs(order, start, stop) == singles
    assert pairs(order, start, cut) + pairs(order, cut, stop) == singles


@pytest.mark.parametrize("start", FAR)
def test_chunk_size_changes_nothing(monkeypatch: pytest.MonkeyPatch, start: int) -> None:
    order = Order(FOUR, [1000, 501, 299, 1], seed=8)
    whole = pairs(order, start, start + 5000)
    monkeypatch.setattr(_order, "LEAST_CHUNK", 77)
    monkeypatch.setattr(_order, "MOST_CHUNK", 77)
    assert pairs(order, start, start + 5000) == whole


@given(orders(), st.integers(0, 2**90))
def test_position_is_the_inverse_of_at(order: Order, n: int) -> None:
    for place in (n, n % 1000):
        assert order.position(*order.at(place)) == place


@given(orders(), st.sampled_from(FAR), st.randoms(use_true_random=False))
def test_positions_equal_position(order: Order, start: int, random: Any) -> None:
    sources, occurrences = order.slice(start, start + 40)
    source = random.choice(sources.tolist())
    some = occurrences[sources == source].tolist() + [random.randrange(1000) for _ in range(5)]
    random.shuffle(some)
    found = order.positions(source, np.array(some, dtype=np.int64))
    assert found.tolist() == [order.position(source, j) for j in some]


@given(orders(), st.integers(2, 7), st.sampled_from(FAR))
def test_a_common_factor_changes_nothing(order: Order, factor: int, start: int) -> None:
    scaled = Order(order.names, [factor * w for w in order.weights], seed=order.seed)
    assert pairs(scaled, start, start + 50) == pairs(order, start, start + 50)


@given(orders(), st.randoms(use_true_random=False), st.sampled_from(FAR))
def test_the_recipe_may_list_its_sources_in_any_way(order: Order, random: Any, start: int) -> None:
    listed = list(zip(order.names, order.weights, strict=True))
    random.shuffle(listed)
    other = Order([name for name, _ in listed], [weight for _, weight in listed], seed=order.seed)
    for n in range(start, start + 30):
        (source, occurrence), (again, same) = order.at(n), other.at(n)
        assert (order.names[source], occurrence) == (other.names[again], same)


def test_counts_are_a_prefix_of_larger_counts() -> None:
    one, two = Order(FOUR, [7, 5, 2, 9], seed=4), Order(FOUR, [14, 10, 4, 18], seed=4)
    assert np.array_equal(one.slice(0, 23)[0], two.slice(0, 46)[0][:23])


def test_zero_weight_never_appears() -> None:
    order = Order(["a", "b", "c"], [2, 0, 3], seed=0)
    assert set(order.slice(0, 100)[0].tolist()) == {0, 2}
    assert order.certificate()[1] == NEVER_OFF
    without = Order(["a", "c"], [2, 3], seed=0)
    assert np.array_equal(order.slice(0, 100)[1], without.slice(0, 100)[1])
    with pytest.raises(UsageError, match="'b' has weight 0"):
        order.position(1, 0)


def test_one_source_is_its_own_order() -> None:
    order = Order(["a"], [3], seed=0)
    assert order.slice(5, 8)[1].tolist() == [5, 6, 7]
    assert (order.at(10**20), order.position(0, 10**20)) == ((0, 10**20), 10**20)
    assert order.certificate() == [NEVER_OFF]


def test_seed_and_names_decide_the_order() -> None:
    def first(names: list[str], seed: int) -> list[int]:
        return [source for source, _ in pairs(Order(names, [4, 3, 2, 1], seed=seed), 0, 200)]

    assert first(FOUR, 1) == first(FOUR, 1)
    assert first(FOUR, 1) != first(FOUR, 2)
    assert first(FOUR, 1) != first([*FOUR[:3], "other"], 1)


def test_neighbours_cannot_be_foretold() -> None:
    # Systematic orders repeat: five sources back decide the next one. Here they do not.
    sources = Order(FOUR, [1, 1, 1, 1], seed=2).slice(0, 40_000)[0].tolist()
    after: dict[tuple[int, ...], Counter[int]] = {}
    for k in range(5, len(sources)):
        after.setdefault(tuple(sources[k - 5 : k]), Counter())[sources[k]] += 1
    sure = sum(max(nexts.values()) for nexts in after.values())
    assert sure / len(sources) < 0.75


def test_floats_would_be_wrong() -> None:
    # The exact share of 0.29 in rows near 9·10**11, where floor(n · 0.29) is off.
    start = 9 * 10**11
    wrong = sum(int(n * 0.29) != n * 29 // 100 for n in range(start, start + 10_000))
    assert wrong > 0
    order = Order(["a", "b"], [29, 71], seed=0)
    below, above = order.certificate()[0]
    for n in range(start, start + 300):
        assert -below <= order.counts(n)[0] - Fraction(29 * n, 100) <= above


def test_strata_at_the_limit() -> None:
    longest = 2**32 - 1
    order = Order(["rare", "common"], [1, longest - 1], seed=6)
    for j in (0, 1, 12345):
        place = order.position(0, j)
        assert longest * j <= place < longest * (j + 1)
        assert order.slice(place - 2, place + 3)[0].tolist() == [1, 1, 0, 1, 1]
        assert order.positions(0, np.array([j])).tolist() == [place]


def test_longer_strata_would_overflow_and_are_refused() -> None:
    hashed = np.array([2**32 - 1], dtype=np.uint64)
    length = 2**36
    assert int((hashed * np.uint64(length))[0]) != (2**32 - 1) * length
    with pytest.raises(RecipeError, match=r"'rare' is too rare.*larger weight"):
        Order(["common", "rare"], [2**32 - 1, 1], seed=0)
    names = [f"rare_{k}" for k in range(5)]
    with pytest.raises(RecipeError, match=r"'rare_0', 'rare_1', 'rare_2' and 2 more is too rare"):
        Order([*names, "common"], [1, 1, 1, 1, 1, 2**41], seed=0)


@pytest.mark.parametrize(
    ("names", "weights", "seed", "message"),
    [
        (["a"], [1, 2], 0, "1 sources, but 2 weights"),
        (["a", "a"], [1, 2], 0, "'a' is named twice"),
        (["a", ""], [1, 2], 0, "empty or not valid Unicode"),
        (["a", "\ud800"], [1, 2], 0, "empty or not valid Unicode"),
        (["a", "b"], [1, -2], 0, "'b': weight -2"),
        (["a", "b"], [1, 0.5], 0, "'b': weight 0.5"),
        (["a", "b"], [1, True], 0, "'b': weight True"),
        (["a", "b"], [0, 0], 0, "no source has a positive weight"),
        ([], [], 0, "no source has a positive weight"),
        (["a", "b"], [2**42, 1], 0, r"more than 2\*\*42"),
        (["a"], [1], -1, "seed -1"),
        (["a"], [1], 2**64, "seed 18446744073709551616"),
    ],
)
def test_what_cannot_be_planned(
    names: list[str], weights: list[Any], seed: int, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        Order(names, weights, seed=seed)


def test_what_cannot_be_asked() -> None:
    order = Order(["a", "b"], [1, 2], seed=0)
    with pytest.raises(UsageError, match="-1 is negative"):
        order.at(-1)
    with pytest.raises(UsageError, match="no range of positions from 5 to 4"):
        order.slice(5, 4)
    with pytest.raises(UsageError, match="no range"):
        order.slice(0, 2**63)
    with pytest.raises(UsageError, match="no source 2"):
        order.position(2, 0)
    with pytest.raises(UsageError, match="past position"):
        order.positions(0, np.array([2**62]))
    assert order.slice(5, 5)[0].size == 0
    assert order.positions(0, np.array([], dtype=np.int64)).size == 0


def test_an_order_travels_between_processes() -> None:
    order = Order(FOUR, [4, 3, 2, 1], seed=17)
    again = pickle.loads(pickle.dumps(order))
    assert np.array_equal(order.slice(10**9, 10**9 + 100)[0], again.slice(10**9, 10**9 + 100)[0])
