"""The one row type: pictures, turns, and where they came from.

Layout of a row (``SCHEMA_VERSION`` names it; readable by ``datasets`` >= 4.0, Parquet, Arrow):

=============  ====================================================================
column         what it holds
=============  ====================================================================
id             ``<source>/<their id>``, unique over all sources
images         list of ``{bytes, path}``; a table has the path (a reference) alone
image_paths    list of the paths as the source wrote them
split          the authors' own split
messages       list of ``{role, content: [{type, text}]}``
source         the source's name
task           the source's own task name; null where it has none
language       ISO 639-1 code; null where it is not known
license        SPDX identifier or the authors' own words; null where not known
meta           JSON text: whatever else the record had
=============  ====================================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa

from vision_ift._errors import RecordError

SCHEMA_VERSION = 1

#: The longest text of one part, in characters; longer ones are refused (``bad_text``).
MAX_TEXT_CHARS = 1_000_000

_PART = pa.struct([("type", pa.string()), ("text", pa.string())])
_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.list_(_PART))])
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_TEXT = {"dtype": "string", "_type": "Value"}

#: The row as `datasets` describes it; stored in the schema, so that any Parquet or Arrow file of
#: ours decodes its pictures when `datasets` opens it.
FEATURES_JSON: dict[str, Any] = {
    "id": _TEXT,
    "images": {"feature": {"mode": "RGB", "_type": "Image"}, "_type": "List"},
    "image_paths": {"feature": _TEXT, "_type": "List"},
    "split": _TEXT,
    "messages": {
        "feature": {
            "role": _TEXT,
            "content": {"feature": {"type": _TEXT, "text": _TEXT}, "_type": "List"},
        },
        "_type": "List",
    },
    "source": _TEXT,
    "task": _TEXT,
    "language": _TEXT,
    "license": _TEXT,
    "meta": _TEXT,
}

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("images", pa.list_(_IMAGE)),
        ("image_paths", pa.list_(pa.string())),
        ("split", pa.string()),
        ("messages", pa.list_(_MESSAGE)),
        ("source", pa.string()),
        ("task", pa.string()),
        ("language", pa.string()),
        ("license", pa.string()),
        ("meta", pa.string()),
    ],
    metadata={
        "huggingface": json.dumps({"info": {"features": FEATURES_JSON}}),
        "vision_ift.schema_version": str(SCHEMA_VERSION),
    },
)

Role = Literal["system", "user", "assistant"]


class Part(msgspec.Struct, frozen=True):
    """One piece of a turn: words, or the place of a picture.

    The n-th image part of a conversation shows the n-th entry of its ``images``.
    """

    type: Literal["text", "image"]
    #: The words; ``None`` for an image.
    text: str | None = None


IMAGE = Part("image")


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation.

    >>> Message.of("user", "What is this?", images=1).content
    (Part(type='image', text=None), Part(type='text', text='What is this?'))
    """

    role: Role
    content: tuple[Part, ...]

    @classmethod
    def of(cls, role: Role, text: str, *, images: int = 0) -> Message:
        """Make a turn of some text, with ``images`` pictures shown before it."""
        return cls(role, (IMAGE,) * images + (Part("text", text),))

    @property
    def text(self) -> str:
        """The words of the turn, its parts joined by a newline."""
        return "\n".join(part.text for part in self.content if part.text is not None)


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """Pictures, turns, and where they came from: the only row type.

    Attributes:
        id: The source's own id, without the source's name; ``build`` puts that in front.
        images: References, in the order in which the image parts show them: a path relative to
            ROOT, or ``vift://archive!/member`` (see :class:`vision_ift.Images`).
        image_paths: The same pictures as the source's file names them.
        messages: The turns.
        split: The authors' own split, e.g. ``train``.
        task, language, license: See the table in the module's docstring.
        meta: Whatever else the record had; must be plain JSON.
    """

    id: str
    images: tuple[str, ...] = ()
    image_paths: tuple[str, ...] = ()
    messages: tuple[Message, ...]
    split: str = "train"
    task: str | None = None
    language: str | None = None
    license: str | None = None
    meta: dict[str, Any] = {}  # msgspec copies an empty default for every instance

    @property
    def rounds(self) -> int:
        """The number of user turns."""
        return sum(message.role == "user" for message in self.messages)


def check(conversation: Conversation, *, prompt: bool = False) -> None:
    """Check the rules that every row obeys.

    Image parts equal images; after an optional first ``system`` turn, ``user`` and ``assistant``
    alternate, starting with ``user`` and ending with ``assistant`` (with ``user`` where ``prompt``
    is true); no turn is empty; text is valid UTF-8 of at most ``MAX_TEXT_CHARS`` characters.

    Raises:
        RecordError: The first rule broken; ``reason`` names it.
    """
    record = conversation.id
    if not record:
        raise RecordError("the id is empty", reason="bad_record")
    shown = 0
    for number, message in enumerate(conversation.messages):
        filled = False
        for part in message.content:
            if part.type == "image":
                shown += 1
                filled = True
            elif part.text is None:
                raise RecordError(
                    "a text part has no text", reason="bad_record", record=record, turn=number
                )
            else:
                _check_text(part.text, record, number)
                filled = filled or bool(part.text.strip())
        if not filled:
            raise RecordError(
                "the turn holds no text and no image",
                reason="empty_turn",
                record=record,
                turn=number,
            )
    if shown != len(conversation.images) or shown != len(conversation.image_paths):
        raise RecordError(
            f"{shown} image parts but {len(conversation.images)} images",
            reason="image_count",
            record=record,
        )
    _check_roles([message.role for message in conversation.messages], record, prompt=prompt)
    for value in (record, conversation.split, conversation.task, *conversation.image_paths):
        if value is not None:
            _check_text(value, record, None)


