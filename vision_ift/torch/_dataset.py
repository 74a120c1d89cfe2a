"""A stream as a dataset of torch: the same rows in the same order, whatever loads them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from vision_ift._errors import UsageError
from vision_ift._stream.stream import Stream, stream
from vision_ift.torch._pack import Packing, count_packs, deal_packs

if TYPE_CHECKING:
    from vision_ift._plan.plan import Plan

#: Bytes that workers share with the main process: the cursor they begin at (under 1 KB).
_SHARED_BYTES = 4096

Row = dict[str, Any]


class StreamDataset(IterableDataset[Any]):  # type: ignore[misc]  # mypy sees no torch
    """A stream for ``DataLoader``; it makes its batches itself.

        loader = DataLoader(StreamDataset(export, batch_size=8, collate=...), batch_size=None)

    Batch ``t`` of a rank holds that rank's rows ``t * batch_size`` to ``(t + 1) * batch_size``, and
    worker ``k`` of ``n`` makes the batches with ``t % n == k``; a ``DataLoader`` takes them in
    turn, so batches and their order are the same for any number of workers. Iterating begins at the
    dataset's cursor each time: the stream's when the dataset was made, then where
    :meth:`set_epoch` or :meth:`resume` put it.

    Two ways to go on after a stop, both without a row lost or given twice:

    * ``dataset.state_after(batches)`` in the main process, after so many batches were *taken* from
      the loader: a cursor under 1 KB, the same on every rank; :meth:`resume` goes on from it with
      any number of ranks and workers.
    * torchdata's ``StatefulDataLoader.state_dict()``: goes on with the same ranks and workers.

    Args:
        what: A :class:`Stream`, or what :func:`vision_ift.stream` takes, with its ``options``.
        batch_size: Rows a batch; packs a batch with ``pack``. ``None``: rows come one by one.
        collate: Makes a batch of its rows (of its packs, lists of rows, with ``pack``); ``None``:
            lists.
        pack: Rows are packed by their tokens; see :class:`Packing`.
        rank, world_size: Which rank of how many; those of ``torch.distributed`` where it is
            initialised, else 0 of 1. With a loader that deals batches to ranks itself (accelerate's
            ``prepare``, Trainer) give 0 and 1, or rows are dealt twice.
        options: As :func:`vision_ift.stream` takes them.

    Raises:
        UsageError: Arguments that cannot be meant together.
        VisionIFTError: As :func:`vision_ift.stream` raises.
    """

    def __init__(
        self,
        what: Stream | Plan | Path | str,
        *,
        batch_size: int | None = None,
        collate: Callable[[Any], Any] | None = None,
        pack: Packing | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        **options: Any,
    ) -> None:
        if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
            raise UsageError(f"batch_size is {batch_size!r}", hint="give a number above 0, or None")
        if collate is not None and batch_size is None and pack is None:
            raise UsageError("collate makes batches, and there is no batch_size")
        if isinstance(what, Stream):
            if options or rank is not None or world_size is not None:
                raise UsageError("a stream has its rank and options already")
            self._stream = copy.copy(what)
            self._stream.load_state_dict(what.state_dict())
        else:
            found_rank, found_size = _distributed()
            self._stream = stream(
                what,
                rank=found_rank if rank is None else rank,
                world_size=found_size if world_size is None else world_size,
                **options,
            )
        self.batch_size = batch_size
        self.collate = collate
        self.pack = pack
        #: Survives into workers that are alive: they begin every epoch by reading it.
        self._shared = torch.zeros(_SHARED_BYTES, dtype=torch.uint8).share_memory_()
        self._share(self._stream.state_dict())

    def _share(self, state: Mapping[str, Any]) -> None:
        data = json.dumps(state, sort_keys=True).encode()
        assert len(data) < _SHARED_BYTES, "a cursor is under 1 KB"
        self._shared.zero_()
        self._shared[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)

    @property
    def cursor(self) -> dict[str, Any]:
        """Where iterating begins."""
        state: dict[str, Any] = json.loads(bytes(self._shared.tolist()).rstrip(b"\0"))
        return state

    def resume(self, cursor: Mapping[str, Any]) -> None:
        """Begin at a cursor from now on, whatever ranks and workers it was taken with.

        Raises:
            UsageError: It is of another export, plan, seed, order or packing.
            IntegrityError: It is no cursor.
        """
        place = {key: value for key, value in cursor.items() if key != "packs"}
        if ("packs" in cursor) != (self.pack is not None):
            raise UsageError(
                f"the cursor was taken {'with' if 'packs' in cursor else 'without'} packing",
                hint="go on as it was begun",
            )
        self._stream.load_state_dict(place)
        if self.pack is not None:
            self.pack.check(cursor["packs"])
        self._share(dict(cursor))

    def set_epoch(self, epoch: int) -> None:
        """Begin at the start of an epoch; in the middle of that very epoch, stay."""
        if self.cursor["epoch"] != epoch:
            self._stream.set_epoch(epoch)
            self._share(self._stream.state_dict())

    def state_after(self, batches: int) -> dict[str, Any]:
        """Give the cursor for when so many batches were taken since iterating began.

        It is the same on every rank. What workers have made ahead plays no part: count the batches
        that training took.
        """
        reader = self._begun()
        if self.pack is None:
            return reader.state_after(batches * (self.batch_size or 1))
        return deal_packs(reader, self.pack, self.cursor, self.batch_size or 1).state_after(batches)

    def _begun(self) -> Stream:
        """Open the stream once more, at the cursor."""
        reader = copy.copy(self._stream)
        reader.load_state_dict({k: v for k, v in self.cursor.items() if k != "packs"})
        return reader

    def __len__(self) -> int:
        """How many batches this rank has from the cursor on.

        With ``pack`` it takes going through all windows once.
        """
        if self.pack is not None:
            return count_packs(self._begun(), self.pack, self.cursor, self.batch_size or 1)
        return -(-len(self._begun()) // (self.batch_size or 1))

    def __iter__(self) -> Batches:
        """Begin at the cursor; in a worker of a loader, with that worker's batches."""
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info is not None else (0, 1)
        return Batches(self, worker, workers)


