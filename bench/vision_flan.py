"""Vision-Flan with its zip: what looking pictures up costs, and reading them in place.

    python bench/vision_flan.py --records 186103 --runs 3 --json out.json

Makes annotations of the size and shape of the 191 tasks' release (deterministic) and a stored zip
of as many members as the real one. The members are JPEGs of about 6 KB, so that 181,394 of them
take 1.1 GB instead of 36: small ones are the harder case for an archive, whose cost is a member's
and not a byte's. Measured, each in fresh processes and in alternation:

pictures        the records to an Arrow file, every picture looked up in the zip's directory
given           the same, but each picture's reference is given and the zip not opened: what is
                left is all but the looking up
records         the same records as text alone, with neither picture nor tag in them
zip, files      bytes of 5,000 pictures in random order, from the zip and from plain files
decode          ``load_dataset`` over the zip: time a row to decoded pictures, after the first row

Wall time is that of the work after the imports; the peak is the process's whole resident memory.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import io
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
import zipfile
from pathlib import Path
from typing import Any

ROUTES = ("records", "given", "pictures", "files", "zip", "decode")
RECORDS, PICTURES, TASKS = 186_103, 181_394, 191
READ = 5_000
DECODED = 1_000
INSIDE = "images_191task_1k"
VOCABULARY = (
    "the a of in is with on that image picture man woman red blue white standing holding large "
    "small near table street what which how many does this show option describe appears visible"
)
WORDS = VOCABULARY.split()


def draw(work: Path, records: int) -> None:
    """Write both annotations, the zip and some plain files; the same bytes for the same number."""
    rng = random.Random(17)
    pictures = max(1, records * PICTURES // RECORDS)
    shown = [picture(rng) for _ in range(64)]
    names = [
        f"{task(number)}_{number // TASKS}_COCO_train2014_{number * 3:012d}.jpg"
        if number % 5 == 0  # about so many of the tasks show COCO's pictures
        else f"{task(number)}_{number // TASKS}_n{number:08d}.jpg"
        for number in range(pictures)
    ]
    root = work / "root/vision_flan"
    root.mkdir(parents=True)
    with zipfile.ZipFile(root / "image_191-task_1k.zip", "w", allowZip64=True) as archive:
        for number, name in enumerate(names):
            archive.writestr(zipfile.ZipInfo(f"{INSIDE}/{name}"), shown[number % len(shown)])
    files = work / "files"
    files.mkdir()
    for number in sorted(rng.sample(range(pictures), min(READ, pictures))):
        (files / names[number]).write_bytes(shown[number % len(shown)])
    bare = work / "bare/vision_flan"
    bare.mkdir(parents=True)
    name = "annotation_191-task_1k.json"
    with (
        (root / name).open("w", encoding="utf-8") as with_pictures,
        (bare / name).open("w", encoding="utf-8") as without,
    ):
        for number in range(records):
            made = record(number, rng, names[number % pictures])
            mark = ", " if number else "["
            with_pictures.write(mark + json.dumps(made))
            del made["image"]
            made["conversations"][0]["value"] = (
                made["conversations"][0]["value"].replace("<image>", "").strip("\n")
            )
            without.write(mark + json.dumps(made))
        with_pictures.write("]")
        without.write("]")


def task(number: int) -> str:
    """Give the task of a record: names as long as the real ones."""
    return f"Dataset-{number % TASKS:03d}+image_question_answer"


def picture(rng: random.Random) -> bytes:
    """Draw a JPEG of about 6 KB."""
    from PIL import Image

    image = Image.frombytes("RGB", (28, 28), rng.randbytes(28 * 28 * 3))
    out = io.BytesIO()
    image.resize((192, 192)).save(out, "JPEG", quality=60)
    return out.getvalue()


def record(number: int, rng: random.Random, image: str) -> dict[str, Any]:
    """Make one record of about 590 bytes, as in the real file; every ninth id is one met before."""
    words = " ".join(rng.choices(WORDS, k=rng.randint(20, 80))) + "?"
    asked = f"<image>\n{words}" if number % 2 else f"{words}\n<image>"
    return {
        "id": f"vision-flan_{task(number)}+{number - (number % 9 == 0) * TASKS}",
        "image": image,
        "task_name": task(number),
        "conversations": [
            {"from": "human", "value": asked},
            {"from": "gpt", "value": " ".join(rng.choices(WORDS, k=rng.randint(1, 12)))},
        ],
    }


def run_build(root: Path, out: Path) -> None:
    import pyarrow as pa

    from vision_ift import _registry
    from vision_ift._build import Ids
    from vision_ift._conversation import SCHEMA

    builder = _registry.find("vision_flan")
    ids = Ids(builder)
    rows = images = 0
    started = (time.perf_counter(), time.process_time())
    with pa.OSFile(str(out / "rows.arrow"), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        for batch in builder.batches(root):
            kept = ids.settle(batch)
            assert not kept.dropped, kept.dropped[:3]
            writer.write_batch(kept.rows)
            rows += kept.rows.num_rows
            images += len(kept.rows.column("images").flatten())
    report(started, rows=rows, images=images)


def give_references() -> None:
    """Let every picture be where its path says, without looking."""
    import importlib

    pictures = importlib.import_module("vision_ift.builders._pictures").Pictures
    pictures.reference = lambda _, path, keep: f"vision_flan/{INSIDE}/{path}"  # noqa: ARG005
    pictures.broken = lambda _: {}


def run_reading(work: Path, *, from_zip: bool) -> None:
    from vision_ift import Images

    names = sorted(path.name for path in (work / "files").iterdir())
    random.Random(5).shuffle(names)
    images = Images(work)
    place = "vift://root/vision_flan/image_191-task_1k.zip!/" + INSIDE if from_zip else "files"
    shown = [f"{place}/{name.replace('+', '%2B') if from_zip else name}" for name in names]
    first = len(images.read(shown[0]))  # the directory is read once a process
    started = (time.perf_counter(), time.process_time())
    size = sum(len(images.read(one)) for one in shown[1:])
    report(started, rows=len(shown) - 1, size=size + first)


def run_decode(work: Path) -> None:
    import datasets

    import vision_ift  # noqa: F401 - gives `datasets` its sources

    datasets.disable_progress_bars()
    made = datasets.load_dataset(
        "vision_ift", "vision_flan", data_dir=str(work / "root"), split="train"
    )
    first = time.perf_counter()
    made[0]["images"][0].load()
    first = time.perf_counter() - first
    places = random.Random(5).sample(range(len(made)), min(DECODED, len(made)))
    started = (time.perf_counter(), time.process_time())
    for place in places:
        made[place]["images"][0].load()
    report(started, rows=len(places), first_s=first)


def report(started: tuple[float, float], **more: float) -> None:
    wall = time.perf_counter() - started[0]
    cpu = time.process_time() - started[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"wall_s": wall, "cpu_s": cpu, "peak_mb": peak, **more}))


def child(route: str, work: Path) -> None:
    out = Path(tempfile.mkdtemp(dir=work))
    try:
        if route == "given":
            give_references()
        if route in ("records", "given", "pictures"):
            run_build(work / ("bare" if route == "records" else "root"), out)
        elif route == "decode":
            run_decode(work)
        else:
            run_reading(work, from_zip=route == "zip")
    finally:
        shutil.rmtree(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--routes", default=",".join(ROUTES))
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child[0], Path(given.child[1]))
        return
    work = Path(tempfile.mkdtemp(dir=given.folder))
    try:
        draw(work, given.records)
        bench(given, work)
    finally:
        shutil.rmtree(work)


def bench(given: argparse.Namespace, work: Path) -> None:
    runs: dict[str, list[dict[str, float]]] = {route: [] for route in given.routes.split(",")}
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(work / "hf"),
        "VISION_IFT_TABLES": str(work / "tables"),
    }
    for _ in range(given.runs):
        for route in runs:
            command = [sys.executable, __file__, "--child", route, str(work)]
            done = subprocess.run(
                command, check=True, capture_output=True, text=True, env=environment
            )
            runs[route].append(json.loads(done.stdout.splitlines()[-1]))
            print(route, runs[route][-1], file=sys.stderr)
    results = {route: summed(found) for route, found in runs.items()}
    ratios = {}
    for name, base in (("references_given", "given"), ("text_alone", "records")):
        if {base, "pictures"} <= results.keys():
            ratios[f"time_with_pictures_to_{name}"] = (
                results["pictures"]["median_s"] / results[base]["median_s"]
            )
    if {"zip", "files"} <= results.keys():
        ratios["rate_of_zip_to_files"] = results["files"]["median_s"] / results["zip"]["median_s"]
    for route, row in results.items():
        print(
            f"{route:9} {row['median_s']:8.3f} s  ({row['spread_s'][0]:.3f} to "
            f"{row['spread_s'][1]:.3f})  {row['rows']:8,} rows  {row['ms_a_row']:7.3f} ms a row  "
            f"{row['peak_mb']:5.0f} MB"
        )
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f}")
    if given.json:
        packages = ("pyarrow", "datasets", "msgspec", "numpy", "pillow")
        document = {
            "command": f"python bench/vision_flan.py --records {given.records} --runs {given.runs}",
            "records": given.records,
            "python": platform.python_version(),
            "versions": {name: importlib.metadata.version(name) for name in packages},
            "cores": os.cpu_count(),
            "results": results,
            "ratios": ratios,
        }
        given.json.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


def summed(found: list[dict[str, float]]) -> dict[str, Any]:
    """Give the medians of a route's runs."""
    walls = [run["wall_s"] for run in found]
    more = (
        {"first_s": statistics.median(run["first_s"] for run in found)}
        if "first_s" in found[0]
        else {}
    )
    return {
        "median_s": statistics.median(walls),
        "spread_s": [min(walls), max(walls)],
        "median_cpu_s": statistics.median(run["cpu_s"] for run in found),
        "ms_a_row": statistics.median(walls) / found[0]["rows"] * 1000,
        "peak_mb": max(run["peak_mb"] for run in found),
        "rows": int(found[0]["rows"]),
        **more,
    }


if __name__ == "__main__":
    main()
