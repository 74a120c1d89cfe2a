"""What a reader's script tells: one JSON object on stdout, however the reader ended."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

#: Key of a conversation to the SHA-256 of each of its members, by ending.
Rows = dict[str, dict[str, str]]


def sha256(data: bytes) -> str:
    """The digest of a member."""
    return hashlib.sha256(data).hexdigest()


def members(rows: Iterable[Mapping[str, Any]]) -> Rows:
    """Digest rows that hold their members as bytes, beside fields that are none."""
    found: Rows = {}
    for row in rows:
        key = row["__key__"]
        assert key not in found, f"{key} came twice"
        found[key] = {
            name: sha256(value)
            for name, value in row.items()
            if isinstance(value, bytes)  # Ray fills up with NaN what a row has not
        }
    return found


def tell(ways: Mapping[str, Callable[[str], Rows | int]]) -> None:
    """Read the folder named on the command line in each of these ways and print what came."""
    told: dict[str, Any] = {}
    for way, read in ways.items():
        try:
            told[way] = read(sys.argv[1])
        except Exception as error:  # noqa: BLE001 - whatever a reader dies of is the answer
            words = " ".join(str(error).split())
            told[way] = {"error": f"{type(error).__name__}: {words[:300]}"}
    sys.stdout.write("\n" + json.dumps(told) + "\n")
