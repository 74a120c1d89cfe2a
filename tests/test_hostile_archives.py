"""Archives as nobody should make them, each with what becomes of it.

An archive is never unpacked to the disk, so that a name cannot lead anywhere; what a name, a size
or an offset can still do is in this table. The controls at the end show what the standard library
does with some of these when it unpacks them.
"""

from __future__ import annotations

import io
import os
import re
import struct
import tarfile
import warnings
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.archives import (
    DOS,
    Entry,
    Piece,
    tar_block,
    tarred,
    unicode_path,
    zipped,
    zipped64,
)
from vision_ift._archives.archive import archive_of
from vision_ift._errors import RecordError

GOOD = Entry(name=b"good.jpg", data=b"good")
FINE = Piece(name="good.jpg", data=b"good")
END = bytes(1024)
SLIP = "../../slip.jpg"


@dataclass(frozen=True, kw_only=True)
class Case:
    """An archive and what becomes of it.

    ``members``: each with its bytes, or with words of the error of reading it. ``refused``: words
    of the error of opening it.
    """

    data: bytes
    members: dict[str, bytes | str] = field(default_factory=dict)
    passed_over: dict[str, int] = field(default_factory=dict)
    damage: str = ""
    refused: str = ""


def one(name: str, data: bytes | str = b"picture") -> dict[str, bytes | str]:
    return {name: data, "good.jpg": b"good"}


ONLY_GOOD: dict[str, bytes | str] = {"good.jpg": b"good"}
PACKED = Entry(name=b"a.jpg", data=b"p" * 100, method=8)
ZEROS = b"\0" * 20_000_000
LONG64 = struct.pack("<2H2Q", 1, 16, 7, 7)
SHARED = zipped(GOOD, Entry(name=b"b.jpg"))
CUT_TAR = tarred(FINE, Piece(name="b.jpg", data=b"b" * 5000))

