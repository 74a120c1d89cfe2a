"""A picture's hash of 64 bits, by the discrete cosine transform; runs inside a decoding child.

The recipe is that of ImageHash's ``phash`` (Zauner 2010, section 3.2.1): grey, 32 by 32 pixels, the
64 lowest frequencies, each against their median. Ours decodes a JPEG at an eighth to a half of its
size, applies the EXIF orientation, and multiplies integers alone, so that the same bytes give the
same bits on every machine. A hash is close to ImageHash's, not equal.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from vision_ift._pictures.child import (
    FORMATS,
    Limits,
    Picture,
    import_decoders,
    plain_detail,
    too_many_pixels,
    webp_size,
)

#: Changes whenever a picture's hash may change.
HASH_VERSION = 1

#: Pixels of the square that is transformed, and of the corner of low frequencies that is kept.
_SIDE, _KEPT = 32, 8

#: What a JPEG's shorter side keeps at least when it is decoded small. Of 250 photographs, 32 is a
#: tenth faster and twice as far from ImageHash; 128 is a tenth slower and no nearer.
_DECODED_SIDE = 64

#: A picture whose greys span less than this holds nothing to compare: a blank page, a plain colour.
_PLAIN_SPAN = 8

#: What stands for the hash of a plain picture.
PLAIN = "plain"

# Rounded to integers, so that the products below are exact whatever adds them up.
_COSINES = np.round(
    4096
    * np.cos(np.pi * np.arange(_KEPT)[:, None] * (2 * np.arange(_SIDE) + 1)[None, :] / (2 * _SIDE))
)


def look(data: bytes, limits: Limits) -> Picture:
    """Hash one picture: ``detail`` holds 16 hex digits, or ``plain``."""
    width, height = webp_size(data)  # Pillow makes room for a WebP before it says how large it is
    try:
        if width * height > limits.pixels:
            return too_many_pixels(width, height, limits)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image_module, _ = import_decoders()
            with image_module.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                if width * height > limits.pixels:
                    return too_many_pixels(width, height, limits)
                turn = image.getexif().get(0x0112, 1) if "exif" in image.info else 1
                grey = _turned(_small(data, image, image_module), turn)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise all kinds on broken content
        text = f"{error}"
        return Picture(
            reason="truncated" if "truncated" in text.lower() else "bad_image",
            detail=plain_detail(type(error).__name__, text),
        )
    return Picture(detail=picture_hash(grey), width=width, height=height)


def picture_hash(grey: NDArray[np.uint8]) -> str:
    """Hash a grey picture of 32 by 32 pixels.

    >>> picture_hash(np.zeros((32, 32), np.uint8))
    'plain'
    """
    if int(grey.max()) - int(grey.min()) < _PLAIN_SPAN:
        return PLAIN
    frequencies = (_COSINES @ grey.astype(np.float64) @ _COSINES.T).ravel()
    middle = np.sort(frequencies)[31:33].sum() / 2
    return np.packbits(frequencies > middle).tobytes().hex()


def _small(data: bytes, image: Any, image_module: Any) -> NDArray[np.uint8]:
    """Decode to a grey square, small at once where the format allows it."""
    if image.format in ("JPEG", "MPO"):
        try:
            decoded = simplejpeg.decode_jpeg(
                data, "GRAY", fastdct=True, min_height=_DECODED_SIDE, min_width=_DECODED_SIDE
            )
            small = image_module.fromarray(decoded[:, :, 0])
        except ValueError:  # CMYK, and whatever it is stricter about than training is
            image.draft("L", (_DECODED_SIDE, _DECODED_SIDE))
            small = image.convert("L")
    else:
        # By way of RGB, as training sees it: palettes and transparency go first.
        small = image.convert("RGB").convert("L")
    square: NDArray[np.uint8] = np.asarray(
        small.resize((_SIDE, _SIDE), image_module.Resampling.LANCZOS, reducing_gap=4.0)
    )
    return square


def _turned(square: NDArray[np.uint8], orientation: Any) -> NDArray[np.uint8]:
    """Apply an EXIF orientation to a square of pixels; what is none changes nothing."""
    if orientation in (5, 6, 7, 8):
        square = square.T
    if orientation in (2, 3, 6, 7):
        square = square[:, ::-1]
    if orientation in (3, 4, 7, 8):
        square = square[::-1]
    return square
