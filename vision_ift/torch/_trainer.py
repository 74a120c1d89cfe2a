"""A stream as the dataset that TRL's trainers ask for: one of `datasets`."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from vision_ift._errors import UsageError
from vision_ift._pictures.pixels import decode_pixels
from vision_ift._stream.stream import Stream


def trainer_dataset(stream: Stream, *, image_size: int | tuple[int, int] | None = None) -> Any:
    """Make an ``IterableDataset`` of `datasets` that gives a stream's rows, decoded.

    TRL's ``SFTTrainer`` takes nothing else (``messages`` and ``images`` are the columns it looks
    for), and peeks at the first row; so every iteration begins where the stream stands now.

    The trainer deals the batches to ranks itself: give it a stream of ``world_size=1`` on every
    rank, with as many ``epochs`` as are to be trained and ``max_steps`` set. After ``s`` steps
    training stands at ``stream.state_after(s * rows a step of all ranks together)``. To go on
    without reading what was trained on, load that cursor into the stream and set
    ``ignore_data_skip=True``; otherwise the trainer reads and throws away what it had taken.

    Args:
        stream: Rows with ``messages`` and ``images``, not decoded or decoded.
        image_size: Pictures are decoded to this size at most (see ``decode_pixels``).

    Raises:
        UsageError: The stream is one rank's share of several.
    """
    from datasets import IterableDataset

    if stream.world_size != 1:
        raise UsageError(
            "the trainer deals batches to ranks itself, and this stream is one rank's share",
            hint="open it with world_size=1 on every rank",
        )
    return IterableDataset.from_generator(
        _rows, gen_kwargs={"stream": copy.copy(stream), "image_size": image_size}
    )


def _rows(stream: Stream, image_size: int | tuple[int, int] | None) -> Iterator[dict[str, Any]]:
    from PIL import Image

    for row in copy.copy(stream):
        pictures = [
            decode_pixels(one["bytes"], size=image_size) if isinstance(one, dict) else one
            for one in row["images"]
        ]
        messages = [
            {
                "role": message["role"],
                "content": [
                    {"type": "image"}
                    if part["type"] == "image"
                    else {"type": "text", "text": part["text"]}
                    for part in message["content"]
                ],
            }
            for message in row["messages"]
        ]
        images = [Image.fromarray(pixels) for pixels in pictures]
        yield {**row, "messages": messages, "images": images}
