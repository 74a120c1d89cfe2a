"""The places where scenes play: their background, and where things may stand in it."""

from __future__ import annotations

from collections.abc import Callable
from math import sin

from vision_ift.demo._canvas import RGB, Box, shade
from vision_ift.demo._choices import Choices
from vision_ift.demo._figures import COLOURS, GLASS
from vision_ift.demo._sheet import (
    SKIES,
    Setting,
    Sheet,
    Zone,
    lay_ground,
    paint_sky,
    plant_trees,
    raise_hills,
)

SHOPS = ("BAKERY", "CAFE", "BOOKS", "MUSEUM", "HOTEL", "FLOWERS", "CINEMA", "TEA ROOM")


def _park(sheet: Sheet) -> Setting:
    horizon = 0.5
    paint_sky(sheet, horizon)
    raise_hills(sheet, horizon, (128, 176, 140), 0.13, "far hills", "mountain-merged")
    plant_trees(sheet, horizon + 0.01, 5)
    pen = lay_ground(sheet, "grass-merged", horizon, 1.0, (122, 182, 92))
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


def _snow(sheet: Sheet) -> Setting:
    horizon = 0.48
    paint_sky(sheet, horizon)
    raise_hills(sheet, horizon, (196, 210, 228), 0.26, "peaks", "mountain-merged")
    plant_trees(sheet, horizon + 0.015, 7, pines=True)
    pen = lay_ground(sheet, "snow", horizon, 1.0, (238, 242, 248))
    for drift in range(5):
        u = sheet.choices.between(0, sheet.aspect, "drift u", drift)
        v = -sheet.choices.between(horizon + 0.1, 0.95, "drift v", drift)
        tone = shade(sheet.tint((238, 242, 248)), -0.05)
        pen.oval((u, v), (0.2, 0.018), tone, solid=False)
    return Setting(
        sheet.layers, {"ground": Zone(0.62, 0.96, 0.17, 0.25), "sky": Zone(0.14, 0.42, 0.2, 0.2)}
    )


def _beach(sheet: Sheet) -> Setting:
    horizon, shore = 0.4, 0.6
    paint_sky(sheet, horizon)
    if sheet.choices.below(2, "island"):
        raise_hills(sheet, horizon, (124, 158, 150), 0.09, "island", "mountain-merged")
    pen = lay_ground(sheet, "sea", horizon, shore + 0.02, (70, 152, 190))
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


def _street(sheet: Sheet) -> Setting:
    horizon, kerb, road = 0.55, 0.62, 0.68
    paint_sky(sheet, horizon)
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
    lay_ground(sheet, "pavement-merged", kerb - 0.005, road, (198, 194, 188))
    pen = lay_ground(sheet, "road", road, 1.0, (104, 108, 116))
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


def _railway(sheet: Sheet) -> Setting:
    horizon = 0.46
    paint_sky(sheet, horizon)
    raise_hills(sheet, horizon, (140, 172, 150), 0.16, "far hills", "mountain-merged")
    plant_trees(sheet, horizon + 0.01, 4)
    lay_ground(sheet, "grass-merged", horizon, 0.62, (136, 180, 100))
    pen, wide = lay_ground(sheet, "railroad", 0.62, 0.71, (158, 148, 138)), sheet.aspect
    for sleeper in range(26):
        u = wide * (sleeper + 0.3) / 26
        pen.poly(
            [(u, -0.64), (u + 0.022, -0.64), (u + 0.014, -0.695), (u - 0.008, -0.695)],
            (112, 84, 64),
            solid=False,
        )
    for v in (-0.65, -0.685):
        pen.bar([(0, v), (wide, v)], 0.009, (92, 94, 102), solid=False)
    pen = lay_ground(sheet, "platform", 0.71, 1.0, (204, 198, 190))
    pen.bar([(0, -0.735), (wide, -0.735)], 0.014, sheet.tint((246, 214, 90)), solid=False)
    zones = {
        "rail": Zone(0.665, 0.665, 0.085, 0.085),
        "ground": Zone(0.82, 0.96, 0.2, 0.235),
        "sky": Zone(0.1, 0.3, 0.16, 0.16),
    }
    return Setting(sheet.layers, zones)


def _window(sheet: Sheet, u: float, top: float, width: float, height: float) -> None:
    frame = sheet.pen("window-other")
    high, low = SKIES[sheet.sky]
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


def _kitchen(sheet: Sheet) -> Setting:
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


def _room(sheet: Sheet) -> Setting:
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


PLACES: dict[str, Callable[[Sheet], Setting]] = {
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
    return PLACES[place](Sheet(width, height, choices, sky))
