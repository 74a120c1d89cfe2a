"""Time likeness: picture hashes, near texts, shared runs of words, and the search for near hashes.

    python bench/likeness.py [--runs 3] [--texts 1000000] [--peers PYTHON] [--json FILE]

Every measurement is a fresh process on one core, and the contestants take turns. Peers that are
slow get a part of the work, and the table compares the time of one picture, text or query.
datasketch is measured where PYTHON, an interpreter of its own environment, can import it (default:
this one); without it its row is left out.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import io
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
PICTURES = 300
QUESTIONS = 50_000  # of a benchmark
HASHES = 10**6
DISTANCE = 6
SIMILARITY = 0.8

Work = Callable[[], int]


def draw_pictures(count: int) -> list[bytes]:
    """JPEGs of 640 by 480 pixels and some 100 kB, as COCO's are."""
    import numpy as np
    from PIL import Image

    found = []
    y, x = np.mgrid[0:1:480j, 0:1:640j]
    for seed in range(count):
        random = np.random.Generator(np.random.PCG64(seed))
        layers = []
        for _ in range(3):
            waves = sum(
                random.normal() * np.sin(random.uniform(5, 80) * x + random.uniform(5, 80) * y)
                for _ in range(6)
            )
            layers.append(128 + 25 * waves + random.normal(0, 7, x.shape))
        pixels = np.clip(np.stack(layers, -1), 0, 255).astype(np.uint8)
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "JPEG", quality=90)
        found.append(out.getvalue())
    return found


def write_questions(count: int) -> list[str]:
    """Questions of 6 to 24 words from a skewed vocabulary; every twentieth is a near copy."""
    import numpy as np

    random = np.random.Generator(np.random.PCG64(11))
    words = np.minimum(random.zipf(1.15, count * 24), 50_000)
    lengths = random.integers(6, 25, count).tolist()
    texts: list[str] = []
    at = 0
    for number, length in enumerate(lengths):
        if number % 20 == 19:
            texts.append(f"{texts[-7]} please?")
        else:
            texts.append(" ".join(f"w{one}" for one in words[at : at + length]) + "?")
        at += length
    return texts


def hash_pictures(kind: str, _: int) -> Work:
    pictures = draw_pictures(PICTURES)
    if kind == "vision_ift":
        from vision_ift._likeness.hash import look
        from vision_ift._pictures.child import Limits

        limits = Limits()

        def one(data: bytes) -> object:
            return look(data, limits)
    elif kind == "grey decode at 1/8 or more":
        import simplejpeg

        def one(data: bytes) -> object:
            return simplejpeg.decode_jpeg(data, "GRAY", fastdct=True, min_height=64, min_width=64)
    else:
        import imagehash
        from PIL import Image

        function = getattr(imagehash, kind.removeprefix("imagehash "))

        def one(data: bytes) -> object:
            return function(Image.open(io.BytesIO(data)))

    def work() -> int:
        for data in pictures:
            one(data)
        return len(pictures)

    one(pictures[0])
    return work


def near_texts(kind: str, count: int) -> Work:
    if kind == "vision_ift":
        import pyarrow as pa

        from vision_ift._likeness.minhash import SHINGLE_WORDS, alike
        from vision_ift._likeness.words import join, normalise, shingles, words_of

        texts = pa.array(write_questions(count), pa.large_string())

        def work() -> int:
            distinct = normalise(texts).dictionary_encode().dictionary
            pieces = [  # as many at a time as a table's row group holds
                shingles(words_of(distinct.slice(start, 8192)), SHINGLE_WORDS)
                for start in range(0, len(distinct), 8192)
            ]
            found = alike(join(pieces), SIMILARITY)
            assert len(found.left) >= count // 100  # the near copies are there
            return count

        return work
    from datasketch import MinHash, MinHashLSH

    few = write_questions(5000)

    def peer() -> int:
        index = MinHashLSH(threshold=SIMILARITY, num_perm=128)
        for number, text in enumerate(few):
            words = text.lower().rstrip("?").split()
            made = MinHash(num_perm=128)
            made.update_batch(
                [" ".join(words[at : at + 3]).encode() for at in range(max(len(words) - 2, 1))]
            )
            index.query(made)
            index.insert(str(number), made)
        return len(few)

    return peer


def shared_runs(kind: str, count: int) -> Work:
    texts = write_questions(count)
    bench = [f"{text} and which one of them is not there" for text in texts[:QUESTIONS]]
    if kind == "vision_ift":
        import pyarrow as pa

        from vision_ift._likeness.grams import GramIndex
        from vision_ift._likeness.words import normalise, words_of

        ours, theirs = (pa.array(one, pa.large_string()) for one in (texts, bench))

        def work() -> int:
            index = GramIndex(words_of(normalise(theirs)))
            for start in range(0, len(ours), 65536):
                index.shared(words_of(normalise(ours[start : start + 65536])))
            return count

        return work

    def naive() -> int:
        def runs(text: str) -> list[tuple[str, ...]]:
            words = text.lower().rstrip("?").split()
            return [tuple(words[at : at + 13]) for at in range(len(words) - 12)]

        known: dict[tuple[str, ...], list[int]] = {}
        for number, text in enumerate(bench):
            for run in runs(text):
                known.setdefault(run, []).append(number)
        for text in texts:
            {number for run in runs(text) for number in known.get(run, ())}
        return count

    return naive


