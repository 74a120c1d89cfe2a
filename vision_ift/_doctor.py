"""What this machine brings to a build and to training: one look, nothing kept.

The tables' folder is tried with a file of its own, of at most 64 MB, which is removed again.
Tokens are only looked for; their value is never read into an answer.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal

import msgspec

from vision_ift._build import default_root, default_tables, describe_inputs
from vision_ift._disk import explained
from vision_ift._errors import MissingInputError, VisionIFTError
from vision_ift._sources import Standing, stand

State = Literal["ok", "warning", "problem"]

#: Packages of which another version may write other bytes.
DECIDING = (
    "vision_ift",
    "pyarrow",
    "pillow",
    "numpy",
    "datasets",
    "duckdb",
    "msgspec",
    "xxhash",
    "pycocotools",
    "webdataset",
    "huggingface_hub",
    "ruamel.yaml",
)

#: Below so much free space a build of anything real fails; below the second it may.
_LEAST_FREE, _SOME_FREE = 1 << 30, 20 << 30
_LEAST_MEMORY = 2 << 30
_LEAST_SHARED = 1 << 30
_LEAST_FILES, _SOME_FILES = 256, 4096

_TRIAL_BYTES = 64 << 20
_TRIAL_SECONDS = 5.0
_TRIAL_SYNCS = 16


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at.

    Attributes:
        name: What it is.
        state: ``problem`` where a build would stop, ``warning`` where it may hurt.
        value: What was found, for a person.
        hint: What to do about it.
        data: The same as numbers or words, for scripts.
    """

    name: str
    value: str
    state: State = "ok"
    hint: str = ""
    data: dict[str, Any] = {}


def examine(*, root: Path | str | None = None, tables: Path | str | None = None) -> list[Finding]:
    """Look at this machine: packages, memory, limits, disks, and what lies under ROOT.

    Args:
        root, tables: As for :func:`vision_ift.build`.
    """
    where = Path(root).expanduser() if root is not None else default_root()
    folder = Path(tables).expanduser() if tables is not None else default_tables()
    return [
        *_packages(),
        *_extras(),
        *_machine(),
        *_limits(),
        _token(),
        _space("space for tables", folder, needed=True),
        _space("space under ROOT", where, needed=False),
        _space("space for the cache of datasets", _datasets_cache(), needed=False),
        _trial(folder),
        *_root(where, folder),
    ]


def _packages() -> list[Finding]:
    """The packages that decide bytes, and whether all that are required are installed."""
    found = [Finding(name="python", value=sys.version.split()[0])]
    needed = {
        _package_name(line) for line in requires("vision_ift") or () if "extra ==" not in line
    }
    for name in dict.fromkeys((*DECIDING, *sorted(needed))):
        try:
            found.append(Finding(name=name, value=version(name)))
        except PackageNotFoundError:
            found.append(
                Finding(
                    name=name,
                    value="not installed",
                    state="problem" if name in DECIDING else "warning",
                    hint=f"pip install {name}",
                )
            )
    return found


def _extras() -> list[Finding]:
    """Which optional extras are installed as a whole."""
    extras: dict[str, list[str]] = {}
    for line in requires("vision_ift") or ():
        requirement, mark, condition = line.partition("extra ==")
        name = condition.strip().strip("\"'")
        if mark and name != "all":
            extras.setdefault(name, []).append(_package_name(requirement))
    found = []
    for name, packages in sorted(extras.items()):
        missing = [one for one in packages if not _installed(one)]
        found.append(
            Finding(
                name=f"extra {name}",
                value=f"{', '.join(missing)} not installed" if missing else "installed",
                hint=f"pip install 'vision_ift[{name}]'" if missing else "",
                data={"installed": not missing},
            )
        )
    return found


