"""What backgrounds are made of: sky, hills, trees and ground, in the light of an hour."""

from __future__ import annotations

from math import pi, sin
from typing import NamedTuple

from vision_ift.demo._canvas import RGB, Box, Mark, Pen, Point, shade
from vision_ift.demo._choices import Choices


class Layer(NamedTuple):
    """One part of the background; ``stuff`` is its category in COCO's panoptic list."""

    stuff: str
    marks: list[Mark]


class Zone(NamedTuple):
    """Where things may stand: feet between two heights, and how high one metre is at each.

    All four are parts of the picture's height, measured from its top edge.
    """

    far: float
    near: float
    far_metre: float
    near_metre: float


class Setting(NamedTuple):
    """A drawn background; ``sign`` is what a shop's sign says, empty where there is none."""

    layers: list[Layer]
    zones: dict[str, Zone]
    sign: str = ""
    sign_box: Box = (0.0, 0.0, 0.0, 0.0)


class Sheet:
    """A background in the making; u and v run from 0 to 1, v downwards."""

    def __init__(self, width: int, height: int, choices: Choices, sky: str) -> None:
        self.width, self.height, self.choices, self.sky = width, height, choices, sky
        self.layers: list[Layer] = []

    def pen(self, stuff: str, u: float = 0.0, v: float = 0.0, scale: float = 1.0) -> Pen:
        """A pen whose unit is the picture's height, for one part of the background."""
        pen = Pen(u * self.width, v * self.height, scale * self.height)
        self.layers.append(Layer(stuff, pen.marks))
        return pen

    @property
    def aspect(self) -> float:
        return self.width / self.height

    def wash(self, pen: Pen, top: float, bottom: float, first: RGB, last: RGB) -> None:
        """A full-width area whose colour runs from first at the top to last at the bottom."""
        wide = self.aspect
        pen.poly([(0, -top), (wide, -top), (wide, -bottom), (0, -bottom)], first)
        steps = 40
        for step in range(steps):
            part = step / (steps - 1)
            red, green, blue = (round(a + (b - a) * part) for a, b in zip(first, last, strict=True))
            upper = top + (bottom - top) * step / steps
            lower = top + (bottom - top) * (step + 1) / steps + 0.004
            lower = min(lower, bottom)
            edge = [(0, -upper), (wide, -upper), (wide, -lower), (0, -lower)]
            pen.poly(edge, (red, green, blue), solid=False)

    def tint(self, colour: RGB) -> RGB:
        """The colour as the light of the hour shows it."""
        if self.sky == "night":
            return tuple(
                round(c * 0.45 + n * 0.2) for c, n in zip(colour, (20, 30, 90), strict=True)
            )  # type: ignore[return-value]  # four numbers each
        if self.sky == "sunset":
            return tuple(
                round(c * 0.82 + n * 0.16) for c, n in zip(colour, (250, 150, 90), strict=True)
            )  # type: ignore[return-value]  # four numbers each
        return shade(colour, -0.06) if self.sky == "cloudy" else colour


SKIES: dict[str, tuple[RGB, RGB]] = {
    "sunny": ((112, 182, 232), (214, 238, 248)),
    "cloudy": ((158, 178, 194), (220, 228, 232)),
    "sunset": ((92, 92, 156), (252, 186, 120)),
    "night": ((18, 24, 58), (60, 72, 124)),
}


