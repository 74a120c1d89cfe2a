"""Tokens of every row of a table: text by a named tokenizer, pictures by a named rule.

Counted a row group at a time, in several processes where asked, once for a table, tokenizer and
rule: the counts are kept beside the table (see ``_row_figures.py``), four bytes a row each.

A picture's tokens follow from its header's width and height. Where a header cannot be read, or a
rule refuses the shape, the row counts without that picture and is marked, never left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vision_ift._archives.archive import SCHEME
from vision_ift._archives.ranges import is_url
from vision_ift._build import Progress, silent
from vision_ift._errors import MissingInputError, RecordError, unopened
from vision_ift._pictures.images import Images, safe_path
from vision_ift._pictures.size import needs_all, picture_size
from vision_ift._plan.row_figures import Columns, kept_columns, sums_within
from vision_ift._run import local
from vision_ift._table import GROUP_ROWS, Table
from vision_ift._tokens import ImageRule, Tokenizer, find_image_rule, find_tokenizer

#: What is the matter with a row's pictures; the worst of them counts.
KNOWN, REFUSED, BROKEN, MISSING = range(4)

#: In words, for a report.
STATES = {
    REFUSED: "the model's processor refuses a picture of this shape",
    BROKEN: "a picture's header cannot be read",
    MISSING: "a picture is not there",
}

#: Most headers stand in a file's first bytes; EXIF data with a thumbnail take up to 64 KiB.
_HEAD_BYTES = 1 << 17

#: Files of a tokenizer's folder up to this size are part of what it is.
_MOST_FILE_BYTES = 256 << 20


class TokenCounts(NamedTuple):
    """By row of a table; ``state`` is ``KNOWN`` where ``image`` is all there is."""

    text: NDArray[np.uint32]
    image: NDArray[np.uint32]
    state: NDArray[np.uint8]


def token_counts(
    table: Table,
    tokenizer: str | None,
    image_tokens: str | None,
    *,
    root: Path,
    jobs: int = 1,
    progress: Progress = silent,
) -> TokenCounts:
    """Count the tokens of every row of a table, or open the counts where they are kept.

    Args:
        table: The table.
        tokenizer, image_tokens: Names from ``_tokens.py``; ``None``: these tokens count 0.
        root: Where the pictures lie.
        jobs: Processes.
        progress: Told how many row groups are done.

    Raises:
        UnknownNameError: There is no such tokenizer or rule.
        MissingExtraError: The tokenizer's package is not installed.
        MissingInputError: There is no tokenizer at its path.
    """
    nothing = np.zeros(len(table), np.uint32)
    text, image, state = nothing, nothing, np.zeros(len(table), np.uint8)
    groups = range(-(-len(table) // GROUP_ROWS))
    if tokenizer is not None:
        find_tokenizer(tokenizer)  # refused here rather than in another process
        count_text = partial(_text_of_group, table, tokenizer)

        def texts() -> tuple[Columns, bool]:
            parts = _watched(local(jobs)(count_text, groups), len(groups), progress, "text tokens")
            return {"text": _joined(parts, np.uint32)}, True

        key = f"{tokenizer}\0{_tokenizer_digest(tokenizer)}"
        text = kept_columns(table, "text-tokens", key, texts)["text"]
    if image_tokens is not None:
        find_image_rule(image_tokens)
        count_images = partial(_images_of_group, table, image_tokens, root)

        def pictures() -> tuple[Columns, bool]:
            found = local(jobs)(count_images, groups)
            parts = list(_watched(found, len(groups), progress, "picture tokens"))
            states = _joined((one for _, one in parts), np.uint8)
            tokens = _joined((one for one, _ in parts), np.uint32)
            # What is not there may be brought; what is broken was broken when the table was built.
            return {"image": tokens, "state": states}, not bool((states == MISSING).any())

        kept = kept_columns(table, "image-tokens", image_tokens, pictures)
        image, state = kept["image"], kept["state"]
    return TokenCounts(text, image, state)


def _watched(parts: Iterable, total: int, progress: Progress, what: str) -> Iterator:  # type: ignore[type-arg]  # of arrays or of pairs
    for done, part in enumerate(parts, 1):
        progress(what, done, total)
        yield part


def _joined(parts: Iterable[NDArray], kind: type) -> NDArray:  # type: ignore[type-arg]  # of any kind
    found = list(parts)
    return np.concatenate(found) if found else np.empty(0, kind)


@cache
def _tokenizer(name: str) -> Tokenizer:
    return find_tokenizer(name)


@cache
def _rule(name: str) -> ImageRule:
    return find_image_rule(name)


def _text_of_group(table: Table, tokenizer: str, number: int) -> NDArray[np.uint32]:
    """Count the text tokens of one row group's rows."""
    messages = table.group(number).column("messages")
    contents = messages.flatten().field("content")
    texts = contents.flatten().field("text")
    tokens = np.zeros(len(texts), np.int64)
    written = np.flatnonzero(texts.is_valid().to_numpy(zero_copy_only=False))
    tokens[written] = _tokenizer(tokenizer)(texts.take(pa.array(written)).to_pylist())
    return sums_within(messages.offsets, sums_within(contents.offsets, tokens)).astype(np.uint32)


