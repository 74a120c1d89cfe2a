"""Recipes: what is taken, and what a broken one is told."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from vision_ift._errors import MissingInputError, RecipeError, UnknownNameError
from vision_ift._recipe import Recipe, shipped

GOOD = "name: a\nseed: 3\nmix:\n  - {source: coco_ift, weight: 1}\n"


def test_a_recipe_says_what_it_holds() -> None:
    recipe = Recipe.parse(
        """
        name: mine
        description: two sources
        seed: 17
        total: 500
        mix:
          - source: coco_ift
            weight: 0.1
            where: "rounds >= 2"
            options: {rounds: single, max_rounds: 4}
          - {source: llava, name: chat, path: a/b.json, weight: 3, cap_per_task: 10}
        """
    )
    assert (recipe.name, recipe.seed, recipe.stages[0].total) == ("mine", 17, 500)
    first, second = recipe.mix
    assert first.amount == Fraction(1, 10)  # exact, not the nearest float
    assert first.options == {"rounds": "single", "max_rounds": 4}
    assert second.name == "chat"
    assert second.all_options == {"path": "a/b.json"}


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_are_read_by_name(name: str) -> None:
    recipe = Recipe.read(name)
    assert recipe.name == name
    assert recipe.description


def test_shipped_recipes_are_those_of_the_package() -> None:
    assert shipped() == [
        "balanced",
        "coco_mix",
        "mm_instruct_sft",
        "mminstruct_sft",
        "vision_flan_two_stage",
    ]
    assert Recipe.read("coco_mix").mix[0].source == "coco_ift"
    assert {entry.source for entry in Recipe.read("coco_mix").mix} == {
        "coco_ift",
        "vision_flan",
        "mminstruct",
        "mm_instruct",
    }
    stages = Recipe.read("vision_flan_two_stage").stages
    assert [stage.name for stage in stages] == ["base", "chat"]
    assert stages[1].mix[0].amount == 1000
    for name in ("mm_instruct_sft", "mminstruct_sft"):
        assert [(one.kind, int(one.amount)) for one in Recipe.read(name).mix] == [
            ("repeat", 1),
            ("repeat", 1),
        ]
    assert {entry.amount for entry in Recipe.read("balanced").mix} == {1}


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_say_where_they_come_from(name: str) -> None:
    comment = Recipe.read(name).text.partition("name:")[0]
    assert "arXiv" in comment or name == "coco_mix"


def test_two_files_of_one_source_need_no_names() -> None:
    text = "mix: [{source: llava, path: a/x.json, count: 1}, {source: llava, path: %s, count: 1}]"
    recipe = Recipe.parse(text % "y.json")
    assert [entry.name for entry in recipe.mix] == ["llava:x.json", "llava:y.json"]
    with pytest.raises(RecipeError, match=r"two entries are named llava:x\.json"):
        Recipe.parse(text % "x.json")


def test_a_file_is_named_in_its_errors(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("mix:\n  - {source: coco_ift, wieght: 1}\n")
    with pytest.raises(RecipeError) as caught:
        Recipe.read(path)
    assert str(caught.value) == (
        f"{path}:2:24: no key of a mix entry named 'wieght'; did you mean weight?"
    )
    assert (caught.value.line, caught.value.column) == (2, 24)
    path.write_bytes(b"name: \xff")
    with pytest.raises(RecipeError, match="not UTF-8 at byte 6"):
        Recipe.read(path)
    with pytest.raises(MissingInputError, match="No such file"):
        Recipe.read(tmp_path / "none.yaml")
    with pytest.raises(UnknownNameError, match="did you mean coco_mix"):
        Recipe.read("coco_mx")


BROKEN = [
    # (what is written, what the message must hold)
    ("", "the file is empty"),
    ("[]", "1:1: a recipe is a mapping"),
    ("name: a", "either mix or stages"),
    (GOOD + "stages: []", "either mix or stages"),
    ("mix: {}", "1:6: mix is a list"),
    ("mix: []", "1:6: mix is a list of at least one"),
    ("mix: [coco_ift]", "1:7: a mix entry is a mapping"),
    ("mix: [{weight: 1}]", "1:7: source is missing"),
    ("mix: [{source: coco, weight: 1}]", "1:16: no source named 'coco'; did you mean coco_ift"),
    ("mix: [{source: coco_ift}]", "1:7: coco_ift has no amount; give exactly one of"),
    ("mix: [{source: coco_ift, weight: 1, count: 2}]", "coco_ift has weight and count"),
    ("mix: [{source: coco_ift, weight: lots}]", "weight is 'lots'; give a number"),
    ("mix: [{source: coco_ift, weight: true}]", "weight is True; give a number"),
    ("mix: [{source: coco_ift, weight: -1}]", "weight is -1; give 0 or more"),
    ("mix: [{source: coco_ift, weight: 0}]", "all weights are 0"),
    ("mix: [{source: coco_ift, count: 1.5}]", "give a whole number"),
    (
        "mix: [{source: coco_ift, weight: 1}, {source: llava, count: 2}]",
        "1:54: llava has a count, but coco_ift has a weight",
    ),
    (
        "mix: [{source: coco_ift, weight: 1}, {source: coco_ift, weight: 2}]",
        "two entries are named coco_ift",
    ),
    ("total: 5\nmix: [{source: coco_ift, count: 2}]", "1:1: total goes with weights"),
    ("total: 5\nepochs: 2\n" + GOOD, "2:1: total and epochs exclude each other"),
    ("total: 0\n" + GOOD, "total is 0; give 1 to"),
    ("total: 1.5\n" + GOOD, "total is not a number; give a whole number"),
    ("epochs: 0\n" + GOOD, "1:1: epochs is 0; give more than 0"),
    ("seed: 0.5\nmix: []", "seed is not a number; give a whole number"),
    (GOOD + "seed: 4\n", "5:1: key 'seed' stands twice, first in line 2"),
    (GOOD + "temprature: 2\n", "no key of a recipe named 'temprature'"),
    ("name: no\nmix: []", "1:7: no means different things"),
    ("seed: 010\nmix: []", "1:7: 010 means different things"),
    ("seed: 1_000\nmix: []", "1:7: 1_000 means different things"),
    ("name: ~\nmix: []", "1:7: ~ means different things"),
    ("name: 12:30:00\nmix: []", "means different things"),
    ("name:\nmix: []", "the value is missing"),
    ("name: &a x\nother: *a\n", "1:7: anchors and aliases"),
    ("name: !!python/object/apply:os.system [ls]", "1:7: tags (!) are not taken"),
    ("name: 'x", "not YAML"),
    ("a: b: c", "1:5: not YAML"),
    ("name: \x07", "not YAML"),
    ("[" * 40 + "]" * 40, "nested deeper than 32"),
    ("x: " + "y" * 2_000_000, "are too many"),
    ("mix: [{source: coco_ift, weight: 1, options: [1]}]", "options is not a mapping"),
    ("mix: [{source: coco_ift, weight: 1, options: {a: [1]}}]", "option a is not text"),
    ("mix: [{source: coco_ift, weight: 1, where: 3}]", "where is not text; quote it"),
    ("mix: [{source: coco_ift, weight: 1, cap_per_task: 0}]", "cap_per_task is 0"),
    ("stages: [{mix: [{source: coco_ift, count: 1}]}]", "1:10: name is missing"),
    (
        "total: 3\nstages: [{name: a, mix: [{source: coco_ift, count: 1}]}]",
        "1:1: total stands beside stages",
    ),
    (
        (
            "stages:\n- {name: a, mix: [{source: coco_ift, count: 1}]}\n"
            "- {name: b, mix: [{source: coco_ift, count: 1, where: x}]}"
        ),
        "coco_ift is not the coco_ift of an earlier stage",
    ),
]


@pytest.mark.parametrize(("text", "message"), BROKEN, ids=[m for _, m in BROKEN])
def test_a_broken_recipe_says_where_and_what_to_do(text: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.parse(text)
    assert message in str(caught.value)


def test_deep_nesting_ends_in_an_error_not_in_a_crash() -> None:
    with pytest.raises(RecipeError, match="nested deeper"):
        Recipe.parse("[" * 100_000)
