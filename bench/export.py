"""Export to WebDataset shards: ours, webdataset, GNU tar, and ``cp`` of the finished shards.

    python bench/export.py --rows 10000 --runs 5 --json out.json

Makes distinct files of random bytes behind a JPEG signature (120 to 190 kB, mean 155 kB;
nobody here decodes), with a LLaVA-style conversation about each, and writes shards of 2,000 rows
with the members ``jpg``, ``json`` and ``txt``, in the same order. In fresh processes, in
alternation, with sources and shards in memory (tmpfs) and on disk (warm sources):

ours             ``export``, xxh3-128 of every shard, index, sidecars, card and manifest included
ours, 2          the same with two processes, their start included
ShardWriter      webdataset's, its defaults, from ready dictionaries and the files
TarWriter        webdataset's, JSON already encoded, an integer mtime: its fastest form
tar              GNU ``tar cf`` of the pictures alone
cp               of our finished shards: the physical limit

Ours makes every shard durable with ``fsync``, and the others do not, so there are two sets: with
fsync switched off in ours, so that all end in the page cache; and ``sync`` rows, where ours is as
users have it and all others are followed by ``sync -f`` of their folder. Wall time is that of the
work after the imports and, for ours, after the plan.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

NO_SYNC = "VISION_IFT_BENCH_NO_SYNC"
if NO_SYNC in os.environ:  # at import, so that the processes that an export starts do it as well
    os.fsync = lambda _: None  # type: ignore[assignment]

#: One run of one route is stopped after this time.
MOST_SECONDS = 120

ROUTES = ("ours", "ours, 2", "ShardWriter", "TarWriter", "tar", "cp")
SHARD_ROWS = 2000
WORDS = [f"word{number}" for number in range(200)]


def draw(root: Path, rows: int) -> None:
    """Write the pictures and their conversations; the same bytes for the same number of rows."""
    chance = random.Random(17)
    records = []
    for number in range(rows):
        name = f"pictures/{number // 1000:03d}/{number:012d}.jpg"
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\xff\xd8\xff\xe0" + chance.randbytes(chance.randrange(120, 190) * 1000))
        turns = []
        for turn in range(chance.randrange(1, 5)):
            question = " ".join(chance.choices(WORDS, k=12)).capitalize() + "?"
            answer = " ".join(chance.choices(WORDS, k=chance.randrange(10, 80))) + "."
            turns.append({"from": "human", "value": "<image>\n" * (not turn) + question})
            turns.append({"from": "gpt", "value": answer})
        records.append({"id": f"{number:012d}", "image": name, "conversations": turns})
    (root / "data.json").write_text(json.dumps(records), encoding="utf-8")


def plan_of(work: Path) -> Any:
    """Plan all rows; builds the table when it is called first."""
    from vision_ift._plan.plan import plan
    from vision_ift._recipe.recipe import Recipe

    mix = "[{source: llava, weight: 1, path: data.json}]"
    recipe = Recipe.parse(f"{{name: bench, mix: {mix}}}")
    return plan(recipe, root=work / "root", tables=work / "tables")


def prepare(work: Path, disk: Path, rows: int) -> None:
    """Draw the root, build the table, make the copies of it, the lists and the documents."""
    from vision_ift._export.document import documents

    work.mkdir(parents=True, exist_ok=True)
    draw(work / "root", rows)
    planned = plan_of(work)
    found = list(documents(planned.rows(0, len(planned))))
    names = [references[0] for _, references in found]
    (work / "list").write_text("\n".join(names) + "\n")
    import msgspec

    with (work / "rows.json").open("wb") as file:
        file.write(msgspec.json.encode([document for document, _ in found]))
    size = sum((work / "root" / name).stat().st_size + 4096 for name in names)
    (work / "shard_bytes").write_text(str(size * SHARD_ROWS // rows))
    shutil.copytree(work, disk, dirs_exist_ok=True)


def run_ours(work: Path, out: Path, jobs: int) -> Any:
    from vision_ift._export.export import export

    planned = plan_of(work)
    planned.rows(0, 1)
    shard_bytes = int((work / "shard_bytes").read_text())
    return lambda: export(planned, out=out, shard_bytes=shard_bytes, jobs=jobs)


def run_webdataset(work: Path, out: Path, *, encoded: bool) -> Any:
    import webdataset

    rows = json.loads((work / "rows.json").read_bytes())
    names = (work / "list").read_text().splitlines()
    ready: list[tuple[str, str, Any, Any]] = []
    for number, (row, name) in enumerate(zip(rows, names, strict=True)):
        row["images"] = ["jpg"]
        words = "\n".join(p["text"] for m in row["messages"] for p in m["content"] if p["text"])
        key = f"{number:09d}-llava"
        if encoded:
            text = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()
            ready.append((key, str(work / "root" / name), text, words.encode()))
        else:
            ready.append((key, str(work / "root" / name), row, words))

    def member(key: str, name: str, row: Any, words: Any) -> dict[str, Any]:
        with open(name, "rb") as file:  # noqa: PTH123 - as fast as a script would be
            return {"__key__": key, "jpg": file.read(), "json": row, "txt": words}

    def defaults() -> None:
        with webdataset.ShardWriter(
            str(out / "train-%06d.tar"), maxcount=SHARD_ROWS, maxsize=2**40, verbose=0
        ) as writer:
            for one in ready:
                writer.write(member(*one))

    def fastest() -> None:
        for start in range(0, len(ready), SHARD_ROWS):
            path = out / f"train-{start // SHARD_ROWS:06d}.tar"
            with webdataset.TarWriter(str(path), encoder=False, mtime=0) as writer:
                for one in ready[start : start + SHARD_ROWS]:
                    writer.write(member(*one))

    return fastest if encoded else defaults


def run_command(command: list[str]) -> Any:
    return lambda: subprocess.run(command, check=True)


def anonymous_mb(pid: int | str = "self") -> float:
    """Memory of a process, or of its largest child, that is no page of a mapped file."""
    place = Path(f"/proc/{pid}")
    try:
        status = (place / "status").read_text()
        children = (place / f"task/{place.resolve().name}/children").read_text().split()
    except OSError:  # it has just ended
        return 0
    found = status.partition("RssAnon:")[2].split()
    mine = int(found[0]) / 1024 if found else 0
    return max([mine, *map(anonymous_mb, children)])


class Watched(threading.Thread):
    """Looks at the memory every 20 ms until the work is over."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = self.before = anonymous_mb()
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.02):
            self.most = max(self.most, anonymous_mb())