ZIPS = {
    "slip": Case(
        data=zipped(Entry(name=SLIP.encode()), GOOD),
        members=ONLY_GOOD,
        passed_over={"unsafe name": 1},
    ),
    "absolute": Case(
        data=zipped(Entry(name=b"/etc/passwd"), GOOD),
        members=ONLY_GOOD,
        passed_over={"unsafe name": 1},
    ),
    "nul in name": Case(
        data=zipped(Entry(name=b"a.jpg\0.exe"), GOOD),
        members=ONLY_GOOD,
        passed_over={"unsafe name": 1},
    ),
    "empty name": Case(
        data=zipped(Entry(name=b""), GOOD), members=ONLY_GOOD, passed_over={"unsafe name": 1}
    ),
    "dots and slashes": Case(
        data=zipped(Entry(name=b"./a//./b.jpg"), GOOD), members=one("a/b.jpg")
    ),
    "backslashes of DOS": Case(
        data=zipped(Entry(name=b"a\\b.jpg", system=DOS), GOOD), members=one("a/b.jpg")
    ),
    "slip of DOS": Case(
        data=zipped(Entry(name=b"..\\..\\slip.jpg", system=DOS), GOOD),
        members=ONLY_GOOD,
        passed_over={"unsafe name": 1},
    ),
    "link": Case(
        data=zipped(Entry(name=b"a.jpg", data=b"/etc/passwd", mode=0o120777), GOOD),
        members=ONLY_GOOD,
        passed_over={"link": 1},
    ),
    "device": Case(
        data=zipped(Entry(name=b"a.jpg", mode=0o020666), GOOD),
        members=ONLY_GOOD,
        passed_over={"device": 1},
    ),
    "folder with contents": Case(data=zipped(Entry(name=b"a/"), GOOD), members=ONLY_GOOD),
    "folder by its mode": Case(
        data=zipped(Entry(name=b"a", mode=0o040755), GOOD), members=ONLY_GOOD
    ),
    "duplicate": Case(
        data=zipped(Entry(name=b"good.jpg", data=b"old"), Entry(name=b"a.jpg"), GOOD),
        members=one("a.jpg"),
        passed_over={"duplicate name": 1},
    ),
    "duplicate when plain": Case(
        data=zipped(Entry(name=b"./good.jpg", data=b"old"), GOOD),
        members=ONLY_GOOD,
        passed_over={"duplicate name": 1},
    ),
    "bomb": Case(
        data=zipped(Entry(name=b"a.jpg", data=ZEROS, method=8), GOOD),
        members=one("a.jpg", "unpacks to 20,000,000 bytes"),
    ),
    "bomb that states less": Case(
        data=zipped(Entry(name=b"a.jpg", data=ZEROS, method=8, size=1000), GOOD),
        members=one("a.jpg", "damaged"),
    ),
    "huge size": Case(
        data=zipped(Entry(name=b"a.jpg", size=0xFFFFFFF0, packed=0xFFFFFFF0), GOOD),
        members=one("a.jpg", "are too many"),
    ),
    "overlap in full": Case(
        data=zipped(GOOD, Entry(name=b"a.jpg", offset=42), Entry(name=b"b.jpg", offset=42)),
        members={"good.jpg": b"good", "a.jpg": "overlaps", "b.jpg": "overlaps"},
    ),
    "overlap in part": Case(
        data=zipped(
            Entry(name=b"a.jpg", data=b"x" + zipped(Entry(name=b"b.jpg")), crc=0),
            Entry(name=b"b.jpg", offset=36),
        ),
        members={"a.jpg": "overlaps", "b.jpg": b"picture"},
    ),
    "offset behind the end": Case(
        data=zipped(Entry(name=b"a.jpg", offset=0xFFFFFF), GOOD),
        members=one("a.jpg", "no local header"),
    ),
    "wrong crc": Case(
        data=zipped(Entry(name=b"a.jpg", crc=1), GOOD), members=one("a.jpg", "damaged (CRC)")
    ),
    "damaged deflate": Case(
        data=zipped(PACKED, GOOD).replace(PACKED.body(), b"\xff" * len(PACKED.body())),
        members=one("a.jpg", "Error -3"),
    ),
    "stored with two sizes": Case(
        data=zipped(Entry(name=b"a.jpg", size=5), GOOD), members=one("a.jpg", "are stored where 5")
    ),
    "encrypted": Case(
        data=zipped(Entry(name=b"a.jpg", flags=1), GOOD), members=one("a.jpg", "encrypted")
    ),
    "unknown method": Case(
        data=zipped(Entry(name=b"a.jpg", method=93), GOOD), members=one("a.jpg", "method 93")
    ),
    "data descriptor": Case(
        data=zipped(
            Entry(name=b"a.jpg", method=8, flags=8, descriptor=b"PK\7\x08" + bytes(12)), GOOD
        ),
        members=one("a.jpg"),
    ),
    "zip64 end": Case(
        data=zipped64(Entry(name=b"a.jpg", local_extra=b"\1\0\0\0"), GOOD), members=one("a.jpg")
    ),
    "zip64 sizes": Case(
        data=zipped(Entry(name=b"a.jpg", size=0xFFFFFFFF, packed=0xFFFFFFFF, extra=LONG64), GOOD),
        members=one("a.jpg"),
    ),
    "zip64 size of exabytes": Case(
        data=zipped(
            Entry(name=b"a.jpg", size=0xFFFFFFFF, extra=struct.pack("<2HQ", 1, 8, 1 << 63)), GOOD
        ),
        refused="absurd",
    ),
    "zip64 without its field": Case(
        data=zipped(Entry(name=b"a.jpg", size=0xFFFFFFFF), GOOD), refused="zip64 size is missing"
    ),
    "zip64 end that is not there": Case(
        data=zipped64(GOOD).replace(b"PK\6\6", b"PK\6\5"), refused="zip64 directory is not found"
    ),
    "zip64 place of exabytes": Case(
        data=re.sub(rb"(?s)(PK\x06\x07.{4}).{8}", rb"\1" + b"\xff" * 8, zipped64(GOOD)),
        members=ONLY_GOOD,
    ),
    "before the archive": Case(data=zipped(GOOD, before=b"#!/bin/sh\n"), members=ONLY_GOOD),
    "before the zip64 archive": Case(data=zipped64(GOOD, before=b"MZ" * 50), members=ONLY_GOOD),
    "comment with an end in it": Case(
        data=zipped(GOOD, comment=b"PK\5\6" + b"\xff" * 40), members=ONLY_GOOD
    ),
    "code page 437": Case(
        data=zipped(Entry(name="é.jpg".encode("cp437"), system=DOS), GOOD), members=one("é.jpg")
    ),
    "utf-8 by flag": Case(
        data=zipped(Entry(name="日本.jpg".encode(), flags=0x800, system=DOS), GOOD),
        members=one("日本.jpg"),
    ),
    "utf-8 of a Mac without the flag": Case(
        data=zipped(Entry(name="日本.jpg".encode()), GOOD), members=one("日本.jpg")
    ),
    "unicode path": Case(
        data=zipped(Entry(name=b"#U65e5.jpg", extra=unicode_path(b"#U65e5.jpg", "日.jpg")), GOOD),
        members=one("日.jpg"),
    ),
    "unicode path of another name": Case(
        data=zipped(Entry(name=b"a.jpg", extra=unicode_path(b"b.jpg", "日.jpg")), GOOD),
        members=one("a.jpg"),
    ),
    "unicode path that slips": Case(
        data=zipped(Entry(name=b"a.jpg", extra=unicode_path(b"a.jpg", SLIP)), GOOD),
        members=ONLY_GOOD,
        passed_over={"unsafe name": 1},
    ),
    "flag without utf-8": Case(
        data=zipped(Entry(name=b"\xff\xfe.jpg", flags=0x800), GOOD),
        members=ONLY_GOOD,
        passed_over={"unreadable name": 1},
    ),
    "empty file": Case(data=b"", refused="empty (0 bytes)"),
    "no members": Case(data=zipped(), refused="holds no files"),
    "230 bytes of something": Case(data=b"<html>" * 39, refused="is no zip file (234 bytes"),
    "pointer": Case(
        data=b"version https://git-lfs.github.com/spec/v1\n", refused="Git LFS pointer"
    ),
    "cut off": Case(data=SHARED[:60], refused="cut off at 60 bytes"),
    "end alone": Case(data=SHARED[-22:], refused="directory is damaged"),
    "too few stated": Case(data=zipped(GOOD, count=0), refused="1 members where 0 are stated"),
    "too many stated": Case(data=zipped(GOOD, count=2), refused="directory is damaged"),
    "directory of another length": Case(
        data=zipped(GOOD, Entry(name=b"b.jpg"), length=100), refused="directory is damaged"
    ),
    "directory that is none": Case(
        data=SHARED.replace(b"PK\1\2", b"PK\1\3", 1), refused="directory is damaged"
    ),
    "one of several parts": Case(data=zipped(GOOD, disk=1), refused="one part of several"),
}

