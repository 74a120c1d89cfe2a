"""English sentences about a scene; every number, color and place in them is the scene's own."""

from __future__ import annotations

from collections.abc import Sequence

from vision_ift.demo._choices import Choices
from vision_ift.demo._scene import Scene, Thing

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_IRREGULAR = {"person": "people", "bus": "buses", "sports ball": "balls", "bench": "benches"}
_CROWDS = {"person": "a crowd of people", "bird": "a flock of birds", "orange": "a pile of oranges"}
_ONE_COLOR = {
    "person",
    "stop sign",
    "traffic light",
    "banana",
    "orange",
    "potted plant",
}  # no color worth saying
_IN = {
    "park": ("in a park", "on the grass", "on a green lawn"),
    "beach": ("on a beach", "by the sea", "at the seaside"),
    "street": ("on a city street", "in a small town", "in front of a row of houses"),
    "kitchen": ("in a kitchen", "in a bright kitchen", "in a tidy kitchen"),
    "railway": ("at a railway station", "by the railway tracks", "next to the tracks"),
    "room": ("in a living room", "in a cozy room", "inside a house"),
    "snow": ("in the snow", "in a snowy landscape", "in front of snowy hills"),
}
PLACE = {
    "park": "a park",
    "beach": "a beach",
    "street": "a city street",
    "kitchen": "a kitchen",
    "railway": "a railway station",
    "room": "a living room",
    "snow": "a snowy landscape",
}
_SKY = {
    "sunny": ("on a sunny day", "under a blue sky"),
    "cloudy": ("on a cloudy day", "under a gray sky"),
    "sunset": ("at sunset", "in the evening light"),
    "night": ("at night", "under the stars"),
}
SCENERY = {
    "park": "grass and trees",
    "beach": "sand, sea and sky",
    "street": "houses along a road",
    "kitchen": "a wooden table and a window",
    "railway": "tracks and a platform",
    "room": "a round rug and a window",
    "snow": "snow, hills and pine trees",
}
_DRAWN = ("a drawing of", "a picture of", "a flat illustration of")
_GROUND = {
    "park": "on the grass",
    "beach": "on the sand",
    "street": "on the pavement",
    "kitchen": "on the table",
    "railway": "on the platform",
    "room": "on the floor",
    "snow": "in the snow",
}
# What one thing does, and what several of them do.
_VERBS = {
    "dog": ("stands", "stand"),
    "cat": ("sits", "sit"),
    "bench": ("stands empty", "stand empty"),
    "sports ball": ("lies", "lie"),
    "umbrella": ("is open", "are open"),
    "bottle": ("stands", "stand"),
    "cup": ("stands", "stand"),
    "banana": ("lies", "lie"),
    "apple": ("lies", "lie"),
    "orange": ("lies", "lie"),
    "book": ("stands", "stand"),
    "potted plant": ("stands", "stand"),
    "traffic light": ("stands", "stand"),
    "stop sign": ("stands", "stand"),
}
ACTIONS = {
    "standing": "standing",
    "waving": "waving",
    "walking": "walking",
    "cheering": "cheering with both arms up",
    "holding an umbrella": "holding an umbrella",
    "flying a kite": "flying a kite",
}


def noun(name: str, count: int = 1) -> str:
    """The everyday word for a category, singular or plural.

    Example:
        >>> noun("sports ball", 2), noun("person", 3), noun("car")
        ('balls', 'people', 'car')
    """
    if count != 1:
        return _IRREGULAR.get(name, f"{name}s")
    return "ball" if name == "sports ball" else name


