"""Texts as words, their runs and sets, and which are alike."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_ift._errors import UsageError
from vision_ift._likeness.grams import COMMON_QUESTIONS, GramIndex
from vision_ift._likeness.minhash import Index, alike, band_rows
from vision_ift._likeness.words import Words, normalise, runs, shingles, words_of


def cut(*texts: str | None) -> Words:
    return words_of(normalise(pa.array(texts, pa.string())))


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("What IS  this?!", "what is this"),
        ("  ", ""),
        (None, ""),
        ("ﬁne Ｗide １２", "fine wide 12"),
        ("don't-stop", "don t stop"),
        ("图片里有什么？", "图 片 里 有 什 么"),
        ("これは何ですか", "こ れ は 何 で す か"),
        ("한국어 질문", "한국어 질문"),
        ("नमस्ते दुनिया", "नमस्ते दुनिया"),
        ("<script>x</script>", "script x script"),
        ("a中b", "a 中 b"),
    ],
)
def test_what_says_the_same_is_equal(text: str | None, plain: str) -> None:
    assert normalise(pa.array([text], pa.string())).to_pylist() == [plain]


@given(st.lists(st.text(max_size=60), max_size=6), st.integers(1, 4))
def test_runs_are_those_that_python_makes(texts: list[str], length: int) -> None:
    plain = normalise(pa.array(texts, pa.string()))
    words = words_of(plain)
    split = [text.split(" ") if text else [] for text in plain.to_pylist()]
    assert words.counts.tolist() == [len(one) for one in split]
    found = runs(words, length)
    wanted = [
        [tuple(one[at : at + length]) for at in range(max(len(one) - length + 1, 0))]
        for one in split
    ]
    assert found.counts.tolist() == [len(one) for one in wanted]
    flat = [run for one in wanted for run in one]
    assert len(set(flat)) == len(set(found.hashes.tolist()))
    sets = shingles(words, length)
    sizes = [
        len(set(one)) if one else int(bool(words)) for one, words in zip(wanted, split, strict=True)
    ]
    assert sets.counts.tolist() == sizes
    for place in range(len(texts)):
        assert (np.diff(sets.of(place).astype(object)) > 0).all()


LONG = "how many of the small red boats near the old stone pier carry more than two people"


def test_a_shared_run_is_found_and_a_short_one_is_not() -> None:
    index = GramIndex(cut(LONG, "what is this", "another question that nobody asked"))
    shared = index.shared(cut("Tell me: " + LONG.upper() + "?", LONG[:40], "what is this"))
    assert (shared.text.tolist(), shared.question.tolist()) == ([0], [0])
    assert shared.share.tolist() == [1.0]


def test_a_template_is_left_out_and_counted() -> None:
    template = (
        "answer with the letter of the option from the given choices directly and briefly please"
    )
    questions = [f"number {n} {template}" for n in range(COMMON_QUESTIONS + 1)]
    index = GramIndex(cut(*questions))
    assert index.templates > 0
    assert not len(index.shared(cut(template)).text)
    few = GramIndex(cut(*questions[:COMMON_QUESTIONS]))  # the control
    assert len(few.shared(cut(template)).text) == COMMON_QUESTIONS


def jaccard(one: str, other: str) -> float:
    left, right = (set(shingles(cut(text), 3).of(0).tolist()) for text in (one, other))
    return len(left & right) / len(left | right)


@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=8), min_size=2, max_size=8))
def test_pairs_are_exact_and_certain_where_equal(texts: list[list[str]]) -> None:
    lines = [" ".join(one) for one in texts]
    found = alike(shingles(cut(*lines), 3), 0.6)
    for left, right, similarity in zip(*found[:3], strict=True):
        assert left != right
        assert similarity == pytest.approx(jaccard(lines[left], lines[right]))
        assert similarity >= 0.6
    pairs = {
        frozenset(pair) for pair in zip(found.left.tolist(), found.right.tolist(), strict=True)
    }
    for a, one in enumerate(lines):
        for b, other in enumerate(lines[:a]):
            if one and one == other:
                assert frozenset((a, b)) in pairs


def test_nearly_all_pairs_above_the_threshold_are_found() -> None:
    random = np.random.Generator(np.random.PCG64(5))
    vocabulary = [f"word{n}" for n in range(2000)]
    one = [[vocabulary[n] for n in random.integers(0, 2000, 40)] for _ in range(400)]
    other = [[*words[:-2], "changed", "tail"] for words in one]
    left, right = (cut(*map(" ".join, texts)) for texts in (one, other))
    assert jaccard(" ".join(one[0]), " ".join(other[0])) > 0.8
    index = Index(shingles(left, 3), 0.8)
    found = index.alike(shingles(right, 3))
    matched = set(zip(found.left.tolist(), found.right.tolist(), strict=True))
    assert matched <= {(n, n) for n in range(400)}
    assert len(matched) >= 396


def test_a_signature_is_the_one_of_the_release_that_was_tested() -> None:
    """Golden: with other bits, a list would differ from one machine to the next."""
    from vision_ift._likeness.minhash import band_keys

    sets = shingles(cut("what is in the picture on the wall", "", "a b c d"), 3)
    keys = np.array(list(band_keys(sets, 0.8)))
    assert keys.shape == (27, 3)
    assert not keys[:, 1].any()  # an empty text has no signature
    assert f"{int(np.bitwise_xor.reduce(keys[:, 0])):016x}" == "19c6aa48284ef1df"
    alone = np.array(list(band_keys(shingles(cut("a b c d"), 3), 0.8)))
    assert alone[:, 0].tolist() == keys[:, 2].tolist()  # whatever stands beside it


def test_estimates_are_those_of_independent_values() -> None:
    """Agreement of two signatures is off by no more than chance has it (Broder 1997)."""
    from vision_ift._likeness import minhash

    random = np.random.Generator(np.random.PCG64(3))
    off = []
    for union in (12, 40):
        for both in range(1, union, 3):
            texts = [" ".join(f"w{n}" for n in random.permutation(10**6)[: union + 2])] * 200
            sets = shingles(cut(*texts[:1]), 3)
            whole = sets.of(0)
            for _ in range(20):
                mixed = random.permutation(whole)
                pair = [mixed[:both], mixed]
                least = [[int((one * factor).min()) for factor in minhash._FACTORS] for one in pair]
                agree = np.mean([a == b for a, b in zip(*least, strict=True)])
                share = both / union
                off.append((agree - share) / np.sqrt(share * (1 - share) / len(least[0])))
    assert abs(float(np.mean(off))) < 0.3
    assert 0.8 < float(np.std(off)) < 1.25


def test_crowds_are_compared_with_their_leaders_and_counted() -> None:
    """A hundred texts of one band: all near the first, so none is missed; or none near another."""
    same = " ".join(f"word{n}" for n in range(60))
    near = [f"{same} end{n}" for n in range(100)]
    found = alike(shingles(cut(*near), 3), 0.8)
    assert found.crowded == 0
    assert set(found.right.tolist()) == set(range(1, 100))
    half = " ".join(f"word{n}" for n in range(40))
    apart = [half + " " + " ".join(f"own{n}x{k}" for k in range(16)) for n in range(100)]
    missed = alike(shingles(cut(*apart), 3), 0.5)
    assert len(missed.left) < 100 * 99 // 2
    assert 0 <= missed.crowded <= 67


@pytest.mark.parametrize("similarity", [0.2, 1.5, float("nan")])
def test_a_threshold_out_of_range_is_refused(similarity: float) -> None:
    with pytest.raises(UsageError, match="text similarity"):
        band_rows(similarity)
