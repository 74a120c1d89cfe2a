"""The index of an export, held against what a tar of such members must look like.

Sizes decide offsets: members stand one after the other, each with a header of one block and padded
to whole blocks. So every offset of the index can be told from its sizes alone, without the tar.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc
from numpy.typing import NDArray

from vision_ift._errors import IntegrityError
from vision_ift._export.document import member_names
from vision_ift._export.manifest import INDEX_SCHEMA, Shard, ShardFile
from vision_ift._export.ustar import BLOCK, MAX_MEMBER_BYTES
from vision_ift._verify.finding import opened

#: What ends a tar: two blocks of zeros.
END_BYTES = 2 * BLOCK

_IMAGE_NAME = re.compile(r"(?:\d{2,9}\.)?(?:jpg|png|webp|gif)")


class Members(NamedTuple):
    """The members of a shard in the order in which they lie, as flat arrays.

    Attributes:
        first: Row to its first member's place; one more than rows.
        names: Endings: ``jpg``, ``00.png``, ``json``, ``txt``.
        headers, sizes: Offset of each header; bytes of each content.
    """

    first: NDArray[np.int64]
    names: list[str]
    headers: NDArray[np.int64]
    sizes: NDArray[np.int64]


@contextmanager
def batches(folder: Path, name: str, *, most: int) -> Iterator[list[pa.RecordBatch]]:
    """Map a file of the index and give its batches, none of them trusted yet.

    Args:
        folder, name: The export and the file in it.
        most: The most batches that it may have.

    Raises:
        MissingInputError: It is not there.
        IntegrityError: It is not an Arrow file of our columns, plain and without nulls.
    """
    with opened(folder, name) as descriptor:
        try:
            mapped = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        except (ValueError, OSError) as error:
            raise IntegrityError(f"{name} is empty or cannot be mapped: {error}") from None
        try:
            buffer = pa.py_buffer(mapped)
            _refuse_compressed(mapped, name)
            with ipc.open_file(pa.BufferReader(buffer)) as reader:
                if not reader.schema.equals(INDEX_SCHEMA):
                    raise IntegrityError(f"{name} has other columns than an index")
                if reader.num_record_batches > most:
                    raise IntegrityError(
                        f"{name} has {reader.num_record_batches:,} batches, {most:,} make sense"
                    )
                read = [_checked(reader.get_batch(n)) for n in range(reader.num_record_batches)]
        except (pa.ArrowException, OSError, MemoryError, struct.error, IndexError) as error:
            words = " ".join(str(error).split())[:200]
            raise IntegrityError(f"{name} cannot be read: {words}") from None
        yield read


def _checked(batch: pa.RecordBatch) -> pa.RecordBatch:
    batch.validate(full=True)
    for column in batch.columns:
        inner = column.flatten().null_count if pa.types.is_list(column.type) else 0
        if column.null_count or inner:
            raise pa.ArrowInvalid("a null where none may be")
    return batch


def _refuse_compressed(data: mmap.mmap, name: str) -> None:
    """Refuse compressed batches, which a few bytes can blow up: ours never are.

    Reads the footer's flatbuffer by hand; pyarrow tells only after unpacking.
    """
    size = len(data)
    if size < 18 or data[:6] != b"ARROW1" or data[-6:] != b"ARROW1":
        raise IntegrityError(f"{name} is no Arrow file")
    (length,) = struct.unpack_from("<i", data, size - 10)
    footer = size - 10 - length
    if not 8 <= footer < size:
        raise IntegrityError(f"{name} is no Arrow file: its footer is outside it")
    blocks = _field(data, _table(data, footer), 3)
    if not blocks:
        return
    (at,) = struct.unpack_from("<I", data, blocks)
    (count,) = struct.unpack_from("<I", data, blocks + at)
    if count * 24 > size:
        raise IntegrityError(f"{name} is no Arrow file: its footer is longer than it")
    for number in range(count):
        (offset,) = struct.unpack_from("<q", data, blocks + at + 4 + 24 * number)
        if not 0 <= offset < size - 8:
            raise IntegrityError(f"{name}: batch {number} is outside it")
        message = _table(data, offset + 8)
        header = _field(data, message, 2)
        if header:
            (at_header,) = struct.unpack_from("<I", data, header)
            if _field(data, header + at_header, 3):
                raise IntegrityError(f"{name}: batch {number} is compressed, which ours never are")


def _table(data: mmap.mmap, start: int) -> int:
    """The place of a flatbuffer's root table."""
    return int(start + struct.unpack_from("<I", data, start)[0])


def _field(data: mmap.mmap, table: int, number: int) -> int:
    """The place of a table's field, 0 where it is not set."""
    if not 0 <= table < len(data) - 4:
        raise IndexError("a table outside the file")
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if not 0 <= vtable < len(data) - 4:
        raise IndexError("a table outside the file")
    (size,) = struct.unpack_from("<H", data, vtable)
    if 4 + 2 * number >= size:
        return 0
    (offset,) = struct.unpack_from("<H", data, vtable + 4 + 2 * number)
    return table + offset if offset else 0


