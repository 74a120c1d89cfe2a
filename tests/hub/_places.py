"""Endpoints that make, change and describe repositories, branches and pull requests."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from tests.hub._api import Api, Call, Reply, found
from tests.hub._store import MAIN, Pull, Refusal, Repository


def whoami(api: Api, call: Call) -> Reply:
    who = api.who(call)
    if not who:
        raise Refusal(401, "Invalid username or password.")
    access = {"displayName": who, "role": "write" if who == "owner" else "read"}
    said = {"type": "user", "id": who, "name": who, "fullname": who, "orgs": []}
    return found(said | {"auth": {"type": "access_token", "accessToken": access}})


def create(api: Api, call: Call) -> Reply:
    who, wish = api.who(call), call.json()
    name = f"{wish.get('organization') or who}/{wish.get('name')}"
    if not who:
        raise Refusal(401, "Invalid username or password.")
    if who != "owner" and wish.get("organization") not in (None, who):
        raise Refusal(403, "You have no right to create a repository here")
    if wish.get("type") != "dataset":
        raise Refusal(400, "this Hub has datasets only")
    if not re.fullmatch(r"[\w.-]{1,96}/[\w.-]{1,96}", name, re.ASCII):
        raise Refusal(400, f"no name of a repository: {name!r}")
    said = {"url": f"{api.url}/datasets/{name}", "name": name, "id": name}
    if name in api.repositories:
        error = {"error": "You already created this dataset repo"}
        return found(error | said, 409)
    private = wish.get("visibility") == "private" or bool(wish.get("private"))
    api.repositories[name] = Repository(name, private, api.blobs)
    return found(said)


def delete(api: Api, call: Call) -> Reply:
    wish = call.json()
    name = f"{wish.get('organization') or api.who(call)}/{wish.get('name')}"
    del api.repositories[api.repository(call, name, write=True).id]
    return found({})


def settings(api: Api, call: Call, repo: str) -> Reply:
    repository, wish = api.repository(call, repo, write=True), call.json()
    if "visibility" in wish or "private" in wish:
        repository.private = wish.get("visibility") == "private" or wish.get("private") is True
    return found({"private": repository.private})


def refs(api: Api, call: Call, repo: str) -> Reply:
    repository = api.repository(call, repo)

    def under(prefix: str) -> list[dict[str, str]]:
        return [
            {"name": ref.removeprefix("refs/heads/"), "ref": ref, "targetCommit": oid}
            for ref, oid in sorted(repository.refs.items())
            if ref.startswith(prefix)
        ]

    lists = {"branches": under("refs/heads/"), "converts": [], "tags": []}
    return found(lists | {"pullRequests": under("refs/pr/")})


def create_branch(api: Api, call: Call, repo: str, branch: str) -> Reply:
    repository = api.repository(call, repo, write=True)
    ref = f"refs/heads/{unquote(branch)}"
    if ref in repository.refs:
        raise Refusal(409, f"Reference already exists: {ref}")
    repository.refs[ref] = repository.at(call.json().get("startingPoint") or "main").oid
    return found({}, 201)


def delete_branch(api: Api, call: Call, repo: str, branch: str) -> Reply:
    repository = api.repository(call, repo, write=True)
    ref = f"refs/heads/{unquote(branch)}"
    if ref == MAIN:
        raise Refusal(403, "main cannot be deleted")
    if repository.refs.pop(ref, None) is None:
        raise Refusal(404, f"Invalid rev id: {ref}", "RevisionNotFound")
    return found({})


def discussions(api: Api, call: Call, repo: str) -> Reply:
    repository = api.repository(call, repo)
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


def discuss(api: Api, call: Call, repo: str) -> Reply:
    repository, wish = api.repository(call, repo), call.json()
    who = api.who(call)
    if not who:
        raise Refusal(401, "Invalid username or password.")
    if not wish.get("pullRequest"):
        raise Refusal(400, "this Hub has pull requests, and no other discussions")
    pull = repository.open_pull(str(wish["title"]), who)
    pull.status = "draft"
    return found({"num": pull.number})


def discussion(api: Api, call: Call, repo: str, number: str) -> Reply:
    repository = api.repository(call, repo)
    pull = _pull(repository, number)
    events = [
        _event(one.oid, "commit", one.date, {"subject": one.title, "oid": one.oid})
        for one in repository.history(f"refs/pr/{pull.number}")
        if one.oid not in {old.oid for old in repository.history(pull.base)}
    ]
    changes = {"base": MAIN, "mergeCommitId": pull.merged}
    said = {"events": events[::-1], "changes": changes, "filesWithConflicts": []}
    return found(_discussion(repository, pull) | said)


def merge(api: Api, call: Call, repo: str, number: str) -> Reply:
    repository = api.repository(call, repo, write=True)
    repository.merge(_pull(repository, number))
    return found({})


def set_status(api: Api, call: Call, repo: str, number: str) -> Reply:
    repository = api.repository(call, repo, write=True)
    pull, status = _pull(repository, number), call.json().get("status")
    if pull.status == "merged" or status not in ("open", "closed"):
        raise Refusal(400, f"pull request {pull.number} is {pull.status}")
    pull.status = status
    event = _event(f"status-{pull.number}", "status-change", pull.date, {"status": status})
    return found({"newStatus": event})


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
