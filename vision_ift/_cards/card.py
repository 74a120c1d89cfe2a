"""The card of a source or a recipe: its head and its body in one file."""

from __future__ import annotations

from collections.abc import Mapping

from vision_ift import _registry
from vision_ift._cards.body import write_body
from vision_ift._cards.counted import Counted
from vision_ift._cards.facts import CardFacts, describe
from vision_ift._cards.head import planned_head
from vision_ift._cards.text import join_card
from vision_ift._recipe.recipe import shipped

#: The sources that have a published card: those of the four papers.
SOURCES = ("coco_ift", "mm_instruct", "mminstruct", "vision_flan")


def write_card(facts: CardFacts, counted: Counted | None = None) -> str:
    """Write a card.

    Args:
        facts: What it is of.
        counted: What was counted; ``None``: what the authors claim stands in its place.

    >>> print(write_card(describe("mminstruct"))[:4].rstrip())
    ---
    """
    rows = None if counted is None else counted.rows
    note = (
        f"<!-- Written by `vision-ift card {facts.name}`; write it anew instead of editing it. -->"
        if facts.shipped and "--" not in facts.name
        else "<!-- Written by `vision-ift card`. -->"
    )
    return join_card(planned_head(facts, rows=rows), f"{note}\n\n{write_body(facts, counted)}")


def published_cards() -> Mapping[str, str]:
    """Give the cards that lie in ``cards/``: file name to text, without counts of any machine."""
    names = [*(name for name in SOURCES if name in _registry.names()), *shipped()]
    return {f"{name}.md": write_card(describe(name)) for name in sorted(names)}
