"""The Hub as a server: sockets, the log, the faults, and what a test may ask."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any
from urllib.parse import urlsplit

from tests.hub._api import Api, Call, Reply, refused
from tests.hub._faults import Fault, Request
from tests.hub._routes import answer
from tests.hub._store import Blobs, Commit, Entry, Repository

_PIECE_BYTES = 1 << 20


class Hub:
    """A running Hub, as a test sees it.

    Attributes:
        url: ``http://127.0.0.1:PORT``.
        token: Who sends it may write.
        reader: A second token: it reads what is public and opens pull requests, no more.
        requests: The log, in the order of arrival.
    """

    def __init__(self, api: Api) -> None:
        self.api = api
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.stopped = Event()
        self._lock = Lock()

    @property
    def url(self) -> str:
        return self.api.url

    @property
    def token(self) -> str:
        return self.api.token

    @property
    def reader(self) -> str:
        return self.api.reader

    @property
    def repos(self) -> dict[str, Repository]:
        """The repositories by name."""
        return self.api.repositories

    def files(self, repo: str, revision: str = "main") -> dict[str, Entry]:
        """List a revision's files by path: ``sha256``, ``size``, ``oid``, ``lfs``."""
        with self.api.lock:
            return dict(sorted(self.repos[repo].at(revision).files.items()))

    def read(self, repo: str, path: str, revision: str = "main") -> bytes:
        """Read a whole file."""
        return self.api.blobs.path(self.files(repo, revision)[path].sha256).read_bytes()

    def commits(self, repo: str, revision: str = "main") -> list[Commit]:
        """List a revision's commits, the newest first."""
        with self.api.lock:
            return self.repos[repo].history(revision)

    def sent(self, method: str = "PUT") -> int:
        """Count the bytes that requests of a method brought so far: LFS blobs come by ``PUT``."""
        return sum(one.bytes_in for one in self.requests if one.method == method)

    def fault_at(self, number: int, kind: str = "reset", **how: Any) -> Fault:
        """Break the request of this number, counted from now; ``how`` as in ``Fault``."""
        return self._set(Fault(kind, number, **how))

    def fail_from(self, number: int, kind: str = "403", **how: Any) -> Fault:
        """Break the request of this number and all later ones, until ``heal``."""
        return self._set(Fault(kind, number, onwards=True, **how))

    def heal(self) -> None:
        """Take all faults away."""
        with self._lock:
            self.faults.clear()

    def environment(
        self, home: Path | str, *, token: str | None = "", **more: str
    ) -> dict[str, str]:
        """Give the environment of a client process.

        Args:
            home: Its ``HF_HOME``.
            token: Its ``HF_TOKEN``; the Hub's own by default, none at all with None.
            more: Further variables.

        What the client wants from other hosts comes to the Hub as to a proxy, which answers 404
        and writes it down: nothing leaves the machine, and no name is looked up.
        """
        ours = (
            "HF_",
            "HUGGING",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "NO_PROXY",
            "TRANSFORMERS_",
        )
        kept = {
            name: text for name, text in os.environ.items() if not name.upper().startswith(ours)
        }
        kept |= {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
        kept |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
        kept |= {"http_proxy": self.url, "https_proxy": self.url, "no_proxy": "127.0.0.1"}
        if token is not None:
            kept["HF_TOKEN"] = token or self.token
        return kept | more

    def began(self, request: Request) -> Fault | None:
        """Write a request down; give the fault that hits it."""
        with self._lock:
            self.requests.append(request)
            request.number = len(self.requests)
            if request.server == "outside" or request.path == "/api/agent-harnesses":
                return None  # asked once a day, whatever a client does
            struck = [fault for fault in self.faults if fault.strikes(request)]
            return struck[0] if struck else None

    def _set(self, fault: Fault) -> Fault:
        with self._lock:
            self.faults.append(fault)
        return fault


@contextmanager
def serving(
    folder: Path | str,
    *,
    token: str = "canary",
    reader: str = "canary-reader",
    fault: Fault | None = None,
    lfs_elsewhere: bool = False,
    part_bytes: int = 64 * 1024 * 1024,
    page_size: int = 1000,
    port: int = 0,
) -> Iterator[Hub]:
    """Run a Hub on loopback for a while.

    Args:
        folder: Where blobs are kept; made where it is missing.
        token: The token that may write.
        reader: The token that may read.
        fault: A first fault; see also ``Hub.fault_at`` and ``Hub.fail_from``.
        lfs_elsewhere: Large files are sent to and fetched from a second port, another origin.
        part_bytes: Larger files are sent in parts of so many bytes.
        page_size: The longest list in one reply.
        port: Of the Hub; 0 lets the system choose.
    """
    folder = Path(folder)
    for name in ("blobs", "parts"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    hub = Hub(Api(Blobs(folder), token, reader, part_bytes=part_bytes, page_size=page_size))
    hub.faults += [fault] if fault else []
    servers = [_Server(hub, "hub", port)]
    if lfs_elsewhere:
        servers.append(_Server(hub, "storage", 0))
    hub.api.url, hub.api.storage = servers[0].url, servers[-1].url
    for server in servers:
        server.thread.start()
    try:
        yield hub
    finally:
        hub.stopped.set()
        for server in servers:
            server.stop()


class _Server(ThreadingHTTPServer):
    """One origin."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, hub: Hub, name: str, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.hub = hub
        self.name = name
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.thread = Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self.connections: set[socket.socket] = set()

    def stop(self) -> None:
        """Stop listening, and end the connections that clients keep open."""
        self.shutdown()
        self.server_close()
        for connection in self.connections.copy():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.thread.join(10)

    def handle_error(self, *_: Any) -> None:
        """A client that went away is no error here."""


class _Body:
    """A request's body, counted; the length comes first, or before each chunk."""

    def __init__(self, file: Any, headers: Mapping[str, str], request: Request) -> None:
        self._file = file
        self._left = int(headers.get("Content-Length") or 0)
        self._chunked = headers.get("Transfer-Encoding", "").lower() == "chunked"
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        while self._left or self._next_chunk():
            piece = self._file.read(min(self._left, _PIECE_BYTES))
            if not piece:
                raise ConnectionError("the client went away")
            self._left -= len(piece)
            self._request.bytes_in += len(piece)
            if self._chunked and not self._left:
                self._file.readline(8)
            yield piece

    def _next_chunk(self) -> bool:
        if not self._chunked:
            return False
        line = self._file.readline(1000)
        if not line:
            raise ConnectionError("the client went away")
        self._left = int(line.partition(b";")[0], 16)
        if not self._left:
            self._chunked = False
            while self._file.readline(1000).strip():
                pass
        return self._left > 0


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    timeout = 60

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def do_GET(self) -> None:
        hub = self.server.hub
        parts = urlsplit(self.path)
        outside = self.command == "CONNECT" or bool(parts.netloc)
        request = Request(
            number=0,
            server="outside" if outside else self.server.name,
            method=self.command,
            path=self.path.partition("?")[0] if outside else parts.path,
            query=parts.query,
            authorized="Authorization" in self.headers,  # in any case of letters
        )
        headers = {name.title(): text for name, text in self.headers.items()}
        body = _Body(self.rfile, headers, request)
        fault = hub.began(request)
        try:
            if fault is None:
                call = Call(request.method, request.path, request.query, headers, body)
                missing = refused(404, "this is no way to other hosts")
                reply = missing if outside else answer(hub.api, call)
                self._send(request, reply, body)
            else:
                self._break(request, fault, headers, body)
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    do_HEAD = do_POST = do_PUT = do_DELETE = do_CONNECT = do_GET

    def _break(
        self, request: Request, fault: Fault, headers: Mapping[str, str], body: _Body
    ) -> None:
        request.fault = fault.kind
        if fault.then:
            fault.then(request)
        if fault.kind == "reset":
            self._reset()
        elif fault.kind == "stall":
            self.server.hub.stopped.wait(fault.stall_s)
            self.close_connection = True
        elif fault.kind in ("reset_after", "truncated"):
            call = Call(request.method, request.path, request.query, headers, body)
            reply = answer(self.server.hub.api, call)
            for _ in body:
                pass
            if fault.kind == "truncated" and reply.size > 1 and request.method != "HEAD":
                self._send(request, reply, body, half=True)
            else:
                self._reset()
        else:
            said = f"fault {fault.kind}"
            if fault.rude:
                said += f" {headers.get('Authorization', '')} {request.path}?{request.query}"
            reply = refused(int(fault.kind), said)
            if fault.kind == "429":
                reply.headers["Retry-After"] = str(fault.retry_after_s)
            self._send(request, reply, body)

    def _send(self, request: Request, reply: Reply, body: _Body, *, half: bool = False) -> None:
        for _ in body:  # what an endpoint had no use for: the connection goes on after it
            pass
        count = reply.size // 2 if half else reply.size
        request.status = reply.status
        request.bytes_out = 0 if request.method == "HEAD" else count
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Content-Length": str(reply.size)}.items():
            self.send_header(name, value)
        self.end_headers()
        if request.method != "HEAD":
            if reply.file is None:
                self.wfile.write(reply.body[:count])
            elif count:
                self.wfile.flush()
                with reply.file[0].open("rb") as file:
                    self.connection.sendfile(file, reply.file[1], count)
        self.wfile.flush()
        self.close_connection |= half

    def _reset(self) -> None:
        """Close with RST instead of FIN."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        self.connection.close()

    def log_message(self, *_: Any) -> None:
        """Say nothing: the log is ``Hub.requests``."""
