"""MM-Instruct: the benchmark's prompts, and training pictures that users bring."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from vision_ift._build import build

FIXTURE = Path(__file__).parents[1] / "fixtures" / "mm_instruct" / "root"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the fixture's root, to change."""
    return Path(shutil.copytree(FIXTURE, tmp_path / "root"))


def test_prompts_have_no_answer_and_keep_the_caption_in_meta(tmp_path: Path) -> None:
    table = build("mm_instruct", root=FIXTURE, out=tmp_path / "table")
    rows = [row for batch in table.batches() for row in batch.to_pylist() if row["split"] == "test"]
    assert table.report.splits == {"test": 2, "train": 2}
    for row in rows:
        assert [message["role"] for message in row["messages"]] == ["user"]
        assert json.loads(row["meta"])["caption"]
        assert row["messages"][0]["content"][1]["text"] == "Craft a caption."


def test_prompts_as_a_list_are_the_same(root: Path, tmp_path: Path) -> None:
    wanted = build("mm_instruct", root=root, out=tmp_path / "lines")
    path = root / "mm_instruct/test.json"
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    path.write_text(json.dumps(records, indent=2), "utf-8")
    assert build("mm_instruct", root=root, out=tmp_path / "list").digest == wanted.digest


def test_training_pictures_may_lie_under_root(root: Path, tmp_path: Path) -> None:
    shutil.move(root / "mm_instruct/sa1b", root / "sa1b")
    table = build("mm_instruct", root=root, out=tmp_path / "table")
    assert table.report.splits == {"test": 2, "train": 2}


def test_missing_parts_are_named(root: Path, tmp_path: Path) -> None:
    (root / "mm_instruct/train.json").unlink()
    report = build("mm_instruct", root=root, out=tmp_path / "table").report
    assert report.absent == [{"name": "train", "wanted": ["mm_instruct/train.json"]}]


@pytest.mark.parametrize(
    ("reason", "bad"),
    [
        ("bad_record", {"question_id": "x", "image": "sa_1419.jpg", "text": "a"}),
        ("bad_record", {"question_id": 1, "text": "a"}),
        ("unsafe_path", {"question_id": 1, "image": "../a.jpg", "text": "a"}),
        ("bad_text", {"question_id": 1, "image": "sa_1419.jpg", "text": "\ud800"}),
    ],
)
def test_a_bad_prompt_is_dropped_alone(
    root: Path, tmp_path: Path, reason: str, bad: dict[str, Any]
) -> None:
    path = root / "mm_instruct/test.json"
    path.write_text(json.dumps(bad) + "\n" + path.read_text("utf-8"), "utf-8")
    report = build("mm_instruct", root=root, out=tmp_path / "table").report
    assert report.splits["test"] == 2
    assert report.dropped_first[reason][0]["record"] == "byte 0"
