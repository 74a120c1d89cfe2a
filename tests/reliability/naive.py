"""Writers as they are often written. Each one does something wrong that a fault test must catch."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vision_ift._plan.plan import Plan

#: Rows a shard.
_ROWS = 12

#: How long a member takes, in seconds, as on a disk that is slower than memory: so most of a run's
#: time is time in which a fault can do harm, and a trial that strikes at random does not miss it.
_MEMBER_SECONDS = 0.0006


def _shards(plan_path: str, out: str) -> Iterator[tuple[Path, Plan, int]]:
    plan: Plan = pickle.loads(Path(plan_path).read_bytes())
    folder = Path(out)
    folder.mkdir(exist_ok=True)
    for number, start in enumerate(range(0, len(plan), _ROWS)):
        yield folder / f"{number:06d}.tar", plan, start


def _fill(file: Any, plan: Plan, start: int) -> None:
    rows = plan.rows(start, min(start + _ROWS, len(plan))).to_pylist()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for place, row in enumerate(rows, start):
            members = {"json": row["meta"].encode()}
            for number, image in enumerate(row["images"]):
                members[f"{number}.jpg"] = (plan.root / image["path"]).read_bytes()
            for ending, data in members.items():
                member = tarfile.TarInfo(f"{place:06d}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
                time.sleep(_MEMBER_SECONDS)


def plain(plan_path: str, out: str) -> None:
    """Straight to the final name; a file that is there is taken for finished."""
    for path, plan, start in _shards(plan_path, out):
        if not path.exists():
            with path.open("wb") as file:
                _fill(file, plan, start)


def unsynced(plan_path: str, out: str) -> None:
    """A temporary name and a rename, but no fsync."""
    for path, plan, start in _shards(plan_path, out):
        if not path.exists():
            temporary = path.with_suffix(".tmp")
            with temporary.open("wb") as file:
                _fill(file, plan, start)
            temporary.replace(path)


def unsynced_folder(plan_path: str, out: str) -> None:
    """A temporary name, fsync and a rename, but no fsync of the folder."""
    for path, plan, start in _shards(plan_path, out):
        if not path.exists():
            temporary = path.with_suffix(".tmp")
            with temporary.open("wb") as file:
                _fill(file, plan, start)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)


def record_first(plan_path: str, out: str) -> None:
    """Says that a shard is done before it has its name."""
    for path, plan, start in _shards(plan_path, out):
        done = path.with_suffix(".done")
        if not done.exists():
            temporary = path.with_suffix(".tmp")
            with temporary.open("wb") as file:
                _fill(file, plan, start)
                file.flush()
                os.fsync(file.fileno())
            done.touch()
            temporary.replace(path)


def deaf(plan_path: str, out: str) -> None:
    """Goes on when a call fails: with what was written, and after an fsync that failed."""
    for path, plan, start in _shards(plan_path, out):
        if path.exists():
            continue
        temporary = path.with_suffix(".tmp")
        try:
            with temporary.open("wb") as file:
                _fill(file, plan, start)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            pass
        with contextlib.suppress(OSError):
            temporary.replace(path)


def shared_name(plan_path: str, out: str) -> None:
    """Writes whole shards, but any two writers use one temporary name, and there is no lock."""
    for path, plan, start in _shards(plan_path, out):
        if not path.exists():
            temporary = path.with_suffix(".tmp")
            with temporary.open("wb") as file:
                _fill(file, plan, start)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)


def lock_file(plan_path: str, out: str) -> None:
    """Locks by a file that only its owner removes."""
    folder = Path(out)
    folder.mkdir(exist_ok=True)
    lock = folder / "lock"
    os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
    shared_name(plan_path, out)
    lock.unlink()


def in_place(plan_path: str, out: str) -> None:
    """Writes every shard over the one of its name."""
    for path, plan, start in _shards(plan_path, out):
        with path.open("wb") as file:
            _fill(file, plan, start)


def table(root: str, out: str) -> None:
    """Builds a table part by part under final names; a part that is there is taken for finished."""
    records = json.loads((Path(root) / "chat.json").read_bytes())
    folder = Path(out)
    folder.mkdir(exist_ok=True)
    for number, start in enumerate(range(0, len(records), 3000)):
        path = folder / f"{number}.parquet"
        if not path.exists():
            part = pa.Table.from_pylist(records[start : start + 3000])
            with pq.ParquetWriter(path, part.schema) as writer:
                for first in range(0, len(part), 30):
                    writer.write_table(part.slice(first, 30))
                    time.sleep(_MEMBER_SECONDS)
