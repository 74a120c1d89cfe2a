"""Endpoints that list and give files."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode

from tests.hub._api import Api, Call, Reply, found, refused
from tests.hub._store import Commit, Entry, Refusal, Repository, pointer


def info(api: Api, call: Call, repo: str, revision: str | None = None) -> Reply:
    repository = api.repository(call, repo)
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


def commits(api: Api, call: Call, repo: str, revision: str) -> Reply:
    history = api.repository(call, repo).history(unquote(revision))
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
    return _page(api, call, listed, min(api.page_size, 50))


def tree(api: Api, call: Call, repo: str, revision: str, path: str | None = None) -> Reply:
    repository = api.repository(call, repo)
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
    return _page(api, call, listed, min(api.page_size, 50) if expand else api.page_size)


def paths_info(api: Api, call: Call, repo: str, revision: str) -> Reply:
    repository = api.repository(call, repo)
    wish = parse_qs(call.data.decode())
    paths = {one.strip("/") for one in wish.get("paths", [])}
    expand = wish.get("expand", ["false"])[-1].lower() in ("true", "1")
    listing = _listing(repository, repository.at(unquote(revision)), expand)
    return found([one for one in listing if one["path"] in paths])


def resolve(api: Api, call: Call, repo: str, revision: str, path: str) -> Reply:
    repository = api.repository(call, repo)
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
        if api.storage != api.url:
            headers["Location"] = api.signed(f"/_cdn/{entry.sha256}")
            return Reply(302, headers=headers)
    return _span(call, api.blobs.path(entry.sha256), entry.size, headers)


def fetch(api: Api, call: Call, oid: str) -> Reply:
    api.check_signature(call)
    path = api.blobs.path(oid)
    return _span(call, path, path.stat().st_size, {"ETag": f'"{oid}"'})


def _page(api: Api, call: Call, listed: list[dict[str, Any]], size: int) -> Reply:
    size = min(int((call.asked("limit") or [str(size)])[0]), size)
    start = int((call.asked("cursor") or ["0"])[0])
    reply = found(listed[start : start + size])
    if start + size < len(listed):
        query = {name: last[-1] for name, last in parse_qs(call.query).items()}
        query["cursor"] = str(start + size)
        reply.headers["Link"] = f'<{api.url}{call.path}?{urlencode(query)}>; rel="next"'
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