def _images_of_group(
    table: Table, rule: str, root: Path, number: int
) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """Count the picture tokens of one row group's rows, and say what is the matter."""
    images = table.group(number).column("images")
    encoded = images.flatten().field("path").dictionary_encode()
    known = [_measure(root, rule, reference) for reference in encoded.dictionary.to_pylist()]
    codes = encoded.indices.to_numpy()
    tokens = np.array([count for count, _ in known], np.int64)[codes]
    states = np.array([state for _, state in known], np.uint8)[codes]
    worst = np.zeros(len(images), np.uint8)
    shown = pc.list_value_length(images).to_numpy()
    np.maximum.at(worst, np.repeat(np.arange(len(images)), shown), states)
    return sums_within(images.offsets, tokens).astype(np.uint32), worst


@lru_cache(maxsize=1 << 16)
def _measure(root: Path, rule: str, reference: str) -> tuple[int, int]:
    """Give a picture's tokens, and its state."""
    try:
        size = _size_of(root, reference)
    except MissingInputError:
        return 0, MISSING
    except RecordError:
        return 0, BROKEN
    if size is None:
        return 0, BROKEN
    tokens = _rule(rule)(*size)
    return (0, REFUSED) if tokens is None else (tokens, KNOWN)


def _size_of(root: Path, reference: str) -> tuple[int, int] | None:
    images = Images(root)
    if reference.startswith(SCHEME):
        archive = reference.removeprefix(SCHEME).partition("!/")[0]
        if not is_url(archive):
            safe_path(archive)
        return picture_size(images.read(reference))
    head = _head_of(root / safe_path(reference))
    size = None if needs_all(head) else picture_size(head)
    if size is not None or len(head) < _HEAD_BYTES:
        return size if size is not None else picture_size(head)
    return picture_size(images.read(reference))


def _head_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError as error:
        raise unopened(f"picture {path}", error) from None


def _tokenizer_digest(name: str) -> str:
    """Digest what a tokenizer on this machine is made of, for its path may hold another one."""
    kind, _, rest = name.partition(":")
    if kind != "hf":
        return ""
    path = Path(rest).expanduser()
    if path.is_dir():
        whole = path / "tokenizer.json"
        files = [whole] if whole.is_file() else sorted(one for one in path.iterdir())
    else:
        files = [path]
    digest = hashlib.sha256()
    for file in files:
        if file.is_file() and file.stat().st_size <= _MOST_FILE_BYTES:
            data = file.read_bytes()
            digest.update(f"{file.name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()
