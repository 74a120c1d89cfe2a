"""The LLaVA-style sources on real records; what should come out is counted with plain ``json``."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vision_ift._build import build
from vision_ift._pictures.images import Images
from vision_ift._table import Table


def rows_of(table: Table) -> list[dict[str, Any]]:
    return [row for batch in table.batches() for row in batch.to_pylist()]


def parts(message: dict[str, Any]) -> list[str]:
    return [part["text"] if part["type"] == "text" else "(image)" for part in message["content"]]


def words(value: str) -> str:
    """A text without its tag and the newline on either side."""
    before, tag, after = value.partition("<image>")
    return before.removesuffix("\n") + after.removeprefix("\n") if tag else value


def test_vision_flan_rows_are_the_records_whose_picture_is_there(
    real_root: Path, tmp_path: Path
) -> None:
    folder = real_root / "vision_flan"
    records = json.loads((folder / "annotation_191-task_1k.json").read_text("utf-8"))
    images = Images(real_root)
    member = "images_191task_1k/"
    there = [
        record
        for record in records
        if images.member_exists(
            "vision_flan/image_191-task_1k.zip", member + record["image"].rpartition("/")[2]
        )
    ]
    assert 0 < len(there) < len(records)
    table = build("vision_flan", root=real_root, out=tmp_path / "table")
    rows = rows_of(table)
    assert table.report.dropped == {"missing_image": len(records) - len(there)}
    assert [row["task"] for row in rows] == [record["task_name"] for record in there]
    assert [row["image_paths"] for row in rows] == [[record["image"]] for record in there]
    for row, record in zip(rows, there, strict=True):
        question, answer = row["messages"]
        asked, said = (turn["value"] for turn in record["conversations"])
        first = asked.startswith("<image>")
        assert parts(question) == (
            ["(image)", words(asked)] if first else [words(asked), "(image)"]
        )
        assert parts(answer) == [said]
        with Image.open(io.BytesIO(images.read(row["images"][0]["path"]))) as picture:
            picture.load()


def test_vision_flan_with_every_record(real_root: Path, tmp_path: Path) -> None:
    records = json.loads((real_root / "vision_flan/annotation_191-task_1k.json").read_text("utf-8"))
    options = {"missing_images": "keep"}
    table = build("vision_flan", root=real_root, out=tmp_path / "table", options=options)
    assert len(table) == len(records)
    assert table.report.dropped == {}


def test_vision_flan_marks_counted_by_hand(real_root: Path, tmp_path: Path) -> None:
    records = json.loads((real_root / "vision_flan/annotation_191-task_1k.json").read_text("utf-8"))
    options = {"missing_images": "keep"}
    rows = rows_of(build("vision_flan", root=real_root, out=tmp_path / "table", options=options))
    metas = [json.loads(row["meta"]) for row in rows]
    inherited = [record["id"].startswith("multiinstruct_") for record in records]
    assert [meta["origin"] == "multiinstruct" for meta in metas] == inherited
    # A task of Vision-Flan's own names its dataset before a plus sign; none of the others has one.
    assert [("+" in row["task"]) for row in rows] == [not one for one in inherited]
    for meta, record in zip(metas, records, strict=True):
        digits = record["image"].removesuffix(".jpg")[-12:]
        named = digits.isdigit() and digits.startswith("000000")
        assert meta.get("coco_id") == (int(digits) if named else None)
        assert record["task_name"].split("+")[0] == meta["dataset"]
    sets = ("ImageNet-A", "ImageNet-C", "ImageNet-R", "NOCAPS", "ObjectNet", "Set5", "Winoground")
    held_out = {row["task"] for row, meta in zip(rows, metas, strict=True) if meta["eval_source"]}
    assert {task for task in held_out if task.startswith(sets)} == {
        record["task_name"] for record in records if record["task_name"].startswith(sets)
    }
    assert {task.split("+")[0] for task in held_out} - set(sets) <= {
        *("MVTecAD", "ayahoo_test_images", "model-vs-human", "Road-Anomaly", "VisDA-2017"),
        "ImageNet-Sketch",
    }
    options = {"missing_images": "keep", "eval_tasks": "drop"}
    report = build("vision_flan", root=real_root, out=tmp_path / "less", options=options).report
    assert report.dropped == {"eval_source": sum(meta["eval_source"] for meta in metas)}


def test_a_budget_of_vision_flan(real_root: Path, tmp_path: Path) -> None:
    records = json.loads((real_root / "vision_flan/annotation_191-task_1k.json").read_text("utf-8"))
    tasks = {record["task_name"] for record in records}
    options = {"missing_images": "keep", "num_tasks": "10", "per_task": "1"}
    table = build("vision_flan", root=real_root, out=tmp_path / "table", options=options)
    assert len(table) == len({row["task"] for row in rows_of(table)}) == 10 < len(tasks)
    assert table.report.dropped == {"over_budget": len(records) - 10}


def test_llava_quoted_records(real_root: Path, tmp_path: Path) -> None:
    records = json.loads((real_root / "llava/llava_instruct_150k.json").read_text("utf-8"))
    assert build("llava", root=real_root, out=tmp_path / "drop").report.dropped == {
        "missing_image": len(records)
    }
    options = {"missing_images": "keep"}
    rows = rows_of(build("llava", root=real_root, out=tmp_path / "keep", options=options))
    assert [row["id"] for row in rows] == [f"llava/{record['id']}" for record in records]
    for row, record in zip(rows, records, strict=True):
        assert row["images"][0]["path"] == f"coco/train2017/{record['image']}"
        texts = [
            part["text"] for turn in row["messages"] for part in turn["content"] if part["text"]
        ]
        assert texts == [words(turn["value"]) for turn in record["conversations"]]


def test_mm_instruct_benchmark(real_root: Path, tmp_path: Path) -> None:
    options = {"missing_images": "keep"}
    table = build("mm_instruct", root=real_root, out=tmp_path / "table", options=options)
    lines = (real_root / "mm_instruct/test.json").read_text("utf-8").splitlines()
    rows = rows_of(table)
    assert len(rows) == len(lines) == 99
    assert len({row["messages"][0]["content"][1]["text"] for row in rows}) == 33
    for row, line in zip(rows, lines, strict=True):
        record = json.loads(line)
        assert json.loads(row["meta"])["caption"] == record["caption"]
        assert row["image_paths"] == [record["image"]]


#: Others' files: where they lie, what their pictures' folder is called in them, rows, dropped.
LLAVA_STYLE = [
    ("qwen_vl_finetune/single_images.json", "demo", "qwen_vl_finetune", 3, {}),
    ("lmms_finetune/single_image.json", "", "lmms_finetune/images", 2, {}),
    ("lmms_finetune/single_image_has_text_only.json", "", "lmms_finetune/images", 4, {}),
    ("lmms_finetune/multi_images.json", "", "lmms_finetune/images", 1, {"missing_image": 1}),
    ("lmms_finetune/celeba_image_eval.json", "", "lmms_finetune/images", 0, {"missing_image": 10}),
    ("lmms_finetune/video.json", "", "lmms_finetune/images", 0, {"bad_record": 2}),
    ("qwen_vl_finetune/video.json", "", "qwen_vl_finetune", 0, {"bad_record": 3}),
    ("ms_swift/conversations.jsonl", "", "ms_swift", 3, {}),
    ("internlm_xcomposer/data/only_text_example.json", "", "ms_swift", 0, {"roles": 2}),
]
MESSAGES = [
    ("llama_factory/mllm_demo.json", "", "llama_factory", 6, {}),
    ("llama_factory/v1_multimodal_demo.jsonl", "data", "llama_factory", 24, {}),
    ("llama_factory/mllm_video_demo.json", "", "llama_factory", 0, {"bad_record": 3}),
    ("buaadreamer_mllm/data/mllm_demo.json", "", "buaadreamer_mllm", 3, {}),
    ("ms_swift/chatml.jsonl", "", "ms_swift", 3, {}),
    ("data_juicer/demos/data/demo-dataset-chatml.jsonl", "", "ms_swift", 4, {}),
]


@pytest.mark.parametrize(
    ("source", "file", "called", "pictures", "rows", "dropped"),
    [("llava", *one) for one in LLAVA_STYLE] + [("messages", *one) for one in MESSAGES],
)
def test_files_of_other_projects(
    real_data: Path,
    tmp_path: Path,
    source: str,
    file: str,
    called: str,
    pictures: str,
    rows: int,
    dropped: dict[str, int],
) -> None:
    root = tmp_path / "root"
    folder = real_data / "other_schemas" / pictures
    if called:
        root.mkdir()
        (root / called).symlink_to(folder)
    else:
        root.symlink_to(folder)
    path = str(real_data / "other_schemas" / file)
    report = build(source, root=root, out=tmp_path / "table", options={"path": path}).report
    assert (report.rows, report.dropped) == (rows, dropped)
