"""Run the real readers over exports of every kind and hold what they give against what is said.

    python tests/readers/prove.py [--venvs DIR] [--only ray,wids] [--layouts ragged,png] [--json]

Their pins conflict, so each gets an environment of its own under DIR (about 4 GB; made once, kept).
``webdataset`` and ``datasets`` run in the environment that this script runs in. Ends with 1 where a
reader does otherwise than ``vision-ift verify --readers`` says.
"""

from __future__ import annotations

import argparse
import glob
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from PIL import Image  # noqa: E402 - after the path is set

from tests.exports import dialog, plan_of  # noqa: E402 - after the path is set
from tests.readers.told import Rows, sha256  # noqa: E402 - after the path is set
from tests.rows import table_of  # noqa: E402 - after the path is set
from vision_ift._export.export import export  # noqa: E402 - after the path is set
from vision_ift._verify.verify import verify  # noqa: E402 - after the path is set

#: What each reader's environment holds; none: the one that this script runs in. Torch is pinned in
#: the same call, or a package beside it would bring another. Torch and torchvision have to be of
#: one kind: an index that gives torch for the processor alone must give that torchvision too.
PINS: dict[str, tuple[str, ...]] = {
    "webdataset": (),
    "datasets": (),
    "ray": ("ray[data]==2.60.0", "webdataset==1.0.2", "pillow"),
    "energon": ("torch==2.13.0", "megatron-energon==7.4.1"),
    "wids": ("wids==0.1.11", "webdataset==0.2.111", "pillow", "torch==2.13.0"),
    "open_clip": (
        *("torch==2.13.0", "torchvision==0.28.0", "open_clip_torch==3.3.0"),
        *("webdataset==0.2.86", "pandas"),
    ),
}

#: Layout to the pictures of row n (endings), and how it is exported.
LAYOUTS: dict[str, tuple[tuple[tuple[str, ...], ...], dict[str, Any]]] = {
    "ragged": (((), ("jpg",), ("jpg", "png"), ("webp",), ("gif",), ("jpg", "jpg", "jpg")), {}),
    "uniform": (
        ((), ("jpg",), ("jpg", "png"), ("webp",), ("gif",), ("jpg", "jpg", "jpg")),
        {"uniform": True},
    ),
    "one jpg": ((("jpg",),), {}),
    "one png": ((("png",),), {}),
    "one webp": ((("webp",),), {}),
    "jpg or png": ((("jpg",), ("png",)), {}),
    "three jpg": ((("jpg", "jpg", "jpg"),), {}),
    "text only": (((),), {}),
    "no .txt": ((("jpg",),), {"text": False}),
}


class Outcome(NamedTuple):
    """One line of the table."""

    layout: str
    reader: str
    predicted: str
    real: str
    right: bool
    note: str


def draw(path: Path, number: int) -> None:
    """Draw a small picture that no other number gives."""
    picture = Image.new("RGB", (24 + number % 9, 16), (number * 37 % 256, number * 91 % 256, 80))
    picture.putpixel((number % 24, 3), (255, 255, number % 256))
    data = io.BytesIO()
    picture.save(data, {"jpg": "JPEG"}.get(path.suffix[1:], path.suffix[1:].upper()))
    path.write_bytes(data.getvalue())


def write(folder: Path, name: str, *, rows: int = 24) -> Path:
    """Write one export of a layout."""
    kinds, asked = LAYOUTS[name]
    root = folder / "root"
    root.mkdir(parents=True)
    conversations = []
    for number in range(rows):
        endings = kinds[number % len(kinds)]
        pictures = tuple(f"{number}-{place}.{ending}" for place, ending in enumerate(endings))
        for place, picture in enumerate(pictures):
            draw(root / picture, number * 10 + place)
        conversations.append(
            dialog(number, pictures, license="MIT" if number % 2 else None, meta={"n": number})
        )
    table = table_of(folder / "table", conversations, source="llava")
    out = folder / "out"
    export(plan_of(root, {"llava": table}), out=out, shard_bytes=30_000, **asked)
    return out


def wanted(out: Path) -> Rows:
    """The members of every row, as Python's tarfile reads them."""
    found: Rows = {}
    for path in sorted(glob.glob(f"{out}/**/*.tar", recursive=True)):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, ending = member.name.partition(".")
                file = tar.extractfile(member)
                assert file is not None
                found.setdefault(key, {})[ending] = sha256(file.read())
    return found


