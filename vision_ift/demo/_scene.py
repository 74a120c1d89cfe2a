"""Scenes: a place, an hour and a few things whose kinds, colours and boxes are known exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vision_ift.demo import _figures, _things
from vision_ift.demo._canvas import Box, Lettering, Mark, Patch, Pen, Point, box_of, cover, paint
from vision_ift.demo._choices import Choices
from vision_ift.demo._figures import COLOURS, HAND, INK, Look
from vision_ift.demo._places import INDOORS, PLACES, Layer, Setting, Zone, lay_out

SIZES = ((480, 360), (480, 360), (400, 300), (480, 320), (448, 336), (320, 240))
_NAMES = ("LUNA", "ROSA", "STELLA", "WAVE", "NORA", "PEARL")
_HELD = 0.62  # an umbrella in a hand, in heights of the person


class _Kind(NamedTuple):
    """How high in metres, how wide (to one side, in heights), drawn by what, in which colours."""

    metres: float
    half_width: float
    draw: Callable[[Pen, Look], None]
    colours: tuple[str, ...]


_GAY = ("red", "blue", "green", "yellow", "purple", "pink", "orange")
KINDS: dict[str, _Kind] = {
    "person": _Kind(
        1.7, 0.29, _figures.person, ("red", "blue", "green", "yellow", "purple", "pink")
    ),
    "dog": _Kind(0.8, 0.85, _figures.dog, ("brown", "black", "white", "gray")),
    "cat": _Kind(0.62, 0.48, _figures.cat, ("orange", "black", "gray", "white")),
    "bird": _Kind(0.42, 0.9, _figures.bird, ("blue", "red", "yellow", "white")),
    "car": _Kind(1.35, 1.22, _figures.car, ("red", "blue", "green", "yellow", "white", "black")),
    "bus": _Kind(2.1, 1.08, _figures.bus, ("red", "blue", "green", "yellow")),
    "train": _Kind(3.3, 2.02, _figures.train, ("red", "blue", "green", "orange")),
    "boat": _Kind(3.0, 0.65, _figures.boat, ("red", "blue", "green", "yellow", "white")),
    "airplane": _Kind(0.7, 1.38, _figures.airplane, ("white", "red", "blue", "yellow")),
    "traffic light": _Kind(2.6, 0.14, _things.traffic_light, ("black",)),
    "stop sign": _Kind(2.3, 0.25, _things.stop_sign, ("red",)),
    "bench": _Kind(0.9, 1.05, _things.bench, ("brown", "green", "red")),
    "umbrella": _Kind(1.9, 0.57, _things.umbrella, _GAY),
    "sports ball": _Kind(
        0.36, 0.52, _things.sports_ball, ("white", "red", "blue", "green", "yellow")
    ),
    "kite": _Kind(1.0, 0.32, _things.kite, _GAY),
    "bottle": _Kind(0.29, 0.17, _things.bottle, ("green", "brown", "blue")),
    "cup": _Kind(0.12, 0.68, _things.cup, ("red", "blue", "white", "yellow", "green")),
    "banana": _Kind(0.085, 1.04, _things.banana, ("yellow",)),
    "apple": _Kind(0.115, 0.55, _things.apple, ("red", "green", "yellow")),
    "orange": _Kind(0.11, 0.5, _things.orange, ("orange",)),
    "potted plant": _Kind(0.85, 0.42, _things.potted_plant, ("brown", "white", "blue", "orange")),
    "clock": _Kind(0.4, 0.52, _things.clock, ("black", "blue", "red", "brown")),
    "book": _Kind(0.22, 0.38, _things.book, ("red", "blue", "green", "yellow", "purple")),
}
# What may be met where: kind, zone, at most how many.
_MENU: dict[str, tuple[tuple[str, str, int], ...]] = {
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
_CROWDS = {"park": "person", "street": "person", "beach": "bird", "kitchen": "orange"}


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


def _overlap(a: Box, b: Box) -> float:
    """The common part of two boxes, as a part of the smaller one."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    return wide * high / min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))


