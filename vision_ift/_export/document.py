"""The JSON member of a conversation: always the same keys, in sorted order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa


class _Part(msgspec.Struct, gc=False):
    text: str | None
    type: str


class _Turn(msgspec.Struct, gc=False):
    content: list[_Part]
    role: str


class Document(msgspec.Struct, gc=False):
    """The JSON member of a conversation; the fields stand in sorted order, as they are written.

    ``images`` holds the endings of the image members in the order in which the image parts show
    them; ``meta`` is JSON text; the others are the row's columns.
    """

    id: str
    image_paths: list[str]
    images: list[str]
    language: str | None
    license: str | None
    messages: list[_Turn]
    meta: str
    source: str
    split: str
    task: str | None

    @property
    def words(self) -> str:
        """The words of the conversation, a line for each part."""
        return "\n".join(
            part.text for turn in self.messages for part in turn.content if part.text is not None
        )


#: Writes a document as its member holds it.
encode = msgspec.json.Encoder().encode


def documents(rows: pa.Table) -> Iterator[tuple[Document, list[str]]]:
    """Give every row as a :class:`Document`, its ``images`` still empty, and its references."""
    columns = {
        name: rows.column(name).combine_chunks()
        for name in rows.column_names  # one chunk each, or offsets would start anew within them
    }
    pictures, picture_at = _flat(columns["images"])
    references = _values(pictures.field("path"))
    paths, path_at = _flat(columns["image_paths"])
    all_paths = _values(paths)
    turns, turn_at = _flat(columns["messages"])
    parts, part_at = _flat(turns.field("content"))
    all_parts = list(map(_Part, _values(parts.field("text")), _values(parts.field("type"))))
    contents = [all_parts[a:b] for a, b in itertools.pairwise(part_at)]
    all_turns = list(map(_Turn, contents, _values(turns.field("role"))))
    scalars = zip(
        *(
            _values(columns[name])
            for name in ("id", "language", "license", "meta", "source", "split", "task")
        ),
        strict=True,
    )
    for n, (name, language, license_, meta, source, split, task) in enumerate(scalars):
        yield (
            Document(
                name,
                all_paths[path_at[n] : path_at[n + 1]],
                [],
                language,
                license_,
                all_turns[turn_at[n] : turn_at[n + 1]],
                meta,
                source,
                split,
                task,
            ),
            references[picture_at[n] : picture_at[n + 1]],
        )


def _flat(array: Any) -> tuple[Any, list[int]]:
    """A list array's values in one row, and where each list starts in them."""
    offsets = array.offsets.to_numpy()
    return array.flatten(), (offsets - offsets[0]).tolist()


def _values(array: Any) -> list[Any]:
    values: list[Any] = array.to_numpy(zero_copy_only=False).tolist()
    return values


def member_names(formats: list[str]) -> list[str]:
    """Name the image members of one conversation.

    >>> member_names(["jpg"]), member_names(["jpg", "png"])
    (['jpg'], ['00.jpg', '01.png'])
    """
    if len(formats) == 1:
        return formats
    width = max(2, len(str(len(formats) - 1)))
    return [f"{place:0{width}d}.{name}" for place, name in enumerate(formats)]
