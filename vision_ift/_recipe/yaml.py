"""YAML as a recipe needs it: every value with its line and column, and no surprises.

Refused with their place: duplicate keys, anchors, aliases and merge keys, tags, directives, several
documents, tabs as indentation, plain scalars that versions of YAML read differently (``no``,
``010``, ``1e3``, ``12:30:00``, ``~``), text with control characters or half a character, files over
1 MB, over 32 levels of nesting.

Numbers are exact, and are written as people write them: ``17``, ``0.1``, ``1/3``, ``10%``,
``500k``, ``200M``, ``1.5B``. What is meant as text and looks like one of these is quoted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError, YAMLStreamError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    MappingStartEvent,
    ScalarEvent,
)

from vision_ift._errors import RecipeError

MAX_BYTES = 1 << 20
MAX_DEPTH = 32

_UNITS = {"%": Fraction(1, 100), "k": Fraction(10**3), "M": Fraction(10**6), "B": Fraction(10**9)}
_NUMBER = re.compile(
    r"(?P<sign>[-+]?)(?P<figures>(?:0|[1-9][0-9]{0,17})?(?:\.[0-9]{0,18})?)(?:/(?P<below>[1-9][0-9]{0,17})"
    r"|(?P<unit>[%kMB]))?"
)
_LONG_NUMBER = re.compile(r"[-+]?[0-9]*\.?[0-9]+[%kMB]?|[0-9]+/[0-9]+")
_SURPRISE = re.compile(
    r"(?i:yes|no|on|off|y|n|~|null|true|false)|[-+]?0[0-9_]+(?:\.[0-9_]*)?|0[xob].*"
    r"|[0-9]+(?::[0-9]+)+|[-+]?\.?(?i:inf|nan)|[-+]?[0-9][0-9_]*_[0-9_.]*"
    r"|[-+]?[0-9]*\.?[0-9]+[eE][-+]?[0-9]+"
)
#: No number and no word that YAML resolves is longer.
_MAX_PLAIN = 100
#: Control characters that no name, path or condition has a use for, and halves of characters.
_UNFIT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_PAIR = re.compile(r"[\ud800-\udbff][\udc00-\udfff]")
#: What a double-quoted scalar must escape beyond JSON: what YAML folds, drops or refuses.
_ESCAPED = re.compile(r"[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:[-.][A-Za-z0-9_]+)*")


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its place.

    ``value`` is a ``str``, ``int``, ``Fraction``, ``bool``, a list of nodes, or a dict from key to
    node. ``keys`` has the file, line and column of every key of a mapping; ``raw`` is a scalar as
    it was written.
    """

    value: Any
    file: str
    line: int
    column: int
    keys: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    raw: str = ""

    def error(self, message: str, *, hint: str = "") -> RecipeError:
        """Make an error at this place."""
        return RecipeError(message, hint=hint, file=self.file, line=self.line, column=self.column)

    def key_error(self, key: str, message: str, *, hint: str = "") -> RecipeError:
        """Make an error at a key of this mapping."""
        file, line, column = self.keys.get(key, (self.file, self.line, self.column))
        return RecipeError(message, hint=hint, file=file, line=line, column=column)

    @property
    def place(self) -> str:
        """``file:line:column``, for a message about another place."""
        parts = (self.file, self.line, self.column)
        return ":".join(str(part) for part in parts if part)

    @property
    def shown(self) -> str:
        """The value for a message, shortened."""
        if isinstance(self.value, list | dict):
            return "a list" if isinstance(self.value, list) else "a mapping"
        return shorten(self.raw if not isinstance(self.value, str) else repr(self.value))


def shorten(text: str, most: int = 80) -> str:
    """Cut a text that a message quotes.

    >>> shorten("x" * 100, 5)
    'xxxxx…'
    """
    return text if len(text) <= most else text[:most] + "…"


