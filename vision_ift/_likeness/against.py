"""A benchmark as files: pictures in any tree, Parquet, JSON and JSON Lines."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vision_ift._archives.archive import SCHEME, archive_of, quote_member
from vision_ift._conversation import MAX_TEXT_CHARS
from vision_ift._errors import MissingInputError, RecordError, UsageError
from vision_ift._likeness.lineage import coco_id
from vision_ift._pictures.images import safe_path

_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif")
_LISTS = (".jsonl", ".json", ".parquet")

#: The columns and keys that hold a question, in the order in which they are looked for.
TEXT_NAMES = ("question", "prompt", "query", "instruction", "problem", "text", "caption")
DIALOG_NAMES = ("messages", "conversations", "conversation")
IMAGE_NAMES = (
    "image",
    "images",
    "image_path",
    "image_paths",
    "img",
    "img_path",
    "file_name",
    "filename",
    "image_file",
)
ID_NAMES = ("question_id", "id", "qid", "index", "uid")

#: The largest JSON file, and the longest line of a JSON Lines file, in bytes.
_MAX_JSON_BYTES = 1 << 30
_MAX_LINE_BYTES = 16 << 20

#: Files of a folder that are looked at, and folders inside each other.
_MAX_FILES = 5_000_000
_MAX_DEPTH = 40

#: Characters of a picture's path that are looked at for an id.
_MAX_PATH = 1000

_FAULTS = (pa.ArrowException, OSError, UnicodeDecodeError)


@dataclass(slots=True)
class Benchmark:
    """What a benchmark shows and asks; rows are numbered over all of its files.

    Attributes:
        name: The last part of the path as the user gave it.
        root: Where its references lead.
        rows: What each row is called: its file, its number from 0, its id where it has one.
        references: Distinct pictures.
        shown: The pictures of each row, as places in ``references``.
        texts: Its questions; ``asked`` is the row of each.
        named: COCO ids in the names of pictures that are not there.
        skipped: Reason to the number of files or rows that could not be used.
        skipped_first: The first ten of them.
    """

    name: str
    root: Path
    rows: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    shown: list[list[int]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    named: set[int] = field(default_factory=set)
    skipped: dict[str, int] = field(default_factory=dict)
    skipped_first: list[str] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)

    def skip(self, reason: str, what: str) -> None:
        """Count something that cannot be used."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1
        if len(self.skipped_first) < 10:
            self.skipped_first.append(f"{reason}: {what}")

    def add(self, row: str, references: Sequence[str], texts: Sequence[str]) -> None:
        """Add a row."""
        number = len(self.rows)
        self.rows.append(row)
        shown = []
        for reference in references:
            place = self.places.setdefault(reference, len(self.references))
            if place == len(self.references):
                self.references.append(reference)
            shown.append(place)
        self.shown.append(shown)
        for text in texts:
            if len(text) > MAX_TEXT_CHARS:
                self.skip("long_text", row)
            elif text.strip():
                self.texts.append(text.encode("utf-8", "replace").decode())
                self.asked.append(number)


def read_benchmark(
    path: Path | str,
    *,
    text_columns: Sequence[str] = (),
    image_columns: Sequence[str] = (),
) -> Benchmark:
    """Read a folder, a Parquet file, or a JSON or JSON Lines file.

    In a folder all pictures, ``*.parquet``, ``*.jsonl`` and ``*.json`` count, at any depth;
    links are followed, a folder once. A picture that a row names is not a row of its own, too.

    Args:
        path: Where it lies.
        text_columns, image_columns: Which columns or keys to take; else the well-known names.

    Raises:
        MissingInputError: There is no such file or folder.
        UsageError: A file that was named cannot be read, or nothing is found in it.
    """
    path = Path(path)
    reader = _Reader(tuple(text_columns), tuple(image_columns))
    if path.is_dir():
        found = Benchmark(path.resolve().name, path)
        plain = []
        for name in _walk(path, found):
            lower = name.lower()
            if lower.endswith(_PICTURES):
                plain.append(name)
            else:
                try:
                    reader.read(found, name)
                except UsageError as error:
                    found.skip("unreadable_file", f"{name}: {error.message}")
        for name in plain:
            if name not in found.places:
                found.add(name, [name], [])
    elif path.is_file():
        if not path.name.lower().endswith(_LISTS):
            raise UsageError(
                f"--against {path} is not of a kind that is read",
                hint="give a folder, .parquet, .jsonl or .json",
            )
        found = Benchmark(path.name, path.parent)
        reader.read(found, path.name)
    else:
        raise MissingInputError(f"--against {path}: there is no such file or folder")
    if not found.rows:
        why = f" ({found.skipped_first[0]})" if found.skipped_first else ""
        raise UsageError(
            f"--against {path} holds no picture and no question{why}",
            hint="name its columns with --text-column and --image-column",
        )
    return found


