"""How far mixes stray from their weights, and how long a large recipe takes to plan.

    python bench/mix.py [--rows 10000000] [--runs 3] [--json FILE]

Departures: for 4, 20 and 300 sources (Zipf's weights), the largest |count - n * share| of any
source over *all* prefixes of so many rows: ours, `interleave_datasets`, and one independent draw a
row, which is what Megatron Energon's blending does. Planning: a recipe with filters and per-task
caps over tables of 4.6 million rows. Every measurement is a fresh process on one core, contestants
take turns, and what they read is made before the clock starts.
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SOURCES = (4, 20, 300)
CHUNK_ROWS = 2**20
TABLES = {"coco_ift": 2_000_000, "vision_flan": 1_600_000, "mminstruct": 1_000_000}
RECIPE = """
name: bench
seed: 17
total: {rows}
mix:
  - {{source: coco_ift, weight: 4, where: "split = 'train' AND rounds >= 2"}}
  - {{source: vision_flan, weight: 3, cap_per_task: 5000}}
  - {{source: mminstruct, weight: 2, where: "language = 'en'", cap_per_task: 20000}}
"""

Chunks = Iterator[NDArray[Any]]


def zipf_weights(sources: int) -> list[int]:
    """1, 1/2, 1/3 … in whole numbers."""
    return [10**6 // (k + 1) for k in range(sources)]


def chunks_ours(rows: int, weights: list[int]) -> Chunks:
    from vision_ift._plan.order import Order

    order = Order([f"source_{k}" for k in range(len(weights))], weights, seed=17)
    for start in range(0, rows, CHUNK_ROWS):
        yield order.slice(start, min(start + CHUNK_ROWS, rows))[0]


def chunks_draws(rows: int, weights: list[int]) -> Chunks:
    """One independent draw a row; another seed than the peer's, whose draws are these."""
    edges = np.cumsum(np.array(weights) / sum(weights))
    generator = np.random.default_rng(18)
    for start in range(0, rows, CHUNK_ROWS):
        found = np.searchsorted(edges, generator.random(min(CHUNK_ROWS, rows - start)), "right")
        yield np.minimum(found, len(weights) - 1).astype(np.int32)


