"""Questions about a scene whose answers follow from the scene."""

from __future__ import annotations

from vision_ift.demo._choices import Choices
from vision_ift.demo._figures import COLOURS
from vision_ift.demo._kinds import KINDS
from vision_ift.demo._lore import LORE
from vision_ift.demo._numbers import complex_counts, plain_counts
from vision_ift.demo._query import Query, others
from vision_ift.demo._scene import Scene, Thing
from vision_ift.demo._words import (
    ACTIONS,
    PLACE,
    RELATION,
    a,
    action,
    beside,
    group,
    noun,
    ordered,
    place_of,
    sentence,
    shared_color,
)

_SKY_WORDS = {
    "sunny": (
        "What is the weather like?",
        "sunny",
        ("clear", "sunshine"),
        "The sky is blue and the sun is out.",
    ),
    "cloudy": (
        "What is the weather like?",
        "cloudy",
        ("overcast", "clouds"),
        "Gray clouds fill the sky.",
    ),
    "sunset": (
        "What time of day is it?",
        "evening",
        ("sunset", "dusk"),
        "The sun is low and the sky has turned orange.",
    ),
    "night": (
        "What time of day is it?",
        "night",
        ("nighttime", "night time"),
        "The moon and the stars are out.",
    ),
}
_TEXTS = {
    "stop sign": "What does the red {bearer} say?",
    "boat": "What is the name of the {bearer}?",
    "train": "What is written on the {bearer}?",
    "bus": "What number does the {bearer} have?",
}


def _colors(scene: Scene, choices: Choices) -> list[Query]:
    found = []
    for name in scene.counts:
        things = scene.of(name)
        if name == "person" and len(things) == 1:
            question, color = "What color is the person wearing?", things[0].colour
            why = f"The person wears {color}."
        elif name == "potted plant" and len(things) == 1:
            question, color = "What color is the pot of the plant?", things[0].colour
            why = f"The plant stands in {a(color)} pot."
        else:
            color, one = shared_color(scene, name), len(things) == 1
            if not color:
                continue
            verb, words = ("is", noun(name)) if one else ("are", noun(name, 2))
            question, why = f"What color {verb} the {words}?", f"The {words} {verb} {color}."
        wrong = tuple(
            choices.shuffled([other for other in COLOURS if other != color], name, "wrong")[:5]
        )
        also = {"gray": ("grey", "silver"), "brown": ("dark brown", "tan")}.get(
            color, (f"{color} color",)
        )
        found.append(Query("color", question, color, why, wrong, also, name))
    return found


def _presence(scene: Scene, choices: Choices) -> list[Query]:
    found = []
    for name in choices.shuffled(sorted(scene.counts), "present")[:2]:
        why = f"{action(scene, name)}"
        found.append(
            Query(
                "yes",
                f"Is there {a(noun(name))} in the picture?",
                "yes",
                why,
                ("no",),
                ("yeah",),
                name,
            )
        )
    near = [name for name in KINDS if name not in scene.names]
    for name in choices.shuffled(near, "missing")[:2]:
        why = f"There is no {noun(name)} anywhere in the picture."
        if scene.things:
            seen = group(scene, ordered(scene)[0])
            why = sentence(f"the picture shows {seen}, but no {noun(name)}")
        found.append(
            Query(
                "no",
                f"Is there {a(noun(name))} in the picture?",
                "no",
                why,
                ("yes",),
                ("nope",),
                name,
            )
        )
    return found


def _setting(scene: Scene) -> list[Query]:
    place = PLACE[scene.place]
    bare = {"street": "street", "snow": "snow", "railway": "station", "room": "living room"}.get(
        scene.place, scene.place
    )
    also = {
        "street": ("city", "town"),
        "beach": ("seaside", "coast"),
        "railway": ("train station", "platform"),
    }
    wrong = tuple(
        word
        for word in ("park", "beach", "street", "kitchen", "living room", "station")
        if word != bare
    )
    why = sentence(f"the picture shows {place}")
    found = [
        Query("place", "Where is this?", bare, why, wrong, also.get(scene.place, (f"the {bare}",)))
    ]
    inside = "yes" if scene.indoors else "no"
    other = "no" if scene.indoors else "yes"
    found.append(
        Query(
            inside,
            "Is this picture taken indoors?",
            inside,
            why,
            (other,),
            ("yeah",) if scene.indoors else ("nope",),
        )
    )
    if not scene.indoors:
        question, answer, same, reason = _SKY_WORDS[scene.sky]
        hours = {
            "What is the weather like?": ("sunny", "cloudy", "rainy", "snowing"),
            "What time of day is it?": ("morning", "noon", "night", "evening"),
        }
        found.append(Query("sky", question, answer, reason, others(hours[question], answer), same))
        dark = "yes" if scene.sky == "night" else "no"
        if scene.sky == "sunset":
            return found  # neither dark nor bright
        found.append(
            Query(
                dark,
                "Is it dark outside?",
                dark,
                reason,
                ("no" if dark == "yes" else "yes",),
                ("yeah",) if dark == "yes" else ("nope",),
            )
        )
    return found


