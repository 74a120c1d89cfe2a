"""Several writers on one folder, and the locks of the dead."""

from __future__ import annotations

import re
import time
from pathlib import Path

from tests.reliability.nursery import Child
from tests.reliability.outcome import Control, Outcome
from tests.reliability.world import World, begun, chances, emptied, finished

#: Writers that start at once.
_AT_ONCE = 4

_LOCKED = 75


def races(world: World, name: str, count: int) -> list[str]:
    """Start four writers at once, so many times; say what was wrong."""
    whole = world.whole_of(name)
    wrong = []
    for number in range(count):
        with emptied(world.folder / f"raced-{name}") as out:
            children = [world.writer(name)(out, wait=True) for _ in range(_AT_ONCE)]
            for child in children:
                child.go()
            found = _judge(children, out, whole, ours=name == "ours")
            wrong += [f"race {number}: {one}" for one in found[:1]]
    return wrong


def _judge(children: list[Child], out: Path, whole: dict[str, str], *, ours: bool) -> list[str]:
    """Whoever ends well leaves a whole folder; all others name a writer who was at work."""
    found = []
    running = list(children)
    won = 0
    while running:
        for child in [one for one in running if one.poll() is not None]:
            running.remove(child)
            if child.code == 0:
                won += 1
                if finished(out) != whole:
                    found.append("one ended well, and the folder was not whole")
            elif child.code != _LOCKED or not ours:
                found.append(f"code {child.code}: {child.said[-200:]}")
            else:
                named = re.search(r"process (\d+) on ", child.said.replace("\n", " "))
                others = {one.pid for one in children} - {child.pid}
                if named is None or int(named[1]) not in others:
                    found.append(f"does not name the owner: {child.said[-200:]}")
    if not won:
        found.append("nobody won")
    return found


def dead_owners(world: World, name: str, count: int) -> list[str]:
    """Kill a writer at work; the next one must not be held up."""
    whole = world.whole_of(name)
    chance = chances(f"dead owner {name}")
    wrong = []
    for number in range(count):
        with emptied(world.folder / f"dead-{name}") as out:
            child = world.writer(name)(out)
            begun(child, out)
            time.sleep(chance.uniform(0, 0.05))
            child.kill()
            last = world.writer(name)(out)
            if last.wait() != 0 or finished(out) != whole:
                wrong.append(f"dead owner {number}: code {last.code}: {last.said[-200:]}")
    return wrong


def trials(world: World, count: int) -> list[Outcome]:
    """Race so many times; kill a quarter as many owners."""
    few = max(2, count // 4)
    ours = races(world, "ours", count)
    naive = races(world, "shared_name", few)
    dead = dead_owners(world, "ours", few)
    held = dead_owners(world, "lock_file", few)
    return [
        Outcome(
            "Of several writers on one folder one works; the others leave with code 75 and name "
            "it, or find the work done. Whoever ends well leaves a whole export.",
            f"{_AT_ONCE} processes that start at once",
            count,
            len(ours),
            (Control("no lock, one temporary name for all", few, len(naive)),),
            tuple(ours),
        ),
        Outcome(
            "A dead writer's lock holds nobody up.",
            "`kill -9` of a writer at work, and the next one at once",
            few,
            len(dead),
            (Control("a lock file that only its owner removes", few, len(held)),),
            tuple(dead),
        ),
    ]
