"""Processors and models of `transformers` made on the spot: a few tokens, tiny pictures."""

from __future__ import annotations

import importlib
from typing import Any

WORDS = "What is this? A cat. Two birds and now: yes, no. user assistant system"

#: ChatML; Qwen2-VL's way of showing a picture.
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% for p in m.content %}{% if p.type == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ p.text }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

#: LLaVA-1.5's words, in a template that says itself what the assistant's text is.
VICUNA = (
    "{% for m in messages %}{% if m.role == 'user' %}USER: {% for p in m.content %}"
    "{% if p.type == 'image' %}<image>\n{% else %}{{ p.text }}{% endif %}{% endfor %}"
    "{% else %} ASSISTANT: {% generation %}{% for p in m.content %}{{ p.text }}{% endfor %}"
    "</s>{% endgeneration %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT: {% endif %}"
)


def tokenizer_of(*special: str, end: str) -> Any:
    """Make a byte-level BPE tokenizer of a few hundred tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", end, *special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS] * 3, trainer)
    transformers: Any = importlib.import_module("transformers")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token=end
    )


def llava_processor() -> Any:
    """LLaVA's: a picture of 28 by 28 pixels is four patches."""
    transformers: Any = importlib.import_module("transformers")
    side = {"height": 28, "width": 28}
    return transformers.LlavaProcessor(
        image_processor=transformers.CLIPImageProcessorPil(
            size={"shortest_edge": 28}, crop_size=side
        ),
        tokenizer=tokenizer_of("<image>", end="</s>"),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=VICUNA,
    )


def qwen_processor() -> Any:
    """Qwen2-VL's: pictures of 28 to 84 pixels a side, a token for each 28 by 28."""
    transformers: Any = importlib.import_module("transformers")

    class WithoutVideo(transformers.Qwen2VLProcessor):  # type: ignore[misc]  # it is Any
        """Its video processor needs torchvision, and so does the check for one."""

        def check_argument_for_proper_class(self, name: str, value: Any) -> None:
            if value is not None:
                super().check_argument_for_proper_class(name, value)

    special = ("<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
    limits = {"shortest_edge": 28 * 28, "longest_edge": 84 * 84}
    return WithoutVideo(
        image_processor=transformers.Qwen2VLImageProcessorPil(size=limits),
        tokenizer=tokenizer_of(*special, "<|video_pad|>", end="<|im_end|>"),
        video_processor=None,
        chat_template=CHATML,
    )


def idefics_processor() -> Any:
    """Idefics3's: a picture is cut in tiles, with words and line breaks between their tokens."""
    transformers: Any = importlib.import_module("transformers")
    special = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    template = (
        "{% for m in messages %}{{ m.role|capitalize }}: {% for p in m.content %}"
        "{% if p.type == 'image' %}<image>{% else %}{{ p.text }}{% endif %}{% endfor %}"
        "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant: {% endif %}"
    )
    return transformers.Idefics3Processor(
        image_processor=transformers.Idefics3ImageProcessorPil(
            size={"longest_edge": 56}, max_image_size={"longest_edge": 28}
        ),
        tokenizer=tokenizer_of(*special, end="</s>"),
        image_seq_len=3,
        chat_template=template,
    )


def llava_model(processor: Any) -> Any:
    """LLaVA of two layers of eight numbers, for :func:`llava_processor`."""
    import torch

    transformers: Any = importlib.import_module("transformers")
    torch.manual_seed(0)
    size = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2}
    tokenizer = processor.tokenizer
    return transformers.LlavaForConditionalGeneration(
        transformers.LlavaConfig(
            vision_config=transformers.CLIPVisionConfig(
                **size, num_hidden_layers=2, image_size=28, patch_size=14, projection_dim=8
            ),
            text_config=transformers.LlamaConfig(
                **size,
                num_hidden_layers=2,
                num_key_value_heads=2,
                vocab_size=len(tokenizer),
                max_position_embeddings=2048,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
                bos_token_id=None,
            ),
            image_token_id=processor.image_token_id,
            vision_feature_select_strategy="default",
        )
    )
