"""One plan, one digest: whatever is around an export, and however it is done."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.exports import small_plan
from tests.needs import needs
from vision_ift._export.export import export

SHARD = 20_000

# Golden digests of the shards: other ones here mean that every export would be written anew.
GOLDEN = {
    (False, True): "49139701d3cf7e981e35b91f4f8732b8",
    (False, False): "622a0f3f262e5367047cb47766e1bb00",
    (True, True): "58f3bf4051701c49b36bb04e1d97c60a",
}


@pytest.mark.parametrize(("uniform", "text"), GOLDEN)
def test_a_small_export_has_these_bytes(uniform: bool, text: bool, tmp_path: Path) -> None:
    report = export(
        small_plan(tmp_path), out=tmp_path / "out", shard_bytes=40_000, uniform=uniform, text=text
    )
    assert report.export_digest == GOLDEN[uniform, text]


# Several exports in each process, as starting one takes longer than they do; each with other jobs
# or ranks, another umask and folder, and workers that are late at random.
_RUNS = """
import json, os, pickle, random, sys, time
from dataclasses import replace
from pathlib import Path
import vision_ift._export.export as _export

write, seed = _export._write_one, os.getpid()

def late(*arguments):
    time.sleep(random.Random(seed).uniform(0, 0.05))
    return write(*arguments)

_export._write_one = late

if __name__ == "__main__":
    plan = pickle.loads(Path(sys.argv[1]).read_bytes())
    root, base = Path(sys.argv[2]), Path(sys.argv[3])
    for number, (jobs, ranks, mask, uniform) in enumerate(json.loads(sys.argv[4])):
        os.umask(mask)
        (base / f"cwd {number}").mkdir()
        os.chdir(base / f"cwd {number}")
        where = root if number % 2 else Path(os.path.relpath(root))
        for rank in random.sample(range(ranks), ranks) if ranks else [None]:
            _export.export(
                replace(plan, root=where), out="shards", shard_bytes=20_000, jobs=jobs, rank=rank,
                world_size=ranks or None, uniform=uniform,
            )
"""

# The control: the same rows by tarfile, keys in a set, times of the clock, as it is often done.
_NAIVE = """
import io, json, os, pickle, sys, tarfile
from pathlib import Path
plan = pickle.loads(Path(sys.argv[1]).read_bytes())
out = Path(sys.argv[3]) / "cwd 0/shards"
out.mkdir(parents=True)
with tarfile.open(out / "train-000000.tar", "w") as tar:
    for row in plan.rows(0, 8).to_pylist():
        data = json.dumps({name: str(row[name]) for name in set(row)}).encode()
        member = tarfile.TarInfo(f"{row['id']}.json")
        member.size, member.mtime = len(data), int(__import__("time").time())
        tar.addfile(member, io.BytesIO(data))
"""

_AROUND = [
    {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "Asia/Tokyo"},
    {"PYTHONHASHSEED": "2", "LC_ALL": "C.UTF-8", "TZ": "UTC", "LANG": "tr_TR.UTF-8"},
    {"PYTHONHASHSEED": "3", "LC_ALL": "POSIX", "TZ": "America/St_Johns", "PYTHONUTF8": "1"},
    {"PYTHONHASHSEED": "random", "TZ": "Pacific/Kiritimati", "OMP_NUM_THREADS": "1"},
]


def digest(folder: Path) -> str:
    """One digest of a tree: names and bytes, of SQLite's file what it holds."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found.update(path.relative_to(folder).as_posix().encode())
            if path.name == "index.sqlite":
                with closing(sqlite3.connect(path)) as database:
                    for line in database.iterdump():
                        found.update(line.encode())
            else:
                found.update(path.read_bytes())
    return found.hexdigest()


def run_around(code: str, tmp_path: Path, runs: list[tuple[int, int, int, bool]]) -> list[Path]:
    """Do these exports in each of several surroundings; give the folders that were written."""
    script = tmp_path / "runs.py"
    script.write_text(code)
    waiting = []
    for number, around in enumerate(_AROUND):
        base = tmp_path / f"base{number}" / ("deep/" * number)
        base.mkdir(parents=True)
        root = tmp_path / f"root{number}"
        shutil.copytree(tmp_path / "root", root)
        for path in root.rglob("*"):
            os.utime(path, (number * 10**8, time.time() - number * 12_345))
        command = [sys.executable, str(script), str(tmp_path / "plan"), str(root), str(base)]
        if number % 2:
            command = ["faketime", "2031-02-03 04:05:06", *command]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), **around}
        waiting.append(subprocess.Popen([*command, json.dumps(runs)], env=environment))
    assert [process.wait(timeout=300) for process in waiting] == [0] * len(waiting)
    return [
        path
        for number in range(len(_AROUND))
        for path in (tmp_path / f"base{number}").rglob("shards")
    ]


@needs(commands=("faketime",))
def test_one_digest_whatever_is_around(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    (tmp_path / "plan").write_bytes(pickle.dumps(plan))
    runs = [
        (1, 0, 0o022, False),
        (2, 0, 0o077, False),
        (1, 3, 0o002, False),
        (1, 2, 0o027, False),
        (1, 0, 0o077, True),
        (1, 3, 0o022, True),
    ]
    export(plan, out=tmp_path / "ragged", shard_bytes=SHARD)
    export(plan, out=tmp_path / "uniform", shard_bytes=SHARD, uniform=True)
    found = run_around(_RUNS, tmp_path, runs)
    assert len(found) == 24
    digests: dict[bool, set[str]] = {False: set(), True: set()}
    for path in found:
        layout = json.loads((path / "vision_ift/layout.json").read_bytes())
        digests[layout["uniform"]].add(digest(path))
    assert digests == {
        False: {digest(tmp_path / "ragged")},
        True: {digest(tmp_path / "uniform")},
    }


@needs(commands=("faketime",))
def test_the_same_surroundings_show_in_a_naive_export(tmp_path: Path) -> None:
    (tmp_path / "plan").write_bytes(pickle.dumps(small_plan(tmp_path)))
    found = run_around(_NAIVE, tmp_path, [(1, 0, 0o022, False)])
    assert len({digest(path) for path in found}) > 1
