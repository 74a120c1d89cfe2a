"""How people, animals and vehicles look; all stand on (0, 0) and are one unit high."""

from __future__ import annotations

from math import cos, radians, sin
from typing import NamedTuple

from vision_ift.demo._canvas import RGB, Pen, Point, shade
from vision_ift.demo._choices import Choices

COLOURS: dict[str, RGB] = {
    "red": (212, 62, 66),
    "blue": (52, 108, 192),
    "green": (74, 148, 82),
    "yellow": (246, 200, 62),
    "orange": (238, 132, 50),
    "purple": (126, 88, 170),
    "pink": (238, 138, 164),
    "brown": (142, 96, 62),
    "black": (52, 52, 60),
    "white": (245, 244, 240),
    "gray": (142, 148, 156),
}
INK: RGB = (45, 45, 52)
GLASS: RGB = (190, 222, 238)
_SKINS: tuple[RGB, ...] = ((250, 214, 184), (234, 184, 144), (196, 140, 100), (132, 88, 62))
_HAIRS: tuple[RGB, ...] = ((60, 42, 34), (118, 74, 44), (220, 172, 88), (46, 46, 54), (168, 84, 48))
_TROUSERS: tuple[RGB, ...] = ((62, 78, 112), (92, 84, 78), (70, 70, 82), (118, 104, 84))


class Look(NamedTuple):
    """What decides how a thing is drawn besides its kind."""

    colour: RGB
    choices: Choices
    doing: str = ""
    text: str = ""
    detail: str = ""


class _Pose(NamedTuple):
    """Elbow, wrist, knee and ankle of the side to the right of the picture, then of the other."""

    right: tuple[Point, Point, Point, Point]
    left: tuple[Point, Point, Point, Point]


def _straight(side: int) -> tuple[Point, Point, Point, Point]:
    return (side * 0.165, 0.6), (side * 0.18, 0.465), (side * 0.065, 0.25), (side * 0.07, 0.05)


_RAISED: tuple[Point, Point] = ((0.215, 0.72), (0.225, 0.885))
_POSES: dict[str, _Pose] = {
    "standing": _Pose(_straight(1), _straight(-1)),
    "waving": _Pose(((0.21, 0.8), (0.27, 0.95), *_straight(1)[2:]), _straight(-1)),
    "walking": _Pose(
        ((0.18, 0.62), (0.25, 0.52), (0.12, 0.26), (0.16, 0.055)),
        ((-0.16, 0.6), (-0.24, 0.5), (-0.06, 0.26), (-0.17, 0.06)),
    ),
    "cheering": _Pose(
        ((0.2, 0.8), (0.25, 0.97), *_straight(1)[2:]),
        ((-0.2, 0.8), (-0.25, 0.97), *_straight(-1)[2:]),
    ),
    "holding": _Pose((*_RAISED, *_straight(1)[2:]), _straight(-1)),
}
HAND: Point = _RAISED[1]


def person(pen: Pen, look: Look) -> None:
    """A person who faces the viewer, so the person's left is the picture's right."""
    pick = look.choices.pick
    skin, hair = pick(_SKINS, "skin"), pick(_HAIRS, "hair")
    dress = look.choices.below(3, "dress") == 0
    long_hair = dress or look.choices.below(3, "long hair") == 0
    pose = _POSES[look.doing if look.doing in _POSES else "holding"]
    shirt, trousers = look.colour, pick(_TROUSERS, "trousers")
    head = 0.875
    if long_hair:
        pen.oval((0, head - 0.03), (0.125, 0.15), hair)
    for side, (elbow, wrist, knee, ankle) in ((1, pose.right), (-1, pose.left)):
        pen.bar([(side * 0.055, 0.44), knee, ankle], 0.075, skin if dress else trousers)
        pen.oval((ankle[0] + side * 0.02, 0.028), (0.06, 0.03), INK)
        pen.bar([(side * 0.105, 0.715), elbow, wrist], 0.055, skin)
        pen.bar([(side * 0.105, 0.715), elbow], 0.068, shade(shirt, -0.12))
        pen.oval(wrist, (0.035, 0.035), skin)
    hem, low = (0.19, 0.27) if dress else (0.105, 0.42)
    pen.bar([(0, 0.74), (0, 0.8)], 0.06, shade(skin, -0.12))
    pen.poly(
        [(-0.1, 0.765), (0.1, 0.765), (0.135, 0.72), (hem, low), (-hem, low), (-0.135, 0.72)], shirt
    )
    pen.oval((0, 0.765), (0.05, 0.03), shade(skin, -0.12))
    pen.oval((0, head), (0.1, 0.11), skin)
    for side in (1, -1):
        pen.oval((side * 0.1, head), (0.02, 0.025), skin)
        pen.oval((side * 0.036, head + 0.005), (0.011, 0.015), INK)
    pen.oval((0, head + 0.012), (0.106, 0.106), hair, start=18, stop=162)
    pen.oval((-0.02, head + 0.07), (0.09, 0.042), hair)
    pen.oval((0, head - 0.022), (0.012, 0.009), shade(skin, -0.2))
    pen.oval((0, head - 0.042), (0.036, 0.03), shade(skin, -0.45), start=200, stop=340)
    face = [
        (0, head - 0.02),
        (0.036, head + 0.005),
        (-0.036, head + 0.005),
        (0.1, head),
        (-0.1, head),
    ]
    body = [(side * 0.105, 0.715) for side in (1, -1)]
    for part in range(4):
        body += [pose.right[part], pose.left[part]]
        if part == 1:
            body += [(0.055, 0.44), (-0.055, 0.44)]
    pen.joints = [pen.at(u, v) for u, v in face + body]


