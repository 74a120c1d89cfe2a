"""The order of an export's rows in every epoch: positions to lines of its index, by arithmetic.

Epoch 0 is the plan's order. Later epochs come in two kinds:

* ``rows``: a position keeps its stage and its source (a source number belongs to one stage), and
  a keyed permutation says which row of that source it is;
* ``shards``: within a stage whole shards come in a new order, and within a shard the rows of each
  source change places, so that only one shard is read at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from vision_ift._errors import IntegrityError
from vision_ift._plan.permute import Permutation
from vision_ift._stream.lines import Index

#: Positions that are taken together where the plan's order is not that of the shards.
_BLOCK = 8192

#: Bytes of sorted lines that are kept.
_KEPT_BYTES = 48 << 20

#: Shards whose new order is kept.
_KEPT_SHARDS = 16

Numbers = NDArray[np.int64]


class _Kept:
    """A small cache by use: what was not asked for the longest goes first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._arrays: OrderedDict[Any, NDArray[Any]] = OrderedDict()

    def get(self, key: Any) -> NDArray[Any] | None:
        found = self._arrays.get(key)
        if found is not None:
            self._arrays.move_to_end(key)
        return found

    def put(self, key: Any, array: NDArray[Any], size: int) -> None:
        self._arrays[key] = array
        self._size += size
        while self._size > self._most and len(self._arrays) > 1:
            _, old = self._arrays.popitem(last=False)
            self._size -= old.nbytes if size != 1 else 1


def permutation(name: str, size: int, *, seed: int) -> Permutation:
    """The permutations of a source's rows, one an epoch; not those of the plan itself."""
    return Permutation(f"epochs of {name}", size, seed=seed)


