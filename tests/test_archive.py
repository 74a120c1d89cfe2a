"""Archives are read in place, whatever their members are called, and damage is noticed."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

import fsspec
import pytest

from vision_ift._archive import Archive, archive_of, quote_member
from vision_ift._errors import MissingInputError, RecordError
from vision_ift._images import Images

NAMES = [
    "a.jpg",
    "dir/b.jpg",
    "with space+plus.jpg",
    "日本 é.jpg",
    "a::b.jpg",
    "glob*[x]?.jpg",
    "hash#1%20.jpg",
    "quote'\".jpg",
    "line\nbreak.jpg",
]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w") as file:
        for number, name in enumerate(NAMES):
            method = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[number % 2]
            file.writestr(zipfile.ZipInfo(name), name.encode() * 50, compress_type=method)
        file.writestr("empty/", b"")
    return path


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_every_name_survives_the_way_through_fsspec(archive: Path, name: str) -> None:
    reference = f"vift://{archive}!/{quote_member(name)}"
    assert fsspec.open(reference).open().read() == name.encode() * 50
    files = fsspec.filesystem("vift")
    assert files.cat_file(reference, start=1, end=4) == (name.encode() * 50)[1:4]
    assert files.info(reference)["size"] == len(name.encode()) * 50
    assert files.exists(reference)
    assert not files.exists(reference + "x")


def test_a_member_is_found_through_a_folder_of_an_archive(archive: Path) -> None:
    images = Images(archive.parent)
    reference = images.find("b.jpg", folders=("none.zip", "pictures.zip!/dir"))
    assert reference == "vift://pictures.zip!/dir/b.jpg"
    assert images.read(reference) == b"dir/b.jpg" * 50
    assert images.find("empty", folders=("pictures.zip",)) is None
    with pytest.raises(MissingInputError, match="no member 'nope'"):
        images.read("vift://pictures.zip!/nope")
    with pytest.raises(RecordError, match="leaves the root"):
        images.find("../b.jpg", folders=("pictures.zip!/dir",))


def test_the_directory_is_read_once_until_the_file_changes(archive: Path) -> None:
    first = archive_of(str(archive))
    assert archive_of(str(archive)) is first
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("new.jpg", b"new")
    assert archive_of(str(archive)).read("new.jpg") == b"new"


def test_a_forked_reader_does_not_move_the_others_place(archive: Path) -> None:
    opened = Archive(str(archive))
    child = os.fork()
    if child == 0:
        good = all(opened.read(name) == name.encode() * 50 for name in NAMES for _ in range(50))
        os._exit(0 if good else 1)
    good = all(opened.read(name) == name.encode() * 50 for name in NAMES for _ in range(50))
    assert os.waitpid(child, 0)[1] == 0
    assert good


def test_damage_is_an_error_that_names_the_member(archive: Path) -> None:
    data = bytearray(archive.read_bytes())
    at = data.index(b"a.jpga.jpg")
    data[at + 20] ^= 1  # behind the name in the local header
    archive.write_bytes(data)
    with pytest.raises(RecordError, match=r"member 'a\.jpg': the bytes are damaged"):
        Archive(str(archive)).read("a.jpg")
    archive.write_bytes(data[: len(data) // 2])
    with pytest.raises(RecordError, match="is damaged"):
        Archive(str(archive))
    with pytest.raises(MissingInputError, match="cannot be opened"):
        Archive(str(archive) + "x")


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.jpg", b"\0" * 20_000_000)
    with pytest.raises(RecordError, match="unpacks to 20,000,000 bytes"):
        Archive(str(path)).read("a.jpg")
    # A directory that understates the size does not help either: at most size + 1 bytes come out.
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packed.compress(b"\0" * 20_000_000) + packed.flush()
    data = path.read_bytes()
    lying = data.replace((20_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    assert lying != data
    assert body in lying
    path.write_bytes(lying)
    with pytest.raises(RecordError, match="damaged"):
        Archive(str(path)).read("a.jpg")
