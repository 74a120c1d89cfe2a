"""The doctor says what would stop a build, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vision_ift import _doctor
from vision_ift._cli import main as _cli
from vision_ift._doctor import Finding, examine


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_doctor, "_TRIAL_BYTES", 1 << 20)
    monkeypatch.delenv("VISION_IFT_ROOT", raising=False)
    monkeypatch.delenv("VISION_IFT_TABLES", raising=False)


def found(**where: Path) -> dict[str, Finding]:
    return {one.name: one for one in examine(**where)}


def test_what_lies_under_the_root(drawn_root: Path, tmp_path: Path) -> None:
    answers = found(root=drawn_root, tables=tmp_path)
    assert answers["ROOT"].state == "ok"
    assert answers["ROOT"].data["sources"] >= 4
    assert answers["source coco_ift"].data["files"] > 5
    assert answers["source messages"].value == "not there"
    assert answers["pillow"].value[0].isdigit()
    assert answers["cores"].data["count"] >= 1
    assert answers["memory"].data["bytes"] > 1 << 28
    assert answers["writing tables"].data["bytes_per_second"] > 0
    assert not [one.name for one in answers.values() if one.state == "problem"]


def test_no_root_and_an_empty_one_stop_a_build(tmp_path: Path) -> None:
    assert found(root=tmp_path / "none", tables=tmp_path)["ROOT"].state == "problem"
    assert found(root=tmp_path, tables=tmp_path)["ROOT"].state == "problem"


def test_a_look_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / "tables"
    assert found(root=tmp_path, tables=folder)["writing tables"].state == "ok"
    assert list(tmp_path.iterdir()) == []
    folder.mkdir(parents=True)
    found(root=tmp_path, tables=folder)
    assert list(folder.iterdir()) == []


def test_tables_that_cannot_be_written_stop_a_build(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    for folder in (file, file / "tables"):
        answer = found(root=tmp_path, tables=folder)["writing tables"]
        assert answer.state == "problem"
        assert str(file) in answer.value


def test_a_full_disk_stops_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_doctor, "_LEAST_FREE", 1 << 60)
    monkeypatch.setattr(_doctor, "_SOME_FREE", 1 << 60)
    answers = found(root=tmp_path, tables=tmp_path)
    assert answers["space for tables"].state == "problem"
    assert answers["space under ROOT"].state == "ok"  # a build writes nothing there


def test_a_missing_package_stops_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_doctor, "DECIDING", ("no-such-package",))
    answer = found(root=tmp_path, tables=tmp_path)["no-such-package"]
    assert (answer.state, answer.hint) == ("problem", "pip install no-such-package")


@pytest.mark.parametrize(("limit", "state"), [(128, "problem"), (1024, "warning"), (4096, "ok")])
def test_few_open_files(
    limit: int, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, 65536))
    answer = found(root=tmp_path, tables=tmp_path)["open files"]
    assert answer.state == state
    assert answer.hint == ("" if state == "ok" else "ulimit -n 65536")


def test_a_token_is_never_shown(
    drawn_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    for words in ([], ["--json"]):
        result = CliRunner().invoke(
            _cli.app, ["doctor", "--root", str(drawn_root), "--tables", str(tmp_path), *words]
        )
        assert result.exit_code == 0
        assert "hf_canary" not in result.output
    answer = json.loads(result.stdout)
    assert answer["ready"] is True
    (token,) = [one for one in answer["findings"] if one["name"] == "HF_TOKEN"]
    assert token["data"] == {"set": True}


def test_the_exit_code_says_whether_a_build_can_start(tmp_path: Path) -> None:
    words = ["doctor", "--root", str(tmp_path / "none"), "--tables", str(tmp_path), "--json"]
    result = CliRunner().invoke(_cli.app, words)
    assert result.exit_code == 1
    assert json.loads(result.stdout)["ready"] is False
    assert os.listdir(tmp_path) == []
