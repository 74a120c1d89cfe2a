"""Where MM-Instruct's training pictures lie: found by name, wherever their owners' tools put them.

The records name pictures of two sets that the authors do not ship: DataComp-1B by uid (32 hex
digits) and SA-1B by ``sa_<number>``. They are looked for, one after the other, as

* loose files, in the sets' folders or one folder below, under any of a picture's endings;
* pictures that img2dataset saved under running numbers, whose uid stands in the shard's Parquet
  (``00000.parquet``: ``key``, ``uid``) or in the JSON beside each (``uid``, else ``key``): folders
  ``00000/000000000.jpg`` and tars ``00000.tar``;
* members of SA-1B's tars.

Only the names that records ask for are kept, so that a set of any size costs what they cost.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from vision_ift import Dropped, RecordError
from vision_ift._archives.archive import SCHEME, quote_member
from vision_ift._archives.ranges import LocalFile
from vision_ift._archives.tar import Tar
from vision_ift._errors import MissingInputError
from vision_ift._fetch.sa1b import FOLDERS as SA1B_FOLDERS
from vision_ift._fetch.sa1b import held, tars_of
from vision_ift._pictures.images import read_file, safe_path

from ._bare_names import PICTURE_ENDS, bare_name
from ._llava_records import records_of
from ._llava_rows import paths_of
from ._pictures import Pictures

DATACOMP_FOLDERS = (
    "mm_instruct/datacomp",
    "mm_instruct/datacomp/images",
    "datacomp",
    "datacomp/images",
)

#: The largest JSON of one picture that is read, and the most rows of a shard's Parquet.
_MAX_NOTE_BYTES = 1 << 20
_MOST_ROWS = 10_000_000


class _Note(msgspec.Struct):
    """What img2dataset writes beside a picture."""

    uid: str | None = None
    key: str | None = None


class Located(NamedTuple):
    """Bare name to reference, and what could not be read on the way."""

    references: dict[str, str]
    dropped: list[Dropped]


def wanted_of(files: Iterable[Path], pictures: Pictures) -> set[str]:
    """List the bare names of the pictures that are not found by their paths."""
    wanted: set[str] = set()
    for file in files:
        for record in records_of(file):
            try:
                wanted.update(bare_name(path) for path in paths_of(record) if _lost(path, pictures))
            except RecordError:  # dropped for it where it is read for a row
                continue
    return wanted


def locate(root: Path, wanted: set[str]) -> Located:
    """Find pictures by their bare names."""
    left = set(wanted)
    references: dict[str, str] = {}
    dropped: list[Dropped] = []

    def take(found: Iterable[tuple[str, str]]) -> None:
        for name, reference in found:
            if name in left:
                left.discard(name)
                references[name] = reference

    for folder in (*DATACOMP_FOLDERS, *SA1B_FOLDERS):
        if left:
            take(_loose(root, folder))
    for folder in DATACOMP_FOLDERS:
        for shard in _subfolders(root / folder):
            if left:
                take(_numbered_files(root, f"{folder}/{shard}", dropped))
    for tar in tars_of(root, DATACOMP_FOLDERS):
        if left:
            take(_numbered_members(root, tar, left, dropped))
    if left:
        found = held(root, left)
        take(found.references.items())
        dropped += [_unread(tar, damage) for tar, damage in found.damaged.items()]
    return Located(references, dropped)


def write_lookup(path: Path, references: dict[str, str]) -> None:
    """Write the file that ``Places.lookup`` names."""
    names = sorted(references)
    table = pa.table(
        [pa.array(names, pa.string()), pa.array([references[name] for name in names], pa.string())],
        names=["name", "reference"],
    )
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _lost(path: str, pictures: Pictures) -> bool:
    try:
        return pictures.find(path) is None
    except RecordError:
        return False


def _loose(root: Path, folder: str) -> Iterator[tuple[str, str]]:
    yield from _pictures_in(root, folder)
    for below in _subfolders(root / folder):
        yield from _pictures_in(root, f"{folder}/{below}")


def _pictures_in(root: Path, folder: str) -> Iterator[tuple[str, str]]:
    for name in _names(root / folder):
        if name.rpartition(".")[2].lower() in PICTURE_ENDS:
            yield bare_name(name), f"{folder}/{name}"


def _numbered_files(root: Path, folder: str, dropped: list[Dropped]) -> Iterator[tuple[str, str]]:
    """The pictures of an unpacked shard by the uid that img2dataset noted."""
    files = dict(_pictures_in(root, folder))
    uids = _listed_uids(root / f"{folder}.parquet")
    if uids is None and files:
        uids = {}
        for name in _names(root / folder):
            key, _, end = name.rpartition(".")
            if end == "json" and key in files:
                note = _noted(root / folder / name, f"{folder}/{name}", dropped)
                uids[key] = note
    for key in sorted(uids or {}):
        if key in files and uids and (uid := uids[key]):
            yield uid, files[key]


def _numbered_members(
    root: Path, tar: str, left: set[str], dropped: list[Dropped]
) -> Iterator[tuple[str, str]]:
    """The pictures of a tar, by their names or by the uid that img2dataset noted."""
    try:
        archive = Tar(LocalFile(str(root / tar)))  # not kept: there may be hundreds
    except RecordError as error:
        dropped.append(_unread(tar, error.detail))
        return
    if archive.damage:
        dropped.append(_unread(tar, archive.damage))
    pictures: dict[str, str] = {}
    notes: dict[str, str] = {}
    for member in archive:
        stem, _, end = member.rpartition(".")
        if end.lower() in PICTURE_ENDS:
            pictures.setdefault(stem, member)
            yield bare_name(member), f"{SCHEME}{tar}!/{quote_member(member)}"
        elif end == "json":
            notes[stem] = member
    uids = _listed_uids((root / tar).with_suffix(".parquet"))
    for stem, member in pictures.items():
        if not left:
            return
        if uids is not None:
            uid = uids.get(stem.rpartition("/")[2])
        else:
            uid = _noted_member(archive, notes[stem], tar, dropped) if stem in notes else None
        if uid:
            yield uid, f"{SCHEME}{tar}!/{quote_member(member)}"


def _listed_uids(path: Path) -> dict[str, str | None] | None:
    """Key to uid as a shard's Parquet says; ``None`` where it does not."""
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if not {"key", "uid"} <= set(names) or file.metadata.num_rows > _MOST_ROWS:
                return None
            rows = file.read(columns=["key", "uid"])
            keys, uids = (rows[name].cast(pa.string()).to_pylist() for name in ("key", "uid"))
    except (OSError, pa.ArrowException):
        return None
    return {key: uid for key, uid in zip(keys, uids, strict=True) if key}


