"""Whether an export is still what was written, and making it so again.

Always: manifest, layout, plan, recipe, records and index agree and have their digests; every shard
is there with its size and its first and last header; no tar is there that nobody named; the files
for other readers are what the index gives. On request: every byte of every shard, or of a share of
them; reading all, also what SQLite's index holds and how the index's parts are encoded.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import msgspec

from vision_ift._build import Progress, silent
from vision_ift._conversation import SCHEMA_VERSION
from vision_ift._disk import write_file
from vision_ift._errors import (
    IntegrityError,
    LockedError,
    MissingInputError,
    UsageError,
    VisionIFTError,
    unopened,
)
from vision_ift._export.manifest import LAYOUT, LOCK, MANIFEST, OWN
from vision_ift._plan.plan import Plan
from vision_ift._recipe.recipe import Recipe
from vision_ift._run import local
from vision_ift._verify.beside import check_beside
from vision_ift._verify.finding import Finding, found, opened, read_at, read_bytes, tars
from vision_ift._verify.own import stand
from vision_ift._verify.readers import ReaderVerdict, judge
from vision_ift._verify.shard import Asked, check_shard
from vision_ift._verify.standing import Mended, Standing, positions_told

#: SHA-256 of every shard, in the form that ``sha256sum -c`` reads.
SHA256 = "SHA256SUMS"


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a check of an export found; JSON-able by ``msgspec.to_builtins``.

    Attributes:
        path: The folder.
        name, plan_digest, export_digest: What it holds, as the manifest says.
        sound: Whether nothing is wrong (any more, after a repair).
        rows, images, bytes, shards: What the manifest names.
        shards_read, bytes_read: How much of that was read byte by byte.
        findings: What is wrong, after a repair: what is still wrong.
        repaired: Files that were written again.
        restored: For each shard that was written again: which of its bytes had been others, and
            of which conversations and members.
        sha256: ``written`` or ``checked`` where that was asked, else empty.
        readers: What other readers make of the export, where that was asked.
    """

    schema_version: int = SCHEMA_VERSION
    path: str
    name: str
    plan_digest: str
    export_digest: str
    sound: bool
    rows: int
    images: int
    bytes: int
    shards: int
    shards_read: int
    bytes_read: int
    findings: list[Finding]
    repaired: list[str] = []
    restored: list[Finding] = []
    sha256: str = ""
    readers: list[ReaderVerdict] = []


def verify(
    path: Path | str,
    *,
    read_data: bool = False,
    share: Fraction | float | str | None = None,
    repair: bool = False,
    sha256: bool = False,
    readers: bool = False,
    root: Path | str | None = None,
    tables: Path | str | None = None,
    recipe: Recipe | Plan | str | Path | None = None,
    jobs: int = 1,
    progress: Progress = silent,
) -> VerifyReport:
    """Check an export; say what is damaged, down to the rows; repair it if asked.

    Args:
        path: The export's folder, or a link to it, which is followed once at the start: one that
            is turned to another export meanwhile changes nothing.
        read_data: Read every byte of every shard, and all that ``index.sqlite`` holds.
        share: Read only so much of them (``"5%"`` or 0.05): the same shards every time, and those
            of a smaller share are among those of a larger one.
        repair: Read the data and write what is damaged anew, and nothing else. Shards need the
            sources; files beside the shards do not.
        sha256: Compare every shard with ``SHA256SUMS``, or write that file where there is none.
        readers: Say which other readers read this export.
        root, tables: For ``repair``: where the authors' files and the tables are.
        recipe: For ``repair``: the recipe, plan or plan's lock, if not the one in the export.
        jobs: Processes.
        progress: Told how many shards are done.

    Returns:
        A report; damage is in its ``findings``, not raised.

    Raises:
        MissingInputError: There is no export, or it is unfinished; to repair, sources are gone.
        LockedError: It is being written.
        IntegrityError: With ``repair``: what the sources give now is not what was exported.

    >>> verify("nowhere")
    Traceback (most recent call last):
    vision_ift._errors.MissingInputError: there is no folder nowhere
    """
    if share is not None and (sha256 or repair):
        raise UsageError("share goes with neither sha256 nor repair: those read everything")
    part = share_of(share) if share is not None else Fraction(read_data or repair or sha256)
    try:
        folder = Path(path).resolve()
        if not folder.is_dir():
            raise MissingInputError(f"there is no folder {path}")
        standing, mended = _looked_at(
            folder,
            part,
            repair=repair,
            sha256=sha256,
            root=root,
            tables=tables,
            recipe=recipe,
            jobs=jobs,
            progress=progress,
        )
        stamp = _sha256(folder, standing) if sha256 else ""
    except OSError as error:
        if isinstance(error, VisionIFTError):
            raise
        raise unopened(str(error.filename or path), error) from error
    return _report(str(path), standing, mended, stamp, readers=readers)


