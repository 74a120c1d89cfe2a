"""Files that other projects publish, each counted without our readers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.convert.laid import file_of, rows_of
from tests.real.conftest import real_data  # noqa: F401 - the fixture
from vision_ift._convert.convert import convert_files, read_files

_PICTURES = ("image", "images")


def _records(path: Path) -> list[Any]:
    """Read a file with the standard library alone."""
    if path.suffix == ".parquet":
        found: list[Any] = pq.read_table(path).to_pylist()
        return found
    text = path.read_text("utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    listed: list[Any] = json.loads(text)
    return listed


def _there(root: Path) -> Callable[[Any], bool]:
    """Say whether all pictures that a record names are there."""

    def all_there(record: Any) -> bool:
        given = record.get("image") or record.get("images") or []
        names = [given] if isinstance(given, str) else given
        return all((root / name).is_file() for name in names)

    return all_there


def _all(_: Any) -> bool:
    return True


def _none(_: Any) -> bool:
    return False


def _no_video(record: Any) -> bool:
    return not (record.get("video") or record.get("videos") or record.get("audios"))


#: Format, file, the folder that its pictures are relative to, what must hold for a record to be a
#: row (``None``: its pictures are there), and the reason of those that are none.
FILES: list[tuple[str, str, str, Callable[[Any], bool] | None, str]] = [
    ("llamafactory", "llama_factory/mllm_demo.json", "llama_factory", _all, ""),
    ("llamafactory", "llama_factory/mllm_video_demo.json", "llama_factory", _none, "bad_record"),
    ("llamafactory", "llama_factory/mllm_audio_demo.json", "llama_factory", _none, "bad_record"),
    (
        "llamafactory",
        "llama_factory/mllm_video_audio_demo.json",
        "llama_factory",
        _no_video,
        "bad_record",
    ),
    ("llamafactory", "buaadreamer_mllm/data/mllm_demo.json", "buaadreamer_mllm", _all, ""),
    ("swift", "ms_swift/chatml.jsonl", "ms_swift", _all, ""),
    ("swift", "ms_swift/conversations.jsonl", "ms_swift", _all, ""),
    ("swift", "ms_swift/sharegpt.jsonl", "ms_swift", _all, ""),
    ("swift", "ms_swift/swift_single.jsonl", "ms_swift", _all, ""),
    ("swift", "ms_swift/swift_multi.jsonl", "ms_swift", _all, ""),
    ("swift", "ms_swift/swift_multi.json", "ms_swift", _all, ""),
    (
        "swift",
        "ms_swift/multi_modal_1.jsonl",
        "ms_swift",
        lambda record: "<img>" not in record["query"],
        "marker",
    ),
    ("swift", "ms_swift/multi_modal_2.jsonl", "ms_swift", _none, "unsafe_path"),
    ("swift", "ms_swift/multi_modal_3.jsonl", "ms_swift", _none, "unsafe_path"),
    ("swift", "ms_swift/swift_pre.jsonl", "ms_swift", _none, "bad_record"),
    ("swift", "ms_swift/alpaca.jsonl", "ms_swift", _none, "bad_record"),
    ("qwen", "qwen_vl_finetune/single_images.json", "qwen_vl_finetune:demo", _all, ""),
    ("qwen", "qwen_vl_finetune/video.json", "qwen_vl_finetune", _none, "bad_record"),
    ("llava", "lmms_finetune/single_image.json", "lmms_finetune/images", None, "missing_image"),
    (
        "llava",
        "lmms_finetune/single_image_has_text_only.json",
        "lmms_finetune/images",
        None,
        "missing_image",
    ),
    ("llava", "lmms_finetune/multi_images.json", "lmms_finetune/images", None, "missing_image"),
    (
        "llava",
        "lmms_finetune/celeba_image_eval.json",
        "lmms_finetune/images",
        None,
        "missing_image",
    ),
    ("llava", "lmms_finetune/video.json", "lmms_finetune/images", _none, "bad_record"),
    (
        "internvl",
        "internlm_xcomposer/data/only_text_example.json",
        "internlm_xcomposer",
        _none,
        "roles",
    ),
    (
        "internvl",
        "internlm_xcomposer/data/single_turn_single_image_example.json",
        "internlm_xcomposer",
        _none,
        "",
    ),
    (
        "internvl",
        "internlm_xcomposer/data/multi_turn_multi_images_example.json",
        "internlm_xcomposer",
        _none,
        "",
    ),
    ("openai", "data_juicer/demos/data/demo-dataset-chatml.jsonl", "data_juicer", _all, ""),
    (
        "swift",
        "data_juicer/demos/data/demo-dataset-images.jsonl",
        "data_juicer",
        _none,
        "bad_record",
    ),
    (
        "trl",
        "data_juicer/demos/data/demo-dataset-images-bytes.parquet",
        "data_juicer",
        _none,
        "bad_record",
    ),
]


@pytest.mark.parametrize(
    ("form", "file", "pictures", "is_row", "reason"), FILES, ids=[one[1] for one in FILES]
)
def test_a_file_is_read_and_written_again(
    real_data: Path,  # noqa: F811
    tmp_path: Path,
    form: str,
    file: str,
    pictures: str,
    is_row: Callable[[Any], bool] | None,
    reason: str,
) -> None:
    folder, _, called = pictures.partition(":")
    root = tmp_path / "root"
    if called:
        root.mkdir()
        (root / called).symlink_to(real_data / "other_schemas" / folder)
    else:
        root.symlink_to(real_data / "other_schemas" / folder)
    path = real_data / "other_schemas" / file
    records = _records(path)
    wanted = [record for record in records if (is_row or _there(root))(record)]
    table = read_files([path], form=form, out=tmp_path / "table", root=root)
    assert table.report.rows == len(wanted)
    assert sum(table.report.dropped.values()) == len(records) - len(wanted)
    if reason and len(wanted) < len(records):
        assert set(table.report.dropped) == {reason}
    # Every row that the next format can say comes back from it.
    if wanted:
        where = tmp_path / "table" if form == "openai" else root
        _, report = convert_files(
            [path], form=form, to="swift", out=tmp_path / "s", name="x", images="copy", root=root
        )
        assert report.rows == len(wanted)
        back = read_files([file_of("swift", tmp_path / "s", "x")], form="swift", out=tmp_path / "b")
        assert rows_of(back, tmp_path / "s") == rows_of(table, where)
