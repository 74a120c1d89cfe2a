"""Processes that read as a training run does, and save a cursor now and then."""

from __future__ import annotations

import itertools
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vision_ift._stream.stream import Stream, stream

#: Steps between two checkpoints.
_CHECKPOINT_STEPS = 2

EPOCHS = 2


def train(export: str, folder: str, world_size: str, workers: str, batch: str) -> None:
    """Take all rows of two epochs, as ranks in step, each with workers; go on from a checkpoint."""
    size, ranks = int(batch), int(world_size)
    streams = [
        stream(export, rank=rank, world_size=ranks, seed=5, epochs=EPOCHS, columns=["id"])
        for rank in range(ranks)
    ]
    log = _Log(Path(folder))
    if log.state is not None:
        for one in streams:
            one.load_state_dict(log.state)
    # Place q is rank q mod world_size's, so the rank that comes first depends on the start.
    now = streams[0].state_dict()
    first = (now["epoch"] * streams[0].rows + now["position"]) % ranks
    streams = streams[first:] + streams[:first]
    feeds = [_batches(one, int(workers), size) for one in streams]
    step = 0
    while any(batches := [next(feed, []) for feed in feeds]):
        step += 1
        # In the order of all ranks together: place after place.
        log.take([batch[k]["id"] for k in range(size) for batch in batches if k < len(batch)])
        if step % _CHECKPOINT_STEPS == 0:
            states = {json.dumps(one.state_after(step * size), sort_keys=True) for one in streams}
            assert len(states) == 1, states
            log.save(json.loads(states.pop()))
    log.end()


def _batches(one: Stream, workers: int, size: int) -> Iterator[list[dict[str, Any]]]:
    """Give a rank's batches as a loader does that takes them from its workers in turn."""
    feeds = [one.split(worker, workers, size) for worker in range(workers)]
    step = 0
    while batch := list(itertools.islice(feeds[step % workers], size)):
        yield batch
        step += 1


def train_by_buffer(ids: str, folder: str, world_size: str, workers: str, batch: str) -> None:
    """Do the same with a shuffle buffer that no checkpoint holds: a resumed run skips and refills.

    The layout of ranks and workers is the same as before; only what is in the buffer is lost.
    """
    rows = json.loads(Path(ids).read_text("utf-8")) * EPOCHS
    log = _Log(Path(folder))
    taken = 0 if log.state is None else int(log.state["taken"])
    chance = random.Random(5)
    buffer: list[str] = []
    given: list[str] = []
    for row in rows[taken:]:
        taken += 1
        buffer.append(row)
        if len(buffer) > 20:
            given.append(buffer.pop(chance.randrange(len(buffer))))
        if len(given) == int(batch):
            log.take(given)
            given = []
            log.save({"taken": taken})
    log.take(given + buffer)
    log.end()


class _Log:
    """The rows that were trained on, and the last checkpoint; what came after that is undone."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self.state: dict[str, Any] | None = None
        length = 0
        checkpoint = folder / "checkpoint.json"
        if checkpoint.exists():
            saved = json.loads(checkpoint.read_bytes())
            self.state, length = saved["state"], saved["length"]
        self._file = (folder / "rows").open("ab", buffering=0)
        self._file.truncate(length)

    def take(self, rows: list[str]) -> None:
        self._file.write("".join(f"{row}\n" for row in rows).encode())
        time.sleep(0.002)  # so long does the model think

    def save(self, state: dict[str, Any]) -> None:
        assert len(json.dumps(state)) < 1024
        saved = {"state": state, "length": os.fstat(self._file.fileno()).st_size}
        temporary = self._folder / "checkpoint.tmp"
        temporary.write_text(json.dumps(saved), "utf-8")
        temporary.replace(self._folder / "checkpoint.json")

    def end(self) -> None:
        (self._folder / "ended").touch()


def rows_of(folder: Path) -> list[str]:
    """The rows that a training took, in their order."""
    return (folder / "rows").read_text("utf-8").split()
