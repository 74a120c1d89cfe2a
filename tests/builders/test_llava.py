"""The LLaVA layout: two ways to one result, cuts that are proved, and what is refused."""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_ift._builder import Batch, Dropped
from vision_ift._conversation import MAX_TEXT_CHARS, SCHEMA
from vision_ift._errors import REASONS, MissingInputError
from vision_ift._registry import find
from vision_ift._run import here, local

llava = importlib.import_module("vision_ift.builders._llava")
reader = importlib.import_module("vision_ift.builders._json_records")
columns = importlib.import_module("vision_ift.builders._llava_columns")
records_of = importlib.import_module("vision_ift.builders._llava_records")
domains = importlib.import_module("vision_ift.builders._mminstruct_domains")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a few picture files."""
    for name in ("a.jpg", "b c.jpg", "dir/c.png", "coco/train2017/000000000009.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


@contextmanager
def short_spans(size: int) -> Iterator[None]:
    """Cut files into spans of so many bytes, so that small files have many."""
    with mock.patch.object(reader, "SPAN_BYTES", size):
        yield


class Outcome:
    """Rows and dropped records of one way of reading."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        found = list(batches)
        self.rows = pa.Table.from_batches([batch.rows for batch in found], SCHEMA).to_pylist()
        self.dropped: list[Dropped] = [one for batch in found for one in batch.dropped]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Outcome) and (self.rows, self.dropped) == (
            other.rows,
            other.dropped,
        )

    def __repr__(self) -> str:
        return f"{self.rows}\n{self.dropped}"

    @property
    def ids(self) -> list[str]:
        return [row["id"].removeprefix("llava/") for row in self.rows]

    @property
    def reasons(self) -> list[str]:
        return [one.reason for one in self.dropped]


def plain(root: Path, path: Path, **more: Any) -> Outcome:
    """Read record by record, without guesses."""
    builder = find("llava")
    places = llava.new_places(root, "", coco=True)
    reading = llava.Reading.of("llava", root, path, places, **more)
    return Outcome(builder.gather(llava.conversations([reading])))


def quick(root: Path, path: Path, **more: Any) -> Outcome:
    """Read in vectors."""
    places = llava.new_places(root, "", coco=True)
    reading = llava.Reading.of("llava", root, path, places, **more)
    return Outcome(llava.batches([reading], here))


def both(root: Path, data: bytes | str | list[Any], **more: Any) -> Outcome:
    """Read a file in both ways, with spans of several lengths, and give the one result."""
    path = root / "data.json"
    if isinstance(data, list):
        data = json.dumps(data)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    wanted = plain(root, path, **more)
    for size in (64, 200, 1 << 20):
        with short_spans(size):
            assert plain(root, path, **more) == wanted
            assert quick(root, path, **more) == wanted, f"spans of {size} bytes"
    return wanted


def talk(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]


def record(name: Any = "1", *texts: str, **more: Any) -> dict[str, Any]:
    return {"id": name, **more, "conversations": talk(*(texts or ("Hi", "Hello")))}


def content(outcome: Outcome, row: int = 0, turn: int = 0) -> list[str]:
    parts = outcome.rows[row]["messages"][turn]["content"]
    return [part["text"] if part["type"] == "text" else "(image)" for part in parts]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<image>\nWhat?", ["(image)", "What?"]),
        ("What?\n<image>", ["What?", "(image)"]),
        ("<image>What?", ["(image)", "What?"]),
        ("What? <image>", ["What? ", "(image)"]),
        ("Is\n<image>\nred?", ["Is", "(image)", "red?"]),
        ("\n\n<image>\n\nWhat?", ["\n", "(image)", "\nWhat?"]),
        ("<image>", ["(image)"]),
        ("<image>\n", ["(image)"]),
        ("<image>\n ", ["(image)", " "]),
    ],
)
def test_one_newline_on_either_side_belongs_to_the_tag(
    root: Path, text: str, parts: list[str]
) -> None:
    outcome = both(root, [record("1", text, "Yes.", image="a.jpg")])
    assert content(outcome) == parts


def test_half_a_tag_at_the_end_of_a_turn_is_no_tag(root: Path) -> None:
    one = record("1", "<image> and <ima", "ge> too", image=["a.jpg", "a.jpg"])
    outcome = both(root, [one, record("2", "<image> and <ima", "ge> too", image="a.jpg")])
    assert outcome.reasons == ["image_count"]
    assert outcome.ids == ["2"]


