"""The Hub of the tests, tried with the clients that it is made for, in processes of their own."""

from __future__ import annotations

import hashlib
import http.client
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub import KINDS, Fault, Hub, Request, serving

PRELUDE = """
import io, json, os, sys, warnings
from huggingface_hub import *
from huggingface_hub.errors import HfHubHTTPError
api = HfApi()
D = {"repo_type": "dataset"}

def add(path, data):
    return CommitOperationAdd(path, data)

def status(call, *args, **how):
    try:
        call(*args, **how)
    except HfHubHTTPError as error:
        return type(error).__name__, error.response.status_code
    return "fine", 200

def big(name, size):
    return (name.encode() * (size // len(name) + 1))[:size]
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serving(tmp_path / "hub") as hub:
        yield hub


def start(hub: Hub, home: Path, code: str, **environment: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code],
        env=hub.environment(home, **environment),
        cwd=home.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def client(hub: Hub, home: Path, code: str, **environment: Any) -> Any:
    """Run code in a process of its own; give what it prints as JSON in its last line."""
    with start(hub, home, code, **environment) as process:
        out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return json.loads(out.splitlines()[-1])


def puts(hub: Hub) -> list[Request]:
    return [one for one in hub.requests if one.method == "PUT"]


def test_commits_blobs_and_listings(tmp_path: Path) -> None:
    with serving(tmp_path / "hub", part_bytes=1 << 20, page_size=2) as hub:
        said = client(
            hub,
            tmp_path / "home",
            """
said = {"who": api.whoami()["name"], "url": str(api.create_repo("org/a", **D))}
said["again"] = status(api.create_repo, "org/a", **D)
api.create_repo("org/a", exist_ok=True, **D)
large = {f"data/{n}.parquet": big(n, size) for n, size in (("x", 2_500_000), ("y", 99), ("z", 7))}
card = b"---\\nlicense: mit\\n---\\nA card."
more = [add("README.md", card), add("empty.parquet", b""), add("deep/er/note.txt", b"hm")]
first = api.create_commit("org/a", [add(*one) for one in large.items()] + more,
                          commit_message="one", **D).oid
same = [add(f"copy/{path}", data) for path, data in large.items()]
api.preupload_lfs_files("org/a", [*same, add("data/new.tar", b"new")], **D)
second = api.create_commit("org/a", same, commit_message="two", parent_commit=first, **D).oid
late = [add("late.txt", b"late")]
said["late"] = status(api.create_commit, "org/a", late, commit_message="three",
                      parent_commit=first, **D)
said["nothing"] = api.create_commit(
    "org/a", [add("README.md", card), add("data/y.parquet", large["data/y.parquet"])],
    commit_message="no change", **D).oid == second
gone = [CommitOperationDelete("copy/"), CommitOperationDelete("data/z.parquet")]
api.create_commit("org/a", gone, commit_message="four", **D)
gone = [CommitOperationDelete("never.txt")]
said["gone"] = status(api.create_commit, "org/a", gone, commit_message="five", **D)
tree = list(api.list_repo_tree("org/a", recursive=True, expand=True, **D))
said["tree"] = [one.path for one in tree]
said["titles"] = {one.path: one.last_commit.title for one in tree}
said["deep"] = [one.path for one in api.list_repo_tree("org/a", "deep", **D)]
infos = api.get_paths_info("org/a", ["data", "data/x.parquet", "README.md", "absent"], **D)
said["infos"] = [(one.path, getattr(one, "size", None)) for one in infos]
said["lfs"] = [one.lfs.sha256 for one in infos if getattr(one, "lfs", None)]
said["commits"] = [one.title for one in api.list_repo_commits("org/a", **D)]
said["old"] = api.dataset_info("org/a", revision=first).sha == first
said["bad yaml"] = ""
try:
    api.create_commit("org/a", [add("README.md", b"---\\na: [\\n---\\n")], commit_message="x", **D)
except ValueError as error:
    said["bad yaml"] = str(error).splitlines()[0]
