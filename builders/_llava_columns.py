"""Records of the LLaVA layout as Arrow columns, a few thousand at a time.

Every rule is checked in vectors, with a yes or no a record; whatever is not plainly in order goes
to ``settle``, which says what is wrong or finds that it was in order after all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import UNSET
from numpy.typing import NDArray

from vision_ift import Batch, Dropped, RecordError
from vision_ift._conversation import MAX_TEXT_CHARS, SCHEMA, assemble, encode_meta, to_batch

from ._llava_records import TAG, Found, Record, move_system
from ._llava_rows import (
    OTHER_MEDIA,
    ROLES,
    TAG_AND_NEWLINES,
    Described,
    Reading,
    meta_of,
    paths_of,
    settle,
)
from ._pictures import Pictures

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

_NAMES = pa.array(["user", "assistant", "system", None])
_TYPES = pa.array(["text", "image"])
_COLON = ord(":")


_ESCAPED_COLON = re.compile(rb"\\u003[aA]")
_TAG_BYTES = re.compile(TAG.encode())


class _Codes(dict[str, int]):
    def __missing__(self, key: str) -> int:
        return 3


_CODES = _Codes({word: _NAMES.to_pylist().index(role) for word, role in ROLES.items()})


class Turns(NamedTuple):
    """The turns of all records, one after the other.

    Attributes:
        values: Their texts; ``array`` the same as Arrow.
        codes: Their roles: 0 user, 1 assistant, 2 system, 3 unknown.
        counts: Turns a record; ``bounds`` where each record's begin, and the end.
        tags: ``<image>`` tags a turn; ``tagged`` the turns that have any; ``words`` the texts
            between their tags, as an Arrow list a turn.
    """

    values: list[str]
    array: pa.Array
    codes: NDArray[np.uint8]
    counts: Ints
    bounds: Ints
    tagged: Ints
    words: pa.Array
    tags: Ints

    @classmethod
    def of(cls, records: Sequence[Record]) -> Turns:
        """Lay out the turns of some records."""
        turns = [turn for record in records for turn in record.conversations]
        values = [turn.value for turn in turns]
        array = pa.array(values, pa.string())
        counts = np.fromiter(
            (len(record.conversations) for record in records), np.int64, len(records)
        )
        bounds = np.zeros(len(records) + 1, np.int64)
        np.cumsum(counts, out=bounds[1:])
        tags = _tags(array)
        tagged = np.flatnonzero(tags)
        words = pc.split_pattern_regex(array.take(pa.array(tagged)), TAG_AND_NEWLINES)
        codes = _codes([turn.speaker for turn in turns])
        return cls(values, array, codes, counts, bounds, tagged, words, tags)

    def per_record(self, of_turns: NDArray[Any]) -> Ints:
        """Sum a number a turn to a number a record."""
        sums = np.zeros(len(of_turns) + 1, np.int64)
        np.cumsum(of_turns, out=sums[1:])
        return sums[self.bounds[1:]] - sums[self.bounds[:-1]]

    def in_order(self) -> Bools:
        """Whether each record's roles alternate as ``check`` asks."""
        some = self.counts > 0
        system = np.zeros(len(self.counts), np.int64)
        system[some] = self.codes[self.bounds[:-1][some]] == 2
        place = np.arange(len(self.codes)) - np.repeat(self.bounds[:-1] + system, self.counts)
        wanted = np.where(place < 0, 2, place & 1)
        spoken = self.counts - system
        fits = self.per_record(self.codes != wanted) == 0
        return np.asarray(fits & (spoken > 0) & (spoken % 2 == 0))

    def filled(self) -> Bools:
        """Whether each record's turns all hold a picture, or text that is not too long."""
        offsets, data = _buffers(self.array)
        lengths = np.diff(offsets)
        first = data[np.minimum(offsets[:-1], max(len(data) - 1, 0))] if len(data) else offsets[:-1]
        # A text that begins with a visible ASCII sign is not blank; the others are looked at.
        doubtful = (lengths == 0) | (first <= 0x20) | (first >= 0x7F) | (lengths > MAX_TEXT_CHARS)
        doubtful &= (self.tags == 0) | (lengths > MAX_TEXT_CHARS)
        bad = np.zeros(len(lengths), bool)
        for turn in np.flatnonzero(doubtful).tolist():
            text = self.values[turn]
            bad[turn] = len(text) > MAX_TEXT_CHARS or not text.strip()
        return np.asarray(self.per_record(bad) == 0)

    def parts(self) -> tuple[pa.Array, pa.Array, Ints]:
        """Types and texts of all parts, and parts a turn."""
        words = self.words.flatten()
        slots = self.tags * 2 + 1
        begin = np.cumsum(slots) - slots
        # Where each part's text is found in turns + words; -1 is a picture.
        where = np.full(int(slots.sum()), -1, np.int64)
        plain = self.tags == 0
        where[begin[plain]] = np.flatnonzero(plain)
        pieces = self.tags[self.tagged] + 1
        ahead = np.cumsum(pieces) - pieces
        inside = np.arange(len(words)) - np.repeat(ahead, pieces)
        slot = np.repeat(begin[self.tagged], pieces) + 2 * inside
        where[slot] = len(self.values) + np.arange(len(words))
        empty = pc.equal(pc.binary_length(words), 0).to_numpy(zero_copy_only=False)
        keep = np.ones(len(where), bool)
        keep[slot[empty]] = False
        counts = slots - np.bincount(np.repeat(self.tagged, pieces)[empty], minlength=len(slots))
        where = where[keep]
        is_image = where < 0
        texts = pa.concat_arrays([self.array, words]).take(pa.array(where, mask=is_image))
        return _TYPES.take(pa.array(is_image.astype(np.int8))), texts, counts


