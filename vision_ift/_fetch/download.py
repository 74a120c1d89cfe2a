"""One file over HTTP, whole and verified, or a clear error.

What has arrived lies in ``.NAME.part`` beside the file to be, with a note of how much of it is
known to be good; the name appears once length and digest are right. A download that breaks off goes
on where it stopped, in the same process or in the next one, as long as the server still has the
same bytes (``ETag``, ``If-Range``); else it starts again from nothing.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

import msgspec

from vision_ift._errors import IntegrityError, RefusedError, ServiceError
from vision_ift._fetch.part import Arrived, Part
from vision_ift._origin import Secret, followed, origin, shown

if TYPE_CHECKING:
    import httpx2

Answer = TypeVar("Answer")

#: Told how many bytes are there, and of how many (0: not known).
Told = Callable[[int, int], None]

#: A try that brings at least this much does not count against the budget of fruitless ones.
GAIN_BYTES = 1 << 20

MAX_REDIRECTS = 5

#: Tries of a small request: somebody waits for its answer.
ASK_TRIES = 4

#: Statuses that may pass; any other 4xx is an answer and is not asked again.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})

_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long a download goes on.

    Attributes:
        tries: Fruitless tries of one file, one after the other, before it is given up.
        first_wait_s, most_wait_s: The longest wait after the first fruitless try, and after any;
            the wait is drawn from zero to that (full jitter), so that no two clients keep step.
        total_s: The deadline of everything that one :class:`Downloads` brings.
        connect_s, read_s: How long a server may be silent.
    """

    tries: int = 8
    first_wait_s: float = 1.0
    most_wait_s: float = 60.0
    total_s: float = 24 * 3600.0
    connect_s: float = 20.0
    read_s: float = 60.0


class Clock(NamedTuple):
    """Time and chance, so that a test can bring its own."""

    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[], float] = random.random


class _FaultError(Exception):
    """A try that failed and may be repeated."""

    def __init__(self, message: str, *, wait_s: float | None = None, bytes_wrong: bool = False):
        super().__init__(message)
        self.wait_s = wait_s
        self.bytes_wrong = bytes_wrong


