"""A push that is refused, cut off or killed at any request, and run again; tokens stay home."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.exports import small_plan
from tests.hub import Hub, Request
from tests.pushes import REPO, TOKEN, hub_for, tree
from vision_ift._errors import RefusedError, ServiceError, VisionIFTError
from vision_ift._export.export import export
from vision_ift._origin import Secret
from vision_ift._plan.plan import Plan
from vision_ift._push.push import push

# What httpx2 says of how huggingface_hub sends blobs.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

EMPTY = [".gitattributes"]
SMALL = 60_000


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    yield from hub_for(tmp_path, monkeypatch)


@pytest.fixture
def planned(tmp_path: Path) -> Plan:
    return small_plan(tmp_path / "toy", rows=30)


def arrived(hub: Hub, since: int = 0) -> int:
    """Bytes of the blobs that the Hub took."""
    return sum(
        one.bytes_in for one in hub.requests[since:] if one.method == "PUT" and one.status == 200
    )


def on_main(hub: Hub, repo: str) -> list[str]:
    return list(hub.files(repo)) if repo in hub.repos else EMPTY


def through_to(hub: Hub, number: int) -> str:
    """A repository of its own for a trial; the Hub keeps blobs by repository."""
    return f"org/name{number}"


def test_refused_at_every_request_and_run_again(hub: Hub, planned: Plan) -> None:
    report = push(planned, REPO, max_shard_bytes=SMALL)
    whole, requests, total = list(hub.files(REPO)), len(hub.requests), report.bytes
    shards = {path: one.sha256 for path, one in hub.files(REPO).items() if "train" in path}
    failed = 0
    for number in range(1, requests + 1):
        repo, began = through_to(hub, number), len(hub.requests)
        hub.fail_from(number, "403")
        try:
            push(planned, repo, max_shard_bytes=SMALL)
        except RefusedError:
            failed += 1
        done = on_main(hub, repo)
        assert done in (EMPTY, whole), number
        commits = len(hub.commits(repo)) if repo in hub.repos else 0
        assert commits in (0, 1, 2)
        hub.heal()
        push(planned, repo, max_shard_bytes=SMALL)
        assert list(hub.files(repo)) == whole
        assert {path: hub.files(repo)[path].sha256 for path in shards} == shards
        assert len(hub.commits(repo)) == 2
        assert arrived(hub, began) == total  # every blob once, over both runs
    assert failed >= requests - 2


def test_a_naive_push_leaves_part_of_it_on_the_branch(
    hub: Hub, planned: Plan, tmp_path: Path
) -> None:
    """The control: a commit a file. What the test above looks for, it finds here."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    export(planned, out=tmp_path / "out", shard_bytes=SMALL)
    shards = sorted((tmp_path / "out").glob("*.tar"))
    api = HfApi(endpoint=hub.url, token=TOKEN)

    def naive(repo: str) -> None:
        api.create_repo(repo, repo_type="dataset", exist_ok=True)
        for path in shards:
            api.upload_file(
                path_or_fileobj=path, path_in_repo=path.name, repo_id=repo, repo_type="dataset"
            )

    naive(REPO)
    whole, requests = list(hub.files(REPO)), len(hub.requests)
    partial = 0
    for number in range(2, requests, 3):
        repo = through_to(hub, number)
        hub.fail_from(number, "403")
        with pytest.raises((HfHubHTTPError, RuntimeError)):  # a blob's failure is wrapped
            naive(repo)
        partial += on_main(hub, repo) not in (EMPTY, whole)
        hub.heal()
    assert partial >= 2


CHILD = """
import sys
from pathlib import Path
from tests.exports import plan_of
from vision_ift._push.push import push
from vision_ift._table import Table
folder = Path(sys.argv[1])
plan = plan_of(folder / "root", {name: Table(folder / name) for name in ("llava", "messages")})
push(plan, sys.argv[2], max_shard_bytes=int(sys.argv[3]))
"""


def start(hub: Hub, folder: Path, repo: str) -> subprocess.Popen[bytes]:
    here = str(Path(__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder / "toy"), repo, str(SMALL)],
        env=hub.environment(folder / "home", PYTHONPATH=here),
        cwd=here,
        stderr=subprocess.DEVNULL,
    )


def test_killed_in_the_middle_and_run_again(hub: Hub, planned: Plan, tmp_path: Path) -> None:
    report = push(planned, REPO, max_shard_bytes=SMALL)
    whole, requests = list(hub.files(REPO)), len(hub.requests)
    for number in range(4, requests, 5):
        repo, began = through_to(hub, number), len(hub.requests)
        started: list[subprocess.Popen[bytes]] = []

        def kill(_: Request, started: list[subprocess.Popen[bytes]] = started) -> None:
            os.kill(started[0].pid, signal.SIGKILL)
            started[0].wait(30)

        hub.fault_at(number, "reset", then=kill)
        started.append(start(hub, tmp_path, repo))
        assert started[0].wait(60) == -signal.SIGKILL
        assert on_main(hub, repo) in (EMPTY, whole)
        hub.heal()
        push(planned, repo, max_shard_bytes=SMALL)
        assert list(hub.files(repo)) == whole
        assert len(hub.commits(repo)) == 2
        assert arrived(hub, began) == report.bytes


