"""Runs of 13 words that a text has in common with a benchmark's questions.

Thirteen words is what GPT-3's authors looked for (Brown et al. 2020, appendix C). A run that
stands in many of the benchmark's questions is its template ("answer with the option's letter …")
and says nothing: it is left out and counted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vision_ift._likeness.words import Words, runs

GRAM_WORDS = 13

#: A run in more questions than this is the benchmark's own template.
COMMON_QUESTIONS = 10


class Shared(NamedTuple):
    """Pairs of a text and a question, and the share of the question's runs that the text has."""

    text: NDArray[np.int64]
    question: NDArray[np.int64]
    share: NDArray[np.float64]


class GramIndex:
    """The runs of a benchmark's distinct questions.

    Attributes:
        templates: Runs that are left out because too many questions have them.

    Args:
        questions: Their words.
    """

    def __init__(self, questions: Words) -> None:
        self._questions = questions
        found = runs(questions, GRAM_WORDS)
        owner = np.repeat(np.arange(len(questions)), found.counts)
        place = np.arange(len(owner)) - np.repeat(found.bounds[:-1], found.counts)
        order = np.lexsort((place, owner, found.hashes))
        hashes, owner, place = found.hashes[order], owner[order], place[order]
        first = np.ones(len(owner), bool)  # a question that repeats a run has it once
        first[1:] = (owner[1:] != owner[:-1]) | (hashes[1:] != hashes[:-1])
        hashes, owner, place = hashes[first], owner[first], place[first]
        _, back, counts = np.unique(hashes, return_inverse=True, return_counts=True)
        rare = counts[back] <= COMMON_QUESTIONS
        self.templates = int((counts > COMMON_QUESTIONS).sum())
        self._hashes, self._owner, self._place = hashes[rare], owner[rare], place[rare]
        self._sizes = np.bincount(self._owner, minlength=len(questions))

    def shared(self, texts: Words) -> Shared:
        """Find the questions with which texts share a run, checked word by word."""
        found = runs(texts, GRAM_WORDS)
        starts = np.searchsorted(self._hashes, found.hashes, side="left")
        counts = np.searchsorted(self._hashes, found.hashes, side="right") - starts
        met = np.flatnonzero(counts)
        at = np.repeat(met, counts[met])
        first = np.repeat(starts[met] - (np.cumsum(counts[met]) - counts[met]), counts[met])
        entry = first + np.arange(len(at))
        text = np.searchsorted(found.bounds, at, side="right") - 1
        ours = texts.bounds[text] + at - found.bounds[text]
        theirs = self._questions.bounds[self._owner[entry]] + self._place[entry]
        same = np.ones(len(at), bool)
        for word in range(GRAM_WORDS):
            same &= texts.hashes[ours + word] == self._questions.hashes[theirs + word]
        # A text that says a run twice has it once.
        size = max(len(self._hashes), 1)
        pairs = np.unique(text[same] * size + entry[same])
        text, entry = np.divmod(pairs, size)
        question = self._owner[entry] if len(entry) else entry
        codes, amounts = np.unique(
            text * max(len(self._questions), 1) + question, return_counts=True
        )
        text, question = np.divmod(codes, max(len(self._questions), 1))
        return Shared(text, question, amounts / np.maximum(self._sizes[question], 1))
