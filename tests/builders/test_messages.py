"""The ``messages`` layout: contents as text or parts, and what a picture may be."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import test_shards as shards
from tests.exports import picture
from vision_ift._build import build
from vision_ift._builder import Dropped
from vision_ift._conversation import Conversation
from vision_ift._errors import MissingInputError, RecordError, ServiceError, UsageError
from vision_ift._pictures.images import Images, absolute
from vision_ift._registry import find

dataset_files = importlib.import_module("vision_ift.builders._dataset_files")

TEXT = {"type": "text", "text": "What?"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with two pictures."""
    (tmp_path / "messages").mkdir()
    (tmp_path / "a.jpg").touch()
    (tmp_path / "messages/b.png").touch()
    return tmp_path


def turns(*contents: Any) -> list[dict[str, Any]]:
    return [
        {"role": ("user", "assistant")[n % 2], "content": one} for n, one in enumerate(contents)
    ]


def read(root: Path, *records: dict[str, Any], **options: Any) -> list[Conversation | Dropped]:
    text = "\n".join(json.dumps(record) for record in records)
    (root / "messages/x.jsonl").write_text(text)
    found = list(find("messages").conversations(root, **options))
    assert all(isinstance(one, Conversation | Dropped) for one in found)
    return [one for one in found if isinstance(one, Conversation | Dropped)]


def words(one: Conversation | Dropped) -> list[str]:
    assert isinstance(one, Conversation), one
    return [part.text or "(image)" for part in one.messages[0].content]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "image": "a.jpg"},
        {"type": "image", "path": "a.jpg"},
        {"type": "image", "url": "a.jpg"},
        {"type": "image_url", "image_url": {"url": "a.jpg"}},
        {"type": "image_url", "value": "a.jpg"},
    ],
)
def test_a_part_may_name_its_picture(root: Path, part: dict[str, Any]) -> None:
    (one,) = read(root, {"messages": turns([part, TEXT], "That.")})
    assert words(one) == ["(image)", "What?"]
    assert isinstance(one, Conversation)
    assert one.images == ("a.jpg",)


def test_tags_are_pictures_only_where_images_are_given_and_no_part_shows_one(root: Path) -> None:
    tagged = "<image>\nWhat is <image>?"
    found = read(
        root,
        {"messages": turns(tagged, "That."), "images": ["a.jpg", "b.png"]},
        {"messages": turns(tagged, "That.")},
        {
            "messages": turns([{"type": "image"}, {"type": "text", "text": "<image>"}], "<image>"),
            "images": [{"path": "a.jpg", "bytes": None}],
        },
    )
    assert [words(one) for one in found] == [
        ["(image)", "What is ", "(image)", "?"],
        [tagged],
        ["(image)", "<image>"],
    ]
    first = found[0]
    assert isinstance(first, Conversation)
    assert first.images == ("a.jpg", "messages/b.png")


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("bad_record", {"messages": turns([{"type": "image"}], "a"), "images": [{"bytes": "eA=="}]}),
    ("bad_record", {"messages": turns([{"type": "image"}], "a"), "images": [{}]}),
    ("bad_record", {"messages": turns([{"type": "audio"}], "a")}),
    ("bad_record", {"messages": turns([{"type": "text"}], "a")}),
    ("bad_record", {"messages": turns("a", "b"), "videos": ["v.mp4"]}),
    (
        "bad_record",
        {"messages": turns([{"type": "image", "image": "a.jpg"}], "a"), "images": ["a.jpg"]},
    ),
    ("bad_record", {"messages": "a"}),
    ("roles", {"conversations": []}),
    ("bad_record", {"text": "a"}),
    ("bad_record", {"texts": [{"user": "a", "bot": "b"}]}),
    ("bad_record", {"prompt": "a", "completion": [{"role": "assistant"}]}),
    ("bad_record", {"messages": turns("a", "b"), "id": [1]}),
    ("bad_record", {"messages": turns("a", "b"), "task": 3}),
    ("image_count", {"messages": turns([{"type": "image"}], "a")}),
    ("image_count", {"messages": turns([TEXT], "b"), "images": ["a.jpg"]}),
    ("image_count", {"messages": turns("<image>", "b"), "images": ["a.jpg", "b.png"]}),
    (
        "image_count",
        {"messages": turns([{"type": "image", "index": 1}, TEXT], "b"), "images": ["a.jpg"]},
    ),
    ("missing_image", {"messages": turns([{"type": "image"}], "a"), "images": ["c.jpg"]}),
    ("unsafe_path", {"messages": turns([{"type": "image"}], "a"), "images": ["https://x/a.jpg"]}),
    ("empty_turn", {"messages": turns([], "a")}),
    ("roles", {"messages": [{"role": "tool", "content": "a"}]}),
    ("roles", {"messages": []}),
    ("bad_text", {"messages": turns("\ud800", "a")}),
    ("bad_text", {"messages": turns("a", "b"), "note": {"\ud800": 1}}),
    ("bad_text", {"messages": turns("a", "b"), "license": "\ud800"}),
    ("bad_text", {"messages": turns("a", "b"), "images": ["a.jpg"], "id": "\ud800"}),
]


