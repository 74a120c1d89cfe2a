"""The form of ``cards/<source>.yaml``: what is told of a source beside its builder's attributes."""

from __future__ import annotations

from typing import Literal

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from vision_ift._errors import IntegrityError

#: The layers of a licence.
LAYERS = ("text", "pictures", "generating model")


class Count(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One number that its authors claim, against what the released files hold.

    Attributes:
        what: What is counted.
        claimed: What the authors say; ``about`` where they round it; ``by`` where they say it.
        found: What somebody counted in the released files; ``how`` says who and in what.
        worked_out: What follows by arithmetic where nobody counted.
        how: How it was found or worked out, or why it differs.
    """

    what: str
    claimed: int | None = None
    about: bool = False
    by: str = ""
    found: int | None = None
    worked_out: int | None = None
    how: str = ""

    def __post_init__(self) -> None:
        if self.found is not None and self.worked_out is not None:
            raise ValueError(f"{self.what}: either found or worked_out, not both")
        if (self.found is not None or self.worked_out is not None) and not self.how:
            raise ValueError(f"{self.what}: a count needs how it came about")
        if self.claimed is not None and not self.by:
            raise ValueError(f"{self.what}: a claim needs where it stands")


class Layer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The terms of one layer: the text, the pictures, or the model that wrote the text.

    Attributes:
        layer: One of ``LAYERS``.
        of: Whose work it is.
        terms: SPDX identifiers joined by ``AND``, or words; empty where the layer has none.
        note: What a reader should know of it.
    """

    layer: Literal["text", "pictures", "generating model"]
    of: str
    terms: str = ""
    note: str = ""


class Told(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``cards/<source>.yaml`` says. Its texts are Markdown of the source's own author.

    Attributes:
        summary: What the source is, in a few sentences.
        rows: Rows that a whole release gives, by split; ``null`` where nobody knows.
        about: Whether the whole thousands among those are rounded.
        rows_of: The same by the file that a recipe names as ``path``.
        most_per_task: The most rows that the release has of a task: a cap above it changes nothing.
        tasks: Of the Hub's list of tasks.
        counts, layers, made, limits: The sections of the card.
    """

    summary: str
    rows: dict[str, int | None] = msgspec.field(default_factory=lambda: {"train": None})
    about: bool = False
    rows_of: dict[str, int] = {}
    most_per_task: int | None = None
    tasks: tuple[str, ...] = ("image-text-to-text", "visual-question-answering")
    counts: tuple[Count, ...] = ()
    layers: tuple[Layer, ...] = ()
    made: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()

    def rounded(self, rows: int | None) -> bool:
        """Say whether a number of rows is one that the authors rounded."""
        return self.about and rows is not None and rows >= 1000 and rows % 1000 == 0


def read_told(text: str, *, file: str) -> Told:
    """Read the facts of a source.

    Raises:
        IntegrityError: They are no YAML, or not of their form; the message says what.
    """
    try:
        return msgspec.convert(YAML(typ="safe", pure=True).load(text), Told)
    except (YAMLError, msgspec.ValidationError) as error:
        raise IntegrityError(f"{file}: {error}", hint="see the class Told") from None
