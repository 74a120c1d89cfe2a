"""Rows of a plan that was not exported: pictures come from the source's own files."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from vision_ift._errors import MissingInputError, RecordError
from vision_ift._export.document import Document, documents, member_names
from vision_ift._export.groups import keys
from vision_ift._pictures.images import Images, image_format
from vision_ift._plan.permute import Permutation
from vision_ift._plan.plan import Plan, Segment
from vision_ift._stream.blocks import Damage, in_order
from vision_ift._stream.epochs import Numbers, permutation
from vision_ift._stream.from_export import Lost, Picture, Row, as_bytes

#: Positions this many times as far apart as there are of them are looked up one by one.
_SPARSE = 256

#: Rows that one thread reads at once.
_CHUNK_ROWS = 16


class PlanRows:
    """The rows of a plan; arguments as for :class:`ExportRows`."""

    order: Literal["rows"] = "rows"

    def __init__(
        self,
        plan: Plan,
        *,
        seed: int,
        columns: tuple[str, ...],
        picture: Picture | None,
        threads: int,
    ) -> None:
        self._plan = plan
        self._seed = seed
        self._columns = columns
        self._others = tuple(name for name in columns if name != "images")
        self._pictures = "images" in columns
        self._picture = picture
        self._threads = threads
        self._images = Images(plan.root)
        self._width, self._endings = keys(plan)
        self._kept: dict[int, Permutation] = {}
        self.rows = len(plan)
        self.digest = plan.digest

    def first_positions(self, epoch: int, positions: Numbers) -> Numbers:
        """Give the positions of epoch 0 whose rows stand at positions of another one."""
        return self._locate(epoch, positions)[0]

    def read(self, windows: Iterable[tuple[int, Numbers]]) -> Iterator[Row | Lost]:
        """Yield a row for each position of (epoch, positions), in their sequence."""
        found = (one for epoch, positions in windows for one in self._found(epoch, positions))
        for rows in in_order(self._make, _chunks(found), threads=self._threads):
            yield from rows

    def _found(
        self, epoch: int, positions: Numbers
    ) -> Iterator[tuple[int, int, Document, list[str]]]:
        """Yield place in the plan, source number, document and references of each position."""
        places, sources, numbers = self._locate(epoch, positions)
        read: list[Any] = [None] * len(positions)
        for source in sorted(set(sources.tolist())):
            table = self._plan.tables[source]
            assert table is not None
            mask = np.flatnonzero(sources == source)
            for where, one in zip(mask.tolist(), documents(table.take(numbers[mask])), strict=True):
                read[where] = one
        for place, source, (document, references) in zip(
            places.tolist(), sources.tolist(), read, strict=True
        ):
            yield place, source, document, references

    def _make(self, several: list[tuple[int, int, Document, list[str]]]) -> list[Row | Lost]:
        return [self._row(*one) for one in several]

    def _row(
        self, place: int, source: int, document: Document, references: list[str]
    ) -> Row | Lost:
        key = f"{place:0{self._width}d}-{self._endings[source]}"
        row: Row = msgspec.to_builtins(document) if self._others else {}
        if self._pictures:
            try:
                pictures = [self._read(reference) for reference in references]
                names = member_names([name for _, name in pictures])
                make = self._picture or as_bytes
                row["images"] = [
                    make(data, f"{key}.{name}")
                    for (data, _), name in zip(pictures, names, strict=True)
                ]
            except Damage as damage:
                return Lost(damage, str(self._plan.root), document.id, 0)
        return {name: row[name] for name in self._columns}

    def _read(self, reference: str) -> tuple[bytes, str]:
        try:
            data = self._images.read(reference)
        except MissingInputError as error:
            raise Damage("missing_image", error.message) from None
        except RecordError as error:
            raise Damage(error.reason, f"{reference}: {error.detail}") from None
        name = image_format(data)
        if name is None:
            raise Damage("bad_image", f"{reference} is not JPEG, PNG, WebP or GIF")
        return data, name

    def _locate(
        self, epoch: int, positions: Numbers
    ) -> tuple[Numbers, NDArray[np.int32], NDArray[np.int64]]:
        """Give place in the plan, source number and row of the table for each position."""
        if not epoch:
            return positions, *self._slice(positions)
        places = np.empty_like(positions)
        sources = np.empty(len(positions), np.int32)
        numbers = np.empty_like(positions)
        for which, segment in enumerate(self._plan.segments):
            mask = (positions >= segment.start) & (positions < segment.stop)
            if mask.any():
                found = self._moved(which, segment, epoch, positions[mask] - segment.start)
                places[mask], sources[mask], numbers[mask] = found
        return places, sources, numbers

    def _slice(self, positions: Numbers) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        low, high = int(positions.min()), int(positions.max()) + 1
        if high - low <= _SPARSE * len(positions):
            sources, numbers = self._plan.slice(low, high)
            return sources[positions - low], numbers[positions - low]
        found = [self._plan.at(position) for position in positions.tolist()]
        return np.array([one for one, _ in found], np.int32), np.array([one for _, one in found])

    def _moved(
        self, which: int, segment: Segment, epoch: int, positions: Numbers
    ) -> tuple[Numbers, NDArray[np.int32], Numbers]:
        """Do :meth:`_locate` inside one stage of a later epoch."""
        low, high = int(positions.min()), int(positions.max()) + 1
        if high - low <= _SPARSE * len(positions):
            local, occurrences = segment.order.slice(low, high)
            local, occurrences = local[positions - low], occurrences[positions - low]
        else:
            found = [segment.order.at(position) for position in positions.tolist()]
            local = np.array([one for one, _ in found], np.int32)
            occurrences = np.array([one for _, one in found])
        places, numbers = np.empty_like(positions), np.empty_like(positions)
        for one in sorted(set(local.tolist())):
            mask = local == one
            rows = self._permutations[which][one]
            assert rows is not None
            moved = rows.rows(occurrences[mask] + epoch * rows.size) % rows.size
            places[mask] = segment.start + segment.order.positions(one, moved)
            number = int(segment.numbers[one])
            selection = self._plan.selections[number]
            assert selection is not None
            taken = self._own(number).rows(moved + segment.starts[one])
            numbers[mask] = taken if selection.rows is None else selection.rows[taken]
        return places, np.take(segment.numbers, local), numbers

    def _own(self, number: int) -> Permutation:
        """The plan's own permutations of a source's rows."""
        found = self._kept.get(number)
        if found is None:
            selection = self._plan.selections[number]
            assert selection is not None
            seed = self._plan.recipe.seed
            found = Permutation(self._plan.names[number], len(selection), seed=seed)
            self._kept[number] = found
        return found

    @cached_property
    def _permutations(self) -> list[list[Permutation | None]]:
        """For each stage and each of its sources, the permutations of the later epochs."""
        return [
            [
                permutation(self._plan.names[number], count, seed=self._seed) if count else None
                for number, count in zip(
                    segment.numbers.tolist(),
                    segment.order.counts(segment.stop - segment.start),
                    strict=True,
                )
            ]
            for segment in self._plan.segments
        ]


def _chunks(things: Iterable[Any]) -> Iterator[list[Any]]:
    several = iter(things)
    while some := list(itertools.islice(several, _CHUNK_ROWS)):
        yield some
