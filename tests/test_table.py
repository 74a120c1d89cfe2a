"""Tables: row groups, random rows, and a digest of the contents alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rows import MakeTable, conversation
from vision_ift._conversation import Conversation, Message, to_batch
from vision_ift._errors import IntegrityError, MissingInputError
from vision_ift._table import (
    GROUP_ROWS,
    REPORT,
    Table,
    TableWriter,
    content_digest,
    row_digests,
)


def test_rows_come_back_in_any_order(make_table: MakeTable) -> None:
    table = make_table(2 * GROUP_ROWS + 100)
    asked = np.array([5, 2 * GROUP_ROWS, 3, GROUP_ROWS - 1, GROUP_ROWS, 5, 0])
    assert table.take(asked)["id"].to_pylist() == [f"llava/{n}" for n in asked]
    assert table.take(np.array([], np.int64)).num_rows == 0
    assert sum(batch.num_rows for batch in table.batches()) == len(table)


def test_the_digest_does_not_depend_on_the_batches(tmp_path: Path) -> None:
    whole = to_batch([conversation(n) for n in range(300)], source="s")
    digests = set()
    for number, size in enumerate((300, 7, 100)):
        folder = tmp_path / str(number)
        folder.mkdir()
        writer = TableWriter(folder)
        for start in range(0, 300, size):
            writer.write(whole.slice(start, size))
        digests.add(writer.close())
    assert len(digests) == 1


values = st.lists(
    st.fixed_dictionaries(
        {
            "a": st.none() | st.text(max_size=3),
            "b": st.none() | st.lists(st.none() | st.text(max_size=2), max_size=3),
        }
    ),
    max_size=8,
)


@given(values, values)
@settings(max_examples=300)
def test_equal_contents_and_equal_digests_are_the_same_thing(
    one: list[dict[str, object]], other: list[dict[str, object]]
) -> None:
    schema = pa.schema([("a", pa.string()), ("b", pa.list_(pa.string()))])

    def digest(rows: list[dict[str, object]], cut: int) -> bytes:
        table = pa.Table.from_pylist(rows + [{"a": "tail", "b": []}] * cut, schema)
        return content_digest(table.slice(0, len(rows)))

    assert (digest(one, 0) == digest(other, 0)) == (one == other)
    assert digest(one, 0) == digest(one, 3)  # a slice of a longer array is the same content


talks = st.lists(
    st.builds(
        lambda texts, paths: Conversation(
            id="1",
            images=tuple(paths),
            image_paths=tuple(paths),
            messages=tuple(Message.of("user", text, images=n) for n, text in enumerate(texts)),
        ),
        st.lists(st.sampled_from(["a", "b", "ab", "ba", ""]), max_size=4),
        st.lists(st.sampled_from(["x", "y", "xy"]), max_size=2),
    ),
    min_size=1,
    max_size=12,
)


@given(talks, st.integers(0, 5))
def test_rows_that_say_the_same_have_the_same_digest(rows: list[Conversation], cut: int) -> None:
    batch = to_batch(rows, source="s")
    digests = row_digests(batch)
    assert row_digests(batch.slice(cut)) == digests[cut:]  # wherever a row lies
    said = [(row.messages, row.image_paths) for row in rows]
    for one, digest in zip(said, digests, strict=True):
        for other, theirs in zip(said, digests, strict=True):
            assert (one == other) == (digest == theirs)


def test_a_flipped_byte_is_found(make_table: MakeTable) -> None:
    table = make_table(2000)
    path = table.path / table.report.parts[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match=r"(?i)crc|checksum|corrupt|unexpected"):
        list(table.batches())


def test_an_unfinished_or_foreign_folder_is_no_table(tmp_path: Path, make_table: MakeTable) -> None:
    with pytest.raises(MissingInputError, match=r"build\.json is missing"):
        Table(tmp_path)
    (tmp_path / REPORT).write_text("{")
    with pytest.raises(IntegrityError, match=r"build\.json"):
        Table(tmp_path)
    table = make_table(3)
    report = (table.path / REPORT).read_text()
    (table.path / REPORT).write_text(report.replace('"schema_version":1', '"schema_version":99'))
    with pytest.raises(IntegrityError, match="schema version 99"):
        Table(table.path)


def test_any_parquet_reader_reads_a_part(make_table: MakeTable, tmp_path: Path) -> None:
    table = make_table(50)
    assert pq.read_table(table.path / table.report.parts[0]).num_rows == 50
    rows = load_dataset(
        "parquet",
        data_files=str(table.path / "part-*.parquet"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert rows.features["images"].feature.__class__.__name__ == "Image"
    assert rows[3]["messages"][1]["content"] == [{"type": "text", "text": "answer"}]