@pytest.mark.parametrize(("reason", "bad"), REFUSED)
def test_what_cannot_be_a_row_is_dropped_with_its_reason(
    root: Path, reason: str, bad: dict[str, Any]
) -> None:
    fine = {"messages": turns("Hi", "Hello")}
    one, dropped, two = read(root, fine, bad, fine)
    assert isinstance(one, Conversation)
    assert isinstance(two, Conversation)
    assert isinstance(dropped, Dropped)
    assert dropped.reason == reason
    assert dropped.file == "messages/x.jsonl"


def test_a_row_of_our_own_comes_back(root: Path) -> None:
    record = {
        "id": 7,
        "messages": turns("Hi", "Hello"),
        "split": "val",
        "task": "greet",
        "language": "en",
        "license": "CC0-1.0",
        "note": {"b": 1},
    }
    (one,) = read(root, record)
    assert isinstance(one, Conversation)
    assert (one.id, one.split, one.task) == ("7", "val", "greet")
    assert (one.language, one.license, one.meta) == ("en", "CC0-1.0", {"note": {"b": 1}})


def test_missing_pictures_are_kept_on_demand(root: Path) -> None:
    record = {"messages": turns([{"type": "image"}], "a"), "images": ["c.jpg"]}
    (one,) = read(root, record, missing_images="keep", images="messages")
    assert isinstance(one, Conversation)
    assert one.images == ("messages/c.jpg",)


def test_a_file_that_is_no_parquet_is_counted(root: Path) -> None:
    (root / "messages/x.parquet").write_bytes(b"PAR1 no")
    (one,) = find("messages").conversations(root)
    assert isinstance(one, Dropped)
    assert (one.reason, one.record) == ("bad_record", "row 0")


def all_words(one: Conversation | Dropped) -> list[str]:
    assert isinstance(one, Conversation), one
    return [
        f"{turn.role[0]}:" + "".join(part.text or "(image)" for part in turn.content)
        for turn in one.messages
    ]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        # TRL puts the pictures of string contents before the first user text.
        (
            {"messages": [{"role": "system", "content": "Be"}, *turns("a", "b", "c", "d")]},
            ["s:Be", "u:(image)(image)a", "a:b", "u:c", "a:d"],
        ),
        ({"prompt": "a", "completion": "b"}, ["u:(image)(image)a", "a:b"]),
        (
            {"prompt": turns("a", "b", "c"), "completion": [{"role": "assistant", "content": "d"}]},
            ["u:(image)(image)a", "a:b", "u:c", "a:d"],
        ),
        (
            {
                "prompt": turns([TEXT, {"type": "image"}, {"type": "image"}]),
                "completion": [{"role": "assistant", "content": [TEXT]}],
            },
            ["u:What?(image)(image)", "a:What?"],
        ),
        (
            {"texts": [{"user": "a", "assistant": "b"}, {"user": "c", "assistant": "d"}]},
            ["u:(image)(image)a", "a:b", "u:c", "a:d"],
        ),
        (
            {
                "system": "Be",
                "conversations": [
                    {"from": "human", "value": "<image>\na"},
                    {"from": "gpt", "value": "b"},
                    {"from": "human", "value": "c\n<image>"},
                    {"from": "gpt", "value": "d"},
                ],
            },
            ["s:Be", "u:(image)a", "a:b", "u:c(image)", "a:d"],
        ),
        (
            {"query": "c<image>", "response": "d", "history": [["<image>a", "b"]]},
            ["u:(image)a", "a:b", "u:c(image)", "a:d"],
        ),
        (
            {"conversation": [{"human": "a", "assistant": "b"}]},
            ["u:(image)(image)a", "a:b"],
        ),
    ],
)
def test_layouts(root: Path, record: dict[str, Any], said: list[str]) -> None:
    (one,) = read(root, {**record, "images": ["a.jpg", "b.png"]})
    assert all_words(one) == said
    assert isinstance(one, Conversation)
    assert one.images == ("a.jpg", "messages/b.png")
    assert one.meta == {}