def _looked_at(
    folder: Path,
    part: Fraction,
    *,
    repair: bool,
    sha256: bool,
    root: Path | str | None,
    tables: Path | str | None,
    recipe: Recipe | Plan | str | Path | None,
    jobs: int,
    progress: Progress,
) -> tuple[Standing, Mended]:
    """Look at an export, and mend it where that is asked."""
    refuse_being_written(folder)
    seen = functools.partial(look, folder, sha256=sha256, jobs=jobs, progress=progress)
    if repair:
        from vision_ift._verify.repair import mend

        return mend(
            folder,
            lambda whole: seen(part=Fraction(whole or sha256), thorough=True),
            root=root,
            tables=tables,
            recipe=recipe,
            jobs=jobs,
            progress=progress,
        )
    before = _marks(folder)
    standing = seen(part=part, thorough=part == 1)
    if standing.findings:
        refuse_being_written(folder)
        if _marks(folder) != before:
            raise LockedError(
                f"{folder} was written while it was read", hint="run the command again"
            )
    return standing, Mended([], [])


def share_of(share: Fraction | float | str) -> Fraction:
    """Read a share: ``"5%"``, ``"0.05"``, ``"1/20"`` or a number above 0 and up to 1.

    >>> share_of("5%")
    Fraction(1, 20)
    """
    try:
        text = str(share).strip()
        part = Fraction(text[:-1]) / 100 if text.endswith("%") else Fraction(text)
    except (ValueError, ZeroDivisionError):
        part = Fraction(0)
    if not 0 < part <= 1:
        raise UsageError(f"share {share!r} is none", hint="give 5% or 0.05, up to 100%")
    return part


def refuse_being_written(folder: Path) -> None:
    """Raise where somebody holds the export's lock.

    Raises:
        LockedError: The message names them.
    """
    locks = [folder / LOCK, *sorted((folder / OWN).glob(".*.lock"))]
    for path in locks:
        with suppress(MissingInputError, IntegrityError):
            name = path.relative_to(folder).as_posix()
            with opened(folder, name) as descriptor:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    owner = read_at(descriptor, 0, 200).decode("utf-8", "replace").strip()
                    raise LockedError(
                        f"{folder} is being written by {owner or 'another process'}",
                        hint="wait for it to finish, then verify",
                    ) from None


def _marks(folder: Path) -> list[tuple[int, int]]:
    """What changes when an export is written: the identity of its first and last file."""
    marks = []
    for name in (LAYOUT, MANIFEST):
        with suppress(OSError):
            found_now = (folder / name).lstat()
            marks.append((found_now.st_ino, found_now.st_mtime_ns))
    return marks


