"""MM-Instruct: the benchmark's prompts, and training pictures that users bring."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vision_ift._build import build
from vision_ift._fetch import sa1b as _sa1b
from vision_ift._pictures.images import Images, image_format
from vision_ift._registry import find

FIXTURE = Path(__file__).parents[1] / "fixtures" / "mm_instruct" / "root"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the fixture's root, to change."""
    return Path(shutil.copytree(FIXTURE, tmp_path / "root"))


def test_prompts_have_no_answer_and_keep_the_caption_in_meta(tmp_path: Path) -> None:
    table = build("mm_instruct", root=FIXTURE, out=tmp_path / "table")
    rows = [row for batch in table.batches() for row in batch.to_pylist() if row["split"] == "test"]
    assert table.report.splits == {"test": 2, "train": 4}
    for row in rows:
        assert [message["role"] for message in row["messages"]] == ["user"]
        assert json.loads(row["meta"])["caption"]
        assert row["messages"][0]["content"][1]["text"] == "Craft a caption."


def test_prompts_as_a_list_are_the_same(root: Path, tmp_path: Path) -> None:
    wanted = build("mm_instruct", root=root, out=tmp_path / "lines")
    path = root / "mm_instruct/test.json"
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    path.write_text(json.dumps(records, indent=2), "utf-8")
    assert build("mm_instruct", root=root, out=tmp_path / "list").digest == wanted.digest


def test_training_pictures_may_lie_under_root(root: Path, tmp_path: Path) -> None:
    shutil.move(root / "mm_instruct/sa1b", root / "sa1b")
    shutil.move(root / "mm_instruct/datacomp", root / "datacomp")
    table = build("mm_instruct", root=root, out=tmp_path / "table")
    assert table.report.splits == {"test": 2, "train": 4}
    assert table.report.absent == []


def test_pictures_that_nobody_fetched_are_named(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "mm_instruct/sa1b")
    report = build("mm_instruct", root=root, out=tmp_path / "table").report
    assert report.absent == [{"name": "pictures of SA-1B", "wanted": ["mm_instruct/sa1b/"]}]


def test_missing_parts_are_named(root: Path, tmp_path: Path) -> None:
    (root / "mm_instruct/train.json").unlink()
    report = build("mm_instruct", root=root, out=tmp_path / "table").report
    assert report.absent == [{"name": "train", "wanted": ["mm_instruct/train.json"]}]


@pytest.mark.parametrize(
    ("reason", "bad"),
    [
        ("bad_record", {"question_id": "x", "image": "sa_1419.jpg", "text": "a"}),
        ("bad_record", {"question_id": 1, "text": "a"}),
        ("unsafe_path", {"question_id": 1, "image": "../a.jpg", "text": "a"}),
        ("bad_text", {"question_id": 1, "image": "sa_1419.jpg", "text": "\ud800"}),
    ],
)
def test_a_bad_prompt_is_dropped_alone(
    root: Path, tmp_path: Path, reason: str, bad: dict[str, Any]
) -> None:
    path = root / "mm_instruct/test.json"
    path.write_text(json.dumps(bad) + "\n" + path.read_text("utf-8"), "utf-8")
    report = build("mm_instruct", root=root, out=tmp_path / "table").report
    assert report.splits["test"] == 2
    assert report.dropped_first[reason][0]["record"] == "byte 0"


UID = "3c94c1a9e52f40d7a1b2c3d4e5f60718"
OTHER = "00000000000000000000000000000abc"


