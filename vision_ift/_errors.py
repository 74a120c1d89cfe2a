"""Every error that this package raises on purpose.

    VisionIFTError                      exit code
    ├── UsageError (ValueError)             2   a call or a command line that cannot be meant
    │   └── UnknownNameError (LookupError)  2   no source, recipe, column … of that name
    ├── RecipeError (ValueError)           65   a recipe that cannot be read or planned
    ├── RecordError (ValueError)           65   a record that breaks a rule of the row
    ├── MissingInputError (OSError)        66   a file that should be there is not
    ├── OutputError (OSError)              73   a place that cannot be written as asked
    │   └── DiskError                      74   the disk failed or is full
    ├── WorkerError                        71   the system ended one of our processes
    ├── LockedError                        75   somebody else is writing there
    ├── IntegrityError                     76   bytes that are not what was recorded
    ├── ServiceError                       69   a service on the network does not answer
    │   └── RefusedError                   69   it answers, and that answer is final
    └── MissingExtraError (ImportError)    69   an optional dependency is not installed

``str(error)`` is the whole message; ``code`` is a stable word for scripts, ``hint`` says what to
do, ``exit_code`` is what the command line ends with (sysexits style).
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar


class VisionIFTError(Exception):
    """The root of all errors of this package.

    Args:
        message: What was found, where, and why that is wrong.
        hint: What to do about it; empty where nothing is to be said.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 70

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:  # keyword arguments do not pickle by themselves
        return _rebuild, (type(self), dict(self.__dict__))


def _rebuild(kind: type[VisionIFTError], state: dict[str, object]) -> VisionIFTError:
    error = kind.__new__(kind)
    error.__dict__.update(state)
    error.args = (state["message"],)
    return error


class UsageError(VisionIFTError, ValueError):
    """A call or a command line that cannot be meant."""

    code = "usage"
    exit_code = 2


class UnknownNameError(UsageError, LookupError):
    """A name that nothing answers to; the message offers the nearest ones.

    Args:
        kind: What was looked for (``source``, ``recipe``, ``option`` …).
        name: The name as typed.
        known: The names that exist.
    """

    code = "unknown_name"

    def __init__(self, kind: str, name: str, known: Iterable[str], *, hint: str = "") -> None:
        names = sorted(known)
        near = get_close_matches(name, names, n=3, cutoff=0.5)
        if near:
            guess = f"did you mean {' or '.join(near)}?"
        else:
            guess = f"known: {', '.join(names[:20])}" if names else "none is known"
        super().__init__(
            f"no {kind} named {name!r}", hint=f"{guess} {hint}".rstrip() if hint else guess
        )


class RecipeError(VisionIFTError, ValueError):
    """A recipe that cannot be read or planned.

    Args:
        message: What is wrong.
        file: The recipe's file, where there is one.
        line: Line in that file, from 1; 0 where it is not known.
        column: Column in that line, from 1; 0 where it is not known.
    """

    code = "recipe"
    exit_code = 65

    def __init__(
        self, message: str, *, hint: str = "", file: str = "", line: int = 0, column: int = 0
    ) -> None:
        place = ":".join(str(part) for part in (file, line, column) if part)
        super().__init__(f"{place}: {message}" if place else message, hint=hint)
        self.file = file
        self.line = line
        self.column = column


class RecordError(VisionIFTError, ValueError):
    """A record that breaks a rule of the row.

    Args:
        message: Which rule, and what was found.
        reason: The rule as a stable word, e.g. ``empty_turn`` (see :data:`REASONS`).
        source: The source's name.
        file: The file under ROOT, if known.
        record: The record's id or its place in the file.
        turn: The turn, from 0, if one is to blame.
    """

    code = "record"
    exit_code = 65

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        source: str = "",
        file: str = "",
        record: str = "",
        turn: int | None = None,
        hint: str = "",
    ) -> None:
        place = ", ".join(
            f"{word} {value}"
            for word, value in (("source", source), ("file", file), ("record", record))
            if value
        )
        if turn is not None:
            place += f", turn {turn}"
        super().__init__(f"{place}: {message}" if place else message, hint=hint)
        self.reason = reason
        self.detail = message
        self.source = source
        self.file = file
        self.record = record
        self.turn = turn


#: What a record can be dropped for; the keys of ``dropped`` in reports.
REASONS: dict[str, str] = {
    "missing_image": "a picture that the record names is not under ROOT",
    "bad_image": "a picture is not JPEG, PNG, WebP or GIF, or cannot be read",
    "image_count": "the number of image parts differs from the number of images",
    "unsafe_path": "an image path is absolute, climbs with '..', or names a URL",
    "empty_turn": "a turn holds no text and no image",
    "roles": "turns do not alternate between user and assistant, or end with the wrong role",
    "duplicate_id": "another record of the source has the same id",
    "broken_json": "the bytes are not the JSON that the layout asks for",
    "bad_record": "a field is missing or has the wrong type",
    "bad_text": "text is not valid UTF-8 (a lone surrogate) or is too long",
    "no_answer": "a question has no answer in the answer file",
    "no_coco_image": "the picture is not a COCO picture, and the source keeps only those",
    "caption_not_picked": "one caption of an image's several is used in dialogs, by rule",
    "over_budget": "the budget of tasks and rows a task is spent, by rule",
    "eval_source": "the task is drawn from a test or benchmark split, and those are left out",
}


class MissingInputError(VisionIFTError, OSError):
    """A file or folder that should be there is not."""

    code = "missing_input"
    exit_code = 66


class OutputError(VisionIFTError, OSError):
    """A place that cannot be written as asked."""

    code = "output"
    exit_code = 73


class DiskError(OutputError):
    """The disk failed or is full."""

    code = "disk"
    exit_code = 74


#: What the system says of a file that is not there or may not be opened. Anything else is said of
#: the disk or of this process, and must never pass for a missing picture.
_NOT_THERE = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ENAMETOOLONG,
        errno.ELOOP,
        errno.EACCES,
        errno.EPERM,
        errno.ENXIO,
        errno.ENODEV,
    }
)


def unopened(what: str, error: OSError, *, hint: str = "") -> MissingInputError | DiskError:
    """Tell a file that is not there from a disk that fails, after an open or a stat.

    >>> unopened("picture a.jpg", OSError(errno.ENOENT, "No such file or directory"))
    MissingInputError('picture a.jpg cannot be opened: No such file or directory')
    >>> unopened("picture a.jpg", OSError(errno.EIO, "Input/output error"))
    DiskError('picture a.jpg cannot be opened: Input/output error')
    """
    kind = MissingInputError if error.errno in _NOT_THERE else DiskError
    return kind(f"{what} cannot be opened: {error.strerror}", hint=hint)


class WorkerError(VisionIFTError):
    """The system ended one of the processes that do the work."""

    code = "worker"
    exit_code = 71


class LockedError(VisionIFTError):
    """Somebody else is writing to the same place."""

    code = "locked"
    exit_code = 75


class IntegrityError(VisionIFTError):
    """Bytes are not what was recorded of them."""

    code = "integrity"
    exit_code = 76


class ServiceError(VisionIFTError):
    """A service on the network does not answer, or refuses."""

    code = "service"
    exit_code = 69


class RefusedError(ServiceError):
    """A server's final answer: asking again would not change it."""

    code = "refused"


class MissingExtraError(VisionIFTError, ImportError):
    """An optional dependency is not installed.

    Args:
        feature: What was asked for.
        extra: The extra of this package that brings it.
    """

    code = "missing_extra"
    exit_code = 69

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs packages that are not installed",
            hint=f"pip install 'vision_ift[{extra}]'",
        )
