"""What the Hub of the tests does wrong on purpose, and what it writes down."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

#: ``reset``: the connection is reset before the reply, and nothing takes effect.
#: ``reset_after``: the request takes effect, and the connection is reset instead of the reply.
#: ``truncated``: it takes effect, and the reply ends in the middle.
#: ``stall``: nothing takes effect; silence for a while, then the connection is closed.
#: A status ("403", "429", "500", "503", …): nothing takes effect.
KINDS = ("reset", "reset_after", "truncated", "stall", "403", "429", "500", "503")


@dataclass
class Request:
    """One line of the log.

    Attributes:
        number: From 1, in the order of arrival.
        server: ``hub``; ``storage`` for the other origin; ``outside`` for what a client wanted
            from another host and the environment's proxy brought here.
        method: ``GET``, ``PUT``, …
        path: With ``%2F`` and the like as they came, without the query.
        query: What follows ``?``.
        status: Of the reply; 0 where there was none.
        bytes_in: Of the request's body, as far as it was read.
        bytes_out: Of the reply's body.
        authorized: Whether a token was there, a right one or not.
        fault: The kind of the fault that hit it.
    """

    number: int
    server: str
    method: str
    path: str
    query: str
    authorized: bool
    status: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    fault: str = ""


@dataclass
class Fault:
    """A fault at one request, counted over those that match, from when it was set.

    Args:
        kind: One of ``KINDS``, or any status.
        at: The request that is hit, from 1.
        onwards: Whether all later ones are hit too.
        method: Only requests of this method count.
        path: Only requests count in whose path this regular expression is found.
        retry_after_s: What a 429 asks for, whole seconds.
        stall_s: How long a stall is silent.
        rude: Error replies repeat the request's Authorization header, as some proxies do.
        then: Called with the request when it is hit, before anything is answered: a test kills
            its client here.
    """

    kind: str
    at: int = 1
    onwards: bool = False
    method: str | None = None
    path: str | None = None
    retry_after_s: int = 0
    stall_s: float = 1.0
    rude: bool = False
    then: Callable[[Request], None] | None = None
    seen: int = 0
    hits: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS and not re.fullmatch(r"[345]\d\d", self.kind):
            raise ValueError(f"no such fault: {self.kind!r}")

    def strikes(self, request: Request) -> bool:
        """Count a request, and say whether it is hit."""
        if self.method not in (None, request.method):
            return False
        if self.path is not None and not re.search(self.path, request.path):
            return False
        self.seen += 1
        hit = self.seen == self.at or (self.onwards and self.seen > self.at)
        self.hits += hit
        return hit
