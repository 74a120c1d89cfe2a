"""Exports that the tests of the torch face read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.exports import small_plan
from vision_ift import export


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of 80 rows of two sources, in several shards; pictures are no real ones."""
    folder = tmp_path_factory.mktemp("toy")
    export(small_plan(folder), out=folder / "out", shard_bytes=20_000)
    return folder / "out"


@pytest.fixture(scope="session")
def drawn(drawn_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of 40 drawn conversations with real pictures."""
    folder = tmp_path_factory.mktemp("drawn_export")
    out = folder / "out"
    export("coco_mix", out=out, root=drawn_root, tables=folder / "tables", total=40)
    return out
