"""LLaVA's mix: its picture folders wherever users have them, and pictures under another ending."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.exports import picture
from vision_ift._build import build
from vision_ift._pictures.images import Images

#: One picture of each folder of the mix, under the names that the mix writes.
MIX = (
    "coco/train2017/000000033471.jpg",
    "gqa/images/2354786.jpg",
    "ocr_vqa/images/1492633.jpg",
    "textvqa/train_images/a0b1.jpg",
    "vg/VG_100K/2.jpg",
    "vg/VG_100K_2/1.jpg",
)


def records(*paths: str) -> list[dict[str, Any]]:
    return [
        {
            "id": str(n),
            "image": path,
            "conversations": [
                {"from": "human", "value": "<image>\nWhat?"},
                {"from": "gpt", "value": "That."},
            ],
        }
        for n, path in enumerate(paths)
    ]


def make(root: Path, *paths: str, mix: Any = None, **options: Any) -> list[dict[str, Any]]:
    """Build the mix over these files under ROOT; give the rows."""
    for number, path in enumerate(paths):
        archive, mark, member = path.partition("!/")
        (root / archive).parent.mkdir(parents=True, exist_ok=True)
        if mark:
            with zipfile.ZipFile(root / archive, "a") as zipped:
                zipped.writestr(member, picture(number))
        else:
            (root / archive).write_bytes(picture(number))
    (root / "llava").mkdir(parents=True, exist_ok=True)
    file = root / "llava/llava_v1_5_mix665k.json"
    file.write_text(json.dumps(records(*MIX) if mix is None else mix))
    table = build("llava", root=root, out=root.parent / "table", options=options)
    rows = [row for batch in table.batches() for row in batch.to_pylist()]
    assert len(rows) + sum(table.report.dropped.values()) == len(json.loads(file.read_text()))
    return rows


def references(rows: list[dict[str, Any]]) -> list[str]:
    return [image["path"] for row in rows for image in row["images"]]


LAID_OUT = {
    "root": MIX,
    "below llava": tuple(f"llava/{path}" for path in MIX),
    "LLaVA's checkout": tuple(f"llava/playground/data/{path}" for path in MIX),
    "as others have them": (
        "coco/images/train2017/000000033471.jpg",
        "gqa/allImages/images/2354786.jpg",
        "ocr_vqa/1492633.jpg",
        "textvqa/train_val_images/train_images/a0b1.jpg",
        "visual_genome/VG_100K/2.jpg",
        "visual_genome/VG_100K_2/1.jpg",
    ),
    "as they are downloaded": (
        "coco/train2017.zip!/train2017/000000033471.jpg",
        "gqa/images.zip!/images/2354786.jpg",
        "ocr_vqa/images/1492633.jpg",
        "textvqa/train_val_images.zip!/train_images/a0b1.jpg",
        "vg/images.zip!/VG_100K/2.jpg",
        "vg/images2.zip!/VG_100K_2/1.jpg",
    ),
    "both of Visual Genome in one": (*MIX[:5], "visual_genome/VG_100K/1.jpg"),
}


@pytest.mark.parametrize("layout", LAID_OUT)
def test_the_folders_of_the_mix_are_found(tmp_path: Path, layout: str) -> None:
    root = tmp_path / "root"
    rows = make(root, *LAID_OUT[layout])
    wanted = [f"vift://{path}" if "!" in path else path for path in LAID_OUT[layout]]
    assert references(rows) == wanted
    assert [Images(root).read(one) for one in wanted] == [picture(n) for n in range(6)]
    assert [row["image_paths"] for row in rows] == [[path] for path in MIX]


def test_rows_without_a_picture_are_kept(tmp_path: Path) -> None:
    mix = records(*MIX)
    for one in mix[:2]:
        del one["image"]
        one["conversations"][0]["value"] = "What?"
    rows = make(tmp_path / "root", mix=mix)
    assert [row["id"] for row in rows] == ["llava/0", "llava/1"]


@pytest.mark.parametrize("keep", ["drop", "keep"])
def test_a_picture_under_another_ending_is_used_if_it_is_the_only_one(
    tmp_path: Path, keep: str
) -> None:
    names = ["one", "two", "none", "exact", "notes", "dot.ted"]
    mix = records(*(f"ocr_vqa/images/{name}.jpg" for name in names))
    files = ["one.gif", "two.gif", "two.png", "exact.jpg", "exact.png", "notes.txt", "dot.ted.PNG"]
    root = tmp_path / "root"
    rows = make(root, *(f"ocr_vqa/images/{file}" for file in files), mix=mix, missing_images=keep)
    found = {row["id"].rpartition("/")[2]: row for row in rows}
    assert references([found["0"], found["3"], found["5"]]) == [
        "ocr_vqa/images/one.gif",
        "ocr_vqa/images/exact.jpg",
        "ocr_vqa/images/dot.ted.PNG",
    ]
    assert len(found) == (3 if keep == "drop" else 6)
    assert json.loads(found["0"]["meta"]) == {
        "renamed": {"ocr_vqa/images/one.jpg": "ocr_vqa/images/one.gif"}
    }
    assert json.loads(found["3"]["meta"]) == {}
    assert found["0"]["image_paths"] == ["ocr_vqa/images/one.jpg"]


def test_a_new_folder_of_pictures_makes_a_new_table(tmp_path: Path) -> None:
    from vision_ift._build import fingerprint

    root = tmp_path / "root"
    make(root)
    before = fingerprint("llava", root=root)
    (root / "visual_genome/VG_100K").mkdir(parents=True)
    assert fingerprint("llava", root=root) != before