def dog(pen: Pen, look: Look) -> None:
    """A dog seen from the side."""
    coat, dark = look.colour, shade(look.colour, -0.25)
    pen.bar([(-0.42, 0.56), (-0.55, 0.7), (-0.56, 0.86)], 0.075, coat)
    for u in (-0.23, 0.24):
        pen.bar([(u, 0.4), (u, 0.06)], 0.1, dark)
    for u in (-0.36, 0.12):
        pen.bar([(u, 0.4), (u, 0.06)], 0.11, coat)
        pen.oval((u + 0.03, 0.04), (0.085, 0.045), coat)
    pen.soft(
        [(-0.52, 0.34), (-0.5, 0.68), (-0.1, 0.7), (0.36, 0.76), (0.42, 0.36), (-0.1, 0.3)], coat
    )
    pen.soft(
        [
            (0.16, 0.6),
            (0.18, 1.0),
            (0.52, 1.04),
            (0.6, 0.82),
            (0.82, 0.76),
            (0.8, 0.56),
            (0.44, 0.52),
        ],
        coat,
    )
    pen.bar([(0.2, 0.62), (0.4, 0.54)], 0.06, COLOURS["red"] if coat != COLOURS["red"] else INK)
    pen.soft([(0.16, 0.98), (0.1, 0.6), (0.28, 0.56), (0.36, 0.78), (0.34, 1.0)], dark)
    pen.oval((0.735, 0.72), (0.05, 0.045), INK if coat != COLOURS["black"] else (20, 20, 24))
    pen.oval((0.48, 0.83), (0.036, 0.04), (250, 250, 250))
    pen.oval((0.49, 0.83), (0.022, 0.028), INK)


def cat(pen: Pen, look: Look) -> None:
    """A cat that sits and looks at the viewer."""
    coat, dark, light = look.colour, shade(look.colour, -0.22), shade(look.colour, 0.45)
    pen.bar([(0.2, 0.07), (0.38, 0.08), (0.45, 0.2), (0.43, 0.34), (0.36, 0.42)], 0.085, dark)
    pen.soft(
        [(-0.34, 0.0), (-0.32, 0.38), (-0.1, 0.66), (0.1, 0.66), (0.32, 0.38), (0.34, 0.0)], coat
    )
    pen.oval((0, 0.3), (0.12, 0.19), light)
    for side in (1, -1):
        pen.oval((side * 0.11, 0.05), (0.105, 0.055), coat)
        pen.poly([(side * 0.255, 0.74), (side * 0.225, 1.0), (side * 0.05, 0.9)], coat)
        pen.poly([(side * 0.215, 0.8), (side * 0.2, 0.94), (side * 0.1, 0.88)], (236, 160, 160))
    pen.oval((0, 0.73), (0.27, 0.21), coat)
    for u in (-0.08, 0.0, 0.08):
        pen.poly([(u - 0.018, 0.935), (u + 0.018, 0.935), (u, 0.84)], dark)
    for side in (1, -1):
        pen.oval((side * 0.11, 0.75), (0.055, 0.06), (206, 226, 120))
        pen.oval((side * 0.11, 0.75), (0.02, 0.052), INK)
        for rise in (0.0, 0.045):
            pen.bar([(side * 0.1, 0.645), (side * 0.34, 0.63 + rise)], 0.01, dark, solid=False)
    pen.oval((0, 0.635), (0.09, 0.06), light)
    pen.poly([(-0.035, 0.68), (0.035, 0.68), (0, 0.645)], (226, 122, 132))


