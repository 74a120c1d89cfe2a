"""Pictures decoded in children: what is found, and what a bad one costs."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import xxhash
from PIL import Image

from vision_ift._errors import MissingInputError, RecordError, VisionIFTError
from vision_ift._pictures.child import PICTURE_REASONS, Limits, Picture
from vision_ift._pictures.decode import content_format, decode_all, has_end

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")


def drawn(
    kind: str, *, size: tuple[int, int] = (60, 40), mode: str = "RGB", **how: object
) -> bytes:
    """A picture with something in it."""
    image = Image.linear_gradient("L").resize(size).convert(mode)
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def found(
    *pictures: bytes, jobs: int = 1, limits: Limits | None = None, program: str | None = None
) -> list[Picture]:
    names = [str(number) for number in range(len(pictures))]
    how = {"program": program} if program else {}
    return list(
        decode_all(names, lambda name: pictures[int(name)], jobs=jobs, limits=limits, **how)
    )


def test_what_is_found_of_a_good_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = drawn("JPEG", exif=exif)
    frames = [Image.new("L", (8, 8), 90 * n) for n in range(3)]
    moving = io.BytesIO()
    frames[0].save(moving, "GIF", save_all=True, append_images=frames[1:])
    jpeg, cmyk, clear, gif = found(
        turned, drawn("JPEG", mode="CMYK"), drawn("PNG", mode="LA"), moving.getvalue()
    )
    assert (jpeg.reason, jpeg.format, jpeg.mode, jpeg.orientation) == ("", "JPEG", "RGB", 6)
    assert (jpeg.width, jpeg.height) == (60, 40)
    assert jpeg.shown_size == (40, 60)
    assert jpeg.bytes == len(turned)
    assert jpeg.xxh3_128 == xxhash.xxh3_128_hexdigest(turned)
    assert (jpeg.complete, jpeg.animated, jpeg.frames, jpeg.has_alpha) == (True, False, 1, False)
    assert (cmyk.mode, cmyk.orientation, cmyk.shown_size) == ("CMYK", 1, (60, 40))
    assert (clear.format, clear.mode, clear.has_alpha) == ("PNG", "LA", True)
    assert (gif.format, gif.animated, gif.frames) == ("GIF", True, 3)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_truncation_is_found(kind: str) -> None:
    whole = drawn(kind)
    cuts = [whole[:length] for length in range(len(whole))]
    answers = found(*cuts, whole, jobs=2)
    assert answers.pop().reason == ""
    missed = [n for n, one in enumerate(answers) if not one.reason and one.complete]
    assert missed == []
    # Where all pixels are there and only the end mark is gone, the picture can be used.
    usable = sum(not one.reason for one in answers)
    assert usable <= 32
    assert any(one.reason == "truncated" for one in answers) or kind == "WEBP"

    # The control: `verify` takes every file that ends somewhere among its pixels. (Of a PNG it
    # reads the checksums, and a WebP is decoded when it is opened.)
    if kind in ("JPEG", "GIF"):
        late = cuts[-len(cuts) // 4 :]
        assert sum(verifies(cut) for cut in late) == len(late)


def verifies(data: bytes) -> bool:
    try:
        Image.open(io.BytesIO(data)).verify()
    except (OSError, SyntaxError, ValueError, IndexError):
        return False
    return True


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that unpacks to ``width * height`` pixels."""
    packer = zlib.compressobj(9)
    line = bytes(1 + width)
    data = b"".join(packer.compress(line) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def webp_bomb() -> bytes:
    whole = bytearray(drawn("WEBP", lossless=True))
    assert whole[12:16] == b"VP8L"
    bits = int.from_bytes(whole[21:25], "little") | 0x0FFFFFFF
    whole[21:25] = bits.to_bytes(4, "little")
    return bytes(whole)


def bombs() -> dict[str, bytes]:
    jpeg = drawn("JPEG")
    at = jpeg.index(b"\xff\xc0") + 5
    gif = drawn("GIF")
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(200 << 20), 9))
    png = drawn("PNG")
    return {
        "png": png_bomb(20_000, 15_000),
        "jpeg": jpeg[:at] + b"\xff\xff\xff\xff" + jpeg[at + 4 :],
        "gif": gif[:6] + b"\xff\xff\xff\xff" + gif[10:],
        "webp": webp_bomb(),
        "png text": png[:33] + text + png[33:],
    }


