"""Full decode of pictures in child processes, under limits.

A picture from somewhere else can crash a decoder, keep it busy for ever, or unpack to gigabytes.
So it is decoded in a process that has nothing to lose: the child gets bytes alone, with limits on
its memory, its processor time and its files, and a deadline for every picture. What goes wrong
costs that picture, and a fresh child goes on with the next.

A full decode is what training does with a picture: all pixels of the first frame, EXIF orientation,
a conversion to RGB. The format is told from the content; what is not JPEG, PNG, WebP or GIF never
reaches a decoder. ``LOAD_TRUNCATED_IMAGES`` stays off.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec
import xxhash

from vision_ift._errors import MissingInputError, RecordError, VisionIFTError
from vision_ift._pictures.child import (
    DETAIL_CHARS,
    FORMATS,
    LARGEST_ANSWER,
    LENGTH,
    PICTURE_REASONS,
    Limits,
    Picture,
    receive,
)

#: Seconds that a child has to start and import the decoder, which is nobody's picture's fault.
_START_SECONDS = 120.0

#: The last bytes in which a file's end mark is looked for; some programs append a few of their own.
_END_BYTES = 1 << 16


def decode_all(
    references: Iterable[str],
    read: Callable[[str], bytes],
    *,
    jobs: int = 1,
    limits: Limits | None = None,
    program: str = "vision_ift._pictures.child:look",
) -> Iterator[Picture]:
    """Decode pictures fully, each at most once, and yield what was found in their order.

    Args:
        references: The pictures; read ahead by at most ``4 * jobs``.
        read: Gives a picture's bytes; called in threads of this process.
        jobs: Child processes.
        limits: What one picture may cost.
        program: The function that the children call, as ``module:function``; a ``Decode`` of
            ``child.py``.

    Raises:
        VisionIFTError: A child cannot be started at all.
    """
    with _Children(jobs, limits or Limits(), program) as children:
        waiting: deque[Future[Picture]] = deque()
        pool = ThreadPoolExecutor(2 * jobs)  # half of them read while the others wait for a child
        try:
            for reference in references:
                waiting.append(pool.submit(_judge, reference, read, children))
                if len(waiting) >= 4 * jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _judge(reference: str, read: Callable[[str], bytes], children: _Children) -> Picture:
    """Read one picture, tell its format from its first bytes, and have it decoded."""
    try:
        data = read(reference)
    except MissingInputError:
        # The error names a path of this machine; the report names the reference.
        return Picture(reason="missing_image", detail="there is no such file or member")
    except RecordError as error:
        return Picture(reason=error.reason, detail=error.detail[:DETAIL_CHARS])
    known: dict[str, Any] = {"bytes": len(data), "xxh3_128": xxhash.xxh3_128_hexdigest(data)}
    name = content_format(data)
    if not data:
        return Picture(reason="bad_image", detail="the file is empty", **known)
    if name not in FORMATS:
        detail = f"the content is {name}" if name else f"the first bytes are {data[:8].hex(' ')}"
        return Picture(reason="not_allowed_format", detail=detail, format=name, **known)
    found = children.decode(data)
    return msgspec.structs.replace(
        found,
        format=found.format or name,
        complete=bool(found.reason) or has_end(data, name),
        **known,
    )


#: First bytes to what they are the first bytes of; the first that fits counts.
_SIGNATURES: tuple[tuple[bytes, int, str], ...] = (
    (b"\xff\xd8\xff", 0, "JPEG"),
    (b"\x89PNG\r\n\x1a\n", 0, "PNG"),
    (b"GIF8", 0, "GIF"),
    (b"WEBP", 8, "WEBP"),
    (b"II*\0", 0, "TIFF"),
    (b"MM\0*", 0, "TIFF"),
    (b"BM", 0, "BMP"),
    (b"8BPS", 0, "PSD"),
    (b"%!PS", 0, "EPS"),
    (b"\xc5\xd0\xd3\xc6", 0, "EPS"),
    (b"%PDF", 0, "PDF"),
    (b"ftypavi", 4, "AVIF"),
    (b"ftyphei", 4, "HEIF"),
    (b"ftypmif1", 4, "HEIF"),
    (b"\0\0\0\x0cjP  ", 0, "JPEG2000"),
    (b"\xff\x4f\xff\x51", 0, "JPEG2000"),
    (b"\0\0\1\0", 0, "ICO"),
    (b"\x01\xda", 0, "SGI"),
    (b"<svg", 0, "SVG"),
    (b"<?xml", 0, "XML"),
    (b"<!DOCTYPE", 0, "HTML"),
    (b"<!doctype", 0, "HTML"),
    (b"<html", 0, "HTML"),
    (b"version https://git-lfs", 0, "a Git LFS pointer"),
    (b"PK\x03\x04", 0, "ZIP"),
    (b"\x1f\x8b", 0, "GZIP"),
)


def content_format(data: bytes) -> str:
    """Tell what the bytes are by how they start; empty where it is nothing known.

    >>> content_format(b"GIF89a...")
    'GIF'
    """
    for signature, offset, name in _SIGNATURES:
        if data.startswith(signature, offset) and (name != "WEBP" or data[:4] == b"RIFF"):
            return name
    return ""


def has_end(data: bytes, name: str) -> bool:
    """Say whether a file has the end mark of its format (see :attr:`Picture.complete`)."""
    tail = data[-_END_BYTES:]
    if name == "JPEG":  # the end that belongs to the last scan, not to a thumbnail before it
        return tail.rfind(b"\xff\xd9") > tail.rfind(b"\xff\xda")
    if name == "PNG":
        return b"\0\0\0\0IEND\xaeB`\x82" in tail
    if name == "GIF":
        return data.rstrip(b"\0").endswith(b"\0;")
    return len(data) >= int.from_bytes(data[4:8], "little") + 8


class _Children:
    """The child processes; a thread takes one, uses it, and puts it back."""

    def __init__(self, jobs: int, limits: Limits, program: str) -> None:
        self._all = [_Child(limits, program) for _ in range(jobs)]
        self._free: queue.SimpleQueue[_Child] = queue.SimpleQueue()
        for child in self._all:
            self._free.put(child)

    def __enter__(self) -> _Children:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._all:
            child.stop()

    def decode(self, data: bytes) -> Picture:
        child = self._free.get()
        try:
            return child.decode(data)
        finally:
            self._free.put(child)


class _Child:
    """One child, started when it is first needed and again whenever it died."""

    def __init__(self, limits: Limits, program: str) -> None:
        self._limits = limits
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def decode(self, data: bytes) -> Picture:
        """Have one picture decoded."""
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._socket is not None
        until = time.monotonic() + self._limits.seconds
        try:
            self._socket.settimeout(self._limits.seconds)
            self._socket.sendall(LENGTH.pack(len(data)))
            self._socket.sendall(data)
            answer = receive(self._socket, until, LARGEST_ANSWER)
            found = msgspec.msgpack.decode(answer, type=Picture)
            if found.reason not in ("", *PICTURE_REASONS):
                raise EOFError
        except TimeoutError:
            self.stop(patience_seconds=0.0)
            return self._late()
        except (OSError, EOFError, msgspec.DecodeError):
            # An answer that makes no sense counts as a crash, too.
            code = self.stop()
            if code == -signal.SIGXCPU:
                return self._late()
            why = f"signal {-code}" if code < 0 else f"exit code {code}"
            return Picture(reason="decoder_crash", detail=f"the decoder's process ended: {why}")
        return found

    def _late(self) -> Picture:
        return Picture(
            reason="decoder_timeout", detail=f"no answer within {self._limits.seconds:g} s"
        )

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        settings = msgspec.json.encode(self._limits).decode()
        # The child imports what this process would, without reading its main script.
        code = "import sys; sys.path[:] = sys.argv[3:]; "
        code += "from vision_ift._pictures import child; child.serve(sys.argv[1], sys.argv[2])"
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code, self._program, settings, *sys.path],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                # No tokens in a process that reads other people's bytes.
                env={k: v for k, v in os.environ.items() if k in ("PATH", "LD_LIBRARY_PATH")},
            )
        self._socket = ours
        try:
            receive(ours, time.monotonic() + _START_SECONDS, 0)
        except (OSError, EOFError):
            process = self._process
            process.kill()
            _, said = process.communicate()
            self.stop()
            last = said.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise VisionIFTError(
                f"the decoder's process does not start: {last[0] if last else 'it says nothing'}",
                hint="vision-ift doctor shows what is installed and which limits hold",
            ) from None

    def stop(self, *, patience_seconds: float = 10.0) -> int:
        """End the child and give its exit code (negative: the signal).

        At the end of its input it ends by itself, and one that crashed is left to end, so that its
        exit code is its own; after ``patience_seconds`` it is killed.
        """
        process, ours = self._process, self._socket
        self._process = self._socket = None
        if ours is not None:
            ours.close()
        if process is None:
            return 0
        try:
            code = process.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if process.stderr is not None:
            process.stderr.close()
        return code
