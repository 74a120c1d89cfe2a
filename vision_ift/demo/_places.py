"""The places where scenes play: their background, and where things may stand in it."""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sin
from typing import NamedTuple

from vision_ift.demo._canvas import RGB, Box, Mark, Pen, Point, shade
from vision_ift.demo._choices import Choices
from vision_ift.demo._figures import COLOURS, GLASS

SHOPS = ("BAKERY", "CAFE", "BOOKS", "MUSEUM", "HOTEL", "FLOWERS", "CINEMA", "TEA ROOM")


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


class _Sheet:
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
            )  # type: ignore[return-value]
        if self.sky == "sunset":
            return tuple(
                round(c * 0.82 + n * 0.16) for c, n in zip(colour, (250, 150, 90), strict=True)
            )  # type: ignore[return-value]
        return shade(colour, -0.06) if self.sky == "cloudy" else colour


_SKIES: dict[str, tuple[RGB, RGB]] = {
    "sunny": ((112, 182, 232), (214, 238, 248)),
    "cloudy": ((158, 178, 194), (220, 228, 232)),
    "sunset": ((92, 92, 156), (252, 186, 120)),
    "night": ((18, 24, 58), (60, 72, 124)),
}


def _sky(sheet: _Sheet, horizon: float) -> None:
    pen = sheet.pen("sky-other-merged")
    sheet.wash(pen, 0, horizon, *_SKIES[sheet.sky])
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


def _hills(sheet: _Sheet, horizon: float, colour: RGB, rise: float, name: str, stuff: str) -> None:
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


def _trees(sheet: _Sheet, line: float, count: int, *, pines: bool = False) -> None:
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


def _ground(sheet: _Sheet, stuff: str, top: float, bottom: float, colour: RGB) -> Pen:
    pen = sheet.pen(stuff)
    tone = sheet.tint(colour)
    sheet.wash(pen, top, bottom, shade(tone, 0.12), shade(tone, -0.1))
    return pen


def _park(sheet: _Sheet) -> Setting:
    horizon = 0.5
    _sky(sheet, horizon)
    _hills(sheet, horizon, (128, 176, 140), 0.13, "far hills", "mountain-merged")
    _trees(sheet, horizon + 0.01, 5)
    pen = _ground(sheet, "grass-merged", horizon, 1.0, (122, 182, 92))
    for flower in range(26):
        u = sheet.choices.between(0, sheet.aspect, "flower u", flower)
        v = -sheet.choices.between(horizon + 0.04, 0.99, "flower v", flower)
        tone = sheet.choices.pick(
            ((250, 240, 150), (250, 250, 246), (244, 170, 186)), "flower", flower
        )
        pen.oval((u, v), (0.006, 0.006), sheet.tint(tone), solid=False)
    return Setting(
        sheet.layers, {"ground": Zone(0.62, 0.96, 0.17, 0.25), "sky": Zone(0.14, 0.42, 0.2, 0.2)}
    )


def _snow(sheet: _Sheet) -> Setting:
    horizon = 0.48
    _sky(sheet, horizon)
    _hills(sheet, horizon, (196, 210, 228), 0.26, "peaks", "mountain-merged")
    _trees(sheet, horizon + 0.015, 7, pines=True)
    pen = _ground(sheet, "snow", horizon, 1.0, (238, 242, 248))
    for drift in range(5):
        u = sheet.choices.between(0, sheet.aspect, "drift u", drift)
        v = -sheet.choices.between(horizon + 0.1, 0.95, "drift v", drift)
        tone = shade(sheet.tint((238, 242, 248)), -0.05)
        pen.oval((u, v), (0.2, 0.018), tone, solid=False)
    return Setting(
        sheet.layers, {"ground": Zone(0.62, 0.96, 0.17, 0.25), "sky": Zone(0.14, 0.42, 0.2, 0.2)}
    )


