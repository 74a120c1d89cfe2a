"""Broken recipes: each message says where, what, and what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from vision_ift._errors import MissingInputError, RecipeError, UnknownNameError
from vision_ift._recipe.recipe import Recipe

GOOD = "name: a\nseed: 3\nmix:\n  - {source: coco_ift, weight: 1}\n"
SIZES = "mix: [{source: coco_ift}, {source: llava}]\n"


def surprise(text: str) -> str:
    return (
        f"{text} means different things in different versions of YAML; "
        f"quote it ('{text}') if it is text, else write a plain number or true/false"
    )


#: What is written, and the whole message after the file's name.
BROKEN = [
    ("", ": the file is empty; write a mix"),
    ("[]", ":1:1: a recipe is a mapping, not a list; write key: value"),
    ("text", ":1:1: a recipe is a mapping, not 'text'; write key: value"),
    ("name: a", ":1:1: a recipe has either mix or stages; write mix: and its sources"),
    (GOOD + "stages: []", ":5:1: the recipe has either mix or stages; keep one"),
    ("mix: {}", ":1:6: mix is a list of at least one entry, not a mapping; start each with a dash"),
    (
        "mix: [{source: coco_ift, weight: 1}, {source: llava, weight: 2000000000000}]",
        (
            ":1:34: coco_ift is too rare: less than one row in 2**32 of what it is mixed with; "
            "give it a larger weight, or leave it out"
        ),
    ),
    ("mix: []", ":1:6: mix is a list of at least one entry; start each with a dash"),
    (
        "mix: coco_ift",
        ":1:6: mix is a list of at least one entry, not 'coco_ift'; start each with a dash",
    ),
    ("mix: [coco_ift]", ":1:7: a mix entry is a mapping, not 'coco_ift'; write key: value"),
    ("mix: [{weight: 1}]", ":1:7: source is missing; name one: vision-ift sources lists them"),
    ("mix: [{source: coco, weight: 1}]", ":1:16: no source named 'coco'; did you mean coco_ift?"),
    (
        "mix: [{source: coco_ift}]",
        (
            ":1:7: coco_ift has no amount; give exactly one of weight, repeat, count (or "
            "temperature or cap beside mix)"
        ),
    ),
    (
        "mix: [{source: coco_ift, weight: 1, count: 2}]",
        ":1:37: coco_ift has weight and count; give exactly one of weight, repeat, count",
    ),
    (
        "mix: [{source: coco_ift, wieght: 1}]",
        ":1:26: no key of a mix entry named 'wieght'; did you mean weight?",
    ),
    (
        GOOD + "temprature: 2\n",
        ":5:1: no key of a recipe named 'temprature'; did you mean temperature?",
    ),
    (GOOD + "shards: 3\n", ":5:1: no key of a recipe named 'shards'; did you mean stages?"),
    (
        "mix: [{source: coco_ift, weight: lots}]",
        ":1:34: weight is 'lots'; give a number, such as 2, 0.5 or 1/3",
    ),
    (
        "mix: [{source: coco_ift, weight: '3'}]",
        ":1:34: weight is '3'; give a number, such as 2, 0.5 or 1/3",
    ),
    (
        "mix: [{source: coco_ift, weight: true}]",
        ":1:34: weight is true; give a number, such as 2, 0.5 or 1/3",
    ),
    (
        "mix: [{source: coco_ift, weight: [1]}]",
        ":1:34: weight is a list; give a number, such as 2, 0.5 or 1/3",
    ),
    ("mix: [{source: coco_ift, weight: -1}]", ":1:34: weight is -1; give 0 or more"),
    ("mix: [{source: coco_ift, weight: 0}]", ":1:6: all weights are 0; give one of them more"),
    ("mix: [{source: coco_ift, weight: 1e3}]", ":1:34: " + surprise("1e3")),
    ("mix: [{source: coco_ift, weight: .nan}]", ":1:34: " + surprise(".nan")),
    ("mix: [{source: coco_ift, weight: inf}]", ":1:34: " + surprise("inf")),
    (
        "mix: [{source: coco_ift, weight: 99999999999999999999}]",
        (
            ":1:34: the number 99999999999999999999 has too many digits, or a 0 below; at most "
            "18 before the point and 18 behind it"
        ),
    ),
    (
        "mix: [{source: coco_ift, weight: 0.12345678901234567890}]",
        (
            ":1:34: the number 0.12345678901234567890 has too many digits, or a 0 below; at most "
            "18 before the point and 18 behind it"
        ),
    ),
    (
        (
            "mix: [{source: coco_ift, weight: 900B}, {source: llava, weight: 1/7}, {source: "
            "messages, weight: 1/11}]"
        ),
        (
            ":1:6: the weights have too many digits together to be dealt exactly; round them: "
            "three figures each are plenty"
        ),
    ),
    (
        "mix: [{source: coco_ift, weight: 9000000000000000}]",
        ":1:34: weight is 9000000000000000; give at most 1000000000000000",
    ),
    (
        "mix: [{source: coco_ift, weight: 1/0}]",
        (
            ":1:34: the number 1/0 has too many digits, or a 0 below; at most 18 before the "
            "point and 18 behind it"
        ),
    ),
    (
        "mix: [{source: coco_ift, count: 1.5}]",
        ":1:33: count is 1.5; give a whole number, such as 500 or 20k",
    ),
    (
        "mix: [{source: coco_ift, count: 2000000B}]",
        ":1:33: count is 2000000B; give 0 to 1000000000000000",
    ),
    ("mix: [{source: coco_ift, repeat: -2}]", ":1:34: repeat is -2; give 0 or more"),
    (
        "mix: [{source: coco_ift, weight: 1}, {source: llava, count: 2}]",
        (
            ":1:54: llava has a count, but coco_ift (r.yaml:1:7) has a weight; give all entries "
            "of a mix the same kind of amount"
        ),
    ),
    (
        "mix: [{source: coco_ift, weight: 1}, {source: llava}]",
        (
            ":1:38: llava has no amount, but coco_ift (r.yaml:1:7) has a weight; give all "
            "entries of a mix the same kind of amount"
        ),
    ),
    (
        "mix: [{source: coco_ift}, {source: llava, weight: 1}]",
        (
            ":1:43: llava has a weight, but coco_ift (r.yaml:1:7) has no amount; give all "
            "entries of a mix the same kind of amount"
        ),
    ),
    (
        "mix:\n- {source: coco_ift, weight: 1}\n- {source: coco_ift, weight: 2}",
        (
            ":3:3: two entries are named coco_ift, the first at r.yaml:2:3; give one a name of "
            "its own (name: …)"
        ),
    ),
    (
        "total: 5\nmix: [{source: coco_ift, count: 2}]",
        ":1:1: total goes with shares, but coco_ift has a count; remove total, or give weights",
    ),
    (
        "tokens: 5\ntokenizer: chars/4\nmix: [{source: coco_ift, repeat: 2}]",
        (
            ":1:1: tokens goes with shares, but coco_ift has a repeat; remove tokens, or give "
            "weights"
        ),
    ),
    ("total: 5\nepochs: 2\n" + GOOD, ":1:1: epochs and total exclude each other; keep one"),
    ("tokens: 5\ntotal: 2\n" + GOOD, ":1:1: total and tokens exclude each other; keep one"),
    ("total: 0\n" + GOOD, ":1:8: total is 0; give 1 to 1000000000000000"),
    ("total: 1.5\n" + GOOD, ":1:8: total is 1.5; give a whole number, such as 500 or 20k"),
    ("total: lots\n" + GOOD, ":1:8: total is 'lots'; give a whole number, such as 500 or 20k"),
    ("epochs: 0\n" + GOOD, ":1:9: epochs is 0; give more than 0"),
    ("epochs: -1\n" + GOOD, ":1:9: epochs is -1; give more than 0"),
    ("epochs: no\n" + GOOD, ":1:9: " + surprise("no")),
    (
        "tokens: 200M\n" + GOOD,
        (
            ":1:1: tokens are counted by a tokenizer, and none is named; write tokenizer: "
            "chars/4 at the top of the recipe (docs/recipes.md has others)"
        ),
    ),
    (
        "tokens: 200m\ntokenizer: chars/4\n" + GOOD,
        ":1:9: tokens is '200m'; give a whole number, such as 500 or 20k",
    ),
    (
        "tokens: 10%\ntokenizer: chars/4\n" + GOOD,
        ":1:9: tokens is 10%; give a whole number, such as 500 or 20k",
    ),
    ("tokenizer: char/4\n" + GOOD, ":1:12: no tokenizer named 'char/4'; did you mean chars/4?"),
    (
        "tokenizer: tiktoken\n" + GOOD,
        ":1:12: no tokenizer named 'tiktoken'; did you mean tiktoken:NAME?",
    ),
    ("tokenizer: 4\n" + GOOD, ":1:12: tokenizer is 4, not text; quote it"),
    (
        "image_tokens: qwen2vl\n" + GOOD,
        ":1:15: no image-token rule named 'qwen2vl'; did you mean qwen2-vl?",
    ),
    (
        "image_tokens: qwen2-vl:max_pixel=3\n" + GOOD,
        (
            ":1:15: no parameter of qwen2-vl named 'max_pixel'; did you mean max_pixels or "
            "min_pixels?"
        ),
    ),
    (
        "image_tokens: internvl:max_tiles=0\n" + GOOD,
        ":1:15: image-token rule internvl: max_tiles is '0'; give a whole number above 0",
    ),
    (
        "temperature: 2\n" + GOOD,
        (
            ":1:1: temperature makes shares of sizes, but coco_ift has a weight; remove "
            "temperature, or the entries' amounts"
        ),
    ),
    (
        "cap: 1000\n" + GOOD,
        (
            ":1:1: cap makes shares of sizes, but coco_ift has a weight; remove cap, or the "
            "entries' amounts"
        ),
    ),
    ("temperature: 0\n" + SIZES, ":1:14: temperature is 0; give more than 0"),
    ("temperature: -1\n" + SIZES, ":1:14: temperature is -1; give more than 0"),
    ("temperature: 1000\n" + SIZES, ":1:14: temperature is 1000; give at most 100"),
    (
        "temperature: 0.05\n" + SIZES,
        ":1:14: temperature is 0.05; give 0.1 to 100, with at most three figures",
    ),
    (
        "temperature: 1.2345\n" + SIZES,
        ":1:14: temperature is 1.2345; give 0.1 to 100, with at most three figures",
    ),
    ("cap: 0\n" + SIZES, ":1:6: cap is 0; give 1 to 1000000000000000"),
    ("cap: 1/2\n" + SIZES, ":1:6: cap is 1/2; give a whole number, such as 500 or 20k"),
    (
        "mix: [{source: coco_ift, weight: 1, subset: 0%}]",
        ":1:45: subset is 0%; give more than 0% and at most 100%",
    ),
    (
        "mix: [{source: coco_ift, weight: 1, subset: 120%}]",
        ":1:45: subset is 120%; give more than 0% and at most 100%",
    ),
    (
        "mix: [{source: coco_ift, weight: 1, subset: 10 %}]",
        ":1:45: subset is '10 %'; give a share, such as 10%, 0.1 or 1/10",
    ),
    (
        "mix: [{source: coco_ift, weight: 1, subset: 10}]",
        ":1:45: subset is 10; give more than 0% and at most 100%",
    ),
    (
        "mix: [{source: coco_ift, weight: 1, subset: -1%}]",
        ":1:45: subset is -1%; give more than 0% and at most 100%",
    ),
    (
        "mix: [{source: coco_ift, weight: 1, subset: %10}]",
        ":1:45: not YAML: found character '%' that cannot start any token",
    ),
    (
        "mix: [{source: coco_ift, weight: 1, subset: ten}]",
        ":1:45: subset is 'ten'; give a share, such as 10%, 0.1 or 1/10",
    ),
    (
        "mix: [{source: coco_ift, weight: 1, cap_per_task: 0}]",
        ":1:51: cap_per_task is 0; give 1 to 1000000000000000",
    ),
    ("mix: [{source: coco_ift, weight: 1, where: 3}]", ":1:44: where is 3, not text; quote it"),
    ("mix: [{source: coco_ift, weight: 1, where: ''}]", ":1:44: where is '', not text; quote it"),
    (
        "mix: [{source: coco_ift, weight: 1, where: round >= 2}]",
        ":1:44: where 'round >= 2' reads no column named 'round'; did you mean rounds?",
    ),
    (
        "mix: [{source: coco_ift, weight: 1, where: rounds}]",
        ":1:44: where 'rounds' gives int64, not true or false; compare it with something",
    ),
    (
        'mix: [{source: coco_ift, weight: 1, where: "rounds >"}]',
        ":1:44: where 'rounds >' is not SQL: syntax error at or near \")\"",
    ),
    (
        "mix: [{source: coco_ift, weight: 1, where: random() < 0.5}]",
        (
            ":1:44: where 'random() < 0.5' calls random; only functions of one row whose answer "
            "never changes are taken, see docs/recipes.md"
        ),
    ),
    (
        "mix: [{source: coco_ift, weight: 1, options: [1]}]",
        ":1:46: options is a list; write options: {key: value}",
    ),
    (
        "mix: [{source: coco_ift, weight: 1, options: {rounds: [1]}}]",
        ":1:55: option rounds is a list; give text, a whole number, true or false",
    ),
    (
        "mix: [{source: coco_ift, weight: 1, options: {round: all}}]",
        ":1:54: no option of coco_ift named 'round'; did you mean rounds or max_rounds?",
    ),
    (
        "mix: [{source: coco_ift, weight: 1, options: {rounds: 7}}]",
        (
            ":1:55: option rounds=7 of coco_ift: Expected `str`, got `int`; vision-ift sources "
            "says what it takes"
        ),
    ),
    (
        "mix: [{source: coco_ift, weight: 1, path: x.json}]",
        ":1:43: no option of coco_ift named 'path'; known: max_rounds, rounds, tasks",
    ),
    ("mix: [{source: llava, weight: 1, path: 3}]", ":1:40: path is 3, not text; quote it"),
    ("mix: [{source: llava, weight: 1, path: x, options: {path: y}}]", ":1:59: " + surprise("y")),
    (
        'mix: [{source: llava, name: "a\\nb", weight: 1}]',
        ":1:29: name is no name: 'a\\nb'; give one line without control codes",
    ),
    (
        "name: 7B\nseed: 3\nmix:\n  - {source: coco_ift, weight: 1}\n",
        ":1:7: name is 7B, not text; quote it",
    ),
    ("max_repeats: 0\n" + GOOD, ":1:14: max_repeats is 0; give more than 0"),
    (
        "max_repeats: often\n" + GOOD,
        ":1:14: max_repeats is 'often'; give a number, such as 2, 0.5 or 1/3",
    ),
    (
        "duplicates: text\n" + GOOD,
        ":1:13: a duplicates rule is a mapping, not 'text'; write key: value",
    ),
    ("duplicates: {}\n" + GOOD, ":1:13: by is missing; write by: text, picture or both"),
    ("duplicates: {by: image}\n" + GOOD, ":1:18: by is 'image'; write text, picture or both"),
    ("duplicates: {by: text, near: 1}\n" + GOOD, ":1:30: near is 1; write true or false"),
    ("duplicates: {by: text, keep: 0}\n" + GOOD, ":1:30: keep is 0; give 1 to 1000000000000000"),
    (
        "duplicates: {by: text, kept: 1}\n" + GOOD,
        ":1:24: no key of a duplicates rule named 'kept'; did you mean keep?",
    ),
    (
        "exclude: bad.jsonl\n" + GOOD,
        (":1:10: exclude is a list of at least one entry, not 'bad.jsonl'; start each with a dash"),
    ),
    (
        "exclude: []\n" + GOOD,
        ":1:10: exclude is a list of at least one entry; start each with a dash",
    ),
    ("exclude: [3]\n" + GOOD, ":1:11: an exclude list is 3, not a path; quote it"),
    (
        "exclude: [a.jsonl, ./a.jsonl]\n" + GOOD,
        ":1:20: exclude list ./a.jsonl stands twice; remove one",
    ),
    (
        "stages: [{mix: [{source: coco_ift, count: 1}]}]",
        ":1:10: name is missing; give the stage a name",
    ),
    ("stages: [{name: a}]", ":1:10: mix is missing; write mix: and a list"),
    (
        "stages: {a: 1}",
        ":1:9: stages is a list of at least one entry, not a mapping; start each with a dash",
    ),
    (
        "stages: [{name: a, mix: [{source: coco_ift, weight: 1}], seed: 1}]",
        (
            ":1:58: no key of a stage named 'seed'; known: cap, epochs, mix, name, temperature, "
            "tokens, total"
        ),
    ),
    (
        "total: 3\nstages: [{name: a, mix: [{source: coco_ift, weight: 1}]}]",
        ":1:1: total stands beside stages; put it into one of them",
    ),
    (
        (
            "stages:\n- {name: a, mix: [{source: coco_ift, weight: 1}]}\n- {name: a, mix: "
            "[{source: coco_ift, weight: 1}]}"
        ),
        (
            ":3:3: two stages are named a, the first at r.yaml:2:3; give one a name of its own "
            "(name: …)"
        ),
    ),
    (
        (
            "stages:\n- {name: a, mix: [{source: coco_ift, count: 1}]}\n- {name: b, mix: "
            "[{source: coco_ift, count: 1, where: rounds > 1}]}"
        ),
        (
            ":3:19: stage b: coco_ift is not the coco_ift of an earlier stage (r.yaml:2:19): its "
            "where is another; give one of them a name of its own (name: …)"
        ),
    ),
    (
        "stages: [{name: a, total: 1, epochs: 1, mix: [{source: coco_ift, weight: 1}]}]",
        ":1:20: epochs and total exclude each other; keep one",
    ),
    (
        "stages: [{name: a, tokens: 1k, mix: [{source: coco_ift, weight: 1}]}]",
        (
            ":1:20: tokens are counted by a tokenizer, and none is named; write tokenizer: "
            "chars/4 at the top of the recipe (docs/recipes.md has others)"
        ),
    ),
    (
        "drop: [coco_ift]\n" + GOOD,
        ":1:1: drop takes entries out of what a recipe extends; add extends",
    ),
    (
        "extends: coco_mx\n",
        (
            ":1:10: extends coco_mx: no recipe named 'coco_mx'; did you mean coco_mix? (or give "
            "the path of a .yaml file)"
        ),
    ),
    (
        "extends: nowhere.yaml\n",
        (
            ":1:10: extends nowhere.yaml: recipe nowhere.yaml cannot be read: No such file or "
            "directory; its path is relative to the recipe that extends it"
        ),
    ),
    ("extends: 3\n", ":1:10: extends is 3, not text; quote it"),
    (GOOD + "seed: 4\n", ":5:1: key 'seed' stands twice, first in line 2; remove one of them"),
    (
        "seed: 0.5\nmix:\n  - {source: coco_ift, weight: 1}\n",
        ":1:7: seed is 0.5; give a whole number, such as 500 or 20k",
    ),
    (
        "seed: -1\nmix:\n  - {source: coco_ift, weight: 1}\n",
        ":1:7: seed is -1; give 0 to 9223372036854775807",
    ),
    ("name: no\nmix: []", ":1:7: " + surprise("no")),
    ("name: On\nmix: []", ":1:7: " + surprise("On")),
    ("seed: 010\nmix: []", ":1:7: " + surprise("010")),
    ("seed: 0x1F\nmix: []", ":1:7: " + surprise("0x1F")),
    ("seed: 1_000\nmix: []", ":1:7: " + surprise("1_000")),
    ("name: 12:30:00\nmix: []", ":1:7: " + surprise("12:30:00")),
    ("name: ~\nmix: []", ":1:7: " + surprise("~")),
    ("name:\nmix: []", ":2:1: the value is missing; write one, or remove the key"),
    ("name: Null\nmix: []", ":1:7: " + surprise("Null")),
    (
        "mix: &m [{source: coco_ift, weight: 1}]\n",
        ":1:6: anchors and aliases (& and *) are not taken; write the plain value",
    ),
    (
        "a: &x 1\nb: *x\n",
        ":1:4: anchors and aliases (& and *) are not taken; write the plain value",
    ),
    (
        "mix:\n- &one {source: coco_ift, weight: 1}\n- <<: *one\n",
        ":2:3: anchors and aliases (& and *) are not taken; write the plain value",
    ),
    ("<<: {seed: 1}\n" + GOOD, ":1:1: merge keys (<<) are not taken; extends: takes a recipe"),
    (
        "name: !!python/object/apply:os.system [ls]",
        ":1:7: tags (!) are not taken; write the plain value",
    ),
    ("name: !x y", ":1:7: tags (!) are not taken; write the plain value"),
    ("%YAML 1.1\n---\n" + GOOD, ":2:1: directives (%) are not taken; remove the line"),
    (
        "name: a\nseed: 3\nmix:\n  - {source: coco_ift, weight: 1}\n---\n" + GOOD,
        ":5:1: a second document starts here; keep one",
    ),
    ("\ufeff" + GOOD, ":1:1: the file starts with a byte order mark; save it as UTF-8 without one"),
    (
        "mix:\n\t- {source: coco_ift, weight: 1}",
        (
            ":2:1: not YAML: found character '\\t' that cannot start any token; indent with "
            "spaces, not with tabs"
        ),
    ),
    ("name: 'x", ":1:9: not YAML: found unexpected end of stream"),
    ("a: b: c", ":1:5: not YAML: mapping values are not allowed here"),
    (
        "name: \x07",
        ":1:7: not YAML: unacceptable character #x0007: special characters are not allowed",
    ),
    ('name: "\\x07"', ":1:7: the text holds the character '\\x07'; remove it"),
    ('name: "\\ud800"', ":1:7: the text holds the character '\\ud800'; remove it"),
    ("? [a]\n: b", ":1:3: a key must be a word; write key: value"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN, ids=[text[:40] for text, _ in BROKEN])
def test_a_broken_recipe_says_where_and_what_to_do(text: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.parse(text, file="r.yaml")
    assert str(caught.value) == f"r.yaml{message}"


def test_the_place_is_there_for_programs_too() -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.parse("mix:\n  - {source: coco_ift, wieght: 1}\n", file="r.yaml")
    assert (caught.value.file, caught.value.line, caught.value.column) == ("r.yaml", 2, 24)


def test_most_messages_say_what_to_do() -> None:
    assert len(BROKEN) >= 100
    assert all(message.startswith(":") and ": " in message for _, message in BROKEN)
    without = [message for _, message in BROKEN if "; " not in message]
    # What YAML itself and SQL itself say has no remedy of ours; the place has to do.
    assert all("not YAML" in one or "not SQL" in one for one in without), without


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000, "- " * 5000, "[" * 100_000])
def test_deep_nesting_ends_in_an_error_not_in_a_crash(text: str) -> None:
    with pytest.raises(RecipeError, match="nested deeper than 32 levels"):
        Recipe.parse(text)


def test_long_values_are_shortened_in_messages() -> None:
    for text in (
        f"mix: [{{source: coco_ift, weight: {'x' * 500_000}}}]",
        f"mix: [{{source: {'x' * 500_000}, weight: 1}}]",
        f"mix: [{{source: coco_ift, {'x' * 100_000}: 1}}]",
        f"mix: [{{source: coco_ift, weight: 1, where: {'x' * 500_000}}}]",
        f"mix: [{{source: coco_ift, weight: 1, where: {'x' * 9_000}}}]",
        f"image_tokens: {'x' * 500_000}\n{GOOD}",
        f"tokenizer: {'x' * 500_000}\n{GOOD}",
        f"extends: {'x' * 500_000}",
        f"weight: {'9' * 500_000}",
        f"{'x' * 500_000}: 1",
    ):
        with pytest.raises(RecipeError) as caught:
            Recipe.parse(text)
        assert len(str(caught.value)) < 1000


def test_many_entries_are_told_apart_in_time() -> None:
    entries = "\n".join(f"- {{source: llava, name: a{n}, count: 1}}" for n in range(3000))
    with pytest.raises(RecipeError, match="two entries are named a7"):
        Recipe.parse(f"mix:\n{entries}\n- {{source: llava, name: a7, count: 1}}")


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"name: \xff")
    with pytest.raises(RecipeError, match=r"mine\.yaml: not UTF-8 at byte 6; save it as UTF-8"):
        Recipe.read(path)
    path.write_text(GOOD, "utf-16")
    with pytest.raises(RecipeError, match="not UTF-8 at byte 0"):
        Recipe.read(path)
    path.write_bytes(b"#" * (1 << 20) + b"\n" + GOOD.encode())
    with pytest.raises(RecipeError, match="bytes are too many for a recipe; at most 1,048,576"):
        Recipe.read(path)
    with pytest.raises(MissingInputError, match="No such file"):
        Recipe.read(tmp_path / "none.yaml")
    with pytest.raises(MissingInputError, match="Is a directory"):
        Recipe.read(f"{tmp_path}/")
    with pytest.raises(UnknownNameError, match="did you mean coco_mix"):
        Recipe.read("coco_mx")