def test_parts_may_say_which_picture_they_show(root: Path) -> None:
    shown = [{"type": "image", "index": 1}, TEXT, {"type": "image", "index": 0}]
    (one,) = read(root, {"messages": turns(shown, "a"), "images": ["a.jpg", "b.png"]})
    assert isinstance(one, Conversation)
    assert one.images == ("messages/b.png", "a.jpg")


def test_columns_are_called_as_the_user_says(root: Path) -> None:
    record = {"dialog": turns("a", "b"), "pics": "a.jpg", "key": 5, "id": "not this"}
    (one,) = read(root, record, messages_column="dialog", images_column="pics", id_column="key")
    assert isinstance(one, Conversation)
    assert (one.id, one.images, one.meta) == ("5", ("a.jpg",), {"id": "not this"})


def test_keys_of_turns_are_kept(root: Path) -> None:
    record = {"messages": [*turns("a"), {"role": "assistant", "content": "b", "loss": False}]}
    (one,) = read(root, record)
    assert isinstance(one, Conversation)
    assert one.meta == {"turns": {"1": {"loss": False}}}


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write_parquet(file: Path, images: list[Any], *, kind: pa.DataType, rows: int = 2) -> None:
    """Rows of one question with these pictures, ``rows`` in a row group."""
    name = "images" if pa.types.is_list(kind) else "image"
    table = pa.table(
        {
            name: pa.array(images, kind),
            "texts": [[{"user": f"{n}", "assistant": "b"}] for n in range(len(images))],
            "depth": pa.array([b"\0"] * len(images)),
        }
    )
    pq.write_table(table, file, row_group_size=rows)


def held(number: int, *, path: str | None = None) -> dict[str, Any]:
    return {"bytes": picture(number), "path": path}


@pytest.mark.parametrize("rows", [1, 2, 9])
def test_pictures_inside_parquet_are_referred_to(root: Path, rows: int) -> None:
    outside = {"bytes": None, "path": "a.jpg"}
    images: list[Any] = [[held(0), held(1, path="one.jpg")], [], None, [held(2)], [outside]]
    images += [[held(3), outside], [None, held(4)]]
    write_parquet(root / "messages/x.parquet", images, kind=pa.list_(IMAGE), rows=rows)
    found = list(find("messages").conversations(root))
    assert all(isinstance(one, Conversation) for one in found)
    made = [one for one in found if isinstance(one, Conversation)]
    prefix = "vift://messages/x.parquet!/images/"
    assert [one.images for one in made] == [
        (f"{prefix}0/0", f"{prefix}0/1"),
        (),
        (),
        (f"{prefix}3/0",),
        ("a.jpg",),
        (f"{prefix}5/0", "a.jpg"),
        (f"{prefix}6/1",),
    ]
    assert made[0].image_paths == ("x/images/0/0", "one.jpg")
    assert made[0].meta == {"unread_columns": ["depth"]}
    read_back = Images(root)
    inside = [ref for one in made for ref in one.images if ref.startswith("vift://")]
    assert [read_back.read(ref) for ref in inside] == [picture(n) for n in range(5)]


@pytest.mark.parametrize("kind", [IMAGE, pa.binary()])
def test_a_single_picture_a_row(root: Path, kind: pa.DataType) -> None:
    images = [held(0), None] if kind is IMAGE else [picture(0), None]
    write_parquet(root / "messages/x.parquet", images, kind=kind)
    one, two = find("messages").conversations(root)
    assert isinstance(one, Conversation)
    assert one.images == ("vift://messages/x.parquet!/image/0",)
    assert Images(root).read(one.images[0]) == picture(0)
    assert isinstance(two, Conversation)
    assert two.images == ()


