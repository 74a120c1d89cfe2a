"""What speaks for a row being in a benchmark: one line a row and kind of evidence, in columns.

Pictures, questions and ids are looked at apart, and each is scored apart, from 0 to 1:

* a picture: 1 for equal bytes; for a DCT hash ``d`` bits away ``1 - d / 32``, divided by the number
  of the benchmark's pictures that are as close beyond ten (blank charts look alike);
* a question: its likeness (1 for equal; at least a half for a shared run of 13 words; the Jaccard
  index for a near one), times its words up to 13 as a share of 13, times ten over the number of
  rows that hold it where those are more than ten: "what is in the image" says nothing;
* an id: 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vision_ift._build import Progress
from vision_ift._likeness.against import Benchmark
from vision_ift._likeness.grams import GRAM_WORDS, GramIndex
from vision_ift._likeness.lineage import SPLITS, Ids, List
from vision_ift._likeness.minhash import SHINGLE_WORDS, Index
from vision_ift._likeness.near import within
from vision_ift._likeness.pictures import HASHED, Fingerprints, fingerprints
from vision_ift._likeness.rows import Part, Shown, questions, with_pieces
from vision_ift._likeness.words import normalise, shingles, words_of
from vision_ift._pictures.child import Limits
from vision_ift._pictures.images import Images

PICTURE, QUESTION, LINEAGE = 0, 1, 2
KINDS = ("picture", "question", "lineage")

#: How a piece of evidence was found, the surest of its kind first.
HOW = ("sha256", "dct", "equal", "grams", "minhash", "coco_id", "list")
SHA256, DCT, EQUAL, GRAMS, MINHASH, COCO_ID, LISTED = range(len(HOW))

#: A question that stands in more rows than this is a common one.
COMMON_ROWS = 10


class Evidence(NamedTuple):
    """Columns, a line a piece of evidence.

    Attributes:
        row: Counted over all parts.
        how: Place in ``HOW``.
        score: From 0 to 1.
        likeness: Distance in bits of a picture, Jaccard index or share of a question.
        ours: The place of a picture in ``Shown.references``, or the turn of a question; -1.
        benchmark, target: Which benchmark, and the place in its pictures or distinct questions.
        rows: How many of the rows that are looked at have the same target.
    """

    row: NDArray[np.int64]
    how: NDArray[np.int8]
    score: NDArray[np.float64]
    likeness: NDArray[np.float64]
    ours: NDArray[np.int64]
    benchmark: NDArray[np.int32]
    target: NDArray[np.int64]
    rows: NDArray[np.int64]

    def take(self, places: NDArray[np.int64] | NDArray[np.bool_]) -> Evidence:
        """Give some lines."""
        columns: list[Any] = [column[places] for column in self]
        return Evidence(*columns)


def joined(pieces: list[Evidence]) -> Evidence:
    """Put columns one after the other."""
    if not pieces:
        empty = np.empty(0, np.int64)
        return Evidence(
            empty,
            empty.astype(np.int8),
            empty.astype(np.float64),
            empty.astype(np.float64),
            empty,
            empty.astype(np.int32),
            empty,
            empty,
        )
    columns: list[Any] = [np.concatenate(column) for column in zip(*pieces, strict=True)]
    return Evidence(*columns)


def _evidence(
    row: NDArray[np.int64],
    how: int,
    score: NDArray[np.float64],
    likeness: NDArray[np.float64],
    ours: NDArray[np.int64],
    benchmark: int,
    target: NDArray[np.int64],
    rows: NDArray[np.int64] | None = None,
) -> Evidence:
    size = len(row)
    return Evidence(
        row.astype(np.int64),
        np.full(size, how, np.int8),
        score.astype(np.float64),
        likeness.astype(np.float64),
        ours.astype(np.int64),
        np.full(size, benchmark, np.int32),
        target.astype(np.int64),
        np.zeros(size, np.int64) if rows is None else rows.astype(np.int64),
    )


def best(found: Evidence) -> Evidence:
    """Keep the strongest line of each row, benchmark by benchmark; of equals the first target."""
    order = np.lexsort(
        (found.ours, found.target, found.how, -found.score, found.benchmark, found.row)
    )
    row, benchmark = found.row[order], found.benchmark[order]
    first = np.ones(len(order), bool)
    first[1:] = (row[1:] != row[:-1]) | (benchmark[1:] != benchmark[:-1])
    return found.take(order[first])


def _spread(shown: Shown, pictures: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """The rows that show each of some distinct pictures: places in ``pictures``, and rows."""
    back = np.full(len(shown.references), -1, np.int64)
    back[pictures] = np.arange(len(pictures))
    places, rows = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    start = 0
    for codes, bounds in zip(shown.codes, shown.bounds, strict=True):
        hit = np.flatnonzero(back[codes] >= 0)
        places.append(back[codes[hit]])
        rows.append(start + np.searchsorted(bounds, hit, side="right") - 1)
        start += len(bounds) - 1
    return np.concatenate(places), np.concatenate(rows)


def _of_rows(shown: Shown, hits: list[Evidence]) -> Evidence:
    """Turn evidence about distinct pictures into evidence about the rows that show them."""
    found = joined(hits)
    pictures, back = np.unique(found.ours, return_inverse=True)
    place, row = _spread(shown, pictures)
    # Every line of a picture with every row of it.
    lines = np.argsort(back, kind="stable")
    starts = np.searchsorted(back[lines], np.arange(len(pictures) + 1))
    counts = (starts[1:] - starts[:-1])[place]
    ends = np.cumsum(counts)
    which = lines[np.repeat(starts[place] - (ends - counts), counts) + np.arange(int(counts.sum()))]
    return found.take(which)._replace(row=np.repeat(row, counts))


def by_picture(
    known: Fingerprints, shown: Shown, theirs: Fingerprints, number: int, distance: int
) -> Evidence:
    """Find the rows that show a benchmark's picture: the same bytes, or a close hash."""
    at = pc.index_in(_binary(known.sha256), _binary(theirs.sha256))
    met = pc.is_valid(at).to_numpy(zero_copy_only=False) & known.read
    exact = np.flatnonzero(met)
    target = at.take(pa.array(exact)).to_numpy().astype(np.int64)
    hits = [
        _evidence(
            np.zeros(len(exact), np.int64),
            SHA256,
            np.ones(len(exact)),
            np.zeros(len(exact)),
            exact,
            number,
            target,
        )
    ]
    mine = np.flatnonzero(known.state == HASHED)
    other = np.flatnonzero(theirs.state == HASHED)
    values, first = np.unique(theirs.dct[other], return_index=True)
    asked, back = np.unique(known.dct[mine], return_inverse=True)
    by_value = np.argsort(back, kind="stable")
    starts = np.searchsorted(back[by_value], np.arange(len(asked) + 1))
    for pairs in within(asked, values, distance):
        # Each of our pictures takes the closest of theirs; how many are that close makes it weak.
        order = np.lexsort((pairs.found, pairs.distance, pairs.query))
        query = pairs.query[order]
        start = np.flatnonzero(np.diff(query, prepend=-1))
        many = np.diff(np.append(start, len(query)))
        apart = pairs.distance[order[start]].astype(np.float64)
        target = other[first[pairs.found[order[start]]]]
        score = (1 - apart / 32) / np.maximum(many / COMMON_ROWS, 1)
        counts = (starts[1:] - starts[:-1])[query[start]]
        ends = np.cumsum(counts)
        places = np.repeat(starts[query[start]] - (ends - counts), counts)
        pictures = mine[by_value[places + np.arange(int(counts.sum()))]]
        line = np.repeat(np.arange(len(start)), counts)
        hits.append(
            _evidence(
                np.zeros(len(line), np.int64),
                DCT,
                score[line],
                apart[line],
                pictures,
                number,
                target[line],
            )
        )
    return best(_of_rows(shown, hits))


