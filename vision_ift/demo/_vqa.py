"""The question sets on COCO pictures, each in its authors' own layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vision_ift.demo._choices import Choices
from vision_ift.demo._coco import Shot
from vision_ift.demo._files import Record, Tree
from vision_ift.demo._queries import queries, statements
from vision_ift.demo._query import Query
from vision_ift.demo._words import captions, noun, number, place_of

Asked = list[tuple[Shot, Query]]

_LETTERS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
# Longer ones first: a question is sorted under the first that fits.
_OPENINGS = (
    *("how many", "what color is the", "what color are the", "what color", "what time"),
    *("what is the person", "what is the", "what does the", "what", "is there a", "is there"),
    *("is this", "is it", "is the", "where is the", "where is", "which", "who"),
)
_CC_BY = {
    "url": "http://creativecommons.org/licenses/by/4.0/",
    "name": "Creative Commons Attribution 4.0",
}


def write_questions(tree: Tree, shots: Sequence[Shot], choices: Choices) -> None:
    """All sets but those that need Visual Genome."""
    asked = {shot.id: queries(shot.scene, choices.under("ask", shot.id)) for shot in shots}

    def chosen(kinds: str, most: int, keep: Callable[[Shot], bool] = lambda _: True) -> Asked:
        """At most so many queries a picture, of these kinds."""
        wanted = kinds.split()
        found: Asked = []
        for shot in shots:
            if keep(shot):
                fits = [query for query in asked[shot.id] if query.kind in wanted]
                found += [(shot, query) for query in fits[:most]]
        return found

    _write_vqav2(tree, chosen("count zero color yes no place sky doing where time", 4), choices)
    _write_okvqa(tree, chosen("lore", 2), choices)
    _write_aokvqa(
        tree,
        chosen("lore place doing where color time", 1, lambda s: s.folder != "train2014"),
        choices,
    )
    _write_vqae(tree, chosen("count color yes doing where sky", 1), choices)
    _write_stvqa(tree, chosen("text", 2, lambda shot: shot.half == "train2014"), choices)
    _write_cocoqa(tree, shots, asked)
    _write_vsr(tree, shots, choices)


def opening(question: str) -> str:
    """The words that a question starts with, as VQA sorts them."""
    lower = question.lower()
    return next((words for words in _OPENINGS if lower.startswith(words)), "none of the above")


def answer_type(query: Query) -> str:
    """``number``, ``yes/no`` or ``other``."""
    if query.answer in ("yes", "no"):
        return "yes/no"
    return "number" if query.answer.isdigit() else "other"


def ten_answers(query: Query, choices: Choices) -> list[str]:
    """What ten people answered: most of them rightly, some in other words, a few wrongly.

    Now and then five say the answer and five the same other thing, which is a tie.
    """
    agreed = choices.pick((10, 9, 8, 8, 7, 6, 5), "agreed")
    rest = (*query.also, *query.wrong[:1]) or ("unknown",)
    if agreed == 5:
        rest = rest[:1]
    others = [rest[turn % len(rest)] for turn in range(10 - agreed)]
    return choices.shuffled([query.answer] * agreed + others, "answers")


def _ballots(query: Query, choices: Choices) -> list[dict[str, object]]:
    ballots = []
    for place, answer in enumerate(ten_answers(query, choices), start=1):
        sure = choices.pick(("yes", "yes", "yes", "yes", "maybe"), "sure", place)
        if answer in query.wrong:
            sure = choices.pick(("maybe", "no"), "sure", place)
        ballots.append({"answer": answer, "answer_confidence": sure, "answer_id": place})
    return ballots


def _write_vqav2(tree: Tree, asked: Asked, choices: Choices) -> None:
    info = {"description": "Drawn scenes in the layout of VQA v2.0", "version": "2.0", "year": 2017}
    for half in ("train2014", "val2014"):
        questions: list[Record] = []
        annotations: list[Record] = []
        seen: dict[int, int] = {}
        for shot, query in asked:
            if shot.half != half:
                continue
            turn = seen[shot.id] = seen.get(shot.id, -1) + 1
            ids = {"image_id": shot.id, "question_id": shot.id * 1000 + turn}
            questions.append({**ids, "question": query.question})
            annotations.append(
                {
                    "question_type": opening(query.question),
                    "multiple_choice_answer": query.answer,
                    "answers": _ballots(query, choices.under("vqav2", ids["question_id"])),
                    "answer_type": answer_type(query),
                    **ids,
                }
            )
        head = {"info": info, "license": _CC_BY, "data_subtype": half, "data_type": "mscoco"}
        path = f"vqav2/v2_OpenEnded_mscoco_{half}_questions.json"
        tree.value(
            path, {**head, "task_type": "Open-Ended", "questions": questions}, len(questions)
        )
        path = f"vqav2/v2_mscoco_{half}_annotations.json"
        tree.value(path, {**head, "annotations": annotations}, len(annotations))


def _write_okvqa(tree: Tree, asked: Asked, choices: Choices) -> None:
    info = {
        "description": "Drawn scenes in the layout of OK-VQA v1.0",
        "version": "1.0",
        "year": 2019,
    }
    for half in ("train2014", "val2014"):
        questions: list[Record] = []
        annotations: list[Record] = []
        seen: dict[int, int] = {}
        for shot, query in asked:
            if shot.half != half:
                continue
            turn = seen[shot.id] = seen.get(shot.id, 4) + 1
            ids = {"image_id": shot.id, "question_id": shot.id * 10 + turn}
            ballots = _ballots(query, choices.under("okvqa", ids["question_id"]))
            for ballot in ballots:  # the answer is the stem of what was typed
                word = str(ballot["answer"])
                ballot["raw_answer"] = word.title() if ballot["answer_id"] == 3 else word
            questions.append({**ids, "question": query.question})
            annotations.append(
                {
                    **ids,
                    "answer_type": "other",
                    "question_type": "four",
                    "answers": ballots,
                    "confidence": 3,
                }
            )
        head = {"info": info, "license": _CC_BY, "data_subtype": half, "data_type": "mscoco"}
        path = f"okvqa/OpenEnded_mscoco_{half}_questions.json"
        tree.value(
            path, {**head, "task_type": "Open-Ended", "questions": questions}, len(questions)
        )
        path = f"okvqa/mscoco_{half}_annotations.json"
        tree.value(path, {**head, "annotations": annotations}, len(annotations))


def _write_aokvqa(tree: Tree, asked: Asked, choices: Choices) -> None:
    splits: dict[str, list[Record]] = {"train": [], "val": [], "test": []}
    for shot, query in asked:
        if len(query.wrong) < 3:
            continue
        mine = choices.under("aokvqa", shot.id)
        split = (
            "train" if shot.folder == "train2017" else "val" if mine.below(3, "test") else "test"
        )
        options = mine.shuffled([query.answer, *query.wrong[:3]], "options")
        name = "".join(mine.pick(_LETTERS, "letter", place) for place in range(22))
        record: dict[str, object] = {
            "split": split,
            "image_id": shot.id,
            "question_id": name,
            "question": query.question,
            "choices": options,
        }
        if split != "test":
            said = captions(shot.scene, mine.under("rationale"))
            record["correct_choice_idx"] = options.index(query.answer)
            record["direct_answers"] = ten_answers(query, mine.under("direct"))
            record["difficult_direct_answer"] = False
            record["rationales"] = [query.why, *said[:2]]
        else:
            record["difficult_direct_answer"] = False
        splits[split].append(record)
    for split, records in splits.items():
        tree.array(f"aokvqa/aokvqa_v1p0_{split}.json", records)


def _write_vqae(tree: Tree, asked: Asked, choices: Choices) -> None:
    for half, name in (("train2014", "train"), ("val2014", "val")):
        records: list[Record] = []
        for shot, query in asked:
            if shot.half == half:
                mine = choices.under("vqae", shot.id)
                records.append(
                    {
                        "answer_type": answer_type(query),
                        "img_id": shot.id,
                        "explanation": [query.why, round(mine.between(0.6, 1.0, "score"), 4)],
                        "question_type": opening(query.question),
                        "question": query.question,
                        "multiple_choice_answer": query.answer,
                        "answers": ten_answers(query, mine),
                        "question_id": shot.id * 1000 + 900,
                    }
                )
        tree.array(f"vqae/VQA-E_{name}_set.json", records)


def _write_stvqa(tree: Tree, asked: Asked, choices: Choices) -> None:
    """Tasks 2 and 3 hold all questions, task 1 some; a few are on pictures of other sets."""
    rows: list[Record] = []
    for place, (shot, query) in enumerate(asked):
        rows.append(
            _scene_text("coco-text", shot.old_name, place, query.question, [query.answer], shot)
        )
    for place, (question, answer) in enumerate(
        (
            ("What is printed on the box?", "TEA"),
            ("What does the label say?", "SALT"),
            ("What is the shop called?", "CORNER"),
        )
    ):
        dataset = ("vizwiz", "iiit_text", "vizwiz")[place]
        stem = "VizWiz_train" if dataset == "vizwiz" else "img"
        name = f"{stem}_{choices.below(9999, 'stvqa', place):012d}.jpg"
        rows.append(
            _scene_text(dataset, name, len(asked) + place, question, [answer, answer.lower()], None)
        )
    names = ("Strongly Contextualised", "Weakly Contextualised", "Open Dictionary")
    for task, name in enumerate(names, start=1):
        mine = rows[::2] if task == 1 else rows
        path = f"stvqa/train_task_{task}.json"
        tree.value(
            path, {"task_name": f"Task {task} - {name}", "task_id": task, "data": mine}, len(mine)
        )
        tree.counts[f"{path}:coco"] = sum("coco" in str(row["dataset"]) for row in mine)


def _scene_text(
    dataset: str, name: str, number_: int, question: str, answers: list[str], shot: Shot | None
) -> Record:
    return {
        "dataset": dataset,
        "file_path": f"{dataset}/{name}",
        "file_name": name,
        "image_height": shot.scene.height if shot else 480,
        "image_width": shot.scene.width if shot else 640,
        "question_id": number_,
        "question": question,
        "answers": answers,
        "set_name": "train",
    }


def _short_queries(shot: Shot, asked: list[Query]) -> list[tuple[str, str, int]]:
    """COCO-QA's questions: lower case, one word for an answer, type 0 object to 3 location."""
    found: list[tuple[str, str, int]] = []
    scene = shot.scene
    for query in asked:
        question = query.question.lower().rstrip("?")
        if query.kind == "count":
            found.append((question, number(int(query.answer)), 1))
        elif query.kind == "color" and " " not in query.answer:
            found.append((question, query.answer, 2))
        elif query.kind == "where":
            found.append((question, query.answer.rsplit(" ", 1)[1], 3))
    for zone in ("sky", "water", "road", "rail", "wall"):
        there = {thing.name for thing in scene.things if thing.zone == zone}
        things = [thing for thing in scene.things if thing.name in there]
        if len(things) == 1:
            found.append(
                (f"what is {place_of(scene, things[0])}", noun(things[0].name).split()[-1], 0)
            )
    return found