def test_a_file_outside_the_root_is_read_where_the_user_names_it(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    write_parquet(other / "x.parquet", [[held(0)]], kind=pa.list_(IMAGE))
    (other / "x.jsonl").write_text(json.dumps({"messages": turns("a", "b"), "images": "c.jpg"}))
    (other / "c.jpg").write_bytes(picture(1))
    table = build("messages", root=root, out=root / "t", options={"path": str(other / "x.parquet")})
    (row,) = table.take(pa.array([0]).to_numpy()).to_pylist()
    reference = row["images"][0]["path"]
    assert reference == f"vift://{other}/x.parquet!/images/0/0"
    assert Images(root).read(reference) == picture(0)
    assert absolute(reference, str(root)) == reference
    (one,) = find("messages").conversations(root, path=str(other / "x.jsonl"))
    assert isinstance(one, Conversation)
    assert one.images == (f"{other}/c.jpg",)
    assert Images(root).read(one.images[0]) == picture(1)


def test_a_record_cannot_name_an_absolute_path(root: Path, tmp_path: Path) -> None:
    (one,) = read(root, {"messages": turns("a", "b"), "images": [str(tmp_path / "a.jpg")]})
    assert isinstance(one, Dropped)
    assert one.reason == "unsafe_path"


@pytest.fixture
def folder(root: Path) -> Path:
    """A dataset of two configurations, one of them with two splits."""
    data = root / "set"
    (data / "data").mkdir(parents=True)
    for name in ("train-0", "train-1", "test", "other"):
        line = json.dumps({"prompt": name, "completion": "b", "images": ["a.jpg"]})
        (data / f"data/{name}.jsonl").write_text(line)
    (data / "README.md").write_text(
        """---
configs:
- config_name: main
  data_files:
  - {split: train, path: "data/train-*.jsonl"}
  - {split: test, path: data/test.jsonl}
- config_name: rest
  data_files: data/other.jsonl
---
"""
    )
    return data


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("set:main", [("train-0", "train"), ("train-1", "train"), ("test", "test")]),
        ("set:main:test", [("test", "test")]),
        ("set:rest", [("other", "train")]),
    ],
)
def test_a_folder_is_read_as_datasets_reads_it(
    root: Path, folder: Path, path: str, found: list[tuple[str, str]]
) -> None:
    rows = list(find("messages").conversations(root, path=path))
    assert folder.is_dir()
    assert [
        (one.messages[0].text, one.split) for one in rows if isinstance(one, Conversation)
    ] == found


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("set", UsageError, "main"),  # which of the two?
        ("set:mian", UsageError, "mian"),
        ("set:main:val", UsageError, "it has test, train"),
        ("none.jsonl", MissingInputError, "no file or folder"),
        ("a.jpg", UsageError, "none of .jsonl"),
        ("saved", UsageError, "to_parquet"),
        ("tars", UsageError, "shards"),
        ("empty", MissingInputError, "empty"),
    ],
)
def test_a_name_that_cannot_be_read_says_why(
    root: Path, folder: Path, path: str, error: type[Exception], message: str
) -> None:
    for name in ("saved", "tars", "empty"):
        (folder.parent / name).mkdir()
    (root / "saved/state.json").write_text("{}")
    (root / "tars/a.tar").write_bytes(bytes(10240))
    with pytest.raises(error, match=message):
        find("messages").inputs(root, path=path)


def test_a_readme_cannot_lead_out_of_its_folder(root: Path, folder: Path) -> None:
    (root / "secret.jsonl").write_text("{}")
    text = (folder / "README.md").read_text().replace("data/other.jsonl", "../secret.jsonl")
    (folder / "README.md").write_text(text)
    with pytest.raises((UsageError, MissingInputError)):
        find("messages").inputs(root, path="set:rest")