def near_hashes(kind: str, _: int) -> Work:
    import numpy as np

    random = np.random.Generator(np.random.PCG64(3))
    hashes = random.integers(0, 2**64, HASHES, dtype=np.uint64)
    if kind == "vision_ift":
        from vision_ift._likeness.near import within

        def work() -> int:
            assert sum(len(pairs.query) for pairs in within(hashes, hashes, DISTANCE)) >= HASHES
            return HASHES

        return work

    def each_with_each() -> int:
        for query in hashes[:200]:
            np.flatnonzero(np.bitwise_count(hashes ^ query) <= DISTANCE)
        return 200

    return each_with_each


#: What is measured: title, the work, and its contestants, ours first.
MEASURED: dict[str, tuple[str, Callable[[str, int], Work], tuple[str, ...]]] = {
    "hash": (
        "Hash of a 640 × 480 JPEG, 64 bits",
        hash_pictures,
        ("vision_ift", "imagehash phash", "imagehash dhash", "grey decode at 1/8 or more"),
    ),
    "near texts": ("Near questions, MinHash of 128", near_texts, ("vision_ift", "datasketch")),
    "runs": (
        f"Runs of 13 words shared with {QUESTIONS:,} questions",
        shared_runs,
        ("vision_ift", "a dictionary of tuples"),
    ),
    "near hashes": (
        f"All pairs within {DISTANCE} bits among {HASHES:,} hashes",
        near_hashes,
        ("vision_ift", "each with each, numpy"),
    ),
}


def measure(what: str, kind: str, texts: int) -> dict[str, float]:
    work = MEASURED[what][1](kind, texts)
    start, used = time.perf_counter(), time.process_time()
    done = work()
    seconds, used = time.perf_counter() - start, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"done": done, "seconds": seconds, "cpu_seconds": used, "peak_mib": peak / 2**10}


def run_child(what: str, kind: str, texts: int, python: str) -> dict[str, float]:
    command = [python, str(HERE), "--child", what, kind, "--texts", str(texts)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{what}, {kind} failed:\n{done.stderr}")
    numbers: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return numbers


def has_datasketch(python: str) -> bool:
    code = "import datasketch"
    return not subprocess.run([python, "-c", code], capture_output=True, check=False).returncode


def summarise(runs: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    return {
        key: {
            "median": statistics.median(run[key] for run in runs),
            "least": min(run[key] for run in runs),
            "most": max(run[key] for run in runs),
        }
        for key in runs[0]
    }


def table_of(results: dict[str, dict[str, Any]], texts: int) -> list[list[str]]:
    """Rows of five: what, against whom, ratio, seconds, memory. A ratio is by piece of work."""
    rows = []
    for what, found in results.items():
        title = MEASURED[what][0]
        if MEASURED[what][1] in (near_texts, shared_runs):
            title = f"{title}, {texts:,} questions"
        mine = found["vision_ift"]
        each = mine["seconds"]["median"] / mine["done"]["median"]
        for kind, other in found.items():
            if kind == "vision_ift":
                continue
            theirs = other["seconds"]["median"] / other["done"]["median"]
            part = mine["done"]["median"] != other["done"]["median"]
            peer = f"the limit: {kind}" if kind.startswith("grey") else kind
            peer += f" ({other['done']['median']:,.0f} of them)" if part else ""
            rows.append(
                [
                    title,
                    peer,
                    f"{theirs / each:.1f} ×" + (" a piece" if part else ""),
                    f"{mine['seconds']['median']:.2f} / {other['seconds']['median']:.2f}",
                    f"{mine['peak_mib']['median']:.0f} / {other['peak_mib']['median']:.0f}",
                ]
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--texts", type=int, default=10**6)
    parser.add_argument("--only", choices=MEASURED, action="append")
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        print(json.dumps(measure(*options.child, options.texts)))
        return
    left_out = {"datasketch"} if not has_datasketch(options.peers) else set()
    if importlib.util.find_spec("imagehash") is None:
        left_out |= {"imagehash phash", "imagehash dhash"}
    chosen = options.only or list(MEASURED)
    runs: dict[str, dict[str, list[dict[str, float]]]] = {
        what: {kind: [] for kind in MEASURED[what][2] if kind not in left_out} for what in chosen
    }
    for _ in range(options.runs):
        for what, found in runs.items():
            for kind, numbers in found.items():
                python = options.peers if kind == "datasketch" else sys.executable
                numbers.append(run_child(what, kind, options.texts, python))
    results = {
        what: {kind: summarise(numbers) for kind, numbers in found.items()}
        for what, found in runs.items()
    }
    rows = table_of(results, options.texts)
    for row in rows:
        print(" | ".join(row))
    if options.json:
        names = ("numpy", "pyarrow", "pillow", "simplejpeg", "ImageHash")
        record = {
            "command": f"python bench/likeness.py --runs {options.runs} --texts {options.texts}",
            "versions": {
                "python": platform.python_version(),
                **{
                    name: importlib.metadata.version(name) for name in names if name not in left_out
                },
            },
            "machine": {"cores": os.cpu_count(), "system": platform.system()},
            "left_out": sorted(left_out),
            "results": results,
            "table": rows,
        }
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
