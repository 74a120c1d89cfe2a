"""One shard: USTAR as every reader takes it, and the JSON of a row."""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from tests.exports import dialog, plan_of, small_plan, wanted
from tests.rows import MakeTable, table_of
from vision_ift._errors import OutputError
from vision_ift._manifest import Layout
from vision_ift._plan import Plan
from vision_ift._shard import Tar, documents, header, keys, member_names, write_shard


@given(
    st.text("abcXYZ019_-.", min_size=1, max_size=100),
    st.integers(0, 8**11 - 1) | st.just(8**11 - 1),
)
def test_tarfile_reads_every_header(name: str, size: int) -> None:
    found = tarfile.TarInfo.frombuf(header(name.encode(), size), "ascii", "strict")
    assert (found.name, found.size) == (name, size)
    assert (found.mode, found.uid, found.gid, found.mtime) == (0o644, 0, 0, 0)
    assert (found.uname, found.gname, found.isreg()) == ("", "", True)


def test_a_member_that_ustar_cannot_state_is_refused() -> None:
    with pytest.raises(OutputError, match="8 GiB"):
        header(b"a.jpg", 8**11)


@pytest.mark.parametrize("most", [1 << 30, 700, 1])
def test_a_tar_holds_what_was_added_however_short_the_writes(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(file: int, pieces: Sequence[bytes | memoryview]) -> int:
        return os.write(file, b"".join(pieces)[:most])

    contents = {f"{size:06d}.jpg": bytes(range(256)) * 5 for size in range(3)}
    contents |= {"a.txt": b"", "b.txt": b"x" * 512, "c.txt": b"y" * 511}
    if most > 1:
        contents["large.jpg"] = os.urandom(1 << 20)
        monkeypatch.setattr("vision_ift._shard._MOST_PIECES", 5)
    monkeypatch.setattr(os, "writev", short)
    path = tmp_path / "a.tar"
    with Tar(path) as tar:
        offsets = {name: tar.add(name, data) for name, data in contents.items()}
        digest = tar.finish()
    data = path.read_bytes()
    assert digest == xxhash.xxh3_128_hexdigest(data)
    assert tar.offset == len(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as found:
        assert {one.name: one.offset_data for one in found} == offsets
        assert all(data[offsets[name] :].startswith(contents[name]) for name in contents)


def test_image_members_are_numbered_where_there_are_several() -> None:
    assert member_names([]) == []
    assert member_names(["webp"]) == ["webp"]
    many = member_names(["jpg"] * 101)
    assert many[0] == "000.jpg"
    assert many == sorted(many)


def test_documents_say_the_rows(tmp_path: Path) -> None:
    plan = small_plan(tmp_path, rows=17)
    rows = wanted(plan)
    # Also from a slice, whose offsets do not start at 0.
    found = list(documents(plan.rows(0, len(plan)).slice(5, 9)))
    for row, (document, references) in zip(rows[5:14], found, strict=True):
        del row["pictures"]
        assert msgspec.to_builtins(document) == {**row, "images": []}
        assert len(references) == len(row["image_paths"])
    encoded = msgspec.json.encode(found[0][0])
    assert encoded == msgspec.json.encode(msgspec.json.decode(encoded), order="sorted")


def test_keys_are_plain_whatever_a_part_is_called(tmp_path: Path) -> None:
    name = "日本/ä.b __x__" + "y" * 200
    plan = plan_of(tmp_path, {name: table_of(tmp_path / "t", 3, source="llava")})
    width, (ending,) = keys(plan)
    assert (width, ending[:14]) == (9, "___ü_b___x__yy".replace("ü", "_"))
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,80}", f"{0:0{width}d}-{ending}")


def _layout(plan: Plan, *, text: bool) -> Layout:
    return Layout(
        plan_digest=plan.digest,
        rows=len(plan),
        rows_per_shard=2,
        shard_bytes=1,
        measured_rows=1,
        measured_bytes=1,
        split="val",
        text=text,
    )


@pytest.mark.parametrize("text", [True, False])
def test_members_stand_in_order(text: bool, tmp_path: Path, make_table: MakeTable) -> None:
    (tmp_path / "1.jpg").write_bytes(b"GIF89a a gif under another name")
    (tmp_path / "2.png").write_bytes(b"\xff\xd8\xff a jpeg")
    rows = [dialog(0), dialog(1, ("1.jpg",)), dialog(2, ("1.jpg", "2.png", "1.jpg"))]
    plan = plan_of(tmp_path, {"llava": make_table(rows)})
    layout = _layout(plan, text=text)
    assert (layout.shards, layout.span(1)) == (2, (2, 3))
    endings: dict[str, list[str]] = {}
    for number in range(2):
        shard, index = write_shard(plan, layout, number, tmp_path)
        data = (tmp_path / f"val-{number:06d}.tar").read_bytes()
        assert (shard.bytes, shard.xxh3_128) == (len(data), xxhash.xxh3_128_hexdigest(data))
        assert shard.rows == index.num_rows
        with tarfile.open(tmp_path / shard.name) as tar:
            for name in tar.getnames():
                key, _, ending = name.partition(".")
                endings.setdefault(key, []).append(ending)
    more = ["json", "txt"] if text else ["json"]
    assert list(endings) == [f"{position:09d}-llava" for position in range(3)]
    assert sorted(endings.values()) == sorted(
        [more, ["gif", *more], ["00.gif", "01.jpg", "02.gif", *more]]
    )
