"""What the formats share: marks of pictures in text, the key of what has no place, the counts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from vision_ift import _registry
from vision_ift._builder import Batch
from vision_ift._errors import MissingInputError, RecordError

#: One row as plain data: the columns of the table.
Row = dict[str, Any]

Mode = Literal["path", "copy", "embed"]

#: How text formats mark a picture.
TAG = "<image>"

#: Marks of other media, and tokens by which processors find pictures in the finished text.
MEDIA = (TAG, "<video>", "<audio>")
TOKENS = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|image|>")

#: The key (or column) under which a record keeps what its format has no place for, as JSON text:
#: one type in every record, so that Arrow readers of the toolkits never meet two.
KEY = "vision_ift"

#: How many refused rows of a reason are named.
FIRST = 10

#: Why a format refuses a row.
REFUSED = {
    "marker": "a text holds what the format takes for a mark of its own",
    "no_answer": "the row ends with a question; no trainer of these formats can learn from it",
    "system_turn": "the format has no place for a system turn",
    "image_place": "a picture stands where the format cannot show one",
    "image_count": "more pictures than the format takes",
    "image_format": "a picture is of a format that the target does not take",
    "image_size": "a picture is larger than the target takes",
    "missing_image": "a picture is not there",
    "bad_image": "a picture cannot be read, or is no JPEG, PNG, WebP or GIF",
    "unsafe_path": "a picture lies outside ROOT",
    "bad_text": "text that cannot be written",
}

#: What is changed in a row that is written, and cannot be read back.
LOST = {
    "parts": "text parts that stand side by side become one, and empty ones go",
    "system_unread": "the system turn is kept in a key that the format's own trainer does not read",
}

T = TypeVar("T")

#: What is told of a file that is whole and may still not load.
NOTES = {
    f"late_{what}": f"the first 1,000 rows have no {what} and later ones do: `datasets`, by which "
    "LLaMA-Factory and ms-swift load, may take the column for an empty one and stop; convert a "
    "recipe of this source, whose order mixes its rows"
    for what in ("images", "objects")
}

#: LLaMA-Factory's loader fixes a column's type after so many rows (ms-swift's after 10 MB).
_TYPED_ROWS = 1000

_SPLIT = re.compile(r"\n?<image>\n?")


class Rest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a format has no place for: the columns of a row beside its pictures and turns."""

    id: str
    image_paths: list[str]
    language: str | None
    license: str | None
    meta: str
    source: str
    split: str
    task: str | None


_REST = msgspec.json.Decoder(Rest)
_ENCODER = msgspec.json.Encoder()


def rest_of(row: Row) -> str:
    """Write the columns that a format has no place for as JSON text."""
    return _ENCODER.encode(Rest(**{name: row[name] for name in Rest.__struct_fields__})).decode()


def read_rest(text: Any) -> Rest | None:
    """Read :func:`rest_of`; ``None`` where it is something else."""
    try:
        return _REST.decode(text) if isinstance(text, str) else None
    except (msgspec.DecodeError, UnicodeError):
        return None


