"""Labels are the assistant's words alone; what disagrees is one error that names the row."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from tests.needs import needs
from tests.torch.processors import (
    CHATML,
    idefics_processor,
    llava_model,
    llava_processor,
    qwen_processor,
)
from vision_ift._errors import RecordError, UsageError

pytestmark = needs("torch", "transformers", "tokenizers")

MAKERS = pytest.mark.parametrize("make", [llava_processor, qwen_processor, idefics_processor])


def picture(width: int, height: int, colour: str = "red", *, orientation: int = 1) -> bytes:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (width, height), colour).save(file, "JPEG", exif=exif)
    return file.getvalue()


def row(
    name: str, *turns: str, images: tuple[Any, ...] = (), at: int = 0, parts: int | None = None
) -> dict[str, Any]:
    """A dialog of turns, with its pictures before the words of turn ``at``."""
    messages = []
    for turn, text in enumerate(turns):
        shown = (len(images) if parts is None else parts) if turn == at else 0
        messages.append(
            {
                "role": "assistant" if turn % 2 else "user",
                "content": [{"type": "image", "text": None}] * shown
                + [{"type": "text", "text": text}],
            }
        )
    return {"id": name, "images": list(images), "messages": messages, "source": "t"}


ROWS = [
    row("two", "What is this?", "A cat.", "And now?", "Two birds.", images=(picture(40, 40),)),
    row("none", "yes?", "no."),
    row("wide", "What?", "yes", images=(picture(60, 30), {"bytes": picture(28, 84), "path": "x"})),
    row("later", "hello", "yes", "and this?", "A bird.", images=(picture(30, 30),), at=2),
]


def learned(processor: Any, batch: dict[str, Any]) -> list[str]:
    return [
        processor.tokenizer.decode(labels[labels != -100]).strip() for labels in batch["labels"]
    ]


@MAKERS
def test_labels_are_the_assistants_turns(make: Any) -> None:
    from vision_ift.torch import Collate

    processor = make()
    end = "<end_of_utterance>" if make is idefics_processor else processor.tokenizer.eos_token
    batch = Collate(processor, columns=("id", "source"))(ROWS)
    words = [one.replace("\n", " ").replace("  ", " ") for one in learned(processor, batch)]
    assert words == [
        f"A cat.{end} Two birds.{end}",
        f"no.{end}",
        f"yes{end}",
        f"yes{end} A bird.{end}",
    ]
    assert batch["id"] == ["two", "none", "wide", "later"]
    kept = batch["labels"] != -100
    assert (batch["labels"][kept] == batch["input_ids"][kept]).all()
    assert not (kept & (batch["input_ids"] == processor.image_token_id)).any()
    assert not (kept & (batch["attention_mask"] == 0)).any()
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape


@MAKERS
def test_a_row_is_encoded_alike_alone_and_in_a_batch(make: Any) -> None:
    from vision_ift.torch import Collate

    collate = Collate(make())
    batch = collate(ROWS)
    for place, one in enumerate(ROWS):
        alone = collate.encode(one)
        length = alone["input_ids"].shape[1]
        for key in ("input_ids", "labels"):
            assert batch[key][place, :length].tolist() == alone[key][0].tolist()
        assert batch["attention_mask"][place].sum() == length


def test_a_model_trains_on_the_batch() -> None:
    import torch

    from vision_ift.torch import Collate

    processor = llava_processor()
    model = llava_model(processor)
    loss = model(**Collate(processor, pad_to_multiple_of=8)(ROWS)).loss
    assert torch.isfinite(loss)
    loss.backward()


@MAKERS
def test_a_generation_mark_and_grown_text_find_the_same_words(make: Any) -> None:
    """The same template with and without ``{% generation %}``: the way labels are found differs."""
    from vision_ift.torch import Collate

    processor = make()
    marked = (
        "{% for m in messages %}{{ '<' + m.role + '>' }}{% if m.role == 'assistant' %}"
        "{% generation %}{% for p in m.content %}{{ p.text }}{% endfor %}{{ eos_token }}"
        "{% endgeneration %}{% else %}{% for p in m.content %}{% if p.type == 'image' %}IMAGE"
        "{% else %}{{ p.text }}{% endif %}{% endfor %}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
    ).replace("IMAGE", processor.image_token)
    plain = marked.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    batches = []
    for template in (marked, plain):
        processor.chat_template = template
        batches.append(Collate(processor)(ROWS))
    assert batches[0]["labels"].tolist() == batches[1]["labels"].tolist()
    assert (batches[0]["labels"] != -100).any(dim=1).all()


def test_a_template_that_rewrites_earlier_turns_is_refused() -> None:
    from vision_ift.torch import Collate

    processor = qwen_processor()
    # As templates do that drop the reasoning of all answers but the last.
    processor.chat_template = CHATML.replace(
        "{{ p.text }}",
        "{% if m.role != 'user' and m == messages[-1] %}think {% endif %}{{ p.text }}",
    )
    with pytest.raises(UsageError, match=r"row two, turn 1.*generation"):
        Collate(processor)(ROWS[:1])
    assert Collate(processor)([ROWS[1]])["labels"].shape[0] == 1  # one answer is never rewritten


@MAKERS
@pytest.mark.parametrize("pictures, parts", [(1, 0), (0, 1), (1, 2), (2, 1)])
def test_pictures_and_parts_that_disagree_name_the_row(
    make: Any, pictures: int, parts: int
) -> None:
    from vision_ift.torch import Collate

    bad = row("llava/bad", "What?", "yes", images=(picture(9, 9),) * pictures, parts=parts)
    with pytest.raises(RecordError, match=f"llava/bad.*{pictures} pictures, but {parts}") as caught:
        Collate(make())([ROWS[0], bad])
    assert caught.value.reason == "image_count"
    assert caught.value.record == "llava/bad"


@MAKERS
def test_words_that_look_like_a_picture_name_the_row(make: Any) -> None:
    from vision_ift.torch import Collate

    processor = make()
    bad = row("bad", f"What is {processor.image_token}?", "yes", images=(picture(9, 9),))
    with pytest.raises(RecordError, match=r"bad.*own words hold"):
        Collate(processor)([bad])


def test_a_template_without_pictures_names_the_row() -> None:
    from vision_ift.torch import Collate

    processor = qwen_processor()
    processor.chat_template = CHATML.replace("<|image_pad|>", "")
    with pytest.raises(RecordError, match=r"two.*every image part"):
        Collate(processor)(ROWS[:1])


@MAKERS
def test_nothing_is_cut(make: Any) -> None:
    from vision_ift.torch import Collate

    processor = make()
    lengths = [Collate(processor).encode(one)["input_ids"].shape[1] for one in ROWS]
    most = sorted(lengths)[-2]
    with pytest.raises(RecordError, match="nothing is cut") as caught:
        Collate(processor, max_length=most)(ROWS)
    assert caught.value.reason == "too_long"
    collate = Collate(processor, max_length=most, too_long="drop", columns=("id",))
    batch = collate(ROWS)
    fitting = [one["id"] for one, length in zip(ROWS, lengths, strict=True) if length <= most]
    assert batch["id"] == fitting
    assert collate.dropped == len(ROWS) - len(fitting)
    assert batch["input_ids"].shape == (len(fitting), most)
    with pytest.raises(RecordError, match="no row of the batch is left"):
        Collate(processor, max_length=3, too_long="drop")(ROWS)


def test_pictures_are_turned_upright_and_may_come_as_arrays() -> None:
    import numpy as np
    import torch

    from vision_ift._pictures.pixels import decode_pixels
    from vision_ift.torch import Collate

    data = picture(84, 28, orientation=6)
    collate = Collate(qwen_processor())
    as_bytes = collate.encode(row("a", "What?", "yes", images=(data,)))
    assert as_bytes["image_grid_thw"].tolist() == [[1, 6, 2]]
    for other in (decode_pixels(data), Image.fromarray(decode_pixels(data))):
        found = collate.encode(row("a", "What?", "yes", images=(other,)))
        assert torch.equal(found["pixel_values"], as_bytes["pixel_values"])
    small = Collate(qwen_processor(), image_size=56).encode(row("a", "?", "yes", images=(data,)))
    assert small["image_grid_thw"].tolist() == [[1, 4, 2]]
    thin = np.zeros((3, 60, 3), np.uint8)  # three rows high: which axis holds the colours?
    found = Collate(llava_processor()).encode(row("a", "What?", "yes", images=(thin,)))
    assert found["pixel_values"].shape == (1, 3, 28, 28)


def test_a_broken_picture_names_the_row() -> None:
    from vision_ift.torch import Collate

    bad = row("bad", "What?", "yes", images=(picture(40, 40)[:200],))
    with pytest.raises(RecordError, match="bad") as caught:
        Collate(llava_processor())([bad])
    assert caught.value.reason == "truncated"
    with pytest.raises(RecordError, match="given as str"):
        Collate(llava_processor())([row("bad", "What?", "yes", images=("a.jpg",))])


def test_a_picture_that_the_processor_refuses_names_the_row() -> None:
    from vision_ift.torch import Collate

    bad = row("bad", "What?", "yes", images=(picture(900, 3),))
    with pytest.raises(RecordError, match=r"bad.*aspect ratio") as caught:
        Collate(qwen_processor())([*ROWS, bad])
    assert caught.value.reason == "image_refused"


def test_processors_that_cannot_serve_are_refused() -> None:
    from vision_ift.torch import Collate

    processor = llava_processor()
    processor.chat_template = None
    with pytest.raises(UsageError, match="chat template"):
        Collate(processor)
    with pytest.raises(UsageError, match="too_long"):
        Collate(qwen_processor(), too_long="cut")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(UsageError, match="no rows"):
        Collate(qwen_processor())([])
