"""Small tables made of conversations, for several test files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from vision_ift._conversation import Conversation, Message, to_batch
from vision_ift._table import REPORT, BuildReport, Table, TableWriter

MakeTable = Callable[..., Table]


def conversation(number: int, *, task: str | None = "t", split: str = "train") -> Conversation:
    """A text-only conversation."""
    return Conversation(
        id=str(number),
        messages=(Message.of("user", f"question {number}"), Message.of("assistant", "answer")),
        task=task,
        split=split,
    )


def table_of(folder: Path, rows: int | Iterable[Conversation], *, source: str) -> Table:
    """Write a table of conversations, or of so many plain ones, into a new folder."""
    found = [conversation(n) for n in range(rows)] if isinstance(rows, int) else list(rows)
    folder.mkdir(parents=True)
    writer = TableWriter(folder)
    writer.write(to_batch(found, source=source))
    digest = writer.close()
    splits: dict[str, int] = {}
    for one in found:
        splits[one.split] = splits.get(one.split, 0) + 1
    report = BuildReport(
        source=source,
        rows=len(found),
        images=sum(len(one.images) for one in found),
        unique_images=len({image for one in found for image in one.images}),
        splits=splits,
        dropped={},
        dropped_first={},
        absent=[],
        options={},
        inputs={},
        parts=writer.parts,
        fingerprint="",
        digest=digest,
    )
    (folder / REPORT).write_bytes(msgspec.json.encode(report))
    return Table(folder)