def _write_cocoqa(tree: Tree, shots: Sequence[Shot], asked: dict[int, list[Query]]) -> None:
    for half, split in (("train2014", "train"), ("val2014", "test")):
        rows = [
            (shot.id, *row)
            for shot in shots
            if shot.half == half
            for row in _short_queries(shot, asked[shot.id])[-2:]
        ]
        for name, column in (("img_ids", 0), ("questions", 1), ("answers", 2), ("types", 3)):
            tree.text(f"cocoqa/{split}/{name}.txt", [row[column] for row in rows])


def _write_vsr(tree: Tree, shots: Sequence[Shot], choices: Choices) -> None:
    splits: dict[str, list[Record]] = {"train": [], "dev": [], "test": []}
    for shot in shots:
        if shot.folder == "train2014":
            continue
        for place, (caption, relation, true) in enumerate(statements(shot.scene)[:3]):
            mine = choices.under("vsr", shot.id, place)
            split = mine.pick(("train",) * 7 + ("dev",) + ("test",) * 2, "split")
            voters = str([1 + mine.below(26, "voter", 0), 27 + mine.below(9, "voter", 1)])
            splits[split].append(
                {
                    "image": shot.name,
                    "image_link": f"http://example.org/{shot.folder}/{shot.name}",
                    "caption": caption,
                    "label": int(true),
                    "relation": relation,
                    "annotator_id": 1 + mine.below(26, "annotator"),
                    "vote_true_validator_id": voters if true else "[]",
                    "vote_false_validator_id": "[]" if true else voters,
                }
            )
    for split, records in splits.items():
        tree.lines(f"vsr/{split}.jsonl", records)
