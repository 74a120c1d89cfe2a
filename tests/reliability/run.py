"""Try every promise all the way and write RELIABILITY.md.

    python -m tests.reliability.run                  the full counts (about half an hour)
    python -m tests.reliability.run --scale 0.25     a quarter of them

Needs root, strace, e2fsprogs and libfiu; what the machine lacks is an error, for a table with holes
would look whole.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import math
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

from tests.reliability.nursery import FIU, Nursery
from tests.reliability.outcome import Outcome
from tests.reliability.world import World

TOP = Path(__file__).parent.parent.parent

#: Module to its count at full scale; of ``syscalls`` the distance between calls that are struck.
FULL = {
    "kills": 500,
    "ranks": 60,
    "syscalls": 1,
    "power": 200,
    "disk": 20,
    "writers": 100,
    "damage": 1000,
    "readers": 10_000,
    "background": 200,
    "cursors": 100,
    "builds": 100,
}

_NEEDED = ("strace", "mkfs.ext4", "mount", "fiu-run")


def _count(name: str, scale: float) -> int:
    if name == "syscalls":
        return max(1, round(1 / scale))
    return max(4, math.ceil(FULL[name] * scale))


def try_one(name: str, scale: float) -> tuple[str, list[Outcome], float]:
    """Try what one module promises, in a world of its own."""
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp())
    try:
        with Nursery(folder / "logs") as nursery:
            module = importlib.import_module(f"tests.reliability.{name}")
            world = (getattr(module, "small", None) or World)(folder, nursery)
            return name, module.trials(world, _count(name, scale)), time.monotonic() - began
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_PAGE = """\
# Reliability

Every promise below was tried by making the fault happen, on real files and processes, and comparing
the bytes with those of a run that nothing disturbed. Beside each stands a control: the way it is
often written, under the same faults. A test whose control is not caught fails, for it would prove
nothing.

| promise | how it was tried | trials | failures | controls: caught of trials |
| --- | --- | ---: | ---: | --- |
{rows}
{broken}
## Made by

    python -m tests.reliability.run --scale {scale:g}

in {minutes} minutes on {date}, at commit {commit}. `make reliability` runs the full counts (scale
1): {full}, and every system call. The tests run a short form of each.

Python {python}, Linux {linux}, strace {strace}, {versions}.

## Not promised

* NFS, FUSE and object stores have other rules for renames and locks than the local file systems
  tried here (ext4 and tmpfs).
* A drive that says it has written what it has not.
* Somebody who may write to the folder and means harm.
* Without its manifest an export is unfinished: readers and `verify` say so, and the export command
  makes it again from the records.
"""


def page(found: dict[str, list[Outcome]], scale: float, seconds: float) -> str:
    """Write RELIABILITY.md."""
    rows = [_row(one) for name in FULL for one in found.get(name, [])]
    broken = [
        f"* `{name}`: {' '.join(text.split())[:300]}"
        for name in FULL
        for one in found.get(name, [])
        for text in one.broken[:5]
    ]
    commit = _said("git", "rev-parse", "--short=12", "HEAD") or "unknown"
    if _said("git", "status", "--porcelain", "--", "vision_ift", "builders", "tests/reliability"):
        commit += ", with changes that were not committed"
    packages = ("vision_ift", "pyarrow", "numpy", "webdataset", "duckdb", "msgspec", "xxhash")
    return _PAGE.format(
        rows="\n".join(rows),
        broken="\n".join(["\n## What failed\n", *broken, ""]) if broken else "",
        scale=scale,
        minutes=math.ceil(seconds / 60),
        date=datetime.datetime.now(datetime.UTC).date(),
        commit=commit,
        full=", ".join(f"{name} {count:,}" for name, count in FULL.items() if name != "syscalls"),
        python=platform.python_version(),
        linux=platform.release().partition("-")[0],
        strace=_said("strace", "--version").partition("\n")[0].rpartition(" ")[2],
        versions=", ".join(f"{name} {version(name)}" for name in packages),
    )


def _row(one: Outcome) -> str:
    controls = "; ".join(
        f"{control.what}: {control.failures:,} of {control.trials:,}" for control in one.controls
    )
    cells = (one.promise, one.tried, f"{one.trials:,}", f"{one.failures:,}", controls or "-")
    return f"| {' | '.join(cells)} |"


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, cwd=TOP).stdout.strip()


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=TOP / "RELIABILITY.md")
    parser.add_argument("only", nargs="*", choices=[[], *FULL], help="these modules alone")
    asked = parser.parse_args()
    lacking = [name for name in _NEEDED if shutil.which(name) is None]
    if lacking or not FIU.exists():
        sys.exit(f"this machine lacks {', '.join(lacking) or 'libfiu'}")
    began = time.monotonic()
    found: dict[str, list[Outcome]] = {}
    with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn")) as pool:
        tasks = [pool.submit(try_one, name, asked.scale) for name in asked.only or FULL]
        for task in as_completed(tasks):
            name, outcomes, seconds = task.result()
            found[name] = outcomes
            failures = sum(one.failures for one in outcomes)
            caught = all(control.holds for one in outcomes for control in one.controls)
            _say(f"{name}: {failures} failures, controls {caught}, {seconds:.0f} s")
    asked.out.write_text(page(found, asked.scale, time.monotonic() - began), "utf-8")
    bad = [
        one
        for outcomes in found.values()
        for one in outcomes
        if one.failures or not one.trials or not all(control.holds for control in one.controls)
    ]
    for one in bad:
        _say(f"broken: {one}")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