def test_several_pictures_stand_where_their_tags_stand(root: Path) -> None:
    names = ["a.jpg", "dir/c.png", "a.jpg"]
    for key in ("image", "images"):
        one = record("1", "<image>\n<image>\nAnd", "So.", "<image>?", "Yes.", **{key: names})
        outcome = both(root, [one, record("2")])
        assert content(outcome, turn=0) == ["(image)", "(image)", "And"]
        assert content(outcome, turn=2) == ["(image)", "?"]
        assert [image["path"] for image in outcome.rows[0]["images"]] == names
        assert outcome.rows[1]["images"] == []


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("image_count", record("x", "What?", "That.", image="a.jpg")),
    ("image_count", record("x", "<image>What?", "That.")),
    ("image_count", record("x", "<image><image>What?", "That.", image="a.jpg")),
    ("missing_image", record("x", "<image>", "That.", image="gone.jpg")),
    ("unsafe_path", record("x", "<image>", "That.", image="../a.jpg")),
    ("unsafe_path", record("x", "<image>", "That.", image="/etc/passwd")),
    ("unsafe_path", record("x", "<image>", "That.", image="")),
    ("unsafe_path", record("x", "<image>", "That.", image="a\x00.jpg")),
    ("empty_turn", record("x", "What?", "")),
    ("empty_turn", record("x", "What?", " \u3000\n")),
    ("roles", record("x", "What?")),
    ("roles", {"id": "x", "conversations": []}),
    ("roles", {"id": "x", "conversations": talk("a", "b")[::-1]}),
    ("roles", {"id": "x", "conversations": [{"from": "bot", "value": "a"}]}),
    ("roles", {"id": "x", "conversations": talk("a", "b") * 1 + talk("a", "b")[1:]}),
    ("roles", {"id": "x", "system": "s", "conversations": [{"from": "system", "value": "s"}]}),
    ("bad_record", record(1.5)),
    ("bad_record", record(None)),
    ("bad_record", record(True)),
    ("bad_record", record("x", image=3)),
    ("bad_record", record("x", image=["a.jpg", None])),
    ("bad_record", record("x", "<image>", "a", image="a.jpg", images=["a.jpg"])),
    ("bad_record", record("x", video="a.mp4")),
    ("bad_record", {"id": "x"}),
    ("bad_record", {"id": "x", "conversations": "a"}),
    ("bad_record", {"id": "x", "conversations": [{"from": "human"}]}),
    ("bad_record", {"id": "x", "conversations": [{"from": "human", "value": None}]}),
    ("bad_text", record("x", "What\ud800?", "That.")),
    ("bad_text", record("x\udfff")),
    ("bad_text", record("x", other={"\ud800": 1})),
    ("bad_text", record("x", "a" * (MAX_TEXT_CHARS + 1), "That.")),
    ("bad_text", record("x", "What?", "That.", task_name="t" * (MAX_TEXT_CHARS + 1))),
]


@pytest.mark.parametrize(("reason", "bad"), REFUSED)
def test_a_record_that_breaks_a_rule_is_dropped_alone(
    root: Path, reason: str, bad: dict[str, Any]
) -> None:
    fine = [record(str(number), "<image>\nHi", "Hello", image="a.jpg") for number in range(4)]
    outcome = both(root, [*fine[:2], bad, *fine[2:]])
    assert outcome.reasons == [reason]
    assert outcome.dropped[0].file == "data.json"
    assert outcome.dropped[0].record
    assert outcome.ids == ["0", "1", "2", "3"]


ODD_RECORDS: list[tuple[str, bytes]] = [
    ("bad_record", b'{"id": "x", "conversations": [], "conversations": []}'),
    ("bad_record", b'{"id": "x", "\\u0069d": "y", "conversations": []}'),
    (
        "bad_record",
        b'{"id": "x", "conversations": [{"from": "human", "value": "\\u003a", "value": "b"}]}',
    ),
    ("bad_record", b'{"id": "x", "more": {"a": 1, "a": 2}, "conversations": []}'),
    ("bad_record", b'{"id": "x", "more": 1e999, "conversations": []}'),
    ("bad_record", b'{"id": "x", "more": ' + b"9" * 5000 + b', "conversations": []}'),
    ("bad_record", b'{"id": "x", "more": ' + b"[" * 70 + b"]" * 70 + b"}"),
    ("bad_record", b"7"),
    ("bad_record", b'"a } ] , string"'),
    ("bad_record", b"[[], {}]"),
    ("bad_record", b"null"),
    ("broken_json", b'{"id": "x", "more": NaN, "conversations": []}'),
    ("broken_json", b'{"id": "x", "more": -Infinity, "conversations": []}'),
    ("broken_json", b'{"id": "x", "conversations": [],}'),
    ("broken_json", b"{'id': 1}"),
    ("broken_json", b'{"id": "a\nb", "conversations": []}'),
    ("bad_text", b'{"id": "\xff", "conversations": []}'),
    ("bad_text", b'{"id": "x", "more": "\xed\xa0\x80", "conversations": []}'),
]


