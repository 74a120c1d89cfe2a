"""COCO-IFT: the fixture's rows, the paper's templates, bad input, and the grouping rule."""

from __future__ import annotations

import importlib
import itertools
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_ift._build import build
from vision_ift._builder import Absent, Builder, Dropped
from vision_ift._conversation import Conversation
from vision_ift._errors import RecordError, UnknownNameError, UsageError
from vision_ift._registry import find

FIXTURE = Path(__file__).parents[1] / "fixtures" / "coco_ift"
CAPTIONS = "coco/annotations/captions_train2017.json"
CAPTIONS_2014 = "coco/annotations/captions_val2014.json"
QUESTIONS = "vqav2/v2_OpenEnded_mscoco_train2014_questions.json"
ANSWERS = "vqav2/v2_mscoco_train2014_annotations.json"

rounds_of = importlib.import_module("vision_ift.builders._coco_rounds")
files_of = importlib.import_module("vision_ift.builders._coco_files")

#: Table 1 of arXiv 2401.08968, typed from its picture and not from the code.
TABLE_1 = {
    "captions": "Describe the content of this image in 20 words.",
    "paragraphs": "Describe the image in one paragraph.",
    "cocoqa": "{question} Answer the question with a short phrase.",
    "vgqa": "{question} Answer the question with a short phrase.",
    "vqav2": "{question} Answer the question with a short phrase.",
    "okvqa": "{question} Answer the question with a short phrase.",
    "stvqa": "{question} Answer the question with a short phrase.",
    "tallyqa": "{question} Answer the question with a number.",
    "vqae": "{question} Answer with a short phrase and provide explanation for your answer.",
    "vsr": "{question} Please answer yes or no about whether the statement about the image is "
    "true.",
    "aokvqa": "{question} Answer with options' letter from the given choices and provide "
    "explanation for your choice.",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the fixture's root, to change."""
    return Path(shutil.copytree(FIXTURE / "root", tmp_path / "root"))


class Result:
    """What the builder yields for a root."""

    def __init__(self, root: Path, **options: Any) -> None:
        builder: Builder = find("coco_ift")
        self.rows: list[Conversation] = []
        self.dropped: list[Dropped] = []
        self.absent: list[str] = []
        for one in builder.conversations(root, **options):
            if isinstance(one, Conversation):
                self.rows.append(one)
            elif isinstance(one, Dropped):
                self.dropped.append(one)
            else:
                assert isinstance(one, Absent)
                self.absent.append(one.name)

    @property
    def counts(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for one in self.dropped:
            counts[one.reason] += one.count
        return counts

    def rounds(self) -> list[tuple[str, str, str]]:
        """Every round as (task, its id, its answer)."""
        return [
            (found["template"], str(found["id"]), row.messages[2 * place + 1].text)
            for row in self.rows
            for place, found in enumerate(row.meta["rounds"])
        ]


def edit(root: Path, file: str, change: Callable[[Any], object]) -> None:
    value = json.loads((root / file).read_text("utf-8"))
    change(value)
    (root / file).write_text(json.dumps(value), "utf-8")


FIXTURE_DROPPED = {
    "caption_not_picked": 4,  # five captions of picture 1
    "duplicate_id": 2,  # caption 11 in 2014 too; question 701 in task 1 too
    "missing_image": 1,  # question 9001
    "no_answer": 2,  # question 1002; A-OKVQA's test question
    "no_coco_image": 4,  # paragraph 102, question 503, ST-VQA 702, TallyQA 803
    "unsafe_path": 1,  # the record of picture 3 in the captions of 2014
}


def test_fixture_rows_are_the_expected_ones() -> None:
    expected = [
        json.loads(line) for line in (FIXTURE / "expected.jsonl").read_text("utf-8").splitlines()
    ]
    found = [
        {
            "id": f"coco_ift/{row.id}",
            "images": list(row.images),
            "image_paths": list(row.image_paths),
            "split": row.split,
            "messages": [
                {
                    "role": message.role,
                    "content": [
                        part.type if part.text is None else f"{part.type}: {part.text}"
                        for part in message.content
                    ],
                }
                for message in row.messages
            ],
            "source": "coco_ift",
            "task": row.task,
            "language": row.language,
            "license": row.license,
            "meta": json.loads(json.dumps(row.meta)),
        }
        for row in Result(FIXTURE / "root").rows
    ]
    assert found == expected


def test_fixture_has_every_source_and_counts_what_is_left_out() -> None:
    result = Result(FIXTURE / "root")
    assert {task for task, _, _ in result.rounds()} == set(TABLE_1)
    assert result.counts == FIXTURE_DROPPED
    assert result.absent == ["vqav2 val", "okvqa train", "vqae train", "vsr test", "aokvqa train"]
    stops = [one for one in result.dropped if not one.by_rule]
    assert sorted(one.reason for one in stops) == ["missing_image", "no_answer", "unsafe_path"]


def test_templates_are_the_papers_word_for_word() -> None:
    assert {task: one.text for task, one in rounds_of.PAPER.items()} == TABLE_1


def test_a_question_that_looks_like_a_template_stays_as_it_is() -> None:
    asked = rounds_of.user_text("vqav2", "What is {question}?")
    assert asked == "What is {question}? Answer the question with a short phrase."


def test_single_gives_every_round_a_row(tmp_path: Path) -> None:
    result = Result(FIXTURE / "root", rounds="single")
    dialogs = Result(FIXTURE / "root")
    assert len(result.rows) == len(dialogs.rounds()) + 4  # the other four captions
    assert "caption_not_picked" not in result.counts
    ids = {row.id for row in result.rows}
    assert {f"train/captions/{number}" for number in range(11, 16)} < ids
    assert {"train/vqav2/1001", "val/aokvqa/2Aq5RiEn7eyf", "test/cocoqa/1"} < ids
    for row in result.rows:
        assert row.task == row.id.split("/")[1]
        assert [message.role for message in row.messages] == ["user", "assistant"]
    table = build(
        "coco_ift", root=FIXTURE / "root", out=tmp_path / "t", options={"rounds": "single"}
    )
    assert len(table) == len(result.rows)


def test_a_tie_goes_to_the_first_answer_in_the_file(root: Path) -> None:
    def votes(*answers: str) -> Callable[[Any], None]:
        def change(value: Any) -> None:
            value["annotations"][0]["answers"] = [{"answer": answer} for answer in answers]

        return change

    for answers, wanted in (
        (("b", "a", "a", "b"), "b"),
        (("a", "b", "b", "a"), "a"),
        (("c", "a", "a"), "a"),
        ((" ", "", "x"), "x"),
    ):
        edit(root, ANSWERS, votes(*answers))
        assert ("vqav2", "1001", wanted) in Result(root, tasks="vqav2").rounds()


def test_captions_of_2017_win_over_those_of_2014(root: Path) -> None:
    shutil.copy(root / CAPTIONS, root / "coco/annotations/captions_train2014.json")
    result = Result(root, rounds="single", tasks="captions")
    again = [one for one in result.dropped if one.reason == "duplicate_id"]
    assert len(again) == 6 + 1
    assert all(one.by_rule and "2014" in one.file for one in again)
    assert {file["file"] for row in result.rows for file in row.meta["rounds"]} == {
        CAPTIONS,
        CAPTIONS_2014,
    }


def test_one_id_with_other_contents_is_not_left_out_by_rule(root: Path) -> None:
    def change(value: Any) -> None:
        value["annotations"][0]["caption"] = "Something else."

    edit(root, CAPTIONS_2014, change)
    [again] = [one for one in Result(root, tasks="captions").dropped if "11" in one.record]
    assert again.reason == "duplicate_id"
    assert not again.by_rule
    assert "other contents" in again.detail


def test_visual_genome_needs_its_list_of_pictures(root: Path) -> None:
    (root / "visual_genome/image_data.json").unlink()
    result = Result(root)
    tasks = {task for task, _, _ in result.rounds()}
    assert not tasks & {"paragraphs", "vgqa"}
    assert "vgqa train" in result.absent
    assert "tallyqa train (Visual Genome pictures)" in result.absent
    assert result.counts["no_coco_image"] == 1 + 2  # ST-VQA's, and both of TallyQA's
    assert ("tallyqa", "801", "2") in result.rounds()


def test_answers_that_are_missing_make_a_part_absent(root: Path) -> None:
    (root / ANSWERS).unlink()
    builder: Builder = find("coco_ift")
    [absent] = [
        one
        for one in builder.conversations(root)
        if isinstance(one, Absent) and one.name == "vqav2 train"
    ]
    assert absent.wanted == (ANSWERS,)


# What is broken, and the reasons that come on top of the fixture's.


def _set(*path: str | int, value: object) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = value

    return change


BAD_RECORDS: list[tuple[str, Callable[[Any], object], dict[str, int]]] = [
    (CAPTIONS, _set("annotations", 0, "caption", value=7), {"bad_record": 1}),
    (CAPTIONS, _set("annotations", 0, "caption", value="  "), {"empty_turn": 1}),
    (CAPTIONS, _set("annotations", 0, "caption", value="x\ud800"), {"bad_text": 1}),
    (CAPTIONS, _set("annotations", 0, "caption", value="\udc00"), {"bad_text": 1}),
    (CAPTIONS, _set("annotations", 0, "caption", value="\\ud800 \U0001f600"), {}),
    (CAPTIONS, _set("annotations", 0, "caption", value="x" * 100_001), {"bad_record": 1}),
    (CAPTIONS, _set("annotations", 0, "image_id", value=-1), {"bad_record": 1}),
    (CAPTIONS, _set("annotations", 0, "image_id", value=10**12), {"bad_record": 1}),
    (CAPTIONS, _set("annotations", 0, "image_id", value=8), {"missing_image": 1}),
    (CAPTIONS, _set("annotations", 0, value="not a record"), {"bad_record": 1}),
    (CAPTIONS, _set("annotations", 1, "id", value=11), {"duplicate_id": 1}),
    (CAPTIONS, _set("images", 0, "file_name", value="/etc/passwd"), {"unsafe_path": 1}),
    (QUESTIONS, _set("questions", 0, "question", value=""), {"empty_turn": 1}),
    (QUESTIONS, _set("questions", 1, "question_id", value=1001), {"duplicate_id": 1}),
    (QUESTIONS, _set("questions", 2, "image_id", value=4), {"bad_record": 1}),
    (ANSWERS, _set("annotations", 1, "answers", value=[]), {"no_answer": 1}),
    (ANSWERS, _set("annotations", 1, "question_id", value=77), {"bad_record": 1, "no_answer": 1}),
    (ANSWERS, _set("annotations", 1, "question_id", value=1001), {"duplicate_id": 1}),
    ("stvqa/train_task_3.json", _set("data", 0, "file_name", value="../x.jpg"), {"unsafe_path": 1}),
    ("tallyqa/train.json", _set(0, "image", value="file:///etc/passwd"), {"unsafe_path": 1}),
    ("tallyqa/train.json", _set(0, "image", value="somewhere/1.jpg"), {"bad_record": 1}),
    ("tallyqa/train.json", _set(0, "answer", value=-2), {"bad_record": 1}),
    ("vqae/VQA-E_val_set.json", _set(0, "explanation", value=["", 1.0]), {"no_answer": 1}),
    ("aokvqa/aokvqa_v1p0_val.json", _set(0, "correct_choice_idx", value=4), {"bad_record": 1}),
    ("aokvqa/aokvqa_v1p0_val.json", _set(0, "choices", value=["x"] * 27), {"bad_record": 1}),
    ("aokvqa/aokvqa_v1p0_val.json", _set(0, "rationales", value=[]), {"no_answer": 1}),
    ("visual_genome/image_data.json", _set(2, "coco_id", value="3"), {"bad_record": 1}),
    ("paragraphs/paragraphs_v1.json", _set(0, "image_id", value=999), {"bad_record": 1}),
]


@pytest.mark.parametrize(("file", "change", "more"), BAD_RECORDS)
def test_a_bad_record_costs_itself_alone(
    root: Path, file: str, change: Callable[[Any], object], more: dict[str, int]
) -> None:
    before = Result(root, rounds="single")
    edit(root, file, change)
    after = Result(root, rounds="single")
    extra = after.counts - before.counts
    for reason, count in more.items():
        assert extra[reason] == count
    lost = set(before.rounds()) - set(after.rounds())
    assert len(lost) <= 2  # a question that takes another's id costs both places
    assert all(one.file for one in after.dropped)


def test_bad_lines_cost_themselves_alone(root: Path) -> None:
    good = (root / "vsr/train.jsonl").read_text("utf-8")
    record = json.loads(good)
    bad = [
        "{not json",
        json.dumps({**record, "label": 2}),
        json.dumps({**record, "image": "../../x.jpg"}),
        json.dumps({**record, "image": "x.jpg"}),
        good.strip().replace('"label": 1', '"label": 0, "label": 1'),
        good.strip().replace('"label": 1', '"label": NaN'),
        good.strip().replace("left of the dot", "left of \\ud800 the dot"),
    ]
    (root / "vsr/train.jsonl").write_text("\n".join([*bad, "", good]), "utf-8")
    result = Result(root, tasks="vsr")
    unsafe = FIXTURE_DROPPED["unsafe_path"] + 1
    wanted = {"broken_json": 2, "bad_record": 3, "unsafe_path": unsafe, "bad_text": 1}
    assert result.counts == wanted
    assert ("vsr", "9", "Yes") in result.rounds()


def test_lines_that_do_not_belong_together_are_not_used(root: Path) -> None:
    (root / "cocoqa/train/answers.txt").write_text("yellow\n", "utf-8")
    result = Result(root, tasks="cocoqa")
    assert result.counts["bad_record"] == 2
    assert [task for task, _, _ in result.rounds()] == ["cocoqa"]  # the test split's


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "byte 0"),
        ('{"annotations": [{"image_id": 1', "byte 31"),
        ('{"annotations": [], "images": []} trailing', "byte 3"),
        ('{"annotations": [{"id": NaN}], "images": []}', "byte 24"),
        ("[]", "top level"),
        ('{"annotations": 5, "images": []}', "top level"),
        ('{"annotations": [], "images": [], "annotations": []}', "top level"),
        ('{"annotations": ' + "[" * 100_000, "byte "),
    ],
)
def test_a_broken_file_is_counted_once_and_the_rest_is_read(
    root: Path, text: str, place: str
) -> None:
    (root / CAPTIONS).write_text(text, "utf-8")
    result = Result(root)
    [broken] = [one for one in result.dropped if one.reason == "broken_json"]
    assert (broken.file, broken.by_rule) == (CAPTIONS, False)
    assert broken.record.startswith(place)
    assert ("captions", "41", "Four dots in a row.") in result.rounds()
    with pytest.raises(RecordError, match="captions_train2017"):
        build("coco_ift", root=root, tables=root / "tables", strict=True)


