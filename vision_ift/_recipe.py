"""What is asked for: sources, amounts, filters, stages and a seed, as YAML.

    name: coco_mix
    seed: 17
    epochs: 1                  # or `total: 500000` conversations
    mix:                       # amounts of one kind: weight, repeat or count
      - {source: coco_ift,    weight: 4, where: "rounds >= 2"}
      - {source: vision_flan, weight: 3, cap_per_task: 1000}

``exclude: [bad.jsonl]`` leaves out the rows whose ids are listed there (``vision-ift check`` writes
such lists); a relative path is looked for beside the recipe's file.

Instead of ``mix`` a recipe may have ``stages``: a list of ``{name, mix, total}`` that are
delivered one after the other.
"""

from __future__ import annotations

from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import msgspec

from vision_ift import _registry
from vision_ift._errors import MissingInputError, RecipeError, UnknownNameError
from vision_ift._yaml import Node, read_yaml

Kind = Literal["weight", "repeat", "count"]
_KINDS: tuple[Kind, ...] = ("weight", "repeat", "count")

_RECIPE_KEYS = ("name", "description", "seed", "epochs", "total", "mix", "stages", "exclude")
_STAGE_KEYS = ("name", "epochs", "total", "mix")
_ENTRY_KEYS = ("source", "name", "path", "options", *_KINDS, "where", "cap_per_task")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a mix.

    Attributes:
        name: What the part is called; keys its rows' order. If not given, the source's name, with a
            ``path`` ``source:file`` (so that two files of one source need no names).
        source: The source (``vision-ift sources`` lists them).
        path: A file for the sources that read any file (``llava``, ``messages``).
        options: The source's own options.
        kind: ``weight`` (a share), ``repeat`` (times through), or ``count`` (rows).
        amount: How much, exact.
        where: SQL over one row; only rows for which it is true are taken.
        cap_per_task: At most so many rows of each task.
    """

    name: str
    source: str
    path: str | None = None
    options: dict[str, Any] = {}
    kind: Kind
    amount: Fraction
    where: str | None = None
    cap_per_task: int | None = None

    @property
    def all_options(self) -> dict[str, Any]:
        """The options for the builder, the path among them."""
        return {**self.options, **({"path": self.path} if self.path is not None else {})}


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """A mix that is delivered before the next one starts.

    ``total`` (conversations) or ``epochs`` say how much of a mix of weights there is.
    """

    name: str
    mix: tuple[Entry, ...]
    total: int | None = None
    epochs: Fraction = Fraction(1)


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for.

    >>> recipe = Recipe.parse("{name: a, mix: [{source: coco_ift, weight: 1}]}")
    >>> recipe.mix[0].source
    'coco_ift'
    """

    name: str
    description: str = ""
    seed: int = 0
    stages: tuple[Stage, ...]
    #: Files of ids to leave out, as they can be opened; read when the recipe is planned.
    exclude: tuple[str, ...] = ()
    #: The YAML as it was read.
    text: str = ""

    @property
    def mix(self) -> tuple[Entry, ...]:
        """The entries of all stages in the recipe's order; their places are the source numbers."""
        return tuple(entry for stage in self.stages for entry in stage.mix)

    @classmethod
    def read(cls, name_or_path: str | Path) -> Recipe:
        """Read a shipped recipe by its name, or a YAML file by its path.

        Raises:
            UnknownNameError: It is neither.
            RecipeError: It cannot be read; the message has file, line and column.
        """
        text = str(name_or_path)
        path = Path(name_or_path)
        if path.suffix in (".yaml", ".yml") or "/" in text:
            try:
                raw = path.read_bytes()
            except OSError as error:
                raise MissingInputError(f"recipe {text} cannot be read: {error.strerror}") from None
            return cls._decode(raw, text)
        if text not in shipped():
            raise UnknownNameError(
                "recipe", text, shipped(), hint="(or give the path of a .yaml file)"
            )
        raw = (files("vision_ift") / "recipes" / f"{text}.yaml").read_bytes()
        return cls._decode(raw, f"{text}.yaml")

    @classmethod
    def _decode(cls, raw: bytes, file: str) -> Recipe:
        try:
            return cls.parse(raw.decode("utf-8"), file=file)
        except UnicodeDecodeError as error:
            raise RecipeError(f"not UTF-8 at byte {error.start}", file=file) from None

    @classmethod
    def parse(cls, text: str, *, file: str = "") -> Recipe:
        """Read a recipe from YAML text.

        Raises:
            RecipeError: With line, column, the key, and what to write instead.
        """
        node = _mapping(read_yaml(text, file=file), _RECIPE_KEYS, "recipe")
        name = _word(node, "name", default=Path(file).stem or "recipe")
        seed = _integer(node, "seed", default=0, low=0, high=2**63 - 1)
        stages: tuple[Stage, ...]
        if ("mix" in node.value) == ("stages" in node.value):
            raise node.error("a recipe has either mix or stages")
        if "mix" in node.value:
            stages = (_stage(node, name="mix"),)
        else:
            for key in ("total", "epochs"):
                if key in node.value:
                    raise node.key_error(key, f"{key} stands beside stages", hint="put it in one")
            stages = tuple(
                _stage(_mapping(stage, _STAGE_KEYS, "stage"), name=None)
                for stage in _sequence(node, "stages")
            )
            _unique([stage.name for stage in stages], node, "stage")
        _consistent(stages, node)
        return cls(
            name=name,
            description=_word(node, "description", default=""),
            seed=seed,
            stages=stages,
            exclude=_excludes(node, file),
            text=text,
        )


