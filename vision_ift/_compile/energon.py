"""A plan as Megatron Energon's MetadatasetV2.

Source: Energon's pages "Metadataset" and "Epochized Blending", and version 7.4.1 as it runs: a
blend draws each row's dataset at random and never ends; an epochized blend gives every dataset so
many times an epoch, where a part of a time ends after ``floor(rows * part)`` rows of each reading
process.
"""

from __future__ import annotations

from math import floor

from vision_ift._compile.notes import Note, random_draws
from vision_ift._compile.parts import Leg, Use, parts_of
from vision_ift._plan.plan import Plan
from vision_ift._recipe.yaml import quoted

#: Figures behind the point of a number of repetitions.
_FIGURES = 12


def files(legs: list[Leg]) -> dict[str, tuple[str, str]]:
    """Give the metadatasets, one a stage: file name to content and what it is."""
    found = {}
    for number, leg in enumerate(legs, 1):
        name = "metadataset.yaml" if len(legs) == 1 else f"metadataset-{number}-{leg.slug}.yaml"
        way = "blend" if leg.shares else "blend_epochized"
        found[name] = (
            _metadataset(leg, way),
            f"the {way} of {len(leg.uses)} parts, {leg.rows:,} rows in the plan",
        )
    return found


def _metadataset(leg: Leg, way: str) -> str:
    lines = [
        "__module__: megatron.energon",
        "__class__: MetadatasetV2",
        "splits:",
        "  train:",
        f"    {way}:",
    ]
    for use in leg.uses:
        amount = f"weight: {use.weight}" if leg.shares else f"repetitions: {repetitions(use)}"
        lines += [
            f"      - {amount}",
            f"        path: ./{use.part.slug}",
            "        subflavors:",
            f"          source: {quoted(use.part.source)}",
            f"          part: {quoted(use.part.name)}",
            f"          stage: {quoted(leg.name)}",
        ]
    return "\n".join(lines) + "\n"


def repetitions(use: Use) -> str:
    """Write how often Energon is to give a part so that it gives the plan's rows.

    Energon takes the whole number and rounds the rest down, in floating point; so the least decimal
    that comes to the right number of rows is written.
    """
    whole, rest = divmod(use.delivered, use.part.rows)
    if not rest:
        return str(whole)
    unit = 10**_FIGURES
    part = -(-rest * unit // use.part.rows)
    while True:
        text = f"{whole}.{part:0{_FIGURES}d}".rstrip("0")
        times = float(text)
        if floor(use.part.rows * (times - floor(times))) >= rest:
            return text
        part += 1


def commands(legs: list[Leg]) -> list[str]:
    """Give the commands that make the parts."""
    return [
        f"vision-ift export {part.slug}.yaml --root ROOT --out {part.slug}"
        for part in parts_of(legs)
    ]


def notes(plan: Plan, legs: list[Leg]) -> list[Note]:
    """Say what Energon cannot say of this plan."""
    found = []
    shares = [leg for leg in legs if leg.shares]
    exact = [leg for leg in legs if not leg.shares]
    if shares:
        rows = sum(leg.rows for leg in shares)
        found += [
            random_draws(plan, shares, what="A blend"),
            Note(
                "counts",
                "A blend has no end, and no count of any part.",
                f"Stop training after {rows:,} rows; repeat=False is refused by Energon here.",
            ),
        ]
    if exact:
        parted = [
            use.part.name for leg in exact for use in leg.uses if use.delivered % use.part.rows
        ]
        found.append(
            Note(
                "counts",
                "An epochized blend ends by itself only with repeat=False (get_train_dataset). "
                "Inside the epoch each row's part is drawn at random, so no prefix is promised.",
                "With one reading process every count is the plan's, to the row"
                + (
                    f"; with more, each rounds down what it reads of {', '.join(parted)}."
                    if parted
                    else "."
                ),
            )
        )
        if parted:
            found.append(
                Note(
                    "repeats",
                    f"What is left over after whole times through {', '.join(parted)} is other "
                    "rows than in the plan: Energon takes those that its order gives first.",
                    "repetitions has a fraction, so that their number is right.",
                )
            )
    found += [
        Note(
            "order",
            "It reads pieces of shards in a random order, through a shuffle buffer.",
            "shuffle_buffer_size and max_samples_per_sequence stay the trainer's choice.",
        ),
        Note(
            "seed",
            "Its order comes of WorkerConfig's seed_offset, the number of ranks and workers.",
            f"The recipe's seed ({plan.recipe.seed}) still chooses the rows of each part.",
        ),
        Note(
            "pictures",
            "The shards are crude datasets: Energon wants to be told how a row is made of members.",
            "A task encoder with a Cooker, as for any export (docs/exports.md).",
        ),
    ]
    return found
