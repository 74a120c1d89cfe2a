"""What runs inside a child that decodes pictures: light to import, and trusting nothing.

Frames go both ways over a socket: the length in four bytes, then a picture's bytes one way and a
:class:`Picture` as MessagePack the other way. Nothing is pickled.
"""

from __future__ import annotations

import io
import os
import resource
import signal
import socket
import struct
import time
import warnings
from typing import Annotated, Any, Protocol

import msgspec

#: Why a picture cannot be used.
PICTURE_REASONS: dict[str, str] = {
    "missing_image": "there is no such file, or no such member of its archive",
    "not_allowed_format": "the content is not JPEG, PNG, WebP or GIF, whatever the name says",
    "too_many_pixels": "the header asks for more pixels than the limit; it was not decoded",
    "truncated": "the file ends before its pixels do",
    "bad_image": "the decoder finds the content broken, or its archive is damaged",
    "decoder_memory": "decoding needs more memory than the limit",
    "decoder_timeout": "decoding takes longer than the deadline",
    "decoder_crash": "the decoder's process died",
}

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
LENGTH = struct.Struct("<I")
LARGEST_ANSWER = 1 << 16
DETAIL_CHARS = 200


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one picture may cost.

    Attributes:
        pixels: Width times height, from the header, before anything is decoded.
        seconds: Wall and processor time.
        memory_bytes: Address space of the child; 0: half a gigabyte and 16 bytes a pixel.
    """

    pixels: int = 50_000_000
    seconds: float = 10.0
    memory_bytes: int = 0

    @property
    def address_space(self) -> int:
        """The child's limit in bytes."""
        return self.memory_bytes or (512 << 20) + 16 * self.pixels


# A child that was taken over may answer anything: what it may say is checked when it is read.
_Count = Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)]
_Word = Annotated[str, msgspec.Meta(max_length=DETAIL_CHARS)]


class Picture(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a full decode says of one picture.

    Attributes:
        reason: Empty where it can be used, else a key of :data:`PICTURE_REASONS`.
        detail: What was found, for a person.
        format: ``JPEG``, ``PNG``, ``WEBP`` or ``GIF``, by content; else what it looks like.
        width, height: Pixels as stored, before the orientation is applied; 0 where not known.
        mode: Pillow's colour mode, e.g. ``RGB``, ``CMYK``, ``I;16``.
        orientation: EXIF orientation, 1 to 8; 1 where there is none.
        frames: Number of frames; the first is what training sees.
        animated: Whether there are several.
        has_alpha: Whether anything in it is transparent; training sees it without.
        complete: False where the end mark of the format is missing although all pixels are there.
        bytes: Size of the file.
        xxh3_128: Digest of the file's bytes, 32 hex digits; empty where they cannot be read.
    """

    reason: _Word = ""
    detail: _Word = ""
    format: _Word = ""
    width: _Count = 0
    height: _Count = 0
    mode: _Word = ""
    orientation: Annotated[int, msgspec.Meta(ge=1, le=8)] = 1
    frames: _Count = 0
    animated: bool = False
    has_alpha: bool = False
    complete: bool = True
    bytes: int = 0
    xxh3_128: str = ""

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height as training sees them: after the orientation."""
        turned = self.orientation >= 5
        return (self.height, self.width) if turned else (self.width, self.height)


class Decode(Protocol):
    """Looks at one picture, inside a child."""

    def __call__(self, data: bytes, limits: Limits) -> Picture:
        """Say what a full decode says."""
        ...


def receive(connection: socket.socket, until: float | None, largest: int) -> bytes:
    """Read one frame, by a deadline where there is one.

    Raises:
        EOFError: The other side is gone, or announces more than ``largest`` bytes.
        TimeoutError: The deadline has passed.
    """
    header = _receive_bytes(connection, LENGTH.size, until)
    (length,) = LENGTH.unpack(header)
    if length > largest:
        raise EOFError
    return _receive_bytes(connection, length, until)


def _receive_bytes(connection: socket.socket, count: int, until: float | None) -> bytes:
    data = bytearray(count)
    view, done = memoryview(data), 0
    while done < count:
        if until is not None:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
        got = connection.recv_into(view[done:])
        if not got:
            raise EOFError
        done += got
    return bytes(data)


def serve(program: str, settings: str) -> None:
    """Answer pictures on standard input, a socket, until it is closed (the child's whole life)."""
    limits = msgspec.json.decode(settings, type=Limits)
    module, _, name = program.partition(":")
    decode: Decode = getattr(__import__(module, fromlist=[name]), name)
    import_decoders()
    connection = socket.socket(fileno=0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_AS, limits.address_space)
    connection.sendall(LENGTH.pack(0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the C libraries' own warnings
    while True:
        try:
            data = receive(connection, None, 0xFFFFFFFF)
        except EOFError:
            return
        _limit_processor(limits.seconds)
        try:
            found = decode(data, limits)
        except MemoryError:
            found = Picture(
                reason="decoder_memory",
                detail=f"more than {limits.address_space >> 20:,} MiB are needed",
            )
        del data
        answer = msgspec.msgpack.encode(found)
        connection.sendall(LENGTH.pack(len(answer)))
        connection.sendall(answer)


def _limit(what: int, amount: int) -> None:
    """Lower a limit of this process for good; one that is lower already stays."""
    _, hard = resource.getrlimit(what)
    least = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
    resource.setrlimit(what, (least, least))


def _limit_processor(seconds: float) -> None:
    """Let the next picture have so much processor time: it ends a child whose parent is gone."""
    used = time.process_time()
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used + seconds) + 2, hard))


