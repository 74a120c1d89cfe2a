"""What an export says of itself: the layout, a record a shard, and the manifest.

All of it lies in the folder ``vision_ift/`` of an export:

==================  =====================================================================
file                what it says
==================  =====================================================================
layout.json         what decides the bytes beside the plan; written first
plan.json           the plan's lock
recipe.yaml         the recipe as it was read
groups.bin          in a uniform export, the group of every row (two bytes each, little-endian)
done/000000.json    one finished shard (``.arrow`` beside it: its part of the index)
manifest.json       the whole export; written last: what it does not name does not exist
index.arrow         where every member of every shard lies
==================  =====================================================================

Nothing in them depends on the clock or on where things lie on this machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.ipc as ipc
import xxhash

from vision_ift._conversation import SCHEMA_VERSION
from vision_ift._disk import write_file
from vision_ift._errors import IntegrityError, unopened

if TYPE_CHECKING:  # a stream reads manifests, and has no use for what a plan imports
    from vision_ift._plan.plan import Plan

#: Our own folder in an export, and what lies in it.
OWN = "vision_ift"
LAYOUT = f"{OWN}/layout.json"
PLAN = f"{OWN}/plan.json"
RECIPE = f"{OWN}/recipe.yaml"
DONE = f"{OWN}/done"
GROUPS = f"{OWN}/groups.bin"
MANIFEST = f"{OWN}/manifest.json"
INDEX = f"{OWN}/index.arrow"
LOCK = f"{OWN}/.lock"

#: Files are hashed in pieces of this size, in bytes.
_PIECE_BYTES = 1 << 20

#: How many dropped rows of a reason are named.
FIRST = 10

#: Where every member of a shard lies: one line a conversation. Offsets are those of contents in the
#: tar, but ``offset`` is that of the first header; ``size`` spans the conversation's members.
#: Without ``.txt`` members, ``text_offset`` is 0.
INDEX_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), False),
        pa.field("position", pa.int64(), False),
        pa.field("source", pa.int32(), False),
        pa.field("row", pa.int64(), False),
        pa.field("shard", pa.int32(), False),
        pa.field("offset", pa.int64(), False),
        pa.field("size", pa.int64(), False),
        pa.field("image_names", pa.list_(pa.field("item", pa.string(), False)), False),
        pa.field("image_offsets", pa.list_(pa.field("item", pa.int64(), False)), False),
        pa.field("image_sizes", pa.list_(pa.field("item", pa.int64(), False)), False),
        pa.field("json_offset", pa.int64(), False),
        pa.field("json_size", pa.int64(), False),
        pa.field("text_offset", pa.int64(), False),
        pa.field("text_size", pa.int64(), False),
    ]
)

S = TypeVar("S", bound=msgspec.Struct)


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of a uniform export whose pictures are of the same formats in the same order.

    Attributes:
        name: The folder that holds its shards.
        formats: Endings of the image members: ``["jpg"]``, ``["00.jpg", "01.png"]``.
        rows: How many there are.
        rows_per_shard: Its shard ``k`` holds its rows ``k * rows_per_shard`` and so on.
        bytes: What they take in tars.
    """

    name: str
    formats: list[str]
    rows: int
    rows_per_shard: int
    bytes: int

    @property
    def shards(self) -> int:
        """How many shards its rows come to."""
        return -(-self.rows // self.rows_per_shard)


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """What decides the bytes of an export beside the plan; written before the first shard.

    Shards are numbered from 0, in a uniform export through all groups.

    Attributes:
        plan_digest: The plan's digest.
        rows: Rows of the plan.
        rows_per_shard: Shard ``k`` holds the plan's rows ``k * rows_per_shard`` and so on; in a
            uniform export every group has its own.
        shard_bytes: The size of a shard that was asked for, in bytes.
        measured_rows, measured_bytes: The rows that were measured before the first byte, and what
            they take in a tar: another size later says that pictures changed.
        split: What the shards' names start with.
        text: Whether there are ``.txt`` members.
        uniform: Whether rows are grouped by the formats of their pictures.
        groups, groups_digest: The groups, and xxh3-128 of the file that says each row's group.
        dropped, dropped_first: As for a :class:`Shard`: rows that are in no group.
    """

    schema_version: int = SCHEMA_VERSION
    plan_digest: str
    rows: int
    rows_per_shard: int
    shard_bytes: int
    measured_rows: int
    measured_bytes: int
    split: str
    text: bool
    uniform: bool = False
    groups: list[Group] = []
    groups_digest: str = ""
    dropped: dict[str, int] = {}
    dropped_first: dict[str, list[dict[str, str]]] = {}

    @property
    def shards(self) -> int:
        """How many shards the plan comes to."""
        if self.uniform:
            return sum(group.shards for group in self.groups)
        return -(-self.rows // self.rows_per_shard)

    def place(self, number: int) -> tuple[int, int]:
        """The group of a shard of a uniform export, and the shard's number in it."""
        assert self.uniform
        for place, group in enumerate(self.groups):
            if number < group.shards:
                return place, number
            number -= group.shards
        raise AssertionError(number)

    def name(self, number: int) -> str:
        """The path of a shard, relative to the export."""
        if self.uniform:
            group, number = self.place(number)
            return f"{self.groups[group].name}/{self.split}-{number:06d}.tar"
        return f"{self.split}-{number:06d}.tar"

    def span(self, number: int) -> tuple[int, int]:
        """What a shard holds: places in the plan, from and to (not included).

        In a uniform export they are places among the rows of its group.
        """
        rows, each = self.rows, self.rows_per_shard
        if self.uniform:
            group, number = self.place(number)
            rows, each = self.groups[group].rows, self.groups[group].rows_per_shard
        return number * each, min((number + 1) * each, rows)

    def formats(self, number: int) -> list[str] | None:
        """The image members of every row of a shard; ``None`` where the layout does not say."""
        return self.groups[self.place(number)[0]].formats if self.uniform else None


class Share(msgspec.Struct, kw_only=True):
    """What one part of the recipe has in a shard, or in an export."""

    rows: int = 0
    images: int = 0
    licenses: dict[str, int] = {}
    languages: dict[str, int] = {}


class Shard(msgspec.Struct, kw_only=True):
    """A finished shard: what its record says.

    Attributes:
        number, name: Which one; a shard of no rows has no file.
        rows, images: Conversations and pictures in it.
        bytes: The size of the file.
        xxh3_128: Digest of the file, 32 hex digits; empty where there is no file.
        shares: Source number, as text, to what it has in the shard.
        image_names: Ending of an image member (``jpg``, ``00.jpg``) to their number.
        dropped: Reason to number of rows left out.
        dropped_first: Reason to the first ten of them: the row's id and the picture's reference.
    """

    number: int
    name: str
    rows: int = 0
    images: int = 0
    bytes: int = 0
    xxh3_128: str = ""
    shares: dict[str, Share] = {}
    image_names: dict[str, int] = {}
    dropped: dict[str, int] = {}
    dropped_first: dict[str, list[dict[str, str]]] = {}


class ShardFile(msgspec.Struct, frozen=True, kw_only=True):
    """One shard as the manifest names it."""

    name: str
    rows: int
    images: int
    bytes: int
    xxh3_128: str


class PartOfExport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one entry of the recipe.

    Attributes:
        name, source: The entry's name and its source's.
        asked: Its share of the rows asked for, of 1; six decimals.
        planned: Rows of it in the plan; those that are not in ``rows`` were dropped.
        rows, images, licenses, languages: What was delivered; rows by licence and language.
    """

    name: str
    source: str
    asked: float
    planned: int
    rows: int
    images: int
    licenses: dict[str, int]
    languages: dict[str, int]


class GroupOfExport(msgspec.Struct, frozen=True, kw_only=True):
    """One group of a uniform export: a folder of shards whose rows have the same members.

    Attributes:
        name: The folder.
        image_names: Endings of the image members of every row, in order.
        rows, images, bytes: What its shards hold.
    """

    name: str
    image_names: list[str]
    rows: int
    images: int
    bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A finished export.

    Attributes:
        name: The recipe's name.
        export_digest: xxh3-128 over the shards' numbers and digests, in order: equal for equal
            shards.
        rows, images, bytes: Conversations, pictures and bytes in all shards.
        image_names: Ending of an image member (``jpg``, ``00.jpg``) to their number.
        dropped, dropped_first: As for a :class:`Shard`, over all of them.
        missing: Entries of the recipe that were left out, by name.
        parts: By source number.
        shards: In order, those of no rows left out; names are paths relative to the export.
        uniform: Whether rows are grouped by the formats of their pictures.
        groups: The groups of a uniform export.
        files: Path of each of our other files, relative to the export, to its xxh3-128, 32 hex
            digits: the layout, the plan, the recipe, the index and the groups' file, where there
            is one. Exports of before have none.

    The others are those of :class:`Layout`.
    """

    schema_version: int = SCHEMA_VERSION
    name: str
    plan_digest: str
    export_digest: str
    split: str
    text: bool
    rows_per_shard: int
    rows: int
    images: int
    bytes: int
    image_names: dict[str, int]
    dropped: dict[str, int]
    dropped_first: dict[str, list[dict[str, str]]]
    missing: list[str]
    parts: list[PartOfExport]
    shards: list[ShardFile]
    uniform: bool = False
    groups: list[GroupOfExport] = []
    files: dict[str, str] = {}

    def shards_of(self, group: str) -> list[ShardFile]:
        """The shards in one group's folder."""
        return [shard for shard in self.shards if shard.name.startswith(f"{group}/")]


def encode(value: Any) -> bytes:
    """Write JSON as our files have it: sorted keys, indented by one, a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=1) + b"\n"


def put(path: Path, data: bytes) -> None:
    """Put a file in place, unless it is there already with these bytes."""
    try:
        if path.read_bytes() == data:
            return
    except OSError:
        pass
    write_file(path, data)


def read(path: Path, kind: type[S]) -> S | None:
    """Read one of our files; ``None`` where there is none.

    Raises:
        IntegrityError: It is there and is not what was written.
        MissingInputError: The system does not let us read it.
        DiskError: The disk fails.
    """
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise unopened(str(path), error) from None
    try:
        value = msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}", hint="remove the file") from None
    version = getattr(value, "schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise IntegrityError(f"{path} is of version {version}; this is {SCHEMA_VERSION}")
    return value


def record_path(folder: Path, number: int) -> Path:
    """Where the record of a shard lies."""
    return folder / DONE / f"{number:06d}.json"


def index_path(folder: Path, number: int) -> Path:
    """Where a shard's part of the index lies."""
    return folder / DONE / f"{number:06d}.arrow"


def record(folder: Path, shard: Shard, index: pa.RecordBatch) -> None:
    """Record a shard that is in place and durable."""
    sink = pa.BufferOutputStream()
    with ipc.new_file(sink, INDEX_SCHEMA) as writer:
        writer.write_batch(index)
    write_file(index_path(folder, shard.number), sink.getvalue().to_pybytes())
    write_file(record_path(folder, shard.number), encode(shard))


def recorded(folder: Path, layout: Layout, number: int) -> Shard | None:
    """Read the record of a shard, whether or not its file is still there."""
    shard = read(record_path(folder, number), Shard)
    if shard is not None and (shard.number, shard.name) != (number, layout.name(number)):
        raise IntegrityError(
            f"{record_path(folder, number)} is about {shard.name}", hint="remove the file"
        )
    return shard


def in_place(folder: Path, shard: Shard | ShardFile) -> bool:
    """Say whether a shard's file is there with its size; one of no rows has no file."""
    try:
        return (folder / shard.name).stat().st_size == shard.bytes
    except OSError:
        return shard.rows == 0


def indexes(folder: Path, layout: Layout) -> Iterable[pa.RecordBatch]:
    """Read the shards' parts of the index, in order; those of no rows are left out."""
    for number in range(layout.shards):
        path = index_path(folder, number)
        try:
            with ipc.open_file(path.read_bytes()) as reader:
                batch = reader.get_batch(0)
        except OSError as error:
            raise unopened(str(path), error, hint="run the same command again") from None
        except pa.ArrowInvalid as error:
            raise IntegrityError(
                f"{path} cannot be read: {error}", hint="remove it and run the same command again"
            ) from None
        if batch.num_rows:
            yield batch


def file_digests(folder: Path, *, uniform: bool) -> dict[str, str]:
    """Give what :class:`Manifest` says in ``files``, from the files as they lie there.

    Raises:
        MissingInputError: One is not there.
        DiskError: The disk fails.
    """
    found = {}
    for name in (INDEX, LAYOUT, PLAN, RECIPE, *([GROUPS] if uniform else [])):
        digest = xxhash.xxh3_128()
        try:
            with (folder / name).open("rb", buffering=0) as file:
                while piece := file.read(_PIECE_BYTES):
                    digest.update(piece)
        except OSError as error:
            raise unopened(
                str(folder / name),
                error,
                hint="run the same command again: it makes the file anew",
            ) from None
        found[name] = digest.hexdigest()
    return found


def merge(plan: Plan, layout: Layout, shards: list[Shard]) -> Manifest:
    """Make the manifest of all shards' records, given in order; its ``files`` are still empty."""
    digest = xxhash.xxh3_128(f"vision_ift export {SCHEMA_VERSION}".encode())
    shares = [Share() for _ in plan.names]
    image_names: dict[str, int] = {}
    dropped = dict(layout.dropped)
    first = {reason: list(named) for reason, named in layout.dropped_first.items()}
    for shard in shards:
        digest.update(shard.number.to_bytes(8, "little") + bytes.fromhex(shard.xxh3_128))
        _add(image_names, shard.image_names)
        _add(dropped, shard.dropped)
        for reason, named in shard.dropped_first.items():
            first.setdefault(reason, []).extend(named)
        for source, share in shard.shares.items():
            whole = shares[int(source)]
            whole.rows += share.rows
            whole.images += share.images
            _add(whole.licenses, share.licenses)
            _add(whole.languages, share.languages)
    asked = sum(plan.asked, Fraction(0)) or Fraction(1)
    parts = [
        PartOfExport(
            name=entry.name,
            source=entry.source,
            asked=round(float(plan.asked[number] / asked), 6),
            planned=planned,
            rows=share.rows,
            images=share.images,
            licenses=share.licenses,
            languages=share.languages,
        )
        for number, (entry, planned, share) in enumerate(
            zip(plan.recipe.mix, plan.counts(), shares, strict=True)
        )
    ]
    files = [
        ShardFile(
            name=shard.name,
            rows=shard.rows,
            images=shard.images,
            bytes=shard.bytes,
            xxh3_128=shard.xxh3_128,
        )
        for shard in shards
        if shard.rows
    ]
    return Manifest(
        name=plan.recipe.name,
        plan_digest=layout.plan_digest,
        export_digest=digest.hexdigest(),
        split=layout.split,
        text=layout.text,
        rows_per_shard=layout.rows_per_shard,
        rows=sum(one.rows for one in files),
        images=sum(one.images for one in files),
        bytes=sum(one.bytes for one in files),
        image_names=image_names,
        dropped=dropped,
        dropped_first={reason: named[:FIRST] for reason, named in first.items()},
        missing=sorted(plan.missing),
        parts=parts,
        shards=files,
        uniform=layout.uniform,
        groups=[_group(group, files) for group in layout.groups],
    )


def _group(group: Group, files: list[ShardFile]) -> GroupOfExport:
    mine = [one for one in files if one.name.startswith(f"{group.name}/")]
    return GroupOfExport(
        name=group.name,
        image_names=group.formats,
        rows=sum(one.rows for one in mine),
        images=sum(one.images for one in mine),
        bytes=sum(one.bytes for one in mine),
    )


def _add(counts: dict[str, int], more: dict[str, int]) -> None:
    for word, count in more.items():
        counts[word] = counts.get(word, 0) + count
