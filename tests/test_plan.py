"""The plan: exact counts, one order however it is cut, and rows read in that order."""

from __future__ import annotations

import itertools
import pickle
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.rows import MakeTable, conversation
from vision_ift._errors import MissingInputError, RecipeError, UsageError
from vision_ift._plan.plan import Plan, arrange
from vision_ift._recipe.recipe import Recipe
from vision_ift._recipe.select import Selection, select
from vision_ift._table import Table

SOURCES = ("llava", "messages", "vision_flan")


def recipe(*entries: str, **keys: object) -> Recipe:
    lines = [f"{key}: {value}" for key, value in keys.items()]
    return Recipe.parse("\n".join([*lines, "mix:", *(f"  - {{{entry}}}" for entry in entries)]))


def arranged(asked: Recipe, tables: dict[str, Table | str], total: int | None = None) -> Plan:
    found = {
        entry.name: select(one, entry, seed=asked.seed) if isinstance(one, Table) else one
        for entry in asked.mix
        for one in [tables[entry.name]]
    }
    return arrange(asked, found, root=Path(), total=total)


def test_weights_deliver_a_prefix_of_a_longer_plan(make_table: MakeTable) -> None:
    tables: dict[str, Table | str] = {"llava": make_table(100), "messages": make_table(30)}
    asked = recipe("source: llava, weight: 0.7", "source: messages, weight: 0.3", seed=5)
    short, long = arranged(asked, tables, 50), arranged(asked, tables, 500)
    assert len(short) == 50
    assert len(long) == 500
    for part in (0, 1):
        assert np.array_equal(short.slice(0, 50)[part], long.slice(0, 50)[part])
    assert long.counts() == [350, 150]
    assert long.asked == (Fraction(350), Fraction(150))


def test_a_row_comes_twice_only_after_every_row_came_once(make_table: MakeTable) -> None:
    asked = recipe("source: llava, count: 250", "source: messages, count: 40")
    plan = arranged(asked, {"llava": make_table(100), "messages": make_table(40)})
    sources, rows = plan.slice(0, len(plan))
    llava = rows[sources == 0]
    for start in (0, 100):
        assert sorted(llava[start : start + 100]) == list(range(100))
    assert len(set(llava[200:])) == 50
    assert sorted(rows[sources == 1]) == list(range(40))


def test_repeat_and_epochs_are_exact(make_table: MakeTable) -> None:
    asked = recipe("source: llava, repeat: 2.5", "source: messages, repeat: 0.1")
    plan = arranged(asked, {"llava": make_table(11), "messages": make_table(10)})
    assert plan.counts() == [28, 1]  # 27.5 rounds up
    with_epochs = recipe("source: llava, repeat: 1", epochs=3)
    assert arranged(with_epochs, {"llava": make_table(7)}).counts() == [21]


def test_slices_do_not_depend_on_where_they_are_cut(make_table: MakeTable) -> None:
    asked = recipe("source: llava, weight: 2", "source: messages, weight: 1", epochs=3)
    plan = arranged(asked, {"llava": make_table(50), "messages": make_table(20)})
    whole = plan.slice(0, len(plan))
    cuts = [0, 1, 2, 60, 61, 133, len(plan)]
    for part in (0, 1):
        pieces = [plan.slice(a, b)[part] for a, b in itertools.pairwise(cuts)]
        assert np.array_equal(np.concatenate(pieces), whole[part])
    assert [plan.at(n) for n in range(20)] == list(
        zip(whole[0][:20].tolist(), whole[1][:20].tolist(), strict=True)
    )
    with pytest.raises(UsageError, match="plan of 210 rows"):
        plan.slice(0, len(plan) + 1)


def test_stages_follow_each_other_and_counters_go_on(make_table: MakeTable) -> None:
    asked = Recipe.parse(
        """
        stages:
          - {name: one, mix: [{source: llava, count: 6}, {source: messages, count: 3}]}
          - {name: two, mix: [{source: llava, count: 4}]}
        """
    )
    plan = arranged(asked, {"llava": make_table(10), "messages": make_table(5)})
    sources, rows = plan.slice(0, 13)
    assert set(sources[:9].tolist()) == {0, 1}
    assert sources[9:].tolist() == [2] * 4
    assert plan.counts() == [6, 3, 4]
    seen = [*rows[:9][sources[:9] == 0].tolist(), *rows[9:].tolist()]
    assert sorted(seen) == list(range(10))  # stage two goes on with the rows not yet given
    assert plan.counts(9) == [6, 3, 0]


def test_the_inverse_finds_every_position(make_table: MakeTable) -> None:
    asked = recipe("source: llava, weight: 2", "source: messages, weight: 1", total=90)
    plan = arranged(asked, {"llava": make_table(50), "messages": make_table(20)})
    sources, _ = plan.slice(0, 90)
    given: Counter[int] = Counter()
    for position, source in enumerate(sources.tolist()):
        assert plan.position(source, given[source]) == position
        given[source] += 1
    with pytest.raises(UsageError, match="gives no row number"):
        plan.position(0, given[0])