class ByRows:
    """Rows change places within their source, over all shards of the stage."""

    def __init__(self, index: Index, names: list[str], *, seed: int) -> None:
        self._index = index
        self._names = names
        self._seed = seed
        self._sorted = _Kept(_KEPT_BYTES)

    def first_positions(self, epoch: int, positions: Numbers) -> Numbers:
        """Give the positions of epoch 0 whose rows stand at positions of another one."""
        return self._rearranged(epoch, positions) if epoch else positions

    def lines(self, epoch: int, positions: Numbers) -> Numbers:
        """Give the lines at positions of an epoch."""
        positions = self.first_positions(epoch, positions)
        if (order := self._index.order) is None:
            return positions
        found: Numbers = order[positions].astype(np.int64)
        return found

    @cached_property
    def _edges(self) -> Numbers:
        """Where the blocks of positions start, and the end: shards, or equal pieces."""
        if self._index.order is None:
            return self._index.starts
        return np.append(np.arange(0, len(self._index), _BLOCK), len(self._index))

    def _sources(self, block: int) -> NDArray[Any]:
        """The sources of a block's positions."""
        if self._index.order is None:
            return self._index.sources(block)
        found: NDArray[Any] = self._all_sources[self._edges[block] : self._edges[block + 1]]
        return found

    @cached_property
    def _all_sources(self) -> NDArray[Any]:
        order = self._index.order
        assert order is not None
        kind = np.min_scalar_type(len(self._names))
        shards = range(len(self._index.starts) - 1)
        sources = [self._index.sources(n) for n in shards]
        for some in sources:
            self._index.counts(some, len(self._names))
        found: NDArray[Any] = np.concatenate([some.astype(kind) for some in sources])[order]
        return found

    @cached_property
    def _before(self) -> NDArray[Any]:
        """(blocks + 1, sources): rows of each source before each block."""
        kind = np.int32 if len(self._index) < 2**31 else np.int64
        before = np.zeros((len(self._edges), len(self._names)), kind)
        for block in range(len(before) - 1):
            before[block + 1] = self._index.counts(self._sources(block), len(self._names))
        np.cumsum(before, axis=0, out=before)
        return before

    @cached_property
    def _permutations(self) -> list[Permutation | None]:
        counts = self._before[-1].tolist()
        return [
            permutation(name, count, seed=self._seed) if count else None
            for name, count in zip(self._names, counts, strict=True)
        ]

    def _by_source(self, block: int) -> NDArray[Any]:
        """A block's positions sorted by source, those of one source in order."""
        found = self._sorted.get(block)
        if found is None:
            sources = self._sources(block)
            small = sources.astype(np.uint16) if len(self._names) < 2**16 else sources
            found = np.argsort(small, kind="stable")
            found = found.astype(np.uint16 if len(found) <= 2**16 else np.uint32)
            self._sorted.put(block, found, found.nbytes)
        return found

    def _rearranged(self, epoch: int, positions: Numbers) -> Numbers:
        """Give the positions of epoch 0 whose rows stand at positions of a later one."""
        sources, occurrences = self._occurrences(positions)
        found = np.empty_like(positions)
        for source in sorted(set(sources.tolist())):
            mask = sources == source
            rows = self._permutations[source]
            assert rows is not None
            wanted = rows.rows(occurrences[mask] + epoch * rows.size) % rows.size
            found[mask] = self._positions(source, wanted)
        return found

    def _occurrences(self, positions: Numbers) -> tuple[NDArray[Any], Numbers]:
        """Give the source at each position, and how many rows of it come before."""
        sources = np.empty(len(positions), np.int32)
        occurrences = np.empty_like(positions)
        for block, places in _groups(np.searchsorted(self._edges, positions, side="right") - 1):
            inside = positions[places] - self._edges[block]
            some = self._sources(block)[inside]
            by_source = self._by_source(block)
            rank = np.empty(len(by_source), np.int64)
            rank[by_source] = np.arange(len(by_source))
            sources[places] = some
            occurrences[places] = (
                rank[inside] - self._firsts(block)[some] + self._before[block, some]
            )
        return sources, occurrences

    def _firsts(self, block: int) -> Numbers:
        """Where each source starts in a block sorted by source."""
        counts = self._before[block + 1] - self._before[block]
        firsts: Numbers = np.cumsum(counts, dtype=np.int64) - counts
        return firsts

    def _positions(self, source: int, occurrences: Numbers) -> Numbers:
        """Find where occurrences of a source stand."""
        before = self._before[:, source]
        blocks = np.searchsorted(before, occurrences, side="right") - 1
        inside = occurrences - before[blocks]
        inside += (self._before[blocks + 1, :source] - self._before[blocks, :source]).sum(axis=1)
        found = self._edges[blocks]
        for n, (block, place) in enumerate(zip(blocks.tolist(), inside.tolist(), strict=True)):
            found[n] += self._by_source(block)[place]
        return found


class _Stage(msgspec.Struct):
    start: int
    stop: int


class _Lock(msgspec.Struct):
    """What is read of ``plan.json``."""

    digest: str
    stages: list[_Stage]


