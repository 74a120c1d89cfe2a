"""Choices that depend on names alone, so that one more choice never moves the others."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """Answers every named question in the same way for ever.

    The first 8 bytes of SHA-256 of the seed and the names are the number behind a choice; no state
    is kept, so the order of the questions does not matter.

    Example:
        >>> Choices(17, "park").below(6, "dogs") == Choices(17, "park").below(6, "dogs")
        True
        >>> sorted(Choices(17).shuffled("abc", "order"))
        ['a', 'b', 'c']
    """

    def __init__(self, *names: object) -> None:
        self._prefix = "/".join(str(name) for name in names)

    def under(self, *names: object) -> Choices:
        """Choices whose names all start with these."""
        return Choices(self._prefix, *names)

    def number(self, *names: object) -> int:
        """A number from 0 to 2**64 - 1."""
        text = "/".join((self._prefix, *(str(name) for name in names)))
        return int.from_bytes(sha256(text.encode()).digest()[:8], "big")

    def below(self, limit: int, *names: object) -> int:
        """A number from 0 to ``limit - 1``."""
        return self.number(*names) * limit >> 64

    def unit(self, *names: object) -> float:
        """A number in [0, 1)."""
        return (self.number(*names) >> 11) / (1 << 53)

    def between(self, low: float, high: float, *names: object) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self.unit(*names)

    def pick(self, options: Sequence[T], *names: object) -> T:
        """One of the options."""
        return options[self.below(len(options), *names)]

    def shuffled(self, options: Sequence[T], *names: object) -> list[T]:
        """The options in an order of their own."""
        places = range(len(options))
        order = sorted(places, key=lambda place: self.number(*names, "order", place))
        return [options[place] for place in order]
