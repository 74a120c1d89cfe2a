"""WebDataset tars: what a key's members make, what is counted, and our own exports read back."""

from __future__ import annotations

import importlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.exports import picture, small_plan
from vision_ift._build import build
from vision_ift._builder import Dropped
from vision_ift._conversation import Conversation
from vision_ift._errors import MissingInputError, UsageError
from vision_ift._export.export import export
from vision_ift._pictures.images import Images
from vision_ift._registry import find

expanded = importlib.import_module("vision_ift.builders._tar_files").expanded

JPG = picture(1)
PNG = picture(2, kind="png")
TALK: dict[str, Any] = {"messages": [{"role": "user", "content": "a"}]}
TALK["messages"].append({"role": "assistant", "content": "b"})
IMAGE = {"type": "image"}
DONE = {"completion": "b"}


def as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def write_tar(file: Path, members: Sequence[tuple[str, Any]], *, form: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w", format=form) as tar:
        for name, value in members:
            data = as_bytes(value)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def read(root: Path, *members: tuple[str, Any], **options: Any) -> list[Conversation | Dropped]:
    write_tar(root / "shards/x.tar", members)
    found = list(find("shards").conversations(root, **options))
    assert all(isinstance(one, Conversation | Dropped) for one in found)
    return [one for one in found if isinstance(one, Conversation | Dropped)]


def test_a_caption_is_one_round(tmp_path: Path) -> None:
    one, two, three = read(
        tmp_path,
        ("d/0.jpg", JPG),
        ("d/0.txt", b"not this"),
        ("d/0.json", {"caption": "Blue.", "key": "0"}),
        ("d/1.txt", b"Red.\n"),
        ("d/1.1.png", PNG),
        ("d/1.0.jpg", JPG),
        ("d/2.json", {"text": "Sand."}),
        ("d/2.JPG", JPG),
        prompt="What is it?",
    )
    assert isinstance(one, Conversation)
    assert [turn.text for turn in one.messages] == ["What is it?", "Blue."]
    assert (one.id, one.images) == ("x/d/0", ("vift://shards/x.tar!/d/0.jpg",))
    assert one.meta == {"key": "0"}
    assert isinstance(two, Conversation)
    assert two.image_paths == ("d/1.0.jpg", "d/1.1.png")
    assert [turn.text for turn in two.messages] == ["What is it?", "Red."]
    assert [Images(tmp_path).read(one) for one in two.images] == [JPG, PNG]
    assert isinstance(three, Conversation)
    assert three.image_paths == ("d/2.JPG",)


@pytest.mark.parametrize(
    ("listed", "shown", "meta"),
    [
        (None, ["0.jpg", "1.png"], {}),
        (["1.png", "0.jpg"], ["1.png", "0.jpg"], {}),
        (["k.1.png", "k.0.jpg"], ["1.png", "0.jpg"], {}),
        (["far/k.1.png", "far/k.0.jpg"], ["1.png", "0.jpg"], {}),
        # Names of elsewhere say nothing of the order; they are kept.
        (["b.jpg", "a.jpg"], ["0.jpg", "1.png"], {"images": ["b.jpg", "a.jpg"]}),
    ],
)
def test_pictures_are_in_the_order_that_the_json_names(
    tmp_path: Path, listed: list[str] | None, shown: list[str], meta: dict[str, Any]
) -> None:
    record = TALK | ({"images": listed} if listed else {})
    (one,) = read(tmp_path, ("k.1.png", PNG), ("k.json", record), ("k.0.jpg", JPG))
    assert isinstance(one, Conversation)
    assert one.image_paths == tuple(f"k.{field}" for field in shown)
    assert [part.type for part in one.messages[0].content] == ["image", "image", "text"]
    assert one.meta == meta


REFUSED: list[tuple[str, int, list[tuple[str, Any]]]] = [
    ("missing_image", 1, [("k.txt", b"a")]),
    ("missing_image", 1, [("k.json", {"caption": "a"}), ("k.mp4", b"")]),
    ("bad_record", 1, [("k.jpg", JPG)]),
    ("bad_record", 1, [("k.jpg", JPG), ("k.cls", b"1")]),
    ("bad_record", 1, [("k.jpg", JPG), ("k.json", {"url": "a"})]),
    ("bad_record", 1, [("k.jpg", JPG), ("k.json", [1])]),
    ("bad_record", 1, [("k.mp", b"\x93")]),
    ("broken_json", 1, [("k.jpg", JPG), ("k.json", b'{"a": 1')]),
    ("broken_json", 1, [("k.jpg", JPG), ("k.json", b'{"a": NaN}')]),
    ("bad_text", 1, [("k.jpg", JPG), ("k.txt", b"\xff")]),
    ("empty_turn", 1, [("k.jpg", JPG), ("k.txt", b" \n")]),
    ("bad_image", 1, [("k.tif", b""), ("k.txt", b"a")]),
    ("bad_record", 2, [(f"k.{n}.{end}", JPG) for n in "ab" for end in ("jpg", "json")]),
    ("empty_turn", 1, [("k.json", TALK | {"messages": [{"role": "user", "content": []}]})]),
    ("image_count", 1, [("k.json", {"prompt": [{"role": "user", "content": [IMAGE]}], **DONE})]),
    ("roles", 1, [("k.json", {"messages": [{"role": "user", "content": "a"}]})]),
]


@pytest.mark.parametrize(("reason", "count", "members"), REFUSED)
def test_what_cannot_be_a_row_is_counted(
    tmp_path: Path, reason: str, count: int, members: list[tuple[str, Any]]
) -> None:
    fine = [[(f"{key}.jpg", JPG), (f"{key}.txt", b"a")] for key in "az"]
    one, dropped, two = read(tmp_path, *fine[0], *members, *fine[1])
    assert isinstance(one, Conversation)
    assert isinstance(two, Conversation)
    assert isinstance(dropped, Dropped)
    assert (dropped.reason, dropped.count) == (reason, count)
    assert (dropped.file, dropped.record) == ("shards/x.tar", "k")


def test_members_that_stand_apart_are_counted_once_a_key(tmp_path: Path) -> None:
    found = read(tmp_path, ("0.jpg", JPG), ("1.jpg", PNG), ("0.txt", b"a"), ("1.txt", b"b"))
    assert [(one.reason, one.record) for one in found if isinstance(one, Dropped)] == [
        ("bad_record", "0"),
        ("bad_record", "1"),
    ]
    assert len(found) == 2


def test_a_tar_that_is_cut_off_gives_what_is_whole(tmp_path: Path) -> None:
    members = [
        (f"{n}.{end}", data) for n in range(3) for end, data in (("jpg", JPG), ("txt", b"a"))
    ]
    write_tar(tmp_path / "shards/x.tar", members)
    file = tmp_path / "shards/x.tar"
    file.write_bytes(file.read_bytes()[: 512 + len(JPG) + 512])
    found = list(find("shards").conversations(tmp_path))
    assert all(isinstance(one, Dropped) for one in found)
    assert any(
        "nothing after it is read" in one.detail for one in found if isinstance(one, Dropped)
    )
    file.write_bytes(b"no tar at all" * 100)
    (one,) = find("shards").conversations(tmp_path)
    assert isinstance(one, Dropped)
    assert one.file == "shards/x.tar"


def test_tars_are_named_by_folder_pattern_or_braces(tmp_path: Path) -> None:
    for name in ("a-08", "a-09", "a-10", "deep/b"):
        write_tar(tmp_path / f"in/{name}.tar", [(f"{name[-1]}.txt", b"x")])
    names = {
        "in": ["a-08", "a-09", "a-10", "deep/b"],
        "in/a-0*.tar": ["a-08", "a-09"],
        "in/a-{08..10}.tar": ["a-08", "a-09", "a-10"],
        "in/{a-10,deep/b}.tar": ["a-10", "deep/b"],
        str(tmp_path / "in/deep/b.tar"): ["deep/b"],
        "in/**/b.tar": ["deep/b"],
    }
    for path, found in names.items():
        inputs = find("shards").inputs(tmp_path, path=path)
        assert inputs == [tmp_path / f"in/{name}.tar" for name in found], path
    for missing in ("in/a-{08..11}.tar", "in/c*.tar", "none"):
        with pytest.raises(MissingInputError):
            find("shards").inputs(tmp_path, path=missing)


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.tar.zst"])
def test_compressed_tars_are_refused_with_advice(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).touch()
    for path in ("in", f"in/{name}"):
        with pytest.raises(UsageError, match=r"plain \.tar"):
            find("shards").inputs(tmp_path, path=path)
    (tmp_path / "in/x.zip").touch()
    with pytest.raises(UsageError, match=r"is no \.tar"):
        find("shards").inputs(tmp_path, path="in/x.zip")


def test_braces_without_end_are_refused() -> None:
    with pytest.raises(UsageError, match="names more than"):
        list(expanded("{0..9999999}"))


@given(st.integers(0, 999), st.integers(0, 40), st.integers(1, 5))
def test_ranges_keep_their_width(first: int, more: int, width: int) -> None:
    text = f"x-{{{first:0{width}d}..{first + more:0{width}d}}}"
    assert list(expanded(text)) == [f"x-{n:0{width}d}" for n in range(first, first + more + 1)]


def test_a_file_outside_the_root_is_read_where_the_user_names_it(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    write_tar(tmp_path / "x.tar", [("k.jpg", JPG), ("k.txt", b"a")])
    (one,) = find("shards").conversations(tmp_path / "root", path=str(tmp_path / "x.tar"))
    assert isinstance(one, Conversation)
    assert one.images == (f"vift://{tmp_path}/x.tar!/k.jpg",)
    assert Images(tmp_path / "root").read(one.images[0]) == JPG


def test_tars_of_one_name_in_several_folders_do_not_mix(tmp_path: Path) -> None:
    for number, folder in enumerate(("p0", "p1")):
        members = [("000.jpg", picture(number)), ("000.txt", b"A picture.")]
        write_tar(tmp_path / f"shards/{folder}/00000.tar", members)
    table = build("shards", root=tmp_path, out=tmp_path / "t")
    ids = [row["id"] for batch in table.batches() for row in batch.to_pylist()]
    assert ids == ["shards/shards/p0/00000/000", "shards/shards/p1/00000/000"]


def test_an_export_comes_back(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    export(plan, out=tmp_path / "root/shards/ours", shard_bytes=50_000)
    table = build("shards", root=tmp_path / "root", out=tmp_path / "back", jobs=2)
    assert table.report.dropped == {}
    images = Images(tmp_path / "root")
    back = [row for batch in table.batches() for row in batch.to_pylist()]
    there: list[dict[str, Any]] = plan.rows(0, len(plan)).to_pylist()
    assert len(back) == len(there) == 80
    for row, old in zip(back, there, strict=True):
        assert row["id"] == f"shards/{old['id']}"
        assert row["messages"] == old["messages"]
        for column in ("image_paths", "split", "task", "language", "license"):
            assert row[column] == old[column], column
        assert json.loads(row["meta"]) == json.loads(old["meta"]) | {"source": old["source"]}
        assert [images.read(one["path"]) for one in row["images"]] == [
            images.read(one["path"]) for one in old["images"]
        ]
