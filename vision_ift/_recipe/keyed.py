"""XXH3-64 with a seed of every text in an Arrow column, in vectors.

The same numbers as ``xxhash.xxh3_64_intdigest(text, seed)`` gives one at a time, several times as
fast: texts of 17 to 64 bytes (ids are) are hashed together, a length class at a time; the few
others one by one. Source: the XXH3 specification (xxHash 0.8, ``doc/xxhash_spec.md``).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

#: Texts that are hashed at once: their columns stay in the cache.
_BLOCK = 2**14
_SHORTEST, _LONGEST = 17, 64

_PRIME_1 = np.uint64(0x9E3779B185EBCA87)
_AVALANCHE = np.uint64(0x165667919E3779F9)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)

#: The first 64 bytes of the default secret, as little-endian words.
_SECRET = np.frombuffer(
    bytes.fromhex(
        "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
        "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    ),
    "<u8",
)


def keyed_hashes(texts: pa.Array, key: int) -> NDArray[np.uint64]:
    """Hash every text of a string array (no nulls): (n,) uint64.

    >>> [int(one) for one in keyed_hashes(pa.array(["coco_ift/train2017/000000000009"]), 17)]
    [7486005099921174100]
    """
    count = len(texts)
    found = np.empty(count, np.uint64)
    if not count:
        return found
    _, offsets, values = texts.buffers()
    bounds = np.frombuffer(offsets, "<i4")[texts.offset : texts.offset + count + 1]
    data = np.frombuffer(values, np.uint8) if values is not None else np.empty(0, np.uint8)
    starts = bounds[:-1].astype(np.int64)
    lengths = np.diff(bounds).astype(np.int64)
    usual = (lengths >= _SHORTEST) & (lengths <= _LONGEST)
    if len(data) >= _SHORTEST:
        # Eight bytes from any byte on: what is gathered below stays inside each text.
        words = np.ndarray((len(data) - 7,), "<u8", data, strides=(1,))
        classes = (lengths - 1) // 32
        for number in range(_LONGEST // 32):
            places = np.flatnonzero(usual & (classes == number))
            for low in range(0, len(places), _BLOCK):
                some = places[low : low + _BLOCK]
                found[some] = _hash_class(words, starts[some], lengths[some], number + 1, key)
    view = memoryview(values) if values is not None else memoryview(b"")
    for place in np.flatnonzero(~usual).tolist():
        start = int(starts[place])
        text = view[start : start + int(lengths[place])]
        found[place] = xxhash.xxh3_64_intdigest(text, key)
    return found


def _hash_class(
    words: NDArray[np.uint64],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    pairs: int,
    key: int,
) -> NDArray[np.uint64]:
    """Hash texts of which 16 bytes are mixed so many times from each end."""
    ends = starts + lengths
    total = lengths.astype(np.uint64) * _PRIME_1
    for pair in range(pairs):
        total += _mix(words, starts + 16 * pair, 4 * pair, key)
        total += _mix(words, ends - 16 * (pair + 1), 4 * pair + 2, key)
    total ^= total >> np.uint64(37)
    total *= _AVALANCHE
    total ^= total >> _HALF
    return total


def _mix(
    words: NDArray[np.uint64], at: NDArray[np.int64], secret: int, key: int
) -> NDArray[np.uint64]:
    """Mix 16 bytes with the secret and the key: both halves of a 128-bit product, folded."""
    first = np.uint64((int(_SECRET[secret]) + key) % 2**64)
    second = np.uint64((int(_SECRET[secret + 1]) - key) % 2**64)
    one = words[at] ^ first
    two = words[at + 8] ^ second
    one_low, one_high = one & _LOW, one >> _HALF
    two_low, two_high = two & _LOW, two >> _HALF
    low = one_low * two_low
    middle = one_high * two_low
    middle += low >> _HALF
    cross = one_low * two_high
    cross += middle & _LOW
    high = one_high * two_high
    high += middle >> _HALF
    high += cross >> _HALF
    one *= two  # the low half of the product
    high ^= one
    return high
