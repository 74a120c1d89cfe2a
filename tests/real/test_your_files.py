"""Any dataset of a user's own, on files that other projects made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vision_ift._build import build
from vision_ift._pictures.images import Images
from vision_ift._table import Table


def rows_of(table: Table) -> list[dict[str, Any]]:
    return [row for batch in table.batches() for row in batch.to_pylist()]


def made(source: str, root: Path, out: Path, path: str, **options: Any) -> Table:
    return build(source, root=root, out=out, options={"path": path, **options})


#: File, options, rows, what is dropped: counted by hand and with plain `json`.
FILES: list[tuple[str, dict[str, str], int, dict[str, int]]] = [
    ("llama_factory/mllm_demo.json", {}, 6, {}),
    ("llama_factory/mllm_video_demo.json", {}, 0, {"bad_record": 3}),
    ("buaadreamer_mllm/data/mllm_demo.json", {"images": "buaadreamer_mllm"}, 3, {}),
    # It says demo/images/, and the pictures lie in images/.
    ("qwen_vl_finetune/single_images.json", {}, 0, {"missing_image": 3}),
    ("ms_swift/swift_single.jsonl", {}, 3, {}),
    ("ms_swift/swift_multi.jsonl", {}, 3, {}),
    ("ms_swift/sharegpt.jsonl", {}, 3, {}),
    ("ms_swift/chatml.jsonl", {}, 3, {}),
    ("ms_swift/conversations.jsonl", {}, 3, {}),
    ("ms_swift/multi_modal_3.jsonl", {}, 0, {"unsafe_path": 3}),
    ("ms_swift/alpaca.jsonl", {}, 0, {"bad_record": 3}),
    ("img2dataset/test_files/sample_image.parquet", {}, 0, {"bad_record": 2}),
]


@pytest.mark.parametrize(
    ("file", "options", "rows", "dropped"), FILES, ids=[one[0] for one in FILES]
)
def test_a_file_of_another_project(
    real_data: Path,
    tmp_path: Path,
    file: str,
    options: dict[str, str],
    rows: int,
    dropped: dict[str, int],
) -> None:
    given = {key: f"other_schemas/{value}" for key, value in options.items()}
    table = made("messages", real_data, tmp_path / "t", f"other_schemas/{file}", **given)
    assert (table.report.rows, table.report.dropped) == (rows, dropped)
    images = Images(real_data)
    for row in rows_of(table):
        for image in row["images"]:
            assert images.read(image["path"])


def test_llama_factory_shows_pictures_where_its_tags_stand(real_data: Path, tmp_path: Path) -> None:
    path = "other_schemas/llama_factory/mllm_demo.json"
    records = json.loads((real_data / path).read_text("utf-8"))
    for record, row in zip(
        records, rows_of(made("messages", real_data, tmp_path / "t", path)), strict=True
    ):
        told = [
            "".join(part["text"] or "<image>" for part in turn["content"])
            for turn in row["messages"]
        ]
        assert told == [turn["content"] for turn in record["messages"]]
        assert row["image_paths"] == record["images"]


def test_bytes_in_a_list_column_are_read_in_place(real_data: Path, tmp_path: Path) -> None:
    path = "other_schemas/data_juicer/demos/data/demo-dataset-images-bytes.parquet"
    table = made("messages", real_data, tmp_path / "t", path, images_column="image_bytes")
    # The file has pictures and one text with marks of its own, but no turns.
    assert table.report.dropped == {"bad_record": 3}


SHARDS = {
    "webdataset/mpdata.tar": {"bad_record": 100},
    "webdataset/compressed.tar": {"bad_record": 3},
    "lhotse/recording.000000.tar": {"bad_record": 2},
    "lhotse/features.000000.tar": {"bad_record": 2},
    "video2dataset/return_all_test.tar": {"missing_image": 6},
}


@pytest.mark.parametrize("name", SHARDS)
def test_shards_of_other_kinds_are_counted(real_data: Path, tmp_path: Path, name: str) -> None:
    table = made("shards", real_data, tmp_path / "t", f"shards/{name}")
    assert (table.report.rows, table.report.dropped) == (0, SHARDS[name])


def test_qwen_and_lmms_records_are_llavas_layout_too(real_data: Path, tmp_path: Path) -> None:
    path = "other_schemas/lmms_finetune/single_image_has_text_only.json"
    records = json.loads((real_data / path).read_text("utf-8"))
    folder = "other_schemas/lmms_finetune/images"
    for source in ("llava", "messages"):
        table = made(source, real_data, tmp_path / source, path, images=folder)
        rows = rows_of(table)
        assert len(rows) + sum(table.report.dropped.values()) == len(records)
        assert any(not row["images"] for row in rows)
