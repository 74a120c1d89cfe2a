"""Reads COCO's instances (boxes, kinds, areas, crowds) into columns, in a few seconds.

``pycocotools`` makes a dictionary of every annotation; here the file is decoded straight into small
structs that skip the polygons, then into NumPy columns that are sorted by picture. On files of the
real size that is several times as fast in a third of the memory (``bench/coco.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from vision_ift import Dropped

from ._coco_json import ImageId, NumberId, Unreadable, Word, broken, mapped, records

_Size = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class _Box(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    x: float
    y: float
    width: float
    height: float


class _Image(msgspec.Struct, gc=False):
    id: ImageId
    width: _Size
    height: _Size


class _Category(msgspec.Struct, gc=False):
    id: NumberId
    name: Word


class _Annotation(msgspec.Struct, gc=False):
    id: NumberId
    image_id: ImageId
    category_id: NumberId
    bbox: _Box
    area: float
    iscrowd: Annotated[int, msgspec.Meta(ge=0, le=1)] = 0


class _WithPolygons(_Annotation, kw_only=True, gc=False):
    segmentation: msgspec.Raw


class _Document(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


class _DocumentWithPolygons(msgspec.Struct):
    images: list[_Image]
    annotations: list[_WithPolygons]
    categories: list[_Category]


class _RawDocument(msgspec.Struct):
    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[msgspec.Raw]


class Instances(NamedTuple):
    """One file's annotations as columns, pictures in the order of their ids.

    The annotations of picture ``k`` are ``offsets[k]:offsets[k + 1]`` of the other columns, in the
    order of the file.

    Attributes:
        image_ids, widths, heights: One a picture; sizes in pixels.
        offsets: int64, one more than there are pictures.
        ids, category_ids: int64, one an annotation.
        boxes: float64 of shape (annotations, 4): x, y, width, height in pixels.
        areas: float64, pixels of the mask.
        crowds: bool; true where the annotation is a region of many, not one object.
        categories: Category id to name, in the order of the file.
        polygons: The ``segmentation`` of each annotation as JSON bytes; ``None`` if not asked for.
        dropped: Records that were refused.
    """

    image_ids: NDArray[np.int64]
    widths: NDArray[np.int64]
    heights: NDArray[np.int64]
    offsets: NDArray[np.int64]
    ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    crowds: NDArray[np.bool_]
    categories: dict[int, str]
    polygons: list[bytes] | None
    dropped: list[Dropped]


def read_instances(root: Path, file: str, *, polygons: bool = False) -> Instances:
    """Read an instances file (or keypoints: the same boxes) into columns.

    A record of the wrong type costs itself alone, an annotation on a picture or of a category that
    the file does not list is refused, and so is a second record of one id. Where a record says a
    key twice, the last value counts: looking for that would cost as much as reading.

    Args:
        root: The folder where the authors' files lie.
        file: Relative to ``root``.
        polygons: Keep the outlines too, undecoded; takes three times as long.

    Raises:
        Unreadable: It is not JSON, or has no ``images``, ``annotations``, ``categories``.
    """
    data = mapped(root / file)
    dropped: list[Dropped] = []
    images: list[_Image]
    annotations: list[_Annotation]
    kind: type[Any] = _DocumentWithPolygons if polygons else _Document
    try:
        document = msgspec.json.decode(data, type=kind)
        images, categories = document.images, document.categories
        annotations = document.annotations
        del document
    except msgspec.ValidationError:
        images, annotations, categories = _one_by_one(data, file, polygons, dropped)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(broken(file, error, len(data))) from None
    return _columns(images, annotations, categories, file, polygons, dropped)


def _one_by_one(
    data: Any, file: str, polygons: bool, dropped: list[Dropped]
) -> tuple[list[_Image], list[_Annotation], list[_Category]]:
    try:
        document = msgspec.json.decode(data, type=_RawDocument)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(broken(file, error, len(data))) from None

    def keep(raws: list[msgspec.Raw], kind: type[Any], name: str) -> list[Any]:
        found: list[Any] = []
        for _, record in records(raws, kind, file=file, name=name):
            (dropped if isinstance(record, Dropped) else found).append(record)
        return found

    kind = _WithPolygons if polygons else _Annotation
    return (
        keep(document.images, _Image, "image"),
        keep(document.annotations, kind, "annotation"),
        keep(document.categories, _Category, "category"),
    )


def _columns(
    images: list[_Image],
    annotations: list[_Annotation],
    categories: list[_Category],
    file: str,
    polygons: bool,
    dropped: list[Dropped],
) -> Instances:
    image_ids, first = np.unique(_int64(images, lambda one: one.id), return_index=True)
    count = len(annotations)
    ids = _int64(annotations, lambda one: one.id)
    category_ids = _int64(annotations, lambda one: one.category_id)
    of_images = _int64(annotations, lambda one: one.image_id)
    crowds = np.fromiter((one.iscrowd for one in annotations), np.bool_, count)
    areas = np.fromiter((one.area for one in annotations), np.float64, count)
    corners = ((one.bbox.x, one.bbox.y, one.bbox.width, one.bbox.height) for one in annotations)
    boxes = np.fromiter(chain.from_iterable(corners), np.float64, 4 * count).reshape(count, 4)
    outlines = [bytes(one.segmentation) for one in annotations] if polygons else None  # type: ignore[attr-defined]  # of the other struct
    annotations.clear()

    names: dict[int, str] = {}
    for category in categories:
        names.setdefault(category.id, category.name)
    place = np.searchsorted(image_ids, of_images)
    place[place == len(image_ids)] = 0
    listed = image_ids[place] == of_images if len(image_ids) else np.zeros(count, np.bool_)
    named = np.isin(category_ids, np.fromiter(names, np.int64, len(names)))
    once = np.zeros(count, np.bool_)
    once[np.unique(ids, return_index=True)[1]] = True
    faults = (
        ("bad_record", ~listed, "its picture is not listed in the file"),
        ("bad_record", listed & ~named, "its category is not listed in the file"),
        ("duplicate_id", listed & named & ~once, "an annotation before it has the same id"),
    )
    for reason, fault, detail in faults:
        if fault.any():
            dropped.append(_count(reason, file, ids[fault], detail))

    kept = np.flatnonzero(listed & named & once)
    order = kept[np.argsort(place[kept], kind="stable")]
    offsets = np.zeros(len(image_ids) + 1, np.int64)
    np.cumsum(np.bincount(place[order], minlength=len(image_ids)), out=offsets[1:])
    return Instances(
        image_ids=image_ids,
        widths=_int64(images, lambda one: one.width)[first],
        heights=_int64(images, lambda one: one.height)[first],
        offsets=offsets,
        ids=ids[order],
        category_ids=category_ids[order],
        boxes=boxes[order],
        areas=areas[order],
        crowds=crowds[order],
        categories=names,
        polygons=[outlines[row] for row in order.tolist()] if outlines is not None else None,
        dropped=dropped,
    )


def _int64(things: list[Any], field: Callable[[Any], int]) -> NDArray[np.int64]:
    return np.fromiter(map(field, things), np.int64, len(things))


def _count(reason: str, file: str, ids: NDArray[np.int64], detail: str) -> Dropped:
    more = f" and {len(ids) - 1:,} more" if len(ids) > 1 else ""
    record = f"annotation {ids[0]}{more}"
    return Dropped(reason=reason, file=file, record=record, detail=detail, count=len(ids))
