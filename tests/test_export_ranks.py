"""Ranks: several processes on one folder come to the bytes of one, whoever stops or comes last."""

from __future__ import annotations

import fcntl
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.exports import small_plan, tree
from vision_ift._disk import locked
from vision_ift._errors import LockedError, UsageError
from vision_ift._export.export import export
from vision_ift._export.manifest import LOCK
from vision_ift._export.ranks import Rank, rank_named, rank_of, settling, working
from vision_ift._plan.plan import Plan

SHARD = 20_000

_RANK = """
import pickle, sys, time
from pathlib import Path
import vision_ift._export.export as _export
plan = pickle.loads(Path(sys.argv[1]).read_bytes())
out, rank, world, uniform, slow = sys.argv[2:]
write = _export.write_shard
def late(*arguments, **options):
    time.sleep(float(slow))
    return write(*arguments, **options)
_export.write_shard = late
print("ready", flush=True)
report = _export.export(plan, out=out, shard_bytes=20_000, uniform=uniform == "1", rank=int(rank),
                        world_size=int(world))
print("finished" if report.finished else "left", flush=True)
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    found = small_plan(tmp_path)
    (tmp_path / "plan").write_bytes(pickle.dumps(found))
    return found


def start(
    tmp_path: Path, out: Path, rank: int, world: int, *, uniform: bool = False, slow: float = 0
) -> subprocess.Popen[str]:
    arguments = [tmp_path / "plan", out, rank, world, int(uniform), slow]
    process = subprocess.Popen(
        [sys.executable, "-c", _RANK, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("uniform", [False, True])
def test_ranks_one_after_the_other(uniform: bool, plan: Plan, tmp_path: Path) -> None:
    export(plan, out=tmp_path / "one", shard_bytes=SHARD, uniform=uniform)
    whole = tree(tmp_path / "one")
    out = tmp_path / "out"
    asked: dict[str, Any] = {"out": out, "shard_bytes": SHARD, "uniform": uniform, "world_size": 3}
    for rank in (2, 0):
        report = export(plan, **asked, rank=rank)
        assert (report.finished, report.export_digest) == (False, "")
        assert report.shards == len(list(out.rglob("*.tar")))
        assert not (out / "vision_ift/manifest.json").exists()
    again = export(plan, **asked, rank=0)  # has nothing to do, and the whole is not finished
    assert again == report
    report = export(plan, **asked, rank=1)
    assert report.finished
    assert tree(out) == whole
    for rank in range(3):
        assert export(plan, **asked, rank=rank) == report
    # Damage after the end: the rank whose shard it was brings it back.
    victim = out / ("img0/train-000000.tar" if uniform else "train-000001.tar")
    victim.unlink()
    reports = [export(plan, **asked, rank=rank) for rank in range(3)]
    assert reports[-1].finished
    assert tree(out) == whole


@pytest.mark.parametrize("uniform", [False, True])
def test_ranks_side_by_side(uniform: bool, plan: Plan, tmp_path: Path) -> None:
    export(plan, out=tmp_path / "one", shard_bytes=SHARD, uniform=uniform)
    out = tmp_path / "out"
    ranks = [start(tmp_path, out, rank, 3, uniform=uniform, slow=0.02) for rank in range(3)]
    told = [process.communicate(timeout=120)[0] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0, 0]
    assert "finished\n" in told
    assert tree(out) == tree(tmp_path / "one")


def test_a_killed_rank_is_resumed_by_the_same_call(plan: Plan, tmp_path: Path) -> None:
    export(plan, out=tmp_path / "one", shard_bytes=SHARD)
    out = tmp_path / "out"
    doomed = start(tmp_path, out, 0, 2, slow=0.2)
    while not (out / "train-000000.tar").exists():
        time.sleep(0.02)
    doomed.send_signal(signal.SIGKILL)
    doomed.communicate()
    (out / ".train-000002.tar.77.tmp").write_bytes(b"left by the killed rank")
    (out / "vision_ift/done/.000004.json.77.tmp").write_bytes(b"left too")
    (out / ".train-000003.tar.78.tmp").write_bytes(b"another rank is writing this")
    assert not export(plan, out=out, shard_bytes=SHARD, rank=0, world_size=2).finished
    left = {path.name for path in out.rglob("*.tmp")}
    assert left == {".train-000003.tar.78.tmp"}
    report = export(plan, out=out, shard_bytes=SHARD, rank=1, world_size=2)
    assert report.finished
    assert tree(out) == tree(tmp_path / "one")


def test_who_keeps_out_whom(plan: Plan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "vision_ift").mkdir(parents=True)
    with working(out, Rank(0, 2)):
        with pytest.raises(LockedError, match=f"process {os.getpid()} on "):
            export(plan, out=out, rank=0, world_size=2)
        with pytest.raises(LockedError, match="rank 0 of 2, so rank 1 of 3"):
            export(plan, out=out, rank=1, world_size=3)
        with pytest.raises(LockedError, match="is being written by"):
            export(plan, out=out)
        with working(out, Rank(1, 2)), settling(out, Rank(1, 2)):
            pass
    with locked(out / LOCK), pytest.raises(LockedError, match=f"by process {os.getpid()} on "):
        export(plan, out=out, rank=0, world_size=2)
    # Dead owners keep nobody out, whatever their world size was.
    export(plan, out=out, shard_bytes=SHARD, rank=1, world_size=3)
    assert export(plan, out=out, shard_bytes=SHARD).finished
    export(plan, out=tmp_path / "one", shard_bytes=SHARD)
    assert tree(out) == tree(tmp_path / "one")


def test_more_ranks_than_shards(plan: Plan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    reports = [export(plan, out=out, rank=rank, world_size=4) for rank in (3, 2, 1, 0)]
    assert [report.finished for report in reports] == [False, False, False, True]


@pytest.mark.parametrize(
    ("rank", "world", "told", "expected"),
    [
        (None, None, {"RANK": "1", "WORLD_SIZE": "2"}, None),
        (3, 8, {"RANK": "1", "WORLD_SIZE": "2"}, Rank(3, 8)),
        ("auto", None, {"SLURM_PROCID": "3", "SLURM_NTASKS": "8"}, Rank(3, 8)),
        ("auto", 8, {"SLURM_PROCID": "3", "SLURM_NTASKS": "8"}, Rank(3, 8)),
        (
            "auto",
            None,
            {"RANK": "5", "WORLD_SIZE": "6", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"},
            Rank(5, 6),
        ),
        ("auto", 4, {"JOB_COMPLETION_INDEX": "2"}, Rank(2, 4)),
    ],
)
def test_a_rank_comes_from_the_caller_or_the_scheduler(
    rank: Any, world: int | None, told: dict[str, str], expected: Rank | None
) -> None:
    assert rank_of(rank, world, environment=told) == expected


@pytest.mark.parametrize(
    ("rank", "world", "told"),
    [
        (None, 2, {}),
        (0, None, {}),
        (2, 2, {}),
        (-1, 2, {}),
        (0, 0, {}),
        ("auto", None, {}),
        ("auto", None, {"JOB_COMPLETION_INDEX": "2"}),
        ("auto", 4, {"RANK": "1", "WORLD_SIZE": "2"}),
        ("auto", None, {"RANK": "one", "WORLD_SIZE": "2"}),
    ],
)
def test_ranks_that_cannot_be_meant(rank: Any, world: int | None, told: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        rank_of(rank, world, environment=told)


def test_a_rank_as_it_is_typed() -> None:
    assert [rank_named(text) for text in (None, "auto", "07")] == [None, "auto", 7]
    with pytest.raises(UsageError, match="'x' is no whole number"):
        rank_named("x")


def test_an_owner_that_has_no_name_yet_is_waited_for(tmp_path: Path) -> None:
    lock = tmp_path / LOCK
    lock.parent.mkdir()
    with lock.open("ab", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        naming = threading.Timer(0.05, lambda: file.write(b"process 7 on there\n"))
        naming.start()
        with pytest.raises(LockedError, match="process 7 on there"), working(tmp_path, Rank(0, 2)):
            pass
        naming.join()
