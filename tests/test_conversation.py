"""The rules of the row, and rows as Arrow."""

from __future__ import annotations

import pickle
from typing import Any

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_ift._conversation import (
    FEATURES_JSON,
    IMAGE,
    MAX_TEXT_CHARS,
    SCHEMA,
    Conversation,
    Message,
    Part,
    check,
    to_batch,
)
from vision_ift._errors import REASONS, RecordError, UnknownNameError, VisionIFTError

USER, ANSWER = Message.of("user", "what?"), Message.of("assistant", "this")


def row(*messages: Message, **fields: Any) -> Conversation:
    return Conversation(**{"id": "7", "messages": messages, **fields})


GOOD = [
    row(USER, ANSWER),
    row(USER, ANSWER, USER, ANSWER),
    row(Message.of("system", "be brief"), USER, ANSWER),
    row(Message("user", (IMAGE,)), ANSWER, images=("a",), image_paths=("a",)),
    row(
        Message("user", (Part("text", "left"), IMAGE, Part("text", "right"), IMAGE)),
        ANSWER,
        images=("a", "a"),
        image_paths=("a", "a"),
    ),
    row(Message.of("user", "text that says <image>"), ANSWER),
]

BAD = [
    (row(), "roles"),
    (row(USER), "roles"),
    (row(ANSWER), "roles"),
    (row(ANSWER, USER), "roles"),
    (row(USER, USER, ANSWER), "roles"),
    (row(USER, ANSWER, USER), "roles"),
    (row(USER, ANSWER, Message.of("system", "late"), USER, ANSWER), "roles"),
    (row(Message.of("system", "only")), "roles"),
    (row(Message.of("user", ""), ANSWER), "empty_turn"),
    (row(USER, Message.of("assistant", " \n\t")), "empty_turn"),
    (row(USER, Message("assistant", ())), "empty_turn"),
    (row(Message("user", (Part("text"),)), ANSWER), "bad_record"),
    (row(USER, ANSWER, id=""), "bad_record"),
    (row(USER, ANSWER, images=("a",), image_paths=("a",)), "image_count"),
    (row(Message.of("user", "x", images=1), ANSWER), "image_count"),
    (
        row(Message.of("user", "x", images=1), ANSWER, images=("a",), image_paths=()),
        "image_count",
    ),
    (row(Message.of("user", "a\ud800b"), ANSWER), "bad_text"),
    (row(USER, ANSWER, id="\udfff"), "bad_text"),
    (row(USER, ANSWER, task="\udfff"), "bad_text"),
    (row(USER, Message.of("assistant", "x" * (MAX_TEXT_CHARS + 1))), "bad_text"),
]


@pytest.mark.parametrize("one", GOOD)
def test_a_good_row_is_taken(one: Conversation) -> None:
    check(one)


@pytest.mark.parametrize(("one", "reason"), BAD)
def test_a_broken_rule_is_named(one: Conversation, reason: str) -> None:
    with pytest.raises(RecordError) as caught:
        check(one)
    assert caught.value.reason == reason
    assert reason in REASONS
    str(caught.value).encode()  # a message can always be printed


def test_prompts_end_with_a_question() -> None:
    check(row(USER), prompt=True)
    with pytest.raises(RecordError, match="ending with user"):
        check(row(USER, ANSWER), prompt=True)


def test_an_error_says_where() -> None:
    with pytest.raises(RecordError, match=r"record 7, turn 1: the turn holds no text and no image"):
        check(row(USER, Message.of("assistant", "")))
    error = RecordError("bad", reason="roles", source="s", file="f.json", record="r", turn=2)
    assert str(error) == "source s, file f.json, record r, turn 2: bad"
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.reason, copy.turn) == (str(error), "roles", 2)


def test_rows_become_arrow_and_come_back() -> None:
    batch = to_batch(GOOD, source="s")
    assert batch.schema.equals(SCHEMA, check_metadata=True)
    rows = batch.to_pylist()
    assert [one["id"] for one in rows] == ["s/7"] * len(GOOD)
    assert rows[4]["images"] == [{"bytes": None, "path": "a"}] * 2
    assert rows[4]["messages"][0]["content"] == [
        {"type": "text", "text": "left"},
        {"type": "image", "text": None},
        {"type": "text", "text": "right"},
        {"type": "image", "text": None},
    ]
    assert rows[0]["meta"] == "{}"
    assert rows[0]["task"] is None


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(st.lists(st.lists(texts, min_size=2, max_size=6), max_size=5))
def test_any_text_survives(rounds: list[list[str]]) -> None:
    rows = [
        Conversation(
            id=str(number),
            messages=tuple(
                Message.of("user" if place % 2 == 0 else "assistant", text)
                for place, text in enumerate(turns[: len(turns) // 2 * 2])
            ),
        )
        for number, turns in enumerate(rounds)
    ]
    back = to_batch(rows, source="s").to_pylist()
    assert [[message["content"][0]["text"] for message in one["messages"]] for one in back] == [
        [message.text for message in one.messages] for one in rows
    ]


def test_the_schema_is_what_datasets_makes_of_the_features() -> None:
    features = datasets.Features.from_dict(FEATURES_JSON)
    assert features.arrow_schema.remove_metadata().equals(SCHEMA.remove_metadata())
    assert datasets.Features.from_arrow_schema(SCHEMA) == features


def test_every_error_has_a_code_and_an_exit_code() -> None:
    kinds = [VisionIFTError]
    for kind in kinds:
        # A module's own kinds never leave it.
        kinds.extend(k for k in kind.__subclasses__() if not k.__name__.startswith("_"))
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert {kind.exit_code for kind in kinds} <= {2, 65, 66, 69, 70, 71, 73, 74, 75, 76}


def test_a_wrong_name_gets_the_nearest() -> None:
    error = UnknownNameError("source", "visionflan", ["vision_flan", "coco_ift"])
    assert str(error) == "no source named 'visionflan'; did you mean vision_flan?"
    assert "known: a, b" in str(UnknownNameError("source", "zzz", ["b", "a"]))
