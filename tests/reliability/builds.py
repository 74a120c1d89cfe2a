"""kill -9 of a build of a table."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from tests.reliability.nursery import Child
from tests.reliability.outcome import Control, Outcome
from tests.reliability.world import World, begun, chances, emptied, finished

_RECORDS = 12_000


def _root(folder: Path) -> Path:
    """Lay out a file of records without pictures, once."""
    if not folder.exists():
        folder.mkdir()
        records = [
            {
                "id": str(number),
                "conversations": [
                    {"from": "human", "value": f"What is {number}?"},
                    {"from": "gpt", "value": f"A number. {'It is. ' * (number % 30)}"},
                ],
            }
            for number in range(_RECORDS)
        ]
        (folder / "chat.json").write_text(json.dumps(records), "utf-8")
    return folder


def _tables(out: Path) -> dict[str, str]:
    """The finished files of all tables below a folder."""
    return {
        name: digest
        for name, digest in finished(out).items()
        if not name.startswith(".") and not name.endswith(".lock")
    }


def _killed(
    start: Callable[[Path], Child],
    out: Path,
    seed: str,
    kills: int,
) -> tuple[int, list[str]]:
    chance = chances(f"builds {seed}")
    with emptied(out):
        began = time.monotonic()
        child = start(out)
        if child.wait() != 0:
            raise RuntimeError(child.said)
        seconds = time.monotonic() - began
        whole = _tables(out)
    hits = rounds = 0
    wrong = []
    while hits < kills and rounds < 3 * kills:
        rounds += 1
        with emptied(out):
            child = start(out)
            if seed == "naive":  # before that it reads its input
                begun(child, out, "*.parquet")
            time.sleep(chance.uniform(0, 0.6 if seed == "naive" else 1) * seconds)
            if not child.kill():
                continue
            hits += 1
            broken = any(whole.get(name) != digest for name, digest in _tables(out).items())
            last = start(out)
            if last.wait() != 0 or _tables(out) != whole:
                wrong.append(f"kill {hits}: code {last.code}, or another table")
            elif broken:
                wrong.append(f"kill {hits}: a table that was not whole had its name")
            if left := list(out.glob(".*.unfinished")):
                wrong.append(f"kill {hits}: left behind {left}")
    return hits, wrong


def trials(world: World, count: int) -> list[Outcome]:
    """Kill so many builds."""
    root = _root(world.folder / "records")
    command: list[str | Path] = [
        "build",
        "llava",
        "--root",
        root,
        "--option",
        "path=chat.json",
        "--tables",
    ]
    hits, wrong = _killed(
        lambda out: world.nursery.command([*command, out]), world.folder / "tables-2", "ours", count
    )
    few = max(5, count // 5)
    struck, spoiled = _killed(
        lambda out: world.nursery.naive("table", [root, out]),
        world.folder / "tables-3",
        "naive",
        few,
    )
    shutil.rmtree(root)
    return [
        Outcome(
            "A build of a table that is killed leaves no half table, and the next one makes the "
            "same table.",
            f"`kill -9` at seeded random times, {_RECORDS:,} records",
            hits,
            len(wrong),
            (
                Control(
                    "Parquet straight to the final names, resumed by skipping files that exist",
                    struck,
                    len(spoiled),
                ),
            ),
            tuple(wrong),
        )
    ]