def members_of(batch: pa.RecordBatch) -> Members:
    """Lay out a shard's members from the sizes in its part of the index."""
    images = batch.column("image_sizes")
    counts = pc.list_value_length(images).to_numpy(zero_copy_only=False).astype(np.int64)
    texts = batch.column("text_offset").to_numpy() != 0
    each = counts + 1 + texts
    first = np.concatenate(([0], np.cumsum(each))).astype(np.int64)
    sizes = np.empty(first[-1], np.int64)
    names = np.empty(first[-1], object)
    of_json = first[:-1] + counts
    is_image = np.ones(first[-1], bool)
    is_image[of_json] = False
    is_image[of_json[texts] + 1] = False
    sizes[is_image] = images.flatten().to_numpy()
    names[is_image] = batch.column("image_names").flatten().to_numpy(zero_copy_only=False)
    sizes[of_json] = batch.column("json_size").to_numpy()
    names[of_json] = "json"
    sizes[of_json[texts] + 1] = batch.column("text_size").to_numpy()[texts]
    names[of_json[texts] + 1] = "txt"
    ends = np.cumsum(BLOCK + sizes + -sizes % BLOCK)
    headers = np.concatenate(([0], ends[:-1])).astype(np.int64) if len(ends) else ends
    return Members(first, names.tolist(), headers, sizes)


def fault(
    batch: pa.RecordBatch,
    shard: Shard | ShardFile,
    *,
    number: int,
    text: bool,
    plan_rows: int,
    formats: list[str] | None = None,
) -> str:
    """Say what is wrong with a shard's part of the index; nothing where it is as it must be.

    Args:
        batch: The part.
        shard: What the manifest says of the shard.
        number: The shard's number.
        text: Whether the export has ``.txt`` members.
        plan_rows: Rows of the plan: positions are below.
        formats: What every row's pictures are called, where the layout says so.
    """
    if batch.num_rows != shard.rows:
        return f"it has {batch.num_rows:,} rows, the shard {shard.rows:,}"
    if not batch.num_rows:
        return ""
    column = {name: batch.column(name) for name in batch.schema.names}
    if (column["shard"].to_numpy() != number).any():
        return f"it names another shard than {number}"
    lengths = [
        pc.list_value_length(column[name]).to_numpy(zero_copy_only=False)
        for name in ("image_names", "image_offsets", "image_sizes")
    ]
    if any((lengths[0] != other).any() for other in lengths[1:]):
        return "its lists of pictures differ in length"
    if (images := int(lengths[0].sum())) != shard.images:
        return f"it has {images:,} pictures, the shard {shard.images:,}"
    if ((column["text_offset"].to_numpy() != 0) != text).any():
        return f"it {'lacks' if text else 'has'} text members"
    for name in ("image_sizes", "json_size", "text_size"):
        sizes = column[name].flatten() if name == "image_sizes" else column[name]
        values = sizes.to_numpy()
        if len(values) and not 0 <= values.min() <= values.max() <= MAX_MEMBER_BYTES:
            return f"{name} holds an impossible size"
    return (
        _offset_fault(batch, shard.bytes, text=text)
        or _name_fault(column, lengths[0], formats)
        or _position_fault(column, plan_rows)
    )


def _offset_fault(batch: pa.RecordBatch, shard_bytes: int, *, text: bool) -> str:
    members = members_of(batch)
    spans = BLOCK + members.sizes + -members.sizes % BLOCK
    end = int(spans.sum())
    if end + END_BYTES != shard_bytes:
        return f"its members come to {end + END_BYTES:,} bytes, the shard has {shard_bytes:,}"
    starts = members.headers[members.first[:-1]]
    contents = members.headers + BLOCK
    of_json = members.first[1:] - (2 if text else 1)
    image = np.ones(len(contents), bool)
    image[of_json] = False
    if text:
        image[of_json + 1] = False
    wanted = {
        "offset": starts,
        "size": np.diff(np.append(starts, end)),
        "json_offset": contents[of_json],
        "image_offsets": contents[image],
    }
    if text:
        wanted["text_offset"] = contents[of_json + 1]
    for name, right in wanted.items():
        column = batch.column(name)
        there = (column.flatten() if name == "image_offsets" else column).to_numpy()
        wrong = np.flatnonzero(there != right)
        if len(wrong):
            return f"{name} {there[wrong[0]]:,} should be {right[wrong[0]]:,}"
    return ""


def _name_fault(column: dict[str, Any], counts: NDArray[Any], formats: list[str] | None) -> str:
    names: list[str] = column["image_names"].flatten().to_pylist()
    if formats is not None and ((counts != len(formats)).any() or names != formats * len(counts)):
        return f"it has other pictures than its group: {', '.join(formats)[:80] or 'none'}"
    odd = [one for one in dict.fromkeys(names) if not _IMAGE_NAME.fullmatch(one)]
    if odd:
        return f"it names a picture {odd[0][:80]!r}"
    if (counts > 1).any() or any("." in name for name in names):
        at = 0
        for count in counts.tolist():
            row = names[at : at + count]
            if row != member_names([name.rpartition(".")[2] for name in row]):
                return f"it names pictures {', '.join(row)[:80]}"
            at += count
    keys = column["key"].to_pylist()
    positions = column["position"].to_pylist()
    for key, position in zip(keys, positions, strict=True):
        digits, dash, ending = key.partition("-")
        if not (dash and len(digits) >= 9 and len(key) <= 82 and digits.isascii()):
            return f"key {key[:90]!r} is none"
        if not digits.isdecimal() or int(digits) != position:
            return f"key {key[:90]!r} stands at position {position:,}"
        if not _ENDING.fullmatch(ending):
            return f"key {key[:90]!r} is none"
    return ""


_ENDING = re.compile(r"[A-Za-z0-9_-]{0,60}")


def _position_fault(column: dict[str, Any], plan_rows: int) -> str:
    positions = column["position"].to_numpy()
    if positions[0] < 0 or positions[-1] >= plan_rows or (np.diff(positions) <= 0).any():
        return f"its positions do not rise from 0 to {plan_rows:,}"
    if column["source"].to_numpy().min() < 0 or column["row"].to_numpy().min() < 0:
        return "it holds a negative row or source number"
    return ""
