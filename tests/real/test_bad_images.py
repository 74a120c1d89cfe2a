"""Every odd picture at hand gives the outcome that a full decode by Pillow gives."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from vision_ift._pictures.child import Picture

# What training does with a picture, written without anything of ours: its outcome a line.
BY_PILLOW = """
import json, sys, warnings
from PIL import Image, ImageOps
warnings.simplefilter("ignore")
Image.MAX_IMAGE_PIXELS = None
for name in json.load(sys.stdin):
    try:
        with Image.open(name, formats=("JPEG", "PNG", "WEBP", "GIF")) as image:
            if image.width * image.height > 50_000_000:
                raise ValueError("too many pixels")
            size, mode = image.size, image.mode
            image.load()
            orientation = image.getexif().get(274, 1)
            frames = getattr(image, "n_frames", 1)
            image = ImageOps.exif_transpose(image)
            image.convert("RGB")
            found = [image.width, image.height, *size, mode, orientation, frames]
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def files(real_data: Path) -> list[Path]:
    folder = real_data / "bad_images"
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".tsv")


# Ours, in a process of its own, so that no other test's children count for the memory.
BY_US = """
import json, resource, sys
from pathlib import Path
import msgspec
from vision_ift._pictures.decode import decode_all
found = list(decode_all(json.load(sys.stdin), lambda name: Path(name).read_bytes(), jobs=2))
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
sys.stdout.buffer.write(msgspec.json.encode([found, peak]))
"""


def ended(script: str, files: list[Path]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps([str(path) for path in files]),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.fixture(scope="module")
def decoded(files: list[Path]) -> tuple[list[Picture], int]:
    return msgspec.json.decode(ended(BY_US, files), type=tuple[list[Picture], int])


@pytest.fixture(scope="module")
def answers(decoded: tuple[list[Picture], int]) -> list[Picture]:
    return decoded[0]


def test_every_file_gives_the_outcome_of_a_full_decode(
    files: list[Path], answers: list[Picture]
) -> None:
    wanted = [json.loads(line) for line in ended(BY_PILLOW, files).splitlines()]
    assert len(files) == len(wanted) == len(answers) >= 187
    for path, want, got in zip(files, wanted, answers, strict=True):
        if isinstance(want, str):
            assert got.reason, (path.name, want)
            continue
        assert got.reason == "", (path.name, got)
        width, height, *rest = want
        assert got.shown_size == (width, height), path.name
        stored = [got.width, got.height, got.mode, got.orientation, got.frames]
        assert stored == rest, path.name
    assert sum(not one.reason for one in answers) > 100


def test_what_was_observed_by_hand_holds(files: list[Path], answers: list[Picture]) -> None:
    found = {path.name: one for path, one in zip(files, answers, strict=True)}
    assert found["decompression_bomb.gif"].reason == "too_many_pixels"
    assert found["truncated_jpeg.jpg"].reason == "truncated"
    assert found["broken_data_stream.png"].reason == "bad_image"
    assert found["monkey12.jpg"].reason == "bad_image"  # 12 bits a sample
    assert found["vgl_6434_0018a.bmp"].detail == "the content is BMP"
    assert found["avif__exif.avif"].format == "AVIF"
    assert found["16bit.cropped.jp2"].format == "JPEG2000"
    assert found["pil_sample_cmyk.jpg"].mode == "CMYK"
    assert found["hopper_orientation_5.webp"].orientation == 5
    assert found["xmp_tags_orientation.png"].orientation == 3
    assert found["apng__sequence_start.png"].animated
    assert found["transparent.gif"].has_alpha


def test_no_child_grew_large(decoded: tuple[list[Picture], int]) -> None:
    _, peak_kib = decoded
    assert peak_kib < 400 << 10
