"""How signs, toys, food and household things look; all stand on (0, 0) and are one unit high."""

from __future__ import annotations

from itertools import pairwise
from math import cos, radians, sin

from vision_ift.demo._canvas import RGB, Pen, shade
from vision_ift.demo._figures import COLOURS, INK, Look, arc

_STEEL: RGB = (150, 156, 164)
_WHITE: RGB = (252, 252, 250)
LAMPS: dict[str, RGB] = {"red": (236, 64, 58), "yellow": (250, 206, 66), "green": (70, 200, 104)}


def traffic_light(pen: Pen, look: Look) -> None:
    """A traffic light; ``detail`` is the lamp that is lit."""
    pen.bar([(0, 0.02), (0, 0.6)], 0.045, _STEEL)
    pen.poly([(-0.12, 0.53), (-0.12, 0.99), (0.12, 0.99), (0.12, 0.53)], look.colour)
    for place, (name, lamp) in enumerate(LAMPS.items()):
        lit = name == look.detail
        pen.oval((0, 0.91 - 0.15 * place), (0.066, 0.066), lamp if lit else shade(lamp, -0.72))


def stop_sign(pen: Pen, look: Look) -> None:
    """A stop sign."""
    pen.bar([(0, 0.015), (0, 0.6)], 0.04, _STEEL)
    for radius, fill in ((0.225, _WHITE), (0.205, look.colour)):
        angles = [radians(22.5 + 45 * corner) for corner in range(8)]
        pen.poly([(radius * cos(a), 0.78 + radius * sin(a)) for a in angles], fill)
    pen.word(look.text, (0, 0.78), 0.125, _WHITE)


def bench(pen: Pen, look: Look) -> None:
    """A park bench."""
    dark = shade(look.colour, -0.35)
    for u in (-0.82, 0.82):
        pen.bar([(u, 0.02), (u, 0.46)], 0.09, dark)
        pen.bar([(u * 0.93, 0.46), (u * 0.93, 0.97)], 0.07, dark)
    for v in (0.62, 0.78, 0.94):
        pen.bar([(-0.95, v), (0.95, v)], 0.1, look.colour)
    pen.poly([(-1.02, 0.4), (1.02, 0.4), (0.96, 0.53), (-0.96, 0.53)], shade(look.colour, 0.12))
    pen.poly([(-1.02, 0.4), (1.02, 0.4), (1.02, 0.35), (-1.02, 0.35)], dark)


def umbrella(pen: Pen, look: Look) -> None:
    """An open umbrella with striped panels."""
    pen.bar([(0, 0.03), (0, 0.97)], 0.03, (120, 92, 70))
    rims = [-0.55 * cos(radians(30 * step)) for step in range(7)]
    for place, (left, right) in enumerate(pairwise(rims)):
        down = arc((0, 0.58), (right, 0.38), 90, 0, 8)
        up = arc((0, 0.58), (left, 0.38), 0, 90, 8)
        scallop = [((2 * right + left) / 3, 0.61), ((right + 2 * left) / 3, 0.61)]
        fill = shade(look.colour, 0.6) if place % 2 else look.colour
        pen.poly([*down, *scallop, *up], fill)
    pen.oval((0, 0.975), (0.025, 0.025), shade(look.colour, -0.3))


def sports_ball(pen: Pen, look: Look) -> None:
    """A beach ball, or a football where it is white."""
    pen.oval((0, 0.5), (0.5, 0.5), look.colour)
    if look.colour == COLOURS["white"]:
        angles = [radians(90 + 72 * corner) for corner in range(5)]
        pen.poly([(0.19 * cos(a), 0.5 + 0.19 * sin(a)) for a in angles], INK)
        for a in angles:
            pen.bar(
                [(0.19 * cos(a), 0.5 + 0.19 * sin(a)), (0.36 * cos(a), 0.5 + 0.36 * sin(a))],
                0.03,
                INK,
            )
            edge = [(0.48 * cos(a + d), 0.5 + 0.48 * sin(a + d)) for d in (-0.3, 0.0, 0.3)]
            pen.poly([(0.34 * cos(a), 0.5 + 0.34 * sin(a)), *edge], INK)
        return
    for left, right in ((-0.31, -0.14), (0.14, 0.31)):
        pen.poly(
            [*arc((0, 0.5), (left, 0.5), 90, -90), *arc((0, 0.5), (right, 0.5), -90, 90)], _WHITE
        )
    pen.oval((-0.16, 0.7), (0.1, 0.07), (255, 255, 255), alpha=110)