@pytest.mark.parametrize(("reason", "bad"), ODD_RECORDS)
def test_nothing_is_lost_or_changed_in_silence(root: Path, reason: str, bad: bytes) -> None:
    fine = [json.dumps(record(str(number))).encode() for number in range(4)]
    data = b"[" + b", ".join([*fine[:2], bad, *fine[2:]]) + b"]"
    outcome = both(root, data)
    assert outcome.reasons == [reason]
    assert outcome.dropped[0].record == f"byte {data.index(bad)}"
    assert outcome.ids == ["0", "1", "2", "3"]


@pytest.mark.parametrize("first", ['""', '":"', '"a: b"', '"\\u003a"', '"\\u003A\\u003a"'])
@pytest.mark.parametrize("second", ['"x"', '":"', '"::"', '"\\u003a"', '"\\u003A\\u003a"'])
def test_a_key_that_stands_twice_is_found_whatever_its_values(
    root: Path, first: str, second: str
) -> None:
    talk_of = '[{"from": "human", "value": "a: b"}, {"from": "gpt", "value": %s}]'
    colon = ', "value": '
    twice = [
        f'{{"id": {first}, "id": {second}, "conversations": {talk_of % second}}}',
        f'{{"model": {first}, "conversations": {talk_of % second}, "model": {second}}}',
        f'{{"conversations": {talk_of % first}, "conversations": {talk_of % second}}}',
        f'{{"conversations": {talk_of % (first + colon + second)}}}',
    ]
    for text in twice:
        assert both(root, f"[{text}]").reasons == ["bad_record"]
    once = f'{{"id": "1", "model": {first}, "conversations": {talk_of % second}}}'
    assert both(root, f"[{once}]").ids == ["1"]


def test_the_decoder_alone_would_keep_the_last_of_two_keys() -> None:
    data = b'{"id": "x", "id": "y", "conversations": []}'
    span = reader.Span("", 0, len(data), "list", exact=False)
    (found,) = records_of.quick_records(span, data)
    assert found.id == "y"  # what `keys and colons` is there for


def test_lines_are_dropped_alone_and_named_by_their_byte(root: Path) -> None:
    fine = [json.dumps(record(str(number))).encode() for number in range(4)]
    bad = [b"{", b'{"id": "x"}{"id": "y"}', b"]", b'{"id": 1, "conversations":', b'[{"a": 1}]']
    lines = [fine[0], b"", bad[0], fine[1], bad[1], b" \t\r", bad[2], bad[3], fine[2], bad[4]]
    data = b"\n".join([*lines, fine[3]])
    outcome = both(root, data)
    assert outcome.ids == ["0", "1", "2", "3"]
    assert [(one.reason, one.record) for one in outcome.dropped] == [
        ("bad_record" if text == bad[4] else "broken_json", f"byte {data.index(text)}")
        for text in (b"{\n", bad[1], b"]\n", bad[3], bad[4])
    ]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n", b""])
def test_lines_are_told_by_their_content(root: Path, end: bytes) -> None:
    ends = end or b"\n"
    data = b"\xef\xbb\xbf" + ends.join(json.dumps(record(n)).encode() for n in range(9)) + end
    assert both(root, data).ids == [str(n) for n in range(9)]


def test_an_object_over_two_lines_is_not_a_record_of_json_lines(root: Path) -> None:
    data = b'{"id": "x",\n"conversations": []}\n{"id": "y"\n, "conversations": []}\n'
    assert both(root, data).reasons == ["broken_json"] * 4


NOT_A_LIST = [
    (b"", 0),
    (b" \n", 2),
    (b"\xff\xfe[\x00", 0),
    (b"<html>", 0),
    (b'"[]"', 0),
]


