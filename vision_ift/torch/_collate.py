"""From conversations to a batch of tensors, by a processor of `transformers`.

The processor's own chat template writes the text and its own code expands the place of a picture
into tokens; what is added here is which tokens are learned, and checks that stop a row whose
pictures and tokens disagree before a model trains on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from vision_ift._errors import MissingExtraError, RecordError, UsageError
from vision_ift._pictures.pixels import decode_pixels

Row = Mapping[str, Any]

#: The label that a loss leaves out.
IGNORED = -100

#: A template that says itself which of its text is the assistant's.
_MARKED = re.compile(r"\{%-?\s*generation\b")

Span = tuple[int, int]


class Collate:
    """Makes a batch of conversations: token ids, pixels, and labels on the assistant's turns alone.

    A label is a token of an assistant turn; all else (what the template and the user say, tokens
    that stand for pictures, padding) is ``-100``. A template with ``{% generation %}`` says itself
    what the assistant's text is; with any other, a turn's text is found by rendering the
    conversation up to it, and a template that rewrites earlier turns when a later one is added is
    refused.

    Nothing is ever cut: a row that is longer than ``max_length`` is an error, or left out and
    counted.

    Args:
        processor: A processor of `transformers` (>= 5.18) with an image processor and a fast
            tokenizer; its ``chat_template`` is used.
        max_length: The most tokens of a row, pictures' included; ``None``: any number.
        too_long: What happens to a longer row: ``raise``, or ``drop`` (left out of its batch and
            counted in :attr:`dropped`; a batch of which no row is left is an error, so that ranks
            stay in step).
        image_size: Pictures are decoded to this size at most (see ``decode_pixels``); ``None``: as
            they are.
        pad_to_multiple_of: Batches are padded to a multiple of so many tokens.
        columns: Columns of the rows that the batch carries along, as lists (``id``, ``source``).
        template_kwargs: What the chat template wants besides.
        processor_kwargs: What the processor wants besides.

    Raises:
        UsageError: The processor has no chat template or no fast tokenizer, or an argument is
            wrong.
        MissingExtraError: `transformers` is not installed, or too old.
    """

    def __init__(
        self,
        processor: Any,
        *,
        max_length: int | None = None,
        too_long: Literal["raise", "drop"] = "raise",
        image_size: int | tuple[int, int] | None = None,
        pad_to_multiple_of: int | None = None,
        columns: Sequence[str] = (),
        template_kwargs: Mapping[str, Any] | None = None,
        processor_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        if too_long not in ("raise", "drop"):
            raise UsageError(f"too_long is {too_long!r}", hint="say 'raise' or 'drop'")
        template = getattr(processor, "chat_template", None)
        if not isinstance(template, str):
            raise UsageError(
                f"{type(processor).__name__} has no chat template",
                hint="set processor.chat_template to the text of one",
            )
        tokenizer: Any = getattr(processor, "tokenizer", None)
        if not getattr(tokenizer, "is_fast", False):
            raise UsageError(
                "the tokenizer does not say which characters a token stands for",
                hint="load it with use_fast=True",
            )
        self.processor = processor
        self.max_length = max_length
        self.too_long = too_long
        self.image_size = image_size
        self.pad_to_multiple_of = pad_to_multiple_of
        self.columns = tuple(columns)
        self.template_kwargs = dict(template_kwargs or {})
        self.processor_kwargs = dict(processor_kwargs or {})
        #: Rows left out by ``too_long="drop"``, in this process.
        self.dropped = 0
        self._marked = bool(_MARKED.search(template))
        self._pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        # A template that writes the first token itself is not given another one.
        self._bos = tokenizer.bos_token

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Make one batch.

        Returns:
            What the processor gives (``input_ids``, ``attention_mask``, ``pixel_values``, …) with
            ``labels``; rows are padded on the right.

        Raises:
            RecordError: A row's pictures, parts and tokens disagree (reason ``image_count``), it
                is too long (``too_long``), nothing of it is learned (``no_answer``), the processor
                refuses it (``image_refused``), or a picture cannot be decoded. It names the row's
                id.
            UsageError: The chat template is not stable when turns are added, or the processor does
                not say where it put the pictures' tokens.
        """
        rows = list(rows)
        while True:
            batch, lengths = self._encode(rows)
            long = self._long(rows, lengths)
            if not long:
                break
            self.dropped += len(long)
            rows = [row for place, row in enumerate(rows) if place not in long]
        for column in self.columns:
            batch[column] = [row[column] for row in rows]
        return batch

    def encode(self, row: Row) -> dict[str, Any]:
        """Encode one row by itself, whatever its length and without padding; see ``__call__``."""
        batch, _ = self._encode([row], pad_to_multiple_of=None)
        return batch

    def _long(self, rows: list[Row], lengths: list[int]) -> set[int]:
        if self.max_length is None:
            return set()
        long = {place for place, length in enumerate(lengths) if length > self.max_length}
        if long and (self.too_long == "raise" or len(long) == len(rows)):
            place = min(long)
            raise RecordError(
                f"{lengths[place]:,} tokens, at most {self.max_length:,} are taken"
                + (" and no row of the batch is left" if self.too_long == "drop" else ""),
                reason="too_long",
                record=_name(rows[place]),
                hint="leave such rows out of the mix, or allow more tokens; nothing is cut",
            )
        return long

    def _encode(
        self, rows: list[Row], *, pad_to_multiple_of: int | None = -1
    ) -> tuple[dict[str, Any], list[int]]:
        """Run the processor over rows; give the batch, and the tokens of every row."""
        if not rows:
            raise UsageError("a batch of no rows")
        if pad_to_multiple_of == -1:
            pad_to_multiple_of = self.pad_to_multiple_of
        pictures = [self._pictures(row) for row in rows]
        messages = [_messages(row, len(shown)) for row, shown in zip(rows, pictures, strict=True)]
        texts = [self._render(one) for one in messages]
        for row, text, shown in zip(rows, texts, pictures, strict=True):
            self._check_places(row, text, len(shown))
        spans = self._spans(rows, messages, texts)
        starts_itself = self._bos is not None and texts[0].startswith(self._bos)
        out = self._process(
            rows,
            texts,
            pictures if any(pictures) else None,
            padding=True,
            padding_side="right",
            pad_to_multiple_of=pad_to_multiple_of,
            **({"add_special_tokens": False} if starts_itself else {}),
        )
        offsets = out.pop("offset_mapping").tolist()
        replaced = out.pop("text_replacement_offsets", None)
        if replaced is None and any(pictures):
            raise UsageError(
                f"{type(self.processor).__name__} does not say where it put the pictures' tokens",
                hint="a processor has to use the __call__ that transformers >= 5.18 shares among "
                "most of them (LLaVA, Qwen2-VL, Idefics3, Gemma 3 …)",
            )
        replaced = replaced or [[] for _ in rows]
        batch = out
        labels = torch.full_like(batch["input_ids"], IGNORED)
        for place, row in enumerate(rows):
            if len(replaced[place]) != len(pictures[place]):
                raise _mismatch(row, len(pictures[place]), len(replaced[place]), "expanded places")
            learned = _learned(offsets[place], spans[place], replaced[place])
            if not learned:
                raise RecordError(
                    "no token of an assistant's turn is left to learn",
                    reason="no_answer",
                    record=_name(row),
                )
            labels[place, learned] = batch["input_ids"][place, learned]
        image_id = getattr(self.processor, "image_token_id", None)
        if image_id is not None:
            labels[batch["input_ids"] == image_id] = IGNORED
        batch["labels"] = labels
        return batch, batch["attention_mask"].sum(dim=1).tolist()

    def _process(
        self, rows: list[Row], texts: list[str], pictures: Any, **settings: Any
    ) -> dict[str, Any]:
        try:
            out = self.processor(
                text=list(texts),
                images=pictures,
                return_tensors="pt",
                return_offsets_mapping=True,
                return_text_replacement_offsets=True,
                **settings,
                **self.processor_kwargs,
            )
        except TypeError as error:
            if "return_text_replacement_offsets" in str(error):
                raise MissingExtraError("Collate (transformers >= 5.18)", "torch") from None
            raise
        except ValueError as error:
            for row in rows if len(rows) > 1 else ():
                self._encode([row])  # the row that is to blame raises by itself
            raise RecordError(
                f"{type(self.processor).__name__} refuses it: {error}",
                reason="image_refused",
                record=_name(rows[0]),
            ) from None
        return dict(out)

    def _render(self, messages: list[dict[str, Any]], *, prompt: bool = False) -> str:
        text: str = self.processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=prompt, **self.template_kwargs
        )
        return text

    def _check_places(self, row: Row, text: str, pictures: int) -> None:
        mark = getattr(self.processor, "image_token", None)
        if mark is None:
            return
        found = text.count(mark)
        if found != pictures:
            words = any(
                mark in (part.get("text") or "")
                for message in row["messages"]
                for part in message["content"]
            )
            raise _mismatch(
                row,
                pictures,
                found,
                f"times {mark} in the rendered text",
                hint=f"the row's own words hold {mark}, which this tokenizer takes for a picture"
                if words
                else "the chat template must write one for every image part",
            )

    def _spans(
        self, rows: list[Row], messages: list[list[dict[str, Any]]], texts: list[str]
    ) -> list[list[Span]]:
        """Say which characters of the rendered texts are the assistant's."""
        return [
            self._marked_spans(one, text) if self._marked else self._grown_spans(row, one, text)
            for row, one, text in zip(rows, messages, texts, strict=True)
        ]

    def _marked_spans(self, messages: list[dict[str, Any]], text: str) -> list[Span]:
        """Take the spans that the template marks itself."""
        from transformers.utils.chat_template_utils import render_jinja_template

        settings = {**self.processor.tokenizer.special_tokens_map, **self.template_kwargs}
        found: Any = render_jinja_template(
            conversations=[messages],
            chat_template=self.processor.chat_template,
            return_assistant_tokens_mask=True,
            **settings,
        )
        if found[0][0] != text:
            raise UsageError(
                "the chat template does not render the same text twice",
                hint="a template must not ask for the time or for a random number",
            )
        return [(int(span[0]), int(span[1])) for span in found[1][0]]

    def _grown_spans(self, row: Row, messages: list[dict[str, Any]], text: str) -> list[Span]:
        """Find each assistant turn as what the text grows by when the turn is added."""
        spans = []
        for turn, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self._render(messages[:turn], prompt=True)
            after = self._render(messages[: turn + 1])
            if not after.startswith(before) or not text.startswith(after):
                raise UsageError(
                    f"row {_name(row)}, turn {turn}: the chat template writes earlier turns "
                    "otherwise once this one is added, so its text cannot be told from theirs",
                    hint="mark the assistant's text in the template with {% generation %}",
                )
            spans.append((len(before), len(after)))
        return spans

    def _pictures(self, row: Row) -> list[Any]:
        try:
            return [self._picture(value) for value in row["images"] or ()]
        except RecordError as error:
            raise RecordError(error.detail, reason=error.reason, record=_name(row)) from None

    def _picture(self, value: Any) -> Any:
        """Give one picture as Pillow's image, which says itself what its axes are."""
        from PIL import Image

        if isinstance(value, Mapping):
            value = value.get("bytes")
        if isinstance(value, bytes | bytearray | memoryview):
            return Image.fromarray(decode_pixels(value, size=self.image_size))
        if hasattr(value, "__array_interface__") and not isinstance(value, Image.Image):
            return Image.fromarray(value)
        if isinstance(value, Image.Image):
            return value.convert("RGB")
        raise RecordError(
            f"a picture is given as {type(value).__name__}, not as bytes or pixels",
            reason="bad_image",
        )


