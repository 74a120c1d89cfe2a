"""Scenes: a place, an hour and a few things whose kinds, colours and boxes are known exactly."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vision_ift.demo._canvas import Box, Mark, Patch, Point, cover, paint
from vision_ift.demo._places import INDOORS
from vision_ift.demo._sheet import Layer


@dataclass(frozen=True, slots=True)
class Thing:
    """One object: a category of COCO's, or a whole crowd of it.

    ``box`` is in pixels and inside the picture; ``colour`` is what a person wears; ``doing`` what
    a living thing does; ``text`` what can be read on it; ``detail`` a clock's time or the lamp
    that is lit; ``keypoints`` a person's 17 joints, in COCO's order.
    """

    name: str
    colour: str
    zone: str
    foot: Point
    box: Box
    marks: tuple[Mark, ...]
    keypoints: tuple[Point, ...] = ()
    doing: str = ""
    text: str = ""
    detail: str = ""
    crowd: bool = False

    @property
    def middle(self) -> Point:
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture before it is painted. ``things`` run from the farthest to the nearest."""

    key: str
    width: int
    height: int
    place: str
    sky: str
    layers: tuple[Layer, ...]
    things: tuple[Thing, ...]
    sign: str = ""

    def of(self, name: str) -> list[Thing]:
        """The single things (no crowds) of a category, from the left to the right."""
        found = [thing for thing in self.things if thing.name == name and not thing.crowd]
        return sorted(found, key=lambda thing: thing.middle)

    @property
    def counts(self) -> dict[str, int]:
        """How many single things of every category; categories seen as a crowd are left out."""
        found = Counter(thing.name for thing in self.things if not thing.crowd)
        return {name: found[name] for name in sorted(found) if name not in self.crowds}

    @property
    def crowds(self) -> list[str]:
        return sorted({thing.name for thing in self.things if thing.crowd})

    @property
    def names(self) -> set[str]:
        return {thing.name for thing in self.things}

    @property
    def indoors(self) -> bool:
        return self.place in INDOORS

    def picture(self) -> Image.Image:
        """The scene, painted."""
        marks = [mark for layer in self.layers for mark in layer.marks]
        marks += [mark for thing in self.things for mark in thing.marks]
        return paint(marks, self.width, self.height)

    def owners(self) -> NDArray[np.uint8]:
        """Who is seen at every pixel: 1 + index into the layers, after them into the things."""
        grid = np.zeros((self.height, self.width), dtype=np.uint8)
        parts = [*(layer.marks for layer in self.layers), *(thing.marks for thing in self.things)]
        for owner, marks in enumerate(parts, start=1):
            for mark in marks:
                if isinstance(mark, Patch) and mark.solid:
                    cover(grid, mark.points, owner)
        return grid


def overlap(a: Box, b: Box) -> float:
    """The common part of two boxes, as a part of the smaller one."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    return wide * high / min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
