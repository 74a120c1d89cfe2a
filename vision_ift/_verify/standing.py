"""What is known of an export while it is checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from vision_ift._export.manifest import Layout, Manifest, Shard, ShardFile
from vision_ift._plan.lock import Lock
from vision_ift._verify.finding import Finding
from vision_ift._verify.shard import Answer


@dataclass
class Standing:
    """What could be read of an export, and what is wrong with that.

    Attributes:
        folder: The export.
        layout, manifest, lock: ``None`` where they cannot be read.
        shards: Number to what the shard should be; by the manifest where that is sound, else by
            the records.
        records: Number to record, those that can be read.
        parts: Number to the shard's part of the index, those that are sound in themselves.
        findings: What is wrong.
        answers: What looking at the shards gave.
    """

    folder: Path
    layout: Layout | None = None
    manifest: Manifest | None = None
    lock: Lock | None = None
    shards: dict[int, ShardFile] = field(default_factory=dict)
    records: dict[int, Shard] = field(default_factory=dict)
    parts: dict[int, pa.RecordBatch] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    def add(self, kind: str, file: str, detail: str, *, number: int = -1) -> None:
        """Note a finding."""
        self.findings.append(Finding(kind=kind, file=file, detail=detail, number=number))

    @property
    def damaged_files(self) -> set[str]:
        """The files that findings are about."""
        return {one.file for one in self.findings}


class Mended(NamedTuple):
    """What a repair wrote: the files, and what had been wrong in the shards among them."""

    files: list[str]
    restored: list[Finding]


def file_of(shard: Shard) -> ShardFile:
    """A shard as the manifest names it."""
    return ShardFile(**{name: getattr(shard, name) for name in ShardFile.__struct_fields__})


def positions_told(standing: Standing) -> int:
    """How many rows of the plan the export accounts for: delivered and dropped."""
    layout = standing.layout
    left_out = sum(layout.dropped.values()) if layout is not None else 0
    return left_out + sum(one.rows + sum(one.dropped.values()) for one in standing.records.values())
