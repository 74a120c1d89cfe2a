"""A Hub on this machine that serves one dataset, read only; run in a process of its own.

``python -m tests.loopback_hub FOLDER ROOT TABLES PATH …`` serves the files of FOLDER as
``org/name`` and builds the source ``messages`` from each PATH; prints for each the rows or the
error, and the requests. The environment decides where the Hub's libraries look, and they read it
when they are imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

COMMIT = "a" * 40
_API = "/api/datasets/org/name"
_FILES = "/datasets/org/name/resolve/"


def serve(folder: Path) -> tuple[ThreadingHTTPServer, list[str]]:
    """Serve a folder's files; give the server and the list to which requests are added."""
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    requests: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            path = unquote(urlparse(self.path).path)
            requests.append(f"{self.command} {path}")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if path in (_API, f"{_API}/revision/main", f"{_API}/revision/{COMMIT}"):
                self._json({"id": "org/name", "sha": COMMIT, "siblings": [], "tags": []})
            elif path.startswith(f"{_API}/tree/"):
                inside = path.removeprefix(f"{_API}/tree/").partition("/")[2]
                self._json(_children(files, inside))
            elif path.startswith(f"{_API}/paths-info/"):
                wanted = parse_qs(body.decode()).get("paths", [])
                self._json([one for one in _entries(files) if one["path"] in wanted])
            elif path.startswith(_FILES):
                self._file(files.get(path.removeprefix(_FILES).partition("/")[2]))
            else:
                self._reply(404, b"", {"X-Error-Code": "RepoNotFound"})

        do_HEAD = do_POST = do_GET

        def _json(self, value: Any) -> None:
            self._reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def _file(self, data: bytes | None) -> None:
            if data is None:
                self._reply(404, b"", {"X-Error-Code": "EntryNotFound"})
            else:
                tag = f'"{hashlib.sha1(data).hexdigest()}"'
                self._reply(200, data, {"ETag": tag, "X-Repo-Commit": COMMIT})

        def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, requests


def _entries(files: dict[str, bytes]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        for path, data in files.items()
    ]
    folders = {path.rpartition("/")[0] for path in files} - {""}
    return found + [
        {"type": "directory", "path": path, "size": 0, "oid": "0" * 40} for path in sorted(folders)
    ]


def _children(files: dict[str, bytes], folder: str) -> list[dict[str, Any]]:
    return [one for one in _entries(files) if one["path"].rpartition("/")[0] == folder]


def main(folder: str, root: str, tables: str, *paths: str) -> None:
    """Serve, build, and print one JSON list."""
    server, requests = serve(Path(folder))
    home = str(Path(tables).parent / "home")
    os.environ |= {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": home,
        "HF_HUB_DISABLE_XET": "1",
    }
    from vision_ift import VisionIFTError, build

    answers = []
    for path in paths:
        answer: dict[str, Any] = {}
        requests.clear()
        try:
            table = build("messages", root=root, tables=tables, options={"path": path})
            answer["rows"] = [row for batch in table.batches() for row in batch.to_pylist()]
        except VisionIFTError as error:
            answer["error"] = [error.code, str(error)]
        answers.append(answer | {"requests": requests.copy()})
    sys.stdout.write(json.dumps(answers) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
