"""A uniform export: a group a folder, each of which every reader takes as a whole."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.ipc as ipc
import pytest
import webdataset
from datasets import Image, config, get_dataset_config_names, load_dataset

from tests.exports import delivered, dialog, members, picture, plan_of, small_plan, tree, wanted
from tests.rows import MakeTable
from vision_ift._errors import IntegrityError, MissingInputError, OutputError, RecordError
from vision_ift._export.export import export
from vision_ift._export.groups import group_name, look
from vision_ift._export.manifest import Layout, Manifest
from vision_ift._pictures.images import Images, image_format
from vision_ift._plan.plan import Plan

SHARD = 20_000


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return small_plan(tmp_path)


def grouped(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The plan's rows by the folder where they belong, in the plan's order."""
    found = defaultdict(list)
    for row in rows:
        found[group_name(tuple(str(image_format(data)) for data in row["pictures"]))].append(row)
    return dict(found)


def config_of(out: Path) -> Manifest:
    return msgspec.json.decode((out / "vision_ift/manifest.json").read_bytes(), type=Manifest)


def test_every_group_holds_its_rows_in_the_plans_order(plan: Plan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = export(plan, out=out, shard_bytes=SHARD, uniform=True)
    expected = grouped(wanted(plan))
    assert {"img0", "img1-jpg", "img1-png", "img2-webp-gif", "img3-gif-jpg-png"} <= set(expected)
    folders = {path.parent.name for path in out.rglob("*.tar")}
    assert folders == set(expected)
    seen: set[str] = set()
    for name, rows in expected.items():
        found = members(out / name)
        assert [delivered(one) for one in found.values()] == rows
        assert list(found) == sorted(found)
        assert len({tuple(one) for one in found.values()}) == 1  # the same members in every row
        assert not seen & set(found)
        seen |= set(found)
    assert "jpg" in next(iter(members(out / "img1-jpg").values()))
    assert len(list((out / "img1-jpg").glob("*.tar"))) > 1
    assert report.rows == len(plan)
    assert report.images == sum(len(row["pictures"]) for row in wanted(plan))
    manifest = config_of(out)
    assert {one.name: one.rows for one in manifest.groups} == {
        name: len(rows) for name, rows in expected.items()
    }
    assert export(plan, out=out, shard_bytes=SHARD, uniform=True) == report


# webdataset leaves its files to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_other_readers_take_each_group_as_a_whole(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)
    out = tmp_path / "out"
    export(plan, out=out, shard_bytes=SHARD, uniform=True)
    expected = grouped(wanted(plan))
    assert set(get_dataset_config_names(str(out))) == set(expected)
    for name, rows in expected.items():
        paths = sorted((out / name).glob("*.tar"))
        urls = [str(path) for path in paths]
        assert [delivered(one) for one in webdataset.WebDataset(urls, shardshuffle=False)] == rows
        counts = json.loads((out / name / "sizes.json").read_bytes())
        assert list(counts) == [path.name for path in paths]
        assert sum(counts.values()) == len(rows)
        wids = json.loads((out / name / "wids.json").read_bytes())
        assert [one["url"] for one in wids["shardlist"]] == list(counts)
        info = json.loads((out / name / ".nv-meta/.info.json").read_bytes())
        assert info["shard_counts"] == counts
        assert sorted(path.name for path in (out / name).glob("*.idx")) == [
            f"{path.name}.idx" for path in paths
        ]
        with closing(sqlite3.connect(out / name / ".nv-meta/index.sqlite")) as database:
            (last,) = database.execute("SELECT max(tar_file_id) FROM samples").fetchone()
            (count,) = database.execute("SELECT count(*) FROM samples").fetchone()
        assert (last, count) == (len(paths) - 1, len(rows))
    uuids = {path.read_text() for path in out.rglob("index.uuid")}
    assert len(uuids) == len(expected)
    for name in ("img1-jpg", "img3-gif-jpg-png", "img0"):
        loaded = load_dataset(
            str(out), name, split="train", streaming=True, cache_dir=str(tmp_path / "cache")
        )
        pictures = [key for key, kind in loaded.features.items() if isinstance(kind, Image)]
        for key in pictures:
            loaded = loaded.cast_column(key, Image(decode=False))
        found = [{**row, **{key: row[key]["bytes"] for key in pictures}} for row in list(loaded)]
        assert [delivered(row) for row in found] == expected[name]


def test_our_index_covers_all_groups(plan: Plan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(plan, out=out, shard_bytes=SHARD, uniform=True)
    index = ipc.open_file((out / "vision_ift/index.arrow").read_bytes()).read_all().to_pylist()
    layout = msgspec.json.decode((out / "vision_ift/layout.json").read_bytes(), type=Layout)
    sources, rows = plan.slice(0, len(plan))
    assert [line["shard"] for line in index] == sorted(line["shard"] for line in index)
    by_position = sorted(index, key=lambda line: line["position"])
    assert [line["position"] for line in by_position] == list(range(len(plan)))
    assert [line["source"] for line in by_position] == sources.tolist()
    assert [line["row"] for line in by_position] == rows.tolist()
    expected = wanted(plan)
    for line in index:
        data = (out / layout.name(line["shard"])).read_bytes()
        places = zip(line["image_offsets"], line["image_sizes"], strict=True)
        pictures = [data[at : at + size] for at, size in places]
        assert pictures == expected[line["position"]]["pictures"]


def test_rows_that_cannot_be_grouped_are_counted_and_named(plan: Plan, tmp_path: Path) -> None:
    (plan.root / "a/3.jpg").unlink()
    (plan.root / "a/4.jpg").write_bytes(b"<html>404</html>")
    ragged = export(plan, out=tmp_path / "ragged", shard_bytes=SHARD)
    report = export(plan, out=tmp_path / "out", shard_bytes=SHARD, uniform=True, jobs=2)
    assert report.dropped == ragged.dropped == {"bad_image": 1, "missing_image": 1}
    found, other = config_of(tmp_path / "out"), config_of(tmp_path / "ragged")
    assert found.dropped_first == other.dropped_first
    assert found.parts == other.parts
    with pytest.raises(RecordError, match=r"a/[34]\.jpg"):
        export(plan, out=tmp_path / "strict", uniform=True, strict=True)
    assert not list((tmp_path / "strict").rglob("*.tar"))


def test_the_bytes_are_the_same_for_any_jobs_and_after_a_stop(plan: Plan, tmp_path: Path) -> None:
    export(plan, out=tmp_path / "one", shard_bytes=SHARD, uniform=True)
    export(plan, out=tmp_path / "two", shard_bytes=SHARD, uniform=True, jobs=2)
    whole = tree(tmp_path / "one")
    assert tree(tmp_path / "two") == whole
    for harm in ("img1-jpg/train-000001.tar", "vision_ift/groups.bin", "img0/.nv-meta/index.uuid"):
        (tmp_path / "two" / harm).unlink()
        (tmp_path / "two/img0/.train-000000.tar.7.tmp").write_bytes(b"left by a killed run")
        export(plan, out=tmp_path / "two", shard_bytes=SHARD, uniform=True)
        assert tree(tmp_path / "two") == whole


def test_pictures_that_change_their_format_are_refused(plan: Plan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(plan, out=out, shard_bytes=SHARD, uniform=True)
    (out / "vision_ift/manifest.json").unlink()
    for path in (out / "img1-jpg").glob("*.tar"):
        path.unlink()
    (plan.root / "a/7.jpg").write_bytes(picture(7, kind="png"))
    with pytest.raises(IntegrityError, match=r"a/7\.jpg under .* has changed"):
        export(plan, out=out, shard_bytes=SHARD, uniform=True)
    with pytest.raises(OutputError, match="uniform True, not False"):
        export(plan, out=out, shard_bytes=SHARD)


def test_an_export_of_nothing_is_an_error(tmp_path: Path, make_table: MakeTable) -> None:
    plan = plan_of(tmp_path, {"llava": make_table([dialog(0, ("0.jpg",))])})
    with pytest.raises(MissingInputError, match="1 missing_image"):
        export(plan, out=tmp_path / "out", uniform=True)


def test_groups_have_short_names_that_differ() -> None:
    many = ("jpg", "png") * 40
    assert len(group_name(many)) <= 80
    assert group_name(many) != group_name((*many[:-1], "gif"))
    assert group_name(("webp",) * 12) == "img12-webp12"


def test_an_old_layout_is_read() -> None:
    old = {"plan_digest": "x", "rows": 3, "rows_per_shard": 2, "shard_bytes": 1, "measured_rows": 1}
    text = json.dumps({**old, "measured_bytes": 1, "split": "train", "text": True})
    layout = msgspec.json.decode(text, type=Layout)
    assert (layout.uniform, layout.shards, layout.span(1)) == (False, 2, (2, 3))


def test_a_picture_is_told_by_its_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"GIF89a or so")
    images = Images(tmp_path)
    assert look(images, "a.jpg") == ("gif", 12)
    assert look(images, "b.jpg") == ("!missing_image", 0)
    assert look(images, "vift://c.zip!/b.jpg") == ("!missing_image", 0)
