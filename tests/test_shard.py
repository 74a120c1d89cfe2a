"""One shard: USTAR as every reader takes it, and the JSON of a row."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

import msgspec
import pytest
import xxhash

from tests.exports import dialog, plan_of, small_plan, wanted
from tests.rows import MakeTable, table_of
from vision_ift._export.document import documents, member_names
from vision_ift._export.encode import encoded, names_as_json
from vision_ift._export.manifest import Layout
from vision_ift._export.shard import keys, write_shard
from vision_ift._export.ustar import header
from vision_ift._plan.plan import Plan


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
    as_json = msgspec.json.encode(found[0][0])
    assert as_json == msgspec.json.encode(msgspec.json.decode(as_json), order="sorted")


def test_members_made_in_vectors_are_those_of_the_documents(
    tmp_path: Path, make_table: MakeTable
) -> None:
    hostile = ["", '"', "\\", "\n", "\u2028", "日本", "\x00\x1f", '","', "a\nb\r\n", "\U0001f600"]
    rows = [
        dialog(n, ("a.jpg",) * (n % 3), name=f"{n}{text}", task=text or None, meta={"x": text})
        for n, text in enumerate(hostile * 3)
    ]
    plan = plan_of(tmp_path, {"llava": make_table(rows)})
    found = plan.rows(0, len(plan)).slice(3)
    (some,) = encoded(found)
    keys_ = [f"{n:04d}" for n in range(len(some))]
    expected = [
        (document, references, document.words.encode()) for document, references in documents(found)
    ]
    images = []
    for document, references, _ in expected:
        document.images = member_names(["jpg"] * len(references))
        images.append(names_as_json(document.images))
    members = some.members(keys_, images, text=True)
    for n, (document, references, words) in enumerate(expected):
        text = msgspec.json.encode(document)
        assert some.references(n) == references
        assert b"".join(some.member(n, images[n])) == text
        assert bytes(some.words[n]) == words
        block = b"".join(
            header(f"{keys_[n]}.{ending}".encode(), len(data)) + data + bytes(-len(data) % 512)
            for ending, data in (("json", text), ("txt", words))
        )
        assert bytes(members.blocks[n]) == block
        assert (members.json_sizes[n], members.text_sizes[n]) == (len(text), len(words))
        assert some.sizes(images, text=True)[n] == len(block)


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
