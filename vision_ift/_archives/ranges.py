"""Bytes at a place: of a file on the disk, or of one on a web server, by range requests."""

from __future__ import annotations

import os
import random
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

from vision_ift._errors import (
    MissingInputError,
    RecordError,
    RefusedError,
    ServiceError,
    UsageError,
    unopened,
)
from vision_ift._origin import Secret, followed, shown

#: Tries of one range request, and seconds between the first two; doubled each time.
_TRIES = 4
_FIRST_WAIT_SECONDS = 0.5

#: The longest that a server's ``Retry-After`` is obeyed; a longer one is an error at once.
_MAX_WAIT_SECONDS = 30.0

#: Seconds without a byte, and seconds for one range of 256 MB at most, until a try is given up.
_STALL_SECONDS = 30.0
_TOTAL_SECONDS = 600.0

_MAX_REDIRECTS = 5

_RETRIED = frozenset((408, 425, 429, 500, 502, 503, 504))
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_URL = re.compile(r"https?:/", re.IGNORECASE)


def is_url(path: str) -> bool:
    """Say whether an archive lies on a web server.

    >>> is_url("https://host/a.zip"), is_url("a/b.zip")
    (True, False)
    """
    return _URL.match(path) is not None


class Bytes(Protocol):
    """A file of known size that is read at any place, by any thread and after a fork.

    Attributes:
        path: Its path or URL, for messages.
        size: Bytes in it.
        far: Whether asking costs more than a few thousand bytes too many.
    """

    path: str
    size: int
    far: bool

    def read_at(self, offset: int, length: int) -> bytes:
        """Give ``length`` bytes from ``offset``, fewer only behind the end."""


class LocalFile:
    """A regular file on the disk.

    Raises:
        MissingInputError: It is not there, or not a regular file.
    """

    far = False

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise unopened(f"archive {path}", error) from None
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise MissingInputError(f"archive {path} is not a regular file")
        self.size = status.st_size

    def __del__(self) -> None:
        if (descriptor := getattr(self, "_descriptor", None)) is not None:
            os.close(descriptor)

    def read_at(self, offset: int, length: int) -> bytes:
        """Give ``length`` bytes from ``offset``, fewer only behind the end."""
        try:
            return os.pread(self._descriptor, length, offset)
        except OSError as error:
            raise MissingInputError(
                f"archive {self.path} cannot be read at {offset:,}: {error.strerror}"
            ) from None


