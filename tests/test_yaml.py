"""YAML: exact numbers, places, and writing what can be read again."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vision_ift._errors import RecipeError
from vision_ift._recipe.yaml import MAX_BYTES, Node, read_yaml, write_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("17", 17),
        ("+5", 5),
        ("-3", -3),
        ("0", 0),
        ("0.1", Fraction(1, 10)),
        (".5", Fraction(1, 2)),
        ("2.50", Fraction(5, 2)),
        ("3.0", 3),
        ("1/3", Fraction(1, 3)),
        ("4/2", 2),
        ("10%", Fraction(1, 10)),
        ("12.5%", Fraction(1, 8)),
        ("500k", 500_000),
        ("200M", 200_000_000),
        ("1.5B", 1_500_000_000),
        ("0.5k", 500),
        ("999999999999999999", 10**18 - 1),
        ("0.000000000000000001", Fraction(1, 10**18)),
        ("true", True),
        ("'17'", "17"),
        ('"10%"', "10%"),
        ("10 %", "10 %"),
        ("200m", "200m"),
        ("1/3%", "1/3%"),
        ("v1.5", "v1.5"),
        ("2024-01-01", "2024-01-01"),
        ("a/b", "a/b"),
        ("'no'", "no"),
        ("rounds >= 2", "rounds >= 2"),
        ("nope", "nope"),
        ("𝒳", "𝒳"),
        (r'"\ud835\udcb3"', "𝒳"),
    ],
)
def test_plain_values(text: str, value: Any) -> None:
    node = read_yaml(f"a: {text}").value["a"]
    assert (node.value, type(node.value)) == (value, type(value))


def test_every_value_has_its_place() -> None:
    root = read_yaml("a:\n  - {b: 1}\n  - c\n", file="f")
    first, second = root.value["a"].value
    assert (first.line, first.column, first.place) == (2, 5, "f:2:5")
    assert first.keys == {"b": ("f", 2, 6)}
    assert (second.line, second.column) == (3, 5)


def test_a_file_may_be_as_large_as_the_limit() -> None:
    text = "a: 1 #"
    assert read_yaml(text + "x" * (MAX_BYTES - len(text))).value["a"].value == 1
    with pytest.raises(RecipeError, match="are too many"):
        read_yaml(text + "x" * (MAX_BYTES - len(text) + 1))
    with pytest.raises(RecipeError, match="are too many"):  # bytes count, not characters
        read_yaml(text + "é" * (MAX_BYTES // 2))


def test_long_digits_take_no_long_time() -> None:
    # Patterns that try every cut between two runs of digits need a minute for these.
    for text in ("9" * 500_000, "9" * 500_000 + "x", "_" * 500_000, "1:" * 250_000 + "x"):
        try:
            read_yaml(f"a: {text}")
        except RecipeError as error:
            assert len(str(error)) < 300


NUMBERS = ["17", "0.1", "1/3", "10%", "500k", "1.5B", "-2", "true", "false"]
SCALARS = (
    st.sampled_from(NUMBERS).map(lambda raw: Node(read_yaml(raw).value, "", 0, 0, raw=raw))
    # What a recipe's text can hold: no control characters, no halves of characters.
    | st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters=[chr(n) for n in range(32)])
        | st.sampled_from("\n\t\r")
    )
    .filter(lambda text: "\x7f" not in text)
    .map(lambda text: Node(text, "", 0, 0))
)
KEYS = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "Zs")), min_size=1).filter(
    lambda text: text != "<<"
)


def mapping(children: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    return st.dictionaries(KEYS, children, min_size=1, max_size=4).map(
        lambda value: Node(value, "", 0, 0)
    )


TREES = mapping(
    st.recursive(
        SCALARS,
        lambda children: (
            st.lists(children, max_size=3).map(lambda value: Node(value, "", 0, 0))
            | mapping(children)
        ),
        max_leaves=12,
    )
)


def plain(node: Node) -> Any:
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value]
    return type(node.value), node.value


@given(TREES)
@example(Node({"a": Node("no", "", 0, 0)}, "", 0, 0))
@example(Node({"a": Node("\ufeff\u2028\x85 ,]}#: ", "", 0, 0)}, "", 0, 0))
@example(Node({"1e3": Node(" \n x\n", "", 0, 0)}, "", 0, 0))
def test_what_is_written_is_read_again(root: Node) -> None:
    assert plain(read_yaml(write_yaml(root))) == plain(root)


@given(st.text(max_size=60) | st.text("[]{}:,-&*!|>'\"%@` \n\t#?<0123456789abcxyz", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        root = read_yaml(text, file="f")
    except RecipeError as error:
        assert error.file == "f"
    else:
        assert root.line >= 1
