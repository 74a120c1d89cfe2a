"""Shards (or a plan) to conversations: any rank, any worker, and on from anywhere, exactly once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from vision_ift._conversation import SCHEMA
from vision_ift._errors import (
    IntegrityError,
    MissingInputError,
    RecordError,
    UnknownNameError,
    UsageError,
)
from vision_ift._stream.blocks import Damage, Handed
from vision_ift._stream.cursor import (
    CURSOR_VERSION,
    MOST_EPOCHS,
    Cursor,
    Order,
    Remainder,
    Share,
    as_state,
    checked,
    checked_share,
    differences,
    read_cursor,
)
from vision_ift._stream.from_export import ExportRows, Lost, Row

if TYPE_CHECKING:
    from vision_ift._plan.plan import Plan
    from vision_ift._stream.from_plan import PlanRows

#: How many lost rows are named.
FIRST = 10

#: The columns of a row, in order.
COLUMNS: tuple[str, ...] = tuple(SCHEMA.names)

Size = int | tuple[int, int]


@dataclass
class Bad:
    """The rows that a stream could not give, with ``bad_rows="skip"``.

    Attributes:
        counts: Reason to number of rows.
        first: The first ten: ``shard``, ``key``, ``offset``, ``reason`` and ``why``.
    """

    counts: dict[str, int] = field(default_factory=dict)
    first: list[dict[str, Any]] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many rows."""
        return sum(self.counts.values())

    def add(self, lost: Lost) -> None:
        """Count one."""
        self.counts[lost.reason] = self.counts.get(lost.reason, 0) + 1
        if len(self.first) < FIRST:
            told = ("shard", "key", "offset", "reason", "why")
            self.first.append({name: getattr(lost, name) for name in told})


@dataclass(frozen=True)
class _Asked:
    """A stream's options, as they were given."""

    what: Any
    rank: int
    world_size: int
    seed: int
    epochs: int
    remainder: Remainder
    order: Order | None
    columns: tuple[str, ...]
    decode: bool | Size
    bad_rows: Literal["raise", "skip"]
    threads: int
    handed: Handed | None = None


def stream(
    what: Plan | Path | str,
    *,
    rank: int = 0,
    world_size: int = 1,
    seed: int = 0,
    epochs: int = 1,
    remainder: Remainder = "ragged",
    order: Order | None = None,
    columns: Iterable[str] | None = None,
    decode: bool | Size = False,
    bad_rows: Literal["raise", "skip"] = "raise",
    threads: int = 0,
) -> Stream:
    """Read the conversations of an export or of a plan, in an order that any number of ranks share.

    Rows are dicts with the columns of a row; ``images`` is a list of ``{"bytes", "path"}``, where
    the path is the name of the member in the shard (``000000017-coco_ift.jpg``).

    Epoch 0 has the plan's order. In later epochs every position keeps its stage and its source,
    and which row of that source it is changes. The epochs lie one after the other; position ``p``
    of epoch ``e`` is place ``e * rows + p``, and place ``q`` goes to rank ``q mod world_size``. So
    the order of all ranks together is the same for any number of ranks and workers, and a cursor
    is one place: after ``k`` rows on each rank it stands ``k * world_size`` further.

    Args:
        what: An export's folder, its URL (anything that fsspec reads), or a plan, whose pictures
            are then read from the source's own files.
        rank, world_size: Which of how many share the rows.
        seed: Decides the order of later epochs, from 0 to 2**64 - 1.
        epochs: How many epochs the stream has.
        remainder: What happens at the end of the last epoch where the places that are left are no
            multiple of ``world_size``. ``ragged``: some ranks have one row more. ``drop``: the
            last, incomplete step is not given; it is counted from where the stream began or was
            resumed, and a cursor taken at the end still points at it, so that another world size
            can go on there. ``pad``: ranks without a row of their own in it get one of the first
            rows of the last epoch again. In all three no row is given twice before that, whatever
            restarts with other world sizes there were.
        order: How later epochs differ: ``rows`` over all shards; ``shards`` in a new order with
            rows moved inside each (the default behind a URL, where it reads one after the other).
        columns: The columns that rows have; only what they need is read. ``None``: all.
        decode: ``True``: pictures as arrays (height, width, 3) of uint8, RGB, upright. A number or
            a pair: the same, made to fit a longer side or a box of (width, height).
        bad_rows: What to do with a row whose bytes are damaged or missing. ``raise``: stop.
            ``skip``: leave its place empty on its rank and count it in ``bad``; nothing takes its
            place, so the other rows stay where they are, on all ranks.
        threads: Threads that read (and decode) ahead; 0: none, or six behind a URL. They help where
            pictures are decoded or a disk is slow to answer, not with files in memory.

    Raises:
        MissingInputError: There is no finished export.
        IntegrityError: Its manifest or index is damaged; or, while iterating with
            ``bad_rows="raise"``, a row is.
        ServiceError: The store does not answer.
        UsageError: An argument that cannot be meant.

    >>> stream("nowhere")
    Traceback (most recent call last):
    vision_ift._errors.MissingInputError: nowhere/vision_ift/manifest.json is not there; ...
    """
    rank, world_size = checked_share(rank, world_size, remainder)
    if order not in (None, "rows", "shards"):
        raise UsageError(f"order {order!r}: give rows or shards")
    if bad_rows not in ("raise", "skip"):
        raise UsageError(f"bad_rows {bad_rows!r}: give raise or skip")
    return Stream(
        _Asked(
            what=str(what) if isinstance(what, Path) else what,
            rank=rank,
            world_size=world_size,
            seed=checked("seed", seed, 0, 2**64 - 1),
            epochs=checked("epochs", epochs, 1, MOST_EPOCHS),
            remainder=remainder,
            order=order,
            columns=_checked_columns(columns),
            decode=_checked_decode(decode),
            bad_rows=bad_rows,
            threads=checked("threads", threads, 0, 256),
        )
    )


