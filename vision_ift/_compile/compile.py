"""Compile a plan to what another trainer runs, with a note of what that cannot say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vision_ift._compile import energon, loader, trainers
from vision_ift._compile.notes import Note, common_notes, page
from vision_ift._compile.parts import Leg, legs_of, listed, parts_of, share
from vision_ift._disk import explained, write_file
from vision_ift._errors import OutputError, UnknownNameError
from vision_ift._plan.plan import Plan
from vision_ift._recipe.select import Excluded

NOTES = "NOTES.md"

#: Names, without endings, that no part's file may have.
_TAKEN = ("notes", "dataset_info", "exclude", "metadataset", "mix", "swift", "train", "nul", "con")


class _Target(NamedTuple):
    title: str
    files: Callable[[Plan, list[Leg]], dict[str, tuple[str, str]]]
    commands: Callable[[list[Leg]], list[str]]
    notes: Callable[[Plan, list[Leg]], list[Note]]


_TARGETS = {
    "energon": _Target(
        "Megatron Energon",
        lambda _, legs: energon.files(legs),
        energon.commands,
        energon.notes,
    ),
    "llamafactory": _Target(
        "LLaMA-Factory",
        lambda _, legs: trainers.llamafactory_files(legs),
        lambda legs: trainers.convert_commands(legs, "llamafactory"),
        trainers.llamafactory_notes,
    ),
    "swift": _Target(
        "ms-swift",
        lambda _, legs: trainers.swift_files(legs),
        trainers.swift_commands,
        trainers.swift_notes,
    ),
    "datasets": _Target("datasets", loader.files, loader.commands, lambda *_: loader.notes()),
}

#: What a plan can be compiled to.
TARGETS = tuple(_TARGETS)


@dataclass(frozen=True)
class Compiled:
    """A plan as another trainer takes it; nothing is written yet.

    Attributes:
        to: The target.
        files: File name to content, ``NOTES.md`` among them; all in one folder.
        commands: What to run in that folder, in this sequence.
        notes: What the target cannot say, and what was done instead.
        parts: Name, file, rows, stage, delivered rows and share of every part.
    """

    to: str
    files: dict[str, bytes]
    commands: list[str]
    notes: list[Note]
    parts: list[dict[str, Any]]

    def describe(self) -> dict[str, Any]:
        """Give all of it but the files' contents as plain data."""
        return {
            "to": self.to,
            "files": {name: len(data) for name, data in self.files.items()},
            "commands": self.commands,
            "notes": [note._asdict() for note in self.notes],
            "parts": self.parts,
        }


def compile_plan(plan: Plan, *, to: str) -> Compiled:
    """Say a plan in another trainer's words.

    Args:
        plan: The plan.
        to: ``energon`` (a MetadatasetV2), ``llamafactory`` (``dataset_info.json`` and a training
            YAML), ``swift`` (``--dataset name#N``) or ``datasets`` (a Python file).

    Raises:
        UnknownNameError: No such target.
        RecipeError: The plan delivers nothing, or a part cannot be said as a recipe of its own.
    """
    target = _TARGETS.get(to)
    if target is None:
        raise UnknownNameError("target", to, TARGETS)
    legs = legs_of(plan, taken=_TAKEN)
    files: dict[str, bytes] = {}
    said: list[tuple[str, str]] = []
    for name, (text, says) in target.files(plan, legs).items():
        files[name] = text.encode()
        said.append((name, says))
    for part in parts_of(legs):
        files |= part.files
        rows = "the plan's own rows" if part.exact else "all rows that it chooses from"
        said.append((f"{part.slug}.yaml", f"the recipe of that part: {part.rows:,} rows, {rows}"))
        if f"{part.slug}.copies.jsonl" in part.files:
            said.append((f"{part.slug}.copies.jsonl", "ids of copies that the whole leaves out"))
    if plan.recipe.exclude:
        files["exclude.jsonl"] = listed(Excluded(plan.recipe.exclude).ids)
        said.append(("exclude.jsonl", "the ids of the recipe's exclude lists"))
    commands = target.commands(legs)
    notes = [*target.notes(plan, legs), *common_notes(plan, legs)]
    text = page(plan, title=target.title, files=said, commands=commands, notes=notes)
    files[NOTES] = text.encode()
    return Compiled(to, files, commands, notes, _parts(legs))


def _parts(legs: list[Leg]) -> list[dict[str, Any]]:
    return [
        {
            "name": use.part.name,
            "source": use.part.source,
            "file": f"{use.part.slug}.yaml",
            "rows": use.part.rows,
            "stage": leg.name,
            "delivered": use.delivered,
            "share": round(float(share(use, leg)), 9),
        }
        for leg in legs
        for use in leg.uses
    ]


def write_compiled(compiled: Compiled, out: Path | str) -> None:
    """Write the files into a folder, ``NOTES.md`` last; what was compiled there before is replaced.

    Raises:
        OutputError: A file of one of the names is there, and it is not of an earlier compile; or
            the folder cannot be written.
        DiskError: The disk failed.
    """
    folder = Path(out)
    notes = folder / NOTES
    with explained(folder):
        ours = notes.is_file() and b"Written by `vision-ift compile`" in notes.read_bytes()[:4096]
        there = [name for name in compiled.files if (folder / name).exists()]
        if there and not ours:
            raise OutputError(
                f"{folder / there[0]} is there already, and is not of an earlier compile",
                hint="give an empty folder",
            )
        folder.mkdir(parents=True, exist_ok=True)
    for name, data in compiled.files.items():
        write_file(folder / name, data)