def _binary(digests: NDArray[np.void]) -> pa.Array:
    buffers = [None, pa.py_buffer(np.ascontiguousarray(digests))]
    return pa.Array.from_buffers(pa.binary(32), len(digests), buffers)


class Questions:
    """A benchmark's distinct questions, indexed.

    Attributes:
        rows: The rows of the benchmark that ask each.
        first: The place of each one's first text in ``Benchmark.texts``.
    """

    def __init__(self, benchmark: Benchmark, similarity: float | None) -> None:
        plain = normalise(pa.array(benchmark.texts, pa.large_string()))
        encoded = plain.dictionary_encode()
        self.distinct: pa.Array = encoded.dictionary
        codes = encoded.indices.to_numpy().astype(np.int64)
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(len(self.distinct) + 1))
        asked = np.asarray(benchmark.asked, np.int64)
        self.first = order[starts[:-1]] if len(order) else order
        self.rows = [asked[order[a:b]] for a, b in itertools.pairwise(starts.tolist())]
        self.words = words_of(self.distinct)
        self.grams = GramIndex(self.words)
        self.near = None
        if similarity is not None and len(self.distinct):
            self.near = Index(shingles(self.words, SHINGLE_WORDS), similarity)

    def find(
        self, plain: pa.Array
    ) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
        """Yield how, place in ``plain``, question, and likeness, for distinct normalised texts."""
        at = pc.index_in(plain, self.distinct)
        same = np.flatnonzero(
            pc.and_(pc.is_valid(at), pc.not_equal(plain, "")).to_numpy(zero_copy_only=False)
        )
        question = at.take(pa.array(same)).to_numpy().astype(np.int64)
        yield EQUAL, same, question, np.ones(len(same))
        words = words_of(plain)
        shared = self.grams.shared(words)
        yield GRAMS, shared.text, shared.question, shared.share
        if self.near is not None:
            near = self.near.alike(shingles(words, SHINGLE_WORDS))
            yield MINHASH, near.left, near.right, near.similarity


