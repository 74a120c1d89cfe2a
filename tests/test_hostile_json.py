"""JSON as nobody should write it: refused with file and place, or carried through unchanged.

Every case stands as one record between two good ones, in a list and in JSON Lines, and is read by
the sources ``llava`` and ``messages``, which share the layout of ``from`` and ``value``. The
controls at the end show what common readers make of the same bytes.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ijson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vision_ift._builder import Dropped
from vision_ift._errors import REASONS
from vision_ift._registry import find

SOURCES = ("llava", "messages")
TALK = b'"conversations":[{"from":"human","value":"Hi"},{"from":"gpt","value":"Hello"}]'
BEFORE = b'{"id":"before",' + TALK + b"}"
AFTER = b'{"id":"after",' + TALK + b"}"
DEEP = b"[" * 100_000 + b"]" * 100_000
KEPT = "kept"
BROKEN, BAD, TEXT = "broken_json", "bad_record", "bad_text"


@dataclass(frozen=True)
class Case:
    """A record and what becomes of it.

    ``llava``: ``KEPT`` or the reason it is dropped for; ``messages``: the same, where it differs.
    ``name``: what ``llava`` calls it where it could be read and broke a rule of the row; all others
    are named by the byte where they begin.
    """

    record: bytes
    llava: str
    messages: str = ""
    name: str = ""


def extra(value: bytes, key: bytes = b'"x"') -> bytes:
    """A good record with one more key."""
    return b'{"id":"bad",%s,%s:%s}' % (TALK, key, value)


def said(value: bytes, speaker: bytes = b'"human"') -> bytes:
    """A record with this as its first turn's value."""
    turn = b'{"from":%s,"value":%s}' % (speaker, value)
    return b'{"id":"bad","conversations":[%s,{"from":"gpt","value":"Hello"}]}' % turn


def named(name: bytes) -> bytes:
    """A good record with this id."""
    return b'{"id":%s,%s}' % (name, TALK)


def turns(value: bytes) -> bytes:
    """A record with this for its turns."""
    return b'{"id":"bad","conversations":%s}' % value


