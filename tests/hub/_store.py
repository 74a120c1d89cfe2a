"""What the Hub of the tests keeps: blobs as files by their hash, repositories as snapshots."""

from __future__ import annotations

import base64
import binascii
import datetime
import fnmatch
import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

MAIN = "refs/heads/main"
#: Written by the first commit of every repository, as on the Hub; decides what goes to LFS.
GITATTRIBUTES = "".join(
    f"*.{suffix} filter=lfs diff=lfs merge=lfs -text\n"
    for suffix in (
        *("7z", "arrow", "bin", "gz", "mp4", "npy", "npz", "parquet", "rar", "tar", "tar.*"),
        *("tgz", "wav", "xz", "zip", "zst", "bmp", "gif", "png", "tiff", "jpg", "jpeg", "webp"),
    )
).encode()
#: Larger files go to LFS whatever their name.
REGULAR_MAX_BYTES = 10 * 1024 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Refusal(Exception):
    """An error reply: its status, its text, and the code that the client reads in a header."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Entry(NamedTuple):
    """One file of a commit; ``oid`` is the git hash of the file or of its LFS pointer."""

    sha256: str
    size: int
    oid: str
    lfs: bool


@dataclass(frozen=True)
class Commit:
    """One state of a repository: all its files, by path."""

    oid: str
    title: str
    message: str
    parent: str | None
    date: str
    files: Mapping[str, Entry]
    changed: Mapping[str, str]  # path: the commit that changed it last


@dataclass
class Pull:
    """A pull request on ``main``; its commits lie under ``refs/pr/NUMBER``."""

    number: int
    title: str
    author: str
    base: str
    date: str
    status: str = "open"
    merged: str | None = None


@dataclass
class Blobs:
    """A folder of files that are named by their SHA-256."""

    folder: Path
    _names: itertools.count[int] = field(default_factory=itertools.count)

    def path(self, sha256: str) -> Path:
        return self.folder / "blobs" / sha256

    def receive(self, pieces: Iterable[bytes], into: Path | None = None) -> tuple[str, int]:
        """Write a stream to the disk; give its SHA-256 and its size in bytes."""
        part = self.folder / "parts" / f"incoming-{next(self._names)}"
        digest, size = hashlib.sha256(), 0
        try:
            with part.open("wb") as file:
                for piece in pieces:
                    digest.update(piece)
                    size += file.write(piece)
            os.replace(part, into or self.path(digest.hexdigest()))
        finally:
            part.unlink(missing_ok=True)
        return digest.hexdigest(), size

    def add(self, data: bytes) -> Entry:
        """Keep a regular file."""
        sha256, size = self.receive([data])
        return Entry(sha256, size, _git_oid(data), lfs=False)


@dataclass
class Repository:
    """A repository with its history."""

    id: str
    private: bool
    blobs: Blobs
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    stored: dict[str, int] = field(default_factory=dict)  # LFS blobs: SHA-256 to size
    pulls: dict[int, Pull] = field(default_factory=dict)

    def __post_init__(self) -> None:
        files = {".gitattributes": self.blobs.add(GITATTRIBUTES)}
        self._commit(MAIN, files, "initial commit", "")

    def ref(self, revision: str) -> str | None:
        """Say which moving reference a revision names."""
        for name in (revision, f"refs/heads/{revision}"):
            if name in self.refs:
                return name
        return None

    def at(self, revision: str) -> Commit:
        """Find the commit that a branch, a reference or a commit's name stands for."""
        ref = self.ref(revision)
        commit = self.commits.get(self.refs[ref] if ref else revision)
        if commit is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    def history(self, revision: str) -> list[Commit]:
        """List the commits of a revision, the newest first."""
        found = [self.at(revision)]
        while found[-1].parent:
            found.append(self.commits[found[-1].parent])
        return found

    def mode(self, path: str, size: int, revision: str) -> str:
        """Decide how a file is sent: by its size, and by the repository's ``.gitattributes``."""
        rules = self.at(revision).files.get(".gitattributes")
        text = self.blobs.path(rules.sha256).read_text() if rules else ""
        patterns = [line.split()[0] for line in text.splitlines() if "filter=lfs" in line]
        name = path.rpartition("/")[2]
        named = any(fnmatch.fnmatch(name, one) or fnmatch.fnmatch(path, one) for one in patterns)
        return "lfs" if named or size > REGULAR_MAX_BYTES else "regular"

    def apply(
        self, revision: str, lines: Iterable[bytes], *, author: str, create_pr: bool
    ) -> tuple[Commit, Pull | None]:
        """Take a commit as the client sends it, one JSON object a line; all of it or nothing."""
        ref = self.ref(revision)
        if ref is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        base = self.at(ref)
        files = dict(base.files)
        header: dict[str, Any] = {}
        for line in lines:
            step = json.loads(line)
            if step["key"] == "header":
                header = step["value"]
            else:
                self._step(files, step["key"], step["value"])
        if not header.get("summary"):
            raise Refusal(400, "a commit needs a summary")
        if header.get("parentCommit") not in (None, base.oid):
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        pull = self._pull_of(ref)
        if create_pr:
            pull = self.open_pull(header["summary"], author, base)
            ref = f"refs/pr/{pull.number}"
        elif pull and pull.status in ("merged", "closed"):
            raise Refusal(403, f"pull request {pull.number} is {pull.status}")
        commit = self._commit(ref, files, header["summary"], header.get("description", ""))
        return commit, pull

    def open_pull(self, title: str, author: str, base: Commit | None = None) -> Pull:
        """Open a pull request that changes nothing yet."""
        base = base or self.at(MAIN)
        number = len(self.pulls) + 1
        pull = Pull(number, title, author, base.oid, self._date())
        self.pulls[number] = pull
        self.refs[f"refs/pr/{number}"] = base.oid
        return pull

    def merge(self, pull: Pull) -> None:
        """Bring the changes of a pull request to ``main`` as one commit."""
        if pull.status not in ("open", "draft"):
            raise Refusal(400, f"pull request {pull.number} is {pull.status}")
        old = self.commits[pull.base].files
        new = self.at(f"refs/pr/{pull.number}").files
        main = dict(self.at(MAIN).files)
        for path in sorted({*old, *new}):
            if old.get(path) == new.get(path):
                continue
            if main.get(path) not in (old.get(path), new.get(path)):
                raise Refusal(409, f"{path} was changed on both sides")
            if path in new:
                main[path] = new[path]
            else:
                main.pop(path, None)
        title = f"{pull.title} (#{pull.number})"
        pull.merged = self._commit(MAIN, main, title, "").oid
        pull.status = "merged"

    def _pull_of(self, ref: str) -> Pull | None:
        return self.pulls[int(ref[8:])] if ref.startswith("refs/pr/") else None

    def _step(self, files: dict[str, Entry], key: str, value: Mapping[str, Any]) -> None:
        path = str(value["path"])
        if key == "deletedFolder":
            inside = [one for one in files if one.startswith(f"{path.rstrip('/')}/")]
            if not inside:
                raise Refusal(404, "A folder with this name doesn't exist", "EntryNotFound")
            for one in inside:
                del files[one]
        elif key == "deletedFile":
            if files.pop(path, None) is None:
                raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
        elif key in ("file", "lfsFile"):
            _check_place(path, files)
            files[path] = self._regular(value) if key == "file" else self._large(value)
        else:
            raise Refusal(400, f"unknown operation {key}")

    def _regular(self, value: Mapping[str, Any]) -> Entry:
        try:
            data = base64.b64decode(value["content"], validate=True)
        except (KeyError, binascii.Error) as error:
            raise Refusal(400, f"{value['path']}: no base64 content: {error}") from error
        if len(data) > REGULAR_MAX_BYTES:
            raise Refusal(400, f"{value['path']} is larger than 10 MiB: send it through LFS")
        return self.blobs.add(data)

    def _large(self, value: Mapping[str, Any]) -> Entry:
        oid = checked_oid(value["oid"])
        size = self.stored.get(oid)
        if size is None or value.get("size", size) != size:
            raise Refusal(
                400,
                "Your push was rejected because an LFS pointer pointed to a file that does not "
                f"exist: {value['path']}",
            )
        return Entry(oid, size, _git_oid(pointer(oid, size)), lfs=True)

    def _commit(self, ref: str, files: Mapping[str, Entry], title: str, message: str) -> Commit:
        parent = self.commits.get(self.refs.get(ref, ""))
        date = self._date()
        before: Mapping[str, Entry] = parent.files if parent else {}
        said = json.dumps([self.id, ref, date, title, message, sorted(files.items())])
        oid = hashlib.sha1(said.encode()).hexdigest()
        changed = {
            path: parent.changed[path] if parent and before.get(path) == entry else oid
            for path, entry in files.items()
        }
        commit = Commit(oid, title, message, parent.oid if parent else None, date, files, changed)
        self.commits[oid] = commit
        self.refs[ref] = oid
        return commit

    def _date(self) -> str:
        """Every commit is a second later than the last: two equal runs tell equal times."""
        later = datetime.timedelta(seconds=len(self.commits) + len(self.pulls))
        start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
        return (start + later).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def checked_oid(text: object) -> str:
    """Refuse what is not the name of a blob: it becomes a file name."""
    if not isinstance(text, str) or not _SHA256.fullmatch(text):
        raise Refusal(422, "an oid has 64 hexadecimal digits")
    return text


def pointer(sha256: str, size: int) -> bytes:
    """Say what git keeps in place of a large file."""
    return (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
    )


def _git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _check_place(path: str, files: Mapping[str, Entry]) -> None:
    parts = path.split("/")
    if any(part in ("", ".", "..", ".git") for part in parts):
        raise Refusal(400, f"a file cannot be called {path!r}")
    folders = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
    if folders & files.keys() or any(one.startswith(f"{path}/") for one in files):
        raise Refusal(400, f"{path!r} would be a file and a folder")
