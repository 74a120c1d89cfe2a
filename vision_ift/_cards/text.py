"""Markdown and YAML that text from data cannot break: cells, code, tables, heads of cards.

Names, licences and tasks come from others' files. In Markdown they come out as text on one line;
in YAML they read back as what they were.

Sources: CommonMark 0.31 (spec.commonmark.org), GitHub Flavored Markdown for tables, strikethrough
and bare links (github.github.com/gfm).
"""

from __future__ import annotations

import html
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import SafeRepresenter

from vision_ift._errors import IntegrityError

#: The longest head of a card that is read, in characters.
MOST_HEAD_CHARS = 2_000_000

# `$` starts mathematics on the Hub, `@` a mention; a colon before `//` makes a bare link.
_SPECIAL = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]|<>#~$@"})
_BARE_LINK = re.compile(r"(?i)(?<=[a-z]):(?=//)|(?<=www)\.(?=.)")
#: What starts a list, a line under a heading or a rule where it stands first on a line.
_FIRST = re.compile(r"^([-+=]|\d{1,9}(?=[.)]))")


def cell(text: str) -> str:
    """Make text from data harmless in Markdown: one line, no markup, no control characters.

    >>> print(cell("a|b <script>\\n# c"))
    a\\|b &lt;script&gt; \\# c
    """
    line = " ".join(_visible(text).split())
    escaped = html.escape(line, quote=False).translate(_SPECIAL)
    escaped = _BARE_LINK.sub(lambda found: f"\\{found[0]}", escaped)
    first = _FIRST.match(escaped)
    if first is None:
        return escaped
    if first[0].isdigit():  # the mark after the number is what is escaped
        return f"{first[0]}\\{escaped[len(first[0]) :]}"
    return f"\\{escaped}"


def _visible(text: str) -> str:
    """Write characters that steer a screen, a reader or the order of letters as their code."""
    return "".join(
        f"U+{ord(one):04X}"
        if unicodedata.category(one) in ("Cc", "Cf", "Cs", "Co") and not one.isspace()
        else one
        for one in text
    )


def code(text: str) -> str:
    """Write text from data as code on one line, also inside a table.

    >>> code("rounds >= 2"), code("a`b")
    ('`rounds >= 2`', '``a`b``')
    """
    line = " ".join(_visible(text).split())
    if "|" in line:  # a backslash before it would be shown, outside tables
        return cell(line)
    runs = [len(run) for run in re.findall("`+", line)]
    marks = "`" * (max(runs, default=0) + 1)
    edge = " " if line.startswith("`") or line.endswith("`") or not line else ""
    return f"{marks}{edge}{line}{edge}{marks}"


def fenced(text: str, language: str = "") -> str:
    """Put text in a block of code that it cannot leave.

    >>> print(fenced("x = 1", "python"))
    ```python
    x = 1
    ```
    """
    runs = [len(run) for run in re.findall("`{3,}", text)]
    marks = "`" * (max(runs, default=2) + 1)
    return f"{marks}{language}\n{text.rstrip()}\n{marks}"


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table of cells that are Markdown already; columns ending with ``#`` are numbers.

    >>> print(table(("part", "rows#"), [("a", "1")]))
    | part | rows |
    | --- | ---: |
    | a | 1 |
    """
    marks = ["---:" if title.endswith("#") else "---" for title in titles]
    lines = [[title.rstrip("#") for title in titles], marks, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def bullets(lines: Iterable[str]) -> str:
    """Write a list of lines that are Markdown already."""
    return "\n".join(f"* {line}" for line in lines)


def number(value: int | None, *, about: bool = False) -> str:
    """Write a count for people; ``None`` is one that nobody knows.

    >>> number(1234567), number(665000, about=True), number(None)
    ('1,234,567', 'about 665,000', 'not known')
    """
    return "not known" if value is None else f"{'about ' if about else ''}{value:,}"


def dump_yaml(value: Any) -> bytes:
    """Write plain data as YAML, in the order of its keys.

    Text that some version of YAML reads as something else (``no``, ``010``, ``12:30``) is quoted.

    >>> dump_yaml({"language": ["no", "de"]}).decode()
    'language:\\n- "no"\\n- de\\n'
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # typed as None
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.width = 100
    sink = io.BytesIO()
    yaml.dump(value, sink)
    return sink.getvalue()


_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./*-]*")
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


class _Representer(SafeRepresenter):
    """Quotes all text but plain words; the same data twice is written twice, not as an alias."""

    def represent_str(self, data: str) -> Any:
        plain = _PLAIN.fullmatch(data) and data.lower() not in _WORDS
        return self.represent_scalar("tag:yaml.org,2002:str", data, None if plain else '"')

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - ruamel's signature
        return True


_Representer.add_representer(str, _Representer.represent_str)

#: As ``huggingface_hub`` finds it: the first block between lines of three dashes.
_HEAD = re.compile(r"\A\s*---(?:\r\n|\r|\n)([\S\s]*?)(?:\r\n|\r|\n)---[ \t]*(?:\r\n|\n|\Z)")


def join_card(head: Mapping[str, Any], body: str) -> str:
    """Put a card's YAML head and its Markdown body together."""
    return f"---\n{dump_yaml(dict(head)).decode()}---\n\n{body.strip()}\n"


def split_card(text: str, *, file: str = "README.md") -> tuple[dict[str, Any], str]:
    """Take a card apart: its head as plain data, ``{}`` where it has none, and its body.

    Raises:
        IntegrityError: The head is no YAML mapping, repeats a key, or is too long.
    """
    found = _HEAD.match(text)
    if found is None:
        return {}, text
    if len(found[1]) > MOST_HEAD_CHARS:
        raise IntegrityError(
            f"{file}: its head has {len(found[1]):,} characters; at most {MOST_HEAD_CHARS:,} are "
            "read",
            hint="shorten it by hand",
        )
    try:
        value = YAML(typ="safe", pure=True).load(found[1])
    except (YAMLError, ValueError, RecursionError) as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise IntegrityError(
            f"{file}: its head is not YAML that can be read: {line}", hint="mend it by hand"
        ) from None
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise IntegrityError(
            f"{file}: its head is no mapping of keys to values", hint="mend it by hand"
        )
    return value, text[found.end() :]
