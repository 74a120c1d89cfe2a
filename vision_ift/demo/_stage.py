"""Puts things into a place until a scene is complete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from vision_ift.demo._canvas import Box, Lettering, Mark, Pen, box_of
from vision_ift.demo._choices import Choices
from vision_ift.demo._figures import COLOURS, HAND, INK, Look
from vision_ift.demo._kinds import CROWDS, KINDS, MENU
from vision_ift.demo._places import INDOORS, PLACES, lay_out
from vision_ift.demo._scene import Scene, Thing, overlap
from vision_ift.demo._sheet import Setting, Zone
from vision_ift.demo._things import LAMPS

_SIZES = ((480, 360), (480, 360), (400, 300), (480, 320), (448, 336), (320, 240))
_WORDS = {
    "train": ("EXPRESS", "CITY LINE", "NORTH"),
    "boat": ("LUNA", "ROSA", "STELLA", "WAVE", "NORA", "PEARL"),
    "stop sign": ("STOP",),
}
_DOINGS = ("standing", "waving", "walking", "cheering", "standing")
_TWO_SIDED = ("dog", "bird", "car", "airplane", "banana", "cup")  # look right or left
_HELD = 0.62  # an umbrella in a hand, in heights of the person
_SHADOW = (20, 24, 40)


class _Spot(NamedTuple):
    """Where a thing stands and how high it is, in pixels."""

    x: float
    foot: float
    tall: float


class _Part(NamedTuple):
    """What is put down: its kind and the choices made for it."""

    name: str
    colour: str
    zone: str
    key: tuple[object, ...]
    doing: str = ""
    text: str = ""
    detail: str = ""


class _Stage:
    """Finds room for things in one setting."""

    def __init__(self, setting: Setting, width: int, height: int, choices: Choices) -> None:
        self.setting, self.width, self.height, self.choices = setting, width, height, choices
        self.things: list[Thing] = []
        self.taken: list[Box] = []

    def add(self, name: str, zone: str, number: int, colour: str) -> None:
        """One more thing, if there is room."""
        part, metres, sides = self._detailed(_Part(name, colour, zone, (name, number)))
        if zone == "rail":
            rail = self.setting.zones["rail"]
            x = self.width * self.choices.between(0.42, 0.58, *part.key, "x")
            tall = metres * rail.far_metre * self.height
            self._put(part, _Spot(x, rail.far * self.height, tall))
        elif zone == "hand":
            self._put_holder(part)
        else:
            spot = self._spot(
                self.setting.zones[zone], metres, sides, part.key, wall=zone == "wall"
            )
            if spot:
                self._put(part, spot)

    def _detailed(self, part: _Part) -> tuple[_Part, float, float]:
        """The part with what it does and says, its height in metres and its half width."""
        name, pick, key = part.name, self.choices.pick, part.key
        kind = KINDS[name]
        metres, sides = kind.metres, kind.half_width
        if name == "person":
            part = part._replace(doing=pick(_DOINGS, *key, "doing"))
            metres = self._grown(key)
        elif name == "bird":
            part = part._replace(doing="flying")
        elif name == "clock":
            hour, minute = (
                1 + self.choices.below(12, *key, "hour"),
                pick(("00", "30"), *key, "minute"),
            )
            part = part._replace(detail=f"{hour}:{minute}")
            if part.zone == "ground":
                part, metres, sides = part._replace(doing="on a post"), 2.3, 0.17
        elif name == "traffic light":
            part = part._replace(detail=pick(tuple(LAMPS), *key, "lamp"))
        elif name == "bus":
            part = part._replace(text=str(2 + self.choices.below(97, *key, "line")))
        elif name in _WORDS:
            part = part._replace(text=pick(_WORDS[name], *key, "text"))
        return part, metres, sides

    def _grown(self, key: tuple[object, ...]) -> float:
        return 1.25 if self.choices.below(4, *key, "child") == 0 else 1.7

    def _spot(
        self,
        zone: Zone,
        metres: float,
        sides: float,
        key: tuple[object, ...],
        *,
        wall: bool = False,
    ) -> _Spot | None:
        """Room for something new in a zone, or None where none was found."""
        for turn in range(24):
            depth = self.choices.unit(*key, "depth", turn)
            metre = zone.far_metre + (zone.near_metre - zone.far_metre) * depth
            tall = metres * metre * self.height
            foot = max((zone.far + (zone.near - zone.far) * depth) * self.height, tall + 5.0)
            left, right = sides * tall + 4, self.width - sides * tall - 4
            left = max(left, 0.64 * self.width) if wall else left  # the window is on the left
            if left >= right:
                return None
            x = self.choices.between(left, right, *key, "x", turn)
            box = (x - sides * tall, foot - tall, x + sides * tall, foot)
            if all(overlap(box, other) < 0.06 for other in self.taken):
                self.taken.append(box)
                return _Spot(x, foot, tall)
        return None

    def _put_holder(self, part: _Part) -> None:
        """A person who holds the umbrella up."""
        metres = self._grown(part.key)
        room = self._spot(self.setting.zones["ground"], metres * 1.5, 0.4, part.key)
        if room is None:
            return
        tall = room.tall / 1.5
        holder = _Spot(room.x - 0.13 * tall, room.foot, tall)
        wears = self.choices.pick(KINDS["person"].colours, *part.key, "wears")
        self._put(_Part("person", wears, "hand", part.key, "holding an umbrella"), holder)
        hand = holder.x + HAND[0] * tall, holder.foot - (HAND[1] - 0.03) * tall
        self._put(part, _Spot(*hand, _HELD * tall))

    def _put(self, part: _Part, spot: _Spot) -> None:
        """Draw a thing at its spot and remember it."""
        name, key = part.name, part.key
        kind = KINDS[name]
        flip = name in _TWO_SIDED and self.choices.below(2, *key, "flip") == 1
        pen = Pen(*spot, flip=flip)
        held = part.zone == "hand" and name == "umbrella"
        if part.zone in ("ground", "road", "table") or name == "person":
            slim = kind.half_width < 0.6 and name != "cup"
            reach = 0.12 if part.doing == "on a post" else 0.2 if slim else kind.half_width * 0.9
            pen.oval((0.04, 0.005), (reach, 0.05 + 0.02 * reach), _SHADOW, alpha=52, solid=False)
        look = Look(COLOURS[part.colour], self.choices.under(*key), *part[4:])
        kind.draw(pen, look)
        left, top, right, bottom = box_of(pen.marks)
        thing = Thing(
            name,
            part.colour,
            part.zone,
            foot=self.things[-1].foot if held else (spot.x, spot.foot),  # as near as the holder
            box=(max(0.0, left), max(0.0, top), min(self.width, right), min(self.height, bottom)),
            marks=tuple(pen.marks),
            keypoints=tuple(pen.joints),
            doing=part.doing,
            text=part.text,
            detail=part.detail,
        )
        self.things.append(thing)

    def crowd(self, name: str) -> None:
        """A crowd of one kind, drawn as many small ones close together."""
        marks: list[Mark] = []
        middle = self.choices.between(0.3, 0.7, "crowd") * self.width
        for number in range(12):
            choices = self.choices.under("crowd", number)
            colour = COLOURS[choices.pick(KINDS[name].colours, "colour")]
            u, v, tall = self._in_crowd(name, number, choices)
            pen = Pen(middle + u * self.height, v * self.height, tall * self.height)
            KINDS[name].draw(pen, Look(colour, choices, "flying" if name == "bird" else "standing"))
            marks += pen.marks
        box = box_of(marks)
        self.taken.append(box)
        self.things.append(
            Thing(name, "", "crowd", (middle, box[3]), box, tuple(marks), crowd=True)
        )

    def _in_crowd(self, name: str, number: int, choices: Choices) -> tuple[float, float, float]:
        """Place beside the crowd's middle, foot and height, in heights of the picture."""
        if name == "person":
            base = 0.645 if "road" in self.setting.zones else 0.575
            return (number - 5.5) * 0.034, base + choices.between(-0.01, 0.01, "foot"), 0.13
        if name == "bird":
            row, place = divmod(number, 4)
            u = (place - 1.5 + choices.between(-0.3, 0.3, "x")) * 0.12
            return u, 0.12 + 0.065 * row + choices.between(-0.015, 0.015, "foot"), 0.035
        row = 0 if number < 5 else 1 if number < 9 else 2  # a pile: 5, 4 and 3
        place = number - (0, 5, 9)[row]
        return (place - (4 - row) / 2) * 0.085, 0.8 - 0.074 * row, 0.09

    def fly(self) -> None:
        """Let the first free person hold the string of the first kite."""
        kites = [thing for thing in self.things if thing.name == "kite"]
        free = [n for n, t in enumerate(self.things) if t.name == "person" and t.zone == "ground"]
        if not kites or not free:
            return
        flyer = self.things[free[0]]
        tall = (flyer.foot[1] - flyer.box[1]) / 0.99
        part = _Part("person", flyer.colour, "ground", ("person", "flyer"), "flying a kite")
        self._put(part, _Spot(*flyer.foot, tall))
        person = self.things.pop()
        hand = person.keypoints[9]
        left, top, right, bottom = kites[0].box
        string = Pen(0, 0, 1)
        ends = [(hand[0], -hand[1]), ((left + right) / 2, -(top + (bottom - top) * 0.3))]
        string.bar(ends, 1.1, INK, solid=False)
        self.things[free[0]] = replace(person, marks=(*string.marks, *person.marks))


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
    width, height = choices.pick(_SIZES, "size")
    skies = ("sunny", "sunny", "cloudy", "sunset", "night")
    sky = choices.pick(("sunny", "cloudy", "night") if place in INDOORS else skies, "sky")
    setting = lay_out(place, sky, width, height, choices.under("setting"))
    stage = _Stage(setting, width, height, choices.under("things"))
    if not empty:
        _fill(stage, place, want, choices)
    things = sorted(stage.things, key=lambda thing: thing.foot[1])
    layers = tuple(setting.layers)
    scene = Scene(key, width, height, place, sky, layers, tuple(things), setting.sign)
    return _readable(scene, setting)


