"""Readers while an export is written, killed and gone on with, and while one replaces another."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import pickle
import random
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.reliability.outcome import Control, Outcome
from tests.reliability.world import World, chances, emptied, ended
from vision_ift._errors import LockedError, MissingInputError
from vision_ift._export.manifest import MANIFEST, Manifest, read
from vision_ift._plan.plan import plan
from vision_ift._stream.stream import stream
from vision_ift._verify.verify import verify

#: What a reader got: the digest of all rows in their order; ``None`` where there is no export yet.
Reader = Callable[[Path], str | None]


def by_stream(folder: Path) -> str | None:
    """Read all rows with our stream."""
    digest = hashlib.sha256()
    try:
        for row in stream(folder, columns=["id", "images"]):
            digest.update(row["id"].encode())
            for image in row["images"]:
                digest.update(image["bytes"])
    except MissingInputError:
        return None
    return digest.hexdigest()


def by_webdataset(folder: Path) -> str | None:
    """Read with webdataset the shards that the manifest names."""
    folder = folder.resolve()
    manifest = read(folder / MANIFEST, Manifest)
    if manifest is None:
        return None
    return _webdataset([str(folder / shard.name) for shard in manifest.shards])


def by_listing(folder: Path) -> str | None:
    """Read with webdataset the shards that lie there, as one does who knows no manifest."""
    return _webdataset([str(path) for path in sorted(folder.glob("*.tar"))])


def _webdataset(urls: list[str]) -> str:
    import webdataset

    digest = hashlib.sha256()
    with _unheeded():
        rows: Any = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False)
        for row in rows:
            for name in sorted(row):
                if not name.startswith("__"):
                    digest.update(row[name])
        del rows
    return digest.hexdigest()


@contextlib.contextmanager
def _unheeded() -> Iterator[None]:
    """Leave out the warnings of webdataset, which leaves it to the collector to close shards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            gc.collect()


def by_verify(folder: Path) -> str | None:
    """Check all bytes."""
    try:
        report = verify(folder, read_data=True)
    except (MissingInputError, LockedError):
        return None
    if not report.sound:
        return f"not sound: {[str(one) for one in report.findings[:3]]}"
    return report.export_digest


#: Readers by name; each must give one of the answers that it gives on a folder at rest.
READERS: dict[str, Reader] = {"stream": by_stream, "webdataset": by_webdataset, "verify": by_verify}


def _read(reader: Reader, folder: Path) -> str | None:
    try:
        return reader(folder)
    except Exception as error:  # noqa: BLE001 - whatever a reader dies of is what is looked for
        answer = f"{type(error).__name__}: {error}"
    with _unheeded():  # what the error held is let go here
        return answer


class Seen:
    """Reads, and those that were neither old nor new."""

    def __init__(self) -> None:
        self.reads = self.nothing = 0
        self.broken: list[str] = []

    def add(self, name: str, answer: str | None, good: set[str | None]) -> None:
        """Count a read."""
        self.reads += 1
        self.nothing += answer is None
        if answer not in good:
            self.broken.append(f"{name}: {answer}")


def during_a_write(world: World, count: int) -> Seen:
    """Read while an export is written, with a kill now and then, from its first shard on."""
    seen = Seen()
    chance = chances("readers during a write")
    good: dict[str, set[str | None]] = {
        name: {reader(world.whole_folder), None} for name, reader in READERS.items()
    }
    while seen.reads < count:
        with emptied(world.folder / "read") as out:
            kills = 2
            while not ended(out):
                child = world.writer("ours")(out)
                kill = time.monotonic() + chance.uniform(0.05, 0.6)
                while child.poll() is None:
                    if not next(out.glob("*.tar"), None):
                        time.sleep(0.001)
                        continue
                    for name, reader in READERS.items():
                        seen.add(name, _read(reader, out), good[name])
                    if kills and time.monotonic() > kill:
                        kills -= child.kill()
            for name, reader in READERS.items():
                seen.add(name, _read(reader, out), good[name] - {None})
    return seen


def _naive_during_a_write(world: World, count: int) -> Seen:
    seen = Seen()
    good: set[str | None] = {by_listing(_whole_plain(world)), hashlib.sha256().hexdigest()}
    while seen.reads < count:
        with emptied(world.folder / "read-naive") as out:
            child = world.writer("plain")(out)
            while child.poll() is None:
                if out.exists():
                    seen.add("listing", _read(by_listing, out), good)
    return seen


def _whole_plain(world: World) -> Path:
    world.whole_of("plain")
    return world.folder / "whole-plain"