CASES = {
    # Numbers that are none.
    "NaN": Case(extra(b"NaN"), BROKEN),
    "NaN in a list": Case(extra(b"[1,NaN]"), BROKEN),
    "NaN as id": Case(named(b"NaN"), BROKEN),
    "Infinity": Case(extra(b"Infinity"), BROKEN),
    "minus Infinity": Case(extra(b"-Infinity"), BROKEN),
    "too large a number": Case(extra(b"1e999"), BAD),
    "too large a number, negative": Case(extra(b"-1e999"), BAD),
    "too large a number as id": Case(named(b"1e999"), BAD),
    "nearest double": Case(extra(b"1e-999"), KEPT),
    "hexadecimal": Case(extra(b"0x10"), BROKEN),
    "leading zero": Case(extra(b"010"), BROKEN),
    "leading plus": Case(extra(b"+1"), BROKEN),
    "bare point": Case(extra(b".5"), BROKEN),
    "point without digits": Case(extra(b"1."), BROKEN),
    "other digits": Case(extra("\u0661".encode()), BROKEN),
    "underscore in number": Case(extra(b"1_000"), BROKEN),
    # Whole numbers of many digits.
    "5,000 digits": Case(extra(b"9" * 5000), BAD),
    "5,000 digits as id": Case(named(b"9" * 5000), BAD),
    "30 digits": Case(extra(b"9" * 30), KEPT),
    "30 digits as id": Case(named(b"9" * 30), KEPT),
    "2 to the 64": Case(extra(b"18446744073709551616"), KEPT),
    "2 to the 53 plus 1 as id": Case(named(b"9007199254740993"), KEPT),
    # Keys that stand twice.
    "id twice": Case(b'{"id":"bad","id":"worse",%s}' % TALK, BAD),
    "turns twice": Case(b'{"id":"bad",%s,%s}' % (TALK, TALK), BAD),
    "value twice": Case(said(b'"Hi","value":"Ho"'), BAD),
    "from twice": Case(said(b'"Hi"', b'"gpt","from":"human"'), BAD),
    "nested key twice": Case(extra(b'{"a":{"b":1,"b":2}}'), BAD),
    "key twice, once escaped": Case(extra(b'{"a":1,"\\u0061":2}'), BAD),
    "unknown key twice": Case(extra(b'1,"x":1'), BAD),
    # Texts.
    "lone surrogate": Case(said(b'"\\ud800"'), TEXT, name="bad"),
    "lone low surrogate": Case(said(b'"a\\udfffb"'), TEXT, name="bad"),
    "surrogates in wrong order": Case(said(b'"\\ude00\\ud83d"'), TEXT, name="bad"),
    "surrogate pair": Case(said(b'"\\ud83d\\ude00"'), KEPT),
    "lone surrogate as id": Case(named(b'"\\ud800"'), TEXT, name="\\ud800"),
    "lone surrogate in a value": Case(extra(b'["\\udabc"]'), TEXT, name="bad"),
    "lone surrogate in a key": Case(extra(b"1", b'"\\udabc"'), TEXT, name="bad"),
    "surrogate as bytes": Case(said(b'"\xed\xa0\x80"'), TEXT),
    "surrogate pair as bytes": Case(said(b'"\xed\xa0\xbd\xed\xb8\x80"'), TEXT),
    "overlong slash": Case(said(b'"\xc0\xaf"'), TEXT),
    "Latin-1": Case(said(b'"caf\xe9"'), TEXT),
    "cut in a character": Case(said(b'"\xe4\xbd"'), TEXT),
    "beyond Unicode": Case(said(b'"\xf5\x80\x80\x80"'), TEXT),
    "0xFF": Case(said(b'"\xff"'), TEXT),
    "bad bytes as id": Case(named(b'"\xff"'), TEXT),
    "NUL, escaped": Case(said(b'"a\\u0000b"'), KEPT),
    "NUL as id": Case(named(b'"a\\u0000b"'), KEPT),
    "NUL, raw": Case(said(b'"a\x00b"'), BROKEN),
    "control character, raw": Case(said(b'"a\x01b"'), BROKEN),
    "tab, raw": Case(said(b'"a\tb"'), BROKEN),
    "ANSI escape": Case(said(b'"\\u001b[2J"'), KEPT),
    "DEL, raw": Case(said(b'"a\x7fb"'), KEPT),
    "byte order mark in text": Case(said(b'"\xef\xbb\xbfHi"'), KEPT),
    "noncharacter": Case(said(b'"\xef\xbf\xbf"'), KEPT),
    "replacement character": Case(said(b'"\xef\xbf\xbd"'), KEPT),
    "line separator": Case(said(b'"a\xe2\x80\xa8b"'), KEPT),
    "bidi override": Case(said(b'"\\u202egpj.exe"'), KEPT),
    "unknown escape": Case(said(b'"\\x41"'), BROKEN),
    "short escape": Case(said(b'"\\u12"'), BROKEN),
    "escape with a sign": Case(said(b'"\\u+041"'), BROKEN),
    "two million characters": Case(said(b'"%s"' % (b"x" * 2_000_000)), TEXT, name="bad"),
    "blank": Case(said(b'" \\n\xe3\x80\x80"'), "empty_turn", name="bad"),
    "empty text": Case(said(b'""'), "empty_turn", name="bad"),
    # What is no JSON.
    "missing comma": Case(b'{"id":"bad" %s}' % TALK, BROKEN),
    "comma before the brace": Case(b'{"id":"bad",%s,}' % TALK, BROKEN),
    "comma before the bracket": Case(turns(b'[{"from":"human","value":"Hi"},]'), BROKEN),
    "comma twice": Case(b'{"id":"bad",,%s}' % TALK, BROKEN),
    "missing colon": Case(b'{"id" "bad",%s}' % TALK, BROKEN),
    "missing value": Case(extra(b""), BROKEN),
    "comment": Case(b'{/* no */"id":"bad",%s}' % TALK, BROKEN),
    "single quotes": Case(b"{'id':'bad','conversations':[]}", BROKEN),
    "bare key": Case(b'{id:"bad",%s}' % TALK, BROKEN),
    "Python's words": Case(extra(b"None"), BROKEN),
    "undefined": Case(extra(b"undefined"), BROKEN),
    "code": Case(extra(b"__import__('os')"), BROKEN),
    "no-break space": Case(extra(b"\xc2\xa01"), BROKEN),
    "form feed": Case(extra(b"\x0c1"), BROKEN),
    "wrong bracket": Case(b'{"id":"bad","x":[1}}', BROKEN),
    # What is no record.
    "null": Case(b"null", BAD),
    "true": Case(b"true", BAD),
    "number": Case(b"17", BAD),
    "text": Case(b'"record"', BAD),
    "list": Case(b"[1,[2]]", BAD),
    "list of a record": Case(b"[%s]" % named(b'"bad"'), BAD),
    "no keys": Case(b"{}", BAD),
    "no turns": Case(b'{"id":"bad"}', BAD),
    # Wrong types.
    "true as id": Case(named(b"true"), BAD),
    "half as id": Case(named(b"1.5"), BAD),
    "list as id": Case(named(b'["a"]'), BAD),
    "object as id": Case(named(b'{"a":1}'), BAD),
    "null as id": Case(named(b"null"), BAD, KEPT),
    "number as id": Case(named(b"17"), KEPT),
    "minus zero as id": Case(named(b"-0"), KEPT),
    "no id": Case(b"{%s}" % TALK, KEPT),
    "null as turns": Case(turns(b"null"), BAD),
    "text as turns": Case(turns(b'"Hi"'), BAD),
    "object as turns": Case(turns(b'{"from":"human","value":"Hi"}'), BAD),
    "no turn in turns": Case(turns(b"[]"), "roles", name="bad"),
    "texts as turns": Case(turns(b'["Hi","Hello"]'), BAD),
    "lists as turns": Case(turns(b'[["human","Hi"],["gpt","Hello"]]'), BAD),
    "null as turn": Case(turns(b"[null]"), BAD),
    "turn without from": Case(turns(b'[{"value":"Hi"}]'), BAD),
    "turn without value": Case(turns(b'[{"from":"human"}]'), BAD),
    "number as value": Case(said(b"1"), BAD),
    "null as value": Case(said(b"null"), BAD),
    "object as value": Case(said(b'{"text":"Hi"}'), BAD),
    "true as from": Case(said(b'"Hi"', b"true"), BAD),
    "unknown from": Case(said(b'"Hi"', b'"root"'), "roles", name="bad"),
    "roles out of turn": Case(said(b'"Hi"', b'"gpt"'), "roles", name="bad"),
    "number as image": Case(extra(b"1", b'"image"'), BAD),
    "object as image": Case(extra(b'{"a":"b"}', b'"image"'), BAD),
    "mixed list as images": Case(extra(b'["a.jpg",1]', b'"image"'), BAD, "missing_image"),
    "video": Case(extra(b'"a.mp4"', b'"video"'), BAD, name="bad"),
    # Depth and odd keys.
    "nested 100,000 deep": Case(extra(DEEP), BAD),
    "objects nested 10,000 deep": Case(extra(b'{"a":' * 10_000 + b"1" + b"}" * 10_000), BAD),
    "nested 65 deep": Case(extra(b"[" * 64 + b"]" * 64), BAD),
    "nested 64 deep": Case(extra(b"[" * 63 + b"]" * 63), KEPT),
    "__proto__": Case(extra(b'{"a":1}', b'"__proto__"'), KEPT),
    "__class__": Case(extra(b'"x"', b'"__class__"'), KEPT),
    "empty key": Case(extra(b"1", b'""'), KEPT),
    "NUL as key": Case(extra(b"1", b'"\\u0000"'), KEPT),
    "key of 100,000 characters": Case(extra(b"1", b'"%s"' % (b"k" * 100_000)), KEPT),
    "key of another case": Case(b'{"ID":"bad",%s}' % TALK, KEPT),
}


