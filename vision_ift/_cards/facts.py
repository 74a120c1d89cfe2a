"""What is known of sources and recipes before anything is built: claims, terms, how they were made.

A source's facts are the attributes of its builder and a file beside its module,
``cards/<source>.yaml``. A recipe's are those of the sources that it
mixes, its own words, and what its amounts come to where the sources' sizes are known.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Literal

import msgspec

from vision_ift import _registry
from vision_ift._builder import Builder
from vision_ift._cards.told import Told, read_told
from vision_ift._errors import UnknownNameError
from vision_ift._plan.amounts import SHARES, amounts
from vision_ift._recipe.recipe import Entry, Recipe, Stage, shipped

_SPLIT = re.compile(r"\s*split\s*=\s*'(\w+)'\s*", re.IGNORECASE)


class SourceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A source: what its builder says, and what is told of it."""

    name: str
    title: str
    homepage: str
    license: str
    citation: str
    languages: tuple[str, ...]
    prompt_splits: tuple[str, ...]
    told: Told

    @classmethod
    def unknown(cls, name: str) -> SourceFacts:
        """Give the facts of a source that is not installed here: none but its name."""
        return cls(
            name=name,
            title=name,
            homepage="",
            license="unknown",
            citation="",
            languages=(),
            prompt_splits=(),
            told=Told(summary="This source is not installed where the card was written."),
        )


class PartFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a recipe, before anything is built.

    Attributes:
        stage, name, source: Where it stands, what it is called, what it reads.
        kind, amount: What is asked for: ``weight`` 4, ``repeat`` 1, ``count`` 1000, ``size`` 1.
        share: Its share of its stage in millionths; ``None`` where that depends on sizes that
            nobody knows.
        filters: What decides which rows are taken, and how: ``("where", "rounds >= 2")``.
        has: Rows that it has by what the authors claim; ``None`` where that is not known.
            ``has_about``: whether they round it.
        delivered: What the recipe then delivers of it; ``about``: whether that is rounded.
    """

    stage: str
    name: str
    source: str
    kind: str
    amount: str
    share: int | None
    filters: tuple[tuple[str, str], ...]
    has: int | None
    has_about: bool
    delivered: int | None
    about: bool


class CardFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a card is made of, without counts of what was built.

    Attributes:
        name, kind, title: What it is called, and whether it is a source or a recipe.
        summary: Markdown.
        description: Words of the recipe's author, as they are; escape them.
        splits: The splits that it is published in.
        rows: Rows by what the authors claim; ``None`` where that is not known. ``about`` where they
            round it.
        sources: The sources in it, in the recipe's order.
        parts: The entries of a recipe.
        shipped: Whether ``load_dataset("vision_ift", name)`` knows the name.
    """

    name: str
    kind: Literal["source", "recipe"]
    title: str
    summary: str
    description: str
    splits: tuple[str, ...]
    rows: int | None
    about: bool
    sources: tuple[SourceFacts, ...]
    parts: tuple[PartFacts, ...] = ()
    shipped: bool = True

    @property
    def languages(self) -> list[str]:
        """The languages of all sources, sorted."""
        return sorted({one for source in self.sources for one in source.languages})

    @property
    def tasks(self) -> list[str]:
        """The Hub's tasks of all sources, in their order."""
        return list(dict.fromkeys(one for source in self.sources for one in source.told.tasks))


def describe(what: str | Recipe) -> CardFacts:
    """Say what is known of a source, a shipped recipe, a recipe's file, or a recipe.

    Raises:
        UnknownNameError: There is no such source or recipe.
        RecipeError: The recipe's file means nothing.
        IntegrityError: The facts beside a source's module are not of their form.

    >>> describe("mminstruct").rows, describe("coco_mix").parts[0].share
    (378186, 400000)
    """
    if isinstance(what, Recipe):
        return _of_recipe(what)
    if what in _registry.names():
        return _of_source(source_facts(what))
    try:
        return _of_recipe(Recipe.read(what))
    except UnknownNameError:
        known = sorted({*_registry.names(), *shipped()})
        hint = "(or give the path of a .yaml file)"
        raise UnknownNameError("source or recipe", what, known, hint=hint) from None


def source_facts(name: str) -> SourceFacts:
    """Give the facts of a source; where no file says more, those of its builder.

    Raises:
        UnknownNameError: There is no such source.
        IntegrityError: The facts beside its module are not of their form.
    """
    return _of_builder(_registry.find(name))


@cache
def _of_builder(builder: Builder) -> SourceFacts:
    return SourceFacts(
        name=builder.name,
        title=builder.title or builder.name,
        homepage=builder.homepage,
        license=builder.license,
        citation=builder.citation,
        languages=builder.languages,
        prompt_splits=tuple(sorted(builder.prompt_splits)),
        told=_told(builder),
    )


def _told(builder: Builder) -> Told:
    package = sys.modules[type(builder).__module__].__package__
    if package:
        file = resources.files(package).joinpath("cards", f"{builder.name}.yaml")
        if file.is_file():
            return read_told(file.read_text("utf-8"), file=f"cards/{builder.name}.yaml")
    return Told(
        summary=f"What its builder says of {builder.title or builder.name} is all that is known."
    )