@pytest.mark.parametrize(("data", "offset"), NOT_A_LIST)
def test_a_file_that_holds_no_records_is_counted(root: Path, data: bytes, offset: int) -> None:
    outcome = both(root, data)
    assert [(one.reason, one.record) for one in outcome.dropped] == [
        ("broken_json", f"byte {offset}")
    ]


@pytest.mark.parametrize("data", [b"[]", b" [ ]\n", b"\xef\xbb\xbf[]"])
def test_an_empty_list_is_no_fault(root: Path, data: bytes) -> None:
    outcome = both(root, data)
    assert (outcome.rows, outcome.dropped) == ([], [])


LOST = [
    (b"[%s, %s] ,", "behind"),
    (b"[%s, %s][]", "behind"),
    (b"[%s, %s,]", "no record follows"),
    (b"[%s, %s,", "no record follows"),
    (b"[%s, %s", "the file ends"),
    (b"[%s, %s {}]", "should stand"),
    (b"[%s, %s }]", "should stand"),
    (b'[%s, %s, {"id": "a, {}, []', "cut short"),
    (b'[%s, %s, {"id": "\\', "cut short"),
]


@pytest.mark.parametrize(("shape", "detail"), LOST)
def test_where_a_list_loses_its_structure_the_rest_is_one_broken_piece(
    root: Path, shape: bytes, detail: str
) -> None:
    texts = [json.dumps(record(n)).encode() for n in range(2)]
    outcome = both(root, shape % (texts[0], texts[1]))
    assert outcome.ids == ["0", "1"]
    assert outcome.reasons == ["broken_json"]
    assert detail in outcome.dropped[0].detail


def test_of_a_list_cut_anywhere_the_whole_records_are_kept(root: Path) -> None:
    texts = [
        json.dumps(record(n, 'a "b" }, {"id": "\\', "c]}, {\u00e9\n")).encode() for n in range(3)
    ]
    data = b"[" + b",\n".join(texts) + b"]"
    ends = [data.index(text) + len(text) for text in texts]
    for size in range(1, len(data)):
        outcome = both(root, data[:size])
        whole = sum(end <= size for end in ends)
        assert outcome.ids == [str(n) for n in range(whole)]
        assert outcome.reasons == ["broken_json"]
        assert 0 <= int(outcome.dropped[0].record.removeprefix("byte ")) <= size


STYLES = ["compact", "plain", "pretty", "ascii", "keys", "tabs"]


def written(records: list[dict[str, Any]], style: str) -> bytes:
    """Write a list as different programs would."""
    if style == "keys":  # every second record has its keys the other way round
        records = [dict(reversed(one.items())) if n % 2 else one for n, one in enumerate(records)]
    if style == "pretty":
        text = json.dumps(records, indent=2, ensure_ascii=False)
    elif style == "compact":
        text = json.dumps(records, separators=(",", ":"), ensure_ascii=False)
    elif style == "tabs":
        text = "\t[\r\n" + "\t,\r\n".join(json.dumps(one) for one in records) + "\n] \n"
    else:
        text = json.dumps(records, ensure_ascii=style == "ascii")
    return text.encode("utf-8", "surrogatepass")


NASTY = [
    '}, {"id": "',
    '"}]}, {"id": "x", "conversations": [',
    "},\n  {\n    ",
    "]}",
    "\\",
    '\\"',
    "\u2028",
    "\U0001f600",
    "id",
    ":",
    "\u003a",
    "<image>",
    "\x00",
    "x" * 300,
]


@pytest.mark.parametrize("style", ["compact", "plain", "pretty", "ascii", "tabs"])
def test_what_one_program_wrote_is_cut_by_guesses_alone(root: Path, style: str) -> None:
    path = root / "data.json"
    path.write_bytes(written([record(str(n), NASTY[0], "b") for n in range(40)], style))
    with (
        short_spans(700),
        mock.patch.object(llava, "exact_spans", side_effect=AssertionError),
        mock.patch.object(llava, "exact_records", side_effect=AssertionError),
    ):
        spans = list(reader.first_spans(path))
        assert len(spans) > 5
        assert not any(span.exact for span in spans)
        assert quick(root, path).ids == [str(n) for n in range(40)]