def _check_text(text: str, record: str, turn: int | None) -> None:
    if len(text) > MAX_TEXT_CHARS:
        raise RecordError(
            f"a text of {len(text):,} characters; at most {MAX_TEXT_CHARS:,} are taken",
            reason="bad_text",
            record=ascii(record)[1:-1],
            turn=turn,
        )
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise RecordError(
                f"a lone surrogate at character {error.start}",
                reason="bad_text",
                record=ascii(record)[1:-1],
                turn=turn,
            ) from None


def _check_roles(roles: Sequence[str], record: str, *, prompt: bool) -> None:
    turns = list(roles[1:] if roles[:1] == ["system"] else roles)
    last = "user" if prompt else "assistant"
    wanted = ["user", "assistant"] * (len(turns) // 2 + 1)
    if not turns or turns != wanted[: len(turns)] or turns[-1] != last:
        found = " ".join(roles) or "none"
        raise RecordError(
            f"roles are {found if len(found) < 200 else found[:200] + ' …'}; wanted user and "
            f"assistant in turn, ending with {last}",
            reason="roles",
            record=record,
        )


def assemble(
    *,
    ids: Any,
    source: str,
    images: Any,
    image_paths: Any,
    image_counts: Any,
    roles: Any,
    role_counts: Any,
    part_types: Any,
    part_texts: Any,
    part_counts: Any,
    split: Any,
    task: Any,
    language: Any,
    license: Any,  # noqa: A002 - the column's name
    meta: Any,
) -> pa.RecordBatch:
    """Make a record batch of flat columns, the one place where rows become Arrow.

    Args:
        ids: One string a row, without the source's name.
        source: The source's name, put in front of the ids.
        images, image_paths: One string a picture, rows one after the other.
        image_counts: Pictures a row.
        roles: One string a turn; ``role_counts``: turns a row.
        part_types, part_texts: One a part; ``part_counts``: parts a turn.
        split, task, language, license, meta: One a row; or a single string or ``None`` for all.

    Every sequence may be a list, a NumPy array or an Arrow array.
    """
    count = len(ids)

    def column(value: Any) -> pa.Array:
        if value is None or isinstance(value, str):
            return pa.repeat(pa.scalar(value, pa.string()), count)
        return _array(value)

    def nested(values: pa.Array, counts: Any) -> pa.Array:
        offsets = np.zeros(len(counts) + 1, np.int32)
        np.cumsum(counts, out=offsets[1:])
        return pa.ListArray.from_arrays(pa.array(offsets), values)

    references = _array(images)
    pictures = pa.StructArray.from_arrays(
        [pa.nulls(len(references), pa.binary()), references], fields=list(_IMAGE)
    )
    parts = pa.StructArray.from_arrays([_array(part_types), _array(part_texts)], fields=list(_PART))
    messages = pa.StructArray.from_arrays(
        [_array(roles), nested(parts, part_counts)], fields=list(_MESSAGE)
    )
    prefix = pa.scalar(source + "/")
    import pyarrow.compute as pc

    return pa.RecordBatch.from_arrays(
        [
            pc.binary_join_element_wise(prefix, _array(ids), ""),
            nested(pictures, image_counts),
            nested(_array(image_paths), image_counts),
            column(split),
            nested(messages, role_counts),
            column(source),
            column(task),
            column(language),
            column(license),
            column(meta),
        ],
        schema=SCHEMA,
    )


def _array(values: Any) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks()
    if isinstance(values, pa.Array):
        return values.cast(pa.string()) if values.type != pa.string() else values
    return pa.array(values, pa.string())


def to_batch(conversations: Iterable[Conversation], *, source: str) -> pa.RecordBatch:
    """Make a record batch of checked conversations."""
    rows = list(conversations)
    turns = [message for row in rows for message in row.messages]
    parts = [part for turn in turns for part in turn.content]
    return assemble(
        ids=[row.id for row in rows],
        source=source,
        images=[image for row in rows for image in row.images],
        image_paths=[path for row in rows for path in row.image_paths],
        image_counts=[len(row.images) for row in rows],
        roles=[turn.role for turn in turns],
        role_counts=[len(row.messages) for row in rows],
        part_types=[part.type for part in parts],
        part_texts=[part.text for part in parts],
        part_counts=[len(turn.content) for turn in turns],
        split=[row.split for row in rows],
        task=[row.task for row in rows],
        language=[row.language for row in rows],
        license=[row.license for row in rows],
        meta=[encode_meta(row.meta) for row in rows],
    )


_ENCODER = msgspec.json.Encoder(order="sorted")


def encode_meta(meta: dict[str, Any]) -> str:
    """Write a ``meta`` column's JSON text: keys sorted, no spaces, UTF-8.

    >>> encode_meta({"b": 1, "a": [0.5]})
    '{"a":[0.5],"b":1}'
    """
    return _ENCODER.encode(meta).decode() if meta else "{}"