def test_a_commit_whose_reply_is_lost_is_not_made_twice(hub: Hub, planned: Plan) -> None:
    hub.fault_at(1, "reset_after", path="/commit/")
    with pytest.raises(ServiceError, match="run the same command again"):
        push(planned, REPO)
    before = tree(hub)
    assert not push(planned, REPO).changed
    assert tree(hub) == before
    assert len(hub.commits(REPO)) == 2
    hub.heal()
    hub.fault_at(1, "truncated", path="/commit/")
    with pytest.raises(VisionIFTError):
        push(planned, REPO, create_pr=True, max_shard_bytes=SMALL)
    assert push(planned, REPO, create_pr=True, max_shard_bytes=SMALL).pull_request
    assert len(hub.repos[REPO].pulls) == 1


def test_an_export_refused_at_every_third_request(hub: Hub, planned: Plan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(planned, out=out, shard_bytes=SMALL)
    push(out, REPO)
    whole, requests = tree(hub), len(hub.requests)
    blobs = sum(one.size for one in hub.files(REPO).values() if one.lfs)
    for number in range(2, requests, 3):
        repo, began = through_to(hub, number), len(hub.requests)
        hub.fail_from(number, "403")
        with pytest.raises(RefusedError):
            push(out, repo)
        assert on_main(hub, repo) in (EMPTY, list(whole))
        hub.heal()
        push(out, repo)
        shards = {path: sha for path, sha in tree(hub, repo).items() if path != "README.md"}
        assert shards == {path: sha for path, sha in whole.items() if path != "README.md"}
        assert arrived(hub, began) == blobs


def test_what_fails_in_passing_is_tried_again(hub: Hub, planned: Plan) -> None:
    for kind, method, path in (
        ("503", "GET", "/tree/"),
        ("429", "POST", "/objects/batch"),
        ("500", "POST", "/repos/create"),
        ("truncated", "GET", "/revision/"),
    ):
        hub.fault_at(1, kind, method=method, path=path)
    push(planned, REPO)
    assert len(hub.commits(REPO)) == 2


def shown_of(error: BaseException) -> str:
    """All that a report of an error with its locals would show."""
    lines = traceback.TracebackException.from_exception(error, capture_locals=True).format()
    return "".join(lines) + repr(error) + repr(vars(error))


def test_no_error_shows_the_token(
    hub: Hub, planned: Plan, caplog: pytest.LogCaptureFixture
) -> None:
    secret = Secret(TOKEN, url=hub.url)
    push(planned, REPO, token=secret)
    requests = len(hub.requests)
    for number in range(1, requests + 1, 2):
        hub.fail_from(number, "403", rude=True)
        with pytest.raises(VisionIFTError) as caught:
            push(planned, through_to(hub, number), token=secret)
        shown = shown_of(caught.value)
        assert "fault 403" in shown or "refused" in shown
        assert TOKEN not in shown
        hub.heal()
    assert TOKEN not in caplog.text
    with pytest.raises(RefusedError, match="refused") as caught:
        push(planned, "org/closed", token=Secret(f"{TOKEN}wrong", url=hub.url))
    assert TOKEN not in shown_of(caught.value)


def test_the_command_line_takes_a_token_from_stdin_and_shows_none(
    hub: Hub, planned: Plan, tmp_path: Path
) -> None:
    export(planned, out=tmp_path / "out")
    words = [
        sys.executable,
        "-m",
        "vision_ift",
        "push",
        str(tmp_path / "out"),
        REPO,
        "--token-stdin",
    ]
    environment = hub.environment(tmp_path / "home", token=None)

    def run(*more: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*words, *more],
            env=environment,
            input=f"{token}\n",
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert TOKEN not in done.stdout + done.stderr
        return done

    hub.fail_from(3, "403", rude=True)
    assert run("--json").returncode == 69
    hub.heal()
    assert run("--json").returncode == 0
    assert run(token="").returncode == 2
    for path in hub.files(REPO):
        assert TOKEN.encode() not in hub.read(REPO, path)
    files = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in path.read_bytes() for path in files)


def test_another_host_for_blobs_gets_no_token(
    tmp_path: Path, planned: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    for hub in hub_for(tmp_path, monkeypatch, lfs_elsewhere=True, part_bytes=20_000):
        push(planned, REPO, max_shard_bytes=SMALL)
        push(planned, REPO)
        elsewhere = [one for one in hub.requests if one.server != "hub"]
        assert len(elsewhere) > 3
        assert not any(one.authorized for one in elsewhere)