def test_other_processes_read_the_same(root: Path) -> None:
    records = [
        record(str(n), NASTY[0], NASTY[1], **({"more": []} if n % 5 else {})) for n in range(60)
    ]
    broken = json.dumps(records)[:-400]
    path = root / "data.json"
    path.write_text(broken)
    wanted = plain(root, path)
    assert wanted.reasons == ["broken_json"]
    reading = llava.Reading.of("llava", root, path, llava.new_places(root, ""))
    with short_spans(2000):
        assert len(list(reader.first_spans(path))) > 3
        assert Outcome(llava.batches([reading], local(2))) == wanted


def test_a_literal_search_for_record_boundaries_would_fail() -> None:
    more = [{"a": 1}, {"id": "nested"}]
    text = json.dumps([record("1", more=more), record("2")])
    pieces = text[1:-1].split('}, {"id": "')
    assert len(pieces) == 3  # two records, and the cut goes through the first


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", [40, 150, 700, 5000])
def test_a_wrong_guess_is_found_out(root: Path, style: str, size: int) -> None:
    records = [
        record(f"{n} {nasty}", f"a{nasty}", f"{nasty}b", **({"more": more} if n % 3 else {}))
        for n, nasty in enumerate(nasty for nasty in NASTY if nasty != "<image>")
        for more in [[{"a": nasty}, {"id": nasty}, {"id": "x", "conversations": []}]]
    ]
    path = root / "data.json"
    path.write_bytes(written(records, style))
    wanted = plain(root, path)
    assert wanted.ids == [one["id"] for one in records]
    with short_spans(size):
        assert quick(root, path) == wanted


texts = st.one_of(
    st.sampled_from([*NASTY, "\ud800"]),
    st.sampled_from(["<image>\nWhat?", "What?\n<image>", "<image><image>", "", " ", "\u4f60"]),
    st.text(max_size=8),
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
paths = st.sampled_from(["a.jpg", "dir/c.png", "./dir//c.png", "000000000009.jpg", "x", "../x", ""])
turns = st.fixed_dictionaries(
    {"from": st.sampled_from(["human", "gpt", "user", "system", "bot"]), "value": texts},
    optional={"weight": values},
)
talks = st.one_of(
    st.lists(texts, min_size=2, max_size=4).map(lambda found: talk(*found)),
    st.lists(turns, max_size=3),
    st.builds(lambda text: [{"from": "system", "value": "s"}, *talk(text, "b")], texts),
)
drawn_records = st.fixed_dictionaries(
    {"conversations": talks},
    optional={
        "id": st.one_of(texts, st.integers(), st.none()),
        "image": st.one_of(paths, st.lists(paths, max_size=2), st.none()),
        "images": st.one_of(paths, st.lists(paths, max_size=2)),
        "model": texts,
        "system": texts,
        "task_name": texts,
        "more": values,
    },
)


@settings(max_examples=300)
@given(
    records=st.lists(drawn_records, max_size=8),
    style=st.sampled_from([*STYLES, "lines"]),
    size=st.integers(30, 400),
    keep=st.booleans(),
    described=st.booleans(),
)
def test_both_ways_give_the_same_rows_and_drop_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[dict[str, Any]],
    style: str,
    size: int,
    keep: bool,
    described: bool,
) -> None:
    root = tmp_path_factory.getbasetemp() / "drawn"
    (root / "dir").mkdir(parents=True, exist_ok=True)
    (root / "a.jpg").touch()
    (root / "dir/c.png").touch()
    path = root / "data.json"
    if style == "lines":
        path.write_text("\n".join(json.dumps(one) for one in records) or "\n")
    else:
        path.write_bytes(written(records, style))
    more: dict[str, Any] = {"keep_missing": keep, "language": "en"}
    if described:
        rules = domains.Rules(False, frozenset({"dir"}), None, (), 0)
        more["describe"] = functools.partial(domains.describe, rules)
    wanted = plain(root, path, **more)
    with short_spans(size):
        assert quick(root, path, **more) == wanted
    assert quick(root, path, **more) == wanted
    if records:
        assert len(wanted.rows) + len(wanted.dropped) == len(records)


def test_a_record_without_an_id_is_named_by_its_place(root: Path) -> None:
    one = {"conversations": talk("Hi", "Hello")}
    data = json.dumps([one, one | {"id": ""}, record("7")])
    outcome = both(root, data)
    assert outcome.ids == ["data@1", f"data@{data.index('{', 90)}", "7"]


