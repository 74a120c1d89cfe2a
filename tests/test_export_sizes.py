"""Sizes: the space that is asked for, pictures that change while they are read, and large ones."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path

import msgspec
import pytest

from tests.exports import delivered, dialog, members, picture, plan_of, small_plan, tree
from tests.rows import MakeTable, table_of
from vision_ift._errors import IntegrityError
from vision_ift._export import shard as _shard
from vision_ift._export.export import export
from vision_ift._export.manifest import Layout
from vision_ift._export.settle import bytes_needed
from vision_ift._pictures import images as _images
from vision_ift._pictures.images import open_file
from vision_ift._plan.plan import Plan


@pytest.fixture
def photos(tmp_path: Path) -> Plan:
    """1,500 rows with a picture of 5 to 50 kB each: more than are measured."""
    chance = random.Random(3)
    for number in range(1500):
        data = b"\xff\xd8\xff\xe0" + chance.randbytes(int(chance.lognormvariate(9.6, 0.5)))
        (tmp_path / f"{number}.jpg").write_bytes(data)
    rows = [dialog(n, (f"{n}.jpg",), license="CC-BY-4.0") for n in range(1500)]
    return plan_of(tmp_path, {"llava": table_of(tmp_path / "t", rows, source="llava")})


@pytest.mark.parametrize("uniform", [False, True])
def test_the_estimate_of_space_is_within_five_percent(
    uniform: bool, photos: Plan, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export(photos, out=out, shard_bytes=5_000_000, uniform=uniform)
    layout = msgspec.json.decode((out / "vision_ift/layout.json").read_bytes(), type=Layout)
    needed = bytes_needed(layout, range(layout.shards))
    actual = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert abs(needed - actual) < 0.05 * actual
    shards = sum(path.stat().st_size for path in out.rglob("*.tar"))
    beside = needed - bytes_of_shards(layout)
    assert abs(beside - (actual - shards)) < 0.3 * (actual - shards)


def bytes_of_shards(layout: Layout) -> int:
    """The part of the estimate that is the shards'."""
    if layout.uniform:
        return sum(group.bytes for group in layout.groups)
    return layout.rows * layout.measured_bytes // layout.measured_rows


@pytest.mark.parametrize("change", [-100, -1, 1, 4000])
def test_a_picture_that_changes_while_it_is_read_stops_the_export(
    change: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = small_plan(tmp_path)
    out = tmp_path / "out"
    export(plan, out=tmp_path / "whole", shard_bytes=20_000)

    def open_before(path: str) -> tuple[int, int]:
        file, size = open_file(path)
        return file, size - change if path.endswith("a/20.jpg") else size

    monkeypatch.setattr(_shard, "open_file", open_before)
    with pytest.raises(IntegrityError, match=r"a/20\.jpg under .* has changed"):
        export(plan, out=out, shard_bytes=20_000)
    assert not list(out.rglob("*.tmp"))
    whole = members(tmp_path / "whole")
    assert all(found == whole[key] for key, found in members(out).items())
    monkeypatch.undo()
    export(plan, out=out, shard_bytes=20_000)
    assert tree(out) == tree(tmp_path / "whole")


def test_large_pictures_and_members_of_archives(
    tmp_path: Path, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_images, "MAX_IMAGE_BYTES", 3_000_000)
    chance = random.Random(5)

    def noise(size: int, kind: str = "jpg") -> bytes:
        return picture(1, kind=kind, size=32) + chance.randbytes(size)

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("large.jpg", noise(900_000))
        archive.writestr("small.png", noise(10, "png"))
    (tmp_path / "large.webp").write_bytes(noise(2_500_000, "webp"))
    (tmp_path / "too_large.jpg").write_bytes(noise(3_000_000))
    inside = ("vift://a.zip!/large.jpg", "vift://a.zip!/small.png")
    rows = [
        dialog(0, inside),
        dialog(1, ("large.webp", *inside, "large.webp")),
        dialog(2, ("large.webp", "too_large.jpg")),
        dialog(3, ("large.webp", "vift://a.zip!/not_there.jpg")),
        dialog(4, (inside[0], "large.webp")),
    ]
    plan = plan_of(tmp_path, {"llava": make_table(rows)})
    report = export(plan, out=tmp_path / "out")
    assert report.dropped == {"bad_image": 1, "missing_image": 1}
    expected = []
    for row in plan.rows(0, len(plan)).to_pylist():
        references = [image["path"] for image in row["images"]]
        if "too_large.jpg" not in references and "vift://a.zip!/not_there.jpg" not in references:
            images = _images.Images(tmp_path)
            expected.append((row["id"], [images.read(reference) for reference in references]))
    found = [delivered(one) for one in members(tmp_path / "out").values()]
    assert [(row["id"], row["pictures"]) for row in found] == expected
    uniform = export(plan, out=tmp_path / "uniform", uniform=True)
    assert uniform.dropped == report.dropped
    assert {path.parent.name for path in (tmp_path / "uniform").rglob("*.tar")} == {
        "img2-jpg-png",
        "img2-jpg-webp",
        "img4-webp-jpg-png-webp",
    }
