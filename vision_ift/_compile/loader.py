"""A plan as a small Python file for those who stay in `datasets`."""

from __future__ import annotations

from collections.abc import Mapping

from vision_ift._compile.notes import Note
from vision_ift._compile.parts import Leg, parts_of, share
from vision_ift._plan.plan import Plan

_HEAD = '''\
"""Load the parts beside this file and mix them as the plan does.

With `vision_ift` the counts are the plan's, and every prefix is within {certificate} rows of its
shares. `interleave_datasets` of `datasets` works too, but draws each row's part at random: pass
`stopping_strategy="all_exhausted"` and `[PROBABILITIES[stage][name] for name in PARTS[stage]]`.
"""

from pathlib import Path

from datasets import Dataset, load_dataset

import vision_ift

HERE = Path(__file__).resolve().parent
'''

_TAIL = '''

def load(stage: str, *, split: str = "train") -> Dataset:
    """Give the rows of a stage, in an order that is the same everywhere."""
    parts = {
        name: load_dataset(str(HERE / folder), split=split)
        for name, folder in PARTS[stage].items()
    }
    return vision_ift.interleave_datasets(
        parts, WEIGHTS[stage], seed=SEEDS[stage], total=ROWS[stage]
    )


if __name__ == "__main__":
    for stage in PARTS:
        print(stage, load(stage))
'''


def files(plan: Plan, legs: list[Leg]) -> dict[str, tuple[str, str]]:
    """Give ``mix.py``."""
    text = _HEAD.format(certificate=f"{float(plan.certificate):.2f}")
    text += _table("PARTS", legs, {leg.name: _folders(leg) for leg in legs})
    text += _table(
        "WEIGHTS",
        legs,
        {
            leg.name: {
                use.part.name: use.weight if leg.shares else use.delivered for use in leg.uses
            }
            for leg in legs
        },
    )
    text += _table(
        "PROBABILITIES",
        legs,
        {leg.name: {use.part.name: float(share(use, leg)) for use in leg.uses} for leg in legs},
    )
    text += "SEEDS = {" + ", ".join(f"{leg.name!a}: {leg.key}" for leg in legs) + "}\n"
    text += "ROWS = {" + ", ".join(f"{leg.name!a}: {leg.rows}" for leg in legs) + "}\n"
    text += _TAIL
    return {"mix.py": (text, "loads the parts and mixes them")}


def _folders(leg: Leg) -> dict[str, str]:
    return {use.part.name: use.part.slug for use in leg.uses}


def _table(name: str, legs: list[Leg], values: Mapping[str, Mapping[str, object]]) -> str:
    """Write a mapping of mappings; every name as Python writes it, in ASCII."""
    lines = [f"{name} = {{"]
    for leg in legs:
        lines.append(f"    {leg.name!a}: {{")
        lines += [f"        {key!a}: {one!a}," for key, one in values[leg.name].items()]
        lines.append("    },")
    return "\n".join([*lines, "}"]) + "\n"


def commands(legs: list[Leg]) -> list[str]:
    """Give the commands that make the parts, and the file that mixes them."""
    return [
        *(
            f"vision-ift export {part.slug}.yaml --root ROOT --out {part.slug}"
            for part in parts_of(legs)
        ),
        "python mix.py",
    ]


def notes() -> list[Note]:
    """Say what is other than in the plan."""
    return [
        Note(
            "order",
            "Which part stands at which row is as in the plan; which row of the part, is not: "
            "the parts' rows lie in another sequence in their own exports.",
            "Each part's rows come once before any comes again, in an order that its name keys.",
        ),
        Note(
            "prefix",
            "interleave_datasets of `datasets` itself draws each row's part at random.",
            "mix.py calls vision_ift.interleave_datasets, which does not.",
        ),
    ]