def child(route: str, work: Path, out: Path) -> None:
    """Do one route's work in this process and print its figures."""
    out.mkdir(parents=True)
    if route.startswith("ours"):
        function = run_ours(work, out / "shards", 2 if route.endswith("2") else 1)
    elif route in ("ShardWriter", "TarWriter"):
        function = run_webdataset(work, out, encoded=route == "TarWriter")
    elif route == "tar":
        function = run_command(
            ["tar", "cf", str(out / "a.tar"), "-C", str(work / "root"), "-T", str(work / "list")]
        )
    else:
        shards = sorted((work / "finished").glob("*.tar"))
        function = run_command(["cp", *map(str, shards), str(out)])
    watched = Watched()
    if route.startswith("ours"):
        watched.start()
    started = (time.perf_counter(), cpu())
    function()
    if NO_SYNC not in os.environ and not route.startswith("ours"):
        subprocess.run(["sync", "-f", str(out)], check=True)
    wall, used = time.perf_counter() - started[0], cpu() - started[1]
    watched.over.set()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = max(peak, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    figures = {"wall_s": wall, "cpu_s": used, "peak_mb": peak / 1024}
    if route.startswith("ours"):  # of one process; what it held before are imports and the plan
        figures |= {"anonymous_mb": watched.most, "anonymous_mb_before": watched.before}
    print(json.dumps(figures))


def cpu() -> float:
    """CPU seconds of this process and of those that it waited for."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    found = [resource.getrusage(kind) for kind in kinds]
    return sum(one.ru_utime + one.ru_stime for one in found)


def measure(route: str, work: Path, *, sync: bool) -> dict[str, float] | str:
    """Run a route in a fresh process and remove what it wrote; say why where that failed."""
    out = Path(tempfile.mkdtemp(dir=work.parent))
    environment = dict(os.environ) if sync else {**os.environ, NO_SYNC: "1"}
    command = [sys.executable, __file__, "--child", route, str(work), str(out / "out")]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=environment,
            check=False,
            timeout=MOST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"stopped after {MOST_SECONDS} s"
    finally:
        shutil.rmtree(out)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["failed"])[-1][:200]
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


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


def table(results: dict[str, Any], rows: int) -> list[list[str]]:
    """Rows of the README's table: what, against, ratio, seconds, peak MB."""
    lines = []
    for place, found in results.items():
        what = f"Export of {rows:,} rows with pictures, digest and indexes included, {place}"
        ours = found["ours"]
        for route, theirs in found.items():
            if route == "ours":
                continue
            mine, other, peer = ours, theirs, PEERS.get(route, route)
            label = what
            if "why" in theirs:
                lines.append([label, peer, f"not run: {theirs['why']}", "", ""])
                continue
            if route == "ours, 2":
                mine, other, label = theirs, ours, what.replace("Export", "Export by 2 processes")
            seconds = [one["wall_s"]["median"] for one in (mine, other)]
            peaks = [one["peak_mb"]["median"] for one in (mine, other)]
            lines.append(
                [
                    label,
                    peer,
                    f"{seconds[1] / seconds[0]:.2f} ×",
                    f"{seconds[0]:.2f} / {seconds[1]:.2f}",
                    f"{peaks[0]:.0f} / {peaks[1]:.0f}",
                ]
            )
    return lines


PEERS = {
    "ours, 2": "one process",
    "ShardWriter": "`webdataset.ShardWriter`, defaults",
    "TarWriter": "`webdataset.TarWriter`, JSON ready",
    "tar": "GNU `tar cf` of the pictures",
    "cp": "the limit: `cp` of the finished shards",
}


def main() -> None:
    """Parse the command line; measure; print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--routes", default=";".join(ROUTES), help="with ; between them")
    parser.add_argument("--sets", default="tmpfs;disk;disk, sync", help="with ; between them")
    parser.add_argument("--memory", type=Path, default=Path("/dev/shm"), help="a folder on tmpfs")
    parser.add_argument("--disk", type=Path, help="a folder on disk; default: a temporary one")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        route, work, out = given.child
        if route == "prepare":
            prepare(Path(work), Path(out), given.rows)
        else:
            child(route, Path(work), Path(out))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the folders are removed
    memory = Path(tempfile.mkdtemp(dir=given.memory))
    disk = Path(tempfile.mkdtemp(dir=given.disk))
    try:
        results = bench(given, memory / "work", disk / "work")
    finally:
        shutil.rmtree(memory)
        shutil.rmtree(disk)
    lines = table(results, given.rows)
    for line in lines:
        print(" | ".join(line))
    if given.json:
        packages = ("numpy", "pyarrow", "msgspec", "xxhash", "webdataset")
        document = {
            "command": f"python bench/export.py --rows {given.rows} --runs {given.runs}",
            "rows": given.rows,
            "python": platform.python_version(),
            "versions": {name: importlib.metadata.version(name) for name in packages},
            "cores": os.cpu_count(),
            "results": results,
            "table": lines,
        }
        given.json.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


def bench(given: argparse.Namespace, memory: Path, disk: Path) -> dict[str, Any]:
    """Measure every route of every set, in turns."""
    # In a process of its own: the peak of this one would count as that of every process it starts.
    made = [sys.executable, __file__, "--rows", str(given.rows), "--child", "prepare"]
    subprocess.run([*made, str(memory), str(disk)], check=True)
    places = {"tmpfs": memory, "disk": disk, "disk, sync": disk}
    routes = given.routes.split(";")
    results = {}
    for place in given.sets.split(";"):
        work = places[place]
        if not (work / "finished").exists():
            child_work = [sys.executable, __file__, "--child", "ours", str(work)]
            subprocess.run([*child_work, str(work / "made")], check=True, capture_output=True)
            (work / "made/shards").rename(work / "finished")
        runs: dict[str, list[dict[str, float]]] = {route: [] for route in routes}
        failed: dict[str, Any] = {}
        for _ in range(given.runs):
            for route in routes:
                if route in failed:
                    continue
                found = measure(route, work, sync="sync" in place)
                print(place, route, found, file=sys.stderr)
                if not isinstance(found, str):
                    runs[route].append(found)
                elif route.startswith("ours"):
                    sys.exit(f"{route} failed: {found}")
                else:
                    failed[route] = {"why": found}
        results[place] = {
            route: failed.get(route) or summarise(found) for route, found in runs.items()
        }
    return results


if __name__ == "__main__":
    main()
