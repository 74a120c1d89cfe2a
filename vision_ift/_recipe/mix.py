"""Entries and stages of a recipe, and how they are read of its nodes."""

from __future__ import annotations

import heapq
from collections.abc import Collection
from fractions import Fraction
from math import gcd, lcm
from pathlib import PurePath
from typing import Any, Literal, cast

import msgspec

from vision_ift import _registry
from vision_ift._errors import RecipeError, UnknownNameError, UsageError
from vision_ift._recipe.condition import Condition
from vision_ift._recipe.fields import (
    MOST,
    choice,
    mapping,
    name,
    number,
    one_of,
    sequence,
    switch,
    whole,
    word,
)
from vision_ift._recipe.yaml import Node, shorten

Kind = Literal["weight", "repeat", "count", "size"]
AMOUNTS = ("weight", "repeat", "count")
#: What says how much of a mix there is, one of them.
LENGTHS = ("epochs", "total", "tokens")

STAGE_KEYS = ("name", *LENGTHS, "temperature", "cap", "mix")
ENTRY_KEYS = (
    *("source", "name", "path", "options", *AMOUNTS),
    *("where", "subset", "cap_per_task"),
)
DUPLICATES_KEYS = ("by", "near", "keep")
_SAME = ("text", "picture", "both")

#: Weights are dealt exactly; their sum without a common divisor is at most this (``_order.py``).
MOST_WEIGHT = 2**42
#: A part is dealt one row at least of so many of what it is mixed with (``_plan/order.py``).
_RAREST = 2**32
MOST_TEMPERATURE = 100
_MOST_TERM = 1000


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a mix.

    Attributes:
        name: What the part is called; keys its rows' order. If not given, the source's name, with a
            ``path`` ``source:file`` (so that two files of one source need no names).
        source: The source (``vision-ift sources`` lists them).
        path: A file for the sources that read any file (``llava``, ``messages``).
        options: The source's own options.
        kind: ``weight`` (a share), ``repeat`` (times through), ``count`` (rows), or ``size``
            (a share of the selection's size, by the stage's ``temperature`` and ``cap``).
        amount: How much, exact; 1 where the kind is ``size``.
        where: SQL over one row; only rows for which it is true are taken.
        subset: The share of those rows that is kept, by a hash of their ids.
        cap_per_task: At most so many rows of each task.
    """

    name: str
    source: str
    path: str | None = None
    options: dict[str, Any] = {}
    kind: Kind
    amount: Fraction = Fraction(1)
    where: str | None = None
    subset: Fraction | None = None
    cap_per_task: int | None = None

    @property
    def all_options(self) -> dict[str, Any]:
        """The options for the builder, the path among them."""
        return {**self.options, **({"path": self.path} if self.path is not None else {})}


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """A mix that is delivered before the next one starts.

    ``total`` (conversations), ``epochs`` or ``tokens`` say how much of it there is. With entries of
    the kind ``size``, an entry's share is in proportion to ``min(rows, cap) ** (1 / temperature)``.
    """

    name: str
    mix: tuple[Entry, ...]
    total: int | None = None
    epochs: Fraction = Fraction(1)
    tokens: int | None = None
    temperature: Fraction = Fraction(1)
    cap: int | None = None


class Duplicates(msgspec.Struct, frozen=True, kw_only=True):
    """What is left out because it stands in the mix already.

    Attributes:
        by: What makes two rows the same: their text, their pictures, or both.
        near: Whether those that are nearly the same count as the same.
        keep: How many of the same are kept.
    """

    by: Literal["text", "picture", "both"]
    near: bool = False
    keep: int = 1


def entry_name(node: Node) -> str | None:
    """Give what an entry is called; ``None`` where it has neither a name nor a source."""
    given, source, path = (name(node, key) for key in ("name", "source", "path"))
    if given is not None or source is None:
        return given
    return f"{source}:{PurePath(path).name}" if path else source


def read_stage(node: Node, *, called: str | None, tokenizer: bool) -> Stage:
    """Read a stage, or the part of a recipe without stages that is one.

    Args:
        node: Where its keys stand.
        called: Its name, where it has none of its own.
        tokenizer: Whether the recipe names one.
    """
    nodes = sequence(node, "mix")
    entries = tuple(_entry(mapping(one, ENTRY_KEYS, "mix entry")) for one in nodes)
    unique([one.name for one in entries], nodes, "entries")
    kind = _kind(node, entries, nodes)
    if kind == "weight":
        _check_weights(node, entries, nodes)
    given = [key for key in LENGTHS if key in node.value]
    if len(given) > 1:
        raise node.key_error(
            given[-1], f"{' and '.join(given)} exclude each other", hint="keep one"
        )
    for key in ("total", "tokens"):
        if key in node.value and kind in ("repeat", "count"):
            raise node.key_error(
                key,
                f"{key} goes with shares, but {entries[0].name} has a {kind}",
                hint=f"remove {key}, or give weights",
            )
    if "tokens" in node.value and not tokenizer:
        raise node.key_error(
            "tokens",
            "tokens are counted by a tokenizer, and none is named",
            hint="write tokenizer: chars/4 at the top of the recipe (docs/recipes.md has others)",
        )
    stage = called or name(node, "name")
    if stage is None:
        raise node.error("name is missing", hint="give the stage a name")
    return Stage(
        name=stage,
        mix=entries,
        total=whole(node, "total"),
        epochs=number(node, "epochs", above=True) or Fraction(1),
        tokens=whole(node, "tokens"),
        temperature=_temperature(node),
        cap=whole(node, "cap"),
    )


def _kind(node: Node, entries: tuple[Entry, ...], nodes: list[Node]) -> Kind:
    """The kind of amount that all entries have."""
    first = entries[0]
    for entry, at in zip(entries, nodes, strict=True):
        if entry.kind != first.kind:
            said = [f"has {_some(one.kind)}" for one in (entry, first)]
            raise at.key_error(
                entry.kind,
                f"{entry.name} {said[0]}, but {first.name} ({nodes[0].place}) {said[1]}",
                hint="give all entries of a mix the same kind of amount",
            )
    for key in ("temperature", "cap"):
        if key in node.value and first.kind != "size":
            raise node.key_error(
                key,
                f"{key} makes shares of sizes, but {first.name} has a {first.kind}",
                hint=f"remove {key}, or the entries' amounts",
            )
    if first.kind == "size" and not {"temperature", "cap"} & set(node.value):
        raise nodes[0].error(
            f"{first.name} has no amount",
            hint="give exactly one of weight, repeat, count (or temperature or cap beside mix)",
        )
    return first.kind


def _some(kind: Kind) -> str:
    return "no amount" if kind == "size" else f"a {kind}"


def _check_weights(node: Node, entries: tuple[Entry, ...], nodes: list[Node]) -> None:
    at = node.value["mix"]
    amounts = [entry.amount for entry in entries if entry.amount]
    if not amounts:
        raise at.error("all weights are 0", hint="give one of them more")
    common = lcm(*(amount.denominator for amount in amounts))
    exact = [int(amount * common) for amount in amounts]
    if sum(exact) // gcd(*exact) > MOST_WEIGHT:
        raise at.error(
            "the weights have too many digits together to be dealt exactly",
            hint="round them: three figures each are plenty",
        )
    weights = [(int(entry.amount * common), n) for n, entry in enumerate(entries) if entry.amount]
    if (rare := _rare(weights)) is not None:
        raise (
            nodes[rare]
            .value["weight"]
            .error(
                f"{entries[rare].name} is too rare: less than one row in 2**32 of what it is mixed "
                "with",
                hint="give it a larger weight, or leave it out",
            )
        )


def _rare(weights: list[tuple[int, int]]) -> int | None:
    """Find a weight that the order's tree cannot deal; the two lightest meet, again and again."""
    heapq.heapify(weights)
    while len(weights) > 1:
        light, number = heapq.heappop(weights)
        heavy, other = weights[0]
        if -(-(light + heavy) // light) >= _RAREST:
            return number
        heapq.heapreplace(weights, (light + heavy, min(number, other)))
    return None


def _temperature(node: Node) -> Fraction:
    """Of few figures, so that the roots that it asks for stay small whole numbers."""
    found = number(node, "temperature", above=True, high=Fraction(MOST_TEMPERATURE))
    if found is None:
        return Fraction(1)
    if found < Fraction(1, 10) or max(found.numerator, found.denominator) > _MOST_TERM:
        raise node.value["temperature"].error(
            f"temperature is {node.value['temperature'].shown}",
            hint=f"give 0.1 to {MOST_TEMPERATURE}, with at most three figures",
        )
    return found


def _entry(node: Node) -> Entry:
    source = name(node, "source")
    if source is None:
        raise node.error("source is missing", hint="name one: vision-ift sources lists them")
    if source not in _registry.names():
        error = UnknownNameError("source", shorten(source), _registry.names())
        raise node.value["source"].error(error.message, hint=error.hint)
    given = [kind for kind in AMOUNTS if kind in node.value]
    if len(given) > 1:
        raise node.key_error(
            given[1],
            f"{source} has {' and '.join(given)}",
            hint=f"give exactly one of {', '.join(AMOUNTS)}",
        )
    kind = given[0] if given else "size"
    amount: Fraction | int | None = Fraction(1)
    if kind == "count":
        amount = whole(node, kind, low=0)
    elif kind != "size":
        amount = number(node, kind)
    called = entry_name(node)
    assert called is not None  # there is a source
    path = word(node, "path")
    options = _options(node.value.get("options"))
    _check_options(node, source)
    return Entry(
        name=called,
        source=source,
        path=path,
        options=options,
        kind=cast(Kind, kind),
        amount=Fraction(amount or 0),
        where=_where(node),
        subset=number(
            node,
            "subset",
            above=True,
            high=Fraction(1),
            wanted="a share, such as 10%, 0.1 or 1/10",
            bounds="give more than 0% and at most 100%",
        ),
        cap_per_task=whole(node, "cap_per_task"),
    )


def _check_options(node: Node, source: str) -> None:
    """Say it here, with its place, that a source has no such option or takes no such value."""
    builder = _registry.find(source)
    places = dict(node.value["options"].value) if "options" in node.value else {}
    if "path" in node.value:
        if "path" in places:
            raise places["path"].error("path stands beside options already", hint="remove one")
        places["path"] = node.value["path"]
    for key, child in places.items():
        try:
            builder.options({key: child.value})
        except UsageError as error:
            hint = error.hint or "vision-ift sources says what it takes"
            raise child.error(error.message, hint=hint) from None


def _where(node: Node) -> str | None:
    text = word(node, "where")
    if text is not None:
        try:
            Condition(text)
        except RecipeError as error:
            raise node.value["where"].error(error.message, hint=error.hint) from None
    return text


def _options(node: Node | None) -> dict[str, Any]:
    if node is None:
        return {}
    if not isinstance(node.value, dict):
        raise node.error(f"options is {node.shown}", hint="write options: {key: value}")
    for key, child in node.value.items():
        if not isinstance(child.value, str | int | bool):
            raise child.error(
                f"option {shorten(key)} is {child.shown}",
                hint="give text, a whole number, true or false",
            )
    return {key: child.value for key, child in node.value.items()}


def read_duplicates(node: Node) -> Duplicates | None:
    """Read a recipe's ``duplicates``."""
    child = node.value.get("duplicates")
    if child is None:
        return None
    mapping(child, DUPLICATES_KEYS, "duplicates rule")
    by = choice(child, "by", _SAME)
    if by is None:
        raise child.error("by is missing", hint=f"write by: {one_of(_SAME)}")
    return Duplicates(
        by=cast(Literal["text", "picture", "both"], by),
        near=switch(child, "near", default=False),
        keep=whole(child, "keep", high=MOST) or 1,
    )


def unique(names: Collection[str], nodes: list[Node], what: str) -> None:
    """Refuse a name that stands twice."""
    first: dict[str, Node] = {}
    for one, node in zip(names, nodes, strict=True):
        if one in first:
            raise node.error(
                f"two {what} are named {one}, the first at {first[one].place}",
                hint="give one a name of its own (name: …)",
            )
        first[one] = node
