"""COCO ids: what a path says, what a list says, and what is not guessed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vision_ift._errors import MissingInputError, UsageError
from vision_ift._likeness.lineage import (
    coco_id,
    count_splits,
    ids_of_references,
    needed,
    read_list,
)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("coco/train2014/COCO_train2014_000000391895.jpg", (391895, "train2014")),
        ("val2014/COCO_val2014_000000000042.jpg", (42, "val2014")),
        ("COCO_test2015_000000000001.jpg", (1, "test2015")),
        ("coco/images/train2017/000000391895.jpg", (391895, "train2017")),
        ("coco/val2017/000000000139.jpg", (139, "val2017")),
        ("coco/test2017/000000000001.jpg", (1, "test2017")),
        ("vift://coco.zip!/unlabeled2017/000000000008.jpg", (8, "unlabeled2017")),
        ("some/000000000139.jpg", (139, "")),
        ("val2017/notes.txt", None),
        ("gqa/images/2354786.jpg", None),
        ("VG_100K/2354786.jpg", None),
        ("COCO_train2014_0000003918951.jpg", None),
        ("train2018/000000000001.png", (1, "")),
        ("intrain2017/000000000001.jpg", (1, "")),
        ("", None),
    ],
)
def test_a_path_says_id_and_split(path: str, found: tuple[int, str] | None) -> None:
    assert coco_id(path) == found


KARPATHY = {
    "images": [
        {"cocoid": 1, "split": "train", "filename": "COCO_train2014_000000000001.jpg"},
        {"cocoid": 2, "split": "restval"},
        {"cocoid": 3, "split": "val"},
        {"cocoid": 4, "split": "test"},
    ]
}


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("1\n22\n", {1, 22}),
        ("COCO_val2014_000000000042.jpg\n000000000007.jpg\n", {42, 7}),
        ("[5, 6, true, null, -1, 1.5]", {5, 6}),
        (json.dumps(KARPATHY), {3, 4}),
        (json.dumps({"images": [{"id": 9, "file_name": "000000000009.jpg"}]}), {9}),
        (json.dumps({"questions": [{"image_id": 8, "question_id": 80}]}), {8}),
        (json.dumps([{"image_id": 8, "id": 80}]), {8}),
        (
            '{"id": 1, "image": "COCO_val2014_000000000310.jpg"}\n{"image": "val2017/311.jpg"}\n',
            {310, 311},
        ),
    ],
)
def test_lists_of_every_form_are_read(text: str, ids: set[int], tmp_path: Path) -> None:
    path = tmp_path / "pope.json"
    path.write_text(text)
    assert read_list(str(path)) == ("pope", frozenset(ids))
    assert read_list(f"POPE={path}").name == "POPE"


@pytest.mark.parametrize("text", ["", "{}", "[" * 100_000, '{"a": }', "nothing here", "\udcff"])
def test_a_list_that_names_nothing_is_an_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=r"list\.json"):
        read_list(str(path))
    with pytest.raises(MissingInputError, match="not a regular file"):
        read_list(str(tmp_path))


def test_what_needs_a_list_says_so() -> None:
    splits = {"val2014": 10, "train2017": 5, "test2015": 2}
    told = {one["benchmark"]: one for one in needed(splits, [])}
    assert told["POPE"] == {
        "benchmark": "POPE",
        "pictures": 15,
        "certain": False,
        "needs": "needs the list coco_pope_random.json (or _popular, _adversarial)",
        "lists_given": [],
    }
    assert told["VQAv2 val"]["certain"]
    assert told["VQAv2 val"]["pictures"] == 10
    assert told["VQAv2 test-dev, test-standard"]["pictures"] == 2
    assert "A-OKVQA val" not in told


def test_visual_genome_needs_its_own_list(tmp_path: Path) -> None:
    paths = ["vg/VG_100K/5.jpg", "vg/VG_100K_2/6.jpg", "coco/val2014/COCO_val2014_000000000009.jpg"]
    without = ids_of_references(paths, root=tmp_path)
    assert without.ids.tolist() == [-1, -1, 9]
    assert (without.genome, without.genome_known) == (2, 0)
    (tmp_path / "visual_genome").mkdir()
    listed = [{"image_id": 5, "coco_id": 77, "width": 1}, {"image_id": 6, "coco_id": None}]
    (tmp_path / "visual_genome/image_data.json").write_text(json.dumps(listed))
    known = ids_of_references(paths, root=tmp_path)
    assert known.ids.tolist() == [77, -1, 9]
    assert known.genome_known == 1
    assert count_splits(known.splits, np.arange(3).tolist()) == {"val2014": 1}
