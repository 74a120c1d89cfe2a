"""The fast reader of COCO's instances, held against pycocotools, and the tasks made of it."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

from vision_ift._builder import Dropped
from vision_ift._conversation import Conversation
from vision_ift._registry import find

FILE = "coco/annotations/instances_train2017.json"

reader = importlib.import_module("vision_ift.builders._coco_instances")
read_instances: Callable[..., Any] = reader.read_instances

KINDS = {1: "person", 18: "dog", 44: "bottle", 62: "chair", 90: "toothbrush"}


def image(number: int) -> dict[str, Any]:
    name = f"{number:012d}.jpg"
    return {"license": 1, "file_name": name, "height": 100, "width": 200, "id": number}


def annotation(
    number: int, of: int, kind: int, box: list[float] | None = None, *, crowd: bool = False
) -> dict[str, Any]:
    x, y, wide, high = box or [10.0, 20.0, 40.0, 30.0]
    outline = [x, y, x + wide, y, x + wide, y + high, x, y + high]
    shape: Any = {"counts": [500, 300, 19200], "size": [100, 200]} if crowd else [outline]
    return {
        "segmentation": shape,
        "area": wide * high,
        "iscrowd": int(crowd),
        "image_id": of,
        "bbox": [x, y, wide, high],
        "category_id": kind,
        "id": number,
    }


def write(root: Path, images: list[Any], annotations: list[Any], file: str = FILE) -> None:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    categories = [{"supercategory": "s", "id": one, "name": name} for one, name in KINDS.items()]
    document = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(document), "utf-8")
    for number in {one["id"] for one in images if isinstance(one, dict)}:
        target = root / f"coco/train2017/{number:012d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (200, 100)).save(target)


def official(root: Path, file: str = FILE) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(root / file))


def columns(instances: Any) -> dict[int, list[tuple[Any, ...]]]:
    """Each picture's annotations as plain values."""
    return {
        number: [
            (
                int(instances.ids[row]),
                int(instances.category_ids[row]),
                instances.boxes[row].tolist(),
                float(instances.areas[row]),
                bool(instances.crowds[row]),
            )
            for row in range(instances.offsets[place], instances.offsets[place + 1])
        ]
        for place, number in enumerate(instances.image_ids.tolist())
    }


def same_as_official(root: Path) -> bool:
    coco = official(root)
    theirs = {
        number: [
            (one["id"], one["category_id"], one["bbox"], one["area"], bool(one["iscrowd"]))
            for one in coco.loadAnns(coco.getAnnIds(imgIds=[number]))
        ]
        for number in sorted(coco.imgs)
    }
    ours = columns(read_instances(root, FILE))
    return ours == theirs and list(ours) == list(theirs)


boxes = st.lists(st.floats(0, 100, allow_nan=False), min_size=4, max_size=4)


@given(
    numbers=st.lists(st.integers(1, 10**11), min_size=1, max_size=6, unique=True),
    drawn=st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(list(KINDS)), boxes, st.booleans())
    ),
)
def test_columns_hold_what_pycocotools_reads(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], drawn: list[Any]
) -> None:
    root = tmp_path_factory.mktemp("root")
    path = root / FILE
    path.parent.mkdir(parents=True)
    annotations = [
        annotation(row + 1, numbers[place % len(numbers)], kind, box, crowd=crowd)
        for row, (place, kind, box, crowd) in enumerate(drawn)
    ]
    document = {
        "images": [image(number) for number in numbers],
        "annotations": annotations,
        "categories": [{"id": one, "name": name} for one, name in KINDS.items()],
    }
    path.write_text(json.dumps(document), "utf-8")
    assert same_as_official(root)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools with NumPy 2
def test_polygons_are_kept_when_asked_for_and_make_the_same_masks(tmp_path: Path) -> None:
    write(
        tmp_path,
        [image(2), image(1)],
        [annotation(5, 2, 1), annotation(6, 1, 18, [0, 0, 9, 9]), annotation(7, 2, 1, crowd=True)],
    )
    plain = read_instances(tmp_path, FILE)
    assert plain.polygons is None
    kept = read_instances(tmp_path, FILE, polygons=True)
    assert columns(kept) == columns(plain)
    coco = official(tmp_path)
    for number, outline in zip(kept.ids.tolist(), kept.polygons, strict=True):
        record = {**coco.anns[number], "segmentation": json.loads(outline)}
        assert np.array_equal(coco.annToMask(record), coco.annToMask(coco.anns[number]))
        assert coco.annToMask(record).any()


