"""Let LLaMA-Factory and ms-swift read what we write, and hold what they give against the rows.

    python tests/convert/prove.py [--venvs DIR] [--only swift] [--rows N]

Each gets an environment of its own under DIR (made once, kept; about 2 GB each). Ends with 1 where
one gives other turns or other pictures. TRL is in the ordinary tests (test_trl.py).
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from tests.convert.laid import file_of, laid, one, turn  # noqa: E402 - after the path is set
from vision_ift._conversation import Conversation  # noqa: E402 - after the path is set
from vision_ift._convert.convert import convert  # noqa: E402 - after the path is set

#: Steps of pip. LLaMA-Factory pins torchaudio and gradio, whose wheels want CUDA and a server; what
#: its data code imports is listed instead.
STEPS: dict[str, tuple[tuple[str, ...], ...]] = {
    "llamafactory": (
        ("--no-deps", "llamafactory==0.9.5"),
        (
            *("torch==2.13.0", "transformers==4.57.6", "datasets==4.0.0", "trl==0.24.0"),
            *("accelerate==1.11.0", "peft==0.18.1", "tyro<0.9", "omegaconf", "fire", "einops"),
            *("sentencepiece", "tiktoken", "pydantic", "av==16.0.0", "librosa", "modelscope"),
            *("pillow", "fastapi", "sse-starlette", "uvicorn", "matplotlib"),
        ),
    ),
    "swift": (("torch==2.13.0", "ms-swift==4.6.0"),),
}


def conversations(count: int) -> Iterator[Conversation]:
    """Give rows of every kind that both can say."""
    answer = turn("assistant", "yes, <b>bold</b> 字 \u2028 {}")
    kinds = (
        ((turn("user", None, "What is this?"), answer), 1),
        ((turn("user", "no picture"), answer), 0),
        ((turn("system", "be brief"), turn("user", None, "q"), answer), 1),
        ((turn("user", None, "a", None, "\nb\n", None), answer), 3),
        ((turn("user", "first"), answer, turn("user", "then\n", None), answer), 1),
        ((turn("user", None, None), answer, turn("user", "?"), answer), 2),
    )
    boxes = {"rounds": [{"boxes": [[1, 2, 3, 4], [0, 0, 5, 6]], "image": 0}]}
    for number in range(count):
        turns, shown = kinds[number % len(kinds)]
        images = tuple(f"p/{(number + place) % 40}.jpg" for place in range(shown))
        task = None if number % 2 else "t"
        meta = boxes if shown and number % 3 == 0 else {"n": number}
        yield one(str(number), *turns, images=images, task=task, meta=meta)


def wanted(rows: list[Conversation], root: Path) -> list[dict[str, Any]]:
    """Say what a toolkit should give: turns with tags, and the files of the pictures.

    The tags are put in here without our own code; newlines at a tag are not compared.
    """
    return [
        {
            "turns": [
                [one.role, "".join(part.text or "<image>" for part in one.content)]
                for one in row.messages
            ],
            "images": [str((root / path).resolve()) for path in row.images],
        }
        for row in rows
    ]


def plainly(row: dict[str, Any]) -> dict[str, Any]:
    """Leave out newlines beside tags."""
    turns = [[role, re.sub(r"\n*<image>\n*", "<image>", text)] for role, text in row["turns"]]
    return {"turns": turns, "images": row["images"]}


def python_of(reader: str, venvs: Path) -> Path:
    """Give the interpreter of a toolkit's environment, made if it is not there."""
    place = (venvs / reader).resolve()
    python = place / "bin/python"
    if not (place / "made").exists():
        venv.create(place, with_pip=True, clear=True)
        for step in STEPS[reader]:
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *step], check=True)
        (place / "made").write_text(json.dumps(STEPS[reader]))
    return python


def judge(reader: str, python: Path, folder: Path, count: int) -> str:
    """Write rows, let a toolkit read them, and say what is wrong; nothing where nothing is."""
    rows = list(conversations(count))
    root, table = laid(folder, rows)
    out = folder / "out"
    report = convert(table.path, to=reader, out=out, root=root)
    if report.rows != count or report.lost:
        return f"{report.rows} of {count} rows were written, lost {report.lost}"
    asked = (
        [str(file_of(reader, out)), str(root)]
        if reader == "swift"
        else [str(out), "llava", str(root)]
    )
    done = subprocess.run(
        [str(python), str(HERE / f"read_{reader}.py"), *asked],
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    answers = [line for line in done.stdout.splitlines() if line.startswith("ROWS ")]
    if not answers:
        return f"it ended with {done.returncode}: {done.stderr.strip()[-1500:]}"
    found = json.loads(answers[-1].removeprefix("ROWS "))
    right = wanted(rows, root)
    if len(found) != len(right):
        return f"{len(found)} rows of {len(right)}"
    for number, (theirs, ours) in enumerate(zip(found, right, strict=True)):
        if plainly(theirs) != plainly(ours):
            return f"row {number}: {plainly(theirs)} instead of {plainly(ours)}"
    if reader == "swift":
        boxes = sum(2 for row in rows if "rounds" in row.meta)
        if sum(row["boxes"] for row in found) != boxes:
            return f"other boxes than the {boxes} of the rows"
    return ""


def main() -> int:
    """Print a line a toolkit; 1 where one reads otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venvs", type=Path, default=Path("convert-venvs"))
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(STEPS))
    parser.add_argument("--rows", type=int, default=240)
    asked = parser.parse_args()
    bad = 0
    for reader in asked.only:
        python = python_of(reader, asked.venvs)
        with tempfile.TemporaryDirectory(prefix="vision_ift-convert-") as folder:
            wrong = judge(reader, python, Path(folder), asked.rows)
        bad += bool(wrong)
        sys.stdout.write(f"{reader}: {wrong or f'{asked.rows} rows as they were'}\n")
        sys.stdout.flush()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
