"""LLaVA-Instruct-150K and MM-Instruct: JSON arrays of dialogs in LLaVA's layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vision_ift.demo._choices import Choices
from vision_ift.demo._coco import Shot
from vision_ift.demo._files import Record, Tree, encode, rounds
from vision_ift.demo._queries import queries
from vision_ift.demo._scene import Scene
from vision_ift.demo._stage import compose
from vision_ift.demo._words import (
    PLACE,
    SCENERY,
    a,
    action,
    captions,
    group,
    joined,
    ordered,
    paragraph,
    sentence,
    when,
)

_DETAIL = (
    "Describe the following image.",
    "Can you describe the image for me?",
    "What do you see happening in this image?",
    "Write a detailed description of the given image.",
)
_MOODS = {
    "park": ("calm and fresh", "take a long walk", "spend a free afternoon"),
    "beach": ("wide and restful", "listen to the waves", "spend a day by the water"),
    "street": ("lively and neat", "look at the house fronts", "stroll through the town"),
    "kitchen": ("homely and tidy", "prepare something to eat", "have breakfast together"),
    "railway": ("busy and hopeful", "set out on a journey", "meet somebody who arrives"),
    "room": ("cozy and warm", "sit down on the rug", "spend a quiet evening at home"),
    "snow": ("cold and clear", "leave the first footprints", "enjoy a winter day"),
}
_HAIKU = {
    "park": "Green leaves hardly move,\nthe meadow holds its soft breath,\nsmall flowers look up.",
    "beach": "Slow waves touch the sand,\nfar away the sea meets sky,\nfootprints wash away.",
    "street": "Windows in a row,\nthe road waits for passing wheels,\nhouses lean and look.",
    "kitchen": "Wood under my hands,\nlight comes through the little panes,\nthe table is set.",
    "railway": "Two rails and gray stones,\nthe platform listens closely,\nsomewhere a horn calls.",
    "room": "A round rug, warm boards,\nthe window keeps the cold out,\nhome is a small word.",
    "snow": "Pine trees in white fields,\nevery step says something soft,\nhills sleep under snow.",
}


def record(
    number: str, image: str, turns: Sequence[tuple[str, str]], *, image_last: bool
) -> Record:
    """A dialog in LLaVA's layout, with ``<image>`` at the start or the end of its first turn."""
    said = []
    for place, (question, answer) in enumerate(turns):
        if place == 0:
            question = f"{question}\n<image>" if image_last else f"<image>\n{question}"
        said += [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": number, "image": image, "conversations": said}


def write_llava(tree: Tree, shots: Sequence[Shot], choices: Choices, pictures: int) -> None:
    """A conversation, a description and a line of reasoning for some pictures of train2017.

    The mix of 665k holds the same records, with the pictures' folder before their names, and some
    without a picture.
    """
    busy = [shot for shot in shots if shot.folder == "train2017" and shot.scene.things]
    records: list[Record] = []
    for shot in choices.shuffled(busy, "llava")[:pictures]:
        mine, number = choices.under("llava", shot.id), f"{shot.id:012d}"
        asked = [q for q in queries(shot.scene, mine) if q.kind not in ("zero", "lore", "complex")]
        talk = [(query.question, query.reply) for query in asked[: 3 + mine.below(2, "rounds")]]
        detail = [(mine.pick(_DETAIL, "detail"), paragraph(shot.scene, mine))]
        for kind, turns in (
            ("conv", talk),
            ("detail", detail),
            ("complex", [_reasoning(shot.scene)]),
        ):
            last = mine.below(2, kind, "last") == 1
            records.append(record(number, shot.name, turns, image_last=last))
    path = "llava/llava_instruct_150k.json"
    tree.array(path, choices.shuffled(records, "rows"))
    tree.counts[f"{path}:rounds"] = rounds(records)
    mix = [{**one, "image": f"coco/train2017/{one['image']}"} for one in records]
    for place, (_, deed, plan) in sorted(_MOODS.items()):
        said = (("human", f"Name a way to {plan}."), ("gpt", f"One could {deed}."))
        words = [{"from": speaker, "value": value} for speaker, value in said]
        mix.append({"id": f"words_{place}", "model": "", "conversations": words})
    path = "llava/llava_v1_5_mix665k.json"
    tree.array(path, choices.shuffled(mix, "mix"))
    tree.counts[f"{path}:rounds"] = rounds(mix)


def _reasoning(scene: Scene) -> tuple[str, str]:
    mood, deed, plan = _MOODS[scene.place]
    names = ordered(scene)
    seen = joined([group(scene, name) for name in names[:3]])
    question = f"What in this picture could invite somebody to {plan}?"
    answer = (
        f"The picture shows {seen}, together with {SCENERY[scene.place]}. All of it looks {mood}, "
        f"so one could easily {deed}. {action(scene, names[0])} That gives the eye something "
        f"to rest on and makes it pleasant to {plan}."
    )
    return question, answer


def _story(scene: Scene, choices: Choices) -> str:
    names = ordered(scene)
    told = " ".join(action(scene, name) for name in names[:3])
    mood, deed, _ = _MOODS[scene.place]
    return (
        f"It is {a(mood.split(' ')[0])} hour{when(scene, choices, 'story')}. {told} All is quiet. "
        f"Then somebody laughs, and all agree that there is nothing better than to {deed}."
    )


def _advert(scene: Scene) -> str:
    mood, deed, plan = _MOODS[scene.place]
    seen = joined([group(scene, name) for name in ordered(scene)[:3]])
    return (
        f"Looking for a place that is {mood}? Come and {deed}! You will find {seen}, "
        f"and around them {SCENERY[scene.place]}. A perfect way to {plan}."
    )


def _post(scene: Scene, choices: Choices) -> str:
    mood = _MOODS[scene.place][0]
    return f"{captions(scene, choices)[0]} So {mood}! #drawing #{scene.place} #{scene.sky}"


def _quiz(scene: Scene, choices: Choices) -> str:
    query = next(q for q in queries(scene, choices) if len(q.wrong) >= 3)
    options = choices.shuffled([query.answer, *query.wrong[:3]], "quiz")
    listed = "\n".join(
        f"{letter}) {option}" for letter, option in zip("abcd", options, strict=True)
    )
    return f"Question: {query.question}\n{listed}\nAnswer: {query.answer}. {query.why}"


def _dialogue(scene: Scene) -> str:
    names = ordered(scene)
    seen = sentence(joined([group(scene, name) for name in names[:3]]))
    return (
        f"Ann: Where are we?\nBen: This must be {PLACE[scene.place]}.\n"
        f"Ann: And what is there to see?\nBen: {seen}\n"
        f"Ann: You are right. {action(scene, names[0])}"
    )


def _guide(scene: Scene) -> str:
    steps = [f"Draw {SCENERY[scene.place]} as the background."]
    steps += [sentence(f"add {group(scene, name)}") for name in ordered(scene)]
    steps.append("Fill every shape with one flat color and give the nearest things a soft shadow.")
    return "\n".join(f"{place}. {step}" for place, step in enumerate(steps, start=1))


def _analysis(scene: Scene) -> str:
    colors = list(dict.fromkeys(thing.colour for thing in scene.things if thing.colour))
    palette = f"The things in it are {joined(colors)}." if colors else "It keeps to quiet colors."
    return (
        f"The picture is built from flat, simple shapes. {sentence(SCENERY[scene.place])[:-1]} "
        f"form the background. The eye goes to {group(scene, ordered(scene)[0])} first. {palette} "
        f"The mood is {_MOODS[scene.place][0]}."
    )


_WORKS: tuple[tuple[str, Callable[[Scene, Choices], str]], ...] = (
    ("Write a haiku inspired by the image.", lambda scene, _: _HAIKU[scene.place]),
    ("Tell a short story that takes place in the image.", _story),
    ("Create a travel advertisement for the place in the image.", lambda scene, _: _advert(scene)),
    ("Compose a cheerful social media post about the picture.", _post),
    ("Write a quiz question with four options based on the image.", _quiz),
    (
        "Write a short dialogue between two people who look at the image.",
        lambda scene, _: _dialogue(scene),
    ),
    ("Write a step-by-step guide to drawing this scene.", lambda scene, _: _guide(scene)),
    ("Analyze the composition and the mood of the image.", lambda scene, _: _analysis(scene)),
    ("Write a caption for the image.", lambda scene, choices: captions(scene, choices)[0]),
)
_BENCH = (
    "Craft a vivid caption that names the main things in the picture.",
    "Write a short bedtime story based on the image. ",
)


def write_mm_instruct(tree: Tree, choices: Choices, train: int, bench: int) -> None:
    """MM-Instruct: so many training pictures in two folders, and the benchmark's in a zip."""
    records: list[Record] = []
    for place in range(train):
        mine = choices.under("train", place)
        scene = compose(f"mm_instruct/{place}", mine)
        scene = scene if scene.things else compose(f"mm_instruct/{place}", mine.under("again"))
        name = f"datacomp/{_uid(mine)}.jpg" if place % 2 else f"sa1b/sa_{1400 + place * 37}.jpg"
        tree.picture(f"mm_instruct/{name}", encode(scene.picture(), turned=place == 1))
        for work in range(3):
            asked, write = _WORKS[(place * 3 + work) % len(_WORKS)]
            answer = write(scene, mine.under("work", work))
            records.append(
                record(f"mm_instruct_{len(records)}", name, [(asked, answer)], image_last=False)
            )
    tree.array("mm_instruct/train.json", records)
    questions: list[Record] = []
    members: list[tuple[str, bytes]] = []
    for place in range(bench):
        mine = choices.under("bench", place)
        scene = compose(f"mm_bench/{place}", mine)
        suffix = (".jpg", ".jpg", ".png", ".jpeg")[place % 4]
        name = (
            f"sa_{9000 + place * 11}.jpg" if suffix == ".jpg" and place % 2 else _uid(mine) + suffix
        )
        members.append((name, encode(scene.picture(), suffix)))
        questions.append(
            {
                "question_id": place,
                "image": name,
                "text": _BENCH[place * len(_BENCH) // bench],
                "caption": paragraph(scene, mine),
                "category": "vllm_instruction_following",
            }
        )
    tree.lines("mm_instruct/test.json", questions)
    tree.archive("mm_instruct/images.zip", members)


def _uid(choices: Choices) -> str:
    return f"{choices.number('uid'):016x}{choices.number('uid', 1):016x}"
