"""The files that are written: exact bytes, where pictures lie, order, and what is left alone."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import warnings
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest

from tests.convert.laid import ALL, WITH_FILES, file_of, laid, one, plain, rows_of, turn
from tests.exports import plan_of, small_plan, tree
from tests.rows import table_of
from vision_ift._convert.convert import convert, read_files
from vision_ift._convert.out import Out
from vision_ift._disk import locked
from vision_ift._errors import LockedError, OutputError, UsageError
from vision_ift._export.export import export

_REST = (
    r'"vision_ift":"{\"id\":\"llava/7\",\"image_paths\":[\"their/p/1.jpg\",\"their/p/2.png\"],'
    r"\"language\":null,\"license\":\"MIT\",\"meta\":\"{\\\"n\\\":1}\",\"source\":\"llava\","
    r'\"split\":\"train\",\"task\":null}"'
)
_LLAVA = (
    '{"id":"llava/7","image":["p/1.jpg","p/2.png"],"conversations":['
    r'{"from":"human","value":"<image>\n<image>\nWhich \"字\"?"},'
    '{"from":"gpt","value":"The 1st."}],' + _REST + "}"
)
_MESSAGES = (
    r'{"id":"llava/7","messages":[{"role":"user","content":"<image><image>Which \"字\"?"},'
    '{"role":"assistant","content":"The 1st."}],"images":["p/1.jpg","p/2.png"],' + _REST + "}"
)
#: Format to files and their text.
GOLDEN = {
    "llava": {"llava.json": f"[\n{_LLAVA}\n]\n"},
    "qwen": {
        "llava.json": f"[\n{_LLAVA}\n]\n",
        "llava.qwen.py": "# For qwenvl/data/__init__.py; both paths are relative to this file's "
        'folder.\ndata_dict["llava"] = {\n    "annotation_path": "llava.json",\n'
        '    "data_path": "../root",\n}\n',
    },
    "internvl": {
        "llava.jsonl": f"{_LLAVA}\n",
        "llava.meta.json": '{\n "llava": {\n  "root": "../root",\n  "annotation": "llava.jsonl",\n'
        '  "data_augment": false,\n  "repeat_time": 1,\n  "length": 1\n }\n}\n',
    },
    "swift": {"llava.jsonl": f"{_MESSAGES}\n"},
    "llamafactory": {"llava.json": f"[\n{_MESSAGES}\n]\n"},
}


@pytest.mark.parametrize("to", GOLDEN)
def test_text_formats_to_the_byte(tmp_path: Path, to: str) -> None:
    row = one(
        "7",
        turn("user", None, None, 'Which "字"?'),
        turn("assistant", "The 1st."),
        images=("p/1.jpg", "p/2.png"),
        task=None,
        language=None,
        license="MIT",
        split="train",
        meta={"n": 1},
    )
    root, table = laid(tmp_path, [row])
    report = convert(table.path, to=to, out=tmp_path / "out", root=root)
    for name, text in GOLDEN[to].items():
        assert (tmp_path / "out" / name).read_text("utf-8") == text
    assert {*GOLDEN[to]} <= {*report.files}
    assert (report.rows, report.images, report.pictures) == (1, 2, 0)


def test_the_entry_of_llama_factory_joins_those_that_are_there(tmp_path: Path) -> None:
    root, table = laid(tmp_path, [plain()])
    out = tmp_path / "out"
    out.mkdir()
    theirs = {"z": {"file_name": "z.json"}, "a": {"hf_hub_url": "a/b"}}
    (out / "dataset_info.json").write_text(json.dumps(theirs))
    for _ in range(2):  # and once more, as after a crash
        convert(table.path, to="llamafactory", out=out, root=root)
        found = json.loads((out / "dataset_info.json").read_text())
        assert list(found) == ["z", "a", "llava"]
        assert {key: found[key] for key in theirs} == theirs
        assert found["llava"]["file_name"] == "llava.json"


@pytest.mark.parametrize("text", ["[]", "{", '{"llava": {"file_name": "other.json"}}', "[" * 9999])
def test_a_list_that_cannot_be_added_to(tmp_path: Path, text: str) -> None:
    root, table = laid(tmp_path, [plain()])
    (tmp_path / "out").mkdir()
    (tmp_path / "out/dataset_info.json").write_text(text)
    with pytest.raises(OutputError, match=r"dataset_info\.json"):
        convert(table.path, to="llamafactory", out=tmp_path / "out", root=root)
    assert (tmp_path / "out/dataset_info.json").read_text() == text
    assert not (tmp_path / "out/llava.json").exists()


def test_swift_has_boxes_as_objects(tmp_path: Path) -> None:
    meta = {"rounds": [{"boxes": [[10, 20, 30.5, 40]], "image": 0, "size": [64, 64]}, {}]}
    root, table = laid(
        tmp_path,
        [one("1", turn("user", None, "q"), turn("assistant", "a"), images=("p/1.jpg",), meta=meta)],
    )
    convert(table.path, to="swift", out=tmp_path / "out", root=root)
    record = json.loads((tmp_path / "out/llava.jsonl").read_text())
    assert record["objects"] == {"ref": [], "bbox": [[10, 20, 40.5, 60]], "image_id": [0]}
    back = read_files([tmp_path / "out/llava.jsonl"], form="swift", out=tmp_path / "b", root=root)
    assert rows_of(back, root) == rows_of(table, root)


def test_internvl_is_not_led_to_show_a_later_picture_first(tmp_path: Path) -> None:
    later = (turn("user", "q"), turn("assistant", "a"), turn("user", None), turn("assistant", "b"))
    root, table = laid(tmp_path, [plain(), one("2", *later, images=("p/1.jpg",))])
    convert(table.path, to="internvl", out=tmp_path / "out", root=root)
    lines = (tmp_path / "out/llava.jsonl").read_text("utf-8").split("\n")[:-1]
    assert [json.loads(line)["image"] for line in lines] == ["p/1.jpg", ["p/1.jpg"]]
    assert [json.loads(line)["conversations"][0]["value"] for line in lines] == [
        "<image>\nWhat is this?",
        "q",
    ]


def test_openai_is_what_the_guide_shows(tmp_path: Path) -> None:
    root, table = laid(tmp_path, [plain()])
    convert(table.path, to="openai", out=tmp_path / "out", root=root)
    record = json.loads((tmp_path / "out/llava.jsonl").read_text("utf-8"))
    picture = base64.b64encode((root / "p/1.jpg").read_bytes()).decode()
    assert list(record) == ["messages"]
    assert record["messages"][:2] == [
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{picture}"}},
                {"type": "text", "text": "What is this?"},
            ],
        },
        {"role": "assistant", "content": '一只猫 \u2028 \\ "'},
    ]


@pytest.mark.parametrize("to", ["trl", "finevision"])
def test_datasets_decodes_the_parquet(tmp_path: Path, to: str) -> None:
    root, table = laid(tmp_path, [plain(), one("2", turn("user", "q"), turn("assistant", "a"))])
    convert(table.path, to=to, out=tmp_path / "out", root=root)
    loaded: Any = datasets.load_dataset(
        "parquet",
        data_files=str(file_of(to, tmp_path / "out")),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    first, second = loaded
    assert first["images"][0].size == (24, 16)
    assert second["images"] == []
    if to == "trl":
        assert [part["type"] for part in first["messages"][0]["content"]] == ["image", "text"]
    else:
        assert first["texts"][1] == {"user": "And now?", "assistant": "Still."}
        assert first["source"] == "llava"
        assert first["relevance_ratings"] is None
        assert second["formatting_min"] is None


def test_parquet_is_cut_into_files_and_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vision_ift._convert import out

    monkeypatch.setattr(out, "_GROUP_ROWS", 3)
    monkeypatch.setattr(out, "_FILE_BYTES", 3000)
    rows = [plain(str(n), f"p/{n}.jpg") for n in range(20)]
    root, table = laid(tmp_path, rows)
    report = convert(table.path, to="trl", out=tmp_path / "out", root=root)
    assert len(report.files) > 1
    parts = [pq.ParquetFile(tmp_path / "out" / name) for name in report.files]
    assert sum(part.metadata.num_rows for part in parts) == 20
    for part in parts:
        groups = [part.metadata.row_group(n).num_rows for n in range(part.num_row_groups)]
        assert max(groups) <= 3
    files = [tmp_path / "out" / name for name in report.files]
    back = read_files(files, form="trl", out=tmp_path / "back")
    assert rows_of(back, tmp_path / "out") == rows_of(table, root)


@pytest.mark.parametrize("to", WITH_FILES)
def test_copies_are_the_bytes_once_each(tmp_path: Path, to: str) -> None:
    rows = [plain("1", "p/1.jpg"), plain("2", "p/1.jpg"), plain("3", "q/same.jpg")]
    root, table = laid(tmp_path, rows)
    (root / "q/same.jpg").write_bytes((root / "p/1.jpg").read_bytes())
    report = convert(table.path, to=to, out=tmp_path / "out", root=root, images="copy")
    files = tree(tmp_path / "out/images")
    assert list(files.values()) == [hashlib.sha256((root / "p/1.jpg").read_bytes()).hexdigest()]
    assert (report.images, report.pictures) == (3, 1)
    assert report.images_base == "."


@pytest.mark.parametrize("to", ALL)
def test_the_same_again_is_the_same_bytes(tmp_path: Path, to: str) -> None:
    root, table = laid(tmp_path, [plain(str(n), f"p/{n}.jpg") for n in range(5)])
    convert(table.path, to=to, out=tmp_path / "out", root=root)
    first = tree(tmp_path / "out")
    convert(table.path, to=to, out=tmp_path / "out", root=root)
    os.umask(os.umask(0o077))
    convert(table.path, to=to, out=tmp_path / "other", root=root)
    assert tree(tmp_path / "out") == first == tree(tmp_path / "other")


def test_a_torn_copy_of_an_earlier_run_is_written_anew(tmp_path: Path) -> None:
    root, table = laid(tmp_path, [plain()])
    convert(table.path, to="llava", out=tmp_path / "out", root=root, images="copy")
    wanted = tree(tmp_path / "out")
    (copied,) = (path for path in (tmp_path / "out/images").rglob("*.jpg"))
    copied.write_bytes(bytes(copied.stat().st_size))
    convert(table.path, to="llava", out=tmp_path / "out", root=root, images="copy")
    assert tree(tmp_path / "out") == wanted


@pytest.mark.parametrize("to", ALL)
def test_nothing_is_there_of_a_run_that_broke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    root, table = laid(tmp_path, [plain()])

    def broken(self: Out) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Out, "finish", broken)
    with pytest.raises(KeyboardInterrupt):
        convert(table.path, to=to, out=tmp_path / "out", root=root)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".convert.lock"]


def test_two_formats_of_one_name_keep_their_own(tmp_path: Path) -> None:
    root, table = laid(tmp_path, [plain()])
    for to in ("llava", "swift", "llava", "swift"):
        convert(table.path, to=to, out=tmp_path / "out", root=root)
    with pytest.raises(OutputError, match="llava\\.json"):  # which is LLaVA's
        convert(table.path, to="qwen", out=tmp_path / "out", root=root)


def test_one_at_a_time(tmp_path: Path) -> None:
    root, table = laid(tmp_path, [plain()])
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out/.convert.lock"), pytest.raises(LockedError):
        convert(table.path, to="llava", out=tmp_path / "out", root=root)


@pytest.mark.parametrize("to", ALL)
def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path, to: str) -> None:
    rows = [plain("1"), one("2", turn("user", "q"))]
    root, table = laid(tmp_path, rows)
    report = convert(table.path, to=to, out=tmp_path / "out", root=root, dry_run=True)
    assert (report.rows, report.dropped) == (1, {"no_answer": 1})
    assert not (tmp_path / "out").exists()


def test_a_plan_keeps_its_order_and_repeats(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    tables = {
        "llava": table_of(tmp_path / "a", 30, source="llava"),
        "messages": table_of(tmp_path / "b", 7, source="messages"),
    }
    made = plan_of(root, tables)
    wanted = [row["id"] for row in made.rows(0, len(made)).to_pylist()]
    from vision_ift._convert import rows

    read = [row["id"] for row in rows._of_plan(made)]
    assert read == wanted
    assert len({*wanted}) < len(wanted)


@pytest.mark.parametrize("to", ["llava", "trl"])
def test_an_export_is_converted_with_its_pictures(tmp_path: Path, to: str) -> None:
    made = small_plan(tmp_path, rows=9)
    export(made, out=tmp_path / "mixed")
    report = convert(tmp_path / "mixed", to=to, out=tmp_path / "out")
    ids = [row["id"] for row in made.rows(0, len(made)).to_pylist()]
    if to == "llava":
        # Its rows hold "<image>" as text, which LLaVA's layout cannot say.
        assert (report.rows, report.dropped) == (0, {"marker": len(ids)})
    else:
        assert report.rows == len(ids)
        table = pq.read_table(tmp_path / "out/mixed-00000.parquet")
        assert table["id"].to_pylist() == ids
    with pytest.raises(UsageError):
        convert(tmp_path / "mixed", to="trl", out=tmp_path / "o", images="path")


def test_pictures_in_an_archive_are_copied_out(tmp_path: Path) -> None:
    import zipfile

    root = tmp_path / "root"
    root.mkdir()
    data = b"\xff\xd8\xff" + b"a picture"
    with zipfile.ZipFile(root / "a.zip", "w") as archive:
        archive.writestr("in/1.jpg", data)
    row = plain("1", "vift://a.zip!/in/1.jpg")
    table = table_of(tmp_path / "table", [row], source="llava")
    with pytest.raises(UsageError, match="not under ROOT"):
        convert(table.path, to="llava", out=tmp_path / "out", root=root)
    assert not (tmp_path / "out/images").exists()
    convert(table.path, to="llava", out=root / "made", root=root)
    record = json.loads((root / "made/llava.json").read_text("utf-8"))[0]
    assert record["image"].startswith("made/images/")
    assert (root / record["image"]).read_bytes() == data
    back = read_files([root / "made/llava.json"], form="llava", out=tmp_path / "back", root=root)
    assert rows_of(back, root) == rows_of(table, root)


@pytest.mark.parametrize("to", ["llamafactory", "swift"])
def test_a_column_that_is_empty_for_long_is_told(tmp_path: Path, to: str) -> None:
    text = [one(str(n), turn("user", "q"), turn("assistant", "a")) for n in range(1000)]
    for number, (rows, notes) in enumerate(
        (([*text[:999], plain("x")], []), ([*text, plain("x")], ["late_images"]), (text, []))
    ):
        root, table = laid(tmp_path / str(number), rows)
        report = convert(table.path, to=to, out=tmp_path / str(number) / "out", root=root)
        assert (report.rows, report.notes) == (len(rows), notes)


def test_an_empty_table(tmp_path: Path) -> None:
    table = table_of(tmp_path / "table", [], source="llava")
    for to in ALL:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert convert(table.path, to=to, out=tmp_path / to, root=tmp_path).rows == 0
    assert json.loads((tmp_path / "llava/llava.json").read_text()) == []
