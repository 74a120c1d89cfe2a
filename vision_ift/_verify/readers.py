"""Which readers of WebDataset shards will read an export, told from its index alone.

Each rule was found by running the real package on exports of every kind; ``tests/readers/prove.py``
runs them again and holds what they do against what is said here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from vision_ift._export.card import CARD
from vision_ift._export.manifest import Manifest
from vision_ift._export.sidecars import ENERGON
from vision_ift._verify.finding import Finding

#: What open_clip takes for a picture; the first of these that a row has.
_OPEN_CLIP_NAMES = ("png", "jpg", "jpeg", "webp")


class ReaderVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What one reader makes of an export.

    Attributes:
        reader: The package.
        tried: The version that the rules were found with.
        reads: ``yes``: every row, as its documentation calls it; ``with``: every row, called as
            ``do`` says; ``some``: ``rows`` of them, the others are skipped in silence; ``no``.
        rows: How many rows come out.
        why: The reason, where it is not plainly yes.
        do: How to open it, or what to change.
    """

    reader: str
    tried: str
    reads: Literal["yes", "with", "some", "no"]
    rows: int
    why: str = ""
    do: str = ""


class _Shape(msgspec.Struct, frozen=True):
    """What an export holds, as far as readers care.

    Attributes:
        manifest: The export's.
        kinds: Folder to endings of a row's pictures to number of rows.
        broken: Files that are damaged or missing.
    """

    manifest: Manifest
    kinds: dict[str, Counter[tuple[str, ...]]]
    broken: list[str]

    @property
    def rows(self) -> int:
        return self.manifest.rows

    def damage(self, *names: str) -> str:
        """Say which of the files that a reader needs are damaged, in any folder."""
        hit = [
            file
            for file in self.broken
            if any(file == name or file.endswith(f"/{name}") or name in file for name in names)
        ]
        return f"{', '.join(hit[:3])} {'is' if len(hit) == 1 else 'are'} damaged" if hit else ""


def judge(
    manifest: Manifest, parts: Mapping[int, pa.RecordBatch], findings: Sequence[Finding]
) -> list[ReaderVerdict]:
    """Say what each reader makes of an export, from its manifest and index.

    Args:
        manifest: The export's.
        parts: Its index, by shard number; in the manifest's order of shards.
        findings: What is wrong with the export.
    """
    kinds: dict[str, Counter[tuple[str, ...]]] = {}
    for shard, (_, part) in zip(manifest.shards, sorted(parts.items()), strict=False):
        folder = shard.name.rpartition("/")[0]
        joined = pc.binary_join(part.column("image_names").cast(pa.list_(pa.string())), "/")
        for one in pc.value_counts(joined).to_pylist():
            names = tuple(one["values"].split("/")) if one["values"] else ()
            kinds.setdefault(folder, Counter())[names] += one["counts"]
    shape = _Shape(manifest, kinds, sorted({one.file for one in findings}))
    return [
        _webdataset(shape),
        _datasets(shape),
        _ray(shape),
        _energon(shape),
        _wids(shape),
        _open_clip(shape),
    ]


def _each(shape: _Shape) -> str:
    """How a reader of one folder is told of an export of several."""
    folders = sorted(shape.kinds)
    return "" if folders == [""] else f", one folder at a time ({', '.join(folders)[:200]})"


def _shards_damaged(shape: _Shape) -> str:
    return shape.damage(".tar") if any(one.endswith(".tar") for one in shape.broken) else ""


def _webdataset(shape: _Shape) -> ReaderVerdict:
    damaged = _shards_damaged(shape)
    return ReaderVerdict(
        reader="webdataset",
        tried="1.0.2, 0.2.111, 0.2.86",
        reads="no" if damaged else "yes",
        rows=0 if damaged else shape.rows,
        why=damaged,
        do="vision-ift verify --repair"
        if damaged
        else "webdataset.WebDataset(sorted(glob.glob('FOLDER/**/*.tar', recursive=True)))",
    )


