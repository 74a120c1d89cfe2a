"""Read a folder of shards with webdataset."""

from __future__ import annotations

import glob

import webdataset
from told import Rows, members, tell


def read(folder: str) -> Rows:
    """Read every shard in its order, members as bytes."""
    shards = sorted(glob.glob(f"{folder}/*.tar"))
    return members(webdataset.WebDataset(shards, shardshuffle=False))


def decode(folder: str) -> int:
    """Decode every picture and every JSON."""
    shards = sorted(glob.glob(f"{folder}/*.tar"))
    return sum(1 for _ in webdataset.WebDataset(shards, shardshuffle=False).decode("pilrgb"))


if __name__ == "__main__":
    tell({"default": read, "decode": decode})
