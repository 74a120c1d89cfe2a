"""The JSON and text members of many conversations at once, made in vectors.

The bytes are those of a ``Document`` (``document.py``) through msgspec's encoder; made one by one
they would take longer than reading and writing the pictures leaves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vision_ift._export.ustar import BLOCK, headers

#: Rows whose members are held at once.
_ROWS = 2048

_LINES = msgspec.json.Encoder()
_NEWLINE = 10
_TEXT = pa.large_string()
_BYTES = pa.large_binary()


class Pieces:
    """Texts that lie one after the other, given as views."""

    def __init__(self, texts: Any) -> None:
        texts = texts.cast(_BYTES)
        #: All of them, as Arrow has them.
        self.texts = texts
        _, offsets, values = texts.buffers()
        at = np.frombuffer(offsets, "<i8")[texts.offset : texts.offset + len(texts) + 1]
        self._at: list[int] = at.tolist()
        self._values = memoryview(values if values is not None else b"").cast("B")

    def __getitem__(self, number: int) -> memoryview:
        return self._values[self._at[number] : self._at[number + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Bytes of each text."""
        at = np.array(self._at, np.int64)
        return at[1:] - at[:-1]


class Encoded:
    """Some conversations as an export writes them.

    Args:
        rows: A table of the row's columns.

    Attributes:
        ids, licenses, languages: By row.
        image_counts: By row, how many pictures it shows.
        words: The text members.
    """

    def __init__(self, rows: pa.Table) -> None:
        column = {
            name: rows.column(name).combine_chunks()
            for name in rows.column_names  # one chunk each, or offsets would start anew within them
        }
        self.ids = _values(column["id"])
        self.licenses = _values(column["license"])
        self.languages = _values(column["language"])
        pictures, self._picture_at = _flat(column["images"])
        self.image_counts: list[int] = (self._picture_at[1:] - self._picture_at[:-1]).tolist()
        self._picture_at = self._picture_at.tolist()
        self._references = _values(pictures.field("path"))
        paths, path_at = _flat(column["image_paths"])
        turns, turn_at = _flat(column["messages"])
        parts, part_at = _flat(turns.field("content"))
        texts = parts.field("text")
        said = _joined('{"text":', _json(texts), ',"type":', _json(parts.field("type")), "}")
        turned = _joined(
            '{"content":[', _lists(said, part_at), '],"role":', _json(turns.field("role")), "}"
        )
        quoted = {
            name: _json(column[name])
            for name in ("id", "language", "license", "meta", "source", "split", "task")
        }
        self._heads = Pieces(
            _joined(
                '{"id":',
                quoted["id"],
                ',"image_paths":[',
                _lists(_json(paths), path_at),
                '],"images":',
            )
        )
        self._tails = Pieces(
            _joined(
                ',"language":',
                quoted["language"],
                ',"license":',
                quoted["license"],
                ',"messages":[',
                _lists(turned, turn_at),
                '],"meta":',
                quoted["meta"],
                ',"source":',
                quoted["source"],
                ',"split":',
                quoted["split"],
                ',"task":',
                quoted["task"],
                "}",
            )
        )
        # Image parts have no text, so they take no line of the words.
        there = np.concatenate([[0], np.cumsum(texts.is_valid().to_numpy(zero_copy_only=False))])
        line_at = there[part_at[turn_at]]
        self.words = Pieces(_lists(texts.drop_null().cast(_TEXT), line_at, "\n"))

    def __len__(self) -> int:
        return len(self.ids)

    def references(self, number: int) -> list[str]:
        """The pictures of a row."""
        return self._references[self._picture_at[number] : self._picture_at[number + 1]]

    def member(self, number: int, images: bytes) -> tuple[memoryview, bytes, memoryview]:
        """The JSON member of a row, in pieces.

        Args:
            number: Which row.
            images: The names of its image members, as JSON (see :func:`names_as_json`).
        """
        return self._heads[number], images, self._tails[number]

    def members(self, keys: list[str], images: list[bytes], *, text: bool) -> Members:
        """Make the JSON and text members of all rows as they stand in a tar.

        Args:
            keys: By row, what the members' names begin with.
            images: By row, the names of its image members as JSON.
            text: Whether there are text members.
        """
        documents = _bytes_joined(self._heads.texts, pa.array(images, _BYTES), self._tails.texts)
        pieces, sizes = _in_blocks([f"{key}.json".encode("ascii") for key in keys], documents)
        json_sizes, text_sizes = sizes, np.zeros(len(keys), np.int64)
        if text:
            names = [f"{key}.txt".encode("ascii") for key in keys]
            more, text_sizes = _in_blocks(names, self.words.texts)
            pieces += more
        return Members(Pieces(_bytes_joined(*pieces)), json_sizes.tolist(), text_sizes.tolist())

    def sizes(self, images: list[bytes], *, text: bool) -> NDArray[np.int64]:
        """What the JSON and text members take in a tar, headers included (see :meth:`members`)."""
        names = np.fromiter(map(len, images), np.int64, len(images))
        found = in_tar(self._heads.lengths + names + self._tails.lengths)
        return found + in_tar(self.words.lengths) if text else found


