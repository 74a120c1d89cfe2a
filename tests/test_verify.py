"""Damage of every kind is found and named; what a check by size alone lets pass."""

from __future__ import annotations

import json
import random
import shutil
import struct
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.exports import picture, plan_of, small_plan, tree
from tests.rows import MakeTable
from vision_ift._disk import locked
from vision_ift._errors import LockedError, MissingInputError, UsageError
from vision_ift._export.export import export
from vision_ift._export.manifest import LOCK
from vision_ift._verify.finding import KINDS, Finding
from vision_ift._verify.verify import VerifyReport, drawn, share_of, verify

SHARD = 40_000


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a root and two exports of it, ``out`` and ``groups``; nobody writes to it."""
    folder = tmp_path_factory.mktemp("whole")
    plan = small_plan(folder)
    export(plan, out=folder / "out", shard_bytes=SHARD)
    export(plan, out=folder / "groups", shard_bytes=SHARD, uniform=True)
    return folder


@pytest.fixture(params=["out", "groups"])
def out(request: pytest.FixtureRequest, whole: Path, tmp_path: Path) -> Path:
    """A copy of an export: in the plan's order, and by groups."""
    name: str = request.param
    return Path(shutil.copytree(whole / name, tmp_path / name))


def shards_of(out: Path) -> list[str]:
    return [path.relative_to(out).as_posix() for path in sorted(out.rglob("*.tar"))]


def named(report: VerifyReport) -> set[tuple[str, str]]:
    """What a report names: kind and file."""
    assert {one.kind for one in report.findings} <= set(KINDS)
    assert report.sound == (not report.findings)
    return {(one.kind, one.file) for one in report.findings}


