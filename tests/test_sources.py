"""What ``vision-ift sources`` says of a root."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vision_ift._build import build
from vision_ift._cli import main as _cli
from vision_ift._sources import Standing, stand


def of(name: str, root: Path, tables: Path) -> Standing:
    return next(one for one in stand(root=root, tables=tables) if one.name == name)


def test_a_source_is_present_partly_there_or_missing(drawn_root: Path, tmp_path: Path) -> None:
    root, tables = tmp_path / "root", tmp_path / "tables"
    root.mkdir()
    assert {one.state for one in stand(root=root, tables=tables)} == {"missing"}
    (root / "vision_flan").mkdir()
    (root / "vision_flan/metadata.json").write_text("this is not read")
    flan = of("vision_flan", root, tables)
    assert flan.state == "partly"
    assert flan.here == ("annotations, 191 tasks",)
    assert flan.missing["pictures, 191 tasks"][0] == "vision_flan/image_191-task_1k.zip"
    (root / "vision_flan/images_191task_1k").mkdir()
    assert of("vision_flan", root, tables).state == "partly", "an empty folder is not there"
    (root / "vision_flan/images_191task_1k/1.jpg").touch()
    assert of("vision_flan", root, tables).state == "present"
    drawn = {one.name: one.state for one in stand(root=drawn_root, tables=tables)}
    assert drawn["vision_flan"] == drawn["mminstruct"] == "present"
    assert drawn["coco_ift"] in ("present", "partly")


def test_counts_claimed_stand_beside_counts_found(
    drawn_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = tmp_path / "tables"
    made = build("mminstruct", root=drawn_root, tables=tables)
    build("mminstruct", root=drawn_root, tables=tables, options={"subset": "qa"})
    (tables / "mminstruct-broken").mkdir()
    (tables / "mminstruct-broken/build.json").write_text("{")
    monkeypatch.chdir(tmp_path)
    found = of("mminstruct", drawn_root, tables)
    assert [one.options for one in found.built] == [{}, {"subset": "qa"}]
    assert found.built[0].current
    assert found.built[0].rows == made.report.rows
    assert found.built[0].dropped == sum(made.report.dropped.values())
    assert 973_000 in found.claimed.values()
    assert 378_186 in found.claimed.values()
    other = of("mminstruct", tmp_path / "nowhere", tables)
    assert [one.current for one in other.built] == [False, False]
    assert "found: " in "\n".join(other.lines())


def test_the_table_is_readable_at_eighty_columns(
    drawn_root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("VISION_IFT_TABLES", str(tmp_path))
    shown = CliRunner().invoke(_cli.app, ["sources", "--root", str(drawn_root)])
    assert shown.exit_code == 0
    assert "vision_flan: present" in shown.stdout
    assert "licence: " in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
    answer = json.loads(
        CliRunner().invoke(_cli.app, ["sources", "--root", str(tmp_path), "--json"]).stdout
    )
    flan = next(one for one in answer["sources"] if one["name"] == "vision_flan")
    assert flan["state"] == "missing"
    assert flan["claimed"]
    assert flan["languages"] == ["en"]
    assert answer["recipes"]
