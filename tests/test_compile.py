"""Compiling: golden files for every target, hostile names, and what is written is what is meant."""

from __future__ import annotations

import ast
import json
import runpy
import shlex
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from typer.testing import CliRunner

from tests.rows import MakeTable, conversation, table_of
from vision_ift._cli import main as _cli
from vision_ift._compile.compile import TARGETS, compile_plan, write_compiled
from vision_ift._compile.energon import repetitions
from vision_ift._compile.parts import Part, Use, legs_of
from vision_ift._compile.trainers import probabilities
from vision_ift._errors import OutputError, UnknownNameError
from vision_ift._plan.plan import Plan, arrange
from vision_ift._recipe.recipe import Duplicates, Recipe
from vision_ift._recipe.select import Selection, select
from vision_ift._recipe.yaml import node_of, write_yaml
from vision_ift._table import Table

GOLDEN = Path(__file__).parent / "compiled"

SHARES = """
name: shares
seed: 17
total: 900
mix:
  - {source: messages, name: birds, weight: 4, where: "split = 'train'", subset: 1/2}
  - {source: messages, name: 'no: "cats" | <b>x</b> `rm`', weight: 2.5, cap_per_task: 40}
  - {source: llava, path: my/own file.json, weight: 1, options: {missing_images: drop}}
"""
STAGES = """
name: stages
seed: 17
stages:
  - name: all of it
    mix: [{source: messages, name: birds, repeat: 2.3}, {source: messages, name: cats, repeat: 1/3}]
  - name: a few
    mix: [{source: messages, name: birds, count: 100}, {source: messages, name: dogs, count: 7}]
"""
SIZE_OF = {"birds": 300, "cats": 70}


def planned(text: str, table: Table) -> Plan:
    recipe = Recipe.parse(text)
    found: dict[str, Selection | str] = {
        entry.name: Selection(table, np.arange(SIZE_OF.get(entry.name, 50), dtype=np.int64))
        for entry in recipe.mix
    }
    return arrange(recipe, found, root=Path())


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    rows = [conversation(n, task=f"t{n % 3}") for n in range(300)]
    return table_of(tmp_path_factory.mktemp("compile") / "table", rows, source="messages")


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("text", [SHARES, STAGES], ids=["shares", "stages"])
def test_files_are_the_golden_ones(to: str, text: str, table: Table) -> None:
    plan = planned(text, table)
    files = compile_plan(plan, to=to).files
    golden = GOLDEN / f"{plan.recipe.name}-{to}.json"
    # As lists of lines in JSON, so that no tool takes them for files of this project.
    lines = {name: data.decode().splitlines() for name, data in files.items()}
    if not golden.is_file():
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(json.dumps(lines, indent=1, ensure_ascii=False) + "\n", "utf-8")
        pytest.fail(f"{golden} was not there: look at what is written now")
    assert lines == json.loads(golden.read_text("utf-8"))


def test_what_other_readers_read_is_what_was_meant(table: Table) -> None:
    plan = planned(SHARES, table)
    hostile = plan.recipe.mix[1].name
    read = YAML(typ="safe", pure=True).load
    blend = read(compile_plan(plan, to="energon").files["metadataset.yaml"])
    parts = blend["splits"]["train"]["blend"]
    assert [part["subflavors"]["part"] for part in parts] == [one.name for one in plan.recipe.mix]
    weights = [part["weight"] for part in parts]
    assert [Fraction(one, sum(weights)) for one in weights] == [
        Fraction(share, 75) for share in (40, 25, 10)
    ]
    llama = compile_plan(plan, to="llamafactory").files
    names = read(llama["train.yaml"])["dataset"].split(",")
    assert list(json.loads(llama["dataset_info.json"])) == names
    made = ast.parse(compile_plan(plan, to="datasets").files["mix.py"])
    assert hostile in {one.value for one in ast.walk(made) if isinstance(one, ast.Constant)}
    page = compile_plan(plan, to="swift").files["NOTES.md"].decode()
    assert "<b>" not in page.replace("\\<b\\>", "")
    for line in compile_plan(plan, to="swift").commands:
        assert "rm" not in shlex.split(line, comments=True)


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=30),
        min_size=1,
        max_size=6,
        unique=True,
    )
)
def test_any_name_makes_plain_and_different_files(names: list[str]) -> None:
    text = write_yaml(
        node_of({"mix": [{"source": "messages", "name": one, "weight": 1} for one in names]})
    )
    recipe = Recipe.parse(text)
    assert [entry.name for entry in recipe.mix] == names
    with_rows = _plan_without_rows(recipe)
    slugs = [use.part.slug for leg in legs_of(with_rows, taken=("notes",)) for use in leg.uses]
    assert len({slug.lower() for slug in slugs} | {"notes"}) == len(names) + 1
    assert all(slug.replace("-", "").replace("_", "").isascii() for slug in slugs)
    for to in TARGETS:  # every file but the page is read by a machine: it has to parse
        for name, data in compile_plan(with_rows, to=to).files.items():
            if name.endswith(".yaml"):
                YAML(typ="safe", pure=True).load(data)
            elif name.endswith(".py"):
                ast.parse(data)


class _NoTable:
    """Stands for a table of which no row is read."""

    digest = "0" * 32

    def __len__(self) -> int:
        return 10


def _plan_without_rows(recipe: Recipe) -> Plan:
    none: Any = _NoTable()
    return arrange(recipe, {e.name: Selection(none, None) for e in recipe.mix}, root=Path())


