"""One shard: the tar of some rows of a plan, a pure function of (plan, layout, number).

The members of a conversation stand together, in this order:

* its pictures, bytes as they are: ``KEY.jpg``, or ``KEY.00.jpg``, ``KEY.01.png`` … where there are
  several; the ending says what the bytes are (``jpg png webp gif``);
* ``KEY.json``: one object with always the same keys, sorted (see :class:`Document`);
* ``KEY.txt``: the words alone, a turn after the other (can be left out).

``KEY`` is the zero-padded position in the plan, a dash and the name of the part: unique over an
export, without a dot, and in lexical order as stored. The tar is USTAR with no time, owner or
group in it, so equal rows give equal bytes on every machine.

References: POSIX.1-1988 (ustar); WebDataset, https://github.com/webdataset/webdataset.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import pyarrow as pa
import xxhash

from vision_ift._disk import explained, sync_folder
from vision_ift._errors import (
    DiskError,
    IntegrityError,
    MissingInputError,
    OutputError,
    RecordError,
)
from vision_ift._images import Images, image_format
from vision_ift._manifest import FIRST, INDEX_SCHEMA, Layout, Shard, Share
from vision_ift._plan import Plan

#: The size of a tar block; headers take one, contents whole ones.
BLOCK = 512

#: The largest member that a USTAR header can state, in bytes.
MAX_MEMBER_BYTES = 8**11 - 1

#: Bytes gathered before they are written; on ext4, 64 KiB and 4 MiB were slower.
_GATHER = 1 << 18

#: Pieces of one writev call; the system takes at most 1,024.
_MOST_PIECES = 1000

#: Rows read from the tables at once.
_CHUNK_ROWS = 8192


class _Part(msgspec.Struct, gc=False):
    text: str | None
    type: str


class _Turn(msgspec.Struct, gc=False):
    content: list[_Part]
    role: str


class Document(msgspec.Struct, gc=False):
    """The JSON member of a conversation; the fields stand in sorted order, as they are written.

    ``images`` holds the endings of the image members in the order in which the image parts show
    them; ``meta`` is JSON text; the others are the row's columns.
    """

    id: str
    image_paths: list[str]
    images: list[str]
    language: str | None
    license: str | None
    messages: list[_Turn]
    meta: str
    source: str
    split: str
    task: str | None

    @property
    def words(self) -> str:
        """The words of the conversation, a line for each part."""
        return "\n".join(
            part.text for turn in self.messages for part in turn.content if part.text is not None
        )


_ENCODER = msgspec.json.Encoder()


def documents(rows: pa.Table) -> Iterator[tuple[Document, list[str]]]:
    """Give every row as a :class:`Document`, its ``images`` still empty, and its references."""
    columns = {
        name: rows.column(name).combine_chunks()
        for name in rows.column_names  # one chunk each, or offsets would start anew within them
    }
    pictures, picture_at = _flat(columns["images"])
    references = _values(pictures.field("path"))
    paths, path_at = _flat(columns["image_paths"])
    all_paths = _values(paths)
    turns, turn_at = _flat(columns["messages"])
    parts, part_at = _flat(turns.field("content"))
    all_parts = list(map(_Part, _values(parts.field("text")), _values(parts.field("type"))))
    contents = [all_parts[a:b] for a, b in itertools.pairwise(part_at)]
    all_turns = list(map(_Turn, contents, _values(turns.field("role"))))
    scalars = zip(
        *(
            _values(columns[name])
            for name in ("id", "language", "license", "meta", "source", "split", "task")
        ),
        strict=True,
    )
    for n, (name, language, license_, meta, source, split, task) in enumerate(scalars):
        yield (
            Document(
                name,
                all_paths[path_at[n] : path_at[n + 1]],
                [],
                language,
                license_,
                all_turns[turn_at[n] : turn_at[n + 1]],
                meta,
                source,
                split,
                task,
            ),
            references[picture_at[n] : picture_at[n + 1]],
        )


def _flat(array: Any) -> tuple[Any, list[int]]:
    """A list array's values in one row, and where each list starts in them."""
    offsets = array.offsets.to_numpy()
    return array.flatten(), (offsets - offsets[0]).tolist()


def _values(array: Any) -> list[Any]:
    values: list[Any] = array.to_numpy(zero_copy_only=False).tolist()
    return values


