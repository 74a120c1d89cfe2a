"""One shard: the tar of some rows of a plan, a pure function of (plan, layout, number).

The members of a conversation stand together, in this order:

* its pictures, bytes as they are: ``KEY.jpg``, or ``KEY.00.jpg``, ``KEY.01.png`` … where there are
  several; the ending says what the bytes are (``jpg png webp gif``);
* ``KEY.json``: one object with always the same keys, sorted (see
  :class:`~vision_ift._export.document.Document`);
* ``KEY.txt``: the words alone, a turn after the other (can be left out).

``KEY`` is the zero-padded position in the plan, a dash and the name of the part: unique over an
export, without a dot, and in lexical order as stored. The tar is USTAR with no time, owner or
group in it, so equal rows give equal bytes on every machine.

Reference: WebDataset, https://github.com/webdataset/webdataset.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from array import array
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from vision_ift._archives.archive import SCHEME
from vision_ift._disk import explained, sync_folder
from vision_ift._errors import (
    DiskError,
    IntegrityError,
    MissingInputError,
    RecordError,
    VisionIFTError,
)
from vision_ift._export.document import member_names
from vision_ift._export.encode import encoded, names_as_json
from vision_ift._export.groups import keys, shard_rows
from vision_ift._export.manifest import FIRST, INDEX_SCHEMA, Layout, Shard, Share
from vision_ift._export.ustar import BLOCK, NotAPictureError, SizeChangedError, Tar
from vision_ift._pictures.images import Images, image_format, open_file
from vision_ift._plan.plan import Plan

__all__ = ["keys", "write_shard"]


#: What is counted of a row: source number, licence, language, image members.
_Kind = tuple[int, str | None, str | None, tuple[str, ...]]


def write_shard(
    plan: Plan,
    layout: Layout,
    number: int,
    folder: Path,
    *,
    expected: str = "",
    strict: bool = False,
) -> tuple[Shard, pa.RecordBatch]:
    """Write one shard under its final name, whole or not at all.

    Args:
        plan, layout, number: What the shard is a function of; with a uniform layout also of the
            groups' file that the layout names by its digest, which lies in ``folder``.
        folder: The export.
        expected: The digest that an earlier writing gave, if there was one.
        strict: Stop at the first row that cannot be written, instead of dropping it.

    Returns:
        What its record says, and its part of the index. A shard whose rows were all dropped has
        no file.

    Raises:
        RecordError: With ``strict``, a picture is missing or of another format.
        IntegrityError: The digest is not ``expected``, or a picture changed while it was read, or
            is not what the layout's groups say: pictures have changed.
        DiskError: The disk is full, read-only or failing.
    """
    path = folder / layout.name(number)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shard = Shard(number=number, name=layout.name(number))
    if layout.uniform:
        with explained(path.parent):
            path.parent.mkdir(exist_ok=True)
    try:
        with Tar(temporary) as tar:
            lines = _add_rows(plan, layout, shard, folder, tar, strict=strict)
            digest = tar.finish()
            shard.bytes = tar.offset
        if not shard.rows:
            shard.bytes = 0
            digest = ""
        if expected and digest != expected:
            raise IntegrityError(
                f"{path} was written before with the digest {expected}, now it would be "
                f"{digest or 'empty'}: pictures under {plan.root} have changed since",
                hint="bring the old pictures back, or export to a new folder",
            )
        shard.xxh3_128 = digest
        with explained(path):
            if shard.rows:
                temporary.replace(path)
            else:
                path.unlink(missing_ok=True)
            sync_folder(path.parent)
    finally:
        # What stopped the writing tells more than that its leftover cannot be removed either.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return shard, lines.batch(number)


class _Lines:
    """A shard's part of the index as it grows: plain numbers, nothing for the collector to walk."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        #: Position, source, row, offset, size; then of the JSON and the text: offset, size.
        self.numbers = array("q")
        self.image_counts = array("q")
        self.image_names: list[str] = []
        self.images = array("q")  # offset, size

    def add(self, key: str, numbers: tuple[int, ...], pictures: _Pictures) -> None:
        """Add a conversation."""
        self.keys.append(key)
        self.numbers.extend(numbers)
        self.image_counts.append(len(pictures.names))
        self.image_names.extend(pictures.names)
        self.images.extend(pictures.places)

    def batch(self, shard: int) -> pa.RecordBatch:
        """Give all as ``INDEX_SCHEMA`` has them."""
        numbers = np.array(self.numbers, np.int64).reshape(-1, 9).T
        images = np.array(self.images, np.int64).reshape(-1, 2).T
        at = np.concatenate([[0], np.cumsum(np.array(self.image_counts, np.int64))])

        def lists(values: Any, kind: pa.DataType) -> pa.Array:
            flat = pa.array(values, kind.value_type)
            return pa.ListArray.from_arrays(pa.array(at, pa.int32()), flat, type=kind)

        position, source, row, offset, size, json_offset, json_size, text_offset, text_size = (
            numbers
        )
        columns = {
            "key": self.keys,
            "position": position,
            "source": source,
            "row": row,
            "shard": np.full(len(self.keys), shard),
            "offset": offset,
            "size": size,
            "json_offset": json_offset,
            "json_size": json_size,
            "text_offset": text_offset,
            "text_size": text_size,
        }
        pictures = {
            "image_names": self.image_names,
            "image_offsets": images[0],
            "image_sizes": images[1],
        }
        arrays = [
            lists(pictures[field.name], field.type)
            if field.name in pictures
            else pa.array(columns[field.name], field.type)
            for field in INDEX_SCHEMA
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=INDEX_SCHEMA)


