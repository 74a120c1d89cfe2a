"""Selections: SQL over one row, caps, and answered rows only."""

from __future__ import annotations

import numpy as np
import pytest

from tests.rows import MakeTable, conversation
from vision_ift import _registry
from vision_ift._conversation import Conversation, Message
from vision_ift._errors import RecipeError
from vision_ift._recipe import Entry
from vision_ift._select import select


def entry(where: str | None = None, cap: int | None = None, source: str = "llava") -> Entry:
    return Entry(name=source, source=source, kind="repeat", amount=1, where=where, cap_per_task=cap)  # type: ignore[arg-type]  # an int is a Fraction here


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


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("rounds >", "is not SQL"),
        ("1) FROM read_text('/etc/passwd') --", "is not SQL"),
        ("true); DROP TABLE conversations; --", "is not SQL"),
        ("id IN (SELECT id FROM conversations)", "has a subquery"),
        ("EXISTS (SELECT * FROM read_csv('/etc/passwd'))", "has a subquery"),
        ("row_number() OVER () = 1", "has a window"),
        ("count(*) > 1", "calls count_star"),
        ("max(rounds) > 1", "calls max"),
        ("random() < 0.5", "calls random"),
        ("now() > now()", "calls now"),
        ("getenv('HOME') = 'x'", "calls getenv"),
        ("read_text('/etc/passwd') = 'x'", "calls read_text"),
        ("round >= 2", "no column named 'round'; did you mean rounds"),
        ("conversations.id = 'x'", "no column named"),
        ("rounds", "gives int64, not true or false"),
        ("CAST(id AS INTEGER) > 3", "fails"),
    ],
)
def test_only_a_condition_on_one_row_is_taken(
    make_table: MakeTable, where: str, message: str
) -> None:
    table = make_table(3)
    with pytest.raises(RecipeError) as caught:
        select(table, entry(where), seed=0)
    assert message in str(caught.value)


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
