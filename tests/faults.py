"""A server on this machine that serves files and misbehaves by a script; it stops by itself.

Each request takes the next fault of the script; when the script is over, all is well. Tests of
anything that speaks HTTP can use it: it knows nothing of what is fetched.
"""

from __future__ import annotations

import email.utils
import hashlib
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any, NamedTuple

#: What a server can do wrong that a patient client survives.
FAULTS = (
    "429",  # too many requests, with Retry-After in seconds
    "429-date",  # the same, with a date
    "500",
    "503",
    "reset",  # the connection is reset in the middle of the body
    "reset-at-once",  # before the head
    "short",  # the connection ends early, and the head promised more
    "stall",  # silence in the middle of the body
    "ignored-range",  # 200 and the whole file where a range was asked for
    "wrong-length",  # another Content-Length than the file's
    "wrong-bytes",  # right length, other bytes; never twice the same
    "changed",  # other bytes under another ETag, and back again
)


class Request(NamedTuple):
    """What a client asked for; the headers' names as in ``If-Range``."""

    method: str
    path: str
    headers: dict[str, str]


class Server:
    """The server while it runs.

    Attributes:
        url: ``http://127.0.0.1:PORT``.
        files: What it serves: path to bytes.
        script: The faults still to come, for GETs of ``files``.
        requests: What it was asked so far.
        redirects: Paths that are answered with 302 to another url.
        refuses: Paths that are answered with a status.
        pages: Other paths: a function of the request gives status, headers and body.
    """

    def __init__(self) -> None:
        self.url = ""
        self.files: dict[str, bytes] = {}
        self.script: list[str] = []
        self.forever = ""
        self.requests: list[Request] = []
        self.redirects: dict[str, str] = {}
        self.refuses: dict[str, int] = {}
        self.pages: Callable[[Request], tuple[int, dict[str, str], bytes] | None] = _no_page
        self.etags = True
        self.ranges = True
        self.wall_s = 1_700_000_000.0
        self.stopped = Event()
        self.lock = Lock()
        self.faults = 0

    def next_fault(self) -> str:
        with self.lock:
            fault = self.script.pop(0) if self.script else self.forever
            self.faults += bool(fault)
            return fault

    def gets(self, path: str) -> list[Request]:
        return [one for one in self.requests if one.method == "GET" and one.path == path]


def _no_page(request: Request) -> None:
    return None


@contextmanager
def serving(files: dict[str, bytes] | None = None, script: Sequence[str] = ()) -> Iterator[Server]:
    """Run a server for a while."""
    state = Server()
    state.files = dict(files or {})
    state.script = list(script)

    class Handler(_Handler):
        server_state = state

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:  # a client that went away
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    server_state: Server
    protocol_version = "HTTP/1.1"
    timeout = 10

    def do_GET(self) -> None:
        state = self.server_state
        path = self.path.partition("?")[0]
        request = Request(
            self.command, path, {one.title(): text for one, text in self.headers.items()}
        )
        with state.lock:
            state.requests.append(request)
        page = state.pages(request)
        if page is not None:
            self._answer(*page)
        elif path in state.redirects:
            self._answer(302, {"Location": state.redirects[path]})
        elif path in state.refuses:
            echoed = " ".join(request.headers.values()).encode()  # as rude servers do
            self._answer(state.refuses[path], {"X-Error-Message": echoed.decode()}, echoed)
        elif path in state.files:
            fault = state.next_fault() if self.command == "GET" else ""
            self._serve(state.files[path], fault)
        else:
            self._answer(404, {})

    do_HEAD = do_GET

    def _answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _serve(self, data: bytes, fault: str) -> None:
        state = self.server_state
        if fault.startswith("429"):
            later = email.utils.formatdate(state.wall_s + 5, usegmt=True)
            self._answer(429, {"Retry-After": later if fault == "429-date" else "5"})
            return
        if fault.isdigit():
            self._answer(int(fault), {})
            return
        if fault == "reset-at-once":
            self._reset()
            return
        if fault in ("wrong-bytes", "changed"):
            data = _damaged(data, state.faults)
        etag = _etag(data)
        if fault == "wrong-bytes":
            etag = _etag(state.files[self.path.partition("?")[0]])
        status, start = 200, self._start(len(data), etag)
        if fault == "ignored-range" or not state.ranges:
            start = None
        headers = {"ETag": etag} if state.etags else {}
        if start is not None:
            if start >= len(data):
                self._answer(416, {"Content-Range": f"bytes */{len(data)}"})
                return
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        body = data[start or 0 :]
        promised = len(body) + (7 if fault == "wrong-length" else 0)
        if fault == "wrong-length" and start is not None:
            headers["Content-Range"] = f"bytes {start}-{len(data) + 6}/{len(data) + 7}"
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(promised)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "GET":
            return
        if fault in ("reset", "short", "stall", "wrong-length"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if fault == "reset":
                self._reset()
            elif fault == "stall":
                state.stopped.wait(2)
            self.close_connection = True
            return
        self.wfile.write(body)

    def _start(self, size: int, etag: str) -> int | None:
        asked = self.headers.get("Range", "")
        if not asked.startswith("bytes=") or not asked.endswith("-"):
            return None
        if self.headers.get("If-Range", etag) != etag:
            return None
        return int(asked.removeprefix("bytes=").rstrip("-"))

    def _reset(self) -> None:
        """Close with RST instead of FIN."""
        self.wfile.flush()
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        self.connection.close()

    def log_message(self, *_: Any) -> None:
        pass


def _etag(data: bytes) -> str:
    return f'"{hashlib.sha1(data).hexdigest()}"'


def _damaged(data: bytes, turn: int) -> bytes:
    """The same length with other bytes, other ones each time."""
    return data[:-1] + bytes([data[-1] ^ (1 + turn % 255)]) if data else data


class SimulatedClock:
    """Time that passes only where somebody waits."""

    def __init__(self, wall_s: float = 1_700_000_000.0) -> None:
        self.now_s = 0.0
        self.wall_s = wall_s
        self.waits: list[float] = []
        self._draws = 0

    def now(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.wall_s + self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.waits.append(seconds)
        self.now_s += seconds

    def draw(self) -> float:
        self._draws += 1
        return (self._draws * 0.618) % 1.0
