"""The Hub's endpoints for datasets, as functions of a call that give a reply."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import RLock
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlencode

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tests.hub._store import (
    MAIN,
    Blobs,
    Commit,
    Entry,
    Pull,
    Refusal,
    Repository,
    checked_oid,
    pointer,
)

_JSON = {"Content-Type": "application/json; charset=utf-8"}


class Body(Protocol):
    """A request's body, which is read once."""

    def __iter__(self) -> Iterator[bytes]: ...


@dataclass
class Call:
    """A request as an endpoint sees it."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: Body
    data: bytes = b""

    def json(self) -> Any:
        try:
            value = json.loads(self.data or b"{}")
        except ValueError as error:
            raise Refusal(400, f"no JSON: {error}") from error
        if not isinstance(value, dict):
            raise Refusal(400, "a JSON object is wanted")
        return value

    def asked(self, name: str) -> list[str]:
        return parse_qs(self.query).get(name, [])

    def wants(self, name: str) -> bool:
        return self.asked(name)[-1:] in (["1"], ["true"], ["True"])


@dataclass
class Reply:
    """A reply: its body is bytes or a span of a file."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    file: tuple[Path, int, int] | None = None  # path, first byte, how many

    @property
    def size(self) -> int:
        return self.file[2] if self.file else len(self.body)