def shipped() -> list[str]:
    """List the recipes that come with the package, sorted.

    >>> "coco_mix" in shipped()
    True
    """
    folder = files("vision_ift") / "recipes"
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    )


def _stage(node: Node, *, name: str | None) -> Stage:
    entries = tuple(
        _entry(_mapping(entry, _ENTRY_KEYS, "mix entry")) for entry in _sequence(node, "mix")
    )
    first = entries[0]
    for entry, at in zip(entries, node.value["mix"].value, strict=True):
        if entry.kind != first.kind:
            raise at.key_error(
                entry.kind,
                f"{entry.name} has a {entry.kind}, but {first.name} has a {first.kind}",
                hint="give all entries of a mix the same kind of amount",
            )
    _unique([entry.name for entry in entries], node.value["mix"], "mix entry")
    if first.kind == "weight" and not any(entry.amount for entry in entries):
        raise node.value["mix"].error("all weights are 0")
    total = _integer(node, "total", default=None, low=1, high=10**15)
    if total is not None and first.kind != "weight":
        raise node.key_error(
            "total",
            f"total goes with weights, but {first.name} has a {first.kind}",
            hint="remove total, or give weights",
        )
    if total is not None and "epochs" in node.value:
        raise node.key_error("epochs", "total and epochs exclude each other", hint="keep one")
    epochs = _fraction(node, "epochs", default=Fraction(1))
    if epochs <= 0:
        raise node.key_error("epochs", f"epochs is {epochs}", hint="give more than 0")
    return Stage(
        name=name or _word(node, "name"),
        mix=entries,
        total=total,
        epochs=epochs,
    )


def _entry(node: Node) -> Entry:
    source = _word(node, "source")
    if source not in _registry.names():
        error = UnknownNameError("source", source, _registry.names())
        raise node.value["source"].error(error.message, hint=error.hint)
    given = [kind for kind in _KINDS if kind in node.value]
    if len(given) != 1:
        raise node.error(
            f"{source} has {' and '.join(given) or 'no amount'}",
            hint="give exactly one of weight, repeat, count",
        )
    kind = given[0]
    amount = _fraction(node, kind, default=Fraction(0))
    if amount < 0 or (kind == "count" and amount.denominator != 1):
        raise node.value[kind].error(
            f"{kind} is {node.value[kind].value}",
            hint="give a whole number" if kind == "count" else "give 0 or more",
        )
    options = node.value.get("options")
    path = _word(node, "path", default="") or None
    return Entry(
        name=_word(node, "name", default=f"{source}:{Path(path).name}" if path else source),
        source=source,
        path=path,
        options=_options(options) if options is not None else {},
        kind=kind,
        amount=amount,
        where=_word(node, "where", default="") or None,
        cap_per_task=_integer(node, "cap_per_task", default=None, low=1, high=10**15),
    )


