"""What a format cannot say is refused, named and counted; never silently changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.convert.laid import ALL, EMBEDDING, WITH_FILES, laid, one, plain, turn
from vision_ift._conversation import Conversation
from vision_ift._convert.convert import convert
from vision_ift._convert.marks import LOST, REFUSED
from vision_ift._errors import OutputError, RecordError, UsageError

_A = turn("assistant", "yes")
_WITH_PICTURE = ("p/1.jpg",)

#: What a row has that is not plain, and per format what becomes of it: ``""`` written without
#: loss, a word of LOST, or a reason of REFUSED. This is the table of docs/convert.md.
CASES: dict[str, tuple[Conversation, dict[str, str]]] = {
    "text only": (one("1", turn("user", "q"), _A), dict.fromkeys(ALL, "")),
    "system": (
        one("1", turn("system", "be brief"), turn("user", None, "q"), _A, images=_WITH_PICTURE),
        {
            **dict.fromkeys(ALL, ""),
            "llava": "system_unread",
            "qwen": "system_unread",
            "finevision": "system_turn",
        },
    ),
    "system, no picture": (
        one("1", turn("system", "be brief"), turn("user", "q"), _A),
        {
            **dict.fromkeys(ALL, ""),
            "llava": "system_unread",
            "qwen": "system_unread",
            "finevision": "system_turn",
        },
    ),
    "several pictures": (
        one("1", turn("user", None, None, "q"), _A, images=("p/1.jpg", "p/2.jpg")),
        dict.fromkeys(ALL, ""),
    ),
    "in the middle of a turn": (
        one("1", turn("user", "q", None, "r"), _A, images=_WITH_PICTURE),
        {**dict.fromkeys(ALL, ""), "finevision": "image_place"},
    ),
    "in a later turn": (
        one("1", turn("user", "q"), _A, turn("user", None, "r"), _A, images=_WITH_PICTURE),
        {**dict.fromkeys(ALL, ""), "finevision": "image_place"},
    ),
    "in an answer": (
        one("1", turn("user", "q"), turn("assistant", None, "a"), images=_WITH_PICTURE),
        {**dict.fromkeys(ALL, "image_place"), "llava": "", "trl": ""},
    ),
    "no answer": (one("1", turn("user", "q")), dict.fromkeys(ALL, "no_answer")),
    "two texts": (
        one("1", turn("user", "q", "r"), _A),
        {**dict.fromkeys(ALL, "parts"), "trl": "", "openai": ""},
    ),
    "<image>": (
        one("1", turn("user", "what is <image>?"), _A),
        {**dict.fromkeys(ALL, "marker"), "trl": "", "openai": ""},
    ),
    "<|image_pad|>": (
        one("1", turn("user", "q"), turn("assistant", "<|image_pad|>")),
        {**dict.fromkeys(ALL, "marker"), "trl": "", "openai": "", "llava": ""},
    ),
    "<ref-object>": (
        one("1", turn("user", "<ref-object>"), _A),
        {**dict.fromkeys(ALL, ""), "swift": "marker"},
    ),
    "eleven pictures": (
        one("1", turn("user", *[None] * 11, "q"), _A, images=_WITH_PICTURE * 11),
        {**dict.fromkeys(ALL, ""), "openai": "image_count"},
    ),
    "GIF": (
        one("1", turn("user", None, "q"), _A, images=("p/1.gif",)),
        {**dict.fromkeys(ALL, ""), "openai": "image_format"},
    ),
}


@pytest.mark.parametrize("to", ALL)
@pytest.mark.parametrize("case", CASES)
def test_a_case(tmp_path: Path, case: str, to: str) -> None:
    row, outcomes = CASES[case]
    outcome = outcomes[to]
    root, table = laid(tmp_path, [plain("0"), row, plain("2")])
    if outcome in LOST:
        report = convert(table.path, to=to, out=tmp_path / "out", root=root)
        assert (report.rows, report.dropped, report.lost) == (3, {}, {outcome: 1})
    elif outcome:
        assert outcome in REFUSED
        report = convert(table.path, to=to, out=tmp_path / "out", root=root)
        assert (report.rows, report.dropped, report.lost) == (2, {outcome: 1}, {})
        assert [one["id"] for one in report.dropped_first[outcome]] == ["llava/1"]
    if outcome:
        with pytest.raises(RecordError, match="llava/1") as error:
            convert(table.path, to=to, out=tmp_path / "strict", root=root, strict=True)
        assert error.value.reason == outcome
        assert sorted(path.name for path in (tmp_path / "strict").iterdir()) == [".convert.lock"]
    else:
        report = convert(table.path, to=to, out=tmp_path / "out", root=root, strict=True)
        assert report.rows == 3


def test_a_picture_that_is_too_large_for_openai(tmp_path: Path) -> None:
    root, table = laid(tmp_path, [plain()])
    (root / "p/1.jpg").write_bytes(b"\xff\xd8\xff" + bytes(10_000_000))
    report = convert(table.path, to="openai", out=tmp_path / "out", root=root)
    assert report.dropped == {"image_size": 1}


@pytest.mark.parametrize("to", ALL)
def test_pictures_that_cannot_be_read(tmp_path: Path, to: str) -> None:
    rows = [plain("a", "p/1.jpg"), plain("b", "p/2.jpg"), plain("c", "p/3.jpg")]
    root, table = laid(tmp_path, rows)
    (root / "p/1.jpg").unlink()
    (root / "p/2.jpg").write_bytes(b"no picture")
    images: Any = "embed" if to in EMBEDDING else "copy"
    report = convert(table.path, to=to, out=tmp_path / "out", root=root, images=images)
    assert (report.rows, report.dropped) == (1, {"bad_image": 1, "missing_image": 1})


@pytest.mark.parametrize("to", WITH_FILES)
def test_a_mode_that_a_format_does_not_take(tmp_path: Path, to: str) -> None:
    root, table = laid(tmp_path, [plain()])
    with pytest.raises(UsageError, match="path, copy"):
        convert(table.path, to=to, out=tmp_path / "out", root=root, images="embed")


def test_somebody_elses_file_is_left_alone(tmp_path: Path) -> None:
    root, table = laid(tmp_path, [plain()])
    (tmp_path / "out").mkdir()
    (tmp_path / "out/llava.json").write_text("mine")
    with pytest.raises(OutputError, match="no conversion wrote it"):
        convert(table.path, to="llava", out=tmp_path / "out", root=root)
    assert (tmp_path / "out/llava.json").read_text() == "mine"


@pytest.mark.parametrize("name", ["../a", "a b", "", ".x", 'a"b'])
def test_a_name_that_cannot_be_a_file(tmp_path: Path, name: str) -> None:
    root, table = laid(tmp_path, [plain()])
    if name:
        with pytest.raises(UsageError, match="cannot be the name"):
            convert(table.path, to="llava", out=tmp_path / "out", root=root, name=name)