def member_names(formats: list[str]) -> list[str]:
    """Name the image members of one conversation.

    >>> member_names(["jpg"]), member_names(["jpg", "png"])
    (['jpg'], ['00.jpg', '01.png'])
    """
    if len(formats) == 1:
        return formats
    width = max(2, len(str(len(formats) - 1)))
    return [f"{place:0{width}d}.{name}" for place, name in enumerate(formats)]


def keys(plan: Plan) -> tuple[int, list[str]]:
    """Give the width of a position in keys, and what each source number's keys end with."""
    endings = [re.sub(r"[^A-Za-z0-9_-]", "_", name)[:60] for name in plan.names]
    return max(9, len(str(len(plan)))), endings


def row_bytes(document: Document, sizes: list[int], *, text: bool) -> int:
    """Say what a row takes in a tar, in bytes, before its pictures are read."""
    document.images = member_names(["jpg"] * len(sizes))
    contents = [*sizes, len(_ENCODER.encode(document))]
    if text:
        contents.append(len(document.words.encode()))
    return sum(BLOCK + size + -size % BLOCK for size in contents)


_MODE_UID_GID = b"0000644\0" + b"0000000\0" * 2
_MTIME = b"00000000000\0"
_REST = b"".join(
    (
        b"0",  # a regular file
        bytes(100),  # no link
        b"ustar\x0000",
        bytes(64),  # no user, no group
        b"0000000\0" * 2,  # no device
        bytes(155 + 12),  # no prefix
    )
)
#: The checksum of a header without name and size; its own field counts as blanks.
_SUM = sum(_MODE_UID_GID) + sum(_MTIME) + 8 * 0x20 + sum(_REST)


def header(name: bytes, size: int) -> bytes:
    """Make the USTAR header of a regular file: mode 0644, all else zero.

    Raises:
        OutputError: The member is larger than 8 GiB.

    >>> import tarfile
    >>> tarfile.TarInfo.frombuf(header(b"a.jpg", 7), "utf-8", "strict").size
    7
    """
    assert 0 < len(name) <= 100, name
    if size > MAX_MEMBER_BYTES:
        raise OutputError(f"member {name.decode()} of {size:,} bytes: a tar holds 8 GiB at most")
    stated = b"%011o\0" % size
    checksum = b"%06o\0 " % (_SUM + sum(name) + sum(stated))
    return b"".join((name.ljust(100, b"\0"), _MODE_UID_GID, stated, _MTIME, checksum, _REST))


_PADDING = [bytes(-size % BLOCK) for size in range(BLOCK)]


class Tar:
    """Writes one tar and its digest; nothing is copied on the way.

    Args:
        path: The file to write; an older one is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digest = xxhash.xxh3_128()
        self._pieces: list[bytes | memoryview] = []
        self._gathered = 0
        #: Bytes so far: where the next header will lie.
        self.offset = 0
        with explained(path):
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)

    def __enter__(self) -> Tar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file >= 0:
            os.close(self._file)

    def add(self, name: str, data: bytes) -> int:
        """Add a member and give the offset of its contents."""
        size = len(data)
        head = header(name.encode("ascii"), size)
        padding = _PADDING[size % BLOCK]
        start = self.offset + BLOCK
        update = self._digest.update  # now, while the bytes are in the processor's cache
        update(head)
        update(data)
        update(padding)
        self._pieces += (head, data, padding)
        taken = BLOCK + size + len(padding)
        self.offset += taken
        self._gathered += taken
        if self._gathered >= _GATHER or len(self._pieces) >= _MOST_PIECES:
            self._write()
        return start

    def _write(self) -> None:
        pieces = self._pieces
        with explained(self._path):
            while pieces:
                written = os.writev(self._file, pieces)
                done = 0
                while done < len(pieces) and written >= len(pieces[done]):
                    written -= len(pieces[done])
                    done += 1
                del pieces[:done]
                if pieces and written:  # a short write: the rest goes with the next call
                    pieces[0] = memoryview(pieces[0])[written:]
        self._gathered = 0

    def finish(self) -> str:
        """End the archive, make it durable, and give its digest, 32 hex digits."""
        end = bytes(2 * BLOCK)
        self._digest.update(end)
        self._pieces.append(end)
        self.offset += len(end)
        self._write()
        with explained(self._path):
            os.fsync(self._file)
            descriptor, self._file = self._file, -1
            os.close(descriptor)
        return self._digest.hexdigest()


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
        plan, layout, number: What the shard is a function of.
        folder: Where it goes.
        expected: The digest that an earlier writing gave, if there was one.
        strict: Stop at the first row that cannot be written, instead of dropping it.

    Returns:
        What its record says, and its part of the index. A shard whose rows were all dropped has
        no file.

    Raises:
        RecordError: With ``strict``, a picture is missing or of another format.
        IntegrityError: The digest is not ``expected``: pictures have changed since.
        DiskError: The disk is full, read-only or failing.
    """
    path = folder / layout.name(number)
    temporary = folder / f".{path.name}.{os.getpid()}.tmp"
    shard = Shard(number=number, name=path.name)
    lines: list[tuple[Any, ...]] = []
    try:
        with Tar(temporary) as tar:
            lines.extend(_add_rows(plan, layout, shard, tar, strict=strict))
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
            sync_folder(folder)
    finally:
        temporary.unlink(missing_ok=True)
    columns = zip(*lines, strict=True) if lines else [()] * len(INDEX_SCHEMA)
    arrays = [pa.array(c, f.type) for c, f in zip(columns, INDEX_SCHEMA, strict=True)]
    return shard, pa.RecordBatch.from_arrays(arrays, schema=INDEX_SCHEMA)