print(json.dumps(said))
""",
        )
        x = hashlib.sha256(b"x" * 2_500_000).hexdigest()
        assert said["who"] == "owner"
        assert said["url"] == f"{hub.url}/datasets/org/a"
        assert said["again"] == ["HfHubHTTPError", 409]
        assert said["late"] == ["HfHubHTTPError", 412]
        assert said["gone"] == ["RemoteEntryNotFoundError", 404]
        assert said["nothing"]
        assert said["old"]
        assert said["bad yaml"] == "Invalid metadata in README.md."
        wanted = [".gitattributes", "README.md", "data", "data/x.parquet", "data/y.parquet"]
        assert said["tree"] == [*wanted, "deep", "deep/er", "deep/er/note.txt", "empty.parquet"]
        assert said["titles"]["data/x.parquet"] == "one"
        assert said["deep"] == ["deep/er"]
        assert said["infos"] == [["README.md", 28], ["data", None], ["data/x.parquet", 2_500_000]]
        assert said["lfs"] == [x]
        assert said["commits"] == ["four", "two", "one", "initial commit"]

        assert [one.title for one in hub.commits("org/a")] == said["commits"]
        assert hub.files("org/a")["data/x.parquet"][:2] == (x, 2_500_000)
        assert not hub.files("org/a")["empty.parquet"].lfs
        assert hub.read("org/a", "deep/er/note.txt") == b"hm"
        # Three parts, two small ones, and the one that only the second call brought: no byte twice.
        assert sorted(one.bytes_in for one in puts(hub)) == [3, 7, 99, 402_848, 1 << 20, 1 << 20]
        assert hub.sent() == 2_500_109
        listed = [one for one in hub.requests if "/tree/" in one.path]
        assert len(listed) == 5 + 1
        parts = tmp_path / "hub" / "parts"
        assert list(parts.iterdir()) == []


def test_branches_and_pull_requests(hub: Hub, tmp_path: Path) -> None:
    said = client(
        hub,
        tmp_path / "home",
        """
api.create_repo("org/a", **D)
api.create_branch("org/a", branch="next", **D)
said = {"twice": status(api.create_branch, "org/a", branch="next", **D)}
api.upload_file(path_or_fileobj=b"b", path_in_repo="b.txt", repo_id="org/a", revision="next", **D)
api.create_branch("org/a", branch="away/x", revision="next", **D)
said["main"] = status(api.delete_branch, "org/a", branch="main", **D)
one = api.create_commit("org/a", [add("p.parquet", b"p")], commit_message="pr", create_pr=True, **D)
said["pr"] = [one.pr_revision, one.pr_num]
api.create_commit("org/a", [add("q.txt", b"q")], commit_message="more", revision=one.pr_revision,
                  **D)
refs = api.list_repo_refs("org/a", include_pull_requests=True, **D)
said["refs"] = [ref.ref for ref in [*refs.branches, *refs.pull_requests]]
api.delete_branch("org/a", branch="away/x", **D)
said["open"] = [pull.num for pull in api.get_repo_discussions("org/a", **D)]
said["before"] = [api.file_exists("org/a", "p.parquet", revision=at, **D)
                  for at in ("main", "refs/pr/1")]
api.merge_pull_request("org/a", 1, **D)
said["after"] = api.list_repo_files("org/a", **D)
details = api.get_discussion_details("org/a", 1, **D)
said["details"] = [details.status, details.merge_commit_oid]
draft = api.create_pull_request("org/a", "a draft", **D)
api.create_commit("org/a", [add("d.txt", b"d")], commit_message="d", revision="refs/pr/2", **D)
api.change_discussion_status("org/a", 2, "closed", **D)
said["absent"] = status(api.dataset_info, "org/a", revision="absent")
print(json.dumps(said))
""",
    )
    assert said["twice"] == ["HfHubHTTPError", 409]
    assert said["main"] == ["HfHubHTTPError", 403]
    assert said["absent"] == ["RevisionNotFoundError", 404]
    assert said["pr"] == ["refs/pr/1", 1]
    heads = ["refs/heads/away/x", "refs/heads/main", "refs/heads/next"]
    assert said["refs"] == [*heads, "refs/pr/1"]
    assert said["open"] == [1]
    assert said["before"] == [False, True]
    assert said["after"] == [".gitattributes", "p.parquet", "q.txt"]
    assert said["details"] == ["merged", hub.commits("org/a")[0].oid]
    assert list(hub.files("org/a", "next")) == [".gitattributes", "b.txt"]
    assert "d.txt" in hub.files("org/a", "refs/pr/2")
    assert hub.repos["org/a"].pulls[2].status == "closed"


def test_reading_private_ones_and_ranges(tmp_path: Path) -> None:
    with serving(tmp_path / "hub", lfs_elsewhere=True) as hub:
        said = client(
            hub,
            tmp_path / "home",
            """