#: Records that break a list: the record; ids that a list still gives before AFTER is lost; where
#: what is broken begins, in bytes behind the record's start. In JSON Lines the line alone is lost.
CUTS: dict[str, tuple[bytes, list[str], list[int]]] = {
    "in a key": (b'{"id', [], [0]),
    "behind a key": (b'{"id"', [], [0, 102]),
    "behind a colon": (b'{"id":', [], [0, 103]),
    "in a text": (b'{"id":"bad', [], [0]),
    "in an escape": (b'{"id":"bad\\', [], [0]),
    "in the turns": (b'{"id":"bad","conversations":[', [], [0]),
    "before the last brace": (b'{"id":"bad",%s' % TALK, [], [0, 187]),
    "a brace too many": (named(b'"bad"') + b"}", ["bad"], [91]),
    "two records without a comma": (named(b'"a"') + named(b'"b"'), ["a"], [89]),
    "record and text": (named(b'"bad"') + b" text", ["bad"], [92]),
    "record and comment": (named(b'"bad"') + b" // no", ["bad"], [92]),
    "a bracket too many": (b"]", [], [0]),
}

GOOD = BEFORE + b"\n"
#: Whole files: the bytes, the ids of the rows, the bytes at which something is broken.
FILES: dict[str, tuple[bytes, list[str], list[int]]] = {
    "empty": (b"", [], [0]),
    "white space": (b" \n\t", [], [3]),
    "null": (b"null", [], [0]),
    "number": (b"17", [], [0]),
    "text": (b'"[]"', [], [0]),
    "UTF-16, little end first": (("\ufeff" + GOOD.decode()).encode("utf-16-le"), [], [0]),
    "UTF-16, big end first": (("\ufeff" + GOOD.decode()).encode("utf-16-be"), [], [0]),
    "UTF-16 without a mark": (GOOD.decode().encode("utf-16-be"), [], [0]),
    "UTF-32": (GOOD.decode().encode("utf-32"), [], [0]),
    "gzip": (b"\x1f\x8b\x08\x00" + GOOD, [], [0]),
    "zeros": (bytes(4096), [], [0]),
    "comment first": (b"// rows\n" + GOOD, [], [0]),
    "JSONP": (b"rows([" + BEFORE + b"])", [], [0]),
    "YAML": (b"- id: before\n", [], [0]),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD, ["before"], []),
    "byte order mark twice": (b"\xef\xbb\xbf\xef\xbb\xbf" + GOOD, [], [3]),
    "mark between lines": (GOOD + b"\xef\xbb\xbf" + GOOD, ["before"], [len(GOOD)]),
    "record separators": (b"\x1e" + GOOD, [], [0]),
    "zeros at the end": (GOOD + bytes(8), ["before"], [len(GOOD)]),
    "carriage returns alone": (BEFORE + b"\r" + AFTER, [], [0]),
    "list and more": (b"[" + BEFORE + b"] more", ["before"], [len(BEFORE) + 3]),
    "two lists": (b"[" + BEFORE + b"][" + AFTER + b"]", ["before"], [len(BEFORE) + 2]),
    "list, zeros": (b"[" + BEFORE + b"]" + bytes(8), ["before"], [len(BEFORE) + 2]),
    "list without an end": (b"[" + BEFORE, ["before"], [len(BEFORE) + 1]),
    "comma before the bracket": (b"[" + BEFORE + b",]", ["before"], [len(BEFORE) + 2]),
    "comma first": (b"[," + BEFORE + b"]", [], [1]),
    "comma twice": (b"[" + BEFORE + b",," + AFTER + b"]", ["before"], [len(BEFORE) + 2]),
    "nothing in a list": (b"[]", [], []),
}


