"""The domain of an MMInstruct row: read off its picture's path, or off a copy of the row.

The files of all rows have no field for it. A picture's path begins with it
(``image_comparison/0001/00000053.jpg``); a row whose path names none, or that has no picture, is
looked up among the copies by domain, where the file's name is the domain: as the same record, by
its id, its picture, its first question. A key that copies of two domains share decides nothing.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash
from msgspec import UNSET
from numpy.typing import NDArray

from vision_ift import RecordError

from ._llava_records import TAG, Record, records_of
from ._llava_rows import Described, paths_of
from ._mminstruct_types import languages_of, types_of

#: The domains of the release's questions, those of its captions, and two that only the data engine
#: has.
QUESTIONED = (
    "artwork",
    "attribute_recognition",
    "brand_recognition",
    "commonsense_reasoning",
    "complex_reasoning",
    "future_prediction",
    "image_comparison",
    "image_description",
    "image_emotion",
    "image_quality",
    "image_scene",
    "image_style",
    "landmark",
    "meme_comprehension",
    "numerical_calculation",
    "object_localization",
    "object_relation",
    "ocr",
    "posters",
    "social_relation",
    "spatial_relationship",
    "species_recognition",
    "writing",
)
CAPTIONED = tuple(
    name
    for name in QUESTIONED
    if name not in ("image_description", "numerical_calculation", "writing")
)
DOMAINS = (*QUESTIONED, "celebrity_recognition", "structuralized_imagetext_understanding")

_SEVERAL = -2


class Copy(NamedTuple):
    """A file of one domain's rows."""

    path: str
    domain: str


class Rules(NamedTuple):
    """How the rows of one file are described: plain data, so that any process can do it.

    Attributes:
        captions: Whether the file is one of captions.
        known: The names that are domains.
        domain: The domain that the file itself is of, where it is.
        copies: The files by domain, for rows that name none.
        token: Tells one build from the next, so that none sees an older one's copies.
    """

    captions: bool
    known: frozenset[str]
    domain: str | None
    copies: tuple[Copy, ...]
    token: int


def describe(rules: Rules, record: Record) -> Described:
    """Give domain, language and kinds of instruction of a record."""
    try:
        paths = paths_of(record)
    except RecordError:  # dropped for it, later and with its name
        paths = []
    domain = domain_of_path(paths[0], rules.known) if paths else None
    meta: list[tuple[str, object]] = [("types", types_of(record, captions=rules.captions))]
    if domain is None:
        domain = rules.domain
    elif rules.domain not in (None, domain):
        meta.append(("listed_under", rules.domain))
    if domain is None and rules.copies:
        domain = _copied(rules.copies, rules.token).domain_of(record)
    languages = languages_of([turn.value for turn in record.conversations])
    if len(languages) > 1:
        meta.append(("languages", languages))
    return Described(domain, languages[0], tuple(meta))


def domain_of_path(path: str, known: frozenset[str]) -> str | None:
    """Give the first folder of a path that is a domain.

    >>> domain_of_path("images/ocr/0001/00000002.jpg", frozenset(DOMAINS))
    'ocr'
    """
    return next((part for part in path.split("/")[:-1] if part in known), None)


@functools.lru_cache(maxsize=1)
def _copied(files: tuple[Copy, ...], token: int) -> _Copies:  # noqa: ARG001 - part of the key
    return _Copies(files)


class _Copies:
    """Which domain the copies of a record lie under: sorted digests, 10 bytes a key."""

    def __init__(self, files: tuple[Copy, ...]) -> None:
        self._domains = sorted({file.domain for file in files})
        digests: list[list[int]] = [[], [], [], []]
        numbers: list[list[int]] = [[], [], [], []]
        for file in files:
            number = self._domains.index(file.domain)
            for record in records_of(Path(file.path)):
                for level, digest in enumerate(_keys(record)):
                    if digest is not None:
                        digests[level].append(digest)
                        numbers[level].append(number)
        self._levels = [_sorted(*pair) for pair in zip(digests, numbers, strict=True)]

    def domain_of(self, record: Record) -> str | None:
        """Give the domain by the first key that decides."""
        for digest, (known, numbers) in zip(_keys(record), self._levels, strict=True):
            if digest is None or not len(known):
                continue
            place = int(np.searchsorted(known, np.uint64(digest)))
            if place < len(known) and known[place] == digest and numbers[place] != _SEVERAL:
                return self._domains[int(numbers[place])]
        return None


def _keys(record: Record) -> tuple[int | None, ...]:
    """Digests of the record, its id, its picture and its first question; ``None``: it has none."""
    try:
        paths = paths_of(record)
    except RecordError:
        paths = []
    texts = [turn.value for turn in record.conversations]
    name = None if record.id is UNSET or record.id == "" else str(record.id)
    asked = next((turn.value for turn in record.conversations if turn.speaker == "human"), "")
    asked = asked.replace(TAG, "").strip()
    return (
        _digest("\0".join((*paths, "", *texts))),
        _digest(name),
        _digest(paths[0] if paths else None),
        _digest(asked),
    )


def _digest(text: str | None) -> int | None:
    if not text:
        return None
    return int(xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass")))


def _sorted(digests: list[int], numbers: list[int]) -> tuple[NDArray[np.uint64], NDArray[np.int16]]:
    """Each digest once, with its domain's number, or the mark of those that several have."""
    keys = np.array(digests, np.uint64)
    owners = np.array(numbers, np.int16)
    order = np.lexsort((owners, keys))
    keys, owners = keys[order], owners[order]
    known, first, counts = np.unique(keys, return_index=True, return_counts=True)
    last = first + counts - 1
    found = owners[first]
    if len(known):
        found = np.where(found == owners[last], found, np.int16(_SEVERAL))
    return known, found.astype(np.int16)
