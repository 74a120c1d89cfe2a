"""One file over HTTP from a server that misbehaves by a script."""

from __future__ import annotations

import hashlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults import FAULTS, Server, SimulatedClock, serving
from vision_ift._errors import IntegrityError, ServiceError, UsageError
from vision_ift._fetch.download import Clock, Downloads, Patience
from vision_ift._origin import Secret, followed

DATA = hashlib.shake_256(b"a picture").digest(200_003)
SHA256 = hashlib.sha256(DATA).hexdigest()
PATH = "/data/a.zip"

#: Silence is real time here, so it is short; every other wait is simulated.
QUICK = Patience(read_s=0.1, connect_s=2.0, total_s=3600.0)


def downloads(
    clock: SimulatedClock | None = None, *, patience: Patience = QUICK, secret: Secret | None = None
) -> Downloads:
    simulated = clock or SimulatedClock()
    return Downloads(
        patience=patience,
        clock=Clock(simulated.now, simulated.wall, simulated.sleep, simulated.draw),
        secret=secret,
    )


def test_control_a_naive_loop_keeps_a_short_body_as_complete(tmp_path: Path) -> None:
    with serving({PATH: DATA}, ["short"]) as server:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=5)
        connection.request("GET", PATH)
        response = connection.getresponse()
        with (tmp_path / "a.zip").open("wb") as file:
            while chunk := response.read(8192):  # what shutil.copyfileobj does, too
                file.write(chunk)
        connection.close()
    assert 0 < (tmp_path / "a.zip").stat().st_size < len(DATA)


def test_a_file_arrives_once_with_its_digest(tmp_path: Path) -> None:
    with serving({PATH: DATA}) as server, downloads() as client:
        told: list[tuple[int, int]] = []
        arrived = client.get(
            server.url + PATH, tmp_path / "a.zip", told=lambda *one: told.append(one)
        )
        assert client.describe(server.url + PATH) == (len(DATA), arrived.etag)
    assert (arrived.bytes, arrived.sha256) == (len(DATA), SHA256)
    assert told[-1] == (len(DATA), len(DATA))
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
    assert len(server.gets(PATH)) == 1


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Server, Downloads]]:
    """A server, and a client whose deadline is far away: a new one for each script is slow."""
    patience = Patience(read_s=0.1, connect_s=2.0, total_s=1e9)
    with serving() as server, downloads(patience=patience) as client:
        yield server, client


