"""Several processes of a cluster on one export, each for the shards whose number is its own.

Every rank holds a lock of its own, so that a second one of the same number keeps out, and all hold
the export's lock together, so that an export by one process does. What all must agree on (the
layout, the end) is done under one more lock, which is held for that moment only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from vision_ift._disk import explained, locked, owner_or_lock
from vision_ift._errors import LockedError, UsageError
from vision_ift._export.manifest import LOCK, OWN

#: Where a scheduler tells a process its rank and the number of all; the first that is set counts
#: (torchrun inside a Slurm job knows better than Slurm).
_SCHEDULERS = (
    ("RANK", "WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
    ("JOB_COMPLETION_INDEX", ""),
)

_SETTLE = f"{OWN}/.settle.lock"
_OF_A_RANK = re.compile(r"\.rank-([0-9]+)-of-([0-9]+)\.lock")


class Rank(NamedTuple):
    """One of ``world_size`` processes, from 0."""

    rank: int
    world_size: int

    @property
    def lock(self) -> str:
        """Its lock file, relative to the export."""
        return f"{OWN}/.rank-{self.rank}-of-{self.world_size}.lock"


def rank_of(
    rank: int | Literal["auto"] | None,
    world_size: int | None,
    *,
    environment: Mapping[str, str] = os.environ,
) -> Rank | None:
    """Say which rank is asked for; ``None`` where one process does all.

    Args:
        rank: From 0; ``"auto"`` takes it and the world size from torchrun (``RANK``,
            ``WORLD_SIZE``), Slurm (``SLURM_PROCID``, ``SLURM_NTASKS``) or an indexed job of
            Kubernetes (``JOB_COMPLETION_INDEX``; that one needs ``world_size``).
        world_size: How many there are.
        environment: Where schedulers put what they tell.

    Raises:
        UsageError: They cannot be meant, or no scheduler says them.

    >>> rank_of("auto", None, environment={"SLURM_PROCID": "3", "SLURM_NTASKS": "8"})
    Rank(rank=3, world_size=8)
    """
    if rank is None:
        if world_size is not None:
            raise UsageError("world_size goes with a rank", hint="give rank, or neither")
        return None
    told: int | str = rank
    total: int | str | None = world_size
    if rank == "auto":
        for mine, all_ in _SCHEDULERS:
            if mine in environment and (all_ in environment or world_size is not None):
                told, total = environment[mine], environment.get(all_, world_size)
                break
        else:
            raise UsageError(
                "no scheduler tells this process its rank and the number of all",
                hint="give rank and world_size as numbers",
            )
        if world_size is not None and str(world_size) != str(total):
            raise UsageError(f"world_size is {world_size}, but the scheduler says {total}")
    if total is None:
        raise UsageError("a rank goes with a world_size", hint="give both, or neither")
    try:
        found = Rank(int(told), int(total))
    except ValueError:
        raise UsageError(f"rank {told!r} of {total!r}: these are not whole numbers") from None
    if not 0 <= found.rank < found.world_size:
        raise UsageError(
            f"rank {found.rank} of {found.world_size}: ranks go from 0 to world_size - 1"
        )
    return found


def rank_named(text: str | None) -> int | Literal["auto"] | None:
    """Read a rank as it is typed: a whole number or ``auto``.

    Raises:
        UsageError: It is neither.
    """
    if text is None:
        return None
    if text == "auto":
        return "auto"
    if not text.isdecimal():
        raise UsageError(f"rank {text!r} is no whole number", hint="give a number, or auto")
    return int(text)


@contextlib.contextmanager
def working(folder: Path, rank: Rank | None) -> Iterator[None]:
    """Hold an export alone, or as one of its ranks.

    Raises:
        LockedError: Somebody else holds it alone, or is the same rank, or one of another number
            of ranks.
    """
    if rank is None:
        with locked(folder / LOCK):
            yield
        return
    with contextlib.ExitStack() as stack:
        with explained(folder / LOCK):
            file = stack.enter_context((folder / LOCK).open("a+b", buffering=0))
        _share(file, folder)
        with settling(folder, rank):
            _refuse_other_worlds(folder, rank)
            stack.enter_context(locked(folder / rank.lock))
        yield


def _share(file: BinaryIO, folder: Path) -> None:
    owner = owner_or_lock(file, fcntl.LOCK_SH)
    if owner:
        raise LockedError(
            f"{folder} is being written by {owner}, and not by ranks", hint="wait for it to finish"
        )


def _refuse_other_worlds(folder: Path, rank: Rank) -> None:
    for path in sorted((folder / OWN).glob(".rank-*.lock")):
        told = _OF_A_RANK.fullmatch(path.name)
        if told is None or int(told[2]) == rank.world_size:
            continue
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LockedError(
                    f"{folder} is being written by rank {told[1]} of {told[2]}, so rank "
                    f"{rank.rank} of {rank.world_size} would write the same shards",
                    hint="wait for it to finish, or use the same world size",
                ) from None
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def settling(folder: Path, rank: Rank | None) -> Iterator[None]:
    """Let one rank at a time do what all must agree on; waits for its turn."""
    if rank is None:  # it holds the whole export
        yield
        return
    path = folder / _SETTLE
    while True:
        with explained(path):
            file = path.open("ab")
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # The one before may have removed the file, and another one may have made it anew.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield
                return


def leave_no_locks(folder: Path) -> None:
    """Remove the ranks' lock files when the export is finished; call it while settling."""
    for path in (folder / OWN).glob(".rank-*.lock"):
        path.unlink(missing_ok=True)
    (folder / _SETTLE).unlink(missing_ok=True)
