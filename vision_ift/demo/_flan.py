"""Vision-Flan: one JSON array of single rounds and one zip of pictures, stored."""

from __future__ import annotations

from collections.abc import Sequence

from vision_ift.demo._categories import THINGS
from vision_ift.demo._choices import Choices
from vision_ift.demo._coco import Shot
from vision_ift.demo._dialogs import record
from vision_ift.demo._files import Record, Tree, encode
from vision_ift.demo._queries import queries
from vision_ift.demo._query import Query
from vision_ift.demo._scene import Scene
from vision_ift.demo._stage import compose
from vision_ift.demo._words import a, captions, group, joined, ordered, paragraph

_FOLDER = "images_191task_1k"
# Tasks of MultiInstruct: the kind of query that fits, and words before the question.
_ASKED = {
    "VQA_counting": ("count complex", ""),
    "VQA_color": ("color", ""),
    "VQA_object_presence": ("yes no", ""),
    "VQA_scene_recognition": ("place sky", "Look at the scene in the picture and answer. "),
    "ok_vqa": ("lore", ""),
}
_GROUPS = {
    "animal": ("coco+image_classification_animal", "an animal", "snow", ("dog",)),
    "vehicle": ("coco+image_classification_vehicle", "a vehicle", "street", ("car",)),
    "kitchen": (
        "coco+image_classification_kitchen",
        "something from the kitchen",
        "kitchen",
        ("bottle",),
    ),
}
_OWN = (*_GROUPS, "iconqa", "narratives", "visdial", "domain", "wit")
_SHOWN = {
    "animal": "{task}_{n}_{coco:012d}.jpg",
    "vehicle": "{task}_{n}_{coco:012d}.jpg",
    "kitchen": "{task}_{n}_{coco:012d}.jpg",
    "iconqa": "{task}_{n}_image.png",
    "narratives": "{task}_{n}_{coco:012d}.jpg",
    "visdial": "{task}_{n}_COCO_train2014_{coco:012d}.jpg",
    "domain": "{task}_{n}_cartoon _ scene_{coco}.JPEG",
    "wit": "{task}_{n}_Café_à_la_plage_{coco}.jpg",
}
_TASKS = {
    **{kind: group_[0] for kind, group_ in _GROUPS.items()},
    "iconqa": "iconqa+fill_in_blank",
    "narratives": "LOC_NARRATIVES+coco_images_caption",
    "visdial": "visdial+answer_question_2",
    "domain": "ImageNet-R+image_domain_classification",
    "wit": "WIT+detailed_description",
}


def write_flan(tree: Tree, shots: Sequence[Shot], choices: Choices, shared: int, own: int) -> None:
    """So many of COCO's pictures under their names of 2014, and so many pictures of its own."""
    members: dict[str, bytes] = {}
    rows: list[Record] = []
    busy = [shot for shot in shots if shot.half == "train2014" and len(shot.scene.counts) > 1]
    for shot in choices.shuffled(busy, "flan")[:shared]:
        members[shot.old_name] = shot.data
        rows += _on_coco(shot, choices.under("coco", shot.id))
    for place in range(own):
        rows += _on_own(_OWN[place % len(_OWN)], place, choices.under("own", place), members)
    empty = {**record("", "", [("What is written in the picture?", "")], image_last=True)}
    name = next(iter(members))
    rows.append(
        _named("multiinstruct_image_caption_empty", name, "image_caption", empty["conversations"])
    )
    path = "vision_flan/annotation_191-task_1k.json"
    tree.array(path, choices.shuffled(rows, "rows"))
    tree.counts[f"{path}:answered"] = len(rows) - 1
    tree.counts[f"{path}:tasks"] = len({str(row["task_name"]) for row in rows})
    stored = ((f"{_FOLDER}/{name}", data) for name, data in sorted(members.items()))
    tree.archive("vision_flan/image_191-task_1k.zip", stored)


def _named(number: str, image: str, task: str, conversations: object) -> Record:
    return {"id": number, "image": image, "task_name": task, "conversations": conversations}


def _round(number: str, image: str, task: str, asked: str, answer: str, choices: Choices) -> Record:
    last = choices.below(2, task, "image last") == 1
    made = record(number, image, [(asked, answer)], image_last=last)
    return _named(number, image, task, made["conversations"])