def test_a_key_that_comes_twice_is_not_settled_silently(root: Path) -> None:
    path = root / CAPTIONS
    text = path.read_text("utf-8")
    assert text.count('"id": 12') == 1
    path.write_text(text.replace('"id": 12', '"id": 12, "caption": "Another."'), "utf-8")
    result = Result(root, rounds="single", tasks="captions")
    assert result.counts["bad_record"] == 1
    assert not [one for one in result.rounds() if one[1] == "12"]
    # The same word as a value is no second key.
    path.write_text(text.replace("A dot. ", "caption"), "utf-8")
    assert ("captions", "12", "caption") in Result(root, rounds="single").rounds()


def test_rows_do_not_depend_on_the_order_of_records(root: Path) -> None:
    before = [row.messages for row in Result(root).rows]
    for file, name in (
        (CAPTIONS, "annotations"),
        (QUESTIONS, "questions"),
        (ANSWERS, "annotations"),
    ):
        edit(root, file, lambda value, name=name: value[name].reverse())  # type: ignore[misc]
    assert [row.messages for row in Result(root).rows] == before


def test_options_are_checked() -> None:
    builder: Builder = find("coco_ift")
    with pytest.raises(UnknownNameError, match="did you mean vqav2"):
        builder.options({"tasks": "captions,vqv2"})
    with pytest.raises(UsageError, match="rounds=triple"):
        builder.options({"rounds": "triple"})
    for value in ("0", "1001", "many"):
        with pytest.raises(UsageError, match="max_rounds"):
            builder.options({"max_rounds": value})
    assert builder.options({"tasks": "vqav2, captions", "max_rounds": "8"}) == {
        "tasks": "captions,vqav2"
    }
    assert builder.options({"tasks": ",".join(reversed(list(TABLE_1)))}) == {}


