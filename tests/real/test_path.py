"""The whole path on real files: plan, export, load, and two readers that agree."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import datasets
import pytest
import webdataset
from PIL import Image

import vision_ift  # noqa: F401 - makes the name known to `datasets`
from vision_ift._export.export import export
from vision_ift._plan.plan import Plan, plan

RECIPE, TOTAL = "coco_mix", 2000

# webdataset leaves the files that it has read to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@pytest.fixture(scope="module")
def mixed(real_root: Path, tables: Path) -> Plan:
    return plan(RECIPE, root=real_root, tables=tables, total=TOTAL, allow_missing=True)


@pytest.fixture(scope="module")
def shards(mixed: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "shards"
    report = export(mixed, out=out, shard_bytes=60_000_000, jobs=2)
    assert (report.rows, report.dropped) == (TOTAL, {})
    assert report.shards > 2
    return out


def test_the_mix_has_what_the_root_can_give(mixed: Plan) -> None:
    assert set(mixed.missing) == {"mminstruct", "mm_instruct"}
    # Weights 4 and 3 are left: sevenths of 2,000, to the nearest row of the certificate.
    coco, flan, *rest = mixed.counts()
    assert coco + flan == TOTAL
    assert rest == [0, 0]
    assert abs(coco - TOTAL * 4 / 7) <= float(mixed.certificate) < 3.36


def test_both_readers_read_what_the_plan_holds(
    mixed: Plan, shards: Path, real_root: Path, tmp_path: Path
) -> None:
    wanted = mixed.rows(0, TOTAL).to_pylist()
    names = sorted(str(path) for path in shards.glob("*.tar"))
    from vision_ift._pictures.images import Images

    pictures = Images(real_root)
    by_name = {one: pictures.read(one) for row in wanted for one in _references(row)}
    reader = webdataset.WebDataset(names, shardshuffle=False, empty_check=False)
    rows = datasets.load_dataset(str(shards), split="train", cache_dir=str(tmp_path / "cache"))
    rows = rows.cast_column("jpg", datasets.Image(decode=False))
    rows = rows.cast_column("png", datasets.Image(decode=False))
    count = 0
    for row, member, loaded in zip(wanted, reader, rows, strict=True):
        said = json.loads(member["json"])
        assert said["id"] == loaded["json"]["id"] == row["id"]
        assert said["messages"] == row["messages"]
        assert _plain(loaded["json"]["messages"]) == row["messages"]
        (reference,) = _references(row)
        (extension,) = said["images"]
        assert member[extension] == loaded[extension]["bytes"] == by_name[reference]
        assert member["__key__"] == loaded["__key__"]
        count += 1
    assert count == TOTAL


def _references(row: dict[str, Any]) -> list[str]:
    return [image["path"] for image in row["images"]]


def _plain(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "role": message["role"],
            "content": [{"type": p["type"], "text": p["text"]} for p in message["content"]],
        }
        for message in messages
    ]


def test_any_number_of_jobs_gives_the_same_bytes(mixed: Plan, shards: Path, tmp_path: Path) -> None:
    export(mixed, out=tmp_path / "one", shard_bytes=60_000_000, jobs=1)
    ours = {path.name: path.read_bytes() for path in sorted(shards.glob("*.tar"))}
    other = {path.name: path.read_bytes() for path in sorted((tmp_path / "one").glob("*.tar"))}
    assert ours == other


def test_every_picture_in_the_shards_decodes(shards: Path) -> None:
    seen: set[bytes] = set()
    for path in shards.glob("*.tar"):
        with tarfile.open(path) as archive:
            for member in archive:
                if member.name.endswith((".jpg", ".png")):
                    file = archive.extractfile(member)
                    assert file is not None
                    data = file.read()
                    if data not in seen:
                        seen.add(data)
                        with Image.open(io.BytesIO(data)) as picture:
                            picture.load()
    assert len(seen) > 90


@pytest.mark.parametrize("name", ["coco_ift", "vision_flan", "coco_mix"])
def test_load_dataset_decodes_real_pictures(
    name: str, real_root: Path, tables: Path, tmp_path: Path
) -> None:
    more = {"allow_missing": True} if name == "coco_mix" else {}
    rows = datasets.load_dataset(
        "vision_ift",
        name,
        data_dir=str(real_root),
        tables=str(tables),
        cache_dir=str(tmp_path),
        split="train",
        **more,
    )
    for row in rows:
        for picture in row["images"]:
            assert picture.mode == "RGB"
            assert min(picture.size) > 0
        assert row["messages"][-1]["role"] == "assistant"
