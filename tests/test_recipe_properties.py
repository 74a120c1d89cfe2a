"""Generated recipes: what is written is what is read, and what ``extends`` writes stands alone."""

from __future__ import annotations

import json
import tempfile
from fractions import Fraction
from math import gcd, lcm
from pathlib import Path
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vision_ift._plan.order import MOST_WEIGHT as MOST_OF_AN_ORDER
from vision_ift._recipe.mix import MOST_WEIGHT
from vision_ift._recipe.recipe import Duplicates, Entry, Recipe, Stage

NAMES = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=12)
COUNTS = st.integers(1, 10**6)
SHARES = st.fractions(Fraction(1, 1000), 1, max_denominator=1000)
AMOUNTS = {
    "weight": st.fractions(0, 50, max_denominator=20),
    "repeat": st.fractions(0, 50, max_denominator=20),
    "count": st.integers(0, 10**6).map(Fraction),
    "size": st.just(Fraction(1)),
}
TEMPERATURES = st.fractions(Fraction(1, 10), 100, max_denominator=10).filter(
    lambda t: max(t.numerator, t.denominator) <= 1000
)


@st.composite
def entries(draw: st.DrawFn, kind: Any, name: str) -> Entry:
    source = draw(st.sampled_from(["coco_ift", "vision_flan", "messages"]))
    return Entry(
        name=name,
        source=source,
        path=draw(st.none() | NAMES) if source == "messages" else None,
        options=draw(st.sampled_from([{}, {"rounds": "single"}])) if source == "coco_ift" else {},
        kind=kind,
        amount=draw(AMOUNTS[kind]),
        where=draw(st.none() | st.sampled_from(["rounds >= 2", "id = 'ü: {\"x\"}'\n -- why"])),
        subset=draw(st.none() | SHARES),
        cap_per_task=draw(st.none() | COUNTS),
    )


@st.composite
def stages(draw: st.DrawFn, called: str, prefix: str) -> Stage:
    kind = draw(st.sampled_from(list(AMOUNTS)))
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    mix = tuple(draw(entries(kind, f"{prefix}{name}")) for name in names)
    if kind == "weight":
        weights = [entry.amount for entry in mix if entry.amount]
        assume(weights)
        common = lcm(*(weight.denominator for weight in weights))
        whole = [int(weight * common) for weight in weights]
        assume(sum(whole) // gcd(*whole) <= MOST_WEIGHT)
    shares = kind in ("weight", "size")
    length = draw(st.sampled_from(["epochs", "total", "tokens"] if shares else ["epochs"]))
    return Stage(
        name=called,
        mix=mix,
        total=draw(COUNTS) if length == "total" else None,
        tokens=draw(COUNTS) if length == "tokens" else None,
        epochs=draw(SHARES) if length == "epochs" else Fraction(1),
        temperature=draw(TEMPERATURES) if kind == "size" else Fraction(1),
        cap=draw(st.none() | COUNTS) if kind == "size" else None,
    )


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    called = draw(st.just(["mix"]) | st.lists(NAMES, min_size=1, max_size=3, unique=True))
    return Recipe(
        name=draw(NAMES),
        description=draw(st.just("") | NAMES),
        seed=draw(st.integers(0, 2**63 - 1).filter(lambda seed: seed < 10**18)),
        tokenizer="tiktoken:o200k_base",
        image_tokens=draw(st.none() | st.just("qwen2-vl:max_pixels=1003520")),
        max_repeats=draw(SHARES),
        duplicates=draw(
            st.none()
            | st.builds(
                Duplicates,
                by=st.sampled_from(["text", "picture", "both"]),
                near=st.booleans(),
                keep=COUNTS,
            )
        ),
        stages=tuple(draw(stages(name, f"{n}.")) for n, name in enumerate(called)),
        exclude=tuple(draw(st.sampled_from([[], ["a.jsonl"], ["b/ü x.jsonl", "a.jsonl"]]))),
    )


def figures(value: Fraction | int | None) -> str | None:
    return None if value is None else str(value)  # 1/3, 17


def said(keys: dict[str, Any]) -> str:
    """A flow mapping; values are YAML already, but texts in lists."""
    inside = (f"{key}: {value}" for key, value in keys.items() if value is not None)
    return f"{{{', '.join(inside)}}}"


def quoted(text: str | None) -> str | None:
    return None if text is None else json.dumps(text)


def written(recipe: Recipe) -> str:
    """Write a recipe by hand, as somebody would who knows nothing of ours."""

    def entry(one: Entry) -> str:
        return said(
            {
                "name": quoted(one.name),
                "source": one.source,
                "path": quoted(one.path),
                "options": said(one.options) if one.options else None,
                **({one.kind: figures(one.amount)} if one.kind != "size" else {}),
                "where": quoted(one.where),
                "subset": figures(one.subset),
                "cap_per_task": figures(one.cap_per_task),
            }
        )

    def stage(one: Stage) -> dict[str, Any]:
        given = one.total is None and one.tokens is None
        sizes = one.mix[0].kind == "size"
        return {
            "mix": f"[{', '.join(map(entry, one.mix))}]",
            "total": figures(one.total),
            "tokens": figures(one.tokens),
            "epochs": figures(one.epochs) if given else None,
            "temperature": figures(one.temperature) if sizes else None,
            "cap": figures(one.cap),
        }

    names = [one.name for one in recipe.stages]
    several = ", ".join(said({"name": quoted(s.name), **stage(s)}) for s in recipe.stages)
    rule = recipe.duplicates
    keys = {
        "name": quoted(recipe.name),
        "description": quoted(recipe.description or None),
        "seed": figures(recipe.seed),
        "tokenizer": quoted(recipe.tokenizer),
        "image_tokens": quoted(recipe.image_tokens),
        "max_repeats": figures(recipe.max_repeats),
        "duplicates": rule
        and said({"by": rule.by, "near": str(rule.near).lower(), "keep": rule.keep}),
        "exclude": json.dumps(recipe.exclude) if recipe.exclude else None,
        **(stage(recipe.stages[0]) if names == ["mix"] else {"stages": f"[{several}]"}),
    }
    return said(keys)


def without_text(recipe: Recipe) -> dict[str, Any]:
    return {key: getattr(recipe, key) for key in recipe.__struct_fields__ if key != "text"}


@settings(max_examples=40)
@given(recipes())
def test_what_is_written_is_what_is_read(recipe: Recipe) -> None:
    read = Recipe.parse(written(recipe))
    assert without_text(read) == without_text(recipe)
    assert Recipe.parse(read.text) == read


@settings(max_examples=40)
@given(recipes(), st.integers(0, 100))
def test_a_merged_recipe_stands_alone(base: Recipe, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "base.yaml").write_text(written(base), "utf-8")
        mine = str(Path(folder) / "mine.yaml")
        read = Recipe.parse(f"extends: base.yaml\nname: mine\nseed: {seed}\n", file=mine)
        assert read.stages == base.stages
        assert (read.name, read.seed, read.description) == ("mine", seed, "")
        assert read.duplicates == base.duplicates
        assert read.exclude == tuple(str(Path(folder) / path) for path in base.exclude)
        assert Recipe.parse(read.text, file=mine) == read
        # Written out once is written out: it extends to itself.
        (Path(folder) / "again.yaml").write_text(read.text, "utf-8")
        again = Recipe.parse("extends: again.yaml\nname: mine\n", file=mine)
        assert without_text(again) == without_text(read)


def test_the_limit_of_weights_is_the_orders() -> None:
    assert MOST_WEIGHT == MOST_OF_AN_ORDER
