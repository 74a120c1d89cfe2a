"""Any dataset of conversations that `datasets` loads: files, folders, names on the Hub."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote

from vision_ift import Absent, Builder, Conversation, Dropped, RecordError
from vision_ift._archives.archive import SCHEME, quote_member
from vision_ift._conversation import check

from ._dataset_files import File, files_of, labels_of
from ._files import folders_of
from ._json_records import parsed_records
from ._llava import new_places
from ._llava_rows import OTHER_MEDIA
from ._parquet_rows import INSIDE, parquet_rows
from ._pictures import Pictures, pictures_of
from ._turns import check_rest, said

PATTERNS = ("messages/*.jsonl", "messages/*.json", "messages/*.parquet")

#: Columns of pictures, the first that a record has is read; ``file_name`` is what the metadata of
#: an image folder calls them.
IMAGES = ("images", "image", "file_names", "file_name")

#: Columns that a row has a place for.
_OWN = ("split", "task", "language", "license")


class _Layout(NamedTuple):
    """What a file is called (in references, in ids), what the user says of it, its pictures."""

    name: str
    label: str
    split: str
    messages: str
    images: str
    id: str
    pictures: Pictures
    keep: bool


class Messages(Builder):
    """Reads conversations as TRL, LLaMA-Factory, ms-swift, FineVision and LLaVA write them.

    The turns are in ``messages``, ``conversations``, ``texts``, ``prompt`` and ``completion``, or
    ``query`` and ``response``; the pictures in ``images`` or ``image``, as paths (relative to ROOT
    or to the file's folder) or as bytes inside a Parquet file, which are left there and referred to
    (``vift://file.parquet!/images/17/0``). How many pictures there are must agree with the places
    for them; ``docs/your_files.md`` says which those are. A record without an id is named by the
    byte or row at which it stands; whatever else it has is kept in ``meta``.

    Options:
        path: A file, a folder, or ``org/name[@revision]`` on the Hub, the last two with
            ``:config`` and ``:split`` behind them where there are several; relative to ROOT or
            absolute. By default every file in ``messages/``.
        images: Folders or zip archives under ROOT, with commas between them, to which the records'
            paths are relative.
        missing_images: ``drop`` records whose picture is not there, or ``keep`` them with the
            reference under which it was looked for first.
        messages_column, images_column, id_column: Other names of these columns.
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
        messages_column: str = "",
        images_column: str = "",
        id_column: str = "",
    ) -> Iterator[Conversation | Dropped | Absent]:
        """Yield what the files hold, in the order of their splits and names."""
        files = self._files(root, path)
        labels = labels_of([file.path for file in files], root)
        for file in files:
            name, beside = str(file.path), str(file.path.parent)
            if file.path.is_relative_to(root):
                name = file.path.relative_to(root).as_posix()
                beside = file.path.parent.relative_to(root).as_posix()
            places = new_places(root, *(folders_of(images) or ("", beside)))
            layout = _Layout(
                name,
                labels[file.path],
                file.split or "train",
                messages_column,
                images_column,
                id_column,
                pictures_of(places),
                missing_images == "keep",
            )
            for place, value in _records(file.path, images_column):
                try:
                    if isinstance(value, RecordError):
                        raise value
                    made = check_rest(_conversation(value, place, layout))
                    check(made)
                    yield made
                except RecordError as error:
                    yield Dropped.of(error, file=name, record=place)

    def inputs(self, root: Path, **options: Any) -> list[Path]:
        """List the files and the folders of pictures that are named."""
        folders = [root / folder for folder in folders_of(options.get("images", ""))]
        files = [file.path for file in self._files(root, options.get("path", ""))]
        return sorted({*files, *filter(Path.exists, folders)})

    def _files(self, root: Path, path: str) -> list[File]:
        if path:
            return files_of(self.name, root, path)
        found = {file for pattern in PATTERNS for file in root.glob(pattern)}
        return [File(file) for file in sorted(found)]


def _records(file: Path, images_column: str) -> Iterator[tuple[str, Any]]:
    """Yield the file's records as plain data, or what is wrong with one, each with its place."""
    if file.suffix == ".parquet":
        columns = (images_column,) if images_column else IMAGES
        for row, values in parquet_rows(file, pictures=columns):
            yield f"row {row}", values
        return
    for offset, value in parsed_records(file):
        yield f"byte {offset}", value


def _conversation(value: Any, place: str, layout: _Layout) -> Conversation:
    if not isinstance(value, dict):
        raise RecordError("a record is no object", reason="bad_record")
    media = [key for key in OTHER_MEDIA if value.get(key)]
    if media:
        raise RecordError(f"it shows {media[0]}; only pictures are read", reason="bad_record")
    column = layout.images or next((key for key in IMAGES if value.get(key) is not None), "")
    given = value.get(column) if column else None
    listed = given if isinstance(given, list) else [given]
    shown = [(at, one) for at, one in enumerate(listed) if one is not None]
    spoken = said(value, pictures=len(shown), column=layout.messages)
    if shown and spoken.inline:
        raise RecordError(f"pictures stand in {column!r} and in parts as well", reason="bad_record")
    inside = functools.partial(_inside, layout.name, column, place, isinstance(given, list))
    pictures = [_picture(one, layout, inside(at)) for at, one in shown]
    pictures += [_picture(one, layout, "") for one in spoken.inline]
    if spoken.shows is not None and not spoken.inline:
        pictures = _in_order(pictures, spoken.shows)
    own = {key: _text(value, key) for key in _OWN}
    key = layout.id or "id"
    identity = value.get(key)
    if not isinstance(identity, str | int | None) or isinstance(identity, bool):
        raise RecordError(f"{key!r} is neither text nor a whole number", reason="bad_record")
    read = {*spoken.keys, *_OWN, key, *filter(None, (column,))}
    meta = {key: one for key, one in value.items() if key not in read}
    if spoken.extras:
        meta["turns"] = {**spoken.extras, **({"": meta["turns"]} if "turns" in meta else {})}
    return Conversation(
        id=f"{layout.label}@{place.split()[1]}" if identity in (None, "") else str(identity),
        images=tuple(reference for _, reference in pictures),
        image_paths=tuple(path for path, _ in pictures),
        messages=spoken.messages,
        split=own["split"] or layout.split,
        task=own["task"],
        language=own["language"],
        license=own["license"],
        meta=meta,
    )


def _inside(name: str, column: str, place: str, several: bool, at: int) -> str:
    """The reference of a picture whose bytes are in the file itself."""
    member = f"{column}/{place.split()[1]}" + (f"/{at}" if several else "")
    return f"{SCHEME}{name}!/{quote_member(member)}"


def _picture(image: Any, layout: _Layout, inside: str) -> tuple[str, str]:
    """Path and reference of a picture: a text, or an object of ``path`` or ``url``."""
    if isinstance(image, dict):
        held = image.get("bytes")
        path = image.get("path", image.get("url"))
        if held is INSIDE:
            return path or f"{layout.label}/{unquote(inside.partition('!/')[2])}", inside
        if held is not None:
            raise RecordError(
                "a picture's bytes stand in the JSON; write Parquet, or a file and its name",
                reason="bad_record",
            )
        image = path
    if not isinstance(image, str):
        raise RecordError("a picture has no path", reason="bad_record")
    return image, layout.pictures.reference(image, keep=layout.keep)


def _in_order(pictures: list[tuple[str, str]], shows: list[int]) -> list[tuple[str, str]]:
    """Put the pictures in the order of the parts that say which one they show."""
    if sorted(set(shows)) != list(range(len(pictures))):
        raise RecordError(
            f"the image parts show the pictures {sorted(set(shows))} of {len(pictures)}",
            reason="image_count",
        )
    return [pictures[at] for at in shows]


def _text(value: dict[str, Any], key: str) -> str | None:
    text = value.get(key)
    if text is not None and not isinstance(text, str):
        raise RecordError(f"{key!r} is no text", reason="bad_record")
    return text