def _add_rows(
    plan: Plan, layout: Layout, shard: Shard, tar: Tar, *, strict: bool
) -> Iterator[tuple[Any, ...]]:
    """Add a shard's rows to its tar; yield a line of the index for each."""
    images = Images(plan.root)
    width, endings = keys(plan)
    first, last = layout.span(shard.number)
    for start in range(first, last, _CHUNK_ROWS):
        stop = min(start + _CHUNK_ROWS, last)
        sources, rows = plan.slice(start, stop)
        numbers = zip(sources.tolist(), rows.tolist(), strict=True)
        found = zip(documents(plan.rows(start, stop)), numbers, strict=True)
        for position, ((document, references), (source, row)) in enumerate(found, start):
            try:
                pictures, formats = _read(images, references)
            except RecordError as error:
                if strict:
                    error.hint = "without strict the row is dropped and counted"
                    raise
                _drop(shard, error, document)
                continue
            document.images = member_names(formats)
            key = f"{position:0{width}d}-{endings[source]}"
            offset = tar.offset
            image_offsets = [
                tar.add(f"{key}.{name}", data)
                for name, data in zip(document.images, pictures, strict=True)
            ]
            encoded = _ENCODER.encode(document)
            json_offset = tar.add(f"{key}.json", encoded)
            words = document.words.encode() if layout.text else b""
            text_offset = tar.add(f"{key}.txt", words) if layout.text else 0
            _count(shard, source, document)
            yield (
                key,
                position,
                source,
                row,
                shard.number,
                offset,
                tar.offset - offset,
                document.images,
                image_offsets,
                [len(data) for data in pictures],
                json_offset,
                len(encoded),
                text_offset,
                len(words),
            )


def _read(images: Images, references: list[str]) -> tuple[list[bytes], list[str]]:
    """Read a row's pictures, each in one piece, and tell their formats."""
    pictures, formats = [], []
    for reference in references:
        try:
            data = images.read(reference)
        except MissingInputError as error:
            raise RecordError(error.message, reason="missing_image", record=reference) from None
        except RecordError as error:
            raise RecordError(error.detail, reason=error.reason, record=reference) from None
        except OSError as error:
            raise DiskError(f"reading {reference} failed: {error.strerror}") from error
        name = image_format(data)
        if name is None:
            raise RecordError(
                "the picture is not JPEG, PNG, WebP or GIF", reason="bad_image", record=reference
            )
        pictures.append(data)
        formats.append(name)
    return pictures, formats


def _drop(shard: Shard, error: RecordError, document: Document) -> None:
    shard.dropped[error.reason] = shard.dropped.get(error.reason, 0) + 1
    named = shard.dropped_first.setdefault(error.reason, [])
    if len(named) < FIRST:  # the reference alone: an error's words may hold a path of this machine
        named.append({"id": document.id, "image": error.record})


def _count(shard: Shard, source: int, document: Document) -> None:
    shard.rows += 1
    shard.images += len(document.images)
    share = shard.shares.setdefault(str(source), Share())
    share.rows += 1
    share.images += len(document.images)
    for counts, value in (
        (share.licenses, document.license),
        (share.languages, document.language),
        *((shard.image_names, name) for name in document.images),
    ):
        counts[value or "unknown"] = counts.get(value or "unknown", 0) + 1
