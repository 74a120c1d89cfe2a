"""What a push would do: a dry run makes nothing and sends nothing."""

from __future__ import annotations

from vision_ift._errors import ServiceError
from vision_ift._push import from_export
from vision_ift._push.content import Content, ExportContent, RowsContent
from vision_ift._push.hub import UNKNOWN, Repository
from vision_ift._push.parquet import Shard
from vision_ift._push.readme import ConfigFacts, merged
from vision_ift._push.record import File, Record, standing
from vision_ift._push.report import (
    Asked,
    PushedFile,
    PushReport,
    Seen,
    facts_of,
    look,
    notes_of,
    obsolete,
)
from vision_ift._push.rows import shard_path


def foresee(repository: Repository, content: Content, asked: Asked) -> PushReport:
    """Say what a push would do; nothing is made and nothing is sent."""
    notes = []
    try:
        seen = look(repository, content, repository.state())
        if not seen.state.exists:
            notes.append(
                f"{repository.name} is not there, or is hidden from us; it would be created"
                f"{' private' if asked.private else ''}"
            )
        elif not seen.state.branch:
            notes.append(f"the branch {repository.revision} would be created")
    except ServiceError as error:
        seen = Seen(UNKNOWN, None, "")
        notes.append(f"what the repository holds is not known ({error.message})")
    if isinstance(content, ExportContent):
        files, facts, paths = _foresee_export(content, seen)
    else:
        files, facts, paths = _foresee_rows(content, seen, repository.name)
    record = Record(config=content.config, kind="", keys={}, files=paths)
    card = merged(seen.readme, facts, repo=repository.name, set_default=asked.set_default)
    return PushReport(
        schema_version=1,
        repo=repository.name,
        revision=repository.revision,
        config=content.config,
        kind="webdataset" if isinstance(content, ExportContent) else "parquet",
        rows=facts.rows,
        images=facts.images,
        dropped={},
        files=files,
        bytes=sum(one.bytes for one in files),
        new_bytes=sum(one.bytes for one in files if not one.there),
        deleted=obsolete(seen.state, seen.record, seen.readme, record, facts),
        dry_run=True,
        card=card.partition("\n---\n")[0] + "\n---",
        notes=notes + notes_of(seen, facts),
    )


def _foresee_rows(
    content: RowsContent, seen: Seen, repo: str
) -> tuple[list[PushedFile], ConfigFacts, list[File]]:
    shards = []
    files = []
    for rows, how in content.splits:
        there = standing(seen.record, seen.state.files, rows.split, how.key)
        for number in range(how.shards):
            start, stop = how.span(number)
            path = shard_path(content.config, rows.split, number, how.shards)
            about = Shard(path=path, split=rows.split, number=number, rows=stop - start)
            about.bytes = about.row_bytes = how.bytes_of(number)
            shard = there.get(path, about)
            shards.append(shard)
            if shard.rows:
                files.append(
                    PushedFile(
                        path=path,
                        bytes=shard.bytes,
                        rows=shard.rows,
                        sha256=shard.sha256,
                        there=path in there,
                    )
                )
    named = [File(path=one.path, sha256="-", bytes=one.bytes) for one in files]
    return files, facts_of(content, shards, repo), named


def _foresee_export(
    content: ExportContent, seen: Seen
) -> tuple[list[PushedFile], ConfigFacts, list[File]]:
    folder, manifest, prefix = content.folder, content.manifest, content.prefix
    known = from_export.recorded(manifest, prefix=prefix, record=seen.record)
    rows = {shard.name: shard.rows for shard in manifest.shards}
    files = []
    for name, size in from_export.files_of(folder, manifest).items():
        found = known.get(name) or from_export.hashed(folder / name)
        stored = seen.state.files.get(f"{prefix}{name}")
        files.append(
            PushedFile(
                path=f"{prefix}{name}",
                bytes=size,
                rows=rows.get(name, 0),
                sha256=found[0],
                there=stored is not None and stored.holds(size, *found),
            )
        )
    named = [File(path=one.path, sha256="-", bytes=one.bytes) for one in files]
    facts = from_export.facts(folder, manifest, config=content.config, prefix=prefix)
    return files, facts, named