from pathlib import Path
folder = Path("up"); (folder / "sub").mkdir(parents=True)
(folder / "sub" / "w.tar").write_bytes(big("w", 3_000_000))
(folder / "plain.txt").write_text("plain")
api.create_repo("org/p", private=True, **D)
api.upload_folder(repo_id="org/p", folder_path=folder, **D)
got = Path(snapshot_download("org/p", **D))
said = {"snapshot": [(p.relative_to(got).as_posix(), p.stat().st_size)
                     for p in sorted(got.rglob("*.t*"))]}
fs = HfFileSystem()
said["ls"] = fs.ls("datasets/org/p/sub", detail=False)
with fs.open("datasets/org/p/sub/w.tar", block_size=1000) as file:
    file.seek(1_000_000); said["range"] = len(file.read(10)); said["size"] = file.size
with fs.open("datasets/org/p/written.txt", "w") as file:
    file.write("by fsspec")
said["cat"] = fs.cat_file("datasets/org/p/written.txt").decode()
for name, token in (("nobody", False), ("reader", "canary-reader"), ("wrong", "else")):
    said[name] = status(api.dataset_info, "org/p", token=token)
said["public"] = status(api.dataset_info, "org/none", token=False)
api.update_repo_settings("org/p", private=False, **D)
said["seen"] = api.dataset_info("org/p", token="canary-reader").private
few = [add("r.txt", b"r")]
said["refused"] = status(api.create_commit, "org/p", few, commit_message="r",
                         token="canary-reader", **D)
said["asked"] = api.create_commit("org/p", few, commit_message="r", token="canary-reader",
                                  create_pr=True, **D).pr_num
api.create_repo("org/q", **D); api.delete_repo("org/q", **D)
print(json.dumps(said))
""",
        )
        assert said["snapshot"] == [["plain.txt", 5], ["sub/w.tar", 3_000_000]]
        assert said["ls"] == ["datasets/org/p/sub/w.tar"]
        assert (said["range"], said["size"]) == (10, 3_000_000)
        assert said["cat"] == "by fsspec"
        assert said["nobody"] == ["RepositoryNotFoundError", 401]
        assert said["reader"] == ["RepositoryNotFoundError", 404]
        assert said["wrong"] == ["HfHubHTTPError", 401]
        assert said["public"] == ["RepositoryNotFoundError", 401]
        assert said["seen"] is False
        assert said["refused"] == ["HfHubHTTPError", 403]
        assert said["asked"] == 1
        assert list(hub.repos) == ["org/p"]
        away = [one for one in hub.requests if one.server == "storage"]
        assert {(one.method, one.authorized) for one in away} == {("PUT", False), ("GET", False)}
        assert any(one.status == 206 and one.bytes_out < 3000 for one in away)
        assert not [one for one in hub.requests if one.server == "outside" and one.authorized]


def test_datasets_pushes_and_loads(hub: Hub, tmp_path: Path) -> None:
    sent = client(
        hub,
        tmp_path / "home",
        """
import PIL.Image
from datasets import Dataset, Features, Image, List, Value
def rows(start, stop):
    for number in range(start, stop):
        file = io.BytesIO()
        PIL.Image.new("RGB", (8, 8), (number, 0, 0)).save(file, "PNG")
        yield {"id": str(number), "images": [{"bytes": file.getvalue(), "path": f"{number}.png"}]}
features = Features({"id": Value("string"), "images": List(Image())})
def push(start, stop, **how):
    rows_of = Dataset.from_list(list(rows(start, stop)), features=features)
    return rows_of.push_to_hub("org/d", **how).oid
one = push(0, 10, config_name="one", set_default=True, num_shards=3)
push(10, 14, config_name="two")
push(20, 22, config_name="two", revision="next")
push(10, 14, config_name="two")
print(json.dumps(one))
""",
    )
    shards = [f"one/train-0000{number}-of-00003.parquet" for number in range(3)]
    assert [path for path in hub.files("org/d") if path.startswith("one")] == shards
    assert sent in {one.oid for one in hub.commits("org/d")}
    assert len(puts(hub)) == 5, "three shards, one of each of the other configs; none twice"
    said = client(
        hub,
        tmp_path / "other-home",
        """
from datasets import get_dataset_config_names, load_dataset
said = {"names": get_dataset_config_names("org/d")}
def ids(*args, **how):
    return [(row["id"], row["images"][0].getpixel((1, 1))[0]) for row in
            load_dataset(*args, **how)]
