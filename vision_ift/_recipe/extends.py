"""``extends``: a recipe that says only what is other than in another one.

The recipes are merged as they stand in their files, before anything is read of them, so that every
value keeps the place at which it was written:

* a key of the extending recipe replaces the base's; ``name`` and ``description`` are never the
  base's;
* ``epochs``, ``total`` and ``tokens`` are one key, and so are an entry's ``weight``, ``repeat`` and
  ``count``;
* entries of ``mix`` merge by name, stages by name, new ones go to the end;
* ``drop`` beside ``mix`` or ``stages`` names those of the base to leave out, before they merge;
* ``mix`` where the base has ``stages`` (or the other way round) replaces them, and with them the
  base's keys that belong to a mix.

Paths of files (``exclude``, ``tokenizer: hf:PATH``) are relative to the recipe in which they stand;
in what is merged they are written relative to the recipe that was asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from vision_ift._errors import MissingInputError, RecipeError, UnknownNameError
from vision_ift._recipe.fields import mapping, name, sequence, word
from vision_ift._recipe.mix import AMOUNTS, ENTRY_KEYS, LENGTHS, STAGE_KEYS, entry_name, unique
from vision_ift._recipe.yaml import MAX_BYTES, Node, read_yaml, shorten

#: Recipes in one chain.
MAX_CHAIN = 8

_HERE = PurePosixPath()

#: Keys of a recipe that speak of its only mix.
_OF_MIX = (*LENGTHS, "temperature", "cap")


class File(NamedTuple):
    """A recipe's file: its bytes, and what it is called in errors."""

    raw: bytes
    called: str
    #: What tells it from others; a shipped recipe's name, or the path with links followed.
    identity: str


def read_file(path: Path, called: str) -> File:
    """Read a recipe's file, no more of it than a recipe may have.

    Raises:
        MissingInputError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise MissingInputError(f"recipe {called} cannot be read: {why}") from None
    return File(raw, called, str(path.resolve()))


def is_path(text: str) -> bool:
    """Say whether a text is the path of a recipe's file, not a shipped recipe's name."""
    return "/" in text or text.endswith((".yaml", ".yml"))


def text_of(file: File) -> str:
    """Decode a recipe's bytes.

    Raises:
        RecipeError: They are not UTF-8.
    """
    try:
        return file.raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"not UTF-8 at byte {error.start}", hint="save it as UTF-8", file=file.called
        ) from None


class Chain:
    """Reads what a recipe extends, and what that extends.

    Args:
        keys: The keys of a recipe.
        find: Gives a shipped recipe by its name.
        file: The path of the recipe that was asked for, ``""`` where it has none.
        identity: What tells that recipe from others.
    """

    def __init__(
        self, keys: tuple[str, ...], *, find: Callable[[str], File], file: str, identity: str
    ) -> None:
        self._keys = keys
        self._find = find
        self._folder = Path(file).parent
        self._met = [(identity, file or "the recipe")]

    def resolve(self, node: Node, *, below: PurePosixPath = _HERE) -> Node:
        """Merge a recipe with what it extends.

        Args:
            node: The recipe as read.
            below: The folder of its file, seen from the folder of the one that was asked for.

        Raises:
            RecipeError: It extends itself, or too many others, or what cannot be merged; or a base
                is broken: both places are named.
        """
        node = _moved(mapping(node, self._keys, "recipe"), below)
        text = word(node, "extends", most=1000)
        if text is None:
            if "drop" in node.value:
                raise node.key_error(
                    "drop", "drop takes entries out of what a recipe extends", hint="add extends"
                )
            return node
        at = node.value["extends"]
        folder = below
        try:
            if is_path(text):
                seen = PurePosixPath(text) if text.startswith("~") else below / text
                path = self._folder / Path(seen).expanduser()
                file = read_file(path, str(path))
                folder = seen.parent
            else:
                file = self._find(text)
            self._enter(file, at)
            base = self.resolve(read_yaml(text_of(file), file=file.called), below=folder)
        except RecipeError as error:
            raise beside(error, at) from None
        except (MissingInputError, UnknownNameError) as error:
            hint = error.hint or "its path is relative to the recipe that extends it"
            raise at.error(f"extends {shorten(text)}: {error.message}", hint=hint) from None
        self._met.pop()
        return _merged(base, node)

    def _enter(self, file: File, at: Node) -> None:
        """Go into a base, unless it is one that we came through."""
        named = " -> ".join([called for _, called in self._met] + [file.called])
        if file.identity in [identity for identity, _ in self._met]:
            raise at.error(f"extends goes in a circle: {named}", hint="remove one extends")
        if len(self._met) >= MAX_CHAIN:
            raise at.error(
                f"extends goes through more than {MAX_CHAIN} recipes: {named}",
                hint="write one of them out",
            )
        self._met.append((file.identity, file.called))


def beside(error: RecipeError, at: Node) -> RecipeError:
    """Name the place of ``extends`` too, where the base is to blame."""
    if error.file in ("", at.file):
        return error
    both = RecipeError(f"{error.message} (extended at {at.place})", hint=error.hint)
    both.file, both.line, both.column = error.file, error.line, error.column
    return both


def _moved(node: Node, below: PurePosixPath) -> Node:
    """Write the paths of files as they are seen from the recipe that was asked for."""
    if below == _HERE:
        return node
    values = dict(node.value)
    if isinstance(listed := values.get("exclude"), Node) and isinstance(listed.value, list):
        moved = [_path(child, child.value, below) for child in listed.value]
        values["exclude"] = Node(moved, listed.file, listed.line, listed.column)
    tokenizer = values.get("tokenizer")
    if tokenizer is not None and str(tokenizer.value).startswith("hf:"):
        values["tokenizer"] = _path(tokenizer, tokenizer.value[3:], below, before="hf:")
    return Node(values, node.file, node.line, node.column, node.keys)


def _path(node: Node, text: object, below: PurePosixPath, before: str = "") -> Node:
    if not isinstance(text, str) or text.startswith("~"):
        return node
    return Node(f"{before}{below / text}", node.file, node.line, node.column)


def _merged(base: Node, node: Node) -> Node:
    """Merge a recipe into its base, which is merged already."""
    part = "stages" if "stages" in node.value else "mix"
    left = {key: one for key, one in base.value.items() if key not in ("name", "description")}
    if part in node.value and part not in left:  # a list of the other form: it is said anew
        for key in ("mix", "stages", *_OF_MIX):
            left.pop(key, None)
    if "drop" in node.value and part not in left:
        part = "stages" if "stages" in left else "mix"
    whole = _overlaid(left, node, LENGTHS)
    if part in left or part in whole:
        whole[part] = _lists(left.get(part), node, part)
    for key in ("extends", "drop"):
        whole.pop(key, None)
    keys = {**base.keys, **node.keys}
    return Node(whole, node.file, node.line, node.column, keys)


def _overlaid(left: dict[str, Node], node: Node, one_of: tuple[str, ...]) -> dict[str, Node]:
    """The base's keys under the extending ones; of ``one_of`` those that are given replace all."""
    if any(key in node.value for key in one_of):
        left = {key: value for key, value in left.items() if key not in one_of}
    return {**left, **node.value}


