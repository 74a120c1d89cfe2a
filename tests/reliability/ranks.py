"""Ranks of a cluster on one export: each is killed now and then, and started again."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from tests.reliability.kills import worker_pids
from tests.reliability.nursery import Child
from tests.reliability.outcome import Control, Outcome
from tests.reliability.world import World, begun, chances, emptied, ended, finished, wrong_names

_RANKS = 3

#: Starts of a rank until it is called stuck.
_MOST_STARTS = 40

#: A rank that comes to the end may find another one there.
_LOCKED = 75


def _rank(world: World, out: Path, rank: int) -> Child:
    more = ["--rank", str(rank), "--world-size", str(_RANKS)]
    return world.nursery.command([*world.export(out), *more])


def _naive(world: World, out: Path, rank: int) -> Child:
    return world.nursery.naive("shared_name", [world.plan_path, out])


def _round(world: World, out: Path, *, ours: bool, seed: str, kills: int) -> tuple[int, list[str]]:
    """Start all ranks, kill some, start those again; give the kills that hit and what is wrong."""
    chance = chances(f"ranks {seed}")
    whole = world.whole if ours else world.whole_of("shared_name")
    start = _rank if ours else _naive
    running = {rank: start(world, out, rank) for rank in range(_RANKS)}
    hits = starts = 0
    found: list[str] = []
    while running and starts < _MOST_STARTS:
        if hits < kills:
            time.sleep(chance.uniform(0, 0.15))
            hits += running[chance.choice(sorted(running))].kill()
        for rank, child in list(running.items()):
            if child.poll() is None:
                continue
            del running[rank]
            if child.code not in (0, -9) and not (ours and child.code == _LOCKED):
                found.append(f"rank {rank} ends with {child.code}: {child.said[-200:]}")
            elif child.code != 0:
                starts += 1
                running[rank] = start(world, out, rank)
        time.sleep(0.002)
    for child in running.values():
        child.kill()
    if ours and (wrong := wrong_names(out, whole)):
        found.append(f"wrong under a final name: {wrong[:2]}")
    if finished(out) != whole or (ours and not ended(out)):
        found.append("all ranks ended, and the export is not whole")
    return hits, found


def _lost_workers(world: World, count: int) -> tuple[int, list[str]]:
    """Kill one worker of two, as the system does that runs out of memory."""
    chance = chances("workers")
    hits = number = 0
    wrong = []
    while hits < count and number < 5 * count:
        number += 1
        with emptied(world.folder / "lost-worker") as out:
            child = world.nursery.command(world.export(out, jobs=2))
            deadline = time.monotonic() + 30
            while not worker_pids(child.pid) and time.monotonic() < deadline:
                if child.poll() is not None:
                    break
                time.sleep(0.002)
            if number % 2:  # else while they start
                begun(child, out)
            time.sleep(chance.uniform(0, 0.05))
            hit = _kill_one(worker_pids(child.pid))
            code = child.wait()
            child.end_workers()
            hits += hit
            if hit and (code in (70, 1) or "Traceback" in child.said):
                wrong.append(f"worker {number}: code {code}: {child.said[-200:]}")
            last = world.writer("ours")(out)
            if last.wait() != 0 or finished(out) != world.whole:
                wrong.append(f"worker {number}: the next run ends with {last.code}")
    return hits, wrong


def _kill_one(pids: list[int]) -> bool:
    for pid in pids[:1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return True
    return False


def trials(world: World, count: int) -> list[Outcome]:
    """Run so many rounds of three ranks, and lose as many workers."""
    hits, broken = 0, []
    for number in range(count):
        with emptied(world.folder / "ranks") as out:
            more, found = _round(world, out, ours=True, seed=str(number), kills=3)
            hits += more
            broken += [f"round {number}: {one}" for one in found[:1]]
    few = max(2, count // 4)
    spoiled = 0
    for number in range(few):
        with emptied(world.folder / "ranks-naive") as out:
            spoiled += bool(_round(world, out, ours=False, seed=str(number), kills=3)[1])
    lost, stuck = _lost_workers(world, max(2, count // 3))
    return [
        Outcome(
            "Ranks on one export that are killed and started again end in the bytes of one process "
            "that was never stopped.",
            f"{_RANKS} ranks at once, in {count} rounds, any of them killed with -9 up to 3 times",
            hits,
            len(broken),
            (Control("no lock, one temporary name for all", few, spoiled),),
            tuple(broken),
        ),
        Outcome(
            "A worker process that is killed ends the run with a message, and the next run ends in "
            "the same bytes.",
            "`kill -9` of one of two workers, as by a system that runs out of memory",
            lost,
            len(stuck),
            (),
            tuple(stuck),
        ),
    ]
