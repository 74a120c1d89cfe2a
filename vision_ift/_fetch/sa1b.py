"""The tars of SA-1B under ROOT: which holds which picture, as an index that is read again.

SA-1B comes as a thousand tars of ten gigabytes (``sa_000020.tar``), each with some eleven thousand
pictures ``./sa_224577.jpg`` and their masks. A tar has no directory, so finding a name means
walking its headers; the index keeps the answer for as long as a tar's size and time are the same.

Index: Parquet, a row a picture (``name`` without ``.jpg``, ``tar`` relative to ROOT, ``member``), a
row group a tar; the tars with their sizes and times under ``tars`` in the file's metadata.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vision_ift._archives.archive import SCHEME, quote_member
from vision_ift._archives.ranges import LocalFile
from vision_ift._archives.tar import Tar
from vision_ift._disk import write_file
from vision_ift._errors import RecordError

#: Where tars are looked for, relative to ROOT, and where the index is written.
FOLDERS = ("mm_instruct/sa1b", "mm_instruct/sa1b/images", "sa1b", "sa1b/images")
INDEX = "mm_instruct/sa1b_index.parquet"

#: Pictures are numbered from 1 through the tars; a tar holds about so many of the numbers.
NUMBERS_A_TAR = 11_186

_SCHEMA = pa.schema([("name", pa.string()), ("tar", pa.string()), ("member", pa.string())])
_NAME = re.compile(r"(?:^|/)(sa_[0-9]{1,9})\.(?:jpe?g|png|webp)$", re.IGNORECASE)


class TarSeen(msgspec.Struct, frozen=True):
    """A tar as it was when it was indexed; ``rows`` are its pictures, ``damage`` what is wrong."""

    tar: str
    bytes: int
    modified_ns: int
    rows: int
    damage: str = ""


class Held(NamedTuple):
    """What the tars hold: name to reference, and the tars that cannot be read in full."""

    references: dict[str, str]
    damaged: dict[str, str]


def tars_of(root: Path, folders: Collection[str] = FOLDERS) -> list[str]:
    """List the tars under ROOT, sorted."""
    found = {
        path.relative_to(root).as_posix()
        for folder in folders
        for path in (root / folder).glob("*.tar")
        if path.is_file()
    }
    return sorted(found)


def held(root: Path, wanted: Collection[str]) -> Held:
    """Find names (``sa_224577``) in the tars under ROOT, of each the first tar that has it.

    What the index says is taken for tars that are as they were; the others are walked.
    """
    names = pa.array(sorted(wanted), pa.string())
    references: dict[str, str] = {}
    damaged: dict[str, str] = {}
    index = _Index(root / INDEX)
    for tar in tars_of(root):
        rows, damage = index.find(tar, *_state(root / tar)) or _walked(root, tar)
        if damage:
            damaged[tar] = damage
        for row in rows.filter(pc.is_in(rows["name"], value_set=names)).to_pylist():
            reference = f"{SCHEME}{tar}!/{quote_member(row['member'])}"
            references.setdefault(row["name"], reference)
    return Held(references, damaged)


def write_index(root: Path, out: Path) -> list[TarSeen]:
    """Index every tar under ROOT, one tar's names in memory at a time.

    Raises:
        OutputError: ``out`` cannot be written.
    """
    sink = io.BytesIO()
    seen = []
    with pq.ParquetWriter(sink, _SCHEMA, compression="zstd") as writer:
        for tar in tars_of(root):
            size, modified_ns = _state(root / tar)
            rows, damage = _walked(root, tar)
            seen.append(TarSeen(tar, size, modified_ns, rows.num_rows, damage))
            if rows.num_rows:
                writer.write_table(rows, row_group_size=rows.num_rows)
        writer.add_key_value_metadata({"tars": msgspec.json.encode(seen).decode()})
    write_file(out, sink.getvalue())
    return seen


def likely_tar(name: str) -> str:
    """Guess the tar of a picture by its number; the pictures' numbers run through the tars.

    >>> likely_tar("sa_224577")
    'sa_000020.tar'
    """
    number = int(name.partition("_")[2])
    return f"sa_{max(number - 1, 0) // NUMBERS_A_TAR:06d}.tar"


class _Index:
    """An index that was written; an empty one where it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tars: dict[str, tuple[int, TarSeen]] = {}
        try:
            with pq.ParquetFile(path) as file:
                tars = (file.metadata.metadata or {}).get(b"tars", b"[]")
                groups = file.metadata.num_row_groups
                fits = file.schema_arrow.equals(_SCHEMA)
            found = msgspec.json.decode(tars, type=list[TarSeen])
        except (OSError, pa.ArrowException, msgspec.MsgspecError):
            return
        filled = [one for one in found if one.rows]
        if fits and len(filled) == groups:
            self._tars = {one.tar: (group, one) for group, one in enumerate(filled)}

    def find(self, tar: str, size: int, modified_ns: int) -> tuple[pa.Table, str] | None:
        """Give a tar's pictures and damage, if it is as it was."""
        group, seen = self._tars.get(tar, (0, None))
        if seen is None or (seen.bytes, seen.modified_ns) != (size, modified_ns):
            return None
        try:
            with pq.ParquetFile(self._path) as file:
                return file.read_row_group(group), seen.damage
        except (OSError, pa.ArrowException):
            return None


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _walked(root: Path, tar: str) -> tuple[pa.Table, str]:
    """The pictures of a tar, and what is wrong with it."""
    try:
        archive = Tar(LocalFile(str(root / tar)))  # not kept: a thousand tars are a gigabyte
        found = list(_named(archive))
        damage = archive.damage
    except RecordError as error:
        found, damage = [], error.detail
    names, members = zip(*found, strict=True) if found else ((), ())
    columns = [pa.array(names, pa.string()), pa.repeat(pa.scalar(tar), len(found))]
    return pa.table([*columns, pa.array(members, pa.string())], schema=_SCHEMA), damage


def _named(members: Iterable[str]) -> Iterator[tuple[str, str]]:
    for member in members:
        if found := _NAME.search(member):
            yield found[1], member
