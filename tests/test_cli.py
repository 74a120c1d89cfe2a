"""The command line as scripts use it: spelling, JSON, exit codes, streams."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from vision_ift._cli import console as _console
from vision_ift._cli import main as _cli
from vision_ift._errors import UsageError
from vision_ift._recipe.recipe import shipped

RUN = [sys.executable, "-m", "vision_ift"]


@pytest.fixture
def tables(drawn_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = drawn_root.parent / "tables"
    monkeypatch.setenv("VISION_IFT_TABLES", str(folder))
    monkeypatch.delenv("VISION_IFT_ROOT", raising=False)
    return folder


def called(*words: object) -> tuple[int, str, str]:
    """Run a command in this process as ``main`` does: exit code, stdout, stderr."""
    result = CliRunner().invoke(_cli.app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def answer(*words: object) -> Any:
    code, out, _ = called(*words)
    assert code == 0
    return json.loads(out)


def ended(*words: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    return subprocess.run(
        [*RUN, *(str(word) for word in words)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, **(env or {})},
    )


def test_build_gives_the_keys_that_scripts_rely_on(
    drawn_root: Path, tables: Path, tmp_path: Path
) -> None:
    made = answer(
        "build",
        "coco_ift",
        "--root",
        drawn_root,
        "--out",
        tmp_path / "out",
        "--option",
        "rounds=single",
        "--option",
        "tasks=vqav2",
        "--jobs",
        2,
        "--json",
    )
    assert made["schema_version"] == 1
    assert made["rows"] > 0
    assert made["images"] == made["rows"]
    assert isinstance(made["dropped"], dict)
    assert (tmp_path / "out" / "build.json").exists()
    code, out, _ = called("build", "coco_ift", "--root", drawn_root)
    assert code == 0
    assert "coco_ift: " in out


def test_plan_and_export_give_the_keys_that_scripts_rely_on(
    drawn_root: Path, tables: Path, tmp_path: Path
) -> None:
    planned = answer("plan", "coco_mix", "--root", drawn_root, "--json")
    assert planned["rows"] == sum(part["delivered"] for part in planned["sources"])
    assert planned["images"] == sum(part["images"] for part in planned["sources"])
    assert [part["name"] for part in planned["sources"]] == [
        "coco_ift",
        "vision_flan",
        "mminstruct",
        "mm_instruct",
    ]
    out = tmp_path / "shards"
    words = ["export", "coco_mix", "--root", drawn_root, "--out", out, "--total", 300, "--json"]
    dry = answer(*words, "--dry-run")
    assert not out.exists()
    made = answer(*words, "--shard-bytes", 1_500_000, "--jobs", 2)
    assert (made["rows"], made["dropped"]) == (300, {})
    assert made["images"] == dry["images"]
    assert made["plan_digest"] == dry["plan_digest"] != planned["plan_digest"]
    tars = sorted(out.glob("*.tar"))
    assert made["shards"] == len(tars) > 1
    assert made["bytes"] == sum(path.stat().st_size for path in tars)
    assert len(made["export_digest"]) == 32


def test_every_shipped_recipe_is_planned_on_the_drawn_root(drawn_root: Path, tables: Path) -> None:
    for name in shipped():
        planned = answer("plan", name, "--root", drawn_root, "--json")
        assert planned["rows"] > 0
        assert planned["missing"] == {}
    two = answer("plan", "vision_flan_two_stage", "--root", drawn_root, "--json")
    assert [stage["name"] for stage in two["stages"]] == ["base", "chat"]
    assert two["stages"][1]["stop"] - two["stages"][1]["start"] == 1000
    assert any("is read" in warning for warning in two["warnings"])


def test_a_recipe_file_is_taken_by_its_path(drawn_root: Path, tables: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nmix: [{source: vision_flan, count: 7}]\n")
    lock = tmp_path / "lock.json"
    planned = answer("plan", path, "--root", drawn_root, "--lock", lock, "--json")
    assert (planned["name"], planned["rows"]) == ("mine", 7)
    assert json.loads(lock.read_text())["digest"] == planned["plan_digest"]
    assert str(tmp_path) not in lock.read_text()


def test_sources_are_listed(tables: Path) -> None:
    listed = answer("sources", "--json")
    assert {"coco_ift", "llava", "messages", "vision_flan"} <= {
        one["name"] for one in listed["sources"]
    }
    assert all(one["title"] and one["license"] for one in listed["sources"])
    code, out, _ = called("sources")
    assert code == 0
    assert "coco_mix" in out


WRONG = [
    (["build", "cocoift"], 2, "no source named 'cocoift'", "did you mean coco_ift?"),
    (["build", "coco_ift", "--option", "rounds"], 2, "--option rounds", "key=value"),
    (["build", "coco_ift", "--option", "round=x"], 2, "option of coco_ift", "did you mean rounds"),
    (["build", "coco_ift", "--option", "rounds=x"], 2, "option rounds=x of coco_ift", ""),
    (["build", "coco_ift", "--root", "/nowhere"], 66, "no folder /nowhere", "fetch coco_ift"),
    (["plan", "coco_mx"], 2, "no recipe named 'coco_mx'", "did you mean coco_mix?"),
    (["plan", "./none.yaml"], 66, "recipe ./none.yaml cannot be read", ""),
    (["plan", "vision_flan_two_stage", "--total", "5", "--root", "ROOT"], 65, "has stages", ""),
    (["fetch", "nothing"], 2, "no source named 'nothing'", ""),
]


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"), WRONG, ids=[" ".join(one[0]) for one in WRONG]
)
def test_what_is_wrong_is_said_with_its_exit_code(
    words: list[str],
    code: int,
    message: str,
    hint: str,
    drawn_root: Path,
    tables: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [str(drawn_root) if word == "ROOT" else word for word in words]
    monkeypatch.setattr(sys, "argv", ["vision-ift", *words, "--json"])
    with pytest.raises(SystemExit) as caught:
        _cli.main()
    out, err = capsys.readouterr()
    assert caught.value.code == code
    error = json.loads(out)["error"]
    assert message in error["message"]
    assert hint in error["hint"]
    assert error["code"]
    assert message in err.replace("\n", " ")
    assert "Traceback" not in err


def test_a_process_ends_as_promised(tmp_path: Path) -> None:
    done = ended("build", "coco_ift", "--root", tmp_path / "none", env={"COLUMNS": "40"})
    assert done.returncode == 66
    assert done.stdout == ""
    assert done.stderr.startswith("error: source coco_ift: there is no folder")
    assert "  try: " in done.stderr
    assert ended("build").returncode == 2
    unknown = ended("buld", "--json")
    assert unknown.returncode == 2
    assert json.loads(unknown.stdout)["error"]["code"] == "usage"
    assert "Did you mean 'build'?" in unknown.stderr
    assert ended().returncode in (0, 2)  # the help
    assert ended("plan", "--help").returncode == 0
    assert ended("--version").stdout.startswith("vision_ift 0.")


def test_a_missing_source_is_named_with_the_command_that_brings_it(
    drawn_root: Path, tables: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for name in ("coco", "vision_flan", "vqav2"):
        (root / name).symlink_to(drawn_root / name)
    from vision_ift._errors import MissingInputError

    with pytest.raises(MissingInputError, match="vision-ift fetch mminstruct") as caught:
        called("plan", "coco_mix", "--root", root)
    assert "--allow-missing" in str(caught.value)
    planned = answer("plan", "coco_mix", "--root", root, "--allow-missing", "--json")
    assert set(planned["missing"]) == {"mminstruct", "mm_instruct"}
    assert "coco_ift 57.1%, vision_flan 42.9%" in planned["missing"]["mminstruct"]


def test_control_characters_of_data_do_not_reach_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _console.show_table(["a", "b#"], [["\x1b]0;owned\x07 [bold]x[/bold]", 1234]])
    _console.say("\x1b[2J")
    with pytest.raises(SystemExit):
        _console.finish(UsageError("bad \x1b[31m name \x9b"), as_json=False)
    out, err = capsys.readouterr()
    assert "\x1b]" not in out + err
    assert "\x1b[2J" not in out + err
    assert "\x9b" not in out + err
    assert "[bold]x[/bold]" in out  # data is not markup
    assert "1,234" in out


def test_a_stop_leaves_nothing_half_done(drawn_root: Path, tables: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    words = ["export", "coco_mix", "--root", drawn_root, "--out", out, "--shard-bytes", 20_000]
    process = subprocess.Popen(
        [*RUN, *(str(word) for word in words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    for _ in range(600):
        if len(list(out.glob("*.tar"))) > 3 or process.poll() is not None:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode in (143, 0)  # 0: it was faster than the signal
    assert answer(*words, "--json")["rows"] > 0
    whole = answer(*words[:4], "--out", tmp_path / "whole", *words[6:], "--json")
    again = answer(*words, "--json")
    assert again["export_digest"] == whole["export_digest"]
    assert not list(out.rglob("*.tmp*"))
