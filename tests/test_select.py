"""Selections: SQL over one row, caps, and answered rows only."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.rows import MakeTable, conversation
from vision_ift import _registry
from vision_ift._conversation import Conversation, Message
from vision_ift._errors import RecipeError
from vision_ift._recipe import select as _select
from vision_ift._recipe.recipe import Entry
from vision_ift._recipe.select import Excluded, select
from vision_ift._table import Table


def entry(
    where: str | None = None,
    cap: int | None = None,
    subset: Fraction | None = None,
    name: str = "llava",
) -> Entry:
    return Entry(
        name=name,
        source="llava",
        kind="repeat",
        where=where,
        cap_per_task=cap,
        subset=subset,
    )


def numbers(
    table: Table, asked: Entry, *, seed: int = 1, without: Excluded | None = None
) -> list[int]:
    rows = select(table, asked, seed=seed, excluded=without).rows
    return list(range(len(table))) if rows is None else rows.tolist()


def talk(number: int, *, rounds: int = 1, images: int = 0, task: str | None = None) -> Conversation:
    turns = []
    for place in range(rounds):
        turns.append(Message.of("user", "wo?" * (place + 1), images=images if place == 0 else 0))
        turns.append(Message.of("assistant", "ja"))
    names = tuple(f"{number}-{place}.jpg" for place in range(images))
    return Conversation(
        id=str(number), images=names, image_paths=names, messages=tuple(turns), task=task
    )


def test_counts_of_a_row_can_be_tested(make_table: MakeTable) -> None:
    table = make_table(
        talk(n, rounds=n % 3 + 1, images=n % 2, task=("a", "b")[n % 2]) for n in range(60)
    )

    def kept(where: str) -> list[int]:
        rows = select(table, entry(where), seed=0).rows
        return list(range(60)) if rows is None else rows.tolist()

    assert kept("rounds >= 2") == [n for n in range(60) if n % 3 >= 1]
    assert kept("images = 1 AND task = 'b'") == [n for n in range(60) if n % 2]
    # rounds of 3, 6, 9 characters, and 2 of each answer
    assert kept("chars > 13") == [n for n in range(60) if n % 3 == 2]
    assert kept("id IN ('llava/3', 'llava/7')") == [3, 7]
    assert kept("true") == list(range(60))
    assert kept("language IS NULL") == list(range(60))
    assert kept("language = 'en'") == []  # unknown counts as false
    assert kept("task LIKE 'a%' -- with a comment") == [n for n in range(60) if n % 2 == 0]


def test_an_error_of_a_condition_names_the_entry(make_table: MakeTable) -> None:
    with pytest.raises(RecipeError, match=r"^llava: where 'round > 1' reads no column.*rounds\?$"):
        select(make_table(3), entry("round > 1"), seed=0)
    with pytest.raises(RecipeError, match=r"^llava: where .* fails: Conversion Error"):
        select(make_table(3), entry("CAST(id AS INTEGER) > 3"), seed=0)


def test_more_rows_than_are_tested_at_once(
    make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [conversation(n, task=f"t{n % 7}" if n % 7 else None) for n in range(20_000)]
    table = make_table(rows)
    asked = entry("id LIKE '%1%'", cap=50, subset=Fraction(1, 2))
    whole = numbers(table, asked)
    monkeypatch.setattr(_select, "_STEP_ROWS", 1)  # a row group at a time: 8,192 rows
    assert numbers(table, asked) == whole
    assert numbers(table, entry("rounds = 1")) == list(range(20_000))


def test_an_empty_table_has_no_rows(make_table: MakeTable) -> None:
    assert numbers(make_table(0), entry("rounds > 1", cap=3, subset=Fraction(1, 2))) == []


def test_a_cap_keeps_so_many_rows_of_each_task(make_table: MakeTable) -> None:
    rows = [conversation(n, task=("a", "b", None)[n % 3]) for n in range(90)]
    few = select(make_table(rows), entry(cap=4), seed=1).rows
    assert few is not None
    assert np.bincount(few % 3).tolist() == [4, 4, 4]
    more = select(make_table(rows), entry(cap=9), seed=1).rows
    assert more is not None
    assert set(few) < set(more)  # a smaller cap is inside a larger one
    other = select(make_table(rows), entry(cap=4), seed=2).rows
    assert other is not None
    assert not np.array_equal(few, other)
    # The choice goes by ids: rows in front of them move nothing.
    grown = [conversation(1000, task="c"), *rows]
    moved = select(make_table(grown), entry(cap=4), seed=1).rows
    assert moved is not None
    assert [n - 1 for n in moved if n] == few.tolist()


def test_recipes_take_answered_rows_only(
    make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = type(_registry.find("llava"))
    monkeypatch.setattr(builder, "prompt_splits", frozenset({"test"}))
    table = make_table(conversation(n, split="test" if n % 2 else "train") for n in range(10))
    rows = select(table, entry(), seed=0).rows
    assert rows is not None
    assert rows.tolist() == [0, 2, 4, 6, 8]


PERCENT = Fraction(1, 100)
#: By XXH3-64 of the ids, with XXH3-64 of "cap 17 llava" as its seed.
GOLDEN_ROWS = [
    65,
    82,
    90,
    207,
    307,
    321,
    324,
    326,
    353,
    387,
    406,
    487,
    511,
    568,
    586,
    607,
    619,
    685,
    833,
    861,
    939,
    996,
]
GOLDEN_CAPPED = [90, 307, 387, 619, 861]


def test_a_subset_is_nested_and_about_as_large_as_asked(make_table: MakeTable) -> None:
    table = make_table(10_000)
    kept = {
        share: set(numbers(table, entry(subset=share * PERCENT))) for share in (1, 10, 50, 99, 100)
    }
    assert kept[1] < kept[10] < kept[50] < kept[99] < kept[100]
    assert len(kept[100]) == 10_000
    for share in (1, 10, 50, 99):  # four standard deviations of a fair choice
        assert abs(len(kept[share]) - 100 * share) < 4 * (share * (100 - share)) ** 0.5


def test_a_subset_goes_by_ids_seed_and_name_alone(make_table: MakeTable) -> None:
    rows = [conversation(n) for n in range(2000)]

    def ids(rows: list[Conversation], *, seed: int = 1, name: str = "llava") -> set[str]:
        found = numbers(make_table(rows), entry(subset=10 * PERCENT, name=name), seed=seed)
        return {rows[n].id for n in found}

    first = ids(rows)
    assert ids(rows[::-1]) == first  # laid out anew
    grown = [conversation(n) for n in range(5000, 6000)] + rows
    assert ids(grown) & {row.id for row in rows} == first
    assert ids(rows[:1000]) == first & {row.id for row in rows[:1000]}
    assert ids(rows, seed=2) != first
    assert ids(rows, name="other") != first


def test_which_rows_a_subset_keeps_is_fixed_for_ever(make_table: MakeTable) -> None:
    found = numbers(make_table(1000), entry(subset=3 * PERCENT), seed=17)
    assert found == GOLDEN_ROWS
    capped = numbers(make_table(1000), entry(cap=5), seed=17)
    assert capped == GOLDEN_CAPPED


def test_where_and_exclude_come_before_subset_and_cap(
    make_table: MakeTable, tmp_path: Path
) -> None:
    rows = [conversation(n, task="ab"[n % 2]) for n in range(400)]
    table = make_table(rows)
    tenth = entry(subset=10 * PERCENT)
    chosen = numbers(table, tenth)
    # Taking rows out beforehand changes nothing for those that are left.
    file = tmp_path / "x.jsonl"
    gone = chosen[::3]
    file.write_text("".join(json.dumps({"id": f"llava/{n}"}) + "\n" for n in gone))
    assert numbers(table, tenth, without=Excluded([str(file)])) == sorted(set(chosen) - set(gone))
    even = entry("task = 'a'", subset=10 * PERCENT)
    assert numbers(table, even) == [n for n in chosen if n % 2 == 0]
    # A cap of a subset is the subset of the cap: both take the lowest hashes.
    both = numbers(table, entry(cap=7, subset=10 * PERCENT))
    assert set(both) == set(numbers(table, entry(cap=7))) & set(chosen)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(["a", "b", "ü", None]), max_size=40),
    st.integers(1, 6),
    st.fractions(Fraction(1, 100), 1),
    st.fractions(Fraction(1, 100), 1),
    st.integers(0, 2**63 - 1),
)
def test_caps_and_subsets_of_any_table(
    make_table: MakeTable,
    tasks: list[str | None],
    cap: int,
    share: Fraction,
    other: Fraction,
    seed: int,
) -> None:
    table = make_table([conversation(n, task=task) for n, task in enumerate(tasks)])

    def kept(cap: int | None, share: Fraction | None) -> set[int]:
        found = numbers(table, entry(cap=cap, subset=share), seed=seed)
        assert found == sorted(set(found))
        return set(found)

    least, most = sorted((share, other))
    assert kept(cap, least) <= kept(cap, most) <= kept(cap, None)
    assert kept(cap, share) <= kept(cap + 1, share) <= kept(None, share)
    for task in {*tasks}:
        of_task = {n for n, one in enumerate(tasks) if one == task}
        assert len(kept(cap, None) & of_task) == min(cap, len(of_task))
        assert len(kept(cap, share) & of_task) == min(cap, len(kept(None, share) & of_task))


def test_of_equal_hashes_the_first_rows_stay(
    make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As sorting by hash and then by row has it; pruned in several steps, too."""

    def poor(ids: pa.Array, key: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
        return np.array([int(one.rpartition("/")[2]) * 7 % 5 for one in ids.to_pylist()], np.uint64)

    monkeypatch.setattr(_select, "keyed_hashes", poor)
    monkeypatch.setattr(_select, "_STEP_ROWS", 16)
    table = make_table([conversation(n, task=f"t{n % 3}") for n in range(200)])
    for cap in (1, 4, 30, 70):
        wanted = []
        for task in range(3):
            rows = sorted(range(task, 200, 3), key=lambda n: (n * 7 % 5, n))
            wanted += rows[:cap]
        assert numbers(table, entry(cap=cap)) == sorted(wanted)