def _of_source(source: SourceFacts) -> CardFacts:
    rows = list(source.told.rows.values())
    return CardFacts(
        name=source.name,
        kind="source",
        title=source.title,
        summary=source.told.summary,
        description="",
        splits=tuple(source.told.rows),
        rows=None if None in rows else sum(one or 0 for one in rows),
        about=source.told.about,
        sources=(source,),
    )


def _of_recipe(recipe: Recipe) -> CardFacts:
    parts = tuple(part for stage in recipe.stages for part in _parts(recipe, stage))
    delivered = [part.delivered for part in parts]
    sources = tuple(source_facts(name) for name in dict.fromkeys(one.source for one in recipe.mix))
    return CardFacts(
        name=recipe.name,
        kind="recipe",
        title=recipe.name,
        summary="",
        description=_words(recipe),
        splits=("train",),
        rows=None if None in delivered else sum(one or 0 for one in delivered),
        about=any(part.about for part in parts),
        sources=sources,
        parts=parts,
        shipped=recipe.name in shipped() and Recipe.read(recipe.name) == recipe,
    )


def _words(recipe: Recipe) -> str:
    """Give what a recipe says of itself: its description, and the comment that it begins with."""
    lines = []
    for line in recipe.text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("#").strip())
    comment = " ".join(lines)
    if comment.startswith(recipe.description.rstrip(".")):
        return comment
    return " ".join(filter(None, (recipe.description, comment)))


def _parts(recipe: Recipe, stage: Stage) -> list[PartFacts]:
    known = [_has(entry, filtered=_filtered(recipe)) for entry in stage.mix]
    sizes = [has for has, _ in known]
    shares, delivered = _worked_out(stage, sizes)
    # What comes of one rounded size is rounded with it, but a count is what it says.
    rounded = [
        about and entry.kind != "count" for entry, (_, about) in zip(stage.mix, known, strict=True)
    ]
    if stage.mix[0].kind in SHARES and stage.total is None:
        rounded = [any(rounded)] * len(rounded)
    return [
        PartFacts(
            stage=stage.name,
            name=entry.name,
            source=entry.source,
            kind=entry.kind,
            amount=str(entry.amount),
            share=shares[place],
            filters=_filters(entry),
            has=sizes[place],
            has_about=known[place][1],
            delivered=delivered[place],
            about=rounded[place],
        )
        for place, entry in enumerate(stage.mix)
    ]


def _filtered(recipe: Recipe) -> bool:
    return recipe.duplicates is not None or bool(recipe.exclude)


def _worked_out(
    stage: Stage, sizes: Sequence[int | None]
) -> tuple[list[int | None], list[int | None]]:
    """Give shares in millionths and rows, as far as they follow from the sizes that are known."""
    kind = stage.mix[0].kind
    nothing: list[int | None] = [None] * len(sizes)
    all_known = None not in sizes
    # A weight's share and a count's rows depend on no size.
    needed = all_known or kind == "count" or (kind == "weight" and stage.total is not None)
    if stage.tokens is not None or not needed:
        if kind != "weight":
            return nothing, nothing
        whole = sum(entry.amount for entry in stage.mix)
        return [round(entry.amount / whole * 10**6) for entry in stage.mix], nothing
    made = amounts(stage, stage.mix, [size or 0 for size in sizes])
    assert made.rows is not None
    asked = made.asked(made.rows)
    shares: list[int | None] = [
        round(one / made.rows * 10**6) if made.rows else None for one in asked
    ]
    return shares, [round(one) for one in asked]


def _has(entry: Entry, *, filtered: bool) -> tuple[int | None, bool]:
    """Give the rows that an entry's selection has by what the authors claim, and if rounded."""
    rows = _rows(entry, filtered=filtered)
    return rows, source_facts(entry.source).told.rounded(rows)


def _rows(entry: Entry, *, filtered: bool) -> int | None:
    told = source_facts(entry.source).told
    if filtered or entry.subset is not None or entry.options:
        return None
    capped = entry.cap_per_task is not None and (
        told.most_per_task is None or entry.cap_per_task < told.most_per_task
    )
    if capped:
        return None
    if entry.path is not None:
        return told.rows_of.get(entry.path) if entry.where is None else None
    answered = {
        split: rows
        for split, rows in told.rows.items()
        if split not in source_facts(entry.source).prompt_splits
    }
    if entry.where is None:
        rows = list(answered.values())
        return None if None in rows else sum(one or 0 for one in rows)
    split = _SPLIT.fullmatch(entry.where)
    return answered.get(split[1]) if split else None


def _filters(entry: Entry) -> tuple[tuple[str, str], ...]:
    """Say which rows of an entry a recipe takes, as its author wrote it."""
    found = []
    if entry.path is not None:
        found.append(("path", entry.path))
    found += [("option", f"{key}={value}") for key, value in entry.options.items()]
    if entry.where is not None:
        found.append(("where", entry.where))
    if entry.subset is not None:
        found.append(("subset", f"{float(entry.subset):.4%}"))
    if entry.cap_per_task is not None:
        found.append(("rows of a task at most", f"{entry.cap_per_task:,}"))
    return tuple(found)