def _excludes(node: Node, file: str) -> tuple[str, ...]:
    """The exclude lists, relative paths beside the recipe's file (without one: where we are)."""
    if "exclude" not in node.value:
        return ()
    found = []
    for child in _sequence(node, "exclude"):
        if not isinstance(child.value, str) or not child.value.strip():
            raise child.error("an exclude list is not a path", hint="quote it")
        path = str(Path(file).parent / Path(child.value).expanduser())
        if path in found:
            raise child.error(f"exclude list {child.value} stands twice", hint="remove one")
        found.append(path)
    return tuple(found)


def _options(node: Node) -> dict[str, Any]:
    if not isinstance(node.value, dict):
        raise node.error("options is not a mapping", hint="write options: {key: value}")
    for key, child in node.value.items():
        if not isinstance(child.value, str | int | bool):
            raise child.error(f"option {key} is not text, a whole number, true or false")
    return {key: child.value for key, child in node.value.items()}


def _consistent(stages: tuple[Stage, ...], node: Node) -> None:
    """One name is one part: the same rows in every stage, so that its counter can go on."""
    known: dict[str, Entry] = {}
    for stage in stages:
        for entry in stage.mix:
            one = known.setdefault(entry.name, entry)
            if (one.source, one.all_options, one.where, one.cap_per_task) != (
                entry.source,
                entry.all_options,
                entry.where,
                entry.cap_per_task,
            ):
                raise node.error(
                    f"stage {stage.name}: {entry.name} is not the {entry.name} of an earlier stage",
                    hint="give one of them a name of its own (name: …)",
                )


def _mapping(node: Node, known: tuple[str, ...], what: str) -> Node:
    if not isinstance(node.value, dict):
        raise node.error(f"a {what} is a mapping", hint="write key: value")
    for key in node.value:
        if key not in known:
            error = UnknownNameError(f"key of a {what}", key, known)
            raise node.key_error(key, error.message, hint=error.hint)
    return node


def _sequence(node: Node, key: str) -> list[Node]:
    child = node.value.get(key)
    if child is None:
        raise node.error(f"{key} is missing")
    if not isinstance(child.value, list) or not child.value:
        raise child.error(f"{key} is a list of at least one entry")
    found: list[Node] = child.value
    return found


def _word(node: Node, key: str, default: str | None = None) -> str:
    child = node.value.get(key)
    if child is None:
        if default is None:
            raise node.error(f"{key} is missing")
        return default
    if not isinstance(child.value, str) or not child.value.strip():
        raise child.error(f"{key} is not text", hint="quote it")
    return child.value


def _integer(node: Node, key: str, *, default: Any, low: int, high: int) -> Any:
    child = node.value.get(key)
    if child is None:
        return default
    if not isinstance(child.value, int) or isinstance(child.value, bool):
        raise child.error(f"{key} is {_shown(child)}", hint="give a whole number")
    if not low <= child.value <= high:
        raise child.error(f"{key} is {child.value}", hint=f"give {low} to {high}")
    return child.value


def _fraction(node: Node, key: str, *, default: Fraction) -> Fraction:
    child = node.value.get(key)
    if child is None:
        return default
    if isinstance(child.value, bool) or not isinstance(child.value, int | Fraction):
        raise child.error(f"{key} is {_shown(child)}", hint="give a number")
    return Fraction(child.value)


def _shown(node: Node) -> str:
    return repr(node.value) if isinstance(node.value, str | int | bool) else "not a number"


def _unique(names: list[str], node: Node, what: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise node.error(
                f"two {'entries' if what == 'mix entry' else 'stages'} are named {name}",
                hint="give one a name of its own (name: …)",
            )
