"""What is asked for: sources, amounts, filters, stages and a seed, as YAML.

    name: coco_mix
    seed: 17
    epochs: 1                  # or `total: 500k` conversations, or `tokens: 200M`
    mix:                       # amounts of one kind: weight, repeat or count
      - {source: coco_ift,    weight: 4, where: "rounds >= 2"}
      - {source: vision_flan, weight: 3, cap_per_task: 1000}

``exclude: [bad.jsonl]`` leaves out the rows whose ids are listed there (``vision-ift check`` writes
such lists); a relative path is looked for beside the recipe's file.

Instead of ``mix`` a recipe may have ``stages``: a list of ``{name, mix, total}`` that are
delivered one after the other. docs/recipes.md shows every key.
"""

from __future__ import annotations

from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from vision_ift._errors import RecipeError, UnknownNameError, UsageError
from vision_ift._recipe.extends import Chain, File, beside, is_path, read_file, text_of
from vision_ift._recipe.fields import mapping, name, number, sequence, whole, word
from vision_ift._recipe.mix import (
    LENGTHS,
    STAGE_KEYS,
    Duplicates,
    Entry,
    Kind,
    Stage,
    read_duplicates,
    read_stage,
    unique,
)
from vision_ift._recipe.yaml import MAX_BYTES, Node, read_yaml, write_yaml
from vision_ift._tokens import TOKENIZERS, find_image_rule

__all__ = ["Duplicates", "Entry", "Kind", "Recipe", "Stage", "shipped"]

_MAX_RULE = 200
#: Keys that speak of the only mix, and stand in each stage where there are several.
_OF_STAGE = (*LENGTHS, "temperature", "cap")
RECIPE_KEYS = (
    *("name", "description", "seed", "extends", "mix", "stages", "drop"),
    *_OF_STAGE,
    *("tokenizer", "image_tokens", "max_repeats", "duplicates", "exclude"),
)


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for.

    Attributes:
        name: What it is called; by default its file.
        description: A line for people.
        seed: Keys every order and every choice of rows.
        tokenizer, image_tokens: What counts the tokens of texts and of pictures, by names of
            ``_tokens.py``.
        max_repeats: A part that is read more often than this is worth a warning.
        duplicates: What is left out because it stands in the mix already.
        stages: The mixes, one after the other; one of them, named ``mix``, where it has no stages.
        exclude: Files of ids to leave out, as they can be opened; read when it is planned.
        text: YAML that says all of this: as it was read, or with ``extends`` written out.

    >>> recipe = Recipe.parse("{name: a, mix: [{source: coco_ift, weight: 1}]}")
    >>> recipe.mix[0].source
    'coco_ift'
    """

    name: str
    description: str = ""
    seed: int = 0
    tokenizer: str | None = None
    image_tokens: str | None = None
    max_repeats: Fraction = Fraction(4)
    duplicates: Duplicates | None = None
    stages: tuple[Stage, ...]
    exclude: tuple[str, ...] = ()
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
            MissingInputError: The file cannot be read.
            RecipeError: It means nothing; the message has file, line and column.
        """
        if is_path(str(name_or_path)):
            file = read_file(Path(name_or_path), str(name_or_path))
        else:
            file = _shipped(str(name_or_path))
        return cls._parsed(text_of(file), file=file.called, identity=file.identity)

    @classmethod
    def parse(cls, text: str, *, file: str = "") -> Recipe:
        """Read a recipe from YAML text.

        Args:
            text: One YAML document.
            file: Where it stands: names errors, and paths in it are relative to its folder.

        Raises:
            RecipeError: With line, column, the key, and what to write instead.
        """
        return cls._parsed(text, file=file, identity=str(Path(file).resolve()) if file else "")

    @classmethod
    def _parsed(cls, text: str, *, file: str, identity: str) -> Recipe:
        own = mapping(read_yaml(text, file=file), RECIPE_KEYS, "recipe")
        chain = Chain(RECIPE_KEYS, find=_shipped, file=file, identity=identity)
        node = chain.resolve(own)
        called = name(own, "name") or Path(file).stem or "recipe"
        if "extends" in own.value:
            node = Node(
                {"name": _said(called), **node.value}, file, own.line, own.column, node.keys
            )
            text = write_yaml(node)
            if len(text.encode()) > MAX_BYTES:
                raise own.value["extends"].error("the merged recipe is too large")
        try:
            return cls(
                name=called,
                description=word(node, "description") or "",
                seed=whole(node, "seed", low=0, high=2**63 - 1) or 0,
                tokenizer=_tokenizer(node, file),
                image_tokens=_image_tokens(node),
                max_repeats=number(node, "max_repeats", above=True) or Fraction(4),
                duplicates=read_duplicates(node),
                stages=_stages(node),
                exclude=_excludes(node, file),
                text=text,
            )
        except RecipeError as error:
            raise beside(error, own.value["extends"]) if "extends" in own.value else error from None

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """Give the language as JSON Schema (2020-12), for editors.

        >>> sorted(Recipe.json_schema()["properties"])[:3]
        ['cap', 'description', 'drop']
        """
        from vision_ift._recipe.schema import schema

        return schema()


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


