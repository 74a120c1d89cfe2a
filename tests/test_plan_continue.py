"""Going on from another plan at a position: counters, what comes again, what changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.exports import small_plan
from tests.rows import MakeTable, table_of
from vision_ift._errors import IntegrityError, UsageError
from vision_ift._export.export import export
from vision_ift._plan.continued import distinct, marked, met
from vision_ift._plan.lock import Lock, encode_lock, read_lock
from vision_ift._plan.permute import Permutation
from vision_ift._plan.plan import Plan, arrange, plan
from vision_ift._plan.summary import summarise
from vision_ift._recipe.recipe import Recipe
from vision_ift._recipe.select import Selection
from vision_ift._table import Table


def recipe(weights: dict[str, int], **keys: object) -> Recipe:
    lines = [f"{key}: {value}" for key, value in keys.items()]
    lines += [
        "mix:",
        *(f"  - {{source: messages, name: {n}, weight: {w}}}" for n, w in weights.items()),
    ]
    return Recipe.parse("\n".join(lines))


def locked(made: Plan) -> Lock:
    return msgspec.convert(made.lock(), Lock)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return table_of(tmp_path_factory.mktemp("continue") / "table", 80, source="messages")


def first_rows(table: Table, **sizes: int) -> dict[str, Selection]:
    return {name: Selection(table, np.arange(size, dtype=np.int64)) for name, size in sizes.items()}


def rows_of(made: Plan) -> dict[str, list[int]]:
    sources, rows = made.slice(0, len(made))
    return {name: rows[sources == n].tolist() for n, name in enumerate(made.names)}


@given(
    sizes=st.tuples(*[st.integers(1, 80)] * 3),
    weights=st.tuples(*[st.integers(1, 9)] * 3),
    ats=st.tuples(st.integers(0, 150), st.integers(0, 150)),
    epoch=st.integers(0, 2),
)
def test_a_chain_of_recipes_is_one_sequence_of_every_sources_rows(
    table: Table,
    sizes: tuple[int, int, int],
    weights: tuple[int, int, int],
    ats: tuple[int, int],
    epoch: int,
) -> None:
    """Three recipes one after the other: each row once before any twice, counted against sets."""
    a, b, c = sizes
    found = first_rows(table, a=a, b=b, c=c)
    one = arrange(
        recipe({"a": weights[0], "b": 2}, total=150, seed=5), found, root=Path(), epoch=epoch
    )
    given_before: dict[str, list[int]] = {name: [] for name in "abc"}
    base = {name: one.counters.get(name, 0) for name in "abc"}
    plans = [one]
    for at, names in zip(ats, (("a", "c"), ("c", "b", "a")), strict=True):
        before = plans[-1]
        sources, rows = before.slice(0, at)
        for number, name in enumerate(before.names):
            given_before[name] += rows[sources == number].tolist()
        mix = {name: weights[place] for place, name in enumerate(names)}
        after = arrange(
            recipe(mix, total=150, seed=5), found, root=Path(), after=(locked(before), at)
        )
        for name in names:
            assert after.counters.get(name, 0) in (0, base[name] + len(given_before[name]))
        plans.append(after)
    last = plans[-1]
    told = summarise(last)["continued"]
    for name, rows_now in rows_of(last).items():
        order = Permutation(name, len(found[name]), seed=5)
        start = last.counters.get(name, 0)
        assert rows_now == order.slice(start, start + len(rows_now)).tolist()
        seen = set(order.slice(0, start).tolist())
        again = len(seen & set(rows_now))
        assert told[name]["again_least"] == told[name]["again_most"] == again
        assert told[name]["new_least"] == len(set(rows_now)) - again


@given(st.integers(1, 40), st.integers(0, 100), st.integers(0, 100))
def test_distinct_rows_are_those_of_a_set(size: int, start: int, count: int) -> None:
    order = Permutation("a", size, seed=1)
    rows = set(order.slice(start, start + count).tolist())
    assert distinct(order, start, start + count) == len(rows)
    assert np.flatnonzero(marked(order, start, start + count)).tolist() == sorted(rows)
    seen = set(order.slice(0, start).tolist())
    assert met(order, start, count).again_most == len(seen & rows)


def test_what_changed_is_said_exactly(table: Table, make_table: MakeTable) -> None:
    before = first_rows(table, same=70, filter=70, other=70, gone=70)
    one = arrange(recipe(dict.fromkeys(before, 1), total=160, seed=5), before, root=Path())
    now = first_rows(table, same=70, filter=50, fresh=70)
    now["other"] = Selection(make_table(70, source="messages"), None)
    mix = recipe(dict.fromkeys(now, 1), total=80, seed=5)
    two = arrange(mix, now, root=Path(), after=(locked(one), 120))
    assert two.counters == {"same": 30}
    assert two.gone == {"gone": 30}
    told: dict[str, Any] = summarise(two)["continued"]
    assert told["same"]["again_most"] == 0
    assert told["fresh"] == {
        "start": 0,
        "again_least": 0,
        "again_most": 0,
        "new_least": 20,
        "new_most": 20,
        "changed": "",
    }
    assert told["filter"]["again_most"] == 20  # its rows then are not known: at most all of them
    assert "its rows changed, and the 30 rows it had given" in told["filter"]["changed"]
    assert told["other"]["again_most"] == 20
    assert told["gone"] == {"gone": 30}

    seeded = arrange(
        recipe({"same": 1}, total=40, seed=6), now, root=Path(), after=(locked(one), 120)
    )
    told = summarise(seeded)["continued"]
    seen = set(Permutation("same", 70, seed=5).slice(0, 30).tolist())
    again = len(seen & set(rows_of(seeded)["same"]))
    assert told["same"]["again_least"] == told["same"]["again_most"] == again
    assert "the seed changed" in told["same"]["changed"]


def test_positions_past_the_end_are_refused(table: Table) -> None:
    found = first_rows(table, a=5)
    one = arrange(recipe({"a": 1}, total=5), found, root=Path())
    with pytest.raises(UsageError, match="position 6 of a plan of 5 rows"):
        arrange(recipe({"a": 1}, total=5), found, root=Path(), after=(locked(one), 6))


def test_a_continued_plan_is_exported_and_made_again_from_its_lock(
    drawn_root: Path, tmp_path: Path
) -> None:
    tables = drawn_root.parent / "tables"
    old = tmp_path / "old.json"
    first = plan("coco_mix", root=drawn_root, tables=tables)
    old.write_bytes(encode_lock(first.lock()))
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "seed: 17\ntotal: 60\nmix:\n  - {source: mm_instruct, weight: 1}\n"
        "  - {source: mminstruct, weight: 2, where: \"language = 'en'\"}\n"
    )
    two = plan(mine, root=drawn_root, tables=tables, after=(old, 200), epoch=1)
    new = tmp_path / "new.json"
    new.write_bytes(encode_lock(two.lock()))
    again = plan(new, root=drawn_root, tables=tables)
    assert again.digest == two.digest != first.digest
    assert again.lock() == two.lock()
    assert np.array_equal(again.slice(0, 60)[1], two.slice(0, 60)[1])
    report = export(again, out=tmp_path / "shards", shard_bytes=10**7)
    assert (report.plan_digest, report.rows) == (two.digest, 60)
    written = read_lock(tmp_path / "shards" / "vision_ift" / "plan.json")
    assert written == read_lock(new)
    three = plan(mine, root=drawn_root, tables=tables, after=(new, 60))
    total = {
        name: count + two.counters.get(name, 0)
        for name, count in zip(two.names, two.counts(), strict=True)
    }
    assert three.counters == total


def test_a_lock_whose_source_changed_says_which(drawn_root: Path, tmp_path: Path) -> None:
    tables = drawn_root.parent / "tables"
    made = plan("coco_mix", root=drawn_root, tables=tables)
    lock = made.lock()
    lock["recipe"] = lock["recipe"].replace("cap_per_task: 1000", "cap_per_task: 1")
    path = tmp_path / "lock.json"
    path.write_bytes(encode_lock(lock))
    with pytest.raises(IntegrityError, match="the selection of vision_flan has"):
        plan(path, root=drawn_root, tables=tables)
    lock["recipe"] = ""
    path.write_bytes(encode_lock(lock))
    with pytest.raises(IntegrityError, match="no recipe in it"):
        plan(path, root=drawn_root, tables=tables)
    with pytest.raises(UsageError, match="a lock says itself"):
        plan(path, root=drawn_root, tables=tables, total=5)


def test_a_small_plan_of_the_export_tests_has_a_lock_that_is_read(tmp_path: Path) -> None:
    made = small_plan(tmp_path)
    path = tmp_path / "lock.json"
    path.write_bytes(encode_lock(made.lock()))
    lock = read_lock(path)
    assert lock.digest == made.digest
    for at in (0, 3, len(made)):
        counts: dict[str, int] = {}
        for name, count in zip(made.names, made.counts(at), strict=True):
            counts[name] = counts.get(name, 0) + count
        assert {name: one.own for name, one in lock.given(at).items()} == counts


def test_a_continued_plan_is_streamed_in_its_order(drawn_root: Path) -> None:
    from vision_ift._stream.stream import stream

    tables = drawn_root.parent / "tables"
    first = plan("coco_mix", root=drawn_root, tables=tables)
    two = plan("balanced", root=drawn_root, tables=tables, after=(first, 111), total=40)
    ids = [row["id"] for row in stream(two, columns=["id"])]
    assert ids == two.rows(0, 40)["id"].to_pylist()


def test_copies_are_left_out_counted_and_locked(tmp_path: Path) -> None:
    """The rule works on the rows that the filters leave; the first entry keeps its own."""
    for name, numbers in (("one", range(20)), ("two", range(12, 30))):
        lines = [
            {
                "messages": [
                    {"role": "user", "content": f"What is the {n}th number of all?"},
                    {"role": "assistant", "content": f"The {n}th number is {n * n}."},
                ]
            }
            for n in numbers
        ]
        text = "\n".join(msgspec.json.encode(line).decode() for line in lines)
        (tmp_path / f"{name}.jsonl").write_text(text + "\n")
    recipe_file = tmp_path / "mix.yaml"
    mix = "".join(
        f"  - {{source: messages, name: {name}, path: {name}.jsonl, repeat: 1}}\n"
        for name in ("one", "two")
    )
    recipe_file.write_text(f"mix:\n{mix}")
    where: Any = {"root": tmp_path, "tables": tmp_path / "tables"}
    whole = plan(recipe_file, **where)
    assert (whole.counts(), dict(whole.copies)) == ([20, 18], {})
    recipe_file.write_text(f"duplicates: {{by: text}}\nmix:\n{mix}")
    once = plan(recipe_file, **where)
    assert (once.counts(), dict(once.copies)) == ([20, 10], {"one": 0, "two": 8})
    assert once.digest != whole.digest
    texts = [row["messages"][0]["content"][0]["text"] for row in once.rows(0, 30).to_pylist()]
    assert len(set(texts)) == 30
    lock = once.lock()
    assert [part["copies"] for part in lock["parts"]] == [0, 8]
    assert lock["duplicates"] == {"by": "text", "near": False, "keep": 1}
    summary = summarise(once)
    assert [part["copies"] for part in summary["sources"]] == [0, 8]
    assert summary["warnings"] == ["two: 8 copies are left out"]
    path = tmp_path / "lock.json"
    path.write_bytes(encode_lock(lock))
    assert plan(path, **where).digest == once.digest