class Batches(Iterator[Any]):
    """A worker's batches, with a state of their own for ``StatefulDataLoader``."""

    def __init__(self, dataset: StreamDataset, worker: int, workers: int) -> None:
        self._dataset = dataset
        self._worker, self._workers = worker, workers
        self._cursor = dataset.cursor
        self._given = 0
        self._made: Iterator[Any] | None = None

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> Any:
        if self._made is None:
            self._made = self._make()
        while True:
            rows = next(self._made)
            self._given += 1
            if self._dataset.batch_size is not None or self._dataset.pack is not None:
                return rows if self._dataset.collate is None else self._dataset.collate(rows)
            if rows:  # none where a bad row was skipped
                return rows[0]

    def _make(self) -> Iterator[Any]:
        dataset = self._dataset
        size = dataset.batch_size or 1
        reader = copy.copy(dataset._stream)
        reader.load_state_dict({k: v for k, v in self._cursor.items() if k != "packs"})
        if dataset.pack is not None:
            dealt = deal_packs(reader, dataset.pack, self._cursor, size)
            return dealt.batches(self._worker, self._workers, skip=self._given)
        # All workers' batches before this one's next round lie behind it.
        reader.load_state_dict(reader.state_after(self._given * self._workers * size))
        return reader.split_batches(self._worker, self._workers, size)

    def state_dict(self) -> dict[str, Any]:
        """Give what ``StatefulDataLoader`` keeps of a worker."""
        return {
            "cursor": self._cursor,
            "given": self._given,
            "workers": self._workers,
            "batch_size": self._dataset.batch_size,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a worker of the same number, of as many, stood.

        Raises:
            UsageError: It had other workers or another batch size.
        """
        for name, here in (("workers", self._workers), ("batch_size", self._dataset.batch_size)):
            if state[name] != here:
                raise UsageError(
                    f"the loader's state was taken with {name} {state[name]}, here it is {here}",
                    hint="dataset.state_after(batches) and resume() take any",
                )
        self._cursor = dict(state["cursor"])
        self._given = int(state["given"])
        self._made = None


def _distributed() -> tuple[int, int]:
    """Ask torch which rank of how many this process is."""
    import torch.distributed as group

    if group.is_available() and group.is_initialized():
        return group.get_rank(), group.get_world_size()
    return 0, 1