def _details(scene: Scene) -> list[Query]:
    found = []
    for name, count in scene.counts.items():
        if count != 1:
            continue
        thing = scene.of(name)[0]
        if name == "clock":
            wrong = others(("3:00", "6:30", "9:00", "12:30", "1:30"), thing.detail)
            why = f"The hands of the clock stand at {thing.detail}."
            also = (
                (f"{thing.detail.removesuffix(':00')} o'clock",)
                if thing.detail.endswith(":00")
                else (f"half past {thing.detail.split(':')[0]}",)
            )
            found.append(
                Query(
                    "time", "What time does the clock show?", thing.detail, why, wrong, also, name
                )
            )
        elif name == "traffic light":
            wrong = others(("red", "yellow", "green", "blue"), thing.detail)
            why = f"The {thing.detail} lamp is lit."
            found.append(
                Query(
                    "color",
                    "Which lamp of the traffic light is on?",
                    thing.detail,
                    why,
                    wrong,
                    (f"{thing.detail} one",),
                    name,
                )
            )
        elif name == "person":
            doing = ACTIONS[thing.doing]
            wrong = others(("sleeping", "swimming", "reading", "cooking"), doing)
            found.append(
                Query(
                    "doing",
                    "What is the person doing?",
                    doing,
                    action(scene, name),
                    wrong,
                    (thing.doing,),
                    name,
                )
            )
        elif name in ("dog", "cat", "sports ball", "bird", "kite", "boat", "bench"):
            spot = place_of(scene, thing).split(" ", 1)[1]
            where = place_of(scene, thing)
            wrong = others(("on the roof", "behind a door", "under a bed", "in a tree"), where)
            found.append(
                Query(
                    "where",
                    f"Where is the {noun(name)}?",
                    where,
                    action(scene, name),
                    wrong,
                    (spot,),
                    name,
                )
            )
    for one, relation, other in beside(scene)[:3]:
        truth = sentence(f"the {noun(one.name)} is {RELATION[relation]} the {noun(other.name)}")
        opposite = {"left": "right", "right": "left", "above": "below", "below": "above"}[relation]
        question = f"Is the {noun(one.name)} {RELATION[relation]} the {noun(other.name)}?"
        found.append(Query("yes", question, "yes", truth, ("no",), ("yeah",), one.name))
        question = f"Is the {noun(one.name)} {RELATION[opposite]} the {noun(other.name)}?"
        found.append(Query("no", question, "no", truth, ("yes",), ("nope",), one.name))
    return found


def _words_seen(scene: Scene) -> list[Query]:
    found = []
    for name, asked in _TEXTS.items():
        things = scene.of(name)
        told = {len(things) - 1: "rightmost ", 0: "leftmost "} if len(things) > 1 else {0: ""}
        for place, which in told.items():
            if not things or not things[place].text:
                continue
            text, bearer = things[place].text, f"{which}{'sign' if name == 'stop sign' else name}"
            why = f'On the {bearer} one can read "{text}".'
            wrong = others(("YIELD", "AURORA", "CENTRAL", "108"), text)
            question = asked.format(bearer=bearer)
            found.append(Query("text", question, text, why, wrong, (text.lower(),), name))
    if scene.sign:
        why = f'The sign above the shop says "{scene.sign}".'
        wrong = others(("PHARMACY", "SCHOOL", "BANK", "BARBER"), scene.sign)
        found.append(
            Query(
                "text",
                "What does the sign above the shop say?",
                scene.sign,
                why,
                wrong,
                (scene.sign.lower(),),
            )
        )
    return found


def _lore(scene: Scene) -> list[Query]:
    seen = {
        "park": "on the grass",
        "beach": "on the beach",
        "street": "in the street",
        "kitchen": "in the kitchen",
    }
    found = []
    for name in ordered(scene):
        if name in LORE and not (name == "dog" and scene.names & {"cat", "bird"}):
            lore = LORE[name]
            question = lore.question.format(seen=seen.get(scene.place, "in the picture"))
            found.append(
                Query(
                    "lore", question, lore.answers[0], lore.why, lore.wrong, lore.answers[1:], name
                )
            )
    return found


def queries(scene: Scene, choices: Choices) -> list[Query]:
    """All questions that the scene answers, in an order of their own.

    Kinds: ``count``, ``zero``, ``complex`` (a number), ``color``, ``yes``, ``no``, ``place``,
    ``sky``, ``time``, ``doing``, ``where``, ``text`` (words in the picture), ``lore`` (knowledge).
    """
    found = [
        *plain_counts(scene, choices),
        *complex_counts(scene),
        *_colors(scene, choices),
        *_presence(scene, choices),
        *_setting(scene),
        *_details(scene),
        *_words_seen(scene),
        *_lore(scene),
    ]
    return choices.shuffled(found, "questions")


def statements(scene: Scene) -> list[tuple[str, str, bool]]:
    """(sentence, relation, whether it is true) in the words of Visual Spatial Reasoning."""
    words = {
        "left": "at the left side of",
        "right": "at the right side of",
        "above": "above",
        "below": "below",
    }
    opposite = {"left": "right", "right": "left", "above": "below", "below": "above"}
    found = []

    def said(one: Thing, relation: str, other: Thing) -> str:
        return f"The {noun(one.name)} is {words[relation]} the {noun(other.name)}."

    for place, (one, relation, other) in enumerate(beside(scene)):
        turned = place % 2 == 1
        shown = opposite[relation] if turned else relation
        found.append((said(one, shown, other), words[shown], not turned))
    return found