class _Stage:
    """Finds room for things in one setting."""

    def __init__(self, setting: Setting, width: int, height: int, choices: Choices) -> None:
        self.setting, self.width, self.height, self.choices = setting, width, height, choices
        self.things: list[Thing] = []
        self.taken: list[Box] = []

    def spot(
        self, zone: Zone, wall: bool, metres: float, sides: float, *name: object
    ) -> tuple[float, float, float] | None:
        """Foot and height in pixels of something new, or None where no room was found."""
        for turn in range(24):
            depth = self.choices.unit(*name, "depth", turn)
            metre = (zone.far_metre + (zone.near_metre - zone.far_metre) * depth) * self.height
            tall = metres * metre
            foot = (zone.far + (zone.near - zone.far) * depth) * self.height
            foot = max(foot, tall + 5.0)
            left, right = sides * tall + 4, self.width - sides * tall - 4
            left = max(left, 0.64 * self.width) if wall else left
            if left >= right:
                return None
            x = self.choices.between(left, right, *name, "x", turn)
            box = (x - sides * tall, foot - tall, x + sides * tall, foot)
            if all(_overlap(box, other) < 0.06 for other in self.taken):
                self.taken.append(box)
                return x, foot, tall
        return None

    def add(self, name: str, zone: str, number: int, colour: str) -> None:
        """One more thing, if there is room."""
        kind, key = KINDS[name], (name, number)
        metres, sides, doing, text, detail = kind.metres, kind.half_width, "", "", ""
        held = zone == "hand"
        if name == "person" or held:
            doing = self.choices.pick(
                ("standing", "waving", "walking", "cheering", "standing"), *key, "doing"
            )
            metres = 1.25 if self.choices.below(4, *key, "child") == 0 else 1.7
        if name == "clock" and zone == "ground":
            metres, sides, doing = 2.3, 0.17, "on a post"
        if name == "potted plant" and self.setting.zones.get("table"):
            metres = 0.3
        if name == "bird":
            doing = "flying"
        if name == "clock":
            detail = f"{1 + self.choices.below(12, *key, 'hour')}:{self.choices.pick(('00', '30'), *key, 'minute')}"
        elif name == "traffic light":
            detail = self.choices.pick(tuple(_things.LAMPS), *key, "lamp")
        elif name == "bus":
            text = str(2 + self.choices.below(97, *key, "line"))
        elif name in ("train", "boat", "stop sign"):
            words = {
                "train": ("EXPRESS", "CITY LINE", "NORTH"),
                "boat": _NAMES,
                "stop sign": ("STOP",),
            }
            text = self.choices.pick(words[name], *key, "text")
        if zone == "rail":
            place = self.setting.zones["rail"]
            tall = kind.metres * place.far_metre * self.height
            x = self.width * self.choices.between(0.42, 0.58, *key, "x")
            spot: tuple[float, float, float] | None = (x, place.far * self.height, tall)
        elif held:
            place = self.setting.zones["ground"]
            spot = self.spot(place, False, metres * 1.5, 0.4, *key)
            spot = spot and (spot[0] - 0.13 * spot[2] / 1.5, spot[1], spot[2] / 1.5)
        else:
            spot = self.spot(self.setting.zones[zone], zone == "wall", metres, sides, *key)
        if spot is None:
            return
        if held:
            wears = self.choices.pick(KINDS["person"].colours, *key, "wears")
            self.put("person", wears, zone, spot, "holding an umbrella", "", "", key)
            x, foot, tall = spot
            spot = (x + HAND[0] * tall, foot - (HAND[1] - 0.03) * tall, _HELD * tall)
            self.put("umbrella", colour, zone, spot, "", "", "", key)
        else:
            self.put(name, colour, zone, spot, doing, text, detail, key)

    def put(
        self,
        name: str,
        colour: str,
        zone: str,
        spot: tuple[float, float, float],
        doing: str,
        text: str,
        detail: str,
        key: tuple[object, ...],
    ) -> None:
        """Draw a thing at its spot and remember it."""
        x, foot, tall = spot
        kind = KINDS[name]
        flips = name in ("dog", "bird", "car", "airplane", "banana", "cup")
        flip = flips and self.choices.below(2, *key, "flip") == 1
        pen = Pen(x, foot, tall, flip=flip)
        on_air = zone in ("sky", "wall", "hand") and name != "person"
        if not on_air and zone not in ("water", "rail"):
            reach = 0.2 if tall > 1.6 * kind.half_width * tall else kind.half_width * 0.9
            reach = 0.12 if doing == "on a post" else reach
            pen.oval(
                (0.04, 0.005), (reach, 0.05 + 0.02 * reach), (20, 24, 40), alpha=52, solid=False
            )
        kind.draw(pen, Look(COLOURS[colour], self.choices.under(*key), doing, text, detail))
        left, top, right, bottom = box_of(pen.marks)
        box = (
            max(0.0, left),
            max(0.0, top),
            min(float(self.width), right),
            min(float(self.height), bottom),
        )
        marks, joints = tuple(pen.marks), tuple(pen.joints)
        held = zone == "hand" and name == "umbrella"
        stands = self.things[-1].foot if held else (x, foot)  # as near as the one who holds it
        self.things.append(
            Thing(name, colour, zone, stands, box, marks, joints, doing, text, detail)
        )

    def crowd(self, name: str) -> None:
        """A crowd of one kind, drawn as many small ones close together."""
        marks: list[Mark] = []
        middle = self.choices.between(0.3, 0.7, "crowd") * self.width
        for number in range(13):
            choices = self.choices.under("crowd", number)
            colour = COLOURS[choices.pick(KINDS[name].colours, "colour")]
            if name == "person":
                base = 0.575 if "road" not in self.setting.zones else 0.645
                x, foot, tall = (
                    middle + (number - 6) * 0.034 * self.height,
                    base * self.height,
                    0.13,
                )
                foot += choices.between(-0.01, 0.01, "foot") * self.height
            elif name == "bird":
                x = (
                    middle
                    + ((number % 5) - 2 + choices.between(-0.3, 0.3, "x")) * 0.11 * self.height
                )
                foot, tall = (0.12 + 0.065 * (number // 5)) * self.height, 0.035
                foot += choices.between(-0.015, 0.015, "foot") * self.height
            else:
                row = 0 if number < 5 else 1 if number < 9 else 2 if number < 12 else 3
                place = number - (0, 5, 9, 12)[row]
                x = middle + (place - (4 - row) / 2) * 0.085 * self.height
                foot, tall = (0.8 - 0.074 * row) * self.height, 0.09
                if row == 3:
                    continue
            pen = Pen(x, foot, tall * self.height)
            KINDS[name].draw(pen, Look(colour, choices, "flying" if name == "bird" else "standing"))
            marks += pen.marks
        box = box_of(marks)
        self.taken.append(box)
        foot_point = (middle, box[3])
        self.things.append(Thing(name, "", "crowd", foot_point, box, tuple(marks), crowd=True))

    def fly(self) -> None:
        """Let the first free person hold the string of the first kite."""
        kites = [thing for thing in self.things if thing.name == "kite"]
        people = [
            place
            for place, thing in enumerate(self.things)
            if thing.name == "person" and thing.zone == "ground"
        ]
        if not kites or not people:
            return
        flyer = self.things[people[0]]
        tall = flyer.foot[1] - flyer.box[1]
        key = ("person", "flyer")
        self.put(
            "person",
            flyer.colour,
            "ground",
            (*flyer.foot, tall / 0.99),
            "flying a kite",
            "",
            "",
            key,
        )
        person = self.things.pop()
        hand = person.keypoints[9]
        x0, y0, x1, y1 = kites[0].box
        string = Pen(0, 0, 1)
        string.bar(
            [(hand[0], -hand[1]), ((x0 + x1) / 2, -(y0 + (y1 - y0) * 0.3))], 1.1, INK, solid=False
        )
        self.things[people[0]] = replace(person, marks=(*string.marks, *person.marks))


def compose(
    key: str, choices: Choices, *, place: str = "", want: Sequence[str] = (), empty: bool = False
) -> Scene:
    """A scene from names alone: the same key and choices give the same scene.

    Args:
        key: A name for the scene.
        choices: Where its choices come from.
        place: One of ``PLACES``; chosen where empty.
        want: Categories that come first; the others are chosen from the place's menu.
        empty: Leave the place without things.
    """
    place = place or choices.pick(tuple(PLACES), "place")
    width, height = choices.pick(SIZES, "size")
    skies = (
        ("sunny", "cloudy", "night")
        if place in INDOORS
        else ("sunny", "sunny", "cloudy", "sunset", "night")
    )
    sky = choices.pick(skies, "sky")
    setting = lay_out(place, sky, width, height, choices.under("setting"))
    stage = _Stage(setting, width, height, choices.under("things"))
    menu = choices.shuffled(_MENU[place], "menu")
    first = list(want) or ([_MENU[place][0][0]] if choices.below(4, "first") else [])
    menu = [*(e for e in menu if e[0] in first), *(e for e in menu if e[0] not in first)]
    crowd = (
        _CROWDS.get(place) if choices.below(6, "crowd") == 0 and not empty and not want else None
    )
    if crowd:
        stage.crowd(crowd)
        menu = [
            entry
            for entry in menu
            if entry[0] != crowd and not (crowd == "person" and entry[1] == "hand")
        ]
    kinds = 0 if empty else max(len(want), 2 + choices.below(4, "kinds"))
    for name, zone, most in menu[:kinds]:
        count = min(most, choices.pick((1, 1, 1, 2, 2, 3, 4), name, "count"))
        alike = choices.below(2, name, "alike") == 0
        for number in range(count):
            colour = choices.pick(KINDS[name].colours, name, "colour", 0 if alike else number)
            stage.add(name, zone, number, colour)
    stage.fly()
    things = sorted(stage.things, key=lambda thing: thing.foot[1])
    return _readable(
        Scene(key, width, height, place, sky, tuple(setting.layers), tuple(things), setting.sign),
        setting,
    )


def _readable(scene: Scene, setting: Setting) -> Scene:
    """The scene without the words that something nearer hides."""
    things = []
    for place, thing in enumerate(scene.things):
        words = [mark for mark in thing.marks if isinstance(mark, Lettering)]
        if words and thing.text:
            x, y = words[0].middle
            reach = words[0].size * (0.4 * len(thing.text) + 0.4)
            box = (x - reach, y - words[0].size, x + reach, y + words[0].size)
            hidden = any(_overlap(box, other.box) > 0 for other in scene.things[place + 1 :])
            small = words[0].size < 7.5
            outside = box[0] < 0 or box[2] > scene.width
            thing = replace(thing, text="") if hidden or small or outside else thing
        things.append(thing)
    hides = (
        any(_overlap(setting.sign_box, thing.box) > 0 for thing in scene.things)
        if scene.sign
        else True
    )
    return replace(scene, things=tuple(things), sign="" if hides else scene.sign)
