"""The kinds of things that scenes are made of, and where each may be met."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from vision_ift.demo import _figures, _things
from vision_ift.demo._canvas import Pen
from vision_ift.demo._figures import Look


class Kind(NamedTuple):
    """How high in metres, how wide (to one side, in heights), drawn by what, in which colours."""

    metres: float
    half_width: float
    draw: Callable[[Pen, Look], None]
    colours: tuple[str, ...]


_BRIGHT = ("red", "blue", "green", "yellow", "purple", "pink", "orange")
KINDS: dict[str, Kind] = {
    "person": Kind(
        1.7, 0.29, _figures.person, ("red", "blue", "green", "yellow", "purple", "pink")
    ),
    "dog": Kind(0.8, 0.85, _figures.dog, ("brown", "black", "white", "gray")),
    "cat": Kind(0.62, 0.48, _figures.cat, ("orange", "black", "gray", "white")),
    "bird": Kind(0.42, 0.9, _figures.bird, ("blue", "red", "yellow", "white")),
    "car": Kind(1.35, 1.22, _figures.car, ("red", "blue", "green", "yellow", "white", "black")),
    "bus": Kind(2.1, 1.08, _figures.bus, ("red", "blue", "green", "yellow")),
    "train": Kind(3.3, 2.02, _figures.train, ("red", "blue", "green", "orange")),
    "boat": Kind(3.0, 0.65, _figures.boat, ("red", "blue", "green", "yellow", "white")),
    "airplane": Kind(0.7, 1.38, _figures.airplane, ("white", "red", "blue", "yellow")),
    "traffic light": Kind(2.6, 0.14, _things.traffic_light, ("black",)),
    "stop sign": Kind(2.3, 0.25, _things.stop_sign, ("red",)),
    "bench": Kind(0.9, 1.05, _things.bench, ("brown", "green", "red")),
    "umbrella": Kind(1.9, 0.57, _things.umbrella, _BRIGHT),
    "sports ball": Kind(
        0.36, 0.52, _things.sports_ball, ("white", "red", "blue", "green", "yellow")
    ),
    "kite": Kind(1.0, 0.32, _things.kite, _BRIGHT),
    "bottle": Kind(0.29, 0.17, _things.bottle, ("green", "brown", "blue")),
    "cup": Kind(0.12, 0.68, _things.cup, ("red", "blue", "white", "yellow", "green")),
    "banana": Kind(0.085, 1.04, _things.banana, ("yellow",)),
    "apple": Kind(0.115, 0.55, _things.apple, ("red", "green", "yellow")),
    "orange": Kind(0.11, 0.5, _things.orange, ("orange",)),
    "potted plant": Kind(0.85, 0.42, _things.potted_plant, ("brown", "white", "blue", "orange")),
    "clock": Kind(0.4, 0.52, _things.clock, ("black", "blue", "red", "brown")),
    "book": Kind(0.22, 0.38, _things.book, ("red", "blue", "green", "yellow", "purple")),
}
# What may be met where: kind, zone, at most how many.
MENU: dict[str, tuple[tuple[str, str, int], ...]] = {
    "park": (
        ("person", "ground", 3),
        ("dog", "ground", 3),
        ("bench", "ground", 2),
        ("sports ball", "ground", 2),
        ("kite", "sky", 3),
        ("umbrella", "hand", 1),
        ("bird", "sky", 4),
        ("cat", "ground", 2),
    ),
    "beach": (
        ("boat", "water", 3),
        ("person", "ground", 3),
        ("umbrella", "ground", 3),
        ("sports ball", "ground", 3),
        ("bird", "sky", 4),
        ("kite", "sky", 2),
        ("dog", "ground", 2),
    ),
    "street": (
        ("car", "road", 3),
        ("person", "ground", 4),
        ("bus", "road", 1),
        ("traffic light", "ground", 1),
        ("stop sign", "ground", 1),
        ("umbrella", "hand", 2),
        ("dog", "ground", 2),
        ("airplane", "sky", 1),
    ),
    "kitchen": (
        ("bottle", "table", 3),
        ("cup", "table", 3),
        ("banana", "table", 3),
        ("apple", "table", 5),
        ("orange", "table", 4),
        ("clock", "wall", 1),
        ("book", "table", 2),
    ),
    "railway": (
        ("train", "rail", 1),
        ("person", "ground", 4),
        ("clock", "ground", 1),
        ("bench", "ground", 1),
        ("bird", "sky", 4),
        ("umbrella", "hand", 1),
        ("dog", "ground", 1),
    ),
    "room": (
        ("cat", "ground", 3),
        ("dog", "ground", 2),
        ("person", "ground", 2),
        ("potted plant", "ground", 2),
        ("clock", "wall", 1),
        ("sports ball", "ground", 2),
    ),
    "snow": (
        ("person", "ground", 3),
        ("dog", "ground", 3),
        ("bird", "sky", 3),
        ("stop sign", "ground", 1),
        ("umbrella", "hand", 1),
        ("cat", "ground", 1),
    ),
}
CROWDS = {"park": "person", "street": "person", "beach": "bird", "kitchen": "orange"}
