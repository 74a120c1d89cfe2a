"""Tasks beyond the paper: COCO's own boxes, keypoints and segments as questions and answers.

The templates are ours and fixed (``_coco_rounds.EXTRAS``). Regions marked as crowds hold an unknown
number of objects, so a kind of which a picture has such a region is neither counted nor located.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from vision_ift import Dropped

from ._coco_answers import Found, Reader
from ._coco_instances import Instances
from ._coco_json import ImageId, NumberId, Word, read_document, records
from ._coco_masks import run_lengths
from ._coco_pictures import Pictures
from ._coco_rounds import Round

#: A kind with more boxes, or a picture with more people, than this is not asked about.
MOST = 8

#: The absent kind of a presence question is one of this many that co-occur most with those shown.
NEAREST = 8


class _Shown(NamedTuple):
    """One picture's annotations in an instances file."""

    image: int
    width: int
    height: int
    category_ids: list[int]
    boxes: NDArray[np.float64]
    crowds: list[bool]
    first: int
    """Place of the first of them among the file's annotations."""

    def places(self, category: int) -> list[int]:
        """Where the annotations of a kind stand, from left to right."""
        places = [place for place, one in enumerate(self.category_ids) if one == category]
        return sorted(places, key=lambda place: tuple(self.boxes[place, :2].tolist()))

    def crowded(self) -> set[int]:
        pairs = zip(self.category_ids, self.crowds, strict=True)
        return {category for category, crowd in pairs if crowd}


def _shown(instances: Instances) -> Iterator[_Shown]:
    offsets = instances.offsets.tolist()
    for place, image in enumerate(instances.image_ids.tolist()):
        part = slice(offsets[place], offsets[place + 1])
        yield _Shown(
            image,
            int(instances.widths[place]),
            int(instances.heights[place]),
            instances.category_ids[part].tolist(),
            instances.boxes[part],
            instances.crowds[part].tolist(),
            offsets[place],
        )


def _pick(image: int, task: str, categories: list[int]) -> int:
    """Choose one by the XXH3-64 of ``image/task/category`` as text, the same everywhere."""
    return min(
        categories,
        key=lambda one: (xxhash.xxh3_64_intdigest(f"{image}/{task}/{one}".encode()), one),
    )


def read_presence(root: Path, files: tuple[str, ...], pictures: Pictures) -> Found:
    """Is there such a thing? One kind that is there, and one that often is beside it but is not."""
    del root  # what several tasks read is read once, by `pictures`
    instances = pictures.instances(files[0])
    known = np.array(list(instances.categories), np.int64)
    together = _together(instances, known)
    column = {category: place for place, category in enumerate(known.tolist())}
    for shown in _shown(instances):
        here = sorted(set(shown.category_ids))
        if not here:
            continue
        category = _pick(shown.image, "presence yes", here)
        yield _presence(shown.image, category, instances, "Yes")
        beside = together[[column[one] for one in here]].sum(axis=0)
        beside[[column[one] for one in here]] = 0
        nearest = np.argsort(-beside, kind="stable")[:NEAREST]
        absent = [int(known[place]) for place in nearest if beside[place] > 0]
        if absent:
            category = _pick(shown.image, "presence no", absent)
            yield _presence(shown.image, category, instances, "No")