def _noted(path: Path, file: str, dropped: list[Dropped]) -> str | None:
    try:
        if path.stat().st_size > _MAX_NOTE_BYTES:
            raise RecordError("it is too large for what img2dataset notes", reason="bad_record")
        return _uid(read_file(path))
    except RecordError as error:
        dropped.append(Dropped.of(error, file=file))
    except MissingInputError as error:
        dropped.append(Dropped(reason="missing_image", file=file, detail=error.message))
    return None


def _noted_member(archive: Tar, member: str, tar: str, dropped: list[Dropped]) -> str | None:
    try:
        if archive.size(member) > _MAX_NOTE_BYTES:
            raise RecordError("it is too large for what img2dataset notes", reason="bad_record")
        return _uid(archive.read(member))
    except RecordError as error:
        dropped.append(Dropped.of(error, file=f"{tar}!/{member}"))
    return None


def _uid(data: bytes) -> str | None:
    try:
        note = msgspec.json.decode(data, type=_Note)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(f"img2dataset's note: {error}", reason="broken_json") from None
    return note.uid or note.key


def _unread(tar: str, damage: str) -> Dropped:
    return Dropped(reason="bad_image", file=tar, detail=damage)


def _subfolders(folder: Path) -> list[str]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and _safe(entry.name))
    return []


def _names(folder: Path) -> list[str]:
    """The names of a folder's files that may stand in a reference, sorted."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_file() and _safe(entry.name))
    return []


def _safe(name: str) -> bool:
    try:
        return safe_path(name) == name
    except RecordError:
        return False
