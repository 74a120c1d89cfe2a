"""One question with its answer."""

from __future__ import annotations

from typing import NamedTuple


class Query(NamedTuple):
    """A question with its short answer.

    ``also`` are other wordings of the answer, ``wrong`` answers of the same sort that are false,
    ``why`` a true sentence that explains the answer, ``about`` the category or ``scene``.
    """

    kind: str
    question: str
    answer: str
    why: str
    wrong: tuple[str, ...]
    also: tuple[str, ...] = ()
    about: str = "scene"

    @property
    def reply(self) -> str:
        """The answer as a whole sentence; yes and no come first."""
        return f"{self.answer.capitalize()}. {self.why}" if self.kind in ("yes", "no") else self.why


def others(options: tuple[str, ...], answer: str) -> tuple[str, ...]:
    """The options but the answer, each once."""
    return tuple(option for option in dict.fromkeys(options) if option != answer)
