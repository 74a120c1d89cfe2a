"""Looks at what is there of a source's files, and brings what is not."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from vision_ift._build import Progress
from vision_ift._disk import explained, write_file
from vision_ift._errors import (
    DiskError,
    IntegrityError,
    OutputError,
    ServiceError,
    VisionIFTError,
)
from vision_ift._fetch.download import Downloads
from vision_ift._fetch.hub_tree import HUB, real_url, switched_off
from vision_ift._fetch.part import Arrived, part_of
from vision_ift._fetch.unpack import RESERVE_BYTES, Member, crc_of, unpack
from vision_ift._locks import Entry, FetchLock, Got
from vision_ift._origin import origin

#: Archives on their way and the lists of what was unpacked, in ``ROOT/<source>/``.
WORK = ".fetch"

State = Literal["here", "fetched", "wanted", "differs", "changed", "on_request", "by_hand"]

_CHUNK = 1 << 20


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a source, or one thing to do by hand.

    Attributes:
        state: ``here`` (it was there already), ``fetched``, ``wanted`` (it is to be fetched),
            ``differs`` (what is there is not what was published: it is left alone), ``changed``
            (the publisher has other bytes now than the pinned ones), ``on_request`` (only where
            ``only`` names it), or ``by_hand``.
        place: The file's path under ROOT, or those of what is unpacked of it; a folder ends with
            ``/``; empty where ``note`` says it.
        bytes: The size of what is downloaded; ``None`` where it is not known.
        sha256: Its digest, where it is known.
        url, license, license_url: Where it comes from, under which terms, and where they stand.
        note: What to fetch from where and where to put it, or what else is to be said.
    """

    state: State
    place: str = ""
    bytes: int | None = None
    sha256: str | None = None
    url: str = ""
    license: str = ""
    license_url: str = ""
    note: str = ""

    def __str__(self) -> str:
        if self.state == "by_hand":
            return f"by hand: {self.note}"
        size = "size not published" if self.bytes is None else f"{self.bytes:,} bytes"
        terms = f", {self.license}" if self.license else ""
        return f"{self.state}: {self.place} ({size}{terms}){f': {self.note}' * bool(self.note)}"


#: Why a file on request is not fetched.
ASK = "fetched where --only names it"


def found_as(entry: Entry, state: State, note: str = "", *, got: Got | None = None) -> Fetched:
    """Say of a file in which state it is."""
    return Fetched(
        state=state,
        place=entry.name,
        bytes=got.bytes if got else entry.bytes,
        sha256=got.sha256 if got else entry.sha256,
        url=entry.url,
        license=entry.license,
        license_url=entry.license_url,
        note=note,
    )


