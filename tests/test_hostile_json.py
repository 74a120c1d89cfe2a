"""JSON as nobody should write it: refused with file and place, or carried through unchanged.

Every case stands as one record between two good ones, in a list and in JSON Lines, and is read by
the sources ``llava`` and ``messages``, which share the layout of ``from`` and ``value``. The
controls at the end show what common readers make of the same bytes.
"""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ijson
import pytest
from hypothesis import given, settings
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
    ``lost``: in a list, what stands behind it cannot be found any more. ``named``: ``llava`` says
    its id, not its byte, because it was read whole.
    """

    record: bytes
    llava: str
    messages: str = ""
    lost: bool = False
    named: str = ""


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
    "lone surrogate": Case(said(b'"\\ud800"'), TEXT),
    "lone low surrogate": Case(said(b'"a\\udfffb"'), TEXT),
    "surrogates in wrong order": Case(said(b'"\\ude00\\ud83d"'), TEXT),
    "surrogate pair": Case(said(b'"\\ud83d\\ude00"'), KEPT),
    "lone surrogate as id": Case(named(b'"\\ud800"'), TEXT),
    "lone surrogate in a value": Case(extra(b'["\\udabc"]'), TEXT),
    "lone surrogate in a key": Case(extra(b"1", b'"\\udabc"'), TEXT),
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
    "two million characters": Case(said(b'"%s"' % (b"x" * 2_000_000)), TEXT),
    "blank": Case(said(b'" \\n\xe3\x80\x80"'), "empty_turn"),
    "empty text": Case(said(b'""'), "empty_turn"),
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
    "no turn in turns": Case(turns(b"[]"), "roles"),
    "texts as turns": Case(turns(b'["Hi","Hello"]'), BAD),
    "lists as turns": Case(turns(b'[["human","Hi"],["gpt","Hello"]]'), BAD),
    "null as turn": Case(turns(b"[null]"), BAD),
    "turn without from": Case(turns(b'[{"value":"Hi"}]'), BAD),
    "turn without value": Case(turns(b'[{"from":"human"}]'), BAD),
    "number as value": Case(said(b"1"), BAD),
    "null as value": Case(said(b"null"), BAD),
    "object as value": Case(said(b'{"text":"Hi"}'), BAD),
    "true as from": Case(said(b'"Hi"', b"true"), BAD),
    "unknown from": Case(said(b'"Hi"', b'"root"'), "roles"),
    "roles out of turn": Case(said(b'"Hi"', b'"gpt"'), "roles"),
    "number as image": Case(extra(b"1", b'"image"'), BAD),
    "object as image": Case(extra(b'{"a":"b"}', b'"image"'), BAD),
    "mixed list as images": Case(extra(b'["a.jpg",1]', b'"image"'), BAD),
    "video": Case(extra(b'"a.mp4"', b'"video"'), BAD),
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
    # Records that are cut: in a list the one behind them goes with them.
    "cut in a key": Case(b'{"id', BROKEN, lost=True),
    "cut behind a key": Case(b'{"id"', BROKEN, lost=True),
    "cut behind a colon": Case(b'{"id":', BROKEN, lost=True),
    "cut in a text": Case(b'{"id":"bad', BROKEN, lost=True),
    "cut in an escape": Case(b'{"id":"bad\\', BROKEN, lost=True),
    "cut in the turns": Case(b'{"id":"bad","conversations":[', BROKEN, lost=True),
    "cut before the last brace": Case(b'{"id":"bad",%s' % TALK, BROKEN, lost=True),
    "a brace too many": Case(named(b'"bad"') + b"}", BROKEN, lost=True),
    "two records without a comma": Case(named(b'"a"') + named(b'"b"'), BROKEN, lost=True),
    "record and text": Case(named(b'"bad"') + b" text", BROKEN, lost=True),
    "record and comment": Case(named(b'"bad"') + b" // no", BROKEN, lost=True),
}


def read(source: str, data: bytes, folder: Path) -> tuple[list[dict[str, Any]], list[Dropped]]:
    """Read a file by a source: its rows, and what it dropped."""
    (folder / "data.json").write_bytes(data)
    builder = find(source)
    options = builder.options({"path": "data.json"})
    batches = list(builder.batches(folder, **options))
    rows = [row for batch in batches for row in batch.rows.to_pylist()]
    return rows, [one for batch in batches for one in batch.dropped]