def drawn(names: list[str], part: Fraction) -> set[str]:
    """Draw a share of shards by a hash of their names: at least one, nested, always the same."""
    count = -(-len(names) * part.numerator // part.denominator)
    by_hash = sorted(names, key=lambda name: (hashlib.sha256(name.encode()).digest(), name))
    return set(by_hash[:count])


def look(
    folder: Path,
    *,
    part: Fraction,
    sha256: bool,
    jobs: int,
    progress: Progress,
    thorough: bool = False,
) -> Standing:
    """Look at an export once, writing nothing.

    Args:
        folder: The export.
        part: The share of the shards whose bytes are read.
        sha256, jobs, progress: As for :func:`verify`.
        thorough: Also look into what takes as long as the export has rows: SQLite's index, and
            how the index's parts are encoded.
    """
    standing = stand(folder, thorough=thorough)
    shards = standing.shards
    names = {number: shard.name for number, shard in shards.items()}
    whole = drawn(list(names.values()), part)
    tasks = [
        Asked(number, shard, standing.parts.get(number), shard.name in whole, sha256)
        for number, shard in sorted(shards.items())
    ]
    work = functools.partial(check_shard, folder)
    answers = standing.answers
    for answer in local(min(jobs, max(1, len(whole))))(work, tasks):
        answers.append(answer)
        progress("verify", len(answers), len(tasks))
    by_digest = {shard.xxh3_128: shard.name for shard in shards.values()}
    for answer in answers:
        other = by_digest.get(answer.xxh3_128, answer.name)
        standing.findings += [
            msgspec.structs.replace(
                one,
                detail=f"it holds the bytes of {other}",
                places=[],
                rows=shards[answer.number].rows,
            )
            if other != answer.name and one.kind in ("digest", "size")
            else one
            for one in answer.findings
        ]
    _note_extra(standing, set(names.values()))
    _note_uncounted(standing)
    standing.findings += check_beside(standing, thorough=thorough)
    return standing


def _note_extra(standing: Standing, names: set[str]) -> None:
    missing = {one.file for one in standing.findings if one.kind == "missing"}
    for name in tars(standing.folder):
        if name in names:
            continue
        like = [
            shard.name
            for shard in standing.shards.values()
            if shard.name in missing and _size(standing.folder, name) == shard.bytes
        ]
        also = f"; it has the size of {like[0]}, which is not there" if len(like) == 1 else ""
        standing.add("extra", name, f"the manifest does not name it{also}")


def _size(folder: Path, name: str) -> int:
    try:
        with opened(folder, name) as descriptor:
            return os.fstat(descriptor).st_size
    except (IntegrityError, MissingInputError):
        return -1


def _note_uncounted(standing: Standing) -> None:
    layout = standing.layout
    if layout is None or len(standing.records) != layout.shards:
        return
    told = positions_told(standing)
    if told != layout.rows:
        standing.add(
            "layout", LAYOUT, f"the plan has {layout.rows:,} rows, the records tell of {told:,}"
        )


def _sha256(folder: Path, standing: Standing) -> str:
    """Compare the shards with ``SHA256SUMS``, or write it where all shards are sound."""
    right = {one.name: one.sha256 for one in standing.answers if one.sha256}
    try:
        data = read_bytes(folder, SHA256)
    except MissingInputError:
        if standing.findings:
            return ""  # digests of damage would make it look sound
        text = "".join(f"{digest}  {name}\n" for name, digest in right.items())
        write_file(folder / SHA256, text.encode())
        return "written"
    except IntegrityError as error:
        standing.findings.append(found(error, SHA256, otherwise="sha256"))
        return ""
    noted = {}
    for line in data.decode("utf-8", "replace").splitlines():
        digest, _, name = line.partition("  ")
        noted[name] = digest
    for name, digest in right.items():
        if noted.get(name) != digest:
            detail = f"its SHA-256 is {digest}, {SHA256} says {noted.get(name, 'nothing')[:80]}"
            standing.findings.append(Finding(kind="sha256", file=name, detail=detail))
    for name in sorted(set(noted) - set(right)):
        if name not in {one.name for one in standing.answers}:
            detail = f"it names {name[:100]!r}, which is no shard"
            standing.findings.append(Finding(kind="sha256", file=SHA256, detail=detail))
    return "checked"


def _report(
    path: str, standing: Standing, mended: Mended, stamp: str, *, readers: bool
) -> VerifyReport:
    manifest = standing.manifest
    shards = standing.shards.values()
    read = [one for one in standing.answers if one.xxh3_128]
    verdicts = []
    if readers and manifest is not None:
        verdicts = judge(manifest, standing.parts, standing.findings)
    return VerifyReport(
        path=path,
        name=manifest.name if manifest is not None else "",
        plan_digest=manifest.plan_digest if manifest is not None else "",
        export_digest=manifest.export_digest if manifest is not None else "",
        sound=not standing.findings,
        rows=sum(one.rows for one in shards),
        images=sum(one.images for one in shards),
        bytes=sum(one.bytes for one in shards),
        shards=len(shards),
        shards_read=len(read),
        bytes_read=sum(one.read for one in read),
        findings=standing.findings,
        repaired=mended.files,
        restored=mended.restored,
        sha256=stamp,
        readers=verdicts,
    )
