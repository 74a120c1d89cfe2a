"""What a push leaves in the repository for the next one: ``.vision_ift/CONFIG.json``.

A file that the record names under the same key, and that the repository holds with the sha256 of
the record, is neither made nor sent again. Nothing in it depends on the clock or on this machine.
"""

from __future__ import annotations

import msgspec

from vision_ift._conversation import SCHEMA_VERSION
from vision_ift._errors import IntegrityError
from vision_ift._export.manifest import encode
from vision_ift._push.hub import Stored
from vision_ift._push.parquet import Blob, Shard

__all__ = ["File", "Record", "encode", "is_there", "read", "record_path", "standing"]


class File(Blob, kw_only=True):
    """A file of an export as it was pushed.

    Attributes:
        git_sha1: Git's digest, of files that may be too small to be kept apart from the commit.
        xxh3_128: As the export's manifest names it; empty for files beside the shards.
    """

    git_sha1: str = ""
    xxh3_128: str = ""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration of a repository as it was pushed.

    Attributes:
        config: Its name.
        kind: What its files are.
        keys: Split to the key of its cut, which names all that decides its shards; for an export,
            its split to its digest.
        shards: The Parquet shards, also those whose rows were all dropped.
        files: The files of an export.
    """

    schema_version: int = SCHEMA_VERSION
    config: str
    kind: str
    keys: dict[str, str]
    shards: list[Shard] = []
    files: list[File] = []

    @property
    def blobs(self) -> list[Blob]:
        """All files that it names."""
        return [one for one in (*self.shards, *self.files) if one.sha256]

    @property
    def paths(self) -> set[str]:
        """Where they lie in the repository."""
        return {one.path for one in self.blobs}


def is_there(files: dict[str, Stored], one: Blob, git_sha1: str = "") -> bool:
    """Say whether a revision holds a file just as it is."""
    stored = files.get(one.path)
    return stored is not None and stored.holds(one.bytes, one.sha256, git_sha1)


def record_path(config: str) -> str:
    """Where the record of a configuration lies in a repository."""
    return f".vision_ift/{config}.json"


def read(data: bytes | None, path: str) -> Record | None:
    """Read a record; ``None`` where there is none, or one of another version.

    Raises:
        IntegrityError: It is not what a push writes.
    """
    if data is None:
        return None
    try:
        found = msgspec.json.decode(data, type=Record)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IntegrityError(
            f"{path} in the repository cannot be read: {error}", hint="remove it there"
        ) from None
    return found if found.schema_version == SCHEMA_VERSION else None


def standing(
    record: Record | None, files: dict[str, Stored], split: str, key: str
) -> dict[str, Shard]:
    """Give the shards of a split, by path, that the repository holds as they would be made now."""
    if record is None or record.keys.get(split) != key:
        return {}
    return {
        one.path: one
        for one in record.shards
        if one.split == split and (not one.sha256 or is_there(files, one))
    }