def _together(instances: Instances, known: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count, for every two kinds, the pictures that show both."""
    rows = np.repeat(np.arange(len(instances.image_ids)), np.diff(instances.offsets))
    sorter = np.argsort(known)
    columns = sorter[np.searchsorted(known, instances.category_ids, sorter=sorter)]
    shows = np.zeros((len(instances.image_ids), len(known)), np.float32)
    shows[rows, columns] = 1
    # Sums of ones below 2**24 are exact in float32, so no order of summing changes them.
    return (shows.T @ shows).astype(np.int64)


def _presence(image: int, category: int, instances: Instances, answer: str) -> Round:
    name = instances.categories[category]
    return Round(image, f"{image}-{category}", name, answer, {"category_id": category})


def read_counting(root: Path, files: tuple[str, ...], pictures: Pictures) -> Found:
    """How many? One kind a picture, of which it has no crowd region."""
    del root  # what several tasks read is read once, by `pictures`
    instances = pictures.instances(files[0])
    for shown in _shown(instances):
        countable = sorted(set(shown.category_ids) - shown.crowded())
        if countable:
            category = _pick(shown.image, "counting", countable)
            number = shown.category_ids.count(category)
            name = instances.categories[category]
            meta = {"category_id": category}
            yield Round(shown.image, f"{shown.image}-{category}", name, str(number), meta)


def read_location(root: Path, files: tuple[str, ...], pictures: Pictures) -> Found:
    """Where? One kind a picture, all its boxes; the exact ones and the masks are in ``meta``."""
    del root  # what several tasks read is read once, by `pictures`
    instances = pictures.instances(files[0], polygons=True)
    assert instances.polygons is not None
    for shown in _shown(instances):
        whole = (shown.boxes[:, 2:].min(axis=1, initial=np.inf) > 0).tolist()
        flat = {one for one, fine in zip(shown.category_ids, whole, strict=True) if not fine}
        few = [
            category
            for category in sorted(set(shown.category_ids) - shown.crowded() - flat)
            if shown.category_ids.count(category) <= MOST
        ]
        if not few:
            continue
        category = _pick(shown.image, "location", few)
        places = shown.places(category)
        boxes = shown.boxes[places]
        outlines = [instances.polygons[shown.first + place] for place in places]
        try:
            masks = [run_lengths(one, width=shown.width, height=shown.height) for one in outlines]
        except ValueError as error:
            yield Dropped(
                reason="bad_record",
                file=files[0],
                record=f"image {shown.image}, category {category}",
                detail=f"segmentation: {error}",
            )
            continue
        answer = "\n".join(_box_text(box, shown.width, shown.height) for box in boxes.tolist())
        meta = {
            "category_id": category,
            "image": 0,
            "size": [shown.width, shown.height],
            "boxes": boxes.tolist(),
            "masks": masks,
        }
        name = instances.categories[category]
        yield Round(shown.image, f"{shown.image}-{category}", name, answer, meta)


def _box_text(box: list[float], width: int, height: int) -> str:
    """Write a box as corners in thousandths of the picture.

    >>> _box_text([64, 48, 128, 96], 640, 480)
    '[100, 100, 300, 300]'
    """
    x, y, wide, high = box
    values = (x / width, y / height, (x + wide) / width, (y + high) / height)
    return str([min(1000, max(0, round(1000 * value))) for value in values])


class _Keypoints(msgspec.Struct):
    annotations: list[msgspec.Raw]
    categories: list[msgspec.Raw]


class _Skeleton(msgspec.Struct):
    id: NumberId
    keypoints: list[Word]


class _Person(msgspec.Struct):
    id: NumberId
    image_id: ImageId
    category_id: NumberId
    keypoints: list[int | float]
    bbox: tuple[int | float, int | float, int | float, int | float]
    iscrowd: Annotated[int, msgspec.Meta(ge=0, le=1)] = 0


def read_pose(root: Path, files: tuple[str, ...], pictures: Pictures) -> Found:
    """Which body parts can be seen of each person? Only where every person is labelled."""
    del pictures
    file = files[0]
    document = read_document(root, file, _Keypoints)
    names: dict[int, list[str]] = {}
    for _, skeleton in records(document.categories, _Skeleton, file=file, name="category"):
        if isinstance(skeleton, Dropped):
            yield skeleton
        else:
            names[skeleton.id] = [name.replace("_", " ") for name in skeleton.keypoints]
    people: dict[int, list[_Person]] = {}
    for number, person in records(document.annotations, _Person, file=file, name="annotation"):
        if isinstance(person, Dropped):
            yield person
        elif len(person.keypoints) != 3 * len(names.get(person.category_id, ())):
            detail = f"{len(person.keypoints)} numbers do not fit the category's keypoints"
            place = f"annotation {number}"
            yield Dropped(reason="bad_record", file=file, record=place, detail=detail)
        else:
            people.setdefault(person.image_id, []).append(person)
    for image in sorted(people):
        found = sorted(people[image], key=lambda one: (one.bbox[0], one.bbox[1], one.id))
        labelled = all(not one.iscrowd and any(one.keypoints[2::3]) for one in found)
        if not labelled or len(found) > MOST:
            continue
        answer = "\n".join(
            f"{number}. {_visible(one, names[one.category_id])}"
            for number, one in enumerate(found, 1)
        )
        meta: dict[str, Any] = {
            "image": 0,
            "people": [
                {"annotation": one.id, "box": one.bbox, "keypoints": one.keypoints} for one in found
            ],
        }
        yield Round(image, image, "", answer, meta)


def _visible(person: _Person, names: list[str]) -> str:
    seen = [name for name, flag in zip(names, person.keypoints[2::3], strict=True) if flag == 2]
    return ", ".join(seen) or "none"


class _Panoptic(msgspec.Struct):
    annotations: list[msgspec.Raw]
    categories: list[msgspec.Raw]


class _Kind(msgspec.Struct):
    id: NumberId
    name: Word
    isthing: Annotated[int, msgspec.Meta(ge=0, le=1)]


class _Segment(msgspec.Struct):
    id: NumberId
    category_id: NumberId
    area: int | float
    bbox: tuple[int | float, int | float, int | float, int | float]
    iscrowd: Annotated[int, msgspec.Meta(ge=0, le=1)] = 0


class _Segments(msgspec.Struct):
    image_id: ImageId
    segments_info: list[_Segment]


def read_panoptic(root: Path, files: tuple[str, ...], pictures: Pictures) -> Found:
    """Which things, how many, and which stuff; the largest first."""
    del pictures
    file = files[0]
    document = read_document(root, file, _Panoptic)
    kinds: dict[int, _Kind] = {}
    for _, kind in records(document.categories, _Kind, file=file, name="category"):
        if isinstance(kind, Dropped):
            yield kind
        else:
            kinds[kind.id] = kind
    for number, found in records(document.annotations, _Segments, file=file, name="annotation"):
        if isinstance(found, Dropped):
            yield found
        elif any(one.category_id not in kinds for one in found.segments_info):
            detail = "a segment's category is not listed in the file"
            place = f"annotation {number}"
            yield Dropped(reason="bad_record", file=file, record=place, detail=detail)
        elif found.segments_info:
            meta = {"image": 0, "segments": msgspec.to_builtins(found.segments_info)}
            answer = _things_and_stuff(found.segments_info, kinds)
            yield Round(found.image_id, found.image_id, "", answer, meta)


def _things_and_stuff(segments: list[_Segment], kinds: dict[int, _Kind]) -> str:
    areas: dict[int, float] = {}
    for one in segments:
        areas[one.category_id] = areas.get(one.category_id, 0.0) + one.area
    things, stuff = [], []
    for category in sorted(areas, key=lambda one: (-areas[one], one)):
        kind = kinds[category]
        if kind.isthing:
            same = [one for one in segments if one.category_id == category]
            crowd = any(one.iscrowd for one in same)
            things.append(f"{kind.name} ({'a crowd' if crowd else len(same)})")
        else:
            # "wall-other-merged" is a name for machines; "floor-wood" reads as it is.
            stuff.append(kind.name.removesuffix("-merged").removesuffix("-other"))
    return f"Things: {', '.join(things) or 'none'}.\nStuff: {', '.join(stuff) or 'none'}."


_KINDS = (
    ("presence", "instances", read_presence),
    ("counting", "instances", read_counting),
    ("location", "instances", read_location),
    ("pose", "person_keypoints", read_pose),
    ("things_and_stuff", "panoptic", read_panoptic),
)

EXTRA_READERS: tuple[Reader, ...] = tuple(
    Reader(task, split, (f"coco/annotations/{name}_{split}2017.json",), read)
    for task, name, read in _KINDS
    for split in ("train", "val")
)
