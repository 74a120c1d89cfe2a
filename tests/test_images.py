"""Paths of records never leave the root, and bytes come back as they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vision_ift._errors import MissingInputError, RecordError
from vision_ift._pictures.images import Images, absolute, image_format, read_file, safe_path

UNSAFE = [
    "../../etc/passwd",
    "a/../../b.jpg",
    "a/..",
    "..",
    "/etc/passwd",
    "//host/share/a.jpg",
    "\\\\host\\a.jpg",
    "a\\..\\b.jpg",
    "C:/windows/a.jpg",
    "c:a.jpg",
    "file:///etc/passwd",
    "https://example.com/a.jpg",
    "s3://bucket/a.jpg",
    "vift://a.zip!/b",
    "zip://b::a.zip/..",
    "a\x00.jpg",
    "a\n.jpg",
    "a\x1b[2J.jpg",
    "a\x7f.jpg",
    "",
    ".",
    "./",
    "//",
    "a" * 5000,
    "lone\ud800.jpg",
]


@pytest.mark.parametrize("path", UNSAFE, ids=[ascii(path)[:30] for path in UNSAFE])
def test_a_path_that_could_leave_the_root_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(RecordError) as caught:
        Images(tmp_path).find(path)
    assert caught.value.reason == "unsafe_path"


@pytest.mark.parametrize(
    "path",
    [
        "a.jpg",
        "./a.jpg",
        "a/./b.jpg",
        "a//b.jpg",
        "a b+c.jpg",
        "...jpg",
        "..a/b",
        "图/片.jpg",
    ],
)
def test_a_plain_path_is_taken(path: str) -> None:
    clean = safe_path(path)
    assert not clean.startswith(("/", "./"))
    assert ".." not in clean.split("/")


def test_only_regular_files_are_found(tmp_path: Path) -> None:
    (tmp_path / "coco" / "dir.jpg").mkdir(parents=True)
    (tmp_path / "coco" / "a.jpg").write_bytes(b"x")
    os.mkfifo(tmp_path / "coco" / "pipe.jpg")
    (tmp_path / "coco" / "dangling.jpg").symlink_to(tmp_path / "none.jpg")
    images = Images(tmp_path)
    assert images.find("coco/a.jpg") == "coco/a.jpg"
    assert images.find("a.jpg", folders=("gqa", "coco")) == "coco/a.jpg"
    for name in ("dir.jpg", "pipe.jpg", "dangling.jpg", "A.JPG", "none.jpg"):
        assert images.find(f"coco/{name}") is None
    assert images.find("coco/a.jpg/b.jpg") is None
    for name in ("dir.jpg", "pipe.jpg", "none.jpg"):  # never blocks on the pipe
        with pytest.raises(MissingInputError):
            images.read(f"coco/{name}")


def test_links_that_the_user_placed_are_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "disk"
    elsewhere.mkdir()
    (elsewhere / "a.jpg").write_bytes(b"picture")
    root = tmp_path / "root"
    (root / "coco").mkdir(parents=True)
    (root / "coco" / "train2017").symlink_to(elsewhere)
    images = Images(root)
    reference = images.find("coco/train2017/a.jpg")
    assert reference == "coco/train2017/a.jpg"
    assert images.read(reference) == b"picture"


def test_unicode_twins_are_two_files(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9.jpg", "cafe\u0301.jpg"
    (tmp_path / composed).write_bytes(b"1")
    images = Images(tmp_path)
    assert images.find(composed) == composed
    assert images.find(decomposed) is None


def test_a_reference_becomes_absolute() -> None:
    assert absolute("a/b.jpg", "/data") == "/data/a/b.jpg"
    assert absolute("vift://a.zip!/b%20c.jpg", "/data") == "vift:///data/a.zip!/b%20c.jpg"


def test_a_huge_picture_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(RecordError, match="bytes; at most") as caught:
        read_file(path)
    assert caught.value.reason == "bad_image"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\xff\xd8\xff\xe0rest", "jpg"),
        (b"\x89PNG\r\n\x1a\nrest", "png"),
        (b"GIF89a", "gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "webp"),
        (b"RIFF\0\0\0\0WAVE", None),
        (b"%!PS-Adobe", None),
        (b"<svg>", None),
        (b"", None),
    ],
)
def test_the_bytes_say_the_format(data: bytes, name: str | None) -> None:
    assert image_format(data) == name
