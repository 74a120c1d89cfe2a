"""A plan as arguments of LLaMA-Factory and of ms-swift, which read one file of lines a part.

Sources: LLaMA-Factory's ``data/README.md`` and ``data_utils.py`` (``merge_dataset``), ``loader.py``
(``num_samples``: all rows once, then draws with replacement; not in streaming mode); ms-swift's
"Command-line parameters" (``--dataset path#N``) and ``sample_dataset`` (whole times through the
file, and the rest by a permutation).
"""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

from vision_ift._compile.notes import Note, random_draws
from vision_ift._compile.parts import Leg, Use, parts_of, share
from vision_ift._plan.plan import Plan

#: What holds of every file of lines.
_WRITTEN = Note(
    "rows",
    "A row that the format cannot say (a text with its own tags in it) is no part of the file.",
    "convert counts such rows by reason in NAME.convert.json; --strict stops at the first. Counts "
    "are asked of the rows that are left.",
)

#: Figures behind the point of a probability; NumPy wants their sum to be 1 within 1e-8.
_FIGURES = 12


def llamafactory_files(legs: list[Leg]) -> dict[str, tuple[str, str]]:
    """Give ``dataset_info.json`` and a piece of the training YAML a stage."""
    info: dict[str, Any] = {}
    found: dict[str, tuple[str, str]] = {}
    for number, leg in enumerate(legs, 1):
        names = []
        for use in leg.uses:
            entry = _entry(use)
            name = use.part.slug
            if not leg.shares or len(leg.uses) == 1:
                # No part's file has a point in its name; convert adds entries named like its files.
                name = f"{name}.{number}"
                entry["num_samples"] = use.delivered
            info[name] = entry
            names.append(name)
        file = "train.yaml" if len(legs) == 1 else f"train-{number}-{leg.slug}.yaml"
        found[file] = (
            _fragment(leg, names),
            f"keys for the training YAML: {leg.rows:,} rows in the plan",
        )
    text = json.dumps(info, indent=2, ensure_ascii=False) + "\n"
    return {"dataset_info.json": (text, "the parts, as LLaMA-Factory names them"), **found}


def _entry(use: Use) -> dict[str, Any]:
    """The entry that ``vision-ift convert`` makes of the same part, so that it finds its own."""
    return {
        "file_name": f"{use.part.slug}.json",
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
            "system_tag": "system",
        },
    }


def _fragment(leg: Leg, names: list[str]) -> str:
    lines = [
        f"# The plan has {leg.rows} rows here; a step takes batch x accumulation x ranks of them.",
        "dataset_dir: .",
        f"dataset: {','.join(names)}",
    ]
    if leg.shares and len(names) > 1:
        over = any(use.delivered > use.part.rows for use in leg.uses)
        lines += [
            f"mix_strategy: interleave_{'over' if over else 'under'}",
            f'interleave_probs: "{",".join(probabilities(leg))}"',
        ]
    else:
        lines.append("mix_strategy: concat")
    return "\n".join(lines) + "\n"


def probabilities(leg: Leg) -> list[str]:
    """Write shares as decimals that add up to exactly 1; the largest takes what rounding leaves."""
    unit = 10**_FIGURES
    exact = [share(use, leg) * unit for use in leg.uses]
    whole = [max(1, round(one)) for one in exact]
    whole[exact.index(max(exact))] += unit - sum(whole)
    return [_decimal(Fraction(one, unit)) for one in whole]


def _decimal(value: Fraction) -> str:
    text = f"{int(value * 10**_FIGURES):0{_FIGURES + 1}d}"
    return f"{text[:-_FIGURES]}.{text[-_FIGURES:].rstrip('0') or '0'}"


def convert_commands(legs: list[Leg], to: str) -> list[str]:
    """Give the commands that write the parts' files."""
    return [
        f"vision-ift convert {part.slug}.yaml --root ROOT --to {to} --out . --name {part.slug} "
        "--images copy"
        for part in parts_of(legs)
    ]


