"""What all archives share: the table of their members, names that are safe, limits, errors."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from urllib.parse import unquote

import numpy as np

from vision_ift._errors import MissingInputError, RecordError

#: The largest member that is read, in bytes.
MAX_MEMBER_BYTES = 256 << 20

#: The most members that an archive may have.
MAX_MEMBERS = 20_000_000

#: An array of whole numbers: a row a member, or one number a member.
Numbers = np.ndarray[tuple[int, int], np.dtype[np.int64]]
Column = np.ndarray[tuple[int], np.dtype[np.int64]]

_ODD_PART = re.compile(r"(?:^|/)\.{0,2}(?:/|$)|\0", re.MULTILINE)


def plain_name(name: str) -> str | None:
    """Give a member's name without ``.`` and empty parts; ``None`` where it leaves the archive.

    `datasets` takes a reference through :class:`pathlib.Path`, which drops these parts too.

    >>> plain_name("./a//b.jpg"), plain_name("a/../../b"), plain_name("/etc/passwd")
    ('a/b.jpg', None, None)
    """
    if not _ODD_PART.search(name):
        return name
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or "\0" in name or name.startswith("/"):
        return None
    return "/".join(parts)


def unquoted(member: str, *, quoted: bool) -> str:
    """Give the name that a caller means."""
    return unquote(member) if quoted else member


def damaged(where: str, what: str, *, hint: str = "") -> RecordError:
    """Make the error of an archive or member that cannot be read."""
    return RecordError(f"{where}: {what}", reason="bad_image", hint=hint)


def check_size(where: str, size: int) -> None:
    """Refuse a member that is too large to be read at once."""
    if size > MAX_MEMBER_BYTES:
        raise damaged(where, f"{size:,} bytes are too many; at most {MAX_MEMBER_BYTES:,} are read")


class Members:
    """The members of one archive: a few whole numbers for each name, in little memory.

    A dictionary of tuples takes 400 bytes a member in every loader process; these columns take 80
    and the name, and forked processes go on sharing them, as nothing in them counts references.

    Args:
        names: The names in UTF-8, in the archive's order; of equal ones the last stays.
        numbers: A row for each name.

    Attributes:
        replaced: How many of the names were equal to a later one.
    """

    def __init__(self, names: list[bytes], numbers: Numbers) -> None:
        count, self._width = numbers.shape
        assert len(names) == count, (len(names), count)
        self._names = b"".join(names)
        ends = np.cumsum(np.fromiter(map(len, names), np.int64, count))
        self._ends = array("q", bytes(8) + ends.tobytes())
        self._numbers = array("q", numbers.tobytes())
        hashes = np.fromiter(map(hash, names), np.int64, count)
        order = np.argsort(hashes, kind="stable")
        if twins := _earlier_twins(names, hashes[order], order):
            order = order[~np.isin(order, list(twins))]
        self.replaced = len(twins)
        self._twins = twins
        self._order = array("q", order.astype(np.int64).tobytes())
        self._hashes = array("q", hashes[order].tobytes())

    def get(self, name: str) -> tuple[int, ...] | None:
        """Give a member's numbers, or ``None`` where there is no such member."""
        try:
            raw = name.encode()
        except UnicodeEncodeError:
            return None
        wanted = hash(raw)
        at = bisect_left(self._hashes, wanted)
        while at < len(self._hashes) and self._hashes[at] == wanted:
            row = self._order[at]
            if self._name(row) == raw:
                return tuple(self._numbers[row * self._width : (row + 1) * self._width])
            at += 1
        return None

    def find(self, name: str, archive: str, *, note: str = "") -> tuple[int, ...]:
        """Give a member's numbers.

        Raises:
            MissingInputError: There is no such member.
        """
        numbers = self.get(name)
        if numbers is None:
            raise MissingInputError(f"archive {archive} has no member {name!r}", hint=note)
        return numbers

    def _name(self, row: int) -> bytes:
        return self._names[self._ends[row] : self._ends[row + 1]]

    def __iter__(self) -> Iterator[str]:
        for row in range(len(self._ends) - 1):
            if row not in self._twins:
                yield self._name(row).decode()

    def __len__(self) -> int:
        return len(self._order)


def _earlier_twins(names: list[bytes], ranked: Column, order: Column) -> frozenset[int]:
    """Give the rows whose name comes again later; ``ranked`` are the hashes in ``order``."""
    (equal,) = np.nonzero(ranked[1:] == ranked[:-1])
    rows = sorted({int(order[at + step]) for at in equal.tolist() for step in (0, 1)})
    last: dict[bytes, int] = {}
    earlier = set()
    for row in rows:
        if (before := last.get(names[row])) is not None:
            earlier.add(before)
        last[names[row]] = row
    return frozenset(earlier)