def read(source: str, data: bytes, folder: Path) -> tuple[list[dict[str, Any]], list[Dropped]]:
    """Read a file by a source: its rows, and what it dropped."""
    (folder / "data.json").write_bytes(data)
    builder = find(source)
    options = builder.options({"path": "data.json"})
    batches = list(builder.batches(folder, **options))
    rows = [row for batch in batches for row in batch.rows.to_pylist()]
    return rows, [one for batch in batches for one in batch.dropped]


def strings(value: Any) -> Iterator[str]:
    """All texts and keys of decoded JSON, numbers as text; objects may be lists of pairs."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from strings(list(value.items()))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from strings(one)
    else:
        yield str(value)


def texts_of(row: dict[str, Any]) -> list[str]:
    return [part["text"] for turn in row["messages"] for part in turn["content"]]


def check_unchanged(row: dict[str, Any], known: set[str], source: str) -> None:
    """Every text of a row stands in its source as it is, and so does all that is in meta."""
    name = row["id"].removeprefix(f"{source}/")
    assert name in known or name.startswith("data@")
    assert set(texts_of(row)) <= known
    assert set(strings(json.loads(row["meta"]))) <= known | {"turns", "parts", *map(str, range(9))}


def around(record: bytes, style: str) -> tuple[bytes, int]:
    """Put a record between two good ones; give the file's bytes and where the record begins."""
    if style == "list":
        head = b"[" + BEFORE + b",\n"
        return head + record + b",\n" + AFTER + b"]\n", len(head)
    return BEFORE + b"\n" + record + b"\n" + AFTER + b"\n", len(BEFORE) + 1


