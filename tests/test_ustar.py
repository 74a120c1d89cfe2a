"""One tar: what was added stands in it, however calls fall short and whatever is taken back."""

from __future__ import annotations

import io
import os
import random
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from tests.exports import picture
from vision_ift._errors import OutputError
from vision_ift._export.ustar import NotAPictureError, SizeChangedError, Tar, header, headers

NAMES = st.text("abcXYZ019_-.", min_size=1, max_size=100)


@given(NAMES, st.integers(0, 8**11 - 1) | st.just(8**11 - 1))
def test_tarfile_reads_every_header(name: str, size: int) -> None:
    found = tarfile.TarInfo.frombuf(header(name.encode(), size), "ascii", "strict")
    assert (found.name, found.size) == (name, size)
    assert (found.mode, found.uid, found.gid, found.mtime) == (0o644, 0, 0, 0)
    assert (found.uname, found.gname, found.isreg()) == ("", "", True)


@given(st.lists(st.tuples(NAMES, st.integers(0, 8**11 - 1)), min_size=1, max_size=5))
def test_many_headers_are_those_made_one_by_one(members: list[tuple[str, int]]) -> None:
    names = [name.encode() for name, _ in members]
    found = headers(names, np.array([size for _, size in members], np.int64))
    assert found.tobytes() == b"".join(
        header(name, size) for name, (_, size) in zip(names, members, strict=True)
    )


def test_a_member_that_ustar_cannot_state_is_refused() -> None:
    with pytest.raises(OutputError, match="8 GiB"):
        header(b"a.jpg", 8**11)


def add_file(tar: Tar, stem: str, path: Path, size: int | None = None) -> tuple[str, int]:
    file = os.open(path, os.O_RDONLY)
    try:
        return tar.add_picture(stem, file, path.stat().st_size if size is None else size)
    finally:
        os.close(file)


EDGE = (1 << 18) - 512


@pytest.mark.parametrize("most", [1 << 30, 100_000, 4097, 511, 5])
def test_a_tar_holds_what_was_added_however_short_the_calls(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, readv = os.write, os.readv
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:most]))
    monkeypatch.setattr(os, "readv", lambda file, views: readv(file, [views[0][:most]]))
    chance = random.Random(most)
    sizes = [0, 1, 511, 512, 513, EDGE - 1, EDGE, EDGE + 1, EDGE + 4095, EDGE + 4096, EDGE + 4097]
    sizes += [chance.randrange(12, 700_000 if most > 511 else 9000) for _ in range(12)]
    if most < 100:  # a call for every few bytes: fewer of them
        sizes = [12, 13, 511, 512, 4097, 9000]
    path, one = tmp_path / "a.tar", tmp_path / "picture"
    contents: dict[str, bytes] = {}
    offsets: dict[str, int] = {}
    with Tar(path) as tar:
        for number, size in enumerate(sizes):
            tar.mark()
            data = picture(number, size=size) if size > 11 else bytes(size)
            undone = chance.random() < 0.4
            for attempt in ("no", "yes") if undone else ("yes",):
                key = f"{attempt}{number:04d}"
                if size > 11:
                    one.write_bytes(data)
                    kind, start = add_file(tar, f"{key}.", one)
                    assert kind == "jpg"
                    contents[f"{key}.jpg"], offsets[f"{key}.jpg"] = data, start
                pieces = (data[:5], memoryview(data)[5:])
                offsets[f"{key}.bin"], told = tar.add(f"{key}.bin", *pieces)
                contents[f"{key}.bin"] = data
                assert told == size
                if attempt == "no":
                    tar.back()
                    contents = {k: v for k, v in contents.items() if not k.startswith(key)}
                    offsets = {k: v for k, v in offsets.items() if k in contents}
        digest = tar.finish()
    data = path.read_bytes()
    assert tar.offset == len(data)
    assert digest == xxhash.xxh3_128_hexdigest(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as found:
        assert {member.name: member.offset_data for member in found} == offsets
        for name, wanted in contents.items():
            member = found.extractfile(name)
            assert member is not None
            assert member.read() == wanted


def naive_add(sink: io.BytesIO, path: Path, size: int) -> None:
    """How it is often done: a header by the stated size, then whatever the file gives."""
    sink.write(header(b"a.jpg", size))
    data = path.read_bytes()
    sink.write(data + bytes(-len(data) % 512))


@pytest.mark.parametrize("size", [600, 200_000, 600_000])
@pytest.mark.parametrize("change", [-520, -1, 1, 520, 300_000])
def test_a_file_of_another_size_is_no_broken_tar(size: int, change: int, tmp_path: Path) -> None:
    one, path = tmp_path / "picture", tmp_path / "a.tar"
    one.write_bytes(picture(1, size=size + change))
    with Tar(path) as tar:
        tar.add("a.txt", b"before")
        tar.mark()
        with pytest.raises(SizeChangedError):
            add_file(tar, "b.", one, size)
        tar.back()
        tar.add("c.txt", b"after")
        digest = tar.finish()
    assert digest == xxhash.xxh3_128_hexdigest(path.read_bytes())
    with tarfile.open(path) as found:
        assert found.getnames() == ["a.txt", "c.txt"]
    # The control: the same change, and the members after it cannot be found or are noise.
    naive = io.BytesIO()
    naive_add(naive, one, size)
    if abs(change) > 512:
        naive.write(header(b"c.txt", 5) + b"after" + bytes(507 + 1024))
        naive.seek(0)
        try:
            with tarfile.open(fileobj=naive) as broken:
                assert broken.getnames() != ["a.jpg", "c.txt"]
        except tarfile.ReadError:
            pass
    else:
        with tarfile.open(fileobj=io.BytesIO(naive.getvalue() + bytes(1024))) as spoilt:
            member = spoilt.extractfile("a.jpg")
            assert member is not None
            assert member.read() != one.read_bytes()


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"<html>" + b"x" * 400_000])
def test_what_is_no_picture_is_said_and_taken_back(data: bytes, tmp_path: Path) -> None:
    one, path = tmp_path / "picture", tmp_path / "a.tar"
    one.write_bytes(data)
    with Tar(path) as tar:
        tar.mark()
        tar.add("a.txt", b"x" * 300_000)
        with pytest.raises(NotAPictureError):
            add_file(tar, "b.", one)
        tar.back()
        assert tar.offset == 0
        tar.finish()
    assert path.read_bytes() == bytes(1024)


def test_a_failing_write_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: int, data: Sequence[int]) -> int:
        raise OSError(28, "No space left on device")

    with Tar(tmp_path / "a.tar") as tar:
        monkeypatch.setattr(os, "write", fail)
        with pytest.raises(OutputError, match=r"a\.tar failed: No space left"):
            tar.add("a.txt", b"x" * 600_000)