TARS = {
    "slip": Case(
        data=tarred(Piece(name=SLIP), FINE), members=ONLY_GOOD, passed_over={"unsafe name": 1}
    ),
    "absolute": Case(
        data=tarred(Piece(name="/etc/passwd"), FINE),
        members=ONLY_GOOD,
        passed_over={"unsafe name": 1},
    ),
    "links": Case(
        data=tarred(
            Piece(name="a", kind=tarfile.SYMTYPE, link="/etc"),
            Piece(name="b", kind=tarfile.LNKTYPE, link="good.jpg"),
            Piece(name="a/passwd"),
            FINE,
        ),
        members=one("a/passwd"),
        passed_over={"link": 2},
    ),
    "devices": Case(
        data=tarred(
            *(
                Piece(name="a", kind=kind)
                for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
            ),
            FINE,
        ),
        members=ONLY_GOOD,
        passed_over={"device": 3},
    ),
    "folder": Case(data=tarred(Piece(name="a", kind=tarfile.DIRTYPE), FINE), members=ONLY_GOOD),
    "folder before ustar": Case(
        data=tar_block(b"a/", b"0", kind=b"\0", magic=b"") + tarred(FINE), members=ONLY_GOOD
    ),
    "duplicate": Case(
        data=tarred(Piece(name="./good.jpg", data=b"old"), Piece(name="a.jpg"), FINE),
        members=one("a.jpg"),
        passed_over={"duplicate name": 1},
    ),
    "pax name and size": Case(
        data=tarred(Piece(name="é" * 300 + ".jpg"), FINE, style=tarfile.PAX_FORMAT),
        members=one("é" * 300 + ".jpg"),
    ),
    "pax name that slips": Case(
        data=tarred(Piece(name="a", pax={"path": SLIP}), FINE, style=tarfile.PAX_FORMAT),
        members=ONLY_GOOD,
        passed_over={"unsafe name": 1},
    ),
    "pax size": Case(
        data=tar_block(b"x", b"12", kind=b"x", data=b"10 size=7\n")
        + tar_block(b"a.jpg", b"0", data=b"picture")
        + tarred(FINE),
        members=one("a.jpg"),
    ),
    "pax size of exabytes": Case(
        data=tarred(FINE)[:1024]
        + tar_block(b"x", b"35", kind=b"x", data=b"29 size=99999999999999999999\n")
        + tar_block(b"a.jpg", b"0"),
        members=ONLY_GOOD,
        damage="a size is damaged",
    ),
    "pax records that run over": Case(
        data=tarred(FINE)[:1024] + tar_block(b"x", b"12", kind=b"x", data=b"99 path=a\n") + END,
        members=ONLY_GOOD,
        damage="PAX records are damaged",
    ),
    "pax sparse": Case(
        data=tarred(
            Piece(name="a.jpg", pax={"GNU.sparse.realsize": "99999999999"}),
            FINE,
            style=tarfile.PAX_FORMAT,
        ),
        members=ONLY_GOOD,
        passed_over={"sparse file": 1},
    ),
    "pax name for all": Case(
        data=tarred(FINE)[:1024] + tar_block(b"g", b"12", kind=b"g", data=b"10 path=a\n") + END,
        members=ONLY_GOOD,
        damage="one name or size for all",
    ),
    "pax comment for all": Case(
        data=tar_block(b"g", b"15", kind=b"g", data=b"13 comment=a\n") + tarred(FINE),
        members=ONLY_GOOD,
    ),
    "gnu sparse": Case(
        data=tar_block(b"a", b"7", kind=b"S", data=b"picture", magic=b"ustar  \0") + tarred(FINE),
        members=ONLY_GOOD,
        passed_over={"sparse file": 1},
    ),
    "gnu long name": Case(
        data=tarred(Piece(name="d/" * 200 + "a.jpg"), FINE, style=tarfile.GNU_FORMAT),
        members=one("d/" * 200 + "a.jpg"),
    ),
    "gnu long name of a link": Case(
        data=tarred(
            Piece(name="a", kind=tarfile.SYMTYPE, link="l" * 300), FINE, style=tarfile.GNU_FORMAT
        ),
        members=ONLY_GOOD,
        passed_over={"link": 1},
    ),
    "gnu long name of gigabytes": Case(
        data=tarred(FINE)[:1024] + tar_block(b"x", b"77777777777", kind=b"L") + END,
        members=ONLY_GOOD,
        damage="8,589,934,591 bytes about one member",
    ),
    "ustar prefix": Case(
        data=tarred(Piece(name="d" * 120 + "/a.jpg"), FINE), members=one("d" * 120 + "/a.jpg")
    ),
    "size to the base of 256": Case(
        data=tar_block(b"a.jpg", b"\x80" + (7).to_bytes(11, "big"), data=b"picture") + tarred(FINE),
        members=one("a.jpg"),
    ),
    "negative size": Case(
        data=tarred(FINE)[:1024] + tar_block(b"a.jpg", b"\xff" * 12) + END,
        members=ONLY_GOOD,
        damage="absurd",
    ),
    "size that is no number": Case(
        data=tarred(FINE)[:1024] + tar_block(b"a.jpg", b"0o7") + END,
        members=ONLY_GOOD,
        damage="a number in it is damaged",
    ),
    "name not utf-8": Case(
        data=tar_block(b"\xff.jpg", b"0") + tarred(FINE),
        members=ONLY_GOOD,
        passed_over={"unreadable name": 1},
    ),
    "unknown kind": Case(
        data=tar_block(b"a.jpg", b"7", kind=b"?", data=b"picture") + tarred(FINE),
        members=ONLY_GOOD,
        passed_over={"unknown kind": 1},
    ),
    "wrong checksum": Case(
        data=tarred(FINE)[:1024] + tar_block(b"a.jpg", b"0").replace(b"a", b"b", 1) + END,
        members=ONLY_GOOD,
        damage="checksum is wrong",
    ),
    "cut in a member": Case(
        data=CUT_TAR[:3000], members=ONLY_GOOD, damage="cut off at 3,000 bytes"
    ),
    "cut in a header": Case(data=CUT_TAR[:1200], members=ONLY_GOOD, damage="without an end mark"),
    "cut between members": Case(data=CUT_TAR[:1024], members=ONLY_GOOD, damage="without an end"),
    "cut in the first header": Case(data=CUT_TAR[:100], refused="holds no files"),
    "empty file": Case(data=b"", refused="empty (0 bytes)"),
    "no members": Case(data=tarred(), refused="holds no files"),
    "gzip inside": Case(data=b"\x1f\x8b" + bytes(1000), refused="packed with gzip"),
    "not a tar": Case(data=b"<html>" * 200, refused="holds no files"),
    "behind the end": Case(data=tarred(FINE) + tarred(Piece(name="b.jpg")), members=ONLY_GOOD),
}