@pytest.mark.parametrize("style", ["list", "lines"])
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", CASES)
def test_a_hostile_record_is_refused_or_kept_unchanged(
    name: str, source: str, style: str, tmp_path: Path
) -> None:
    case = CASES[name]
    wanted = case.messages if source == "messages" and case.messages else case.llava
    data, begin = around(case.record, style)
    rows, dropped = read(source, data, tmp_path)
    assert (rows[0]["id"], rows[-1]["id"]) == (f"{source}/before", f"{source}/after")
    if wanted != KEPT:
        assert len(rows) == 2
        (one,) = dropped
        place = case.name if source == "llava" and case.name else f"byte {begin}"
        assert (one.reason, one.file, one.record) == (wanted, "data.json", place)
        assert one.reason in REASONS
        assert one.detail
        return
    assert not dropped
    _, row, _ = rows
    record = json.loads(case.record)
    identity = record.pop("id", None)
    # A record without an id is named by its place.
    shown = f"data@{begin}" if identity is None else str(identity)
    assert row["id"] == f"{source}/{shown}"
    assert texts_of(row) == [turn["value"] for turn in record.pop("conversations")]
    # As text, since to Python 1, 1.0 and True are equal.
    assert json.dumps(json.loads(row["meta"]), sort_keys=True) == json.dumps(record, sort_keys=True)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", CUTS)
def test_a_record_that_breaks_the_list_is_counted_where_it_breaks(
    name: str, source: str, tmp_path: Path
) -> None:
    record, ids, places = CUTS[name]
    data, begin = around(record, "list")
    rows, dropped = read(source, data, tmp_path)
    assert [row["id"] for row in rows] == [f"{source}/{one}" for one in ("before", *ids)]
    assert [(one.reason, one.file, one.record) for one in dropped] == [
        (BROKEN, "data.json", f"byte {begin + place}") for place in places
    ]
    data, begin = around(record, "lines")
    rows, dropped = read(source, data, tmp_path)
    assert [row["id"] for row in rows] == [f"{source}/before", f"{source}/after"]
    assert [(one.reason, one.record) for one in dropped] == [(BROKEN, f"byte {begin}")]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_gives_its_whole_records_and_says_where_it_ends(
    name: str, source: str, tmp_path: Path
) -> None:
    data, ids, places = FILES[name]
    rows, dropped = read(source, data, tmp_path)
    assert [row["id"] for row in rows] == [f"{source}/{one}" for one in ids]
    assert [(one.reason, one.file, one.record) for one in dropped] == [
        (BROKEN, "data.json", f"byte {place}") for place in places
    ]


