"""LLaVA-style JSON to Arrow: our reader against ``datasets.Dataset.from_generator``.

    python bench/llava.py --records 665000 --runs 3 --json out.json

Makes a file of the size and shape of LLaVA's mix of 665k (deterministic), with 20,000 picture files
to look up, and turns it into an Arrow file in fresh processes, in alternation:

ours            every rule of the row checked, pictures looked up, ids made unique
generator       ``Dataset.from_generator`` over a streaming ijson reader, nothing checked
generator-load  the same over ``json.load``, as most scripts do it

Wall time is that of the work after the imports; the peak is the process's whole resident memory.
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

ROUTES = ("ours", "generator", "generator-load")
FOLDERS = (
    "coco/train2017",
    "gqa/images",
    "ocr_vqa/images",
    "textvqa/train_images",
    "vg/VG_100K",
    "vg/VG_100K_2",
)
PICTURES = 20_000
VOCABULARY = (
    "the a of and to in is with on that are image picture man woman person people red blue "
    "white standing sitting holding large small near table street building water tree dog cat "
    "car train background left right side what color how many does this show scene describe "
    "detail appears several visible various wearing looking front behind next play suggests "
    "atmosphere could be "
)
WORDS = VOCABULARY.split()


def draw(root: Path, records: int) -> Path:
    """Write the pictures and the file; the same bytes for the same number of records."""
    rng = random.Random(17)
    names = []
    for number in range(PICTURES):
        folder = FOLDERS[number % len(FOLDERS)]
        names.append(f"{folder}/{number * 29 % 600_000:012d}.jpg")
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True)
    for name in names:
        (root / name).touch()
    sentences = [" ".join(rng.choices(WORDS, k=rng.randint(4, 24))) for _ in range(20_000)]
    path = root / "llava" / "llava_v1_5_mix665k.json"
    path.parent.mkdir()
    with path.open("w", encoding="utf-8") as file:
        for number in range(records):
            file.write(", " if number else "[")
            json.dump(record(number, rng, names, sentences), file)
        file.write("]")
    return path


def record(
    number: int, rng: random.Random, names: list[str], sentences: list[str]
) -> dict[str, Any]:
    """Make one record: 6 % of them text alone, 1 to 10 rounds, some long answers."""
    text_only = rng.random() < 0.06
    rounds = 1 if rng.random() < 0.3 else rng.randint(1, 10)
    turns = []
    for place in range(rounds):
        question = rng.choice(sentences).capitalize() + "?"
        if place == 0 and not text_only:
            question = f"<image>\n{question}" if rng.random() < 0.7 else f"{question}\n<image>"
        answer = ". ".join(rng.choices(sentences, k=1 if rng.random() < 0.8 else rng.randint(2, 8)))
        if rng.random() < 0.05:
            answer += ' He said: "hello" \u2014 caf\u00e9.\n\nThen: left'
        turns.append({"from": "human", "value": question})
        turns.append({"from": "gpt", "value": answer})
    if text_only:
        return {"id": f"chat_{number}", "model": "", "conversations": turns}
    name = rng.choice(names)
    # One picture's records share an id in the real file: more than half are repeated.
    shared = f"{rng.randrange(1 + number // 2):012d}"
    return {"id": shared, "image": name, "conversations": turns}


def run_ours(root: Path, out: Path) -> int:
    import pyarrow as pa

    from vision_ift import _registry
    from vision_ift._build import Ids
    from vision_ift._conversation import SCHEMA

    builder = _registry.find("llava")
    ids = Ids(builder)
    rows = 0
    started = (time.perf_counter(), time.process_time())
    with pa.OSFile(str(out / "rows.arrow"), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        for batch in builder.batches(root):
            kept = ids.settle(batch)
            assert not kept.dropped, kept.dropped[:3]
            writer.write_batch(kept.rows)
            rows += kept.rows.num_rows
    report(started, rows)
    return rows


def to_row(record: dict[str, Any]) -> dict[str, Any]:
    """Normalise one record, as a competent script would."""
    messages = []
    for turn in record["conversations"]:
        role = "user" if turn["from"] == "human" else "assistant"
        text = turn["value"]
        if "<image>" not in text:
            content = [{"type": "text", "text": text}]
        else:
            content = []
            for number, piece in enumerate(text.split("<image>")):
                if number:
                    content.append({"type": "image", "text": None})
                piece = piece.strip("\n")
                if piece:
                    content.append({"type": "text", "text": piece})
        messages.append({"role": role, "content": content})
    image = record.get("image")
    return {"id": record["id"], "images": [image] if image else [], "messages": messages}


def run_generator(path: Path, out: Path, *, load: bool) -> int:
    import datasets
    import ijson
    from datasets import Dataset, Features, Value

    datasets.disable_progress_bars()
    text = Value("string")
    try:
        from datasets import List
    except ImportError:
        from datasets import Sequence as List
    features = Features(
        {
            "id": text,
            "images": List(text),
            "messages": List({"role": text, "content": List({"type": text, "text": text})}),
        }
    )

    def rows() -> Any:
        if load:
            with path.open(encoding="utf-8") as file:
                yield from map(to_row, json.load(file))
        else:
            with path.open("rb") as file:
                yield from map(to_row, ijson.items(file, "item"))

    started = (time.perf_counter(), time.process_time())
    made = Dataset.from_generator(rows, features=features, cache_dir=str(out))
    report(started, len(made))
    return len(made)


def report(started: tuple[float, float], rows: int) -> None:
    wall = time.perf_counter() - started[0]
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = time.process_time() - started[1]
    peak = usage.ru_maxrss / 1024
    print(json.dumps({"wall_s": wall, "cpu_s": cpu, "rows": rows, "peak_mb": peak}))


def child(route: str, path: Path, root: Path) -> None:
    out = Path(tempfile.mkdtemp(dir=root.parent))
    try:
        if route == "ours":
            run_ours(root, out)
        else:
            run_generator(path, out, load=route == "generator-load")
    finally:
        shutil.rmtree(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=665_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--routes", default=",".join(ROUTES))
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child[0], Path(given.child[1]), Path(given.child[2]))
        return
    work = Path(tempfile.mkdtemp(dir=given.folder))
    try:
        path = draw(work / "root", given.records)
        bench(path, given, work)
    finally:
        shutil.rmtree(work)


def bench(path: Path, given: argparse.Namespace, work: Path) -> None:
    size = path.stat().st_size
    print(f"{given.records:,} records, {size / 1e6:.0f} MB", file=sys.stderr)
    runs: dict[str, list[dict[str, float]]] = {route: [] for route in given.routes.split(",")}
    for _ in range(given.runs):
        for route in runs:
            command = [sys.executable, __file__, "--child", route, str(path), str(path.parents[1])]
            environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(work / "hf")}
            done = subprocess.run(
                command, check=True, capture_output=True, text=True, env=environment
            )
            runs[route].append(json.loads(done.stdout.splitlines()[-1]))
            print(route, runs[route][-1], file=sys.stderr)
    base = statistics.median(run["wall_s"] for run in runs.get("ours", [{"wall_s": 1.0}]))
    results = {}
    for route, found in runs.items():
        walls = [run["wall_s"] for run in found]
        results[route] = {
            "median_s": statistics.median(walls),
            "spread_s": [min(walls), max(walls)],
            "median_cpu_s": statistics.median(run["cpu_s"] for run in found),
            "ratio_to_ours": statistics.median(walls) / base,
            "peak_mb": max(run["peak_mb"] for run in found),
            "rows": found[0]["rows"],
        }
        found_s = f"{results[route]['median_s']:8.2f} s  ({min(walls):.2f} to {max(walls):.2f})"
        ratio = f"{results[route]['ratio_to_ours']:5.2f} x"
        cpu = f"CPU {results[route]['median_cpu_s']:.2f} s"
        print(f"{route:15} {found_s}  {ratio}  {cpu}  {results[route]['peak_mb']:6.0f} MB")
    if given.json:
        packages = ("pyarrow", "datasets", "msgspec", "ijson", "numpy")
        document = {
            "command": f"python bench/llava.py --records {given.records} --runs {given.runs}",
            "records": given.records,
            "bytes": size,
            "python": platform.python_version(),
            "versions": {name: importlib.metadata.version(name) for name in packages},
            "cores": os.cpu_count(),
            "results": results,
        }
        given.json.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
