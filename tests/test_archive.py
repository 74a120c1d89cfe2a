"""Archives are read in place, whatever their members are called, and damage is noticed."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.archives import Piece, tarred, zipped64
from tests.test_hostile_archives import TARS, ZIPS
from vision_ift._archives import members as _members
from vision_ift._archives.archive import ArchiveFileSystem, archive_of, quote_member
from vision_ift._archives.members import MAX_MEMBER_BYTES, Members, plain_name
from vision_ift._archives.tar import Tar
from vision_ift._archives.zip import Zip
from vision_ift._errors import MissingInputError, RecordError
from vision_ift._pictures.images import Images

_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0\\"), min_size=1, max_size=80)
_CONTENTS = st.dictionaries(_NAMES, st.binary(max_size=300), min_size=1, max_size=8)

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
    opened = archive_of(str(archive))
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
        archive_of(str(archive)).read("a.jpg")
    archive.write_bytes(data[: len(data) // 2])
    with pytest.raises(RecordError, match="it is cut off at"):
        archive_of(str(archive))
    with pytest.raises(MissingInputError, match="cannot be opened"):
        archive_of(str(archive) + "x")


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.jpg", b"\0" * 20_000_000)
    with pytest.raises(RecordError, match="unpacks to 20,000,000 bytes"):
        archive_of(str(path)).read("a.jpg")
    # A directory that understates the size does not help either: at most size + 1 bytes come out.
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packed.compress(b"\0" * 20_000_000) + packed.flush()
    data = path.read_bytes()
    lying = data.replace((20_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    assert lying != data
    assert body in lying
    path.write_bytes(lying)
    with pytest.raises(RecordError, match="damaged"):
        archive_of(str(path)).read("a.jpg")


class Bytes:
    """A file that is no file."""

    path = "memory"
    far = False

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self.data = data

    def read_at(self, offset: int, length: int) -> bytes:
        assert offset >= 0
        assert 0 <= length <= self.size + 70_000, "more is asked for than the file can hold"
        return self.data[offset : offset + length]


def plain(contents: dict[str, bytes]) -> dict[str, bytes]:
    """What should be found: safe names, made plain, the last of equal ones; no folders."""
    return {
        name: data
        for raw, data in contents.items()
        if not raw.endswith("/") and (name := plain_name(raw)) is not None
    }


@given(contents=_CONTENTS, deflated=st.booleans(), long=st.booleans())
def test_a_zip_holds_what_zipfile_wrote(
    contents: dict[str, bytes], deflated: bool, long: bool
) -> None:
    out = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    with zipfile.ZipFile(out, "w", method) as file:
        for name, data in contents.items():
            with file.open(name, "w", force_zip64=long) as member:
                member.write(data)
    wanted = plain(contents)
    if wanted:
        archive = Zip(Bytes(out.getvalue()))
        assert {name: archive.read(name) for name in archive} == wanted
        assert len(archive) == len(wanted)
        assert {name: archive.size(name) for name in wanted} == {
            name: len(data) for name, data in wanted.items()
        }


@given(contents=_CONTENTS, style=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_a_tar_holds_what_tarfile_wrote(contents: dict[str, bytes], style: int) -> None:
    contents = {name: data for name, data in contents.items() if not name.endswith("/")}
    data = tarred(*(Piece(name=name, data=data) for name, data in contents.items()), style=style)
    wanted = plain(contents)
    if wanted:
        archive = Tar(Bytes(data))
        assert {name: archive.read(name) for name in archive} == wanted
        assert not archive.damage


@given(data=st.data())
def test_damaged_archives_give_right_bytes_or_our_errors(data: st.DataObject) -> None:
    suffix = data.draw(st.sampled_from(["zip", "tar"]))
    kind: type[Zip | Tar] = Zip if suffix == "zip" else Tar
    cases = ZIPS if suffix == "zip" else TARS
    raw = bytearray(cases[data.draw(st.sampled_from(sorted(cases)))].data)
    for _ in range(data.draw(st.integers(0, 6))):
        if raw:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw
    try:
        archive = kind(Bytes(bytes(raw)))
        names = list(archive)
    except RecordError:
        return
    assert len(names) == len(set(names)) == len(archive)
    for name in names:
        assert plain_name(name) == name
        try:
            assert len(archive.read(name)) == archive.size(name) <= MAX_MEMBER_BYTES
        except RecordError:
            continue


@given(names=st.lists(st.sampled_from("abcdefgh"), max_size=20), equal=st.booleans())
def test_members_are_found_whatever_their_hashes(names: list[str], equal: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if equal:
            patch.setattr(_members, "hash", len, raising=False)
        numbers = np.arange(len(names), dtype=np.int64).reshape(-1, 1)
        members = Members([name.encode() for name in names], numbers)
        wanted = {name: (place,) for place, name in enumerate(names)}
        assert {name: members.get(name) for name in "abcdefgh"} == {
            name: wanted.get(name) for name in "abcdefgh"
        }
        assert sorted(members) == sorted(wanted)
        assert len(members) == len(wanted)
        assert members.replaced == len(names) - len(wanted)
        assert members.get("\ud800") is None


def test_a_tar_is_found_through_images_and_fsspec(tmp_path: Path) -> None:
    (tmp_path / "sa_000001.tar").write_bytes(tarred(Piece(name="./sa_1.jpg", data=b"one")))
    images = Images(tmp_path)
    reference = images.find("sa_1.jpg", folders=("sa_000000.tar", "sa_000001.tar"))
    assert reference == "vift://sa_000001.tar!/sa_1.jpg"
    assert images.read(reference) == b"one"
    assert images.size(reference) == 3
    with fsspec.open(images.absolute(reference)) as file:
        assert file.read() == b"one"


@pytest.mark.parametrize("name", ["a.tar.gz", "a.TGZ", "a.tar.zst", "a.tar.bz2", "a.txz"])
def test_a_packed_tar_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(tarred(Piece(name="a.jpg")))
    with pytest.raises(RecordError, match="unpack it to a plain"):
        archive_of(str(tmp_path / name))


def test_an_archive_is_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.zip")
    for name in ("a.zip", "."):
        with pytest.raises((MissingInputError, RecordError), match="not a regular file"):
            archive_of(str(tmp_path / name))


@pytest.mark.parametrize(
    ("given_path", "stripped"),
    [
        ("vift:///a/b.zip!/m", "/a/b.zip!/m"),
        ("vift://a/b.zip!/m", "/a/b.zip!/m"),
        ("/a/b.zip!/m", "/a/b.zip!/m"),
        ("vift://https://host/b.zip!/m", "https://host/b.zip!/m"),
        ("vift://https:/host/b.zip!/m", "https://host/b.zip!/m"),
        ("vift:///http://host:80/b.zip?x=1!/m", "http://host:80/b.zip?x=1!/m"),
    ],
)
def test_what_datasets_does_to_slashes_is_undone(given_path: str, stripped: str) -> None:
    assert ArchiveFileSystem._strip_protocol(given_path) == stripped


def test_a_directory_of_many_is_small_and_whole() -> None:
    # Unusual names in between, so that both ways of reading an entry meet.
    with tempfile.SpooledTemporaryFile() as out:
        with zipfile.ZipFile(out, "w") as file:
            for number in range(70_000):  # more than the short count can say
                name = f"d/{number}.jpg" if number % 1000 else f"d/é{number}.jpg"
                file.writestr(zipfile.ZipInfo(name), b"%d" % number)
        out.seek(0)
        archive = Zip(Bytes(out.read()))
    assert len(archive) == 70_000
    assert archive.read("d/69999.jpg") == b"69999"
    assert archive.read("d/é69000.jpg") == b"69000"


def test_a_zip64_archive_is_found_through_fsspec(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped64())
    assert not fsspec.filesystem("vift").exists(f"vift://{tmp_path}/a.zip!/a.jpg")
