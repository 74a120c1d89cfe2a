"""Reading COCO's annotations: ours and pycocotools, on a file of the real size.

    python bench/coco.py                       three runs each, about four minutes
    python bench/coco.py --images 10000        smaller, for a quick look
    python bench/coco.py --json coco.json      the figures, with versions and the command

The file is made here, the same on every machine: as many pictures, annotations and polygons as
``instances_train2017.json`` has, and five captions a picture. Every run is a fresh process, and the
contestants take turns, so that none has the quiet half of the hour. Imports are not timed. Every
contestant reports what it read, and the run fails where they disagree.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import importlib
import json
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

IMAGES = 118_287
ANNOTATIONS = 860_001
CAPTIONS_A_PICTURE = 5
FOLDER = "coco/annotations"
WORDS = ("a", "man", "riding", "wave", "surfboard", "in", "the", "blue", "ocean", "near", "boat")

CONTESTANTS = {
    "instances": ("ours", "pycocotools", "pycocotools, collector off"),
    "captions": ("ours", "pycocotools", "pycocotools, collector off"),
}


def write_instances(path: Path, images: int) -> None:
    """Write an instances file; polygons are most of its bytes, as in the real one."""
    draw = np.random.Generator(np.random.PCG64(17))
    count = round(ANNOTATIONS * images / IMAGES)
    ids = np.sort(draw.choice(581_929, images, replace=False)) + 1
    of_images = draw.choice(ids, count)
    with path.open("w", encoding="ascii") as file:
        file.write('{"info": {}, "licenses": [{"url": "u", "id": 1, "name": "n"}], "images": [')
        file.write(", ".join(_image(int(image)) for image in ids))
        file.write('], "annotations": [')
        for start in range(0, count, 10_000):
            part = of_images[start : start + 10_000].tolist()
            kinds = draw.integers(1, 81, len(part)).tolist()
            boxes = (draw.random((len(part), 4)) * (300, 200, 300, 200) + 1).round(2).tolist()
            crowds = (draw.random(len(part)) < 0.01).tolist()
            lengths = draw.integers(10, 100, len(part)).tolist()
            corners = (draw.random(sum(lengths)) * 600).round(2).tolist()
            rows, used = [], 0
            for place, image in enumerate(part):
                outline = ", ".join(map(str, corners[used : used + lengths[place]]))
                used += lengths[place]
                shape = f"[[{outline}]]"
                if crowds[place]:
                    shape = '{"counts": [272, 2, 4, 4, 4, 4, 2, 9], "size": [480, 640]}'
                area = round(boxes[place][2] * boxes[place][3], 4)
                rows.append(
                    f'{{"segmentation": {shape}, "area": {area}, "iscrowd": {int(crowds[place])}, '
                    f'"image_id": {image}, "bbox": {boxes[place]}, "category_id": {kinds[place]}, '
                    f'"id": {start + place + 1}}}'
                )
            file.write((", " if start else "") + ", ".join(rows))
        kinds_text = ", ".join(
            f'{{"supercategory": "s", "id": {kind}, "name": "kind {kind}"}}'
            for kind in range(1, 81)
        )
        file.write(f'], "categories": [{kinds_text}]}}')


def write_captions(path: Path, images: int) -> None:
    """Write a captions file of ``CAPTIONS_A_PICTURE`` captions a picture."""
    draw = np.random.Generator(np.random.PCG64(18))
    ids = np.sort(draw.choice(581_929, images, replace=False)) + 1
    with path.open("w", encoding="ascii") as file:
        file.write('{"info": {}, "licenses": [{"url": "u", "id": 1, "name": "n"}], "images": [')
        file.write(", ".join(_image(int(image)) for image in ids))
        file.write('], "annotations": [')
        picked = draw.integers(0, len(WORDS), (images, CAPTIONS_A_PICTURE, 10)).tolist()
        for place, image in enumerate(ids.tolist()):
            for number in range(CAPTIONS_A_PICTURE):
                text = " ".join(WORDS[word] for word in picked[place][number])
                name = place * CAPTIONS_A_PICTURE + number
                comma = ", " if name else ""
                file.write(f'{comma}{{"image_id": {image}, "id": {name}, "caption": "{text}."}}')
        file.write("]}")


def _image(image: int) -> str:
    name = f"{image:012d}.jpg"
    return (
        f'{{"license": 1, "file_name": "{name}", "coco_url": "http://images/{name}", '
        f'"height": 480, "width": 640, "date_captured": "2013-11-14 17:02:52", '
        f'"flickr_url": "http://farm/{name}", "id": {image}}}'
    )


def child(what: str, contestant: str, root: Path) -> dict[str, Any]:
    """Read one file once, in this process; give seconds, memory and what was read."""
    file = f"{FOLDER}/{what}_train2017.json"
    if contestant == "ours" and what == "instances":
        read = importlib.import_module("vision_ift.builders._coco_instances").read_instances
        start = time.perf_counter()
        found = read(root, file)
        seconds = time.perf_counter() - start
        content = [int(found.ids.sum()), int(found.category_ids.sum()), len(found.image_ids)]
    elif contestant == "ours":
        module = importlib.import_module("vision_ift.builders._coco_questions")
        start = time.perf_counter()
        rounds = list(module.read_captions(root, (file,), None))
        seconds = time.perf_counter() - start
        content = [sum(one.id for one in rounds), sum(len(one.answer) for one in rounds)]
    else:
        coco = importlib.import_module("pycocotools.coco").COCO
        if contestant.endswith("collector off"):
            gc.disable()
        start = time.perf_counter()
        whole = coco(str(root / file))
        seconds = time.perf_counter() - start
        rows = whole.anns.values()
        if what == "instances":
            kinds = sum(row["category_id"] for row in rows)
            content = [sum(whole.anns), kinds, len(whole.imgs)]
        else:
            content = [sum(whole.anns), sum(len(row["caption"]) for row in rows)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak_mb": peak, "content": content}


def measure(what: str, root: Path, runs: int) -> dict[str, Any]:
    """Let the contestants take turns; give median, spread and memory of each."""
    times: dict[str, list[float]] = {name: [] for name in CONTESTANTS[what]}
    peaks: dict[str, float] = dict.fromkeys(CONTESTANTS[what], 0.0)
    contents = set()
    for turn in range(runs):
        for name in CONTESTANTS[what]:
            command = [sys.executable, __file__, "--child", what, name, str(root)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            result = json.loads(done.stdout.splitlines()[-1])
            times[name].append(result["seconds"])
            peaks[name] = max(peaks[name], result["peak_mb"])
            contents.add(json.dumps(result["content"]))
            print(f"{what} run {turn + 1}: {name} {result['seconds']:.2f} s", file=sys.stderr)
    if len(contents) != 1:
        sys.exit(f"{what}: the contestants read different things: {sorted(contents)}")
    ours = statistics.median(times["ours"])
    return {
        name: {
            "median_s": round(statistics.median(values), 3),
            "spread_s": [round(min(values), 3), round(max(values), 3)],
            "ours_is_faster_by": round(statistics.median(values) / ours, 2),
            "peak_mb": round(peaks[name]),
            "runs": len(values),
        }
        for name, values in times.items()
    }


def main() -> None:
    """Parse the command line, make the files, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--only", choices=tuple(CONTESTANTS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        what, contestant, root = given.child
        print(json.dumps(child(what, contestant, Path(root))))
        return
    root = Path(tempfile.mkdtemp(prefix="coco-bench-"))
    try:
        (root / FOLDER).mkdir(parents=True)
        command = f"python bench/coco.py --images {given.images} --runs {given.runs}"
        report: dict[str, Any] = {"command": command, "python": platform.python_version()}
        report["machine"] = platform.platform()
        names = ("msgspec", "numpy", "pycocotools")
        report["versions"] = {name: version(name) for name in names}
        writers = {"instances": write_instances, "captions": write_captions}
        for what in (given.only,) if given.only else tuple(CONTESTANTS):
            path = root / FOLDER / f"{what}_train2017.json"
            writers[what](path, given.images)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = path.stat().st_size
            print(f"\n{what}: {given.images:,} pictures, {size / 1e6:.0f} MB, sha256 {digest[:16]}")
            print(f"{'':28}{'median s':>9}{'spread s':>16}{'peak MB':>9}{'ours is':>9}")
            rows = measure(what, root, given.runs)
            for name, row in rows.items():
                spread = "{:.2f}-{:.2f}".format(*row["spread_s"])
                faster = f"{row['ours_is_faster_by']:.1f}x"
                print(f"{name:28}{row['median_s']:9.2f}{spread:>16}{row['peak_mb']:9}{faster:>9}")
            report[what] = {"bytes": size, "sha256": digest, "results": rows}
            path.unlink()
        if given.json:
            given.json.write_text(json.dumps(report, indent=1) + "\n")
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