said["default"] = ids("org/d", split="train")
said["slice"] = ids("org/d", "two", split="train[1:3]")
said["stream"] = ids("org/d", "one", split="train", streaming=True)
said["branch"] = ids("org/d", "two", split="train", revision="next")
print(json.dumps(said))
""",
    )
    assert said["names"] == ["one", "two"]
    assert said["default"] == [[str(number), number] for number in range(10)]
    assert said["stream"] == said["default"]
    assert said["slice"] == [["11", 11], ["12", 12]]
    assert said["branch"] == [["20", 20], ["21", 21]]
    asked = [one for one in hub.requests if "datasets-server" in one.path]
    assert {one.status for one in asked} == {404}


def test_what_the_clients_own_retries_survive(hub: Hub, tmp_path: Path) -> None:
    """One commit for every kind of fault at each of its requests, side by side.

    The five requests are preupload, batch, PUT, verify and commit.
    """
    names = [f"{kind}-{step}" for kind in KINDS for step in range(1, 6)]
    for name in names:
        kind, _, last = name.rpartition("-")
        hub.fault_at(int(last), kind, path=f"/org/{name}[./]", stall_s=0.2)
    said = client(
        hub,
        tmp_path / "home",
        f"""
from concurrent.futures import ThreadPoolExecutor
names = {names!r}
def commit(name):
    how = {{"commit_message": "one", "revision": "main", **D}}
    return api.create_commit(f"org/{{name}}", [add("a.parquet", name.encode())], **how).oid
def outcome(name):
    try:
        return commit(name)[:0]
    except Exception as error:
        error = error.__cause__ or error
        return type(error).__name__
for name in names:
    api.create_repo(f"org/{{name}}", **D)
with ThreadPoolExecutor(len(names)) as pool:
    print(json.dumps(list(pool.map(outcome, names))))
""",
    )
    outcomes = dict(zip(names, said, strict=True))
    for name in names:
        kind, _, last = name.rpartition("-")
        step = int(last)
        log = [one for one in hub.requests if f"/org/{name}" in one.path]
        hit = log[step - 1]
        took = kind in ("reset_after", "truncated")
        assert hit.fault == kind
        assert [bool(one.fault) for one in log].count(True) == 1
        assert hit.status == (int(kind) if kind.isdigit() else hit.status if took else 0)
        if kind != "403" and step < 5:
            assert outcomes[name] == "", (name, outcomes[name])
            # A blob whose reply is lost is sent again: the address is still good.
            assert len(log) == 6, (name, log)
        else:
            assert outcomes[name] != "", name
            assert len(log) == step
        done = took if step == 5 else kind != "403"
        assert ("a.parquet" in hub.files(f"org/{name}")) == done, name


def test_a_client_that_retries_nothing_sees_every_fault(hub: Hub) -> None:
    """The control: without retries each kind reaches the caller, and only at its request."""
    hub.fault_at(2, "reset", path="whoami")
    hub.fault_at(3, "truncated", path="whoami")
    hub.fault_at(4, "429", path="whoami", retry_after_s=7)
    hub.fault_at(5, "500", path="whoami", rude=True)
    hub.fault_at(6, "stall", path="whoami", stall_s=0.1)

    def get(path: str) -> tuple[int, str | None, bytes]:
        connection = http.client.HTTPConnection(hub.url.removeprefix("http://"), timeout=5)
        try:
            connection.request("GET", path, headers={"authorization": f"Bearer {hub.token}"})
            reply = connection.getresponse()
            return reply.status, reply.getheader("Retry-After"), reply.read()
        finally:
            connection.close()

    path = "/api/whoami-v2"
    assert get(path)[0] == 200
    with pytest.raises(ConnectionResetError):
        get(path)
    assert get("/api/elsewhere")[0] == 404, "no request that counts"
    with pytest.raises(http.client.IncompleteRead):
        get(path)
    assert get(path)[:2] == (429, "7")
    assert b"Bearer canary" in get(path)[2]
    with pytest.raises(http.client.RemoteDisconnected):
        get(path)
    assert get(path)[0] == 200
    seen = [(one.status, one.fault) for one in hub.requests if one.path == path]
    assert seen[:4] == [(200, ""), (0, "reset"), (200, "truncated"), (429, "429")]
    assert seen[4:] == [(500, "500"), (0, "stall"), (200, "")]
    with pytest.raises(ValueError, match="no such fault"):
        Fault("sneeze")


def test_killed_at_any_request_and_run_again(hub: Hub, tmp_path: Path) -> None:
    """A process ends at request k for good; the next one sends only what is missing."""
    code = """