BAD: list[tuple[str, dict[str, object], str]] = [
    ("bbox", {"bbox": [1, 2, 3]}, "bad_record"),
    ("bbox of five", {"bbox": [1, 2, 3, 4, 5]}, "bad_record"),
    ("text", {"area": "large"}, "bad_record"),
    ("crowd", {"iscrowd": 2}, "bad_record"),
    ("no picture", {"image_id": 77}, "bad_record"),
    ("no kind", {"category_id": 77}, "bad_record"),
    ("null", {"category_id": None}, "bad_record"),
    ("same id", {"id": 1}, "duplicate_id"),
    ("negative", {"image_id": -1}, "bad_record"),
]


@pytest.mark.parametrize(("name", "change", "reason"), BAD, ids=[name for name, _, _ in BAD])
def test_a_bad_annotation_costs_itself_alone(
    tmp_path: Path, name: str, change: dict[str, object], reason: str
) -> None:
    bad = {**annotation(2, 1, 18), **change}
    write(tmp_path, [image(1)], [annotation(1, 1, 1), bad, annotation(3, 1, 44)])
    found = read_instances(tmp_path, FILE)
    assert [one[0] for one in columns(found)[1]] == [1, 3]
    assert [(one.reason, one.count) for one in found.dropped] == [(reason, 1)]


def test_a_number_that_is_none_is_a_broken_file(tmp_path: Path) -> None:
    write(tmp_path, [image(1)], [annotation(1, 1, 1)])
    path = tmp_path / FILE
    path.write_text(path.read_text("utf-8").replace('"area": 1200.0', '"area": NaN'), "utf-8")
    # pycocotools takes it and goes on with a number that nothing can be compared with.
    assert np.isnan(official(tmp_path).anns[1]["area"])
    rows, dropped = extras(tmp_path, "counting")
    assert not rows
    assert [one.reason for one in dropped] == ["broken_json"]


def extras(root: Path, tasks: str) -> tuple[list[Conversation], list[Dropped]]:
    found = list(find("coco_ift").conversations(root, tasks=tasks, rounds="single"))
    rows = [one for one in found if isinstance(one, Conversation)]
    return rows, [one for one in found if isinstance(one, Dropped)]


def said(row: Conversation) -> tuple[str, str]:
    return row.messages[0].text, row.messages[1].text


def test_a_kind_with_a_crowd_region_is_neither_counted_nor_located(tmp_path: Path) -> None:
    write(
        tmp_path,
        [image(1), image(2)],
        [
            annotation(1, 1, 1),
            annotation(2, 1, 1, crowd=True),
            annotation(3, 2, 1),
            annotation(4, 2, 1, [100, 50, 20, 10]),
            annotation(5, 2, 18, crowd=True),
        ],
    )
    rows, _ = extras(tmp_path, "counting,location")
    by_task = {row.task: row for row in rows}
    assert {row.meta["coco_id"] for row in rows} == {2}
    asked, answered = said(by_task["counting"])
    assert asked.startswith('How many objects of the kind "person" are in this image?')
    assert answered == "2"
    assert said(by_task["location"])[1] == "[50, 200, 250, 500]\n[500, 500, 600, 600]"
    [found] = by_task["location"].meta["rounds"]
    assert found["boxes"] == [[10.0, 20.0, 40.0, 30.0], [100.0, 50.0, 20.0, 10.0]]
    assert (found["size"], found["image"]) == ([200, 100], 0)


def test_masks_are_those_of_pycocotools(tmp_path: Path) -> None:
    runs = annotation(2, 1, 18, [100, 50, 20, 10])
    runs["segmentation"] = {"counts": [10050, 10, 90, 10, 9840], "size": [100, 200]}
    write(tmp_path, [image(1)], [annotation(1, 1, 1), runs])
    rows, dropped = extras(tmp_path, "location")
    assert not dropped
    [found] = rows[0].meta["rounds"]
    reference = official(tmp_path)
    of_kind = next(
        one for one in (1, 2) if reference.anns[one]["category_id"] == found["category_id"]
    )
    wanted = reference.annToRLE(reference.anns[of_kind])["counts"].decode()
    assert found["masks"] == [wanted]


