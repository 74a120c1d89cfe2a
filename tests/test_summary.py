"""A plan in figures: asked and delivered, licences, warnings; two plans side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.rows import MakeTable, conversation, table_of
from vision_ift._cli import main as _cli
from vision_ift._conversation import Conversation, Message
from vision_ift._errors import UsageError
from vision_ift._plan.compare import compare
from vision_ift._plan.licences import judge, licences_of, rank
from vision_ift._plan.lock import Lock
from vision_ift._plan.plan import Plan, arrange
from vision_ift._plan.row_figures import row_figures
from vision_ift._plan.summary import shown_tokenizer, summarise
from vision_ift._recipe.recipe import Recipe
from vision_ift._recipe.select import Selection, select
from vision_ift._table import Table


def talk(number: int, rounds: int, licence: str | None) -> Conversation:
    turns = [Message.of(r, "words") for _ in range(rounds) for r in ("user", "assistant")]
    return Conversation(id=str(number), messages=tuple(turns), license=licence)


def planned(text: str, found: dict[str, Table], **how: Any) -> Plan:
    chosen = {name: Selection(table, None) for name, table in found.items()}
    return arrange(Recipe.parse(text), chosen, root=Path(), **how)


def test_figures_are_those_of_the_rows(make_table: MakeTable) -> None:
    rows = [talk(n, 1 + n % 4, "MIT" if n % 3 else None) for n in range(40)]
    table = make_table(rows)
    kept = np.arange(5, 35, dtype=np.int64)
    asked = Recipe.parse("mix: [{source: llava, repeat: 2.5}]")
    made = arrange(asked, {"llava": Selection(table, kept)}, root=Path())
    summary = summarise(made, tokenizer="chars/4")
    _, numbers = made.slice(0, len(made))
    assert summary["rows"] == 75
    assert summary["rounds"] == sum(1 + n % 4 for n in numbers.tolist())
    assert summary["text_tokens"] == sum(2 * 2 * (1 + n % 4) for n in numbers.tolist())
    assert summary["image_tokens"] is None
    (part,) = summary["sources"]
    assert (part["delivered"], part["asked"], part["unique"], part["available"]) == (75, 75, 30, 30)
    stated = part["licenses"]["licenses"]
    assert stated["MIT"] == 20
    assert stated["CC-BY-4.0"] == 10  # where a row is silent, its source speaks
    again = row_figures(table)  # from the file this time
    assert again.rounds.tolist() == [1 + n % 4 for n in range(40)]


def test_what_a_reader_should_know_is_said(make_table: MakeTable) -> None:
    found = {"a": make_table(100), "b": make_table(10), "c": make_table(30)}
    text = """
    cap: 50
    total: 180
    mix: [{source: llava, name: a}, {source: llava, name: b}, {source: llava, name: c}]
    """
    warnings = summarise(planned(text, found))["warnings"]
    assert warnings == [
        "b is exhausted: 20 rows are asked of the 10 it has, so 10 come again",
        "c is exhausted: 60 rows are asked of the 30 it has, so 30 come again",
        "stage mix: the cap bites: a has 100 rows and weighs as 50",
    ]
    many = "max_repeats: 2\nmix: [{source: llava, name: b, repeat: 3}]"
    (warning,) = summarise(planned(many, found))["warnings"]
    assert warning == "b is read 3.0 times (max_repeats is 2); its rows are few"
    assert summarise(planned(many.replace(": 2", ": 3"), found))["warnings"] == []


def test_the_strictest_licence_is_named_and_the_unknown_are_not_guessed() -> None:
    found = judge(
        {"CC-BY-4.0": 5, "Apache-2.0 AND CC-BY-NC-SA-4.0": 2, "whatever": 1, "A OR MIT": 1}
    )
    assert found["strictest"] == "CC-BY-NC-SA-4.0"
    assert found["unknown"] == ["A OR MIT", "whatever"]
    assert found["licenses"]["Apache-2.0"] == 2
    assert found["restricts"] == ["keep the notice", "credit", "no commercial use", "share alike"]
    assert judge({"as each file states": 3})["strictest"] is None
    order = [
        "CC0-1.0",
        "MIT",
        "CC-BY-4.0",
        "CC-BY-SA-4.0",
        "CC-BY-ND-4.0",
        "CC-BY-NC-4.0",
        "CC-BY-NC-SA-4.0",
        "CC-BY-NC-ND-4.0",
        "LicenseRef-research-only",
        "LicenseRef-ObjectNet",
    ]
    ranks = [rank(name) for name in order]
    assert ranks == list(range(len(order)))


def test_every_licence_of_our_sources_is_taken_apart() -> None:
    from vision_ift import _registry

    known = {
        name: [rank(one) is not None for one in licences_of(_registry.find(name).license)]
        for name in _registry.names()
    }
    assert known["mminstruct"] == known["mm_instruct"] == [True]
    assert known["coco_ift"] == [True, True, False]  # one of its parts states none
    assert not any(known["messages"])


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return table_of(tmp_path_factory.mktemp("both") / "table", 60, source="llava")


@given(
    kept=st.tuples(*[st.sets(st.integers(0, 59), min_size=1)] * 3),
    totals=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    seeds=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    epoch=st.integers(0, 2),
)
def test_rows_that_two_plans_share_are_those_of_sets(
    table: Table,
    kept: tuple[set[int], ...],
    totals: tuple[int, int],
    seeds: tuple[int, int],
    epoch: int,
) -> None:
    selections = [Selection(table, np.array(sorted(one), np.int64)) for one in kept]
    names = (("a", "b"), ("b", "c"))
    plans = []
    for pair, total, seed, draw in zip(names, totals, seeds, (epoch, 0), strict=True):
        mix = ", ".join(f"{{source: llava, name: {name}, weight: 1}}" for name in pair)
        asked = Recipe.parse(f"seed: {seed}\ntotal: {total}\nmix: [{mix}]")
        found = dict(zip("abc", selections, strict=True))
        plans.append(arrange(asked, found, root=Path(), epoch=draw))
    sets = [set(one.slice(0, len(one))[1].tolist()) for one in plans]
    both = compare(*plans)
    (shared,) = both["tables"]
    assert shared["rows"] == [len(one) for one in sets]
    assert shared["shared_least"] == shared["shared_most"] == len(sets[0] & sets[1])
    assert [part["name"] for part in both["parts"]] == ["a", "b", "c"]
    assert both["parts"][0]["plans"][1] is None
    lock = msgspec.convert(plans[1].lock(), Lock)
    (bounded,) = compare(plans[0], lock)["tables"]
    assert bounded["shared_least"] <= len(sets[0] & sets[1]) <= bounded["shared_most"]
    again = compare(plans[1], lock)["tables"][0]  # the same selections: known from the other side
    assert again["shared_least"] == again["shared_most"] == len(sets[1])


def test_other_tables_are_not_compared(make_table: MakeTable) -> None:
    text = "total: 5\nmix: [{source: llava, weight: 1}]"
    one = planned(text, {"llava": make_table(9)})
    two = planned(text, {"llava": make_table(conversation(n, task="u") for n in range(9))})
    both = compare(one, two)
    assert both["tables"] == []
    assert both["not_compared"] == ["llava"]


def called(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(_cli.app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_the_command_plans_continues_compares_and_plans_again(
    drawn_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISION_IFT_TABLES", str(drawn_root.parent / "tables"))
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    root = ("--root", drawn_root)
    first = json.loads(called("plan", "coco_mix", *root, "--lock", old, "--json")[1])
    assert first["licenses"]["strictest"]
    code, out, _ = called(
        *("plan", "balanced", *root, "--continue", old, "--at", 300, "--lock", new)
    )
    assert code == 0
    assert "coco_ift: goes on at row" in out or "coco_ift starts from its first row" in out
    again = json.loads(called("plan", new, *root, "--json")[1])
    assert again["plan_digest"] == json.loads(new.read_text())["digest"]
    both = json.loads(called("plan", old, "balanced", *root, "--json")[1])
    assert [one["name"] for one in both["plans"]] == ["coco_mix", "balanced"]
    code, out, _ = called("plan", old, new, *root)
    assert code == 0
    assert "different rows of one table" in out
    counted = json.loads(
        called(
            *("plan", "coco_mix", *root, "--tokenizer", "chars/4"),
            *("--image-tokens", "llava-1.5", "--epoch", 1, "--json"),
        )[1]
    )
    assert counted["image_tokens"] == 576 * counted["images"]
    assert counted["epoch"] == 1
    with pytest.raises(UsageError, match="--continue and --at go together"):
        called("plan", "coco_mix", *root, "--continue", old)
    with pytest.raises(UsageError, match="two plans are compared as they are"):
        called("plan", "coco_mix", "balanced", *root, "--epoch", 1)


def test_a_cap_on_tasks_that_bites_is_said(make_table: MakeTable) -> None:
    table = make_table([conversation(n, task=f"t{n % 3}") for n in range(90)])
    recipe = Recipe.parse("{seed: 1, mix: [{source: llava, repeat: 1, cap_per_task: 20}]}")
    chosen = select(table, recipe.mix[0], seed=recipe.seed)
    assert (len(chosen), chosen.cut) == (60, 30)
    summary = summarise(arrange(recipe, {"llava": chosen}, root=Path()))
    assert summary["warnings"] == ["llava: cap_per_task of 20 bites: it cuts 30 of 90 rows"]
    wide = Recipe.parse("{seed: 1, mix: [{source: llava, repeat: 1, cap_per_task: 30}]}")
    assert not select(table, wide.mix[0], seed=1).cut


def test_two_plans_are_compared_in_tokens_where_both_know_them(make_table: MakeTable) -> None:
    table = make_table(30)
    text = "{%s, mix: [{source: llava, repeat: %d}]}"
    one, two = (planned(text % ("tokenizer: chars/4", times), {"llava": table}) for times in (1, 3))
    (part,) = compare(one, two)["parts"]
    tokens = [side["text_tokens"] for side in part["plans"]]
    assert tokens[0] > 0
    assert tokens[1] == 3 * tokens[0]
    assert [side["image_tokens"] for side in part["plans"]] == [None, None]
    other = planned(text % ("seed: 1", 1), {"llava": table})
    for pair in ((one, other), (one, msgspec.convert(two.lock(), Lock))):
        (part,) = compare(*pair)["parts"]
        assert [side["text_tokens"] for side in part["plans"]] == [None, None]
    (part,) = compare(one, other, tokenizer="chars/4")["parts"]
    assert [side["text_tokens"] for side in part["plans"]] == [tokens[0], tokens[0]]


def test_a_local_tokenizers_folder_is_not_shown() -> None:
    assert shown_tokenizer("hf:/home/me/models/qwen") == "hf:qwen"
