"""A picture's width and height from its header, as shown: after the EXIF orientation.

Nothing is decoded and no library is asked: a few bytes at fixed places, each looked at only if it
is there. Sources: ITU-T T.81 annex B (JPEG), PNG third edition section 11, GIF89a section 18,
RFC 9649 (WebP), EXIF 2.3 (orientation, tag 0x0112, values 5 to 8 turn width and height).
"""

from __future__ import annotations

import struct

from vision_ift._pictures.child import webp_size
from vision_ift._pictures.images import image_format

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))
_ORIENTATION = 0x0112


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Give (width, height) as shown, or ``None`` where the bytes do not say.

    Args:
        data: The file's bytes, or its first ones: ``None`` may then mean that more are needed.

    >>> picture_size(b"GIF89a" + bytes((64, 1, 240, 0, 0, 0, 0)))
    (320, 240)
    """
    kind = image_format(data[:16])
    if kind == "jpg":
        return _jpeg(data)
    if kind == "png" and len(data) >= 24 and data[12:16] == b"IHDR":
        width, height = struct.unpack_from(">II", data, 16)
        return _shown(width, height, _png_orientation(data))
    if kind == "gif" and len(data) >= 10:
        width, height = struct.unpack_from("<HH", data, 6)
        return _shown(width, height, 1)
    if kind == "webp":
        width, height = webp_size(data)
        return _shown(width, height, _webp_orientation(data))
    return None


def _shown(width: int, height: int, orientation: int) -> tuple[int, int] | None:
    if not width or not height:
        return None
    return (height, width) if orientation >= 5 else (width, height)


def _jpeg(data: bytes) -> tuple[int, int] | None:
    """Walk the markers up to the frame; an orientation stands before it."""
    at, orientation = 2, 1
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        if marker in _ALONE:
            at += 2
            continue
        length = data[at + 2] << 8 | data[at + 3]
        if length < 2 or marker == 0xDA:
            return None
        if marker in _FRAMES:
            if at + 9 > len(data):
                return None
            height, width = struct.unpack_from(">HH", data, at + 5)
            return _shown(width, height, orientation)
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = _exif_orientation(data[at + 10 : at + 2 + length])
        at += 2 + length
    return None


def _png_orientation(data: bytes) -> int:
    at = 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if kind == b"eXIf":
            return _exif_orientation(data[at + 8 : at + 8 + length])
        if kind in (b"IDAT", b"IEND"):
            return 1
        at += 12 + length
    return 1


def _webp_orientation(data: bytes) -> int:
    if not needs_all(data):  # no EXIF chunk, says the header
        return 1
    at = 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"EXIF":
            return _exif_orientation(data[at + 8 : at + 8 + length].removeprefix(b"Exif\0\0"))
        at += 8 + length + length % 2
    return 1


def needs_all(data: bytes) -> bool:
    """Say whether the size stands further back than a file's first bytes."""
    return data[12:16] == b"VP8X" and len(data) > 20 and bool(data[20] & 0x08)


def _exif_orientation(data: bytes) -> int:
    """Find the orientation in the first directory of a TIFF header; 1 where there is none."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        return 1
    (place,) = struct.unpack_from(f"{order}I", data, 4)
    if place + 2 > len(data):
        return 1
    (entries,) = struct.unpack_from(f"{order}H", data, place)
    for number in range(entries):
        at = place + 2 + 12 * number
        if at + 12 > len(data):
            return 1
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", data, at)
        if tag == _ORIENTATION:
            return value if kind == 3 and value in range(1, 9) else 1
    return 1