@dataclass
class Api:
    """The state of the Hub, and its endpoints.

    Attributes:
        url: The Hub's own origin.
        storage: Where large files are sent and fetched; another origin where that is wished.
        token: Who has it may write everywhere; ``reader`` may read what is public, and open pull
            requests.
        part_bytes: Larger blobs are sent in parts of so many bytes.
        page_size: So many entries are listed at once.
    """

    blobs: Blobs
    token: str
    reader: str
    url: str = ""
    storage: str = ""
    part_bytes: int = 64 * 1024 * 1024
    page_size: int = 1000
    repositories: dict[str, Repository] = field(default_factory=dict)
    lock: RLock = field(default_factory=RLock)
    uploads: dict[int, str] = field(default_factory=dict)
    _upload_numbers: count[int] = field(default_factory=count)

    def answer(self, call: Call) -> Reply:
        """Find the endpoint and let it answer; a refusal becomes an error reply."""
        try:
            for methods, pattern, streams, endpoint in _ROUTES:
                match = pattern.fullmatch(call.path)
                if match and call.method in methods:
                    if streams:
                        return endpoint(self, call, **match.groupdict())
                    call.data = b"".join(call.body)
                    with self.lock:
                        return endpoint(self, call, **match.groupdict())
            raise Refusal(404, f"no such endpoint: {call.method} {call.path}")
        except Refusal as error:
            return refused(error.status, str(error), error.code)
        except (KeyError, TypeError, ValueError) as error:
            return refused(400, f"this Hub cannot read the request: {error!r}")

    # Who asks

    def who(self, call: Call) -> str:
        """Give ``owner``, ``reader``, or nothing where no token came."""
        said = call.headers.get("Authorization")
        if said is None:
            return ""
        for name, token in (("owner", self.token), ("reader", self.reader)):
            if said == f"Bearer {token}":
                return name
        raise Refusal(401, "Invalid credentials in Authorization header")

    def repository(self, call: Call, name: str, *, write: bool = False) -> Repository:
        """Find a repository that the one who asks may see, or write to."""
        who = self.who(call)
        found = self.repositories.get(unquote(name))
        if found is None or (found.private and who != "owner"):
            # Without a token the Hub does not tell what is missing from what is private.
            raise Refusal(404 if who else 401, "Repository not found", "RepoNotFound")
        if write and who != "owner":
            raise Refusal(403 if who else 401, "You have no right to write here")
        return found

    def signed(self, path: str) -> str:
        """Give an address at the storage, with a signature in place of a token."""
        return f"{self.storage}{path}?{urlencode({'X-Signature': self._signature(path)})}"

    def check_signature(self, call: Call) -> None:
        if call.asked("X-Signature") != [self._signature(call.path)]:
            raise Refusal(403, "SignatureDoesNotMatch")

    def _signature(self, path: str) -> str:
        return hashlib.sha256(f"{self.token} {path}".encode()).hexdigest()[:32]

    # Repositories

    def whoami(self, call: Call) -> Reply:
        who = self.who(call)
        if not who:
            raise Refusal(401, "Invalid username or password.")
        access = {"displayName": who, "role": "write" if who == "owner" else "read"}
        said = {"type": "user", "id": who, "name": who, "fullname": who, "orgs": []}
        return found(said | {"auth": {"type": "access_token", "accessToken": access}})

    def create(self, call: Call) -> Reply:
        who, wish = self.who(call), call.json()
        name = f"{wish.get('organization') or who}/{wish.get('name')}"
        if not who:
            raise Refusal(401, "Invalid username or password.")
        if who != "owner" and wish.get("organization") not in (None, who):
            raise Refusal(403, "You have no right to create a repository here")
        if wish.get("type") != "dataset":
            raise Refusal(400, "this Hub has datasets only")
        if not re.fullmatch(r"[\w.-]{1,96}/[\w.-]{1,96}", name, re.ASCII):
            raise Refusal(400, f"no name of a repository: {name!r}")
        said = {"url": f"{self.url}/datasets/{name}", "name": name, "id": name}
        if name in self.repositories:
            error = {"error": "You already created this dataset repo"}
            return found(error | said, 409)
        private = wish.get("visibility") == "private" or bool(wish.get("private"))
        self.repositories[name] = Repository(name, private, self.blobs)
        return found(said)

    def delete(self, call: Call) -> Reply:
        wish = call.json()
        name = f"{wish.get('organization') or self.who(call)}/{wish.get('name')}"
        del self.repositories[self.repository(call, name, write=True).id]
        return found({})

    def settings(self, call: Call, repo: str) -> Reply:
        repository, wish = self.repository(call, repo, write=True), call.json()
        if "visibility" in wish or "private" in wish:
            repository.private = wish.get("visibility") == "private" or wish.get("private") is True
        return found({"private": repository.private})

    def info(self, call: Call, repo: str, revision: str | None = None) -> Reply:
        repository = self.repository(call, repo)
        commit = repository.at(unquote(revision or "main"))
        blobs = call.wants("blobs")
        history = repository.history(commit.oid)
        siblings = []
        for path, entry in sorted(commit.files.items()):
            listed = _listed(path, entry)
            more = {key: value for key, value in listed.items() if key in ("size", "lfs")}
            siblings.append({"rfilename": path, **(more if blobs else {})})
        said = {"_id": hashlib.md5(repository.id.encode()).hexdigest()[:24], "id": repository.id}
        said |= {"author": repository.id.partition("/")[0], "sha": commit.oid}
        said |= {"lastModified": commit.date, "createdAt": history[-1].date}
        rest = {"private": repository.private, "gated": False, "disabled": False}
        return found({**said, **rest, "downloads": 0, "likes": 0, "tags": [], "siblings": siblings})

    def refs(self, call: Call, repo: str) -> Reply:
        repository = self.repository(call, repo)

        def under(prefix: str) -> list[dict[str, str]]:
            return [
                {"name": ref.removeprefix("refs/heads/"), "ref": ref, "targetCommit": oid}
                for ref, oid in sorted(repository.refs.items())
                if ref.startswith(prefix)
            ]

        lists = {"branches": under("refs/heads/"), "converts": [], "tags": []}
        return found(lists | {"pullRequests": under("refs/pr/")})

    def commits(self, call: Call, repo: str, revision: str) -> Reply:
        history = self.repository(call, repo).history(unquote(revision))
        listed = [
            {
                "id": one.oid,
                "title": one.title,
                "message": one.message,
                "authors": [{"user": "owner"}],
                "date": one.date,
            }
            for one in history
        ]
        return self._page(call, listed, min(self.page_size, 50))

    def create_branch(self, call: Call, repo: str, branch: str) -> Reply:
        repository = self.repository(call, repo, write=True)
        ref = f"refs/heads/{unquote(branch)}"
        if ref in repository.refs:
            raise Refusal(409, f"Reference already exists: {ref}")
        repository.refs[ref] = repository.at(call.json().get("startingPoint") or "main").oid
        return found({}, 201)

    def delete_branch(self, call: Call, repo: str, branch: str) -> Reply:
        repository = self.repository(call, repo, write=True)
        ref = f"refs/heads/{unquote(branch)}"
        if ref == MAIN:
            raise Refusal(403, "main cannot be deleted")
        if repository.refs.pop(ref, None) is None:
            raise Refusal(404, f"Invalid rev id: {ref}", "RevisionNotFound")
        return found({})

    # Pull requests

    def discussions(self, call: Call, repo: str) -> Reply:
        repository = self.repository(call, repo)
        status = {"closed": ("closed", "merged"), "open": ("open", "draft")}
        wanted = status.get("".join(call.asked("status")), ("open", "draft", "closed", "merged"))
        author = "".join(call.asked("author"))
        listed = [
            _discussion(repository, one)
            for one in repository.pulls.values()
            if one.status in wanted and author in ("", one.author)
        ]
        if call.asked("type") == ["discussion"]:
            listed = []
        return found({"discussions": listed[::-1], "count": len(listed), "start": 0})

    def discuss(self, call: Call, repo: str) -> Reply:
        repository, wish = self.repository(call, repo), call.json()
        who = self.who(call)
        if not who:
            raise Refusal(401, "Invalid username or password.")
        if not wish.get("pullRequest"):
            raise Refusal(400, "this Hub has pull requests, and no other discussions")
        pull = repository.open_pull(str(wish["title"]), who)
        pull.status = "draft"
        return found({"num": pull.number})

    def discussion(self, call: Call, repo: str, number: str) -> Reply:
        repository = self.repository(call, repo)
        pull = _pull(repository, number)
        events = [
            _event(one.oid, "commit", one.date, {"subject": one.title, "oid": one.oid})
            for one in repository.history(f"refs/pr/{pull.number}")
            if one.oid not in {old.oid for old in repository.history(pull.base)}
        ]
        changes = {"base": MAIN, "mergeCommitId": pull.merged}
        said = {"events": events[::-1], "changes": changes, "filesWithConflicts": []}
        return found(_discussion(repository, pull) | said)

    def merge(self, call: Call, repo: str, number: str) -> Reply:
        repository = self.repository(call, repo, write=True)
        repository.merge(_pull(repository, number))
        return found({})

    def set_status(self, call: Call, repo: str, number: str) -> Reply:
        repository = self.repository(call, repo, write=True)
        pull, status = _pull(repository, number), call.json().get("status")
        if pull.status == "merged" or status not in ("open", "closed"):
            raise Refusal(400, f"pull request {pull.number} is {pull.status}")
        pull.status = status
        event = _event(f"status-{pull.number}", "status-change", pull.date, {"status": status})
        return found({"newStatus": event})

    # Sending

    def validate_yaml(self, call: Call) -> Reply:
        content = str(call.json().get("content", "")).replace("\r\n", "\n")
        head = re.match(r"---\n(.*?)^---\s*(\n|\Z)", content, re.DOTALL | re.MULTILINE)
        if head is None:
            warning = "empty or missing yaml metadata in repo card"
            return found({"errors": [], "warnings": [{"message": warning}]})
        try:
            value = YAML(typ="safe", pure=True).load(head[1])
            wrong = "" if isinstance(value, dict) else "the metadata is no mapping"
        except YAMLError as error:
            wrong = str(error)
        errors = [{"message": wrong}] if wrong else []
        return found({"errors": errors, "warnings": []}, 400 if wrong else 200)

    def preupload(self, call: Call, repo: str, revision: str) -> Reply:
        create_pr = call.wants("create_pr")
        repository = self.repository(call, repo, write=not create_pr)
        if not self.who(call):
            raise Refusal(401, "Invalid username or password.")
        revision, wish = unquote(revision), call.json()
        there = repository.at(revision).files
        ignored = [one for one in str(wish.get("gitIgnore", "")).split() if one[0] not in "#!"]
        files = []
        for one in wish["files"]:
            path, size = str(one["path"]), int(one["size"])
            if len(base64.b64decode(one["sample"])) != min(size, 512):
                raise Refusal(400, f"{path}: the sample is not the first 512 bytes")
            mode = repository.mode(path, size, revision)
            said: dict[str, Any] = {"path": path, "uploadMode": mode}
            said["shouldIgnore"] = any(fnmatch.fnmatch(path, rule) for rule in ignored)
            if path in there:
                entry = there[path]
                said["oid"] = entry.sha256 if entry.lfs else entry.oid
            files.append(said)
        return found({"files": files, "commitOid": repository.at(revision).oid})

    def batch(self, call: Call, repo: str) -> Reply:
        wish = call.json()
        ref = wish.get("ref", {}).get("name")
        repository = self.repository(call, repo, write=ref is not None)
        if not self.who(call):
            raise Refusal(401, "Invalid username or password.")
        if ref is not None:
            repository.at(ref)
        objects = []
        transfer = "basic"
        for one in wish["objects"]:
            oid, size = checked_oid(one["oid"]), int(one["size"])
            said: dict[str, Any] = {"oid": oid, "size": size}
            if repository.stored.get(oid) != size:
                upload = self._upload(repository, oid, size)
                verify = {"href": f"{self.url}/{repository.id}.git/info/lfs/verify"}
                said["actions"] = {"upload": upload, "verify": verify}
                transfer = "multipart" if "header" in upload else transfer
            objects.append(said)
        return found({"transfer": transfer, "objects": objects})

    def _upload(self, repository: Repository, oid: str, size: int) -> dict[str, Any]:
        if size <= self.part_bytes:
            return {"href": self.signed(f"/_lfs/{repository.id}/{oid}")}
        number = next(self._upload_numbers)
        self.uploads[number] = oid
        parts = -(-size // self.part_bytes)
        header = {"chunk_size": str(self.part_bytes)}
        for part in range(1, parts + 1):
            header[str(part)] = self.signed(f"/_lfs/{repository.id}/{oid}/{number}/{part}")
        done = f"/_lfs/{repository.id}/{oid}/{number}/complete"
        signature = urlencode({"X-Signature": self._signature(done)})
        return {"href": f"{self.url}{done}?{signature}", "header": header}

    def put(self, call: Call, repo: str, oid: str) -> Reply:
        self.check_signature(call)
        sha256, size = self.blobs.receive(call.body)
        if sha256 != oid:
            raise Refusal(400, "BadDigest: the bytes are not those of the oid")
        with self.lock:
            self.repositories[repo].stored[oid] = size
        return Reply(headers={"ETag": f'"{sha256}"'})

    def put_part(self, call: Call, repo: str, oid: str, upload: str, part: str) -> Reply:
        self.check_signature(call)
        sha256, _ = self.blobs.receive(call.body, self._part(int(upload), int(part)))
        return Reply(headers={"ETag": f'"{sha256}"'})

    def complete(self, call: Call, repo: str, oid: str, upload: str) -> Reply:
        """Join the parts; a second call finds them joined."""
        self.check_signature(call)
        wish, number, stored = call.json(), int(upload), self.repositories[repo].stored
        if oid in stored:
            return found({})
        paths = [self._part(number, int(one["partNumber"])) for one in wish["parts"]]
        if self.uploads.get(number) != oid or not all(path.exists() for path in paths):
            raise Refusal(404, "NoSuchUpload")
        sha256, size = self.blobs.receive(_pieces(paths))
        if sha256 != oid:
            raise Refusal(400, "BadDigest: the parts are not those of the oid")
        for path in paths:
            path.unlink()
        stored[oid] = size
        return found({})

    def _part(self, upload: int, part: int) -> Path:
        return self.blobs.folder / "parts" / f"{upload}-{part}"

    def verify(self, call: Call, repo: str) -> Reply:
        repository, wish = self.repository(call, repo), call.json()
        if not self.who(call):
            raise Refusal(401, "Invalid username or password.")
        if repository.stored.get(wish["oid"]) != wish["size"]:
            raise Refusal(404, "Object not found")
        return found({})

    def commit(self, call: Call, repo: str, revision: str) -> Reply:
        create_pr = call.wants("create_pr")
        repository = self.repository(call, repo, write=not create_pr)
        who = self.who(call)
        if not who:
            raise Refusal(401, "Invalid username or password.")
        commit, pull = repository.apply(
            unquote(revision), call.data.splitlines(), author=who, create_pr=create_pr
        )
        address = f"{self.url}/datasets/{repository.id}"
        said = {"success": True, "commitOid": commit.oid, "hookOutput": ""}
        said["commitUrl"] = f"{address}/commit/{commit.oid}"
        if pull:
            said["pullRequestUrl"] = f"{address}/discussions/{pull.number}"
        return found(said)

    # Reading

    def tree(self, call: Call, repo: str, revision: str, path: str | None = None) -> Reply:
        repository = self.repository(call, repo)
        commit = repository.at(unquote(revision))
        expand = call.wants("expand")
        folder = unquote(path or "").strip("/")
        inside = f"{folder}/" if folder else ""
        listed = [
            one
            for one in _listing(repository, commit, expand)
            if one["path"].startswith(inside)
            and (call.wants("recursive") or "/" not in one["path"][len(inside) :])
        ]
        if folder and not listed:
            raise Refusal(404, f"{folder} does not exist", "EntryNotFound")
        return self._page(call, listed, min(self.page_size, 50) if expand else self.page_size)

    def paths_info(self, call: Call, repo: str, revision: str) -> Reply:
        repository = self.repository(call, repo)
        wish = parse_qs(call.data.decode())
        paths = {one.strip("/") for one in wish.get("paths", [])}
        expand = wish.get("expand", ["false"])[-1].lower() in ("true", "1")
        listing = _listing(repository, repository.at(unquote(revision)), expand)
        return found([one for one in listing if one["path"] in paths])

    def resolve(self, call: Call, repo: str, revision: str, path: str) -> Reply:
        repository = self.repository(call, repo)
        commit = repository.at(unquote(revision))
        headers = {"X-Repo-Commit": commit.oid}
        entry = commit.files.get(unquote(path))
        if entry is None:
            reply = refused(404, "Entry not found", "EntryNotFound")
            reply.headers |= headers
            return reply
        headers["ETag"] = f'"{entry.sha256 if entry.lfs else entry.oid}"'
        if entry.lfs:
            headers |= {"X-Linked-Size": str(entry.size), "X-Linked-Etag": headers["ETag"]}
            if self.storage != self.url:
                headers["Location"] = self.signed(f"/_cdn/{entry.sha256}")
                return Reply(302, headers=headers)
        return _span(call, self.blobs.path(entry.sha256), entry.size, headers)

    def fetch(self, call: Call, oid: str) -> Reply:
        self.check_signature(call)
        path = self.blobs.path(oid)
        return _span(call, path, path.stat().st_size, {"ETag": f'"{oid}"'})

    def _page(self, call: Call, listed: list[dict[str, Any]], size: int) -> Reply:
        size = min(int((call.asked("limit") or [str(size)])[0]), size)
        start = int((call.asked("cursor") or ["0"])[0])
        reply = found(listed[start : start + size])
        if start + size < len(listed):
            query = {name: last[-1] for name, last in parse_qs(call.query).items()}
            query["cursor"] = str(start + size)
            reply.headers["Link"] = f'<{self.url}{call.path}?{urlencode(query)}>; rel="next"'
        return reply


def found(value: Any, status: int = 200) -> Reply:
    """Reply with JSON."""
    return Reply(status, json.dumps(value).encode(), dict(_JSON))


def refused(status: int, message: str, code: str = "") -> Reply:
    """Reply with an error, in the body and in the headers as the Hub does."""
    reply = found({"error": message}, status)
    reply.headers["X-Error-Message"] = " ".join(message.split())
    if code:
        reply.headers["X-Error-Code"] = code
    return reply


def _listed(path: str, entry: Entry) -> dict[str, Any]:
    one = {"type": "file", "oid": entry.oid, "size": entry.size, "path": path}
    if entry.lfs:
        size = len(pointer(entry.sha256, entry.size))
        one["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": size}
    return one


def _listing(repository: Repository, commit: Commit, expand: bool) -> list[dict[str, Any]]:
    """List all folders and files of a commit, by path."""
    listed, changed = {}, dict(commit.changed)
    for path, entry in sorted(commit.files.items()):
        listed[path] = _listed(path, entry)
        parts = path.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            oid = hashlib.sha1(f"{commit.oid} {folder}".encode()).hexdigest()
            listed[folder] = {"type": "directory", "oid": oid, "size": 0, "path": folder}
            changed[folder] = commit.oid
    if expand:
        for path, one in listed.items():
            last = repository.commits[changed[path]]
            one["lastCommit"] = {"id": last.oid, "title": last.title, "date": last.date}
    return [listed[path] for path in sorted(listed)]


def _pull(repository: Repository, number: str) -> Pull:
    if int(number) not in repository.pulls:
        raise Refusal(404, f"no pull request {number}")
    return repository.pulls[int(number)]


def _discussion(repository: Repository, pull: Pull) -> dict[str, Any]:
    said = {"num": pull.number, "title": pull.title, "createdAt": pull.date}
    place = {"author": {"name": pull.author}, "repo": {"name": repository.id, "type": "dataset"}}
    return {**said, **place, "status": pull.status, "isPullRequest": True}


def _event(name: str, kind: str, date: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"id": name, "type": kind, "createdAt": date, "author": {"name": "owner"}, "data": data}


def _pieces(paths: list[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                yield piece


def _span(call: Call, path: Path, size: int, headers: dict[str, str]) -> Reply:
    """Give a file, or the one range that is asked for."""
    headers |= {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    said = call.headers.get("Range", "")
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", said)
    if call.method == "HEAD" or match is None or match[0] == "bytes=-":
        return Reply(headers=headers, file=(path, 0, size))
    first, last = match.groups()
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= size or stop <= start:
        return Reply(416, headers={**headers, "Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return Reply(206, headers=headers, file=(path, start, stop - start))


Endpoint = Callable[..., Reply]
_REPO = "(?P<repo>[^/]+/[^/]+)"
_AT = "(?P<revision>[^/]+)"
_OWN = f"/api/datasets/{_REPO}"
_PULL = f"{_OWN}/discussions/(?P<number>[0-9]+)"
_OID = "(?P<oid>[0-9a-f]{64})"
_LFS = f"/_lfs/{_REPO}/{_OID}"
_UPLOAD = f"{_LFS}/(?P<upload>[0-9]+)"


def _route(
    methods: str, pattern: str, endpoint: Endpoint, streams: bool = False
) -> tuple[tuple[str, ...], re.Pattern[str], bool, Endpoint]:
    return tuple(methods.split()), re.compile(pattern), streams, endpoint


_ROUTES = (
    _route("GET", "/api/whoami-v2", Api.whoami),
    _route("POST", "/api/repos/create", Api.create),
    _route("DELETE", "/api/repos/delete", Api.delete),
    _route("POST", "/api/validate-yaml", Api.validate_yaml),
    _route("PUT", f"{_OWN}/settings", Api.settings),
    _route("GET", f"{_OWN}(?:/revision/{_AT})?", Api.info),
    _route("GET", f"{_OWN}/refs", Api.refs),
    _route("GET", f"{_OWN}/commits/{_AT}", Api.commits),
    _route("POST", f"{_OWN}/branch/(?P<branch>[^/]+)", Api.create_branch),
    _route("DELETE", f"{_OWN}/branch/(?P<branch>[^/]+)", Api.delete_branch),
    _route("GET", f"{_OWN}/discussions", Api.discussions),
    _route("POST", f"{_OWN}/discussions", Api.discuss),
    _route("GET", _PULL, Api.discussion),
    _route("POST", f"{_PULL}/merge", Api.merge),
    _route("POST", f"{_PULL}/status", Api.set_status),
    _route("POST", f"{_OWN}/preupload/{_AT}", Api.preupload),
    _route("POST", f"{_OWN}/commit/{_AT}", Api.commit),
    _route("GET", f"{_OWN}/tree/{_AT}(?:/(?P<path>.*))?", Api.tree),
    _route("POST", f"{_OWN}/paths-info/{_AT}", Api.paths_info),
    _route("POST", rf"/datasets/{_REPO}\.git/info/lfs/objects/batch", Api.batch),
    _route("POST", rf"/{_REPO}\.git/info/lfs/verify", Api.verify),
    _route("PUT", _LFS, Api.put, streams=True),
    _route("PUT", f"{_UPLOAD}/(?P<part>[0-9]+)", Api.put_part, streams=True),
    _route("POST", f"{_UPLOAD}/complete", Api.complete),
    _route("GET HEAD", f"/_cdn/{_OID}", Api.fetch),
    _route(
        "GET HEAD",
        f"/datasets/{_REPO}/resolve/(?P<revision>refs/[^/]+/[^/]+|[^/]+)/(?P<path>.+)",
        Api.resolve,
    ),
)
