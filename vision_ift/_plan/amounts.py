"""What the amounts of a stage come to: integer weights for its order, and how many rows.

Integers and exact fractions only, so that every machine and every Python gives the same plan.

Weights by size follow "examples-proportional mixing" with a temperature (Raffel et al. 2020,
"Exploring the Limits of Transfer Learning …", section 3.5.2): a part of n rows weighs
min(n, cap) ** (1 / temperature).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from math import lcm
from typing import NamedTuple

from vision_ift._errors import RecipeError
from vision_ift._plan.order import MOST_WEIGHT
from vision_ift._recipe.recipe import Entry, Recipe, Stage

#: Kinds of amount that are shares: how many rows there are is said apart from them.
SHARES = ("weight", "size")

#: Weights by size add up to less than this. Every share of up to 256 parts is then right to 2**-22
#: (a row in four million) at worst.
_SIZE_WEIGHT = 2**40

#: A temperature is a fraction of whole numbers up to this: roots of higher degree take for ever.
_MOST_TERM = 1000


class Amounts(NamedTuple):
    """What a stage's present entries come to.

    Attributes:
        weights: Whole numbers for :class:`vision_ift._plan.order.Order`.
        rows: Rows of the stage; ``None`` where a budget of tokens says.
        tokens: That budget.
    """

    weights: list[int]
    rows: int | None
    tokens: int | None = None

    def asked(self, rows: int) -> list[Fraction]:
        """Give the rows that each entry is asked for, exactly, in a stage of so many rows."""
        whole = sum(self.weights)
        return [Fraction(weight * rows, whole) if whole else Fraction(0) for weight in self.weights]


def amounts(
    stage: Stage,
    entries: Sequence[Entry],
    sizes: Sequence[int],
    *,
    total: int | None = None,
) -> Amounts:
    """Work out the weights and the rows of a stage.

    Args:
        stage: The stage.
        entries: Its entries that are there; at least one.
        sizes: The rows of their selections.
        total: Rows to deliver, whatever the stage says (shares only).

    Raises:
        RecipeError: All present entries weigh 0, or the numbers are too long.
    """
    kind = entries[0].kind
    if kind in SHARES:
        if kind == "weight":
            weights = _whole_weights(stage, [entry.amount for entry in entries])
        else:
            weights = size_weights(sizes, cap=stage.cap, temperature=stage.temperature)
        if not any(weights):
            raise RecipeError(f"stage {stage.name}: the sources that are there all weigh 0")
        rows = total or stage.total
        if rows is None and stage.tokens is not None:
            return Amounts(weights, None, stage.tokens)
        return Amounts(weights, rows or nearest(sum(sizes) * stage.epochs))
    if kind == "count":
        counts = [nearest(entry.amount * stage.epochs) for entry in entries]
    else:
        counts = [
            nearest(size * entry.amount * stage.epochs)
            for entry, size in zip(entries, sizes, strict=True)
        ]
    return Amounts(counts, sum(counts))


def nearest(amount: Fraction) -> int:
    """Round to the nearest whole number, halves up.

    >>> nearest(Fraction(5, 2)), nearest(Fraction(7, 3))
    (3, 2)
    """
    return int(amount + Fraction(1, 2))


def size_weights(
    sizes: Sequence[int], *, cap: int | None = None, temperature: Fraction = Fraction(1)
) -> list[int]:
    """Give whole weights in proportion to ``min(size, cap) ** (1 / temperature)``.

    With temperature 1 the weights are the sizes themselves. Otherwise each is the power times one
    power of two, rounded down (never to 0), found by integer roots; together they are below 2**40.

    >>> size_weights([1000, 10], cap=100)
    [100, 10]
    >>> larger, smaller = size_weights([400, 100], temperature=Fraction(2))
    >>> larger // smaller
    2

    Raises:
        RecipeError: A temperature of more than three digits above or below the line.
    """
    capped = [size if cap is None else min(size, cap) for size in sizes]
    over, under = temperature.numerator, temperature.denominator
    if temperature == 1:
        return capped
    if over < 1 or max(over, under) > _MOST_TERM:
        raise RecipeError(
            f"a temperature of {temperature} cannot be computed exactly",
            hint=f"write it with at most three digits, above 0 and up to {_MOST_TERM}",
        )
    largest = root(max(capped) ** under, over) + 1
    scale = _SIZE_WEIGHT.bit_length() - 1 - (largest * len(capped)).bit_length()
    return [max(1, _power(size, under, over, scale)) if size else 0 for size in capped]


def _power(base: int, times: int, degree: int, scale: int) -> int:
    """Give floor(base ** (times / degree) * 2 ** scale)."""
    shift = scale * degree
    power = base**times
    return root(power << shift if shift >= 0 else power >> -shift, degree)


def root(number: int, degree: int) -> int:
    """Give the whole part of a root, exactly, a bit at a time.

    >>> root(26, 3), root(27, 3), root(10**30, 10)
    (2, 3, 1000)
    """
    found = 0
    for bit in reversed(range(-(-number.bit_length() // degree))):
        if (found | 1 << bit) ** degree <= number:
            found |= 1 << bit
    return found


def stage_key(recipe: Recipe, stage: Stage, *, draw: str = "") -> int:
    """A 64-bit seed for a stage's order, from the recipe's seed, the stage's name and the draw."""
    text = f"vision_ift stage\0{recipe.seed}\0{stage.name}{draw}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def capped_parts(stage: Stage, sizes: dict[str, int]) -> list[str]:
    """Name the parts that a stage's cap makes smaller than they are."""
    if stage.cap is None:
        return []
    return [name for name, size in sizes.items() if size > stage.cap]


def _whole_weights(stage: Stage, exact: list[Fraction]) -> list[int]:
    common = lcm(*(amount.denominator for amount in exact))
    weights = [int(amount * common) for amount in exact]
    if sum(weights) > MOST_WEIGHT:
        raise RecipeError(
            f"stage {stage.name}: the weights have too many digits together",
            hint="round them",
        )
    return weights