class ByShards:
    """Shards change places within their stage, and rows within their shard and source."""

    def __init__(self, index: Index, lock: bytes, plan_digest: str, *, seed: int) -> None:
        try:
            self._lock = msgspec.json.decode(lock, type=_Lock)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise IntegrityError(f"the export's plan.json cannot be read: {error}") from None
        if self._lock.digest != plan_digest:
            raise IntegrityError(
                "the export's plan.json is of another plan than its manifest",
                hint="vision-ift verify says what is wrong with the export",
            )
        self._index = index
        self._seed = seed
        self._first = ByRows(index, [], seed=seed)
        self._kept = _Kept(_KEPT_SHARDS)
        self._laid: dict[tuple[int, int], tuple[Numbers, Numbers]] = {}

    def lines(self, epoch: int, positions: Numbers) -> Numbers:
        """Give the lines at positions of an epoch."""
        if not epoch:
            return self._first.lines(0, positions)
        found = np.empty_like(positions)
        stages = np.searchsorted(self._stage_starts, positions, side="right") - 1
        for stage, places in _groups(stages):
            order, starts = self._layout(epoch, stage)
            inside = positions[places] - self._stage_starts[stage]
            which = np.searchsorted(starts, inside, side="right") - 1
            for place, members in _groups(which):
                rows = self._rows(epoch, stage, int(order[place]))
                found[places[members]] = rows[inside[members] - starts[place]]
        return found

    def first_positions(self, epoch: int, positions: Numbers) -> Numbers:
        """Give the positions of epoch 0 whose rows stand at positions of another one."""
        if not epoch or self._index.order is None:  # a line's number is its position
            return self.lines(epoch, positions) if epoch else positions
        return self._position_of_line[self.lines(epoch, positions)]

    @cached_property
    def _position_of_line(self) -> Numbers:
        assert self._index.order is not None
        found = np.empty(len(self._index), np.int64)
        found[self._index.order] = np.arange(len(found))
        return found

    @cached_property
    def _pieces(self) -> list[NDArray[np.int64]]:
        """For each stage, (pieces, 2): the lines (from, to) that a shard has of it."""
        starts = self._index.starts
        shards = len(starts) - 1
        if len(self._lock.stages) <= 1:
            whole = np.stack([starts[:-1], starts[1:]], axis=1)
            return [whole[whole[:, 0] < whole[:, 1]]]
        cuts = [stage.stop for stage in self._lock.stages]
        edges = np.empty((shards, len(cuts) + 1), np.int64)
        for shard in range(shards):
            positions = self._index.positions(shard)
            edges[shard, 0] = starts[shard]
            edges[shard, 1:] = starts[shard] + np.searchsorted(positions, cuts, side="left")
        pieces = [edges[:, n : n + 2] for n in range(len(cuts))]
        return [some[some[:, 0] < some[:, 1]] for some in pieces]

    @cached_property
    def _stage_starts(self) -> Numbers:
        sizes = [int((piece[:, 1] - piece[:, 0]).sum()) for piece in self._pieces]
        if sum(sizes) != len(self._index):
            raise IntegrityError("the export's index does not fit the stages of its plan.json")
        return np.concatenate([[0], np.cumsum(sizes)])[:-1].astype(np.int64)

    def _layout(self, epoch: int, stage: int) -> tuple[Numbers, Numbers]:
        """Give the new order of a stage's shards, and where each then starts in the stage."""
        found = self._laid.get((epoch, stage))
        if found is None:
            pieces = self._pieces[stage]
            shards = permutation(f"shards of stage {stage}", len(pieces), seed=self._seed)
            order = shards.slice(epoch * len(pieces), (epoch + 1) * len(pieces))
            sizes = pieces[order, 1] - pieces[order, 0]
            found = order, np.cumsum(sizes) - sizes
            if len(self._laid) > 8:
                self._laid.clear()
            self._laid[epoch, stage] = found
        return found

    def _rows(self, epoch: int, stage: int, piece: int) -> NDArray[Any]:
        """Give the lines of a shard in the order in which an epoch has them."""
        found = self._kept.get((epoch, stage, piece))
        if found is None:
            start, stop = self._pieces[stage][piece].tolist()
            shard = int(np.searchsorted(self._index.starts, start, side="right")) - 1
            first = int(self._index.starts[shard])
            sources = self._index.sources(shard)[start - first : stop - first]
            found = np.arange(start, stop, dtype=np.int64)
            for source in sorted(set(sources.tolist())):
                places = np.flatnonzero(sources == source)
                rows = permutation(f"{source} in shard {shard}", len(places), seed=self._seed)
                moved = rows.slice(epoch * rows.size, (epoch + 1) * rows.size)
                found[places] = start + places[moved]
            self._kept.put((epoch, stage, piece), found, 1)
        return found


def _groups(numbers: NDArray[Any]) -> list[tuple[int, NDArray[np.intp]]]:
    """Give each number that occurs with its places."""
    if len(numbers) and numbers[0] == numbers[-1] and (numbers == numbers[0]).all():
        return [(int(numbers[0]), np.arange(len(numbers)))]
    order = np.argsort(numbers, kind="stable")
    cuts = np.flatnonzero(np.diff(numbers[order])) + 1
    return [(int(numbers[some[0]]), some) for some in np.split(order, cuts) if len(some)]
