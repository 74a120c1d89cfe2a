"""What the readers of the eleven sources share: the answer that is taken, and what is counted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vision_ift import Dropped

from ._coco_pictures import VG_IMAGES, Pictures
from ._coco_rounds import Round

Found = Iterator[Round | Dropped]


class Reader(NamedTuple):
    """One file, or several that only mean something together, of one task and split.

    Attributes:
        task, split: What it brings; the split is the one that its authors name.
        files: Relative to ROOT; all must be there.
        read: Yields what they hold. It says nothing of missing pictures or of ids that come twice
            over several files: those are judged for all sources alike.
    """

    task: str
    split: str
    files: tuple[str, ...]
    read: Callable[[Path, tuple[str, ...], Pictures], Found]


def counted(answers: Iterable[str]) -> dict[str, int]:
    """Count equal answers, spaces around them aside, in the order in which they first come."""
    counts: dict[str, int] = {}
    for answer in answers:
        answer = answer.strip()
        counts[answer] = counts.get(answer, 0) + 1
    return counts


def majority(counts: Mapping[str, int]) -> str | None:
    """Give the answer that most annotators gave, the first in the file on a tie.

    >>> majority(counted(["red", "blue", "blue", "red"]))
    'red'
    """
    best = None
    for answer, count in counts.items():
        if answer and (best is None or count > counts[best]):
            best = answer
    return best


def explained(answer: str, explanation: str) -> str:
    """Lay out an answer and its explanation, our own way: one sentence after the other.

    >>> explained("yes", " The sky is blue.")
    'yes. The sky is blue.'
    """
    answer = answer.strip()
    stop = "" if re.search(r"[.!?]$", answer) else "."
    return f"{answer}{stop} {explanation.strip()}"


def given(**fields: Any) -> dict[str, Any]:
    """Keep the fields that a record has."""
    return {name: value for name, value in fields.items() if value not in (None, {}, [])}


def unanswered(file: str, record: str, detail: str, *, withheld: bool = False) -> Dropped:
    """Count a question without an answer; ``withheld``: the authors keep those of the test set."""
    return Dropped(reason="no_answer", file=file, record=record, detail=detail, by_rule=withheld)


def repeated(file: str, record: str, name: int | str) -> Dropped:
    """Count a record whose id was read before in the same file."""
    detail = f"id {name} comes before in this file"
    return Dropped(reason="duplicate_id", file=file, record=record, detail=detail)


def not_coco(file: str, vg: int, count: int = 1) -> Dropped:
    """Count rounds on a picture of Visual Genome that is not COCO's."""
    return Dropped(
        reason="no_coco_image",
        file=file,
        record=f"Visual Genome picture {vg}",
        detail=f"{VG_IMAGES} gives it no coco_id",
        count=count,
        by_rule=True,
    )
