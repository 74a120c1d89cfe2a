"""The rows that are looked at, and what is taken of them: questions, whole texts, pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vision_ift._table import Table

#: The columns that a row's texts are taken from.
TEXT_COLUMNS = ["messages"]


@dataclass(frozen=True, slots=True)
class Part:
    """A table, or some of its rows, under the name by which it is reported.

    Attributes:
        rows: Row numbers in rising order; ``None`` where that is all of them.
    """

    name: str
    table: Table
    rows: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.table) if self.rows is None else len(self.rows)

    def batches(self, columns: list[str]) -> Iterator[tuple[NDArray[np.int64], pa.RecordBatch]]:
        """Yield row numbers and rows, a row group at a time."""
        start = 0
        for batch in self.table.batches(columns):
            numbers = np.arange(start, start + batch.num_rows)
            start += batch.num_rows
            if self.rows is not None:
                low, high = np.searchsorted(self.rows, (start - batch.num_rows, start))
                numbers = self.rows[low:high]
                batch = batch.take(pa.array(numbers - (start - batch.num_rows)))
            yield numbers, batch


#: Where a sentence, a line or what introduces them ends.
_PIECE_ENDS = r"\n|[?!。？！：]|[.:]\s"


class Texts(NamedTuple):
    """Texts of some rows, one after the other.

    Attributes:
        texts: As the source wrote them.
        row: The place in its batch of the row that each stands in.
        turn: The turn of that row, from 0.
    """

    texts: pa.Array
    row: NDArray[np.int64]
    turn: NDArray[np.int64]


def questions(batch: pa.RecordBatch) -> Texts:
    """The text of every user turn."""
    texts, row, turn, roles = _turns(batch)
    asked = np.flatnonzero(pc.equal(roles, "user").to_numpy(zero_copy_only=False))
    return Texts(texts.take(pa.array(asked)), row[asked], turn[asked])


def with_pieces(texts: Texts) -> Texts:
    """Add to every text its sentences and lines, where it has several.

    A source's turn is often a benchmark's question and more: its options, or how to answer it.
    """
    pieces = pc.split_pattern_regex(texts.texts.cast(pa.large_string()), _PIECE_ENDS)
    counts = pc.list_value_length(pieces).to_numpy().astype(np.int64)
    flat = pieces.flatten()
    several = np.repeat(counts > 1, counts)
    spoken = np.asarray(pc.match_substring_regex(flat, r"\p{L}").to_numpy(zero_copy_only=False))
    taken = np.flatnonzero(several & spoken)
    owner = np.repeat(np.arange(len(counts)), counts)[taken]
    both = [texts.texts.cast(pa.large_string()), flat.take(pa.array(taken))]
    return Texts(
        pa.concat_arrays(both),
        np.concatenate([texts.row, texts.row[owner]]),
        np.concatenate([texts.turn, texts.turn[owner]]),
    )


def whole_texts(batch: pa.RecordBatch) -> pa.Array:
    """All that is said in each row, turn after turn; an empty text where nothing is."""
    texts, row, _, _ = _turns(batch)
    counts = np.bincount(row, minlength=batch.num_rows)
    return _joined(texts, counts)


def _turns(
    batch: pa.RecordBatch,
) -> tuple[pa.Array, NDArray[np.int64], NDArray[np.int64], pa.Array]:
    """Text, row, turn and role of every turn of a batch."""
    messages = batch.column("messages")
    per_row = pc.list_value_length(messages).to_numpy().astype(np.int64)
    turns = messages.flatten()
    parts = turns.field("content")
    per_turn = pc.list_value_length(parts).to_numpy().astype(np.int64)
    text = pc.fill_null(parts.flatten().field("text"), "")
    row = np.repeat(np.arange(batch.num_rows), per_row)
    first = np.cumsum(per_row) - per_row
    turn = np.arange(len(row)) - np.repeat(first, per_row)
    return _joined(text, per_turn), row, turn, turns.field("role")


def _joined(texts: pa.Array, counts: NDArray[np.int64]) -> pa.Array:
    """Join so many texts each into one, a newline between them."""
    bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    lists = pa.LargeListArray.from_arrays(pa.array(bounds), texts.cast(pa.large_string()))
    return pc.binary_join(lists, pa.scalar("\n", pa.large_string()))


class Shown:
    """The distinct pictures of some parts, and which of them every row shows.

    Attributes:
        references: Distinct, in the order in which they are first shown.
        codes: For each part, the places of the pictures it shows, row after row.
        bounds: For each part, where each of its rows starts in ``codes``, and the end.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        chunks: list[pa.Array] = []
        counts: list[NDArray[np.int64]] = []
        sizes: list[int] = []
        for part in parts:
            of_part: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
            shown = 0
            for _, batch in part.batches(["images.list.element.path"]):
                images = batch.column("images")
                of_part.append(pc.list_value_length(images).to_numpy().astype(np.int64))
                chunks.append(images.flatten().field("path").cast(pa.large_string()))
                shown += len(chunks[-1])
            counts.append(np.concatenate(of_part))
            sizes.append(shown)
        whole = pa.concat_arrays(chunks) if chunks else pa.array([], pa.large_string())
        del chunks
        encoded = whole.dictionary_encode()
        self.references: pa.Array = encoded.dictionary
        codes = encoded.indices.to_numpy().astype(np.int64)
        self.codes: list[NDArray[np.int64]] = np.split(codes, np.cumsum(sizes)[:-1])
        self.bounds = [np.concatenate([np.zeros(1, np.int64), np.cumsum(one)]) for one in counts]
