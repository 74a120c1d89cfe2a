"""Files of theirs: hostile ones, and what is beside them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.convert.laid import file_of, laid, plain, rows_of
from vision_ift._convert.convert import convert, read_files
from vision_ift._errors import (
    IntegrityError,
    MissingInputError,
    OutputError,
    RecordError,
    UnknownNameError,
    UsageError,
)

_JPEG = b"\xff\xd8\xff rest"
_URL = "data:image/jpeg;base64," + base64.b64encode(_JPEG).decode()


def _openai(url: Any) -> str:
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "q"}]
    turns = [{"role": "user", "content": content}, {"role": "assistant", "content": "a"}]
    return json.dumps({"messages": turns})


#: A line of OpenAI's layout, and why it is dropped.
BAD_LINES = {
    "no JSON": ("{", "broken_json"),
    "deep": ("[" * 100_000, "broken_json"),
    "no UTF-8": ("\udcff", "broken_json"),
    "a list": ("[]", "bad_record"),
    "http": (_openai("https://example.org/a.jpg"), "unsafe_path"),
    "a file": (_openai("file:///etc/passwd"), "unsafe_path"),
    "a path": (_openai("../../etc/passwd"), "unsafe_path"),
    "no text": (_openai(5), "unsafe_path"),
    "other data": (_openai("data:text/html;base64,AAAA"), "unsafe_path"),
    "no base64": (_openai("data:image/png;base64,@@@"), "bad_image"),
    "no picture": (_openai("data:image/png;base64,AAAA"), "bad_image"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_of_openai_is_dropped_alone(tmp_path: Path, name: str) -> None:
    line, reason = BAD_LINES[name]
    file = tmp_path / "f.jsonl"
    text = f"{_openai(_URL)}\n{line}\n\n{_openai(_URL).replace('q', 'r')}\n"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    table = read_files([file], form="openai", out=tmp_path / "t")
    assert (table.report.rows, table.report.dropped) == (2, {reason: 1})
    assert [row["images"] for row in rows_of(table, tmp_path / "t")] == [[_JPEG]] * 2
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".convert")] == []
    with pytest.raises(RecordError):
        read_files([file], form="openai", out=tmp_path / "strict", strict=True)
    assert not (tmp_path / "strict").exists()


def test_a_line_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vision_ift._convert import openai

    monkeypatch.setattr(openai, "_MAX_LINE_BYTES", 1000)
    (tmp_path / "f.jsonl").write_text(_openai(_URL) + "\n" + _openai("x" * 2000) + "\n")
    table = read_files([tmp_path / "f.jsonl"], form="openai", out=tmp_path / "t")
    assert (table.report.rows, table.report.dropped) == (1, {"bad_record": 1})


_ANSWER = {"from": "gpt", "value": "a"}

#: Format, text, and why its only record is dropped.
THEIRS = [
    ("llava", '[{"image": "a.jpg", "conversations": [{"from": "human", "value": "q"}]}]', None),
    ("llava", '[{"conversations": [{"from": "bot", "value": "q"}]}]', "roles"),
    (
        "llava",
        json.dumps([{"conversations": [{"from": "human", "value": "<ImageHere>"}, _ANSWER]}]),
        "marker",
    ),
    ("swift", '{"query": "<img>https://a/b.jpg</img> q", "response": "a"}', "marker"),
    ("swift", '{"query": "where is <ref-object>?", "response": "<bbox>"}', "marker"),
    ("swift", '{"query": "q", "response": "a", "images": ["../../etc/passwd"]}', "unsafe_path"),
    ("llamafactory", '[{"messages": [{"role": "user", "content": 5}]}]', "bad_record"),
]


@pytest.mark.parametrize(("form", "text", "reason"), THEIRS)
def test_what_is_not_read_is_counted(
    tmp_path: Path, form: str, text: str, reason: str | None
) -> None:
    file = tmp_path / ("f.jsonl" if form == "swift" else "f.json")
    file.write_text(text)
    table = read_files([file], form=form, out=tmp_path / "t")
    assert table.report.rows == 0
    assert sum(table.report.dropped.values()) == 1
    assert reason is None or reason in table.report.dropped


#: What stands under our own key in a file that somebody else wrote.
FORGED = [
    "5",
    '"{}"',
    '"[]"',
    '"{"',
    '{"id": "x"}',
    json.dumps(json.dumps({"id": "", "image_paths": [], "meta": "{}", "source": "s"})),
    json.dumps(
        json.dumps(
            {
                "id": "x",
                "image_paths": ["one", "too", "many"],
                "language": None,
                "license": None,
                "meta": "{}",
                "source": "s",
                "split": "train",
                "task": None,
            }
        )
    ),
]


@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_key_of_ours_stays_in_meta(tmp_path: Path, forged: str) -> None:
    record = {"id": "7", "conversations": [{"from": "human", "value": "q"}]}
    record["conversations"].append({"from": "gpt", "value": "a"})  # type: ignore[attr-defined]
    text = json.dumps(record)[:-1] + f', "vision_ift": {forged}}}'
    (tmp_path / "f.json").write_text(f"[{text}]")
    (row,) = rows_of(read_files([tmp_path / "f.json"], form="llava", out=tmp_path / "t"), tmp_path)
    assert row["id"] == "llava/7"
    assert json.loads(row["meta"])["vision_ift"] == json.loads(forged)


@pytest.mark.parametrize("to", ["finevision", "openai"])
def test_a_file_beside_that_does_not_fit(tmp_path: Path, to: str) -> None:
    root, table = laid(tmp_path, [plain("1"), plain("2", "p/2.jpg")])
    convert(table.path, to=to, out=tmp_path / "out", root=root)
    beside = tmp_path / "out/llava.beside.jsonl"
    lines = beside.read_text("utf-8").splitlines(keepends=True)
    for text in (lines[0], "{}\n" + lines[1], "x"):
        beside.write_text(text, "utf-8")
        with pytest.raises(IntegrityError, match="beside"):
            read_files([file_of(to, tmp_path / "out")], form=to, out=tmp_path / "back")
    beside.unlink()
    back = read_files([file_of(to, tmp_path / "out")], form=to, out=tmp_path / "back")
    assert back.report.rows == 2


def test_several_files_in_their_order(tmp_path: Path) -> None:
    for name, words in (("b", "one"), ("a", "two")):
        turns = [{"from": "human", "value": words}, {"from": "gpt", "value": "a"}]
        (tmp_path / f"{name}.json").write_text(json.dumps([{"id": "1", "conversations": turns}]))
    files = [tmp_path / "b.json", tmp_path / "a.json"]
    table = read_files(files, form="llava", out=tmp_path / "t")
    assert [row["id"] for row in rows_of(table, tmp_path)] == ["llava/1", "llava/1#2"]


def test_what_cannot_be_meant(tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text("[]")
    with pytest.raises(UnknownNameError, match="llava"):
        read_files([tmp_path / "f.json"], form="lava", out=tmp_path / "t")
    with pytest.raises(MissingInputError):
        read_files([tmp_path / "g.json"], form="llava", out=tmp_path / "t")
    with pytest.raises(UsageError):
        read_files([], form="llava", out=tmp_path / "t")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("x")
    with pytest.raises(OutputError, match="not empty"):
        read_files([tmp_path / "f.json"], form="llava", out=tmp_path / "full")
    assert (tmp_path / "full/mine").read_text() == "x"