class Downloads:
    """Brings files, one after the other, within one budget.

    Args:
        patience: Tries, waits and deadlines.
        clock: Time and chance.
        secret: The Hub's token, if any.
    """

    def __init__(
        self,
        *,
        patience: Patience | None = None,
        clock: Clock | None = None,
        secret: Secret | None = None,
    ) -> None:
        import httpx2

        self._patience = patience or Patience()
        self._clock = clock or Clock()
        self._secret = secret
        self._deadline = self._clock.now() + self._patience.total_s
        self._down: dict[str, str] = {}
        self._client = httpx2.Client(
            follow_redirects=False,
            timeout=httpx2.Timeout(self._patience.read_s, connect=self._patience.connect_s),
            # A body packed on the way has another length and another range.
            headers={"Accept-Encoding": "identity", "User-Agent": "vision_ift"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def describe(self, url: str) -> tuple[int | None, str]:
        """Ask once for a file's size in bytes (``None``: not said) and version (``""``: not said).

        Raises:
            ServiceError: The server refuses or does not answer.
        """
        import httpx2

        try:
            response = self._send("HEAD", url, {})
        except (httpx2.HTTPError, _FaultError) as error:
            raise ServiceError(f"{shown(url)}: {self._said(error)}") from None
        response.close()
        if response.status_code >= 400:
            raise _refusal(url, response.status_code)
        length = response.headers.get("Content-Length", "")
        size = int(length) if length.isascii() and length.isdigit() else None
        return size, self._etag(response)

    def get(
        self,
        url: str,
        path: Path,
        *,
        length: int | None = None,
        sha256: str | None = None,
        git_sha1: str | None = None,
        told: Told | None = None,
    ) -> Arrived:
        """Bring one file to ``path``, replacing what is there.

        Args:
            url: ``https``, or ``http`` as its publisher has it.
            path: Where it goes; its folder exists.
            length: Its size in bytes, where it is known.
            sha256: Its digest in hex, where it is known.
            git_sha1: Its name in git (SHA-1 of ``blob SIZE\\0`` and the bytes), where it is known.
            told: Told how much has arrived.

        Raises:
            ServiceError: The server refuses (400, 401, 403, 404 …: never asked again), or the
                budget of tries or time is used up.
            IntegrityError: The server has other bytes than those asked for.
            DiskError: The disk is full or fails.
        """
        host = origin(url)
        if host in self._down:
            raise ServiceError(f"{shown(url)} was not tried: {self._down[host]}")
        with Part(path, url=url) as part:
            try:
                self._persist(part, _Asked(url, length, sha256, git_sha1), told or _untold)
            except ServiceError as error:
                if not isinstance(error, RefusedError):
                    self._down[host] = f"{host} did not answer before"
                raise
            return part.finish()

    def ask(self, what: str, call: Callable[[], Answer]) -> Answer:
        """Make a small request of another library's, again where it fails in passing.

        Raises:
            ServiceError: The service refuses, or the budget is used up.
        """
        import httpx2

        fruitless = 0
        while True:
            try:
                return call()
            except (httpx2.HTTPError, OSError) as error:
                response = getattr(error, "response", None)
                status = getattr(response, "status_code", None)
                fruitless += 1
                offline = isinstance(error, ConnectionError)
                passing = not offline and (status is None or status in _PASSING or status >= 500)
                if not passing or fruitless >= min(ASK_TRIES, self._patience.tries):
                    hint = _hint(status) if status else "try again: what has arrived is kept"
                    raise ServiceError(f"{what}: {self._said(error)}", hint=hint) from None
                headers = getattr(response, "headers", {})
                wait_s = _retry_after(headers.get("Retry-After", ""), self._clock.wall())
                fault = _FaultError("", wait_s=wait_s)
                self._wait(what, fruitless, fault, self._said(error))

    def _persist(self, part: Part, asked: _Asked, told: Told) -> None:
        """Try until the part is whole and right."""
        import httpx2

        fruitless = 0
        most = part.bytes
        wrong: list[str] = []
        while True:
            whole = part.bytes == 0
            try:
                self._try(part, asked, told)
                asked.check(part)
                return
            except (httpx2.HTTPError, _FaultError) as error:
                fault = error
            part.note()
            if isinstance(fault, _FaultError) and fault.bytes_wrong:
                if whole and part.bytes:
                    wrong.append(part.digest)
                part.restart()
            fruitless = 0 if part.bytes >= most + GAIN_BYTES else fruitless + 1
            most = max(most, part.bytes)
            reason = self._said(fault)
            if len(wrong) != len(set(wrong)):
                raise IntegrityError(
                    f"{shown(asked.url)}: {reason}, twice alike",
                    hint="the file was changed there; if you trust it, fetch with --update",
                )
            if fruitless >= self._patience.tries:
                if isinstance(fault, _FaultError) and fault.bytes_wrong:
                    raise IntegrityError(f"{shown(asked.url)}: {reason}", hint="try again later")
                raise ServiceError(
                    f"{shown(asked.url)}: given up after {fruitless} tries: {reason}",
                    hint="run it again later: what has arrived is kept",
                )
            self._wait(shown(asked.url), fruitless, fault, reason)

    def _wait(self, what: str, fruitless: int, fault: Exception, reason: str) -> None:
        patience, clock = self._patience, self._clock
        most = min(patience.most_wait_s, patience.first_wait_s * 2.0 ** max(0, fruitless - 1))
        wait_s = most * clock.draw()
        asked_s = fault.wait_s if isinstance(fault, _FaultError) else None
        if asked_s is not None:
            wait_s = asked_s + patience.first_wait_s * clock.draw()
        if clock.now() + wait_s > self._deadline:
            raise ServiceError(
                f"{what}: {reason}; waiting {wait_s:,.0f} s more would pass the deadline",
                hint="run it again later: what has arrived is kept",
            )
        clock.sleep(wait_s)

    def _try(self, part: Part, asked: _Asked, told: Told) -> None:
        """Ask for what is missing and take what comes."""
        headers = {}
        if part.bytes and (part.etag or asked.sha256):
            headers["Range"] = f"bytes={part.bytes}-"
            if part.etag:
                headers["If-Range"] = part.etag
        response = self._send("GET", asked.url, headers)
        try:
            total = self._start(response, part, asked)
            for chunk in response.iter_raw():  # as it comes: a chunk not yet full would be lost
                part.write(chunk)
                told(part.bytes, total or 0)
                if total is not None and part.bytes > total:
                    raise _FaultError("it sent more bytes than it said", bytes_wrong=True)
                if self._clock.now() > self._deadline:
                    raise ServiceError(
                        f"{shown(asked.url)}: the deadline passed after {part.bytes:,} bytes",
                        hint="run it again: what has arrived is kept",
                    )
        finally:
            response.close()
        if total is not None and part.bytes != total:
            raise _FaultError(f"it ended after {part.bytes:,} of {total:,} bytes")

    def _start(self, response: httpx2.Response, part: Part, asked: _Asked) -> int | None:
        """Check an answer's head, and give the size that the whole file will have."""
        status = response.status_code
        etag = self._etag(response)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise _FaultError("it packed the body, which was not asked for")
        if status == 206:
            found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if found is None or int(found[1]) != part.bytes:
                part.restart()
                raise _FaultError("it sent another range than the one asked for")
            total = int(found[3])
            if part.etag and etag and etag != part.etag:
                part.restart()
                raise _FaultError("the file changed while it was fetched")
        elif status == 200:
            part.restart()
            part.etag = etag
            length = response.headers.get("Content-Length", "")
            if not (length.isascii() and length.isdigit()):
                if "Transfer-Encoding" not in response.headers and asked.sha256 is None:
                    raise _FaultError("it does not say how long the file is")
                return asked.length
            total = int(length)
        elif status == 416:
            part.restart()
            raise _FaultError("it has fewer bytes than had arrived: the file changed")
        else:
            raise _refusal(asked.url, status)
        if asked.length is not None and total != asked.length:
            raise _FaultError(
                f"it has {total:,} bytes, not the {asked.length:,} asked for", bytes_wrong=True
            )
        return total

    def _send(self, method: str, url: str, headers: dict[str, str]) -> httpx2.Response:
        """Send a request and follow its redirects, each checked."""
        target = url
        for _ in range(MAX_REDIRECTS + 1):
            secret = self._secret.headers_for(target) if self._secret else {}
            request = self._client.build_request(method, target, headers={**headers, **secret})
            response = self._client.send(request, stream=True)
            if response.status_code in _PASSING or response.status_code >= 500:
                response.close()
                raise _FaultError(
                    f"it answers {response.status_code}",
                    wait_s=_retry_after(
                        response.headers.get("Retry-After", ""), self._clock.wall()
                    ),
                )
            if not response.has_redirect_location:
                return response
            response.close()
            target = followed(url, target, response.headers["Location"])
        raise RefusedError(f"{shown(url)} redirects more than {MAX_REDIRECTS} times")

    def _etag(self, response: httpx2.Response) -> str:
        """A strong validator, or nothing: a weak one says nothing of bytes."""
        etag = str(response.headers.get("ETag", ""))
        if not (etag.startswith('"') and etag.isascii() and etag.isprintable() and len(etag) < 200):
            return ""
        return etag if self._secret is None or self._secret.hide(etag) == etag else ""

    def _said(self, error: Exception) -> str:
        import httpx2

        if isinstance(error, httpx2.TimeoutException):
            return "it is silent"
        text = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        return self._secret.hide(text) if self._secret else text


def _untold(done: int, total: int) -> None:
    del done, total


class _Asked(NamedTuple):
    url: str
    length: int | None
    sha256: str | None
    git_sha1: str | None

    def check(self, part: Part) -> None:
        """Hold what has arrived against what was asked for."""
        if self.length is not None and part.bytes != self.length:
            raise _FaultError(
                f"it sent {part.bytes:,} bytes, not {self.length:,}", bytes_wrong=True
            )
        if self.sha256 is not None and part.digest != self.sha256:
            raise _FaultError(
                f"its bytes have the digest {part.digest}, not {self.sha256}", bytes_wrong=True
            )
        if self.git_sha1 is not None and part.git_sha1() != self.git_sha1:
            raise _FaultError("its bytes are not those that the Hub lists", bytes_wrong=True)


def _refusal(url: str, status: int) -> RefusedError:
    return RefusedError(f"{shown(url)} answers {status}", hint=_hint(status))


def _hint(status: int) -> str:
    if status in (401, 403):
        return "if it asks for an account: accept its terms on the Hub's page, and set HF_TOKEN"
    if status in (404, 410):
        return "it may have moved: see the source's home page (vision-ift sources --json)"
    return "see the source's home page (vision-ift sources --json)"


def _retry_after(text: str, wall_s: float) -> float | None:
    """Seconds to wait, from either form of ``Retry-After``; ``None`` where it says nothing.

    >>> _retry_after("7", 0.0), _retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 30.0)
    (7.0, 30.0)
    """
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - wall_s)
    except (ValueError, TypeError, OverflowError):
        return None