# In a process of its own, so that no other test's children count.
PEAK = """
import json, resource, sys
from pathlib import Path
from vision_ift._pictures.decode import decode_all
found = decode_all(sys.argv[1:], lambda name: Path(name).read_bytes())
reasons = {Path(name).name: (one.reason, one.detail) for name, one in zip(sys.argv[1:], found)}
print(json.dumps([reasons, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""


def test_bombs_are_refused_before_they_unpack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = bombs()
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    words = [sys.executable, "-c", PEAK, *(str(tmp_path / name) for name in files)]
    done = subprocess.run(words, capture_output=True, check=True)
    answers, peak_kib = json.loads(done.stdout)
    assert answers.pop("png text")[0] == "bad_image"
    assert {reason for reason, _ in answers.values()} == {"too_many_pixels"}
    assert answers["png"][1] == "20000 x 15000 pixels; at most 50,000,000 are decoded"
    assert peak_kib < 400 << 10
    # The control: Pillow by itself only warns of the first one's like, and unpacks it.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 89_478_485)  # what Pillow ships
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(png_bomb(10_000, 10_000)))


def test_the_limit_is_the_users() -> None:
    small, large = drawn("PNG", size=(10, 10)), drawn("PNG", size=(11, 10))
    one, two = found(small, large, limits=Limits(pixels=100))
    assert (one.reason, two.reason) == ("", "too_many_pixels")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"", ""),
        (drawn("BMP"), "BMP"),
        (drawn("TIFF"), "TIFF"),
        (drawn("ICO"), "ICO"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "EPS"),
        (b"8BPS\0\1" + bytes(40), "PSD"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>", "SVG"),
        (b"<!DOCTYPE html><title>404 Not Found</title>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (bytes(64), ""),
        (b"RIFF\x24\0\0\0WAVEfmt ", ""),
    ],
)
def test_the_content_decides_not_the_name(data: bytes, name: str) -> None:
    (one,) = decode_all(["photo.jpg"], lambda _: data)
    assert one.reason == ("not_allowed_format" if data else "bad_image")
    assert one.format == name
    assert name in one.detail


def test_a_wrong_ending_does_not_matter() -> None:
    (one,) = decode_all(["photo.jpg"], lambda _: drawn("PNG"))
    assert (one.reason, one.format) == ("", "PNG")


def test_what_cannot_be_read_is_said() -> None:
    def read(name: str) -> bytes:
        if name == "a":
            raise MissingInputError("picture /home/me/a cannot be opened: No such file")
        raise RecordError("member 'b': the bytes are damaged", reason="bad_image")

    gone, damaged = decode_all(["a", "b"], read)
    assert (gone.reason, damaged.reason) == ("missing_image", "bad_image")
    assert damaged.detail == "member 'b': the bytes are damaged"
    assert "/home" not in gone.detail


MISBEHAVING = """
import ctypes
import os
from vision_ift._pictures.child import Picture, look

def decode(data, limits):
    if data.endswith(b"segfault"):
        ctypes.string_at(0)
    if data.endswith(b"exit"):
        os._exit(7)
    if data.endswith(b"loop"):
        while True:
            pass
    if data.endswith(b"sleep"):
        import time
        time.sleep(1000)
    if data.endswith(b"allocate"):
        bytearray(8 << 30)
    if data.endswith(b"write"):
        os.write(os.open(__file__ + ".written", os.O_CREAT | os.O_WRONLY), b"x")
    if data.endswith(b"lie"):
        return Picture(reason="made up")
    if data.endswith(b"token"):
        return Picture(detail=",".join(sorted(os.environ)))
    return look(data, limits)
