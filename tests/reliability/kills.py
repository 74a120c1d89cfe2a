"""kill -9 at random moments, several times a round; then the run is let end."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from tests.reliability.nursery import Child
from tests.reliability.outcome import Control, Outcome
from tests.reliability.world import World, begun, chances, emptied, ended, finished

#: Kills before a run is let end.
_ROUND = 3


def trials(world: World, kills: int) -> list[Outcome]:
    """Kill exports of one and of two processes; ``kills`` in all that hit a running one."""
    few = max(2, kills // 10)
    broken: list[str] = []
    hit = rounds = 0
    for name, start, wanted in (
        ("one process", world.writer("ours"), kills - 2 * few),
        ("two processes", lambda out: world.nursery.command(world.export(out, jobs=2)), few),
        ("from the shell", lambda out: world.nursery.real(world.export(out)), few),
    ):
        more = Killed(world, name, start, world.whole)
        more.until(wanted)
        hit += more.hits
        rounds += more.rounds
        broken += more.broken
    # Before it has begun and after its end nothing can be wrong; a kill then says nothing of it.
    naive = Killed(
        world,
        "plain",
        world.writer("plain"),
        world.whole_of("plain"),
        each=1,
        at_work=True,
    )
    naive.until(max(6, kills // 10))
    return [
        Outcome(
            "A run that is killed at any moment and started again ends in the same bytes as one "
            "that was never stopped.",
            f"`kill -9` at seeded random times, up to {_ROUND} a round, in {rounds} rounds, of one "
            "process, of two (the parent alone, or all), and of commands started from the shell",
            hit,
            len(broken),
            (
                Control(
                    "tar straight to the final name, resumed by skipping files that exist",
                    naive.rounds,
                    len(naive.broken),
                ),
            ),
            tuple(broken),
        )
    ]


class Killed:
    """Rounds of kills of one writer, and what they found."""

    def __init__(
        self,
        world: World,
        name: str,
        start: Callable[[Path], Child],
        whole: dict[str, str],
        *,
        each: int = _ROUND,
        at_work: bool = False,
    ) -> None:
        self._start = start
        self._whole = whole
        self._out = world.folder / f"killed-{name.replace(' ', '-')}"
        self._each = each
        self._at_work = at_work
        self._alone = name == "two processes"
        self._chance = chances(f"kills {name}")
        self.hits = self.rounds = 0
        self.broken: list[str] = []
        with emptied(self._out) as out:
            began = time.monotonic()
            child = start(out)
            if child.wait() != 0:
                raise RuntimeError(f"{name}: {child.said}")
            self._seconds = time.monotonic() - began

    def until(self, wanted: int) -> None:
        """Go on for so many kills that hit, or at most three times as many rounds."""
        most = self.rounds + 3 * wanted
        while self.hits < wanted and self.rounds < most:
            self._round()

    def _round(self) -> None:
        hits = 0
        with emptied(self._out) as out:
            for _ in range(self._each):
                child = self._start(out)
                if self._at_work:
                    begun(child, out)
                time.sleep(self._chance.uniform(0, 0.8 if self._at_work else 1) * self._seconds)
                hits += child.kill(alone=self._alone and self._chance.random() < 0.5)
                if ended(out):
                    child.end_workers()
                    shutil.rmtree(out)
            if not hits:
                child.end_workers()
                return
            self.hits += hits
            self.rounds += 1
            last = self._start(out)
            code = last.wait()
            child.end_workers()
            if code != 0 or finished(out) != self._whole:
                self.broken.append(f"round {self.rounds}: code {code}: {last.said[-300:]}")


def worker_pids(parent: int) -> list[int]:
    """The spawned workers of a process; not the one that tracks its resources."""
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text("ascii").split()
        return [
            int(pid)
            for pid in children
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
    except OSError:
        return []