@pytest.mark.parametrize(
    "outline",
    [
        [],
        [[]],
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [[1, 2, 3, 4, 5, 1e9]],
        [["1", 2, 3, 4, 5, 6]],
        {"counts": [1, 2], "size": [100, 200]},
        {"counts": [20000], "size": [10, 2000]},
        {"counts": [-1, 20001], "size": [100, 200]},
        {"counts": 7, "size": [100, 200]},
        "polygon",
        None,
    ],
    ids=str,
)
def test_an_outline_that_makes_no_mask_costs_its_round_alone(
    tmp_path: Path, outline: object
) -> None:
    bad = {**annotation(1, 1, 1), "segmentation": outline}
    write(tmp_path, [image(1), image(2)], [bad, annotation(2, 2, 1)])
    rows, dropped = extras(tmp_path, "location,counting")
    assert [(row.task, row.meta["coco_id"]) for row in rows if row.task == "location"] == [
        ("location", 2)
    ]
    assert [one.reason for one in dropped] == ["bad_record"]
    assert len([row for row in rows if row.task == "counting"]) == 2


def test_an_absent_kind_is_one_that_is_elsewhere_beside_those_shown(tmp_path: Path) -> None:
    # Dogs are seen with people; bottles only with chairs; toothbrushes alone.
    shown = {1: [1, 18], 2: [1], 3: [44, 62], 4: [62], 5: [90]}
    annotations = [
        annotation(10 * number + place, number, kind)
        for number, kinds in shown.items()
        for place, kind in enumerate(kinds)
    ]
    write(tmp_path, [image(number) for number in shown], annotations)
    rows, _ = extras(tmp_path, "presence")
    absent = {
        row.meta["coco_id"]: said(row)[0].split('"')[1] for row in rows if said(row)[1] == "No"
    }
    assert absent == {2: "dog", 4: "bottle"}
    present = {
        row.meta["coco_id"]: row.meta["rounds"][0]["category_id"]
        for row in rows
        if said(row)[1] == "Yes"
    }
    assert set(present) == set(shown)
    assert all(kind in shown[number] for number, kind in present.items())
    assert said(rows[0])[0].endswith("visible in this image? Answer yes or no.")


def test_people_are_listed_from_the_left_and_only_where_all_are_labelled(tmp_path: Path) -> None:
    def person(number: int, of: int, x: float, flags: list[int], crowd: int = 0) -> dict[str, Any]:
        points = [value for flag in flags for value in (5, 6, flag)]
        return {**annotation(number, of, 1, [x, 0, 9, 9]), "keypoints": points, "iscrowd": crowd}

    file = "coco/annotations/person_keypoints_train2017.json"
    people = [
        person(1, 1, 50, [2, 1, 0]),
        person(2, 1, 10, [0, 2, 2]),
        person(3, 2, 10, [2, 2, 2]),
        person(4, 2, 60, [0, 0, 0]),  # somebody whom nobody labelled
        person(5, 3, 10, [2, 2, 2], crowd=1),
        {**person(6, 3, 10, [2, 2]), "id": 6},  # two points of three
    ]
    write(tmp_path, [image(1), image(2), image(3)], people, file)
    document = json.loads((tmp_path / file).read_text("utf-8"))
    names = ["nose", "left_eye", "right_eye"]
    document["categories"] = [{"id": 1, "name": "person", "keypoints": names}]
    (tmp_path / file).write_text(json.dumps(document), "utf-8")
    rows, dropped = extras(tmp_path, "pose")
    assert [row.id for row in rows] == ["train/pose/1"]
    assert said(rows[0])[1] == "1. left eye, right eye\n2. nose"
    assert Counter(one.reason for one in dropped) == {"bad_record": 1}


def test_things_are_numbered_and_stuff_is_named_the_largest_first(tmp_path: Path) -> None:
    file = "coco/annotations/panoptic_train2017.json"

    def segment(number: int, kind: int, area: int, crowd: int = 0) -> dict[str, Any]:
        box = [0, 0, 1, 1]
        return {"id": number, "category_id": kind, "area": area, "bbox": box, "iscrowd": crowd}

    write(tmp_path, [image(1)], [], file)
    document = json.loads((tmp_path / file).read_text("utf-8"))
    document["categories"] = [
        {"id": 1, "name": "person", "isthing": 1},
        {"id": 18, "name": "dog", "isthing": 1},
        {"id": 199, "name": "wall-other-merged", "isthing": 0},
        {"id": 118, "name": "floor-wood", "isthing": 0},
    ]
    segments = [
        segment(1, 18, 10),
        segment(2, 18, 10),
        segment(3, 1, 15, crowd=1),
        segment(4, 199, 5),
        segment(5, 118, 9),
    ]
    document["annotations"] = [{"image_id": 1, "file_name": "x.png", "segments_info": segments}]
    (tmp_path / file).write_text(json.dumps(document), "utf-8")
    [row], _ = extras(tmp_path, "things_and_stuff")
    assert said(row)[1] == ("Things: dog (2), person (a crowd).\nStuff: floor-wood, wall.")
    assert row.meta["rounds"][0]["segments"] == segments