def _beach(sheet: _Sheet) -> Setting:
    horizon, shore = 0.4, 0.6
    _sky(sheet, horizon)
    if sheet.choices.below(2, "island"):
        _hills(sheet, horizon, (124, 158, 150), 0.09, "island", "mountain-merged")
    pen = _ground(sheet, "sea", horizon, shore + 0.02, (70, 152, 190))
    for wave in range(14):
        u = sheet.choices.between(0, sheet.aspect, "wave u", wave)
        v = -sheet.choices.between(horizon + 0.02, shore - 0.01, "wave v", wave)
        pen.bar(
            [(u - 0.03, v), (u + 0.03, v)],
            0.004,
            shade(sheet.tint((120, 190, 216)), 0.2),
            solid=False,
        )
    sand = sheet.pen("sand")
    tone, wide = sheet.tint((238, 214, 160)), sheet.aspect
    edge = [(wide * s / 24, -shore + 0.012 * sin(s * 0.9)) for s in range(25)]
    foam = [(u, v + 0.012) for u, v in edge]
    sand.poly([*foam, *reversed(edge)], shade(tone, 0.7), solid=False)
    sand.poly([*edge, (wide, -1), (0, -1)], tone)
    for grain in range(50):
        u = sheet.choices.between(0, wide, "grain u", grain)
        v = -sheet.choices.between(shore + 0.04, 0.99, "grain v", grain)
        sand.oval((u, v), (0.004, 0.003), shade(tone, -0.12), solid=False)
    return Setting(
        sheet.layers,
        {
            "ground": Zone(0.7, 0.96, 0.18, 0.24),
            "water": Zone(0.47, 0.57, 0.085, 0.11),
            "sky": Zone(0.12, 0.34, 0.2, 0.2),
        },
    )


def _street(sheet: _Sheet) -> Setting:
    horizon, kerb, road = 0.55, 0.62, 0.68
    _sky(sheet, horizon)
    pen, between, wide = sheet.pen("building-other-merged"), sheet.choices.between, sheet.aspect
    lit = sheet.sky == "night"
    shop, sign, u, house = sheet.choices.below(3, "shop"), sheet.choices.pick(SHOPS, "sign"), 0.0, 0
    sign_box: Box = (0.0, 0.0, 0.0, 0.0)
    walls: tuple[RGB, ...] = (
        (222, 168, 130),
        (206, 196, 176),
        (176, 190, 200),
        (214, 150, 140),
        (196, 178, 206),
    )
    while u < wide:
        size, top = between(0.26, 0.36, "house", house), between(0.2, 0.36, "roof", house)
        wall = sheet.tint(walls[(house + sheet.choices.below(5, "wall")) % 5])
        pen.poly([(u, -kerb), (u, -top), (u + size, -top), (u + size, -kerb)], wall)
        pen.poly(
            [(u, -top), (u, -top + 0.025), (u + size, -top + 0.025), (u + size, -top)],
            shade(wall, -0.25),
        )
        pane: RGB = (255, 226, 140) if lit else sheet.tint(GLASS)
        for row in range(2):
            for column in range(3):
                a, b = u + size * (0.12 + 0.29 * column), -top - 0.05 - 0.085 * row
                if b - 0.055 > -kerb + 0.16:
                    pen.poly(
                        [
                            (a, b),
                            (a + size * 0.18, b),
                            (a + size * 0.18, b - 0.055),
                            (a, b - 0.055),
                        ],
                        pane,
                    )
        if house == shop:
            a, b, low = u + size * 0.06, u + size * 0.94, -kerb + 0.14
            pen.poly([(a, low), (b, low), (b, low - 0.055), (a, low - 0.055)], (64, 84, 78))
            pen.word(sign, ((a + b) / 2, low - 0.0275), 0.036, (252, 244, 220))
            pen.poly([(a, -kerb), (a, low - 0.06), (b, low - 0.06), (b, -kerb)], pane)
            sign_box = (*pen.at(a, low), *pen.at(b, low - 0.055))
        else:
            a = u + size * 0.42
            pen.poly(
                [(a, -kerb), (a, -kerb + 0.1), (a + 0.05, -kerb + 0.1), (a + 0.05, -kerb)],
                shade(wall, -0.45),
            )
        u, house = u + size, house + 1
    _ground(sheet, "pavement-merged", kerb - 0.005, road, (198, 194, 188))
    pen = _ground(sheet, "road", road, 1.0, (104, 108, 116))
    pen.bar([(0, -road), (wide, -road)], 0.012, sheet.tint((226, 224, 216)), solid=False)
    for dash in range(6):
        u = wide * (dash + 0.2) / 6
        line = [(u, -0.845), (u + 0.11, -0.845), (u + 0.1, -0.86), (u - 0.01, -0.86)]
        pen.poly(line, sheet.tint((244, 236, 200)), solid=False)
    zones = {
        "ground": Zone(0.655, 0.675, 0.13, 0.13),
        "road": Zone(0.78, 0.96, 0.155, 0.2),
        "sky": Zone(0.1, 0.18, 0.15, 0.15),
    }
    if sign_box[2] > sheet.width:  # the name runs out of the picture
        return Setting(sheet.layers, zones)
    return Setting(sheet.layers, zones, sign, sign_box)


