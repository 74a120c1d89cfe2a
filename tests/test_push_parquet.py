"""One Parquet shard: bounded row groups, pictures as they are, equal bytes for equal rows."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.exports import dialog, picture
from tests.rows import table_of
from vision_ift._errors import IntegrityError, RecordError
from vision_ift._pictures.images import open_file
from vision_ift._push import parquet
from vision_ift._push.parquet import Shard, write_shard
from vision_ift._push.rows import Cut, RowsOfTable, cut


def rows_of(root: Path, sizes: list[list[int]]) -> RowsOfTable:
    """A table whose rows show pictures of these sizes in bytes."""
    root.mkdir(parents=True)
    found, number = [], 0
    for row, pictures in enumerate(sizes):
        names = []
        for size in pictures:
            names.append(f"{number}.jpg")
            (root / names[-1]).write_bytes(picture(number, size=size))
            number += 1
        found.append(dialog(row, tuple(names)))
    table = table_of(root / "table", found, source="llava")
    return RowsOfTable(table, root, "train", np.arange(len(found)))


def write(rows: RowsOfTable, file: Path, **how: Any) -> tuple[Shard, Cut]:
    made = cut(rows, max_shard_bytes=10**9)
    return write_shard(rows, made, 0, "a.parquet", file, **how), made


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.lists(st.integers(16, 900), max_size=3), min_size=1, max_size=30),
    data=st.data(),
)
def test_row_groups_are_bounded_and_pictures_are_as_they_were(
    sizes: list[list[int]],
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    bound, most = data.draw(st.integers(100, 3000)), data.draw(st.integers(1, 12))
    with monkeypatch.context() as patch:
        patch.setattr(parquet, "GROUP_BYTES", bound)
        patch.setattr(parquet, "_BUFFER_BYTES", data.draw(st.integers(64, 4000)))
        patch.setattr(parquet, "GROUP_ROWS", most)
        rows = rows_of(folder / "root", sizes)
        shard, _ = write(rows, folder / "a.parquet")
        write(rows, folder / "b.parquet")
    written = (folder / "a.parquet").read_bytes()
    assert written == (folder / "b.parquet").read_bytes()
    assert shard.sha256 == hashlib.sha256(written).hexdigest()
    assert (shard.bytes, shard.rows) == (len(written), len(sizes))
    found: list[list[int]] = []
    with pq.ParquetFile(folder / "a.parquet") as file:
        for number in range(file.num_row_groups):
            group = file.read_row_group(number).column("images").to_pylist()
            held = [[len(one["bytes"]) for one in row] for row in group]
            assert len(group) <= most
            assert len(group) == 1 or sum(map(sum, held)) <= bound
            found += held
        images = file.read(["images"]).column("images").to_pylist()
    assert found == sizes
    flat = [one for row in images for one in row]
    for number, one in enumerate(flat):
        assert one["bytes"] == picture(number, size=len(one["bytes"]))
        assert len(one["path"]) == 36


def test_a_row_that_no_array_can_hold_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_MOST_ROW_BYTES", 1000)
    rows = rows_of(tmp_path / "root", [[300], [600, 600], [400]])
    shard, _ = write(rows, tmp_path / "a.parquet")
    assert shard.dropped == {"bad_image": 1}
    assert shard.dropped_first["bad_image"][0]["id"] == "llava/1"
    with pytest.raises(RecordError, match="at most 1,000"):
        write(rows, tmp_path / "b.parquet", strict=True)
    assert not (tmp_path / "b.parquet").exists()


def test_a_shard_of_no_rows_has_no_file(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "root", [[300]])
    (tmp_path / "root/0.jpg").unlink()
    shard, _ = write(rows, tmp_path / "a.parquet")
    assert (shard.sha256, shard.rows, shard.dropped) == ("", 0, {"missing_image": 1})
    assert not (tmp_path / "a.parquet").exists()


def test_a_picture_that_grows_while_it_is_read_stops_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(tmp_path / "root", [[300]])

    def shorter(path: str) -> tuple[int, int]:
        file, size = open_file(path)
        return file, size - 1

    monkeypatch.setattr(parquet, "open_file", shorter)
    with pytest.raises(IntegrityError, match="changed while it was read"):
        write(rows, tmp_path / "a.parquet")
    assert not (tmp_path / "a.parquet").exists()


def test_pictures_in_archives_and_several_of_one_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as file:
        file.writestr("in/a.png", picture(1, kind="png"))
    reference = "vift://all.zip!/in/a.png"
    table = table_of(tmp_path / "t", [dialog(0, (reference, reference))], source="llava")
    rows = RowsOfTable(table, tmp_path, "train", np.arange(1))
    write(rows, tmp_path / "a.parquet")
    (row,) = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert [one["bytes"] for one in row["images"]] == [picture(1, kind="png")] * 2
    assert row["images"][0]["path"].endswith(".png")
    assert row["image_paths"] == [f"their/{reference}"] * 2


def test_the_cut_knows_when_pictures_changed(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "root", [[300], [500]] * 10)
    first = cut(rows, max_shard_bytes=4000)
    assert first.shards > 2
    assert sum(b - a for a, b in map(first.span, range(first.shards))) == 20
    assert cut(rows, max_shard_bytes=4000) == first
    (tmp_path / "root/3.jpg").write_bytes(picture(3, size=777))
    assert cut(rows, max_shard_bytes=4000).key != first.key