def bird(pen: Pen, look: Look) -> None:
    """A bird, standing or flying."""
    coat, dark, belly = look.colour, shade(look.colour, -0.25), shade(look.colour, 0.45)
    beak = COLOURS["orange"] if look.colour != COLOURS["orange"] else COLOURS["yellow"]
    if look.doing == "flying":
        pen.poly([(0.0, 0.5), (-0.02, 0.98), (0.24, 0.46)], dark)
        pen.soft([(-0.78, 0.3), (-0.72, 0.12), (-0.3, 0.26), (-0.36, 0.4)], dark)
        pen.soft(
            [(-0.5, 0.32), (-0.1, 0.56), (0.4, 0.62), (0.66, 0.46), (0.4, 0.2), (-0.1, 0.14)], coat
        )
        pen.oval((0.42, 0.46), (0.16, 0.15), coat)
        pen.poly([(0.55, 0.52), (0.78, 0.44), (0.55, 0.4)], beak)
        pen.soft(
            [(-0.18, 0.44), (-0.5, 1.08), (-0.1, 1.0), (0.3, 0.42), (0.05, 0.34)],
            shade(coat, -0.12),
        )
        pen.oval((0.47, 0.5), (0.03, 0.034), INK)
        return
    for u in (-0.02, 0.12):
        pen.bar([(u, 0.3), (u, 0.02)], 0.04, beak)
        pen.bar([(u - 0.05, 0.02), (u + 0.1, 0.02)], 0.035, beak)
    pen.soft([(-0.85, 0.34), (-0.3, 0.62), (0.1, 1.0), (0.55, 0.9), (0.5, 0.3), (-0.1, 0.12)], coat)
    pen.oval((0.2, 0.42), (0.2, 0.18), belly)
    pen.poly([(0.42, 0.83), (0.68, 0.74), (0.42, 0.68)], beak)
    pen.soft([(-0.55, 0.34), (-0.2, 0.72), (0.16, 0.62), (0.05, 0.32)], dark)
    pen.oval((0.3, 0.79), (0.045, 0.05), (250, 250, 250))
    pen.oval((0.31, 0.79), (0.028, 0.034), INK)


def _wheel(pen: Pen, u: float, radius: float) -> None:
    pen.oval((u, radius), (radius, radius), INK)
    pen.oval((u, radius), (radius * 0.52, radius * 0.52), (196, 200, 206))
    pen.oval((u, radius), (radius * 0.2, radius * 0.2), INK)


def car(pen: Pen, look: Look) -> None:
    """A car seen from the side."""
    paint, dark = look.colour, shade(look.colour, -0.22)
    pen.soft([(-0.72, 0.5), (-0.5, 1.02), (0.3, 1.02), (0.78, 0.5)], paint)
    pen.soft(
        [(-1.16, 0.2), (-1.18, 0.6), (-0.6, 0.66), (0.6, 0.66), (1.16, 0.58), (1.2, 0.2)], paint
    )
    pen.poly([(-1.12, 0.26), (1.14, 0.26), (1.12, 0.34), (-1.12, 0.34)], dark)
    pen.poly([(-0.52, 0.62), (-0.38, 0.9), (-0.07, 0.9), (-0.07, 0.62)], GLASS)
    pen.poly([(0.02, 0.62), (0.02, 0.9), (0.26, 0.9), (0.52, 0.62)], GLASS)
    pen.bar([(0.04, 0.53), (0.16, 0.53)], 0.035, dark)
    pen.oval((1.07, 0.46), (0.07, 0.07), (255, 240, 190))
    pen.oval((-1.1, 0.46), (0.05, 0.06), (226, 80, 70))
    for u in (-0.66, 0.68):
        _wheel(pen, u, 0.21)


def bus(pen: Pen, look: Look) -> None:
    """A bus with its line number."""
    paint, dark = look.colour, shade(look.colour, -0.2)
    pen.poly(
        [(-1.05, 0.12), (-1.05, 0.94), (-1.0, 1.0), (1.0, 1.0), (1.05, 0.94), (1.05, 0.12)], paint
    )
    pen.poly([(-1.05, 0.3), (1.05, 0.3), (1.05, 0.4), (-1.05, 0.4)], shade(paint, 0.55))
    for place in range(5):
        u = -0.97 + place * 0.3
        pen.poly([(u, 0.52), (u, 0.78), (u + 0.25, 0.78), (u + 0.25, 0.52)], GLASS)
    pen.poly([(0.56, 0.16), (0.56, 0.78), (0.76, 0.78), (0.76, 0.16)], shade(GLASS, -0.12))
    pen.bar([(0.66, 0.17), (0.66, 0.77)], 0.02, dark)
    pen.poly([(0.82, 0.48), (0.82, 0.8), (1.05, 0.8), (1.05, 0.48)], GLASS)
    pen.poly([(-0.3, 0.83), (-0.3, 0.97), (0.3, 0.97), (0.3, 0.83)], INK)
    pen.word(look.text, (0, 0.9), 0.115, (255, 226, 120))
    pen.oval((1.0, 0.26), (0.045, 0.05), (255, 240, 190))
    for u in (-0.65, 0.36):
        _wheel(pen, u, 0.15)


