"""A picture's bytes as an array of pixels, as training sees them: upright, RGB, eight bits.

Pillow is the truth: what its decoder, ``ImageOps.exif_transpose`` and ``convert("RGB")`` make of a
picture is what comes out here. Plain JPEGs (eight bits, one or three channels) go through
`simplejpeg` instead, which is the same library below with less around it, and which can decode at
some eighths of the size at once; whatever it finds strange goes to Pillow, which decides.

Nothing is decoded whose header asks for more than the limit of pixels or names another format than
JPEG, PNG, WebP or GIF. For pictures that nobody has looked at yet there is ``vision-ift check``,
which decodes in child processes; here a decoder runs in this process.
"""

from __future__ import annotations

import io
import struct
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vision_ift._errors import RecordError, UsageError
from vision_ift._pictures.child import DETAIL_CHARS, FORMATS, Limits, webp_size
from vision_ift._pictures.images import image_format

#: What a picture's bytes may be.
Data = bytes | bytearray | memoryview

_ORIENTATION = 0x0112  # EXIF 2.3, table 4

#: Markers that begin a frame of Huffman-coded 8-bit JPEG: baseline, extended, progressive
#: (ITU-T T.81, table B.1).
_PLAIN_FRAMES = frozenset((0xC0, 0xC1, 0xC2))
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class _Head(NamedTuple):
    """What a JPEG says before its pixels."""

    width: int
    height: int
    #: Eight bits, one or three channels, Huffman-coded: what the fast decoder is trusted with.
    plain: bool
    #: There are EXIF or XMP data, where an orientation may stand.
    tagged: bool


def decode_pixels(
    data: Data, *, size: int | tuple[int, int] | None = None, limit_pixels: int = Limits().pixels
) -> NDArray[np.uint8]:
    """Decode a picture: EXIF orientation applied, then RGB; the first frame of an animation.

    Transparency is dropped and palettes, grey, CMYK and 16 bits are converted just as Pillow's
    ``convert("RGB")`` does it.

    Args:
        data: The file's bytes: JPEG, PNG, WebP or GIF, told by the bytes.
        size: ``None``: all pixels. A number: the longer side has at most so many pixels. A pair:
            the picture fits into a box of (width, height). The shape stays, and nothing is ever
            enlarged. A plain JPEG is decoded at the fewest eighths of its size (one to six)
            that are not below the target; the rest is done by Pillow's bicubic filter.
        limit_pixels: Width times height that a header may ask for.

    Returns:
        An array of shape (height, width, 3), contiguous and writable.

    Raises:
        RecordError: It cannot be used; ``reason`` is ``not_allowed_format``, ``too_many_pixels``,
            ``truncated`` or ``bad_image``.
        UsageError: ``size`` is not one or two whole numbers above 0.

    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("RGB", (40, 30), "white").save(file, "PNG")
    >>> decode_pixels(file.getvalue()).shape, decode_pixels(file.getvalue(), size=20).shape
    ((30, 40, 3), (15, 20, 3))
    """
    box = _box(size)
    kind = image_format(bytes(data[:16]))
    if kind is None:
        raise RecordError(
            "the picture's content is not JPEG, PNG, WebP or GIF", reason="not_allowed_format"
        )
    if kind == "jpg":
        head = _read_head(data)
        if head is not None and head.plain:
            _refuse_large(head.width, head.height, limit_pixels)
            pixels = _decode_fast(data, head, box)
            if pixels is not None:
                return pixels
    return _decode_with_pillow(data, kind, box, limit_pixels)


