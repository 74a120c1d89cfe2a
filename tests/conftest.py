"""Fixtures that several test files share."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.rows import MakeTable, table_of
from vision_ift._conversation import Conversation
from vision_ift._table import Table

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture
def make_table(tmp_path: Path) -> MakeTable:
    """Write a table of conversations, or of so many plain ones."""
    made = 0

    def make(rows: int | Iterable[Conversation], *, source: str = "llava") -> Table:
        nonlocal made
        made += 1
        return table_of(tmp_path / f"table-{made}", rows, source=source)

    return make
