"""Full disks, used-up inodes, size limits, read-only mounts; then the trouble is over."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.reliability.nursery import Child, removed_at_death
from tests.reliability.outcome import Control, Outcome
from tests.reliability.world import World, emptied, finished, wrong_names

#: The exit code of a disk that fails or is full.
_DISK = 74


@contextlib.contextmanager
def small_disk(options: str) -> Iterator[Path]:
    """Mount a tmpfs with these options, and take it away again."""
    folder = tempfile.mkdtemp()
    with removed_at_death(Path(folder), mounts=Path(folder)):
        try:
            command = ["mount", "-t", "tmpfs", "-o", options, "vision_ift_test", folder]
            subprocess.run(command, check=True)
            try:
                yield Path(folder)
            finally:
                # A writer that a failed test left behind may still hold a file.
                subprocess.run(["umount", "-l", folder], check=True)
        finally:
            os.rmdir(folder)


def remount(folder: Path, options: str) -> None:
    """Change the options of a mounted tmpfs."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def _after(
    child: Child, out: Path, whole: dict[str, str], *, ours: bool, hints: bool = True
) -> list[str]:
    """Say what is wrong with a run that had no room."""
    code, said = child.wait(), child.said
    found = []
    if ours and code not in (0, _DISK):
        found.append(f"exit code {code}: {said[-200:]}")
    if ours and code == 0 and finished(out) != whole:
        found.append("ended well with other bytes")
    if ours and code != 0 and (str(out) not in said.replace("\n", "") or "try:" not in said):
        found.append(f"does not say where and what to do: {said[-300:]}")
    if ours and (said.count("error:") > 1 or "Traceback" in said):
        found.append(f"says more than one thing: {said[-300:]}")
    if ours and (wrong := wrong_names(out, whole)):
        found.append(f"wrong under a final name: {wrong[:3]}")
    if ours and (left := list(out.rglob("*.tmp")) if out.exists() else []):
        found.append(f"left behind: {left[:2]}")
    return found


def _then(child: Child, out: Path, whole: dict[str, str]) -> list[str]:
    """Say what is wrong once there is room again."""
    code = child.wait()
    if code != 0 or finished(out) != whole:
        return [f"with room again: code {code}, or other bytes: {child.said[-200:]}"]
    return []


class Tally:
    """Trials and what each broke."""

    def __init__(self) -> None:
        self.trials = 0
        self.broken: list[str] = []

    def add(self, what: str, found: Sequence[str]) -> None:
        """Count a trial."""
        self.trials += 1
        self.broken += [f"{what}: {one}" for one in found[:1]]


def full(world: World, name: str, count: int, tally: Tally) -> None:
    """Sweep the size of a disk over that of the output, then give it room."""
    whole, ours = world.whole_of(name), name == "ours"
    pages = _bytes_of(world, name) // 4096
    for place in range(count):
        size = 4 + pages * (2 * place + 1) // (2 * count)
        with small_disk(f"size={size * 4}k") as folder:
            out = folder / "out"
            more = {"blind": True} if ours else {}
            found = _after(world.writer(name)(out, **more), out, whole, ours=ours)
            remount(folder, f"size={pages * 16}k")
            tally.add(f"{size * 4} KiB", found + _then(world.writer(name)(out), out, whole))


def limited(world: World, name: str, count: int, tally: Tally) -> None:
    """Forbid files beyond a size, which needs no rights; then lift the limit."""
    whole, ours = world.whole_of(name), name == "ours"
    largest = max(path.stat().st_size for path in _files(world, name))
    for place in range(count):
        size = 1 + largest * (2 * place + 1) // (2 * count)
        with emptied(world.folder / f"limited-{name}") as out:
            child = world.writer(name)(out, file_bytes=size)
            found = _after(child, out, whole, ours=ours)
            tally.add(f"{size} bytes", found + _then(world.writer(name)(out), out, whole))


def used_up(world: World, count: int, tally: Tally) -> None:
    """Sweep the number of inodes over that of the output's files, then give more."""
    files = len(world.whole) + 8
    for place in range(count):
        inodes = 2 + files * place // count
        with small_disk(f"size=64m,nr_inodes={inodes}") as folder:
            out = folder / "out"
            found = _after(world.writer("ours")(out), out, world.whole, ours=True)
            remount(folder, "nr_inodes=10000")
            tally.add(
                f"{inodes} inodes", found + _then(world.writer("ours")(out), out, world.whole)
            )


