"""Packing: several conversations in one sequence, alike for any number of ranks.

The rows of an epoch are cut in windows of consecutive positions, and each window is packed by
itself, first-fit decreasing by the rows' tokens. So which rows lie together depends on the plan and
on the window alone. Packs are numbered from where a run began or was resumed and dealt round robin:
pack ``g`` goes to rank ``g mod world_size``. A cursor is the window's first row and the number of
its packs that were given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vision_ift._errors import IntegrityError, RecordError, UsageError
from vision_ift._stream.stream import Stream

Row = dict[str, Any]


@dataclass(frozen=True)
class Packing:
    """How rows are packed.

    Attributes:
        lengths: Tokens of every row: one number for each position of epoch 0 (see
            :func:`count_lengths`).
        max_tokens: The most tokens of a pack.
        window: Consecutive rows that are packed together: more fill packs better, fewer keep the
            mix closer to the plan's.
        pictures: Pictures of every row, like ``lengths``; with ``max_pictures``.
        max_pictures: The most pictures of a pack.
        too_long: What happens to a row longer than a pack: ``raise``, or ``drop`` (left out on all
            ranks alike; :meth:`too_long_rows` counts them).

    >>> Packing(lengths=np.array([5, 9, 3, 2, 8]), max_tokens=10).pack(np.arange(5))
    [[1], [4, 3], [0, 2]]
    """

    lengths: NDArray[np.integer[Any]]
    max_tokens: int
    window: int = 1024
    pictures: NDArray[np.integer[Any]] | None = None
    max_pictures: int | None = None
    too_long: Literal["raise", "drop"] = "raise"

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or self.window < 1:
            raise UsageError("max_tokens and window are numbers above 0")
        if (self.pictures is None) != (self.max_pictures is None):
            raise UsageError("pictures and max_pictures go together")
        if self.too_long not in ("raise", "drop"):
            raise UsageError(f"too_long is {self.too_long!r}", hint="say 'raise' or 'drop'")

    @property
    def key(self) -> list[Any]:
        """What a cursor has to agree with."""
        return [self.max_tokens, self.window, self.max_pictures, self.too_long]

    def check(self, packs: Any) -> None:
        """Check a cursor's own words on packing.

        Raises:
            UsageError: It was taken with another packing.
            IntegrityError: They are none.
        """
        if not isinstance(packs, Mapping) or set(packs) != {"given", "key"}:
            raise IntegrityError("the cursor is damaged: packs")
        if list(packs["key"]) != self.key:
            raise UsageError(
                f"the cursor was taken with the packing {packs['key']}, here it is {self.key} "
                "(max_tokens, window, max_pictures, too_long)",
                hint="go on as it was begun",
            )
        if type(packs["given"]) is not int or not 0 <= packs["given"] <= self.window:
            raise IntegrityError("the cursor is damaged: packs given")

    def too_long_rows(self) -> NDArray[np.int64]:
        """Positions of epoch 0 whose rows are longer than a pack."""
        return np.flatnonzero(self._unfit(np.arange(len(self.lengths))))

    def _unfit(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        unfit: NDArray[np.bool_] = self.lengths[rows] > self.max_tokens
        if self.pictures is not None and self.max_pictures is not None:
            unfit |= self.pictures[rows] > self.max_pictures
        return unfit

    def pack(self, rows: NDArray[np.int64]) -> list[list[int]]:
        """Pack rows (positions of epoch 0); give places in ``rows``, pack by pack.

        Longest first, the first that stands in ``rows`` first among equals; each goes into the
        first pack that has room.

        Source: first-fit decreasing, Johnson 1973, "Near-optimal bin packing algorithms": at most
        11/9 of the fewest packs and two thirds.

        Raises:
            RecordError: A row is longer than a pack (``too_long="raise"``).
        """
        unfit = self._unfit(rows)
        if self.too_long == "raise" and unfit.any():
            first = int(rows[np.flatnonzero(unfit)[0]])
            raise RecordError(
                f"the row at position {first} of epoch 0 has {int(self.lengths[first]):,} tokens; "
                f"a pack takes {self.max_tokens:,}",
                reason="too_long",
                hint="too_long='drop' leaves such rows out; a larger max_tokens takes them",
            )
        lengths = self.lengths[rows].astype(np.int64)
        shown = self.pictures[rows].astype(np.int64) if self.pictures is not None else None
        order = np.argsort(-lengths, kind="stable")
        room = np.full(len(rows), self.max_tokens, np.int64)
        slots = np.full(len(rows), self.max_pictures or 0, np.int64)
        packs: list[list[int]] = []
        for place in order[~unfit[order]].tolist():
            # One pack more than there are is always empty, and takes whatever fits a pack.
            fits = room[: len(packs) + 1] >= lengths[place]
            if shown is not None:
                fits &= slots[: len(packs) + 1] >= shown[place]
            found = int(fits.argmax())
            if found == len(packs):
                packs.append([])
            packs[found].append(place)
            room[found] -= lengths[place]
            if shown is not None:
                slots[found] -= shown[place]
        return packs


class Fill(NamedTuple):
    """How well packs are filled.

    Attributes:
        rows: Rows in packs; ``dropped``: rows left out as too long.
        packs: Packs.
        tokens: Tokens in packs.
        share: ``tokens`` over ``packs * max_tokens``.
        unpacked_share: What padding every row to ``max_tokens`` would give.
    """

    rows: int
    dropped: int
    packs: int
    tokens: int
    share: float
    unpacked_share: float


def report_fill(packing: Packing) -> Fill:
    """Pack epoch 0 and say how full the packs are.

    >>> report_fill(Packing(lengths=np.array([6, 4, 5, 5]), max_tokens=10)).share
    1.0
    """
    rows = packs = tokens = 0
    for start in range(0, len(packing.lengths), packing.window):
        window = np.arange(start, min(start + packing.window, len(packing.lengths)))
        found = packing.pack(window)
        packs += len(found)
        rows += sum(map(len, found))
        tokens += sum(int(packing.lengths[window[pack]].sum()) for pack in found)
    most = packing.max_tokens
    return Fill(
        rows=rows,
        dropped=len(packing.lengths) - rows,
        packs=packs,
        tokens=tokens,
        share=tokens / (packs * most) if packs else 0.0,
        unpacked_share=tokens / (rows * most) if rows else 0.0,
    )


class _Pack(NamedTuple):
    """One pack: where it stands, and its positions in its epoch."""

    epoch: int
    start: int  # its window's first position
    number: int  # in its window
    positions: NDArray[np.int64]


class Dealt:
    """The packs of all ranks from a cursor on, and which of them are a rank's."""

    def __init__(
        self, reader: Stream, packing: Packing, cursor: Mapping[str, Any], batch_size: int
    ) -> None:
        if len(packing.lengths) != reader.rows:
            raise UsageError(
                f"{len(packing.lengths):,} lengths for {reader.rows:,} rows an epoch",
                hint="count_lengths gives one for each position of epoch 0",
            )
        self._reader = reader
        self._packing = packing
        self._cursor = cursor
        self._size = batch_size
        self.rank, self.world_size = reader.rank, reader.world_size
        self._drop = reader.remainder == "drop"
        if reader.remainder == "pad":
            raise UsageError("packs are dealt with remainder ragged or drop")

    def _packs(self) -> Iterator[_Pack]:
        """Yield all ranks' packs, from the cursor on."""
        cursor, reader = self._cursor, self._reader
        skip = cursor["packs"]["given"] if "packs" in cursor else 0
        start = cursor["position"]
        for epoch in range(cursor["epoch"], cursor["first_epoch"] + cursor["epochs"]):
            # Windows begin at multiples of their size, wherever a run without packing had stopped.
            for low in range(start - start % self._packing.window, reader.rows, self._window):
                positions = np.arange(max(low, start), min(low + self._window, reader.rows))
                for number, places in enumerate(
                    self._packing.pack(self._reader.row_numbers(positions, epoch=epoch))
                ):
                    if number >= skip:
                        yield _Pack(epoch, int(positions[0]), number, positions[places])
                skip = 0
            start = 0

    @property
    def _window(self) -> int:
        return self._packing.window

    def _steps(self) -> Iterator[list[_Pack]]:
        """Yield what all ranks take in one step."""
        packs = self._packs()
        whole = self._size * self.world_size
        while step := list(islice(packs, whole)):
            if len(step) < whole and self._drop:
                return
            yield step

    def batches(self, worker: int, workers: int, *, skip: int = 0) -> Iterator[list[list[Row]]]:
        """Yield a worker's batches of this rank: lists of packs, which are lists of rows."""
        mine = (
            (number, step[self.rank :: self.world_size])
            for number, step in enumerate(self._steps())
            if number % workers == worker
        )
        for number, packs in mine:
            if number // workers >= skip and packs:
                yield [self._read(pack) for pack in packs]

    def _read(self, pack: _Pack) -> list[Row]:
        return [row for _, row in self._reader.read(pack.positions, epoch=pack.epoch)]

    def state_after(self, batches: int) -> dict[str, Any]:
        """Give the cursor for when each rank took so many batches."""
        given = batches * self._size * self.world_size
        packs = self._packs()
        last: _Pack | None = None
        if self._drop:
            for step in islice(self._steps(), batches):
                last = step[-1]
        else:
            last = next(iter(deque(islice(packs, given), maxlen=1)), None)
        state = dict(self._cursor)
        state.setdefault("packs", {"given": 0, "key": self._packing.key})
        if last is not None:
            state.update(epoch=last.epoch, position=last.start)
            state["packs"] = {"given": last.number + 1, "key": self._packing.key}
        return state


def deal_packs(
    reader: Stream, packing: Packing, cursor: Mapping[str, Any], batch_size: int
) -> Dealt:
    """Pack a stream's rows from a cursor on."""
    return Dealt(reader, packing, cursor, batch_size)


def count_packs(
    reader: Stream, packing: Packing, cursor: Mapping[str, Any], batch_size: int
) -> int:
    """Count this rank's batches of packs from a cursor on."""
    dealt = Dealt(reader, packing, cursor, batch_size)
    return sum(bool(step[dealt.rank :: dealt.world_size]) for step in dealt._steps())
