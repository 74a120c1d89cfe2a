"""Rows that say or show the same: groups of copies, inside a source and between sources.

Every row gets a key, and rows of one key are a group. Equal keys are made of equal contents; near
ones of leaders: in the order of the rows, a text or picture that is close to an earlier leader
takes the key of the first such leader, and becomes a leader itself where there is none. So whatever
is left out is close to something that is kept, and nothing is left out for being close to a copy of
a copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from vision_ift._build import Progress, silent
from vision_ift._likeness.minhash import SHINGLE_WORDS, alike
from vision_ift._likeness.near import within
from vision_ift._likeness.pictures import HASHED, Fingerprints, fingerprints
from vision_ift._likeness.rows import Part, Shown, whole_texts
from vision_ift._likeness.words import Words, join, normalise, shingles, words_of
from vision_ift._pictures.child import Limits
from vision_ift._pictures.images import Images

if TYPE_CHECKING:
    from vision_ift._recipe.recipe import Duplicates
    from vision_ift._recipe.select import Selection

#: What near means where nothing else is said: bits of 64, and the Jaccard index of texts.
PICTURE_DISTANCE = 6
TEXT_SIMILARITY = 0.8

#: The key of a row that cannot be a copy: without text, without pictures, or with one not read.
ALONE = -1

#: The folder beside a table in which its pictures' fingerprints are kept.
CACHE = "likeness"


def extra_copies(
    found: Mapping[str, Selection],
    rule: Duplicates,
    *,
    root: Path,
    jobs: int = 1,
    progress: Progress = silent,
) -> dict[str, NDArray[np.int64]]:
    """Find what a recipe's ``duplicates:`` leaves out.

    Of each group the first ``rule.keep`` rows stay, in the order of the entries and, inside an
    entry, of the ids: so a row that is added to the end of a source takes nobody's place.

    Args:
        found: Entry to what it selects, in the recipe's order.
        rule: What makes two rows the same, and how many of them are kept.
        root: Where the pictures' references lead.
        jobs: Processes that decode pictures.

    Returns:
        Row numbers of each entry's table, in rising order; entries that lose nothing have none.
    """
    parts = [Part(name, one.table, one.rows) for name, one in found.items()]
    found_keys = row_keys(
        parts, by=rule.by, near=rule.near, root=root, jobs=jobs, progress=progress
    )
    extra = beyond(found_keys.keys, places(parts), keep=rule.keep)
    taken: dict[str, NDArray[np.int64]] = {}
    start = 0
    for part in parts:
        lost = np.flatnonzero(extra[start : start + len(part)])
        taken[part.name] = lost if part.rows is None else part.rows[lost]
        start += len(part)
    return taken


def places(parts: Iterable[Part]) -> NDArray[np.int64]:
    """The place of every row in the order in which copies give way: by part, then by id."""
    found = [np.empty(0, np.int64)]
    start = 0
    for part in parts:
        ids = [batch.column("id") for _, batch in part.batches(["id"])]
        order = pc.sort_indices(pa.chunked_array(ids, pa.string())).to_numpy().astype(np.int64)
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(start, start + len(order))
        found.append(place)
        start += len(order)
    return np.concatenate(found)


def beyond(keys: NDArray[np.int64], place: NDArray[np.int64], *, keep: int) -> NDArray[np.bool_]:
    """Say which rows are more than the first ``keep`` of their key."""
    order = np.lexsort((place, keys))
    sorted_keys = keys[order]
    first = np.flatnonzero(np.concatenate([[True], sorted_keys[1:] != sorted_keys[:-1]]))
    sizes = np.diff(np.append(first, len(order)))
    rank = np.arange(len(order)) - np.repeat(first, sizes) if len(order) else order
    extra = np.zeros(len(keys), bool)
    extra[order[(rank >= keep) & (sorted_keys != ALONE)]] = True
    return extra


class Keyed(NamedTuple):
    """The key of every row, and what could not be compared.

    Attributes:
        keys: Of all parts' rows, one after the other.
        broken: Pictures without a hash, by reason.
        crowded: Texts that share so much with so many others that not all of these were looked at,
            and that are close to none of those that were (:func:`alike`).
    """

    keys: NDArray[np.int64]
    broken: dict[str, int]
    crowded: int


def row_keys(
    parts: list[Part],
    *,
    by: str,
    near: bool,
    root: Path,
    distance: int = PICTURE_DISTANCE,
    similarity: float = TEXT_SIMILARITY,
    limits: Limits | None = None,
    strict: bool = False,
    jobs: int = 1,
    progress: Progress = silent,
) -> Keyed:
    """Give every row of all parts its key, and count what could not be compared."""
    place = places(parts)
    by_text = by_picture = None
    broken: dict[str, int] = {}
    crowded = 0
    if by in ("text", "both"):
        by_text, crowded = _text_keys(parts, place, similarity if near else None, progress)
    if by in ("picture", "both"):
        shown = Shown(parts)
        known = fingerprints_of(
            parts, shown, root=root, limits=limits, strict=strict, jobs=jobs, progress=progress
        )
        broken = known.broken
        of_picture = _picture_keys(known, shown, place, distance if near else None)
        by_picture = _shown_keys(shown, of_picture)
    if by_text is None or by_picture is None:
        only = by_text if by_text is not None else by_picture
        assert only is not None
        return Keyed(only, broken, crowded)
    alone = (by_text == ALONE) | (by_picture == ALONE)
    _, both = np.unique(np.stack([by_text, by_picture]), axis=1, return_inverse=True)
    return Keyed(np.where(alone, ALONE, both.reshape(-1)), broken, crowded)


def fingerprints_of(
    parts: list[Part],
    shown: Shown,
    *,
    root: Path,
    limits: Limits | None = None,
    strict: bool = False,
    jobs: int = 1,
    progress: Progress = silent,
) -> Fingerprints:
    """Fingerprint all pictures of some parts, each part's kept beside its table."""
    size = len(shown.references)
    known = Fingerprints(
        shown.references, np.zeros(size, "V32"), np.zeros(size, np.uint64), np.zeros(size, np.uint8)
    )
    done = np.zeros(size, bool)
    images = Images(root)
    for part, codes in zip(parts, shown.codes, strict=True):
        met = np.unique(codes)
        fresh = met[~done[met]]
        done[fresh] = True
        made = fingerprints(
            images,
            shown.references.take(pa.array(fresh)),
            cache=part.table.path / CACHE,
            limits=limits,
            strict=strict,
            jobs=jobs,
            progress=progress,
        )
        known.sha256[fresh], known.dct[fresh], known.state[fresh] = (
            made.sha256,
            made.dct,
            made.state,
        )
    return known