class Bringer:
    """Brings the files of one source.

    Args:
        root, folder: ROOT, and the source's folder below it.
        lock: What was fetched before; it is brought up to date and written after every file.
        downloads: The budget of this run.
        progress: Told how many bytes of a file are there.
        update: Replace files that differ.
        dry_run: Write nothing, and compare by size.
    """

    def __init__(
        self,
        root: Path,
        folder: Path,
        lock: FetchLock,
        downloads: Downloads,
        progress: Progress,
        *,
        update: bool,
        dry_run: bool,
    ) -> None:
        self._root = root
        self._folder = folder
        self._lock = lock
        self._downloads = downloads
        self._progress = progress
        self._update = update
        self._dry_run = dry_run

    def look(self, entries: Sequence[Entry]) -> list[Fetched]:
        """Say in which state each file is; what is right and not recorded yet is recorded."""
        before = dict(self._lock.files)
        found = [self._look(entry) for entry in entries]
        if self._lock.files != before:
            self._lock.write(self._folder)
        return self._measured(found)

    def _look(self, entry: Entry) -> Fetched:
        got = self._lock.files.get(entry.url)
        if got is not None and self._update and self._is_newer(entry, got):
            return found_as(entry, "wanted", "its publisher changed it")
        return self._look_unpacked(entry, got) if entry.unpack else self._look_whole(entry, got)

    def _is_newer(self, entry: Entry, got: Got) -> bool:
        """Whether a file that no commit pins was changed by its publisher."""
        if entry.url.startswith(f"{HUB}/") or switched_off():
            return False
        try:
            size, etag = self._downloads.describe(entry.url)
        except ServiceError:
            return False  # what is there is as good as before
        return (size is not None and size != got.bytes) or bool(etag and etag != got.etag)

    def _look_whole(self, entry: Entry, got: Got | None) -> Fetched:
        path = self._root / entry.place
        if not path.exists():
            return found_as(entry, "wanted")
        length = entry.bytes if entry.bytes is not None or got is None else got.bytes
        sha256 = entry.sha256 or (got.sha256 if got else None)
        size = path.stat().st_size
        if length is not None and size != length:
            return self._other(entry, f"it holds {size:,} bytes, not {length:,}")
        if self._dry_run:
            return found_as(entry, "here", got=got)
        if sha256 is None and entry.git_sha1 is None:
            return found_as(entry, "here", "not checked: no digest of it is published")
        digest, git_sha1 = self._digests(path, entry.name)
        if (sha256 is not None and digest != sha256) or (
            entry.git_sha1 is not None and git_sha1 != entry.git_sha1
        ):
            return self._other(entry, f"its digest is {digest}, not {sha256 or entry.git_sha1}")
        if got is None:
            got = self._record(entry, Arrived(size, digest, ""))
        return found_as(entry, "here", got=got)

    def _digests(self, path: Path, name: str) -> tuple[str, str]:
        size = path.stat().st_size
        digest = hashlib.sha256()
        git = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        done = 0
        with path.open("rb") as file:
            while data := file.read(_CHUNK):
                digest.update(data)
                git.update(data)
                done += len(data)
                self._progress(f"checking {name}", done, size)
        return digest.hexdigest(), git.hexdigest()

    def _look_unpacked(self, entry: Entry, got: Got | None) -> Fetched:
        members = self._members(entry, got)
        if got is None or members is None:
            if self._is_filled(entry):
                return found_as(entry, "here", "not checked: it was not unpacked by fetch")
            return found_as(entry, "wanted")
        total = sum(member.bytes for member in members)
        done = 0
        for member in members:
            path = self._root / member.place
            if not path.exists():
                return found_as(entry, "wanted", f"{member.place} is gone")
            size, crc32 = path.stat().st_size, member.crc32
            if size == member.bytes and not self._dry_run:
                size, crc32 = crc_of(path)
            if (size, crc32) != (member.bytes, member.crc32):
                return self._other(entry, f"{member.place} is not what was unpacked")
            done += size
            self._progress(f"checking {entry.name}", done, total)
        return found_as(entry, "here", got=got)

    def _members(self, entry: Entry, got: Got | None) -> list[Member] | None:
        """What was unpacked, as its list says; ``None`` where there is no such list."""
        if got is None:
            return None
        try:
            data = self._list_of(entry).read_bytes()
        except FileNotFoundError:
            return None
        if hashlib.sha256(data).hexdigest() != got.members_sha256:
            return None
        rows = (line.split("\t") for line in data.decode().splitlines())
        return [Member(place, int(size), int(crc32, 16)) for place, size, crc32 in rows]

    def _is_filled(self, entry: Entry) -> bool:
        """Whether all that an archive holds seems to be there."""
        for rule, place in entry.unpack.items():
            path = self._root / place
            if not place.endswith("/"):
                if not path.is_file():
                    return False
                continue
            ending = rule.rpartition("*")[2]
            names = path.iterdir() if path.is_dir() else ()
            count = sum(one.name.endswith(ending) and one.name[0] != "." for one in names)
            if count < (entry.holds or 1):
                return False
        return True

    def _other(self, entry: Entry, what: str) -> Fetched:
        if self._update:
            return found_as(entry, "wanted", f"{what}; it is replaced")
        return found_as(entry, "differs", f"{what}; move it away, or replace it with --update")

    def _measured(self, found: list[Fetched]) -> list[Fetched]:
        """Ask the servers for the sizes that nobody published; silence is no error here."""
        silent_hosts: set[str] = set()
        measured = []
        for one in found:
            host = origin(one.url)
            if one.state == "wanted" and one.bytes is None and not switched_off():
                try:
                    if host not in silent_hosts:
                        size, _ = self._downloads.describe(one.url)
                        one = msgspec.structs.replace(one, bytes=size)
                except ServiceError as error:
                    silent_hosts.add(host)
                    note = f"{one.note}; {error.message}".removeprefix("; ")
                    one = msgspec.structs.replace(one, note=note)
            measured.append(one)
        return measured

    def bring(self, entries: Sequence[Entry], found: Sequence[Fetched]) -> list[Fetched]:
        """Fetch what is wanted, one file after the other.

        Raises:
            DiskError: At once; of the others the first, after all that can be fetched is there.
        """
        wanted = [
            (entry, one) for entry, one in zip(entries, found, strict=True) if one.state == "wanted"
        ]
        if wanted and switched_off():
            raise ServiceError(
                f"{len(wanted)} files are to be fetched, and HF_HUB_OFFLINE switches the net off",
                hint="unset it, or see vision-ift fetch --dry-run for what goes where",
            )
        self._check_room(wanted)
        done = list(found)
        failed: list[VisionIFTError] = []
        for place, (entry, one) in enumerate(zip(entries, found, strict=True)):
            if one.state == "differs":
                failed.append(IntegrityError(f"{self._root / one.place}: {one.note}"))
            if one.state != "wanted":
                continue
            try:
                got = self._bring(entry)
            except DiskError:
                raise
            except (ServiceError, IntegrityError, OutputError) as error:
                failed.append(error)
            else:
                done[place] = found_as(entry, "fetched", got=got)
        self._lock.write(self._folder)
        if failed:
            raise _joined(failed, len(entries))
        return done

    def _bring(self, entry: Entry) -> Got:
        def told(done: int, total: int) -> None:
            self._progress(entry.name, done, total or entry.bytes or 0)

        path = self._root / entry.place if entry.place else self._archive_of(entry)
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        arrived = self._kept(entry, path) if entry.unpack else None
        if arrived is None:
            arrived = self._downloads.get(
                real_url(entry.url),
                path,
                length=entry.bytes,
                sha256=entry.sha256,
                git_sha1=entry.git_sha1,
                told=told,
            )
        if entry.place:
            return self._record(entry, arrived)
        members = unpack(
            path,
            entry.unpack,
            root=self._root,
            replace=self._update,
            told=lambda done, total: self._progress(f"unpacking {entry.name}", done, total),
        )
        lines = "".join(f"{one.place}\t{one.bytes}\t{one.crc32:08x}\n" for one in members)
        write_file(self._list_of(entry), lines.encode())
        got = self._record(entry, arrived, members=len(members), listed=lines.encode())
        path.unlink()
        return got

    def _kept(self, entry: Entry, archive: Path) -> Arrived | None:
        """An archive that had arrived whole when its unpacking was stopped."""
        if not archive.is_file() or self._update:
            return None
        digest, _ = self._digests(archive, entry.name)
        if entry.sha256 is not None and digest != entry.sha256:
            return None
        return Arrived(archive.stat().st_size, digest, "")

    def _record(
        self, entry: Entry, arrived: Arrived, *, members: int = 0, listed: bytes = b""
    ) -> Got:
        files = self._lock.files
        for url in [url for url, one in files.items() if one.place == entry.name]:
            del files[url]  # an older commit's
        files[entry.url] = got = Got(
            url=entry.url,
            place=entry.name,
            bytes=arrived.bytes,
            sha256=arrived.sha256,
            license=entry.license,
            license_url=entry.license_url,
            members=members,
            members_sha256=hashlib.sha256(listed).hexdigest() if listed else "",
            etag="" if entry.url.startswith(f"{HUB}/") else arrived.etag,
            git_sha1=entry.git_sha1,
        )
        self._lock.write(self._folder)
        return got

    def _archive_of(self, entry: Entry) -> Path:
        name = entry.url.rpartition("/")[2]
        return self._folder / WORK / f"{_key(entry)}-{name}"

    def _list_of(self, entry: Entry) -> Path:
        return self._folder / WORK / f"{_key(entry)}.tsv"

    def _check_room(self, wanted: Sequence[tuple[Entry, Fetched]]) -> None:
        """Hold what is to come against what is free, disk by disk.

        An archive and what is unpacked of it are there at the same time, one archive at a time.
        """
        needs: dict[Path, int] = {}
        largest: dict[Path, int] = {}
        for entry, one in wanted:
            size = one.bytes or 0
            if entry.place:
                path = self._root / entry.place
                needs[path.parent] = needs.get(path.parent, 0) + size - _bytes_of(part_of(path))
                continue
            target = (self._root / entry.places[0]).parent
            needs[target] = needs.get(target, 0) + size
            path = self._archive_of(entry)
            left = size - max(_bytes_of(path), _bytes_of(part_of(path)))
            largest[path.parent] = max(largest.get(path.parent, 0), left)
        disks: dict[int, tuple[Path, int]] = {}
        for folder, size in [*needs.items(), *largest.items()]:
            there = _existing(folder)
            disk = there.stat().st_dev
            disks[disk] = (there, disks.get(disk, (there, 0))[1] + size)
        for folder, size in disks.values():
            free = shutil.disk_usage(folder).free
            if size > 0 and size + RESERVE_BYTES > free:
                raise DiskError(
                    f"the files need {size:,} bytes on the disk of {folder}, where {free:,} are "
                    "free",
                    hint="free some space, give another --root, or fetch a part with --only",
                )


def _bytes_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def _key(entry: Entry) -> str:
    return hashlib.sha256(entry.url.encode()).hexdigest()[:12]


def _joined(failed: Sequence[VisionIFTError], of: int) -> VisionIFTError:
    """One error for several: of the first one's kind."""
    first = failed[0]
    if len(failed) == 1:
        return first
    listed = "; ".join(error.message for error in failed[:5])
    more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
    return type(first)(
        f"{len(failed)} of {of} files are not there: {listed}{more}", hint=first.hint
    )
