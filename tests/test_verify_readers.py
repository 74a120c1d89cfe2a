"""What is said of other readers, held against the light ones; the others by `make readers`.

Energon's part is a golden file: what `energon prepare` 7.4.1 makes of the same shards.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.needs import needs
from tests.readers import golden_energon, prove
from vision_ift._verify.verify import verify

#: Reader to what it makes of each layout: recorded from `make readers`; nothing said: every row.
RECORDED: dict[tuple[str, str], tuple[str, int]] = {
    ("ragged", "ray"): ("with", 24),
    ("jpg or png", "ray"): ("with", 24),
    ("ragged", "open_clip"): ("some", 8),
    ("uniform", "open_clip"): ("some", 8),
    ("three jpg", "open_clip"): ("no", 0),
    ("text only", "open_clip"): ("no", 0),
    ("no .txt", "open_clip"): ("no", 0),
}


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One export of each layout."""
    folder = tmp_path_factory.mktemp("exports")
    return {name: prove.write(folder / name.replace(" ", "-"), name) for name in prove.LAYOUTS}


@pytest.mark.parametrize("layout", prove.LAYOUTS)
def test_what_is_said_is_what_was_recorded(layout: str, exports: dict[str, Path]) -> None:
    report = verify(exports[layout], readers=True)
    assert report.sound
    assert [one.reader for one in report.readers] == list(prove.PINS)
    for one in report.readers:
        wanted = RECORDED.get((layout, one.reader), ("yes", report.rows))
        assert (one.reads, one.rows) == wanted
        assert bool(one.why) == (one.reads != "yes")
        assert one.do


@pytest.mark.parametrize("reader", ["webdataset", "datasets"])
@pytest.mark.parametrize("layout", ["ragged", "uniform"])
def test_the_light_readers_do_as_is_said(
    layout: str, reader: str, exports: dict[str, Path]
) -> None:
    reads, rows, note = prove.judged(reader, Path(sys.executable), exports[layout])
    assert (reads, rows, note) == ("yes", 24, "")


@needs("ray")
def test_ray_does_as_is_said(exports: dict[str, Path]) -> None:
    reads, rows, _ = prove.judged("ray", Path(sys.executable), exports["ragged"])
    assert (reads, rows) == ("with", 24)


@pytest.mark.parametrize(
    ("harm", "readers"),
    [
        ("README.md", {"datasets"}),
        ("wids.json", {"wids"}),
        ("sizes.json", {"open_clip"}),
        ("train-000000.tar.idx", {"energon"}),
        (".nv-meta/split.yaml", {"energon"}),
        ("train-000000.tar", {"webdataset", "datasets", "ray", "energon", "wids", "open_clip"}),
    ],
)
def test_damage_is_told_to_the_readers_that_it_stops(
    harm: str, readers: set[str], tmp_path: Path
) -> None:
    out = prove.write(tmp_path, "one jpg")
    (out / harm).unlink()
    report = verify(out, readers=True)
    stopped = {one.reader: one for one in report.readers if one.reads == "no"}
    assert set(stopped) == readers
    assert all(harm in one.why and one.rows == 0 for one in stopped.values())


def test_energons_files_say_what_energon_itself_says(tmp_path: Path) -> None:
    golden: Any = json.loads(golden_energon.GOLDEN.read_bytes())
    assert golden_energon.said(golden_energon.small_export(tmp_path)) == golden


def test_the_readers_are_told_without_their_packages() -> None:
    code = (
        "import sys, vision_ift._verify.verify;"
        "heavy = {'webdataset', 'datasets', 'ray', 'torch'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