def _fill(stage: _Stage, place: str, want: Sequence[str], choices: Choices) -> None:
    """Things from the place's menu: those that are wanted, or most often its first, then others."""
    menu = choices.shuffled(MENU[place], "menu")
    first = list(want) or ([MENU[place][0][0]] if choices.below(4, "first") else [])
    menu = [*(e for e in menu if e[0] in first), *(e for e in menu if e[0] not in first)]
    crowd = CROWDS.get(place) if choices.below(6, "crowd") == 0 and not want else None
    if crowd:  # no single ones beside a crowd of them, so that every count is plain
        stage.crowd(crowd)
        menu = [e for e in menu if e[0] != crowd and not (crowd == "person" and e[1] == "hand")]
    kinds = max(len(want), 2 + choices.below(4, "kinds"))
    for name, zone, most in menu[:kinds]:
        alike = choices.below(2, name, "alike") == 0
        for number in range(min(most, choices.pick((1, 1, 1, 2, 2, 3, 4), name, "count"))):
            colour = choices.pick(KINDS[name].colours, name, "colour", 0 if alike else number)
            stage.add(name, zone, number, colour)
    stage.fly()


def _readable(scene: Scene, setting: Setting) -> Scene:
    """The scene without the words that are too small, cut off or hidden by something nearer."""
    things = []
    for place, thing in enumerate(scene.things):
        words = [mark for mark in thing.marks if isinstance(mark, Lettering)]
        if words and thing.text:
            (x, y), size = words[0].middle, words[0].size
            reach = size * (0.4 * len(thing.text) + 0.4)
            box = (x - reach, y - size, x + reach, y + size)
            hidden = any(overlap(box, other.box) > 0 for other in scene.things[place + 1 :])
            if hidden or size < 7.5 or box[0] < 0 or box[2] > scene.width:
                thing = replace(thing, text="")
        things.append(thing)
    hidden = any(overlap(setting.sign_box, thing.box) > 0 for thing in things)
    return replace(scene, things=tuple(things), sign="" if hidden else scene.sign)