def _on_coco(shot: Shot, choices: Choices) -> list[Record]:
    rows = []
    every = queries(shot.scene, choices)
    for task, (kinds, before) in _ASKED.items():
        fits = [query for query in every if query.kind in kinds.split()]
        if fits:
            number = f"multiinstruct_{task}_{shot.id}"  # the same for all of a picture's questions
            asked, answer = before + fits[0].question, fits[0].answer
            rows.append(_round(number, shot.old_name, task, asked, answer, choices))
    more = [query for query in every if query.kind == "count"][1:2]
    for query in more:  # so this id occurs twice
        number = f"multiinstruct_VQA_counting_{shot.id}"
        rows.append(
            _round(number, shot.old_name, "VQA_counting", query.question, query.answer, choices)
        )
    caption = captions(shot.scene, choices)[0]
    asked = "In this task, you will look at the image and describe its content in one sentence."
    number = f"multiinstruct_image_caption_{shot.id}"
    rows.append(_round(number, shot.old_name, "image_caption", asked, caption, choices))
    return rows


def _on_own(kind: str, place: int, choices: Choices, members: dict[str, bytes]) -> list[Record]:
    task = _TASKS[kind]
    coco, n = 600_000 + place * 7, choices.below(1000, "n")
    want: tuple[str, ...] = ()
    setting = "beach" if kind == "wit" else ""
    if kind in _GROUPS:
        setting, want = _GROUPS[kind][2:]
    scene = compose(f"flan/{place}", choices, place=setting, want=want)
    image = _SHOWN[kind].format(task=task, n=n, coco=coco)
    members[image] = encode(scene.picture(), "." + image.rsplit(".", 1)[1])
    rows = [
        _round(f"vision-flan_{task}+{coco}", image, task, asked, answer, choices)
        for asked, answer in _own_rounds(kind, scene, choices)
    ]
    query = next(
        q for q in queries(scene, choices.under("more")) if q.kind in ("count", "place", "sky")
    )
    other = "VQA-E+visual_question_answering"
    asked = (
        "You are provided with an image and a question related to the image. Answer the question "
        f"based on what you see.\n\n{query.question}"
    )
    return [
        *rows,
        _round(f"vision-flan_{other}+{coco}", image, other, asked, query.answer, choices),
    ]


def _own_rounds(kind: str, scene: Scene, choices: Choices) -> list[tuple[str, str]]:
    every: list[Query] = queries(scene, choices)
    if kind in _GROUPS:
        return [_classify(kind, scene, choices)]
    if kind == "iconqa":
        query = next(query for query in every if query.kind in ("count", "zero"))
        return [
            (
                f"Here is a picture and a question. Fill in the number.\n\n{query.question}",
                query.answer,
            )
        ]
    if kind == "narratives":
        return [
            (
                "I want to know more about this image. Can you please describe it?",
                paragraph(scene, choices),
            )
        ]
    if kind == "visdial":
        talk = [query for query in every if query.kind not in ("lore", "zero")][:3]
        told = "".join(f"Human: {q.question.lower()}\nAssistant: {q.answer}\n" for q in talk[:2])
        asked = (
            "Here is a short conversation between a human and an AI assistant about a picture. "
            "Read it and answer the question at the end.\n\n"
            f"{told}Question: {talk[2].question.lower()}"
        )
        return [(asked, f"Assistant: {talk[2].answer}")]
    if kind == "domain":
        asked = "Say whether the image is a 'painting', 'sketch', 'cartoon', 'toy' or 'sculpture'."
        return [(asked, "cartoon")]
    seen = joined([group(scene, name) for name in ordered(scene)]) if scene.things else "the sea"
    return [
        (
            "Describe the image with the background that a reader may need.",
            f"{paragraph(scene, choices)} In short: {seen}.",
        )
    ]


def _classify(kind: str, scene: Scene, choices: Choices) -> tuple[str, str]:
    words = _GROUPS[kind][1]
    family = [str(entry["name"]) for entry in THINGS if entry["supercategory"] == kind]
    right = next(name for name in ordered(scene) if name in family)
    absent = [name for name in family if name not in scene.names]
    options = choices.shuffled([right, *choices.shuffled(absent, "absent")[:4]], "options")
    listed = [
        f"({letter}) This image contains {a(name)}"
        for letter, name in zip("abcde", options, strict=True)
    ]
    asked = f"Given an image of {words}, identify what it could be.\nOptions: {' '.join(listed)}"
    return asked, listed[options.index(right)]
