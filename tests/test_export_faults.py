"""Kills, full disks, failing calls, two writers, pictures that change: the export holds."""

from __future__ import annotations

import errno
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.exports import members, picture, small_plan, tree
from vision_ift._disk import locked
from vision_ift._errors import DiskError, IntegrityError, LockedError, OutputError
from vision_ift._export.export import export
from vision_ift._export.manifest import LOCK
from vision_ift._plan.plan import Plan

SHARD = 20_000

_OURS = """
import pickle, sys
from pathlib import Path
from vision_ift._export.export import export
plan = pickle.loads(Path(sys.argv[1]).read_bytes())
print("ready", flush=True)
export(plan, out=sys.argv[2], shard_bytes=20_000, jobs=int(sys.argv[3]))
"""

# How it is often done: straight to the final name, and on again where a file is missing.
_NAIVE = """
import pickle, sys, tarfile, io, time
from pathlib import Path
plan = pickle.loads(Path(sys.argv[1]).read_bytes())
out = Path(sys.argv[2])
out.mkdir(exist_ok=True)
print("ready", flush=True)
for number in range(10):
    path = out / f"{number}.tar"
    if path.exists():
        continue
    with tarfile.open(path, "w") as tar:
        for row in plan.rows(number * 8, number * 8 + 8).to_pylist():
            for place, image in enumerate(row["images"]):
                data = (plan.root / image["path"]).read_bytes()
                member = tarfile.TarInfo(f"{row['id']}.{place}.jpg")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    found = small_plan(tmp_path)
    (tmp_path / "plan").write_bytes(pickle.dumps(found))
    return found


def start(code: str, tmp_path: Path, out: Path, jobs: int = 1) -> subprocess.Popen[bytes]:
    """Start an export in a process of its own; it is about to write when this returns."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "plan"), str(out), str(jobs)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def finish(process: subprocess.Popen[bytes]) -> float:
    """Wait for an export and say how long it took from here, in seconds."""
    began = time.monotonic()
    process.communicate(timeout=120)
    assert process.returncode == 0
    return time.monotonic() - began


