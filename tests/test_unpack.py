"""Archives of strangers: what is wanted of them is unpacked, and nothing leaves its folder."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from vision_ift._errors import DiskError, IntegrityError, OutputError
from vision_ift._fetch import unpack as _unpack
from vision_ift._fetch.unpack import unpack

RULES = {"a/list.json": "out/list.json", "pictures/*.jpg": "out/pictures/"}
GOOD = {
    "a/list.json": b"[1]",
    "pictures/1.jpg": b"\xff\xd8one",
    "pictures/2.jpg": b"\xff\xd8two",
    "pictures/notes.txt": b"not wanted",
    "__MACOSX/pictures/._1.jpg": b"not wanted",
}


def zipped(
    path: Path, members: dict[str, bytes], *, more: Callable[..., None] | None = None
) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("pictures")
        for name, data in members.items():
            archive.writestr(name, data)
        if more:
            more(archive)
    return path


def tarred(
    path: Path, members: dict[str, bytes], *, more: Callable[..., None] | None = None
) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        if more:
            more(archive)
    return path


def tree(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(("make", "name"), [(zipped, "a.zip"), (tarred, "a.tar.gz")])
def test_what_is_wanted_goes_to_its_place(
    make: Callable[..., Path], name: str, root: Path, tmp_path: Path
) -> None:
    archive = make(tmp_path / name, GOOD)
    told: list[tuple[int, int]] = []
    made = unpack(archive, RULES, root=root, told=lambda *one: told.append(one))
    assert [one.place for one in made] == [
        "out/list.json",
        "out/pictures/1.jpg",
        "out/pictures/2.jpg",
    ]
    assert [one.bytes for one in made] == [3, 5, 5]
    assert told[-1] == (13, 13)
    assert tree(root) == {
        "out/list.json": b"[1]",
        "out/pictures/1.jpg": b"\xff\xd8one",
        "out/pictures/2.jpg": b"\xff\xd8two",
    }
    before = os.stat(root / "out/list.json").st_ino
    (root / "out/pictures/2.jpg").unlink()  # it goes on where it stopped
    assert unpack(archive, RULES, root=root) == made
    if make is zipped:
        assert os.stat(root / "out/list.json").st_ino == before
    (root / "out/list.json").write_bytes(b"mine")
    with pytest.raises(OutputError, match="is not what"):
        unpack(archive, RULES, root=root)
    assert (root / "out/list.json").read_bytes() == b"mine"
    unpack(archive, RULES, root=root, replace=True)
    assert (root / "out/list.json").read_bytes() == b"[1]"


def _link_in_zip(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("pictures/3.jpg")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(info, "/etc/passwd")


def _device_in_zip(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("pictures/3.jpg")
    info.external_attr = (stat.S_IFIFO | 0o666) << 16
    archive.writestr(info, "")


def _twice(archive: zipfile.ZipFile) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("pictures/1.jpg", b"another")


def _special(kind: bytes) -> Callable[[tarfile.TarFile], None]:
    def add(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo("pictures/3.jpg")
        info.type = kind
        info.linkname = "/etc/passwd"
        archive.addfile(info)

    return add


def _huge_header(archive: tarfile.TarFile) -> None:
    info = tarfile.TarInfo("pictures/3.jpg")
    info.type = tarfile.XHDTYPE
    info.size = 1 << 33
    archive.addfile(info)


NAMES = [
    "../evil.jpg",
    "pictures/../../evil.jpg",
    "/etc/evil.jpg",
    "pictures\\..\\..\\evil.jpg",
    "C:/evil.jpg",
    "file:///evil.jpg",
    "pictures/\x01evil.jpg",
    "pictures/" + "n" * 2000 + ".jpg",
]
BAD: list[tuple[str, Callable[[Path], Path], str]] = [
    *(
        (f"zip {name[:24]!r}", lambda f, n=name: zipped(f / "a.zip", {**GOOD, n: b"x"}), "path")
        for name in NAMES
    ),
    *(
        (f"tar {name[:24]!r}", lambda f, n=name: tarred(f / "a.tar.gz", {**GOOD, n: b"x"}), "path")
        for name in NAMES
    ),
    ("zip link", lambda f: zipped(f / "a.zip", GOOD, more=_link_in_zip), "no regular file"),
    ("zip fifo", lambda f: zipped(f / "a.zip", GOOD, more=_device_in_zip), "no regular file"),
    ("zip twice", lambda f: zipped(f / "a.zip", GOOD, more=_twice), "twice"),
    (
        "zip bomb",
        lambda f: zipped(f / "a.zip", {**GOOD, "pictures/3.jpg": bytes(30_000_000)}),
        "unpack to 30,000,000",
    ),
    *(
        (
            f"tar {kind!r}",
            lambda f, k=kind: tarred(f / "a.tar.gz", GOOD, more=_special(k)),
            "no regular file",
        )
        for kind in (
            tarfile.SYMTYPE,
            tarfile.LNKTYPE,
            tarfile.CHRTYPE,
            tarfile.FIFOTYPE,
            tarfile.GNUTYPE_SPARSE,
        )
    ),
    (
        "tar bomb",
        lambda f: tarred(f / "a.tar.gz", {**GOOD, "pictures/3.jpg": bytes(30_000_000)}),
        "unpacks to too much",
    ),
    ("tar header", lambda f: tarred(f / "a.tar.gz", GOOD, more=_huge_header), "refused|damaged"),
    ("lacks one", lambda f: zipped(f / "a.zip", {"a/list.json": b"[]"}), "holds no pictures"),
    ("no zip", lambda f: _written(f / "a.zip", b"<html>not found</html>"), "damaged"),
    ("no tar", lambda f: _written(f / "a.tar.gz", b"<html>not found</html>"), "damaged"),
    ("cut tar", lambda f: _cut(tarred(f / "a.tar.gz", {**GOOD, "x": os.urandom(9000)})), "damaged"),
    ("wrong CRC", lambda f: _damaged(zipped(f / "a.zip", GOOD)), "damaged"),
    ("overlap", lambda f: _overlapping(zipped(f / "a.zip", GOOD)), "overlap"),
    ("encrypted", lambda f: _encrypted(zipped(f / "a.zip", GOOD)), "encrypted"),
]


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _cut(path: Path) -> Path:
    return _written(path, path.read_bytes()[:-4000])


def _damaged(path: Path) -> Path:
    """Change the CRC of the list, in the directory and before the member."""
    crc = __import__("zlib").crc32(GOOD["a/list.json"]).to_bytes(4, "little")
    return _written(path, path.read_bytes().replace(crc, b"\1\2\3\4"))


def _directory(path: Path, name: str) -> int:
    """Where the directory speaks of a member."""
    data = path.read_bytes()
    return data.rindex(name.encode()) - 46


def _overlapping(path: Path) -> Path:
    data = bytearray(path.read_bytes())
    for name in GOOD:
        at = _directory(path, name)
        data[at + 20 : at + 24] = (len(data) // 2).to_bytes(4, "little")
    return _written(path, bytes(data))


def _encrypted(path: Path) -> Path:
    data = bytearray(path.read_bytes())
    data[_directory(path, "a/list.json") + 8] |= 1
    return _written(path, bytes(data))


@pytest.mark.parametrize(("make", "said"), [one[1:] for one in BAD], ids=[one[0] for one in BAD])
def test_a_hostile_archive_is_refused(
    make: Callable[[Path], Path], said: str, root: Path, tmp_path: Path
) -> None:
    archive = make(tmp_path)
    with pytest.raises(IntegrityError, match=said) as caught:
        unpack(archive, RULES, root=root)
    assert str(archive) in str(caught.value)
    assert tree(tmp_path).keys() == {archive.name}, "nothing was written, inside or outside"


def test_control_the_library_writes_what_is_refused_here(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"../evil.jpg": b"x", "bomb": bytes(30_000_000)})
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path / "out")
    assert (tmp_path / "out/evil.jpg").exists()
    assert (tmp_path / "out/bomb").stat().st_size == 30_000_000


def test_room_is_looked_for_first(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = zipped(tmp_path / "a.zip", GOOD)
    monkeypatch.setattr(_unpack, "RESERVE_BYTES", 1 << 62)
    with pytest.raises(DiskError, match="unpacking needs 13 bytes"):
        unpack(archive, RULES, root=root)
    assert tree(root) == {}


def test_a_link_in_the_place_of_a_temporary_file_is_not_followed(
    root: Path, tmp_path: Path
) -> None:
    canary = _written(tmp_path / "canary", b"safe")
    (root / "out").mkdir()
    (root / "out/.list.json.part").symlink_to(canary)
    unpack(zipped(tmp_path / "a.zip", GOOD), RULES, root=root)
    assert canary.read_bytes() == b"safe"
