"""What the Hub's endpoints have in common: calls, replies, who asks, signed addresses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import RLock
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlencode

from tests.hub._store import Blobs, Refusal, Repository

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
    """The state of the Hub, and who may see what of it.

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
    upload_numbers: count[int] = field(default_factory=count)

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
        return f"{self.storage}{path}?{urlencode({'X-Signature': self.signature(path)})}"

    def check_signature(self, call: Call) -> None:
        if call.asked("X-Signature") != [self.signature(call.path)]:
            raise Refusal(403, "SignatureDoesNotMatch")

    def signature(self, path: str) -> str:
        return hashlib.sha256(f"{self.token} {path}".encode()).hexdigest()[:32]


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