def paint_sky(sheet: Sheet, horizon: float) -> None:
    pen = sheet.pen("sky-other-merged")
    sheet.wash(pen, 0, horizon, *SKIES[sheet.sky])
    between, wide = sheet.choices.between, sheet.aspect
    u, v = between(0.12, 0.88, "sun u") * wide, -between(0.09, 0.17, "sun v")
    if sheet.sky == "sunny":
        for radius, alpha in ((0.11, 50), (0.085, 80), (0.06, 255)):
            pen.oval((u, v), (radius, radius), (255, 236, 150), alpha=alpha, solid=False)
    elif sheet.sky == "sunset":
        for radius, alpha in ((0.16, 60), (0.12, 90), (0.08, 255)):
            pen.oval(
                (u, 0.05 - horizon), (radius, radius), (255, 214, 130), alpha=alpha, solid=False
            )
    elif sheet.sky == "night":
        for star in range(40):
            place = (
                between(0, 1, "star u", star) * wide,
                -between(0, horizon, "star v", star) * 0.92,
            )
            size = between(0.0018, 0.0045, "star size", star)
            pen.oval(place, (size, size), (255, 250, 226), solid=False)
        pen.oval((u, v), (0.065, 0.065), (250, 244, 214), solid=False)
        pen.oval((u + 0.028, v + 0.012), (0.055, 0.055), (28, 36, 76), solid=False)
    clouds = {"sunny": 3, "cloudy": 6, "sunset": 3, "night": 0}[sheet.sky]
    tone: RGB = {"sunset": (250, 200, 170), "cloudy": (240, 242, 244)}.get(
        sheet.sky, (255, 255, 255)
    )
    for cloud in range(clouds):
        u = (cloud + between(0.1, 0.9, "cloud u", cloud)) / clouds * wide
        v, size = (
            -between(0.05, 0.5, "cloud v", cloud) * horizon,
            between(0.035, 0.06, "cloud", cloud),
        )
        for du, dv, part in (
            (-1.5, 0, 0.75),
            (-0.5, 0.45, 1.0),
            (0.6, 0.3, 0.9),
            (1.6, 0, 0.7),
            (0, -0.1, 0.9),
        ):
            radii = (size * part * 1.25, size * part * 0.8)
            pen.oval((u + du * size, v + dv * size), radii, tone, alpha=215, solid=False)


def raise_hills(
    sheet: Sheet, horizon: float, colour: RGB, rise: float, name: str, stuff: str
) -> None:
    pen, wide = sheet.pen(stuff), sheet.aspect
    phase, waves = sheet.choices.between(0, 6, name, "phase"), sheet.choices.between(1.2, 2.6, name)
    ridge: list[Point] = []
    for step in range(33):
        part = step / 32
        lift = (
            0.5
            + 0.34 * sin(phase + part * waves * pi)
            + 0.16 * sin(2.3 * phase + part * waves * 5.1)
        )
        ridge.append((part * wide, -horizon + rise * lift))
    pen.poly([*ridge, (wide, -horizon - 0.02), (0, -horizon - 0.02)], sheet.tint(colour))


def plant_trees(sheet: Sheet, line: float, count: int, *, pines: bool = False) -> None:
    pen, between, wide = sheet.pen("tree-merged"), sheet.choices.between, sheet.aspect
    for tree in range(count):
        u = (tree + between(0.15, 0.85, "tree", tree)) / count * wide
        size, foot = between(0.11, 0.19, "tree size", tree), -line - between(0, 0.02, "foot", tree)
        green = sheet.tint(shade((76, 142, 84), between(-0.15, 0.15, "leaf", tree)))
        pen.poly(
            [
                (u - size * 0.07, foot),
                (u - size * 0.05, foot + size),
                (u + size * 0.05, foot + size),
                (u + size * 0.07, foot),
            ],
            sheet.tint((118, 86, 60)),
        )
        if pines:
            for low, high, half in ((0.25, 0.9, 0.42), (0.6, 1.2, 0.34), (0.95, 1.5, 0.24)):
                corners = [
                    (u - size * half, foot + size * low),
                    (u + size * half, foot + size * low),
                ]
                pen.poly([*corners, (u, foot + size * high)], shade(green, -0.15 + low * 0.2))
            continue
        for du, dv, part in (
            (-0.28, 0.85, 0.36),
            (0.28, 0.85, 0.36),
            (0, 1.2, 0.42),
            (0, 0.8, 0.36),
        ):
            radii = (size * part, size * part)
            pen.oval((u + du * size, foot + dv * size), radii, shade(green, (dv - 1) * 0.3))


def lay_ground(sheet: Sheet, stuff: str, top: float, bottom: float, colour: RGB) -> Pen:
    pen = sheet.pen(stuff)
    tone = sheet.tint(colour)
    sheet.wash(pen, top, bottom, shade(tone, 0.12), shade(tone, -0.1))
    return pen
