"""The drawn root: repeatable, complete, and true."""

from __future__ import annotations

import json
import re
import zipfile
from collections import Counter
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from vision_ift._errors import OutputError, UsageError
from vision_ift.demo import _draw, draw
from vision_ift.demo._canvas import cover
from vision_ift.demo._outline import _area, _loops, polygons, run_lengths
from vision_ift.demo._words import NUMBERS, noun

SPLITS = ("train2017", "val2017")
# pycocotools' compiled decode does not know numpy 2's `copy` keyword yet.
decodes = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


class Drawn(NamedTuple):
    root: Path
    counts: dict[str, int]

    def read(self, path: str) -> Any:
        text = (self.root / path).read_text("utf-8")
        if path.endswith(".jsonl") or path == "mm_instruct/test.json":
            return [json.loads(line) for line in text.splitlines()]
        if path.endswith(".txt"):
            return text.splitlines()
        return json.loads(text)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    root = tmp_path_factory.mktemp("draw") / "root"
    return Drawn(root, draw(root))


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(f.relative_to(root)): sha256(f.read_bytes()).hexdigest() for f in files}


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    first = draw(tmp_path / "a", pictures=60)
    second = draw(tmp_path / "b", pictures=60)
    assert first == second
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_another_seed_draws_other_scenes(tmp_path: Path) -> None:
    draw(tmp_path / "a", pictures=60)
    draw(tmp_path / "b", pictures=60, seed=18)
    ours, theirs = digests(tmp_path / "a"), digests(tmp_path / "b")
    pictures = {path for path in ours if path.startswith("coco/train2017/")}
    assert not pictures & {path for path in theirs if ours.get(path) == theirs[path]}


def test_refuses_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(OutputError, match="not empty"):
        draw(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(OutputError, match="a file of that name"):
        draw(tmp_path / "mine.txt")


def test_takes_an_empty_folder(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    draw(root, pictures=60)
    assert (root / "coco").is_dir()


def test_refuses_silly_numbers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="between 60 and 5000"):
        draw(tmp_path / "root", pictures=3)
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_draw, "write_llava", full)
    with pytest.raises(OutputError, match="No space left"):
        draw(tmp_path / "root", pictures=60)
    assert not list(tmp_path.iterdir())


def test_counts_are_those_of_the_files(drawn: Drawn) -> None:
    for path, count in drawn.counts.items():
        target = drawn.root / path
        if target.is_dir():
            assert count == len(list(target.iterdir())), path
        elif path.endswith(".zip"):
            assert count == len(zipfile.ZipFile(target).namelist()), path
        elif target.is_file():
            value = drawn.read(path)
            if isinstance(value, dict):
                keys = ("annotations", "questions", "data")
                value = next(value[key] for key in keys if key in value)
            assert count == len(value), path
    files = {str(path.relative_to(drawn.root)) for path in drawn.root.rglob("*.json*")}
    assert files <= set(drawn.counts)
    qas = sum(len(r["qas"]) for r in drawn.read("visual_genome/question_answers.json"))
    assert drawn.counts["visual_genome/question_answers.json:qas"] == qas


def test_size_and_variety(drawn: Drawn) -> None:
    assert drawn.counts["pictures"] == 200
    assert drawn.counts["pictures/coco"] >= 90
    assert sum(path.stat().st_size for path in drawn.root.rglob("*") if path.is_file()) < 20e6
    enough = {
        "vision_flan/annotation_191-task_1k.json:answered": 60,
        "vision_flan/annotation_191-task_1k.json:tasks": 12,
        "mminstruct/jsons_all/qa_en.jsonl": 60,
        "mm_instruct/train.json": 40,
        "llava/llava_instruct_150k.json": 30,
        "stvqa/train_task_3.json:coco": 12,
        "paragraphs/paragraphs_v1.json:coco": 12,
        "aokvqa/aokvqa_v1p0_train.json": 12,
        "okvqa/mscoco_val2014_annotations.json": 12,
        "vqae/VQA-E_val_set.json": 12,
        "vsr/train.jsonl": 12,
        "tallyqa/train.json:coco": 12,
        "cocoqa/test/answers.txt": 12,
    }
    assert {
        path: drawn.counts[path] for path, least in enough.items() if drawn.counts[path] < least
    } == {}
    found: Counter[str] = Counter()
    for split in SPLITS:
        file = drawn.read(f"coco/annotations/instances_{split}.json")
        names = {entry["id"]: entry["name"] for entry in file["categories"]}
        found.update(names[record["category_id"]] for record in file["annotations"])
        assert len({record["image_id"] for record in file["annotations"]}) < len(file["images"])
        assert any(record["iscrowd"] for record in file["annotations"])
    assert len(found) >= 15


