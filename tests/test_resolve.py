"""Addresses and tars of MM-Instruct's pictures: what is resolved, left out, written, refused."""

from __future__ import annotations

import io
import json
import shlex
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vision_ift._errors import MissingInputError, RecordError, ServiceError, UsageError
from vision_ift._fetch import datacomp as _datacomp
from vision_ift._fetch.resolve import URLS, Resolved, resolve


def uid(number: int) -> str:
    return f"{number:032x}"


def metadata(path: Path, rows: list[tuple[str | None, str | None, str | None]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ("uid", "url", "text")
    columns = [pa.array([row[place] for row in rows], pa.string()) for place in range(3)]
    more = pa.array([0.5] * len(rows))  # as the similarity scores of the real one
    pq.write_table(pa.table([*columns, more], names=[*names, "score"]), path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root whose records name four uids, three numbers and one other picture."""
    folder = tmp_path / "root/mm_instruct"
    folder.mkdir(parents=True)
    images: list[Any] = [
        f"datacomp/images/{uid(1)}.jpg",
        f"datacomp/{uid(1)}",
        f"datacomp/{uid(2)}.png",
        [f"{uid(3)}.jpg"],
        f"{uid(4)}.webp",
        "sa1b/sa_7.jpg",
        "sa_8.jpg",
        "sa1b/sa_224577.jpg",
        "elsewhere/cat.jpg",
        None,
        "",
    ]
    records = [{"id": str(n), "image": image} for n, image in enumerate(images)]
    (folder / "train.json").write_text(json.dumps([*records, {"id": "no picture"}]), "utf-8")
    (tmp_path / "root/sa1b").mkdir()
    with tarfile.open(tmp_path / "root/sa1b/sa_000000.tar", "w") as tar:
        for name in ("./sa_7.jpg", "./sa_7.json", "./sa_9.jpg"):
            info = tarfile.TarInfo(name)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
    return tmp_path / "root"


def urls(root: Path) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = pq.read_table(root / URLS).to_pylist()
    return rows


def test_both_lists_are_written_and_the_shares_are_said(root: Path, tmp_path: Path) -> None:
    place = metadata(
        tmp_path / "meta/a.parquet",
        [(uid(2), "https://h/2", "two"), (uid(1), "http://h/1", None), (uid(9), "https://h/9", "")],
    ).parent
    found = resolve(root=root, metadata=place)
    assert urls(root) == [
        {"url": "http://h/1", "uid": uid(1), "caption": ""},
        {"url": "https://h/2", "uid": uid(2), "caption": "two"},
    ]
    assert (found.pictures, found.uids, found.urls, found.metadata_rows) == (8, 4, 2, 3)
    assert (found.numbers, found.held, found.tars) == (3, 1, 1)
    assert (found.others, found.other_names) == (1, ("cat",))
    assert found.wanted_tars == {"sa_000020.tar": 1}  # sa_8 should be in the tar that is there
    said = str(found)
    assert "2 of 4 (50.0%) have an address" in said
    assert "1 of 3 (33.3%) are in 1 tars" in said
    index = pq.read_table(root / "mm_instruct/sa1b_index.parquet").to_pylist()
    assert [(row["name"], row["member"]) for row in index] == [
        ("sa_7", "sa_7.jpg"),
        ("sa_9", "sa_9.jpg"),
    ]


def test_the_command_keeps_uids_and_bytes(root: Path, tmp_path: Path) -> None:
    place = metadata(tmp_path / "a.parquet", [])
    words = shlex.split(resolve(root=root, metadata=place).command)
    assert words[:3] == ["img2dataset", "--url_list", str(root / URLS)]
    given = dict(zip(words[1::2], words[2::2], strict=True))
    assert json.loads(given["--save_additional_columns"]) == ["uid"]
    assert (given["--url_col"], given["--resize_mode"]) == ("url", "no")
    assert given["--output_folder"] == str(root / "datacomp")


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "file:///etc/passwd",
        "ftp://h/1",
        "//h/1",
        "https://",
        "https:///path",
        "https://h/a b",
        "https://h/\nhttps://i/",
        " https://h/1",
        "https://h/\x00",
        "https://h/" + "a" * 9000,
        "",
        None,
    ],
)
def test_what_is_no_address_is_counted_and_left_out(
    root: Path, tmp_path: Path, address: str | None
) -> None:
    place = metadata(tmp_path / "a.parquet", [(uid(1), address, "a"), (uid(2), "HTTPS://h", "b")])
    (tmp_path / "b.parquet").unlink(missing_ok=True)
    found = resolve(root=root, metadata=place)
    assert (found.urls, found.bad_urls) == (0, 2)
    metadata(tmp_path / "a.parquet", [(uid(1), address, "a"), (uid(1), "https://h/1", "b")])
    found = resolve(root=root, metadata=place)
    assert (found.urls, found.bad_urls) == (1, 0)
    assert urls(root) == [{"url": "https://h/1", "uid": uid(1), "caption": "b"}]


def test_of_several_addresses_the_first_is_taken_in_any_order(root: Path, tmp_path: Path) -> None:
    rows: list[tuple[str | None, str | None, str | None]] = [
        (uid(1), "https://b", "b"),
        (uid(1), "https://a", "z"),
        (uid(1), "https://a", "a"),
        (None, "https://none", "n"),
    ]
    taken = []
    for number, order in enumerate((rows, rows[::-1])):
        resolve(root=root, metadata=metadata(tmp_path / f"{number}.parquet", order))
        taken.append((root / URLS).read_bytes())
    assert taken[0] == taken[1]
    assert urls(root) == [{"url": "https://a", "uid": uid(1), "caption": "a"}]


def test_files_are_named_by_folder_pattern_or_name(root: Path, tmp_path: Path) -> None:
    metadata(tmp_path / "meta/x/a.parquet", [(uid(1), "https://a", "a")])
    metadata(tmp_path / "meta/b.parquet", [(uid(2), "https://b", "b")])
    for place, rows in [
        (tmp_path / "meta", 2),
        (tmp_path / "meta/*.parquet", 1),
        (tmp_path / "meta/**/*.parquet", 2),
        (tmp_path / "meta/b.parquet", 1),
    ]:
        assert resolve(root=root, metadata=place).metadata_rows == rows
    shown = root / "mm_instruct/datacomp_metadata"
    shown.symlink_to(tmp_path / "meta")
    assert resolve(root=root).metadata == str(shown)


def test_lines_are_read_as_a_list_is(root: Path, tmp_path: Path) -> None:
    place = metadata(tmp_path / "a.parquet", [(uid(1), "https://a", "a")])
    wanted = resolve(root=root, metadata=place)
    file = root / "mm_instruct/train.json"
    records = json.loads(file.read_text("utf-8"))
    file.write_text("\ufeff" + "\n".join(map(json.dumps, records)), "utf-8")
    assert resolve(root=root, metadata=place) == wanted


def test_a_dry_run_reads_no_metadata_and_writes_nothing(root: Path) -> None:
    found = resolve(root=root, metadata="nowhere", dry_run=True)
    assert (found.uids, found.urls, found.held) == (4, None, None)
    assert "would write" in str(found)
    assert not (root / URLS).exists()
    assert sorted(path.name for path in (root / "mm_instruct").iterdir()) == ["train.json"]


def test_out_names_another_place(root: Path, tmp_path: Path) -> None:
    place = metadata(tmp_path / "a.parquet", [(uid(1), "https://a", "a")])
    found = resolve(root=root, metadata=place, out=tmp_path / "deep/list.parquet")
    assert pq.read_table(tmp_path / "deep/list.parquet").num_rows == 1
    assert found.written[0] == str(tmp_path / "deep/list.parquet")
    assert not (root / URLS).exists()


def test_a_failure_leaves_the_older_list(root: Path, tmp_path: Path) -> None:
    resolve(root=root, metadata=metadata(tmp_path / "meta/a.parquet", [(uid(1), "https://a", "")]))
    (tmp_path / "meta/b.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(RecordError, match=r"b\.parquet cannot be read"):
        resolve(root=root, metadata=tmp_path / "meta")
    assert len(urls(root)) == 1
    assert not list((root / "mm_instruct").glob(".*"))


def columns(path: Path) -> str:
    pq.write_table(pa.table({"uid": [uid(1)], "link": ["https://a"]}), path / "c.parquet")
    return str(path / "c.parquet")


@pytest.mark.parametrize(
    ("place", "error", "message"),
    [
        (lambda path: str(path / "none"), MissingInputError, "no Parquet file"),
        (lambda path: "https://h/a.parquet", UsageError, "neither a path nor hf://"),
        (columns, RecordError, "no columns uid and url; it has uid, link"),
    ],
)
def test_metadata_that_is_not_read_says_why(
    root: Path, tmp_path: Path, place: Callable[[Path], str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        resolve(root=root, metadata=place(tmp_path))


@pytest.mark.parametrize("text", ['[{"image": "a', "[{]", "[", '{"image": "\xff"}'])
def test_a_broken_train_json_is_refused(root: Path, text: str) -> None:
    (root / "mm_instruct/train.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(RecordError, match="not JSON") as caught:
        resolve(root=root, metadata="nowhere")
    assert caught.value.reason == "broken_json"


def test_the_hub_is_streamed(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfFileSystem

    file = metadata(tmp_path / "a.parquet", [(uid(1), "https://a", "a")])
    asked: list[str] = []

    def listed(_: Any, pattern: str) -> list[str]:
        asked.append(pattern)
        return ["datasets/m/d/b.parquet", "datasets/m/d/a.parquet"]

    def opened(_: Any, name: str, mode: str) -> Any:
        asked.append(name)
        return file.open(mode)

    monkeypatch.setattr(HfFileSystem, "glob", listed)
    monkeypatch.setattr(HfFileSystem, "open", opened)
    found = resolve(root=root)
    assert (found.metadata, found.metadata_rows) == (_datacomp.HUB, 2)
    assert asked == [
        "hf://datasets/mlfoundations/datacomp_1b/**/*.parquet",
        "datasets/m/d/a.parquet",
        "datasets/m/d/b.parquet",
    ]

    class Broken(io.BytesIO):
        def read(self, *_: Any) -> bytes:
            raise TimeoutError("the server does not answer")

    monkeypatch.setattr(HfFileSystem, "open", lambda *_: Broken(b"x" * 100))
    with pytest.raises(ServiceError, match="does not answer"):
        resolve(root=root)
    monkeypatch.setattr(HfFileSystem, "glob", lambda *_: 1 / 0)
    with pytest.raises(ServiceError, match="does not list"):
        resolve(root=root)


@pytest.mark.parametrize("naive", [False, True])
def test_memory_follows_a_batch_not_the_metadata(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, naive: bool
) -> None:
    # 20,000 rows stand for 1.4 billion: ten times as many take no more than a tenth of them does.
    pool = pa.default_memory_pool()
    seen: list[int] = []
    columns = _datacomp._columns

    def watched(name: str, parquet: pq.ParquetFile) -> Any:
        if naive:
            seen.append(parquet.read().nbytes)
            return
        before = pool.bytes_allocated()
        for batch in columns(name, parquet):
            seen.append(pool.bytes_allocated() - before)
            yield batch

    def peak(rows: int) -> int:
        seen.clear()
        file = metadata(
            tmp_path / "rows.parquet", [(uid(n), f"https://h/{n}", f"{n}") for n in range(rows)]
        )
        table = pq.read_table(file)
        pq.write_table(table, file, row_group_size=500)
        del table
        found = resolve(root=root, metadata=file)
        assert naive or (found.urls, found.metadata_rows) == (4, rows)
        return max(seen)

    monkeypatch.setattr(_datacomp, "_BATCH_ROWS", 500)
    monkeypatch.setattr(_datacomp, "_columns", watched)
    assert (peak(20_000) > 3 * peak(2_000)) is naive


def test_the_same_files_give_the_same_bytes(root: Path, tmp_path: Path) -> None:
    place = metadata(tmp_path / "a.parquet", [(uid(1), "https://a", "a")])
    first = resolve(root=root, metadata=place)
    written = [Path(path).read_bytes() for path in first.written]
    again = resolve(root=root, metadata=place)
    assert isinstance(again, Resolved)
    assert again == first
    assert [Path(path).read_bytes() for path in again.written] == written
