"""Trainings that are killed and go on with other numbers of ranks and workers."""

from __future__ import annotations

import json
import time
from pathlib import Path
from random import Random

from tests.reliability.outcome import Control, Outcome
from tests.reliability.training import EPOCHS, rows_of
from tests.reliability.world import World, chances, emptied
from vision_ift._stream.stream import stream


class Schedules:
    """Trainings with kills in between."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.wanted = [
            row["id"] for row in stream(world.whole_folder, seed=5, epochs=EPOCHS, columns=["id"])
        ]
        self.kills = 0

    def run(self, name: str, count: int) -> list[str]:
        """Run so many trainings with up to five kills each; say which were wrong."""
        world = self._world
        chance = chances(f"cursors {name}")
        source = world.whole_folder
        if name != "train":
            source = world.folder / "ids.json"
            source.write_text(json.dumps(self.wanted[: len(self.wanted) // EPOCHS]), "utf-8")
        wrong = []
        for number in range(count):
            with emptied(world.folder / f"trained-{name}") as folder:
                layouts = self._interrupted(name, source, folder, chance.randrange(1, 6), chance)
                rows = rows_of(folder)
                if name == "train" and rows != self.wanted:
                    wrong.append(f"training {number}, {layouts}: {_difference(rows, self.wanted)}")
                elif sorted(rows) != sorted(self.wanted):
                    wrong.append(f"training {number}: {_difference(rows, self.wanted)}")
        return wrong

    def _interrupted(
        self, name: str, source: Path, folder: Path, kills: int, chance: Random
    ) -> list[tuple[int, int, int]]:
        layouts = []
        for place in range(kills + 1):
            layout = (chance.randrange(1, 9), chance.randrange(1, 4), chance.randrange(1, 5))
            layouts.append(layout)
            child = self._world.nursery.naive(name, [source, folder, *map(str, layout)])
            if place < kills:
                time.sleep(chance.uniform(0.02, 0.25))
                self.kills += child.kill()
            elif child.wait() != 0:
                raise RuntimeError(f"{name} with {layout}: {child.said}")
        return layouts


def _difference(rows: list[str], wanted: list[str]) -> str:
    lost = len(set(wanted) - set(rows))
    pairs = enumerate(zip(rows, wanted, strict=False))
    place = next((n for n, (row, right) in pairs if row != right), -1)
    return f"{len(rows)} rows of {len(wanted)}, {lost} never given, other than wanted at {place}"


def trials(world: World, count: int) -> list[Outcome]:
    """Train so many times."""
    schedules = Schedules(world)
    ours = schedules.run("train", count)
    kills = schedules.kills
    few = max(4, count // 8)
    naive = schedules.run("train_by_buffer", few)
    return [
        Outcome(
            "A stream that goes on from its cursor gives every row of every epoch exactly once, in "
            "the same global order, with any other number of ranks and workers.",
            f"trainings of {EPOCHS} epochs, {kills} times killed with -9 and gone on from the last "
            "checkpoint with 1-8 ranks, 1-3 workers and batches of 1-4",
            count,
            len(ours),
            (Control("a shuffle buffer that no checkpoint holds", few, len(naive)),),
            tuple(ours),
        )
    ]
