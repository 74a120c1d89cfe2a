"""Rows of training data that stand in a benchmark: found, scored, listed; nothing is removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vision_ift._build import Progress, silent
from vision_ift._errors import UsageError
from vision_ift._likeness.against import Benchmark, read_benchmark
from vision_ift._likeness.evidence import (
    HOW,
    KINDS,
    LINEAGE,
    PICTURE,
    QUESTION,
    Evidence,
    Questions,
    by_lineage,
    by_picture,
    by_question,
    fingerprints_against,
    joined,
)
from vision_ift._likeness.groups import (
    PICTURE_DISTANCE,
    TEXT_SIMILARITY,
    fingerprints_of,
    ids_of,
)
from vision_ift._likeness.lineage import (
    List,
    count_splits,
    ids_of_references,
    needed,
    read_list,
)
from vision_ift._likeness.rows import Part, Shown
from vision_ift._pictures.child import Limits

#: The lowest score of a piece of evidence for which a row is listed.
LISTED_SCORE = 0.5

#: Why a row is listed; of several that are true, the first.
REASONS = {
    "benchmark_picture_and_question": "a picture and a question of it stand in one benchmark row",
    "benchmark_picture": "a picture of it stands in a benchmark",
    "benchmark_question": "a question of it stands in a benchmark",
    "benchmark_lineage": "a picture of it is one that a benchmark or a list names by its COCO id",
}

#: Questions that are named in the report as common.
_COMMON_NAMED = 20


@dataclass(slots=True)
class Found:
    """What was found.

    Attributes:
        evidence: One Arrow line a row, kind and benchmark: see :func:`_evidence_table`.
        listed: The rows for the exclude list, in order: row, reason, and the line of ``evidence``
            that speaks most for it.
        report: What ``report.json`` says.
        parts, shown, benchmarks, questions: For the page, which shows some pairs.
    """

    evidence: pa.Table
    listed: list[tuple[int, str, int]]
    report: dict[str, Any]
    parts: list[Part]
    shown: Shown
    benchmarks: list[Benchmark]
    questions: list[Questions]
    lines: Evidence
    usable: dict[str, frozenset[str]]


def decontaminate(
    parts: Sequence[Part],
    against: Sequence[Path | str],
    *,
    root: Path,
    lineage: Sequence[str] = (),
    picture_distance: int = PICTURE_DISTANCE,
    text_similarity: float = TEXT_SIMILARITY,
    min_score: float = LISTED_SCORE,
    text_columns: Sequence[str] = (),
    image_columns: Sequence[str] = (),
    limits: Limits | None = None,
    strict: bool = False,
    jobs: int = 1,
    progress: Progress = silent,
) -> Found:
    """Look for a benchmark's pictures, questions and COCO ids in tables.

    Args:
        parts: What is looked at.
        against: Benchmarks: folders, Parquet, JSON or JSON Lines.
        root: Where the parts' references lead.
        lineage: Lists of COCO ids (``FILE`` or ``NAME=FILE``), or names of splits.
        picture_distance: Bits of 64 in which two hashes may differ.
        text_similarity: The lowest Jaccard index of near questions; 1 looks for equal ones and
            shared runs alone.
        min_score: The lowest score that lists a row, above 0 and at most 1.
        strict: Raise for the first of the parts' pictures that cannot be decoded.

    Raises:
        UsageError: Nothing to compare with, a bad number, or a benchmark that cannot be read.
    """
    if not against and not lineage:
        raise UsageError("there is nothing to compare with", hint="give --against or --lineage")
    if not 0 < min_score <= 1:
        raise UsageError(f"min_score is {min_score:g}", hint="give more than 0 and at most 1")
    parts = list(parts)
    lists = [read_list(one) for one in lineage]
    benchmarks = [
        read_benchmark(one, text_columns=text_columns, image_columns=image_columns)
        for one in against
    ]
    _name_apart(benchmarks)
    # What a benchmark names speaks for itself, though its pictures were not given.
    lists += [List(f"names in {one.name}", frozenset(one.named)) for one in benchmarks if one.named]
    shown = Shown(parts)
    near = text_similarity if text_similarity < 1 else None
    asked = [Questions(one, near) for one in benchmarks]
    evidence: list[tuple[int, Evidence]] = []
    pictures: list[dict[str, int]] = []
    usable: dict[str, frozenset[str]] = {}
    known = None
    for number, one in enumerate(benchmarks):
        theirs = fingerprints_against(one, limits=limits, jobs=jobs, progress=progress)
        pictures.append(theirs.broken)
        usable[str(number)] = _decoded(theirs.references, theirs.state)
        if len(theirs) and len(shown.references):
            known = known or fingerprints_of(
                parts,
                shown,
                root=root,
                limits=limits,
                strict=strict,
                jobs=jobs,
                progress=progress,
            )
            evidence.append((PICTURE, by_picture(known, shown, theirs, number, picture_distance)))
    if known is not None:
        usable["ours"] = _decoded(known.references, known.state)
    if any(len(one.distinct) for one in asked):
        evidence += [(QUESTION, one) for one in by_question(parts, asked, progress)]
    names: list[str] = shown.references.to_pylist()
    ids = ids_of_references(names, root=root)
    of_benchmarks = [
        (number, ids_of_references(one.references, root=one.root))
        for number, one in enumerate(benchmarks)
    ]
    evidence.append((LINEAGE, by_lineage(ids, shown, of_benchmarks, lists, len(benchmarks))))
    lines = joined([one for _, one in evidence])
    kinds = np.repeat(
        np.array([kind for kind, _ in evidence], np.int8), [len(one.row) for _, one in evidence]
    )
    order = np.lexsort((kinds, lines.benchmark, lines.row))
    lines, kinds = lines.take(order), kinds[order]
    both = _same_row(lines, kinds, benchmarks, asked)
    listed = _listed(lines, kinds, both, min_score)
    table = _evidence_table(lines, kinds, parts, shown, benchmarks, asked, lists, listed)
    splits = count_splits(ids.splits, range(len(names)))
    report = {
        "schema_version": 1,
        "parts": [
            {"name": part.name, "rows": len(part), "digest": part.table.digest} for part in parts
        ],
        "settings": {
            "picture_distance": picture_distance,
            "text_similarity": text_similarity,
            "min_score": min_score,
        },
        "benchmarks": [
            {
                "name": one.name,
                "rows": len(one.rows),
                "pictures": len(one.references),
                "pictures_without_hash": broken,
                "questions": len(questions.distinct),
                "template_runs": questions.grams.templates,
                "skipped": dict(sorted(one.skipped.items())),
                "skipped_first": one.skipped_first,
            }
            for one, broken, questions in zip(benchmarks, pictures, asked, strict=True)
        ],
        "pictures": len(names),
        "pictures_without_hash": known.broken if known is not None else {},
        "listed": len(listed),
        **_counts(lines, kinds, listed, parts, benchmarks, lists, min_score),
        "common_questions": _common(lines, kinds, asked, benchmarks, min_score),
        "lineage": {
            "pictures_of_coco": int((ids.ids >= 0).sum()),
            "splits": splits,
            "benchmarks": needed(splits, lists),
            "lists": [{"name": one.name, "pictures": len(one.ids)} for one in lists],
            "pictures_of_visual_genome": ids.genome,
            "with_coco_id": ids.genome_known,
            "needs": _needs_genome(ids.genome, ids.genome_known),
        },
    }
    return Found(table, listed, report, parts, shown, benchmarks, asked, lines, usable)


def _name_apart(benchmarks: list[Benchmark]) -> None:
    """Number the names that are given twice."""
    met: dict[str, int] = {}
    for one in benchmarks:
        met[one.name] = met.get(one.name, 0) + 1
        if met[one.name] > 1:
            one.name = f"{one.name} ({met[one.name]})"


def _decoded(references: pa.Array, state: NDArray[np.uint8]) -> frozenset[str]:
    """The pictures that a decoder in a child got through: the page shows no others."""
    return frozenset(references.filter(pa.array(state <= 1)).to_pylist())


def _needs_genome(pictures: int, known: int) -> str:
    if not pictures or known:
        return ""
    return "needs visual_genome/image_data.json under ROOT, which says their COCO ids"


def _same_row(
    lines: Evidence,
    kinds: NDArray[np.int8],
    benchmarks: list[Benchmark],
    asked: list[Questions],
) -> dict[int, int]:
    """Find the rows of which a picture and a question stand in one row of a benchmark.

    Gives each such row the place of its picture's line.
    """
    rows_of = []
    for one in benchmarks:
        showing: list[set[int]] = [set() for _ in one.references]
        for row, pictures in enumerate(one.shown):
            for picture in pictures:
                showing[picture].add(row)
        rows_of.append(showing)
    at = np.flatnonzero(
        (lines.row[1:] == lines.row[:-1])
        & (lines.benchmark[1:] == lines.benchmark[:-1])
        & (kinds[:-1] == PICTURE)
        & (kinds[1:] == QUESTION)
    )
    both: dict[int, int] = {}
    for line in at.tolist():
        number = int(lines.benchmark[line])
        asking = asked[number].rows[int(lines.target[line + 1])].tolist()
        if not rows_of[number][int(lines.target[line])].isdisjoint(asking):
            both.setdefault(int(lines.row[line]), line)
    return both


def _listed(
    lines: Evidence, kinds: NDArray[np.int8], both: dict[int, int], min_score: float
) -> list[tuple[int, str, int]]:
    """The rows to list, each with its reason and the line that speaks most for it."""
    strong = np.flatnonzero(lines.score >= min_score)
    order = strong[np.lexsort((strong, kinds[strong], -lines.score[strong], lines.row[strong]))]
    rows = lines.row[order]
    first = order[np.concatenate([[True], rows[1:] != rows[:-1]])] if len(order) else order
    reasons = ("benchmark_picture", "benchmark_question", "benchmark_lineage")
    # A picture says more than a name: where both are certain, the picture is the reason.
    found = {int(lines.row[line]): (reasons[kinds[line]], line) for line in first.tolist()}
    for row, line in both.items():
        found[row] = ("benchmark_picture_and_question", line)
    return [(row, *found[row]) for row in sorted(found)]


def _counts(
    lines: Evidence,
    kinds: NDArray[np.int8],
    listed: list[tuple[int, str, int]],
    parts: list[Part],
    benchmarks: list[Benchmark],
    lists: list[List],
    min_score: float,
) -> dict[str, Any]:
    """Count rows by reason, by part, and by benchmark and kind of evidence."""
    reasons = dict.fromkeys(REASONS, 0)
    for _, reason, _ in listed:
        reasons[reason] += 1
    edges = np.cumsum([0, *(len(part) for part in parts)])
    owner = np.searchsorted(edges, [row for row, _, _ in listed], side="right") - 1
    of_parts = np.bincount(owner, minlength=len(parts))
    names = [one.name for one in benchmarks] + [f"list {one.name}" for one in lists]
    found = []
    for number, name in enumerate(names):
        for kind, word in enumerate(KINDS):
            here = (lines.benchmark == number) & (kinds == kind)
            if here.any():
                strong = here & (lines.score >= min_score)
                found.append(
                    {
                        "benchmark": name,
                        "evidence": word,
                        "rows": int(strong.sum()),
                        "weak": int(here.sum() - strong.sum()),
                        "how": {
                            HOW[how]: int((lines.how[strong] == how).sum())
                            for how in np.unique(lines.how[strong]).tolist()
                        },
                    }
                )
    return {
        "listed_by_reason": {reason: count for reason, count in reasons.items() if count},
        "listed_by_part": {
            part.name: int(count) for part, count in zip(parts, of_parts, strict=True)
        },
        "found": found,
    }


def _common(
    lines: Evidence,
    kinds: NDArray[np.int8],
    asked: list[Questions],
    benchmarks: list[Benchmark],
    min_score: float,
) -> list[dict[str, Any]]:
    """The questions in most rows that say too little to list one."""
    weak = np.flatnonzero((kinds == QUESTION) & (lines.score < min_score))
    pairs = np.stack([lines.benchmark[weak].astype(np.int64), lines.target[weak]])
    targets, counts = np.unique(pairs, axis=1, return_counts=True)
    top = np.argsort(-counts, kind="stable")[:_COMMON_NAMED]
    named = []
    for place in top.tolist():
        number, question = int(targets[0, place]), int(targets[1, place])
        text = benchmarks[number].texts[int(asked[number].first[question])]
        named.append(
            {
                "benchmark": benchmarks[number].name,
                "question": text[:200],
                "rows": int(counts[place]),
                "benchmark_rows": len(asked[number].rows[question]),
            }
        )
    return named


def _evidence_table(
    lines: Evidence,
    kinds: NDArray[np.int8],
    parts: list[Part],
    shown: Shown,
    benchmarks: list[Benchmark],
    asked: list[Questions],
    lists: list[List],
    listed: list[tuple[int, str, int]],
) -> pa.Table:
    """Write the evidence out: whose, what kind, how strong, and which row of which benchmark."""
    edges = np.cumsum([0, *(len(part) for part in parts)])
    owner = np.searchsorted(edges, lines.row, side="right") - 1
    rows = [
        int(part.rows[row - edge]) if part.rows is not None else int(row - edge)
        for row, part, edge in (
            (row, parts[one], int(edges[one]))
            for row, one in zip(lines.row.tolist(), owner.tolist(), strict=True)
        )
    ]
    names = [one.name for one in benchmarks] + [one.name for one in lists]
    theirs, pictures, texts = [], [], []
    firsts = [_first_rows(one) for one in benchmarks]
    for kind, number, target in zip(
        kinds.tolist(), lines.benchmark.tolist(), lines.target.tolist(), strict=True
    ):
        row = picture = text = None
        if number < len(benchmarks) and kind == QUESTION:
            one = benchmarks[number]
            row = one.rows[int(asked[number].rows[target][0])]
            text = one.texts[int(asked[number].first[target])]
        elif number < len(benchmarks):
            row = benchmarks[number].rows[firsts[number][target]]
            picture = benchmarks[number].references[target]
        theirs.append(row)
        pictures.append(picture)
        texts.append(text)
    of_question = kinds == QUESTION
    ours = pa.array(np.where(of_question, 0, lines.ours), pa.int64(), mask=of_question)
    in_list = np.isin(lines.row, [row for row, _, _ in listed])
    return pa.table(
        {
            "id": pa.array(ids_of(parts, lines.row), pa.string()),
            "part": pa.array([parts[one].name for one in owner.tolist()], pa.string()),
            "row": pa.array(rows, pa.int64()),
            "evidence": pa.array([KINDS[kind] for kind in kinds.tolist()], pa.string()),
            "how": pa.array([HOW[how] for how in lines.how.tolist()], pa.string()),
            "score": np.round(lines.score, 4),
            "likeness": np.round(lines.likeness, 4),
            "listed": in_list,
            "image": shown.references.take(ours).cast(pa.string()),
            "turn": pa.array(lines.ours, pa.int64(), mask=~of_question),
            "benchmark": pa.array([names[number] for number in lines.benchmark], pa.string()),
            "benchmark_row": pa.array(theirs, pa.string()),
            "benchmark_image": pa.array(pictures, pa.string()),
            "benchmark_question": pa.array(texts, pa.string()),
            "rows_with_it": pa.array(lines.rows, pa.int64(), mask=~of_question),
        }
    )


def _first_rows(benchmark: Benchmark) -> list[int]:
    """The first row that shows each picture of a benchmark."""
    first = [-1] * len(benchmark.references)
    for row, pictures in enumerate(benchmark.shown):
        for picture in pictures:
            if first[picture] < 0:
                first[picture] = row
    return first