def while_replaced(world: World, count: int) -> Seen:
    """Read through a link that is turned from one export to another and back, between any rows."""
    seen = Seen()
    chance = chances("readers while replaced")
    other = world.folder / "other"
    recipe = world.folder / "other.yaml"
    recipe.write_text(world.recipe.read_text("utf-8") + "seed: 99\n", "utf-8")
    command = world.export(other)
    command[1] = recipe
    child = world.nursery.command(command)
    if child.wait() != 0:
        raise RuntimeError(child.said)
    link = world.folder / "current"
    versions = (world.whole_folder, other)
    _turn(link, versions[0])
    good: dict[str, set[str | None]] = {
        name: {reader(version) for version in versions} for name, reader in READERS.items()
    }
    assert all(len(answers) == 2 for answers in good.values())
    try:
        for number in range(count):
            turner = os.fork()
            if turner == 0:
                _turn_for_ever(link, versions, chance)
            try:
                for name, reader in READERS.items():
                    # verify follows the link itself, once; to the others the folder is given.
                    place = link if reader is by_verify else link.resolve()
                    seen.add(f"{name} {number}", _read(reader, place), good[name])
            finally:
                os.kill(turner, 9)
                os.waitpid(turner, 0)
            chance.random()
    finally:
        link.unlink()
        shutil.rmtree(other)
    return seen


def _turn(link: Path, target: Path) -> None:
    temporary = link.with_name(f"{link.name}.{os.getpid()}.tmp")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    temporary.symlink_to(target)
    temporary.replace(link)


def _turn_for_ever(link: Path, versions: tuple[Path, Path], chance: random.Random) -> None:
    """Be the process that replaces; it is ended by a kill, or by itself after some seconds."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        _turn(link, versions[chance.randrange(2)])
        time.sleep(chance.uniform(0, 0.003))
    os._exit(0)


def _naive_while_replaced(world: World, count: int) -> Seen:
    """Read by listing while a writer writes another version over the files."""
    seen = Seen()
    whole = pickle.loads(world.plan_path.read_bytes())
    recipe = world.folder / "reseeded.yaml"
    recipe.write_text(world.recipe.read_text("utf-8") + "seed: 99\n", "utf-8")
    plans = (world.plan_path, world.folder / "other-plan")
    plans[1].write_bytes(pickle.dumps(plan(recipe, root=whole.root, tables=world.tables)))
    good: set[str | None] = set()
    with emptied(world.folder / "replaced-naive") as out:
        for path in plans:
            if world.nursery.naive("in_place", [path, out]).wait() != 0:
                raise RuntimeError("the naive writer fails")
            good.add(by_listing(out))
        turns = 0
        while seen.reads < count:
            before = _written(out)
            child = world.nursery.naive("in_place", [plans[turns % 2], out])
            turns += 1
            while child.poll() is None:
                if _written(out) == before:  # it has not begun
                    time.sleep(0.001)
                    continue
                seen.add("listing", _read(by_listing, out), good)
    return seen


def _written(folder: Path) -> int:
    """When a shard was last written to, in nanoseconds."""
    return max(path.stat().st_mtime_ns for path in folder.glob("*.tar"))


def trials(world: World, count: int) -> list[Outcome]:
    """Read about so many times."""
    few = max(6, count // 8)
    during = during_a_write(world, max(12, count // 4))
    naive = _naive_during_a_write(world, few)
    replaced = while_replaced(world, max(3, count // 4))  # each with every reader
    over = _naive_while_replaced(world, few)
    return [
        Outcome(
            "A reader sees a whole export or none while one is written.",
            f"our stream, webdataset over what the manifest names, and `verify --read-data`, in a "
            f"loop from the first shard on while exports are written, killed and gone on with "
            f"({during.nothing:,} times there was none yet)",
            during.reads,
            len(during.broken),
            (
                Control(
                    "tar straight to the final name, read by listing the folder",
                    naive.reads,
                    len(naive.broken),
                ),
            ),
            tuple(during.broken),
        ),
        Outcome(
            "A reader of an export that is replaced by another one, by turning the link that leads "
            "to it, sees one of the two to its end.",
            "the same readers, while a process turns the link between two whole exports every "
            "0-3 ms; stream and webdataset are given the folder to which it led",
            replaced.reads,
            len(replaced.broken),
            (
                Control(
                    "another version written over the files of the first",
                    over.reads,
                    len(over.broken),
                ),
            ),
            tuple(replaced.broken),
        ),
    ]
