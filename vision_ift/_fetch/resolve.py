"""Where MM-Instruct's training pictures can be had, as nobody ships them.

Its records name pictures of DataComp-1B by uid and of SA-1B by number. The uids are joined with
DataComp's metadata, which knows the address of each: that gives the list that img2dataset reads.
The numbers are looked up in the tars of SA-1B that lie under ROOT: that gives an index, and the
names of the tars that are still to be fetched.
"""

from __future__ import annotations

import io
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import ijson
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from vision_ift._disk import explained, write_file
from vision_ift._errors import MissingInputError, RecordError
from vision_ift._fetch import datacomp as _datacomp
from vision_ift._fetch import sa1b as _sa1b

TRAIN = "mm_instruct/train.json"
URLS = "mm_instruct/datacomp_urls.parquet"

#: Where a local copy of DataComp's metadata is looked for.
LOCAL_METADATA = ("mm_instruct/datacomp_metadata", "datacomp/metadata")

_UID = re.compile(r"[0-9a-f]{32}")
_NUMBER = re.compile(r"sa_[0-9]{1,9}")
_ENDING = re.compile(r"\.(?:jpe?g|png|webp|gif)$", re.IGNORECASE)

_MAX_NAMES = 10_000_000


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """What share of the training pictures can be had, and what was written.

    Attributes:
        pictures: Different pictures that the records name.
        uids: Those of DataComp; ``urls`` of them have an address, ``bad_urls`` of them only such as
            are no http or https address. ``None`` where a dry run read no metadata.
        numbers: Those of SA-1B; ``held`` of them are in tars under ROOT.
        others: Pictures whose names are neither; ``other_names`` the first of them.
        tars: The tars of SA-1B under ROOT; ``damaged`` those that cannot be read in full.
        wanted_tars: Tars that are not under ROOT, each with about how many of the pictures that are
            missing, by their numbers.
        metadata: Where the addresses were read; ``metadata_rows`` how many rows.
        written: The files that were written, or in a dry run (``dry_run``) would be.
        command: What to type to download the pictures of DataComp.
    """

    pictures: int
    uids: int
    urls: int | None
    bad_urls: int | None
    numbers: int
    held: int | None
    others: int
    other_names: tuple[str, ...]
    tars: int
    damaged: dict[str, str]
    wanted_tars: dict[str, int]
    metadata: str
    metadata_rows: int | None
    written: tuple[str, ...]
    command: str
    dry_run: bool

    def __str__(self) -> str:
        lines = [
            f"{self.pictures:,} pictures",
            f"DataComp: {_share(self.urls, self.uids)} have an address in {self.metadata}",
            f"SA-1B: {_share(self.held, self.numbers)} are in {self.tars:,} tars under ROOT",
        ]
        if self.bad_urls:
            lines.append(f"left out: {self.bad_urls:,} addresses that are not http or https")
        if self.others:
            lines.append(f"neither: {self.others:,}, e.g. {', '.join(self.other_names)}")
        lines += [f"damaged: {tar}: {detail}" for tar, detail in sorted(self.damaged.items())]
        if self.wanted_tars:
            first = [f"{tar} ({count:,})" for tar, count in list(self.wanted_tars.items())[:10]]
            more = f" and {len(self.wanted_tars) - 10:,} more" if len(self.wanted_tars) > 10 else ""
            lines.append(f"to fetch of SA-1B, about: {', '.join(first)}{more}")
        lines += [f"{'would write' if self.dry_run else 'wrote'} {path}" for path in self.written]
        if self.uids:
            lines.append(f"then: {self.command}")
        return "\n".join(lines)