def _add_rows(
    plan: Plan, layout: Layout, shard: Shard, folder: Path, tar: Tar, *, strict: bool
) -> _Lines:
    """Add a shard's rows to its tar; give their part of the index."""
    images = Images(plan.root)
    width, endings = keys(plan)
    lines = _Lines()
    delivered: Counter[_Kind] = Counter()
    text = layout.text
    wanted = layout.formats(shard.number)
    known = (wanted, names_as_json(wanted)) if wanted is not None else None
    for positions, sources, rows in shard_rows(plan, layout, shard.number, folder):
        places = zip(positions.tolist(), sources.tolist(), rows.tolist(), strict=True)
        for some in encoded(plan.take(sources, rows)):
            here = list(itertools.islice(places, len(some)))
            named = [f"{position:0{width}d}-{endings[source]}" for position, source, _ in here]
            # Most pictures are JPEG, so the members that name them are made before they are read.
            likely = [known or _jpegs(count) for count in some.image_counts]
            members = some.members(named, [as_json for _, as_json in likely], text=text)
            for number, (place, key) in enumerate(zip(here, named, strict=True)):
                tar.mark()
                offset = tar.offset
                try:
                    pictures = _add_pictures(tar, images, key, some.references(number), wanted)
                except RecordError as error:
                    tar.back()
                    if strict:
                        error.hint = "without strict the row is dropped and counted"
                        raise
                    _drop(shard, error, some.ids[number])
                    continue
                if pictures.names == likely[number][0]:
                    at = tar.offset + BLOCK
                    tar.add_whole(members.blocks[number])
                    size = members.json_sizes[number]
                    text_at = at + size + -size % BLOCK + BLOCK if text else 0
                    texts = at, size, text_at, members.text_sizes[number]
                else:
                    document = some.member(number, names_as_json(pictures.names))
                    texts = (
                        *tar.add(f"{key}.json", *document),
                        *(tar.add(f"{key}.txt", some.words[number]) if text else (0, 0)),
                    )
                lines.add(key, (*place, offset, tar.offset - offset, *texts), pictures)
                kind = some.licenses[number], some.languages[number], tuple(pictures.names)
                delivered[place[1], *kind] += 1
    _count(shard, delivered)
    return lines


@functools.lru_cache(maxsize=64)
def _jpegs(count: int) -> tuple[list[str], bytes]:
    """Give the image members of a row with so many pictures if they are JPEG, also as JSON."""
    names = member_names(["jpg"] * count)
    return names, names_as_json(names)


@functools.lru_cache(maxsize=64)
def _stems(count: int) -> list[str]:
    return member_names([""] * count)


class _Pictures(NamedTuple):
    """A row's image members."""

    names: list[str]
    places: list[int]  # offset and size of each, one after the other


def _add_pictures(
    tar: Tar, images: Images, key: str, references: list[str], wanted: list[str] | None
) -> _Pictures:
    """Add a row's pictures, which must be of the formats ``wanted`` where the layout says them.

    Raises:
        RecordError: One is missing or no picture; what was added before it is still in the tar.
        IntegrityError: One changed while it was read, or since the layout was settled.
    """
    names: list[str] = []
    places: list[int] = []
    stems = _stems(len(references))
    for reference, stem in zip(references, stems, strict=True):
        try:
            if reference.startswith(SCHEME):
                data = images.read(reference)
                size, kind = len(data), image_format(data)
                if kind is None:
                    raise NotAPictureError
                start, _ = tar.add(f"{key}.{stem}{kind}", data)
            else:
                file, size = open_file(f"{images.root}/{reference}")
                try:
                    kind, start = tar.add_picture(f"{key}.{stem}", file, size)
                finally:
                    os.close(file)
        except (MissingInputError, RecordError, NotAPictureError, SizeChangedError) as error:
            if wanted is not None or isinstance(error, SizeChangedError):
                raise _changed(reference, images.root) from None
            raise why_not(error, reference) from None
        except VisionIFTError:
            raise
        except OSError as error:
            raise DiskError(f"reading {reference} failed: {error.strerror}") from error
        names.append(f"{stem}{kind}")
        places.append(start)
        places.append(size)
    if wanted is not None and names != wanted:
        raise _changed(", ".join(references), images.root)
    return _Pictures(names, places)


def _changed(reference: str, root: Path) -> IntegrityError:
    return IntegrityError(
        f"{reference} under {root} has changed since the export was begun",
        hint="run the same command again once nobody writes it, or export to a new folder",
    )


def why_not(error: Exception, reference: str) -> RecordError:
    """Say why a row with this picture is left out."""
    if isinstance(error, MissingInputError):
        return RecordError(error.message, reason="missing_image", record=reference)
    if isinstance(error, RecordError):
        return RecordError(error.detail, reason=error.reason, record=reference)
    return RecordError(
        "the picture is not JPEG, PNG, WebP or GIF", reason="bad_image", record=reference
    )


def _drop(shard: Shard, error: RecordError, name: str) -> None:
    shard.dropped[error.reason] = shard.dropped.get(error.reason, 0) + 1
    named = shard.dropped_first.setdefault(error.reason, [])
    if len(named) < FIRST:  # the reference alone: an error's words may hold a path of this machine
        named.append({"id": name, "image": error.record})


def _count(shard: Shard, delivered: Counter[_Kind]) -> None:
    for (source, license_, language, names), rows in delivered.items():
        shard.rows += rows
        shard.images += rows * len(names)
        share = shard.shares.setdefault(str(source), Share())
        share.rows += rows
        share.images += rows * len(names)
        for counts, value in (
            (share.licenses, license_),
            (share.languages, language),
            *((shard.image_names, name) for name in names),
        ):
            counts[value or "unknown"] = counts.get(value or "unknown", 0) + rows