def read_yaml(text: str, *, file: str = "") -> Node:
    """Read one YAML document.

    >>> read_yaml("seed: 17").value["seed"].value
    17
    >>> read_yaml("share: 12.5%").value["share"].value
    Fraction(1, 8)
    >>> read_yaml("a: 1\\na: 2")
    Traceback (most recent call last):
    vision_ift._errors.RecipeError: 2:1: key 'a' stands twice, first in line 1; remove one of them

    Raises:
        RecipeError: It is not YAML, or is refused; with line and column.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise RecipeError(
            f"{size:,} bytes are too many for a recipe",
            hint=f"at most {MAX_BYTES:,}; lists of ids go into exclude files",
            file=file,
        )
    if text.startswith("\ufeff"):
        raise RecipeError(
            "the file starts with a byte order mark",
            hint="save it as UTF-8 without one",
            file=file,
            line=1,
            column=1,
        )
    try:
        root = _Reader(text, file).document()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = str(error.problem or error.context)
        raise RecipeError(
            f"not YAML: {shorten(what, 200)}",
            hint="indent with spaces, not with tabs" if r"'\t'" in what else "",
            file=file,
            line=mark.line + 1 if mark else 0,
            column=mark.column + 1 if mark else 0,
        ) from None
    except (YAMLError, YAMLStreamError) as error:
        before = text[: getattr(error, "position", 0)].split("\n")
        raise RecipeError(
            f"not YAML: {str(error).splitlines()[0]}",
            file=file,
            line=len(before),
            column=len(before[-1]) + 1,
        ) from None
    if root is None:
        raise RecipeError("the file is empty", hint="write a mix", file=file)
    return root


class _Reader:
    """Makes nodes of the parser's events, in one pass, so that hostile input ends early."""

    def __init__(self, text: str, file: str) -> None:
        self._events: Iterator[Any] = self._checked(YAML(typ="safe", pure=True).parse(text))
        self._file = file

    def document(self) -> Node | None:
        root = None
        for event in self._events:
            if isinstance(event, ScalarEvent | CollectionStartEvent):
                root = self._node(event)
        return root

    def _error(self, event: Any, message: str, hint: str = "") -> RecipeError:
        mark = event.start_mark
        return RecipeError(
            message, hint=hint, file=self._file, line=mark.line + 1, column=mark.column + 1
        )

    def _checked(self, events: Any) -> Iterator[Any]:
        """Refuse what no part of a recipe may be."""
        depth = documents = 0
        for event in events:
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise self._error(
                    event, f"nested deeper than {MAX_DEPTH} levels", "a recipe needs six"
                )
            if isinstance(event, AliasEvent) or getattr(event, "anchor", None) is not None:
                raise self._error(
                    event, "anchors and aliases (& and *) are not taken", "write the plain value"
                )
            if getattr(event, "tag", None) is not None:
                raise self._error(event, "tags (!) are not taken", "write the plain value")
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._error(event, "a second document starts here", "keep one")
                if event.version or event.tags:
                    raise self._error(event, "directives (%) are not taken", "remove the line")
            yield event

    def _node(self, event: Any) -> Node:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if isinstance(event, ScalarEvent):
            value = self._text(event) if event.style is not None else self._plain(event)
            return Node(value, self._file, line, column, raw=event.value)
        if isinstance(event, MappingStartEvent):
            return self._mapping(line, column)
        children = []
        while not isinstance(child := next(self._events), CollectionEndEvent):
            children.append(self._node(child))
        return Node(children, self._file, line, column)

    def _mapping(self, line: int, column: int) -> Node:
        keys: dict[str, tuple[str, int, int]] = {}
        values: dict[str, Node] = {}
        while not isinstance(key := next(self._events), CollectionEndEvent):
            if not isinstance(key, ScalarEvent):
                raise self._error(key, "a key must be a word", "write key: value")
            name = self._text(key)
            if name == "<<":
                raise self._error(key, "merge keys (<<) are not taken", "extends: takes a recipe")
            if name in values:
                raise self._error(
                    key,
                    f"key {shorten(name)!r} stands twice, first in line {keys[name][1]}",
                    "remove one of them",
                )
            keys[name] = (self._file, key.start_mark.line + 1, key.start_mark.column + 1)
            values[name] = self._node(next(self._events))
        return Node(values, self._file, line, column, keys)

    def _text(self, event: Any) -> str:
        text = str(event.value)
        if _PAIR.search(text):  # as JSON escapes what lies above U+FFFF
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        if unfit := _UNFIT.search(text):
            raise self._error(event, f"the text holds the character {unfit[0]!r}", "remove it")
        return text

    def _plain(self, event: Any) -> str | int | Fraction | bool:
        """Resolve an unquoted scalar."""
        text = self._text(event)
        if text in ("true", "false"):
            return text == "true"
        if text == "":
            raise self._error(event, "the value is missing", "write one, or remove the key")
        if len(text) > _MAX_PLAIN and text.strip("+-./%_0123456789"):
            return text  # some of the patterns below take long over long texts
        if len(text) <= _MAX_PLAIN and _SURPRISE.fullmatch(text):
            raise self._error(
                event,
                f"{shorten(text)} means different things in different versions of YAML",
                f"quote it ('{shorten(text)}') if it is text, else write a plain number or "
                "true/false",
            )
        number = _NUMBER.fullmatch(text[: _MAX_PLAIN + 1])
        if number is not None and any(figure.isdigit() for figure in number["figures"]):
            exact = Fraction(number["sign"] + number["figures"]) * _UNITS.get(
                number["unit"], Fraction(1)
            )
            if number["below"]:
                exact /= int(number["below"])
            return int(exact) if exact.denominator == 1 else exact
        if len(text) > _MAX_PLAIN or _LONG_NUMBER.fullmatch(text):
            raise self._error(
                event,
                f"the number {shorten(text, 40)} has too many digits, or a 0 below",
                "at most 18 before the point and 18 behind it",
            )
        return text


