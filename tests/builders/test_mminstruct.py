"""MMInstruct: subsets, domains, and the language of each row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vision_ift._build import build
from vision_ift._errors import UsageError
from vision_ift._registry import find

FIXTURE = Path(__file__).parents[1] / "fixtures" / "mminstruct" / "root"


def rows(tmp_path: Path, **options: Any) -> list[dict[str, Any]]:
    table = build("mminstruct", root=FIXTURE, out=tmp_path / str(options), options=options)
    return [row for batch in table.batches() for row in batch.to_pylist()]


def test_subsets_part_the_rows(tmp_path: Path) -> None:
    captions = rows(tmp_path, subset="captions")
    questions = rows(tmp_path, subset="qa")
    assert len(captions) + len(questions) == len(rows(tmp_path))
    assert {row["meta"] for row in captions} == {'{"config":"caption_en"}'}
    assert {row["meta"] for row in questions} == {'{"config":"qa_en"}'}


def test_language_is_found_row_by_row(tmp_path: Path) -> None:
    captions = rows(tmp_path, subset="captions")
    assert [row["language"] for row in captions] == ["zh", "en"]


def test_the_domain_is_the_pictures_first_folder(tmp_path: Path) -> None:
    assert {row["task"] for row in rows(tmp_path)} == {"artwork", "image_comparison", "ocr"}


def test_inputs_are_those_of_the_subset() -> None:
    names = [path.name for path in find("mminstruct").inputs(FIXTURE, subset="qa")]
    assert names == ["images", "images.zip", "qa_en.jsonl"]


def test_an_unknown_subset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="subset"):
        rows(tmp_path, subset="everything")
