"""An export: the plan's rows, the same bytes however it is made, and only what was asked."""

from __future__ import annotations

import errno
import json
import os
import pickle
import sqlite3
import struct
import subprocess
import sys
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.ipc as ipc
import pytest
import webdataset
import xxhash

from tests import birds
from tests.exports import delivered, dialog, members, picture, plan_of, small_plan, tree, wanted
from tests.rows import MakeTable, table_of
from vision_ift._errors import (
    DiskError,
    IntegrityError,
    MissingInputError,
    OutputError,
    RecordError,
    UsageError,
    VisionIFTError,
)
from vision_ift._export import export as _export
from vision_ift._export.export import export
from vision_ift._export.manifest import Manifest
from vision_ift._plan.plan import Plan

SHARD = 40_000


def manifest_of(out: Path) -> Manifest:
    return msgspec.json.decode((out / "vision_ift/manifest.json").read_bytes(), type=Manifest)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return small_plan(tmp_path)


def test_the_shards_hold_the_plans_rows_in_its_order(plan: Plan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = export(plan, out=out, shard_bytes=SHARD)
    found = members(out)
    assert [delivered(one) for one in found.values()] == wanted(plan)
    assert list(found) == sorted(found)
    assert all(
        list(one) == [*json.loads(one["json"])["images"], "json", "txt"] for one in found.values()
    )
    assert report.rows == len(plan) == 80
    assert report.images == sum(len(row["pictures"]) for row in wanted(plan))
    assert report.shards == len(list(out.glob("*.tar"))) > 3
    assert report.bytes == sum(path.stat().st_size for path in out.glob("*.tar"))
    # Rows a shard come from the mean size, so shards are about as large as asked.
    assert report.bytes / report.shards < 1.5 * SHARD
    assert json.loads(msgspec.json.encode(report))["dropped"] == {}


# webdataset leaves its files to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_hostile_rows_unchanged(tmp_path: Path, make_table: MakeTable) -> None:
    (tmp_path / "a.b").mkdir()
    (tmp_path / "a.b/__x__.JPG").write_bytes(picture(1))
    names = ["a.b/c", "__x__", "日本 ü\u2028", "x" * 5000, "../../up", "", ".", '"\\\n\0', "a.b/c "]
    rows = [
        dialog(n, ("a.b/__x__.JPG",) * (n % 3), name=name or "empty", task=name or None)
        for n, name in enumerate(names)
    ]
    plan = plan_of(tmp_path, {"__x__.tar": make_table(rows, source="__x__.tar")})
    out = tmp_path / "out"
    export(plan, out=out)
    stream = webdataset.WebDataset(str(out / "train-000000.tar"), shardshuffle=False)
    found = list(stream)
    assert [delivered(one) for one in found] == wanted(plan)
    texts = [one["txt"].decode() for one in found]
    assert texts[0].startswith("Was ist das")
    assert all("<image>" in text for text in texts)


@pytest.mark.parametrize("jobs", [2, 3])
def test_the_bytes_are_the_same_for_any_jobs(jobs: int, plan: Plan, tmp_path: Path) -> None:
    export(plan, out=tmp_path / "one", shard_bytes=SHARD)
    export(plan, out=tmp_path / "many", shard_bytes=SHARD, jobs=jobs)
    assert tree(tmp_path / "one") == tree(tmp_path / "many")


_RUN = """
import os, pickle, sys
from pathlib import Path
os.umask(int(sys.argv[3], 8))
from vision_ift._export.export import export
export(pickle.loads(Path(sys.argv[1]).read_bytes()), out=sys.argv[2], shard_bytes=40_000)
"""


def test_the_bytes_depend_on_nothing_around_them(plan: Plan, tmp_path: Path) -> None:
    export(plan, out=tmp_path / "out", shard_bytes=SHARD)
    (tmp_path / "plan").write_bytes(pickle.dumps(plan))
    (tmp_path / "elsewhere").mkdir()
    around = [
        ("022", tmp_path, {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "Asia/Tokyo"}),
        ("077", tmp_path / "elsewhere", {"PYTHONHASHSEED": "2", "LC_ALL": "C.UTF-8", "TZ": "UTC"}),
    ]
    for mask, cwd, environment in around:
        # A relative path, from another folder, for the second.
        out = os.path.relpath(tmp_path / f"out-{mask}", cwd)
        subprocess.run(
            [sys.executable, "-c", _RUN, str(tmp_path / "plan"), out, mask],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), **environment},
            check=True,
            timeout=120,
        )
        assert tree(tmp_path / f"out-{mask}") == tree(tmp_path / "out")


