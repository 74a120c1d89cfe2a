"""A kill or an error at the n-th system call of the commit path, for every n, by strace.

strace is attached to a writer that waits, so counting begins where its own work begins. What the
kernel saw is also read back, which shows the order of the commit without asking the writer.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from tests.reliability.nursery import Child, Nursery
from tests.reliability.outcome import Control, Outcome
from tests.reliability.world import World, emptied, finished, wrong_names

#: The system calls of the commit path, and the error that each is made to give.
ERRORS = {
    "fsync": "EIO",
    "rename": "EIO",
    "write": "ENOSPC",
    "writev": "ENOSPC",
    "pwrite64": "ENOSPC",
    "openat": "ENOSPC",
    "unlink": "EIO",
    "close": "ENOSPC",
    "mkdir": "ENOSPC",
    "ftruncate": "EIO",
    "sendfile": "ENOSPC",
    "copy_file_range": "EIO",
}

#: What a naive writer is tried with: where it fails, and not where it may as well be right.
_NAIVE = ("write",)

#: Exit codes that say what went wrong: bad input, missing input, output, disk.
_SAID = {65, 66, 73, 74}


class Seen(NamedTuple):
    """What a traced run did: exit code, strace's lines, whether the fault struck."""

    code: int
    lines: list[str]
    struck: bool


def traced(child: Child, log: Path, calls: Iterable[str], inject: str = "") -> Seen:
    """Attach strace to a waiting child, let it go, and give what was seen."""
    command = ["strace", "-f", "-y", "-qq", "-o", str(log), "-p", str(child.pid)]
    command += ["-e", f"trace={','.join(calls)}", "-e", "signal=none"]
    if inject:
        command += ["-e", f"inject={inject}"]
    tracer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _attached(child, tracer)
        child.go()
        code = child.wait()
        tracer.wait(30)
    finally:
        child.kill()
        tracer.kill()
        tracer.communicate()
    lines = log.read_text("utf-8", "replace").splitlines()
    return Seen(code, lines, code == -9 or any("(INJECTED)" in line for line in lines))


def _attached(child: Child, tracer: subprocess.Popen[str]) -> None:
    status = Path(f"/proc/{child.pid}/status")
    deadline = time.monotonic() + 30
    while f"TracerPid:\t{tracer.pid}" not in status.read_text("utf-8"):
        if tracer.poll() is not None or time.monotonic() > deadline:
            assert tracer.stderr is not None
            raise RuntimeError(f"strace cannot attach: {tracer.stderr.read()}")
        time.sleep(0.001)


class Tried(NamedTuple):
    """How many faults struck, and what each broke."""

    trials: int
    broken: list[str]


def places(seen: Seen, pid: int, call: str, folder: Path) -> list[int]:
    """Say which of the calls of one kind, from 1, name or hold something below a folder."""
    mark = re.compile(rf"{pid} +{call}\(.*{re.escape(str(folder))}[/\">]")
    kind = re.compile(rf"{pid} +{call}\(")
    calls = [line for line in seen.lines if kind.match(line)]
    return [place for place, line in enumerate(calls, 1) if mark.match(line)]


def every_call(
    world: World,
    name: str,
    how: str,
    *,
    every: int,
    calls: Iterable[str] = tuple(ERRORS),
    reads: bool = False,
) -> Tried:
    """Strike a writer at every ``every``-th call of each kind on the folder that it writes.

    Args:
        world: Whose rows are written.
        name: The writer.
        how: ``kill``, or ``error`` for the errors of ``ERRORS``.
        every: Distance between the calls that are struck.
        calls: The system calls.
        reads: Strike the calls on the pictures instead.
    """
    start, whole = world.writer(name), world.whole_of(name)
    log, out = world.folder / "strace", world.folder / f"struck-{name}"
    with emptied(out):
        child = start(out, wait=True)
        whole_run = traced(child, log, calls)
    trials = 0
    broken: list[str] = []
    for call in calls:
        fault = "signal=KILL" if how == "kill" else f"error={'EIO' if reads else ERRORS[call]}"
        struck = places(whole_run, child.pid, call, world.root if reads else out)
        for place in struck[::every]:
            with emptied(out):
                seen = traced(start(out, wait=True), log, (call,), f"{call}:{fault}:when={place}")
                if seen.struck:
                    trials += 1
                    found = _judge(
                        out, seen, start, whole, ours=name == "ours", killed=how == "kill"
                    )
                    broken += [f"{call} {place} {fault}: {one}" for one in found[:1]]
    return Tried(trials, broken)


def _judge(
    out: Path,
    seen: Seen,
    start: Callable[[Path], Child],
    whole: dict[str, str],
    *,
    ours: bool,
    killed: bool,
) -> list[str]:
    """Say what is wrong with a folder after a fault, and after the next run."""
    found = []
    if ours and (wrong := wrong_names(out, whole)):
        found.append(f"wrong under a final name: {wrong[:3]}")
    if not killed:
        if seen.code == 0 and finished(out) != whole:
            found.append("ended well with other bytes")
        if ours and seen.code not in _SAID | {0}:
            found.append(f"exit code {seen.code}")
    child = start(out)
    code = child.wait()
    if code != 0:
        found.append(f"the next run ends with {code}: {child.said[-200:]}")
    elif (after := finished(out)) != whole:
        different = sorted(set(after.items()) ^ set(whole.items()))
        found.append(f"the next run leaves other bytes: {different[:2]}")
    return found


