"""Which endpoint answers which request."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.hub import _places, _reading, _sending
from tests.hub._api import Api, Call, Reply, refused
from tests.hub._store import Refusal

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
    _route("GET", "/api/whoami-v2", _places.whoami),
    _route("POST", "/api/repos/create", _places.create),
    _route("DELETE", "/api/repos/delete", _places.delete),
    _route("POST", "/api/validate-yaml", _sending.validate_yaml),
    _route("PUT", f"{_OWN}/settings", _places.settings),
    _route("GET", f"{_OWN}(?:/revision/{_AT})?", _reading.info),
    _route("GET", f"{_OWN}/refs", _places.refs),
    _route("GET", f"{_OWN}/commits/{_AT}", _reading.commits),
    _route("POST", f"{_OWN}/branch/(?P<branch>[^/]+)", _places.create_branch),
    _route("DELETE", f"{_OWN}/branch/(?P<branch>[^/]+)", _places.delete_branch),
    _route("GET", f"{_OWN}/discussions", _places.discussions),
    _route("POST", f"{_OWN}/discussions", _places.discuss),
    _route("GET", _PULL, _places.discussion),
    _route("POST", f"{_PULL}/merge", _places.merge),
    _route("POST", f"{_PULL}/status", _places.set_status),
    _route("POST", f"{_OWN}/preupload/{_AT}", _sending.preupload),
    _route("POST", f"{_OWN}/commit/{_AT}", _sending.commit),
    _route("GET", f"{_OWN}/tree/{_AT}(?:/(?P<path>.*))?", _reading.tree),
    _route("POST", f"{_OWN}/paths-info/{_AT}", _reading.paths_info),
    _route("POST", rf"/datasets/{_REPO}\.git/info/lfs/objects/batch", _sending.batch),
    _route("POST", rf"/{_REPO}\.git/info/lfs/verify", _sending.verify),
    _route("PUT", _LFS, _sending.put, streams=True),
    _route("PUT", f"{_UPLOAD}/(?P<part>[0-9]+)", _sending.put_part, streams=True),
    _route("POST", f"{_UPLOAD}/complete", _sending.complete),
    _route("GET HEAD", f"/_cdn/{_OID}", _reading.fetch),
    _route(
        "GET HEAD",
        f"/datasets/{_REPO}/resolve/(?P<revision>refs/[^/]+/[^/]+|[^/]+)/(?P<path>.+)",
        _reading.resolve,
    ),
)


def answer(api: Api, call: Call) -> Reply:
    """Find the endpoint and let it answer; a refusal becomes an error reply."""
    try:
        for methods, pattern, streams, endpoint in _ROUTES:
            match = pattern.fullmatch(call.path)
            if match and call.method in methods:
                if streams:
                    return endpoint(api, call, **match.groupdict())
                call.data = b"".join(call.body)
                with api.lock:
                    return endpoint(api, call, **match.groupdict())
        raise Refusal(404, f"no such endpoint: {call.method} {call.path}")
    except Refusal as error:
        return refused(error.status, str(error), error.code)
    except (KeyError, TypeError, ValueError) as error:
        return refused(400, f"this Hub cannot read the request: {error!r}")
