"""Visual Genome, and the sets that use it: image paragraphs and TallyQA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vision_ift.demo._choices import Choices
from vision_ift.demo._coco import Shot
from vision_ift.demo._files import Record, Tree, encode
from vision_ift.demo._queries import queries
from vision_ift.demo._query import Query
from vision_ift.demo._scene import Scene, Thing
from vision_ift.demo._stage import compose
from vision_ift.demo._words import ACTIONS, a, noun, number, paragraph, place_of

TALLY_OFFSET = 90_000_000  # what TallyQA adds to a Visual Genome id


@dataclass(frozen=True, slots=True)
class View:
    """A Visual Genome picture; ``coco_id`` where COCO has the same picture."""

    id: int
    scene: Scene
    data: bytes
    coco_id: int | None


def take_views(shots: Sequence[Shot], choices: Choices, shared: int, own: int) -> list[View]:
    """So many pictures that COCO has too (one only in its release of 2014), and own ones."""
    busy = [shot for shot in shots if shot.scene.things]
    old = [shot for shot in busy if shot.folder == "train2014"][:1]
    newer = choices.shuffled([shot for shot in busy if shot.folder != "train2014"], "shared")
    both = [*old, *newer][:shared]
    sources: list[Shot | None] = choices.shuffled([*both, *[None] * own], "order")
    views, number_ = [], 2_315_000
    for place, shot in enumerate(sources):
        number_ += 1 + choices.below(40, "step", place)
        if shot:
            views.append(View(number_, shot.scene, shot.data, shot.id))
        else:
            scene = compose(f"genome/{number_}", choices.under("scene", number_))
            views.append(View(number_, scene, encode(scene.picture()), None))
    return views


def write_genome(tree: Tree, views: Sequence[View], choices: Choices) -> None:
    """Pictures, image data, questions and regions of Visual Genome, and the image paragraphs."""
    images: list[Record] = []
    questions: list[Record] = []
    regions: list[Record] = []
    for view in views:
        tree.picture(f"visual_genome/VG_100K/{view.id}.jpg", view.data)
        images.append(
            {
                "width": view.scene.width,
                "url": f"https://example.org/VG_100K/{view.id}.jpg",
                "height": view.scene.height,
                "image_id": view.id,
                "coco_id": view.coco_id,
                "flickr_id": None,
            }
        )
        questions.append({"id": view.id, "qas": _asked(view, choices)})
        regions.append({"regions": _regions(view), "id": view.id})
    tree.array("visual_genome/image_data.json", images)
    tree.counts["visual_genome/image_data.json:coco"] = sum(
        view.coco_id is not None for view in views
    )
    for name, inner, records in (
        ("question_answers", "qas", questions),
        ("region_descriptions", "regions", regions),
    ):
        path = f"visual_genome/{name}.json"
        tree.array(path, records)
        sizes = [len(record[inner]) for record in records]  # type: ignore[arg-type]  # a list by its key
        tree.counts[f"{path}:{inner}"] = sum(sizes)
        shared = (size for size, view in zip(sizes, views, strict=True) if view.coco_id is not None)
        tree.counts[f"{path}:{inner}:coco"] = sum(shared)
    _write_paragraphs(tree, views, choices)


def _spoken(query: Query) -> str:
    """The answer as Visual Genome writes it: ``Two.``, ``On the grass.``"""
    text = number(int(query.answer)) if query.kind in ("count", "complex") else query.answer
    return f"{text[0].upper()}{text[1:]}."


def _asked(view: View, choices: Choices) -> list[Record]:
    found = [
        query
        for query in queries(view.scene, choices.under("ask", view.id))
        if query.kind not in ("zero", "lore")
    ]
    return [
        {
            "a_objects": [],
            "question": query.question,
            "image_id": view.id,
            "qa_id": (view.id - 2_300_000) * 100 + place,
            "answer": _spoken(query),
            "q_objects": [],
        }
        for place, query in enumerate(found[:8])
    ]


def _phrase(scene: Scene, thing: Thing) -> str:
    if thing.crowd:
        return f"many {noun(thing.name, 2)} close together"
    if thing.name == "person":
        return f"a person in {thing.colour} {ACTIONS[thing.doing]}"
    if thing.name == "clock":
        return f"clock showing {thing.detail}"
    where = "over a person" if thing.zone == "hand" else place_of(scene, thing)
    if thing.name == "potted plant":
        return f"plant in {a(thing.colour)} pot {where}"
    return f"{thing.colour} {noun(thing.name)} {where}"


def _regions(view: View) -> list[Record]:
    found: list[Record] = []
    for place, thing in enumerate(view.scene.things):
        left, top, right, bottom = (int(side) for side in thing.box)
        found.append(
            {
                "region_id": (view.id - 2_300_000) * 100 + place,
                "width": right - left,
                "height": bottom - top,
                "image_id": view.id,
                "phrase": _phrase(view.scene, thing),
                "y": top,
                "x": left,
            }
        )
    return found


def _write_paragraphs(tree: Tree, views: Sequence[View], choices: Choices) -> None:
    records: list[Record] = []
    splits: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for place, view in enumerate(views):
        text = paragraph(view.scene, choices.under("paragraph", view.id))
        url = f"https://example.org/VG_100K/{view.id}.jpg"
        records.append({"image_id": view.id, "paragraph": text, "url": url})
        splits["val" if place % 6 == 4 else "test" if place % 6 == 5 else "train"].append(view.id)
    path = "paragraphs/paragraphs_v1.json"
    tree.array(path, records)
    tree.counts[f"{path}:coco"] = sum(view.coco_id is not None for view in views)
    for split, ids in splits.items():
        tree.value(f"paragraphs/{split}_split.json", ids, len(ids))


def write_tally(tree: Tree, shots: Sequence[Shot], views: Sequence[View], choices: Choices) -> None:
    """TallyQA: counts on COCO pictures (by the halves of 2014) and on Visual Genome's."""
    train: list[dict[str, object]] = []
    test: list[dict[str, object]] = []
    for shot in shots:
        rows = train if shot.half == "train2014" else test
        complex_source = "imported_vqa" if rows is train else "amt"
        for query in _countable(shot.scene, choices.under("coco", shot.id)):
            source = complex_source if query.kind == "complex" else "imported_vqa"
            rows.append(_tally(f"{shot.half}/{shot.old_name}", shot.id, source, query))
    for view in views:
        for query in _countable(view.scene, choices.under("genome", view.id)):
            image = f"VG_100K/{view.id}.jpg"
            train.append(_tally(image, view.id + TALLY_OFFSET, "imported_genome", query))
    linked = {view.id + TALLY_OFFSET for view in views if view.coco_id is not None}
    for start, split, rows in ((30_000_000, "train", train), (20_000_000, "test", test)):
        records = [{**row, "question_id": start + place} for place, row in enumerate(rows)]
        path = f"tallyqa/{split}.json"
        tree.array(path, records)
        tree.counts[f"{path}:coco"] = sum(
            row["data_source"] != "imported_genome" or row["image_id"] in linked for row in records
        )


def _countable(scene: Scene, choices: Choices) -> list[Query]:
    wanted = ("count", "complex", "zero")
    return [query for query in queries(scene, choices) if query.kind in wanted][:2]


def _tally(image: str, image_id: int, source: str, query: Query) -> dict[str, object]:
    return {
        "image": image,
        "answer": int(query.answer),
        "data_source": source,
        "question": query.question,
        "image_id": image_id,
        "issimple": query.kind != "complex",
    }
