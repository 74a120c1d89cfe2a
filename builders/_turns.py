"""Turns as the world writes them: one record's columns to messages.

==========================  ====================================================================
column                      what it holds
==========================  ====================================================================
``messages``                turns of ``role`` and ``content`` (TRL, LLaMA-Factory, ms-swift)
``conversations``           turns of ``from`` and ``value`` (LLaVA, ShareGPT)
``conversation``            rounds of ``human`` and ``assistant`` (ms-swift)
``texts``                   rounds of ``user`` and ``assistant`` (FineVision)
``prompt``, ``completion``  a text or turns, each (TRL)
``query``, ``response``     texts, with earlier rounds in ``history`` (ms-swift)
==========================  ====================================================================

Which of the turns' shapes a list has is seen from its keys, whatever the column is called. A text
in ``system`` is the first turn, unless the turns begin with one.

Where pictures stand: at the parts ``{"type": "image"}``; where there are none, at the tags
``<image>`` of the texts; where there are none either and every content is a text, before the first
user text, as TRL's ``prepare_multimodal_messages`` puts them. A record without pictures keeps its
tags as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from vision_ift import Conversation, Message, Part, RecordError
from vision_ift._conversation import encode_meta

from ._llava_records import TAG
from ._llava_rows import ROLES, parts_of

#: Columns of turns, the first that a record has is read.
COLUMNS = ("messages", "conversations", "conversation", "texts")

_IMAGE = Part("image")
_IMAGES = ("image", "image_url")
_PICTURE_KEYS = ("image", "path", "url", "image_url", "value")
#: Keys of role and words, and of the two sides of a round.
_TURNS = (("role", "content"), ("from", "value"))
_ROUNDS = (("user", "assistant"), ("human", "assistant"))

_Turn = tuple[str, Any, dict[str, Any]]


class Said(NamedTuple):
    """What a record says.

    Attributes:
        messages: Its turns.
        inline: The pictures that stand in parts, as they stand there.
        shows: Which entry of the record's pictures each image part shows, where all parts say so.
        keys: The record's keys that were read.
        extras: Keys of turns that are not of the layout: the turn's number to them; those of its
            parts below ``parts``, by the part's number.
    """

    messages: tuple[Message, ...]
    inline: list[Any]
    shows: list[int] | None
    keys: set[str]
    extras: dict[str, Any]


def said(record: Mapping[str, Any], *, pictures: int, column: str = "") -> Said:
    """Read a record's turns.

    Args:
        record: Plain data.
        pictures: How many pictures the record has beside its turns.
        column: The column of the turns; by default the first of the table above.

    Raises:
        RecordError: There are none, or they are not of any of these layouts.
    """
    turns, keys = _turns(record, column)
    system = record.get("system")
    if isinstance(system, str):
        keys.add("system")
        if system and not (turns and turns[0][0] == "system"):
            turns.insert(0, ("system", system, {}))
    contents = [content for _, content, _ in turns]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    shown = any(isinstance(part, dict) and part.get("type") in _IMAGES for part in parts)
    texts = [content for content in contents if isinstance(content, str)]
    tagged = pictures > 0 and not shown and any(TAG in text for text in texts)
    ahead = pictures if not tagged and len(texts) == len(contents) else 0
    inline: list[Any] = []
    shows: list[Any] = []
    extras: dict[str, Any] = {}
    messages = []
    for number, (speaker, content, more) in enumerate(turns):
        role = ROLES.get(speaker)
        if role is None:
            raise RecordError(f"turn {number} has the role {speaker!r}", reason="roles")
        if isinstance(content, str):
            made = parts_of(content) if tagged else (Part("text", content),)
            if ahead and role == "user":
                made, ahead = (_IMAGE,) * ahead + made, 0
        elif isinstance(content, list):
            made = tuple(_part(part, number, inline, shows) for part in content)
            more = _with_rest(more, content)
        else:
            raise RecordError(
                f"the content of turn {number} is neither text nor parts", reason="bad_record"
            )
        messages.append(Message(role, made))
        if more:
            extras[str(number)] = more
    order = shows if shows and all(type(one) is int for one in shows) else None
    return Said(tuple(messages), inline, order, keys, extras)


def check_rest(made: Conversation) -> Conversation:
    """Refuse what Arrow or JSON cannot hold in the columns that no rule of the row looks at.

    Raises:
        RecordError: A lone surrogate, or a value that JSON has no word for.
    """
    try:
        encode_meta({"": [made.language, made.license], **made.meta})
    except UnicodeEncodeError:
        raise RecordError("a lone surrogate in a key or value", reason="bad_text") from None
    except (OverflowError, TypeError, ValueError, RecursionError) as error:
        raise RecordError(f"it cannot be kept in meta: {error}", reason="bad_record") from None
    return made


def _turns(record: Mapping[str, Any], column: str) -> tuple[list[_Turn], set[str]]:
    """Give the turns as (speaker, content, other keys), and the keys of the record they are."""
    if not column:
        column = next((name for name in COLUMNS if record.get(name) is not None), "")
    if column:
        value = record.get(column)
        if not isinstance(value, list):
            raise RecordError(f"column {column!r} holds no list of turns", reason="bad_record")
        return _listed(value, column), {column}
    if record.get("prompt") is not None and record.get("completion") is not None:
        return [
            turn
            for name, speaker in (("prompt", "user"), ("completion", "assistant"))
            for turn in (
                [(speaker, record[name], {})]
                if isinstance(record[name], str)
                else _listed(record[name], name)
            )
        ], {"prompt", "completion"}
    if record.get("query") is not None and record.get("response") is not None:
        rounds = [*(record.get("history") or ()), (record["query"], record["response"])]
        if not all(isinstance(one, list | tuple) and len(one) == 2 for one in rounds):
            raise RecordError("history is no list of questions and answers", reason="bad_record")
        speakers = ("user", "assistant")
        return [
            (speaker, text, {})
            for one in rounds
            for speaker, text in zip(speakers, one, strict=True)
        ], {"query", "response", "history"}
    raise RecordError(
        f"no column of turns among {', '.join(sorted(map(str, record))) or 'none'}; known: "
        f"{', '.join(COLUMNS)}, prompt and completion, query and response",
        reason="bad_record",
        hint="name it with the option messages_column",
    )


def _listed(values: Any, column: str) -> list[_Turn]:
    turns: list[_Turn] = []
    for number, value in enumerate(values if isinstance(values, list) else [values]):
        if not isinstance(value, dict):
            raise RecordError(f"entry {number} of {column!r} is no object", reason="bad_record")
        for speaker, words in _TURNS:
            if isinstance(value.get(speaker), str) and words in value:
                known = (speaker, words)
                turns.append((value[speaker], value[words], _others(value, known)))
                break
        else:
            for user, assistant in _ROUNDS:
                if user in value and assistant in value:
                    more = _others(value, (user, assistant))
                    turns += [("user", value[user], {}), ("assistant", value[assistant], more)]
                    break
            else:
                raise RecordError(
                    f"entry {number} of {column!r} has the keys "
                    f"{', '.join(sorted(map(str, value))) or 'none'}; wanted role and content, "
                    "from and value, or user and assistant",
                    reason="bad_record",
                )
    return turns


def _others(value: dict[str, Any], known: tuple[str, str]) -> dict[str, Any]:
    return {key: one for key, one in value.items() if key not in known and one is not None}


def _with_rest(more: dict[str, Any], parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Add what parts have beside what was read of them: under ``parts``, by a part's number."""
    rest = {}
    for number, part in enumerate(parts):
        keys = ("text", "value") if part["type"] == "text" else _PICTURE_KEYS
        shown = next((key for key in keys if part.get(key) is not None), "")
        read = {"type", shown} if part["type"] == "text" else {"type", "index", shown}
        if found := {key: one for key, one in part.items() if key not in read and one is not None}:
            rest[str(number)] = found
    if not rest:
        return more
    return {**more, "parts": {**rest, "": more["parts"]} if "parts" in more else rest}


def _part(part: Any, turn: int, inline: list[Any], shows: list[Any]) -> Part:
    """Read a part; a picture that stands in it is added to ``inline``."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        text = part.get("text", part.get("value"))
        if isinstance(text, str):
            return Part("text", text)
        raise RecordError(f"a text part of turn {turn} has no text", reason="bad_record")
    if kind not in _IMAGES:
        raise RecordError(f"turn {turn} has a part of type {kind!r}", reason="bad_record")
    shows.append(part.get("index"))
    for key in _PICTURE_KEYS:
        if part.get(key) is not None:
            inline.append(part[key])
            break
    return _IMAGE
