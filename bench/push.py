"""Push rows with pictures to a Hub on this machine: ours, `Dataset.push_to_hub`, and the limit.

    python bench/push.py --rows 10000 --runs 5 --json out.json

Makes distinct files of random bytes behind a JPEG signature (130 to 190 kB, mean 160 kB) with a
LLaVA-style conversation about each. In fresh processes, in alternation, each to a new Hub
(``python -m tests.hub``, a process of its own, blobs in memory), everything on tmpfs:

ours             ``push`` of the plan, with the configuration's card and record
ours, again      the same once more, when nothing has changed
push_to_hub      of a dataset of the same rows whose pictures are the same files, which it embeds
upload_folder    huggingface_hub's, of our finished Parquet files: nothing is made, only sent

All but the last read the pictures, make Parquet files of about 500 MB, hash and send them. Wall
time is that of the work after the imports and after the plan, or the dataset, has been opened. The
Hub hashes what it is sent, on the same cores.
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
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROUTES = ("ours", "ours, again", "push_to_hub", "upload_folder")
REPO = "bench/rows"
HERE = Path(__file__).parents[1]
WORDS = [f"word{number}" for number in range(200)]


def draw(root: Path, rows: int) -> None:
    """Write the pictures and their conversations; the same bytes for the same number of rows."""
    chance = random.Random(17)
    records = []
    for number in range(rows):
        name = f"pictures/{number // 1000:03d}/{number:012d}.jpg"
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\xff\xd8\xff\xe0" + chance.randbytes(chance.randrange(130, 190) * 1000))
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


def prepare(work: Path, rows: int) -> None:
    """Draw the root, build the table, and save the same rows as a dataset with paths."""
    import datasets
    import pyarrow as pa

    from vision_ift._conversation import SCHEMA

    work.mkdir(parents=True, exist_ok=True)
    draw(work / "root", rows)
    planned = plan_of(work)
    table = planned.rows(0, len(planned))
    names = table.column("images").combine_chunks().flatten().field("path").to_pylist()
    paths = [str(work / "root" / name) for name in names]
    images = pa.array([[{"bytes": None, "path": path}] for path in paths])
    place = SCHEMA.get_field_index("images")
    table = table.set_column(place, SCHEMA.field(place), images.cast(SCHEMA.field(place).type))
    datasets.Dataset(table.cast(SCHEMA)).save_to_disk(work / "dataset")


def run_ours(work: Path) -> Any:
    import huggingface_hub.hf_api  # noqa: F401 - datasets has imported it before the clock starts

    from vision_ift._push.push import push

    planned = plan_of(work)
    planned.rows(0, 1)
    return lambda: push(planned, REPO)


def run_datasets(work: Path) -> Any:
    import datasets

    rows = datasets.load_from_disk(str(work / "dataset"))
    return lambda: rows.push_to_hub(REPO, config_name="bench")


def run_upload(work: Path) -> Any:
    from huggingface_hub import HfApi

    api = HfApi()

    def upload() -> None:
        api.create_repo(REPO, repo_type="dataset")
        api.upload_folder(repo_id=REPO, repo_type="dataset", folder_path=work / "finished")

    return upload


def child(route: str, work: Path) -> None:
    """Do one route's work in this process and print its figures."""
    routes = {"push_to_hub": run_datasets, "upload_folder": run_upload}
    function = routes.get(route, run_ours)(work)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = (time.perf_counter(), time.process_time())
    function()
    wall, used = time.perf_counter() - started[0], time.process_time() - started[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures = {"wall_s": wall, "cpu_s": used, "peak_mb": peak / 1024}
    figures["grown_mb"] = (peak - before) / 1024
    print(json.dumps(figures))


def run_child(route: str, work: Path, environment: dict[str, str]) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", route, str(work)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"{route} failed:\n{done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(routes: list[str], work: Path) -> dict[str, dict[str, float]]:
    """Run every route in a fresh process; each to a new Hub but ``ours, again``."""
    found: dict[str, dict[str, float]] = {}
    for route in routes:
        if route == "ours, again":
            continue
        folder = Path(tempfile.mkdtemp(dir=work.parent))
        command = [sys.executable, "-m", "tests.hub", str(folder)]
        pipe = subprocess.PIPE
        server = subprocess.Popen(command, cwd=HERE, stdin=pipe, stdout=pipe, text=True)
        try:
            assert server.stdout is not None
            said = json.loads(server.stdout.readline())
            kept = {name: value for name, value in os.environ.items() if "proxy" not in name}
            environment = {**kept, **said, "HF_HOME": str(folder / "home"), "TMPDIR": str(folder)}
            environment["HF_HUB_DISABLE_TELEMETRY"] = "1"
            found[route] = run_child(route, work, environment)
            if route == "ours" and "ours, again" in routes:
                found["ours, again"] = run_child("ours, again", work, environment)
            if route == "ours" and "upload_folder" in routes:
                finish(folder, work, environment)
            server.communicate(timeout=60)
        finally:
            server.kill()
            shutil.rmtree(folder)
    return found


def finish(folder: Path, work: Path, environment: dict[str, str]) -> None:
    """Keep what ours made, for the route that only sends."""
    if (work / "finished").exists():
        return
    code = (
        "import sys; from huggingface_hub import snapshot_download as get; "
        f"get({REPO!r}, repo_type='dataset', local_dir=sys.argv[1], allow_patterns='*.parquet')"
    )
    target = str(work / "finished")
    subprocess.run([sys.executable, "-c", code, target], env=environment, check=True)
    shutil.rmtree(work / "finished/.cache", ignore_errors=True)
    shutil.rmtree(folder / "home", ignore_errors=True)


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
    peers = {
        "push_to_hub": "`Dataset.push_to_hub`",
        "upload_folder": "the limit: `upload_folder` of the finished files",
    }
    for route, peer in [(one, peers[one]) for one in peers if one in results]:
        seconds = [results[one]["wall_s"]["median"] for one in ("ours", route)]
        peaks = [results[one]["peak_mb"]["median"] for one in ("ours", route)]
        lines.append(
            [
                f"Push of {rows:,} rows with pictures to a Hub on the same machine",
                peer,
                f"{seconds[1] / seconds[0]:.2f} ×",
                f"{seconds[0]:.2f} / {seconds[1]:.2f}",
                f"{peaks[0]:.0f} / {peaks[1]:.0f}",
            ]
        )
    return lines


def main() -> None:
    """Parse the command line; measure; print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--routes", default=";".join(ROUTES), help="with ; between them")
    parser.add_argument("--memory", type=Path, default=Path("/dev/shm"), help="a folder on tmpfs")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        route, work = given.child[0], Path(given.child[1])
        prepare(work, given.rows) if route == "prepare" else child(route, work)
        return
    memory = Path(tempfile.mkdtemp(dir=given.memory))
    routes = given.routes.split(";")
    try:
        made = [sys.executable, __file__, "--rows", str(given.rows), "--child", "prepare"]
        subprocess.run([*made, str(memory / "work")], check=True)
        runs: dict[str, list[dict[str, float]]] = {}
        for _ in range(given.runs):
            for route, figures in measure(routes, memory / "work").items():
                runs.setdefault(route, []).append(figures)
                print(route, figures, file=sys.stderr)
        results = {route: summarise(found) for route, found in runs.items()}
    finally:
        shutil.rmtree(memory)
    lines = table(results, given.rows)
    for line in lines:
        print(" | ".join(line))
    if given.json:
        packages = ("numpy", "pyarrow", "datasets", "huggingface_hub", "xxhash")
        document = {
            "command": f"python bench/push.py --rows {given.rows} --runs {given.runs}",
            "rows": given.rows,
            "python": platform.python_version(),
            "versions": {name: importlib.metadata.version(name) for name in packages},
            "cores": os.cpu_count(),
            "results": results,
            "table": lines,
        }
        given.json.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
