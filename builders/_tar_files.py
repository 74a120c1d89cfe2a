"""The tars that a user names: a folder, a pattern, or a list in braces as WebDataset writes it."""

from __future__ import annotations

import glob
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from vision_ift._errors import MissingInputError, UsageError

#: The most files that one text may name.
MAX_FILES = 1_000_000

_PACKED = re.compile(r"\.(tgz|tbz2?|txz|tar\.(gz|bz2|xz|zst))$")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def tars_of(source: str, root: Path, text: str) -> list[Path]:
    """Find the tars that a text names, relative to ROOT or absolute, sorted by name.

    Raises:
        MissingInputError: There are none, or one of a list is missing.
        UsageError: They are compressed, or no tars, or too many.
    """
    found: set[Path] = set()
    for name in expanded(text):
        where = root / name
        if where.is_dir():
            found.update(file for file in where.rglob("*") if _is_tar(file.name) and file.is_file())
        elif where.is_file():
            found.add(where)
        else:
            # Path.glob refuses absolute patterns, which a user may type.
            matched = glob.glob(name, root_dir=root, recursive=True)  # noqa: PTH207 - pathlib has no root_dir
            if not matched:
                raise MissingInputError(
                    f"source {source}: there is nothing of the name {where}",
                    hint="path is relative to ROOT: a .tar, a folder, a-{000..123}.tar, or a*.tar",
                )
            found.update(root / one for one in matched)
    refused = sorted(file for file in found if not file.name.endswith(".tar"))
    if refused and _PACKED.search(refused[0].name):
        raise UsageError(
            f"source {source}: {refused[0]} is compressed, so no member can be read in place",
            hint="unpack it to a plain .tar (gunzip, unzstd …); pictures gain nothing by it",
        )
    if refused:
        raise UsageError(f"source {source}: {refused[0]} is no .tar")
    if not found:
        raise MissingInputError(f"source {source}: there are no tars in {root / text}")
    return sorted(found)


def _is_tar(name: str) -> bool:
    return name.endswith(".tar") or bool(_PACKED.search(name))


def expanded(text: str) -> Iterator[str]:
    """Write out the braces of a text.

    >>> list(expanded("{a,b}-{08..10}.tar"))
    ['a-08.tar', 'a-09.tar', 'a-10.tar', 'b-08.tar', 'b-09.tar', 'b-10.tar']

    Raises:
        UsageError: They name more than ``MAX_FILES``.
    """
    pieces: list[range | list[str]] = []
    formats: list[str] = []
    count = 1
    for number, piece in enumerate(_BRACES.split(text)):
        between = _RANGE.fullmatch(piece) if number % 2 else None
        if between:
            first, last = between.groups()
            width = len(first) if first.startswith("0") or len(first) == len(last) else 1
            pieces.append(range(int(first), int(last) + 1))
            formats.append(f"0{width}d")
        else:
            pieces.append(piece.split(",") if number % 2 else [piece])
            formats.append("")
        count *= len(pieces[-1])
        if count > MAX_FILES:
            raise UsageError(f"{text!r} names more than {MAX_FILES:,} files")
    for chosen in itertools.product(*pieces):
        yield "".join(format(one, how) for one, how in zip(chosen, formats, strict=True))
