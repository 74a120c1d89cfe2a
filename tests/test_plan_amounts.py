"""Every kind of amount: exact counts, prefixes, passes, and orders that others do not move."""

from __future__ import annotations

from fractions import Fraction
from math import isqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rows import MakeTable, table_of
from vision_ift._errors import RecipeError
from vision_ift._plan.amounts import amounts, root, size_weights
from vision_ift._plan.plan import Plan, arrange
from vision_ift._recipe.recipe import Entry, Kind, Recipe, Stage
from vision_ift._recipe.select import Selection
from vision_ift._table import Table

PSI = Fraction(336, 100)
NAMES = ("a", "b", "c", "d", "e")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """One table; every part of the tests takes its first rows."""
    return table_of(tmp_path_factory.mktemp("amounts") / "table", 60, source="messages")


def recipe(kind: Kind, parts: dict[str, Fraction], *, seed: int = 0, **stage: object) -> Recipe:
    entries = tuple(
        Entry(name=name, source="messages", kind=kind, amount=amount)
        for name, amount in parts.items()
    )
    return Recipe(name="r", seed=seed, stages=(Stage(name="s", mix=entries, **stage),))  # type: ignore[arg-type]  # on purpose


def planned(asked: Recipe, table: Table, sizes: dict[str, int], **how: object) -> Plan:
    found = {
        entry.name: Selection(table, np.arange(sizes[entry.name], dtype=np.int64))
        for entry in asked.mix
    }
    return arrange(asked, found, root=Path(), **how)  # type: ignore[arg-type]  # on purpose


parts_of = st.lists(
    st.tuples(st.integers(1, 60), st.fractions(Fraction(1, 4), 5, max_denominator=12)),
    min_size=1,
    max_size=5,
)


def _named(drawn: list[tuple[int, Fraction]]) -> tuple[dict[str, int], dict[str, Fraction]]:
    return (
        {name: size for name, (size, _) in zip(NAMES, drawn, strict=False)},
        {name: amount for name, (_, amount) in zip(NAMES, drawn, strict=False)},
    )


@given(
    kind=st.sampled_from(("weight", "repeat", "count", "size")),
    drawn=parts_of,
    seed=st.integers(0, 2**63 - 1),
    rows=st.integers(1, 200),
)
def test_every_kind_is_exact_even_and_gives_a_row_twice_only_after_all(
    table: Table, kind: Kind, drawn: list[tuple[int, Fraction]], seed: int, rows: int
) -> None:
    sizes, wanted = _named(drawn)
    if kind == "count":
        wanted = {name: Fraction(int(amount * 12)) for name, amount in wanted.items()}
    asked = recipe(kind, wanted, seed=seed)
    share = kind in ("weight", "size")
    plan = planned(asked, table, sizes, total=rows if share else None)
    counts = dict(zip(plan.names, plan.counts(), strict=True))
    if kind == "count":
        assert counts == {name: int(amount) for name, amount in wanted.items()}
    elif kind == "repeat":
        assert counts == {n: int(sizes[n] * wanted[n] + Fraction(1, 2)) for n in wanted}
    else:
        assert len(plan) == rows
    sources, numbers = plan.slice(0, len(plan))
    whole = sum(plan.asked, Fraction(0))
    assert whole == len(plan)
    if not whole:  # so small a part of so few rows
        return
    for number, name in enumerate(plan.names):
        given_rows = numbers[sources == number]
        for start in range(0, len(given_rows), sizes[name]):
            one = given_rows[start : start + sizes[name]]
            assert len(set(one.tolist())) == len(one)
        prefix = np.cumsum(sources == number)
        share_of = plan.asked[number] / whole
        worst = max(abs(int(c) - (n + 1) * share_of) for n, c in enumerate(prefix))
        assert worst <= plan.certificate < PSI


@given(
    kind=st.sampled_from(("weight", "size")),
    drawn=parts_of,
    rows=st.tuples(st.integers(1, 150), st.integers(0, 150)),
)
def test_a_smaller_total_is_a_prefix(
    table: Table, kind: Kind, drawn: list[tuple[int, Fraction]], rows: tuple[int, int]
) -> None:
    sizes, wanted = _named(drawn)
    asked = recipe(kind, wanted, temperature=Fraction(3, 2), cap=40)
    short, long = (planned(asked, table, sizes, total=n) for n in (rows[0], sum(rows)))
    for part in (0, 1):
        assert np.array_equal(short.slice(0, rows[0])[part], long.slice(0, rows[0])[part])