def rows_of(
    found: Sequence[Found],
    reading: Reading,
    pictures: Pictures,
    *,
    places: Sequence[int] = (),
    refused: Sequence[tuple[int, Dropped]] = (),
) -> Batch:
    """Make a batch of records that were read one by one.

    Args:
        found: The records.
        reading: How they are to be read.
        pictures: Where their pictures are.
        places: The place of each among all that was read; ``refused`` has the other places.
        refused: What could not be read, with its place.
    """
    nothing = Record([])
    records = [one.record if not one.odd else nothing for one in found]
    odd = np.fromiter((one.odd or _shows_media(one) for one in found), bool, len(found))
    extras = [one.extras for one in found]
    names = [one.name if not one.odd else "" for one in found]
    turns = Turns.of(records)
    return _finish(
        found,
        names,
        records,
        extras,
        turns,
        ~odd,
        reading,
        pictures,
        places=places,
        refused=refused,
    )


def quick_rows_of(
    records: Sequence[Record],
    names: Sequence[str],
    data: bytes,
    reading: Reading,
    pictures: Pictures,
) -> Batch | None:
    """Make a batch of records that were decoded at once; ``None`` if a key may stand twice."""
    moved = sum([move_system(record) for record in records if record.system])
    turns = Turns.of(records)
    if not _accounted(records, turns, data, moved):
        return None
    found = _Lazy(records, names)
    return _finish(
        found, names, records, None, turns, np.ones(len(records), bool), reading, pictures
    )


class _Lazy(Sequence[Found]):
    """Quickly decoded records as ``Found``, made when one is asked for."""

    def __init__(self, records: Sequence[Record], names: Sequence[str]) -> None:
        self._records = records
        self._names = names

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, place: Any) -> Any:
        return Found(self._names[place], self._records[place], {}, odd=False)


def _shows_media(found: Found) -> bool:
    return any(found.extras.get(key) for key in OTHER_MEDIA)


def _accounted(records: Sequence[Record], turns: Turns, data: bytes, moved: int) -> bool:
    """Whether every colon in the bytes is a key's or stands in a text that was kept.

    The decoder keeps the last of two equal keys. The other one's colon, and those of its value, are
    then in the bytes but not in what was decoded, so the two counts differ: each colon of the text
    is one of a key or one in a string, unless it is written as an escape. ``moved`` turns had one
    key, not two.
    """
    if _ESCAPED_COLON.search(data):
        return False
    _, texts = _buffers(turns.array)
    colons = int(np.count_nonzero(texts == _COLON))
    keys = 2 * len(turns.values) - moved + len(records)
    for values in (
        [record.id for record in records],
        [record.image for record in records],
        [record.images for record in records],
        [record.task_name for record in records],
        [record.model for record in records],
        [record.system for record in records],
    ):
        given = [value for value in values if value is not UNSET]
        keys += len(given)
        words = [value for value in given if type(value) is str]
        if len(words) < len(given):
            for value in given:
                if type(value) is list:
                    words += value
        colons += "".join(words).count(":")
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == _COLON)) == keys + colons


def _finish(
    found: Sequence[Found],
    names: Sequence[str],
    records: Sequence[Record],
    extras: Sequence[dict[str, Any]] | None,
    turns: Turns,
    fine: Bools,
    reading: Reading,
    pictures: Pictures,
    *,
    places: Sequence[int] = (),
    refused: Sequence[tuple[int, Dropped]] = (),
) -> Batch:
    if not records:
        return Batch(pa.RecordBatch.from_pylist([], SCHEMA), [one for _, one in refused])
    paths, references, counts, located = _pictures(records, reading, pictures)
    fine = fine & located & turns.in_order() & turns.filled()
    fine &= turns.per_record(turns.tags) == counts
    if "" in names or max(map(len, names), default=0) > MAX_TEXT_CHARS:
        fine &= [0 < len(name) <= MAX_TEXT_CHARS for name in names]
    fine &= [not record.system for record in records]
    described = list(map(reading.describe, records)) if reading.describe else None
    tasks = [one.task for one in described or ()] or [one.task_name or None for one in records]
    fine &= [task is None or len(task) <= MAX_TEXT_CHARS for task in tasks]
    types, texts, part_counts = turns.parts()
    rows = assemble(
        ids=names,
        source=reading.source,
        images=references,
        image_paths=paths,
        image_counts=counts,
        roles=_NAMES.take(pa.array(turns.codes)),
        role_counts=turns.counts,
        part_types=types,
        part_texts=texts,
        part_counts=part_counts,
        split=reading.split,
        task=tasks,
        language=[one.language for one in described] if described else reading.language,
        license=reading.license,
        meta=_metas(records, extras, described, fine, reading),
    )
    dropped = list(refused)
    if not fine.all():
        rows, more = _settle_rest(rows, found, fine, reading, pictures)
        dropped += [(places[place] if places else place, one) for place, one in more]
        dropped.sort(key=lambda pair: pair[0])
    return Batch(rows, [one for _, one in dropped])


