"""The rules that every source obeys, whoever wrote it."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest

from vision_ift import _registry
from vision_ift._build import build
from vision_ift._builder import Builder
from vision_ift._errors import MissingInputError, RecordError
from vision_ift._pictures.images import Images, image_format
from vision_ift._table import Table

FIXTURES = Path(__file__).parents[1] / "fixtures"

pytestmark = pytest.mark.parametrize("name", _registry.names())


def fixture_of(name: str) -> Path:
    folder = FIXTURES / name
    for wanted in ("root", "expected.jsonl"):
        if not (folder / wanted).exists():
            pytest.fail(
                f"no fixture for {name}: add tests/fixtures/{name}/{wanted} (root: a few of the "
                "source's files as users have them, a broken record among them; expected.jsonl: "
                "the rows that they make, written by hand or read through)"
            )
    return folder


def made(name: str, out: Path, **options: Any) -> Table:
    return build(name, root=fixture_of(name) / "root", out=out, **options)


def rows_of(table: Table) -> list[dict[str, Any]]:
    return [row for batch in table.batches() for row in batch.to_pylist()]


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row as ``expected.jsonl`` writes it: a part is ``image`` or ``text: …``."""
    messages = [
        {
            "role": message["role"],
            "content": [
                part["type"] if part["text"] is None else f"{part['type']}: {part['text']}"
                for part in message["content"]
            ],
        }
        for message in row["messages"]
    ]
    images = [image["path"] for image in row["images"]]
    return row | {"images": images, "messages": messages, "meta": json.loads(row["meta"])}


def test_says_who_made_it_and_where_it_comes_from(name: str) -> None:
    builder = _registry.find(name)
    assert builder.name == name
    assert inspect.getdoc(type(builder)) != inspect.getdoc(Builder)
    assert builder.title
    assert builder.homepage.startswith("https://")
    assert builder.license
    assert re.match(r"@\w+\{\w+,", builder.citation)
    assert builder.citation.count("{") == builder.citation.count("}")
    assert all(re.fullmatch("[a-z]{2}", language) for language in builder.languages)
    assert builder.languages
    assert builder.files
    assert not any(pattern.startswith(("/", "~")) or ".." in pattern for pattern in builder.files)
    assert builder.hub or builder.by_hand
    assert bool(builder.hub) == bool(builder.hub_files)


def test_options_have_a_type_and_a_default(name: str) -> None:
    builder = _registry.find(name)
    for option, parameter in builder.parameters().items():
        assert parameter.default is not parameter.empty, option
        assert parameter.annotation is not parameter.empty, option
    batches = inspect.signature(builder.batches).parameters
    if not any(one.kind is one.VAR_KEYWORD for one in batches.values()):
        taken = {option: one.default for option, one in batches.items() if option != "run"}
        del taken["root"]
        assert taken == {option: one.default for option, one in builder.parameters().items()}


def test_fixture_makes_the_expected_rows(name: str, tmp_path: Path) -> None:
    expected = (fixture_of(name) / "expected.jsonl").read_text("utf-8").splitlines()
    found = [plain(row) for row in rows_of(made(name, tmp_path / "table"))]
    assert found == [json.loads(line) for line in expected]


def test_rows_are_the_same_twice_and_in_other_processes(name: str, tmp_path: Path) -> None:
    once = made(name, tmp_path / "once")
    twice = made(name, tmp_path / "twice")
    several = made(name, tmp_path / "several", jobs=2)
    assert once.digest == twice.digest == several.digest
    assert once.report == twice.report == several.report


def test_single_conversations_and_batches_are_the_same_rows(name: str, tmp_path: Path) -> None:
    builder = _registry.find(name)
    root = fixture_of(name) / "root"
    single = list(builder.gather(builder.conversations(root)))
    columns = list(builder.batches(root))
    for one in (single, columns):
        assert all(batch.rows.schema.equals(one[0].rows.schema) for batch in one)
    assert [row for batch in single for row in batch.rows.to_pylist()] == [
        row for batch in columns for row in batch.rows.to_pylist()
    ]
    assert [one for batch in single for one in batch.dropped] == [
        one for batch in columns for one in batch.dropped
    ]
    assert [one for batch in single for one in batch.absent] == [
        one for batch in columns for one in batch.absent
    ]


def test_ids_are_unique_and_begin_with_the_source(name: str, tmp_path: Path) -> None:
    ids = [row["id"] for row in rows_of(made(name, tmp_path / "table"))]
    assert len(set(ids)) == len(ids)
    assert all(one.startswith(f"{name}/") for one in ids)


def test_references_lead_to_pictures(name: str, tmp_path: Path) -> None:
    images = Images(fixture_of(name) / "root")
    for row in rows_of(made(name, tmp_path / "table")):
        for image in row["images"]:
            assert image["bytes"] is None
            assert image_format(images.read(image["path"])) is not None


def test_prompts_alone_end_with_a_question(name: str, tmp_path: Path) -> None:
    prompts = _registry.find(name).prompt_splits
    for row in rows_of(made(name, tmp_path / "table")):
        last = "user" if row["split"] in prompts else "assistant"
        assert row["messages"][-1]["role"] == last


def test_strict_stops_at_the_first_broken_record(name: str, tmp_path: Path) -> None:
    assert made(name, tmp_path / "lenient").report.dropped
    with pytest.raises(RecordError) as caught:
        made(name, tmp_path / "table", strict=True)
    assert caught.value.source == name
    assert not (tmp_path / "table").exists()


def test_inputs_exist_and_lie_under_the_root(name: str) -> None:
    root = fixture_of(name) / "root"
    inputs = _registry.find(name).inputs(root)
    assert inputs == sorted(set(inputs))
    assert any(path.is_file() for path in inputs)
    assert all(path.exists() and path.is_relative_to(root) for path in inputs)


def test_an_empty_root_is_a_missing_input(name: str, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with pytest.raises(MissingInputError):
        build(name, root=tmp_path / "root", out=tmp_path / "table")