def test_nothing_in_an_export_names_this_machine(plan: Plan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (plan.root / "a/3.jpg").unlink()
    export(plan, out=out)
    assert not [name for name in tree(out) if str(tmp_path).encode() in (out / name).read_bytes()]
    assert (out / "vision_ift/recipe.yaml").read_text() == "name: toy\n"
    lock = json.loads((out / "vision_ift/plan.json").read_bytes())
    assert lock["digest"] == plan.digest


def test_a_tiny_export_has_these_bytes(tmp_path: Path) -> None:
    # Another digest here means that every export made so far would be written anew.
    (tmp_path / "1.jpg").write_bytes(picture(1))
    (tmp_path / "2.png").write_bytes(picture(2, kind="png"))
    rows = [dialog(0), dialog(1, ("1.jpg",), license="MIT"), dialog(2, ("1.jpg", "2.png"))]
    plan = plan_of(tmp_path, {"llava": table_of(tmp_path / "t", rows, source="llava")})
    report = export(plan, out=tmp_path / "out", shard_bytes=8000)
    assert (report.shards, report.bytes) == (2, 12288)
    assert report.export_digest == "fbd2e70fe4fcd7bee284455f06d4448b"


def test_a_finished_export_is_left_alone(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    report = export(plan, out=out, shard_bytes=SHARD)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    monkeypatch.setattr(_export, "_write", None)  # would fail if it were called
    assert export(plan, out=out, shard_bytes=SHARD) == report
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


@pytest.mark.parametrize("harm", ["remove", "cut", "record", "index", "sidecar", "manifest"])
def test_only_what_is_missing_is_written_again(harm: str, plan: Plan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(plan, out=out, shard_bytes=SHARD)
    whole = tree(out)
    shard = out / "train-000001.tar"
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    if harm == "cut":
        shard.write_bytes(shard.read_bytes()[:-512])
    else:
        gone = {
            "remove": shard,
            "record": out / "vision_ift/done/000001.json",
            "index": out / "vision_ift/done/000001.arrow",
            "sidecar": out / ".nv-meta/index.sqlite",
            "manifest": out / "vision_ift/manifest.json",
        }[harm]
        gone.unlink()
        if harm in ("record", "index"):  # a finished export needs neither
            (out / "vision_ift/manifest.json").unlink()
    for name in (".train-000001.tar.99.tmp", "vision_ift/.manifest.json.99.tmp"):
        (out / name).write_bytes(b"left by a killed run")
    export(plan, out=out, shard_bytes=SHARD)
    assert tree(out) == whole
    rewritten = {path for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert rewritten == ({shard} if harm in ("remove", "cut", "record", "index") else set())


def test_another_export_in_the_folder_is_refused(plan: Plan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(plan, out=out)
    whole = tree(out)
    other = plan_of(plan.root, {"llava": plan.tables[0]}) if plan.tables[0] else plan
    with pytest.raises(OutputError) as caught:
        export(other, out=out)
    assert plan.digest in str(caught.value)
    assert other.digest in str(caught.value)
    with pytest.raises(OutputError, match="text True, not False"):
        export(plan, out=out, text=False)
    with pytest.raises(OutputError, match="shard_bytes 500000000, not 40000"):
        export(plan, out=out, shard_bytes=SHARD)
    assert tree(out) == whole


def test_a_folder_of_something_else_is_refused(plan: Plan, tmp_path: Path) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter.tex").write_text("hello")
    with pytest.raises(OutputError, match="holds no export"):
        export(plan, out=out)
    with pytest.raises(OutputError, match="is not a folder"):
        export(plan, out=out / "chapter.tex")
    assert list(tree(out)) == ["chapter.tex"]
    (out / "chapter.tex").unlink()
    export(plan, out=out)


@pytest.mark.parametrize(
    "wrong", [{"split": "a/b"}, {"split": ""}, {"shard_bytes": 0}, {"root": "x"}, {"jobs": 0}]
)
def test_calls_that_cannot_be_meant(wrong: dict[str, Any], plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        export(plan, out=tmp_path / "out", **wrong)
    assert not list((tmp_path / "out").glob("*.tar"))


def test_pictures_that_cannot_be_exported_are_counted_and_named(plan: Plan, tmp_path: Path) -> None:
    rows = wanted(plan)
    (plan.root / "a/3.jpg").unlink()
    (plan.root / "a/4.jpg").write_bytes(b"<html>404</html>")
    (plan.root / "a/5.jpg").write_bytes(b"")
    for number in range(20, 40):
        (plan.root / f"a/{number}.jpg").unlink()
    out = tmp_path / "out"
    report = export(plan, out=out, shard_bytes=SHARD)
    gone = {f"llava/{number}" for number in (3, 4, 5, *range(20, 40))}
    assert [delivered(one) for one in members(out).values()] == [
        row for row in rows if row["id"] not in gone
    ]
    assert report.dropped == {"bad_image": 2, "missing_image": 21}
    found = manifest_of(out)
    assert {one["image"] for one in found.dropped_first["bad_image"]} == {"a/4.jpg", "a/5.jpg"}
    assert len(found.dropped_first["missing_image"]) == 10
    assert found.dropped_first["missing_image"][0]["id"] in gone
    assert [(part.name, part.planned, part.rows) for part in found.parts] == [
        ("llava", 40, 17),
        ("messages", 40, 40),
    ]
    with pytest.raises(RecordError, match=r"bad_image|missing_image"):
        export(plan, out=out, shard_bytes=SHARD, strict=True)
    with pytest.raises(RecordError) as caught:
        export(plan, out=tmp_path / "strict", shard_bytes=SHARD, strict=True)
    assert caught.value.reason in report.dropped
    assert not (tmp_path / "strict/vision_ift/manifest.json").exists()


def test_a_shard_of_no_rows_has_no_file(tmp_path: Path, make_table: MakeTable) -> None:
    plan = plan_of(tmp_path, {"llava": make_table([dialog(n, (f"{n}.jpg",)) for n in range(3)])})
    order = plan.slice(0, 3)[1].tolist()
    for place in (0, 2):
        (tmp_path / f"{order[place]}.jpg").write_bytes(picture(place))
    out = tmp_path / "out"
    report = export(plan, out=out, shard_bytes=1)
    assert sorted(path.name for path in out.glob("*.tar")) == [
        "train-000000.tar",
        "train-000002.tar",
    ]
    assert (report.rows, report.shards, report.dropped) == (2, 2, {"missing_image": 1})
    assert json.loads((out / "sizes.json").read_bytes()) == {
        "train-000000.tar": 1,
        "train-000002.tar": 1,
    }
    assert export(plan, out=out, shard_bytes=1) == report
    assert 'glob.glob("FOLDER/train-*.tar")' in (out / "README.md").read_text()


def test_an_export_of_nothing_is_an_error(tmp_path: Path, make_table: MakeTable) -> None:
    plan = plan_of(tmp_path, {"llava": make_table([dialog(0, ("0.jpg",))])})
    with pytest.raises(MissingInputError, match="1 missing_image"):
        export(plan, out=tmp_path / "out")
    assert not (tmp_path / "out/vision_ift/manifest.json").exists()


def test_energons_files_are_those_that_energon_makes(plan: Plan, tmp_path: Path) -> None:
    # What `energon prepare` does, after its own code: offsets as Python's tarfile sees them.
    out = tmp_path / "out"
    export(plan, out=out, shard_bytes=SHARD)
    samples, parts, counts = [], [], {}
    for number, path in enumerate(sorted(out.glob("*.tar"))):
        starts: list[int] = []
        with tarfile.open(path) as tar:
            last = None
            for member in tar:
                key, _, name = member.name.partition(".")
                if key != last:
                    starts.append(member.offset)
                    samples.append([number, key, len(starts) - 1, member.offset])
                    last = key
                parts.append((number, len(starts) - 1, name, member.offset_data, member.size))
            counts[path.name] = len(starts)
            starts.append(tar.offset)
        for place, sample in enumerate(samples[-counts[path.name] :]):
            sample.append(starts[place + 1] - starts[place])
        found = (out / f"{path.name}.idx").read_bytes()
        assert found == struct.pack(f"<{len(starts)}Q", *starts)
    with closing(sqlite3.connect(out / ".nv-meta/index.sqlite")) as database:
        assert database.execute("SELECT * FROM samples").fetchall() == [tuple(s) for s in samples]
        assert database.execute("SELECT * FROM sample_parts").fetchall() == parts
        named = database.execute("SELECT name FROM sqlite_master WHERE type = 'index'").fetchall()
        assert {"idx_samples_by_tar_and_idx", "idx_sample_parts_seq", "idx_sample_parts_full"} < {
            name for (name,) in named
        }
    info = json.loads((out / ".nv-meta/.info.json").read_bytes())
    assert info["shard_counts"] == counts == json.loads((out / "sizes.json").read_bytes())
    assert list(info["shard_counts"]) == sorted(counts)
    wids = json.loads((out / "wids.json").read_bytes())
    assert [(one["url"], one["nsamples"]) for one in wids["shardlist"]] == list(counts.items())


def test_our_index_leads_to_every_member(plan: Plan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(plan, out=out, shard_bytes=SHARD)
    index = ipc.open_file((out / "vision_ift/index.arrow").read_bytes()).read_all()
    sources, rows = plan.slice(0, len(plan))
    assert index["source"].to_pylist() == sources.tolist()
    assert index["row"].to_pylist() == rows.tolist()
    for (key, found), line in zip(members(out).items(), index.to_pylist(), strict=True):
        data = (out / f"train-{line['shard']:06d}.tar").read_bytes()
        places = zip(
            [*line["image_names"], "json", "txt"],
            [*line["image_offsets"], line["json_offset"], line["text_offset"]],
            [*line["image_sizes"], line["json_size"], line["text_size"]],
            strict=True,
        )
        assert line["key"] == key
        assert {name: data[at : at + size] for name, at, size in places} == found


def test_a_damaged_record_is_named(plan: Plan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(plan, out=out, shard_bytes=SHARD)
    (out / "vision_ift/manifest.json").unlink()
    (out / "vision_ift/done/000001.json").write_text("{")
    with pytest.raises(IntegrityError, match=r"done/000001\.json"):
        export(plan, out=out, shard_bytes=SHARD)


def test_a_recipe_becomes_shards(others: Path, tmp_path: Path) -> None:
    root = birds.draw(tmp_path / "root")
    recipe = tmp_path / "owls.yaml"
    recipe.write_text("{name: owls, mix: [{source: birds, weight: 1}]}")
    seen: list[tuple[str, int, int]] = []
    report = export(
        recipe,
        root=root,
        tables=tmp_path / "tables",
        total=20,
        out=tmp_path / "out",
        split="val",
        progress=lambda what, done, total: seen.append((what, done, total)),
    )
    assert (report.rows, report.shards) == (20, 1)
    assert seen[-1] == ("export", 20, 20)
    found = members(tmp_path / "out")
    stored = {path.read_bytes() for path in (root / "birds/pictures").iterdir()}
    assert sum(one["jpg"] in stored for one in found.values()) > 10
    assert (tmp_path / "out/vision_ift/recipe.yaml").read_bytes() == recipe.read_bytes()


@pytest.mark.parametrize("uniform", [False, True])
def test_the_manifest_names_our_other_files_by_their_digests(
    uniform: bool, plan: Plan, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export(plan, out=out, shard_bytes=20_000, uniform=uniform)
    manifest = manifest_of(out)
    wanted_files = {"index.arrow", "layout.json", "plan.json", "recipe.yaml"}
    wanted_files |= {"groups.bin"} if uniform else set()
    assert set(manifest.files) == {f"vision_ift/{name}" for name in wanted_files}
    for name, digest in manifest.files.items():
        assert xxhash.xxh3_128_hexdigest((out / name).read_bytes()) == digest


def test_a_manifest_of_before_has_no_digests_and_is_still_finished(
    plan: Plan, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = export(plan, out=out, shard_bytes=20_000)
    path = out / "vision_ift/manifest.json"
    stated = json.loads(path.read_bytes())
    del stated["files"]
    path.write_text(json.dumps(stated))
    assert manifest_of(out).files == {}
    assert export(plan, out=out, shard_bytes=20_000) == first
    assert "files" not in json.loads(path.read_bytes())


def test_our_errors_stand_for_the_system_s(plan: Plan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(plan, out=out, shard_bytes=20_000)
    (out / "vision_ift/manifest.json").unlink()
    (out / "vision_ift/manifest.json").mkdir()
    with pytest.raises(VisionIFTError, match=r"manifest\.json cannot be opened"):
        export(plan, out=out, shard_bytes=20_000)


def test_what_stopped_a_shard_is_told_and_not_that_its_leftover_stays(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    unlink = Path.unlink

    def stuck(path: Path, **options: Any) -> None:
        if ".tar." in path.name:
            raise OSError(errno.EIO, "Input/output error", str(path))
        unlink(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr("vision_ift._export.ustar.os.write", full)
        patch.setattr(Path, "unlink", stuck)
        with pytest.raises(DiskError, match="No space left"):
            export(plan, out=tmp_path / "out", shard_bytes=20_000)
    assert export(plan, out=tmp_path / "out", shard_bytes=20_000).finished
