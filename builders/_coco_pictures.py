"""COCO's pictures by id, what COCO says of them, and which of them Visual Genome shows too."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import msgspec

from vision_ift import Dropped, Images, RecordError
from vision_ift._pictures.images import safe_path

from ._coco_instances import Instances, read_instances
from ._coco_json import ImageId, Text, Unreadable, Word, read_document, records

#: Where pictures lie under ROOT, in the order in which an id is looked for.
FOLDERS = tuple(
    f"{base}/{split}{year}"
    for base in ("coco", "coco/images")
    for year in (2017, 2014)
    for split in ("train", "val")
)

#: Where COCO's captions lie; a picture's record is taken from the first file that has it.
CAPTION_FILES = tuple(
    f"coco/annotations/captions_{split}{year}.json"
    for year in (2017, 2014)
    for split in ("train", "val")
)

VG_IMAGES = "visual_genome/image_data.json"

_NAME = re.compile(r"(?:COCO_(?:train|val|test)[0-9]{4}_)?([0-9]{12})\.jpg")


class _Image(msgspec.Struct):
    id: ImageId
    file_name: Text
    license: int | None = None


class _License(msgspec.Struct):
    id: int
    name: Word


class _Records(msgspec.Struct):
    images: list[msgspec.Raw]
    licenses: list[msgspec.Raw] = []


class _VGImage(msgspec.Struct):
    image_id: ImageId
    coco_id: ImageId | None = None


class _OldVGImage(msgspec.Struct):  # the layout of version 1.0
    id: ImageId
    coco_id: ImageId | None = None


class Picture(NamedTuple):
    """A picture's file under ROOT, its name in COCO's own records, and its own licence."""

    reference: str
    file_name: str
    license: str | None


def coco_id(name: str) -> int | None:
    """Read COCO's id from a picture's file name of 2014 or 2017, else give ``None``.

    >>> coco_id("COCO_train2014_000000000009.jpg"), coco_id("000000000009.jpg"), coco_id("9.jpg")
    (9, 9, None)
    """
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


class Pictures:
    """The pictures under one ROOT.

    Args:
        root: The folder where the user put the authors' files.

    Attributes:
        dropped: Records of COCO's or Visual Genome's lists of pictures that were refused so far.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.dropped: list[Dropped] = []
        self._instances: dict[str, Instances] = {}

    def find(self, image: int) -> Picture | None:
        """Give the picture of that id, from whichever of ``FOLDERS`` has it first."""
        reference = self._files.get(image)
        if reference is None:
            return None
        name, license_name = self._records.get(image, (None, None))
        return Picture(reference, name or reference.rpartition("/")[2], license_name)

    def instances(self, file: str, *, polygons: bool = False) -> Instances:
        """Read an instances file, once for all the tasks that ask for it.

        Outlines take three times as long to read, so a file is read again for the first task that
        needs them.

        Raises:
            Unreadable: It is broken.
        """
        known = self._instances.get(file)
        if known is None or (polygons and known.polygons is None):
            found = read_instances(self._root, file, polygons=polygons)
            if known is None:
                self.dropped.extend(found.dropped)
            self._instances[file] = known = found
        return known

    @cached_property
    def _files(self) -> dict[int, str]:
        images = Images(self._root)
        found: dict[int, str] = {}
        for folder in FOLDERS:
            for name in sorted(images.listing(folder)):  # a listing is a set
                image = coco_id(name)
                if image is not None:
                    found.setdefault(image, f"{folder}/{name}")
        return found

    @cached_property
    def _records(self) -> dict[int, tuple[str, str | None]]:
        found: dict[int, tuple[str, str | None]] = {}
        for file in CAPTION_FILES:
            if not (self._root / file).is_file():
                continue
            try:
                self._read_records(file, found)
            except Unreadable as error:
                self.dropped.append(error.dropped)
        return found

    def _read_records(self, file: str, found: dict[int, tuple[str, str | None]]) -> None:
        document = read_document(self._root, file, _Records)
        names: dict[int, str] = {}
        for _, terms in records(document.licenses, _License, file=file, name="license"):
            if isinstance(terms, Dropped):
                self.dropped.append(terms)
            else:
                names[terms.id] = terms.name
        for _, image in records(document.images, _Image, file=file, name="image"):
            if isinstance(image, Dropped):
                self.dropped.append(image)
                continue
            try:
                check_name(image.file_name)
            except RecordError as error:
                self.dropped.append(Dropped.of(error, file=file, record=f"image {image.id}"))
                continue
            terms_name = names.get(image.license) if image.license is not None else None
            found.setdefault(image.id, (image.file_name, terms_name))

    @cached_property
    def coco_of_vg(self) -> dict[int, int]:
        """Visual Genome's ids of those of its pictures that are COCO's, with COCO's ids.

        Raises:
            Unreadable: ``image_data.json`` is broken.
        """
        document = read_document(self._root, VG_IMAGES, list[msgspec.Raw])
        found: dict[int, int] = {}
        old = bool(document) and b'"image_id"' not in bytes(document[0])
        kind: type[_VGImage] | type[_OldVGImage] = _OldVGImage if old else _VGImage
        for _, image in records(document, kind, file=VG_IMAGES, name="image"):
            if isinstance(image, Dropped):
                self.dropped.append(image)
            elif image.coco_id is not None:
                number = image.id if isinstance(image, _OldVGImage) else image.image_id
                found[number] = image.coco_id
        return found


def check_name(path: str) -> str:
    """Give the last part of a record's path, or refuse a path that leads out of ROOT.

    Raises:
        RecordError: With the reason ``unsafe_path``.
    """
    return safe_path(path).rpartition("/")[2]
