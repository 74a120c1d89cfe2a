"""The command ``convert``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vision_ift._cli.main import app
from vision_ift._errors import UsageError


def _run(*words: str | Path) -> str:
    result = CliRunner().invoke(app, ["convert", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(autouse=True)
def tables(monkeypatch: pytest.MonkeyPatch, drawn_root: Path) -> None:
    monkeypatch.setenv("VISION_IFT_TABLES", str(drawn_root.parent / "tables"))


def test_a_recipe_a_source_and_back(drawn_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = json.loads(
        _run(
            "coco_mix",
            *("--root", drawn_root, "--to", "llamafactory", "--images", "copy"),
            *("--out", out, "--total", "50", "--json"),
        )
    )
    assert told["written"]["rows"] == 50
    assert len(json.loads((out / "coco_mix.json").read_text("utf-8"))) == 50
    told = json.loads(
        _run(out / "coco_mix.json", "--from", "llamafactory", "--out", tmp_path / "table", "--json")
    )
    # What a plan gives several times is one row of a table.
    assert told["read"]["rows"] + told["read"]["dropped"].get("duplicate_id", 0) == 50
    text = _run("coco_ift", "--root", drawn_root, "--to", "qwen", "--out", out)
    assert "coco_ift.qwen.py" in text
    assert sorted(path.name for path in out.glob("*.convert.json")) == [
        "coco_ift.qwen.convert.json",
        "coco_mix.llamafactory.convert.json",
    ]


def test_from_one_format_to_another(drawn_root: Path, tmp_path: Path) -> None:
    _run("coco_ift", "--root", drawn_root, "--to", "llava", "--out", tmp_path / "a")
    text = _run(
        tmp_path / "a/coco_ift.json",
        *("--from", "llava", "--root", drawn_root, "--to", "openai", "--out", tmp_path / "b"),
        "--dry-run",
    )
    assert "would write" in text
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("coco_ift",),
        ("coco_ift", "vision_flan", "--to", "llava"),
        ("coco_ift", "--to", "llava", "--images", "png"),
        ("a.json", "--from", "llava", "--total", "5"),
        ("a.json", "--from", "llava", "--dry-run"),
        ("coco_ift", "--to", "llava", "--total", "5"),
        ("coco_ift", "--to", "lava"),
    ],
)
def test_what_cannot_be_meant(words: tuple[str, ...], drawn_root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        CliRunner().invoke(
            app,
            ["convert", *words, "--root", str(drawn_root), "--out", str(tmp_path / "o")],
            catch_exceptions=False,
        )
    assert not (tmp_path / "o").exists()