def _text_keys(
    parts: list[Part], place: NDArray[np.int64], similarity: float | None, progress: Progress
) -> tuple[NDArray[np.int64], int]:
    """Key every row by all that it says, normalised; count the texts that may miss a near one."""
    crowded = 0
    digests = np.zeros((len(place), 2), np.uint64)
    words: list[Words] = []
    done = 0
    for part in parts:
        for numbers, batch in part.batches(["messages"]):
            plain = normalise(whole_texts(batch))
            for at, text in enumerate(plain.to_pylist(), done):
                if text:
                    digest = xxhash.xxh3_128_intdigest(text.encode())
                    digests[at] = digest >> 64, digest & 0xFFFFFFFFFFFFFFFF
            if similarity is not None:
                words.append(shingles(words_of(plain), SHINGLE_WORDS))
            done += len(numbers)
            progress("read texts", done, len(place))
    _, first, keys = np.unique(
        digests.view("V16").reshape(-1), return_index=True, return_inverse=True
    )
    keys = keys.reshape(-1).astype(np.int64)
    empty = ~digests.any(axis=1)
    if similarity is not None and len(first):
        pairs = alike(_taken(join(words), first), similarity)
        crowded = pairs.crowded
        keys = _led(keys, place, len(first), pairs.left, pairs.right)
    return np.where(empty, ALONE, keys), crowded


def _taken(sets: Words, which: NDArray[np.int64]) -> Words:
    counts = sets.counts[which]
    ends = np.cumsum(counts)
    at = np.repeat(sets.bounds[which] - (ends - counts), counts) + np.arange(int(counts.sum()))
    return Words(sets.hashes[at], np.concatenate([np.zeros(1, np.int64), ends]))