def flip(path: Path, bit: int) -> None:
    """Turn one bit of a file over; again to turn it back."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def test_a_sound_export_is_sound_and_is_left_as_it_is(out: Path) -> None:
    before = tree(out)
    report = verify(out, read_data=True)
    assert report.findings == []
    assert report.sound
    assert (report.shards_read, report.bytes_read) == (report.shards, report.bytes)
    assert report.rows == 80
    quick = verify(out)
    assert quick.sound
    assert quick.shards_read == quick.bytes_read == 0
    assert tree(out) == before


def test_jobs_change_nothing(out: Path) -> None:
    flip(out / shards_of(out)[2], 70_001)
    assert verify(out, read_data=True, jobs=2) == verify(out, read_data=True)


def test_every_one_of_a_thousand_flipped_bits_is_found_and_its_shard_named(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vision_ift._verify import verify as _verify
    from vision_ift._verify.shard import Asked, check_shard

    # What stands beside the shards is not touched here, so it is looked at once.
    standing = _verify.look(
        whole / "out", part=Fraction(0), sha256=False, jobs=1, progress=lambda *_: None
    )
    out = Path(shutil.copytree(whole / "out", tmp_path / "out"))
    chance = random.Random(20)
    numbers = sorted(standing.shards)
    sizes = [standing.shards[number].bytes for number in numbers]
    seen_by_size = 0
    for _ in range(1000):
        (number,) = chance.choices(numbers, weights=sizes)  # every byte is as likely
        shard = standing.shards[number]
        bit = chance.randrange(shard.bytes * 8)
        flip(out / shard.name, bit)
        seen_by_size += (out / shard.name).stat().st_size != shard.bytes
        asked = Asked(number, shard, standing.parts[number], True)
        findings = check_shard(out, asked).findings
        assert [(one.kind, one.file) for one in findings] == [("digest", shard.name)]
        # Where the damage shows, it is shown where it is, or where a text and its JSON differ.
        for place in findings[0].places:
            assert (
                place.start <= bit // 8 < place.stop or "JSON" in place.what or "crc" in place.what
            )
        flip(out / shard.name, bit)
    assert seen_by_size == 0  # the control: sizes alone show none of them
    assert tree(out) == tree(whole / "out")


def test_the_whole_check_finds_a_flipped_bit_that_the_quick_one_cannot(out: Path) -> None:
    shards = shards_of(out)
    flip(out / shards[1], (out / shards[1]).stat().st_size * 4 + 3)
    assert named(verify(out, read_data=True)) == {("digest", shards[1])}


def test_damage_in_a_header_is_told_to_the_block_and_the_row(whole: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(whole / "out", tmp_path / "out"))
    line = _index(out)[10]
    name = f"train-{line['shard']:06d}.tar"
    start = line["json_offset"] - 512
    flip(out / name, (start + 130) * 8)
    (found,) = verify(out, read_data=True).findings
    assert found.rows == 1
    assert [(one.start, one.stop, one.row, one.member) for one in found.places] == [
        (start, start + 512, line["key"], f"{line['key']}.json")
    ]


def test_damage_in_a_text_names_its_row(whole: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(whole / "out", tmp_path / "out"))
    line = _index(out)[10]
    name = f"train-{line['shard']:06d}.tar"
    with (out / name).open("r+b") as file:
        file.seek(line["text_offset"])
        file.write(b"w")
    (found,) = verify(out, read_data=True).findings
    assert [one.row for one in found.places] == [line["key"]]
    assert "JSON" in found.places[0].what


def test_damage_that_does_not_show_is_not_pinned_on_a_row(whole: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(whole / "out", tmp_path / "out"))
    line = next(one for one in _index(out) if one["image_names"] == ["jpg"])
    name = f"train-{line['shard']:06d}.tar"
    flip(out / name, (line["image_offsets"][0] + 200) * 8)
    (found,) = verify(out, read_data=True).findings
    assert found.rows == 0
    assert "does not show" in found.detail


def _index(out: Path) -> list[dict[str, Any]]:
    import pyarrow.ipc as ipc

    rows: list[dict[str, Any]] = (
        ipc.open_file((out / "vision_ift/index.arrow").read_bytes()).read_all().to_pylist()
    )
    return rows


def test_a_cut_shard_is_found_without_reading_and_its_lost_rows_counted(out: Path) -> None:
    name = shards_of(out)[1]
    size = (out / name).stat().st_size
    with (out / name).open("r+b") as file:
        file.truncate(size // 2)
    (found,) = verify(out).findings
    assert (found.kind, found.file) == ("size", name)
    assert found.rows > 0
    assert all(one.row and one.stop > size // 2 for one in found.places[:-1])
    assert named(verify(out, read_data=True)) == {("size", name)}


@pytest.mark.parametrize("cut", [1, 511, 512, 1024, 1025])
def test_every_cut_is_found(cut: int, out: Path) -> None:
    name = shards_of(out)[0]
    with (out / name).open("r+b") as file:
        file.truncate((out / name).stat().st_size - cut)
    assert named(verify(out)) == {("size", name)}


def test_appended_bytes_are_found_and_located(out: Path) -> None:
    name = shards_of(out)[1]
    size = (out / name).stat().st_size
    with (out / name).open("ab") as file:
        file.write(bytes(512))
    (found,) = verify(out).findings
    assert (found.kind, found.file) == ("size", name)
    assert (found.places[-1].start, found.places[-1].stop) == (size, size + 512)


def test_swapped_shards_are_found_and_told_whose_bytes_they_hold(out: Path) -> None:
    one, other = shards_of(out)[1:3]
    (out / one).rename(out / "kept")
    (out / other).rename(out / one)
    (out / "kept").rename(out / other)
    findings = verify(out, read_data=True).findings
    assert {(found.file, found.detail) for found in findings} == {
        (one, f"it holds the bytes of {other}"),
        (other, f"it holds the bytes of {one}"),
    }


def test_swapped_shards_are_found_without_reading_all_of_them(out: Path) -> None:
    # Even of the same size: the first header names the first row.
    one, other = shards_of(out)[1:3]
    size = max((out / name).stat().st_size for name in (one, other))
    (out / one).rename(out / "kept")
    (out / other).rename(out / one)
    (out / "kept").rename(out / other)
    assert {found.file for found in verify(out).findings} == {one, other}
    assert size


def test_a_missing_and_an_unknown_shard_are_named(out: Path) -> None:
    shards = shards_of(out)
    folder, _, _ = shards[2].rpartition("/")
    unknown = f"{folder}/train-777777.tar".lstrip("/")
    (out / shards[2]).rename(out / unknown)
    assert named(verify(out)) == {("missing", shards[2]), ("extra", unknown)}
    (extra,) = (one for one in verify(out).findings if one.kind == "extra")
    assert shards[2] in extra.detail


SIDECARS = [
    "README.md",
    "vision_ift/plan.json",
    "vision_ift/layout.json",
    "vision_ift/recipe.yaml",
    "vision_ift/manifest.json",
    "vision_ift/index.arrow",
    "vision_ift/done/000001.json",
    "vision_ift/done/000001.arrow",
    "{group}wids.json",
    "{group}sizes.json",
    "{group}.nv-meta/.info.json",
    "{group}.nv-meta/split.yaml",
    "{group}.nv-meta/dataset.yaml",
    "{group}.nv-meta/index.uuid",
    "{group}.nv-meta/index.sqlite",
    "{shard}.idx",
]


HARMS = ("remove", "empty", "cut", "noise")


@pytest.mark.parametrize(("place", "name"), list(enumerate(SIDECARS)))
def test_a_damaged_file_beside_the_shards_is_named(place: int, name: str, out: Path) -> None:
    harm = HARMS[(place + len(out.name)) % 4]
    shard = shards_of(out)[0]
    group = shard[: shard.rfind("/") + 1]
    name = name.format(group=group, shard=shard)
    path = out / name
    data = path.read_bytes()
    if name.endswith("recipe.yaml"):
        harm = "noise"  # a shorter recipe can be a whole one
    harmed: dict[str, Callable[[], object]] = {
        "remove": path.unlink,
        "empty": lambda: path.write_bytes(b""),
        "cut": lambda: path.write_bytes(data[: len(data) * 2 // 3]),
        "noise": lambda: path.write_bytes(random.Random(3).randbytes(len(data))),
    }
    harmed[harm]()
    if name.endswith("manifest.json") and harm == "remove":
        with pytest.raises(MissingInputError, match="is unfinished: "):
            verify(out)
        return
    assert name in {one.file for one in verify(out).findings}


@pytest.mark.parametrize(
    ("file", "old", "new", "blamed"),
    [
        ("manifest.json", '"rows": 80', '"rows": 81', "manifest.json"),
        ("manifest.json", '"bytes": ', '"bytes": 1', "manifest.json"),
        ("manifest.json", '"images": 100', '"images": 99', "manifest.json"),
        ("manifest.json", '"name": "toy"', '"name": "joy"', "manifest.json"),
        ("manifest.json", "train-000001.tar", "train-000000.tar", "manifest.json"),
        ("done/000001.json", '"images": ', '"images": 1', "done/000001.json"),
        ("done/000001.json", '"xxh3_128": "', '"xxh3_128": "0', "done/000001.json"),
        ("layout.json", '"rows": 80', '"rows": 79', "layout.json"),
        ("layout.json", '"text": true', '"text": false', "layout.json"),
        ("layout.json", '"plan_digest": "', '"plan_digest": "0', "layout.json"),
        ("plan.json", '"delivered": 40', '"delivered": 41', "plan.json"),
    ],
)
def test_a_changed_word_is_pinned_on_its_file(
    file: str, old: str, new: str, blamed: str, whole: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(whole / "out", tmp_path / "out"))
    path = out / "vision_ift" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert {one.file for one in verify(out, read_data=True).findings} == {f"vision_ift/{blamed}"}


def test_offsets_of_the_index_are_held_against_the_sizes(whole: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.ipc as ipc

    from vision_ift._export.manifest import INDEX_SCHEMA

    out = Path(shutil.copytree(whole / "out", tmp_path / "out"))
    path = out / "vision_ift/index.arrow"
    reader = ipc.open_file(path.read_bytes())
    for column in (
        "offset",
        "size",
        "json_offset",
        "text_offset",
        "position",
        "shard",
        "json_size",
    ):
        with ipc.new_file(str(path), INDEX_SCHEMA) as writer:
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                if number == 2:
                    rows = batch.to_pylist()
                    rows[1][column] += 512
                    batch = pa.RecordBatch.from_pylist(rows, schema=INDEX_SCHEMA)
                writer.write_batch(batch)
        found = [one for one in verify(out).findings if one.file == "vision_ift/index.arrow"]
        assert [one.number for one in found] == [2], column


def test_a_share_is_stable_and_nested(out: Path) -> None:
    names = [f"train-{number:06d}.tar" for number in range(1000)]
    shares = [drawn(names, share_of(text)) for text in ("0.1%", "5%", "20%", "100%")]
    assert [len(one) for one in shares] == [1, 50, 200, 1000]
    assert shares[0] < shares[1] < shares[2] < shares[3]
    assert drawn(names[::-1], share_of(0.05)) == shares[1]
    # A share of an export reads so many shards, and damage elsewhere is not seen.
    shards = shards_of(out)
    read = drawn(shards, share_of("30%"))
    report = verify(out, share="30%")
    assert report.shards_read == len(read) < report.shards
    for name in shards:
        middle = 700 * 8  # behind the first header
        flip(out / name, middle)
        assert {one.file for one in verify(out, share="30%").findings} == {name} & read
        flip(out / name, middle)


@pytest.mark.parametrize("share", ["0", "101%", "-5%", "many", "1/0", "nan", 0, 2.0, ""])
def test_shares_that_are_none(share: float | str, whole: Path) -> None:
    with pytest.raises(UsageError):
        verify(whole / "out", share=share)


def test_sha256_is_written_once_and_then_held_against(out: Path) -> None:
    assert verify(out, sha256=True).sha256 == "written"
    done = subprocess.run(
        ["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=out, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, b"")
    report = verify(out, sha256=True)
    assert report.sound
    assert report.sha256 == "checked"
    name = shards_of(out)[1]
    sums = (out / "SHA256SUMS").read_text()
    (out / "SHA256SUMS").write_text(sums.replace(name, f"{name}x"))
    assert {one.kind for one in verify(out, sha256=True).findings} == {"sha256"}


def test_sha256_of_damage_is_not_written(out: Path) -> None:
    flip(out / shards_of(out)[0], 9999)
    report = verify(out, sha256=True)
    assert not report.sound
    assert not (out / "SHA256SUMS").exists()


def test_a_folder_that_is_being_written_is_not_called_damaged(out: Path) -> None:
    (out / shards_of(out)[0]).unlink()
    with locked(out / LOCK), pytest.raises(LockedError, match="is being written by process"):
        verify(out)
    assert not verify(out).sound


def test_a_rank_that_writes_is_seen(out: Path) -> None:
    with locked(out / "vision_ift/.rank-1-of-4.lock"), pytest.raises(LockedError):
        verify(out)


def test_an_unfinished_export_says_how_far_it_is(out: Path) -> None:
    (out / "vision_ift/manifest.json").unlink()
    (out / "vision_ift/done/000003.json").unlink()
    with pytest.raises(MissingInputError) as caught:
        verify(out)
    found = len(list((out / "vision_ift/done").glob("*.json")))
    assert f"unfinished: {found} of {found + 1} shards have a record" in str(caught.value)
    assert caught.value.exit_code == 66


def test_what_is_no_export_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no folder"):
        verify(tmp_path / "nowhere")
    with pytest.raises(MissingInputError, match="holds no export"):
        verify(tmp_path)


def test_dropped_rows_and_gaps_are_no_damage(tmp_path: Path, make_table: MakeTable) -> None:
    from tests.exports import dialog

    plan = plan_of(tmp_path, {"llava": make_table([dialog(n, (f"{n}.jpg",)) for n in range(3)])})
    order = plan.slice(0, 3)[1].tolist()
    for place in (0, 2):
        (tmp_path / f"{order[place]}.jpg").write_bytes(picture(place))
    for uniform in (False, True):
        out = tmp_path / f"out-{uniform}"
        export(plan, out=out, shard_bytes=1, uniform=uniform)
        report = verify(out, read_data=True)
        assert report.findings == []
        assert report.rows == 2
        (out / "vision_ift/done/000001.json").unlink()
        assert not verify(out).sound


def test_an_export_of_before_is_read(whole: Path, tmp_path: Path) -> None:
    # A layout and a manifest without the fields that came later.
    out = Path(shutil.copytree(whole / "out", tmp_path / "out"))
    for name in ("layout.json", "manifest.json"):
        path = out / "vision_ift" / name
        value = json.loads(path.read_bytes())
        for later in ("uniform", "groups", "groups_digest", "files"):
            value.pop(later, None)
        if name == "layout.json":
            value.pop("dropped", None)
            value.pop("dropped_first", None)
        path.write_text(json.dumps(value))
    assert verify(out, read_data=True).findings == []


def test_the_report_is_plain_json(whole: Path) -> None:
    import msgspec

    report = verify(whole / "out", readers=True, share=Fraction(1, 2))
    again = msgspec.json.decode(msgspec.json.encode(report), type=VerifyReport)
    assert again == report


def test_findings_say_file_and_detail() -> None:
    finding = Finding(kind="size", file="a.tar", detail="it is short")
    assert str(finding) == "a.tar: it is short"


def test_energons_index_is_compared_by_content(out: Path) -> None:
    # Another SQLite writes other bytes for the same rows.
    import sqlite3
    from contextlib import closing

    path = next(iter(sorted(out.rglob("index.sqlite"))))
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 7")
        database.commit()
    assert verify(out, read_data=True).sound
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE samples SET byte_offset = byte_offset + 512 WHERE rowid = 2")
        database.commit()
    name = path.relative_to(out).as_posix()
    assert verify(out).sound  # its size is right; what it holds is looked at with the data
    assert named(verify(out, read_data=True)) == {("sidecar", name)}
    path.write_bytes(path.read_bytes()[:-512])
    assert named(verify(out)) == {("sidecar", name)}


def test_a_wrong_offset_for_energon_is_found(out: Path) -> None:
    path = out / f"{shards_of(out)[0]}.idx"
    offsets = list(struct.unpack(f"<{path.stat().st_size // 8}Q", path.read_bytes()))
    offsets[1] += 512
    path.write_bytes(struct.pack(f"<{len(offsets)}Q", *offsets))
    assert named(verify(out)) == {("sidecar", path.relative_to(out).as_posix())}


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "wids.json",
        "train-000000.tar.idx",
        "vision_ift/layout.json",
        "vision_ift/plan.json",
        "vision_ift/recipe.yaml",
        "vision_ift/manifest.json",
        "vision_ift/index.arrow",
        "vision_ift/done/000001.json",
        "vision_ift/done/000001.arrow",
    ],
)
def test_no_bit_of_our_own_files_can_flip_unseen(name: str, whole: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(whole / "out", tmp_path / "out"))
    size = (out / name).stat().st_size
    chance = random.Random(name)
    for bit in chance.sample(range(8 * size), 25 if name.endswith("manifest.json") else 10):
        flip(out / name, bit)
        found = {one.file for one in verify(out, read_data=True).findings}
        assert name in found, bit
        flip(out / name, bit)
    assert verify(out, read_data=True).sound


def test_a_digest_that_is_damaged_is_not_pinned_on_its_file(whole: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(whole / "out", tmp_path / "out"))
    path = out / "vision_ift/manifest.json"
    value = json.loads(path.read_bytes())
    digest = value["files"]["vision_ift/plan.json"]
    other = digest[:7] + ("0" if digest[7] != "0" else "1") + digest[8:]
    path.write_text(path.read_text().replace(digest, other))
    assert named(verify(out)) == {("manifest", "vision_ift/manifest.json")}


def test_a_link_that_is_turned_meanwhile_changes_nothing(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vision_ift._verify.own import stand

    link = tmp_path / "current"
    link.symlink_to(whole / "out")

    def turn_then_stand(folder: Path, **more: bool) -> Any:
        link.unlink()
        link.symlink_to(whole / "groups")
        return stand(folder, **more)

    monkeypatch.setattr("vision_ift._verify.verify.stand", turn_then_stand)
    report = verify(link, read_data=True)
    assert report.findings == []
    assert report.path == str(link)
    assert report.shards == len(shards_of(whole / "out"))


def test_what_the_system_refuses_is_an_error_of_ours(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vision_ift._errors import DiskError

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error", "shards")

    monkeypatch.setattr(Path, "iterdir", fail)
    with pytest.raises(DiskError, match="shards cannot be opened: Input/output error"):
        verify(whole / "out")


def test_digests_that_are_none_are_a_finding(whole: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(whole / "out", tmp_path / "out"))
    path = out / "vision_ift/manifest.json"
    digest = json.loads(path.read_bytes())["files"]["vision_ift/recipe.yaml"]
    path.write_text(path.read_text().replace(digest, "no digest at all"))
    (out / "vision_ift/recipe.yaml").write_bytes(b"{\xff")
    assert named(verify(out)) == {
        ("manifest", "vision_ift/manifest.json"),
        ("recipe", "vision_ift/recipe.yaml"),
    }
