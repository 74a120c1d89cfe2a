"""The recipe language as JSON Schema, so that editors complete keys and mark mistakes.

``python -m vision_ift._recipe.schema`` prints it; ``recipes/recipe.schema.json`` is that, and a
test holds the two equal. What depends on several keys together (kinds that mix, names that stand
twice, conditions) only the reader itself finds.

Source: JSON Schema 2020-12, https://json-schema.org/draft/2020-12.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from vision_ift import _registry
from vision_ift._recipe.mix import AMOUNTS, MOST_TEMPERATURE
from vision_ift._tokens import IMAGE_RULES

FILE = "recipe.schema.json"

_FIGURES = r"[0-9]+(\.[0-9]+)?"
_SHARE_TEXT = {"type": "string", "pattern": rf"^({_FIGURES}%|[0-9]+/[0-9]+)$"}
_COUNT_TEXT = {"type": "string", "pattern": rf"^{_FIGURES}[kMB]$"}
_NUMBER_TEXT = {"type": "string", "pattern": rf"^({_FIGURES}[%kMB]|[0-9]+/[0-9]+)$"}


def _text(says: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "description": says, **more}


def _count(says: str, low: int = 1) -> dict[str, Any]:
    return {"anyOf": [{"type": "integer", "minimum": low}, _COUNT_TEXT], "description": says}


def _number(says: str, **bounds: Any) -> dict[str, Any]:
    return {"anyOf": [{"type": "number", **bounds}, _NUMBER_TEXT], "description": says}


def _of_stage() -> dict[str, Any]:
    return {
        "epochs": _number("Times the selections' rows together.", exclusiveMinimum=0),
        "total": _count("Conversations, for shares (weights, or sizes)."),
        "tokens": _count("Tokens, for shares; a tokenizer counts them."),
        "temperature": _number(
            "Shares in proportion to min(rows, cap) ** (1 / temperature).",
            minimum=0.1,
            maximum=MOST_TEMPERATURE,
        ),
        "cap": _count("Rows of a part that count for its share."),
    }


def _entry() -> dict[str, Any]:
    amounts = {
        "weight": _number("A share.", minimum=0),
        "repeat": _number("Times through the selection.", minimum=0),
        "count": _count("Conversations, exactly.", low=0),
    }
    assert tuple(amounts) == AMOUNTS
    option = {"type": ["string", "integer", "boolean"]}
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "source": {
                "anyOf": [{"enum": _registry.names()}, {"type": "string"}],
                "description": "The source; other packages may bring more of them.",
            },
            "name": _text("What the part is called; by default the source (and file)."),
            "path": _text("A file, a folder or a dataset of the Hub, for sources that read any."),
            "options": {
                "type": "object",
                "additionalProperties": option,
                "description": "The source's own options.",
            },
            **amounts,
            "where": _text("SQL over one row.", maxLength=10_000),
            "subset": {
                "anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": 1}, _SHARE_TEXT],
                "description": "The share of the rows that is kept; 1% lies inside 10%.",
            },
            "cap_per_task": _count("At most so many rows of each task."),
        },
    }


def _names(says: str) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": {"type": "string"}, "description": says}


def schema() -> dict[str, Any]:
    """Describe the recipe language; the sources are those that are installed."""
    mix = {
        "type": "array",
        "minItems": 1,
        "items": _entry(),
        "description": "The parts, with one kind of amount.",
    }
    drop = _names("Entries (or stages) of the base to leave out.")
    stage = {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {
            "name": _text("What the stage is called."),
            **_of_stage(),
            "mix": mix,
            "drop": drop,
        },
    }
    rules = "|".join(name.replace(".", r"\.") for name in IMAGE_RULES)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A recipe of vision_ift",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "name": _text("What the recipe is called; by default its file."),
            "description": _text("A line for people."),
            "seed": _count("Keys every order and every choice of rows.", low=0),
            "extends": _text("A shipped recipe, or the path of one, of which this is a change."),
            "mix": mix,
            "stages": {
                "type": "array",
                "minItems": 1,
                "items": stage,
                "description": "Mixes that are delivered one after the other.",
            },
            "drop": drop,
            **_of_stage(),
            "tokenizer": _text(
                "What counts the tokens of texts.", pattern="^(chars/4|tiktoken:.+|hf:.+)$"
            ),
            "image_tokens": _text(
                "What counts the tokens of pictures.", pattern=f"^({rules})(:.+)?$"
            ),
            "max_repeats": _number("Repeats that are worth a warning.", exclusiveMinimum=0),
            "duplicates": {
                "type": "object",
                "additionalProperties": False,
                "required": ["by"],
                "properties": {
                    "by": _text("What makes two rows the same.", enum=["text", "picture", "both"]),
                    "near": {"type": "boolean", "description": "Nearly the same counts too."},
                    "keep": _count("How many of the same are kept."),
                },
                "description": "What is left out because it stands in the mix already.",
            },
            "exclude": _names('Files of ids to leave out, one {"id": …} a line.'),
        },
    }


def as_text() -> str:
    """Give the file's text: the sources are those that come with the package."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(as_text())