CASES = [
    pytest.param(suffix, case, id=f"{suffix[1:]}: {name}")
    for suffix, cases in ((".zip", ZIPS), (".tar", TARS))
    for name, case in cases.items()
]


@pytest.mark.parametrize(("suffix", "case"), CASES)
def test_each_has_its_outcome(tmp_path: Path, suffix: str, case: Case) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(case.data)
    if case.refused:
        with pytest.raises(RecordError, match=re.escape(case.refused)) as refusal:
            archive_of(str(path))
        assert refusal.value.reason == "bad_image"
        return
    archive = archive_of(str(path))
    assert sorted(archive) == sorted(case.members)
    assert len(archive) == len(case.members)
    for name, outcome in case.members.items():
        assert name in archive
        if isinstance(outcome, bytes):
            assert archive.read(name) == outcome
            assert archive.size(name) == len(outcome)
        else:
            with pytest.raises(RecordError, match=re.escape(outcome)):
                archive.read(name)
    assert archive.passed_over == case.passed_over
    assert case.damage in archive.damage
    assert bool(case.damage) == bool(archive.damage)
    if archive.damage:
        with pytest.raises(OSError, match="fetch it again"):
            archive.read("b.jpg")
    assert os.listdir(tmp_path) == [path.name]


def test_the_table_is_as_large_as_promised() -> None:
    assert len(CASES) >= 80


def test_the_control_does_harm(tmp_path: Path) -> None:
    # What a reader does that unpacks with the standard library, as many do: a file appears beside
    # the folder, /etc is reached through a link, 20 MB come out of 20 KB.
    warnings.simplefilter("ignore")
    out = tmp_path / "a" / "b"
    out.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(TARS["slip"].data)) as tar:
        tar.extractall(out, filter="fully_trusted")
    assert (tmp_path / "slip.jpg").read_bytes() == b"picture"
    with tarfile.open(
        fileobj=io.BytesIO(tarred(Piece(name="l", kind=tarfile.SYMTYPE, link="/etc")))
    ) as tar:
        tar.extractall(out, filter="fully_trusted")
    assert (out / "l").resolve() == Path("/etc")
    with zipfile.ZipFile(io.BytesIO(ZIPS["bomb"].data)) as archive:
        archive.extractall(out)
    assert (out / "a.jpg").stat().st_size == 20_000_000 > 500 * len(ZIPS["bomb"].data)
    with zipfile.ZipFile(io.BytesIO(ZIPS["slip"].data)) as archive:
        archive.extractall(out)
    assert (out / "slip.jpg").exists()  # under a name that nobody gave it
