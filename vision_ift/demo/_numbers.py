"""Questions about how many there are."""

from __future__ import annotations

from vision_ift.demo._choices import Choices
from vision_ift.demo._kinds import KINDS
from vision_ift.demo._query import Query, others
from vision_ift.demo._scene import Scene
from vision_ift.demo._words import noun, number, sentence


def plain_counts(scene: Scene, choices: Choices) -> list[Query]:
    """How many there are of each category, and of one that is not there."""
    found = []
    for name, count in scene.counts.items():
        many = noun(name, 2)
        forms = (
            f"How many {many} are there?",
            f"How many {many} are in the picture?",
            f"How many {many} can you see?",
        )
        wrong = tuple(str(n) for n in (count + 1, count - 1, count + 2, count + 3) if n > 0)
        verb = "are" if count > 1 else "is"
        why = sentence(f"there {verb} {number(count)} {noun(name, count)} in the picture")
        question = choices.pick(forms, name, "count")
        found.append(Query("count", question, str(count), why, wrong, (number(count),), name))
    absent = [name for name in KINDS if name not in scene.names]
    for name in choices.shuffled(absent, "absent")[:1]:
        why = sentence(f"there are no {noun(name, 2)} in the picture")
        question = f"How many {noun(name, 2)} are there?"
        found.append(Query("zero", question, "0", why, ("1", "2", "3"), ("zero", "none"), name))
    return found


def complex_counts(scene: Scene) -> list[Query]:
    """How many there are of one color, or on one side of something."""
    found = []
    for name, count in scene.counts.items():
        if count < 2:
            continue
        things, many = scene.of(name), noun(name, 2)
        colors = sorted({thing.colour for thing in things})
        if len(colors) > 1 and name not in ("person", "potted plant"):
            color, here = colors[0], sum(thing.colour == colors[0] for thing in things)
            why = sentence(
                f"{number(here)} of the {number(count)} {many} "
                f"{'is' if here == 1 else 'are'} {color}"
            )
            wrong = (str(count), str(here + 1), str(here + 2), "0")
            found.append(
                Query(
                    "complex",
                    f"How many {color} {many} are there?",
                    str(here),
                    why,
                    others(wrong, str(here)),
                    (number(here),),
                    name,
                )
            )
        for mark, rest in scene.counts.items():
            if rest != 1 or mark == name:
                continue
            pole = scene.of(mark)[0].box
            left = sum(thing.box[2] <= pole[0] for thing in things)
            right = sum(thing.box[0] >= pole[2] for thing in things)
            if left + right == count and left > 0:
                part = (
                    f"{number(left)} of the {number(count)} {many}"
                    if right
                    else f"all {number(count)} {many}"
                )
                why = sentence(
                    f"{part} {'is' if left == 1 else 'are'} to the left of the {noun(mark)}"
                )
                question = f"How many {many} are to the left of the {noun(mark)}?"
                wrong = (str(left + 1), str(left + 2), "0", str(left + 3))
                found.append(
                    Query(
                        "complex",
                        question,
                        str(left),
                        why,
                        others(wrong, str(left)),
                        (number(left),),
                        name,
                    )
                )
                break
    return found
