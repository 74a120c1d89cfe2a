"""Calls that fail at random in the background, by libfiu; a run is started until it ends well."""

from __future__ import annotations

import errno

from tests.reliability.nursery import FIU, Nursery
from tests.reliability.outcome import Control, Outcome
from tests.reliability.syscalls import order_errors, traced
from tests.reliability.world import World, emptied, finished, wrong_names

#: libfiu's names of the calls, the error, and how often each fails.
_FAILING = (
    ("posix/io/sync/fsync", errno.EIO, 0.03),
    ("posix/io/rw/write", errno.ENOSPC, 0.005),
    ("posix/io/rw/writev", errno.ENOSPC, 0.02),
)

_ORDER = ("fsync", "fdatasync", "rename", "renameat", "renameat2")


class Soaked:
    """Runs of a writer under random errors: how many failed, and what went wrong."""

    def __init__(self) -> None:
        self.runs = self.struck = 0
        self.wrong_runs = 0
        self.broken: list[str] = []


def soak(world: World, nursery: Nursery, name: str, struck: int) -> Soaked:
    """Run a writer until so many runs have met an error."""
    tally = Soaked()
    whole, ours = world.whole_of(name), name == "ours"
    out = world.folder / f"soaked-{name}"
    while tally.struck < struck and tally.runs < 4 * struck + 8:
        with emptied(out):
            while True:
                tally.runs += 1
                if ours:
                    child = nursery.command(
                        world.export(out), wait=True, failing=_FAILING, seed=tally.runs
                    )
                else:
                    child = nursery.naive(
                        name, [world.plan_path, out], wait=True, failing=_FAILING, seed=tally.runs
                    )
                seen = traced(child, world.folder / "strace", _ORDER)
                ended = seen.code == 0
                tally.struck += not ended or not ours
                found = order_errors(seen.lines, out, ended=ended)[1]
                if wrong := wrong_names(out, whole):
                    found.append(f"wrong under a final name: {wrong[:2]}")
                if ended and finished(out) != whole:
                    found.append("ended well with other bytes")
                if ours and not ended and seen.code != 74:
                    found.append(f"code {seen.code}: {child.said[-300:]}")
                tally.wrong_runs += bool(found)
                tally.broken += [f"run {tally.runs}: {one}" for one in found[:1]]
                if ended or tally.struck >= struck or tally.runs >= 4 * struck + 8:
                    break
    return tally


def trials(world: World, count: int) -> list[Outcome]:
    """Go on until so many runs have met an error."""
    with Nursery(world.folder / "soaked-logs", preload=FIU) as nursery:
        ours = soak(world, nursery, "ours", count)
        deaf = soak(world, nursery, "deaf", max(4, count // 4))
    return [
        Outcome(
            "No file is named or recorded whose fsync or write failed, whatever fails when.",
            f"`libfiu` lets {', '.join(name.rpartition('/')[2] for name, _, _ in _FAILING)} fail "
            "at random, the command is run again until it ends well, and the kernel's calls are "
            "read back",
            ours.struck,
            len(ours.broken),
            (Control("goes on after a call that failed", deaf.struck, deaf.wrong_runs),),
            tuple(ours.broken),
        )
    ]
