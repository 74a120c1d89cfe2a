"""Packs to one sequence without padding: rows one after the other, positions from 0 in each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from vision_ift._errors import RecordError, UsageError
from vision_ift.torch._collate import IGNORED, Collate, Row, _name

#: Left out: transformers tells rows apart by their positions where there is no mask.
_MASK = "attention_mask"


class CollatePacks:
    """Makes one sequence of the rows of packs, as padding-free training wants it.

    ``input_ids``, ``labels`` and ``position_ids`` are of shape (1, tokens); positions begin at 0 in
    every row, by which transformers keeps rows from seeing each other, with any attention of its
    own: but only where there is no attention mask and no cache, so the batch has no mask and says
    ``use_cache=False``. Pictures follow one after the other, as LLaVA and Qwen2-VL take them (not
    Idefics3, which wants a place for every row). No row's first token is ever a label.

    Args:
        collate: Encodes a row.
        max_tokens: The most tokens of a pack, counted here after the processor has expanded the
            pictures; ``None``: as many as there are.
        position_ids: Gives a row's positions from what :meth:`Collate.encode` gave, tokens in the
            last dimension; ``None``: 0, 1, 2 …. Models whose positions have several axes
            (Qwen2-VL's) need theirs.
    """

    def __init__(
        self,
        collate: Collate,
        *,
        max_tokens: int | None = None,
        position_ids: Callable[[dict[str, Any]], torch.Tensor] | None = None,
    ) -> None:
        self.collate = collate
        self.max_tokens = max_tokens
        self.position_ids = position_ids

    def __call__(self, packs: Sequence[Sequence[Row]]) -> dict[str, Any]:
        """Make one batch of packs.

        Raises:
            RecordError: As :class:`Collate` raises; or a pack has more than ``max_tokens`` tokens
                (reason ``too_long``), so its lengths were counted short.
            UsageError: The processor's pictures cannot follow one after the other.
        """
        rows = [row for pack in packs for row in pack]
        if not rows:
            raise UsageError("a batch of packs without a row")
        encoded = [self.collate.encode(row) for row in rows]
        self._check(packs, [one["input_ids"].shape[1] for one in encoded])
        batch: dict[str, Any] = {}
        for key in dict.fromkeys(key for one in encoded for key in one):
            if key != _MASK:
                values = [one[key] for one in encoded if key in one]
                along = 1 if values[0].shape == _with(key, encoded)["input_ids"].shape else 0
                if len({tuple(value.shape[along + 1 :]) for value in values}) > 1:
                    raise UsageError(
                        f"{key} of rows differ in shape, so they cannot follow one after the other",
                        hint="this processor's rows cannot be packed",
                    )
                batch[key] = torch.cat(values, dim=along)
        firsts = [one["input_ids"].shape[1] for one in encoded]
        starts = torch.tensor([0, *firsts[:-1]]).cumsum(0)
        batch["labels"][:, starts] = IGNORED
        batch["position_ids"] = torch.cat([self._positions(one) for one in encoded], dim=-1)
        batch["use_cache"] = False
        for column in self.collate.columns:
            batch[column] = [row[column] for row in rows]
        return batch

    def _positions(self, one: dict[str, Any]) -> torch.Tensor:
        if self.position_ids is not None:
            return self.position_ids(one)
        return torch.arange(one["input_ids"].shape[1])[None]

    def _check(self, packs: Sequence[Sequence[Row]], lengths: list[int]) -> None:
        left = iter(lengths)
        for pack in packs:
            tokens = sum(next(left) for _ in pack)
            if self.max_tokens is not None and tokens > self.max_tokens:
                raise RecordError(
                    f"its pack of {len(pack)} rows has {tokens:,} tokens, at most "
                    f"{self.max_tokens:,} are taken",
                    reason="too_long",
                    record=_name(pack[0]),
                    hint="count the template's tokens too: count_lengths(turn_tokens=, "
                    "row_tokens=)",
                )


def _with(key: str, encoded: list[dict[str, Any]]) -> dict[str, Any]:
    return next(one for one in encoded if key in one)
