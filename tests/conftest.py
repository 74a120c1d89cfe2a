"""Fixtures that several test files share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import birds
from tests.rows import MakeTable, table_of
from vision_ift import _registry
from vision_ift._conversation import Conversation
from vision_ift._table import Table

os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Scripts that run in environments of their own, where their packages are.
collect_ignore_glob = ["readers/read_*.py", "convert/read_*.py"]

# A slow machine is no fault of a test.
settings.register_profile("any", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of another package that brings the source ``birds``, installed."""

    def forget() -> None:
        _registry._modules.cache_clear()
        _registry.find.cache_clear()
        # It lists the sources when it is imported; and another test's copy of the package lies
        # in another folder.
        for name in ("vision_ift._hf_builder", "birds_of_others", "birds_of_others.birds"):
            sys.modules.pop(name, None)

    folder = tmp_path_factory.mktemp("others")
    birds.install(folder)
    sys.path.insert(0, str(folder))
    forget()
    yield folder
    sys.path.remove(str(folder))
    forget()


@pytest.fixture(scope="session")
def drawn_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root drawn by the demo; nobody writes to it."""
    from vision_ift.demo import draw

    root = tmp_path_factory.mktemp("drawn") / "root"
    draw(root)
    return root


@pytest.fixture
def make_table(tmp_path: Path) -> MakeTable:
    """Write a table of conversations, or of so many plain ones."""
    made = 0

    def make(rows: int | Iterable[Conversation], *, source: str = "llava") -> Table:
        nonlocal made
        made += 1
        return table_of(tmp_path / f"table-{made}", rows, source=source)

    return make
