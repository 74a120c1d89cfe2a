"""Time the making of a plan: ours, map-style `datasets`, and the bare write of the answer.

    python bench/plan.py [--rows 10000000] [--runs 3] [--json FILE]

Every measurement is a fresh process on one core, and the contestants take turns, so that a busy
machine troubles all of them. Imports and the peer's datasets are made before the clock starts.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHARES = (50, 25, 15, 10)  # percent
CHUNK_ROWS = 2**20
FAR_ROWS = 10**9
MILLION = 10**6


def split_rows(rows: int) -> list[int]:
    """Cut a number of rows in the four shares, exactly."""
    sizes = [rows * share // 100 for share in SHARES]
    sizes[0] += rows - sum(sizes)
    return sizes


def plan_ours(rows: int) -> Callable[[], int]:
    """Write (int32 source, int64 row) of a whole plan to a file, a chunk at a time."""
    from vision_ift._plan.order import Order
    from vision_ift._plan.permute import Permutation, deal

    names, sizes = [f"source_{k}" for k in range(len(SHARES))], split_rows(rows)

    def work() -> int:
        order = Order(names, sizes, seed=17)
        permutations = [
            Permutation(name, size, seed=17) for name, size in zip(names, sizes, strict=True)
        ]
        with tempfile.TemporaryFile() as file:
            for start in range(0, rows, CHUNK_ROWS):
                for column in deal(order, permutations, start, min(start + CHUNK_ROWS, rows)):
                    file.write(column)
        return rows

    return work


def write_only(rows: int) -> Callable[[], int]:
    """Write as many bytes as the plan has, known beforehand: no plan on file can be faster."""
    import numpy as np

    columns = [np.ones(CHUNK_ROWS, dtype=kind) for kind in (np.int32, np.int64)]

    def work() -> int:
        with tempfile.TemporaryFile() as file:
            for start in range(0, rows, CHUNK_ROWS):
                for column in columns:
                    file.write(column[: rows - start])
        return rows

    return work


def plan_datasets(rows: int, strategy: str) -> Callable[[], int]:
    """Make the index mapping of `interleave_datasets`, which is its plan.

    The four datasets are as large as their probabilities, so that an epoch reads each about once,
    as in our plan. `all_exhausted_without_replacement` is the form that promises what ours does:
    every row once. It is a loop over rows that takes minutes for ten million, so it gets a
    fortieth of the rows. `first_exhausted` promises less (it stops when one source ends, so a few
    thousand rows stay unread) but is the peer's fastest form, all in vectors, and therefore the
    one to compare with. Ratios are per row that is planned. Both leave the rows of a source in
    their first order, keep the mapping in memory and write no file: less work than ours does, and
    counted as if it were the same.
    """
    import numpy as np
    from datasets import Dataset, interleave_datasets

    datasets = [Dataset.from_dict({"n": np.zeros(n, dtype=np.int8)}) for n in split_rows(rows)]
    probabilities = [share / 100 for share in SHARES]

    def work() -> int:
        mixed = interleave_datasets(
            datasets, probabilities=probabilities, seed=17, stopping_strategy=strategy
        )
        return len(mixed)

    return work


CONTESTANTS: dict[str, Callable[[int], Callable[[], int]]] = {
    "vision_ift": plan_ours,
    "datasets, first_exhausted": lambda rows: plan_datasets(rows, "first_exhausted"),
    "datasets, without_replacement": lambda rows: plan_datasets(
        rows // 40, "all_exhausted_without_replacement"
    ),
    "writing the bytes": write_only,
}


def measure_plan(name: str, rows: int) -> dict[str, float]:
    """Run one contestant in this process."""
    work = CONTESTANTS[name](rows)
    ready = peak_mib()
    start = time.perf_counter()
    planned = work()
    seconds = time.perf_counter() - start
    peak = peak_mib()
    return {"rows": planned, "seconds": seconds, "peak_mib": peak, "grown_mib": peak - ready}


def measure_access(sources: int) -> dict[str, float]:
    """Open a plan of 10**9 rows and slice a million of them at several places."""
    from vision_ift._plan.order import Order
    from vision_ift._plan.permute import Permutation, deal

    names = [f"source_{k}" for k in range(sources)]
    if sources == len(SHARES):
        weights = sizes = split_rows(FAR_ROWS)
    else:  # zipf weights over sources of 10**7 down to 10**3 rows, each read many times
        total = sum(1 / (k + 1) for k in range(sources))
        weights = [int(FAR_ROWS / total / (k + 1)) for k in range(sources)]
        weights[0] += FAR_ROWS - sum(weights)
        sizes = [int(10 ** (7 - 4 * k / (sources - 1))) for k in range(sources)]

    def open_plan() -> tuple[Order, list[Permutation]]:
        return Order(names, weights, seed=17), [
            Permutation(name, size, seed=17) for name, size in zip(names, sizes, strict=True)
        ]

    tracemalloc.start()
    open_plan()
    opened_kib = tracemalloc.get_traced_memory()[1] / 1024
    tracemalloc.stop()
    clock = time.perf_counter
    start = clock()
    order, permutations = open_plan()
    numbers = {"open_ms": 1000 * (clock() - start), "open_kib": opened_kib}
    for label, first in (
        ("the first", 0),
        ("the next", MILLION),
        ("in the middle", FAR_ROWS // 2),
        ("the last", FAR_ROWS - MILLION),
        ("at 9e11", 9 * 10**11),
    ):
        start = clock()
        deal(order, permutations, first, first + MILLION)
        numbers[f"1M {label}, ms"] = 1000 * (clock() - start)
    start = clock()
    order.at(FAR_ROWS // 3)
    return {**numbers, "at, ms": 1000 * (clock() - start)}


def peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def run_child(kind: str, what: str, rows: int) -> dict[str, float]:
    """Measure in a fresh process."""
    command = [sys.executable, __file__, "--child", kind, what, "--rows", str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{kind} {what} failed:\n{done.stderr}")
    numbers: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return numbers


def describe_machine() -> dict[str, Any]:
    """Say what the numbers were measured with and on."""
    cpu = platform.processor()
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        models = [
            line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = models[0].partition(":")[2].strip() if models else cpu
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("numpy", "datasets", "pyarrow")},
        },
        "machine": {"cores": os.cpu_count(), "cpu": cpu, "system": platform.system()},
    }


def summarise(runs: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Take median, least and most of every number over the runs."""
    return {
        key: {
            "median": statistics.median(run[key] for run in runs),
            "least": min(run[key] for run in runs),
            "most": max(run[key] for run in runs),
        }
        for key in runs[0]
    }