api.create_repo("org/a", exist_ok=True, **D)
files = [add(f"{name}.parquet", big(name, 100_000)) for name in "abc"]
api.create_commit("org/a", files, commit_message="all", num_threads=1, **D)
print("null")
"""
    for number, sent in ((5, 1), (10, 3)):
        processes: list[subprocess.Popen[str]] = []
        hub.heal()
        fault = hub.fail_from(number, "reset", then=lambda _, it=processes: it[0].kill())
        hub.repos.clear()
        hub.requests.clear()
        with start(hub, tmp_path / "home", code) as process:
            processes.append(process)
            process.communicate(timeout=60)
        assert process.returncode == -9
        assert fault.hits == 1
        assert [one.status for one in puts(hub)].count(200) == sent
        assert list(hub.files("org/a")) == [".gitattributes"]
        hub.heal()
        client(hub, tmp_path / "home", code)
        assert len(hub.files("org/a")) == 4
        assert Counter(one.path for one in puts(hub) if one.status == 200).total() == 3


def test_failing_until_healed(hub: Hub, tmp_path: Path) -> None:
    hub.fail_from(2, method="PUT")
    code = """
api.create_repo("org/a", exist_ok=True, **D)
files = [add(f"{name}.parquet", big(name, 1000)) for name in "abc"]
try:
    api.create_commit("org/a", files, commit_message="all", num_threads=1, **D)
    print("true")
except Exception as error:
    assert "canary" not in repr(error)
    print("false")
"""
    assert client(hub, tmp_path / "home", code) is False
    assert [one.status for one in puts(hub)] == [200, 403, 403]
    assert client(hub, tmp_path / "home", code) is False
    hub.heal()
    assert client(hub, tmp_path / "home", code) is True
    assert [one.status for one in puts(hub)].count(200) == 3
    assert hub.sent("PUT") >= 3000


def test_hostile_requests_are_refused(hub: Hub) -> None:
    """A test's own client may be wrong: the Hub says so, and keeps to its folder."""

    def ask(method: str, path: str, body: bytes = b"", token: str = "canary") -> int:
        connection = http.client.HTTPConnection(hub.url.removeprefix("http://"), timeout=5)
        connection.request(method, path, body, {"Authorization": f"Bearer {token}"})
        status = connection.getresponse().status
        connection.close()
        return status

    def commit(*steps: dict[str, Any]) -> int:
        header = {"key": "header", "value": {"summary": "x"}}
        body = b"\n".join(json.dumps(step).encode() for step in (header, *steps))
        return ask("POST", "/api/datasets/org/a/commit/main", body)

    def file(path: str, content: str = "eA==") -> dict[str, Any]:
        return {"key": "file", "value": {"path": path, "content": content}}

    name = json.dumps({"organization": "org", "name": "a", "type": "dataset"}).encode()
    assert ask("POST", "/api/repos/create", name) == 200
    assert commit(file("fine/a.txt")) == 200
    for path in ("../up", "/absolute", "a//b", ".git/config", "fine", "fine/a.txt/b", ""):
        assert commit(file(path)) == 400, path
    assert commit(file("a", "no base64!")) == 400
    absent = {"path": "a", "oid": "0" * 64, "size": 1}
    assert commit({"key": "lfsFile", "value": absent}) == 400
    assert commit({"key": "lfsFile", "value": absent | {"oid": "../../up"}}) == 422
    assert commit({"key": "else", "value": absent}) == 400
    assert ask("PUT", f"/_lfs/org/a/{'0' * 64}", b"bytes") == 403, "no signature"
    assert ask("POST", "/api/datasets/org/a/commit/main", b"no json") == 400
    assert ask("POST", "/api/datasets/org/a/commit/main", b"", "canary-reader") == 403
    assert ask("GET", "/api/datasets/org%2Fa") == 404
    assert len(hub.commits("org/a")) == 2


def test_the_command_serves_until_its_input_ends(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.hub", str(tmp_path / "hub")],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin and process.stdout
        said = json.loads(process.stdout.readline())
        host = said["HF_ENDPOINT"].removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=5)
        connection.request("GET", "/api/whoami-v2")
        assert connection.getresponse().status == 401
        process.stdin.close()
        log = json.loads(process.stdout.read())
        connection.close()
    assert process.returncode == 0
    assert [one["path"] for one in log] == ["/api/whoami-v2"]
