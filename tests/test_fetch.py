"""Fetching a source's files, from a Hub and from servers that are our own, on this machine."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults import Request, Server, SimulatedClock, serving
from vision_ift import _registry
from vision_ift._errors import DiskError, IntegrityError, LockedError, ServiceError, UsageError
from vision_ift._fetch import bring as _bring
from vision_ift._fetch.bring import Fetched
from vision_ift._fetch.download import Clock, Patience
from vision_ift._fetch.fetch import fetch
from vision_ift._locks import Entry, FetchLock, shipped_lock

CANARY = "hf_canary_0123456789"
OLD, NEW = "5" * 40, "6" * 40
REPOSITORY = "/api/datasets/others/birds"


@contextmanager
def hub(files: dict[str, bytes], *, large: Sequence[str] = ()) -> Iterator[tuple[Server, Any]]:
    """Play the Hub for ``others/birds``; ``commits`` may be given more commits, the last is new."""
    commits: dict[str, dict[str, bytes]] = {OLD: dict(files)}

    def page(request: Request) -> tuple[int, dict[str, str], bytes] | None:
        for sha, held in commits.items():
            if request.path == f"{REPOSITORY}/tree/{sha}":
                return 200, {}, json.dumps([_listed(*one, large) for one in held.items()]).encode()
            running.files.update(
                {f"/datasets/others/birds/resolve/{sha}/{name}": held[name] for name in held}
            )
        if request.path == REPOSITORY:
            return 200, {}, json.dumps({"id": "others/birds", "sha": list(commits)[-1]}).encode()
        return None

    with serving() as running:
        running.pages = page
        yield running, commits


def _listed(name: str, data: bytes, large: Sequence[str]) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    one: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": blob}
    if name in large:
        digest = hashlib.sha256(data).hexdigest()
        one["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 130}
    return one


FILES = {
    "README.md": b"not wanted",
    "list.tsv": b"b0\ttrain\t0.jpg\tan owl\n",
    "pictures/0.jpg": b"\xff\xd8\xff" + bytes(100_000),
}


def called(
    *words: object, path: Path, endpoint: str, code: int = 0, **more: str
) -> tuple[Any, str, str]:
    """Run the command in a process of its own: the Hub's address is read when it is imported."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{path}{os.pathsep}{Path(__file__).parents[1]}",
        "HF_ENDPOINT": endpoint,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_TOKEN": CANARY,
        "NO_PROXY": "127.0.0.1",
        **more,
    }
    tried = subprocess.run(
        [sys.executable, "-m", "vision_ift", *(str(word) for word in words), "--json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert tried.returncode == code, tried.stderr
    return json.loads(tried.stdout), tried.stdout, tried.stderr


def states(answer: Any) -> dict[str, str]:
    return {one["place"] or one["note"]: one["state"] for one in answer["files"]}


def test_the_hubs_files_arrive_once_verified_and_pinned(others: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    with hub(FILES, large=["pictures/0.jpg"]) as (server, commits):
        words = ("fetch", "birds", "--root", root)

        def run(*more: object, code: int = 0) -> Any:
            return called(*words, *more, path=others, endpoint=server.url, code=code)[0]

        planned = run("--dry-run")
        assert states(planned) == {
            "birds/list.tsv": "wanted",
            "birds/pictures/0.jpg": "wanted",
            "birds/more.zip: ask the authors": "by_hand",
        }
        assert [one["bytes"] for one in planned["files"]] == [22, 100_003, None]
        assert planned["files"][0]["license"] == "CC0-1.0"
        assert not root.exists()
        assert set(states(run()).values()) == {"fetched", "by_hand"}
        for name in ("list.tsv", "pictures/0.jpg"):
            assert (root / "birds" / name).read_bytes() == FILES[name]
        assert not (root / "birds/README.md").exists()
        lock = json.loads((root / "birds/fetch.lock.json").read_text())
        assert lock["revisions"] == {"others/birds": OLD}
        digests = {one["place"]: one["sha256"] for one in lock["files"].values()}
        assert digests["birds/list.tsv"] == hashlib.sha256(FILES["list.tsv"]).hexdigest()
        assert server.url not in json.dumps(lock), "the lock is the same for every mirror"
        bodies = [one for one in server.requests if one.method == "GET" and "/resolve/" in one.path]
        assert len(bodies) == 2
        assert states(run())["birds/list.tsv"] == "here"

        # The Hub moves on: reported, not taken, until it is asked for.
        commits[NEW] = {**FILES, "list.tsv": b"another list"}
        answer = run()
        changed = [one for one in answer["files"] if one["state"] == "changed"]
        assert [one["place"] for one in changed] == ["birds/list.tsv"]
        assert "--update takes that commit" in changed[0]["note"]
        assert (root / "birds/list.tsv").read_bytes() == FILES["list.tsv"]
        assert states(run("--update"))["birds/list.tsv"] == "fetched"
        assert (root / "birds/list.tsv").read_bytes() == b"another list"
        assert FetchLock.read(root / "birds", "birds").revisions == {"others/birds": NEW}

        # One flipped byte of the right length is found, and not silently replaced.
        (root / "birds/pictures/0.jpg").write_bytes(b"\xff\xd8\xfe" + bytes(100_000))
        error = run(code=76)["error"]
        assert error["code"] == "integrity"
        assert "its digest is" in error["message"]
        assert states(run("--only", "*.tsv"))["birds/list.tsv"] == "here"
        assert states(run("--update"))["birds/pictures/0.jpg"] == "fetched"
        assert (root / "birds/pictures/0.jpg").read_bytes() == FILES["pictures/0.jpg"]
        asked = [one for one in server.requests if "others/birds" in one.path]
        assert all(one.headers["Authorization"] == f"Bearer {CANARY}" for one in asked)


def test_the_token_is_in_no_output_and_no_file(others: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    with serving() as store, hub(FILES, large=["pictures/0.jpg"]) as (server, _):
        store.files = {"/stored": FILES["pictures/0.jpg"]}
        place = f"/datasets/others/birds/resolve/{OLD}"
        server.redirects = {f"{place}/pictures/0.jpg": f"{store.url}/stored?signature=1"}
        server.refuses = {f"{place}/list.tsv": 403}  # and it says the token back
        more = {"HF_DEBUG": "1", "HF_HUB_VERBOSITY": "debug"}
        _, out, err = called(
            "fetch", "birds", "--root", root, path=others, endpoint=server.url, code=69, **more
        )
        assert "answers 403" in out
        assert "wanted: birds/pictures/0.jpg (100,003 bytes, CC0-1.0)" in err, "before it starts"
        assert "2 files, 100,025 bytes" in err
        assert "HF_TOKEN" in out
        assert store.gets("/stored")
        assert all("Authorization" not in one.headers for one in store.requests)
        server.refuses = {REPOSITORY: 401}
        server.pages = lambda request: None
        _, out_2, err_2 = called(
            "fetch", "birds", "--root", root / "2", path=others, endpoint=server.url, code=69
        )
    assert (root / "birds/pictures/0.jpg").exists(), "one file refused does not stop the others"
    for text in (out, err, out_2, err_2):
        assert CANARY not in text
        assert "signature" not in text
    for path in root.rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path


def test_what_the_hub_cannot_give_is_said(others: Path, tmp_path: Path) -> None:
    words = ("fetch", "birds", "--root", tmp_path / "root")
    with hub({"renamed.tsv": b""}) as (server, _):
        error = called(*words, path=others, endpoint=server.url, code=66)[0]["error"]
        assert "holds none of list.tsv, pictures/*.jpg" in error["message"]
    with hub({"pictures/../../../evil.jpg": b""}) as (server, _):
        error = called(*words, path=others, endpoint=server.url, code=76)[0]["error"]
        assert "leaves the root" in error["message"]
    assert list(tmp_path.iterdir()) == []


def test_a_hub_that_is_switched_off_is_said(others: Path, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="offline"):  # conftest.py switches it off
        fetch("birds", root=tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ServiceError, match="HF_HUB_OFFLINE"):
        fetch("coco_ift", root=tmp_path, only="vsr/*")
    assert fetch("messages", root=tmp_path)[0].state == "by_hand"


def test_resolve_is_for_the_source_that_needs_it(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from vision_ift._cli import main as _cli

    for words in (["coco_ift", "--resolve"], ["mm_instruct", "--metadata", "x.parquet"]):
        with pytest.raises(UsageError, match="with source") as caught:
            CliRunner().invoke(
                _cli.app, ["fetch", *words, "--root", str(tmp_path)], catch_exceptions=False
            )
        assert "fetch mm_instruct --resolve" in caught.value.hint


# Files that lie on servers of their authors, by a lock beside the source.

LIST = b'[{"id": 1}]'
PICTURES = {f"set/{n}.jpg": b"\xff\xd8" + bytes([n]) * 40_000 for n in range(5)}


def archive(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        for name, data in members.items():
            made.writestr(zipfile.ZipInfo(name), data)
    return stream.getvalue()


@pytest.fixture
def server(others: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serves the files of the source ``birds``, whose lock names this server."""
    monkeypatch.setattr(_bring, "switched_off", lambda: False)
    monkeypatch.setattr(type(_registry.find("birds")), "hub", "")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    pictures = archive({**PICTURES, "set/readme.txt": b"no"})
    with serving({"/list.json": LIST, "/set.zip": pictures, "/more.zip": pictures}) as running:
        files = [
            {
                "url": f"{running.url}/list.json",
                "place": "birds/list.json",
                "license": "CC0-1.0",
                "license_url": "https://example.org/terms",
            },
            {
                "url": f"{running.url}/set.zip",
                "unpack": {"set/*.jpg": "birds/set/"},
                "sha256": hashlib.sha256(pictures).hexdigest(),
                "bytes": len(pictures),
                "holds": 5,
            },
            {
                "url": f"{running.url}/more.zip",
                "unpack": {"set/0.jpg": "birds/zero.jpg"},
                "on_request": True,
            },
        ]
        folder = others / "birds_of_others/locks"
        folder.mkdir(exist_ok=True)
        (folder / "birds.json").write_text(json.dumps({"files": files, "by_hand": ["ask them"]}))
        yield running
        (folder / "birds.json").unlink()


def bring(root: Path, **options: Any) -> dict[str, Fetched]:
    clock = SimulatedClock()
    found = fetch(
        "birds",
        root=root,
        patience=Patience(read_s=0.1, connect_s=2),
        clock=Clock(clock.now, clock.wall, clock.sleep, clock.draw),
        **options,
    )
    return {one.place or one.note: one for one in found}


def there(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".fetch" not in path.parts
    }


def test_files_and_archives_go_to_their_places(server: Server, tmp_path: Path) -> None:
    planned = bring(tmp_path, dry_run=True)
    assert {name: one.state for name, one in planned.items()} == {
        "birds/list.json": "wanted",
        "birds/set/": "wanted",
        "birds/zero.jpg": "on_request",
        "ask them": "by_hand",
    }
    assert planned["birds/list.json"].bytes == len(LIST), "the server was asked"
    assert list(tmp_path.iterdir()) == []
    server.script = ["503", "short", "reset", "429"]
    told: list[Sequence[Fetched]] = []
    progress: list[str] = []
    made = bring(
        tmp_path,
        announce=told.append,
        progress=lambda what, done, total: progress.append(what),
    )
    assert made["birds/set/"].state == made["birds/list.json"].state == "fetched"
    assert made["birds/list.json"].sha256 == hashlib.sha256(LIST).hexdigest()
    assert [one.state for one in told[0]][:2] == ["wanted", "wanted"]
    assert {"birds/list.json", "birds/set/", "unpacking birds/set/"} <= set(progress)
    held = there(tmp_path)
    lock = json.loads(held.pop("birds/fetch.lock.json"))
    assert held == {
        "birds/list.json": LIST,
        **{f"birds/{name}": data for name, data in PICTURES.items()},
    }
    work = {path.name for path in (tmp_path / "birds/.fetch").iterdir()}
    assert {Path(name).suffix for name in work} == {"", ".tsv"}, "the archive is not kept"
    assert lock["files"][f"{server.url}/set.zip"]["members"] == 5
    assert lock["files"][f"{server.url}/list.json"]["license_url"] == "https://example.org/terms"
    asked = len(server.requests)
    again = bring(tmp_path)
    assert again["birds/set/"].state == again["birds/list.json"].state == "here"
    assert len(server.requests) == asked
    assert bring(tmp_path, only="*zero*")["birds/zero.jpg"].state == "fetched"
    with pytest.raises(UsageError, match="matches --only nothing"):
        bring(tmp_path, only="nothing")


def test_what_is_gone_comes_back_and_what_differs_stays(server: Server, tmp_path: Path) -> None:
    bring(tmp_path)
    (tmp_path / "birds/set/3.jpg").unlink()
    assert "3.jpg is gone" in bring(tmp_path, dry_run=True)["birds/set/"].note
    assert bring(tmp_path)["birds/set/"].state == "fetched"
    (tmp_path / "birds/set/3.jpg").write_bytes(PICTURES["set/2.jpg"])  # of the same length
    (tmp_path / "birds/list.json").write_bytes(b"mine")
    assert bring(tmp_path, dry_run=True)["birds/list.json"].state == "differs"
    with pytest.raises(IntegrityError, match=r"2 of 2 files.*3\.jpg is not what was unpacked"):
        bring(tmp_path)
    assert (tmp_path / "birds/list.json").read_bytes() == b"mine"
    bring(tmp_path, update=True)
    assert (tmp_path / "birds/list.json").read_bytes() == LIST
    assert (tmp_path / "birds/set/3.jpg").read_bytes() == PICTURES["set/3.jpg"]


def test_a_later_change_at_the_server_is_taken_only_when_asked_for(
    server: Server, tmp_path: Path
) -> None:
    bring(tmp_path)
    server.files["/list.json"] = LIST[::-1]
    assert bring(tmp_path)["birds/list.json"].state == "here"
    assert bring(tmp_path, update=True)["birds/list.json"].state == "fetched"
    assert (tmp_path / "birds/list.json").read_bytes() == LIST[::-1]
    server.files["/set.zip"] = archive({"set/0.jpg": b"\xff\xd8other"})
    (tmp_path / "birds/set/0.jpg").unlink()
    with pytest.raises(IntegrityError, match=r"not the .* asked for"):  # its digest was published
        bring(tmp_path)


def test_what_was_put_there_by_hand_counts(server: Server, tmp_path: Path) -> None:
    (tmp_path / "birds/set").mkdir(parents=True)
    for name, data in PICTURES.items():
        (tmp_path / "birds" / name).write_bytes(data)
    (tmp_path / "birds/list.json").write_bytes(LIST)
    found = bring(tmp_path)
    assert found["birds/set/"].state == found["birds/list.json"].state == "here"
    assert "not checked" in found["birds/set/"].note
    assert server.gets("/set.zip") == []
    (tmp_path / "birds/set/0.jpg").unlink()
    assert bring(tmp_path)["birds/set/"].state == "fetched"


def test_a_stop_between_arriving_and_unpacking_asks_the_server_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(_bring, "unpack", stopped)
        bring(tmp_path)
    assert bring(tmp_path)["birds/set/"].state == "fetched"
    assert len(server.gets("/set.zip")) == 1
    assert len(server.gets("/list.json")) == 1


def test_one_that_fails_does_not_stop_the_others(server: Server, tmp_path: Path) -> None:
    server.refuses = {"/list.json": 404}
    with pytest.raises(ServiceError, match="answers 404") as caught:
        bring(tmp_path)
    assert "may have moved" in caught.value.hint
    assert (tmp_path / "birds/set/4.jpg").exists()
    assert not (tmp_path / "birds/list.json").exists()


def test_room_is_looked_for_before_anything_is_fetched(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_bring, "RESERVE_BYTES", 1 << 62)
    with pytest.raises(DiskError, match="the files need"):
        bring(tmp_path)
    assert server.gets("/set.zip") == server.gets("/list.json") == []


def test_two_at_once_are_told_apart(server: Server, tmp_path: Path) -> None:
    def again(_: Any) -> None:
        with pytest.raises(LockedError, match="is being written by"):
            bring(tmp_path)

    bring(tmp_path, announce=again)


def test_a_broken_lock_is_said(server: Server, tmp_path: Path) -> None:
    bring(tmp_path)
    (tmp_path / "birds/fetch.lock.json").write_text("{")
    with pytest.raises(IntegrityError, match=r"fetch\.lock\.json"):
        bring(tmp_path)


@pytest.mark.parametrize(
    "source", ["coco_ift", "llava", "mminstruct", "mm_instruct", "vision_flan"]
)
def test_the_shipped_locks_say_all_that_is_to_be_known(source: str) -> None:
    lock = shipped_lock(_registry.find(source))
    assert lock.parts
    assert lock.files or lock.hub
    for entry in lock.files:
        assert entry.license, entry.url
        assert entry.license_url.startswith("https://"), entry.url
        assert (entry.sha256 is None) == (entry.bytes is None) == (entry.published == ""), entry.url
        assert entry.url.startswith("https://") or entry.sha256, "http only with a digest"
    for part in lock.hub:
        assert part.license
    places = [place for entry in lock.files for place in entry.places]
    assert len(places) == len(set(places))


@pytest.mark.parametrize(
    "change",
    [
        {"place": "../evil"},
        {"place": "/evil"},
        {"place": ""},
        {"place": "a", "unpack": {"b": "c"}},
        {"place": "", "unpack": {"b": "../c"}},
        {"place": "", "unpack": {"b*/c*": "d/"}},
        {"url": "http://example.org/a"},
    ],
)
def test_a_lock_that_cannot_be_meant_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        Entry(**{"url": "https://example.org/a", "place": "a", **change})
