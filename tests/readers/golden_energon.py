"""Write tests/fixtures/energon.json: what `energon prepare` makes of the shards of a small export.

    python tests/readers/golden_energon.py VENV_OF_ENERGON

The ordinary tests hold our own files against it, without Energon.
"""

from __future__ import annotations

import json
import sqlite3
import struct
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from tests.exports import small_plan  # noqa: E402 - after the path is set
from vision_ift._export.export import export  # noqa: E402 - after the path is set

GOLDEN = HERE.parent / "fixtures/energon.json"


def small_export(folder: Path) -> Path:
    """Write the export that the golden file is about."""
    export(small_plan(folder, rows=10), out=folder / "out", shard_bytes=20_000)
    return folder / "out"


def said(out: Path) -> dict[str, Any]:
    """Give what Energon's files say of an export, free of how it is written down."""
    info = json.loads((out / ".nv-meta/.info.json").read_bytes())
    with closing(sqlite3.connect(out / ".nv-meta/index.sqlite")) as database:
        schema = database.execute("SELECT type, name, sql FROM sqlite_master WHERE sql NOT NULL")
        return {
            "energon_version": info["energon_version"],
            "shard_counts": info["shard_counts"],
            "schema": sorted(
                [kind, name, "".join(sql.split()).rstrip(";")] for kind, name, sql in schema
            ),
            "samples": [list(row) for row in database.execute("SELECT * FROM samples")],
            "sample_parts": [list(row) for row in database.execute("SELECT * FROM sample_parts")],
            "offsets": {
                path.name: [number for (number,) in struct.iter_unpack("<Q", path.read_bytes())]
                for path in sorted(out.glob("*.tar.idx"))
            },
        }


def main(venv: str) -> None:
    """Let Energon prepare the shards alone, and write down what it says of them."""
    with tempfile.TemporaryDirectory() as temporary:
        out = small_export(Path(temporary))
        shards = Path(temporary) / "shards"
        shards.mkdir()
        for path in out.glob("*.tar"):
            path.rename(shards / path.name)
        subprocess.run(
            [f"{venv}/bin/energon", "prepare", "--non-interactive", "--no-progress",
             "--split-parts", r"train:train-.*\.tar", "--num-workers", "1",
             "--sample-type", "CrudeWebdataset", "."],
            cwd=shards,
            check=True,
        )  # fmt: skip
        GOLDEN.write_text(json.dumps(said(shards), indent=None, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