def test_another_source_moves_no_sources_inner_order(make_table: MakeTable) -> None:
    small = recipe("source: llava, weight: 1", total=60, seed=3)
    large = recipe("source: vision_flan, weight: 5", "source: llava, weight: 1", total=400, seed=3)
    llava = make_table(80)
    alone = arranged(small, {"llava": llava})
    beside = arranged(large, {"llava": llava, "vision_flan": make_table(33)})
    sources, rows = beside.slice(0, 400)
    inner = rows[sources == 1]
    assert np.array_equal(inner[:60], alone.slice(0, 60)[1][: len(inner)])


def test_the_rows_come_in_plan_order(make_table: MakeTable) -> None:
    asked = recipe("source: llava, weight: 2", "source: messages, weight: 1", epochs=2)
    tables: dict[str, Table | str] = {
        "llava": make_table(9000),
        "messages": make_table(300, source="messages"),
    }
    plan = arranged(asked, tables)
    sources, rows = plan.slice(4000, 4400)
    ids = plan.rows(4000, 4400)["id"].to_pylist()
    assert ids == [
        f"{('llava', 'messages')[s]}/{r}"
        for s, r in zip(sources.tolist(), rows.tolist(), strict=True)
    ]


def test_the_same_recipe_and_rows_give_the_same_digest(make_table: MakeTable) -> None:
    asked = recipe("source: llava, weight: 1", "source: messages, weight: 1")
    tables: dict[str, Table | str] = {"llava": make_table(100), "messages": make_table(30)}
    again: dict[str, Table | str] = {"llava": make_table(100), "messages": make_table(30)}
    one = arranged(asked, tables)
    assert one.digest == arranged(asked, again).digest
    assert len(one.digest) == 32
    assert one.digest != arranged(asked, tables, 77).digest
    again["llava"] = make_table(conversation(n, task="other") for n in range(100))
    assert one.digest != arranged(asked, again).digest
    copy = pickle.loads(pickle.dumps(one))
    assert copy.digest == one.digest
    assert np.array_equal(copy.slice(0, 130)[1], one.slice(0, 130)[1])


GOLDEN_SOURCES = [0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0]
GOLDEN_ROWS = [4836, 4636, 795, 3, 471, 6, 4137, 3369, 816, 2446, 2026, 4, 4921, 4957, 1, 1654]
GOLDEN_DIGEST = "9b318f527b380ad14f4dd9912a75e79a"


def test_golden_plan(make_table: MakeTable) -> None:
    """Pinned: a change here moves every plan that anybody has made."""
    asked = recipe("source: llava, weight: 3", "source: messages, weight: 1", seed=17, total=16)
    plan = arranged(asked, {"llava": make_table(5000), "messages": make_table(7)})
    sources, rows = plan.slice(0, 16)
    assert sources.tolist() == GOLDEN_SOURCES
    assert rows.tolist() == GOLDEN_ROWS
    assert plan.digest == GOLDEN_DIGEST


def test_a_missing_source_gives_its_share_to_the_others(make_table: MakeTable) -> None:
    asked = recipe(
        "source: llava, weight: 1", "source: messages, weight: 2", "source: vision_flan, weight: 1"
    )
    tables: dict[str, Table | str] = {
        "llava": make_table(60),
        "messages": "source messages: not there",
        "vision_flan": make_table(20),
    }
    plan = arranged(asked, tables)
    assert plan.counts() == [40, 0, 40]
    assert plan.missing == {
        "messages": "source messages: not there; its share of 50.0% went to the others: "
        "llava 50.0%, vision_flan 50.0%"
    }
    with pytest.raises(MissingInputError, match="no source of stage mix is there"):
        arranged(asked, dict.fromkeys(SOURCES, "gone"))


def test_totals_that_say_nothing_are_refused(make_table: MakeTable) -> None:
    counted = recipe("source: llava, count: 5")
    with pytest.raises(RecipeError, match="total goes with weights"):
        arranged(counted, {"llava": make_table(5)}, total=3)
    staged = Recipe.parse(
        "stages: [{name: a, mix: [{source: llava, weight: 1}]},"
        " {name: b, mix: [{source: llava, weight: 1}]}]"
    )
    with pytest.raises(RecipeError, match="has stages"):
        arranged(staged, {"llava": make_table(5)}, total=3)


def test_every_prefix_is_within_the_certificate(make_table: MakeTable) -> None:
    asked = recipe(
        "source: llava, weight: 5", "source: messages, weight: 3", "source: vision_flan, weight: 2"
    )
    tables: dict[str, Table | str] = {name: make_table(40) for name in SOURCES}
    plan = arranged(asked, tables, 3000)
    sources, _ = plan.slice(0, 3000)
    assert plan.certificate < Fraction(336, 100)
    for number, share in enumerate((Fraction(1, 2), Fraction(3, 10), Fraction(1, 5))):
        counts = np.cumsum(sources == number)
        for stop in range(1, 3001):
            assert abs(int(counts[stop - 1]) - stop * share) <= plan.certificate


def test_a_selection_maps_to_the_rows_it_kept(make_table: MakeTable) -> None:
    table = make_table(100)
    selection = Selection(table, np.arange(1, 100, 2, dtype=np.int64))
    asked = recipe("source: llava, repeat: 1")
    plan = arrange(asked, {"llava": selection}, root=Path())
    assert sorted(plan.slice(0, 50)[1]) == list(range(1, 100, 2))
