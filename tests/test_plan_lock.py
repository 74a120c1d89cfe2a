"""Locks: the same on every Python, whole or refused; a changed constant changes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rows import table_of
from vision_ift._errors import IntegrityError, MissingInputError
from vision_ift._plan import order as _order
from vision_ift._plan import permute as _permute
from vision_ift._plan.lock import digest_of, encode_lock, read_lock
from vision_ift._plan.plan import Plan, arrange, plan
from vision_ift._recipe.recipe import Recipe, shipped
from vision_ift._recipe.select import Selection
from vision_ift._table import Table

LOCKS = Path(__file__).parent / "locks"

WEIGHTS = """
name: weights
seed: 17
total: 500
max_repeats: 9
mix:
  - {source: messages, name: a, weight: 0.7}
  - {source: messages, name: b, weight: 0.2}
  - {source: messages, name: c, weight: 0.01}
"""
SIZES = """
name: sizes
seed: 3
temperature: 3.3
cap: 300
epochs: 0.5
mix: [{source: messages, name: a}, {source: messages, name: b}, {source: messages, name: c}]
"""
STAGES = """
name: stages
seed: 18446744073
stages:
  - name: one
    mix: [{source: messages, name: a, repeat: 0.1}, {source: messages, name: c, repeat: 3}]
  - name: two
    mix: [{source: messages, name: a, count: 77}, {source: messages, name: b, count: 9}]
