"""Power cuts: an ext4 in a file, shut down in the middle without writing its journal out."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.reliability.nursery import Child, removed_at_death
from tests.reliability.outcome import Control, Outcome
from tests.reliability.world import World, begun, chances, finished, wrong_names

#: ``FS_IOC_SHUTDOWN`` of ``linux/fs.h``, and its flag "do not write the log out".
_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2

_IMAGE_BYTES = 48 << 20


class Disk:
    """An ext4 file system in a file of its own, with the power of cutting it off.

    Args:
        folder: Where the image and the mount point go.
    """

    def __init__(self, folder: Path) -> None:
        self.place = folder / "disk"
        self.place.mkdir()
        self._image = folder / "image"
        self._fresh = folder / "fresh"
        with self._fresh.open("wb") as file:
            file.truncate(_IMAGE_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(self._fresh)], check=True)
        self._mounted = False
        self.out = self.place / "out"

    def renew(self) -> None:
        """Begin with an empty disk."""
        self.unmount()
        subprocess.run(["cp", "--sparse=always", str(self._fresh), str(self._image)], check=True)

    def mount(self) -> None:
        """Mount it; after a cut, what the journal holds is replayed."""
        command = ["mount", "-t", "ext4", "-o", "loop", str(self._image), str(self.place)]
        subprocess.run(command, check=True)
        self._mounted = True

    def unmount(self) -> None:
        """Unmount it, which also frees its loop device."""
        if self._mounted:
            for _ in range(200):
                if subprocess.run(
                    ["umount", str(self.place)], stderr=subprocess.DEVNULL
                ).returncode:
                    time.sleep(0.01)  # a process that was just killed still holds a file
                else:
                    self._mounted = False
                    return
            subprocess.run(["umount", "-l", str(self.place)], check=True)
            self._mounted = False

    def cut(self) -> None:
        """Cut the power: what is not on the disk by now never will be."""
        descriptor = os.open(self.place, os.O_RDONLY)
        try:
            flag = _NO_LOG_FLUSH.to_bytes(4, "little")
            fcntl.ioctl(descriptor, _SHUTDOWN, flag)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def disk() -> Iterator[Disk]:
    """Give a disk, and leave neither mount nor loop device behind."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    made = None
    with removed_at_death(folder, mounts=folder / "disk"):
        try:
            made = Disk(folder)
            yield made
        finally:
            if made is not None:
                made.unmount()
            shutil.rmtree(folder)


@contextlib.contextmanager
def noise(folder: Path, seed: str) -> Iterator[None]:
    """Make the journal commit every few milliseconds, as a busy machine does.

    Without it a cut throws whole runs away cleanly, and proves nothing.
    """
    stop = threading.Event()
    chance = chances(f"noise {seed}")

    def write() -> None:
        with contextlib.suppress(OSError), (folder / "noise").open("wb", buffering=0) as file:
            while not stop.is_set():
                file.write(b"noise")
                os.fsync(file.fileno())
                stop.wait(chance.uniform(0.001, 0.03))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _cut_off(place: Disk, child: Child) -> None:
    """Cut the power, then end the writer, who could do nothing more, and come up again."""
    place.cut()
    child.kill()
    child.end_workers()
    place.unmount()
    place.mount()


def cuts(world: World, place: Disk, name: str, count: int) -> list[str]:
    """Cut a writer off at random moments, each time on a new disk; say what was wrong."""
    start, whole = world.writer(name), world.whole_of(name)
    chance = chances(f"power {name}")
    wrong = []
    place.renew()
    place.mount()
    with noise(place.place, name):
        seconds = world.seconds(name, place.out)
    for number in range(count):
        place.renew()
        place.mount()
        with noise(place.place, f"{name} {number}"):
            child = start(place.out)
            if name == "ours":
                time.sleep(chance.uniform(0.1, 1.1) * seconds)
            else:  # before it has begun there is nothing to lose
                begun(child, place.out)
                time.sleep(chance.uniform(0, 0.8) * seconds)
            place.cut()
        _cut_off(place, child)
        broken = wrong_names(place.out, whole)
        last = start(place.out)
        code = last.wait()
        if broken:
            wrong.append(f"cut {number}: wrong under a final name: {broken[:3]}")
        elif code != 0 or finished(place.out) != whole:
            wrong.append(f"cut {number}: the next run ends with {code}, or with other bytes")
    place.unmount()
    return wrong


def lost_after_the_end(world: World, place: Disk, name: str, count: int) -> int:
    """Cut the power once a writer has said that it is done; count how often something is lost."""
    lost = 0
    for _ in range(count):
        place.renew()
        place.mount()
        child = world.writer(name)(place.out)
        if child.wait() != 0:
            raise RuntimeError(f"{name}: {child.said}")
        _cut_off(place, child)
        lost += finished(place.out) != world.whole_of(name)
    place.unmount()
    return lost


def trials(world: World, count: int) -> list[Outcome]:
    """Cut the power so many times."""
    some = max(6, count // 4)
    few = max(2, count // 8)
    with disk() as place:
        ours = cuts(world, place, "ours", count)
        naive = {name: cuts(world, place, name, some) for name in ("plain", "unsynced")}
        done = lost_after_the_end(world, place, "ours", few)
        lost = {
            name: lost_after_the_end(world, place, name, few)
            for name in ("unsynced", "unsynced_folder")
        }
    return [
        Outcome(
            "After a power cut no file under a final name is wrong, and the next run ends in the "
            "same bytes.",
            "ext4 in a file, shut down at a random moment without flushing its journal "
            "(`FS_IOC_SHUTDOWN`), while another process makes the journal commit every 1-30 ms",
            count,
            len(ours),
            (
                Control("tar straight to the final name", some, len(naive["plain"])),
                Control("temporary name and rename, no fsync", some, len(naive["unsynced"])),
            ),
            tuple(ours),
        ),
        Outcome(
            "What was said to be finished is there after a power cut.",
            "the same cut at the moment the command has ended",
            few,
            done,
            (
                Control("no fsync", few, lost["unsynced"]),
                Control("no fsync of the folder", few, lost["unsynced_folder"]),
            ),
        ),
    ]