@decodes
def test_pycocotools_reads_instances_and_keypoints(
    drawn: Drawn, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in SPLITS:
        instances = COCO(drawn.root / f"coco/annotations/instances_{split}.json")
        for record in instances.dataset["annotations"]:
            mask = instances.annToMask(record)
            assert mask.sum() == pytest.approx(record["area"], rel=0.03, abs=3)
            assert record["bbox"] == pytest.approx(box_of(mask), abs=2)
        people = COCO(drawn.root / f"coco/annotations/person_keypoints_{split}.json")
        for record in people.dataset["annotations"]:
            joints = np.array(record["keypoints"]).reshape(17, 3)
            assert record["num_keypoints"] == (joints[:, 2] > 0).sum()
            mask = people.annToMask(record)
            seen = joints[joints[:, 2] == 2]
            assert all(mask[y, x] for x, y, _ in seen)
            assert record["iscrowd"] or len(seen) >= 5
    assert "index created" in capsys.readouterr().out


def box_of(mask: Any) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = columns[0], rows[0]
    return [left, top, columns[-1] + 1 - left, rows[-1] + 1 - top]


def test_keypoints_are_where_the_body_is(drawn: Drawn) -> None:
    """The person's left is the picture's right, since all face the viewer; heads are above feet."""
    file = drawn.read("coco/annotations/person_keypoints_train2017.json")
    place = {name: n for n, name in enumerate(file["categories"][0]["keypoints"])}
    assert len(place) == 17
    checked = 0
    for record in file["annotations"]:
        joints = np.array(record["keypoints"]).reshape(17, 3)
        if record["iscrowd"] or (joints[:, 2] == 0).any():
            continue
        checked += 1
        assert joints[place["left_shoulder"], 0] > joints[place["right_shoulder"], 0]
        assert joints[place["nose"], 1] < joints[place["left_hip"], 1]
        assert joints[place["left_hip"], 1] < joints[place["left_ankle"], 1]
    assert checked > 20


def test_panoptic_pngs_hold_the_listed_segments(drawn: Drawn) -> None:
    for split in SPLITS:
        file = drawn.read(f"coco/annotations/panoptic_{split}.json")
        assert len(file["categories"]) == 133
        known = {entry["id"] for entry in file["categories"]}
        for record in file["annotations"]:
            path = drawn.root / f"coco/annotations/panoptic_{split}" / record["file_name"]
            red, green, blue = np.moveaxis(np.array(Image.open(path), dtype=np.int64), 2, 0)
            ids, areas = np.unique(red + 256 * green + 65536 * blue, return_counts=True)
            listed = {entry["id"]: entry["area"] for entry in record["segments_info"]}
            assert dict(zip(ids.tolist(), areas.tolist(), strict=True)) == listed
            assert {entry["category_id"] for entry in record["segments_info"]} <= known


def phrases(text: str) -> list[tuple[str, str]]:
    """(number word or article, the words up to the next comma, ``and`` or verb)."""
    counted = "|".join(("an?", *NUMBERS[1:]))
    return re.findall(rf"\b({counted})\s+((?:[a-z]+\s){{0,2}}[a-z]+)", text.lower())


def test_captions_count_what_is_there(drawn: Drawn) -> None:
    checked = 0
    for split in SPLITS:
        instances = drawn.read(f"coco/annotations/instances_{split}.json")
        names = {entry["id"]: entry["name"] for entry in instances["categories"]}
        there = Counter(
            (record["image_id"], names[record["category_id"]])
            for record in instances["annotations"]
            if not record["iscrowd"]
        )
        words = {noun(name, count): name for name in names.values() for count in (1, 2)}
        captions = drawn.read(f"coco/annotations/captions_{split}.json")["annotations"]
        assert all(count == 5 for count in Counter(c["image_id"] for c in captions).values())
        assert len({(c["image_id"], c["caption"]) for c in captions}) == len(captions)
        for caption in captions:
            text = re.sub(r"the heads? of \w+ \w+|(holding|flying) an? \w+", "", caption["caption"])
            for said, rest in phrases(text):
                found = re.match(rf"(?:[a-z]+ )?({'|'.join(sorted(words, key=len)[::-1])})\b", rest)
                if found is None:
                    continue
                count = 1 if said in ("a", "an") else NUMBERS.index(said)
                assert there[caption["image_id"], words[found[1]]] == count, caption
                checked += 1
    assert checked > 500


def test_counting_questions_are_answered_truly(drawn: Drawn) -> None:
    there: Counter[tuple[int, str]] = Counter()
    crowds = set()
    for split in SPLITS:
        file = drawn.read(f"coco/annotations/instances_{split}.json")
        names = {entry["id"]: entry["name"] for entry in file["categories"]}
        for record in file["annotations"]:
            key = record["image_id"], noun(names[record["category_id"]], 2)
            there[key] += 1
            if record["iscrowd"]:
                crowds.add(key)
    known = {
        image["id"]
        for split in SPLITS
        for image in drawn.read(f"coco/annotations/captions_{split}.json")["images"]
    }
    asked = 0
    for half in ("train2014", "val2014"):
        questions = drawn.read(f"vqav2/v2_OpenEnded_mscoco_{half}_questions.json")["questions"]
        answers = {
            record["question_id"]: record
            for record in drawn.read(f"vqav2/v2_mscoco_{half}_annotations.json")["annotations"]
        }
        assert {question["question_id"] for question in questions} == set(answers)
        for question in questions:
            found = re.match(r"How many (.+?) (?:are|can)", question["question"])
            if found and question["image_id"] in known:
                key = question["image_id"], found[1]
                assert key not in crowds
                answer = answers[question["question_id"]]["multiple_choice_answer"]
                assert int(answer) == there[key], question
                asked += 1
    assert asked > 50


def test_ten_answers_agree_disagree_and_tie(drawn: Drawn) -> None:
    shares: Counter[str | int] = Counter()
    for path in (
        "vqav2/v2_mscoco_train2014_annotations.json",
        "okvqa/mscoco_train2014_annotations.json",
    ):
        for record in drawn.read(path)["annotations"]:
            votes = Counter(ballot["answer"] for ballot in record["answers"])
            assert votes.total() == 10
            if path.startswith("vqav2"):
                assert votes[record["multiple_choice_answer"]] == max(votes.values())
            shares["tie" if list(votes.values()).count(5) == 2 else len(votes)] += 1
    assert shares["tie"] and shares[1] and shares[2] and shares[3]


def test_every_picture_is_there(drawn: Drawn) -> None:
    root, missing = drawn.root, []
    by_id = {path.stem[-12:] for path in (root / "coco").glob("*20*/*.jpg")}
    coco = []
    for split in SPLITS:
        images = drawn.read(f"coco/annotations/captions_{split}.json")["images"]
        missing += [
            i["file_name"] for i in images if not (root / "coco" / split / i["file_name"]).is_file()
        ]
        for image in images:
            with Image.open(root / "coco" / split / image["file_name"]) as picture:
                assert picture.size == (image["width"], image["height"])
    for half in ("train2014", "val2014"):
        coco += [
            q["image_id"]
            for q in drawn.read(f"vqav2/v2_OpenEnded_mscoco_{half}_questions.json")["questions"]
        ]
        coco += [
            q["image_id"]
            for q in drawn.read(f"okvqa/OpenEnded_mscoco_{half}_questions.json")["questions"]
        ]
    for split in ("train", "val"):
        coco += [row["img_id"] for row in drawn.read(f"vqae/VQA-E_{split}_set.json")]
    for split in ("train", "val", "test"):
        coco += [row["image_id"] for row in drawn.read(f"aokvqa/aokvqa_v1p0_{split}.json")]
    for split in ("train", "test"):
        coco += [int(line) for line in drawn.read(f"cocoqa/{split}/img_ids.txt")]
    for split in ("train", "dev", "test"):
        coco += [int(Path(row["image"]).stem) for row in drawn.read(f"vsr/{split}.jsonl")]
    coco += [int(Path(row["image"]).stem) for row in drawn.read("llava/llava_instruct_150k.json")]
    mix = drawn.read("llava/llava_v1_5_mix665k.json")
    pictures = [row["image"] for row in mix if "image" in row]
    missing += [path for path in pictures if not (root / path).is_file()]
    assert 0 < len(pictures) < len(mix)
    texts = drawn.read("stvqa/train_task_3.json")["data"]
    coco += [int(row["file_name"][-16:-4]) for row in texts if "coco" in row["dataset"]]
    genome = drawn.read("visual_genome/image_data.json")
    coco += [row["coco_id"] for row in genome if row["coco_id"] is not None]
    views = {row["image_id"] for row in genome}
    missing += [
        str(view) for view in views if not (root / f"visual_genome/VG_100K/{view}.jpg").is_file()
    ]
    for split in ("train", "test"):
        for row in drawn.read(f"tallyqa/{split}.json"):
            if row["data_source"] == "imported_genome":
                assert row["image_id"] - 90_000_000 in views
            else:
                coco.append(row["image_id"])
    missing += [str(number) for number in coco if f"{number:012d}" not in by_id]
    missing += [
        r["image"]
        for r in drawn.read("mm_instruct/train.json")
        if not (root / "mm_instruct" / r["image"]).is_file()
    ]
    for path, rows, prefix in (
        ("mm_instruct/images.zip", drawn.read("mm_instruct/test.json"), ""),
        ("mminstruct/images.zip", drawn.read("mminstruct/jsons_all/qa_en.jsonl"), ""),
        (
            "vision_flan/image_191-task_1k.zip",
            drawn.read("vision_flan/annotation_191-task_1k.json"),
            "images_191task_1k/",
        ),
    ):
        members = set(zipfile.ZipFile(root / path).namelist())
        assert {prefix + row["image"] for row in rows} == members
    assert missing == []


def test_pictures_decode_in_several_formats(drawn: Drawn) -> None:
    seen: Counter[str] = Counter()
    turned = 0
    files = [
        *drawn.root.glob("coco/*20*/*"),
        *drawn.root.glob("mm_instruct/*/*"),
        *drawn.root.glob("visual_genome/VG*/*"),
    ]
    data = [path.read_bytes() for path in files]
    for path in drawn.root.rglob("*.zip"):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                assert entry.compress_type == zipfile.ZIP_STORED
                assert entry.date_time == (1980, 1, 1, 0, 0, 0)
                data.append(archive.read(entry))
    for picture in data:
        with Image.open(BytesIO(picture)) as image:
            seen[str(image.format)] += 1
            upright = ImageOps.exif_transpose(image)
            turned += upright.size != image.size
            assert upright.width > upright.height
    assert set(seen) == {"JPEG", "PNG", "WEBP"}
    assert turned == 1


def test_quirks_of_the_real_files(drawn: Drawn) -> None:
    flan = drawn.read("vision_flan/annotation_191-task_1k.json")
    assert len({row["id"] for row in flan}) < len(flan)
    assert sum(row["conversations"][1]["value"] == "" for row in flan) == 1
    ends = Counter(row["conversations"][0]["value"].startswith("<image>\n") for row in flan)
    assert ends[True] and ends[False]
    names = {row["image"] for row in flan}
    assert any(" " in name for name in names) and any(not name.isascii() for name in names)
    chinese = re.compile("[\u4e00-\u9fff]")
    english = drawn.read("mminstruct/jsons_all/caption_en.jsonl")
    assert sum(bool(chinese.search(row["conversations"][1]["value"])) for row in english) == 2
    assert all(
        chinese.search(row["conversations"][1]["value"])
        for row in drawn.read("mminstruct/jsons_all/caption_cn.jsonl")
    )
    for kind, folder in (("qa_en", "qa"), ("caption_en", "caption"), ("caption_cn", "caption")):
        every = drawn.read(f"mminstruct/jsons_all/{kind}.jsonl")
        parts = sorted(
            (drawn.root / f"mminstruct/jsons_per_domain/{folder}_per_domain").glob(
                f"*_{kind[-2:]}.jsonl"
            )
        )
        split = [row for path in parts for row in drawn.read(str(path.relative_to(drawn.root)))]
        assert sorted(row["id"] for row in split) == sorted(row["id"] for row in every)
    llava = drawn.read("llava/llava_instruct_150k.json")
    assert max(Counter(row["id"] for row in llava).values()) > 1
    for row in [*llava, *flan, *english, *drawn.read("mm_instruct/train.json")]:
        turns = [turn["value"].count("<image>") for turn in row["conversations"]]
        assert turns[0] == 1 and not any(turns[1:])
        assert [turn["from"] for turn in row["conversations"]] == ["human", "gpt"] * (
            len(turns) // 2
        )
    sources = {row["coco_id"] is None for row in drawn.read("visual_genome/image_data.json")}
    assert sources == {True, False}
    old = {path.stem[-12:] for path in (drawn.root / "coco/train2014").iterdir()}
    shared = {
        f"{row['coco_id']:012d}"
        for row in drawn.read("visual_genome/image_data.json")
        if row["coco_id"]
    }
    assert old & shared


masks = arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


@decodes
@given(masks)
def test_run_lengths_decode_to_the_mask(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
    coded = coco_mask.frPyObjects(
        {"counts": run_lengths(mask), "size": list(mask.shape)}, *mask.shape
    )
    assert (coco_mask.decode(coded) == mask).all()


@given(masks)
def test_loops_enclose_the_mask_less_its_holes(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
    assert sum(_area(loop) for loop in _loops(mask)) == mask.sum()


@given(st.integers(3, 20), st.integers(3, 20))
def test_a_rectangle_is_its_own_polygon(width: int, height: int) -> None:
    grid = np.zeros((30, 40), dtype=np.uint8)
    cover(grid, [(5, 4), (5 + width, 4), (5 + width, 4 + height), (5, 4 + height)], 7)
    found, area = polygons(grid == 7)
    assert found == [[5, 4, 5 + width, 4, 5 + width, 4 + height, 5, 4 + height]]
    assert area == width * height


def test_spatial_statements_are_labelled_truly(drawn: Drawn) -> None:
    boxes: dict[tuple[int, str], list[list[float]]] = {}
    for split in SPLITS:
        file = drawn.read(f"coco/annotations/instances_{split}.json")
        names = {entry["id"]: entry["name"] for entry in file["categories"]}
        for record in file["annotations"]:
            key = record["image_id"], noun(names[record["category_id"]])
            boxes.setdefault(key, []).append(record["bbox"])
    labels: Counter[int] = Counter()
    for split in ("train", "dev", "test"):
        for row in drawn.read(f"vsr/{split}.jsonl"):
            found = re.fullmatch(rf"The (.+) is {row['relation']} the (.+)\.", row["caption"])
            assert found is not None
            (one,), (other,) = (
                boxes[int(Path(row["image"]).stem), name] for name in found.groups()
            )
            true = {
                "at the left side of": one[0] + one[2] / 2 < other[0] + other[2] / 2,
                "at the right side of": one[0] + one[2] / 2 > other[0] + other[2] / 2,
                "above": one[1] + one[3] / 2 < other[1] + other[3] / 2,
                "below": one[1] + one[3] / 2 > other[1] + other[3] / 2,
            }[row["relation"]]
            assert row["label"] == int(true), row
            labels[row["label"]] += 1
    assert labels[0] > 12 and labels[1] > 12
