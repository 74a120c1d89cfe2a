"""Tokens of texts and pictures: golden values, names, and what is not installed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_ift import _tokens
from vision_ift._errors import (
    MissingExtraError,
    MissingInputError,
    UnknownNameError,
    UsageError,
    VisionIFTError,
)
from vision_ift._tokens import find_image_rule, find_tokenizer

# Width, height, tokens. llava-next: as LlavaNextProcessor of transformers 5.23 counts them, with
# the grids of llava-v1.6; internvl: as its image processor tiles, 256 a tile, and two marks;
# qwen2-vl: smart_resize of the same release and two marks (66: the paper's own figure).
GOLDEN = [
    ("llava-1.5", 640, 480, 576),
    ("llava-1.5", 1, 1, 576),
    ("llava-next", 672, 672, 2928),
    ("llava-next", 640, 480, 2340),
    ("llava-next", 480, 640, 2352),
    ("llava-next", 336, 336, 1176),
    ("llava-next", 1000, 300, 2182),
    ("llava-next", 1100, 808, 2340),
    ("qwen2-vl", 224, 224, 66),
    ("qwen2-vl", 640, 480, 393),
    ("qwen2-vl", 1, 1, 6),
    ("qwen2-vl", 14, 2412, 29),
    ("qwen2-vl", 8000, 6000, 16172),
    ("qwen2-vl:max_pixels=1003520", 4000, 3000, 1232),
    ("qwen2-vl:min_pixels=200704,max_pixels=401408", 28, 28, 258),
    ("internvl", 448, 448, 258),
    ("internvl", 800, 600, 3330),
    ("internvl", 600, 800, 3330),
    ("internvl", 1920, 1080, 2306),
    ("internvl", 100, 1000, 2818),
    ("internvl:max_tiles=6", 800, 600, 1794),
]


@pytest.mark.parametrize(("name", "width", "height", "tokens"), GOLDEN)
def test_golden_values(name: str, width: int, height: int, tokens: int) -> None:
    assert find_image_rule(name)(width, height) == tokens


def test_a_shape_that_the_processor_refuses() -> None:
    rule = find_image_rule("qwen2-vl")
    assert rule(201, 1) is None
    assert rule(200, 1) is not None


sides = st.integers(1, 20_000)


@given(sides, sides, st.sampled_from(sorted(_tokens.IMAGE_RULES)))
def test_every_picture_takes_a_bounded_number_of_tokens(width: int, height: int, name: str) -> None:
    tokens = find_image_rule(name)(width, height)
    if tokens is None:
        assert name == "qwen2-vl"
        return
    most = {"llava-1.5": 576, "llava-next": 2928, "qwen2-vl": 16386, "internvl": 13 * 256 + 2}
    assert 0 < tokens <= most[name]


@given(sides, sides)
def test_a_larger_limit_never_takes_fewer_tokens(width: int, height: int) -> None:
    few = find_image_rule("qwen2-vl:max_pixels=401408")(width, height)
    many = find_image_rule("qwen2-vl")(width, height)
    assert few is None or (many is not None and few <= many)


def test_a_quarter_of_the_characters() -> None:
    assert find_tokenizer("chars/4")(["", "a", "abcd", "abcde", "图片图片图"]) == [0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("llava1.5", "did you mean llava-1.5"),
        ("qwen2-vl:max_pixel=5", "did you mean max_pixels"),
        ("", "known:"),
    ],
)
def test_a_wrong_rule_is_named(name: str, hint: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        find_image_rule(name)
    assert hint in caught.value.hint


@pytest.mark.parametrize("value", ["0", "-5", "many", ""])
def test_a_wrong_parameter_is_named(value: str) -> None:
    with pytest.raises(UsageError, match="give a whole number above 0"):
        find_image_rule(f"internvl:max_tiles={value}")


@pytest.mark.parametrize("name", ["gpt4", "tiktoken:", "hf:", "tiktoken", "CHARS/4"])
def test_a_wrong_tokenizer_is_named(name: str) -> None:
    with pytest.raises(UnknownNameError, match="no tokenizer named"):
        find_tokenizer(name)


def test_tiktoken_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)  # as if it were not installed
    with pytest.raises(MissingExtraError, match=r"vision_ift\[tokens\]"):
        find_tokenizer("tiktoken:o200k_base")


def test_an_encoding_that_tiktoken_does_not_have() -> None:
    with pytest.raises(UnknownNameError, match="encoding of tiktoken"):
        find_tokenizer("tiktoken:o200k")


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A tokenizer of whole words, with a mark that it would put around a text by itself."""
    vocabulary = {"[UNK]": 0, "what": 1, "is": 2, "this": 3, "[CLS]": 4}
    (tmp_path / "tokenizer.json").write_text(
        json.dumps(
            {
                "version": "1.0",
                "truncation": {
                    "max_length": 3,
                    "strategy": "LongestFirst",
                    "stride": 0,
                    "direction": "Right",
                },
                "padding": None,
                "added_tokens": [],
                "normalizer": None,
                "pre_tokenizer": {"type": "Whitespace"},
                "post_processor": {
                    "type": "BertProcessing",
                    "sep": ["[CLS]", 4],
                    "cls": ["[CLS]", 4],
                },
                "decoder": None,
                "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
            }
        )
    )
    return tmp_path


def test_a_local_tokenizer_counts_all_of_a_text_and_nothing_else(words: Path) -> None:
    for name in (f"hf:{words}", f"hf:{words / 'tokenizer.json'}"):
        assert find_tokenizer(name)(["what is this what is", "", "x"]) == [5, 0, 1]


def test_local_tokenizers_are_an_extra(words: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"vision_ift\[tokens\]"):
        find_tokenizer(f"hf:{words}")


def test_a_tokenizer_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no such file or folder"):
        find_tokenizer(f"hf:{tmp_path / 'none'}")
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(VisionIFTError, match=r"is broken|not installed"):
        find_tokenizer(f"hf:{tmp_path}")
