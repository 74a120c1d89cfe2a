"""``extends``: merging by name, what is written out, and errors that name both files."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from vision_ift._errors import RecipeError
from vision_ift._recipe.recipe import Recipe, shipped

Write = Callable[..., Path]

BASE = """
name: base
description: what the base says
seed: 5
epochs: 2
exclude: [seen.jsonl]
tokenizer: hf:tok
mix:
  - {source: coco_ift, weight: 4, where: "rounds >= 2"}
  - {source: llava, path: a/x.json, weight: 0.1}
  - {source: messages, name: chat, path: org/name, weight: 2}
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    return written


def test_what_is_given_replaces_and_the_rest_stays(write: Write) -> None:
    write("base.yaml", BASE)
    path = write(
        "mine.yaml",
        """
        extends: base.yaml
        total: 20k
        drop: ["llava:x.json"]
        mix:
          - {source: coco_ift, weight: 6}
          - {name: chat, path: org/other, subset: 10%}
          - {source: vision_flan, weight: 1}
        """,
    )
    recipe = Recipe.read(path)
    assert (recipe.name, recipe.description, recipe.seed) == ("mine", "", 5)
    (stage,) = recipe.stages
    assert (stage.total, stage.epochs) == (20_000, Fraction(1))  # `epochs: 2` went with it
    assert [(e.name, e.source, e.path, e.amount, e.where, e.subset) for e in recipe.mix] == [
        ("coco_ift", "coco_ift", None, Fraction(6), "rounds >= 2", None),
        ("chat", "messages", "org/other", Fraction(2), None, Fraction(1, 10)),
        ("vision_flan", "vision_flan", None, Fraction(1), None, None),
    ]


def test_another_kind_of_amount_replaces_the_one_there(write: Write) -> None:
    write("base.yaml", "mix: [{source: llava, weight: 1}]")
    recipe = Recipe.read(write("b.yaml", "{extends: base.yaml, mix: [{source: llava, count: 7}]}"))
    assert [(e.kind, e.amount) for e in recipe.mix] == [("count", Fraction(7))]


def test_stages_merge_by_name(write: Write) -> None:
    path = write(
        "mine.yaml",
        """
        extends: vision_flan_two_stage
        stages:
          - {name: chat, mix: [{name: "llava:llava_instruct_150k.json", count: 2k}]}
          - {name: last, total: 9, mix: [{source: coco_ift, weight: 1}]}
        """,
    )
    base, recipe = Recipe.read("vision_flan_two_stage"), Recipe.read(path)
    assert [stage.name for stage in recipe.stages] == ["base", "chat", "last"]
    assert recipe.stages[0] == base.stages[0]
    assert recipe.stages[1].mix[0].amount == 2000
    assert recipe.stages[1].mix[0].path == base.stages[1].mix[0].path
    without = write("without.yaml", "{extends: mine.yaml, drop: [chat]}")
    assert [stage.name for stage in Recipe.read(without).stages] == ["base", "last"]
    one = write(
        "one.yaml",
        "extends: mine.yaml\n"
        "stages: [{name: last, drop: [coco_ift], mix: [{source: llava, weight: 1}]}]",
    )
    assert [entry.name for entry in Recipe.read(one).stages[2].mix] == ["llava"]


def test_a_mix_replaces_stages_and_what_belonged_to_them(write: Write) -> None:
    write("base.yaml", BASE)
    recipe = Recipe.read(
        write("s.yaml", "extends: base.yaml\nstages: [{name: a, mix: [{source: llava, count: 1}]}]")
    )
    assert [stage.name for stage in recipe.stages] == ["a"]
    assert recipe.seed == 5
    recipe = Recipe.read(write("m.yaml", "extends: s.yaml\nmix: [{source: llava, repeat: 3}]"))
    assert recipe.mix[0].kind == "repeat"


def test_paths_mean_the_files_of_the_recipe_in_which_they_stand(
    write: Write, tmp_path: Path
) -> None:
    write("shared/deep/base.yaml", BASE)
    write("shared/middle.yaml", "extends: deep/base.yaml\nseed: 6")
    path = write("own/mine.yaml", "extends: ../shared/middle.yaml\n")
    recipe = Recipe.read(path)
    assert recipe.exclude == (str(tmp_path / "own/../shared/deep/seen.jsonl"),)
    assert recipe.tokenizer == f"hf:{tmp_path / 'own/../shared/deep/tok'}"
    # The text stands for itself, and names no folder of this machine.
    assert str(tmp_path) not in recipe.text
    assert "extends" not in recipe.text
    assert Recipe.parse(recipe.text, file=str(path)) == recipe
    # Beside another file it means files beside that.
    assert Recipe.parse(recipe.text, file="x/mine.yaml").exclude == ("x/../shared/deep/seen.jsonl",)
    own = write("own/own.yaml", "extends: ../shared/middle.yaml\nexclude: [mine.jsonl, ~/a.jsonl]")
    assert Recipe.read(own).exclude == (
        str(tmp_path / "own/mine.jsonl"),
        str(Path("~/a.jsonl").expanduser()),
    )


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_recipe_can_be_extended_and_written_out(name: str) -> None:
    recipe = Recipe.parse(f"extends: {name}\n", file="mine.yaml")
    assert recipe.stages == Recipe.read(name).stages
    assert Recipe.parse(recipe.text, file="mine.yaml") == recipe
    assert not Recipe.read(name).exclude  # a package's file has no folder to look beside


def test_a_recipe_may_have_the_name_of_the_shipped_one_that_it_extends(write: Write) -> None:
    recipe = Recipe.read(write("coco_mix.yaml", "extends: coco_mix\nseed: 1"))
    assert recipe.seed == 1