def test_what_parts_have_beside_their_words_is_kept(tmp_path: Path) -> None:
    content = [
        {"type": "text", "text": "Hi", "value": "Ho", "index": None, "cache": {"for": 1}},
        {"type": "text", "value": "there"},
    ]
    turn = {"role": "user", "content": content, "parts": "theirs", "name": "Ada"}
    record = {"id": "1", "messages": [turn, {"role": "assistant", "content": "Hello"}]}
    rows, dropped = read("messages", json.dumps(record).encode(), tmp_path)
    assert not dropped
    assert texts_of(rows[0]) == ["Hi", "there", "Hello"]
    parts = {"0": {"value": "Ho", "cache": {"for": 1}}, "": "theirs"}
    assert json.loads(rows[0]["meta"]) == {"turns": {"0": {"name": "Ada", "parts": parts}}}


@pytest.mark.parametrize("source", SOURCES)
def test_lines_cut_anywhere_keep_the_whole_ones(source: str, tmp_path: Path) -> None:
    data = b"\n".join([BEFORE, said(b'"} \\"]\xc3\xa9"'), AFTER])
    for size in range(1, len(data)):
        rows, dropped = read(source, data[:size], tmp_path)
        lines = data[:size].split(b"\n")
        whole = sum(line in data.split(b"\n") for line in lines)
        assert len(rows) == whole
        assert len(dropped) == sum(map(bool, lines)) - whole


TOKENS = st.sampled_from(
    [
        "NaN",
        "-Infinity",
        "1e999",
        "1e-999",
        "-0",
        "0.1",
        "true",
        "null",
        '"\\ud800"',
        "9" * 40,
        '"\\u0000"',
        '"\\ud83d\\ude00"',
        '"<image>"',
        '""',
        '"a.jpg"',
        "17",
        "[]",
        "{}",
    ]
) | st.text(max_size=6).map(json.dumps)
NAMES = st.sampled_from(
    ["id", "from", "value", "role", "content", "image", "x", "", "system", "model", "text", "type"]
).map(json.dumps)


def objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Objects as text; a key may stand twice."""
    pairs = st.lists(st.tuples(NAMES, inner), max_size=4)
    return pairs.map(lambda found: "{" + ",".join(f"{k}:{v}" for k, v in found) + "}")


def lists(inner: st.SearchStrategy[str], *, most: int = 3) -> st.SearchStrategy[str]:
    return st.lists(inner, max_size=most).map(lambda found: "[" + ",".join(found) + "]")


VALUES = st.recursive(TOKENS, lambda inner: lists(inner) | objects(inner), max_leaves=5)
SPOKEN = st.one_of(TOKENS, st.just('"Hi"'), VALUES)
TURN = st.one_of(
    st.builds('{{"from":"human","value":{}}}'.format, SPOKEN),
    st.builds('{{"role":"assistant","content":{},"x":{}}}'.format, SPOKEN, TOKENS),
    VALUES,
)
DIALOG = st.one_of(
    st.builds('[{{"from":"human","value":{}}},{{"from":"gpt","value":{}}}]'.format, SPOKEN, SPOKEN),
    lists(TURN),
)
WORDS = st.text(min_size=1, max_size=8).map(json.dumps)
PLAIN = st.builds(
    '{{"id":{},"conversations":[{{"from":"human","value":{}}},{{"from":"gpt","value":{}}}],'
    "{}:{}}}".format,
    WORDS,
    WORDS,
    WORDS,
    st.sampled_from(['"x"', '"model"', '"turns"', '"task"']),
    VALUES,
)
PARTS = st.builds(
    '{{"messages":[{{"role":"user","content":[{{"type":"text","text":{},"x":{}}}]}},'
    '{{"role":"assistant","content":{},"y":{}}}]}}'.format,
    WORDS,
    VALUES,
    WORDS,
    VALUES,
)
RECORDS = st.one_of(
    PLAIN,
    PARTS,
    st.builds('{{"id":{},"conversations":{}}}'.format, TOKENS, DIALOG),
    st.builds('{{"conversations":{},"x":{},"model":{}}}'.format, DIALOG, VALUES, TOKENS),
    st.builds('{{"messages":{},{}:{}}}'.format, DIALOG, NAMES, VALUES),
    VALUES,
)


@settings(max_examples=400)
@given(records=st.lists(RECORDS, min_size=1, max_size=6), style=st.sampled_from(["list", "lines"]))
@example(records=['{"id":-0,"conversations":["\\ud800"]}'], style="list")
def test_drawn_json_is_counted_and_never_changed(
    tmp_path_factory: pytest.TempPathFactory, records: list[str], style: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "drawn-json"
    folder.mkdir(exist_ok=True)
    lines = [BEFORE.decode(), *records]
    text = "[" + ",".join(lines) + "]" if style == "list" else "\n".join(lines)
    known = {one for line in lines for one in strings(json.loads(line, object_pairs_hook=list))}
    for source in SOURCES:
        rows, dropped = read(source, text.encode(), folder)
        assert len(rows) + sum(one.count for one in dropped) == len(lines)
        assert all(one.reason in REASONS and one.file and one.record for one in dropped)
        for row in rows:
            check_unchanged(row, known, source)


@pytest.mark.parametrize(
    ("record", "change"),
    [
        (extra(b"NaN"), "NaN is no JSON, and what is written of it is none either"),
        (extra(b"1e999"), "the number became Infinity"),
        (b'{"id":"a","id":"b",%s}' % TALK, "the first id is gone"),
        (said(b'"Hi","value":"Ho"'), "the first text is gone"),
    ],
    ids=["NaN", "1e999", "id twice", "value twice"],
)
def test_a_plain_reader_changes_it_in_silence(record: bytes, change: str) -> None:
    written = json.dumps(json.loads(record), separators=(",", ":"))
    assert b"NaN" in record or written.encode() != record, change
    with pytest.raises(ValueError):  # a reader that is strict would have said so
        json.loads(record, object_pairs_hook=_strict, parse_constant=_refuse, parse_float=_finite)


def _refuse(text: str) -> None:
    raise ValueError(text)


def _strict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError(pairs)
    return dict(pairs)


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(text)
    return value


def test_ijson_changes_a_lone_surrogate_in_silence() -> None:
    (value,) = ijson.items(io.BytesIO(b'["a\\ud800b"]'), "item")
    assert value != "a\ud800b"


ARRAY_BYTES = 300 << 20
LIMIT_BYTES = 800 << 20
_PREPARE = """
import json, resource, sys
from pathlib import Path
from vision_ift._build import build
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
"""
_BUILD = """
table = build("llava", root=sys.argv[1], out=sys.argv[1] + "/table", options={"path": "data.json"})
# Not ru_maxrss, which a process has from the one that started it.
status = Path("/proc/self/status").read_text()
peak = status.partition("VmHWM:")[2].split()[0]
print(table.report.rows, table.report.dropped, peak, sep=";")
"""
_LOAD = """
try:
    json.loads(Path(sys.argv[1], "data.json").read_bytes())
except MemoryError:
    print("MemoryError")
"""


def _limited(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _PREPARE + code, str(folder), str(LIMIT_BYTES)],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parent.parent),
            "ARROW_DEFAULT_MEMORY_POOL": "system",  # the others reserve addresses by the gigabyte
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.mark.parametrize("text_bytes", [1_500, ARRAY_BYTES])
def test_memory_does_not_grow_with_the_file(text_bytes: int, tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    text = b"x" * text_bytes
    count = ARRAY_BYTES // text_bytes
    with path.open("wb") as file:
        file.write(b"[" + BEFORE)
        for number in range(count):
            file.write(b',\n{"id":%d,"conversations":[{"from":"human","value":"' % number)
            file.write(text)
            file.write(b'"},{"from":"gpt","value":"Hello"}]}')
        file.write(b",\n" + AFTER + b"]")
    try:
        rows, dropped, peak = _limited(_BUILD, tmp_path).split(";")
        if count > 1:
            assert (int(rows), dropped) == (count + 2, "{}")
        else:  # a record that is never read
            assert (int(rows), dropped) == (2, "{'bad_record': 1}")
        assert int(peak) < 300 << 10  # kilobytes
        # The control: the whole file at once does not fit, or fits so badly that it fails.
        assert _limited(_LOAD, tmp_path) == "MemoryError"
    finally:
        path.unlink()
