"""What a source is made of: a class with one method to write.

A source is one file in ``builders/`` with one subclass of :class:`Builder`; the file's name is the
source's name. The class says who made the data and under which licence, where its files lie under
ROOT, and turns them into conversations. It knows nothing of `datasets`, recipes or shards.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import msgspec
import pyarrow as pa

from vision_ift._conversation import Conversation, check, to_batch
from vision_ift._errors import RecordError, UnknownNameError, UsageError
from vision_ift._run import Run, here

#: Rows of a batch made of single conversations.
BATCH_ROWS = 2048


class Dropped(msgspec.Struct, frozen=True, kw_only=True):
    """A record, or several, that did not become part of a row.

    Attributes:
        reason: A key of ``vision_ift._errors.REASONS``.
        file: The file under ROOT.
        record: The record's id, or its place in the file (``byte 1234``, ``line 7``).
        detail: What was found, for a person.
        count: How many records this stands for.
        by_rule: True where leaving it out is how the source is defined (one caption of five): it
            is counted, and ``--strict`` does not stop at it.
    """

    reason: str
    file: str = ""
    record: str = ""
    detail: str = ""
    count: int = 1
    by_rule: bool = False

    @classmethod
    def of(cls, error: RecordError, *, file: str = "", record: str = "") -> Dropped:
        """Make one of a broken rule."""
        return cls(
            reason=error.reason,
            file=file or error.file,
            record=record or error.record,
            detail=error.detail,
        )


class Absent(msgspec.Struct, frozen=True):
    """A part of the source whose files are not under ROOT.

    Attributes:
        name: The part, e.g. ``vqav2 val``.
        wanted: The files that would bring it, relative to ROOT.
    """

    name: str
    wanted: tuple[str, ...] = ()


class Batch(NamedTuple):
    """Some rows as Arrow, what was dropped on the way, and what was not there."""

    rows: pa.RecordBatch
    dropped: Sequence[Dropped] = ()
    absent: Sequence[Absent] = ()


class Builder:
    """Turns one source's files into conversations.

    Subclass it in a file of its own, fill the class attributes, and write ``conversations``. Its
    keyword-only parameters, with type and default, are the source's options; what the command line
    gives as text is converted to those types.

    >>> class Birds(Builder):
    ...     name = "birds"
    ...     files = ("birds/list.txt",)
    ...     def conversations(self, root, *, polite: bool = False):
    ...         yield Conversation(id="1", messages=())
    >>> Birds().options({"polite": "true"})
    {'polite': True}
    """

    #: The source's name: the name of its file; set by the registry.
    name: ClassVar[str] = ""
    #: The dataset's own name and the paper's title.
    title: ClassVar[str] = ""
    homepage: ClassVar[str] = ""
    #: SPDX identifier where there is one, else the authors' own words.
    license: ClassVar[str] = ""
    #: BibTeX.
    citation: ClassVar[str] = ""
    languages: ClassVar[tuple[str, ...]] = ("en",)
    #: Where the files lie under ROOT, as glob patterns of files and of picture folders. They decide
    #: whether a table is still fresh (size and time of a file, time of a folder).
    files: ClassVar[tuple[str, ...]] = ()
    #: The Hub repository that ``vision-ift fetch`` brings, and which of its files; ``""`` where the
    #: authors publish elsewhere.
    hub: ClassVar[str] = ""
    hub_files: ClassVar[tuple[str, ...]] = ()
    #: What to fetch by hand, and from where: a line each.
    by_hand: ClassVar[tuple[str, ...]] = ()
    #: What the authors say that there is, by their own words for it: ``rows`` are those released.
    claimed: ClassVar[dict[str, int]] = {}
    #: Splits whose rows end with a question (a benchmark's prompts).
    prompt_splits: ClassVar[frozenset[str]] = frozenset()
    #: What happens to a second record of the same id: ``drop`` counts it as ``duplicate_id``;
    #: ``number`` keeps it as ``id#2``, where the authors' ids are known not to be unique.
    repeated_ids: ClassVar[Literal["drop", "number"]] = "drop"

    def conversations(
        self,
        root: Path,
        *_: Any,  # lets a source name its own options and still pass a type checker
        **options: Any,
    ) -> Iterator[Conversation | Dropped | Absent]:
        """Yield what the files under ``root`` hold, in an order that depends on the files alone."""
        raise NotImplementedError(f"{type(self).__name__}.conversations")

    def batches(self, root: Path, *, run: Run = here, **options: Any) -> Iterator[Batch]:
        """Yield the same as Arrow; override it where whole columns are faster than single rows."""
        del run  # single conversations come from one generator, in this process
        yield from self.gather(self.conversations(root, **options))

    def gather(self, found: Iterable[Conversation | Dropped | Absent]) -> Iterator[Batch]:
        """Check conversations one by one and make batches of them."""
        rows: list[Conversation] = []
        dropped: list[Dropped] = []
        absent: list[Absent] = []
        for one in found:
            if isinstance(one, Conversation):
                try:
                    check(one, prompt=one.split in self.prompt_splits)
                except RecordError as error:
                    dropped.append(Dropped.of(error))
                else:
                    rows.append(one)
            elif isinstance(one, Dropped):
                dropped.append(one)
            else:
                absent.append(one)
            if len(rows) >= BATCH_ROWS or len(dropped) >= BATCH_ROWS:
                yield Batch(to_batch(rows, source=self.name), dropped, absent)
                rows, dropped, absent = [], [], []
        if rows or dropped or absent:
            yield Batch(to_batch(rows, source=self.name), dropped, absent)

    def inputs(self, root: Path, **options: Any) -> list[Path]:  # noqa: ARG002 - for overriders
        """List the files and folders under ``root`` that decide the table, sorted."""
        return sorted({path for pattern in self.files for path in root.glob(pattern)})

    def parameters(self) -> dict[str, inspect.Parameter]:
        """The options: name to parameter, as ``conversations`` declares them."""
        signature = inspect.signature(self.conversations)
        return {
            name: parameter
            for name, parameter in signature.parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY
        }

    def options(self, given: dict[str, Any]) -> dict[str, Any]:
        """Check options and convert text to their types; the defaults are left out.

        Raises:
            UnknownNameError: There is no such option.
            UsageError: The value does not fit.
        """
        known = self.parameters()
        types = typing.get_type_hints(self.conversations)
        options = {}
        for name, value in given.items():
            if name not in known:
                raise UnknownNameError(f"option of {self.name}", name, known)
            try:
                options[name] = msgspec.convert(value, types.get(name, str), strict=False)
            except msgspec.ValidationError as error:
                raise UsageError(f"option {name}={value} of {self.name}: {error}") from None
        return {
            name: options[name] for name in sorted(options) if options[name] != known[name].default
        }
