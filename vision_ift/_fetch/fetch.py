"""Brings a source's files under ROOT, verified, or says what to fetch by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path

from vision_ift import _registry
from vision_ift._build import Progress, default_root, silent
from vision_ift._disk import explained, locked
from vision_ift._errors import LockedError, ServiceError, UsageError
from vision_ift._fetch.bring import ASK, WORK, Bringer, Fetched, found_as
from vision_ift._fetch.download import Clock, Downloads, Patience
from vision_ift._fetch.hub_tree import HUB, latest, secret, tree
from vision_ift._locks import Entry, FetchLock, Got, HubPart, Lock, shipped_lock

#: Told everything that was found, before the first byte is fetched.
Announce = Callable[[Sequence[Fetched]], None]


def fetch(
    source: str,
    *,
    root: Path | str | None = None,
    dry_run: bool = False,
    only: str | None = None,
    update: bool = False,
    announce: Announce | None = None,
    progress: Progress = silent,
    patience: Patience | None = None,
    clock: Clock | None = None,
) -> list[Fetched]:
    """Bring a source's files under ROOT, and list what has to be fetched by hand.

    A file gets its name only when its length and digest are right. What is there is held against
    ``ROOT/<source>/fetch.lock.json`` and kept; a download that broke off goes on where it stopped.
    Where the authors ask for an account on the Hub, its token is read from ``HF_TOKEN`` alone.

    Args:
        source: The source's name.
        root: ROOT; ``None``: ``VISION_IFT_ROOT``, else ``~/.cache/vision_ift/sources``.
        dry_run: Only say what would be fetched; nothing is written, and what is there is compared
            by size.
        only: A pattern (``*annotations*``); files whose place or url match it are fetched, those on
            request among them.
        update: Take the Hub's newest files, and replace those that differ.
        announce: Told everything that was found, before the first byte is fetched.
        progress: Told how many bytes of a file are there.
        patience, clock: Tries, waits and deadlines.

    Raises:
        UnknownNameError: No such source.
        UsageError: ``only`` matches nothing.
        ServiceError: A server refuses or does not answer; the other files are fetched first.
        IntegrityError: Bytes are not those that were published or recorded.
        MissingInputError: The Hub's repository has none of the files any more.
        DiskError: The disk is full, or has too little room for what is to come.
        LockedError: Another fetch of this source is running.
    """
    builder = _registry.find(source)
    root = Path(root).expanduser() if root is not None else default_root()
    shipped = shipped_lock(builder)
    by_hand = [Fetched(state="by_hand", note=line) for line in shipped.by_hand]
    if not shipped.files and not shipped.hub:
        return by_hand
    folder = root / source
    with (
        Downloads(patience=patience, clock=clock, secret=secret()) as downloads,
        ExitStack() as stack,
    ):
        lock = FetchLock.read(folder, source)
        listing = _Listing(source, shipped, lock, downloads)
        entries, notes = listing.all(only=only, update=update)
        if not dry_run:
            with explained(folder):
                (folder / WORK).mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder / WORK / "lock"))
            if FetchLock.read(folder, source) != lock:
                raise LockedError(f"{folder} was being fetched just now", hint="try again")
            lock.revisions.update(listing.revisions)
        bringer = Bringer(root, folder, lock, downloads, progress, update=update, dry_run=dry_run)
        now = [one for one in entries if only is not None or not one.on_request]
        later = [found_as(one, "on_request", ASK) for one in entries if one not in now]
        rest = [*notes, *later, *by_hand]
        found = bringer.look(now)
        if announce is not None:
            announce([*found, *rest])
        if not dry_run:
            found = bringer.bring(now, found)
    return [*found, *rest]


class _Listing:
    """Which files there are to fetch: those of the shipped lock, and the Hub's at one commit."""

    def __init__(self, source: str, shipped: Lock, lock: FetchLock, downloads: Downloads) -> None:
        self._source = source
        self._shipped = shipped
        self._lock = lock
        self._downloads = downloads
        self.revisions: dict[str, str] = {}

    def all(self, *, only: str | None, update: bool) -> tuple[list[Entry], list[Fetched]]:
        entries = list(self._shipped.files)
        notes: list[Fetched] = []
        for part in self._shipped.hub:
            if part.on_request and only is None:
                page = f"{HUB}/datasets/{part.repository}"
                notes.append(
                    Fetched(
                        state="on_request",
                        place=", ".join(f"{self._source}/{name}" for name in part.files),
                        url=page,
                        license=part.license,
                        license_url=page,
                        note=ASK,
                    )
                )
                continue
            entries.extend(self._of_hub(part, notes, update=update))
        if only is not None:
            entries = [one for one in entries if _matches(only, one)]
            if not entries:
                raise UsageError(
                    f"no file of source {self._source} matches --only {only}",
                    hint="vision-ift fetch --dry-run lists them; * stands for anything",
                )
        return entries, notes

    def _of_hub(self, part: HubPart, notes: list[Fetched], *, update: bool) -> list[Entry]:
        pinned = self._lock.revisions.get(part.repository)
        if pinned is None or update:
            revision = latest(part, self._downloads)
            self.revisions[part.repository] = revision
            return list(tree(part, revision, self._downloads, source=self._source).entries)
        try:
            entries = list(tree(part, pinned, self._downloads, source=self._source).entries)
            newest = latest(part, self._downloads)
            if newest != pinned:
                newer = tree(part, newest, self._downloads, source=self._source).entries
                notes.extend(_changes(entries, newer, newest))
        except ServiceError as error:
            known = [
                self._recorded(one)
                for one in self._lock.files.values()
                if part.repository in one.url
            ]
            if not known:
                raise
            notes.append(
                Fetched(state="changed", note=f"not known, the Hub was not asked: {error.message}")
            )
            return known
        return entries

    @staticmethod
    def _recorded(got: Got) -> Entry:
        return Entry(
            url=got.url,
            place=got.place,
            bytes=got.bytes,
            sha256=got.sha256,
            license=got.license,
            license_url=got.license_url,
        )


def _matches(only: str, entry: Entry) -> bool:
    return any(
        fnmatchcase(one, only) for one in (*entry.places, entry.url, entry.url.rpartition("/")[2])
    )


def _changes(entries: Sequence[Entry], newer: Sequence[Entry], newest: str) -> list[Fetched]:
    now = {one.place: one for one in newer}
    changed = []
    for one in entries:
        other = now.get(one.place)
        same = other is not None and (other.bytes, other.sha256, other.git_sha1) == (
            one.bytes,
            one.sha256,
            one.git_sha1,
        )
        if not same:
            what = "has other bytes" if other else "is gone"
            note = f"it {what} at the Hub's commit {newest[:12]}; --update takes that commit"
            changed.append(found_as(other or one, "changed", note))
    return changed
