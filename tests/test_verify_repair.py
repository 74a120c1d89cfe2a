"""Repair: exactly what is damaged is written again, and the tree is as it was."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import msgspec
import pytest

from tests import birds
from tests.exports import picture, small_plan, tree
from vision_ift._disk import locked
from vision_ift._errors import IntegrityError, LockedError, MissingInputError
from vision_ift._export.export import export
from vision_ift._export.manifest import LOCK, Manifest, ShardFile
from vision_ift._plan.plan import Plan, arrange
from vision_ift._verify.verify import verify

SHARD = 40_000


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return small_plan(tmp_path)


@pytest.fixture(params=[False, True], ids=["ragged", "uniform"])
def out(request: pytest.FixtureRequest, plan: Plan, tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    export(plan, out=folder, shard_bytes=SHARD, uniform=request.param)
    return folder


def stamps(out: Path) -> dict[str, tuple[int, int]]:
    return {
        path.relative_to(out).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in out.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def harm(path: Path, how: str, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if how == "remove":
        path.unlink()
    elif how == "flip":
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
    elif how == "cut":
        path.write_bytes(data[: chance.randrange(len(data))])
    else:
        path.write_bytes(data + bytes(chance.randrange(1, 5000)))


@pytest.mark.parametrize("jobs", [1, 2])
def test_exactly_the_damaged_shards_are_written(jobs: int, out: Path, plan: Plan) -> None:
    whole = tree(out)
    shards = [path.relative_to(out).as_posix() for path in sorted(out.rglob("*.tar"))]
    chance = random.Random(jobs)
    hurt = set(chance.sample(shards, 4))
    for name, how in zip(sorted(hurt), ("remove", "flip", "cut", "append"), strict=True):
        harm(out / name, how, chance)
    before = stamps(out)
    report = verify(out, repair=True, recipe=plan, jobs=jobs)
    assert report.findings == []
    assert set(report.repaired) == hurt
    assert tree(out) == whole
    now = stamps(out)
    records = {name for name in now if "/done/" in name}
    changed = {name for name in now if before.get(name) != now[name]}
    # A shard is recorded again when it is written again: the same bytes.
    assert changed - records == hurt
    assert len(changed & records) == 2 * len(hurt)
    again = stamps(out)
    assert verify(out, repair=True, recipe=plan).repaired == []
    assert stamps(out) == again


BESIDE = [
    "README.md",
    "vision_ift/plan.json",
    "vision_ift/recipe.yaml",
    "vision_ift/manifest.json",
    "vision_ift/index.arrow",
    "vision_ift/done/000001.json",
    "vision_ift/done/000001.arrow",
    "{group}wids.json",
    "{group}.nv-meta/split.yaml",
    "{group}.nv-meta/index.sqlite",
    "{shard}.idx",
]


@pytest.mark.parametrize("name", BESIDE)
def test_a_damaged_file_beside_the_shards_is_written_alone(
    name: str, out: Path, plan: Plan
) -> None:
    whole = tree(out)
    shard = sorted(out.rglob("*.tar"))[0].relative_to(out).as_posix()
    name = name.format(group=shard[: shard.rfind("/") + 1], shard=shard)
    (out / name).write_bytes(b"{\xff")
    before = stamps(out)
    report = verify(out, repair=True, recipe=plan)
    assert report.findings == []
    assert name in report.repaired
    assert tree(out) == whole
    beside = {one for one, stamp in stamps(out).items() if before[one] != stamp} - {name}
    # A record brings its part of the index along, and the other way round.
    assert all("/done/000001." in one for one in beside)


def test_much_at_once_is_repaired(out: Path, plan: Plan) -> None:
    whole = tree(out)
    for name in BESIDE:
        if "{" not in name and name != "vision_ift/manifest.json":
            (out / name).unlink()
    (out / "vision_ift/manifest.json").write_bytes(b"")
    for path in sorted(out.rglob("*.tar"))[:3]:
        path.unlink()
    for path in sorted(out.rglob("*.idx"))[:3]:
        path.unlink()
    report = verify(out, repair=True, recipe=plan)
    assert [str(one) for one in report.findings] == []
    assert tree(out) == whole


def test_a_part_of_the_index_that_nothing_else_holds_needs_the_sources(
    out: Path, plan: Plan
) -> None:
    shutil.rmtree(plan.root)
    (out / "vision_ift/index.arrow").unlink()
    part = sorted((out / "vision_ift/done").glob("*.arrow"))[-1]
    part.unlink()
    # The index and one of its parts are both gone: that part needs the sources, and says so.
    report = verify(out, repair=True, recipe=plan)
    assert not report.sound
    (left,) = (one for one in report.findings if one.file.endswith(part.name))
    assert "not repaired: " in left.detail


def test_the_index_and_the_card_come_from_what_is_sound(out: Path, plan: Plan) -> None:
    whole = tree(out)
    shutil.rmtree(plan.root)
    shutil.rmtree(plan.root.parent / "llava")
    for name in ("README.md", "vision_ift/index.arrow"):
        (out / name).unlink()
    for path in [*out.rglob("wids.json"), *out.rglob("index.sqlite"), *out.rglob("*.idx")]:
        path.unlink()
    report = verify(out, repair=True)  # no recipe either
    assert report.findings == []
    assert tree(out) == whole


def test_what_the_sources_no_longer_give_is_said(out: Path, plan: Plan) -> None:
    shards = sorted(out.rglob("*.tar"))
    gone, whole = shards[-1], shards[0]  # a group without pictures comes first
    for path in (gone, whole):
        path.unlink()
    first = _first_picture(out, gone.relative_to(out).as_posix())
    (plan.root / first).write_bytes(picture(77_777))
    report = verify(out, repair=True, recipe=plan)
    (left,) = report.findings
    assert left.file == gone.relative_to(out).as_posix()
    assert "not repaired: " in left.detail
    assert report.repaired == [whole.relative_to(out).as_posix()]
    (plan.root / first).unlink()
    (left,) = verify(out, repair=True, recipe=plan).findings
    assert first in left.detail
    assert not gone.exists()
    assert not list(out.rglob("*.tmp"))
    assert not list((out / "vision_ift").glob(".repair*"))


def _first_picture(out: Path, name: str) -> str:
    import pyarrow.ipc as ipc

    layout_numbers = {one.name: number for number, one in enumerate(_shards(out))}
    index = ipc.open_file((out / "vision_ift/index.arrow").read_bytes())
    batch = index.get_batch(layout_numbers[name]).to_pylist()
    plan_rows = {line["key"]: line for line in batch if line["image_names"]}
    key = next(iter(plan_rows))
    source, row = plan_rows[key]["source"], plan_rows[key]["row"]
    if source == 0:
        return f"a/{row}.jpg"
    kinds = ("jpg", "png", "webp", "gif")
    return f"b/{row % 40}.{kinds[row % 40 % 4]}"


def _shards(out: Path) -> list[ShardFile]:
    data = (out / "vision_ift/manifest.json").read_bytes()
    return list(msgspec.json.decode(data, type=Manifest).shards)


def test_another_plan_is_refused(out: Path, plan: Plan) -> None:
    (sorted(out.rglob("*.tar"))[0]).unlink()
    before = tree(out)
    other = arrange(
        plan.recipe,
        {"llava": plan.selections[0] or "", "messages": plan.selections[1] or ""},
        root=plan.root,
        total=50,
    )
    with pytest.raises(IntegrityError) as caught:
        verify(out, repair=True, recipe=other)
    assert plan.digest in str(caught.value)
    assert other.digest in str(caught.value)
    assert tree(out) == before


def test_repair_keeps_out_of_a_writers_way(out: Path, plan: Plan) -> None:
    with locked(out / LOCK), pytest.raises(LockedError):
        verify(out, repair=True, recipe=plan)


def test_a_layout_cannot_be_repaired_and_that_is_said(out: Path, plan: Plan) -> None:
    (out / "vision_ift/layout.json").write_bytes(b"{}")
    report = verify(out, repair=True, recipe=plan)
    (left,) = (one for one in report.findings if one.file == "vision_ift/layout.json")
    assert "not repaired" in left.detail


def test_an_unknown_tar_is_left_to_its_owner(out: Path, plan: Plan) -> None:
    (out / "train-555555.tar").write_bytes(b"mine")
    report = verify(out, repair=True, recipe=plan)
    assert [one.kind for one in report.findings] == ["extra"]
    assert (out / "train-555555.tar").read_bytes() == b"mine"


@pytest.mark.parametrize("total", [None, 20])
def test_the_plan_is_made_again_from_the_export_itself(
    total: int | None, others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = birds.draw(tmp_path / "root")
    recipe = tmp_path / "owls.yaml"
    recipe.write_text("{name: owls, mix: [{source: birds, weight: 1}]}")
    out = tmp_path / "out"
    tables = tmp_path / "tables"
    export(recipe, root=root, tables=tables, total=total, out=out, shard_bytes=20_000)
    whole = tree(out)
    shard = sorted(out.glob("*.tar"))[0]
    shard.unlink()
    report = verify(out, repair=True, root=root, tables=tables)
    assert report.sound
    assert tree(out) == whole
    # A lock that is lost too: the recipe and the layout say enough.
    shard.unlink()
    (out / "vision_ift/plan.json").unlink()
    assert verify(out, repair=True, root=root, tables=tables, recipe=recipe).sound
    assert tree(out) == whole
    # Sources that are gone.
    shard.unlink()
    shutil.rmtree(root / "birds")
    with pytest.raises((MissingInputError, IntegrityError), match="birds"):
        verify(out, repair=True, root=root, tables=tmp_path / "other")


def test_repair_names_the_bytes_that_were_others(out: Path, plan: Plan) -> None:
    whole = tree(out)
    name = sorted(out.rglob("*.tar"))[1].relative_to(out).as_posix()
    numbers = {one.name: number for number, one in enumerate(_shards(out))}
    import pyarrow.ipc as ipc

    index = ipc.open_file((out / "vision_ift/index.arrow").read_bytes())
    lines = index.get_batch(numbers[name]).to_pylist()
    line = lines[len(lines) // 2]
    at = line["json_offset"] + 5
    with (out / name).open("r+b") as file:
        file.seek(at)
        file.write(b"\xfe\xff")
        file.seek(line["text_offset"])
        file.write(b"\xff")
    report = verify(out, repair=True, recipe=plan)
    assert report.sound
    assert tree(out) == whole
    (restored,) = report.restored
    assert (restored.file, restored.rows) == (name, 1)
    assert [(one.start, one.stop, one.row, one.member) for one in restored.places] == [
        (at, at + 2, line["key"], f"{line['key']}.json"),
        (line["text_offset"], line["text_offset"] + 1, line["key"], f"{line['key']}.txt"),
    ]
    # One that was cut: what was lost is told to the rows.
    with (out / name).open("r+b") as file:
        file.truncate(line["offset"])
    (restored,) = verify(out, repair=True, recipe=plan).restored
    assert restored.rows == len(lines) - len(lines) // 2
    assert tree(out) == whole


@pytest.mark.parametrize(
    "name", ["layout.json", "plan.json", "recipe.yaml", "manifest.json", "done/000001.json"]
)
def test_any_bit_of_our_own_files_is_turned_back(name: str, out: Path, plan: Plan) -> None:
    whole = tree(out)
    path = out / "vision_ift" / name
    data = path.read_bytes()
    chance = random.Random(name)
    for bit in chance.sample(range(8 * len(data)), 8):
        harmed = bytearray(data)
        harmed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(harmed)
        report = verify(out, repair=True, recipe=plan)
        assert [str(one) for one in report.findings] == [], bit
        assert tree(out) == whole, bit
        assert not report.restored


def test_what_a_killed_repair_left_is_removed(out: Path, plan: Plan) -> None:
    whole = tree(out)
    left = out / "vision_ift/.repair-abc"
    left.mkdir()
    (left / "train-000000.tar").write_bytes(b"half")
    assert verify(out, repair=True, recipe=plan).sound
    assert tree(out) == whole


def test_a_plan_that_went_on_from_another_is_made_again(others: Path, tmp_path: Path) -> None:
    from vision_ift._plan.plan import plan as make_plan

    root = birds.draw(tmp_path / "root")
    tables = tmp_path / "tables"
    recipe = tmp_path / "owls.yaml"
    recipe.write_text("{name: owls, mix: [{source: birds, weight: 1}]}")
    first = make_plan(recipe, root=root, tables=tables)
    later = make_plan(recipe, root=root, tables=tables, total=7, after=(first, 3))
    out = tmp_path / "out"
    export(later, out=out, shard_bytes=20_000)
    whole = tree(out)
    shard = sorted(out.glob("*.tar"))[0]
    for given in (None, recipe, out / "vision_ift/plan.json"):
        shard.unlink()
        assert verify(out, repair=True, root=root, tables=tables, recipe=given).sound
        assert tree(out) == whole
    # Without its lock nothing says where it went on; a copy of the lock does.
    lock = shutil.copy(out / "vision_ift/plan.json", tmp_path / "kept.json")
    (out / "vision_ift/plan.json").unlink()
    shard.unlink()
    with pytest.raises(IntegrityError, match="plan's lock"):
        verify(out, repair=True, root=root, tables=tables)
    assert verify(out, repair=True, root=root, tables=tables, recipe=lock).sound
    assert tree(out) == whole
