"""What the licences of a mix ask for, and the strictest of them.

A small table in order of strictness, of licences that sources and rows state. What is not in it,
or says several things at once ("A OR B"), is not guessed: it is said to be unknown. Nothing here
is legal advice; it says which texts to read first.

Sources: the SPDX licence list (spdx.org/licenses) for the names; the legal codes of Creative
Commons (creativecommons.org/licenses); the texts of Apache-2.0, MIT, ISC and the BSD licences
(opensource.org); Open Data Commons (opendatacommons.org); objectnet.dev for ObjectNet's terms.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

_CREDIT = "credit"
_SHARE = "share alike"
_NO_CHANGE = "no changes passed on"
_NO_SALE = "no commercial use"
_RESEARCH = "research only"
_NO_TUNING = "no tuning of models"

#: From the mildest to the strictest: what they restrict, and the licences that do.
_ORDER: tuple[tuple[tuple[str, ...], str], ...] = (
    ((), r"CC0-1\.0|PDDL-1\.0|Unlicense"),
    (("keep the notice",), r"MIT|ISC|BSD-[23]-Clause|Apache-2\.0"),
    ((_CREDIT,), r"CC-BY-[1-4]\.[05]|ODC-By-1\.0"),
    ((_CREDIT, _SHARE), r"CC-BY-SA-[1-4]\.[05]|ODbL-1\.0"),
    ((_CREDIT, _NO_CHANGE), r"CC-BY-ND-[1-4]\.[05]"),
    ((_CREDIT, _NO_SALE), r"CC-BY-NC-[1-4]\.[05]"),
    ((_CREDIT, _NO_SALE, _SHARE), r"CC-BY-NC-SA-[1-4]\.[05]"),
    ((_CREDIT, _NO_SALE, _NO_CHANGE), r"CC-BY-NC-ND-[1-4]\.[05]"),
    ((_RESEARCH,), r"LicenseRef-research-only"),
    ((_RESEARCH, _NO_TUNING), r"LicenseRef-ObjectNet"),
)


def licences_of(statement: str | None) -> list[str]:
    """Take a statement apart: the licences that all hold at once.

    >>> licences_of("CC-BY-4.0 AND Apache-2.0"), licences_of(None)
    (['CC-BY-4.0', 'Apache-2.0'], ['unknown'])
    """
    parts = re.split(r"\s+AND\s+|,\s+and\s+|;\s*", (statement or "").strip("() "))
    return [part.strip("() ") for part in parts if part.strip("() ")] or ["unknown"]


def rank(licence: str) -> int | None:
    """Say how strict a licence is, from 0; ``None`` where the table does not have it.

    >>> rank("MIT") < rank("CC-BY-NC-4.0"), rank("as each file states")
    (True, None)
    """
    for place, (_, names) in enumerate(_ORDER):
        if re.fullmatch(names, licence):
            return place
    return None


def judge(rows: Mapping[str, int]) -> dict[str, Any]:
    """Say what rows under these statements ask for together.

    Args:
        rows: Statement to the number of rows that carry it.

    Returns:
        ``licenses``: each licence to its rows (a row under two counts for both); ``strictest``: of
        those that are known, ``None`` where none is; ``restricts``: what all known ones together
        ask for; ``unknown``: those that are not known.

    >>> judge({"MIT": 5, "CC-BY-NC-4.0 AND LicenseRef-not-stated": 2})["strictest"]
    'CC-BY-NC-4.0'
    """
    counts: dict[str, int] = {}
    for statement, number in rows.items():
        for licence in licences_of(statement):
            counts[licence] = counts.get(licence, 0) + number
    known = sorted((place, name) for name in counts if (place := rank(name)) is not None)
    asks: list[str] = []
    for place, _ in known:
        asks += [word for word in _ORDER[place][0] if word not in asks]
    return {
        "licenses": dict(sorted(counts.items())),
        "strictest": known[-1][1] if known else None,
        "restricts": asks,
        "unknown": sorted(name for name in counts if rank(name) is None),
    }


def together(judged: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Judge the licences of several parts as one."""
    counts: dict[str, int] = {}
    for one in judged:
        for name, number in one["licenses"].items():
            counts[name] = counts.get(name, 0) + number
    return judge(counts)
