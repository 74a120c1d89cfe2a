"""One push while it is under way: make, send, commit, and look whether it arrived."""

from __future__ import annotations

import functools
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from vision_ift._build import Progress
from vision_ift._errors import (
    IntegrityError,
    MissingInputError,
    RecordError,
    RefusedError,
    ServiceError,
    UsageError,
)
from vision_ift._push import from_export
from vision_ift._push.content import Content, ExportContent, RowsContent
from vision_ift._push.hub import MovedError, Repository, Sent, State, Stored
from vision_ift._push.parquet import Shard, write_shard
from vision_ift._push.readme import README, ConfigFacts, merged
from vision_ift._push.record import File, Record, encode, is_there, record_path, standing
from vision_ift._push.report import (
    Asked,
    PushReport,
    Seen,
    add_counts,
    facts_of,
    look,
    notes_of,
    obsolete,
    report_of,
)
from vision_ift._push.rows import Cut, Rows, shard_path
from vision_ift._run import local

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd

#: How often the commit is made anew because the branch has moved.
_TRIES = 5


class Pushing:
    """One push while it is under way.

    What was made or found in this run is kept by path, so that a commit that has to be made anew
    costs no byte.
    """

    def __init__(
        self,
        repository: Repository,
        content: Content,
        asked: Asked,
        folder: Path,
        progress: Progress,
    ) -> None:
        self._repository = repository
        self._content = content
        self._asked = asked
        self._folder = folder
        self._progress = progress
        self._shards: dict[str, Shard] = {}
        self._hashes: dict[str, tuple[str, str]] = {}
        self._additions: dict[str, CommitOperationAdd] = {}

    @property
    def title(self) -> str:
        """The commit's and the pull request's title."""
        return f"Push {self._content.config} with vision_ift"

    def run(self) -> PushReport:
        """Do it; again where somebody else commits in between."""
        state = self._begin()
        for _ in range(_TRIES):
            seen = look(self._repository, self._content, state)
            record, facts = self._bring(seen)
            if self._asked.strict:
                _refuse_dropped(record)
            try:
                return self._commit(seen, record, facts)
            except MovedError as error:
                said = str(error)
                state = self._repository.state()
        raise ServiceError(f"{said}: {_TRIES} times in a row", hint="run the same command again")

    def _begin(self) -> State:
        repository, asked = self._repository, self._asked
        if not repository.has_token:
            raise RefusedError(
                "the Hub takes a push only from somebody it knows, and there is no token",
                hint="log in with hf auth login, or give HF_TOKEN or --token-stdin",
            )
        state = repository.state()
        if not state.exists:
            repository.create(private=asked.private)
            state = repository.state()
        elif asked.private and not state.private:
            raise UsageError(
                f"{repository.name} is there and is public",
                hint="make it private on its page first, or leave out private",
            )
        if not state.branch and not asked.create_pr:
            repository.create_branch(state.commit)
            state = repository.state()
        return state

    # Making and sending

    def _bring(self, seen: Seen) -> tuple[Record, ConfigFacts]:
        """Make and send what the revision lacks; say what the configuration then is."""
        if isinstance(self._content, ExportContent):
            return self._bring_export(self._content, seen)
        return self._bring_rows(self._content, seen)

    def _bring_rows(self, content: RowsContent, seen: Seen) -> tuple[Record, ConfigFacts]:
        tasks, total = [], 0
        for rows, how in content.splits:
            there = standing(seen.record, seen.state.files, rows.split, how.key)
            for number in range(how.shards):
                path = shard_path(content.config, rows.split, number, how.shards)
                total += how.span(number)[1] - how.span(number)[0]
                if path in self._shards:
                    continue
                if path in there:
                    self._shards[path] = there[path]
                    continue
                tasks.append((rows, how, number, path))
        self._send_shards(tasks, total)
        for path, shard in list(self._shards.items()):
            # What was found there may have gone since.
            if path not in self._additions and not _stands(seen.state, shard):
                del self._shards[path]
                return self._bring_rows(content, seen)
        shards = sorted(self._shards.values(), key=lambda one: (one.split, one.number))
        if not any(shard.rows for shard in shards):
            raise MissingInputError(
                f"no row of {content.title} can be pushed (dropped: {_counted(shards)})",
                hint=f"see whether the pictures are under {content.splits[0][0].root}",
            )
        record = Record(
            config=content.config,
            kind="parquet",
            keys={rows.split: how.key for rows, how in content.splits},
            shards=shards,
        )
        return record, facts_of(content, shards, self._repository.name)

    def _send_shards(self, tasks: list[tuple[Rows, Cut, int, str]], total: int) -> None:
        """Make shards and send each while the next is made."""
        left = sum(how.span(number)[1] - how.span(number)[0] for _, how, number, _ in tasks)
        done = total - left
        self._progress("push", done, total)
        work = functools.partial(_write_one, self._folder, self._asked.strict)
        waiting: deque[tuple[int, Future[None]]] = deque()

        def finish_one() -> None:
            nonlocal done
            rows, sent = waiting.popleft()
            sent.result()
            done += rows
            self._progress("push", done, total)

        with ThreadPoolExecutor(1) as sender:
            spans = (how.span(number) for _, how, number, _ in tasks)
            for shard in local(min(self._asked.jobs, max(1, len(tasks))))(work, tasks):
                start, stop = next(spans)
                waiting.append((stop - start, sender.submit(self._send_shard, shard)))
                if len(waiting) > 1:
                    finish_one()
            while waiting:
                finish_one()

    def _send_shard(self, shard: Shard) -> None:
        if shard.sha256:
            self._send(shard.path, _temporary(self._folder, shard.path), shard.sha256, own=True)
        self._shards[shard.path] = shard

    def _send(self, path: str, file: Path, sha256: str, *, own: bool = False) -> None:
        addition = self._repository.addition(path, file, sha256)
        done = self._repository.upload(addition, pull_request=self._asked.create_pr)
        self._additions[path] = addition
        if done and own:
            file.unlink()

    def _bring_export(self, content: ExportContent, seen: Seen) -> tuple[Record, ConfigFacts]:
        folder, manifest, prefix = content.folder, content.manifest, content.prefix
        sizes = from_export.files_of(folder, manifest)
        known = from_export.recorded(manifest, prefix=prefix, record=seen.record)
        digests = {shard.name: shard.xxh3_128 for shard in manifest.shards}
        done, total = 0, sum(sizes.values())
        files = []
        for name, size in sizes.items():
            path = f"{prefix}{name}"
            found = self._hashes.get(name) or known.get(name)
            if found is None:
                found = from_export.hashed(folder / name, digests.get(name, ""))
            self._hashes[name] = found
            xxh3_128 = digests.get(name, "")
            file = File(
                path=path, sha256=found[0], bytes=size, git_sha1=found[1], xxh3_128=xxh3_128
            )
            if not is_there(seen.state.files, file, file.git_sha1) and path not in self._additions:
                self._send(path, folder / name, file.sha256)
            files.append(file)
            done += size
            self._progress("push", done, total)
        record = Record(
            config=content.config,
            kind="webdataset",
            keys={manifest.split: manifest.export_digest},
            files=files,
        )
        facts = from_export.facts(folder, manifest, config=content.config, prefix=prefix)
        return record, facts

    # The commit

    def _commit(self, seen: Seen, record: Record, facts: ConfigFacts) -> PushReport:
        repository, asked = self._repository, self._asked
        deleted = obsolete(seen.state, seen.record, seen.readme, record, facts)
        readme = merged(
            seen.readme, facts, repo=repository.name, set_default=asked.set_default
        ).encode()
        note = encode(record)
        beside = {record_path(record.config): note, README: readme}
        old = {record_path(record.config): seen.record and encode(seen.record)}
        old[README] = seen.readme.encode()
        additions = [
            addition
            for path, addition in self._additions.items()
            if path in record.paths and not self._is_there(seen.state, record, path)
        ]
        changed = bool(additions or deleted or any(old[path] != beside[path] for path in beside))
        sent = Sent(seen.state.commit, f"{repository.url}/commit/{seen.state.commit}", "")
        if changed:
            sent = self._open_already(record, note) or Sent("", "", "")
        if not sent.commit:
            additions += [repository.addition(path, data) for path, data in beside.items()]
            sent = repository.commit(
                additions,
                deleted,
                title=self.title,
                parent=seen.state.commit,
                pull_request=asked.create_pr,
            )
            self._check(sent, record)
        return report_of(
            self._repository,
            self._content,
            record,
            seen.state,
            deleted=deleted,
            commit=sent.commit,
            url=sent.url,
            pull_request=sent.pull_request,
            changed=changed,
            notes=notes_of(seen, facts),
        )

    def _is_there(self, state: State, record: Record, path: str) -> bool:
        (one,) = [one for one in record.blobs if one.path == path]
        return is_there(state.files, one, getattr(one, "git_sha1", ""))

    def _open_already(self, record: Record, note: bytes) -> Sent | None:
        """Find the pull request that an earlier run of the same opened and could not report."""
        if not self._asked.create_pr:
            return None
        for number, url in self._repository.pull_requests(self.title):
            state = self._repository.state(f"refs/pr/{number}")
            if self._repository.read(record_path(record.config), state) == note and _holds(
                state.files, record
            ):
                return Sent(state.commit, f"{self._repository.url}/commit/{state.commit}", url)
        return None

    def _check(self, sent: Sent, record: Record) -> None:
        """Read back what the commit holds."""
        if not _holds(self._repository.tree(sent.commit), record):
            raise IntegrityError(
                f"commit {sent.commit} of {self._repository.name} is not what was sent",
                hint="run the same command again",
            )


