"""Read a folder by its wids.json, at random places."""

from __future__ import annotations

import os
import tempfile

import wids
from told import Rows, sha256, tell


def read(folder: str) -> Rows:
    """Read every row by its number, backwards, members as bytes."""
    found: Rows = {}
    with tempfile.TemporaryDirectory() as cache:
        rows = wids.ShardListDataset(
            f"{folder}/wids.json", cache_dir=cache, transformations=[], keep=True
        )
        for number in reversed(range(len(rows))):
            row = rows[number]
            found[row["__key__"]] = {
                name.lstrip("."): sha256(value.read() if hasattr(value, "read") else value)
                for name, value in row.items()
                if not name.startswith("__")
            }
    return found


def decode(folder: str) -> int:
    """Decode every picture and every JSON, as wids does where nothing is said."""
    with tempfile.TemporaryDirectory() as cache:
        rows = wids.ShardListDataset(f"{folder}/wids.json", cache_dir=cache, keep=True)
        return sum(1 for number in range(len(rows)) if rows[number])


if __name__ == "__main__":
    os.environ.setdefault("WIDS_VERBOSE", "0")
    tell({"default": read, "decode": decode})
