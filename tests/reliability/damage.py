"""Bits that flip, files that are cut, swapped, removed or longer: found, named, repaired."""

from __future__ import annotations

import random
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

from tests.reliability.outcome import Control, Outcome
from tests.reliability.world import World, chances, emptied, finished
from vision_ift._verify.verify import verify

#: A damage changes a folder and says which files it touched.
Damage = Callable[[Path, random.Random], list[str]]


def _shard(out: Path, chance: random.Random) -> Path:
    return chance.choice(sorted(out.glob("*.tar")))


def flip(out: Path, chance: random.Random) -> list[str]:
    """Flip one bit of a shard."""
    path = _shard(out, chance)
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    return [path.name]


def truncate(out: Path, chance: random.Random) -> list[str]:
    """Cut a shard off anywhere."""
    path = _shard(out, chance)
    path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])
    return [path.name]


def append(out: Path, chance: random.Random) -> list[str]:
    """Append some bytes to a shard."""
    path = _shard(out, chance)
    path.write_bytes(path.read_bytes() + chance.randbytes(chance.randrange(1, 2000)))
    return [path.name]


def blank(out: Path, chance: random.Random) -> list[str]:
    """Turn a block of a shard to zeros, as a lost sector is read."""
    path = _shard(out, chance)
    data = bytearray(path.read_bytes())
    whole = [n for n in range(0, len(data), 512) if any(data[n : n + 512])]
    start = chance.choice(whole)
    data[start : start + 512] = bytes(512)
    path.write_bytes(data)
    return [path.name]


def swap(out: Path, chance: random.Random) -> list[str]:
    """Let two shards change their names."""
    one, other = chance.sample(sorted(out.glob("*.tar")), 2)
    aside = out / "aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    return [one.name, other.name]


def remove(out: Path, chance: random.Random) -> list[str]:
    """Remove a shard."""
    path = _shard(out, chance)
    path.unlink()
    return [path.name]


def spoil_beside(out: Path, chance: random.Random) -> list[str]:
    """Cut or remove one of the files beside the shards.

    Not the manifest: without one an export is unfinished, which is said, and is no damage.
    """
    beside = [
        path
        for path in sorted(out.rglob("*"))
        if path.is_file()
        and path.suffix != ".tar"
        and path.name not in (".lock", "manifest.json")
        and path.stat().st_size
    ]
    path = chance.choice(beside)
    if chance.random() < 0.5:
        path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])
    else:
        path.unlink()
    return [path.relative_to(out).as_posix()]


OF_SHARDS: tuple[Damage, ...] = (flip, flip, truncate, append, blank, swap, remove)


def listed(out: Path, whole: Path) -> bool:
    """Check as it is often done: all shards are there and can be listed with the same members."""
    try:
        for path in sorted(whole.glob("*.tar")):
            with tarfile.open(path) as right, tarfile.open(out / path.name) as found:
                if right.getnames() != found.getnames():
                    return False
    except (OSError, tarfile.TarError, UnicodeError):
        return False
    return True


#: Every so many damages one is repaired by the command, the others by copying the file back.
_REPAIRED = 4


class Damaged:
    """Damages tried: not found or misnamed, not repaired exactly, and unseen by a listing."""

    def __init__(self) -> None:
        self.trials = self.repairs = 0
        self.unfound: list[str] = []
        self.unrepaired: list[str] = []
        self.unlisted = 0


def _one(world: World, out: Path, damage: Damage, chance: random.Random, tally: Damaged) -> None:
    whole = world.whole_folder
    touched = damage(out, chance)
    tally.trials += 1
    what = f"{damage.__name__} {touched} #{tally.trials}"
    report = verify(out, read_data=True)
    named = {one.file for one in report.findings}
    if report.sound or not set(touched) & named:
        tally.unfound.append(f"{what}: named {sorted(named)}")
    shards = {name for name in touched if name.endswith(".tar")}
    if {name for name in named if name.endswith(".tar")} != shards and damage is not spoil_beside:
        tally.unfound.append(f"{what}: named {sorted(named)}")
    tally.unlisted += listed(out, whole)
    if tally.trials % _REPAIRED and damage is not spoil_beside:
        for name in touched:
            shutil.copy(whole / name, out / name)
        return
    tally.repairs += 1
    mended = verify(out, repair=True, root=world.root, tables=world.tables)
    rewritten = {name for name in mended.repaired if name.endswith(".tar")}
    if not mended.sound or rewritten != shards or finished(out) != world.whole:
        tally.unrepaired.append(
            f"{what}: wrote {mended.repaired}, still {[str(one) for one in mended.findings[:2]]}"
        )
        shutil.rmtree(out)
        shutil.copytree(whole, out)


def trials(world: World, count: int) -> list[Outcome]:
    """Damage an export so many times."""
    shards, beside = Damaged(), Damaged()
    chance = chances("damage")
    with emptied(world.folder / "damaged") as out:
        shutil.copytree(world.whole_folder, out)
        for number in range(count):
            _one(world, out, OF_SHARDS[number % len(OF_SHARDS)], chance, shards)
        for _ in range(count // 4):
            _one(world, out, spoil_beside, chance, beside)
    return [
        Outcome(
            "A shard that is changed, cut, longer, missing or swapped is found and named by "
            "`verify --read-data`.",
            "one flipped bit, a cut, bytes appended, a block of zeros, two swapped, one removed, "
            "at seeded random places",
            shards.trials,
            len(shards.unfound),
            (
                Control(
                    "a check that the shards are there and list the same members",
                    shards.trials,
                    shards.unlisted,
                    0.3,
                ),
            ),
            tuple(shards.unfound),
        ),
        Outcome(
            "`verify --repair` writes exactly the damaged shards anew, to the same bytes.",
            f"after every {_REPAIRED}th of the above",
            shards.repairs,
            len(shards.unrepaired),
            (),
            tuple(shards.unrepaired),
        ),
        Outcome(
            "Damage to the files beside the shards is found and named, and repaired without "
            "touching a shard.",
            "a cut or the loss of any of them but the manifest, without which an export is "
            "unfinished",
            beside.trials,
            len(beside.unfound) + len(beside.unrepaired),
            (),
            tuple(beside.unfound + beside.unrepaired),
        ),
    ]