def _package_name(requirement: str) -> str:
    name = requirement
    for mark in " <>=!~;[(":
        name = name.partition(mark)[0]
    return name


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _machine() -> list[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    bound = _memory_limit()
    usable = min(memory, bound) if bound else memory
    low = usable < _LEAST_MEMORY
    return [
        Finding(name="cores", value=f"{cores}", data={"count": cores or 1}),
        Finding(
            name="memory",
            value=_size(usable) + (f" of {_size(memory)}, by a limit" if usable < memory else ""),
            state="warning" if low else "ok",
            hint="give --jobs 1" if low else "",
            data={"bytes": usable},
        ),
    ]


def _memory_limit() -> int:
    """The limit of the container that we run in, in bytes; 0 where there is none."""
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            return int(Path("/sys/fs/cgroup", file).read_text("ascii"))
    return 0


def _limits() -> list[Finding]:
    """Open files and shared memory: what DataLoader workers run out of first."""
    files, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = files == resource.RLIM_INFINITY
    state: State = "ok"
    if not unlimited and files < _SOME_FILES:
        state = "problem" if files < _LEAST_FILES else "warning"
    found = [
        Finding(
            name="open files",
            value="no limit" if unlimited else f"{files:,}",
            state=state,
            hint=f"ulimit -n {min(hard, 65536) if hard > 0 else 65536}" if state != "ok" else "",
            data={"limit": files},
        )
    ]
    shared = Path("/dev/shm")  # noqa: S108 - its size is asked for, nothing is put there
    if shared.is_dir():
        total = shutil.disk_usage(shared).total
        low = total < _LEAST_SHARED
        found.append(
            Finding(
                name="shared memory",
                value=_size(total),
                state="warning" if low else "ok",
                hint="DataLoader workers pass batches through it: docker run --shm-size=8g"
                if low
                else "",
                data={"bytes": total},
            )
        )
    return found


def _token() -> Finding:
    given = bool(os.environ.get("HF_TOKEN"))
    return Finding(
        name="HF_TOKEN",
        value="set" if given else "not set",
        hint="" if given else "only sources whose authors ask for an account need it",
        data={"set": given},
    )


def _datasets_cache() -> Path:
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface")
    return Path(os.environ.get("HF_DATASETS_CACHE") or home / "datasets").expanduser()


def _existing(path: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def _space(name: str, path: Path, *, needed: bool) -> Finding:
    try:
        free = shutil.disk_usage(_existing(path)).free
    except OSError as error:
        return Finding(name=name, value=f"{path}: {error.strerror}", state="warning")
    state: State = "ok"
    if needed and free < _SOME_FREE:
        state = "problem" if free < _LEAST_FREE else "warning"
    return Finding(
        name=name,
        value=f"{_size(free)} free: {path}",
        state=state,
        hint="free some, or name another folder with --tables" if state != "ok" else "",
        data={"bytes_free": free, "path": str(path)},
    )


def _trial(folder: Path) -> Finding:
    """Write a file into the tables' folder and take it away again: speed and time of a sync."""
    name = "writing tables"
    missing = [one for one in (folder, *folder.absolute().parents) if not one.exists()]
    try:
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                speed, sync = _measure(folder)
            finally:  # a look leaves nothing behind
                for one in missing:
                    with contextlib.suppress(OSError):
                        one.rmdir()
    except VisionIFTError as error:
        return Finding(
            name=name,
            value=error.message,
            state="problem",
            hint=error.hint or "name another folder with --tables",
        )
    return Finding(
        name=name,
        value=f"{_size(int(speed))}/s, {sync * 1000:.1f} ms for a sync",
        data={"bytes_per_second": round(speed), "sync_seconds": round(sync, 6)},
    )


def _measure(folder: Path) -> tuple[float, float]:
    """Bytes a second of a written and synced file, and the median seconds of a small sync."""
    block = os.urandom(1 << 20)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
        start = time.perf_counter()
        written = 0
        while written < _TRIAL_BYTES and time.perf_counter() - start < _TRIAL_SECONDS:
            file.write(block)
            written += len(block)
        file.flush()
        os.fsync(file.fileno())
        speed = written / (time.perf_counter() - start)
        syncs = []
        for _ in range(_TRIAL_SYNCS):
            file.seek(0)
            file.write(block[:4096])
            file.flush()
            begin = time.perf_counter()
            os.fsync(file.fileno())
            syncs.append(time.perf_counter() - begin)
            if time.perf_counter() - start > 2 * _TRIAL_SECONDS:
                break
    return speed, sorted(syncs)[len(syncs) // 2]


def _root(root: Path, tables: Path) -> list[Finding]:
    """What lies under ROOT, source by source; a build of something must be possible."""
    if not root.is_dir():
        return [
            Finding(
                name="ROOT",
                value=f"there is no folder {root}",
                state="problem",
                hint="give --root or VISION_IFT_ROOT; vision-ift fetch SOURCE brings files",
            )
        ]
    found = [_source(one, root) for one in stand(root=root, tables=tables)]
    there = sum(bool(one.data["files"]) for one in found)
    whole = Finding(
        name="ROOT",
        value=f"{there} of {len(found)} sources can be built: {root}",
        state="ok" if there else "problem",
        hint="" if there else "vision-ift fetch SOURCE brings files, or says where they come from",
        data={"sources": there, "path": str(root)},
    )
    return [whole, *found]


def _source(standing: Standing, root: Path) -> Finding:
    """One source: the files that a build would read, and the parts that are not there."""
    name = f"source {standing.name}"
    try:
        inputs = describe_inputs(standing.name, root=root)
    except MissingInputError:
        return Finding(
            name=name,
            value="not there",
            hint=f"vision-ift fetch {standing.name}",
            data={"state": standing.state, "files": 0, "bytes": 0},
        )
    except VisionIFTError as error:
        return Finding(
            name=name,
            value=error.message,
            state="warning",
            hint=error.hint,
            data={"state": standing.state, "files": 0, "bytes": 0},
        )
    files = [size for size in inputs.values() if size >= 0]
    missing = f"; {len(standing.missing)} parts are missing" if standing.missing else ""
    return Finding(
        name=name,
        value=f"{len(files):,} files, {_size(sum(files))}{missing}",
        hint="vision-ift sources names them" if missing else "",
        data={"state": standing.state, "files": len(files), "bytes": sum(files)},
    )


def _size(count: int) -> str:
    """Write a number of bytes for a person.

    >>> _size(1_500_000)
    '1.5 MB'
    """
    amount = float(count)
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            return f"{amount:,.0f} {unit}" if unit == "bytes" else f"{amount:,.1f} {unit}"
        amount /= 1000
    raise AssertionError(count)
