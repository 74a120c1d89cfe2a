"""The plan's arithmetic for those who stay in `datasets`: an exact, even mix of their datasets."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from math import lcm
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from vision_ift._errors import UsageError
from vision_ift._plan.order import Order
from vision_ift._plan.permute import Permutation, deal

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

    D = TypeVar("D", Dataset, IterableDataset)


def interleave_datasets(
    datasets: Mapping[str, D],
    weights: Mapping[str, int | float | str | Fraction] | None = None,
    *,
    seed: int = 0,
    total: int | None = None,
) -> D:
    """Mix datasets of `datasets` as a plan mixes sources: exact, even in every prefix, repeatable.

    In every prefix each dataset is within 3.36 rows of its weight, and a smaller ``total`` is a
    prefix of a larger one. Of map-style datasets the rows come in a keyed random order, each once
    before any of them comes again; a stream gives its rows in its own order. The names key the
    orders, so adding a dataset moves no other one's rows. The function of this name in `datasets`
    draws every row's dataset at random, whose error grows with the square root of the rows.

    Args:
        datasets: Name to dataset: all map-style, or all streams, with equal features.
        weights: Name to share, of any scale: whole numbers, fractions (``"1/3"``) or decimals; a
            float is taken as it is printed. If not given: the datasets' lengths, so that one pass
            gives every row once; for streams equal shares.
        seed: Keys every order; from 0 to 2**64 - 1.
        total: Rows to give. If not given: as many as map-style datasets hold together; a mix of
            streams ends where the next row's stream has none left.

    Returns:
        A map-style dataset (an index over the given ones, no row is copied) or a stream. With
        ``total``, a stream that has ended is read again from its start.

    Raises:
        UsageError: No dataset, both kinds, unknown names, an empty one, or a total below 1.
        RecipeError: Weights that cannot be planned, or none that is positive.

    >>> from datasets import Dataset
    >>> birds = Dataset.from_dict({"n": [0, 1, 2, 3]})
    >>> cats = Dataset.from_dict({"n": [10, 11]})
    >>> interleave_datasets({"birds": birds, "cats": cats}, seed=17)[:]["n"]
    [3, 2, 11, 1, 10, 0]
    """
    from datasets import Dataset, IterableDataset

    if not datasets:
        raise UsageError("there is no dataset to mix", hint="give at least one")
    kinds = {type(one) for one in datasets.values()}
    for name, one in datasets.items():
        if not isinstance(one, Dataset | IterableDataset):
            raise UsageError(
                f"{name} is a {type(one).__name__}",
                hint="give datasets of one split: load_dataset(…, split='train')",
            )
    if len({issubclass(kind, Dataset) for kind in kinds}) > 1:
        raise UsageError(
            "some are map-style and some are streams", hint="use .to_iterable_dataset() on the rest"
        )
    if total is not None and total < 1:
        raise UsageError(f"total is {total}", hint="give 1 or more")
    names = list(datasets)
    if all(issubclass(kind, Dataset) for kind in kinds):
        sizes = {name: len(one) for name, one in datasets.items()}
        order = Order(names, _whole(names, sizes if weights is None else weights), seed=seed)
        return _mapped(datasets, order, total or sum(sizes.values()))
    shares = dict.fromkeys(names, 1) if weights is None else weights
    return _streamed(datasets, Order(names, _whole(names, shares), seed=seed), total)


def _whole(names: Sequence[str], weights: Mapping[str, int | float | str | Fraction]) -> list[int]:
    """Turn shares into whole numbers of the same proportions."""
    if unknown := sorted(set(weights) ^ set(names)):
        raise UsageError(
            f"weights and datasets differ in {', '.join(unknown)}",
            hint="give every dataset a weight, by its name",
        )
    exact = []
    for name in names:
        try:
            share = Fraction(str(weights[name]))
        except (ValueError, ZeroDivisionError):
            raise UsageError(
                f"{name} has the weight {weights[name]!r}, which is no number"
            ) from None
        if share < 0:
            raise UsageError(f"{name} has the weight {share}", hint="give 0 or more")
        exact.append(share)
    common = lcm(*(share.denominator for share in exact))
    return [int(share * common) for share in exact]


def _mapped(datasets: Mapping[str, Any], order: Order, total: int) -> Any:
    from datasets import concatenate_datasets

    for name, weight in zip(order.names, order.weights, strict=True):
        if weight and not len(datasets[name]):
            raise UsageError(f"{name} has a weight and no rows", hint="leave it out")
    permutations: list[Any] = [
        Permutation(name, len(one), seed=order.seed) if len(one) else None
        for name, one in datasets.items()
    ]
    sources, rows = deal(order, permutations, 0, total)
    starts = np.cumsum([0, *(len(one) for one in datasets.values())])
    return concatenate_datasets(list(datasets.values())).select(starts[sources] + rows)


def _streamed(datasets: Mapping[str, Any], order: Order, total: int | None) -> Any:
    from datasets import IterableDataset

    streams = list(datasets.values())
    return IterableDataset.from_generator(
        _rows,
        features=next((one.features for one in streams if one.features is not None), None),
        gen_kwargs={"streams": tuple(streams), "order": order, "total": total},
    )


def _rows(streams: Sequence[Any], order: Order, total: int | None) -> Iterator[dict[str, Any]]:
    """Yield the streams' rows in the order's sequence."""
    running = [iter(one) for one in streams]
    for position in itertools.count() if total is None else range(total):
        source, _ = order.at(position)
        row = next(running[source], None)
        if row is None:
            if total is None:
                return
            running[source] = iter(streams[source])
            row = next(running[source], None)
            if row is None:
                raise UsageError(f"{order.names[source]} has a weight and no rows")
        yield row