def kite(pen: Pen, look: Look) -> None:
    """A kite with a tail of bows."""
    light = shade(look.colour, 0.5)
    tail = [(0.0, 0.36), (0.07, 0.27), (-0.04, 0.18), (0.06, 0.09), (0.0, 0.01)]
    pen.bar(tail, 0.016, INK)
    for u, v in tail[1:4]:
        pen.poly([(u, v), (u - 0.07, v + 0.035), (u - 0.07, v - 0.035)], look.colour)
        pen.poly([(u, v), (u + 0.07, v + 0.035), (u + 0.07, v - 0.035)], look.colour)
    top, right, foot, left, middle = (0, 1.0), (0.3, 0.74), (0, 0.34), (-0.3, 0.74), (0, 0.74)
    for corners, fill in (
        ((top, right, middle), look.colour),
        ((top, left, middle), light),
        ((foot, right, middle), light),
        ((foot, left, middle), look.colour),
    ):
        pen.poly(corners, fill)
    pen.bar([top, foot], 0.014, INK)
    pen.bar([left, right], 0.014, INK)


def bottle(pen: Pen, look: Look) -> None:
    """A bottle with a cork and a label."""
    pen.poly([(-0.045, 0.9), (-0.04, 1.0), (0.04, 1.0), (0.045, 0.9)], (196, 160, 112))
    outline = [
        (-0.055, 0.92),
        (-0.055, 0.72),
        (-0.09, 0.64),
        (-0.15, 0.54),
        (-0.15, 0.03),
        (-0.12, 0.0),
    ]
    pen.poly([*outline, *((-u, v) for u, v in reversed(outline))], look.colour)
    pen.poly([(-0.07, 0.93), (-0.07, 0.88), (0.07, 0.88), (0.07, 0.93)], shade(look.colour, -0.25))
    pen.poly([(-0.15, 0.16), (-0.15, 0.42), (0.15, 0.42), (0.15, 0.16)], (250, 240, 216))
    pen.bar([(-0.09, 0.33), (0.09, 0.33)], 0.025, shade(look.colour, -0.2))
    pen.bar([(-0.06, 0.25), (0.06, 0.25)], 0.018, shade(look.colour, -0.2))
    pen.bar([(-0.1, 0.47), (-0.1, 0.53)], 0.03, shade(look.colour, 0.55))


def cup(pen: Pen, look: Look) -> None:
    """A mug with something hot in it."""
    handle = arc((0.4, 0.48), (0.24, 0.24), 80, -80, 8)
    pen.bar(handle, 0.085, shade(look.colour, -0.18))
    pen.poly(
        [(-0.43, 0.9), (-0.37, 0.06), (-0.32, 0.0), (0.32, 0.0), (0.37, 0.06), (0.43, 0.9)],
        look.colour,
    )
    pen.poly([(-0.36, 0.8), (-0.31, 0.1), (-0.22, 0.1), (-0.26, 0.8)], shade(look.colour, 0.4))
    pen.oval((0, 0.9), (0.43, 0.1), shade(look.colour, 0.3))
    pen.oval((0, 0.9), (0.36, 0.07), (98, 62, 40))


def banana(pen: Pen, look: Look) -> None:
    """A banana."""
    outer = arc((0, 0.95), (0.95, 0.95), 192, 345, 14)
    inner = arc((0, 1.12), (0.86, 0.74), 345, 196, 14)
    pen.poly([*outer, *inner], look.colour)
    ridge = arc((0, 0.98), (0.88, 0.84), 205, 335, 12)
    pen.poly([*ridge, *arc((0, 1.0), (0.88, 0.8), 335, 205, 12)], shade(look.colour, -0.18))
    pen.poly([(0.8, 0.78), (0.95, 0.99), (1.02, 0.93), (0.93, 0.7)], (116, 88, 44))
    pen.oval((-0.9, 0.82), (0.07, 0.08), (116, 88, 44))


def apple(pen: Pen, look: Look) -> None:
    """An apple with a leaf."""
    pen.bar([(0, 0.72), (0.04, 0.95)], 0.05, (110, 78, 48))
    pen.soft([(0.05, 0.86), (0.16, 1.02), (0.38, 1.0), (0.3, 0.84)], (90, 160, 80))
    outline = [(0.0, 0.72), (0.22, 0.86), (0.5, 0.78), (0.54, 0.4), (0.34, -0.02), (0.0, 0.04)]
    pen.soft([*outline, *((-u, v) for u, v in reversed(outline[1:-1]))], look.colour)
    pen.oval((-0.25, 0.56), (0.08, 0.13), shade(look.colour, 0.5))


