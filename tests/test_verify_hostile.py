"""Exports made to harm: nothing is read outside, and nothing ends in a trace."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc
import pytest
from typer.testing import CliRunner

import vision_ift._cli.verify  # noqa: F401 - registers the command
from tests.exports import small_plan
from vision_ift._cli import main as _cli
from vision_ift._errors import IntegrityError, VisionIFTError
from vision_ift._export.export import export
from vision_ift._export.manifest import INDEX_SCHEMA
from vision_ift._verify.finding import opened, read_bytes
from vision_ift._verify.verify import VerifyReport, verify

CANARY = b"the canary's song"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    export(small_plan(folder, rows=12), out=folder / "out", shard_bytes=20_000)
    return folder / "out"


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    (tmp_path / "canary.tar").write_bytes(CANARY)
    return Path(shutil.copytree(whole, tmp_path / "out"))


def looked_at(out: Path) -> VerifyReport:
    """Check everything; whatever is there ends in a report."""
    report = verify(out, read_data=True, readers=True)
    assert not report.sound
    assert CANARY.decode() not in str(report)
    return report


def rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_bytes()))))


NAMES = [
    "../canary.tar",
    "/etc/passwd",
    "a/../../canary.tar",
    "x\0.tar",
    "",
    ".",
    "a\\b.tar",
    "é" * 5000,
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_that_lead_out_are_refused(name: str, out: Path) -> None:
    with pytest.raises(IntegrityError), opened(out, name):
        raise AssertionError(name)

    def change(manifest: Any) -> Any:
        manifest["shards"][1]["name"] = name
        return manifest

    rewrite(out / "vision_ift/manifest.json", change)
    assert "vision_ift/manifest.json" in {one.file for one in looked_at(out).findings}
    (out / "vision_ift/layout.json").unlink()
    looked_at(out)


@pytest.mark.parametrize("split", ["../up", "a/b", "", "x" * 1000, "."])
def test_a_split_that_leads_out_is_refused(split: str, out: Path) -> None:
    for file in ("layout.json", "manifest.json"):
        rewrite(out / "vision_ift" / file, lambda value: {**value, "split": split})
    assert "vision_ift/layout.json" in {one.file for one in looked_at(out).findings}


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 10**18},
        {"rows": 10**9, "rows_per_shard": 1},
        {"rows_per_shard": 0},
        {"rows_per_shard": -3},
        {"rows": 0},
        {"rows": "many"},
        {"rows": None},
        {"rows": 1e400},
        {"plan_digest": "../x"},
        {"plan_digest": 7},
        {"schema_version": 99},
        {"uniform": True, "groups": [
            {"name": "..", "formats": [], "rows": 1, "rows_per_shard": 1, "bytes": 1}
        ]},
        {"uniform": True, "groups": []},
        {"dropped": {"missing_image": -5}},
    ],
    ids=str,
)  # fmt: skip
def test_a_layout_of_nonsense_is_named(change: dict[str, Any], out: Path) -> None:
    rewrite(out / "vision_ift/layout.json", lambda value: {**value, **change})
    assert "vision_ift/layout.json" in {one.file for one in looked_at(out).findings}


TEXTS = [
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"\xff\xfe",
    b"null",
    b"7",
    b'"x"',
    b'{"schema_version": 1}',
    b"{" + b" " * 100_000,
    b'{"rows": 1' + b"0" * 5000 + b"}",
]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_json_that_is_none_of_ours_is_named(text: bytes, whole: Path, tmp_path: Path) -> None:
    for name in ("manifest.json", "layout.json", "plan.json", "done/000001.json"):
        out = tmp_path / name.replace("/", "-")
        shutil.copytree(whole, out)
        (out / "vision_ift" / name).write_bytes(text)
        assert f"vision_ift/{name}" in {one.file for one in looked_at(out).findings}


def test_a_file_that_is_too_large_is_not_read(out: Path) -> None:
    with (out / "vision_ift/plan.json").open("r+b") as file:
        file.truncate(1 << 40)  # a hole: it takes no space, but reading it would
    (found,) = (one for one in looked_at(out).findings if one.file == "vision_ift/plan.json")
    assert found.kind == "plan"
    with pytest.raises(IntegrityError, match="at most"):
        read_bytes(out, "vision_ift/plan.json")


@pytest.mark.parametrize(
    "name",
    ["train-000001.tar", "vision_ift/manifest.json", "vision_ift/index.arrow", "README.md",
     "vision_ift/recipe.yaml", ".nv-meta/index.sqlite", "wids.json", "train-000000.tar.idx"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["link out", "link in", "pipe", "folder"])
def test_what_is_no_plain_file_is_not_opened(name: str, kind: str, out: Path) -> None:
    path = out / name
    data = path.read_bytes()
    path.unlink()
    if kind == "link out":
        path.symlink_to(out.parent / "canary.tar")
    elif kind == "link in":
        (out / "kept").write_bytes(data)
        path.symlink_to(out / "kept")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    found = {one.file: one.kind for one in looked_at(out).findings}
    assert found[name] == "link"


def test_a_folder_that_is_a_link_is_not_entered(out: Path) -> None:
    (out / "vision_ift/done").rename(out.parent / "done")
    (out / "vision_ift/done").symlink_to(out.parent / "done")
    assert "vision_ift/done/000000.json" in {
        one.file for one in looked_at(out).findings if one.kind == "link"
    }


def test_a_repair_writes_through_no_link(whole: Path, tmp_path: Path) -> None:
    plan = small_plan(tmp_path, rows=12)
    for name in ("vision_ift/.lock", "vision_ift/done", ".nv-meta"):
        out = tmp_path / name.replace("/", "-")
        shutil.copytree(whole, out)
        outside = tmp_path / f"outside {name.replace('/', '-')}"
        if (out / name).is_dir():
            (out / name).rename(outside)
        else:
            outside.write_bytes(CANARY)
            (out / name).unlink(missing_ok=True)
        (out / name).symlink_to(outside)
        (out / "train-000001.tar").unlink()
        before = {path: path.read_bytes() for path in outside.rglob("*")}
        try:
            assert not verify(out, repair=True, recipe=plan).sound
        except IntegrityError as error:
            assert "is a link" in str(error)
        assert {path: path.read_bytes() for path in outside.rglob("*")} == before
        assert outside.is_dir() or outside.read_bytes() == CANARY


def test_an_index_of_noise_is_named(whole: Path, tmp_path: Path) -> None:
    chance = random.Random(8)
    path = tmp_path / "out/vision_ift/index.arrow"
    shutil.copytree(whole, tmp_path / "out")
    data = path.read_bytes()
    unseen = 0
    for _ in range(150):
        harmed = bytearray(data)
        for _ in range(chance.choice((1, 1, 4, 40))):
            harmed[chance.randrange(len(harmed))] = chance.randrange(256)
        path.write_bytes(harmed)
        found = {one.file for one in verify(tmp_path / "out").findings}
        # A wrong row number is in the index alone, so either place may be the wrong one.
        assert found <= {"vision_ift/index.arrow"} | {one for one in found if "/done/" in one}
        unseen += not found
    assert unseen < 50  # padding and framing, which hold nothing


def test_a_compressed_index_is_refused_before_it_is_unpacked(out: Path) -> None:
    path = out / "vision_ift/index.arrow"
    huge = pa.RecordBatch.from_arrays(
        [
            pa.array(["\0" * 1000] * 50_000) if pa.types.is_string(field.type)
            else pa.array([[]] * 50_000, field.type) if pa.types.is_list(field.type)
            else pa.array([0] * 50_000, field.type)
            for field in INDEX_SCHEMA
        ],
        schema=INDEX_SCHEMA,
    )  # fmt: skip
    options = ipc.IpcWriteOptions(compression="zstd")
    with ipc.new_file(str(path), INDEX_SCHEMA, options=options) as writer:
        writer.write_batch(huge)
    assert path.stat().st_size < 1_000_000
    before = pa.total_allocated_bytes()
    (found,) = (one for one in looked_at(out).findings if one.file == "vision_ift/index.arrow")
    assert "compressed" in found.detail
    assert pa.total_allocated_bytes() - before < 40_000_000


def test_an_index_of_other_columns_is_named(out: Path) -> None:
    path = out / "vision_ift/index.arrow"
    with ipc.new_file(str(path), pa.schema([("key", pa.string())])) as writer:
        writer.write_batch(pa.RecordBatch.from_pydict({"key": ["a"]}))
    (found,) = (one for one in looked_at(out).findings if one.file == "vision_ift/index.arrow")
    assert "columns" in found.detail


def test_a_database_that_never_ends_is_not_asked(out: Path) -> None:
    path = out / ".nv-meta/index.sqlite"
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute(
            "CREATE VIEW samples AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) "
            "SELECT i FROM n"
        )
        database.execute("CREATE TABLE sample_parts (a)")
        database.commit()
    assert ".nv-meta/index.sqlite" in {one.file for one in looked_at(out).findings}


@pytest.mark.parametrize(
    "text", ["a: &x [*x]", "{" * 3000, "\0", "- 1", "name: [", "name: a\nname: b"]
)
def test_recipes_made_to_harm_are_named(text: str, out: Path) -> None:
    (out / "vision_ift/recipe.yaml").write_text(text)
    found = {one.file for one in verify(out).findings}
    assert found <= {"vision_ift/recipe.yaml"}


def test_the_command_ends_as_the_errors_say(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(_cli.app, ["verify", *words])
        if isinstance(result.exception, VisionIFTError):
            return result.exception.exit_code, str(result.exception)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.exit_code, result.output

    code, text = run(str(out), "--read-data", "--readers")
    assert (code, text.splitlines()[-1][:6]) == (0, "sound:")
    assert "open_clip" in text
    code, text = run(str(out), "--json", "--share", "5%")
    assert code == 0
    assert json.loads(text)["shards_read"] == 1
    assert run(str(tmp_path / "nowhere"))[0] == 66
    assert run(str(out), "--share", "nothing")[0] == 2
    with (out / "train-000001.tar").open("r+b") as file:
        file.seek(700)
        file.write(b"\x1b[2J")
    code, text = run(str(out), "--read-data")
    assert code == 76
    assert "train-000001.tar" in text
    assert "\x1b[2J" not in text
    code, text = run(str(out), "--read-data", "--json")
    assert code == 76
    assert json.loads(text[: text.rindex("}") + 1])["findings"][0]["kind"] == "digest"