class Tally:
    """Counts what is written, refused and lost.

    Args:
        strict: Stop at the first row that is refused or loses something.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.rows = 0
        self.images = 0
        self.dropped: dict[str, int] = {}
        self.first: dict[str, list[dict[str, str]]] = {}
        self.lost: dict[str, int] = {}
        self.notes: set[str] = set()
        self._met: set[str] = set()
        self._strict = strict
        self._losing: set[str] = set()

    def lose(self, what: str) -> None:
        """Note that the row at hand loses something."""
        self._losing.add(what)

    def meet(self, what: str) -> None:
        """Note that the row at hand fills a column which others leave empty."""
        if what not in self._met:
            self._met.add(what)
            if self.rows >= _TYPED_ROWS:
                self.notes.add(f"late_{what}")

    def said(self, rows: Iterable[Row], say: Callable[[Row], T]) -> Iterator[T]:
        """Give the record of every row that the format can say, and count the others.

        Raises:
            RecordError: With ``strict``, a row is refused or loses something.
        """
        for row in rows:
            self._losing.clear()
            try:
                _answered(row)
                record = say(row)
            except (RecordError, MissingInputError) as error:
                reason = error.reason if isinstance(error, RecordError) else "missing_image"
                detail = error.detail if isinstance(error, RecordError) else error.message
                if self._strict:
                    raise RecordError(
                        detail,
                        reason=reason,
                        record=row["id"],
                        hint="without --strict it is dropped and counted",
                    ) from None
                self.dropped[reason] = self.dropped.get(reason, 0) + 1
                named = self.first.setdefault(reason, [])
                if len(named) < FIRST:
                    named.append({"id": row["id"], "detail": detail})
                continue
            for what in sorted(self._losing):
                if self._strict:
                    raise RecordError(
                        LOST[what],
                        reason=what,
                        record=row["id"],
                        hint="without --strict it is written and counted",
                    )
                self.lost[what] = self.lost.get(what, 0) + 1
            self.rows += 1
            self.images += len(row["images"])
            yield record


def _answered(row: Row) -> None:
    if row["messages"][-1]["role"] != "assistant":
        raise RecordError("it ends with a question", reason="no_answer")


def refuse_marks(row: Row, marks: Iterable[str]) -> None:
    """Refuse a row whose text holds a mark of the format.

    Raises:
        RecordError: With the reason ``marker``.
    """
    for number, turn in enumerate(row["messages"]):
        for part in turn["content"]:
            text = part["text"]
            if text is None or "<" not in text:
                continue
            found = next((mark for mark in marks if mark in text), None)
            if found:
                raise RecordError(
                    f"the text of turn {number} holds {found}, which the format takes for its own",
                    reason="marker",
                    turn=number,
                )


def place_of(row: Row, roles: Iterable[str] = ("user",)) -> None:
    """Refuse a row with a picture in a turn of another role.

    Raises:
        RecordError: With the reason ``image_place``.
    """
    for number, turn in enumerate(row["messages"]):
        if turn["role"] not in roles and shown(turn):
            raise RecordError(
                f"turn {number} ({turn['role']}) shows a picture", reason="image_place", turn=number
            )


def shown(turn: Row) -> int:
    """Count the pictures of a turn."""
    return sum(part["type"] == "image" for part in turn["content"])


def marked(parts: list[Row], tally: Tally, *, lines: bool) -> str:
    """Write a turn as text, with ``<image>`` where a picture stands.

    Readers of this layout take one newline on either side of the tag for a part of it.

    Args:
        parts: The turn's parts.
        tally: Told where the parts cannot be had back.
        lines: Put every tag on a line of its own; else a newline is written only where the text
            beside the tag has one itself, which would be taken for the tag's.

    >>> parts = [{"type": "image", "text": None}, {"type": "text", "text": "Who is it?"}]
    >>> marked(parts, Tally(), lines=True), marked(parts, Tally(), lines=False)
    ('<image>\\nWho is it?', '<image>Who is it?')
    """
    runs: list[str | None] = []
    for part in parts:
        text = None if part["type"] == "image" else part["text"]
        if text is not None and runs and runs[-1] is not None:
            runs[-1] += "\n" + text
        else:
            runs.append(text)
    out = ""
    for number, text in enumerate(runs):
        ahead = runs[number - 1] if number else ""
        if text is None:
            after_image = number > 0 and ahead is None
            if (ahead and (lines or ahead.endswith("\n"))) or (after_image and lines):
                out += "\n"
            out += TAG
        elif number and ahead is None:
            out += "\n" + text if text and (lines or text.startswith("\n")) else text
        else:
            out += text
    if _parts_of(out) != [None if part["type"] == "image" else part["text"] for part in parts]:
        tally.lose("parts")
    return out


def _parts_of(text: str) -> list[str | None]:
    """Read a text as the layout's readers do: ``None`` for a picture."""
    if TAG not in text:
        return [text]
    found: list[str | None] = []
    for number, words in enumerate(_SPLIT.split(text)):
        if number:
            found.append(None)
        if words:
            found.append(words)
    return found


def joined(parts: list[Row], tally: Tally) -> str:
    """Write the texts of a turn without pictures as one, with a newline between them."""
    texts = [part["text"] for part in parts if part["text"] is not None]
    if len(texts) != 1:
        tally.lose("parts")
    return "\n".join(texts)


class Format(Protocol):
    """One format: a module of this room.

    Attributes:
        IMAGES: Where pictures can be, the default first.
        UNREAD: Marks of a file of theirs that are no words: a row that has one is refused.
    """

    IMAGES: tuple[Mode, ...]
    UNREAD: tuple[str, ...]

    def write(self, rows: Iterable[Row], out: Any, pictures: Any, tally: Tally) -> None:
        """Write the rows."""

    def read(self, file: Path, root: Path, work: Path, images: str) -> Iterator[Batch]:
        """Read a file of theirs as batches of rows; what has to be unpacked goes to ``work``."""


def built(source: str, root: Path, file: Path, images: str) -> Iterator[Batch]:
    """Read a file by the source that reads its layout."""
    builder = _registry.find(source)
    asked = {"path": str(file.absolute()), **({"images": images} if images else {})}
    yield from builder.batches(root, **builder.options(asked))
