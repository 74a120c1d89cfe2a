"""How many tokens and pictures every row has, counted once without decoding anything."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vision_ift._build import Progress, silent
from vision_ift._disk import write_file
from vision_ift._errors import IntegrityError, RecordError
from vision_ift._pictures.size import picture_size
from vision_ift._plan.token_counts import _tokenizer_digest
from vision_ift._stream.stream import stream
from vision_ift._tokens import ImageRule, find_image_rule, find_tokenizer

if TYPE_CHECKING:
    from vision_ift._plan.plan import Plan

#: Rows whose texts are counted at once.
_ROWS = 512


class Lengths(NamedTuple):
    """By position of epoch 0: ``tokens`` and ``pictures``, both int32."""

    tokens: NDArray[np.int32]
    pictures: NDArray[np.int32]


def count_lengths(
    what: Plan | Path | str,
    *,
    tokenizer: str,
    image_tokens: str,
    turn_tokens: int = 0,
    row_tokens: int = 0,
    folder: Path | str | None = None,
    progress: Progress = silent,
) -> Lengths:
    """Count every row of an export or a plan: text by a tokenizer, pictures by their headers.

    The rows are read once, in order. What a chat template puts around a turn is not counted by the
    tokenizer; say it in ``turn_tokens`` (five for ChatML).

    Args:
        what: An export or a plan, as :func:`vision_ift.stream` takes it.
        tokenizer: ``hf:PATH``, ``tiktoken:NAME`` or ``chars/4``.
        image_tokens: ``llava-1.5``, ``qwen2-vl``, … with parameters where they differ.
        turn_tokens: Tokens that the chat template adds to a turn.
        row_tokens: Tokens that it adds to a conversation.
        folder: Where counts are kept and found again; ``None``: nowhere.
        progress: Told how many rows are done.

    Raises:
        UnknownNameError: There is no such tokenizer or rule.
        RecordError: A picture's header says nothing, or the rule refuses its shape.
        IntegrityError: A file in ``folder`` is damaged.
    """
    reader = stream(what, columns=("id", "images", "messages"))
    count, rule = find_tokenizer(tokenizer), cache(find_image_rule(image_tokens))
    file = None
    if folder is not None:
        named = (reader.digest, tokenizer, _tokenizer_digest(tokenizer), image_tokens)
        name = hashlib.sha256(repr((*named, turn_tokens, row_tokens)).encode()).hexdigest()[:32]
        file = Path(folder) / f"lengths-{name}.npy"
        if file.exists():
            return _open(file, reader.rows)
    found = np.empty((2, reader.rows), np.int32)
    for start in range(0, reader.rows, _ROWS):
        stop = min(start + _ROWS, reader.rows)
        rows = [row for _, row in reader.read(np.arange(start, stop))]
        texts = [_texts(row) for row in rows]
        counts = iter(count([text for some in texts for text in some]))
        for place, (row, some) in enumerate(zip(rows, texts, strict=True), start):
            words = sum(next(counts) for _ in some)
            words += row_tokens + turn_tokens * len(row["messages"])
            found[0, place] = words + sum(_picture_tokens(row, rule))
            found[1, place] = len(row["images"])
        progress("count tokens", stop, reader.rows)
    if file is not None:
        sink = io.BytesIO()
        np.save(sink, found, allow_pickle=False)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_file(file, sink.getvalue())
    return Lengths(found[0], found[1])


def _open(file: Path, rows: int) -> Lengths:
    try:
        found = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise IntegrityError(f"{file} cannot be read: {error}", hint="remove it") from None
    if found.shape != (2, rows) or found.dtype != np.int32:
        raise IntegrityError(f"{file} is not of {rows:,} rows", hint="remove it")
    return Lengths(found[0], found[1])


def _texts(row: dict[str, Any]) -> list[str]:
    return [
        part["text"]
        for message in row["messages"]
        for part in message["content"]
        if part["type"] == "text"
    ]


def _picture_tokens(row: dict[str, Any], rule: ImageRule) -> Sequence[int]:
    tokens = []
    for picture in row["images"]:
        size = picture_size(picture["bytes"])
        counted = rule(*size) if size is not None else None
        if counted is None:
            raise RecordError(
                f"{picture['path']}: "
                + ("its header says no size" if size is None else f"the rule refuses {size}"),
                reason="bad_image",
                record=row["id"],
                hint="vision-ift check lists all such pictures",
            )
        tokens.append(counted)
    return tokens
