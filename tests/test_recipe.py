"""Recipes: what is read, the shipped ones, and the schema for editors."""

from __future__ import annotations

import re
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from vision_ift._errors import RecipeError
from vision_ift._plan.plan import plan
from vision_ift._recipe import schema as _recipe_schema
from vision_ift._recipe.mix import DUPLICATES_KEYS, ENTRY_KEYS, STAGE_KEYS
from vision_ift._recipe.recipe import RECIPE_KEYS, Duplicates, Recipe, shipped

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


def test_the_whole_language_is_read() -> None:
    recipe = Recipe.parse(
        """
        name: whole
        seed: 3
        tokenizer: chars/4
        image_tokens: "qwen2-vl:max_pixels=1003520"
        tokens: 200M
        temperature: 3.33
        cap: 350k
        max_repeats: 2.5
        duplicates: {by: both, near: true, keep: 2}
        exclude: [a.jsonl, b/c.jsonl]
        mix:
          - {source: coco_ift, subset: 10%}
          - {source: vision_flan, subset: 1/3, cap_per_task: 1k}
        """,
        file="here/r.yaml",
    )
    (stage,) = recipe.stages
    assert (stage.tokens, stage.temperature, stage.cap) == (
        200_000_000,
        Fraction(333, 100),
        350_000,
    )
    assert [(e.kind, e.amount, e.subset) for e in recipe.mix] == [
        ("size", Fraction(1), Fraction(1, 10)),
        ("size", Fraction(1), Fraction(1, 3)),
    ]
    assert recipe.max_repeats == Fraction(5, 2)
    assert recipe.duplicates == Duplicates(by="both", near=True, keep=2)
    assert (recipe.tokenizer, recipe.image_tokens) == ("chars/4", "qwen2-vl:max_pixels=1003520")
    assert recipe.exclude == ("here/a.jsonl", "here/b/c.jsonl")


def test_a_local_tokenizer_lies_beside_the_recipe() -> None:
    recipe = Recipe.parse(f"tokenizer: hf:models/tok\n{GOOD}", file="here/r.yaml")
    assert recipe.tokenizer == "hf:here/models/tok"
    assert Recipe.parse(f"tokenizer: hf:/tok\n{GOOD}", file="here/r.yaml").tokenizer == "hf:/tok"


def test_stages_have_lengths_of_their_own() -> None:
    recipe = Recipe.parse(
        """
        tokenizer: chars/4
        stages:
          - {name: a, total: 10k, mix: [{source: coco_ift, weight: 1}]}
          - {name: b, epochs: 2.5, mix: [{source: coco_ift, repeat: 1}]}
          - {name: c, tokens: 1M, cap: 5, mix: [{source: coco_ift}]}
        """
    )
    assert [(s.name, s.total, s.epochs, s.tokens, s.cap) for s in recipe.stages] == [
        ("a", 10_000, 1, None, None),
        ("b", None, Fraction(5, 2), None, None),
        ("c", None, 1, 1_000_000, 5),
    ]


@pytest.mark.parametrize("name", shipped())
def test_the_schema_knows_the_shipped_recipes(name: str) -> None:
    import jsonschema

    jsonschema.Draft202012Validator.check_schema(Recipe.json_schema())
    jsonschema.validate(as_json(Recipe.read(name).text), Recipe.json_schema())


def as_json(text: str) -> Any:
    """What an editor's YAML makes of it."""
    return YAML(typ="safe", pure=True).load(text)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (GOOD, True),
        ("{tokens: 200M, total: 1.5k, cap: 3, mix: [{source: mine, subset: 10%}]}", True),
        ("{duplicates: {by: text, keep: 2}, mix: [{source: a, weight: 1/3}]}", True),
        ("{extends: coco_mix, drop: [a], stages: [{name: b, drop: [c], epochs: 0.5}]}", True),
        ("{mix: [{source: a, wieght: 1}]}", False),
        ("{mix: [{source: a, weight: lots}]}", False),
        ("{mix: [{source: a, subset: 10}]}", False),
        ("{mix: [{source: a, subset: 1M}]}", False),
        ("{mix: []}", False),
        ("{stages: [{mix: [{source: a}]}]}", False),
        ("{duplicates: {near: true}, mix: [{source: a}]}", False),
        ("{total: 10%, mix: [{source: a}]}", False),
        ("{tokenizer: chars, mix: [{source: a}]}", False),
        ("{image_tokens: qwen, mix: [{source: a}]}", False),
    ],
)
def test_the_schema_marks_mistakes(text: str, good: bool) -> None:
    import jsonschema

    assert jsonschema.Draft202012Validator(Recipe.json_schema()).is_valid(as_json(text)) == good


def test_the_schemas_file_is_current_and_has_every_key() -> None:
    file = files("vision_ift") / "recipes" / _recipe_schema.FILE
    assert file.read_text("utf-8") == _recipe_schema.as_text(), (
        "python -m vision_ift._recipe.schema > vision_ift/recipes/recipe.schema.json"
    )
    properties = Recipe.json_schema()["properties"]
    assert set(properties) == set(RECIPE_KEYS)
    assert set(properties["mix"]["items"]["properties"]) == set(ENTRY_KEYS)
    stage = properties["stages"]["items"]["properties"]
    assert set(stage) == {*STAGE_KEYS, "drop"}
    assert set(properties["duplicates"]["properties"]) == set(DUPLICATES_KEYS)


PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"


@pytest.mark.parametrize("name", ["by_size", "budget", "filtered", "two_steps", "coco_mix_small"])
def test_the_recipes_of_the_page_can_be_planned(
    name: str, tmp_path: Path, drawn_root: Path
) -> None:
    (text,) = [
        block
        for block in re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
        if re.search(rf"^name: {name}$", block, re.M)
    ]
    for file in ("checked/exclude.jsonl", "benchmarks/pope.jsonl"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_text("")
    recipe = Recipe.parse(text, file=str(tmp_path / "r.yaml"))
    planned = plan(recipe, root=drawn_root, tables=drawn_root.parent / "tables")
    assert len(planned) > 0
    assert all(planned.counts())
