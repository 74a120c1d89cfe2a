"""Pixels are Pillow's to the bit; scaled ones are near what Pillow makes of all pixels."""

from __future__ import annotations

import io
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tests.needs import needs
from vision_ift._errors import RecordError, UsageError
from vision_ift._pictures import pixels as _pixels
from vision_ift._pictures.pixels import decode_pixels, fit_box

Pixels = NDArray[np.uint8]


def drawn(width: int, height: int) -> Image.Image:
    """Soft blobs of colour with a little noise: compresses as a photograph does."""
    random = np.random.default_rng(width * 10_000 + height)
    few = random.integers(0, 256, (max(2, height // 24), max(2, width // 24), 3), dtype=np.uint8)
    soft = np.asarray(Image.fromarray(few).resize((width, height), Image.Resampling.BICUBIC))
    noisy = soft + random.normal(0, 3, (height, width, 1))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def saved(image: Image.Image, kind: str = "JPEG", *, orientation: int = 0, **options: Any) -> bytes:
    file = io.BytesIO()
    if orientation:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    image.save(file, kind, **options)
    return file.getvalue()


def truth(data: bytes, size: tuple[int, int] | None = None) -> Pixels:
    with Image.open(io.BytesIO(data)) as file:
        image: Image.Image = file
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")  # Pillow warns of anything else; the colours are equal
        shown = ImageOps.exif_transpose(image).convert("RGB")
    if size is not None:
        shown = shown.resize(fit_box(*shown.size, size), Image.Resampling.BICUBIC)
    return np.asarray(shown)


PHOTO = drawn(333, 251)
JPEGS: dict[str, bytes] = {
    "4:4:4": saved(PHOTO, subsampling=0),
    "4:2:2": saved(PHOTO, subsampling=1),
    "4:2:0": saved(PHOTO, subsampling=2),
    "progressive": saved(PHOTO, progressive=True),
    "restart markers": saved(PHOTO, restart_marker_blocks=3),
    "optimised": saved(PHOTO, optimize=True, quality=30),
    "grey": saved(PHOTO.convert("L")),
    "grey progressive": saved(PHOTO.convert("L"), progressive=True),
    "one pixel": saved(PHOTO.resize((1, 1))),
    "one row": saved(PHOTO.resize((99, 1))),
    "odd": saved(PHOTO.resize((17, 9)), subsampling=2),
    "RGB without a transform": saved(PHOTO, keep_rgb=True),
    "CMYK": saved(PHOTO.convert("CMYK")),
    "thumbnail in EXIF": saved(
        PHOTO, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" + b"\xff\xc0" * 9
    ),
    "comment": saved(PHOTO, comment=b"\xff\xd8\xff\xc0"),
    "bytes after the end": saved(PHOTO) + b"trailer",
}
OTHERS: dict[str, bytes] = {
    "PNG": saved(PHOTO, "PNG"),
    "PNG grey": saved(PHOTO.convert("L"), "PNG"),
    "PNG 1 bit": saved(PHOTO.convert("1"), "PNG"),
    "PNG 16 bits": saved(Image.fromarray(np.arange(6000, dtype=np.uint16).reshape(60, 100)), "PNG"),
    "PNG transparent": saved(PHOTO.convert("RGBA").rotate(10), "PNG"),
    "PNG grey transparent": saved(PHOTO.convert("LA").rotate(10), "PNG"),
    "PNG palette": saved(PHOTO.quantize(16), "PNG"),
    "PNG palette transparent": saved(PHOTO.quantize(16), "PNG", transparency=bytes(range(16))),
    "PNG one colour transparent": saved(PHOTO, "PNG", transparency=(1, 2, 3)),
    "PNG turned": saved(PHOTO, "PNG", orientation=6),
    "GIF": saved(PHOTO, "GIF"),
    "GIF transparent": saved(PHOTO.quantize(16), "GIF", transparency=3),
    "GIF animated": saved(PHOTO, "GIF", save_all=True, append_images=[PHOTO.rotate(90)]),
    "WebP": saved(PHOTO, "WEBP"),
    "WebP lossless transparent": saved(PHOTO.convert("RGBA").rotate(9), "WEBP", lossless=True),
    "WebP turned": saved(PHOTO, "WEBP", orientation=8),
}


@pytest.mark.parametrize("name", [*JPEGS, *OTHERS])
def test_pixels_are_pillows_to_the_bit(name: str) -> None:
    data = {**JPEGS, **OTHERS}[name]
    found = decode_pixels(data)
    assert np.array_equal(found, truth(data))
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert found.flags.writeable


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_every_orientation_is_applied(orientation: int, options: dict[str, Any]) -> None:
    data = saved(PHOTO, orientation=orientation, **options)
    assert np.array_equal(decode_pixels(data), truth(data))
    shape = decode_pixels(data, size=(100, 40)).shape
    assert shape == truth(data, (100, 40)).shape


def test_an_orientation_in_xmp_counts_as_pillow_counts_it() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    data = saved(PHOTO, xmp=xmp)
    assert truth(data).shape == (333, 251, 3)
    assert np.array_equal(decode_pixels(data), truth(data))


def test_the_fast_path_takes_plain_jpegs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("Pillow was asked")

    monkeypatch.setattr(_pixels, "_decode_with_pillow", refuse)
    for name, data in JPEGS.items():
        if name == "CMYK":
            with pytest.raises(AssertionError, match="Pillow was asked"):
                decode_pixels(data)
        else:
            assert decode_pixels(data).ndim == 3


@pytest.mark.parametrize("size", [1000, 300, 160, 80, 60, 41, 20, 3])
@pytest.mark.parametrize("name", ["4:4:4", "4:2:0", "progressive", "grey", "PNG", "CMYK", "WebP"])
def test_a_scaled_picture_is_what_pillow_scales(name: str, size: int) -> None:
    data = {**JPEGS, **OTHERS}[name]
    found = decode_pixels(data, size=size)
    with Image.open(io.BytesIO(data)) as image:
        target = fit_box(*image.size, (size, size))
        if image.format == "JPEG" and name != "CMYK":
            image.draft(image.mode, target)  # the same halves, quarters, eighths
        wanted = image.convert("RGB").resize(target, Image.Resampling.BICUBIC)
    assert np.array_equal(found, np.asarray(wanted))


def test_a_photograph_scaled_at_once_is_near_the_whole_one_resized() -> None:
    photo = drawn(160, 120).resize((1280, 960), Image.Resampling.BICUBIC)
    data = saved(photo, quality=90)
    for size in (900, 800, 640, 500, 400, 336, 224, 160):  # at 6, 5, 4 … eighths
        away = np.abs(decode_pixels(data, size=size).astype(int) - truth(data, (size, size)))
        assert away.mean() < 1, size
        assert away.max() < 16, size


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 5000))
def test_a_fitted_size_is_the_largest_of_its_shape(
    width: int, height: int, wide: int, high: int
) -> None:
    new_width, new_height = fit_box(width, height, (wide, high))
    assert 1 <= new_width <= min(width, wide)
    assert 1 <= new_height <= min(height, high)
    assert (new_width, new_height) == (width, height) or new_width == wide or new_height == high
    # Within half a pixel of the shape, where there is more than one pixel.
    if new_height > 1 and new_width > 1:
        assert abs(new_width * height - new_height * width) <= max(width, height) / 2 + 1


def test_all_jpegs_scale_to_the_same_size_as_pillow() -> None:
    for name, data in JPEGS.items():
        for size in (1, 7, 50, 111, (30, 90), (400, 33)):
            box = size if isinstance(size, tuple) else (size, size)
            assert decode_pixels(data, size=size).shape == truth(data, box).shape, name


def test_what_is_no_picture_of_ours_reaches_no_decoder() -> None:
    for data in (b"", b"\xff", b"%!PS-Adobe EPSF", saved(PHOTO, "TIFF"), saved(PHOTO, "BMP")):
        with pytest.raises(RecordError) as caught:
            decode_pixels(data)
        assert caught.value.reason == "not_allowed_format"


def test_a_bomb_is_refused_by_its_header() -> None:
    jpeg = bytearray(saved(PHOTO))
    at = jpeg.index(b"\xff\xc0")
    struct.pack_into(">HH", jpeg, at + 5, 60_000, 60_000)
    png = bytearray(saved(PHOTO, "PNG"))
    struct.pack_into(">II", png, 16, 60_000, 60_000)
    gif = bytearray(saved(PHOTO, "GIF"))
    struct.pack_into("<HH", gif, 6, 60_000, 60_000)
    webp = b"RIFF\x2a\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0" + b"\x5f\xea\0" * 2
    for data in (jpeg, png, gif, webp):
        with pytest.raises(RecordError, match="50,000,000") as caught:
            decode_pixels(bytes(data))
        assert caught.value.reason == "too_many_pixels"


def test_every_cut_of_a_picture_is_an_error_of_ours_or_pillows_pixels() -> None:
    for name in ("4:2:0", "progressive", "CMYK", "PNG", "GIF", "WebP"):
        whole = {**JPEGS, **OTHERS}[name]
        for length in range(12, len(whole), max(1, len(whole) // 60)):
            data = whole[:length]
            try:
                wanted = truth(data)
            except Exception:  # noqa: BLE001 - whatever Pillow raises
                with pytest.raises(RecordError) as caught:
                    decode_pixels(data)
                assert caught.value.reason in ("truncated", "bad_image", "not_allowed_format")
            else:
                assert np.array_equal(decode_pixels(data), wanted), (name, length)


@given(st.data())
def test_flipped_bits_give_pillows_pixels_or_an_error_of_ours(data: st.DataObject) -> None:
    bits = bytearray(JPEGS[data.draw(st.sampled_from(["odd", "grey", "one row"]))])
    for _ in range(data.draw(st.integers(1, 4))):
        bits[data.draw(st.integers(0, len(bits) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    broken = bytes(bits)
    try:
        found = decode_pixels(broken)
    except RecordError:
        return
    except UserWarning:  # Pillow's, of EXIF that makes no sense: an error in tests alone
        return
    assert np.array_equal(found, truth(broken))


@pytest.mark.parametrize("size", [0, -1, 1.5, True, (3,), (3, 0), (1, 2, 3), "9"])
def test_a_size_that_is_none_is_a_usage_error(size: Any) -> None:
    with pytest.raises(UsageError):
        decode_pixels(JPEGS["odd"], size=size)


def test_views_of_bytes_are_taken() -> None:
    data = JPEGS["4:2:0"]
    for view in (bytearray(data), memoryview(b"xx" + data)[2:]):
        assert np.array_equal(decode_pixels(view), truth(data))


def test_threads_give_the_same_pixels() -> None:
    many = [*JPEGS.values(), *OTHERS.values()] * 3
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda data: decode_pixels(data, size=50), many))
    assert all(
        np.array_equal(one, decode_pixels(data, size=50))
        for one, data in zip(found, many, strict=True)
    )


def test_nothing_is_imported_before_the_first_picture() -> None:
    import subprocess
    import sys

    code = (
        "import sys, vision_ift._pictures.pixels; print({'PIL', 'simplejpeg'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


pytestmark = needs("simplejpeg")
