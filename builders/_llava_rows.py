"""One record of the LLaVA layout as a conversation: the rules, in plain words."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from msgspec import UNSET

from vision_ift import Conversation, Dropped, Message, Part, RecordError
from vision_ift._conversation import check, encode_meta

from ._llava_records import TAG, Found, Record
from ._pictures import Pictures, Places

#: What a picture's place is in a text: one newline on either side belongs to the tag.
TAG_AND_NEWLINES = r"\n?<image>\n?"
ROLES: dict[str, Literal["user", "assistant", "system"]] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
#: Keys of media that are not pictures: a record that shows one is no row.
OTHER_MEDIA = ("video", "videos", "audio", "audios")

_IMAGE = Part("image")
_SPLIT = re.compile(TAG_AND_NEWLINES)
_BUILDS = itertools.count(1)


class Described(NamedTuple):
    """What a source says of a record beyond its layout.

    Attributes:
        task, language: Those of the row.
        meta: Put into the row's ``meta``, as pairs that hash.
    """

    task: str | None
    language: str | None
    meta: tuple[tuple[str, Any], ...] = ()


class Reading(NamedTuple):
    """One file and how it is to be read: plain data, so that any process can read it.

    Attributes:
        source: The source's name.
        path: The file.
        file: What it is called in messages: its path under ROOT.
        places: Where its pictures are looked for.
        keep_missing: Whether a record whose picture is not there is kept, with the reference under
            which the picture was looked for first.
        split, language, license: The same for every row.
        meta: Put into every row's ``meta``, as pairs.
        describe: Gives a row's task (by default the record's ``task_name``), its language, and more
            ``meta``: a function of a module or a ``functools.partial`` of one, which takes any
            record without an error.
    """

    source: str
    path: str
    file: str
    places: Places
    keep_missing: bool = False
    split: str = "train"
    language: str | None = None
    license: str | None = None
    meta: tuple[tuple[str, str], ...] = ()
    describe: Callable[[Record], Described] | None = None

    @classmethod
    def of(cls, source: str, root: Path, path: Path, places: Places, **more: Any) -> Reading:
        """Describe a file; its name in messages is its path under ROOT where it lies there."""
        file = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
        return cls(source, str(path), file, places, **more)


def new_places(
    root: Path,
    *folders: str,
    coco: bool = False,
    by_name: tuple[str, ...] = (),
    lookup: str = "",
) -> Places:
    """Give the places of one build, whose listings no other build sees."""
    token = (os.getpid() << 32) + next(_BUILDS)
    return Places(str(root), folders, coco=coco, by_name=by_name, lookup=lookup, token=token)


def settle(found: Found, reading: Reading, pictures: Pictures) -> Conversation | Dropped:
    """Make a checked conversation of a record, or say which rule it breaks."""
    try:
        conversation = _conversation(found, reading, pictures)
        check(conversation)
        _check_meta(conversation)
    except RecordError as error:
        name = found.name if not found.odd else ascii(found.name)[1:-1]
        return Dropped.of(error, file=reading.file, record=name)
    return conversation


def _conversation(found: Found, reading: Reading, pictures: Pictures) -> Conversation:
    record = found.record
    media = [key for key in OTHER_MEDIA if found.extras.get(key)]
    if media:
        raise RecordError(f"it shows {media[0]}; only pictures are read", reason="bad_record")
    paths = paths_of(record)
    messages = []
    if isinstance(record.system, str) and record.system:
        messages.append(Message("system", (Part("text", record.system),)))
    for number, turn in enumerate(record.conversations):
        role = ROLES.get(turn.speaker)
        if role is None:
            raise RecordError(
                f"turn {number} is from {turn.speaker!r}; known: {', '.join(ROLES)}",
                reason="roles",
            )
        messages.append(Message(role, parts_of(turn.value)))
    described = reading.describe(record) if reading.describe else None
    renamed = {path: other for path in paths if (other := pictures.renamed(path))}
    extras = {**found.extras, "renamed": renamed} if renamed else found.extras
    return Conversation(
        id=found.name,
        images=tuple(
            renamed.get(path) or pictures.reference(path, keep=reading.keep_missing)
            for path in paths
        ),
        image_paths=tuple(paths),
        messages=tuple(messages),
        split=reading.split,
        task=described.task if described else record.task_name or None,
        language=described.language if described else reading.language,
        license=reading.license,
        meta=meta_of(record, extras, reading, described),
    )


def paths_of(record: Record) -> list[str]:
    """The paths of a record's pictures, under either key."""
    if record.image and record.images:
        raise RecordError("it has both 'image' and 'images'", reason="bad_record")
    # An empty path is a path too: it is refused where it is looked for.
    paths = record.images if record.image is UNSET or record.image is None else record.image
    if paths is UNSET or paths is None:
        return []
    return [paths] if isinstance(paths, str) else paths


def parts_of(text: str) -> tuple[Part, ...]:
    """Split a text at its tags.

    >>> [part.text for part in parts_of("<image>\\nWhat is it?")]
    [None, 'What is it?']
    """
    if TAG not in text:
        return (Part("text", text),)
    parts: list[Part] = []
    for number, words in enumerate(_SPLIT.split(text)):
        if number:
            parts.append(_IMAGE)
        if words:
            parts.append(Part("text", words))
    return tuple(parts)


def meta_of(
    record: Record, extras: dict[str, Any], reading: Reading, described: Described | None = None
) -> dict[str, Any]:
    """What a row's ``meta`` holds: what is said of the file, and the record's other keys."""
    meta: dict[str, Any] = dict(reading.meta)
    if described:
        meta.update(described.meta)
    if record.model is not UNSET:
        meta["model"] = record.model
    if described and record.task_name is not UNSET:
        meta["task_name"] = record.task_name
    meta.update(extras)
    return meta


def _check_meta(conversation: Conversation) -> None:
    try:
        encode_meta(conversation.meta)
    except UnicodeEncodeError:
        raise RecordError("a lone surrogate in a key or value", reason="bad_text") from None