def number(count: int) -> str:
    """The number as a word, up to ten."""
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def a(words: str) -> str:
    """The words with the article that they need.

    Example:
        >>> a("orange kite"), a("red kite")
        ('an orange kite', 'a red kite')
    """
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def joined(parts: Sequence[str]) -> str:
    """A list as people write it: ``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def sentence(text: str) -> str:
    """The text with a capital at its start and a full stop at its end."""
    return f"{text[0].upper()}{text[1:]}."


def shared_color(scene: Scene, name: str) -> str:
    """The color that all things of a category share, or nothing."""
    colors = {thing.colour for thing in scene.of(name)}
    return colors.pop() if len(colors) == 1 and name not in _ONE_COLOR else ""


def group(scene: Scene, name: str) -> str:
    """All of a category as one phrase: ``two red kites``, ``a dog``, ``a crowd of people``."""
    if name in scene.crowds:
        return _CROWDS[name]
    count, color = len(scene.of(name)), shared_color(scene, name)
    words = f"{color} {noun(name, count)}".strip()
    return a(words) if count == 1 else f"{number(count)} {words}"


def ordered(scene: Scene) -> list[str]:
    """The categories of a scene: people first, then by the size of the largest."""

    def weight(name: str) -> tuple[bool, float, str]:
        areas = [
            (t.box[2] - t.box[0]) * (t.box[3] - t.box[1]) for t in scene.things if t.name == name
        ]
        return name != "person", -max(areas), name

    return sorted(scene.names, key=weight)


def where(scene: Scene, choices: Choices, *name: object) -> str:
    """``on a beach``, ``by the sea`` …"""
    return choices.pick(_IN[scene.place], *name)


def when(scene: Scene, choices: Choices, *name: object) -> str:
    """`` on a sunny day``, or nothing for rooms; starts with a space."""
    return "" if scene.indoors else f" {choices.pick(_SKY[scene.sky], *name)}"


def place_of(scene: Scene, thing: Thing) -> str:
    """Where in the scene a thing is: ``in the sky``, ``on the sand`` …"""
    special = {
        "sky": "in the sky",
        "water": "on the sea",
        "road": "on the road",
        "rail": "on the tracks",
    }
    special |= {"wall": "on the wall"}
    if thing.crowd and thing.name == "bird":
        return "in the sky"
    if thing.name == "person" and scene.place == "room":
        return "in the room"
    return special.get(thing.zone, _GROUND[scene.place])


def action(scene: Scene, name: str) -> str:
    """A sentence about what the things of one category do."""
    things = [thing for thing in scene.things if thing.name == name]
    many = len(things) > 1
    first, spot = things[0], place_of(scene, things[0])
    who = group(scene, name)
    if first.crowd:
        if name == "orange":
            return sentence(f"{who} lies on the table")
        return sentence(f"{who} {'flies' if name == 'bird' else 'has gathered'} {spot}")
    if name == "person":
        if not many:
            return sentence(f"a person dressed in {first.colour} is {ACTIONS[first.doing]} {spot}")
        doings = {thing.doing for thing in things}
        if len(doings) == 1:
            return sentence(
                f"{who} are {ACTIONS[first.doing].replace('an umbrella', 'umbrellas')} {spot}"
            )
        return sentence(f"{who} are {spot}")
    if name == "umbrella" and first.zone == "hand":
        under = f"are held over the heads of {number(len(things))} people"
        return sentence(f"{who} {under if many else 'is held over the head of a person'}")
    if name == "clock":
        return sentence(f"{who} {spot} shows {first.detail}")
    moving = {
        "car": "drive",
        "bus": "drive",
        "train": "stop",
        "boat": "sail",
        "kite": "fly",
        "bird": "fly",
        "airplane": "fly",
    }
    if name in moving:
        verb = moving[name]
        verb = verb if many else {"fly": "flies", "stop": "stops"}.get(verb, f"{verb}s")
    else:
        verb = _VERBS[name][many]
    return sentence(f"{who} {verb} {spot}")


def beside(scene: Scene) -> list[tuple[Thing, str, Thing]]:
    """Pairs of things that are the only ones of their kind, with what is plainly true of them.

    The relation is ``left``, ``right``, ``above`` or ``below``; the middles are at least an eighth
    of the picture apart and, for left and right, the boxes share no column.
    """
    single = [scene.of(name)[0] for name, count in scene.counts.items() if count == 1]
    found = []
    for one in single:
        for other in single:
            if one is other:
                continue
            if one.box[2] <= other.box[0] and other.middle[0] - one.middle[0] > scene.width / 8:
                found.append((one, "left", other))
                found.append((other, "right", one))
            if (
                one.box[3] <= other.box[1]
                and one.zone == "sky"
                and other.zone not in ("sky", "wall")
            ):
                found.append((one, "above", other))
                found.append((other, "below", one))
    return found


RELATION = {
    "left": "to the left of",
    "right": "to the right of",
    "above": "above",
    "below": "below",
}


def captions(scene: Scene, choices: Choices) -> list[str]:
    """Five different captions, as five people might write them."""
    pick, names = choices.pick, ordered(scene)
    place = PLACE[scene.place]
    if not names:
        bare = a(f"empty {place.split(' ', 1)[1]}")
        return [
            sentence(bare + when(scene, choices, 0)),
            sentence(f"there is nobody in this picture of {place}"),
            sentence(f"a quiet view of {SCENERY[scene.place]}"),
            sentence(f"a drawing of {place} with nothing but {SCENERY[scene.place]}"),
            sentence(f"{place} without people or animals{when(scene, choices, 4)}"),
        ]
    groups = [group(scene, name) for name in names]
    verb = "is" if groups[0].startswith(("a ", "an ")) else "are"
    found = [
        joined(groups[:2]) + f" {where(scene, choices, 0)}" + when(scene, choices, 0),
        f"there {verb} {joined(groups[:3])} {where(scene, choices, 1)}",
        f"{place} with {joined(groups[:4])}" + when(scene, choices, 2),
        f"{pick(_DRAWN, 3)} {joined(groups[:3])} {where(scene, choices, 3)}",
        action(scene, names[0])[:-1],
    ]
    pairs = beside(scene)
    if pairs:
        one, relation, other = pick(pairs, "pair")
        found[3] = f"{group(scene, one.name)} {RELATION[relation]} {group(scene, other.name)}"
    if len(names) > 1 and choices.below(2, "second"):
        found[1] = action(scene, names[1])[:-1]
    unique = dict.fromkeys(sentence(text) for text in found)
    spare = (
        sentence(f"{joined(groups[:4])} seen {where(scene, choices, place, n)}") for n in range(9)
    )
    for text in spare:
        if len(unique) < 5:
            unique[text] = None
    return list(unique)


def paragraph(scene: Scene, choices: Choices) -> str:
    """A paragraph of several sentences that walks through the picture."""
    names = ordered(scene)
    openings = (
        f"This is a picture of {PLACE[scene.place]}{when(scene, choices, 'p')}",
        f"The picture shows {PLACE[scene.place]}{when(scene, choices, 'p')}",
        f"We look at {PLACE[scene.place]}{when(scene, choices, 'p')}",
    )
    parts = [sentence(choices.pick(openings, "opening"))]
    parts += [action(scene, name) for name in names[:4]]
    for name in names[:4]:
        colors = [thing.colour for thing in scene.of(name)]
        if len(colors) == 2 and len(set(colors)) == 2 and name not in _ONE_COLOR:
            parts.append(
                sentence(f"one of the {noun(name, 2)} is {colors[0]} and the other is {colors[1]}")
            )
    pairs = beside(scene)
    if pairs:
        one, relation, other = choices.pick(pairs, "paragraph pair")
        parts.append(
            sentence(f"the {noun(one.name)} is {RELATION[relation]} the {noun(other.name)}")
        )
    for thing in scene.things:
        if thing.text:
            bearer = f"the {thing.name}" if len(scene.of(thing.name)) == 1 else a(thing.name)
            parts.append(sentence(f'on {bearer} one can read "{thing.text}"'))
    if scene.sign:
        parts.append(sentence(f'a sign above a shop says "{scene.sign}"'))
    if not names:
        parts.append("There are no people and no animals in it.")
    parts.append(sentence(f"{SCENERY[scene.place]} make up the rest of the picture"))
    return " ".join(parts)