def _messages(row: Row, pictures: int) -> list[dict[str, Any]]:
    """Write a row's turns as chat templates want them, and check its image parts."""
    found = 0
    messages = []
    for message in row["messages"]:
        parts: list[dict[str, str]] = []
        for part in message["content"]:
            if part["type"] == "image":
                found += 1
                parts.append({"type": "image"})
            else:
                parts.append({"type": "text", "text": part["text"]})
        messages.append({"role": message["role"], "content": parts})
    if found != pictures:
        raise _mismatch(row, pictures, found, "image parts")
    return messages


def _mismatch(row: Row, pictures: int, found: int, what: str, *, hint: str = "") -> RecordError:
    return RecordError(
        f"{pictures} pictures, but {found} {what}",
        reason="image_count",
        record=_name(row),
        hint=hint,
    )


def _name(row: Row) -> str:
    return str(row.get("id", "without an id"))


def _learned(offsets: Any, spans: list[Span], replaced: Sequence[Mapping[str, Any]]) -> list[int]:
    """Give the places of the tokens to learn: in a span, and in no picture's place.

    ``spans`` are characters of the text before the pictures' places were expanded.
    """
    moved = []
    for start, stop in spans:
        before = [one for one in replaced if one["span"][1] <= start]
        inside = [one for one in replaced if start <= one["span"][0] and one["span"][1] <= stop]
        begin = start + _gained(before)
        moved.append((begin, stop + begin - start + _gained(inside)))
    hidden = [tuple(one["new_span"]) for one in replaced]
    # Tokens of no width are padding and what the tokenizer adds.
    return [
        place
        for place, (start, stop) in enumerate(offsets)
        if start < stop
        and any(start < last and stop > first for first, last in moved)
        and not any(start < last and stop > first for first, last in hidden)
    ]


def _gained(replaced: Sequence[Mapping[str, Any]]) -> int:
    return sum(
        (one["new_span"][1] - one["new_span"][0]) - (one["span"][1] - one["span"][0])
        for one in replaced
    )