class Members(NamedTuple):
    """The JSON and text members of rows, with headers, in whole blocks.

    Attributes:
        blocks: By row, the JSON member and, where there are text members, that.
        json_sizes, text_sizes: By row, the bytes of their contents.
    """

    blocks: Pieces
    json_sizes: list[int]
    text_sizes: list[int]


def _in_blocks(names: list[bytes], contents: Any) -> tuple[list[Any], NDArray[np.int64]]:
    """Give the headers, contents and padding of members, and the sizes of the contents."""
    sizes = pc.binary_length(contents).to_numpy().astype(np.int64)
    heads = pa.py_buffer(headers(names, sizes))
    at = pa.py_buffer(np.arange(0, (len(names) + 1) * BLOCK, BLOCK).astype("<i8"))
    padding = pc.binary_repeat(pa.scalar(b"\0", _BYTES), pa.array(-sizes % BLOCK))
    return [pa.Array.from_buffers(_BYTES, len(names), [None, at, heads]), contents, padding], sizes


def _bytes_joined(*pieces: Any) -> Any:
    return pc.binary_join_element_wise(*pieces, pa.scalar(b"", _BYTES))


def in_tar(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """What members of these sizes take in a tar, in bytes, headers included."""
    return BLOCK + -(-sizes // BLOCK) * BLOCK


def encoded(rows: pa.Table) -> Iterator[Encoded]:
    """Give rows as an export writes them, some thousands at once, in order."""
    for start in range(0, rows.num_rows, _ROWS):
        yield Encoded(rows.slice(start, _ROWS))


def names_as_json(names: list[str]) -> bytes:
    """Write the names of image members as the JSON member has them.

    >>> names_as_json(["00.jpg", "01.png"])
    b'["00.jpg","01.png"]'
    """
    return _LINES.encode(names)


def _flat(array: Any) -> tuple[Any, Any]:
    """A list array's values in one row, and where each list starts in them."""
    offsets = array.offsets.to_numpy().astype(np.int64)
    return array.flatten(), offsets - offsets[0]


def _values(array: Any) -> list[Any]:
    values: list[Any] = array.to_numpy(zero_copy_only=False).tolist()
    return values


def _json(texts: Any) -> Any:
    """Write every text of an array as JSON, null where there is none."""
    encoded = _LINES.encode_lines(_values(texts))  # a line each: JSON has no bare newline
    data = np.frombuffer(encoded, np.uint8)
    ends = np.flatnonzero(data == _NEWLINE) + 1
    assert len(ends) == len(texts), (len(ends), len(texts))
    offsets = pa.py_buffer(np.concatenate([[0], ends]).astype("<i8"))
    lines = pa.Array.from_buffers(_BYTES, len(ends), [None, offsets, pa.py_buffer(data)])
    return pc.binary_slice(lines, 0, -1).cast(_TEXT)


def _joined(*pieces: Any) -> Any:
    """Put texts together, row by row; plain ones stand in every row."""
    scalars = [pa.scalar(one, _TEXT) if isinstance(one, str) else one for one in pieces]
    return pc.binary_join_element_wise(*scalars, pa.scalar("", _TEXT))


def _lists(texts: Any, at: NDArray[np.int64], between: str = ",") -> Any:
    """Join the texts from ``at[n]`` to ``at[n + 1]`` for every n."""
    lists = pa.LargeListArray.from_arrays(pa.array(at, pa.int64()), texts)
    return pc.binary_join(lists, pa.scalar(between, _TEXT))
