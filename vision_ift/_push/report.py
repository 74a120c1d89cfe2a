"""What a push says of itself, and what it makes of a revision that it found."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from vision_ift._cards.text import split_card
from vision_ift._errors import IntegrityError
from vision_ift._push.content import Content, ExportContent, RowsContent
from vision_ift._push.hub import Repository, State
from vision_ift._push.parquet import Shard, Share
from vision_ift._push.readme import (
    README,
    ConfigFacts,
    SplitFacts,
    configs_of,
    files_of,
    is_of,
    parquet_facts,
    refuse_other_kinds,
)
from vision_ift._push.record import Record, is_there, read, record_path

#: No file of a configuration, whatever a record says.
_NEVER = frozenset({README, ".gitattributes", ".gitignore", "LICENSE"})

#: Endings of files that `datasets` loads where no card names them.
_DATA = (".parquet", ".arrow", ".tar", ".jsonl", ".json", ".csv")


class PushedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the configuration.

    Attributes:
        path: In the repository.
        bytes: Its size; about, where ``sha256`` is empty.
        rows: Conversations in it; 0 where it is no shard.
        sha256: Empty where it is not made yet (``dry_run``).
        there: Whether the revision held just this file already.
    """

    path: str
    bytes: int
    rows: int = 0
    sha256: str = ""
    there: bool = False


class PushReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was pushed, or would be; JSON-able by ``msgspec.to_builtins``.

    Attributes:
        repo, revision, config, kind: Where to, and as what: ``parquet`` or ``webdataset``.
        rows, images: Conversations and pictures; pictures are 0 where nothing was made yet.
        dropped: Reason to number of rows left out.
        files: The data files, without card and record.
        bytes, new_bytes: Of all of them, and of those that the revision did not hold.
        deleted: Files of the configuration's older form that the commit removes.
        commit, url, pull_request: What was made of it; empty in a dry run.
        changed: Whether there was anything to commit.
        card: The README's head as it would be, in a dry run.
        notes: What to know besides.
    """

    schema_version: int
    repo: str
    revision: str
    config: str
    kind: str
    rows: int
    images: int
    dropped: dict[str, int]
    files: list[PushedFile]
    bytes: int
    new_bytes: int
    deleted: list[str]
    commit: str = ""
    url: str = ""
    pull_request: str = ""
    changed: bool = True
    dry_run: bool = False
    card: str = ""
    notes: list[str] = []


class Asked(NamedTuple):
    private: bool | None
    create_pr: bool
    set_default: bool | None
    strict: bool
    jobs: int


class Seen(NamedTuple):
    """A revision, with what it says of this configuration and of the others."""

    state: State
    record: Record | None
    readme: str


def look(repository: Repository, content: Content, state: State) -> Seen:
    path = record_path(content.config)
    try:
        readme = (repository.read(README, state) or b"").decode("utf-8")
    except UnicodeDecodeError as error:
        raise IntegrityError(
            f"{README} of {repository.name} is not UTF-8 ({error.reason} at byte {error.start})",
            hint="mend it by hand",
        ) from None
    refuse_other_kinds(readme, content.config, "tar" if is_export(content) else "parquet")
    return Seen(state, read(repository.read(path, state), path), readme)


def is_export(content: Content) -> bool:
    return isinstance(content, ExportContent)


def report_of(
    repository: Repository,
    content: Content,
    record: Record,
    state: State,
    *,
    deleted: list[str],
    **more: Any,
) -> PushReport:
    dropped: dict[str, int] = {}
    for shard in record.shards:
        add_counts(dropped, shard.dropped)
    files = [
        PushedFile(
            path=one.path,
            bytes=one.bytes,
            rows=one.rows if isinstance(one, Shard) else 0,
            sha256=one.sha256,
            there=is_there(state.files, one, getattr(one, "git_sha1", "")),
        )
        for one in record.blobs
    ]
    manifest = content.manifest if isinstance(content, ExportContent) else None
    return PushReport(
        schema_version=1,
        repo=repository.name,
        revision=repository.revision,
        config=content.config,
        kind=record.kind,
        rows=manifest.rows if manifest else sum(one.rows for one in record.shards),
        images=manifest.images if manifest else sum(one.images for one in record.shards),
        dropped=manifest.dropped if manifest else dropped,
        files=files,
        bytes=sum(one.bytes for one in files),
        new_bytes=sum(one.bytes for one in files if not one.there),
        deleted=deleted,
        **more,
    )


def obsolete(
    state: State, before: Record | None, readme: str, record: Record, facts: ConfigFacts
) -> list[str]:
    """List the files of the configuration's older form, which the new one replaces."""
    entries = configs_of(split_card(readme)[0])
    names = {entry["config_name"] for entry in facts.entries}
    paths = list(state.files)
    old: set[str] = set(before.paths) if before is not None else set()
    others: set[str] = set()
    for entry in entries:
        mine = entry.get("config_name") in names or is_of(entry, record.config)
        (old if mine else others).update(files_of(entry, paths))
    # What stands in a record is only what somebody wrote there.
    kept = {path for path in old if path in _NEVER or path.startswith(".vision_ift/")}
    return sorted((old & set(paths)) - others - kept - record.paths)


def facts_of(content: RowsContent, shards: list[Shard], repo: str) -> ConfigFacts:
    splits: dict[str, SplitFacts] = {}
    shares: dict[str, Share] = {}
    dropped: dict[str, int] = {}
    for rows, _ in content.splits:
        mine = [one for one in shards if one.split == rows.split and one.rows]
        if mine:
            splits[rows.split] = SplitFacts(
                sum(one.rows for one in mine),
                sum(one.row_bytes for one in mine),
                sum(one.bytes for one in mine),
            )
    for shard in shards:
        add_counts(dropped, shard.dropped)
        for source, share in shard.shares.items():
            whole = shares.setdefault(source, Share())
            whole.rows += share.rows
            whole.images += share.images
            add_counts(whole.licenses, share.licenses)
            add_counts(whole.languages, share.languages)
    return parquet_facts(
        content.config,
        repo=repo,
        title=content.title,
        digest=content.digest,
        splits=splits,
        shares=dict(sorted(shares.items())),
        dropped=dropped,
    )


def add_counts(counts: dict[str, int], more: dict[str, int]) -> None:
    for word, count in more.items():
        counts[word] = counts.get(word, 0) + count


def notes_of(seen: Seen, facts: ConfigFacts) -> list[str]:
    """Say what becomes of data that the README does not name."""
    if configs_of(split_card(seen.readme)[0]):
        return []
    known = set(seen.record.paths) if seen.record else set()
    hidden = [
        path
        for path in seen.state.files
        if path.endswith(_DATA) and path not in known and not path.startswith(".vision_ift/")
    ]
    if not hidden:
        return []
    return [
        (
            f"{len(hidden):,} data files that no configuration names, such as {hidden[0]}, are no "
            f"longer loaded by default: from now on the card names {facts.name}"
        )
    ]
