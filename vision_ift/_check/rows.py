"""One batch of rows, judged: its tokens, what is cut, and what each row is listed for."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vision_ift._check.pictures import CODES, NAMES, REFUSED, Pictures
from vision_ift._tokens import Tokenizer


class Rows:
    """One batch of rows, judged."""

    def __init__(
        self,
        batch: pa.RecordBatch,
        codes: NDArray[np.int32],
        pictures: Pictures,
        tokens: NDArray[np.int32],
        count: Tokenizer,
        context: int | None,
    ) -> None:
        self._batch = batch
        self._pictures = pictures
        self._tokens = tokens
        self._context = context
        self.codes = codes
        self._shown = pc.list_value_length(batch.column("images")).to_numpy()
        self._ends = np.cumsum(self._shown)
        rows = np.repeat(np.arange(batch.num_rows), self._shown)
        self._count_tokens(batch, count)
        fits = self._image_parts == self._shown
        fits &= self._shown == pc.list_value_length(batch.column("image_paths")).to_numpy()
        refused = _any(tokens[codes] == REFUSED, rows, len(fits))
        bad = _any(pictures.reason[codes] > 0, rows, len(fits))
        self.known = fits & ~bad & ~_any(tokens[codes] < 0, rows, len(fits))
        self._place_images(fits)
        self.over = np.zeros(len(fits), np.int64)
        self.images_cut = np.zeros(len(fits), bool)
        if context is not None:
            self._find_cuts(context)
        reason = np.where(self.over > 0, CODES["too_long"], 0)
        reason[refused] = CODES["image_refused"]
        first = np.flatnonzero(pictures.reason[codes])[::-1]  # backwards: the first one stays
        reason[rows[first]] = pictures.reason[codes[first]]
        reason[~fits] = CODES["image_count"]
        self.reason = reason.astype(np.uint8)

    def _count_tokens(self, batch: pa.RecordBatch, count: Tokenizer) -> None:
        messages = batch.column("messages")
        contents = messages.flatten().field("content")
        parts = contents.flatten()
        turns = messages.offsets.to_numpy() - messages.offsets[0].as_py()
        pieces = contents.offsets.to_numpy() - contents.offsets[0].as_py()
        #: Where every row's parts begin and end among all parts.
        self._bounds = pieces[turns].astype(np.int64)
        self._is_image = pc.equal(parts.field("type"), "image").to_numpy(zero_copy_only=False)
        texts = parts.field("text").to_pylist()
        is_text = np.flatnonzero(~self._is_image)
        self._part_tokens = np.zeros(len(texts), np.int64)
        self._part_tokens[is_text] = count([texts[place] or "" for place in is_text])
        self.text_tokens = self._sums(self._part_tokens)
        self._image_parts = self._sums(self._is_image.astype(np.int64))

    def _sums(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sum a value of every part within each row."""
        ends = np.concatenate([[0], np.cumsum(values)])
        found: NDArray[np.int64] = ends[self._bounds[1:]] - ends[self._bounds[:-1]]
        return found

    def _place_images(self, fits: NDArray[np.bool_]) -> None:
        """Give the n-th image part of a row the tokens of its n-th picture."""
        places = self._is_image & np.repeat(fits, np.diff(self._bounds))
        shown = np.repeat(fits, self._shown)
        image_tokens = np.zeros(len(places), np.int64)
        image_tokens[places] = np.maximum(self._tokens[self.codes[shown]], 0)
        self._part_tokens += image_tokens
        self.image_tokens = self._sums(image_tokens)

    def _find_cuts(self, context: int) -> None:
        totals = self.text_tokens + self.image_tokens
        self.over = np.where(self.known, np.maximum(totals - context, 0), 0)
        ends = np.cumsum(self._part_tokens)
        before = np.concatenate([[0], ends])[self._bounds[:-1]]
        late = ends - np.repeat(before, np.diff(self._bounds)) > context
        self.images_cut = (self._sums((late & self._is_image).astype(np.int64)) > 0) & self.known

    def id(self, row: int) -> str:
        """The id of a row."""
        name: str = self._batch.column("id")[row].as_py()
        return name

    def detail(self, row: int) -> str:
        """Say what is wrong with a row, for a person."""
        reason = NAMES[self.reason[row]]
        if reason == "image_count":
            return f"{self._image_parts[row]} image parts but {self._shown[row]} images"
        if reason == "too_long":
            total = self.text_tokens[row] + self.image_tokens[row]
            return f"{total:,} tokens, {self.over[row]:,} more than {self._context:,}"
        mine = self.codes[self._ends[row] - self._shown[row] : self._ends[row]]
        if reason == "image_refused":
            return self._pictures.size_text(int(mine[self._tokens[mine] == REFUSED][0]))
        return self._pictures.blame_text(int(mine[self._pictures.reason[mine] > 0][0]))

    def arrow(self, source: str, numbers: NDArray[np.int64]) -> pa.RecordBatch:
        """Give the lines of ``rows.parquet``."""
        unknown = ~self.known
        totals = self.text_tokens + self.image_tokens
        details = [self.detail(row) if self.reason[row] else "" for row in range(len(unknown))]
        return pa.RecordBatch.from_pydict(
            {
                "id": self._batch.column("id"),
                "source": pa.repeat(pa.scalar(source), len(unknown)),
                "row": numbers,
                "images": self._shown.astype(np.int32),
                "text_tokens": self.text_tokens,
                "image_tokens": pa.array(self.image_tokens, mask=unknown),
                "tokens": pa.array(totals, mask=unknown),
                "over": pa.array(self.over, mask=unknown),
                "images_cut": self.images_cut,
                "reason": pa.array([NAMES[code] for code in self.reason], pa.string()),
                "detail": pa.array(details, pa.string()),
            }
        )


def _any(found: NDArray[np.bool_], rows: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    """Say for each row whether something is true of one of its pictures."""
    hit = np.zeros(size, bool)
    hit[rows[found]] = True
    return hit