def _walk(top: Path, found: Benchmark) -> Iterator[str]:
    """Yield the files of a tree in the order of their names; every folder once."""
    met: set[tuple[int, int]] = set()
    count = 0

    def folder(path: str, depth: int) -> Iterator[str]:
        nonlocal count
        try:
            status = os.stat(path or ".")  # noqa: PTH116 - with scandir below
            if (status.st_dev, status.st_ino) in met or depth > _MAX_DEPTH:
                found.skip("folder_again", path)
                return
            met.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            found.skip("unreadable_folder", f"{path}: {error.strerror}")
            return
        for entry in listed:
            try:
                if entry.is_dir():
                    yield from folder(entry.path, depth + 1)
                    continue
                if not entry.name.lower().endswith((*_PICTURES, *_LISTS)):
                    continue
                usable = entry.is_file()
            except OSError:  # a link to itself
                usable = False
            name = Path(entry.path).relative_to(top).as_posix()
            if not usable or not name.isprintable():
                found.skip("not_a_file", ascii(name))
                continue
            count += 1
            if count > _MAX_FILES:
                raise UsageError(f"--against {top} holds more than {_MAX_FILES:,} files")
            yield name

    yield from folder(str(top), 0)


class _Reader:
    """Reads lists; knows which columns were asked for."""

    def __init__(self, texts: tuple[str, ...], images: tuple[str, ...]) -> None:
        self._texts = texts
        self._images = images

    def read(self, found: Benchmark, name: str) -> None:
        if name.lower().endswith(".parquet"):
            self._parquet(found, name)
        elif name.lower().endswith(".jsonl"):
            self._lines(found, name)
        else:
            self._json(found, name)

    def _names(self, there: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
        """Of the columns there are: texts, pictures, ids."""
        for asked in (*self._texts, *self._images):
            if asked not in there:
                raise UsageError(
                    f"there is no column {asked!r}; there are {', '.join(map(repr, there))[:300]}"
                )
        texts = list(self._texts) or [one for one in TEXT_NAMES if one in there][:1]
        if not self._texts:
            texts += [one for one in DIALOG_NAMES if one in there][:1]
        images = list(self._images) or [one for one in there if _is_image_name(one)]
        return texts, images, [one for one in ID_NAMES if one in there][:1]

    def _parquet(self, found: Benchmark, name: str) -> None:
        path = found.root / name
        number = 0
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                schema = file.schema_arrow
                texts, images, ids = self._names(schema.names)
                embedded = [one for one in images if _holds_bytes(schema.field(one).type)]
                # The bytes stay in the file; only whether there are any is read here.
                paths = [one for one in images if one not in embedded]
                columns = [*texts, *paths, *ids]
                rows_left = file.metadata.num_rows
                if not columns and not embedded:
                    raise UsageError(f"{name} has no column that is known")
                members = _members(found.root / name, embedded, schema)
                for batch in self._batches(file, columns, rows_left):
                    for record in batch:
                        own = [f"{SCHEME}{name}!/{quote_member(one)}" for one in members(number)]
                        self._add(found, name, number, record, texts, paths, own, ids)
                        number += 1
        except RecordError as error:
            raise UsageError(f"{name}: {error.message}") from None
        except _FAULTS as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UsageError(f"{name} is no Parquet file that can be read: {first}") from None

    def _batches(self, file: Any, columns: list[str], rows: int) -> Iterator[list[dict[str, Any]]]:
        if not columns:
            for start in range(0, rows, 8192):
                yield [{} for _ in range(min(8192, rows - start))]
            return
        for batch in file.iter_batches(batch_size=8192, columns=columns, use_threads=False):
            yield batch.to_pylist()

    def _lines(self, found: Benchmark, name: str) -> None:
        with (found.root / name).open("rb") as file:
            number = 0
            while line := file.readline(_MAX_LINE_BYTES + 1):
                if len(line) > _MAX_LINE_BYTES:
                    raise UsageError(f"{name}: line {number + 1} is too long")
                if line.strip():
                    self._record(found, name, number, _decoded(line))
                number += 1

    def _json(self, found: Benchmark, name: str) -> None:
        path = found.root / name
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise UsageError(f"{name} is larger than {_MAX_JSON_BYTES:,} bytes")
        data = path.read_bytes()
        tree = _decoded(data)
        if tree is None:  # POPE's files are named .json and hold a record a line
            self._lines(found, name)
            return
        if isinstance(tree, dict):
            for key in ("questions", "data", "annotations", "images"):
                if isinstance(tree.get(key), list):
                    tree = tree[key]
                    break
        records = tree if isinstance(tree, list) else [tree]
        for number, record in enumerate(records):
            self._record(found, name, number, record)

    def _record(self, found: Benchmark, name: str, number: int, record: Any) -> None:
        if not isinstance(record, dict):
            found.skip("broken_record", f"{name}:{number}")
            return
        if not (set(self._texts) | set(self._images)) <= record.keys():
            found.skip("missing_key", f"{name}:{number}")
            return
        texts, images, ids = self._names(list(record))
        self._add(found, name, number, record, texts, images, [], ids)

    def _add(
        self,
        found: Benchmark,
        name: str,
        number: int,
        record: dict[str, Any],
        texts: list[str],
        paths: list[str],
        references: list[str],
        ids: list[str],
    ) -> None:
        said = [text for key in texts for text in _questions(record[key])]
        own = record[ids[0]] if ids else None
        named = isinstance(own, str | int) and not isinstance(own, bool)
        row = f"{name}:{number}" + (f" ({str(own)[:100]})" if named else "")
        folder = os.path.dirname(name)  # noqa: PTH120 - text, not a place on the disk
        for key in paths:
            for path in _paths(record[key]):
                reference = self._find(found, folder, path)
                if reference is None:
                    found.skip("missing_image", f"{row}: {path[:200]!r}")
                    if (coco := coco_id(path[:_MAX_PATH])) is not None:
                        found.named.add(coco[0])
                else:
                    references.append(reference)
        if references or said:
            found.add(row, references, said)
        else:
            found.skip("empty_row", row)

    def _find(self, found: Benchmark, folder: str, path: str) -> str | None:
        try:
            clean = safe_path(path)
        except RecordError:
            return None
        for start in (folder, f"{folder}/images" if folder else "images", ""):
            joined = f"{start}/{clean}" if start else clean
            if (found.root / joined).is_file():
                return joined
        return None


def _is_image_name(name: str) -> bool:
    lower = name.lower()
    stem = lower.rstrip("0123456789").rstrip("_")
    return lower in IMAGE_NAMES or (stem == "image" and stem != lower)


def _members(path: Path, columns: list[str], schema: Any) -> Callable[[int], list[str]]:
    """Give a function from a row's number to the pictures that it embeds."""
    single = [name for name in columns if not pa.types.is_nested(schema.field(name).type)]
    single += [name for name in columns if pa.types.is_struct(schema.field(name).type)]
    several = {name for name in columns if name not in single}
    listed: dict[int, list[str]] = {}
    if several:
        for member in archive_of(str(path)):
            column, _, place = member.partition("/")
            if column in several:
                listed.setdefault(int(place.partition("/")[0]), []).append(member)
    return lambda row: [f"{name}/{row}" for name in sorted(single)] + listed.get(row, [])


def _holds_bytes(kind: Any) -> bool:
    """Say whether a column embeds pictures (see ``_parquet.py``)."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _decoded(data: bytes) -> Any:
    """Read JSON, or give ``None`` where it is broken."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _paths(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value[:1000]:
            yield from _paths(one)
    elif isinstance(value, dict):
        yield from _paths(value.get("path"))


def _questions(value: Any) -> Iterator[str]:
    """The text of a column, or the user's turns of a dialog in any of the usual layouts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for turn in value:
            if isinstance(turn, str):
                yield turn
            elif isinstance(turn, dict):
                role = turn.get("role", turn.get("from", "user"))
                if role in ("user", "human"):
                    yield from _content(turn.get("content", turn.get("value")))


def _content(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value.replace("<image>", " ")
    elif isinstance(value, list):
        words = [part.get("text") for part in value if isinstance(part, dict)]
        text = "\n".join(word for word in words if isinstance(word, str))
        if text:
            yield text
