"""Pictures embedded in Parquet are read in place, one row group at a time."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vision_ift._archives import parquet as _parquet
from vision_ift._archives.archive import archive_of
from vision_ift._archives.parquet import Parquet
from vision_ift._errors import MissingInputError, RecordError
from vision_ift._pictures.images import Images

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(number: int, entry: int = 0) -> bytes:
    return b"%d-%d;" % (number, entry) * 100


def one(number: int, entry: int = 0) -> dict[str, Any]:
    return {"bytes": picture(number, entry), "path": f"{number}.jpg"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Ten rows in groups of four: row n has n % 3 pictures, and every fifth no single one."""
    rows = range(10)
    columns = {
        "images": pa.array([[one(n, e) for e in range(n % 3)] for n in rows], pa.list_(STRUCT)),
        "image": pa.array([one(n) if n % 5 else None for n in rows], STRUCT),
        "raw": pa.array([picture(n) for n in rows], pa.binary()),
        "raw/list": pa.array([[picture(n)] for n in rows], pa.large_list(pa.large_binary())),
        "by path": pa.array([{"bytes": None, "path": "/etc/passwd"}] * 10, STRUCT),
        "text": pa.array(["image"] * 10),
        "boxes": pa.array([[1.0, 2.0]] * 10),
    }
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=4)
    return path


def test_every_picture_is_a_member(path: Path) -> None:
    archive = archive_of(str(path))
    wanted = {f"images/{n}/{e}": picture(n, e) for n in range(10) for e in range(n % 3)}
    wanted |= {f"image/{n}": picture(n) for n in range(10) if n % 5}
    wanted |= {f"raw/{n}": picture(n) for n in range(10)}
    wanted |= {f"raw/list/{n}/0": picture(n) for n in range(10)}
    assert list(archive) == list(wanted)
    assert len(archive) == len(wanted)
    for member, data in wanted.items():
        assert member in archive
        assert archive.read(member) == data
        assert archive.size(member) == len(data)


@pytest.mark.parametrize(
    "member",
    [
        "images/0/0",  # an empty list
        "images/2/2",
        "images/2",
        "images/10/0",
        "images/-1/0",
        "images/٣/0",
        "images/02/0",
        "images/99999999999999999999/0",
        "image/5",  # null
        "image/1/0",
        "by path/1",
        "text/1",
        "boxes/1/0",
        "nope/1",
        "",
        "images/1/",
    ],
)
def test_what_is_no_member(path: Path, member: str) -> None:
    archive = archive_of(str(path))
    assert member not in archive
    with pytest.raises(MissingInputError, match="no member"):
        archive.read(member)


def test_a_reference_is_found_read_and_decoded(path: Path) -> None:
    images = Images(path.parent)
    reference = images.find("images/2/1", folders=("data.parquet",))
    assert reference == "vift://data.parquet!/images/2/1"
    assert images.read(reference) == picture(2, 1)
    assert images.size(reference) == len(picture(2, 1))
    assert images.find("raw/list/3/0", folders=("data.parquet!/",)) is not None
    rows = datasets.Dataset.from_dict(
        {"image": [{"path": images.absolute(reference), "bytes": None}]}
    ).cast_column("image", datasets.Image(decode=False))
    with datasets.utils.file_utils.xopen(rows[0]["image"]["path"], "rb") as file:
        assert file.read() == picture(2, 1)


def test_a_row_group_is_decoded_once_and_few_are_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    decode = Parquet._decode

    def counted(self: Parquet, column: str, number: int) -> Any:
        decoded.append((column, number))
        return decode(self, column, number)

    monkeypatch.setattr(Parquet, "_decode", counted)
    archive = Parquet(str(path))
    for n in range(10):
        archive.read(f"raw/{n}")
    assert decoded == [("raw", 0), ("raw", 1), ("raw", 2)]
    archive.read("raw/0")
    assert len(decoded) == 3
    monkeypatch.setattr(_parquet, "_KEPT_BYTES", 1)
    for n in (0, 9, 1, 2):
        archive.read(f"image/{n + 1 if n == 0 else n}")
    assert decoded[3:] == [("image", 0), ("image", 2), ("image", 0)]


def test_threads_and_a_fork_read_the_right_bytes(path: Path) -> None:
    archive = archive_of(str(path))
    wrong: list[int] = []

    def read() -> None:
        wrong.extend(n for n in list(range(10)) * 20 if archive.read(f"raw/{n}") != picture(n))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert isinstance(archive, Parquet)
    with archive._lock:  # as if another thread were reading while this process forks
        child = os.fork()
        if child == 0:
            os._exit(0 if archive.read("image/9") == picture(9) else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("cut", [0, 3, 8, 100, -1], ids=str)
def test_a_damaged_file_is_an_error(path: Path, cut: int) -> None:
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(RecordError, match="no Parquet file"):
        archive_of(str(path))


def test_damaged_pages_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"image": pa.array([picture(n) for n in range(100)], pa.binary())})
    pq.write_table(table, path, write_page_checksum=True, compression="none", use_dictionary=False)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"50-0;", b"51-0;", 1))
    with pytest.raises(RecordError, match="no Parquet file that can be read"):
        archive_of(str(path)).read("image/50")


def test_a_row_group_too_large_is_refused_before_it_is_decoded(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_parquet, "_MAX_GROUP_BYTES", 100)
    with pytest.raises(RecordError, match="row groups of 100 rows"):
        archive_of(str(path)).read("raw/1")


def test_a_file_without_pictures_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(RecordError, match="no column holds pictures"):
        archive_of(str(tmp_path / "a.parquet"))
    with pytest.raises(MissingInputError):
        archive_of(str(tmp_path / "b.parquet"))


def test_what_datasets_writes_is_read(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict(
        {"images": [[one(0), one(1)], []]},
        features=datasets.Features({"images": datasets.List(datasets.Image())}),
    )
    rows.to_parquet(tmp_path / "a.parquet")
    archive = archive_of(str(tmp_path / "a.parquet"))
    assert list(archive) == ["images/0/0", "images/0/1"]
    assert archive.read("images/0/1") == picture(1)