class RemoteFile:
    """A file on a web server that answers range requests.

    The client is that of `huggingface_hub`: pooled, shared by threads, made anew after a fork, off
    under ``HF_HUB_OFFLINE``. A token is sent to the Hub alone, from ``HF_TOKEN``. Redirects are
    followed by the rule of downloads (``_origin.followed``). Errors name the URL without user and
    query, which may be secret.

    Raises:
        UsageError: It is no URL.
        MissingInputError: The server knows no such file.
        RefusedError: It redirects to where no archive is read from.
        ServiceError: It does not answer, refuses, or ignores ranges.
    """

    far = True

    def __init__(self, url: str) -> None:
        _check_url(url)
        self._url = url
        self.path = shown(url)
        self.size = 0
        first, self.size = self._ask(0, 1)
        if len(first) != 1:
            raise RecordError(f"archive {self.path} is empty", reason="bad_image")

    def read_at(self, offset: int, length: int) -> bytes:
        """Give ``length`` bytes from ``offset``, fewer only behind the end."""
        length = min(length, self.size - offset)
        if length <= 0:
            return b""
        data, size = self._ask(offset, length)
        if size != self.size:
            raise ServiceError(
                f"archive {self.path} changed while it was read ({self.size:,} bytes, now "
                f"{size:,})",
                hint="start again",
            )
        return data

    def _ask(self, offset: int, length: int) -> tuple[bytes, int]:
        """Ask for a range until it has come whole: its bytes, and the size of the file."""
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        # The root of the HTTP library's own errors, whichever it is, and the system's.
        refusals: tuple[type[Exception], ...] = (HfHubHTTPError.__bases__[0], OSError)
        wait, why = _FIRST_WAIT_SECONDS, ""
        for number in range(_TRIES):
            if number:
                time.sleep(wait * random.uniform(0.5, 1.0))  # so that no two clients keep step
                wait *= 2
            try:
                data, size, asked_wait, why = self._try(offset, length)
            except (MissingInputError, RefusedError, ServiceError):
                raise
            except OfflineModeIsEnabled:
                raise ServiceError(
                    f"archive {self.path} lies on a server, and HF_HUB_OFFLINE is set"
                ) from None
            except refusals as error:
                why = f"{type(error).__name__}: {error}".rstrip(": ").replace(self._url, self.path)
                continue
            if data is not None:
                return data, size
            if asked_wait > _MAX_WAIT_SECONDS:
                why += f" and asks to wait {asked_wait:,.0f} s"
                break
            wait = max(wait, asked_wait)
        raise ServiceError(
            f"archive {self.path}: the server {why}"
            if why.startswith("answers")
            else f"archive {self.path}: the server does not give a range ({why})",
            hint="try again later, or download the archive and put it under ROOT",
        )

    def _try(self, offset: int, length: int) -> tuple[bytes | None, int, float, str]:
        """Ask once: the bytes (``None``: ask again), the size, seconds to wait, and why."""
        with _answer(self._url, offset, length) as response:
            status = response.status_code
            if status in (404, 410):
                raise MissingInputError(f"archive {self.path} is not there (status {status})")
            if status in _RETRIED:
                return None, 0, _retry_after(response.headers), f"answers status {status}"
            if status == 416 and offset == 0:
                return b"", 0, 0.0, ""  # no first byte: the file is empty
            if status == 200:
                raise ServiceError(
                    f"archive {self.path}: the server ignores range requests, so its members "
                    "cannot be read in place",
                    hint="download the archive and put it under ROOT",
                )
            stated = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
            if status != 206 or stated is None or int(stated[1]) != offset:
                raise ServiceError(
                    f"archive {self.path}: status {status} to a range request",
                    hint="see whether the URL is right and whether HF_TOKEN is needed",
                )
            data = _body(response, min(length, int(stated[3]) - offset))
            if data is None:
                return None, 0, 0.0, "sends fewer bytes than asked for"
            return data, int(stated[3]), 0.0, ""


@contextmanager
def _answer(url: str, offset: int, length: int) -> Iterator[Any]:
    """Give a streamed answer, so that a server that ignores the range does not send it all."""
    from huggingface_hub import get_session

    session = get_session()
    if not callable(session.stream):
        raise ServiceError("archives on a server need huggingface_hub 1.0 or later")
    first = url
    for _ in range(_MAX_REDIRECTS + 1):
        headers = {
            "Range": f"bytes={offset}-{offset + length - 1}",
            "Accept-Encoding": "identity",
            **_token_for(url),
        }
        with session.stream(
            "GET", url, headers=headers, timeout=_STALL_SECONDS, follow_redirects=False
        ) as response:
            if response.status_code not in (301, 302, 303, 307, 308):
                yield response
                return
            location = response.headers.get("location", "")
        url = followed(first, url, location)
    raise ServiceError(f"archive {shown(first)} redirects more than {_MAX_REDIRECTS} times")


def _token_for(url: str) -> dict[str, str]:
    from huggingface_hub import constants

    token = os.environ.get("HF_TOKEN")
    return Secret(token, url=constants.ENDPOINT).headers_for(url) if token else {}


def _check_url(url: str) -> None:
    try:
        good = url.isprintable() and " " not in url and bool(urlsplit(url).hostname)
        _ = urlsplit(url).port
    except ValueError:
        good = False
    if not good:
        raise UsageError(f"{url!r} is no URL", hint="percent-encode what stands in it: %20")


def _body(response: Any, length: int) -> bytes | None:
    """Read ``length`` bytes and no more; ``None`` where they did not all come in time."""
    until = time.monotonic() + _TOTAL_SECONDS
    data = bytearray()
    for piece in response.iter_raw():
        data += piece
        if len(data) >= length or time.monotonic() > until:
            break
    return bytes(data[:length]) if len(data) >= length else None


def _retry_after(headers: Any) -> float:
    try:
        return max(0.0, float(headers.get("retry-after", "0")))
    except ValueError:  # a date: the doubled waits do as well
        return 0.0