def train(pen: Pen, look: Look) -> None:
    """A train of an engine and a coach."""
    paint, dark = look.colour, shade(look.colour, -0.25)
    pen.bar([(-0.12, 0.3), (0.12, 0.3)], 0.08, INK)
    pen.poly(
        [(-2.0, 0.16), (-2.0, 0.92), (-1.94, 1.0), (-0.1, 1.0), (-0.06, 0.94), (-0.06, 0.16)], paint
    )
    pen.poly(
        [(0.06, 0.16), (0.06, 0.94), (0.1, 1.0), (1.3, 1.0), (1.62, 0.9), (2.0, 0.4), (2.0, 0.16)],
        paint,
    )
    pen.poly([(-2.0, 0.16), (-2.0, 0.3), (-0.06, 0.3), (-0.06, 0.16)], dark)
    pen.poly([(0.06, 0.16), (0.06, 0.3), (2.0, 0.3), (2.0, 0.16)], dark)
    for u in (-1.86, -1.42, -0.98, -0.54, 0.2, 0.6):
        pen.poly([(u, 0.55), (u, 0.84), (u + 0.32, 0.84), (u + 0.32, 0.55)], GLASS)
    pen.poly([(1.3, 0.55), (1.3, 0.86), (1.52, 0.82), (1.74, 0.55)], GLASS)
    pen.poly([(1.06, 0.3), (1.06, 0.86), (1.22, 0.86), (1.22, 0.3)], shade(paint, 0.4))
    pen.word(look.text, (0.55, 0.42), 0.13, (255, 255, 255) if paint != COLOURS["white"] else INK)
    pen.oval((1.9, 0.38), (0.05, 0.05), (255, 240, 190))
    for u in (-1.7, -1.4, -0.66, -0.36, 0.36, 0.66, 1.4, 1.7):
        _wheel(pen, u, 0.1)


def boat(pen: Pen, look: Look) -> None:
    """A sailing boat with its name on the hull."""
    pen.bar([(0, 0.16), (0, 0.98)], 0.028, (110, 82, 60))
    pen.poly([(0.03, 0.94), (0.03, 0.27), (0.48, 0.27), (0.3, 0.52), (0.14, 0.78)], (250, 246, 236))
    pen.poly([(-0.03, 0.86), (-0.03, 0.27), (-0.38, 0.27)], (236, 228, 212))
    pen.poly([(0.0, 1.0), (0.14, 0.965), (0.0, 0.93)], look.colour)
    pen.poly(
        [(-0.6, 0.22), (0.62, 0.22), (0.44, 0.02), (0.38, 0), (-0.4, 0), (-0.47, 0.04)], look.colour
    )
    pen.poly([(-0.6, 0.22), (0.62, 0.22), (0.58, 0.175), (-0.58, 0.175)], shade(look.colour, 0.55))
    if look.text:
        white = look.colour in (COLOURS["white"], COLOURS["yellow"])
        pen.word(look.text, (0, 0.095), 0.1, INK if white else (255, 255, 255))


def airplane(pen: Pen, look: Look) -> None:
    """An airplane seen from the side."""
    paint, dark = look.colour, shade(look.colour, -0.2)
    pen.poly([(-0.1, 0.5), (-0.42, 0.86), (-0.26, 0.86), (0.3, 0.5)], dark)
    pen.poly([(-1.1, 0.5), (-1.18, 1.0), (-0.98, 1.0), (-0.72, 0.55)], dark)
    pen.soft(
        [(-1.25, 0.56), (-0.9, 0.3), (0.8, 0.26), (1.35, 0.42), (0.9, 0.66), (-0.9, 0.66)], paint
    )
    pen.poly([(0.84, 0.48), (0.9, 0.57), (1.02, 0.55), (1.08, 0.48)], GLASS)
    for place in range(7):
        pen.oval((-0.62 + place * 0.2, 0.52), (0.04, 0.05), GLASS)
    pen.poly([(-0.16, 0.4), (-0.6, 0.0), (-0.38, 0.0), (0.34, 0.38)], shade(paint, -0.1))
    pen.poly([(-1.1, 0.5), (-1.3, 0.38), (-1.16, 0.38), (-0.8, 0.48)], shade(paint, -0.1))


def arc(middle: Point, radii: Point, start: float, stop: float, steps: int = 10) -> list[Point]:
    """Points on a part of an ellipse, angles in degrees."""
    angles = [radians(start + (stop - start) * step / steps) for step in range(steps + 1)]
    return [(middle[0] + radii[0] * cos(a), middle[1] + radii[1] * sin(a)) for a in angles]
