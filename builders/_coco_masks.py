"""COCO's outlines as run-length masks, through pycocotools, the format's reference."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from pycocotools import mask

#: A polygon's numbers: x and y in turn, three corners at least. Bounded, for C code reads them.
_Polygon = Annotated[
    list[Annotated[float, msgspec.Meta(ge=-1e5, le=1e5)]],
    msgspec.Meta(min_length=6, max_length=100_000),
]
_Counts = Annotated[
    list[Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]], msgspec.Meta(max_length=1_000_000)
]


class _Runs(msgspec.Struct):
    size: tuple[int, int]
    counts: _Counts | Annotated[str, msgspec.Meta(max_length=1_000_000)]


_POLYGONS = msgspec.json.Decoder(Annotated[list[_Polygon], msgspec.Meta(min_length=1)])
_RUNS = msgspec.json.Decoder(_Runs)

#: The most pixels of a picture whose mask is made.
_MOST_PIXELS = 1 << 28


def run_lengths(segmentation: bytes, *, width: int, height: int) -> str:
    """Give an outline as COCO's compressed run-length text, whichever of its three forms it has.

    Args:
        segmentation: JSON: a list of polygons, runs as numbers, or runs as text (kept as it is).
        width, height: The picture's size in pixels.

    Raises:
        ValueError: It is none of these, or does not fit the picture.

    >>> run_lengths(b"[[0, 0, 2, 0, 2, 2, 0, 2]]", width=4, height=3)
    '02106'
    """
    if width * height > _MOST_PIXELS:
        raise ValueError(f"a mask of {width:,} by {height:,} pixels is too large")
    try:
        if segmentation.lstrip()[:1] == b"[":
            polygons: Any = _POLYGONS.decode(segmentation)
            if any(len(polygon) % 2 for polygon in polygons):
                raise ValueError("a polygon has an odd number of coordinates")
            return _text(mask.merge(mask.frPyObjects(polygons, height, width)))
        runs = _RUNS.decode(segmentation)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None
    if runs.size != (height, width):
        raise ValueError(f"a mask of size {list(runs.size)} for a picture of {[height, width]}")
    if isinstance(runs.counts, str):
        return runs.counts
    if sum(runs.counts) != width * height:
        raise ValueError(f"runs over {sum(runs.counts):,} of {width * height:,} pixels")
    plain = {"size": [height, width], "counts": runs.counts}
    return _text(mask.frPyObjects(plain, height, width))


def _text(runs: dict[str, Any]) -> str:
    counts: bytes = runs["counts"]
    return counts.decode("ascii")
