"""The two commands: exit codes, files, and the list compiled for Energon."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from tests.likeness.drawn import asked, encoded, photo, table
from vision_ift._cli import likeness as _cli_likeness  # noqa: F401 - registers the commands
from vision_ift._cli.options import app
from vision_ift._export.export import export
from vision_ift._plan.plan import plan


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    return result.exit_code, result.stdout


def lay(folder: Path) -> tuple[Path, Path]:
    root, against = folder / "root", folder / "bench"
    for place in (root, against):
        place.mkdir()
    for n in range(6):
        (root / f"{n}.jpg").write_bytes(encoded(photo(n)))
    (against / "x.jpg").write_bytes(encoded(photo(2), quality=50))
    rows = [asked(str(n), [f"Question {n}?"], [f"{n}.jpg"]) for n in range(6)]
    rows.append(asked("again", ["question 5"], ["5.jpg"]))
    table(folder / "table", rows)
    return root, against


def test_decontaminate_says_what_it_found_and_how_it_ends(tmp_path: Path) -> None:
    root, against = lay(tmp_path)
    out = tmp_path / "found"
    words = ("decontaminate", tmp_path / "table", "--root", root, "--against", against)
    code, said = run(*words, "--out", out, "--json")
    assert code == 1
    report = json.loads(said)
    assert report["schema_version"] == 1
    assert report["listed_by_reason"] == {"benchmark_picture": 1}
    assert sorted(path.name for path in out.iterdir()) == [
        *("evidence.parquet", "exclude.jsonl", "pairs.html", "report.json"),
    ]
    assert json.loads((out / "exclude.jsonl").read_text())["id"] == "llava/2"
    code, said = run(*words)
    assert code == 1
    assert "1 rows are listed" in said
    (against / "x.jpg").write_bytes(encoded(photo(77)))
    code, said = run(*words)
    assert (code, said.splitlines()[0]) == (0, "0 rows are listed")


def test_duplicates_says_what_it_found_and_how_it_ends(tmp_path: Path) -> None:
    root, _ = lay(tmp_path)
    out = tmp_path / "copies"
    words = ("duplicates", tmp_path / "table", "--root", root)
    code, said = run(*words, "--out", out, "--json")
    assert code == 1
    assert json.loads(said)["copies"] == 1
    assert pq.read_table(out / "groups.parquet").to_pylist() == [
        {"id": "llava/5", "part": "llava", "group": "llava/5", "kept": True},
        {"id": "llava/again", "part": "llava", "group": "llava/5", "kept": False},
    ]
    assert json.loads((out / "exclude.jsonl").read_text())["id"] == "llava/again"
    code, _ = run(*words, "--by", "picture", "--near", "--jobs", 2)
    assert code == 1
    (root / "5.jpg").unlink()
    code, said = run(*words)
    assert code == 0
    assert said.startswith("7 rows, 5 compared by both: 0 groups")


def test_options_that_cannot_be_meant(tmp_path: Path) -> None:
    from vision_ift._errors import MissingInputError, UsageError

    root, against = lay(tmp_path)
    words = ("decontaminate", tmp_path / "table", "--root", root, "--against", against)
    with pytest.raises(UsageError, match="--export without --out"):
        run(*words, "--export", tmp_path)
    with pytest.raises(MissingInputError, match="no finished export"):
        run(*words, "--export", tmp_path, "--out", tmp_path / "found")
    with pytest.raises(MissingInputError, match="no finished table"):
        run("duplicates", against)


@pytest.mark.parametrize("uniform", [False, True])
def test_the_list_compiles_to_energons_split(
    uniform: bool, drawn_root: Path, tmp_path: Path
) -> None:
    tables, out = drawn_root.parent / "tables", tmp_path / "export"
    made = plan("coco_mix", root=drawn_root, tables=tables, total=60)
    export(made, out=out, shard_bytes=200_000, uniform=uniform)
    against = drawn_root / "coco" / "train2014"
    found = tmp_path / "found"
    code, said = run(
        *("decontaminate", "coco_mix", "--root", drawn_root, "--tables", tables),
        *("--against", against, "--out", found, "--export", out, "--json"),
    )
    assert code == 1
    listed = {
        json.loads(line)["id"] for line in (found / "exclude.jsonl").read_bytes().splitlines()
    }
    written = json.loads(said)["splits"]
    assert written
    excluded: list[str] = []
    names: list[str] = []
    for path in written:
        split = YAML(typ="safe").load((found / path).read_text())
        theirs = (out / path).with_name(".nv-meta") / "split.yaml"
        there = YAML(typ="safe").load(theirs.read_text())
        assert split["split_parts"] == there["split_parts"]
        group = path.rpartition("/")[0]
        names += [f"{group}/{name}".lstrip("/") for name in split["split_parts"]["train"]]
        excluded += [f"{group}/{one}".lstrip("/") for one in split["exclude"]]
    wanted = []
    for name in names:
        with tarfile.open(out / name) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    file = tar.extractfile(member)
                    assert file is not None
                    if json.load(file)["id"] in listed:
                        wanted.append(f"{name}/{member.name.partition('.')[0]}")
    assert sorted(excluded) == sorted(wanted)
    assert wanted