def _shipped(text: str) -> File:
    if text not in shipped():
        raise UnknownNameError("recipe", text, shipped(), hint="(or give the path of a .yaml file)")
    raw = (files("vision_ift") / "recipes" / f"{text}.yaml").read_bytes()
    return File(raw, f"{text}.yaml", f"shipped {text}")


def _said(text: str) -> Node:
    return Node(text, "", 0, 0)


def _stages(node: Node) -> tuple[Stage, ...]:
    if ("mix" in node.value) == ("stages" in node.value):
        both = "mix" in node.value
        if both:
            raise node.key_error("stages", "the recipe has either mix or stages", hint="keep one")
        raise node.error("a recipe has either mix or stages", hint="write mix: and its sources")
    tokenizer = "tokenizer" in node.value
    if "mix" in node.value:
        return (read_stage(node, called="mix", tokenizer=tokenizer),)
    for key in _OF_STAGE:
        if key in node.value:
            raise node.key_error(key, f"{key} stands beside stages", hint="put it into one of them")
    nodes = sequence(node, "stages")
    stages = tuple(
        read_stage(mapping(one, STAGE_KEYS, "stage"), called=None, tokenizer=tokenizer)
        for one in nodes
    )
    unique([stage.name for stage in stages], nodes, "stages")
    _check_same(stages, nodes)
    return stages


def _check_same(stages: tuple[Stage, ...], nodes: list[Node]) -> None:
    """One name is one part: the same rows in every stage, so that its counter can go on."""
    known: dict[str, tuple[Entry, Node]] = {}
    for stage, node in zip(stages, nodes, strict=True):
        for entry, at in zip(stage.mix, node.value["mix"].value, strict=True):
            one, first = known.setdefault(entry.name, (entry, at))
            differ = [
                key
                for key in ("source", "path", "options", "where", "subset", "cap_per_task")
                if getattr(one, key) != getattr(entry, key)
            ]
            if differ:
                raise at.error(
                    f"stage {stage.name}: {entry.name} is not the {entry.name} of an earlier stage "
                    f"({first.place}): its {' and '.join(differ)} is another",
                    hint="give one of them a name of its own (name: …)",
                )


def _excludes(node: Node, file: str) -> tuple[str, ...]:
    """The exclude lists, relative paths beside the recipe's file (without one: where we are)."""
    if "exclude" not in node.value:
        return ()
    found: list[str] = []
    for child in sequence(node, "exclude"):
        if not isinstance(child.value, str) or not child.value.strip():
            raise child.error(f"an exclude list is {child.shown}, not a path", hint="quote it")
        path = str(Path(file).parent / Path(child.value).expanduser())
        if path in found:
            raise child.error(f"exclude list {child.value} stands twice", hint="remove one")
        found.append(path)
    return tuple(found)


def _tokenizer(node: Node, file: str) -> str | None:
    """The tokenizer's name; a local one's path beside the recipe's file."""
    text = word(node, "tokenizer")
    if text is None:
        return None
    kind, mark, rest = text.partition(":")
    if text != "chars/4" and not (mark and rest and kind in ("tiktoken", "hf")):
        error = UnknownNameError("tokenizer", text[:80], TOKENIZERS)
        raise node.value["tokenizer"].error(error.message, hint=error.hint)
    if kind == "hf":
        return f"hf:{Path(file).parent / Path(rest).expanduser()}"
    return text


def _image_tokens(node: Node) -> str | None:
    text = word(node, "image_tokens", most=_MAX_RULE)
    if text is not None:
        try:
            find_image_rule(text)
        except UsageError as error:
            raise node.value["image_tokens"].error(error.message, hint=error.hint) from None
    return text