def by_question(parts: list[Part], asked: list[Questions], progress: Progress) -> list[Evidence]:
    """Find the rows with a benchmark's question in a user turn; a list entry a benchmark.

    A turn is compared as a whole and by its sentences and lines, of which the question may be one.
    """
    hits: list[list[Evidence]] = [[] for _ in asked]
    total = sum(len(part) for part in parts)
    done = 0
    for part in parts:
        for numbers, batch in part.batches(["messages"]):
            texts = with_pieces(questions(batch))
            encoded = normalise(texts.texts).dictionary_encode()
            codes = encoded.indices.to_numpy().astype(np.int64)
            order = np.argsort(codes, kind="stable")
            starts = np.searchsorted(codes[order], np.arange(len(encoded.dictionary) + 1))
            for number, one in enumerate(asked):
                for how, text, question, likeness in one.find(encoded.dictionary):
                    counts = (starts[1:] - starts[:-1])[text]
                    ends = np.cumsum(counts)
                    places = np.repeat(starts[text] - (ends - counts), counts)
                    turns = order[places + np.arange(int(counts.sum()))]
                    line = np.repeat(np.arange(len(text)), counts)
                    hits[number].append(
                        _evidence(
                            done + texts.row[turns],
                            how,
                            np.zeros(len(line)),
                            likeness[line],
                            texts.turn[turns],
                            number,
                            question[line],
                        )
                    )
            done += len(numbers)
            progress("compare questions", done, total)
    return [best(_scored(joined(found), one)) for found, one in zip(hits, asked, strict=True)]


def _scored(found: Evidence, asked: Questions) -> Evidence:
    """Score questions by their likeness, their length and how common they are."""
    size = len(asked.distinct)
    pairs = np.unique(found.row * max(size, 1) + found.target)
    ours = np.bincount(pairs % max(size, 1), minlength=size)
    theirs = np.array([len(rows) for rows in asked.rows], np.int64)
    rows = ours[found.target]
    common = np.maximum(rows, theirs[found.target]) if size else rows
    likeness = np.where(found.how == GRAMS, 0.5 + 0.5 * found.likeness, found.likeness)
    length = np.minimum(asked.words.counts[found.target] / GRAM_WORDS, 1)
    score = likeness * length * np.minimum(COMMON_ROWS / np.maximum(common, 1), 1)
    return found._replace(score=score, rows=rows)


def by_lineage(
    ours: Ids, shown: Shown, theirs: list[tuple[int, Ids]], lists: list[List], first_list: int
) -> Evidence:
    """Find the rows that show a picture of the COCO family that a benchmark or a list names."""
    hits = []
    known = np.flatnonzero(ours.ids >= 0)
    for number, of_benchmark in theirs:
        pictures = np.flatnonzero(of_benchmark.ids >= 0)
        values, first = np.unique(of_benchmark.ids[pictures], return_index=True)
        at = np.minimum(np.searchsorted(values, ours.ids[known]), max(len(values) - 1, 0))
        same = values[at] == ours.ids[known] if len(values) else np.zeros(len(known), bool)
        hits.append(
            _by_id(
                known[same],
                COCO_ID,
                number,
                pictures[first[at[same]]] if len(values) else known[same],
            )
        )
    for place, one in enumerate(lists):
        if one.name in SPLITS and not one.ids:
            met = np.flatnonzero(ours.splits == SPLITS.index(one.name))
        else:
            met = known[np.isin(ours.ids[known], np.fromiter(one.ids, np.int64, len(one.ids)))]
        hits.append(_by_id(met, LISTED, first_list + place, np.zeros(len(met), np.int64)))
    return best(_of_rows(shown, hits))


def _by_id(
    pictures: NDArray[np.int64], how: int, benchmark: int, target: NDArray[np.int64]
) -> Evidence:
    size = len(pictures)
    return _evidence(
        np.zeros(size, np.int64), how, np.ones(size), np.zeros(size), pictures, benchmark, target
    )


def fingerprints_against(
    benchmark: Benchmark, *, limits: Limits | None, jobs: int, progress: Progress
) -> Fingerprints:
    """Fingerprint a benchmark's pictures; nothing is kept in somebody else's folder."""
    return fingerprints(
        Images(benchmark.root),
        pa.array(benchmark.references, pa.large_string()),
        limits=limits,
        jobs=jobs,
        progress=progress,
    )
