"""What ``fetch`` brings: the lock that ships with a source, and the one that it writes.

``locks/<source>.json`` beside a source's module says where its authors publish each file, with the
size and digest where somebody published them, under which terms, and what has to be fetched by
hand. ``ROOT/<source>/fetch.lock.json`` says what was brought: revision, size and digest of each
file. A second fetch holds the files against it.
"""

from __future__ import annotations

import re
import sys
from importlib import resources
from pathlib import Path
from typing import Annotated

import msgspec

from vision_ift._builder import Builder
from vision_ift._disk import write_file
from vision_ift._errors import IntegrityError, RecordError
from vision_ift._pictures.images import safe_path

#: Of both kinds of lock.
LOCK_VERSION = 1

LOCK = "fetch.lock.json"

_Size = Annotated[int, msgspec.Meta(ge=0)]
_Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
_Url = Annotated[str, msgspec.Meta(pattern="^https?://[^/?#@\\s]+/", max_length=2000)]

_RULE = re.compile(r"\*\*/[^*/]+|[^*]*(\*[^*/]*)?")


class Entry(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """One file that is fetched.

    Attributes:
        url: Where its authors publish it. ``http`` is taken only with a digest.
        place: The file's path under ROOT, where it is kept as it is.
        unpack: For an archive: members and where they go (``_unpack.place_of``); the archive itself
            is not kept.
        bytes, sha256: Where they are published; ``published`` says by whom.
        git_sha1: The file's name in git, for files of the Hub that are not in its large storage.
        license, license_url: Its terms, and where they are stated.
        on_request: Fetched only where ``--only`` names it.
        holds: How many files the archive is known to hold, so that a folder filled by hand counts.
    """

    url: _Url
    place: str = ""
    unpack: dict[str, str] = {}
    bytes: _Size | None = None
    sha256: _Digest | None = None
    published: str = ""
    git_sha1: str | None = None
    license: str = ""
    license_url: str = ""
    on_request: bool = False
    holds: _Size | None = None

    def __post_init__(self) -> None:
        if bool(self.place) == bool(self.unpack):
            raise ValueError(f"{self.url} needs either a place or what to unpack")
        if self.url.startswith("http:") and not self.sha256 and "//127.0.0.1:" not in self.url:
            raise ValueError(f"{self.url} is not https and has no digest")
        for place in (self.place or None, *self.unpack.values()):
            if place is not None and safe_path(place) != place.rstrip("/"):
                raise ValueError(f"{place!r} is not a plain path")
        if not all(_RULE.fullmatch(rule) for rule in self.unpack):
            raise ValueError(f"{self.url}: a rule has at most one star, in the member's name")

    @property
    def places(self) -> tuple[str, ...]:
        """What it brings, as paths under ROOT; a folder ends with ``/``."""
        return (self.place,) if self.place else tuple(self.unpack.values())

    @property
    def name(self) -> str:
        """What it is called for a person."""
        return self.place or ", ".join(self.places)


class HubPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files of a dataset on the Hub; they go below ``ROOT/<source>/`` as they lie there."""

    repository: str
    files: tuple[str, ...]
    license: str = ""
    on_request: bool = False


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a source, for ``vision-ift sources``.

    Attributes:
        name: What it is.
        any_of: Glob patterns under ROOT; it is there where any of them matches.
        optional: True where the source is whole without it.
    """

    name: str
    any_of: tuple[str, ...]
    optional: bool = False


class Lock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ships with a source."""

    schema_version: int = LOCK_VERSION
    files: tuple[Entry, ...] = ()
    hub: tuple[HubPart, ...] = ()
    by_hand: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()


class Got(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One file that was fetched, or found to be right.

    Attributes:
        members: How many files were unpacked of it.
        members_sha256: Digest of the list of them, ``.fetch/<digest of the url>.tsv``.
        etag: The publisher's name of the version, to see later changes.
        git_sha1: As in :class:`Entry`.
    """

    url: str
    place: str = ""
    bytes: int
    sha256: str
    license: str = ""
    license_url: str = ""
    members: int = 0
    members_sha256: str = ""
    etag: str = ""
    git_sha1: str | None = None


class FetchLock(msgspec.Struct, kw_only=True):
    """What was fetched of a source.

    Attributes:
        revisions: Hub repository to the commit that its files are pinned to.
        files: By url.
    """

    schema_version: int = LOCK_VERSION
    source: str
    revisions: dict[str, str] = {}
    files: dict[str, Got] = {}

    @classmethod
    def read(cls, folder: Path, source: str) -> FetchLock:
        """Read ``fetch.lock.json``, or begin a new one.

        Raises:
            IntegrityError: It is broken, or another version's.
        """
        path = folder / LOCK
        try:
            found = msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            return cls(source=source)
        except msgspec.DecodeError as error:
            raise IntegrityError(
                f"{path}: {error}", hint="delete it: what is there is then checked anew"
            ) from None
        if found.schema_version != LOCK_VERSION or found.source != source:
            raise IntegrityError(
                f"{path} is of source {found.source}, version {found.schema_version}",
                hint="delete it: what is there is then checked anew",
            )
        return found

    def write(self, folder: Path) -> None:
        """Put it in its place, the same bytes for the same contents."""
        encoded = msgspec.json.encode(self, order="sorted")
        write_file(folder / LOCK, msgspec.json.format(encoded, indent=1) + b"\n")


def shipped_lock(builder: Builder) -> Lock:
    """The lock beside a source's module; where there is none, what its class says.

    Raises:
        IntegrityError: The file is broken.
    """
    package = sys.modules[type(builder).__module__].__package__
    found = None
    if package:
        file = resources.files(package).joinpath("locks", f"{builder.name}.json")
        if file.is_file():
            try:
                found = msgspec.json.decode(file.read_bytes(), type=Lock)
            except (msgspec.DecodeError, RecordError) as error:
                raise IntegrityError(f"the lock of source {builder.name}: {error}") from None
    lock = found or Lock()
    if found is None or not lock.by_hand:
        lock = msgspec.structs.replace(lock, by_hand=builder.by_hand)
    if builder.hub and not any(part.repository == builder.hub for part in lock.hub):
        own = HubPart(repository=builder.hub, files=builder.hub_files, license=builder.license)
        lock = msgspec.structs.replace(lock, hub=(own, *lock.hub))
    if not lock.parts:
        parts = tuple(Part(name=pattern, any_of=(pattern,)) for pattern in builder.files)
        lock = msgspec.structs.replace(lock, parts=parts)
    return lock
