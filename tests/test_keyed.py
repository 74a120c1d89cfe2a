"""Hashes of a column: the same numbers as xxhash gives one at a time."""

from __future__ import annotations

import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from vision_ift._recipe.keyed import keyed_hashes


def one_by_one(texts: list[str], key: int) -> list[int]:
    return [xxhash.xxh3_64_intdigest(text.encode(), key) for text in texts]


@pytest.mark.parametrize("key", [0, 1, 2**64 - 1, 0x9E3779B97F4A7C15])
def test_every_length_is_hashed_as_xxhash_does(key: int) -> None:
    texts = ["".join(chr(33 + (n * k) % 90) for n in range(k)) for k in range(300)]
    assert keyed_hashes(pa.array(texts), key).tolist() == one_by_one(texts, key)


@given(
    texts=st.lists(st.text(max_size=150), max_size=40),
    key=st.integers(0, 2**64 - 1),
    cut=st.integers(0, 40),
)
def test_any_texts_and_any_slice(texts: list[str], key: int, cut: int) -> None:
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    array = pa.array(texts, pa.string()).slice(cut)
    assert keyed_hashes(array, key).tolist() == one_by_one(texts[cut:], key)
