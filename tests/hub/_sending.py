"""Endpoints through which files come: regular ones in a commit, large ones before it."""

from __future__ import annotations

import base64
import fnmatch
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tests.hub._api import Api, Call, Reply, found
from tests.hub._store import Refusal, Repository, checked_oid


def validate_yaml(api: Api, call: Call) -> Reply:
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


def preupload(api: Api, call: Call, repo: str, revision: str) -> Reply:
    create_pr = call.wants("create_pr")
    repository = api.repository(call, repo, write=not create_pr)
    if not api.who(call):
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


def batch(api: Api, call: Call, repo: str) -> Reply:
    wish = call.json()
    ref = wish.get("ref", {}).get("name")
    repository = api.repository(call, repo, write=ref is not None)
    if not api.who(call):
        raise Refusal(401, "Invalid username or password.")
    if ref is not None:
        repository.at(ref)
    objects = []
    transfer = "basic"
    for one in wish["objects"]:
        oid, size = checked_oid(one["oid"]), int(one["size"])
        said: dict[str, Any] = {"oid": oid, "size": size}
        if repository.stored.get(oid) != size:
            upload = _upload(api, repository, oid, size)
            verify = {"href": f"{api.url}/{repository.id}.git/info/lfs/verify"}
            said["actions"] = {"upload": upload, "verify": verify}
            transfer = "multipart" if "header" in upload else transfer
        objects.append(said)
    return found({"transfer": transfer, "objects": objects})


def _upload(api: Api, repository: Repository, oid: str, size: int) -> dict[str, Any]:
    if size <= api.part_bytes:
        return {"href": api.signed(f"/_lfs/{repository.id}/{oid}")}
    number = next(api.upload_numbers)
    api.uploads[number] = oid
    parts = -(-size // api.part_bytes)
    header = {"chunk_size": str(api.part_bytes)}
    for part in range(1, parts + 1):
        header[str(part)] = api.signed(f"/_lfs/{repository.id}/{oid}/{number}/{part}")
    done = f"/_lfs/{repository.id}/{oid}/{number}/complete"
    signature = urlencode({"X-Signature": api.signature(done)})
    return {"href": f"{api.url}{done}?{signature}", "header": header}


def put(api: Api, call: Call, repo: str, oid: str) -> Reply:
    api.check_signature(call)
    sha256, size = api.blobs.receive(call.body)
    if sha256 != oid:
        raise Refusal(400, "BadDigest: the bytes are not those of the oid")
    with api.lock:
        api.repositories[repo].stored[oid] = size
    return Reply(headers={"ETag": f'"{sha256}"'})


def put_part(api: Api, call: Call, repo: str, oid: str, upload: str, part: str) -> Reply:
    api.check_signature(call)
    sha256, _ = api.blobs.receive(call.body, _part(api, int(upload), int(part)))
    return Reply(headers={"ETag": f'"{sha256}"'})


def complete(api: Api, call: Call, repo: str, oid: str, upload: str) -> Reply:
    """Join the parts; a second call finds them joined."""
    api.check_signature(call)
    wish, number, stored = call.json(), int(upload), api.repositories[repo].stored
    if oid in stored:
        return found({})
    paths = [_part(api, number, int(one["partNumber"])) for one in wish["parts"]]
    if api.uploads.get(number) != oid or not all(path.exists() for path in paths):
        raise Refusal(404, "NoSuchUpload")
    sha256, size = api.blobs.receive(_pieces(paths))
    if sha256 != oid:
        raise Refusal(400, "BadDigest: the parts are not those of the oid")
    for path in paths:
        path.unlink()
    stored[oid] = size
    return found({})


def _part(api: Api, upload: int, part: int) -> Path:
    return api.blobs.folder / "parts" / f"{upload}-{part}"


def verify(api: Api, call: Call, repo: str) -> Reply:
    repository, wish = api.repository(call, repo), call.json()
    if not api.who(call):
        raise Refusal(401, "Invalid username or password.")
    if repository.stored.get(wish["oid"]) != wish["size"]:
        raise Refusal(404, "Object not found")
    return found({})


def commit(api: Api, call: Call, repo: str, revision: str) -> Reply:
    create_pr = call.wants("create_pr")
    repository = api.repository(call, repo, write=not create_pr)
    who = api.who(call)
    if not who:
        raise Refusal(401, "Invalid username or password.")
    commit, pull = repository.apply(
        unquote(revision), call.data.splitlines(), author=who, create_pr=create_pr
    )
    address = f"{api.url}/datasets/{repository.id}"
    said = {"success": True, "commitOid": commit.oid, "hookOutput": ""}
    said["commitUrl"] = f"{address}/commit/{commit.oid}"
    if pull:
        said["pullRequestUrl"] = f"{address}/discussions/{pull.number}"
    return found(said)


def _pieces(paths: list[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                yield piece