def references(root: Path, *paths: str, **options: Any) -> list[str | None]:
    """Where the pictures of these paths are found, by both ways."""
    records = [
        {
            "id": str(number),
            "image": path,
            "conversations": [
                {"from": "human", "value": "<image>\nWrite."},
                {"from": "gpt", "value": "Written."},
            ],
        }
        for number, path in enumerate(paths)
    ]
    (root / "mm_instruct/train.json").write_text(json.dumps(records), "utf-8")
    builder = find("mm_instruct")
    found: dict[str, str] = {}
    for batch in builder.batches(root, **options):
        found |= {row["id"]: row["images"][0]["path"] for row in batch.rows.to_pylist()}
    single = builder.gather(builder.conversations(root, **options))
    again = [row["id"] for batch in single for row in batch.rows.to_pylist()]
    assert sorted(again) == sorted(found)
    return [found.get(f"mm_instruct/{number}") for number in range(len(paths))]


def pack(path: Path, **members: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A root without pictures."""
    (tmp_path / "empty/mm_instruct").mkdir(parents=True)
    return tmp_path / "empty"


JPEG = b"\xff\xd8\xff\xe0 a picture"


@pytest.mark.parametrize("wanted", [f"datacomp/{UID}.jpg", UID, f"datacomp/images/{UID}.png"])
@pytest.mark.parametrize(
    "place",
    [
        f"mm_instruct/datacomp/{UID}.webp",
        f"datacomp/images/{UID}.jpg",
        f"datacomp/3c/{UID}.jpeg",
    ],
)
def test_a_file_is_found_by_its_uid(empty: Path, place: str, wanted: str) -> None:
    (empty / place).parent.mkdir(parents=True)
    (empty / place).write_bytes(JPEG)
    assert references(empty, wanted) == [place]


@pytest.mark.parametrize("how", ["json", "key", "parquet"])
@pytest.mark.parametrize("folder", ["mm_instruct/datacomp", "datacomp/images"])
@pytest.mark.parametrize("packed", [False, True])
def test_what_img2dataset_made_is_found_by_the_uid_that_it_noted(
    empty: Path, folder: str, how: str, packed: bool
) -> None:
    notes = {
        "000000000": {"uid": UID, "key": "000000000", "status": "success"},
        "000000001": {"uid": "elsewhere", "key": "000000001"},
    }
    if how == "key":
        notes["000000000"] = {"key": UID}
    shard = empty / folder / "00007"
    members = {f"{key}.jpg": JPEG for key in notes}
    if how == "parquet":
        shard.parent.mkdir(parents=True)
        columns = {"key": list(notes), "uid": [note["uid"] for note in notes.values()]}
        pq.write_table(pa.table(columns), shard.with_suffix(".parquet"))
    else:
        members |= {f"{key}.json": json.dumps(note).encode() for key, note in notes.items()}
    if packed:
        pack(shard.with_suffix(".tar"), **members)
        wanted = f"vift://{folder}/00007.tar!/000000000.jpg"
    else:
        shard.mkdir(parents=True)
        for name, data in members.items():
            (shard / name).write_bytes(data)
        wanted = f"{folder}/00007/000000000.jpg"
    assert references(empty, f"datacomp/{UID}.jpg", f"datacomp/{OTHER}.jpg") == [wanted, None]
    assert image_format(Images(empty).read(wanted)) == "jpg"


def test_a_note_that_is_no_json_is_counted(empty: Path) -> None:
    notes = {"0.json": b"{", "1.json": b'{"uid": 7}'}
    pack(empty / "datacomp/00000.tar", **{"0.jpg": JPEG, "1.jpg": JPEG}, **notes)
    assert references(empty, f"datacomp/{UID}.jpg") == [None]
    dropped = [one for batch in find("mm_instruct").batches(empty) for one in batch.dropped]
    assert [(one.reason, one.file) for one in dropped] == [
        ("broken_json", "datacomp/00000.tar!/0.json"),
        ("broken_json", "datacomp/00000.tar!/1.json"),
        ("missing_image", "mm_instruct/train.json"),
    ]


@pytest.mark.parametrize("folder", _sa1b.FOLDERS)
def test_a_tar_of_sa1b_is_read_in_place(empty: Path, folder: str) -> None:
    pack(empty / folder / "sa_000020.tar", **{"./sa_223750.jpg": b"", "./sa_224577.jpg": JPEG})
    wanted = f"vift://{folder}/sa_000020.tar!/sa_224577.jpg"
    assert references(empty, "sa1b/sa_224577.jpg", "sa_224577", "sa1b/sa_1.jpg") == [
        wanted,
        wanted,
        None,
    ]
    assert Images(empty).read(wanted) == JPEG


def test_unpacked_tars_of_sa1b_are_found(empty: Path) -> None:
    file = empty / "sa1b/sa_000020/sa_224577.jpg"
    file.parent.mkdir(parents=True)
    file.write_bytes(JPEG)
    assert references(empty, "sa1b/sa_224577.jpg") == ["sa1b/sa_000020/sa_224577.jpg"]


def test_a_damaged_tar_is_counted_and_the_others_are_read(empty: Path) -> None:
    pack(empty / "sa1b/sa_000001.tar", **{"sa_11187.jpg": JPEG})
    (empty / "sa1b/sa_000000.tar").write_bytes(b"not a tar" * 100)
    assert references(empty, "sa_1.jpg", "sa_11187.jpg")[1] is not None
    dropped = [one for batch in find("mm_instruct").batches(empty) for one in batch.dropped]
    assert [(one.reason, one.file) for one in dropped] == [
        ("bad_image", "sa1b/sa_000000.tar"),
        ("missing_image", "mm_instruct/train.json"),
    ]


def test_an_index_is_taken_for_tars_that_are_as_they_were(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tar = empty / "sa1b/sa_000000.tar"
    pack(tar, **{"./sa_7.jpg": JPEG})
    _sa1b.write_index(empty, empty / _sa1b.INDEX)
    with monkeypatch.context() as patched:
        patched.setattr(_sa1b, "_walked", None)  # walking would fail
        assert references(empty, "sa_7.jpg") == ["vift://sa1b/sa_000000.tar!/sa_7.jpg"]
    pack(tar, **{"./sa_8.jpg": JPEG, "./sa_9.jpg": JPEG * 300})
    assert references(empty, "sa_7.jpg", "sa_8.jpg") == [
        None,
        "vift://sa1b/sa_000000.tar!/sa_8.jpg",
    ]


@pytest.mark.parametrize("index", [b"", b"PAR1 no", b"{}"])
def test_a_broken_index_is_passed_over(empty: Path, index: bytes) -> None:
    pack(empty / "sa1b/sa_000000.tar", **{"./sa_7.jpg": JPEG})
    (empty / _sa1b.INDEX).write_bytes(index)
    assert references(empty, "sa_7.jpg") == ["vift://sa1b/sa_000000.tar!/sa_7.jpg"]


def test_missing_pictures_are_kept_on_demand(empty: Path) -> None:
    paths = ("datacomp/images/a.jpg", "sa1b/sa_7.jpg")
    assert references(empty, *paths, missing_images="keep") == [
        "mm_instruct/datacomp/images/a.jpg",
        "mm_instruct/sa1b/sa_7.jpg",
    ]


def test_unsafe_paths_are_not_looked_up(empty: Path) -> None:
    pack(empty / "sa1b/sa_000000.tar", **{"./sa_7.jpg": JPEG})
    assert references(empty, "../sa_7.jpg", "/sa_7.jpg", "https://x/sa_7.jpg") == [None] * 3


def test_prompts_without_their_archive_are_kept_on_demand(root: Path, tmp_path: Path) -> None:
    (root / "mm_instruct/images.zip").unlink()
    options = {"missing_images": "keep"}
    table = build("mm_instruct", root=root, out=tmp_path / "table", options=options)
    assert table.report.splits["test"] == 3
    rows = [row for batch in table.batches() for row in batch.to_pylist() if row["split"] == "test"]
    assert rows[0]["images"][0]["path"] == "vift://mm_instruct/images.zip!/sa_1419.jpg"
