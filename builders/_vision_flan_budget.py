"""Which rows a budget of N tasks x M rows takes: the same for a seed, smaller within larger.

The paper compares such budgets (Table 3): 10 tasks x 10,000 rows and 187 x 500, 20 x 10,000 and
187 x 1,000. Which tasks and rows it took is not published; here a keyed hash decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from vision_ift._errors import UsageError

MAX_SEED = (1 << 64) - 1
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Budget(NamedTuple):
    """So many tasks and so many rows of each; 0: no limit.

    Attributes:
        num_tasks: The tasks whose names have the lowest hashes.
        per_task: Rows of each of them: those whose ids have the lowest hashes.
        seed: The hashes' key, from 0 to 2**64 - 1.
    """

    num_tasks: int = 0
    per_task: int = 0
    seed: int = 0

    def checked(self) -> Budget:
        """Give it back, or refuse it.

        Raises:
            UsageError: A number is negative, or the seed has more than 64 bits.
        """
        for name, value in zip(self._fields, self, strict=True):
            if value < 0 or value > MAX_SEED:
                raise UsageError(f"option {name}={value} of vision_flan: give 0 to 2**64 - 1")
        return self

    def __bool__(self) -> bool:
        return bool(self.num_tasks or self.per_task)

    def taken(self, rows: Iterable[tuple[Sequence[str], Sequence[str]]]) -> NDArray[np.bool_]:
        """Say for each row, given as tasks and ids in pieces, whether the budget takes it.

        Ids are not unique here: those that repeat are told apart by their order.
        """
        codes: dict[str, int] = {}
        pieces = [
            (
                [codes.setdefault(task, len(codes)) for task in tasks],
                [
                    xxhash.xxh3_64_intdigest(f"{task}\0{name}".encode(), self.seed)
                    for task, name in zip(tasks, names, strict=True)
                ],
            )
            for tasks, names in rows
        ]
        if not pieces:
            return np.zeros(0, bool)
        task_of = np.concatenate([np.array(tasks, np.int32) for tasks, _ in pieces])
        keys = np.concatenate([np.array(hashes, np.uint64) for _, hashes in pieces])
        takes = _lowest(_told_apart(keys), task_of, self.per_task or len(keys))
        if self.num_tasks:
            ranked = sorted(codes, key=lambda task: (self._key(task), task))
            chosen = np.zeros(len(codes), bool)
            chosen[[codes[task] for task in ranked[: self.num_tasks]]] = True
            takes &= chosen[task_of]
        return takes

    def _key(self, task: str) -> int:
        return xxhash.xxh3_64_intdigest(task.encode(), self.seed)


def _told_apart(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Give the second, third … of equal keys others, by SplitMix64 of key and place."""
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    place = np.arange(len(keys), dtype=np.uint64)
    first = np.ones(len(keys), bool)
    first[1:] = ranked[1:] != ranked[:-1]
    repeat = place - np.maximum.accumulate(np.where(first, place, np.uint64(0)))
    mixed = ranked + repeat * _GOLDEN  # wraps, as it should
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    told = np.empty_like(keys)
    told[order] = mixed ^ (mixed >> np.uint64(31))
    return told


def _lowest(keys: NDArray[np.uint64], groups: NDArray[np.int32], count: int) -> NDArray[np.bool_]:
    """Say which keys are among the ``count`` lowest of their group."""
    order = np.lexsort((keys, groups))
    ranked = groups[order]
    place = np.arange(len(keys))
    first = np.ones(len(keys), bool)
    first[1:] = ranked[1:] != ranked[:-1]
    within = place - np.maximum.accumulate(np.where(first, place, 0))
    lowest = np.zeros(len(keys), bool)
    lowest[order[within < count]] = True
    return lowest
