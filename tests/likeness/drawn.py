"""Pictures that look like photographs to a hash, and small tables that show them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.rows import table_of
from vision_ift._conversation import IMAGE, Conversation, Message, Part
from vision_ift._table import Table


def photo(seed: int, *, width: int = 320, height: int = 240) -> Image.Image:
    """Draw soft shapes and some noise, never the same for two seeds."""
    random = np.random.Generator(np.random.PCG64(seed))
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    layers = []
    for _ in range(3):
        layer = np.zeros((height, width))
        for _ in range(12):
            place, spread = random.random(2), random.uniform(0.05, 0.3)
            bump = np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / spread**2)
            layer += random.normal() * bump
        layers.append(128 + 60 * layer + random.normal(0, 4, layer.shape))
    return Image.fromarray(np.clip(np.stack(layers, -1), 0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "JPEG", **how: object) -> bytes:
    """Write a picture as a file's bytes."""
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def asked(
    name: str,
    questions: Sequence[str],
    images: Sequence[str] = (),
    *,
    answer: str = "an answer",
) -> Conversation:
    """A conversation of some rounds about some pictures."""
    turns: list[Message] = []
    for number, question in enumerate(questions):
        shown = (IMAGE,) * len(images) if number == 0 else ()
        turns.append(Message("user", (*shown, Part("text", question))))
        turns.append(Message.of("assistant", answer))
    return Conversation(
        id=name, images=tuple(images), image_paths=tuple(images), messages=tuple(turns)
    )


def table(folder: Path, rows: Sequence[Conversation], *, source: str = "llava") -> Table:
    """Write a table."""
    return table_of(folder, rows, source=source)
