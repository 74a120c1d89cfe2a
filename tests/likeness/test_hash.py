"""The picture hash: close to ImageHash's, stable under re-encoding, the same for the same bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests.likeness.drawn import encoded, photo
from tests.needs import needs
from vision_ift._likeness.hash import look
from vision_ift._pictures.child import Limits

PHOTOS = 30


def hash_of(data: bytes) -> int:
    found = look(data, Limits())
    assert not found.reason, found
    return int(found.detail, 16)


def apart(one: int, other: int) -> int:
    return (one ^ other).bit_count()


@needs("imagehash")
def test_it_is_close_to_imagehash() -> None:
    import imagehash

    distances = []
    for seed in range(PHOTOS):
        data = encoded(photo(seed, width=640, height=480), quality=90)
        theirs = int(str(imagehash.phash(Image.open(io.BytesIO(data)))), 16)
        distances.append(apart(hash_of(data), theirs))
    # 0.4 in the mean and 6 at most on 250 photographs; another picture is 32 away.
    assert np.mean(distances) <= 1.5
    assert max(distances) <= 8


def changed(image: Image.Image, what: str) -> bytes:
    width, height = image.size
    if what == "quality":
        return encoded(image, quality=50)
    if what == "half":
        return encoded(image.resize((width // 2, height // 2)), quality=90)
    if what == "square":
        return encoded(image.resize((336, 336)), quality=90)
    if what in ("PNG", "WEBP"):
        return encoded(image, what)
    edge = int(what.removeprefix("crop"))
    x, y = width * edge // 100, height * edge // 100
    return encoded(image.crop((x, y, width - x, height - y)))


@pytest.mark.parametrize("what", ["quality", "half", "square", "PNG", "WEBP"])
def test_a_changed_picture_stays_within_the_distance_of_the_default(what: str) -> None:
    for seed in range(PHOTOS):
        image = photo(seed)
        assert apart(hash_of(encoded(image, quality=95)), hash_of(changed(image, what))) <= 6


def test_a_cropped_picture_is_found_in_part() -> None:
    """Two percent off each edge: most are found. Five: few. The page of the docs says so."""
    found = {}
    for what in ("crop2", "crop5"):
        distances = [
            apart(hash_of(encoded(photo(seed))), hash_of(changed(photo(seed), what)))
            for seed in range(PHOTOS)
        ]
        found[what] = sum(one <= 6 for one in distances)
    assert found["crop2"] > PHOTOS * 0.6
    assert found["crop5"] < PHOTOS * 0.6


def test_a_mirrored_picture_and_another_one_are_far() -> None:
    hashes = [hash_of(encoded(photo(seed))) for seed in range(PHOTOS)]
    mirrored = [
        hash_of(encoded(photo(seed).transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
        for seed in range(PHOTOS)
    ]
    pairs = [(a, b) for n, a in enumerate(hashes) for b in hashes[:n]]
    assert min(apart(a, b) for a, b in pairs) > 6
    assert min(apart(a, b) for a, b in zip(hashes, mirrored, strict=True)) > 6


def test_orientation_is_applied_as_training_applies_it() -> None:
    image = photo(3)
    upright = hash_of(encoded(image, quality=95))
    turned = {3: 180, 6: 90, 8: 270}
    for tag, degrees in turned.items():
        exif = Image.Exif()
        exif[0x0112] = tag
        stored = image.rotate(degrees, expand=True)
        assert apart(hash_of(encoded(stored, quality=95, exif=exif)), upright) <= 4
        assert apart(hash_of(encoded(stored, quality=95)), upright) > 6


def test_plain_broken_and_large_pictures_have_no_hash() -> None:
    assert look(encoded(Image.new("RGB", (64, 64), "navy")), Limits()).detail == "plain"
    whole = encoded(photo(1))
    assert look(whole[: len(whole) // 2], Limits()).reason in ("truncated", "bad_image")
    assert look(b"\xff\xd8\xff nothing", Limits()).reason == "bad_image"
    assert look(whole, Limits(pixels=100)).reason == "too_many_pixels"


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "LA", "1"])
def test_every_mode_has_a_hash(mode: str) -> None:
    kind = "JPEG" if mode in ("L", "CMYK") else "PNG"
    assert look(encoded(photo(2).convert(mode), kind), Limits()).reason == ""