_CALL = re.compile(
    r"\d+ +(?P<call>\w+)\((?P<arguments>.*)\) = (?P<value>-?\d+)(?P<rest>.*)", re.ASCII
)
_PATH = re.compile(r'"([^"]*)"|<([^>]*)>')


def order_errors(lines: list[str], out: Path, *, ended: bool = True) -> tuple[int, list[str]]:
    """Check the order of a commit as the kernel saw it.

    Every file that gets a final name must have been fsynced under its temporary one, and its
    folder fsynced before the next file gets its name.

    Args:
        lines: What strace wrote.
        out: The folder that was written.
        ended: Whether the run ended well, and nothing may be left undone.

    Returns:
        The number of files that got a final name, and what was out of order.
    """
    synced: set[str] = set()
    pending: dict[str, str] = {}
    named = 0
    found: list[str] = []
    for line in lines:
        match = _CALL.match(line)
        if match is None or int(match["value"]) < 0:
            continue
        paths = [one or other for one, other in _PATH.findall(match["arguments"])]
        if match["call"] in ("fsync", "fdatasync"):
            synced.add(paths[0])
            pending.pop(paths[0], None)
        elif match["call"].startswith("rename"):
            old, new = paths[0], paths[-1]
            if not new.startswith(f"{out}/"):
                continue
            named += 1
            if old not in synced:
                found.append(f"{new} got its name before its bytes were durable")
            folder = new.rpartition("/")[0]
            found += [f"{last} was not durable when {new} followed" for last in pending.values()]
            pending = {folder: new}
    if ended:
        found += [f"{last} was not durable at the end" for last in pending.values()]
    return named, found


def _files(found: list[str]) -> int:
    """How many files what was found is about; each line begins with one."""
    return len({one.partition(" ")[0] for one in found})


def orders(world: World, name: str) -> tuple[int, list[str]]:
    """Trace one whole run of a writer and check the order of its commits."""
    calls = ("fsync", "fdatasync", "rename", "renameat", "renameat2")
    with emptied(world.folder / f"order-{name}") as out:
        child = world.writer(name)(out, wait=True)
        seen = traced(child, world.folder / "strace", calls)
        if seen.code != 0:
            raise RuntimeError(f"{name} fails while traced: {child.said}")
        return order_errors(seen.lines, out)


def trials(world: World, every: int) -> list[Outcome]:
    """Kill and fail at every ``every``-th call."""
    return [killed(world, every), failing(world, every), ordered(world)]


def _kept(every: int) -> str:
    return f"every {every}th of the calls" if every > 1 else "every call"


def killed(world: World, every: int) -> Outcome:
    """Kill at every ``every``-th call."""
    kills = every_call(world, "ours", "kill", every=every)
    plain = every_call(world, "plain", "kill", every=max(1, every // 4), calls=_NAIVE)
    return Outcome(
        "The same for a kill at every system call of the commit.",
        f"`strace` kills at {_kept(every)} on the export's files: {', '.join(ERRORS)}",
        kills.trials,
        len(kills.broken),
        (
            Control(
                "tar straight to the final name, resumed by skipping files that exist",
                plain.trials,
                len(plain.broken),
            ),
        ),
        tuple(kills.broken),
    )


def failing(world: World, every: int) -> Outcome:
    """Let every ``every``-th call fail."""
    errors = every_call(world, "ours", "error", every=every)
    unread = every_call(world, "ours", "error", every=every, calls=("openat", "read"), reads=True)
    deaf = every_call(world, "deaf", "error", every=max(1, every // 4), calls=_NAIVE)
    return Outcome(
        "A call that fails is never ignored: the run ends with an exit code that says so, "
        "nothing wrong has a final name, and the next run ends in the same bytes.",
        f"`strace` makes {_kept(every)} on the export's files fail: "
        + ", ".join(f"{call} ({error})" for call, error in ERRORS.items())
        + "; and openat and read (EIO) on the pictures",
        errors.trials + unread.trials,
        len(errors.broken + unread.broken),
        (Control("goes on after a call that failed", deaf.trials, len(deaf.broken)),),
        tuple(errors.broken + unread.broken),
    )


def ordered(world: World) -> Outcome:
    """Read back in which order a run made its files durable."""
    named, disordered = orders(world, "ours")
    orderless = {one: orders(world, one) for one in ("unsynced", "unsynced_folder")}
    return Outcome(
        "A file gets its name when its bytes are durable, and the name is durable before the next "
        "file gets one.",
        "every fsync and rename of a run, as the kernel saw them",
        named,
        _files(disordered),
        (
            Control("no fsync", orderless["unsynced"][0], _files(orderless["unsynced"][1])),
            Control(
                "no fsync of the folder",
                orderless["unsynced_folder"][0],
                _files(orderless["unsynced_folder"][1]),
            ),
        ),
        tuple(disordered),
    )


def small(folder: Path, nursery: Nursery) -> World:
    """A world whose export makes few calls."""
    return World(folder, nursery, rows=24, picture_bytes=2000, shard_bytes=80_000)