def llamafactory_notes(plan: Plan, legs: list[Leg]) -> list[Note]:
    """Say what LLaMA-Factory cannot say of this plan."""
    found = []
    shares = [leg for leg in legs if leg.shares and len(leg.uses) > 1]
    if shares:
        found += [
            random_draws(plan, shares, what="interleave"),
            Note(
                "counts",
                "interleave_under ends when the first part has no row left, interleave_over when "
                "the last one has: neither gives the plan's rows.",
                "The strategy is over where the plan reads a part more than once, else under; "
                "max_steps ends it at the plan's rows.",
            ),
        ]
    if any(not leg.shares for leg in legs):
        repeated = [
            use.part.name
            for leg in legs
            if not leg.shares
            for use in leg.uses
            if use.delivered > use.part.rows
        ]
        found.append(
            Note(
                "counts",
                "Counts hold in num_samples, but not with streaming: true, which passes over it.",
                "mix_strategy is concat; the trainer's own shuffling mixes the rows.",
            )
        )
        if repeated:
            found.append(
                Note(
                    "repeats",
                    "num_samples beyond a file's rows are drawn with replacement: of "
                    f"{', '.join(repeated)} some rows come more often than others.",
                    "Their number is the plan's; which rows, is not.",
                )
            )
    return [
        *found,
        _WRITTEN,
        Note(
            "order",
            "The order is the trainer's.",
            "Where its version has disable_shuffling, one file of the whole recipe (vision-ift "
            "convert RECIPE --to llamafactory) and mix_strategy: concat keep the plan's.",
        ),
        Note(
            "seed",
            "Draws come of the training seed; num_samples draws from NumPy's own state.",
            f"The recipe's seed ({plan.recipe.seed}) still chooses the rows of each part.",
        ),
    ]


def swift_files(legs: list[Leg]) -> dict[str, tuple[str, str]]:
    """Give a file of arguments a stage."""
    found = {}
    for number, leg in enumerate(legs, 1):
        file = "swift.args" if len(legs) == 1 else f"swift-{number}-{leg.slug}.args"
        lines = ["--dataset"]
        lines += [f"{use.part.slug}.jsonl#{use.delivered}" for use in leg.uses]
        lines += ["--split_dataset_ratio", "0", "--strict", "true"]
        found[file] = (
            "\n".join(lines) + "\n",
            f"arguments of swift sft: {leg.rows:,} rows, the plan's counts",
        )
    return found


def swift_commands(legs: list[Leg]) -> list[str]:
    """Give the commands that write the parts, and the training call, which people complete."""
    lines = convert_commands(legs, "swift")
    for file in swift_files(legs):
        lines.append(f"swift sft --model MODEL $(cat {file})")
    for leg in legs:
        if len(leg.uses) > 1:
            names = " ".join(f"{use.part.slug}.jsonl" for use in leg.uses)
            shares = " ".join(probabilities(leg))
            how = f"--interleave_prob {shares} --stopping_strategy all_exhausted"
            lines += [
                "# or, drawing each row's part at random, which also works with --streaming true:",
                f"# swift sft --model MODEL --dataset {names} {how}",
            ]
    return lines


def swift_notes(plan: Plan, legs: list[Leg]) -> list[Note]:
    """Say what ms-swift cannot say of this plan."""
    parted = sorted(
        {
            use.part.name
            for leg in legs
            for use in leg.uses
            if use.delivered % use.part.rows and not use.part.exact
        }
    )
    found = [
        Note(
            "prefix",
            "name#N is a count, joined to the others and shuffled: no prefix is promised, and with "
            "--dataset_shuffle false and --train_dataloader_shuffle false the parts come one "
            "after the other.",
            "The counts are the plan's, to the row, whole times through and the rest.",
        ),
    ]
    if parted:
        found.append(
            Note(
                "repeats",
                f"The rest beyond whole times through {', '.join(parted)} is drawn by swift: as "
                "many rows as in the plan, but others.",
                "Their number is the plan's; which rows, is not.",
            )
        )
    return [
        *found,
        _WRITTEN,
        Note(
            "counts",
            "With --streaming true, #N takes the first N rows, and none twice.",
            "--interleave_prob is given as the other way; its random draws stray from the shares.",
        ),
        Note(
            "seed",
            "Draws come of --data_seed.",
            f"The recipe's seed ({plan.recipe.seed}) still chooses the rows of each part.",
        ),
        Note(
            "errors",
            "Without --strict true swift puts another row in the place of one that fails.",
            "--strict true is among the arguments: nothing is replaced silently.",
        ),
    ]
