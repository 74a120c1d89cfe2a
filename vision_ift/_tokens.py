"""How many tokens a conversation takes: text by a named tokenizer, pictures by a named rule.

A picture's tokens follow from its width and height alone, as the model's own processor computes
them, so nothing is decoded for it. Counts are those of the contents: what a chat template puts
around a turn is not among them.

===============  =====================================================================
tokenizer        what it is
===============  =====================================================================
chars/4          a quarter of the characters, rounded up: a rule of thumb for English
tiktoken:NAME    an encoding of `tiktoken`, e.g. ``tiktoken:o200k_base``
hf:PATH          a local ``tokenizer.json``, or a folder with a tokenizer's files
===============  =====================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import msgspec

from vision_ift._errors import (
    MissingExtraError,
    MissingInputError,
    ServiceError,
    UnknownNameError,
    UsageError,
)

#: Counts the tokens of each text.
Tokenizer = Callable[[Sequence[str]], list[int]]

#: Tokens of a picture of so many pixels (width, height), marks around it included where the model
#: has them; ``None`` where the model's processor refuses such a picture.
ImageRule = Callable[[int, int], int | None]

TOKENIZERS = ("chars/4", "tiktoken:NAME", "hf:PATH")


def find_tokenizer(name: str) -> Tokenizer:
    """Give a tokenizer by its name (see the module's docstring).

    >>> find_tokenizer("chars/4")(["What is this?", ""])
    [4, 0]

    Raises:
        UnknownNameError: There is no such tokenizer.
        MissingExtraError: Its package is not installed.
        MissingInputError: There is no such file or folder, or no tokenizer in it.
        ServiceError: `tiktoken` has the encoding not yet and cannot fetch it.
    """
    if name == "chars/4":
        return _quarter
    kind, mark, rest = name.partition(":")
    if mark and rest and kind == "tiktoken":
        return _tiktoken(rest)
    if mark and rest and kind == "hf":
        return _hf(Path(rest).expanduser())
    raise UnknownNameError("tokenizer", name, TOKENIZERS)


def _quarter(texts: Sequence[str]) -> list[int]:
    return [-(-len(text) // 4) for text in texts]


def _tiktoken(name: str) -> Tokenizer:
    try:
        import tiktoken
    except ImportError:
        raise MissingExtraError(f"tokenizer tiktoken:{name}", "tokens") from None
    if name not in tiktoken.list_encoding_names():
        raise UnknownNameError("encoding of tiktoken", name, tiktoken.list_encoding_names())
    try:
        encoding = tiktoken.get_encoding(name)
    except (OSError, ImportError) as error:  # what requests raises are OSErrors
        raise ServiceError(
            f"tiktoken cannot fetch the encoding {name}: {type(error).__name__}",
            hint="fetch it once where there is a network, and set TIKTOKEN_CACHE_DIR",
        ) from None

    def count(texts: Sequence[str]) -> list[int]:
        # Text that looks like a special token is text.
        return [len(ids) for ids in encoding.encode_ordinary_batch(list(texts), num_threads=1)]

    return count


def _hf(path: Path) -> Tokenizer:
    file = path / "tokenizer.json" if path.is_dir() else path
    if not path.exists():
        raise MissingInputError(
            f"tokenizer hf:{path}: there is no such file or folder",
            hint="give a local folder with tokenizer.json",
        )
    if not file.exists():
        return _transformers(path)
    try:
        import tokenizers
    except ImportError:
        raise MissingExtraError(f"tokenizer hf:{path}", "tokens") from None
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001 - the package raises bare Exception on a broken file
        raise MissingInputError(f"tokenizer hf:{path}: {file.name} is broken: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(texts: Sequence[str]) -> list[int]:
        return [
            len(encoded.ids)
            for encoded in tokenizer.encode_batch(list(texts), add_special_tokens=False)
        ]

    return count


def _transformers(path: Path) -> Tokenizer:
    """Load a tokenizer that has no ``tokenizer.json`` (a SentencePiece model), from local files."""
    try:
        import transformers
    except ImportError:
        raise MissingExtraError(f"tokenizer hf:{path} (without tokenizer.json)", "tokens") from None
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(path), local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()
        raise MissingInputError(
            f"tokenizer hf:{path}: {reason[0] if reason else type(error).__name__}"
        ) from None

    def count(texts: Sequence[str]) -> list[int]:
        if not texts:
            return []
        return [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]

    return count


def llava_1_5(width: int, height: int, *, image_px: int = 336, patch_px: int = 14) -> int:
    """Every picture is made a square of 336 pixels: 24 by 24 patches.

    Source: Liu et al. 2023, "Improved Baselines with Visual Instruction Tuning" (CLIP ViT-L/14 at
    336 pixels, features of the patches without the class token).

    >>> llava_1_5(640, 480)
    576
    """
    del width, height
    return (image_px // patch_px) ** 2


#: Height and width of LLaVA-NeXT's grids, in tiles of 336 pixels.
_NEXT_GRIDS = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))


def llava_next(width: int, height: int, *, image_px: int = 336, patch_px: int = 14) -> int:
    """AnyRes: the whole picture as one tile, and up to four tiles of it at a finer scale.

    The grid that keeps most of the picture's pixels is taken, then the one that wastes least.
    Patches that are padding are taken out again, and every line of patches ends with one token.

    Source: Liu et al. 2024, "LLaVA-NeXT: Improved reasoning, OCR, and world knowledge"; counted as
    ``LlavaNextProcessor`` of `transformers` does with the strategy ``default``.

    >>> llava_next(672, 672)
    2928
    """
    best = (0, -math.inf, 1, 1)
    for rows, columns in _NEXT_GRIDS:
        grid_height, grid_width = rows * image_px, columns * image_px
        scale = min(grid_width / width, grid_height / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        wasted = grid_height * grid_width - kept
        if (kept, -wasted) > best[:2]:
            best = (kept, -wasted, rows, columns)
    side = image_px // patch_px
    lines, columns = side * best[2], side * best[3]
    if width / height > columns / lines:
        lines -= (lines - int(round(height * (columns / width), 7))) // 2 * 2
    else:
        columns -= (columns - int(round(width * (lines / height), 7))) // 2 * 2
    return side**2 + lines * columns + lines


def qwen2_vl(
    width: int,
    height: int,
    *,
    min_pixels: int = 56 * 56,
    max_pixels: int = 16384 * 28 * 28,
    patch_px: int = 28,
) -> int | None:
    """One token for 28 by 28 pixels of the picture at its own size, and two marks around it.

    Sides are rounded to multiples of 28; a picture outside ``min_pixels`` to ``max_pixels`` is
    scaled into them first. Sides of a ratio above 200 are refused. Qwen2.5-VL counts the same.

    Source: Wang et al. 2024, "Qwen2-VL" (a picture of 224 by 224 takes 66 tokens), and
    ``smart_resize`` in `transformers`; the pixel limits are those of the released models.

    >>> qwen2_vl(224, 224)
    66
    """
    if max(width, height) > 200 * min(width, height):
        return None
    high = round(height / patch_px) * patch_px
    wide = round(width / patch_px) * patch_px
    if high * wide > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        high = max(patch_px, math.floor(height / shrink / patch_px) * patch_px)
        wide = max(patch_px, math.floor(width / shrink / patch_px) * patch_px)
    elif high * wide < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        high = math.ceil(height * grow / patch_px) * patch_px
        wide = math.ceil(width * grow / patch_px) * patch_px
    return (high // patch_px) * (wide // patch_px) + 2


def internvl(
    width: int, height: int, *, max_tiles: int = 12, tile_px: int = 448, tile_tokens: int = 256
) -> int:
    """Tiles of 448 pixels in the grid nearest to the picture's shape, 256 tokens each.

    Where there are several tiles, the whole picture is one more (the thumbnail). Two marks stand
    around a picture. Of two grids equally near, the larger is taken where the picture has more
    than half of its pixels.

    Source: Chen et al. 2024, "How Far Are We to GPT-4V?" (InternVL 1.5), section 3.3, and
    ``dynamic_preprocess`` of the released models.

    >>> internvl(448, 448), internvl(800, 600)
    (258, 3330)
    """
    best, least = (1, 1), math.inf
    for columns, rows in _grids(max_tiles):
        away = abs(width / height - columns / rows)
        larger = width * height > 0.5 * tile_px**2 * columns * rows
        if away < least or (away == least and larger):
            best, least = (columns, rows), away
    tiles = best[0] * best[1]
    return (tiles + (tiles > 1)) * tile_tokens + 2


@cache
def _grids(most: int) -> list[tuple[int, int]]:
    """All grids of at most ``most`` tiles, few tiles first."""
    sizes = range(1, most + 1)
    found = [(columns, rows) for columns in sizes for rows in sizes if columns * rows <= most]
    return sorted(found, key=lambda grid: (grid[0] * grid[1], grid))


#: Name to the rule and the parameters that may be given with it: ``qwen2-vl:max_pixels=1003520``.
IMAGE_RULES: dict[str, tuple[Callable[..., int | None], tuple[str, ...]]] = {
    "llava-1.5": (llava_1_5, ("image_px", "patch_px")),
    "llava-next": (llava_next, ("image_px", "patch_px")),
    "qwen2-vl": (qwen2_vl, ("min_pixels", "max_pixels", "patch_px")),
    "internvl": (internvl, ("max_tiles", "tile_px", "tile_tokens")),
}


def find_image_rule(text: str) -> ImageRule:
    """Give an image-token rule by its name, with parameters after a colon.

    >>> find_image_rule("qwen2-vl:max_pixels=1003520")(4000, 3000)
    1232

    Raises:
        UnknownNameError: There is no such rule or parameter.
        UsageError: A parameter is not a whole number above 0.
    """
    name, _, given = text.partition(":")
    if name not in IMAGE_RULES:
        raise UnknownNameError("image-token rule", name, IMAGE_RULES)
    rule, known = IMAGE_RULES[name]
    parameters = {}
    for one in filter(None, given.split(",")):
        key, _, value = one.partition("=")
        if key not in known:
            raise UnknownNameError(f"parameter of {name}", key, known)
        try:
            parameters[key] = msgspec.convert(value, int, strict=False)
        except msgspec.ValidationError:
            parameters[key] = 0
        if parameters[key] < 1:
            raise UsageError(
                f"image-token rule {name}: {key} is {value!r}", hint="give a whole number above 0"
            )
    return partial(rule, **parameters)
