"""Mixing datasets of `datasets` by the plan's arithmetic."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

import pytest
from datasets import Dataset, IterableDataset
from datasets import interleave_datasets as drawn

from vision_ift._errors import RecipeError, UsageError
from vision_ift._plan.interleave import interleave_datasets


def numbers(name: str, size: int) -> Dataset:
    return Dataset.from_dict({"name": [name] * size, "n": list(range(size))})


SIZES = {"a": 40, "b": 300, "c": 1000}
SETS = {name: numbers(name, size) for name, size in SIZES.items()}
SHARES = {"a": 1, "b": 3, "c": 6}


def furthest(names: list[str]) -> Fraction:
    """The furthest that any prefix strays from the shares, in rows."""
    counts: Counter[str] = Counter()
    most = Fraction(0)
    for length, name in enumerate(names, 1):
        counts[name] += 1
        most = max(most, *(abs(counts[one] - Fraction(length * SHARES[one], 10)) for one in SHARES))
    return most


def test_every_prefix_keeps_the_shares_where_random_draws_do_not() -> None:
    mixed = interleave_datasets(SETS, SHARES, seed=17, total=3000)
    assert furthest(mixed["name"]) < Fraction(336, 100)
    random = drawn(
        list(SETS.values()),
        probabilities=[0.1, 0.3, 0.6],
        seed=17,
        stopping_strategy="all_exhausted",
    )
    assert furthest(random["name"][:3000]) > Fraction(336, 100)


def test_a_row_comes_again_only_after_all_others() -> None:
    mixed = interleave_datasets(SETS, SHARES, seed=17, total=3000)
    seen: dict[str, list[int]] = {name: [] for name in SETS}
    for name, n in zip(mixed["name"], mixed["n"], strict=True):
        seen[name].append(n)
    for name, rows in seen.items():
        for start in range(0, len(rows), SIZES[name]):
            whole = rows[start : start + SIZES[name]]
            assert len(set(whole)) == len(whole)


def test_without_weights_one_pass_gives_every_row_once() -> None:
    mixed = interleave_datasets(SETS)
    found = Counter(zip(mixed["name"], mixed["n"], strict=True))
    assert len(found) == sum(SIZES.values())
    assert set(found.values()) == {1}


def test_a_smaller_total_is_a_prefix_and_names_key_the_rows() -> None:
    long = interleave_datasets(SETS, SHARES, total=500)
    short = interleave_datasets(SETS, SHARES, total=200)
    assert long[:200] == short[:]
    more = interleave_datasets({"z": numbers("z", 10), **SETS}, {"z": 5, **SHARES}, total=1000)
    for name in SETS:
        mine = [n for one, n in zip(long["name"], long["n"], strict=True) if one == name]
        with_z = [n for one, n in zip(more["name"], more["n"], strict=True) if one == name]
        assert mine[: len(with_z)] == with_z[: len(mine)]


@pytest.mark.parametrize("total", [None, 900])
def test_streams_keep_their_own_order(total: int | None) -> None:
    streams = {name: one.to_iterable_dataset() for name, one in SETS.items()}
    mixed = interleave_datasets(streams, {"a": "0.1", "b": 0.3, "c": "3/5"}, seed=17, total=total)
    assert isinstance(mixed, IterableDataset)
    rows: list[dict[str, Any]] = list(mixed)
    assert furthest([row["name"] for row in rows]) < Fraction(336, 100)
    for name, size in SIZES.items():
        mine = [row["n"] for row in rows if row["name"] == name]
        assert mine == [n % size for n in range(len(mine))]
    if total is None:  # `a` is the first that ends
        assert sum(row["name"] == "a" for row in rows) == SIZES["a"]
    else:
        assert len(rows) == total


def test_a_mix_of_streams_resumes_where_it_stood() -> None:
    streams = {name: one.to_iterable_dataset() for name, one in SETS.items()}
    mixed = interleave_datasets(streams, SHARES, total=100)
    whole = list(mixed)
    running = iter(mixed)
    for _ in range(37):
        next(running)
    state = mixed.state_dict()
    mixed.load_state_dict(state)
    assert list(mixed) == whole[37:]


@pytest.mark.parametrize(
    ("datasets", "weights", "total", "words"),
    [
        ({}, None, None, "no dataset"),
        ({"a": [1]}, None, None, "a is a list"),
        ({"a": SETS["a"], "b": SETS["b"].to_iterable_dataset()}, None, None, "some are map-style"),
        (SETS, {"a": 1, "b": 1}, None, "differ in c"),
        (SETS, {**SHARES, "d": 1}, None, "differ in d"),
        (SETS, {**SHARES, "a": -1}, None, "a has the weight -1"),
        (SETS, {**SHARES, "a": "many"}, None, "which is no number"),
        (SETS, {**SHARES, "a": float("nan")}, None, "which is no number"),
        (SETS, SHARES, 0, "total is 0"),
        ({"a": SETS["a"], "e": numbers("e", 0)}, {"a": 1, "e": 1}, 5, "e has a weight and no rows"),
    ],
)
def test_what_cannot_be_mixed_is_named(
    datasets: Any, weights: Any, total: int | None, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        interleave_datasets(datasets, weights, total=total)


def test_no_positive_weight_is_an_error() -> None:
    with pytest.raises(RecipeError, match="nothing to mix"):
        interleave_datasets({"a": SETS["a"]}, {"a": 0})
