"""Read conversations: ours, webdataset, wids, MDS, Energon, and plain reads of the same shards.

    python bench/stream.py --rows 5000 --runs 3 --json out.json \
        --wids PYTHON --mds PYTHON --energon PYTHON

Makes pictures of random bytes behind a JPEG signature (about 150 kB; nobody here decodes) with a
conversation about each, and exports them; MDS gets a copy in its own format, written by itself. All
others read the very same shards. ``--folder`` says where: a tmpfs measures readers, a disk with a
cold cache would measure the disk; the shards are read once before the clock starts, so they are
cached either way. Every measurement is a fresh process, the contestants take turns, and the clock
starts after the imports and before the reader is opened. Peers whose pins conflict are run by the
Python that an option (or ``BENCH_WIDS_PYTHON`` …) names; those without one, or that do not import
there, are rows that say so.

Ours, in the table: ``pictures`` gives ``columns=["images"]``; ``rows`` gives all columns, JSON
parsed and checked. webdataset and MDS give pictures and JSON as bytes in either case (they have no
way to read one alone), and parse it in the rows about rows; wids is asked for the pictures alone.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MILLION = 10**6
BLOCK = 1 << 20

#: Bytes of pictures, as a contestant hands them out.
Sizes = Iterator[int]


def make_files(folder: Path, rows: int) -> None:
    """Draw pictures, write tables, plan and export; 1,000 shards of few rows beside it."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.exports import dialog, plan_of
    from tests.rows import table_of
    from vision_ift._export.export import export

    chance = random.Random(0)
    pictures = folder / "root" / "p"
    pictures.mkdir(parents=True)
    for number in range(rows):
        size = int(chance.lognormvariate(11.85, 0.35))
        (pictures / f"{number}.jpg").write_bytes(b"\xff\xd8\xff\xe0" + chance.randbytes(size))
    halves = {"llava": range(rows // 2), "messages": range(rows // 2, rows)}
    tables = {
        name: table_of(folder / name, [dialog(n, (f"p/{n}.jpg",)) for n in numbers], source=name)
        for name, numbers in halves.items()
    }
    export(plan_of(folder / "root", tables), out=folder / "shards", shard_bytes=300 * MILLION)
    words = {"words": table_of(folder / "words", [dialog(n) for n in range(1000)], source="words")}
    export(plan_of(folder / "root", words), out=folder / "thousand", shard_bytes=1)


def make_long_index(folder: Path, rows: int) -> None:
    """Write the index and the manifest of an export of many rows, whose shards are all holes."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.ipc as ipc

    from vision_ift._export.manifest import INDEX, INDEX_SCHEMA, MANIFEST, Manifest, encode

    each = 10_000
    shards = rows // each
    (folder / INDEX).parent.mkdir(parents=True)
    chance = np.random.default_rng(0)
    places = np.arange(each, dtype=np.int64)
    at = pa.array(np.arange(each + 1, dtype=np.int32))
    keys = pa.array([f"{n:09d}-words" for n in range(each)])
    fixed = {
        "key": keys,
        "row": pa.array(places),
        "offset": pa.array(places * 4096),
        "size": pa.array(np.full(each, 3072)),
        "json_offset": pa.array(places * 4096 + 2048),
        "json_size": pa.array(np.full(each, 700)),
        "text_offset": pa.array(np.zeros(each, np.int64)),
        "text_size": pa.array(np.zeros(each, np.int64)),
        "image_names": pa.ListArray.from_arrays(at, pa.array(["jpg"] * each)),
        "image_offsets": pa.ListArray.from_arrays(at, pa.array(places * 4096 + 512)),
        "image_sizes": pa.ListArray.from_arrays(at, pa.array(np.full(each, 900))),
    }
    with pa.OSFile(str(folder / INDEX), "wb") as sink, ipc.new_file(sink, INDEX_SCHEMA) as writer:
        for shard in range(shards):
            columns = {
                **fixed,
                "position": pa.array(places + shard * each),
                "source": pa.array(chance.integers(0, 4, each).astype(np.int32)),
                "shard": pa.array(np.full(each, shard, np.int32)),
            }
            arrays = [columns[one.name].cast(one.type) for one in INDEX_SCHEMA]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=INDEX_SCHEMA))
    nothing: dict[str, Any] = {"image_names": {}, "dropped": {}, "dropped_first": {}, "missing": []}
    part = {
        "source": "x",
        "asked": 0.25,
        "planned": 1,
        "images": 1,
        "licenses": {},
        "languages": {},
    }
    stated = {
        **json.loads((folder.parent / "shards" / MANIFEST).read_bytes()),
        **nothing,
        "rows": rows,
        "rows_per_shard": each,
        "parts": [{"name": f"source_{n}", "rows": rows // 4, **part} for n in range(4)],
        "shards": [
            {
                "name": f"train-{n:06d}.tar",
                "rows": each,
                "images": each,
                "bytes": 4096 * each,
                "xxh3_128": "0" * 32,
            }
            for n in range(shards)
        ],
    }
    import msgspec

    (folder / MANIFEST).write_bytes(encode(msgspec.convert(stated, Manifest)))
    for number in range(shards):
        with (folder / f"train-{number:06d}.tar").open("wb") as file:
            file.truncate(4096 * each)


def make_mds(folder: Path) -> None:
    """Write the same conversations with MDS's own writer."""
    hide_torchvision()
    import tarfile

    from streaming import MDSWriter

    columns = {"jpg": "bytes", "json": "bytes"}
    with MDSWriter(out=str(folder / "mds"), columns=columns, size_limit="300mb") as writer:
        for path in sorted((folder / "shards").glob("*.tar")):
            row: dict[str, bytes] = {}
            with tarfile.open(path) as tar:
                for member in tar:
                    file = tar.extractfile(member)
                    assert file is not None
                    row[member.name.rpartition(".")[2]] = file.read()
                    if member.name.endswith(".txt"):
                        del row["txt"]
                        writer.write(row)


def hide_torchvision() -> None:
    """Put something empty in its place: it does not import beside every build of torch."""
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    for name in ("", ".datasets", ".transforms", ".transforms.functional"):
        module: Any = ModuleType(f"torchvision{name}")
        module.__spec__ = ModuleSpec(f"torchvision{name}", None)
        module.__version__ = "0"
        module.VisionDataset = type("VisionDataset", (), {})
        module.to_tensor = None
        sys.modules[f"torchvision{name}"] = module


def tars(folder: Path) -> list[str]:
    return [str(path) for path in sorted((folder / "shards").glob("*.tar"))]


def ours(folder: Path, what: str) -> Callable[[], Sizes]:
    import numpy as np

    from vision_ift._stream.stream import stream

    columns = None if "rows" in what else ["images"]
    threads = 2 if "threads" in what else 0

    def work() -> Sizes:
        one = stream(folder / "shards", columns=columns, threads=threads)
        if "random" in what:
            order = np.random.default_rng(0).permutation(one.rows)
            for _, row in one.read(order):
                yield sum(len(image["bytes"]) for image in row["images"])
            return
        if "epoch" in what:
            one.set_epoch(1)
        for row in one:
            yield sum(len(image["bytes"]) for image in row["images"])

    return work


def ours_first(folder: Path, _: str) -> Callable[[], Sizes]:
    from vision_ift._stream.stream import stream

    def work() -> Sizes:
        next(iter(stream(folder / "thousand")))
        yield 0

    return work


def ours_resume(folder: Path, what: str) -> Callable[[], Sizes]:
    from vision_ift._stream.stream import stream

    def work() -> Sizes:
        one = stream(folder / "long", epochs=4, columns=["images"], bad_rows="skip")
        state = one.state_dict()
        state["epoch"], state["position"] = 0, one.rows - 100
        if "later" in what:
            state["epoch"], state["position"] = 2, one.rows * 9 // 10
        one.load_state_dict(state)
        next(one.batches(1))  # its bytes are holes: what is timed is finding it
        yield 0

    return work


def sequential(folder: Path, _: str) -> Callable[[], Sizes]:
    """The limit: the shards from end to end into one buffer of 1 MiB."""

    def work() -> Sizes:
        buffer = bytearray(BLOCK)
        for path in tars(folder):
            descriptor = os.open(path, os.O_RDONLY)
            while read := os.readv(descriptor, [buffer]):
                yield read
            os.close(descriptor)

    return work


def with_webdataset(folder: Path, what: str) -> Callable[[], Sizes]:
    import webdataset

    def work() -> Sizes:
        rows = webdataset.WebDataset(tars(folder), shardshuffle=False)
        if "random" in what:
            rows = rows.shuffle(1000)
        for row in rows:
            if "rows" in what:
                json.loads(row["json"])
            yield len(row["jpg"])

    return work


def with_wids(folder: Path, what: str) -> Callable[[], Sizes]:
    import warnings

    from wids import ShardListDataset

    def work() -> Sizes:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = ShardListDataset(str(folder / "shards" / "wids.json"), keep=True)
        rows.transformations = []  # bytes, nothing decoded
        order = list(range(len(rows)))
        if "random" in what:
            random.Random(0).shuffle(order)
        for number in order:
            row = rows[number]
            if "rows" in what:
                json.loads(row[".json"].read())
            yield len(row[".jpg"].read())

    return work


def with_mds(folder: Path, what: str) -> Callable[[], Sizes]:
    hide_torchvision()
    from streaming import StreamingDataset

    def work() -> Sizes:
        rows = StreamingDataset(local=str(folder / "mds"), shuffle="random" in what, batch_size=1)
        for row in rows:
            if "rows" in what:
                json.loads(row["json"])
            yield len(row["jpg"])

    return work


def with_energon(folder: Path, what: str) -> Callable[[], Sizes]:
    from megatron.energon import (
        Cooker,
        DefaultTaskEncoder,
        WorkerConfig,
        get_loader,
        get_train_dataset,
        stateless,
    )

    @stateless
    def same(row: Any) -> Any:
        return row

    class Encoder(DefaultTaskEncoder):  # type: ignore[misc,type-arg]  # not installed here
        cookers = [Cooker(same)]  # noqa: RUF012 - as its documentation has it
        decoder = None  # bytes, nothing decoded

        def batch(self, rows: Any) -> Any:
            return rows

        def encode_batch(self, batch: Any) -> Any:
            return batch

    def work() -> Sizes:
        made = get_train_dataset(
            str(folder / "shards"),
            worker_config=WorkerConfig(rank=0, world_size=1, num_workers=0),
            batch_size=1,
            shuffle_buffer_size=1000 if "random" in what else None,
            max_samples_per_sequence=None,
            task_encoder=Encoder(),
            repeat=False,
        )
        for batch in get_loader(made):
            for row in batch:
                if "rows" in what:
                    json.loads(row["json"])
                yield len(row["jpg"])

    return work


CONTESTANTS: dict[str, Callable[[Path, str], Callable[[], Sizes]]] = {
    "ours": ours,
    "ours first": ours_first,
    "ours resume": ours_resume,
    "sequential": sequential,
    "webdataset": with_webdataset,
    "wids": with_wids,
    "mds": with_mds,
    "energon": with_energon,
}

#: What is measured: contestant, kind of work, share of the rows that its time allows.
WORK = (
    ("ours", "pictures, in order"),
    ("sequential", "pictures, in order"),
    ("webdataset", "pictures, in order"),
    ("wids", "pictures, in order"),
    ("mds", "pictures, in order"),
    ("energon", "pictures, in order"),
    ("ours", "pictures, random"),
    ("ours", "pictures, epoch 1"),
    ("webdataset", "pictures, random"),
    ("wids", "pictures, random"),
    ("mds", "pictures, random"),
    ("energon", "pictures, random"),
    ("ours", "rows, in order"),
    ("webdataset", "rows, in order"),
    ("ours first", "of 1,000 shards"),
    ("ours resume", "first epoch"),
    ("ours resume", "later epoch"),
)
SLOW = {"mds", "energon"}
MOST_SLOW_ROWS = 1500

#: One run of one contestant is stopped after this time.
MOST_SECONDS = 90


def measure(name: str, what: str, folder: Path) -> dict[str, float]:
    """Run one contestant in this process."""
    work = CONTESTANTS[name](folder, what)
    for path in tars(folder) if name not in ("ours first", "ours resume") else []:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - plain reads into the cache
            while file.read(BLOCK):
                pass
    before = peak_mb()
    rows = given = 0
    first = 0.0
    start = time.perf_counter()
    for size in work():
        if not rows:
            first = time.perf_counter() - start
        rows += 1
        given += size
        if name in SLOW and rows >= MOST_SLOW_ROWS:
            break
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "rows": rows,
        "bytes": given,
        "first_ms": first * 1000,
        "peak_mb": peak_mb(),
        "grown_mb": peak_mb() - before,
    }


def peak_mb() -> float:
    """The most that this process held; what getrusage says begins with the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def run_child(python: str, arguments: list[str]) -> tuple[dict[str, float] | None, str]:
    """Measure in a fresh process; ``None`` and why where it cannot be done."""
    environment = {**os.environ, "TMPDIR": tempfile.gettempdir(), "PYTHONWARNINGS": "ignore"}
    try:
        done = subprocess.run(
            [python, __file__, *arguments],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
            timeout=MOST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return None, f"stopped after {MOST_SECONDS} s"
    except OSError as error:
        return None, f"{python} cannot be started: {error.strerror}"
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        return None, (done.stderr.strip().splitlines() or ["failed"])[-1][:200]
    found: dict[str, float] = json.loads(lines[-1])
    return found, ""


def summarise(runs: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Median, least and most of every figure."""
    return {
        key: {
            "median": statistics.median(run[key] for run in runs),
            "least": min(run[key] for run in runs),
            "most": max(run[key] for run in runs),
        }
        for key in runs[0]
    }


def table_of_results(results: dict[str, Any], rows: int) -> list[list[str]]:
    """What, against whom, ratio, seconds ours / theirs, peak MB ours / theirs."""
    table = []
    for name, what in WORK:
        if name.startswith("ours"):
            continue
        kinds = [what]
        if name == "sequential":
            kinds += ["pictures, random"]
        for kind in kinds:
            mine = results[f"ours: {kind}"]
            theirs = results.get(f"{name}: {what}")
            title = f"{rows:,} rows out of shards: {kind}"
            if not isinstance(theirs, dict) or "seconds" not in theirs:
                table.append([title, name, f"not run: {results['missing'].get(name)}", "", ""])
                continue
            each = [
                one["seconds"]["median"] / (rows if name == "sequential" else one["rows"]["median"])
                for one in (mine, theirs)
            ]
            seconds = [one * rows for one in each]
            peaks = [one["peak_mb"]["median"] for one in (mine, theirs)]
            peer = "the limit: 1 MiB reads of the same files" if name == "sequential" else name
            table.append(
                [
                    title,
                    peer,
                    f"{seconds[1] / seconds[0]:.2g} ×",
                    f"{seconds[0]:.3f} / {seconds[1]:.3f}",
                    f"{peaks[0]:.0f} / {peaks[1]:.0f}",
                ]
            )
    for key, title in (
        ("ours first: of 1,000 shards", "first row of 1,000 shards"),
        ("ours resume: first epoch", "resume at row 10 million, first epoch"),
        ("ours resume: later epoch", "resume at row 9 million of 10, third epoch"),
    ):
        mine = results[key]
        seconds_, peak = mine["seconds"]["median"], mine["peak_mb"]["median"]
        ratio = f"{0.05 / seconds_:.1f} ×"
        table.append([title, "the target of 50 ms", ratio, f"{seconds_:.4f} / 0.05", f"{peak:.0f}"])
    return table


def main() -> None:
    """Make the files, run the contestants in turn, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--long-rows", type=int, default=10 * MILLION)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the files go; best a tmpfs")
    parser.add_argument("--json", type=Path)
    for peer in ("wids", "mds", "energon"):
        parser.add_argument(f"--{peer}", default=os.environ.get(f"BENCH_{peer.upper()}_PYTHON"))
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        name, what, folder = given.child
        if name == "make mds":
            make_mds(Path(folder))
            print("{}")
        else:
            print(json.dumps(measure(name, what, Path(folder))))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the files are removed
    with tempfile.TemporaryDirectory(dir=given.folder) as made:
        results, versions = run_all(Path(made), given)
    table = table_of_results(results, given.rows)
    for row in table:
        print("{:50} {:42} {:>14} {:>18} {:>12}".format(*row))
    if given.json:
        told = {
            "command": f"python bench/stream.py --rows {given.rows} --runs {given.runs}",
            "rows": given.rows,
            "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
            "versions": versions,
            "results": results,
            "table": table,
        }
        given.json.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", "utf-8")


def run_all(folder: Path, given: argparse.Namespace) -> tuple[dict[str, Any], dict[str, str]]:
    """Run everything in alternation: results by contestant and work, and the versions."""
    make_files(folder, given.rows)
    make_long_index(folder / "long", given.long_rows)
    pythons = {"wids": given.wids, "mds": given.mds, "energon": given.energon}
    missing = {name: "no Python given" for name, python in pythons.items() if not python}
    if given.mds:
        done, why = run_child(given.mds, ["--child", "make mds", "", str(folder)])
        if done is None:
            missing["mds"] = why
    runs: dict[str, list[dict[str, float]]] = {}
    for _ in range(given.runs):
        for name, what in WORK:
            if name in missing:
                continue
            python = pythons.get(name) or sys.executable
            found, why = run_child(python, ["--child", name, what, str(folder)])
            if found is None and name.startswith("ours"):
                sys.exit(f"{name}: {what}: {why}")
            if found is None:
                missing[name] = why
                print(f"{name}: {why}", file=sys.stderr)
                continue
            runs.setdefault(f"{name}: {what}", []).append(found)
    results: dict[str, Any] = {key: summarise(several) for key, several in runs.items()}
    results["missing"] = missing
    versions = {name: importlib.metadata.version(name) for name in ("webdataset", "pyarrow")}
    return results, versions


if __name__ == "__main__":
    main()
