"""What a target cannot say, said plainly, with what was done instead."""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple

from vision_ift._compile.parts import Leg, parts_of, share
from vision_ift._plan.plan import Plan


class Note(NamedTuple):
    """One thing that the recipe says and the target does not, or says otherwise.

    Attributes:
        about: A stable word: ``prefix``, ``counts``, ``repeats``, ``order``, ``seed``, ``stages``,
            ``draws``, ``amounts``, ``filters``, ``duplicates``, ``missing``, ``rows``,
            ``pictures``, ``errors``.
        lost: What the target cannot say.
        instead: What was done instead.
    """

    about: str
    lost: str
    instead: str


def common_notes(plan: Plan, legs: list[Leg]) -> list[Note]:
    """Give the notes that hold whatever the target is."""
    found = []
    recipe = plan.recipe
    if len(recipe.stages) > 1:
        found.append(
            Note(
                "stages",
                "It has no stages: nothing switches mixes at an exact row.",
                "One mix a stage, numbered: run them one after the other, each for its own rows. "
                "A part of several stages starts anew in each; in the plan it goes on.",
            )
        )
    if plan.epoch or plan.after is not None:
        found.append(
            Note(
                "draws",
                f"It does not go on where an earlier plan ended (this is draw {plan.epoch}).",
                "Parts hold all rows that the recipe chooses from, those already given among them.",
            )
        )
    budgets = [stage.name for stage in recipe.stages if stage.tokens is not None]
    sizes = [stage.name for stage in recipe.stages if stage.mix[0].kind == "size"]
    if budgets or sizes:
        what = " and ".join(
            ["a budget of tokens"] * bool(budgets) + ["a temperature or a cap"] * bool(sizes)
        )
        found.append(
            Note(
                "amounts",
                f"It knows neither sizes nor tokens ({what}).",
                "What they come to for the rows of now is written down as fixed numbers; "
                "compile again when a source changes.",
            )
        )
    found.append(
        Note(
            "filters",
            "It has no where, subset, cap_per_task or exclude.",
            "They are in each part's own recipe, and hold when the part is written.",
        )
    )
    if plan.copies:
        found.append(
            Note(
                "duplicates",
                "A part's recipe sees that part alone, so no copy in another one.",
                f"The {sum(plan.copies.values()):,} copies that the whole recipe leaves out are "
                "listed by id beside the parts.",
            )
        )
    if plan.missing:
        found.append(
            Note(
                "missing",
                f"Not there: {', '.join(sorted(plan.missing))}.",
                "Nothing takes their place; with shares the others have theirs in proportion.",
            )
        )
    unused = {entry.name for entry in recipe.mix} - set(plan.missing)
    unused -= {part.name for part in parts_of(legs)}
    if unused:
        found.append(
            Note("amounts", f"Of {', '.join(sorted(unused))} no row is asked.", "No part for it.")
        )
    return found


def random_draws(plan: Plan, legs: list[Leg], *, what: str) -> Note:
    """Say what it costs that each row's part is drawn at random."""
    off = max(
        isqrt(int(leg.rows * share(use, leg) * (1 - share(use, leg))))
        for leg in legs
        for use in leg.uses
    )
    return Note(
        "prefix",
        f"{what} draws each row's part at random. After {len(plan):,} rows a part is about "
        f"{off:,} rows off (one standard deviation), and the more rows, the more.",
        f"Shares are written exactly. In the plan every prefix is within "
        f"{float(plan.certificate):.2f} rows of them.",
    )


def page(
    plan: Plan, *, title: str, files: list[tuple[str, str]], commands: list[str], notes: list[Note]
) -> str:
    """Write NOTES.md: what lies here, the commands, what the target cannot say."""
    lines = [
        f"# {plain(plan.recipe.name)} for {title}",
        "",
        f"Written by `vision-ift compile` of a plan of {len(plan):,} rows (digest {plan.digest}).",
        "",
        "| file | what it is |",
        "| --- | --- |",
        *(f"| `{file}` | {says} |" for file, says in files),
        "",
        "## Commands",
        "",
        "Run them in this folder; ROOT is where the authors' files lie.",
        "",
        "```sh",
        *commands,
        "```",
        "",
        f"## What {title} cannot say",
        "",
        *(f"* **{note.about}**: {plain(note.lost)} {plain(note.instead)}" for note in notes),
        "",
        "To lose none of this, deliver the plan itself: `vision-ift export RECIPE --out mix`",
        "writes the whole mix in its own order, which any reader that does not shuffle keeps.",
        "",
    ]
    return "\n".join(lines)


def plain(text: str) -> str:
    """Write text so that Markdown and HTML take no order from it.

    >>> plain("a|b <script> `x` [y](z)")
    'a\\\\|b \\\\<script\\\\> \\\\`x\\\\` \\\\[y\\\\](z)'
    """
    shown = "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text)
    return "".join(f"\\{one}" if one in "\\`*_{}[]<>|#&~" else one for one in shown)
