"""Fetching from a Hub that is a small server of our own on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from vision_ift._errors import ServiceError
from vision_ift._fetch import fetch

SHA = "5" * 40


@contextmanager
def hub(files: dict[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Play the Hub for the dataset ``others/birds``: its address, and the requests it got."""
    requests: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            requests.append(f"{self.command} {self.path} {self.headers['Authorization'] or ''}")
            place = f"/datasets/others/birds/resolve/{SHA}/"
            if path == f"/api/datasets/others/birds/tree/{SHA}":
                tree = [
                    {"type": "file", "path": name, "size": len(data), "oid": _blob(data)}
                    for name, data in files.items()
                ]
                self._send(200, json.dumps(tree).encode())
            elif path.startswith("/api/datasets/others/birds"):
                siblings = [
                    {"rfilename": name, "size": len(data), "blobId": _blob(data)}
                    for name, data in files.items()
                ]
                answer = {"id": "others/birds", "sha": SHA, "siblings": siblings, "private": False}
                self._send(200, json.dumps(answer).encode())
            elif path.startswith(place) and path.removeprefix(place) in files:
                self._send(200, files[path.removeprefix(place)])
            else:
                self._send(404, b"")

        do_HEAD = do_GET

        def _send(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("X-Repo-Commit", SHA)
            self.send_header("ETag", f'"{_blob(data)}"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def _blob(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def run(code: str, *, path: Path, endpoint: str) -> list[Any]:
    """Run Python in a process whose Hub is ``endpoint``: the library reads it when imported."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(path),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_TOKEN": "hf_of_the_test",
        "NO_PROXY": "127.0.0.1",
    }
    tried = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert tried.returncode == 0, tried.stderr
    return [json.loads(line) for line in tried.stdout.splitlines()]


def test_the_hubs_files_arrive_once_and_the_rest_is_said(others: Path, tmp_path: Path) -> None:
    files = {
        "README.md": b"not wanted",
        "list.tsv": b"b0\ttrain\t0.jpg\tan owl\n",
        "pictures/0.jpg": b"\xff\xd8\xff" + bytes(100_000),
    }
    code = f"""
        import msgspec
        from vision_ift._fetch import fetch
        for dry_run in (True, False, False):
            found = fetch("birds", root={str(tmp_path / "root")!r}, dry_run=dry_run)
            print(msgspec.json.encode(found).decode())
    """
    with hub(files) as (endpoint, requests):
        planned, fetched, again = run(code, path=others, endpoint=endpoint)
    by_hand = {
        "state": "by_hand",
        "place": "",
        "bytes": 0,
        "note": "birds/more.zip: ask the authors",
    }
    for answer, state in ((planned, "wanted"), (fetched, "fetched"), (again, "here")):
        assert answer == [
            {"state": state, "place": "birds/list.tsv", "bytes": 22, "note": ""},
            {"state": state, "place": "birds/pictures/0.jpg", "bytes": 100_003, "note": ""},
            by_hand,
        ]
    for name in ("list.tsv", "pictures/0.jpg"):
        assert (tmp_path / "root/birds" / name).read_bytes() == files[name]
    assert not (tmp_path / "root/birds/README.md").exists()
    got = [line for line in requests if line.startswith("GET") and "/resolve/" in line]
    assert len(got) == 2, "what is there is not fetched again"
    assert all(line.endswith("Bearer hf_of_the_test") for line in requests)


def test_what_the_hub_cannot_give_is_an_error_of_the_service(others: Path, tmp_path: Path) -> None:
    code = f"""
        import json
        from vision_ift._errors import VisionIFTError
        from vision_ift._fetch import fetch
        try:
            fetch("birds", root={str(tmp_path)!r})
        except VisionIFTError as error:
            print(json.dumps([error.code, error.exit_code, str(error)]))
    """
    with hub({"renamed.tsv": b""}) as (endpoint, _):
        ((kind, status, message),) = run(code, path=others, endpoint=endpoint)
        assert (kind, status) == ("missing_input", 66)
        assert "holds none of list.tsv, pictures/*.jpg" in message
    ((kind, status, message),) = run(code, path=others, endpoint=endpoint)
    assert (kind, status) == ("service", 69)
    assert message.startswith("dataset others/birds on the Hub: ")
    assert list(tmp_path.iterdir()) == []


def test_a_hub_that_is_switched_off_is_said(others: Path, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="offline"):  # conftest.py switches it off
        fetch("birds", root=tmp_path)


def test_a_source_that_is_not_on_the_hub_has_only_instructions(tmp_path: Path) -> None:
    found = fetch("coco_ift", root=tmp_path)
    assert found
    assert all(one.state == "by_hand" and one.note for one in found)