def _holds(files: dict[str, Stored], record: Record) -> bool:
    """Say whether a tree has all files of a record; of small ones only the size is known."""
    for one in record.blobs:
        there = files.get(one.path)
        if there is None or there.size != one.bytes or there.sha256 not in ("", one.sha256):
            return False
    return True


def _stands(state: State, shard: Shard) -> bool:
    return not shard.sha256 or is_there(state.files, shard)


def _temporary(folder: Path, path: str) -> Path:
    return folder / path.replace("/", "__")


def _write_one(folder: Path, strict: bool, task: tuple[Rows, Cut, int, str]) -> Shard:
    """Write one shard to the temporary folder; runs in any process."""
    rows, how, number, path = task
    return write_shard(rows, how, number, path, _temporary(folder, path), strict=strict)


def _counted(shards: list[Shard]) -> str:
    dropped: dict[str, int] = {}
    for shard in shards:
        add_counts(dropped, shard.dropped)
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(dropped.items()))


def _refuse_dropped(record: Record) -> None:
    """Stop at a row that an earlier push, which was not strict, left out of a shard."""
    for shard in record.shards:
        for reason in sorted(shard.dropped):
            named = shard.dropped_first[reason][0]
            raise RecordError(
                f"{named['image']}: left out of {shard.path} as {reason}",
                reason=reason,
                record=named["id"],
                hint="without strict it is dropped and counted",
            )
