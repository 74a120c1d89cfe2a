"""The ``messages`` layout: contents as text or parts, and what a picture may be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vision_ift._builder import Dropped
from vision_ift._conversation import Conversation
from vision_ift._registry import find

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
    ("bad_record", {"conversations": []}),
    ("image_count", {"messages": turns([{"type": "image"}], "a")}),
    ("image_count", {"messages": turns("a", "b"), "images": ["a.jpg"]}),
    ("missing_image", {"messages": turns([{"type": "image"}], "a"), "images": ["c.jpg"]}),
    ("unsafe_path", {"messages": turns([{"type": "image"}], "a"), "images": ["https://x/a.jpg"]}),
    ("empty_turn", {"messages": turns([], "a")}),
    ("roles", {"messages": [{"role": "tool", "content": "a"}]}),
    ("roles", {"messages": []}),
    ("bad_text", {"messages": turns("\ud800", "a")}),
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
