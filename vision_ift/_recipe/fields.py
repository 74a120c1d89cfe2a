"""Values of a recipe's nodes by their types; every refusal has its place and says what to write."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fractions import Fraction

from vision_ift._errors import UnknownNameError
from vision_ift._recipe.yaml import Node, shorten

#: No count of rows or tokens is larger.
MOST = 10**15
#: The longest text and the longest name, in characters.
_MAX_TEXT = 10_000
_MAX_NAME = 200


def mapping(node: Node, known: Collection[str], what: str) -> Node:
    """Check that a node is a mapping and that all its keys are known."""
    if not isinstance(node.value, dict):
        raise node.error(f"a {what} is a mapping, not {node.shown}", hint="write key: value")
    for key in node.value:
        if key not in known:
            error = UnknownNameError(f"key of a {what}", shorten(key), known)
            raise node.key_error(key, error.message, hint=error.hint)
    return node


def sequence(node: Node, key: str) -> list[Node]:
    """Give a list's nodes; at least one."""
    child = node.value.get(key)
    if child is None:
        raise node.error(f"{key} is missing", hint=f"write {key}: and a list")
    if not isinstance(child.value, list) or not child.value:
        raise child.error(
            f"{key} is a list of at least one entry, not {child.shown}"
            if not isinstance(child.value, list)
            else f"{key} is a list of at least one entry",
            hint="start each with a dash",
        )
    found: list[Node] = child.value
    return found


def word(node: Node, key: str, *, most: int = _MAX_TEXT) -> str | None:
    """Give a text of at most so many characters, ``None`` where the key is missing."""
    child = node.value.get(key)
    if child is None:
        return None
    if not isinstance(child.value, str) or not child.value.strip():
        raise child.error(f"{key} is {child.shown}, not text", hint="quote it")
    if len(child.value) > most:
        raise child.error(
            f"{key} is {len(child.value):,} characters long", hint=f"give at most {most:,}"
        )
    return child.value


def name(node: Node, key: str) -> str | None:
    """Give a text of one line that people and files can be told."""
    text = word(node, key, most=_MAX_NAME)
    if text is not None and not text.isprintable():
        raise node.value[key].error(
            f"{key} is no name: {shorten(repr(text))}", hint="give one line without control codes"
        )
    return text


def choice(node: Node, key: str, known: Sequence[str]) -> str | None:
    """Give one of some words."""
    child = node.value.get(key)
    if child is not None and child.value not in known:
        raise child.error(f"{key} is {child.shown}", hint=f"write {one_of(known)}")
    return None if child is None else str(child.value)


def one_of(words: Sequence[str]) -> str:
    """Say a choice.

    >>> one_of(("a", "b", "c"))
    'a, b or c'
    """
    return f"{', '.join(words[:-1])} or {words[-1]}"


def switch(node: Node, key: str, *, default: bool) -> bool:
    """Give true or false."""
    child = node.value.get(key)
    if child is None:
        return default
    if not isinstance(child.value, bool):
        raise child.error(f"{key} is {child.shown}", hint="write true or false")
    return child.value


def whole(node: Node, key: str, *, low: int = 1, high: int = MOST) -> int | None:
    """Give a whole number."""
    child = node.value.get(key)
    if child is None:
        return None
    if not isinstance(child.value, int) or isinstance(child.value, bool):
        raise child.error(f"{key} is {child.shown}", hint="give a whole number, such as 500 or 20k")
    if not low <= child.value <= high:
        raise child.error(f"{key} is {child.shown}", hint=f"give {low} to {high}")
    return child.value


def number(
    node: Node,
    key: str,
    *,
    low: Fraction = Fraction(0),
    high: Fraction = Fraction(MOST),
    above: bool = False,
    wanted: str = "a number, such as 2, 0.5 or 1/3",
    bounds: str = "",
) -> Fraction | None:
    """Give an exact number from ``low`` (with ``above``: more than that) to ``high``.

    ``wanted`` and ``bounds`` say what to give where it is no number, or out of these.
    """
    child = node.value.get(key)
    if child is None:
        return None
    if isinstance(child.value, bool) or not isinstance(child.value, int | Fraction):
        raise child.error(f"{key} is {child.shown}", hint=f"give {wanted}")
    exact = Fraction(child.value)
    if not low <= exact <= high or (above and exact == low):
        least = f"more than {low}" if above else f"{low} or more"
        hint = bounds or (f"give {least}" if exact <= low else f"give at most {high}")
        raise child.error(f"{key} is {child.shown}", hint=hint)
    return exact