@given(kind=st.sampled_from(("weight", "repeat", "count", "size")), drawn=parts_of)
def test_a_source_more_moves_no_other_sources_inner_order(
    table: Table, kind: Kind, drawn: list[tuple[int, Fraction]]
) -> None:
    sizes, wanted = _named(drawn)
    if kind == "count":
        wanted = {name: Fraction(int(amount * 12)) for name, amount in wanted.items()}
    alone = planned(recipe(kind, wanted), table, sizes)
    beside = planned(recipe(kind, {"new": Fraction(3), **wanted}), table, {"new": 17, **sizes})
    mine, rows = alone.slice(0, len(alone))
    theirs, more = beside.slice(0, len(beside))
    for number in range(len(sizes)):
        first, second = rows[mine == number], more[theirs == number + 1]
        n = min(len(first), len(second))
        assert np.array_equal(first[:n], second[:n])


@given(
    drawn=parts_of,
    epoch=st.integers(0, 4),
    rows=st.integers(1, 100),
    kind=st.sampled_from(("weight", "repeat", "size")),
)
def test_draws_go_on_where_the_one_before_ended(
    table: Table, drawn: list[tuple[int, Fraction]], epoch: int, rows: int, kind: Kind
) -> None:
    """All draws one after the other give every row once before any twice, as one long plan."""
    sizes, wanted = _named(drawn)
    asked = recipe(kind, {n: a / 7 for n, a in wanted.items()} if kind == "repeat" else wanted)
    total = rows if kind != "repeat" else None
    seen: dict[str, list[int]] = {name: [] for name in sizes}
    for number in range(epoch + 1):
        plan = planned(asked, table, sizes, total=total, epoch=number)
        again = planned(asked, table, sizes, total=total, epoch=number)
        assert plan.digest == again.digest
        assert plan.counters == {name: len(found) for name, found in seen.items() if found}
        sources, numbers = plan.slice(0, len(plan))
        for place, name in enumerate(plan.names):
            seen[name] += numbers[sources == place].tolist()
    for name, found in seen.items():
        for start in range(0, len(found), sizes[name]):
            one = found[start : start + sizes[name]]
            assert len(set(one)) == len(one)


def test_a_draw_has_an_order_of_its_own(table: Table) -> None:
    asked = recipe("weight", {"a": Fraction(1), "b": Fraction(1)})
    first, second = (planned(asked, table, {"a": 50, "b": 50}, total=60, epoch=n) for n in (0, 1))
    assert not np.array_equal(first.slice(0, 60)[0], second.slice(0, 60)[0])
    assert first.digest != second.digest


@given(number=st.integers(0, 2**80), degree=st.integers(1, 12))
def test_roots_are_exact(number: int, degree: int) -> None:
    found = root(number, degree)
    assert found**degree <= number < (found + 1) ** degree


@given(
    sizes=st.lists(st.integers(1, 10**9), min_size=1, max_size=300),
    temperature=st.fractions(Fraction(1, 3), 10, max_denominator=20),
    cap=st.none() | st.integers(1, 10**6),
)
def test_size_weights_are_the_power_they_stand_for(
    sizes: list[int], temperature: Fraction, cap: int | None
) -> None:
    weights = size_weights(sizes, cap=cap, temperature=temperature)
    capped = [size if cap is None else min(size, cap) for size in sizes]
    exact = [size ** (1 / float(temperature)) for size in capped]
    for weight, power in zip(weights, exact, strict=True):
        assert abs(weight / sum(weights) - power / sum(exact)) < 2**-22
    if temperature == 1:
        assert weights == capped
    else:
        assert sum(weights) < 2**41


def test_temperature_two_is_the_square_root() -> None:
    """By another way: the ratio of two weights is the ratio of the integer square roots."""
    large, small = size_weights([10**8, 10**4], temperature=Fraction(2))
    assert Fraction(large, small) == Fraction(isqrt(10**8), isqrt(10**4))
    assert size_weights([7, 7, 0], temperature=Fraction(2))[2] == 0
    one, other = size_weights([10**6, 10], temperature=Fraction(1000))
    assert 1 < one / other < 1.02  # a high temperature makes all parts alike


def test_amounts_that_cannot_be_are_refused(make_table: MakeTable) -> None:
    with pytest.raises(RecipeError, match="three digits"):
        size_weights([5, 6], temperature=Fraction(10**9 + 1, 10**9))
    nothing = recipe("weight", {"a": Fraction(0)})
    with pytest.raises(RecipeError, match="all weigh 0"):
        amounts(nothing.stages[0], list(nothing.mix), [5])
    long = recipe("weight", {"a": Fraction(1, 10**13), "b": Fraction(1, 7)})
    with pytest.raises(RecipeError, match="too many digits"):
        amounts(long.stages[0], list(long.mix), [5, 5])