def _settle_rest(
    rows: pa.RecordBatch,
    found: Sequence[Found],
    fine: Bools,
    reading: Reading,
    pictures: Pictures,
) -> tuple[pa.RecordBatch, list[tuple[int, Dropped]]]:
    """Settle the records that are not plainly fine, and put those that are fine in their places."""
    kept = []
    order = np.flatnonzero(fine).tolist()
    dropped = []
    for place in np.flatnonzero(~fine).tolist():
        one = settle(found[place], reading, pictures)
        if isinstance(one, Dropped):
            dropped.append((place, one))
        else:
            kept.append(one)
            order.append(place)
    rows = rows.filter(pa.array(fine))
    if kept:
        both = pa.Table.from_batches([rows, to_batch(kept, source=reading.source)])
        ordered = both.combine_chunks().take(pa.array(np.argsort(order, kind="stable")))
        (rows,) = ordered.combine_chunks().to_batches()
    return rows, dropped


def _pictures(
    records: Sequence[Record], reading: Reading, pictures: Pictures
) -> tuple[list[str], list[str | None], Ints, Bools]:
    """Paths and references of all pictures, pictures a record, and which records have them all."""
    paths: list[str] = []
    references: list[str | None] = []
    counts = np.zeros(len(records), np.int64)
    located = np.ones(len(records), bool)
    keep = reading.keep_missing
    for place, record in enumerate(records):
        image = record.image
        try:
            if type(image) is str and not record.images:
                references.append(pictures.reference(image, keep=keep))
                paths.append(image)
                counts[place] = 1
            elif image is not UNSET or record.images is not UNSET:
                several = paths_of(record)
                references += [pictures.reference(path, keep=keep) for path in several]
                paths += several
                counts[place] = len(several)
        except RecordError:
            located[place] = False
    return paths, references, counts, located


def _metas(
    records: Sequence[Record],
    extras: Sequence[dict[str, Any]] | None,
    described: Sequence[Described] | None,
    fine: Bools,
    reading: Reading,
) -> Any:
    constant = encode_meta(dict(reading.meta))
    if extras is None and described:
        return _described_metas(records, described, reading)
    if extras is None:
        known: dict[Any, str] = {UNSET: constant}
        metas = []
        for record in records:
            model = record.model
            if model not in known:
                known[model] = encode_meta(meta_of(record, {}, reading))
            metas.append(known[model])
        return metas if len(known) > 1 else constant
    said: list[Described | None] = [*described] if described else [None] * len(records)
    return [
        encode_meta(meta_of(record, more, reading, one)) if good else constant
        for record, more, one, good in zip(records, extras, said, fine.tolist(), strict=True)
    ]


def _described_metas(
    records: Sequence[Record], described: Sequence[Described], reading: Reading
) -> list[str]:
    """The ``meta`` of described records, each different one encoded once."""
    known: dict[Any, str] = {}
    metas = []
    for record, one in zip(records, described, strict=True):
        key = (record.model, record.task_name, one.meta)
        if key not in known:
            known[key] = encode_meta(meta_of(record, {}, reading, one))
        metas.append(known[key])
    return metas


def _codes(speakers: list[str]) -> NDArray[np.uint8]:
    """The roles as numbers; most files say nothing but human, gpt, human, gpt …"""
    if speakers == ["human", "gpt"] * (len(speakers) // 2):
        return np.tile(np.array([0, 1], np.uint8), len(speakers) // 2)
    return np.frombuffer(bytes([_CODES[speaker] for speaker in speakers]), np.uint8)


def _tags(texts: pa.Array) -> Ints:
    """Tags in each text, found in all of them at once."""
    offsets, data = _buffers(texts)
    found = [match.start() for match in _TAG_BYTES.finditer(data.data)]
    places = np.array(found, np.int64)
    owners = np.searchsorted(offsets, places, side="right") - 1
    whole = places + len(TAG) <= offsets[owners + 1]  # not half in one text and half in the next
    return np.bincount(owners[whole], minlength=len(texts))


def _buffers(array: pa.Array) -> tuple[Ints, NDArray[np.uint8]]:
    """Offsets and bytes of a string array that starts at its buffers' start."""
    _, offsets, data = array.buffers()
    bounds = np.frombuffer(offsets, np.int32, len(array) + 1).astype(np.int64)
    empty = np.zeros(0, np.uint8)
    return bounds, np.frombuffer(data, np.uint8, int(bounds[-1])) if data is not None else empty