def _lists(base: Node | None, node: Node, part: str) -> Node:
    """Merge the entries of a mix, or the stages, by name."""
    what = "entry" if part == "mix" else "stage"
    known = ENTRY_KEYS if part == "mix" else (*STAGE_KEYS, "drop")
    named: dict[str, Node] = {}
    if base is not None:
        for one in sequence(Node({part: base}, base.file, base.line, base.column), part):
            named[_named(one, what)] = one
    if "drop" in node.value:
        for gone in sequence(node, "drop"):
            if str(gone.value) not in named:
                error = UnknownNameError(f"{what} of the base", shorten(str(gone.value)), named)
                raise gone.error(error.message, hint=error.hint)
            del named[str(gone.value)]
    added = sequence(node, part) if part in node.value else []
    names = [
        _named(mapping(one, known, f"mix {what}" if part == "mix" else what), what) for one in added
    ]
    unique(names, added, "entries" if part == "mix" else "stages")
    for called, one in zip(names, added, strict=True):
        named[called] = _one(named.get(called), one, part)
    at = node.value.get(part) or base
    assert at is not None
    return Node(list(named.values()), at.file, at.line, at.column)


def _named(node: Node, what: str) -> str:
    called = entry_name(node) if what == "entry" else name(node, "name")
    if called is None:
        raise node.error(
            "name is missing", hint=f"say which {what} of the base this is, or a source"
        )
    return called


def _one(base: Node | None, node: Node, part: str) -> Node:
    """Merge one entry or one stage."""
    left = dict(base.value) if base is not None else {}
    whole = _overlaid(left, node, AMOUNTS if part == "mix" else LENGTHS)
    if part == "stages" and ("mix" in whole or "drop" in node.value):
        whole["mix"] = _lists(left.get("mix"), node, "mix")
        whole.pop("drop", None)
    keys = {**(base.keys if base is not None else {}), **node.keys}
    return Node(whole, node.file, node.line, node.column, keys)