"""


@pytest.fixture
def misbehaving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "misbehaving_decoder.py").write_text(MISBEHAVING)
    monkeypatch.syspath_prepend(tmp_path)
    return "misbehaving_decoder:decode"


def test_a_crash_costs_one_picture(misbehaving: str) -> None:
    good = drawn("PNG")
    words = [b"segfault", b"exit", b"loop", b"sleep", b"allocate", b"write", b"lie"]
    pictures = [data for word in words for data in (good, good + word)]
    answers = found(*pictures, good, jobs=2, limits=Limits(seconds=3.0), program=misbehaving)
    assert [one.reason for one in answers[::2]] == [""] * (len(words) + 1)
    assert [one.reason for one in answers[1::2]] == [
        "decoder_crash",
        "decoder_crash",
        "decoder_timeout",
        "decoder_timeout",
        "decoder_memory",
        "decoder_crash",
        "decoder_crash",
    ]
    assert answers[1].detail == "the decoder's process ended: signal 11"
    assert answers[3].detail == "the decoder's process ended: exit code 7"
    assert all(one.xxh3_128 for one in answers)


def test_a_child_has_no_token(misbehaving: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    (one,) = found(drawn("PNG") + b"token", program=misbehaving)
    assert "HF_TOKEN" not in one.detail
    assert "PATH" in one.detail


def test_a_decoder_that_does_not_start_is_our_error() -> None:
    with pytest.raises(VisionIFTError, match="does not start: ModuleNotFoundError"):
        found(drawn("PNG"), program="vision_ift._no_such_module:look")


def children() -> set[str]:
    pid = os.getpid()
    return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc here")
def test_no_process_is_left_behind() -> None:
    before = children()
    stream = decode_all((str(n) for n in range(100)), lambda _: drawn("PNG"), jobs=2)
    assert next(stream).reason == ""
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    assert children() <= before


def test_answers_come_in_order_for_any_jobs() -> None:
    pictures = [drawn("PNG", size=(n % 7 + 1, 5)) for n in range(60)]
    widths = [n % 7 + 1 for n in range(60)]
    for jobs in (1, 3):
        assert [one.width for one in found(*pictures, jobs=jobs)] == widths


def test_reading_runs_ahead_by_little() -> None:
    asked = 0

    def names() -> object:
        nonlocal asked
        for number in range(1000):
            asked += 1
            yield str(number)

    stream = decode_all(names(), lambda _: drawn("PNG"), jobs=1)  # type: ignore[arg-type]
    for _ in range(10):
        next(stream)
    assert asked <= 14
    stream.close()  # type: ignore[attr-defined]


ENDS: list[tuple[str, Callable[[bytes], bytes], bool]] = [
    ("JPEG", lambda data: data + bytes(100), True),
    ("JPEG", lambda data: data[:-2], False),
    ("PNG", lambda data: data + b"trailing", True),
    ("PNG", lambda data: data[:-1], False),
    ("GIF", lambda data: data + b"\0\0", True),
    ("GIF", lambda data: data[:-1], False),
    ("WEBP", lambda data: data + b"x", True),
    ("WEBP", lambda data: data[:-1], False),
]


@pytest.mark.parametrize(("kind", "change", "complete"), ENDS)
def test_the_end_mark(kind: str, change: Callable[[bytes], bytes], complete: bool) -> None:
    data = change(drawn(kind))
    assert content_format(data) == kind
    assert has_end(data, kind) is complete


def test_every_reason_is_told() -> None:
    page = Path(__file__).parents[1].joinpath("docs", "check.md").read_text("utf-8")
    assert [reason for reason in PICTURE_REASONS if f"`{reason}`" not in page] == []