def test_other_keys_are_kept(root: Path) -> None:
    one = record("1", width=8, more={"b": [1.5, None], "a": "\u4f60"}, model="")
    two = record("2")
    two["conversations"][1]["weight"] = 0
    outcome = both(root, [one, two, record("3", system_prompt="Be brief.")])
    metas = [row["meta"] for row in outcome.rows]
    assert metas == [
        '{"model":"","more":{"a":"\u4f60","b":[1.5,null]},"width":8}',
        '{"turns":{"1":{"weight":0}}}',
        "{}",
    ]
    assert outcome.rows[2]["messages"][0]["role"] == "system"


def test_a_record_longer_than_the_limit_is_not_read(root: Path) -> None:
    data = json.dumps([record("1"), record("long", "a" * 9000, "b"), record("2")])
    with (
        mock.patch.object(reader, "MAX_RECORD_BYTES", 4000),
        mock.patch.object(llava, "MAX_RECORD_BYTES", 4000),
        mock.patch.object(records_of, "MAX_RECORD_BYTES", 4000),
    ):
        path = root / "data.json"
        for text in (data, "\n".join(json.dumps(one) for one in json.loads(data))):
            path.write_text(text)
            for size in (100, 1000):
                with short_spans(size):
                    outcome = plain(root, path)
                    assert quick(root, path) == outcome
                assert outcome.ids == ["1", "2"]
                assert outcome.reasons == ["bad_record"]


def test_missing_pictures_are_kept_on_demand(root: Path) -> None:
    records = [
        record("1", "<image>", "a", image="gone/x.jpg"),
        record("2", "<image>", "a", image="COCO_val2014_000000000001.jpg"),
        record("3", "<image>", "a", image="../x.jpg"),
    ]
    outcome = both(root, records, keep_missing=True)
    assert outcome.ids == ["1", "2"]
    assert [row["images"][0]["path"] for row in outcome.rows] == [
        "gone/x.jpg",
        "coco/val2014/COCO_val2014_000000000001.jpg",
    ]


def test_a_coco_picture_is_found_under_the_name_of_another_year(root: Path) -> None:
    names = ["000000000009.jpg", "COCO_train2014_000000000009.jpg", "coco/val2014/000000000009.jpg"]
    records = [record(str(n), "<image>", "a", image=name) for n, name in enumerate(names)]
    outcome = both(root, records)
    assert {row["images"][0]["path"] for row in outcome.rows} == {"coco/train2017/000000000009.jpg"}
    assert [row["image_paths"] for row in outcome.rows] == [[name] for name in names]


def test_path_names_a_file_under_the_root_or_anywhere(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    builder = find("llava")
    other = tmp_path_factory.mktemp("other") / "mine.jsonl"
    other.write_text(json.dumps(record("1", "<image>", "a", image="c.png")))
    (root / "mine.jsonl").write_bytes(other.read_bytes())
    for path in ("mine.jsonl", str(other)):
        options: dict[str, Any] = {"path": path, "images": "dir"}
        (batch,) = builder.batches(root, **options)
        assert batch.rows.column("images").to_pylist() == [[{"bytes": None, "path": "dir/c.png"}]]
        inputs = builder.inputs(root, **options)
        assert root / path in inputs
        assert root / "dir" in inputs
    with pytest.raises(MissingInputError, match="relative to ROOT"):
        builder.inputs(root, path="gone.json")


@settings(max_examples=300)
@given(
    changes=st.lists(
        st.tuples(
            st.floats(0, 1, exclude_max=True),
            st.sampled_from([b"", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\xff"])
            | st.binary(min_size=1, max_size=2),
        ),
        min_size=1,
        max_size=3,
    ),
    lines=st.booleans(),
    size=st.integers(30, 400),
)
def test_damaged_bytes_are_refused_in_the_same_way(
    tmp_path_factory: pytest.TempPathFactory,
    changes: list[tuple[float, bytes]],
    lines: bool,
    size: int,
) -> None:
    records = [record(str(n), NASTY[0], "a\n\u00e9", more=[{"id": 1}]) for n in range(5)]
    data = json.dumps(records).encode()
    if lines:
        data = b"\n".join(json.dumps(one).encode() for one in records)
    for place, byte in changes:
        at = int(place * len(data))
        data = data[:at] + byte + data[at + 1 :]
    root = tmp_path_factory.getbasetemp()
    path = root / "damaged.json"
    path.write_bytes(data)
    wanted = plain(root, path)
    with short_spans(size):
        assert quick(root, path) == wanted
    assert quick(root, path) == wanted
    assert all(one.reason in REASONS for one in wanted.dropped)