def fit_box(width: int, height: int, box: tuple[int, int]) -> tuple[int, int]:
    """Give the largest size of a picture's shape that fits into a box, never above its own.

    >>> fit_box(640, 480, (336, 336)), fit_box(10, 20, (336, 336)), fit_box(4000, 1, (9, 9))
    ((336, 252), (10, 20), (9, 1))
    """
    wide, high = box
    if width <= wide and height <= high:
        return width, height
    if width * high >= height * wide:
        return wide, max(1, (2 * height * wide + width) // (2 * width))
    return max(1, (2 * width * high + height) // (2 * height)), high


def _box(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    pair = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if len(pair) != 2 or not all(type(side) is int and side > 0 for side in pair):
        raise UsageError(
            f"size is {size!r}", hint="give the longer side, or (width, height), in pixels above 0"
        )
    return pair[0], pair[1]


def _read_head(data: Data) -> _Head | None:
    """Walk a JPEG's markers up to its pixels; ``None`` where they make no sense."""
    at, end = 2, len(data)
    width = height = 0
    plain = tagged = False
    while at + 4 <= end and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        length = data[at + 2] << 8 | data[at + 3]
        if length < 2:
            return None
        if marker == 0xDA:
            return _Head(width, height, plain, tagged) if width and height else None
        if marker == 0xE1:
            tagged = True
        elif marker in _FRAMES:
            if width or at + 10 > end:  # a second frame: hierarchical, or two that disagree
                return None
            precision, height, width, channels = struct.unpack_from(">BHHB", data, at + 4)
            plain = marker in _PLAIN_FRAMES and precision == 8 and channels in (1, 3)
        at += 2 + length
    return None


def _refuse_large(width: int, height: int, limit: int) -> None:
    if width * height > limit:
        raise RecordError(
            f"the picture is of {width} x {height} pixels; at most {limit:,} are decoded",
            reason="too_many_pixels",
        )


def _decode_fast(data: Data, head: _Head, box: tuple[int, int] | None) -> NDArray[np.uint8] | None:
    """Decode a plain JPEG; ``None`` where the decoder finds anything strange."""
    jpeg, _ = _decoders()
    orientation = 1
    if head.tagged:
        try:
            orientation = _orientation_of(data)
        except Exception:  # noqa: BLE001 - decoders raise all kinds on broken content; Pillow decides
            return None
    target = _target(head.width, head.height, orientation, box)
    wide, high = _scaled(head, target)
    try:
        pixels: NDArray[np.uint8] = jpeg.decode_jpeg(data, "RGB", min_width=wide, min_height=high)
    except ValueError:
        return None
    if pixels.shape != (high, wide, 3):
        return None
    return _finish(pixels, orientation, target)


def _scaled(head: _Head, target: tuple[int, int] | None) -> tuple[int, int]:
    """Give the size to decode to: the fewest eighths that are not below the target.

    Seven of eight are left out: libjpeg-turbo has vector code for all, a half, a quarter and an
    eighth alone, and what the other steps cost more is won back by a cheaper resize only up to six.
    """
    for eighths in (1, 2, 3, 4, 5, 6) if target is not None else ():
        size = -(-head.width * eighths // 8), -(-head.height * eighths // 8)
        if target is not None and size[0] >= target[0] and size[1] >= target[1]:
            return size
    return head.width, head.height


def _orientation_of(data: Data) -> int:
    _, image_module = _decoders()
    with image_module.open(io.BytesIO(data), formats=("JPEG",)) as image:
        return _orientation(image)


def _orientation(image: Any) -> int:
    found = image.getexif().get(_ORIENTATION, 1)
    return found if found in range(2, 9) else 1


def _decode_with_pillow(
    data: Data, kind: str, box: tuple[int, int] | None, limit: int
) -> NDArray[np.uint8]:
    _, image_module = _decoders()
    # Pillow makes room, or warns, by the header alone; ours is looked at first.
    width, height = _header_size(data, kind)
    _refuse_large(width, height, limit)
    try:
        with image_module.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            _refuse_large(width, height, limit)
            image.load()
            orientation = _orientation(image)
            target = _target(width, height, orientation, box)
            if image.mode == "P" and "transparency" in image.info:
                image = image.convert("RGBA")  # the same colours, and Pillow has nothing to warn of
            pixels = np.asarray(image.convert("RGB"))
    except (MemoryError, RecordError):
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise all kinds on broken content
        text = f"{error}".partition("<_io.")[0].rstrip()  # without an object's address
        raise RecordError(
            f"the picture cannot be decoded: {type(error).__name__}: {text}"[:DETAIL_CHARS],
            reason="truncated" if "truncated" in text.lower() else "bad_image",
        ) from None
    return _finish(pixels, orientation, target)


def _header_size(data: Data, kind: str) -> tuple[int, int]:
    """Read width and height from a header; 0 and 0 where they do not stand where they should."""
    start = bytes(data[:32])
    if kind == "webp":
        return webp_size(start)
    if kind == "png" and len(start) >= 24:
        width, height = struct.unpack_from(">II", start, 16)
        return width, height
    if kind == "gif" and len(start) >= 10:
        width, height = struct.unpack_from("<HH", start, 6)
        return width, height
    head = _read_head(data) if kind == "jpg" else None
    return (head.width, head.height) if head is not None else (0, 0)


def _target(
    width: int, height: int, orientation: int, box: tuple[int, int] | None
) -> tuple[int, int] | None:
    """Give the size to resize to, as the picture is stored; ``None`` where it stays as it is."""
    if box is None:
        return None
    target = fit_box(width, height, box[::-1] if orientation >= 5 else box)
    return target if target != (width, height) else None


def _finish(
    pixels: NDArray[np.uint8], orientation: int, target: tuple[int, int] | None
) -> NDArray[np.uint8]:
    """Resize, then turn upright."""
    if target is not None and target != (pixels.shape[1], pixels.shape[0]):
        _, image_module = _decoders()
        image = image_module.fromarray(pixels)
        pixels = np.asarray(image.resize(target, image_module.Resampling.BICUBIC))
    return np.require(_turn(pixels, orientation), requirements=("C", "W", "O"))


def _turn(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Apply an EXIF orientation (EXIF 2.3, section 4.6.4.A: where row 0 and column 0 are shown)."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


@cache
def _decoders() -> tuple[Any, Any]:
    """Import the decoders at the first picture; give `simplejpeg` and ``Image``."""
    import simplejpeg
    from PIL import Image

    return simplejpeg, Image