def _led(
    keys: NDArray[np.int64],
    place: NDArray[np.int64],
    size: int,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Give keys that are close to an earlier leader that leader's key.

    Args:
        keys: Of every row, below ``size``; those of ``ALONE`` rows change nothing.
        place: Of every row; a key is as early as its first row.
        left, right: Pairs of close keys.
    """
    if not len(left):
        return keys
    earliest = np.full(size, np.iinfo(np.int64).max)
    used = keys >= 0
    np.minimum.at(earliest, keys[used], place[used])
    swap = earliest[left] > earliest[right]
    early, late = np.where(swap, right, left), np.where(swap, left, right)
    order = np.lexsort((earliest[early], earliest[late]))
    leader = np.arange(size)
    starts = np.flatnonzero(np.diff(late[order], prepend=-1))
    ends = np.append(starts[1:], len(order))
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        before = early[order[start:end]]
        leads = before[leader[before] == before]
        if len(leads):
            leader[late[order[start]]] = leads[0]
    return np.where(used, leader[keys], keys)


def _picture_keys(
    known: Fingerprints, shown: Shown, place: NDArray[np.int64], distance: int | None
) -> NDArray[np.int64]:
    """Key every distinct picture: by its bytes, or by hashes that are close."""
    _, keys = np.unique(known.sha256, return_inverse=True)
    keys = keys.reshape(-1).astype(np.int64)
    keys[~known.read] = ALONE
    if distance is None or not len(keys):
        return keys
    # What has no hash of its own (plain, broken) is still a copy of the same bytes.
    hashed = known.state == HASHED
    values, back = np.unique(known.dct[hashed], return_inverse=True)
    merged = keys + len(values)
    merged[~known.read] = ALONE
    merged[hashed] = back.reshape(-1)
    first = np.full(len(keys), np.iinfo(np.int64).max)
    start = 0
    for codes, bounds in zip(shown.codes, shown.bounds, strict=True):
        rows = start + np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        np.minimum.at(first, codes, place[rows])
        start += len(bounds) - 1
    pairs = [
        (p.query[p.query < p.found], p.found[p.query < p.found])
        for p in within(values, values, distance)
    ]
    left = np.concatenate([np.empty(0, np.int64), *(pair[0] for pair in pairs)])
    right = np.concatenate([np.empty(0, np.int64), *(pair[1] for pair in pairs)])
    return _led(merged, first, int(merged.max(initial=0)) + 1, left, right)


def _shown_keys(shown: Shown, of_picture: NDArray[np.int64]) -> NDArray[np.int64]:
    """Key every row by the keys of its pictures, in their order."""
    known: dict[bytes, int] = {}
    keys: list[int] = []
    for codes, bounds in zip(shown.codes, shown.bounds, strict=True):
        of_part = of_picture[codes]
        for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            own = of_part[start:stop]
            if start == stop or (own == ALONE).any():
                keys.append(ALONE)
            else:
                keys.append(known.setdefault(own.tobytes(), len(known)))
    return np.array(keys, np.int64)


def describe(
    parts: list[Part], keys: NDArray[np.int64], *, largest: int = 20, first: int = 5
) -> dict[str, Any]:
    """Count the groups: how many, by pair of sources, and the largest with their first ids."""
    place = places(parts)
    owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    order = np.lexsort((place, keys))
    order = order[keys[order] != ALONE]
    bounds = np.flatnonzero(np.diff(keys[order], prepend=-2))
    sizes = np.diff(np.append(bounds, len(order)))
    several = np.flatnonzero(sizes > 1)
    between: dict[tuple[str, str], list[int]] = {}
    lost = dict.fromkeys((part.name for part in parts), 0)
    for group in several.tolist():
        members = owner[order[bounds[group] : bounds[group] + sizes[group]]]
        counts = np.bincount(members, minlength=len(parts))
        met = np.flatnonzero(counts).tolist()
        for a, one in enumerate(met):
            for other in met[a:]:
                if one != other or counts[one] > 1:
                    pair = between.setdefault((parts[one].name, parts[other].name), [0, 0])
                    pair[0] += 1
                    pair[1] += int(counts[one] - 1 if one == other else counts[other])
        for member in members[1:].tolist():
            lost[parts[member].name] += 1
    top = several[np.lexsort((order[bounds[several]], -sizes[several]))][:largest]
    spans = [order[bounds[one] : bounds[one] + min(int(sizes[one]), first)] for one in top]
    names = ids_of(parts, np.concatenate([np.empty(0, np.int64), *spans]))
    shown, at = [], 0
    for one, span in zip(top.tolist(), spans, strict=True):
        shown.append({"rows": int(sizes[one]), "first": names[at : at + len(span)]})
        at += len(span)
    return {
        "rows": len(keys),
        "compared": int((keys != ALONE).sum()),
        "groups": len(several),
        "copies": int(sizes[several].sum()) - len(several),
        "copies_by_source": lost,
        "between": [
            {"source": one, "other": other, "groups": groups, "rows": rows}
            for (one, other), (groups, rows) in sorted(between.items())
        ],
        "largest": shown,
    }


def ids_of(parts: list[Part], rows: NDArray[np.int64]) -> list[str]:
    """The ids of some rows, counted over all parts."""
    found: dict[int, str] = {}
    wanted = np.unique(rows)
    start = 0
    for part in parts:
        for _, batch in part.batches(["id"]):
            low, high = np.searchsorted(wanted, (start, start + batch.num_rows))
            at = wanted[low:high]
            ids = batch.column("id").take(pa.array(at - start)).to_pylist()
            found.update(zip(at.tolist(), ids, strict=True))
            start += batch.num_rows
    return [found[row] for row in rows.tolist()]
