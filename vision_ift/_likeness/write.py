"""The files of both commands, each put in place whole; the report is the last one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vision_ift._disk import explained, write_file
from vision_ift._likeness.decontaminate import REASONS, Found
from vision_ift._likeness.groups import ALONE, beyond, ids_of, places
from vision_ift._likeness.page import pairs_page
from vision_ift._likeness.rows import Part
from vision_ift._pictures.images import Images

EXCLUDE = "exclude.jsonl"
EVIDENCE = "evidence.parquet"
REPORT = "report.json"
PAGE = "pairs.html"
GROUPS = "groups.parquet"
DUPLICATES = "duplicates.json"


def write_found(found: Found, out: Path, *, root: Path) -> None:
    """Write the exclude list, the evidence, the page and the report.

    Raises:
        OutputError: The folder cannot be written.
        DiskError: The disk is full or fails.
    """
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
    write_file(out / EXCLUDE, exclude_lines(found))
    sink = pa.BufferOutputStream()
    pq.write_table(found.evidence, sink, compression="zstd", compression_level=1)
    write_file(out / EVIDENCE, sink.getvalue().to_pybytes())
    write_file(out / PAGE, pairs_page(found, images=Images(root)).encode())
    report = msgspec.json.encode(found.report)
    write_file(out / REPORT, msgspec.json.format(report, indent=1) + b"\n")


def exclude_lines(found: Found) -> bytes:
    """One JSON object a listed row, as a recipe's ``exclude`` reads it."""
    if not found.listed:
        return b""
    told = found.evidence.take([line for _, _, line in found.listed]).to_pylist()
    lines = []
    for (_, reason, _), one in zip(found.listed, told, strict=True):
        place = one["benchmark"] + (f", {one['benchmark_row']}" if one["benchmark_row"] else "")
        lines.append(
            msgspec.json.encode(
                {
                    "id": one["id"],
                    "reason": reason,
                    "detail": f"{REASONS[reason]}: {place}",
                    "evidence": f"{one['evidence']} by {one['how']}",
                    "score": one["score"],
                    "benchmark": one["benchmark"],
                    "benchmark_row": one["benchmark_row"],
                }
            )
        )
    return b"\n".join(lines) + b"\n"


def write_groups(
    parts: list[Part],
    keys: NDArray[np.int64],
    report: dict[str, Any],
    out: Path,
    *,
    keep: int,
) -> None:
    """Write every row of a group, the list of the rows beyond the first ``keep``, and the report.

    A group is named by the first of its rows.

    Raises:
        OutputError: The folder cannot be written.
        DiskError: The disk is full or fails.
    """
    place = places(parts)
    extra = beyond(keys, place, keep=keep)
    order = np.lexsort((place, keys))
    order = order[keys[order] != ALONE]
    starts = np.flatnonzero(np.diff(keys[order], prepend=-2))
    sizes = np.diff(np.append(starts, len(order)))
    first = np.repeat(order[starts], sizes)
    several = np.repeat(sizes, sizes) > 1
    rows, first = order[several], first[several]
    by_group = np.lexsort((place[rows], place[first]))
    rows, first = rows[by_group], first[by_group]
    owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])[rows]
    ids, groups = ids_of(parts, rows), ids_of(parts, first)
    table = pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "part": pa.array([parts[one].name for one in owner.tolist()], pa.string()),
            "group": pa.array(groups, pa.string()),
            "kept": ~extra[rows],
        }
    )
    lines = [
        msgspec.json.encode({"id": one, "reason": "copy", "detail": f"a copy of {group}"})
        for one, group, gone in zip(ids, groups, extra[rows].tolist(), strict=True)
        if gone
    ]
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", compression_level=1)
    write_file(out / GROUPS, sink.getvalue().to_pybytes())
    write_file(out / EXCLUDE, b"".join(line + b"\n" for line in lines))
    encoded = msgspec.json.encode(report)
    write_file(out / DUPLICATES, msgspec.json.format(encoded, indent=1) + b"\n")
