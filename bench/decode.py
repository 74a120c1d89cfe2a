"""Pictures to RGB arrays, and raw bytes into a training process: ours and the peers.

    python bench/decode.py --runs 5 --json out.json

Draws pictures like photographs in detail (noise of all scales): 640 x 480 at quality 90, mean
about 155 kB, and 2,000 x 1,500 at quality 85. In fresh processes, in alternation, all in memory:

decode        ``decode_pixels``, bytes to an array, EXIF looked for, limits checked
Pillow        ``Image.open``, ``exif_transpose``, ``convert("RGB")``, with a target size
              ``resize`` (bicubic), ``numpy.asarray``
Pillow draft  the same after ``Image.draft``, which decodes at a half, quarter or eighth too
simplejpeg    ``decode_jpeg`` alone: the physical limit of the fast path

Then an export is read as raw bytes, as a decoder on a GPU wants them: our stream in the training
process, by threads, against webdataset in a ``DataLoader`` with two workers (its start included;
rows of random bytes behind a JPEG signature, since nobody decodes).
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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

#: Width, height, quality, noise, distinct pictures, repeats.
SETS = {"coco": (640, 480, 90, 14, 60, 4), "large": (2000, 1500, 85, 8, 8, 3)}
ROUTES: dict[str, tuple[str, int | None, str, int]] = {
    f"{place} {size or 'all'} {kind} {threads}": (place, size, kind, threads)
    for place, size in (
        ("coco", None),
        ("coco", 336),
        ("large", None),
        ("large", 336),
        ("large", 672),
    )
    for kind, threads in (
        ("ours", 1),
        ("ours", 2),
        ("pillow", 1),
        ("pillow", 2),
        ("draft", 1),
        ("bare", 1),
    )
    if not (kind in ("draft", "bare") and (size is None) is not (kind == "bare"))
}
RAW = ("raw ours 0", "raw ours 2", "raw webdataset")


def draw(folder: Path, width: int, height: int, quality: int, noise: float, count: int) -> None:
    """Write pictures with detail of all scales."""
    import numpy as np
    from PIL import Image

    chance = np.random.default_rng(width)
    folder.mkdir(parents=True)
    for number in range(count):
        total = np.zeros((height, width, 3), np.float32)
        for octave in range(2, 10):
            small = chance.normal(size=(max(2, height >> octave), max(2, width >> octave), 3))
            grey = small.mean(axis=2, keepdims=True) * 1.6 + small * 0.4
            scaled = [
                np.asarray(
                    Image.fromarray(grey[:, :, band].astype(np.float32)).resize(
                        (width, height), Image.Resampling.BICUBIC
                    )
                )
                for band in range(3)
            ]
            total += np.stack(scaled, axis=2) * 2.0**octave / 7
        total += chance.normal(size=(height, width, 1)) * noise
        pixels = (128 + total * 0.9).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=quality)


def make_export(work: Path, rows: int) -> None:
    """Export rows of random bytes behind a JPEG signature, 120 to 190 kB each."""
    from vision_ift import Recipe, export, plan

    chance = random.Random(17)
    root = work / "root"
    (root / "pictures").mkdir(parents=True)
    records = []
    for number in range(rows):
        name = f"pictures/{number:06d}.jpg"
        size = chance.randrange(120, 190) * 1000
        (root / name).write_bytes(b"\xff\xd8\xff\xe0" + chance.randbytes(size))
        turns = [
            {"from": "human", "value": "<image>\nWhat is this?"},
            {"from": "gpt", "value": "It is number " + " ".join(str(number)) + "."},
        ]
        records.append({"id": str(number), "image": name, "conversations": turns})
    (root / "data.json").write_text(json.dumps(records), encoding="utf-8")
    recipe = Recipe.parse("{name: bench, mix: [{source: llava, weight: 1, path: data.json}]}")
    made = plan(recipe, root=root, tables=work / "tables")
    export(made, out=work / "out", shard_bytes=rows * 160_000 // 5)


def decode_ours(size: int | None) -> Callable[[bytes], Any]:
    from vision_ift._pictures.pixels import decode_pixels

    return lambda data: decode_pixels(data, size=size)


def decode_pillow(size: int | None, *, draft: bool) -> Callable[[bytes], Any]:
    import numpy as np
    from PIL import Image, ImageOps

    from vision_ift._pictures.pixels import fit_box

    def decode(data: bytes) -> Any:
        with Image.open(io.BytesIO(data)) as image:
            target = fit_box(*image.size, (size, size)) if size else image.size
            if draft:
                image.draft("RGB", target)
            shown = ImageOps.exif_transpose(image).convert("RGB")
            if size:
                shown = shown.resize(target, Image.Resampling.BICUBIC)
            return np.asarray(shown)

    return decode


def decode_bare() -> Callable[[bytes], Any]:
    import simplejpeg

    return lambda data: simplejpeg.decode_jpeg(data, "RGB")


def measure_decode(route: str, work: Path) -> dict[str, float]:
    """Decode a set in this process."""
    place, size, kind, threads = ROUTES[route]
    decode = {
        "ours": lambda: decode_ours(size),
        "pillow": lambda: decode_pillow(size, draft=False),
        "draft": lambda: decode_pillow(size, draft=True),
        "bare": decode_bare,
    }[kind]()
    pictures = [path.read_bytes() for path in sorted((work / place).iterdir())]
    repeats = SETS[place][5]
    for data in pictures[:3]:
        decode(data)  # imports and first tables are nobody's
    many = pictures * repeats
    with ThreadPoolExecutor(threads) as pool:
        start, used = time.perf_counter(), time.process_time()
        if threads == 1:
            for data in many:
                decode(data)
        else:
            list(pool.map(lambda data: decode(data).shape, many))
        wall, cpu = time.perf_counter() - start, time.process_time() - used
    return {"wall_s": wall, "cpu_s": cpu, "pictures": len(many), "peak_mb": peak_mb()}


def measure_raw(route: str, work: Path) -> dict[str, float]:
    """Bring every picture's bytes into this process."""
    if route == "raw webdataset":
        import torch.utils.data
        import webdataset

        shards = sorted(str(path) for path in (work / "out").rglob("*.tar"))
        start = time.perf_counter()
        dataset = webdataset.WebDataset(shards, shardshuffle=False)
        loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=2)
        sizes = [len(row["jpg"]) for row in loader]
    else:
        from vision_ift._stream.stream import stream

        threads = int(route.rpartition(" ")[2])
        start = time.perf_counter()
        rows = stream(work / "out", columns=("id", "images"), threads=threads)
        sizes = [len(picture["bytes"]) for row in rows for picture in row["images"]]
    wall = time.perf_counter() - start
    return {"wall_s": wall, "pictures": len(sizes), "bytes": sum(sizes), "peak_mb": peak_mb()}


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_child(route: str, work: Path) -> dict[str, float]:
    """Measure a route in a fresh process."""
    command = [sys.executable, __file__, "--child", route, str(work)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{route} failed:\n{done.stderr}")
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


def table(results: dict[str, Any]) -> list[list[str]]:
    """Rows of the README's table: what, against, ratio, seconds, peak MB."""
    names = {"coco": "640 × 480", "large": "2,000 × 1,500"}
    lines = []
    for place, size in dict.fromkeys((place, size) for place, size, _, _ in ROUTES.values()):
        what = f"JPEG of {names[place]} to an RGB array"
        what += f", longer side {size}" if size else ""
        base = f"{place} {size or 'all'}"
        pairs = [
            ("", f"{base} ours 1", f"{base} pillow 1", "Pillow to NumPy"),
            (" by two threads", f"{base} ours 2", f"{base} pillow 2", "Pillow by two threads"),
            (" by two threads", f"{base} ours 2", f"{base} ours 1", "one thread"),
            ("", f"{base} ours 1", f"{base} draft 1", "Pillow with `draft`"),
            ("", f"{base} ours 1", f"{base} bare 1", "the limit: `simplejpeg` alone"),
        ]
        lines += [
            line(what + more, peer, results[ours], results[theirs])
            for more, ours, theirs, peer in pairs
            if theirs in results
        ]
    for threads in (2, 0) if "raw webdataset" in results else ():
        what = "Raw bytes into the training process"
        what += f", {threads} threads" if threads else ", no thread"
        theirs = results["raw webdataset"]
        peer = "webdataset, `DataLoader` with 2 workers"
        lines.append(line(what, peer, results[f"raw ours {threads}"], theirs))
    return lines


def line(what: str, peer: str, ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    seconds = [one["wall_s"]["median"] for one in (ours, theirs)]
    peaks = [one["peak_mb"]["median"] for one in (ours, theirs)]
    return [
        what,
        peer,
        f"{seconds[1] / seconds[0]:.2f} ×",
        f"{seconds[0]:.2f} / {seconds[1]:.2f}",
        f"{peaks[0]:.0f} / {peaks[1]:.0f}",
    ]


def main() -> None:
    """Parse the command line; measure; print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=4000, help="of the export that is read raw")
    parser.add_argument("--only", default="", help="routes that begin so, e.g. raw or large")
    parser.add_argument("--memory", type=Path, default=Path("/dev/shm"), help="a folder on tmpfs")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        route, work = given.child[0], Path(given.child[1])
        if route == "prepare":
            for place, (width, height, quality, noise, count, _) in SETS.items():
                draw(work / place, width, height, quality, noise, count)
            make_export(work, given.rows)
        else:
            found = (measure_decode if route in ROUTES else measure_raw)(route, work)
            print(json.dumps(found))
        return
    work = Path(tempfile.mkdtemp(dir=given.memory))
    routes = [route for route in (*ROUTES, *RAW) if route.startswith(given.only)]
    runs: dict[str, list[dict[str, float]]] = {route: [] for route in routes}
    try:
        # In a process of its own: the peak of this one counts as that of all that it starts.
        made = [sys.executable, __file__, "--rows", str(given.rows), "--child", "prepare"]
        subprocess.run([*made, str(work)], check=True, stdout=subprocess.DEVNULL)
        for _ in range(given.runs):
            for route, several in runs.items():
                several.append(run_child(route, work))
        sizes = {
            place: statistics.mean(path.stat().st_size for path in (work / place).iterdir())
            for place in SETS
        }
    finally:
        shutil.rmtree(work)
    results = {route: summarise(found) for route, found in runs.items()}
    lines = table(results)
    print(f"mean bytes a picture: {sizes}")
    for one in lines:
        print(" | ".join(one))
    if given.json:
        packages = ("numpy", "pillow", "simplejpeg", "torch", "webdataset")
        document = {
            "command": f"python bench/decode.py --rows {given.rows} --runs {given.runs}",
            "mean_bytes": sizes,
            "python": platform.python_version(),
            "versions": {name: importlib.metadata.version(name) for name in packages},
            "cores": os.cpu_count(),
            "results": results,
            "table": lines,
        }
        given.json.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