def node_of(value: Any) -> Node:
    """Make a node of plain values (mappings, lists, text, exact numbers, true and false).

    >>> write_yaml(node_of({"name": "x", "amount": Fraction(1, 3), "whole": True}))
    'name: x\\namount: 1/3\\nwhole: true\\n'
    """
    if isinstance(value, dict):
        return Node({key: node_of(one) for key, one in value.items()}, "", 0, 0)
    if isinstance(value, list | tuple):
        return Node([node_of(one) for one in value], "", 0, 0)
    raw = str(value).lower() if isinstance(value, bool) else str(value)
    return Node(value, "", 0, 0, raw=raw)


def write_yaml(root: Node) -> str:
    """Write a node so that :func:`read_yaml` gives the same values again.

    >>> print(write_yaml(read_yaml("{a: 10%, b: [{c: 'no', d: [1/3]}]}")), end="")
    a: 10%
    b:
      - {c: "no", d: [1/3]}
    """
    return "".join(f"{line}\n" for line in _block(root))


def _block(node: Node) -> list[str]:
    """A mapping, a key a line; lists of mappings an entry a line."""
    lines = []
    for key, value in node.value.items():
        if not _has_mappings(value):
            lines.append(f"{quoted(key)}: {_flow(value)}")
            continue
        lines.append(f"{quoted(key)}:")
        for child in value.value:
            deep = isinstance(child.value, dict) and any(map(_has_mappings, child.value.values()))
            first, *rest = _block(child) if deep else [_flow(child)]
            lines += [f"  - {first}", *(f"    {line}" for line in rest)]
    return lines


def _has_mappings(node: Node) -> bool:
    return isinstance(node.value, list) and any(isinstance(n.value, dict) for n in node.value)


def _flow(node: Node) -> str:
    if isinstance(node.value, dict):
        inside = ", ".join(f"{quoted(key)}: {_flow(one)}" for key, one in node.value.items())
        return f"{{{inside}}}"
    if isinstance(node.value, list):
        return f"[{', '.join(_flow(child) for child in node.value)}]"
    return quoted(node.value) if isinstance(node.value, str) else node.raw


def quoted(text: str) -> str:
    """Write text plain where no reader of YAML could take it for something else.

    >>> quoted("coco_ift"), quoted("no"), quoted("a: b # c")
    ('coco_ift', '"no"', '"a: b # c"')
    """
    if _WORD.fullmatch(text) and not _SURPRISE.fullmatch(text):
        return text
    return _ESCAPED.sub(
        lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False)
    )
