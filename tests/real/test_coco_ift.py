"""COCO-IFT on real annotation files; what should come out is counted here with plain ``json``."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from vision_ift._build import build
from vision_ift._table import Table

MAX_ROUNDS = 8


class Expected(NamedTuple):
    """Counts made from the files alone: (split, image) to tasks of its rounds, and the rest."""

    pictures: set[int]
    rounds: dict[tuple[str, int], Counter[str]]
    missing: int
    no_answer: int
    no_coco_image: int


def load(root: Path, file: str) -> Any:
    return json.loads((root / file).read_text("utf-8"))


def ids_of_pictures(root: Path) -> set[int]:
    names = (path.name for path in (root / "coco").rglob("*.jpg"))
    return {int(re.findall(r"[0-9]{12}", name)[0]) for name in names}


@pytest.fixture(scope="module")
def expected(real_root: Path) -> Expected:
    pictures = ids_of_pictures(real_root)
    found: list[tuple[str, int, str]] = []
    for split in ("train", "val"):
        captions = load(real_root, f"coco/annotations/captions_{split}2017.json")
        found += [(split, one["image_id"], "captions") for one in captions["annotations"]]
    questions = load(real_root, "vqav2/v2_OpenEnded_mscoco_train2014_questions.json")["questions"]
    answers = load(real_root, "vqav2/v2_mscoco_train2014_annotations.json")["annotations"]
    answered = {one["question_id"] for one in answers if one["answers"]}
    unanswered = sum(one["question_id"] not in answered for one in questions)
    found += [
        ("train", one["image_id"], "vqav2") for one in questions if one["question_id"] in answered
    ]
    for split in ("val", "test"):
        for one in load(real_root, f"aokvqa/aokvqa_v1p0_{split}.json"):
            if one.get("rationales") and "correct_choice_idx" in one:
                found.append((split, one["image_id"], "aokvqa"))
            else:
                unanswered += 1
    joined = {
        one["image_id"]: one["coco_id"] for one in load(real_root, "visual_genome/image_data.json")
    }
    no_coco = 0
    for picture in load(real_root, "visual_genome/question_answers.json"):
        image = joined.get(picture["id"])
        if image is None:
            no_coco += len(picture["qas"])
        else:
            found += [("train", image, "vgqa")] * len(picture["qas"])
    rounds: dict[tuple[str, int], Counter[str]] = {}
    for split, image, task in found:
        if image in pictures:
            rounds.setdefault((split, image), Counter())[task] += 1
    missing = sum(image not in pictures for _, image, _ in found)
    return Expected(pictures, rounds, missing, unanswered, no_coco)


@pytest.fixture(scope="module")
def dialogs(real_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Table:
    return build("coco_ift", root=real_root, tables=tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def singles(real_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Table:
    tables = tmp_path_factory.mktemp("tables")
    return build("coco_ift", root=real_root, tables=tables, options={"rounds": "single"})


def rows_of(table: Table) -> list[dict[str, Any]]:
    rows = [row for batch in table.batches() for row in batch.to_pylist()]
    for row in rows:
        row["meta"] = json.loads(row["meta"])
    return rows


def text_of(message: dict[str, Any]) -> str:
    return "".join(part["text"] or "" for part in message["content"])


def test_single_rows_are_all_rounds(singles: Table, expected: Expected) -> None:
    assert singles.report.rows == sum(sum(tasks.values()) for tasks in expected.rounds.values())
    wanted: Counter[tuple[str, str]] = Counter()
    for (split, _), tasks in expected.rounds.items():
        for task, count in tasks.items():
            wanted[split, task] += count
    assert Counter((row["split"], row["task"]) for row in rows_of(singles)) == wanted
    assert singles.report.dropped == {
        "missing_image": expected.missing,
        "no_answer": expected.no_answer,
        "no_coco_image": expected.no_coco_image,
    }


def test_dialogs_are_all_rounds_but_the_captions_not_picked(
    dialogs: Table, expected: Expected
) -> None:
    wanted: dict[tuple[str, int], Counter[str]] = {}
    not_picked = 0
    for place, tasks in expected.rounds.items():
        not_picked += max(0, tasks["captions"] - 1)
        wanted[place] = Counter({task: 1 if task == "captions" else n for task, n in tasks.items()})
    found: dict[tuple[str, int], Counter[str]] = {}
    for row in rows_of(dialogs):
        names = [one["template"] for one in row["meta"]["rounds"]]
        assert len(row["messages"]) == 2 * len(names) <= 2 * MAX_ROUNDS
        assert row["task"] == (names[0] if len(names) == 1 else "dialog")
        found.setdefault((row["split"], row["meta"]["coco_id"]), Counter()).update(names)
    assert found == wanted
    assert dialogs.report.rows == sum(
        -(-sum(tasks.values()) // MAX_ROUNDS) for tasks in wanted.values()
    )
    assert dialogs.report.unique_images == len({image for _, image in wanted})
    assert dialogs.report.dropped == {
        "caption_not_picked": not_picked,
        "missing_image": expected.missing,
        "no_answer": expected.no_answer,
        "no_coco_image": expected.no_coco_image,
    }


def test_parts_without_their_files_are_listed(dialogs: Table) -> None:
    absent = {one["name"]: one["wanted"] for one in dialogs.report.absent}
    assert absent["okvqa train"] == ["okvqa/mscoco_train2014_annotations.json"]
    assert absent["okvqa val"] == ["okvqa/mscoco_val2014_annotations.json"]
    assert len(absent["vqav2 val"]) == 2
    present = {"captions train", "captions val", "vqav2 train", "vgqa train"}
    assert not absent.keys() & (present | {"aokvqa val", "aokvqa test"})
    for task in ("paragraphs", "cocoqa", "stvqa", "tallyqa", "vqae", "vsr"):
        assert any(name.startswith(task) for name in absent)


def test_the_templates_stand_word_for_word(singles: Table, real_root: Path) -> None:
    rows = {row["id"]: row for row in rows_of(singles)}
    questions = {
        one["question_id"]: one
        for one in load(real_root, "vqav2/v2_OpenEnded_mscoco_train2014_questions.json")[
            "questions"
        ]
    }
    answers = {
        one["question_id"]: Counter(vote["answer"].strip() for vote in one["answers"])
        for one in load(real_root, "vqav2/v2_mscoco_train2014_annotations.json")["annotations"]
    }
    choices = {one["question_id"]: one for one in load(real_root, "aokvqa/aokvqa_v1p0_val.json")}
    seen: Counter[str] = Counter()
    for name, row in rows.items():
        asked, answered = map(text_of, row["messages"])
        _, _, task, number = name.split("/")
        seen[task] += 1
        if task == "captions":
            assert asked == "Describe the content of this image in 20 words."
        elif task == "vqav2":
            question = questions[int(number)]["question"]
            assert asked == f"{question} Answer the question with a short phrase."
            votes = answers[int(number)]
            # A Counter keeps the order of the file, so the first of the largest wins a tie.
            assert answered == next(one for one in votes if votes[one] == max(votes.values()))
        else:
            one = choices[number]
            a, b, c, d = one["choices"]
            assert asked == (
                f"{one['question']}\nA. {a}\nB. {b}\nC. {c}\nD. {d}\nAnswer with options' letter "
                "from the given choices and provide explanation for your choice."
            )
            assert (
                answered == f"{'ABCD'[one['correct_choice_idx']]}. {one['rationales'][0].strip()}"
            )
    assert set(seen) == {"captions", "vqav2", "aokvqa"}


def test_every_picture_can_be_read_and_decoded(dialogs: Table, real_root: Path) -> None:
    for row in rows_of(dialogs):
        [picture] = row["images"]
        with Image.open(real_root / picture["path"]) as image:
            image.load()
        assert int(re.findall(r"[0-9]{12}", picture["path"])[0]) == row["meta"]["coco_id"]
        assert [part["type"] for part in row["messages"][0]["content"]] == ["image", "text"]


def test_questions_of_2014_find_their_pictures_of_2017(singles: Table, real_root: Path) -> None:
    here = {int(path.stem[-12:]) for path in (real_root / "coco/train2014").iterdir()}
    later = [
        row
        for row in rows_of(singles)
        if row["task"] == "vqav2" and row["meta"]["coco_id"] not in here
    ]
    assert later
    for row in later:
        assert re.fullmatch(r"coco/(train|val)2017/[0-9]{12}\.jpg", row["images"][0]["path"])


def test_extras_agree_with_the_files(real_root: Path, expected: Expected, tmp_path: Path) -> None:
    options = {"tasks": "presence,counting,location", "rounds": "single"}
    table = build("coco_ift", root=real_root, tables=tmp_path, options=options)
    boxes: dict[tuple[str, int, int], list[Any]] = {}
    kinds: dict[str, int] = {}
    for split in ("train", "val"):
        document = load(real_root, f"coco/annotations/instances_{split}2017.json")
        kinds |= {one["name"]: one["id"] for one in document["categories"]}
        for one in document["annotations"]:
            boxes.setdefault((split, one["image_id"], one["category_id"]), []).append(one)
    asked: Counter[str] = Counter()
    for row in rows_of(table):
        question, answer = map(text_of, row["messages"])
        kind = kinds[question.split('"')[1]]
        there = boxes.get((row["split"], row["meta"]["coco_id"], kind), [])
        asked[f"{row['task']} {answer}" if row["task"] == "presence" else row["task"]] += 1
        if row["task"] == "presence":
            assert answer == ("Yes" if there else "No")
            continue
        assert not any(one["iscrowd"] for one in there)
        if row["task"] == "counting":
            assert answer == str(len(there))
        else:
            [found] = row["meta"]["rounds"]
            assert sorted(found["boxes"]) == sorted(one["bbox"] for one in there)
            assert answer.count("\n") == len(there) - 1
    shown = {image for _, image, _ in boxes} & expected.pictures
    assert asked["presence Yes"] == len(shown)
    assert min(asked[task] for task in ("presence No", "counting", "location")) > len(shown) / 2