def resolve(
    *,
    root: Path | str,
    metadata: str | Path | None = None,
    out: Path | str | None = None,
    dry_run: bool = False,
) -> Resolved:
    """Find addresses and tars of MM-Instruct's training pictures, and write both lists.

    Written are ``mm_instruct/datacomp_urls.parquet`` (``url``, ``uid``, ``caption``; sorted by uid)
    for img2dataset, and ``mm_instruct/sa1b_index.parquet``, which the builder reads. The metadata
    is streamed: memory is bounded by the names asked for (234,000) and a batch of rows.

    Args:
        root: ROOT, with ``mm_instruct/train.json``.
        metadata: DataComp's metadata: a Parquet file, a folder or pattern of such, or
            ``hf://datasets/…``; ``None``: a copy under ROOT where there is one, else the Hub's.
            Columns ``uid`` and ``url``, and ``text`` where there is one.
        out: Where the list of addresses goes; ``None``: under ROOT, as above.
        dry_run: Read neither metadata nor tars and write nothing; say what there is to do.

    Raises:
        MissingInputError: There is no ``train.json``, or no metadata.
        RecordError: One of them cannot be read.
        UsageError: The metadata is named in a way that is not read.
        ServiceError: The Hub does not give it.
        OutputError, DiskError: A list cannot be written.

    >>> resolve(root="nowhere")
    Traceback (most recent call last):
    vision_ift._errors.MissingInputError: there is no nowhere/mm_instruct/train.json; ...
    """
    root = Path(root).expanduser()
    uids, numbers, others = _names_of(root / TRAIN)
    place = _metadata_place(root, metadata)
    target = Path(out).expanduser() if out is not None else root / URLS
    index = root / _sa1b.INDEX
    tars = _sa1b.tars_of(root)
    found: _datacomp.Addresses | None = None
    held: _sa1b.Held | None = None
    if not dry_run:
        with explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        if numbers and tars:
            _sa1b.write_index(root, index)
        held = _sa1b.held(root, numbers)
        if uids:
            found = _datacomp.addresses(uids, place)
            write_file(target, _parquet(found.rows))
    missing = [name for name in numbers if held is None or name not in held.references]
    written = [target] if uids else []
    written += [index] if numbers and tars else []
    return Resolved(
        pictures=len(uids) + len(numbers) + len(others),
        uids=len(uids),
        urls=found.rows.num_rows if found else None if uids else 0,
        bad_urls=found.bad if found else None if uids else 0,
        numbers=len(numbers),
        held=len(held.references) if held else None,
        others=len(others),
        other_names=tuple(others[:5]),
        tars=len(tars),
        damaged=held.damaged if held else {},
        wanted_tars=_wanted_tars(missing, tars),
        metadata=place,
        metadata_rows=found.seen if found else None,
        written=tuple(str(path) for path in written),
        command=_command(target, root),
        dry_run=dry_run,
    )


def _names_of(file: Path) -> tuple[list[str], list[str], list[str]]:
    """The different uids, ``sa_`` names and other names of the training pictures, sorted."""
    if not file.is_file():
        raise MissingInputError(
            f"there is no {file}", hint="vision-ift fetch mm_instruct brings it"
        )
    names: set[str] = set()
    try:
        with file.open("rb") as data:
            for path in _paths(data):
                names.add(_ENDING.sub("", path.rpartition("/")[2]))
                if len(names) > _MAX_NAMES:
                    raise RecordError(
                        f"more than {_MAX_NAMES:,} pictures", reason="bad_record", file=str(file)
                    )
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise RecordError(
            f"not JSON: {error}",
            reason="broken_json",
            file=str(file),
            hint="fetch it again: vision-ift fetch mm_instruct",
        ) from None
    uids = sorted(name for name in names if _UID.fullmatch(name))
    numbers = sorted(name for name in names if _NUMBER.fullmatch(name))
    others = sorted(names.difference(uids, numbers))
    return uids, numbers, [ascii(name)[1:-1][:80] for name in others]


def _paths(data: BinaryIO) -> Iterator[str]:
    """The image paths of a list of records or of JSON Lines."""
    start = data.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    data.seek(3 if data.seek(0) == 0 and data.read(3) == b"\xef\xbb\xbf" else 0)
    prefix = "item." if start.startswith(b"[") else ""
    wanted = {f"{prefix}{key}{more}" for key in ("image", "images") for more in ("", ".item")}
    for where, event, value in ijson.parse(data, multiple_values=True):
        if event == "string" and where in wanted and value:
            yield value


def _metadata_place(root: Path, metadata: str | Path | None) -> str:
    if metadata is not None:
        return str(metadata)
    local = (root / folder for folder in LOCAL_METADATA)
    return next((str(folder) for folder in local if folder.is_dir()), _datacomp.HUB)


def _parquet(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd")
    return sink.getvalue()


def _wanted_tars(missing: list[str], tars: list[str]) -> dict[str, int]:
    """The tars in which missing pictures are likely to be, but for those that are there."""
    there = {tar.rpartition("/")[2] for tar in tars}
    counts = Counter(map(_sa1b.likely_tar, missing))
    return {tar: counts[tar] for tar in sorted(counts) if tar not in there}


def _command(urls: Path, root: Path) -> str:
    """The call of img2dataset that keeps the bytes as they are, and the uid of each."""
    words = ["img2dataset", "--url_list", str(urls), "--input_format", "parquet"]
    words += ["--url_col", "url", "--caption_col", "caption"]
    words += ["--save_additional_columns", '["uid"]']
    words += ["--resize_mode", "no", "--skip_reencode", "True"]
    words += ["--output_format", "webdataset", "--output_folder", str(root / "datacomp")]
    return shlex.join(words)


def _share(part: int | None, whole: int) -> str:
    if part is None:
        return f"{whole:,} (not looked up)"
    percent = f" ({100 * part / whole:.1f}%)" if whole else ""
    return f"{part:,} of {whole:,}{percent}"