@settings(max_examples=200)
@given(
    script=st.lists(st.sampled_from(FAULTS), max_size=5),
    size=st.sampled_from([0, 1, 17, 70_000, 1_200_000]),
    known=st.booleans(),
    etags=st.booleans(),
)
def test_any_five_faults_end_in_the_right_bytes(
    shared: tuple[Server, Downloads], script: list[str], size: int, known: bool, etags: bool
) -> None:
    data = hashlib.shake_256(b"x").digest(size)
    if not known:  # nobody can tell other bytes of the right length then
        script = [one for one in script if one not in ("wrong-bytes", "changed")]
    if size == 0:
        script = [one for one in script if one not in ("wrong-length",)]
    server, client = shared
    server.files = {PATH: data}
    server.script, server.etags = list(script), etags
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.zip"
        client.get(
            server.url + PATH,
            path,
            length=size if known else None,
            sha256=hashlib.sha256(data).hexdigest() if known else None,
        )
        assert path.read_bytes() == data
        assert [one.name for one in path.parent.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_for_ever_ends_in_a_clear_error_within_the_budget(
    fault: str, tmp_path: Path
) -> None:
    clock = SimulatedClock()
    with serving({PATH: DATA}) as server, downloads(clock) as client:
        server.forever = fault
        if fault == "ignored-range":  # no fault where nothing is to be resumed
            client.get(server.url + PATH, tmp_path / "a.zip", sha256=SHA256)
            return
        with pytest.raises((ServiceError, IntegrityError)) as caught:
            client.get(server.url + PATH, tmp_path / "a.zip", length=len(DATA), sha256=SHA256)
    assert server.url + PATH in str(caught.value)
    assert caught.value.hint
    assert not (tmp_path / "a.zip").exists()
    assert clock.now_s <= QUICK.total_s
    assert len(server.gets(PATH)) <= QUICK.tries + 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
def test_an_answer_is_not_asked_for_again(status: int, tmp_path: Path) -> None:
    clock = SimulatedClock()
    with serving() as server, downloads(clock) as client:
        server.refuses = {PATH: status}
        with pytest.raises(ServiceError, match=f"answers {status}"):
            client.get(server.url + PATH, tmp_path / "a.zip")
        with pytest.raises(ServiceError, match=f"answers {status}"):  # the host is not down
            client.get(server.url + PATH, tmp_path / "a.zip")
    assert len(server.requests) == 2
    assert clock.waits == []
    assert list(tmp_path.iterdir()) == []


def test_waits_are_as_long_as_asked_for_and_drawn_apart(tmp_path: Path) -> None:
    clock = SimulatedClock()
    script = ["429", "503", "429-date", "503", "503", "503"]
    with serving({PATH: DATA}, script) as server, downloads(clock) as client:
        server.wall_s = clock.wall_s + 20.0  # the date form counts from our clock
        client.get(server.url + PATH, tmp_path / "a.zip", sha256=SHA256)
    assert len(clock.waits) == len(script)
    assert 5 <= clock.waits[0] <= 6
    assert 20 - clock.waits[0] - 2 <= clock.waits[2] <= 26
    for place, most in ((1, 2.0), (3, 8.0), (4, 16.0), (5, 32.0)):
        assert 0 <= clock.waits[place] <= most
    assert len(set(clock.waits)) == len(clock.waits)


def test_a_wait_past_the_deadline_is_an_error_at_once(tmp_path: Path) -> None:
    clock = SimulatedClock()
    patience = Patience(total_s=4.0, read_s=0.1)
    with (
        serving({PATH: DATA}, ["429"]) as server,
        downloads(clock, patience=patience) as client,
        pytest.raises(ServiceError, match="would pass the deadline"),
    ):
        client.get(server.url + PATH, tmp_path / "a.zip")
    assert clock.waits == []


def test_a_host_that_is_down_is_not_tried_for_the_next_file(tmp_path: Path) -> None:
    with serving({PATH: DATA, "/b": b"b"}) as server, downloads() as client:
        server.forever = "503"
        with pytest.raises(ServiceError, match="given up after 8 tries: it answers 503"):
            client.get(server.url + PATH, tmp_path / "a.zip")
        with pytest.raises(ServiceError, match="was not tried"):
            client.get(server.url + "/b", tmp_path / "b")
        assert server.gets("/b") == []


def test_a_stop_is_gone_on_from_with_a_range(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with serving({PATH: DATA}) as server:
        server.forever = "short"
        with (
            downloads(patience=Patience(tries=1, read_s=1)) as client,
            pytest.raises(ServiceError, match="given up after 1 tries"),
        ):
            client.get(server.url + PATH, path, sha256=SHA256)
        kept = (tmp_path / ".a.zip.part").stat().st_size
        assert 0 < kept < len(DATA)
        server.forever = ""
        with downloads() as client:
            client.get(server.url + PATH, path, sha256=SHA256)
        last = server.gets(PATH)[-1]
    assert last.headers["Range"] == f"bytes={kept}-"
    assert last.headers["If-Range"].startswith('"')
    assert path.read_bytes() == DATA


def part(folder: Path, server: Server, data: bytes) -> Path:
    """Leave half a download behind."""
    server.script = ["short"]
    with downloads(patience=Patience(tries=1, read_s=1)) as client, pytest.raises(ServiceError):
        client.get(server.url + PATH, folder / "a.zip")
    return folder / ".a.zip.part"


@pytest.mark.parametrize("how", ["torn", "longer", "shorter", "no note", "bad note", "other url"])
def test_a_part_is_only_trusted_as_far_as_its_note_goes(how: str, tmp_path: Path) -> None:
    with serving({PATH: DATA, "/other": DATA}) as server:
        kept = part(tmp_path, server, DATA)
        note = tmp_path / ".a.zip.part.json"
        good = kept.read_bytes()
        url = server.url + ("/other" if how == "other url" else PATH)
        if how == "torn":
            kept.write_bytes(good[:-500] + bytes(500))
        elif how == "longer":
            kept.write_bytes(good + bytes(500))
        elif how == "shorter":
            kept.write_bytes(good[:-1])
        elif how == "no note":
            note.unlink()
        elif how == "bad note":
            note.write_bytes(b"{")
        with downloads() as client:
            arrived = client.get(url, tmp_path / "a.zip")  # no digest is known that could save us
        resumed = "Range" in server.requests[-1].headers
    assert arrived.sha256 == SHA256
    assert (tmp_path / "a.zip").read_bytes() == DATA
    assert resumed == (how == "longer")


def test_a_file_that_changed_in_the_middle_is_fetched_whole(tmp_path: Path) -> None:
    other = DATA[::-1]
    with serving({PATH: DATA}) as server:
        part(tmp_path, server, DATA)
        server.files[PATH] = other
        with downloads() as client:
            client.get(server.url + PATH, tmp_path / "a.zip")
        part(tmp_path, server, other)
        server.files[PATH] = DATA[:10]  # shorter than what had arrived
        with downloads() as client:
            client.get(server.url + PATH, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == DATA[:10]


def test_without_a_version_and_a_digest_nothing_is_resumed(tmp_path: Path) -> None:
    with serving({PATH: DATA}) as server:
        server.etags = False
        part(tmp_path, server, DATA)
        server.files[PATH] = DATA[::-1]
        with downloads() as client:
            client.get(server.url + PATH, tmp_path / "a.zip")
        assert "Range" not in server.requests[-1].headers
    assert (tmp_path / "a.zip").read_bytes() == DATA[::-1]


WRONG = [
    ("another byte", DATA[:-1] + b"\0", "not " + SHA256),
    ("short", DATA[:-1], f"not the {len(DATA):,} asked for"),
    ("longer", DATA + b"\0", f"not the {len(DATA):,} asked for"),
]


@pytest.mark.parametrize(("what", "served", "said"), WRONG, ids=[one[0] for one in WRONG])
def test_other_bytes_than_those_locked_are_refused(
    what: str, served: bytes, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(b"an older file")
    with serving({PATH: served}) as server, downloads() as client:
        with pytest.raises(IntegrityError, match=said):
            client.get(server.url + PATH, path, length=len(DATA), sha256=SHA256)
        if what == "another byte":  # once more could help, twice alike is an answer
            assert len(server.gets(PATH)) == 2
    assert path.read_bytes() == b"an older file"
    assert [one.name for one in tmp_path.iterdir()] == ["a.zip"]


def test_the_name_in_git_is_held_against(tmp_path: Path) -> None:
    name = hashlib.sha1(b"blob %d\0" % len(DATA) + DATA).hexdigest()
    with serving({PATH: DATA}) as server, downloads() as client:
        client.get(server.url + PATH, tmp_path / "a.zip", git_sha1=name)
        with pytest.raises(IntegrityError, match="not those that the Hub lists"):
            client.get(server.url + PATH, tmp_path / "a.zip", git_sha1="0" * 40)


def test_a_killed_process_is_gone_on_from(tmp_path: Path) -> None:
    data = hashlib.shake_256(b"large").digest(24_000_000)
    path = tmp_path / "a.zip"
    code = """
import sys, time
from pathlib import Path
from vision_ift._fetch import download as _download
from vision_ift._fetch import part as _part
_part.NOTE_BYTES = 1 << 20
def told(done, total):
    print(done, flush=True)
    time.sleep(0.005)
with _download.Downloads() as client:
    client.get(sys.argv[1], Path(sys.argv[2]), told=told)
"""
    with serving({PATH: data}) as server:
        words = [sys.executable, "-c", code, server.url + PATH, str(path)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if int(line) > 6_000_000:
                    os.kill(process.pid, signal.SIGKILL)
                    break
            process.wait(30)
        assert not path.exists()
        with downloads() as client:
            client.get(server.url + PATH, path)
        again = server.gets(PATH)[-1]
    start = int(again.headers["Range"].removeprefix("bytes=").rstrip("-"))
    assert start >= 5_000_000
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(data).digest()
    assert [one.name for one in tmp_path.iterdir()] == ["a.zip"]


FIRST = "https://example.org/a.zip"
REDIRECTS = [
    (FIRST, "https://example.com/b.zip", True),
    (FIRST, "/b.zip", True),
    (FIRST, "http://example.com/b.zip", False),
    ("http://example.org/a.zip", "http://example.org/b.zip", False),
    (FIRST, "file:///etc/passwd", False),
    (FIRST, "ftp://example.com/b.zip", False),
    (FIRST, "https://127.0.0.1/b.zip", False),
    (FIRST, "https://localhost/b.zip", False),
    (FIRST, "https://10.0.0.7/b.zip", False),
    (FIRST, "https://169.254.169.254/latest", False),
    (FIRST, "https://[::1]/b.zip", False),
    (FIRST, "https://[::ffff:127.0.0.1]/b.zip", False),
    (FIRST, "https://2130706433/b.zip", False),
    (FIRST, "http://127.0.0.1:80/b.zip", False),
    ("http://127.0.0.1:1/a.zip", "http://127.0.0.1:2/b.zip", True),
    ("http://127.0.0.1:1/a.zip", "http://10.0.0.7/b.zip", False),
]


@pytest.mark.parametrize(("first", "location", "allowed"), REDIRECTS)
def test_where_a_redirect_may_lead(
    first: str, location: str, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_net = [(2, 1, 6, "", ("93.184.216.34", 0))]
    asked = socket.getaddrinfo

    def resolved(host: str, *words: Any, **options: Any) -> Any:
        return open_net if host.startswith("example.") else asked(host, *words, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    if allowed:
        assert followed(first, first, location).endswith("/b.zip")
    else:
        with pytest.raises(ServiceError, match="redirects to"):
            followed(first, first, location)


def test_redirects_are_followed_a_few_times_only(tmp_path: Path) -> None:
    with serving({PATH: DATA}) as server, downloads() as client:
        server.redirects = {"/1": "/2", "/2": server.url + PATH, "/round": "/round"}
        client.get(server.url + "/1", tmp_path / "a.zip", sha256=SHA256)
        with pytest.raises(ServiceError, match="redirects more than 5 times"):
            client.get(server.url + "/round", tmp_path / "b.zip")
        assert len(server.gets("/round")) == 6


def test_a_token_goes_to_its_own_origin_alone(tmp_path: Path) -> None:
    canary = "hf_canary_of_the_test"
    with serving({PATH: DATA}) as other, serving() as hub:
        hub.redirects = {"/resolve": other.url + PATH}
        hub.refuses = {"/gated": 403}
        with downloads(secret=Secret(canary, url=hub.url)) as client:
            client.get(hub.url + "/resolve", tmp_path / "a.zip")
            with pytest.raises(ServiceError) as caught:
                client.get(hub.url + "/gated", tmp_path / "b.zip")
            assert canary not in repr(vars(client))
        assert hub.requests[0].headers["Authorization"] == f"Bearer {canary}"
        assert all("Authorization" not in one.headers for one in other.requests)
    assert canary not in str(caught.value) + repr(caught.value)
    with pytest.raises(UsageError) as wrong:
        Secret(f"{canary}\nX: y", url=hub.url)
    assert canary not in str(wrong.value)


def test_a_body_whose_end_nobody_knows_is_not_taken(tmp_path: Path) -> None:
    with serving() as server, downloads() as client:
        server.pages = lambda request: (200, {"Content-Length": "", "Connection": "close"}, b"half")
        with pytest.raises(ServiceError, match="given up"):
            client.get(server.url + PATH, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()