class Stream:
    """Conversations in order, and a place in it; made by :func:`vision_ift.stream`.

    Like a file it goes on where it stands: iterating again after a ``break`` gives the next row,
    and after the end nothing. :meth:`set_epoch` and :meth:`load_state_dict` put it elsewhere.

    Attributes:
        rows: Rows an epoch.
        digest: Names what is read: the export's digest or the plan's.
        bad: What ``bad_rows="skip"`` left out.
    """

    def __init__(self, asked: _Asked) -> None:
        self._asked = asked
        self._source = _open(asked)
        self.rows = self._source.rows
        self.digest = self._source.digest
        self.bad = Bad()
        self._first_epoch = 0
        self._turn = 0
        self._go(0)

    @property
    def rank(self) -> int:
        """The rank whose rows these are."""
        return self._asked.rank

    @property
    def world_size(self) -> int:
        """How many ranks share the rows."""
        return self._asked.world_size

    @property
    def remainder(self) -> Remainder:
        """What happens to a last step that is not whole: ``ragged``, ``drop`` or ``pad``."""
        return self._asked.remainder

    def _go(self, start: int) -> None:
        """Stand at a place."""
        asked = self._asked
        stop = (self._first_epoch + asked.epochs) * self.rows
        self._share = Share(self.rows, start, stop, asked.rank, asked.world_size, asked.remainder)
        self._taken = 0
        self._turn += 1

    def __len__(self) -> int:
        """How many rows this rank still has to give, skipped ones included."""
        return max(0, self._share.steps - self._taken)

    def __iter__(self) -> Iterator[Row]:
        self._turn += 1
        return self._iterate(self._turn)

    def _iterate(self, turn: int) -> Iterator[Row]:
        share = self._share
        first = self._taken
        for step, row in enumerate(self._read(share.windows(first, share.steps)), first + 1):
            if turn != self._turn:
                raise UsageError("the stream was moved, or is iterated by somebody else")
            if isinstance(row, Lost):
                self._lose(row)
                continue
            self._taken = step
            yield row
        if turn == self._turn:
            # One further than the rank's own rows: the last step of all ranks is over.
            self._taken = share.steps + 1

    def _read(self, windows: Iterable[tuple[int, NDArray[np.int64]]]) -> Iterator[Row | Lost]:
        return self._source.read(windows)

    def _lose(self, lost: Lost) -> None:
        if self._asked.bad_rows == "skip":
            self.bad.add(lost)
            return
        raise IntegrityError(
            f"{lost.shard}, row {lost.key}, offset {lost.offset:,}: {lost.why} ({lost.reason})",
            hint='vision-ift verify finds all damage; bad_rows="skip" leaves such rows out',
        )

    def state_dict(self) -> dict[str, Any]:
        """Give the cursor: where all ranks stand when each has taken as many rows as this one.

        It is the same on all ranks after the same step, and plain JSON of less than 1 KB. With
        ``bad_rows="skip"`` a rank that skipped a row stands a step further after as many rows;
        :meth:`batches` keeps ranks in step there.
        """
        return self.state_after(self._taken)

    def state_after(self, rows: int) -> dict[str, Any]:
        """Give the cursor for when this rank has taken so many rows since the stream was put here.

        Arithmetic alone: the same on every rank, wherever the stream's own iteration is. Rows that
        are skipped count.
        """
        rows = checked("rows", rows, 0, 2**62)
        epoch, position = divmod(self._share.after(rows), self.rows)
        return as_state(
            Cursor(
                version=CURSOR_VERSION,
                digest=self.digest,
                seed=self._asked.seed,
                order=self._source.order,
                first_epoch=self._first_epoch,
                epochs=self._asked.epochs,
                epoch=epoch,
                position=position,
            )
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a cursor, whatever world size and workers it was taken with.

        Raises:
            UsageError: It is of another export or plan, seed or order, or beyond the epochs.
            IntegrityError: It is damaged, or no cursor at all.
        """
        cursor = read_cursor(state)
        differs = differences(
            cursor,
            digest=self.digest,
            seed=self._asked.seed,
            order=self._source.order,
            rows=self.rows,
        )
        if differs:
            raise UsageError(
                f"the cursor is of another stream: {'; '.join(differs)}",
                hint="open the stream that it was taken from, or begin anew",
            )
        start = cursor.epoch * self.rows + cursor.position
        if start > (cursor.first_epoch + self._asked.epochs) * self.rows:
            raise UsageError(
                f"the cursor stands in epoch {cursor.epoch}, and this stream has "
                f"{self._asked.epochs} from epoch {cursor.first_epoch} on",
                hint=f"open it with epochs={cursor.epochs}",
            )
        self._first_epoch = cursor.first_epoch
        self._go(start)

    def set_epoch(self, epoch: int) -> None:
        """Stand at the start of an epoch; ``epochs`` epochs are then given from there."""
        self._first_epoch = checked("epoch", epoch, 0, MOST_EPOCHS - 1)
        self._go(self._first_epoch * self.rows)

    def read(
        self, positions: NDArray[np.int64] | Iterable[int], *, epoch: int = 0
    ) -> Iterator[tuple[int, Row]]:
        """Yield (position, row) at positions of one epoch, in the sequence asked.

        Ranks play no part, and the stream stays where it is. A bad row that is skipped is left out.

        Raises:
            UsageError: A position that is none of the epoch's.
        """
        epoch = checked("epoch", epoch, 0, MOST_EPOCHS)
        wanted = self._positions(positions)
        windows = ((epoch, wanted[low : low + 256]) for low in range(0, len(wanted), 256))
        for position, row in zip(wanted.tolist(), self._read(windows), strict=True):
            if isinstance(row, Lost):
                self._lose(row)
            else:
                yield position, row

    def _positions(self, positions: NDArray[np.int64] | Iterable[int]) -> NDArray[np.int64]:
        wanted = np.asarray(
            positions if isinstance(positions, np.ndarray) else list(positions), dtype=np.int64
        )
        if wanted.ndim != 1:
            raise UsageError(f"positions of {wanted.ndim} dimensions; give one")
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < self.rows:
            raise UsageError(f"positions are 0 to {self.rows - 1}")
        return wanted

    def row_numbers(
        self, positions: NDArray[np.int64] | Iterable[int], *, epoch: int = 0
    ) -> NDArray[np.int64]:
        """Say which rows stand at positions of an epoch: their positions in epoch 0.

        So what is known of every row once (its length, its score) is found again in every epoch.
        No shard is read.

        Args:
            positions: 0 to ``rows - 1``, in any sequence.
            epoch: Which epoch.

        Returns:
            A number for each position, also from 0 to ``rows - 1``.

        Raises:
            UsageError: A position that is none of the epoch's.
        """
        wanted = self._positions(positions)
        if not len(wanted):
            return wanted
        return self._source.first_positions(checked("epoch", epoch, 0, MOST_EPOCHS), wanted)

    def batches(self, size: int) -> Iterator[list[Row]]:
        """Yield this rank's rows in lists of ``size`` places; the stream moves on.

        A list is shorter where rows were skipped, and at the end. So the n-th list belongs to the
        same step on all ranks, and :meth:`state_dict` after it is equal on all of them, whatever
        rows were lost.
        """
        self._turn += 1
        turn, first = self._turn, self._taken
        taken = first
        for count, batch in self._batches(checked("size", size, 1, 2**31), 0, 1):
            if turn != self._turn:
                raise UsageError("the stream was moved, or is iterated by somebody else")
            taken += count
            self._taken = taken
            yield batch
        if turn == self._turn:
            self._taken = self._share.steps + 1

    def split(self, worker: int, workers: int, batch_size: int) -> Iterator[Row]:
        """Yield a worker's rows of this rank; the stream stays where it is.

        They are those of the batches ``worker``, ``worker + workers`` … of ``batch_size`` places,
        counted from where the stream stands; see :meth:`split_batches`.
        """
        for batch in self.split_batches(worker, workers, batch_size):
            yield from batch

    def split_batches(self, worker: int, workers: int, batch_size: int) -> Iterator[list[Row]]:
        """Do :meth:`split` batch by batch: one is shorter where rows were skipped, and at the end.

        ``state_after(n * batch_size)`` is the cursor after the n-th batch of all workers, where
        the stream has not moved since it was put in its place.
        """
        size = checked("batch_size", batch_size, 1, 2**31)
        workers = checked("workers", workers, 1, 2**16)
        worker = checked("worker", worker, 0, workers - 1)
        for _, batch in self._batches(size, worker, workers):
            yield batch

    def _batches(self, size: int, worker: int, workers: int) -> Iterator[tuple[int, list[Row]]]:
        """Yield how many places a batch has, and its rows."""
        share = self._share
        low = min(self._taken, share.steps)
        spans: deque[int] = deque()

        def windows() -> Iterator[tuple[int, NDArray[np.int64]]]:
            for start in range(low + worker * size, share.steps, workers * size):
                stop = min(start + size, share.steps)
                spans.append(stop - start)
                yield from share.windows(start, stop)

        batch: list[Row] = []
        taken = 0
        for row in self._read(windows()):
            if isinstance(row, Lost):
                self._lose(row)
            else:
                batch.append(row)
            taken += 1
            if taken == spans[0]:
                yield spans.popleft(), batch
                batch, taken = [], 0

    def __copy__(self) -> Stream:
        """Give another stream that stands here and shares what is open."""
        found = object.__new__(Stream)
        found.__dict__.update(self.__dict__)
        found.bad = Bad()
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        asked = self._asked
        if isinstance(self._source, ExportRows):  # not where a link leads by then
            asked = replace(asked, what=self._source.place, handed=self._source.handed)
        return _reopen, (asked, self.digest, self._first_epoch, self._share.start, self._taken)

    def __repr__(self) -> str:
        return (
            f"<Stream of {self.rows:,} rows an epoch, rank {self._asked.rank} of "
            f"{self._asked.world_size}, digest {self.digest}>"
        )


def _reopen(asked: _Asked, digest: str, first_epoch: int, start: int, taken: int) -> Stream:
    """Open a stream in another process, where it stood."""
    found = Stream(asked)
    if found.digest != digest:
        raise IntegrityError(
            f"{asked.what} was another export ({digest}) when the stream was opened; it is "
            f"{found.digest} now",
            hint="give every export a folder of its own",
        )
    found._first_epoch = first_epoch
    found._go(start)
    found._taken = taken
    return found


def _open(asked: _Asked) -> ExportRows | PlanRows:
    picture = _Decoded(asked.decode) if asked.decode is not False else None
    if isinstance(asked.what, str):
        return ExportRows(
            asked.what,
            seed=asked.seed,
            order=asked.order,
            columns=asked.columns,
            picture=picture,
            threads=asked.threads,
            handed=asked.handed,
        )
    from vision_ift._plan.plan import Plan
    from vision_ift._stream.from_plan import PlanRows

    if not isinstance(asked.what, Plan):
        raise UsageError(f"a stream reads a path, a URL or a plan, not {type(asked.what).__name__}")
    if asked.order == "shards":
        raise UsageError("a plan has no shards", hint='order="rows", or export it first')
    if not len(asked.what):
        raise MissingInputError(f"the plan of {asked.what.recipe.name} has no rows")
    return PlanRows(
        asked.what,
        seed=asked.seed,
        columns=asked.columns,
        picture=picture,
        threads=asked.threads,
    )


class _Decoded:
    """Makes arrays of pictures."""

    def __init__(self, decode: bool | Size) -> None:
        from vision_ift._pictures.pixels import decode_pixels

        self._decode = decode_pixels
        self._size = None if isinstance(decode, bool) else decode

    def __call__(self, data: bytes, name: str) -> NDArray[np.uint8]:
        try:
            return self._decode(data, size=self._size)
        except RecordError as error:
            raise Damage(error.reason, f"{name}: {error.detail}") from None


def _checked_columns(columns: Iterable[str] | None) -> tuple[str, ...]:
    if columns is None:
        return COLUMNS
    if isinstance(columns, str):
        raise UsageError(f"columns is the text {columns!r}", hint=f"columns=[{columns!r}]")
    wanted = list(columns)
    for name in wanted:
        if name not in COLUMNS:
            raise UnknownNameError("column", str(name), COLUMNS)
    if not wanted:
        raise UsageError("columns names none", hint="leave it out for all columns")
    return tuple(name for name in COLUMNS if name in wanted)


def _checked_decode(decode: Any) -> bool | Size:
    if isinstance(decode, bool):
        return decode
    if isinstance(decode, tuple | list):
        if len(decode) != 2:
            raise UsageError(f"decode {decode!r}: give (width, height)")
        width, height = (checked("decode", one, 1, 2**16) for one in decode)
        return width, height
    return checked("decode", decode, 1, 2**16)