"""
TOKENS = """
name: tokens
tokenizer: chars/4
tokens: 5000
mix: [{source: messages, name: a, weight: 3}, {source: messages, name: b, weight: 1}]
"""
SIZE_OF = {"a": 5000, "b": 300, "c": 7}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return table_of(tmp_path_factory.mktemp("locks") / "table", 5000, source="messages")


def made(table: Table, text: str, **how: Any) -> Plan:
    asked = Recipe.parse(text)
    found = {
        name: Selection(table, np.arange(size, dtype=np.int64)) for name, size in SIZE_OF.items()
    }
    return arrange(
        asked, found, root=Path(), tokens_of=lambda name: np.arange(SIZE_OF[name]) % 23, **how
    )


def chain(table: Table) -> Plan:
    """A plan that goes on from another one, in its third draw."""
    first = made(table, WEIGHTS)
    path = LOCKS / "weights.json"
    return made(table, WEIGHTS, epoch=2, after=(read_lock(path), 321), total=len(first) // 2)


GOLDEN: dict[str, Callable[[Table], Plan]] = {
    "weights": lambda table: made(table, WEIGHTS),
    "draw": lambda table: made(table, WEIGHTS, epoch=3),
    "sizes": lambda table: made(table, SIZES),
    "stages": lambda table: made(table, STAGES),
    "tokens": lambda table: made(table, TOKENS),
    "after": chain,
}


@pytest.mark.parametrize("name", GOLDEN)
def test_locks_are_what_they_were(table: Table, name: str) -> None:
    """Checked in: a change here moves every plan that anybody has made."""
    plan = GOLDEN[name](table)
    golden_lock = json.loads((LOCKS / f"{name}.json").read_text("utf-8"))
    assert {**json.loads(encode_lock(plan.lock())), "recipe": ""} == {**golden_lock, "recipe": ""}
    lock = read_lock(LOCKS / f"{name}.json")
    assert lock.digest == plan.digest
    sources, rows = plan.slice(0, len(plan))
    golden = json.loads((LOCKS / "rows.json").read_text("utf-8"))[name]
    assert golden == [sources[-20:].tolist(), rows[-20:].tolist()]


@pytest.mark.parametrize(
    ("module", "constant"),
    [(_order, "_MIX_1"), (_order, "_GOLDEN"), (_permute, "_ROUNDS"), (_permute, "MOST_SORTED")],
)
def test_a_changed_constant_moves_the_rows(
    table: Table, monkeypatch: pytest.MonkeyPatch, module: Any, constant: str
) -> None:
    """The golden rows would not let it pass."""
    value = getattr(module, constant)
    monkeypatch.setattr(module, constant, 10**6 if constant == "MOST_SORTED" else value - 2)
    plan = made(table, WEIGHTS)
    sources, rows = plan.slice(0, len(plan))
    golden = json.loads((LOCKS / "rows.json").read_text("utf-8"))["weights"]
    assert golden != [sources[-20:].tolist(), rows[-20:].tolist()]


def changed(lock: dict[str, Any], place: tuple[Any, ...], value: Any) -> bytes:
    target: Any = lock
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    if value is ...:
        del target[place[-1]]
    lock["digest"] = digest_of(lock) if place[0] != "digest" else lock["digest"]
    return encode_lock(lock)


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        (("schema_version",), 99, "is of version 99"),
        (("digest",), "0" * 32, "was changed after it was written"),
        (("rows",), 501, "its counts are not those of its stages"),
        (("rows",), -1, "its counts are not those"),
        (("parts", 0, "delivered"), 5, "its counts are not those"),
        (("parts", 0, "rows"), 0, "more rows than its table, or none"),
        (("parts", 0, "rows"), 10**9, "more rows than its table"),
        (("parts", 1, "number"), 0, "two of its parts have one number"),
        (("parts", 1, "name"), "a", "named twice"),
        (("stages", 0, "weights"), [1, 2], "names parts that it does not hold"),
        (("stages", 0, "weights"), [-1, 2, 3], "not an integer from 0"),
        (("stages", 0, "weights"), [2**90, 1, 3], "more than 2\\*\\*42"),
        (("stages", 0, "weights"), [True, 1, "x"], "is not one"),
        (("stages", 0, "numbers"), [0, 1, 7], "names parts that it does not hold"),
        (("stages", 0, "start"), 3, "does not follow"),
        (("stages", 0, "stop"), 2**70, "its counts are not those|is not one"),
        (("stages", 0, "starts"), [-5, 0, 0], "does not follow"),
        (("stages", 0, "key"), 2**64, "is not one|not an integer"),
        (("counters",), {"a": -1}, "counts below 0"),
        (("epoch",), -1, "counts below 0"),
        (("stages",), [[[[]]]], "is not one"),
        (("parts",), {}, "is not one"),
    ],
)
def test_a_lock_that_is_damaged_is_refused(
    tmp_path: Path, place: tuple[Any, ...], value: Any, says: str
) -> None:
    lock = json.loads((LOCKS / "weights.json").read_text("utf-8"))
    path = tmp_path / "lock.json"
    try:
        path.write_bytes(changed(lock, place, value))
    except (KeyError, TypeError, AttributeError):  # nothing to take a digest of
        path.write_bytes(encode_lock(lock))
    with pytest.raises(IntegrityError, match=says):
        read_lock(path)


@given(st.integers(0, 6000), st.binary(max_size=5))
def test_damaged_bytes_are_an_error_of_ours_or_no_change(
    tmp_path_factory: pytest.TempPathFactory, at: int, noise: bytes
) -> None:
    whole = (LOCKS / "weights.json").read_bytes()
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_bytes(whole[:at] + noise + whole[at + len(noise) :])
    try:
        lock = read_lock(path)
    except IntegrityError:
        return
    assert lock.digest == read_lock(LOCKS / "weights.json").digest


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "[" * 100_000, '{"schema_version": 1}'])
def test_what_is_no_lock_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lock.json"
    path.write_text(text)
    with pytest.raises(IntegrityError, match="lock"):
        read_lock(path)
    with pytest.raises(MissingInputError, match="cannot be read"):
        read_lock(tmp_path / "nothing.json")


def test_weights_of_the_lock_are_the_recipes(table: Table) -> None:
    (stage,) = made(table, WEIGHTS).lock()["stages"]
    assert [Fraction(one, sum(stage["weights"])) for one in stage["weights"]] == [
        Fraction(70, 91),
        Fraction(20, 91),
        Fraction(1, 91),
    ]


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_recipe_is_planned_again_from_its_lock(
    name: str, drawn_root: Path, tmp_path: Path
) -> None:
    how: dict[str, Any] = {"root": drawn_root, "tables": drawn_root.parent / "tables"}
    once = plan(name, allow_missing=True, **how)
    lock = tmp_path / f"{name}.json"
    lock.write_bytes(encode_lock(once.lock()))
    assert str(drawn_root) not in lock.read_text("utf-8")
    again = plan(lock, **how)
    assert again.digest == once.digest
    assert encode_lock(again.lock()) == lock.read_bytes()
