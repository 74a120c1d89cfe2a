"""What every trial needs: a small root, its recipe, and the bytes that an undisturbed run makes."""

from __future__ import annotations

import contextlib
import json
import pickle
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.exports import picture, tree
from tests.reliability.nursery import Child, Nursery
from vision_ift._export.manifest import MANIFEST
from vision_ift._plan.plan import plan

#: A name under which nothing finished lies, and the lock, whose bytes mean nothing.
_UNFINISHED = re.compile(r"\..+\.tmp|.+\.(tmp|done)|\.lock|lock")


class World:
    """A root of some rows, and trees of undisturbed runs to hold others against.

    Args:
        folder: An empty folder.
        nursery: Who starts the writers.
        rows: Conversations, each with one picture of about ``picture_bytes``.
        shard_bytes: Bytes a shard, about.
    """

    def __init__(
        self,
        folder: Path,
        nursery: Nursery,
        *,
        rows: int = 160,
        picture_bytes: int = 6000,
        shard_bytes: int = 100_000,
    ) -> None:
        self.folder = folder
        self.nursery = nursery
        self.root = folder / "root"
        self.tables = folder / "tables"
        self.recipe = folder / "kept.yaml"
        self.shard_bytes = shard_bytes
        (self.root / "pictures").mkdir(parents=True)
        records = []
        for number in range(rows):
            size = picture_bytes // 2 + number * 7919 % picture_bytes
            (self.root / f"pictures/{number}.jpg").write_bytes(picture(number, size=size))
            turns = [
                {"from": "human", "value": f"<image>\nWhat is in picture {number}?"},
                {"from": "gpt", "value": "一只猫。 " + "It lies there. " * (number % 40)},
            ]
            records.append(
                {"id": str(number), "image": f"pictures/{number}.jpg", "conversations": turns}
            )
        (self.root / "chat.json").write_text(json.dumps(records), "utf-8")
        self.recipe.write_text(
            "name: kept\nmix:\n  - {source: llava, path: chat.json, repeat: 1}\n", "utf-8"
        )
        self._whole: dict[str, dict[str, str]] = {}
        self.plan_path = folder / "plan"
        made = plan(self.recipe, root=self.root, tables=self.tables)
        self.plan_path.write_bytes(pickle.dumps(made))
        self.whole  # noqa: B018 - the first run is made now, while nothing goes wrong

    def export(self, out: Path, *, jobs: int = 1) -> list[str | Path]:
        """The command that exports the world's recipe to ``out``."""
        return [
            *("export", self.recipe, "--root", self.root, "--tables", self.tables),
            *("--out", out, "--shard-bytes", str(self.shard_bytes), "--jobs", str(jobs)),
        ]

    def writer(self, name: str) -> Callable[..., Child]:
        """Give the function that starts a writer on a folder: ``ours``, or one of ``naive``."""
        if name == "ours":
            return lambda out, **more: self.nursery.command(self.export(out), **more)
        return lambda out, **more: self.nursery.naive(name, [self.plan_path, out], **more)

    def whole_of(self, name: str) -> dict[str, str]:
        """The tree that this writer leaves when nothing goes wrong."""
        if name not in self._whole:
            out = self.folder / f"whole-{name}"
            child = self.writer(name)(out)
            if child.wait() != 0:
                raise RuntimeError(f"{name} fails where nothing goes wrong: {child.said}")
            self._whole[name] = finished(out)
        return self._whole[name]

    @property
    def whole(self) -> dict[str, str]:
        """The tree of our own writer."""
        return self.whole_of("ours")

    @property
    def whole_folder(self) -> Path:
        """The undisturbed export; nobody writes to it."""
        return self.folder / "whole-ours"

    def seconds(self, name: str, out: Path) -> float:
        """How long a writer takes on an empty folder, which is removed again."""
        began = time.monotonic()
        if self.writer(name)(out).wait() != 0:
            raise RuntimeError(f"{name} fails on {out}")
        took = time.monotonic() - began
        shutil.rmtree(out)
        return took


def finished(out: Path) -> dict[str, str]:
    """All files under a final name, with their digests."""
    if not out.exists():
        return {}
    return {
        name: digest
        for name, digest in tree(out).items()
        if not _UNFINISHED.fullmatch(name.rpartition("/")[2])
    }


def wrong_names(out: Path, whole: dict[str, str]) -> list[str]:
    """The files under a final name whose bytes are not those of an undisturbed run."""
    return [name for name, digest in finished(out).items() if whole.get(name) != digest]


def ended(out: Path) -> bool:
    """Whether an export says that it is finished."""
    return (out / MANIFEST).exists()


def begun(child: Child, out: Path, pattern: str = "*.tar") -> None:
    """Wait until a writer has something under a final name, or has ended.

    What strikes a naive writer counts from there, however slow the machine is at that moment.
    """
    while child.poll() is None and next(out.glob(pattern), None) is None:
        time.sleep(0.001)


def chances(seed: str) -> random.Random:
    """A generator of a trial's own."""
    return random.Random(f"vision_ift reliability {seed}")


@contextlib.contextmanager
def emptied(folder: Path) -> Iterator[Path]:
    """A folder's path with nothing there, before and after."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