def _railway(sheet: _Sheet) -> Setting:
    horizon = 0.46
    _sky(sheet, horizon)
    _hills(sheet, horizon, (140, 172, 150), 0.16, "far hills", "mountain-merged")
    _trees(sheet, horizon + 0.01, 4)
    _ground(sheet, "grass-merged", horizon, 0.62, (136, 180, 100))
    pen, wide = _ground(sheet, "railroad", 0.62, 0.71, (158, 148, 138)), sheet.aspect
    for sleeper in range(26):
        u = wide * (sleeper + 0.3) / 26
        pen.poly(
            [(u, -0.64), (u + 0.022, -0.64), (u + 0.014, -0.695), (u - 0.008, -0.695)],
            (112, 84, 64),
            solid=False,
        )
    for v in (-0.65, -0.685):
        pen.bar([(0, v), (wide, v)], 0.009, (92, 94, 102), solid=False)
    pen = _ground(sheet, "platform", 0.71, 1.0, (204, 198, 190))
    pen.bar([(0, -0.735), (wide, -0.735)], 0.014, sheet.tint((246, 214, 90)), solid=False)
    zones = {
        "rail": Zone(0.665, 0.665, 0.085, 0.085),
        "ground": Zone(0.82, 0.96, 0.2, 0.235),
        "sky": Zone(0.1, 0.3, 0.16, 0.16),
    }
    return Setting(sheet.layers, zones)


def _window(sheet: _Sheet, u: float, top: float, width: float, height: float) -> None:
    frame = sheet.pen("window-other")
    high, low = _SKIES[sheet.sky]
    corners = [(u, -top), (u + width, -top), (u + width, -top - height), (u, -top - height)]
    frame.poly(corners, low)
    upper = [(u, -top), (u + width, -top), (u + width, -top - height / 2), (u, -top - height / 2)]
    frame.poly(upper, shade(high, 0.2), alpha=150)
    hill = [(u, -top - height), (u, -top - height * 0.75), (u + width * 0.4, -top - height * 0.62)]
    frame.poly(
        [*hill, (u + width, -top - height * 0.8), (u + width, -top - height)],
        sheet.tint((120, 168, 110)),
    )
    for a, b in (
        *zip(corners, [*corners[1:], corners[0]], strict=True),
        ((u + width / 2, -top), (u + width / 2, -top - height)),
    ):
        frame.bar([a, b], 0.016, (250, 248, 242))
    frame.bar(
        [(u - 0.015, -top - height - 0.012), (u + width + 0.015, -top - height - 0.012)],
        0.02,
        (232, 226, 214),
    )


