"""The public surface, and what the documents say of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import vision_ift
from vision_ift._cli import main as _cli
from vision_ift._errors import REASONS
from vision_ift._recipe.recipe import shipped

HERE = Path(__file__).parents[1]


def test_the_public_names_are_sorted_few_and_there() -> None:
    assert vision_ift.__all__ == sorted(vision_ift.__all__)
    assert len(vision_ift.__all__) <= 20
    for name in vision_ift.__all__:
        value = getattr(vision_ift, name)
        assert value.__doc__, name
    assert set(vision_ift.__all__) <= set(dir(vision_ift))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = vision_ift.nothing


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, vision_ift; "
        "heavy = {'numpy', 'pyarrow', 'datasets', 'duckdb', 'PIL', 'typer'} & set(sys.modules); "
        "print(sorted(heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_the_readme_names_every_command_source_and_recipe() -> None:
    readme = (HERE / "README.md").read_text("utf-8")
    commands = typer.main.get_command(_cli.app).commands  # type: ignore[attr-defined]  # a group
    for word in [*commands, *vision_ift.sources(), *shipped()]:
        assert re.search(rf"\b{word}\b", readme), word


def test_every_reason_is_documented() -> None:
    text = (HERE / "docs" / "sources.md").read_text("utf-8")
    for reason in REASONS:
        assert f"`{reason}`" in text, reason


def test_every_command_shows_an_example() -> None:
    for name, command in typer.main.get_command(_cli.app).commands.items():  # type: ignore[attr-defined]  # a group
        assert "vision-ift" in (command.help or ""), name