def import_decoders() -> tuple[Any, Any]:
    """Import all that a decode may need, before the limits hold; give ``Image``, ``ImageOps``."""
    from PIL import (  # noqa: F401 - Pillow finds them by being imported
        GifImagePlugin,
        Image,
        ImageOps,
        JpegImagePlugin,
        MpoImagePlugin,
        PngImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )

    Image.MAX_IMAGE_PIXELS = None  # our own limit is checked before anything is decoded
    return Image, ImageOps


def look(data: bytes, limits: Limits) -> Picture:
    """Decode one picture fully, as training does; runs inside a child."""
    image_module, ops = import_decoders()
    width, height = webp_size(data)  # Pillow makes room for a WebP before it says how large it is
    name, mode = "", ""
    try:
        if width * height > limits.pixels:
            return too_many_pixels(width, height, limits)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow warns of is either said below or harmless
            with image_module.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                # Phones' JPEGs with a second picture behind the first are JPEGs.
                name, mode = image.format.replace("MPO", "JPEG"), image.mode
                if width * height > limits.pixels:
                    return too_many_pixels(width, height, limits, format=name, mode=mode)
                image.load()
                orientation = image.getexif().get(0x0112, 1)
                # Turning and converting one pixel needs all that it needs for the whole picture.
                ops.exif_transpose(image.crop((0, 0, 1, 1))).convert("RGB")
                frames = getattr(image, "n_frames", 1)
                return Picture(
                    format=name,
                    width=width,
                    height=height,
                    mode=mode,
                    orientation=orientation if orientation in range(1, 9) else 1,
                    frames=frames,
                    animated=frames > 1 and image.format != "MPO",
                    has_alpha=image.has_transparency_data,
                )
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise all kinds on broken content
        text = f"{error}"
        return Picture(
            reason="truncated" if "truncated" in text.lower() else "bad_image",
            detail=plain_detail(type(error).__name__, text),
            format=name,
            width=width,
            height=height,
            mode=mode,
        )


def too_many_pixels(width: int, height: int, limits: Limits, **known: str) -> Picture:
    return Picture(
        reason="too_many_pixels",
        detail=f"{width} x {height} pixels; at most {limits.pixels:,} are decoded",
        width=width,
        height=height,
        **known,  # type: ignore[arg-type]  # format and mode are text
    )


def plain_detail(kind: str, text: str) -> str:
    """Make a decoder's message the same in every run: without an object's address."""
    before, mark, _ = text.partition("<_io.")
    return f"{kind}: {before.rstrip() if mark else text}"[:DETAIL_CHARS]


def webp_size(data: bytes) -> tuple[int, int]:
    """Read width and height from a WebP's header; 0 and 0 where it is none.

    Source: RFC 9649 sections 2.5 (``VP8 ``), 2.6 (``VP8L``) and 2.7 (``VP8X``).
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return 0, 0
    kind = data[12:16]
    if kind == b"VP8X":
        return (
            int.from_bytes(data[24:27], "little") + 1,
            int.from_bytes(data[27:30], "little") + 1,
        )
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return (
            int.from_bytes(data[26:28], "little") & 0x3FFF,
            int.from_bytes(data[28:30], "little") & 0x3FFF,
        )
    return 0, 0