def test_hub_names_go_to_the_hub_once_and_never_offline(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.errors import EntryNotFoundError

    commit = "0" * 39 + "a"
    asked: list[str] = []

    def resolved(source: str, name: str, config: str, revision: str | None) -> dict[str, list[str]]:
        asked.append(f"{name}@{revision}:{config}")
        return {"train": [f"hf://datasets/{name}@{commit}/d/x.parquet"]}

    def download(name: str, file: str, *, revision: str, local_dir: Path, **_: Any) -> None:
        assert (name, revision) == ("org/name", commit)
        if file == "README.md":
            raise EntryNotFoundError("none")
        (local_dir / file).parent.mkdir(parents=True)
        write_parquet(local_dir / file, [[held(0)]], kind=pa.list_(IMAGE))

    monkeypatch.setattr(dataset_files, "_resolved", resolved)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    path = "org/name@v1:big:train"
    with pytest.raises(MissingInputError, match="HF_HUB_OFFLINE is set"):
        find("messages").inputs(root, path=path)
    assert asked == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    (file,) = find("messages").inputs(root, path=path)
    assert asked == ["org/name@v1:big"]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (one,) = find("messages").conversations(root, path=path)
    assert isinstance(one, Conversation)
    reference = f"vift://hub/org/name/{commit}/d/x.parquet!/images/0/0"
    assert one.images == (reference,)
    assert file == root / f"hub/org/name/{commit}/d/x.parquet"
    assert Images(root).read(reference) == picture(0)


def test_a_hub_that_does_not_answer_is_a_service_error(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    from huggingface_hub import constants

    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets, "load_dataset_builder", refuse)
    with pytest.raises(ServiceError, match="no route"):
        find("messages").inputs(root, path="org/name")


def test_files_of_one_name_in_several_folders_do_not_mix(root: Path) -> None:
    for number, folder in enumerate(("p0", "p1")):
        (root / "set" / folder).mkdir(parents=True)
        images = [[held(number)]]
        write_parquet(root / f"set/{folder}/x.parquet", images, kind=pa.list_(IMAGE))
    (root / "set/README.md").write_text(
        "---\nconfigs:\n- {config_name: default, data_files: '*/x.parquet'}\n---\n"
    )
    table = build("messages", root=root, out=root / "t", options={"path": "set"})
    ids = [row["id"] for batch in table.batches() for row in batch.to_pylist()]
    assert ids == ["messages/set/p0/x@0", "messages/set/p1/x@0"]


_KEYS = (
    *("messages", "conversations", "texts", "prompt", "completion", "query", "response", "history"),
    *("images", "image", "id", "split", "task", "language", "system", "role", "content", "type"),
    *("text", "from", "value", "user", "assistant", "index", "path", "bytes", "caption", "meta"),
)
_WORDS = st.sampled_from(["user", "assistant", "image", "text", "a.jpg", "<image>", "", "\ud800"])
_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _WORDS | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(records=st.lists(_ANY, min_size=1, max_size=5))
def test_any_json_is_a_row_or_is_counted(records: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "x.json").write_text(json.dumps(records))
        shards.write_tar(root / "x.tar", [(f"{n}.json", one) for n, one in enumerate(records)])
        for source, path in (("messages", "x.json"), ("shards", "x.tar")):
            builder = find(source)
            batches = list(builder.gather(builder.conversations(root, path=path)))
            found = sum(one.rows.num_rows + len(one.dropped) for one in batches)
            assert found == len(records), source


def test_strict_names_the_row(root: Path) -> None:
    write_parquet(root / "messages/x.parquet", [[{"bytes": None}]], kind=pa.list_(IMAGE))
    with pytest.raises(RecordError, match="row 0"):
        build("messages", root=root, out=root / "t", strict=True)


def ask_hub(tmp_path: Path, *paths: str, offline: bool = False) -> list[dict[str, Any]]:
    """Build from the loopback Hub, in a process of its own."""
    command = [sys.executable, "-m", "tests.loopback_hub"]
    places = [str(tmp_path / name) for name in ("served", "root", "tables")]
    there = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    done = subprocess.run(
        [*command, *places, *paths],
        env=there | {"HF_HUB_OFFLINE": str(int(offline)), "PYTHONWARNINGS": "ignore"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=True,
    )
    answers: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return answers


def test_a_dataset_of_the_hub_is_brought_once_and_read_in_place(tmp_path: Path) -> None:
    served = tmp_path / "served"
    (tmp_path / "root").mkdir()
    for number, name in enumerate(("a/train-0", "a/train-1", "a/test", "b/x")):
        (served / name).parent.mkdir(parents=True, exist_ok=True)
        write_parquet(served / f"{name}.parquet", [[held(number)]], kind=pa.list_(IMAGE))
    (served / "README.md").write_text(
        """---
configs:
- config_name: a
  data_files:
  - {split: train, path: "a/train-*.parquet"}
  - {split: test, path: a/test.parquet}
- config_name: b
  data_files: b/x.parquet
---
"""
    )
    first, other, unsaid = ask_hub(tmp_path, "org/name:a", "org/other", "org/name")
    folder = f"hub/org/name/{'a' * 40}"
    references = [
        f"vift://{folder}/a/{file}.parquet!/images/0/0" for file in ("train-0", "train-1", "test")
    ]
    assert [row["images"][0]["path"] for row in first["rows"]] == references
    assert [row["split"] for row in first["rows"]] == ["train", "train", "test"]
    assert [Images(tmp_path / "root").read(one) for one in references] == [
        picture(n) for n in range(3)
    ]
    assert not (tmp_path / "root" / folder / "b").exists()
    assert not any("b/x.parquet" in one for one in first["requests"])
    assert other["error"][0] == "missing_input"
    assert unsaid["error"][0] == "usage"
    assert "NAME:CONFIG" in unsaid["error"][1]
    shutil.rmtree(tmp_path / "tables")
    again, unknown = ask_hub(tmp_path, "org/name:a", "org/name:b", offline=True)
    assert again == {"rows": first["rows"], "requests": []}
    assert unknown["error"][0] == "missing_input"
    assert "HF_HUB_OFFLINE" in unknown["error"][1]
