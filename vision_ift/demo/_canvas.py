"""Flat shapes: put down with a pen, painted by Pillow, and laid on a grid of owners.

A picture is painted at twice its size and halved, which smooths the edges. The grid of owners
(which thing is seen at which pixel) is filled here and not by Pillow, so that the annotations
made from it stay the same whatever Pillow is installed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise
from math import atan2, ceil, cos, pi, radians, sin
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Point = tuple[float, float]
RGB = tuple[int, int, int]
Box = tuple[float, float, float, float]

_OVERSAMPLE = 2
_GRID = 16.0  # points are rounded to 1/16 pixel, below which platforms may differ in sin and cos


class Patch(NamedTuple):
    """One filled polygon in pixels; ``solid`` says that it is part of the thing it belongs to."""

    points: tuple[Point, ...]
    fill: tuple[int, int, int, int]
    solid: bool


class Lettering(NamedTuple):
    """Text in Pillow's built-in font around a middle point."""

    text: str
    middle: Point
    size: float
    fill: RGB


Mark = Patch | Lettering


def shade(colour: RGB, amount: float) -> RGB:
    """The colour mixed with white (amount > 0) or black (amount < 0).

    Example:
        >>> shade((100, 200, 0), -0.5)
        (50, 100, 0)
    """
    target = 255 if amount > 0 else 0
    red, green, blue = (round(part + (target - part) * abs(amount)) for part in colour)
    return red, green, blue


class Pen:
    """Puts shapes down in the thing's own units: u to the right, v up, its foot at (0, 0).

    Args:
        x, y: Pixel of the foot.
        scale: Pixels a unit.
        flip: Mirror left and right.
    """

    def __init__(self, x: float, y: float, scale: float, *, flip: bool = False) -> None:
        self.x = x
        self.y = y
        self.scale = scale
        self.sign = -1.0 if flip else 1.0
        self.marks: list[Mark] = []
        self.joints: list[Point] = []  # a person's 17 keypoints, in COCO's order

    def at(self, u: float, v: float) -> Point:
        """The pixel of a point."""
        x = self.x + self.sign * self.scale * u
        y = self.y - self.scale * v
        return round(x * _GRID) / _GRID, round(y * _GRID) / _GRID

    def poly(
        self, points: Iterable[Point], fill: RGB, *, alpha: int = 255, solid: bool = True
    ) -> None:
        """A polygon."""
        corners = tuple(self.at(u, v) for u, v in points)
        self.marks.append(Patch(corners, (*fill, alpha), solid))

    def soft(
        self, points: Sequence[Point], fill: RGB, *, alpha: int = 255, solid: bool = True
    ) -> None:
        """A polygon with its corners cut twice (Chaikin, 1974), which makes it look round."""
        for _ in range(2):
            cut: list[Point] = []
            for (a, b), (c, d) in zip(points, [*points[1:], points[0]], strict=True):
                cut += [(0.75 * a + 0.25 * c, 0.75 * b + 0.25 * d)]
                cut += [(0.25 * a + 0.75 * c, 0.25 * b + 0.75 * d)]
            points = cut
        self.poly(points, fill, alpha=alpha, solid=solid)

    def oval(
        self,
        middle: Point,
        radii: Point,
        fill: RGB,
        *,
        start: float = 0.0,
        stop: float = 360.0,
        alpha: int = 255,
        solid: bool = True,
    ) -> None:
        """An ellipse, or the part of it between two angles in degrees (0 right, 90 up)."""
        turn = stop - start
        steps = max(10, round(turn / 360 * (14 + 1.4 * (self.scale * max(radii)) ** 0.5)))
        ends = 0 if turn >= 360 else 1
        angles = [radians(start + turn * step / steps) for step in range(steps + ends)]
        self.poly(
            [(middle[0] + radii[0] * cos(a), middle[1] + radii[1] * sin(a)) for a in angles],
            fill,
            alpha=alpha,
            solid=solid,
        )

    def bar(self, points: Sequence[Point], width: float, fill: RGB, *, solid: bool = True) -> None:
        """A line of some width with round ends and joints."""
        radius = width / 2
        steps = 4 if radius * self.scale < 4 else 7
        for (a, b), (c, d) in pairwise(points):
            ahead = atan2(d - b, c - a)
            turns = [ahead - pi / 2 + pi * step / steps for step in range(steps + 1)]
            far = [(c + radius * cos(turn), d + radius * sin(turn)) for turn in turns]
            near = [(a - radius * cos(turn), b - radius * sin(turn)) for turn in turns]
            self.poly([*far, *near], fill, solid=solid)

    def word(self, text: str, middle: Point, height: float, fill: RGB) -> None:
        """Text around a point; never mirrored."""
        self.marks.append(Lettering(text, self.at(*middle), height * self.scale, fill))


def box_of(marks: Iterable[Mark]) -> Box:
    """(left, top, right, bottom) of the solid patches, in pixels."""
    points = [
        point for mark in marks if isinstance(mark, Patch) and mark.solid for point in mark.points
    ]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)


@cache
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def paint(marks: Iterable[Mark], width: int, height: int) -> Image.Image:
    """The picture of the marks, later ones over earlier ones."""
    large = Image.new("RGB", (width * _OVERSAMPLE, height * _OVERSAMPLE), (255, 255, 255))
    brush, glaze = ImageDraw.Draw(large), ImageDraw.Draw(large, "RGBA")
    for mark in marks:
        if isinstance(mark, Patch):
            corners = [part * _OVERSAMPLE for point in mark.points for part in point]
            if mark.fill[3] == 255:
                brush.polygon(corners, mark.fill[:3])
            else:
                glaze.polygon(corners, mark.fill)
            continue
        font = _font(max(6, round(mark.size * _OVERSAMPLE)))
        left, top, right, bottom = brush.textbbox((0, 0), mark.text, font=font)
        place = (
            round(mark.middle[0] * _OVERSAMPLE - (left + right) / 2),
            round(mark.middle[1] * _OVERSAMPLE - (top + bottom) / 2),
        )
        weight = max(1, round(mark.size * _OVERSAMPLE / 24))
        brush.text(place, mark.text, mark.fill, font=font, stroke_width=weight)
    return large.reduce(_OVERSAMPLE)


def cover(grid: NDArray[np.uint8], points: Sequence[Point], owner: int) -> None:
    """Give every pixel whose middle lies inside the polygon (even-odd rule) to the owner."""
    rows, columns = grid.shape
    xs, ys = np.array((*points, points[0])).T
    left, right = (min(columns, max(0, ceil(edge - 0.5))) for edge in (xs.min(), xs.max()))
    top, bottom = (min(rows, max(0, ceil(edge - 0.5))) for edge in (ys.min(), ys.max()))
    part = grid[top:bottom, left:right]
    if (part == owner).all():  # nothing to do, or outside the grid
        return
    middles = np.arange(top + 0.5, bottom)
    below = ys <= middles[:, None]
    row, edge = np.nonzero(below[:, :-1] != below[:, 1:])
    slope = (xs[1:] - xs[:-1])[edge] / (ys[1:] - ys[:-1])[edge]
    crossing = np.ceil(xs[edge] + (middles[row] - ys[edge]) * slope - (left + 0.5)).astype(np.int64)
    wide = right - left + 1
    column = np.minimum(np.maximum(crossing, 0), wide - 1)
    toggles = np.bincount(row * wide + column, minlength=(bottom - top) * wide)
    inside = np.cumsum(toggles.reshape(bottom - top, wide)[:, :-1], axis=1) & 1
    part[inside == 1] = owner