def killed_and_resumed(code: str, tmp_path: Path, *, kills: int, jobs: int = 1) -> tuple[int, bool]:
    """Kill an export at random moments, then let it end: kills that hit, and if it is right."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    seconds = finish(start(code, tmp_path, whole, jobs))
    chance = random.Random(7)
    hits = 0
    for _ in range(kills):
        process = start(code, tmp_path, out, jobs)
        time.sleep(chance.uniform(0, 0.7 * seconds))
        hits += process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if not (out / "vision_ift/manifest.json").exists():
            continue
        shutil.rmtree(out)  # it had ended: begin anew
    finish(start(code, tmp_path, out, jobs))
    return hits, tree(out) == tree(whole)


def test_a_killed_export_goes_on_to_the_same_bytes(plan: Plan, tmp_path: Path) -> None:
    hits, right = killed_and_resumed(_OURS, tmp_path, kills=6)
    assert hits >= 3
    assert right


def test_a_killed_export_of_several_processes_goes_on(plan: Plan, tmp_path: Path) -> None:
    _, right = killed_and_resumed(_OURS, tmp_path, kills=2, jobs=2)
    assert right


def test_the_same_kills_spoil_a_naive_export(plan: Plan, tmp_path: Path) -> None:
    wrong = 0
    for attempt in range(4):
        place = tmp_path / str(attempt)
        place.mkdir()
        shutil.copy(tmp_path / "plan", place)
        _, right = killed_and_resumed(_NAIVE, place, kills=1)
        wrong += not right
        if wrong:
            return
    pytest.fail("the kills of this file hit nothing, so they prove nothing")


def test_any_failing_call_leaves_an_export_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = small_plan(tmp_path, rows=8)
    calls = limit = 0

    def fail_at_limit(real: Callable[..., Any], error: int) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == limit:
                raise OSError(error, os.strerror(error))
            return real(*arguments)

        return call

    monkeypatch.setattr(os, "fsync", fail_at_limit(os.fsync, errno.EIO))
    monkeypatch.setattr(os, "write", fail_at_limit(os.write, errno.ENOSPC))
    monkeypatch.setattr(Path, "replace", fail_at_limit(Path.replace, errno.EIO))
    export(plan, out=tmp_path / "whole", shard_bytes=SHARD)
    whole = tree(tmp_path / "whole")
    shards = members(tmp_path / "whole")
    most = calls
    assert most > 60
    for failing in range(1, most + 1, most // 20):
        calls, limit = 0, failing
        out = tmp_path / f"out-{failing}"
        with pytest.raises(DiskError, match=str(out)):
            export(plan, out=out, shard_bytes=SHARD)
        # What has a final name is whole, and nothing else is left.
        assert all(found == shards[key] for key, found in members(out).items())
        assert not list(out.rglob("*.tmp"))
        limit = 0
        export(plan, out=out, shard_bytes=SHARD)
        assert tree(out) == whole


def test_a_full_disk_is_said_and_survived(plan: Plan, tmp_path: Path) -> None:
    export(plan, out=tmp_path / "whole", shard_bytes=SHARD)
    sizes = sorted(path.stat().st_size for path in (tmp_path / "whole").rglob("*.tar"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    out = tmp_path / "out"
    index, sqlite = (
        (tmp_path / "whole" / name).stat().st_size
        for name in ("vision_ift/index.arrow", ".nv-meta/index.sqlite")
    )
    assert sizes[-1] < index < sqlite
    for limit in (0, 600, sizes[0] - 1, sizes[-1] - 512, index - 1, sqlite - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            export(plan, out=out, shard_bytes=SHARD)
        except DiskError as error:
            message = str(error)
        else:
            message = "went through"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert " failed: " in message
        assert str(out) in message
        assert "goes on where it stopped" in message
        assert {path.stat().st_size for path in out.glob("*.tar")} <= set(sizes)
        assert not list(out.rglob("*.tmp"))
    export(plan, out=out, shard_bytes=SHARD)
    assert tree(out) == tree(tmp_path / "whole")


def test_too_little_space_is_said_before_the_first_byte(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=60_000))
    with pytest.raises(DiskError, match=r"needs about \d{3},\d{3} bytes more, and 60,000 are free"):
        export(plan, out=tmp_path / "out", shard_bytes=SHARD)
    assert not list((tmp_path / "out").glob("*.tar"))
    monkeypatch.undo()
    report = export(plan, out=tmp_path / "out", shard_bytes=SHARD)
    assert report.rows == len(plan)


def test_a_second_writer_leaves_at_once(plan: Plan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "vision_ift").mkdir(parents=True)
    with locked(out / LOCK), pytest.raises(LockedError, match=f"process {os.getpid()} on "):
        export(plan, out=out)
    assert list(tree(out)) == ["vision_ift/.lock"]
    export(plan, out=out)
    with locked(out / LOCK):  # a finished export needs nobody's leave
        export(plan, out=out)


def test_a_picture_of_another_size_stops_a_resumed_export(plan: Plan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(plan, out=out, shard_bytes=SHARD)
    (out / "vision_ift/manifest.json").unlink()
    (out / "train-000001.tar").unlink()
    (plan.root / "a/7.jpg").write_bytes(picture(7) + b"more" * 200)
    with pytest.raises(OutputError, match="have changed since the export"):
        export(plan, out=out, shard_bytes=SHARD)


def test_a_shard_is_not_written_again_from_other_pictures(plan: Plan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(plan, out=out, shard_bytes=SHARD)
    whole = tree(out)
    (out / "train-000001.tar").unlink()
    originals = {path: path.read_bytes() for path in (plan.root / "a").iterdir()}
    for path, data in originals.items():
        path.write_bytes(data[:-1] + b"!")
    with pytest.raises(IntegrityError, match="have changed since"):
        export(plan, out=out, shard_bytes=SHARD)
    assert not (out / "train-000001.tar").exists()
    for path, data in originals.items():
        path.write_bytes(data)
    export(plan, out=out, shard_bytes=SHARD)
    assert tree(out) == whole