def chunks_datasets(rows: int, weights: list[int]) -> Chunks:
    """The index mapping of `interleave_datasets`; its sources are a little larger than it needs."""
    from datasets import Dataset, interleave_datasets

    total = sum(weights)
    sizes = [rows * weight // total * 51 // 50 + 30_000 for weight in weights]
    mixed = interleave_datasets(
        [Dataset.from_dict({"n": np.zeros(size, np.int8)}) for size in sizes],
        probabilities=[weight / total for weight in weights],
        seed=17,
        stopping_strategy="first_exhausted",
    )
    edges = np.cumsum(sizes)
    if len(mixed) < rows:
        sys.exit(f"interleave_datasets ends at {len(mixed):,} rows")
    places = mixed._indices.column(0)
    for start in range(0, rows, CHUNK_ROWS):
        some = places.slice(start, min(CHUNK_ROWS, rows - start)).to_numpy()
        yield np.searchsorted(edges, some, "right").astype(np.int32)


CONTESTANTS = {
    "vision_ift": chunks_ours,
    "`interleave_datasets`": chunks_datasets,
    "independent draws": chunks_draws,
}


def measure_departure(name: str, rows: int, sources: int) -> dict[str, float]:
    """Find the largest departure over all prefixes, in integers.

    A source strays furthest just before or just after one of its rows, so only those prefixes are
    looked at: n of them in all, not n for each source.
    """
    weights = zipf_weights(sources)
    total = sum(weights)
    share = np.array(weights, np.int64)
    given = np.zeros(sources, np.int64)
    most = start = 0
    seconds = 0.0
    chunks = CONTESTANTS[name](rows, weights)
    while True:
        clock = time.perf_counter()
        chunk = next(chunks, None)
        seconds += time.perf_counter() - clock
        if chunk is None:
            break
        by_source = np.argsort(chunk.astype(np.int16), kind="stable")
        which = chunk[by_source].astype(np.int64)
        counts = np.bincount(chunk, minlength=sources)
        firsts = np.cumsum(counts) - counts
        mine = given[which] + np.arange(len(chunk)) - firsts[which]  # rows it had given before
        position = start + by_source
        before = mine * total - position * share[which]
        after = (mine + 1) * total - (position + 1) * share[which]
        given += counts
        start += len(chunk)
        ends = given * total - start * share
        most = max(most, *(int(np.abs(one).max()) for one in (before, after, ends)))
    return {"rows": start, "departure": most / total, "seconds": seconds, "peak_mib": peak_mib()}


def make_tables(folder: Path) -> None:
    """Write the tables that the recipe reads: short rows, long ids, real columns."""
    import msgspec
    import pyarrow as pa

    from vision_ift._conversation import Conversation, Message, to_batch
    from vision_ift._table import GROUP_ROWS, REPORT, BuildReport, TableWriter

    for source, rows in TABLES.items():
        template = to_batch(
            [
                Conversation(
                    id=str(n),
                    messages=tuple(
                        Message.of(role, f"{role} says {n % 97}")
                        for _ in range(1 + n % 3)
                        for role in ("user", "assistant")
                    ),
                    split="train" if n % 5 else "val",
                    task=f"task_{n % 200}" if source == "vision_flan" else f"domain_{n % 24}",
                    language="en" if n % 4 else "zh",
                )
                for n in range(GROUP_ROWS)
            ],
            source=source,
        )
        place = template.schema.get_field_index("id")
        path = folder / source
        path.mkdir(parents=True)
        writer = TableWriter(path)
        for start in range(0, rows, GROUP_ROWS):
            size = min(GROUP_ROWS, rows - start)
            ids = [
                f"{source}/{n:012d}_{n * 2654435761 % 2**32:08x}"
                for n in range(start, start + size)
            ]
            batch = template.slice(0, size).set_column(
                place, template.schema.field(place), pa.array(ids)
            )
            writer.write(batch)
        digest = writer.close()
        report = BuildReport(
            source=source, rows=rows, images=0, unique_images=0, splits={"train": rows}, dropped={},
            dropped_first={}, absent=[], options={}, inputs={}, parts=writer.parts, fingerprint="",
            digest=digest,
        )  # fmt: skip
        (path / REPORT).write_bytes(msgspec.json.encode(report))


def measure_planning(folder: Path, rows: int) -> dict[str, float]:
    """Plan the recipe from its tables, then deal every row of it."""
    from vision_ift._plan.plan import arrange
    from vision_ift._recipe.recipe import Recipe
    from vision_ift._recipe.select import select
    from vision_ift._table import Table

    clock = time.perf_counter
    start = clock()
    recipe = Recipe.parse(RECIPE.format(rows=rows))
    found = {
        entry.name: select(Table(folder / entry.source), entry, seed=recipe.seed)
        for entry in recipe.mix
    }
    made = arrange(recipe, found, root=Path())
    digest = made.digest
    planned = clock() - start
    for low in range(0, rows, CHUNK_ROWS):
        made.slice(low, min(low + CHUNK_ROWS, rows))
    return {
        "rows": len(made),
        "seconds": planned,
        "with_every_row_s": clock() - start,
        "peak_mib": peak_mib(),
        "digest": int(digest[:8], 16),
    }


def measure_reading(folder: Path) -> dict[str, float]:
    """Read the columns that the recipe's filters and caps need, and nothing else: the limit."""
    import pyarrow.parquet as pq

    columns = {
        "coco_ift": ["split", "messages.list.element.role"],
        "vision_flan": ["id", "task"],
        "mminstruct": ["id", "task", "language"],
    }
    start = time.perf_counter()
    rows = 0
    for source, names in columns.items():
        for part in sorted((folder / source).glob("*.parquet")):
            with pq.ParquetFile(part) as file:
                for group in range(file.num_row_groups):
                    rows += file.read_row_group(group, columns=names, use_threads=False).num_rows
    return {"rows": rows, "seconds": time.perf_counter() - start, "peak_mib": peak_mib()}


def peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def run_child(*words: str) -> dict[str, float]:
    """Measure in a fresh process."""
    command = [sys.executable, __file__, "--child", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed:\n{done.stderr}")
    numbers: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return numbers


def measure_child(words: list[str]) -> dict[str, float]:
    import vision_ift._plan.plan  # noqa: F401 - imports are no part of what is timed

    if words[0] == "departure":
        return measure_departure(words[1], int(words[2]), int(words[3]))
    if words[0] == "planning":
        return measure_planning(Path(words[1]), int(words[2]))
    return measure_reading(Path(words[1]))


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


def rows_of(departures: dict[str, Any], planning: dict[str, Any]) -> list[list[str]]:
    """Make the table's rows: what, against, ratio, seconds, memory."""
    table = []
    for sources, found in departures.items():
        ours = found["vision_ift"]
        for name, theirs in found.items():
            if name == "vision_ift":
                continue
            mine, other = ours["departure"]["median"], theirs["departure"]["median"]
            what = f"Largest departure, {sources} sources: {mine:.2f} rows against {other:,.0f}"
            ratio = f"{other / mine:,.0f} × closer"
            table.append([what, name, ratio, *_pairs(ours, theirs)])
    ours, limit = planning["vision_ift"], planning["reading the columns"]
    ratio = f"{limit['seconds']['median'] / ours['seconds']['median']:.1f} ×"
    what = f"Planning {ours['rows']['median']:,.0f} rows, filters and caps over 4.6 M rows"
    table.append([what, "the limit: reading the columns", ratio, *_pairs(ours, limit)])
    return table


def _pairs(ours: dict[str, Any], theirs: dict[str, Any]) -> tuple[str, str]:
    return (
        f"{ours['seconds']['median']:.2f} / {theirs['seconds']['median']:.2f}",
        f"{ours['peak_mib']['median']:.0f} / {theirs['peak_mib']['median']:.0f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=10**7)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        print(json.dumps(measure_child(options.child)))
        return
    runs: dict[Any, list[dict[str, float]]] = {}
    rows = str(options.rows)
    with tempfile.TemporaryDirectory() as folder:
        make_tables(Path(folder))
        for _ in range(options.runs):
            for sources in SOURCES:
                for name in CONTESTANTS:
                    found = run_child("departure", name, rows, str(sources))
                    runs.setdefault((sources, name), []).append(found)
            runs.setdefault("planning", []).append(run_child("planning", folder, rows))
            runs.setdefault("reading", []).append(run_child("reading", folder))
    departures = {
        str(sources): {name: summarise(runs[sources, name]) for name in CONTESTANTS}
        for sources in SOURCES
    }
    planning = {
        "vision_ift": summarise(runs["planning"]),
        "reading the columns": summarise(runs["reading"]),
    }
    table = rows_of(departures, planning)
    for row in table:
        print(" | ".join(row))
    every = planning["vision_ift"]["with_every_row_s"]["median"]
    print(f"with all {options.rows:,} (source, row) dealt: {every:.2f} s")
    if options.json:
        record = {
            "command": f"python bench/mix.py --rows {options.rows} --runs {options.runs}",
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "versions": {
                name: importlib.metadata.version(name)
                for name in ("numpy", "pyarrow", "datasets", "duckdb")
            },
            "departures": departures,
            "planning": planning,
            "table": table,
        }
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
