"""Ours to theirs and back: what a format can say comes back as it was."""

from __future__ import annotations

import importlib
import itertools
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.convert.laid import ALL, EMBEDDING, file_of, laid, one, plain, rows_of, turn
from vision_ift._conversation import Conversation, Message
from vision_ift._convert.convert import convert, convert_files, read_files
from vision_ift._convert.marks import Tally, marked

#: How the sources read tags, beside the code that writes them.
parts_of = importlib.import_module("vision_ift.builders._llava_rows").parts_of

_WORDS = st.text(st.sampled_from('ab \n<>|image字\u2028\\"\t'), min_size=1, max_size=12).filter(
    lambda text: bool(text.strip()) and "<image>" not in text
)
_NAMES = ("p/0.jpg", "p/1.png", "q/2.jpg", "q/3.webp")


@st.composite
def _turn(draw: st.DrawFn, role: str) -> Message:
    """A turn in which no two texts stand side by side."""
    pictures = draw(st.integers(0, 2)) if role == "user" else 0
    parts: list[str | None] = []
    for _ in range(pictures):
        if draw(st.booleans()):
            parts.append(draw(_WORDS))
        parts.append(None)
    if not parts or draw(st.booleans()):
        parts.append(draw(_WORDS))
    return turn(role, *parts)


@st.composite
def _conversation(draw: st.DrawFn, number: int) -> Conversation:
    turns = []
    if draw(st.booleans()):
        turns.append(turn("system", draw(_WORDS)))
    for _ in range(draw(st.integers(1, 2))):
        turns += [draw(_turn("user")), draw(_turn("assistant"))]
    count = sum(part.type == "image" for one in turns for part in one.content)
    images = tuple(draw(st.sampled_from(_NAMES)) for _ in range(count))
    return one(
        f"x/{number}",
        *turns,
        images=images,
        task=draw(st.none() | st.just("t")),
        language=draw(st.none() | st.just("zh")),
        meta=draw(st.sampled_from([{}, {"a": None}, {"vision_ift": "theirs"}])),
    )


_ROWS = st.integers(1, 5).flatmap(lambda count: st.tuples(*map(_conversation, range(count))))


@pytest.mark.parametrize("to", ALL)
@given(rows=_ROWS)
@settings(max_examples=25)
def test_what_a_format_can_say_comes_back(to: str, rows: tuple[Conversation, ...]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root, table = laid(folder, rows)
        images: Any = "embed" if to in EMBEDDING else "copy"
        report = convert(table.path, to=to, out=folder / "out", root=root, images=images)
        assert report.rows + sum(report.dropped.values()) == len(rows)
        assert set(report.lost) <= {"system_unread"}
        if to in ("llava", "llamafactory", "swift", "trl"):
            assert set(report.dropped) <= {"marker"}
        refused = {one["id"] for named in report.dropped_first.values() for one in named}
        file = file_of(to, folder / "out")
        back = read_files([file], form=to, out=folder / "back")
        where = {"openai": folder / "back"}.get(to, file.parent)
        wanted = [row for row in rows_of(table, root) if row["id"] not in refused]
        unique = [row for n, row in enumerate(wanted) if row not in wanted[:n]]
        assert rows_of(back, where) == unique
        assert not back.report.dropped or len(unique) < len(wanted)


@given(st.lists(st.none() | st.text("ab \n", max_size=4), min_size=1, max_size=6), st.booleans())
@settings(max_examples=300)
def test_parts_come_back_or_are_counted(parts: list[str | None], lines: bool) -> None:
    made = [{"type": "image" if text is None else "text", "text": text} for text in parts]
    tally = Tally()
    text = marked(made, tally, lines=lines)
    back = [part.text for part in parts_of(text)]
    assert (back != parts) == ("parts" in tally._losing)
    # Nothing is lost where no texts stand side by side and none is empty.
    whole = "" not in parts and not any(
        a is not None and b is not None for a, b in itertools.pairwise(parts)
    )
    assert not whole or back == parts


def test_a_naive_join_loses_newlines() -> None:
    """The control: the tag and the text put together as most converters do."""
    assert [part.text for part in parts_of("<image>" + "\nWho?")] != [None, "\nWho?"]


@pytest.mark.parametrize(("form", "to"), [(a, b) for a in ALL for b in ALL if a != b])
def test_from_any_format_to_any_other(tmp_path: Path, form: str, to: str) -> None:
    root, table = laid(tmp_path, [plain("a/1"), plain("a/2", "p/2.png")])
    images: Any = None if form in EMBEDDING else "copy"
    convert(table.path, to=form, out=tmp_path / "first", root=root, images=images)
    images = None if to in EMBEDDING else "copy"
    file = file_of(form, tmp_path / "first")
    read, report = convert_files(
        [file], form=form, to=to, out=tmp_path / "second", name="llava", images=images
    )
    assert read.report.rows == report.rows == 2
    back = read_files([file_of(to, tmp_path / "second")], form=to, out=tmp_path / "back")
    where = tmp_path / "back" if to == "openai" else tmp_path / "second"
    assert rows_of(back, where) == rows_of(table, root)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".convert-")]