def python_of(reader: str, venvs: Path) -> Path:
    """Give the interpreter of a reader's environment, made if it is not there."""
    if not PINS[reader]:
        return Path(sys.executable)
    place = venvs / reader
    python = place / "bin/python"
    if not (place / "made").exists():
        venv.create(place, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--quiet", *PINS[reader]]
        subprocess.run(command, check=True)
        (place / "made").write_text("\n".join(PINS[reader]))
    return python


def told(reader: str, python: Path, folder: Path) -> dict[str, Any]:
    """Run a reader over a folder and give what it tells, way by way."""
    done = subprocess.run(
        [str(python), str(HERE / f"read_{reader}.py"), str(folder)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    if not lines or not lines[-1].startswith("{"):
        return {"default": {"error": done.stderr.strip()[-600:] or f"ended with {done.returncode}"}}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def judged(reader: str, python: Path, out: Path) -> tuple[str, int, str]:
    """Run a reader over an export, folder by folder where it has groups; give what it is worth."""
    groups = sorted({path.parent for path in out.glob("*/*.tar")})
    folders = [out] if reader == "datasets" or not groups else groups
    right = wanted(out)
    texts = {row["txt"]: key for key, row in right.items() if "txt" in row}
    ways: dict[str, dict[str, Any]] = {}
    errors: dict[str, str] = {}
    for folder in folders:
        for way, answer in told(reader, python, folder).items():
            ways.setdefault(way, {"rows": {}, "count": 0})
            if isinstance(answer, int):
                ways[way]["count"] += answer
            elif "error" in answer:
                errors[way] = answer["error"]
            else:
                answer.pop("told", None)
                ways[way]["rows"].update(
                    {texts[row["txt"]]: right[texts[row["txt"]]] for row in answer.values()}
                    if reader == "open_clip"
                    else answer
                )
    for way, found in ways.items():
        for key, row in found["rows"].items():
            wrong = {name for name, digest in row.items() if right[key].get(name) != digest}
            if wrong:
                errors[way] = f"{key}: {', '.join(sorted(wrong))} came with other bytes"
    counts = {way: max(len(found["rows"]), found["count"]) for way, found in ways.items()}
    whole = len(right)
    note = "; ".join(f"{way}: {error[:160]}" for way, error in errors.items())
    good = [way for way in counts if counts[way] == whole and way not in errors]
    if len(good) == len(counts):
        return "yes", whole, note
    if good and "default" not in good and reader == "ray":
        return "with", whole, note
    rows = counts["default"]
    return ("some" if rows else "no"), rows, note


def outcomes(asked: argparse.Namespace) -> Iterator[Outcome]:
    """Run the readers that are asked for over the layouts that are asked for."""
    with tempfile.TemporaryDirectory(prefix="vision_ift-readers-") as temporary:
        for layout in asked.layouts:
            out = write(Path(temporary) / layout.replace(" ", "-"), layout)
            verdicts = {one.reader: one for one in verify(out, readers=True).readers}
            for reader in asked.only:
                python = python_of(reader, asked.venvs)
                reads, rows, note = judged(reader, python, out)
                said = verdicts[reader]
                yield Outcome(
                    layout,
                    reader,
                    f"{said.reads} ({said.rows})",
                    f"{reads} ({rows})",
                    (said.reads, said.rows) == (reads, rows),
                    note,
                )


def main() -> int:
    """Print the table; 1 where something is otherwise than said."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venvs", type=Path, default=Path("readers-venvs"))
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(PINS))
    parser.add_argument("--layouts", type=lambda text: text.split(","), default=list(LAYOUTS))
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = []
    for one in outcomes(asked):
        found.append(one)
        if not asked.json:
            mark = "" if one.right else "  <-- WRONG"
            sys.stdout.write(
                f"{one.layout:12} {one.reader:12} {one.predicted:12} {one.real:12}{mark}\n"
            )
            if one.note:
                sys.stdout.write(f"{'':26}{one.note}\n")
            sys.stdout.flush()
    wrong = sum(not one.right for one in found)
    if asked.json:
        sys.stdout.write(json.dumps({"wrong": wrong, "table": [one._asdict() for one in found]}))
    else:
        sys.stdout.write(f"{len(found)} pairs, {wrong} otherwise than said\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