def test_inputs_are_those_of_the_chosen_tasks(root: Path) -> None:
    builder: Builder = find("coco_ift")
    names = {path.relative_to(root).as_posix() for path in builder.inputs(root, tasks="vqav2")}
    assert {ANSWERS, QUESTIONS, "coco/val2014"} < names
    assert "okvqa/mscoco_val2014_annotations.json" not in names
    assert set(names) <= {
        path.relative_to(root).as_posix()
        for pattern in builder.files
        for path in root.glob(pattern)
    }


# The grouping rule, on rounds of one picture.

TASKS = list(TABLE_1)


def placed(tasks: list[str]) -> list[Any]:
    """Rounds of these tasks, in the builder's own order."""
    found = [
        rounds_of.Placed(task, "f", rounds_of.Round(1, number, "q", "a", {}))
        for number, task in enumerate(tasks)
    ]
    return sorted(found, key=rounds_of.rank)


def neighbours(rounds: list[Any]) -> int:
    return sum(one.task == two.task for one, two in itertools.pairwise(rounds))


@given(st.lists(st.sampled_from(TASKS[:5]), min_size=1, max_size=60), st.integers(1, 9))
def test_grouping_keeps_every_round_and_is_even(tasks: list[str], most: int) -> None:
    rounds = placed(tasks)
    dialogs = rounds_of.group(rounds, most)
    flat = [one.round.id for dialog in dialogs for one in dialog]
    assert sorted(flat) == list(range(len(tasks)))
    sizes = [len(dialog) for dialog in dialogs]
    assert len(sizes) == -(-len(tasks) // most)
    assert max(sizes) <= most
    assert max(sizes) - min(sizes) <= 1
    for task in set(tasks):
        shares = [sum(one.task == task for one in dialog) for dialog in dialogs]
        assert max(shares) - min(shares) <= 1


@given(st.lists(st.sampled_from(TASKS[:4]), min_size=1, max_size=60), st.integers(1, 9))
def test_neighbours_of_one_task_only_where_no_order_avoids_them(
    tasks: list[str], most: int
) -> None:
    dialogs = rounds_of.group(placed(tasks), most)
    room = sum(-(-len(dialog) // 2) for dialog in dialogs)
    commonest = max(Counter(tasks).values())
    assert (sum(map(neighbours, dialogs)) == 0) == (commonest <= room)


@settings(max_examples=60)
@given(st.lists(st.sampled_from(TASKS[:4]), min_size=1, max_size=6))
def test_no_order_of_a_dialog_has_fewer_neighbours(tasks: list[str]) -> None:
    rounds = placed(tasks)
    [dialog] = rounds_of.group(rounds, 6)
    assert neighbours(dialog) == min(
        neighbours(list(order)) for order in itertools.permutations(rounds)
    )


def test_a_dialog_in_plain_order_would_have_neighbours() -> None:
    rounds = placed(["vqav2"] * 4 + ["captions"] * 4)
    assert neighbours(rounds) > 0  # so the rule has something to do
    assert [neighbours(dialog) for dialog in rounds_of.group(rounds, 8)] == [0]


@given(st.permutations(list(range(12))))
def test_grouping_does_not_depend_on_the_order_of_files(order: list[int]) -> None:
    tasks = [TASKS[number % 5] for number in range(12)]
    rounds = placed(tasks)
    shuffled = sorted((rounds[place] for place in order), key=rounds_of.rank)
    assert rounds_of.group(shuffled, 5) == rounds_of.group(rounds, 5)


def test_the_order_is_fixed_by_the_hash_and_not_by_this_version() -> None:
    one = rounds_of.Placed("vqav2", "any", rounds_of.Round(25, 25014, "q", "a", {}))
    assert rounds_of.rank(one)[0] == 3776688808114698704  # XXH3-64, seed 0, of b"25/vqav2/25014"


def test_every_reader_has_a_template_and_a_known_split() -> None:
    for reader in files_of.READERS:
        assert reader.task in rounds_of.TEMPLATES
        assert reader.split in ("train", "val", "test")
    assert {reader.task for reader in files_of.READERS} == set(rounds_of.TEMPLATES)