def print_plans(plans: dict[str, dict[str, dict[str, float]]]) -> None:
    head = (
        "plan to a file",
        "rows",
        "s",
        "least-most",
        "M rows/s",
        "peak MiB",
        "grown",
        "time/row",
    )
    print("{:30} {:>11} {:>7} {:>13} {:>9} {:>9} {:>7} {:>9}".format(*head))
    ours = plans["vision_ift"]["seconds"]["median"] / plans["vision_ift"]["rows"]["median"]
    for name, numbers in plans.items():
        rows, seconds = numbers["rows"]["median"], numbers["seconds"]
        spread = f"{seconds['least']:.2f}-{seconds['most']:.2f}"
        print(
            f"{name:30} {rows:11,.0f} {seconds['median']:7.2f} {spread:>13}"
            f" {rows / seconds['median'] / 1e6:9.2f} {numbers['peak_mib']['median']:9.0f}"
            f" {numbers['grown_mib']['median']:7.0f} {seconds['median'] / rows / ours:8.2f}x"
        )


def print_access(access: dict[str, dict[str, dict[str, float]]]) -> None:
    columns = list(access)
    print(
        f"\n{'plan of 10**9 rows':30}" + "".join(f"{column + ' sources':>24}" for column in columns)
    )
    for key in access[columns[0]]:
        cells = [
            "{median:.2f} ({least:.2f}-{most:.2f})".format(**access[column][key])
            for column in columns
        ]
        print(f"{key:30}" + "".join(f"{cell:>24}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=10**7)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        kind, what = options.child
        numbers = measure_plan(what, options.rows) if kind == "plan" else measure_access(int(what))
        print(json.dumps(numbers))
        return
    plan_runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
    access_runs: dict[str, list[dict[str, float]]] = {"4": [], "200": []}
    for _ in range(options.runs):
        for name, runs in plan_runs.items():
            runs.append(run_child("plan", name, options.rows))
        for sources, runs in access_runs.items():
            runs.append(run_child("access", sources, FAR_ROWS))
    plans = {name: summarise(runs) for name, runs in plan_runs.items()}
    access = {sources: summarise(runs) for sources, runs in access_runs.items()}
    print_plans(plans)
    print_access(access)
    if options.json:
        record = {
            "command": f"python bench/plan.py --rows {options.rows} --runs {options.runs}",
            **describe_machine(),
            "plans": plans,
            "access": access,
        }
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