def orange(pen: Pen, look: Look) -> None:
    """An orange."""
    pen.oval((0, 0.48), (0.48, 0.48), look.colour)
    pen.oval((-0.17, 0.64), (0.12, 0.1), shade(look.colour, 0.35))
    for u, v in ((0.15, 0.3), (0.25, 0.5), (-0.05, 0.25), (0.05, 0.45), (-0.25, 0.4), (0.2, 0.7)):
        pen.oval((u, v), (0.018, 0.018), shade(look.colour, -0.16))
    pen.soft([(0.0, 0.92), (0.1, 1.02), (0.34, 1.0), (0.22, 0.86)], (84, 150, 76))
    pen.oval((0, 0.93), (0.05, 0.035), (84, 110, 60))


def potted_plant(pen: Pen, look: Look) -> None:
    """A plant in a pot; the pot has the colour."""
    leaf = COLOURS["green"]
    for place, (u, v, width) in enumerate(
        (
            (-0.34, 0.66, 0.15),
            (0.34, 0.66, 0.15),
            (-0.19, 0.86, 0.15),
            (0.19, 0.86, 0.15),
            (0, 1.0, 0.15),
        )
    ):
        middle = (u * 0.6, (v + 0.36) / 2)
        pen.soft(
            [
                (0, 0.3),
                (middle[0] - width, middle[1]),
                (u, v + 0.06),
                (middle[0] + width, middle[1]),
            ],
            shade(leaf, (-0.22, -0.14, -0.05, 0.06, 0.16)[place]),
        )
        pen.bar([(0, 0.34), (u * 0.85, v * 0.92)], 0.012, shade(leaf, -0.35))
    pen.poly([(-0.25, 0.36), (-0.17, 0.0), (0.17, 0.0), (0.25, 0.36)], look.colour)
    pen.poly([(-0.28, 0.4), (-0.28, 0.31), (0.28, 0.31), (0.28, 0.4)], shade(look.colour, -0.18))


def clock(pen: Pen, look: Look) -> None:
    """A round clock; ``detail`` is the time it shows, such as ``3:30``; on a post if so said."""
    middle, radius = (0.0, 0.5), 0.5
    if look.doing == "on a post":
        middle, radius = (0.0, 0.84), 0.16
        pen.bar([(0, 0.015), (0, 0.7)], 0.035, shade(look.colour, -0.2))
        pen.bar([(-0.07, 0.015), (0.07, 0.015)], 0.03, shade(look.colour, -0.2))
    pen.oval(middle, (radius, radius), look.colour)
    pen.oval(middle, (radius * 0.84, radius * 0.84), _WHITE)
    hour, minute = (int(part) for part in look.detail.split(":"))
    for tick in range(12):
        a = radians(30 * tick)
        near, far = radius * (0.62 if tick % 3 == 0 else 0.69), radius * 0.77
        ends = [(middle[0] + r * sin(a), middle[1] + r * cos(a)) for r in (near, far)]
        pen.bar(ends, radius * 0.055, INK)
    for turn, length, width in ((hour / 12 + minute / 720, 0.42, 0.11), (minute / 60, 0.64, 0.07)):
        a = radians(360 * turn)
        tip = (middle[0] + radius * length * sin(a), middle[1] + radius * length * cos(a))
        pen.bar([middle, tip], radius * width, INK)
    pen.oval(middle, (radius * 0.08, radius * 0.08), COLOURS["red"])


def book(pen: Pen, look: Look) -> None:
    """A closed book that stands upright."""
    pen.poly([(-0.36, 0.0), (-0.36, 1.0), (0.36, 1.0), (0.36, 0.0)], shade(look.colour, -0.25))
    pen.poly([(-0.28, 0.02), (-0.28, 0.96), (0.34, 0.96), (0.34, 0.02)], (250, 244, 226))
    pen.poly([(-0.36, 0.04), (-0.36, 1.0), (0.31, 1.0), (0.31, 0.04)], look.colour)
    pen.poly([(-0.36, 0.04), (-0.36, 1.0), (-0.25, 1.0), (-0.25, 0.04)], shade(look.colour, -0.15))
    pen.poly([(-0.14, 0.62), (-0.14, 0.84), (0.22, 0.84), (0.22, 0.62)], (252, 238, 200))
    pen.bar([(-0.06, 0.76), (0.14, 0.76)], 0.03, shade(look.colour, -0.3))
    pen.bar([(-0.02, 0.69), (0.1, 0.69)], 0.025, shade(look.colour, -0.3))