def read_only(world: World, count: int, tally: Tally) -> None:
    """Mount the disk read-only, with nothing on it and with a part of an export."""
    for place in range(count):
        with small_disk("size=64m") as folder:
            out = folder / "out"
            if place:
                limit = 1 + place * 20_000
                world.nursery.command(world.export(out), file_bytes=limit).wait()
            remount(folder, "ro")
            found = _after(world.writer("ours")(out), out, world.whole, ours=True)
            remount(folder, "rw")
            tally.add("read-only", found + _then(world.writer("ours")(out), out, world.whole))


def printing(world: World, count: int, tally: Tally) -> None:
    """Print the report to a full disk."""
    for json in [(), ("--json",)] * count:
        with emptied(world.folder / "printed") as out, open("/dev/full", "wb") as full_disk:
            command = [sys.executable, "-m", "vision_ift", *map(str, world.export(out)), *json]
            ended = subprocess.run(command, stdout=full_disk, stderr=subprocess.PIPE, text=True)
            found = []
            if ended.returncode != _DISK or "Traceback" in ended.stderr:
                found.append(f"code {ended.returncode}: {ended.stderr[-200:]}")
            if finished(out) != world.whole:
                found.append("the export is not whole")
            tally.add("/dev/full", found)


def space_is_said_first(world: World, count: int, tally: Tally) -> None:
    """Give less room than an export needs: it is said before the first byte of a shard."""
    pages = _bytes_of(world, "ours") // 4096
    for place in range(count):
        size = 32 + (pages * 3 // 4) * place // count
        with small_disk(f"size={size * 4}k") as folder:
            out = folder / "out"
            child = world.writer("ours")(out)
            found = _after(child, out, world.whole, ours=True)
            if child.code != _DISK or "bytes more" not in child.said:
                found.append(f"not said: {child.said[-200:]}")
            if list(out.glob("*.tar")):
                found.append("a shard was begun")
            tally.add(f"{size * 4} KiB", found)


def _files(world: World, name: str) -> list[Path]:
    world.whole_of(name)
    return [path for path in (world.folder / f"whole-{name}").rglob("*") if path.is_file()]


def _bytes_of(world: World, name: str) -> int:
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in _files(world, name))


def trials(world: World, count: int) -> list[Outcome]:
    """Sweep with so many sizes; with root's rights also what needs a mount."""
    tally, first, printed = Tally(), Tally(), Tally()
    plain = Tally()
    limited(world, "ours", count, tally)
    limited(world, "plain", max(4, count // 4), plain)
    sizes = f"{count} limits on a file's size (`RLIMIT_FSIZE`)"
    if os.geteuid() == 0:
        full(world, "ours", count, tally)
        full(world, "plain", max(4, count // 4), plain)
        used_up(world, count, tally)
        read_only(world, 3, tally)
        space_is_said_first(world, max(3, count // 4), first)
        sizes += (
            f", {count} sizes of a disk that claims to have room, {count} numbers of inodes "
            "(tmpfs), and a disk that is mounted read-only; then room is made"
        )
    printing(world, 1, printed)
    outcomes = [
        Outcome(
            "A disk that is full, read-only or without inodes ends a run with code 74 and one "
            "message that says where and what to do; nothing wrong has a final name, nothing "
            "temporary stays, and with room again the run ends in the same bytes.",
            sizes,
            tally.trials,
            len(tally.broken),
            (
                Control(
                    "tar straight to the final name, resumed by skipping files that exist",
                    plain.trials,
                    len(plain.broken),
                ),
            ),
            tuple(tally.broken),
        ),
        Outcome(
            "A report that cannot be printed ends with code 74; the export is whole.",
            "stdout is `/dev/full`, as text and as JSON",
            printed.trials,
            len(printed.broken),
            (),
            tuple(printed.broken),
        ),
    ]
    if first.trials:
        outcomes.append(
            Outcome(
                "Too little room is said, with the bytes that are missing, before the first shard.",
                f"{first.trials} disks (tmpfs) smaller than the shards",
                first.trials,
                len(first.broken),
                (),
                tuple(first.broken),
            )
        )
    return outcomes
