"""The files beside the shards, held against what the manifest and the index give.

They are made again in a temporary folder by the code that wrote them and compared byte for byte.
SQLite's file, whose bytes depend on its version and which takes the longest to make, is made only
for a thorough check and compared by what it holds; otherwise its header has to give its size.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from vision_ift._errors import IntegrityError, MissingInputError
from vision_ift._export import sidecars as _sidecars
from vision_ift._export.card import CARD, card
from vision_ift._export.manifest import INDEX, MANIFEST
from vision_ift._verify.finding import Finding, found, opened, read_at
from vision_ift._verify.standing import Standing

#: Bytes compared at once.
_PIECE = 1 << 20


@contextmanager
def made_again(standing: Standing, *, sqlite: bool) -> Iterator[Path | None]:
    """Make them in a temporary folder; ``None`` where too little is sound for it.

    Args:
        standing: What is known of the export.
        sqlite: Also make SQLite's files.
    """
    manifest = standing.manifest
    if (
        manifest is None
        or standing.layout is None  # nobody vouches for the names in the manifest
        or MANIFEST in standing.damaged_files
        or set(standing.parts) != set(standing.shards)
    ):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="vision_ift-verify-") as temporary:
        again = Path(temporary)
        parts = [one for _, one in sorted(standing.parts.items())]
        # The shards' own indexes need no fsync here, and there may be thousands.
        for shard, part in zip(manifest.shards, parts, strict=True):
            (again / shard.name).parent.mkdir(exist_ok=True)
            (again / f"{shard.name}.idx").write_bytes(_sidecars.tar_index(part))
        for tree in _sidecars.trees(manifest):
            of_tree = iter(parts[tree.first : tree.first + len(tree.shards)])
            _sidecars.write_tree(again / tree.folder, tree, manifest, of_tree, sqlite=sqlite)
        (again / CARD).write_bytes(card(manifest).encode())
        yield again


def check_beside(standing: Standing, *, thorough: bool) -> list[Finding]:
    """Give the files for other readers that are missing or differ.

    Nothing can be said where the manifest or a part of the index is not sound.
    """
    findings: list[Finding] = []
    with made_again(standing, sqlite=thorough) as again:
        if again is None:
            return findings
        assert standing.manifest is not None
        for name in (CARD, *_sidecars.names(standing.manifest)):
            if name == INDEX:  # its content has been compared; its framing is pyarrow's
                continue
            try:
                if name.endswith(".sqlite") and not thorough:
                    _hold_size(standing.folder, name)
                elif not _same(standing.folder, name, again):
                    raise IntegrityError(f"{name} is not what the manifest and the index give")
            except (IntegrityError, MissingInputError) as error:
                findings.append(found(error, name, otherwise="sidecar"))
    return findings


def _same(folder: Path, name: str, again: Path) -> bool:
    with opened(folder, name) as there, opened(again, name) as right:
        offset = 0
        while True:
            pieces = read_at(there, offset, _PIECE), read_at(right, offset, _PIECE)
            if pieces[0] != pieces[1]:
                return name.endswith(".sqlite") and _same_rows(there, again / name)
            if not pieces[0]:
                return True
            offset += _PIECE


def _hold_size(folder: Path, name: str) -> None:
    """Hold a database's size against its header: pages of so many bytes, and how many."""
    with opened(folder, name) as there:
        head = read_at(there, 0, 100)
        page = int.from_bytes(head[16:18], "big")
        pages = int.from_bytes(head[28:32], "big")
        whole = pages * (page if page != 1 else 1 << 16)  # as its format says 65,536
        if not head.startswith(b"SQLite format 3\0") or os.fstat(there).st_size != whole:
            raise IntegrityError(f"{name} is no whole SQLite file")


_SCHEMAS = (
    "SELECT type, name, tbl_name, sql FROM main.sqlite_master ORDER BY name",
    "SELECT type, name, tbl_name, sql FROM wanted.sqlite_master ORDER BY name",
)
_DIFFERENT_ROWS = """
SELECT * FROM (SELECT rowid, * FROM main.samples EXCEPT SELECT rowid, * FROM wanted.samples)
UNION ALL
SELECT * FROM (SELECT rowid, * FROM wanted.samples EXCEPT SELECT rowid, * FROM main.samples)
UNION ALL
SELECT * FROM
    (SELECT rowid, * FROM main.sample_parts EXCEPT SELECT rowid, * FROM wanted.sample_parts)
UNION ALL
SELECT * FROM
    (SELECT rowid, * FROM wanted.sample_parts EXCEPT SELECT rowid, * FROM main.sample_parts)
LIMIT 1
"""


def _same_rows(descriptor: int, right: Path) -> bool:
    """Say whether a database of another SQLite version holds the same rows and indexes."""
    place = f"file:/proc/self/fd/{descriptor}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(place, uri=True)) as database:
            # Its tables are looked at before anything is read through them: a view could do more.
            database.execute("PRAGMA trusted_schema=OFF")
            database.execute("ATTACH ? AS wanted", (f"{right.as_uri()}?mode=ro",))
            schemas = [database.execute(query).fetchall() for query in _SCHEMAS]
            if schemas[0] != schemas[1]:
                return False
            if database.execute("PRAGMA main.integrity_check(1)").fetchone() != ("ok",):
                return False
            return database.execute(_DIFFERENT_ROWS).fetchone() is None
    except (sqlite3.Error, UnicodeDecodeError):
        return False
