"""Where a stream stands, and which positions are whose: arithmetic alone, no file is read here.

The epochs of a stream lie one after the other on one line of *places*: position ``p`` of epoch
``e`` is place ``e * rows + p``. Place ``q`` belongs to rank ``q mod world_size``, so any
``world_size`` places in a row are one *step*: one row for each rank. A cursor is a place; nothing
in it speaks of ranks or workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import index
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from vision_ift._errors import IntegrityError, UsageError

Remainder = Literal["ragged", "drop", "pad"]
Order = Literal["rows", "shards"]

#: The version of cursors that this module writes and reads.
CURSOR_VERSION = 1

#: The most epochs of a stream; occurrences of a source then fit 63 bits.
MOST_EPOCHS = 2**20

#: The most ranks.
MOST_RANKS = 2**24

#: Places that are worked out at once, at most; the first rows come sooner with fewer.
_FEWEST, _MOST = 16, 1024


class Cursor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What :meth:`vision_ift.Stream.state_dict` gives, as JSON under 1 KB.

    Attributes:
        version: Of this form.
        digest: The export's or the plan's: 32 hex digits.
        seed, order: What later epochs are made of.
        first_epoch: The epoch with which the stream began.
        epochs: How many it was asked for.
        epoch, position: The first row that has not been given: both count from 0; ``position`` is
            below the rows of an epoch.
    """

    version: int
    digest: str
    seed: int
    order: str
    first_epoch: int
    epochs: int
    epoch: int
    position: int


def read_cursor(state: object) -> Cursor:
    """Check that something is a cursor.

    Raises:
        IntegrityError: It is not, or is of another version.
    """
    if not isinstance(state, Mapping):
        raise IntegrityError(f"a cursor is a mapping, and this is {type(state).__name__}")
    if state.get("version") != CURSOR_VERSION or isinstance(state.get("version"), bool):
        told = repr(state.get("version"))[:40]
        raise IntegrityError(f"the cursor is of version {told}; this is {CURSOR_VERSION}")
    try:
        cursor = msgspec.convert(dict(state), Cursor)
    except msgspec.ValidationError as error:
        raise IntegrityError(f"the cursor is damaged: {error}") from None
    for name, most in (
        ("seed", 2**64 - 1),
        ("first_epoch", MOST_EPOCHS),
        ("epochs", MOST_EPOCHS),
        ("epoch", MOST_EPOCHS),
        ("position", 2**62),
    ):
        value = getattr(cursor, name)
        if not 0 <= value <= most:
            told = str(value) if value.bit_length() < 100 else f"of {value.bit_length()} bits"
            raise IntegrityError(f"the cursor is damaged: {name} {told} is not from 0 to {most}")
    if not cursor.first_epoch <= cursor.epoch <= cursor.first_epoch + cursor.epochs:
        raise IntegrityError(
            f"the cursor is damaged: epoch {cursor.epoch} is none of the {cursor.epochs} from "
            f"{cursor.first_epoch} on"
        )
    return cursor


def differences(cursor: Cursor, *, digest: str, seed: int, order: str, rows: int) -> list[str]:
    """Say how a cursor's stream differs from this one; empty where it goes on."""
    found = [
        f"{name} is {here}, the cursor's {there}"
        for name, here, there in (
            ("digest", digest, cursor.digest),
            ("seed", seed, cursor.seed),
            ("order", order, cursor.order),
        )
        if here != there
    ]
    if not found and cursor.position >= rows:
        found = [f"there are {rows:,} rows an epoch, the cursor stands at {cursor.position:,}"]
    return found


@dataclass(frozen=True, slots=True)
class Share:
    """The places of one rank, from where a stream stood to its end.

    Attributes:
        rows: Rows an epoch.
        start, stop: The places that all ranks share: from, to (not included).
        rank, world_size: Which rank of how many.
        remainder: What becomes of the last step where ``stop - start`` is no multiple of
            ``world_size``: ``ragged`` gives its rows to the ranks whose they are; ``drop`` gives
            none; ``pad`` goes on with the first rows of the last epoch, so that each rank has one.
    """

    rows: int
    start: int
    stop: int
    rank: int = 0
    world_size: int = 1
    remainder: Remainder = "ragged"

    @property
    def first(self) -> int:
        """The rank's first place."""
        return self.start + (self.rank - self.start) % self.world_size

    @property
    def steps(self) -> int:
        """How many places the rank has."""
        left = max(0, self.stop - self.start)
        if self.remainder == "drop":
            return left // self.world_size
        if self.remainder == "pad":
            return -(-left // self.world_size)
        return max(0, -(-(self.stop - self.first) // self.world_size))

    def after(self, steps: int) -> int:
        """Give the place where all ranks stand after so many steps of each."""
        most = -(-max(0, self.stop - self.start) // self.world_size)
        if self.remainder == "drop":
            most = self.steps
        return max(self.start, min(self.start + min(steps, most) * self.world_size, self.stop))

    def windows(self, low: int, high: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Yield (epoch, positions) of the rank's steps ``low`` to ``high`` (not included)."""
        size = _FEWEST
        high = min(high, self.steps)
        while low < high:
            count = min(size, high - low)
            places = np.arange(count, dtype=np.int64) * self.world_size
            places += self.first + low * self.world_size
            last = (self.stop - 1) // self.rows * self.rows
            beyond = places >= self.stop
            if beyond.any():
                places[beyond] = last + (places[beyond] - self.stop) % self.rows
            epochs, positions = np.divmod(places, self.rows)
            cuts = np.flatnonzero(np.diff(epochs)) + 1
            for some in np.split(np.arange(count), cuts):
                yield int(epochs[some[0]]), positions[some]
            low += count
            size = min(2 * size, _MOST)


def checked(name: str, value: object, least: int, most: int) -> int:
    """Take an integer argument within its bounds.

    Raises:
        UsageError: It is none, or outside.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = index(value)  # type: ignore[arg-type]  # that it may not be one is the point
    except TypeError:
        raise UsageError(f"{name} is {value!r}, not an integer") from None
    if not least <= number <= most:
        raise UsageError(f"{name} is {number}; give {least} to {most}")
    return number


def checked_share(rank: object, world_size: object, remainder: object) -> tuple[int, int]:
    """Check which rank of how many, and what becomes of the remainder."""
    if remainder not in ("ragged", "drop", "pad"):
        raise UsageError(f"remainder {remainder!r}: give ragged, drop or pad")
    ranks = checked("world_size", world_size, 1, MOST_RANKS)
    return checked("rank", rank, 0, ranks - 1), ranks


def as_state(cursor: Cursor) -> dict[str, Any]:
    """Give a cursor as a mapping for JSON."""
    state: dict[str, Any] = msgspec.to_builtins(cursor)
    return state
