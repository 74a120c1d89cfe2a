"""A finished export as a configuration of a repository: its files as they are, and what they are.

The manifest is what makes an export whole, so it is the last of its files.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import xxhash

from vision_ift._cards.text import split_card
from vision_ift._errors import IntegrityError, MissingInputError
from vision_ift._export.card import CARD
from vision_ift._export.manifest import (
    GROUPS,
    LAYOUT,
    MANIFEST,
    PLAN,
    RECIPE,
    Manifest,
    read,
)
from vision_ift._export.sidecars import names
from vision_ift._push.readme import ConfigFacts, configs_of
from vision_ift._push.record import Record

_PIECE_BYTES = 1 << 20


def manifest_of(folder: Path) -> Manifest | None:
    """Read the manifest of an export; ``None`` where the folder holds none.

    Raises:
        IntegrityError: It is there and cannot be read.
    """
    return read(folder / MANIFEST, Manifest)


def files_of(folder: Path, manifest: Manifest) -> dict[str, int]:
    """List the files to push, as paths under the folder, with their sizes; the manifest is last.

    Raises:
        MissingInputError: One is not there.
        IntegrityError: A shard has another size than the manifest says.
    """
    wanted = {shard.name: shard.bytes for shard in manifest.shards}
    beside = [*names(manifest), *([GROUPS] if manifest.uniform else []), RECIPE, PLAN, LAYOUT]
    found = {}
    for name in (*wanted, *beside, MANIFEST):
        try:
            size = (folder / name).stat().st_size
        except OSError:
            raise MissingInputError(
                f"{folder} is an export without {name}",
                hint="run vision-ift verify --repair, or export again",
            ) from None
        if wanted.get(name, size) != size:
            raise IntegrityError(
                f"{folder / name} holds {size:,} bytes, not {wanted[name]:,} as the manifest says",
                hint="run vision-ift verify --repair",
            )
        found[name] = size
    return found


def facts(folder: Path, manifest: Manifest, *, config: str, prefix: str) -> ConfigFacts:
    """Say what the configuration is, from the export's own card.

    Args:
        folder, manifest: The export.
        config: The name of the configuration.
        prefix: The folder in the repository, with a slash at its end; empty for its top.
    """
    head, body = split_card((folder / CARD).read_text("utf-8"), file=str(folder / CARD))
    entries: list[dict[str, Any]] = []
    for entry in configs_of(head):
        name = f"{config}-{entry['config_name']}" if manifest.uniform else config
        files = [{**one, "path": f"{prefix}{one['path']}"} for one in entry["data_files"]]
        entries.append({"config_name": name, "data_files": files})
    described = head["dataset_info"]
    infos = [
        {**one, "config_name": entry["config_name"]}
        for one, entry in zip(
            described if isinstance(described, list) else [described], entries, strict=True
        )
    ]
    infos = [{"config_name": one.pop("config_name"), **one} for one in infos]
    lines = body.strip().splitlines()
    text = "\n".join(
        [f"## {config}", *(f"#{one}" if one[:2] == "##" else one for one in lines[1:])]
    )
    return ConfigFacts(
        name=config,
        entries=entries,
        infos=infos,
        title=manifest.name,
        rows=manifest.rows,
        images=manifest.images,
        languages=[str(one) for one in head.get("language", [])],
        tags=[str(one) for one in head.get("tags", [])],
        body=text,
    )


def recorded(
    manifest: Manifest, *, prefix: str, record: Record | None
) -> dict[str, tuple[str, str]]:
    """Give the digests of shards that a record names for just these shards, by name."""
    if record is None or record.keys.get(manifest.split) != manifest.export_digest:
        return {}
    known = {
        (one.path, one.bytes, one.xxh3_128): (one.sha256, one.git_sha1) for one in record.files
    }
    return {
        shard.name: known[f"{prefix}{shard.name}", shard.bytes, shard.xxh3_128]
        for shard in manifest.shards
        if (f"{prefix}{shard.name}", shard.bytes, shard.xxh3_128) in known
    }


#: Larger files are never kept with the commit itself, so git's digest of them is not asked for.
_SMALL_BYTES = 16 << 20


def hashed(path: Path, xxh3_128: str = "") -> tuple[str, str]:
    """Take a file's sha256, and git's digest of a small one; compare what the manifest says.

    Raises:
        IntegrityError: It is not the file that the manifest names.
    """
    sha256, xxh3 = hashlib.sha256(), xxhash.xxh3_128()
    size = path.stat().st_size
    git = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            sha256.update(piece)
            xxh3.update(piece)
            if size <= _SMALL_BYTES:
                git.update(piece)
    if xxh3_128 and xxh3.hexdigest() != xxh3_128:
        raise IntegrityError(
            f"{path} has the digest {xxh3.hexdigest()}, not {xxh3_128} as the manifest says",
            hint="run vision-ift verify --repair",
        )
    return sha256.hexdigest(), git.hexdigest() if size <= _SMALL_BYTES else ""
