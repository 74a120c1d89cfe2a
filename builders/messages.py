"""Any file of conversations in the ``messages`` layout: JSON Lines, a JSON list, or Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from vision_ift import Absent, Builder, Conversation, Dropped, Message, Part, RecordError
from vision_ift._conversation import check

from ._files import existing, folders_of
from ._json_records import parsed_records
from ._llava import new_places
from ._llava_records import TAG
from ._llava_rows import OTHER_MEDIA, ROLES, parts_of
from ._pictures import Pictures, pictures_of

PATTERNS = ("messages/*.jsonl", "messages/*.json", "messages/*.parquet")


class _Turn(msgspec.Struct):
    role: str
    content: str | list[dict[str, Any]]


class _Record(msgspec.Struct):
    messages: list[_Turn]
    id: str | int | None = None
    images: list[str | dict[str, Any] | None] | str | dict[str, Any] | None = None
    split: str | None = None
    task: str | None = None
    language: str | None = None
    license: str | None = None


class Messages(Builder):
    """Reads ``messages`` of ``role`` and ``content``, as TRL and LLaMA-Factory write them.

    ``content`` is a text or a list of parts. A picture's place is a part ``{"type": "image"}`` (its
    path in ``images``, or in the part itself), or, where ``images`` is given and no part says
    ``image``, the tag ``<image>`` in the text. Without ``images`` a tag is text like any other.
    Paths are relative to ROOT or to the file's folder. A record without an id is named by the
    byte or row at which it stands; ``split`` is ``train`` where the record names none.

    Pictures whose bytes are inside a Parquet file are refused for now (``bad_record``): a table
    holds references, and nothing else can be referred to than files and members of archives.

    Options:
        path: The file, relative to ROOT or absolute; by default every file in ``messages/``.
        images: Folders or zip archives under ROOT, with commas between them, to which the records'
            paths are relative.
        missing_images: ``drop`` records whose picture is not there, or ``keep`` them with the
            reference under which it was looked for first.
    """

    title = "Conversations in the messages layout"
    homepage = "https://huggingface.co/docs/trl/dataset_formats"
    license = "as each file states"
    citation = "@misc{messages, title={Conversations in the messages layout}, note={any file}}\n"
    files = PATTERNS
    by_hand = ("messages/: your own files of conversations, .jsonl, .json or .parquet",)
    repeated_ids = "number"

    def conversations(
        self,
        root: Path,
        *,
        path: str = "",
        images: str = "",
        missing_images: Literal["drop", "keep"] = "drop",
    ) -> Iterator[Conversation | Dropped | Absent]:
        """Yield what the files hold, in the order of their names."""
        for file in self._files(root, path):
            name = file.name
            beside = ""
            if file.is_relative_to(root):
                name = file.relative_to(root).as_posix()
                beside = file.parent.relative_to(root).as_posix()
            pictures = pictures_of(new_places(root, *(folders_of(images) or ("", beside))))
            for place, value in _records(file):
                try:
                    if isinstance(value, RecordError):
                        raise value
                    name_of_place = f"{file.stem}@{place.split()[1]}"
                    keep = missing_images == "keep"
                    made = _conversation(value, name_of_place, pictures, keep=keep)
                    check(made)
                    yield made
                except RecordError as error:
                    yield Dropped.of(error, file=name, record=place)

    def inputs(self, root: Path, **options: Any) -> list[Path]:
        """List the files and the folders of pictures that are named."""
        folders = [root / folder for folder in folders_of(options.get("images", ""))]
        return sorted({*self._files(root, options.get("path", "")), *filter(Path.exists, folders)})

    def _files(self, root: Path, path: str) -> list[Path]:
        if path:
            return [existing(self.name, root, path)]
        return sorted({file for pattern in PATTERNS for file in root.glob(pattern)})


def _records(file: Path) -> Iterator[tuple[str, Any]]:
    """Yield the file's records as plain data, or what is wrong with one, each with its place."""
    if file.suffix != ".parquet":
        for offset, value in parsed_records(file):
            yield f"byte {offset}", value
        return
    row = 0
    try:
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=256):
                for value in batch.to_pylist():
                    yield f"row {row}", value
                    row += 1
    except (pa.ArrowException, OSError) as error:
        yield f"row {row}", RecordError(f"not Parquet: {error}", reason="bad_record")


def _conversation(value: Any, place: str, pictures: Pictures, *, keep: bool) -> Conversation:
    try:
        record = msgspec.convert(value, _Record)
    except msgspec.ValidationError as error:
        raise RecordError(str(error), reason="bad_record") from None
    media = [key for key in OTHER_MEDIA if value.get(key)]
    if media:
        raise RecordError(f"it shows {media[0]}; only pictures are read", reason="bad_record")
    listed = record.images if isinstance(record.images, list) else [record.images]
    paths = [_path(image) for image in listed if image is not None]
    contents = [turn.content for turn in record.messages]
    shown = any(part.get("type") in _IMAGES for parts in contents for part in _listed(parts))
    inline: list[str] = []
    messages = []
    for number, turn in enumerate(record.messages):
        role = ROLES.get(turn.role)
        if role is None:
            raise RecordError(f"turn {number} has the role {turn.role!r}", reason="roles")
        if isinstance(turn.content, str):
            tagged = TAG in turn.content and bool(paths) and not shown
            content = parts_of(turn.content) if tagged else (Part("text", turn.content),)
        else:
            content = tuple(_part(part, number, inline) for part in turn.content)
        messages.append(Message(role, content))
    if paths and inline:
        raise RecordError("paths stand in 'images' and in parts as well", reason="bad_record")
    paths = paths or inline
    return Conversation(
        id=place if record.id is None else str(record.id),
        images=tuple(pictures.reference(path, keep=keep) for path in paths),
        image_paths=tuple(paths),
        messages=tuple(messages),
        split=record.split or "train",
        task=record.task,
        language=record.language,
        license=record.license,
        meta={key: value[key] for key in value if key not in _Record.__struct_fields__},
    )


_IMAGES = ("image", "image_url")


def _listed(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [] if isinstance(content, str) else content


def _part(part: dict[str, Any], turn: int, inline: list[str]) -> Part:
    """Read a part; a picture's path that stands in it is added to ``inline``."""
    kind = part.get("type")
    if kind == "text":
        text = part.get("text", part.get("value"))
        if isinstance(text, str):
            return Part("text", text)
        raise RecordError(f"a text part of turn {turn} has no text", reason="bad_record")
    if kind not in _IMAGES:
        raise RecordError(f"turn {turn} has a part of type {kind!r}", reason="bad_record")
    for key in ("image", "path", "url", "image_url", "value"):
        named = part.get(key)
        if named is not None:
            inline.append(_path(named))
            break
    return Part("image")


def _path(image: Any) -> str:
    """The path of a picture: a text, or an object of ``path`` or ``url`` without bytes."""
    if isinstance(image, dict):
        if image.get("bytes") is not None:
            raise RecordError(
                "a picture's bytes are inside the file; write it to a file and name that",
                reason="bad_record",
            )
        image = image.get("path", image.get("url"))
    if not isinstance(image, str):
        raise RecordError("a picture has no path", reason="bad_record")
    return image