BROKEN = [
    # (base.yaml, mine.yaml, the message; {} is the folder)
    (
        "mix: [{source: coco_ift, weight: 1}]",
        "extends: base.yaml\nmix: [{source: llava, count: 1}]",
        (
            "{}/mine.yaml:2:23: llava has a count, but coco_ift ({}/base.yaml:1:7) has a weight; "
            "give all entries of a mix the same kind of amount"
        ),
    ),
    (
        "mix:\n- {source: coco_ift, wieght: 1}",
        "seed: 1\nextends: base.yaml",
        (
            "{}/base.yaml:2:22: no key of a mix entry named 'wieght' "
            "(extended at {}/mine.yaml:2:10); did you mean weight?"
        ),
    ),
    (
        "mix: [{source: coco, weight: 1}]",
        "extends: base.yaml",
        (
            "{}/base.yaml:1:16: no source named 'coco' (extended at {}/mine.yaml:1:10); "
            "did you mean coco_ift?"
        ),
    ),
    (
        "mix: [{source: coco_ift",
        "extends: base.yaml",
        (
            "{}/base.yaml:1:24: not YAML: expected ',' or '}}', but got '<stream end>' "
            "(extended at {}/mine.yaml:1:10)"
        ),
    ),
    (
        "extends: mine.yaml",
        "extends: base.yaml",
        (
            "{}/base.yaml:1:10: extends goes in a circle: {}/mine.yaml -> {}/base.yaml -> "
            "{}/mine.yaml (extended at {}/mine.yaml:1:10); remove one extends"
        ),
    ),
    (
        "mix: [{source: coco_ift, weight: 1}]",
        "extends: ./mine.yaml",
        (
            "{}/mine.yaml:1:10: extends goes in a circle: {}/mine.yaml -> {}/mine.yaml; "
            "remove one extends"
        ),
    ),
    (
        "extends: none.yaml",
        "extends: base.yaml",
        (
            "{}/base.yaml:1:10: extends none.yaml: recipe {}/none.yaml cannot be read: "
            "No such file or directory (extended at {}/mine.yaml:1:10); its path is relative to "
            "the recipe that extends it"
        ),
    ),
    (
        "mix: [{source: coco_ift, weight: 1}]",
        "extends: base.yaml\ndrop: [coco]",
        "{}/mine.yaml:2:8: no entry of the base named 'coco'; did you mean coco_ift?",
    ),
    (
        "mix: [{source: coco_ift, weight: 1}]",
        "extends: base.yaml\ndrop: [coco_ift]",
        (
            "{}/base.yaml:1:6: mix is a list of at least one entry "
            "(extended at {}/mine.yaml:1:10); start each with a dash"
        ),
    ),
    (
        "mix: [{source: coco_ift, weight: 1}]",
        "extends: base.yaml\ntemperature: 2",
        (
            "{}/mine.yaml:2:1: temperature makes shares of sizes, but coco_ift has a weight; "
            "remove temperature, or the entries' amounts"
        ),
    ),
    (
        "mix: [{source: coco_ift, weight: 1}]",
        "extends: base.yaml\nmix: [{weight: 2}]",
        "{}/mine.yaml:2:7: name is missing; say which entry of the base this is, or a source",
    ),
    (
        "mix: [{source: coco_ift, weight: 1}]",
        "extends: base.yaml\nmix: [{name: coco, weight: 2}]",
        "{}/mine.yaml:2:7: source is missing; name one: vision-ift sources lists them",
    ),
    (
        "stages: [{name: a, mix: [{source: coco_ift, weight: 1}]}]",
        "extends: base.yaml\ntotal: 5",
        "{}/mine.yaml:2:1: total stands beside stages; put it into one of them",
    ),
    (
        "mix: [{source: coco_ift, count: 1}]",
        "extends: base.yaml\nmix: [{source: llava, count: 1}, {source: llava, count: 2}]",
        (
            "{}/mine.yaml:2:34: two entries are named llava, the first at {}/mine.yaml:2:7; "
            "give one a name of its own (name: …)"
        ),
    ),
]


@pytest.mark.parametrize(("base", "mine", "message"), BROKEN, ids=[m[12:60] for *_, m in BROKEN])
def test_an_error_names_both_files(write: Write, base: str, mine: str, message: str) -> None:
    write("base.yaml", base)
    path = write("mine.yaml", mine)
    with pytest.raises(RecipeError) as caught:
        Recipe.read(path)
    folder = str(path.parent)
    assert str(caught.value) == message.format(*[folder] * 9)


def test_a_chain_has_an_end(write: Write) -> None:
    write("0.yaml", "mix: [{source: llava, count: 1}]")
    for number in range(1, 9):
        path = write(f"{number}.yaml", f"extends: {number - 1}.yaml")
        if number < 8:
            assert Recipe.read(path).mix[0].amount == 1
    with pytest.raises(RecipeError, match="extends goes through more than 8 recipes"):
        Recipe.read(path)


def test_a_link_to_itself_is_a_circle_too(write: Write, tmp_path: Path) -> None:
    path = write("mine.yaml", "extends: other.yaml")
    (tmp_path / "other.yaml").symlink_to(path)
    with pytest.raises(RecipeError, match="circle"):
        Recipe.read(path)


def test_large_files_are_not_read_to_their_end(write: Write) -> None:
    if not Path("/dev/zero").exists():
        pytest.skip("no file without an end here")
    path = write("mine.yaml", "extends: none.yaml")
    path.with_name("none.yaml").symlink_to("/dev/zero")
    with pytest.raises(RecipeError, match="bytes are too many"):
        Recipe.read(path)
