"""WebDataset tars that somebody made: pictures with JSON or words beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from vision_ift import Absent, Batch, Builder, Conversation, Dropped, Message, RecordError
from vision_ift._archives.archive import SCHEME, archive_of, quote_member
from vision_ift._conversation import check
from vision_ift._errors import MissingInputError
from vision_ift._run import Run, here

from ._dataset_files import labels_of
from ._json_records import MAX_RECORD_BYTES, parse, too_long
from ._tar_files import tars_of
from ._turns import COLUMNS, check_rest, said

PATTERNS = ("shards/*.tar", "shards/*/*.tar")

#: What a captioned picture is asked, where its maker says nothing.
PROMPT = "Describe the image."

#: Endings of pictures, and of pictures that no row can hold.
PICTURES = frozenset(("jpg", "jpeg", "png", "webp", "gif"))
_OTHER_PICTURES = frozenset(("avif", "bmp", "heic", "jp2", "jxl", "ppm", "svg", "tif", "tiff"))

_CAPTIONS = ("caption", "text")
_TURNS = (*COLUMNS, "prompt", "query")
_WORDS = re.compile(r"(.+)\.(json|txt)")


class _Tar(NamedTuple):
    """One tar: where it is, what references and ids call it, and what is asked of captions."""

    path: str
    name: str
    label: str
    prompt: str


class _Bundle(NamedTuple):
    """The members of one key: what stands after its first dot, to the whole name."""

    key: str
    members: dict[str, str]
    together: bool


class Shards(Builder):
    """Reads WebDataset tars: pictures, and their conversation or caption, under one key.

    A key is a member's name up to the first dot of its last part; what follows says what it is.
    Pictures are ``jpg``, ``jpeg``, ``png``, ``webp`` or ``gif``, also several (``00.jpg``,
    ``01.png``), in lexical order or in the order in which the ``json`` names them. ``json`` is a
    conversation in any layout of ``messages`` and ``llava``, or has a ``caption`` or ``text``;
    else ``txt`` is the caption. A captioned picture becomes one round: ``prompt``, then the
    caption. Pictures stay in the tar and are referred to (``vift://x.tar!/member``). The tars that
    ``vision-ift export`` writes come back with the same messages, ids, tasks and ``meta``.

    Options:
        path: A tar, a folder of them, a pattern (``laion/*.tar``), or a list in braces
            (``a-{000..123}.tar``), relative to ROOT or absolute; by default what is in ``shards/``
            and the folders in it.
        prompt: What is asked about a captioned picture.
    """

    name = "shards"  # processes that read a tar do not ask the registry
    title = "WebDataset shards of pictures and text"
    homepage = "https://github.com/webdataset/webdataset"
    license = "as each shard's maker states"
    citation = "@misc{shards, title={WebDataset shards of pictures and text}, note={any tar}}\n"
    files = PATTERNS
    by_hand = ("shards/: tars that somebody made, not compressed",)
    repeated_ids = "number"

    def conversations(
        self, root: Path, *, path: str = "", prompt: str = PROMPT
    ) -> Iterator[Conversation | Dropped | Absent]:
        """Yield what the tars hold, tar by tar, in the order of their members."""
        for tar in self._tars(root, path, prompt):
            yield from _read(tar)

    def batches(  # type: ignore[override]  # its options stand by name
        self, root: Path, *, run: Run = here, path: str = "", prompt: str = PROMPT
    ) -> Iterator[Batch]:
        """Yield the same, several tars at once."""
        for batches in run(_read_batches, self._tars(root, path, prompt)):
            yield from batches

    def inputs(self, root: Path, **options: Any) -> list[Path]:
        """List the tars."""
        path = options.get("path", "")
        return tars_of(self.name, root, path) if path else super().inputs(root)

    def _tars(self, root: Path, path: str, prompt: str) -> list[_Tar]:
        files = self.inputs(root, path=path)
        labels = labels_of(files, root)
        return [
            _Tar(
                str(file),
                file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file),
                labels[file],
                prompt,
            )
            for file in files
        ]


def _read_batches(tar: _Tar) -> list[Batch]:
    return list(Shards().gather(_read(tar)))


def _read(tar: _Tar) -> Iterator[Conversation | Dropped]:
    try:
        archive = archive_of(tar.path)
        bundles = _bundles(iter(archive))
    except RecordError as error:
        yield Dropped.of(error, file=tar.name, record="the tar")
        return
    for why, count in archive.passed_over.items():
        yield Dropped(reason="bad_record", file=tar.name, record=why, detail=why, count=count)
    for bundle in bundles:
        try:
            made = check_rest(_conversation(bundle, tar))
            check(made)
            yield made
        except (RecordError, MissingInputError) as error:
            if isinstance(error, MissingInputError):
                error = RecordError(error.message, reason="bad_record")
            one = Dropped.of(error, file=tar.name, record=bundle.key)
            yield msgspec.structs.replace(one, count=max(1, len(_dotted(bundle))))
    if archive.damage:
        yield Dropped(
            reason="bad_record",
            file=tar.name,
            record="the tar",
            detail=f"{archive.damage}; nothing after it is read",
        )


def _bundles(members: Iterator[str]) -> list[_Bundle]:
    """Gather members by key, in the order in which the keys first stand."""
    found: dict[str, _Bundle] = {}
    last = ""
    for member in members:
        folder, slash, name = member.rpartition("/")
        stem, _, field = name.partition(".")
        key = folder + slash + stem
        if key not in found:
            found[key] = _Bundle(key, {}, together=True)
        elif key != last:
            found[key] = found[key]._replace(together=False)
        found[key].members[field] = member
        last = key
    return list(found.values())


def _conversation(bundle: _Bundle, tar: _Tar) -> Conversation:
    fields = bundle.members
    if not bundle.together:
        raise RecordError(
            "its members do not stand one after the other, so readers of streams take it for "
            "several",
            reason="bad_record",
        )
    dotted = _dotted(bundle)
    if dotted:
        raise RecordError(
            f"keys have dots: {', '.join(f'{bundle.key}.{one}' for one in dotted[:3])} are one key "
            "to WebDataset",
            reason="bad_record",
        )
    endings = {field: field.rpartition(".")[2].lower() for field in sorted(fields)}
    pictures = [field for field, ending in endings.items() if ending in PICTURES]
    other = [field for field, ending in endings.items() if ending in _OTHER_PICTURES]
    if other:
        raise RecordError(f"{other[0]} is no JPEG, PNG, WebP or GIF", reason="bad_image")
    record = _json(tar, fields["json"]) if "json" in fields else {}
    if any(record.get(key) is not None for key in _TURNS):
        made = _spoken(bundle, tar, record, pictures)
    else:
        made = _captioned(bundle, tar, record, pictures)
    more = sorted(field for field in fields if field not in {*pictures, "json", "txt"})
    return _with_meta(made, {"members": more}) if more else made


def _dotted(bundle: _Bundle) -> list[str]:
    """What stands between the key and ``.json`` or ``.txt``, where neither stands alone."""
    if bundle.members.keys() & {"json", "txt"}:
        return []
    return sorted({found[1] for field in bundle.members if (found := _WORDS.fullmatch(field))})


def _json(tar: _Tar, member: str) -> dict[str, Any]:
    data = _bytes(tar, member)
    value = parse(data)
    if not isinstance(value, dict):
        raise RecordError("the json is no object", reason="bad_record")
    return value


def _bytes(tar: _Tar, member: str) -> bytes:
    archive = archive_of(tar.path)
    size = archive.size(member)
    if size > MAX_RECORD_BYTES:
        raise too_long(size)
    return archive.read(member)


def _spoken(
    bundle: _Bundle, tar: _Tar, record: dict[str, Any], pictures: list[str]
) -> Conversation:
    """A conversation of the JSON member, in a layout of ``messages``, ``llava`` or our own."""
    named = next((key for key in ("images", "image") if record.get(key)), "")
    listed = record[named] if named and isinstance(record[named], list) else [record.get(named)]
    order = [_member(one, bundle) for one in listed] if named else []
    if order and all(one in pictures for one in order):
        unshown = [field for field in pictures if field not in order]
        pictures = [one for one in order if one is not None]
        left: dict[str, Any] = {"unshown": unshown} if unshown else {}
    else:
        left = {named: record[named]} if named else {}
    spoken = said(record, pictures=len(pictures))
    if spoken.inline:
        left["inline"] = spoken.inline
    meta = {
        key: value
        for key, value in record.items()
        if key not in {*spoken.keys, *_COLUMNS, "images", "image", "image_paths", "meta"}
    }
    paths = record.get("image_paths")
    if not isinstance(paths, list) or len(paths) != len(pictures):
        paths = [bundle.members[one] for one in pictures]
    own = {key: _text(record, key) for key in _COLUMNS[1:]}
    if spoken.extras:
        left["turns"] = spoken.extras
    name = record.get("id")
    made = Conversation(
        id=str(name) if name not in (None, "") else f"{tar.label}/{bundle.key}",
        images=_references(bundle, tar, pictures),
        image_paths=tuple(map(str, paths)),
        messages=spoken.messages,
        split=own["split"] or "train",
        task=own["task"],
        language=own["language"],
        license=own["license"],
        meta=meta,
    )
    return _with_meta(_with_meta(made, _their_meta(record.get("meta"))), left)


_COLUMNS = ("id", "split", "task", "language", "license")


def _their_meta(meta: Any) -> dict[str, Any]:
    """What an export's ``meta`` holds: JSON text of an object; anything else stays as it is."""
    if isinstance(meta, str):
        try:
            value = parse(meta.encode("utf-8", "surrogatepass"))
        except RecordError:
            value = meta
        meta = value if isinstance(value, dict) else meta
    if meta is None:
        return {}
    return meta if isinstance(meta, dict) else {"meta": meta}


def _captioned(
    bundle: _Bundle, tar: _Tar, record: dict[str, Any], pictures: list[str]
) -> Conversation:
    """One round: what the prompt asks, and the caption."""
    key = next((key for key in _CAPTIONS if isinstance(record.get(key), str)), "")
    if key:
        caption = record[key]
    elif "txt" in bundle.members:
        try:
            caption = _bytes(tar, bundle.members["txt"]).decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise RecordError(f"the txt is not UTF-8: {error.reason}", reason="bad_text") from None
    else:
        members = ", ".join(sorted(bundle.members))
        raise RecordError(
            f"neither a conversation nor a caption among {members[:200]}", reason="bad_record"
        )
    if not pictures:
        members = ", ".join(sorted(bundle.members))
        raise RecordError(f"a caption and no picture among {members[:200]}", reason="missing_image")
    return Conversation(
        id=f"{tar.label}/{bundle.key}",
        images=_references(bundle, tar, pictures),
        image_paths=tuple(bundle.members[one] for one in pictures),
        messages=(
            Message.of("user", tar.prompt, images=len(pictures)),
            Message.of("assistant", caption),
        ),
        meta={name: value for name, value in record.items() if name != key},
    )


def _member(named: Any, bundle: _Bundle) -> str | None:
    """The picture that an entry of ``images`` names: by its field, its name, or its last part."""
    if not isinstance(named, str):
        return None
    name = named.rpartition("/")[2]
    for field, member in bundle.members.items():
        if named in (field, member) or name == member.rpartition("/")[2]:
            return field
    return None


def _references(bundle: _Bundle, tar: _Tar, pictures: list[str]) -> tuple[str, ...]:
    return tuple(f"{SCHEME}{tar.name}!/{quote_member(bundle.members[field])}" for field in pictures)


def _with_meta(made: Conversation, more: dict[str, Any]) -> Conversation:
    """Add to ``meta``; a key that is there already stays, and the other becomes ``key#2``."""
    added = {f"{key}#2" if key in made.meta else key: value for key, value in more.items()}
    return msgspec.structs.replace(made, meta={**made.meta, **added})


def _text(record: dict[str, Any], key: str) -> str | None:
    text = record.get(key)
    if text is not None and not isinstance(text, str):
        raise RecordError(f"{key!r} is no text", reason="bad_record")
    return text
