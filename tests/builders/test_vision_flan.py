"""Vision-Flan: names that `unzip` escaped, the order of the look-up, and its two file names."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from vision_ift._build import build
from vision_ift._registry import find

FIXTURE = Path(__file__).parents[1] / "fixtures" / "vision_flan" / "root"
ARCHIVE = "vision_flan/image_191-task_1k.zip"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the fixture's root, to change."""
    return Path(shutil.copytree(FIXTURE, tmp_path / "root"))


def references(root: Path) -> list[str]:
    batches = list(find("vision_flan").batches(root))
    return [
        image["path"]
        for batch in batches
        for images in batch.rows.column("images").to_pylist()
        for image in images
    ]


def test_unpacked_pictures_do_as_well_as_the_archive(root: Path) -> None:
    packed = [reference.rpartition("/")[2] for reference in references(root)]
    with zipfile.ZipFile(root / ARCHIVE) as archive:
        archive.extractall(root / "vision_flan")
    (root / ARCHIVE).unlink()
    unpacked = references(root)
    # What lies deeper is found in the archive alone.
    assert len(unpacked) == len(packed) - 1
    assert "vision_flan/images_191task_1k/#U91d1_2.JPEG" in unpacked


def test_a_name_that_two_files_have_is_not_guessed(root: Path) -> None:
    with zipfile.ZipFile(root / ARCHIVE, "a") as archive:
        archive.writestr("images_191task_1k/elsewhere/only.jpg", b"x")
    dropped = [one for batch in find("vision_flan").batches(root) for one in batch.dropped]
    assert "vision-flan_B+two+2" in [one.record for one in dropped]


def test_metadata_json_is_the_same_list(root: Path, tmp_path: Path) -> None:
    wanted = build("vision_flan", root=root, out=tmp_path / "one")
    file = root / "vision_flan/annotation_191-task_1k.json"
    shutil.copy(file, root / "vision_flan/metadata.json")
    assert build("vision_flan", root=root, out=tmp_path / "both").digest == wanted.digest
    file.unlink()
    assert build("vision_flan", root=root, out=tmp_path / "other").digest == wanted.digest


def test_the_empty_answer_is_counted(root: Path, tmp_path: Path) -> None:
    report = build("vision_flan", root=root, out=tmp_path / "table").report
    records = json.loads((root / "vision_flan/annotation_191-task_1k.json").read_text("utf-8"))
    assert report.dropped == {"empty_turn": 1, "missing_image": 1}
    assert report.rows + 2 == len(records)
