"""Texts as words: how two texts are made comparable, in vectors over Arrow columns.

Normalising is NFKC, lower case, and every run of what is no letter, mark or digit as one space.
Scripts that are written without spaces are cut into characters: Chinese characters, kana, Thai,
Lao, Khmer, Burmese. What is called a word here is one of those characters, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

_UNSPACED = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])"

#: The factor of the rolling hash; odd, so that no word is lost.
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def normalise(texts: pa.Array) -> pa.Array:
    """Write texts so that those which say the same are equal; null becomes empty.

    >>> normalise(pa.array(["What IS  this?!", "这是什么？"])).to_pylist()
    ['what is this', '这 是 什 么']
    """
    plain = pc.utf8_lower(
        pc.utf8_normalize(pc.fill_null(texts.cast(pa.large_string()), ""), "NFKC")
    )
    plain = pc.replace_substring_regex(plain, r"[^\p{L}\p{M}\p{N}]+", " ")
    if not pc.all(pc.string_is_ascii(plain)).as_py():
        plain = pc.replace_substring_regex(plain, _UNSPACED, r" \1 ")
        plain = pc.replace_substring_regex(plain, " +", " ")
    return pc.ascii_trim(plain, " ")


@dataclass(frozen=True, slots=True)
class Words:
    """Normalised texts as hashes of their words, one after the other.

    Attributes:
        hashes: A word each.
        bounds: Where each text starts, and the end; one more than there are texts.
    """

    hashes: NDArray[np.uint64]
    bounds: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @property
    def counts(self) -> NDArray[np.int64]:
        """Words of each text."""
        return np.diff(self.bounds)

    def of(self, text: int) -> NDArray[np.uint64]:
        """The words of one text."""
        return self.hashes[self.bounds[text] : self.bounds[text + 1]]


def words_of(normalised: pa.Array) -> Words:
    """Cut normalised texts at their spaces."""
    lists = pc.split_pattern(normalised, " ")
    empty = np.asarray(pc.equal(normalised, "").to_numpy(zero_copy_only=False))
    encoded = lists.flatten().dictionary_encode()
    hashes = np.fromiter(
        (xxhash.xxh3_64_intdigest(word.encode()) for word in encoded.dictionary.to_pylist()),
        np.uint64,
        len(encoded.dictionary),
    )
    flat = hashes[encoded.indices.to_numpy()] if len(hashes) else np.empty(0, np.uint64)
    counts = pc.list_value_length(lists).to_numpy().astype(np.int64)
    if empty.any():  # an empty text is cut into one empty word
        flat = flat[np.repeat(~empty, counts)]
        counts = np.where(empty, 0, counts)
    return Words(flat, np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]))


def runs(words: Words, length: int) -> Words:
    """Hash every run of ``length`` words that lies within a text.

    A text of fewer words has no run.
    """
    size = len(words.hashes) - length + 1
    if size <= 0:
        return Words(np.empty(0, np.uint64), np.zeros(len(words) + 1, np.int64))
    sums = np.zeros(size, np.uint64)
    for place in range(length):
        sums = sums * _FACTOR + words.hashes[place : place + size]
    sums ^= sums >> np.uint64(29)  # a product's low bits know nothing of the words' high bits
    sums *= np.uint64(0xBF58476D1CE4E5B9)
    sums ^= sums >> np.uint64(32)
    counts = np.maximum(words.counts - length + 1, 0)
    bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    starts = np.repeat(words.bounds[:-1] - bounds[:-1], counts) + np.arange(int(bounds[-1]))
    return Words(sums[starts], bounds)


def shingles(words: Words, length: int) -> Words:
    """The set of runs of each text, sorted; a text of fewer words is one run of all of them.

    Empty texts have an empty set.
    """
    found = runs(words, length)
    counts = found.counts.copy()
    short = np.flatnonzero((words.counts < length) & (words.counts > 0))
    owner = np.repeat(np.arange(len(words)), counts)
    if len(short):
        whole = [xxhash.xxh3_64_intdigest(words.of(text).tobytes()) for text in short.tolist()]
        owner = np.concatenate([owner, short])
        hashes = np.concatenate([found.hashes, np.array(whole, np.uint64)])
    else:
        hashes = found.hashes
    order = np.lexsort((hashes, owner))
    owner, hashes = owner[order], hashes[order]
    first = np.ones(len(owner), bool)
    first[1:] = (owner[1:] != owner[:-1]) | (hashes[1:] != hashes[:-1])
    counts = np.bincount(owner[first], minlength=len(words))
    return Words(hashes[first], np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]))


def join(pieces: list[Words]) -> Words:
    """Put texts one after the other; the pieces are given up on the way."""
    counts = np.concatenate([np.empty(0, np.int64), *(piece.counts for piece in pieces)])
    bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    hashes = np.empty(int(bounds[-1]), np.uint64)
    stop = len(hashes)
    while pieces:  # from the end, so that memory is given back as it is taken
        piece = pieces.pop()
        hashes[stop - len(piece.hashes) : stop] = piece.hashes
        stop -= len(piece.hashes)
    return Words(hashes, bounds)