@given(st.integers(1, 10**9), st.integers(1, 10**12))
def test_repetitions_come_to_the_rows(rows: int, delivered: int) -> None:
    """As Energon 7.4.1 counts them, in floating point."""
    times = float(repetitions(Use(Part("a", "a", "messages", rows, False, {}), 1, delivered)))
    whole, rest = divmod(delivered, rows)
    if whole > 10**5:  # nobody reads a part so often; doubles have no figures left there
        return
    assert floor(times) == whole
    assert floor(rows * (times - floor(times))) == rest


def test_plain_division_misses_rows() -> None:
    """The control: 2.3 times ten rows are 22 for Energon, not 23."""
    assert floor(10 * (2.3 - floor(2.3))) == 2


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=12))
def test_probabilities_add_up(weights: list[int]) -> None:
    mix = [{"source": "messages", "name": f"p{n}", "weight": w} for n, w in enumerate(weights)]
    recipe = Recipe.parse(write_yaml(node_of({"total": 10**7, "mix": mix})))
    (leg,) = legs_of(_plan_without_rows(recipe), taken=())
    given_ = [Fraction(one) for one in probabilities(leg)]
    assert sum(given_) == 1
    for one, use in zip(given_, leg.uses, strict=True):
        assert abs(one - Fraction(use.weight, sum(w.weight for w in leg.uses))) < Fraction(
            1, 10**10
        )


def test_a_part_of_a_count_holds_the_plans_own_rows(make_table: MakeTable) -> None:
    table = make_table([conversation(n, task=f"t{n % 3}") for n in range(200)], source="messages")
    recipe = Recipe.parse(
        "{seed: 3, mix: [{source: messages, count: 31, where: \"task <> 't1'\", subset: 50%}]}"
    )
    chosen = select(table, recipe.mix[0], seed=recipe.seed)
    plan = arrange(recipe, {"messages": chosen}, root=Path())
    compiled = compile_plan(plan, to="energon")
    part = Recipe.parse(compiled.files["messages.yaml"].decode())
    again = select(table, part.mix[0], seed=part.seed)
    alone = arrange(part, {"messages": again}, root=Path())
    rows = [sorted(one.slice(0, 31)[1].tolist()) for one in (plan, alone)]
    assert len(plan) == len(alone) == 31
    assert rows[0] == rows[1]


def test_copies_stay_out_under_a_cap_too(make_table: MakeTable, tmp_path: Path) -> None:
    """A cap beside an exclude list would fill up with rows that the plan has not."""
    table = make_table([conversation(n) for n in range(40)], source="messages")
    recipe = Recipe.parse("{seed: 3, mix: [{source: messages, repeat: 1, cap_per_task: 10}]}")
    capped = select(table, recipe.mix[0], seed=recipe.seed)
    assert capped.rows is not None
    left = capped.rows[2:]
    plan = arrange(recipe, {"messages": Selection(table, left)}, root=Path())
    object.__setattr__(plan, "copies", {"messages": 2})
    object.__setattr__(plan, "recipe", _with(plan.recipe, duplicates=Duplicates(by="text")))
    write_compiled(compile_plan(plan, to="energon"), tmp_path / "out")
    part = Recipe.read(tmp_path / "out/messages.yaml")
    from vision_ift._recipe.select import Excluded

    again = select(table, part.mix[0], seed=part.seed, excluded=Excluded(part.exclude))
    assert again.rows is not None
    assert again.rows.tolist() == left.tolist()


def _with(recipe: Recipe, **changes: Any) -> Recipe:
    import msgspec

    return msgspec.structs.replace(recipe, **changes)


def test_foreign_files_are_left_alone(table: Table, tmp_path: Path) -> None:
    compiled = compile_plan(planned(SHARES, table), to="energon")
    (tmp_path / "birds.yaml").write_text("mine")
    with pytest.raises(OutputError, match=r"birds\.yaml is there already"):
        write_compiled(compiled, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["birds.yaml"]
    write_compiled(compiled, tmp_path / "new")
    write_compiled(compiled, tmp_path / "new")  # ours is written anew
    with pytest.raises(UnknownNameError, match="did you mean energon"):
        compile_plan(planned(SHARES, table), to="energy")


def test_the_command_and_what_it_leads_to(drawn_root: Path, tmp_path: Path) -> None:
    """Compile for `datasets`, run the commands, and find the plan's sources at every row."""
    import vision_ift

    out, tables = tmp_path / "out", drawn_root.parent / "tables"
    common = ["--root", str(drawn_root), "--tables", str(tables), "--json"]
    base = ["compile", "coco_mix", "--to", "datasets", "--out", str(out), "--total", "60", *common]
    dry = CliRunner().invoke(_cli.app, [*base, "--dry-run"], catch_exceptions=False)
    assert dry.exit_code == 0
    assert not out.exists()
    done = CliRunner().invoke(_cli.app, base, catch_exceptions=False)
    told = json.loads(done.stdout)
    assert {**told, "dry_run": True} == json.loads(dry.stdout)
    assert told["files"] == {path.name: path.stat().st_size for path in out.iterdir()}
    for part in told["parts"]:
        place = str(out / part["file"])
        args = ["export", place, "--out", place.removesuffix(".yaml"), *common]
        assert CliRunner().invoke(_cli.app, args, catch_exceptions=False).exit_code == 0
    mixed = runpy.run_path(str(out / "mix.py"))["load"]("mix")
    plan = vision_ift.plan("coco_mix", root=drawn_root, tables=tables, total=60)
    sources, _ = plan.slice(0, 60)
    assert [row["source"] for row in mixed["json"]] == [plan.names[n] for n in sources]
