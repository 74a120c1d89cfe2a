"""YAML as a recipe needs it: every value with its line and column, and no surprises.

Refused with their place: duplicate keys, anchors and aliases, tags, plain scalars that versions of
YAML
read differently (``no``, ``010``, ``12:30:00``, ``~``), files over 1 MB, over 32 levels of nesting.
Numbers are kept exact: ``0.1`` is one tenth.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError, YAMLStreamError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from vision_ift._errors import RecipeError

MAX_BYTES = 1 << 20
MAX_DEPTH = 32

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})?\.?[0-9]{0,18}([eE][-+]?[0-9]{1,2})?")
_SURPRISE = re.compile(
    r"(?i:yes|no|on|off|y|n|~|null)|[-+]?0[0-9_]+|0[xob].*|[0-9]+(:[0-9]+)+|[-+]?\.(?i:inf|nan)"
    r"|[-+]?[0-9][0-9_]*_[0-9_]*"
)


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its place.

    ``value`` is a ``str``, ``int``, ``Fraction``, ``bool``, a list of nodes, or a dict from key to
    node. ``keys`` has the place of every key of a mapping.
    """

    value: Any
    file: str
    line: int
    column: int
    keys: dict[str, tuple[int, int]]

    def error(self, message: str, *, hint: str = "") -> RecipeError:
        """Make an error at this place."""
        return RecipeError(message, hint=hint, file=self.file, line=self.line, column=self.column)

    def key_error(self, key: str, message: str, *, hint: str = "") -> RecipeError:
        """Make an error at a key of this mapping."""
        line, column = self.keys.get(key, (self.line, self.column))
        return RecipeError(message, hint=hint, file=self.file, line=line, column=column)


def read_yaml(text: str, *, file: str = "") -> Node:
    """Read one YAML document.

    >>> read_yaml("seed: 17").value["seed"].value
    17
    >>> read_yaml("a: 1\\na: 2")
    Traceback (most recent call last):
    vision_ift._errors.RecipeError: 2:1: key 'a' stands twice, first in line 1; remove one of them

    Raises:
        RecipeError: It is not YAML, or is refused; with line and column.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise RecipeError(f"{len(text):,} characters are too many", file=file)
    yaml = YAML(typ="safe", pure=True)
    try:
        depth = 0
        for event in yaml.parse(text):
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise RecipeError(
                    f"nested deeper than {MAX_DEPTH} levels",
                    file=file,
                    line=event.start_mark.line + 1,
                    column=event.start_mark.column + 1,
                )
            for word, what in (("anchor", "anchors and aliases (& and *)"), ("tag", "tags (!)")):
                if getattr(event, word, None) is not None:
                    raise RecipeError(
                        f"{what} are not taken",
                        hint="write the plain value",
                        file=file,
                        line=event.start_mark.line + 1,
                        column=event.start_mark.column + 1,
                    )
        root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise RecipeError(
            f"not YAML: {error.problem or error.context}",
            file=file,
            line=mark.line + 1 if mark else 0,
            column=mark.column + 1 if mark else 0,
        ) from None
    except (YAMLError, YAMLStreamError) as error:
        raise RecipeError(f"not YAML: {str(error).splitlines()[0]}", file=file) from None
    if root is None:
        raise RecipeError("the file is empty", file=file)
    return _node(root, file)


def _node(node: Any, file: str) -> Node:
    line, column = node.start_mark.line + 1, node.start_mark.column + 1

    def refuse(message: str, *, hint: str = "", at: Any = node) -> RecipeError:
        mark = at.start_mark
        return RecipeError(
            message, hint=hint, file=file, line=mark.line + 1, column=mark.column + 1
        )

    keys: dict[str, tuple[int, int]] = {}
    value: Any
    if isinstance(node, ScalarNode):
        value = node.value if node.style is not None else _plain(node.value, refuse)
    elif isinstance(node, SequenceNode):
        value = [_node(child, file) for child in node.value]
    elif isinstance(node, MappingNode):
        value = {}
        for key, child in node.value:
            if not isinstance(key, ScalarNode):
                raise refuse("a key must be a word", at=key)
            name = key.value
            if name in value:
                raise refuse(
                    f"key {name!r} stands twice, first in line {keys[name][0]}",
                    hint="remove one of them",
                    at=key,
                )
            keys[name] = (key.start_mark.line + 1, key.start_mark.column + 1)
            value[name] = _node(child, file)
    else:  # pragma: no cover - compose gives no other kind
        raise refuse("not a value")
    return Node(value, file, line, column, keys)


def _plain(text: str, refuse: Any) -> str | int | Fraction | bool:
    """Resolve an unquoted scalar."""
    if text in ("true", "false"):
        return text == "true"
    if text == "":
        raise refuse("the value is missing")
    if _SURPRISE.fullmatch(text):
        raise refuse(
            f"{text} means different things in different versions of YAML",
            hint=f"quote it ('{text}') if it is text, else write a plain number or true/false",
        )
    if _INTEGER.fullmatch(text):
        return int(text)
    if any(character.isdigit() for character in text) and _DECIMAL.fullmatch(text):
        return Fraction(text)
    return text