def _datasets(shape: _Shape) -> ReaderVerdict:
    damaged = _shards_damaged(shape) or shape.damage(CARD)
    names = "" if "" in shape.kinds else ", NAME of a group"
    why = damaged
    if shape.damage(CARD):
        why += "; without its features rows of other pictures than the first ones fail or are lost"
    return ReaderVerdict(
        reader="datasets",
        tried="5.2.0",
        reads="no" if damaged else "yes",
        rows=0 if damaged else shape.rows,
        why=why,
        do="vision-ift verify --repair" if damaged else f"load_dataset('FOLDER'{names})",
    )


def _ray(shape: _Shape) -> ReaderVerdict:
    damaged = _shards_damaged(shape)
    call = "ray.data.read_webdataset('FOLDER', file_extensions=['tar']"
    mixed = {folder: kinds for folder, kinds in shape.kinds.items() if len(kinds) > 1}
    if damaged:
        return ReaderVerdict(
            reader="ray",
            tried="2.60.0",
            reads="no",
            rows=0,
            why=damaged,
            do="vision-ift verify --repair",
        )
    if mixed:
        several = sorted({_words(names) for kinds in mixed.values() for names in kinds})
        return ReaderVerdict(
            reader="ray",
            tried="2.60.0",
            reads="with",
            rows=shape.rows,
            why=f"rows differ in their pictures ({'; '.join(several)[:200]}), and Ray's default "
            "decoder wants the same members in every row",
            do=f"{call}, decoder=None), or export with --uniform",
        )
    return ReaderVerdict(
        reader="ray",
        tried="2.60.0",
        reads="yes",
        rows=shape.rows,
        do=f"{call}){_each(shape)}",
    )


def _words(names: tuple[str, ...]) -> str:
    return " + ".join(names) or "no picture"


def _energon(shape: _Shape) -> ReaderVerdict:
    damaged = _shards_damaged(shape) or shape.damage(".tar.idx", f"{ENERGON}/")
    return ReaderVerdict(
        reader="energon",
        tried="7.4.1",
        reads="no" if damaged else "yes",
        rows=0 if damaged else shape.rows,
        why=damaged,
        do="vision-ift verify --repair"
        if damaged
        else f"get_train_dataset('FOLDER', …) with a Cooker{_each(shape)}",
    )


def _wids(shape: _Shape) -> ReaderVerdict:
    damaged = _shards_damaged(shape) or shape.damage("wids.json")
    return ReaderVerdict(
        reader="wids",
        tried="0.1.11 with webdataset 0.2.111",
        reads="no" if damaged else "yes",
        rows=0 if damaged else shape.rows,
        why=damaged,
        do="vision-ift verify --repair"
        if damaged
        else f"wids.ShardListDataset('FOLDER/wids.json'){_each(shape)}",
    )


def _open_clip(shape: _Shape) -> ReaderVerdict:
    damaged = _shards_damaged(shape) or shape.damage("sizes.json")
    kinds: Counter[tuple[str, ...]] = sum(shape.kinds.values(), Counter())
    taken = sum(
        count
        for names, count in kinds.items()
        if len(names) == 1 and names[0] in _OPEN_CLIP_NAMES and shape.manifest.text
    )
    if damaged:
        taken = 0
    reads: Literal["yes", "some", "no"] = "no"
    if taken:
        reads = "yes" if taken == shape.rows else "some"
    why, do = damaged, "vision-ift verify --repair"
    if not damaged:
        do = f"webdataset <= 0.2.86 beside it (later ones: KeyError 'fname'){_each(shape)}"
        if not shape.manifest.text:
            why, do = "there is no .txt member, its caption", "export without --no-text"
        elif taken < shape.rows:
            why = (
                f"it takes one picture a row, as {' or '.join(_OPEN_CLIP_NAMES)}: "
                f"{shape.rows - taken:,} rows have none, several, or a gif, and are skipped"
            )
    return ReaderVerdict(
        reader="open_clip",
        tried="3.3.0 with webdataset 0.2.86",
        reads=reads,
        rows=taken,
        why=why,
        do=do,
    )
