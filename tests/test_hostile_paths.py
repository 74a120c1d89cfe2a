"""Paths of records that try to leave the root, from the annotation to the export.

A canary lies beside the root: its bytes occur in nothing that is written, whatever a record says.
A link under the root is its user's word and is followed; a path of a record is anybody's.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.archives import Entry, zipped
from tests.exports import members, picture, plan_of
from vision_ift._build import build
from vision_ift._builder import Dropped
from vision_ift._errors import MissingInputError
from vision_ift._export.export import export
from vision_ift._pictures.images import Images
from vision_ift._registry import find

CANARY = b"\xff\xd8\xff\xe0 canary 5f0c7c1e that nobody may read"
OUTSIDE = "@"  # stands for the folder beside the root, in CASES
#: ``RENAMED``: taken for the only picture in its folder that differs in its ending alone, and
#: marked so in ``meta``.
KEPT, RENAMED, UNSAFE, MISSING = "kept", "renamed", "unsafe_path", "missing_image"

#: What a record's ``image`` says, and what becomes of the record.
CASES = {
    "plain": ("dir/a.jpg", KEPT),
    "dots and slashes": (".//dir/./a.jpg", KEPT),
    "spaces and signs": ("dir/b c+%&#?=~.jpg", KEPT),
    "Chinese": ("dir/图.jpg", KEPT),
    "percent sign": ("dir/%2e%2e.jpg", KEPT),
    "leading dots": ("...jpg", KEPT),
    "leading dash": ("-rf.jpg", KEPT),
    "a user's link to a file": ("link.jpg", KEPT),
    "a user's link to a folder": ("out/canary.jpg", KEPT),
    "climbing": ("../canary.jpg", UNSAFE),
    "climbing from a folder": ("dir/../../canary.jpg", UNSAFE),
    "climbing far": ("../" * 40 + "etc/passwd", UNSAFE),
    "climbing within": ("dir/../a.jpg", UNSAFE),
    "climbing at the end": ("dir/..", UNSAFE),
    "climbing with dots between": ("./.././canary.jpg", UNSAFE),
    "climbing behind a slash": ("//../canary.jpg", UNSAFE),
    "absolute": (f"{OUTSIDE}/canary.jpg", UNSAFE),
    "absolute with two slashes": (f"/{OUTSIDE}/canary.jpg", UNSAFE),
    "absolute, into the root": (f"{OUTSIDE}/root/dir/a.jpg", UNSAFE),
    "passwd": ("/etc/passwd", UNSAFE),
    "process": ("/proc/self/environ", UNSAFE),
    "home": ("~/canary.jpg", MISSING),
    "variable": ("$HOME/canary.jpg", MISSING),
    "backslashes": ("..\\canary.jpg", UNSAFE),
    "backslash within": ("dir\\a.jpg", UNSAFE),
    "share": ("\\\\host\\share\\a.jpg", UNSAFE),
    "drive": ("C:/canary.jpg", UNSAFE),
    "drive without a slash": ("c:canary.jpg", UNSAFE),
    "file URL": (f"file://{OUTSIDE}/canary.jpg", UNSAFE),
    "file URL in capitals": (f"FILE://{OUTSIDE}/canary.jpg", UNSAFE),
    "file URL of one slash": (f"file:{OUTSIDE}/canary.jpg", MISSING),
    "http": ("http://127.0.0.1:9/a.jpg", UNSAFE),
    "https": ("https://example.com/a.jpg", UNSAFE),
    "s3": ("s3://bucket/a.jpg", UNSAFE),
    "data URL": ("data:image/jpeg;base64,/9j/4AAQ", MISSING),
    "vift": ("vift://pictures.zip!/a.jpg", UNSAFE),
    "vift, absolute": (f"vift://{OUTSIDE}/secret.zip!/a.jpg", UNSAFE),
    "zip": (f"zip://a.jpg::{OUTSIDE}/secret.zip", UNSAFE),
    "chained": ("simplecache::http://127.0.0.1:9/a.jpg", MISSING),
    "member of a zip beside": ("../secret.zip!/a.jpg", UNSAFE),
    "member of a zip": ("pictures.zip!/a.jpg", MISSING),
    "encoded dots": ("%2e%2e/canary.jpg", MISSING),
    "encoded slash": ("..%2fcanary.jpg", MISSING),
    "encoded twice": ("%252e%252e%252fcanary.jpg", MISSING),
    "overlong dots": ("\u00c0\u00ae\u00c0\u00ae/canary.jpg", MISSING),
    "full-width dots": ("\uff0e\uff0e/canary.jpg", MISSING),
    "division slash": ("..\u2215canary.jpg", MISSING),
    "NUL": ("dir/a.jpg\0.png", UNSAFE),
    "newline": ("dir/a.jpg\n", UNSAFE),
    "carriage return": ("dir/a.jpg\r", UNSAFE),
    "ANSI": ("\x1b[2Ja.jpg", UNSAFE),
    "DEL": ("dir/a.jpg\x7f", UNSAFE),
    "5,000 characters": ("a" * 5000, UNSAFE),
    "a name of 1,000 characters": ("a" * 1000, MISSING),
    "a folder of 1,000 characters": ("a" * 1000 + "/a.jpg", MISSING),
    "500 folders": ("d/" * 500 + "a.jpg", MISSING),
    "trailing dot": ("dir/a.jpg.", MISSING),
    "trailing space": ("dir/a.jpg ", RENAMED),
    "leading space": (" dir/a.jpg", MISSING),
    "trailing slash": ("dir/a.jpg/", MISSING),
    "other case": ("dir/A.JPG", MISSING),
    "composed": ("dir/caf\u00e9.jpg", KEPT),
    "decomposed": ("dir/cafe\u0301.jpg", MISSING),
    "bidi": ("dir/\u202egpj.a", MISSING),
    "zero width": ("dir/a\u200b.jpg", MISSING),
    "device of DOS": ("CON", MISSING),
    "device of DOS with an ending": ("nul.jpg", MISSING),
    "stream of NTFS": ("dir/a.jpg::$DATA", RENAMED),
    "FIFO": ("pipe.jpg", MISSING),
    "socket": ("socket.jpg", MISSING),
    "folder": ("dir", MISSING),
    "folder with an ending": ("folder.jpg", MISSING),
    "dangling link": ("dangling.jpg", MISSING),
    "link to itself": ("loop.jpg", MISSING),
    "below a file": ("dir/a.jpg/b.jpg", MISSING),
    "pattern": ("dir/*.jpg", MISSING),
    "pattern of braces": ("{dir,x}/a.jpg", MISSING),
    "format": ("{0.__class__}/%s.jpg", MISSING),
    "empty": ("", UNSAFE),
    "dot": (".", UNSAFE),
    "lone surrogate": ("a\ud800.jpg", UNSAFE),
}


class Place(NamedTuple):
    """A root, and the folder around it in which the canary lies."""

    outside: Path
    root: Path

    def path(self, name: str) -> str:
        """What the record of a case says."""
        return CASES[name][0].replace(OUTSIDE, str(self.outside))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Lay out a root with all that a file system can hold, and the canary beside it."""
    root = tmp_path / "root"
    (root / "dir").mkdir(parents=True)
    (tmp_path / "canary.jpg").write_bytes(CANARY)
    (tmp_path / "secret.zip").write_bytes(zipped(Entry(name=b"a.jpg", data=CANARY)))
    links = {"a user's link to a file", "a user's link to a folder"}
    for number, (name, (path, outcome)) in enumerate(CASES.items()):
        if outcome == KEPT and name not in links:
            (root / path).write_bytes(picture(number))
    (root / "pictures.zip").write_bytes(zipped(Entry(name=b"a.jpg", data=picture(500))))
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/canary.jpg").write_bytes(picture(501))
    (root / "link.jpg").symlink_to("../theirs/canary.jpg")
    (root / "out").symlink_to(tmp_path / "theirs")
    (root / "dangling.jpg").symlink_to(root / "gone.jpg")
    (root / "loop.jpg").symlink_to("loop.jpg")
    (root / "folder.jpg").mkdir()
    os.mkfifo(root / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as bound:
        # A socket's path is short, whatever the folder's is.
        folder = os.open(root, os.O_RDONLY)
        bound.bind(f"/proc/self/fd/{folder}/socket.jpg")
        os.close(folder)
        yield Place(tmp_path, root)


def write(place: Place, names: list[str]) -> None:
    records = [
        {
            "id": f"<{name}>",
            "image": place.path(name),
            "conversations": [
                {"from": "human", "value": "<image>\nWhat?"},
                {"from": "gpt", "value": "That."},
            ],
        }
        for name in names
    ]
    (place.root / "data.json").write_text(json.dumps(records))


def read(place: Place, **options: Any) -> tuple[list[dict[str, Any]], list[Dropped]]:
    builder = find("llava")
    options = builder.options({"path": "data.json", **options})
    batches = list(builder.batches(place.root, **options))
    rows = [row for batch in batches for row in batch.rows.to_pylist()]
    return rows, [one for batch in batches for one in batch.dropped]


def holds(folder: Path, data: bytes) -> list[str]:
    """Name the files below a folder in which some bytes occur."""
    return [
        path.name
        for path in sorted(folder.rglob("*"))
        if path.is_file() and data in path.read_bytes()
    ]


@pytest.mark.parametrize("missing_images", ["drop", "keep"])
def test_no_path_of_a_record_leaves_the_root(missing_images: str, place: Place) -> None:
    write(place, list(CASES))
    rows, dropped = read(place, missing_images=missing_images)
    found = {row["id"][7:-1]: RENAMED if "renamed" in row["meta"] else KEPT for row in rows}
    found |= {one.record[1:-1]: one.reason for one in dropped}
    wanted = {
        name: KEPT if missing_images == "keep" and outcome == MISSING else outcome
        for name, (_, outcome) in CASES.items()
    }
    assert found == wanted
    assert all(one.file == "data.json" and one.detail for one in dropped)
    root = os.path.normpath(place.root)
    for row in rows:
        (image,) = row["images"]
        assert not image["path"].startswith(("/", "vift:"))
        assert os.path.normpath(place.root / image["path"]).startswith(root + "/")
        assert row["image_paths"] == [place.path(row["id"][7:-1])]


@pytest.mark.parametrize("missing_images", ["drop", "keep"])
def test_nothing_that_is_written_holds_the_canary(missing_images: str, place: Place) -> None:
    write(place, list(CASES))
    options = {"path": "data.json", "missing_images": missing_images}
    table = build("llava", root=place.root, out=place.outside / "table", options=options)
    plan = plan_of(place.root, {"llava": table})
    out = place.outside / "export"
    report = export(plan, out=out)
    # What is kept under the path it should have has none of the signs that mean nothing: the one
    # with a trailing slash is there under that path.
    kept = int(missing_images == "keep")
    kept += sum(outcome in (KEPT, RENAMED) for _, outcome in CASES.values())
    assert report.rows == report.images == kept
    assert report.dropped == ({} if missing_images == "drop" else {MISSING: len(plan) - kept})
    pictures = {bytes(one["jpg"]) for one in members(out).values()}
    assert picture(501) in pictures  # the user's links were followed
    assert holds(table.path, CANARY) == holds(out, CANARY) == []


def test_the_canary_is_found_where_the_user_links_to_it(place: Place) -> None:
    (place.root / "link.jpg").unlink()
    (place.root / "link.jpg").symlink_to("../canary.jpg")
    write(place, ["plain", "climbing", "a user's link to a file"])
    table = build(
        "llava", root=place.root, out=place.outside / "table", options={"path": "data.json"}
    )
    out = place.outside / "export"
    export(plan_of(place.root, {"llava": table}), out=out)
    assert [name for name in holds(out, CANARY) if name.endswith(".tar")]


def test_a_plain_reader_gives_the_canary_away(place: Place) -> None:
    leaking = set()
    for name in CASES:
        path = place.root / place.path(name)  # as most loaders do
        try:
            if path.is_file() and path.read_bytes() == CANARY:
                leaking.add(name)
        except (OSError, ValueError):
            continue
    assert leaking >= {"climbing", "climbing from a folder", "absolute"}


def test_no_member_of_an_archive_leaves_it(place: Place) -> None:
    names = [
        b"../canary.jpg",
        b"dir/../../canary.jpg",
        str(place.outside).encode() + b"/canary.jpg",
    ]
    entries = [Entry(name=name, data=picture(600)) for name in (*names, b"dir/a.jpg")]
    link = Entry(name=b"dir/link.jpg", data=b"../../canary.jpg", mode=0o120777)
    (place.root / "pictures.zip").write_bytes(zipped(*entries, link))
    (place.root / "dir/a.jpg").unlink()
    paths = ["../canary.jpg", "canary.jpg", "dir/link.jpg", "dir/a.jpg"]
    records = [
        {
            "id": path,
            "image": path,
            "conversations": [
                {"from": "human", "value": "<image>\nWhat?"},
                {"from": "gpt", "value": "That."},
            ],
        }
        for path in paths
    ]
    (place.root / "data.json").write_text(json.dumps(records))
    options = {"path": "data.json", "images": "pictures.zip"}
    rows, dropped = read(place, images="pictures.zip")
    assert [row["images"][0]["path"] for row in rows] == ["vift://pictures.zip!/dir/a.jpg"]
    assert {one.record: one.reason for one in dropped} == {
        "../canary.jpg": UNSAFE,
        "canary.jpg": MISSING,
        "dir/link.jpg": MISSING,
    }
    table = build("llava", root=place.root, out=place.outside / "table", options=options)
    out = place.outside / "export"
    export(plan_of(place.root, {"llava": table}), out=out)
    (only,) = members(out).values()
    assert only["jpg"] == picture(600)
    assert holds(out, CANARY) == []


ROUNDS = 2000


def test_a_picture_that_is_swapped_while_it_is_read_is_whole_or_refused(tmp_path: Path) -> None:
    good = [picture(1, size=200_000), picture(2, size=300_000)]
    for number, data in enumerate(good):
        (tmp_path / f"{number}.good").write_bytes(data)
    target = tmp_path / "a.jpg"
    os.link(tmp_path / "1.good", target)
    over = threading.Event()
    outcomes: set[int] = set()

    def swap() -> None:
        new = tmp_path / "new"
        number = 0
        try:
            # Longer where the reader was not given its turn.
            while number < ROUNDS or (len(outcomes) < 3 and number < 50 * ROUNDS):
                kind = number % 4
                if kind == 1:
                    os.mkfifo(new)
                elif kind == 3:
                    new.symlink_to("gone.jpg")
                else:
                    os.link(tmp_path / f"{kind // 2}.good", new)
                new.replace(target)
                number += 1
        finally:
            over.set()

    images = Images(tmp_path)
    swapper = threading.Thread(target=swap)
    swapper.start()
    while not over.is_set():
        try:
            outcomes.add(good.index(images.read("a.jpg")))  # half a picture is not in the list
        except MissingInputError:
            outcomes.add(-1)
    swapper.join()
    assert outcomes == {0, 1, -1}


def test_looking_before_opening_is_no_protection(tmp_path: Path) -> None:
    target = tmp_path / "a.jpg"
    target.write_bytes(picture(1))

    def swap() -> None:
        target.unlink()
        target.symlink_to(tmp_path / "canary.jpg")

    (tmp_path / "canary.jpg").write_bytes(CANARY)
    looked = target.is_file() and not target.is_symlink()
    swap()  # in the moment between the two
    assert looked
    assert target.read_bytes() == CANARY