_WALLS: tuple[RGB, ...] = (
    (232, 214, 190),
    (204, 222, 214),
    (214, 220, 236),
    (240, 222, 214),
    (226, 226, 204),
)


def _kitchen(sheet: _Sheet) -> Setting:
    wall, wide = sheet.choices.pick(_WALLS, "wall"), sheet.aspect
    pen = sheet.pen("wall-other-merged")
    sheet.wash(pen, 0, 0.7, shade(wall, 0.15), wall)
    for row in range(3):
        for column in range(17):
            u, v = wide * column / 17, -0.46 - 0.07 * row
            tile = [
                (u + 0.004, v),
                (u + wide / 17 - 0.004, v),
                (u + wide / 17 - 0.004, v - 0.062),
                (u + 0.004, v - 0.062),
            ]
            pen.poly(tile, shade(wall, 0.35 if (row + column) % 2 else 0.5), solid=False)
    _window(sheet, wide * sheet.choices.between(0.08, 0.16, "window"), 0.07, 0.36, 0.32)
    table = sheet.pen("table-merged")
    wood = sheet.choices.pick(((196, 142, 92), (170, 116, 78), (214, 170, 120)), "wood")
    sheet.wash(table, 0.66, 1.0, shade(wood, 0.14), shade(wood, -0.08))
    for line in range(4):
        v = -0.72 - 0.075 * line
        table.bar([(0, v), (wide, v - 0.004)], 0.003, shade(wood, -0.2), solid=False)
    zones = {"table": Zone(0.73, 0.96, 1.25, 1.5), "wall": Zone(0.3, 0.38, 0.5, 0.6)}
    return Setting(sheet.layers, zones)


def _room(sheet: _Sheet) -> Setting:
    wall, wide = sheet.choices.pick(_WALLS, "wall"), sheet.aspect
    pen = sheet.pen("wall-other-merged")
    sheet.wash(pen, 0, 0.64, shade(wall, 0.1), wall)
    for stripe in range(14):
        u = wide * (stripe + 0.25) / 14
        pen.poly(
            [(u, 0), (u + wide / 28, 0), (u + wide / 28, -0.62), (u, -0.62)],
            shade(wall, 0.2),
            alpha=120,
            solid=False,
        )
    pen.poly([(0, -0.61), (wide, -0.61), (wide, -0.645), (0, -0.645)], (250, 246, 238))
    _window(sheet, wide * sheet.choices.between(0.1, 0.2, "window"), 0.1, 0.38, 0.34)
    floor = sheet.pen("floor-wood")
    sheet.wash(floor, 0.64, 1.0, (206, 158, 110), (184, 134, 90))
    for plank in range(5):
        v = -0.68 - 0.02 * plank * (plank + 1)
        floor.bar([(0, v), (wide, v)], 0.003, (160, 114, 76), solid=False)
    rug = sheet.pen("rug-merged")
    tone = COLOURS[sheet.choices.pick(("red", "blue", "green", "purple"), "rug")]
    for scale, fill in (
        (1.0, shade(tone, 0.2)),
        (0.86, shade(tone, 0.55)),
        (0.72, shade(tone, 0.3)),
    ):
        rug.oval((wide * 0.5, -0.85), (wide * 0.36 * scale, 0.115 * scale), fill)
    zones = {"ground": Zone(0.74, 0.96, 0.25, 0.3), "wall": Zone(0.28, 0.34, 0.6, 0.7)}
    return Setting(sheet.layers, zones)


PLACES: dict[str, Callable[[_Sheet], Setting]] = {
    "park": _park,
    "beach": _beach,
    "street": _street,
    "kitchen": _kitchen,
    "railway": _railway,
    "room": _room,
    "snow": _snow,
}
INDOORS = ("kitchen", "room")


def lay_out(place: str, sky: str, width: int, height: int, choices: Choices) -> Setting:
    """The background of a place at an hour, with its zones."""
    return PLACES[place](_Sheet(width, height, choices, sky))
