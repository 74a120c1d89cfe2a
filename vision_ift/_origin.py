"""Where a url leads, who may see a token there, and where a redirect may lead."""

from __future__ import annotations

import ipaddress
import re
import socket

from vision_ift._errors import RefusedError, UsageError

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,4096}")


class Secret:
    """A token that no ``repr``, log or traceback shows, with the one origin that it is for."""

    __slots__ = ("_origin", "_value")

    def __init__(self, value: str, *, url: str) -> None:
        if not _TOKEN.fullmatch(value):
            raise UsageError("HF_TOKEN holds signs that no token has", hint="copy it again")
        self._value = value
        self._origin = origin(url)

    def __repr__(self) -> str:
        return "Secret(***)"

    def headers_for(self, url: str) -> dict[str, str]:
        """The header that proves who we are, where the token belongs, else none."""
        return {"Authorization": f"Bearer {self._value}"} if origin(url) == self._origin else {}

    def hide(self, text: str) -> str:
        """Take the token out of a text that somebody else wrote."""
        return text.replace(self._value, "***")


def shown(url: str) -> str:
    """A url without what may be secret in it: user, query and fragment.

    >>> shown("https://me:pw@example.org/a.zip?signature=1")
    'https://example.org/a.zip'
    """
    import httpx2

    parsed = httpx2.URL(url)
    return f"{origin(url)}{parsed.path}"


def origin(url: str) -> str:
    """Scheme, host and port of a url."""
    import httpx2

    parsed = httpx2.URL(url)
    port = f":{parsed.port}" if parsed.port is not None else ""
    host = f"[{parsed.host}]" if ":" in parsed.host else parsed.host
    return f"{parsed.scheme}://{host}{port}"


def followed(first: str, url: str, location: str) -> str:
    """Where a redirect leads, if it may be followed.

    Only to ``https``, and never from the open net into a private one; a server on this machine
    (a test's) may also redirect to ``http`` on this machine.
    """
    import httpx2

    try:
        target = httpx2.URL(url).join(location)
    except httpx2.InvalidURL:
        raise RefusedError(f"{shown(first)} redirects to something that is no url") from None
    from_here = _is_loopback(httpx2.URL(first).host)
    allowed = target.scheme == "https" or (
        target.scheme == "http" and from_here and _is_loopback(target.host)
    )
    if not allowed or not target.host:
        raise RefusedError(f"{shown(first)} redirects to {target.scheme}://{target.host}, no https")
    if not from_here and _is_private(target.host):
        raise RefusedError(f"{shown(first)} redirects to the private address {target.host}")
    return str(target)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_private(host: str) -> bool:
    """Whether a name leads to an address that is not of the open net."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False  # a proxy may know it; without one, connecting fails by itself
    for entry in found:
        address = ipaddress.ip_address(str(entry[4][0]).partition("%")[0])
        inner = getattr(address, "ipv4_mapped", None) or address
        if not inner.is_global:
            return True
    return False
