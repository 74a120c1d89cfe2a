"""Reads the sources whose pictures are COCO's, each file as its authors publish it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec

from vision_ift import Dropped, RecordError

from ._coco_answers import Found, counted, explained, given, majority, repeated, unanswered
from ._coco_json import ImageId, NumberId, Text, Word, lines, read_document, records
from ._coco_pictures import Pictures, check_name, coco_id
from ._coco_rounds import Round


class _Captions(msgspec.Struct):
    annotations: list[msgspec.Raw]


class _Caption(msgspec.Struct):
    id: NumberId
    image_id: ImageId
    caption: Text


class _Questions(msgspec.Struct):
    questions: list[msgspec.Raw]


class _Question(msgspec.Struct):
    question_id: NumberId
    image_id: ImageId
    question: Text


class _Answers(msgspec.Struct):
    annotations: list[msgspec.Raw]


class _Vote(msgspec.Struct, gc=False):
    answer: Text
    raw_answer: Text | None = None


class _Answer(msgspec.Struct):
    question_id: NumberId
    image_id: ImageId
    answers: list[_Vote] = []
    question_type: Word | None = None
    answer_type: Word | None = None
    multiple_choice_answer: Text | None = None


class _SceneTexts(msgspec.Struct):
    data: list[msgspec.Raw]


class _SceneText(msgspec.Struct):
    question_id: NumberId | Word
    question: Text
    dataset: Word
    file_name: Text
    answers: list[Text] = []


class _Explained(msgspec.Struct):
    img_id: ImageId
    question: Text
    answers: list[Text | _Vote] = []
    explanation: list[Text | float] = []
    question_id: NumberId | None = None
    question_type: Word | None = None
    answer_type: Word | None = None
    multiple_choice_answer: Text | None = None


class _Statement(msgspec.Struct):
    image: Text
    caption: Text
    label: Annotated[int, msgspec.Meta(ge=0, le=1)]
    relation: Word | None = None
    annotator_id: int | None = None
    # A list in the repository's files, the text of one in some copies on the Hub.
    vote_true_validator_id: list[int] | Word | None = None
    vote_false_validator_id: list[int] | Word | None = None
    reference_frame: Word | None = None


class _Choice(msgspec.Struct):
    question_id: Word
    image_id: ImageId
    question: Text
    choices: Annotated[list[Text], msgspec.Meta(min_length=1, max_length=26)]
    correct_choice_idx: Annotated[int, msgspec.Meta(ge=0, lt=26)] | None = None
    direct_answers: list[Text] = []
    difficult_direct_answer: bool | None = None
    rationales: list[Text] = []


def read_captions(root: Path, files: tuple[str, ...], pictures: Pictures) -> Found:
    """COCO's captions: every one is a round."""
    del pictures
    document = read_document(root, files[0], _Captions)
    for _, caption in records(document.annotations, _Caption, file=files[0]):
        if isinstance(caption, Dropped):
            yield caption
        else:
            yield Round(caption.image_id, caption.id, "", caption.caption.strip(), {})


def read_questions(root: Path, files: tuple[str, ...], pictures: Pictures) -> Found:
    """VQAv2 and OK-VQA: a file of questions, and a file with ten people's answers to each."""
    del pictures
    asked, answered = files
    questions: dict[int, tuple[int, str]] = {}
    listed = read_document(root, asked, _Questions).questions
    answers = read_document(root, answered, _Answers).annotations
    for number, question in records(listed, _Question, file=asked):
        if isinstance(question, Dropped):
            yield question
        elif question.question_id in questions:
            yield repeated(asked, f"record {number}", question.question_id)
        else:
            questions[question.question_id] = (question.image_id, question.question)
    used: set[int] = set()
    for number, answer in records(answers, _Answer, file=answered):
        if isinstance(answer, Dropped):
            yield answer
        elif answer.question_id in used:
            yield repeated(answered, f"record {number}", answer.question_id)
        else:
            used.add(answer.question_id)
            yield _answered(answer, questions.get(answer.question_id), f"record {number}", files)
    for question_id in questions:
        if question_id not in used:
            yield unanswered(asked, f"question {question_id}", f"it has no answer in {answered}")


def _answered(
    answer: _Answer, asked: tuple[int, str] | None, place: str, files: tuple[str, ...]
) -> Round | Dropped:
    detail = ""
    if asked is None:
        detail = f"there is no question {answer.question_id} in {files[0]}"
    elif asked[0] != answer.image_id:
        detail = f"it names picture {answer.image_id}, its question names {asked[0]}"
    if asked is None or detail:
        return Dropped(reason="bad_record", file=files[1], record=place, detail=detail)
    votes = counted([vote.answer for vote in answer.answers])
    best = majority(votes)
    if best is None:
        return unanswered(files[1], f"question {answer.question_id}", "no answer is given")
    raw = [vote.raw_answer for vote in answer.answers if vote.raw_answer is not None]
    meta = given(
        answers=votes,
        raw_answers=counted(raw),
        multiple_choice_answer=answer.multiple_choice_answer,
        question_type=answer.question_type,
        answer_type=answer.answer_type,
    )
    return Round(asked[0], answer.question_id, asked[1].strip(), best, meta)


def read_stvqa(root: Path, files: tuple[str, ...], pictures: Pictures) -> Found:
    """ST-VQA: questions on the text in pictures of several sets; COCO-Text's are COCO's."""
    del pictures
    file = files[0]
    for number, found in records(
        read_document(root, file, _SceneTexts).data, _SceneText, file=file
    ):
        if isinstance(found, Dropped):
            yield found
            continue
        place = f"question {found.question_id}"
        if "coco" not in found.dataset.lower():
            detail = f"it is on a picture of {found.dataset}"
            yield Dropped(
                reason="no_coco_image", file=file, record=place, detail=detail, by_rule=True
            )
            continue
        image = _named(found.file_name, file, f"record {number}")
        votes = counted(found.answers)
        answer = majority(votes)
        if isinstance(image, Dropped):
            yield image
        elif answer is None:
            yield unanswered(file, place, "no answer is given")
        else:
            meta = given(answers=votes, dataset=found.dataset)
            yield Round(image, found.question_id, found.question.strip(), answer, meta)


def _named(path: str, file: str, place: str) -> int | Dropped:
    """Give the id of the picture of COCO that a path names."""
    try:
        image = coco_id(check_name(path))
    except RecordError as error:
        return Dropped.of(error, file=file, record=place)
    if image is None:
        detail = f"{path!r} is not COCO's name of a picture"
        return Dropped(reason="bad_record", file=file, record=place, detail=detail)
    return image


def read_vqae(root: Path, files: tuple[str, ...], pictures: Pictures) -> Found:
    """VQA-E: VQAv2's questions with an explanation taken from the captions."""
    del pictures
    file = files[0]
    for number, found in records(
        read_document(root, file, list[msgspec.Raw]), _Explained, file=file
    ):
        if isinstance(found, Dropped):
            yield found
            continue
        votes = counted(
            [vote.answer if isinstance(vote, _Vote) else vote for vote in found.answers]
        )
        answer = majority(votes)
        why = next((text for text in found.explanation if isinstance(text, str)), "").strip()
        if answer is None or not why:
            missing = "explanation" if answer is not None else "answer"
            yield unanswered(file, f"record {number}", f"no {missing} is given")
            continue
        scores = [value for value in found.explanation if not isinstance(value, str)]
        meta = given(
            answers=votes,
            multiple_choice_answer=found.multiple_choice_answer,
            question_type=found.question_type,
            answer_type=found.answer_type,
            explanation_score=scores[0] if scores else None,
        )
        # Most copies have no id of their own: the place in the file is one.
        name = number if found.question_id is None else found.question_id
        yield Round(found.img_id, name, found.question.strip(), explained(answer, why), meta)


def read_vsr(root: Path, files: tuple[str, ...], pictures: Pictures) -> Found:
    """VSR: a statement on where things are, true or false; a line each."""
    del pictures
    file = files[0]
    for number, found in lines(root, file, _Statement):
        if isinstance(found, Dropped):
            yield found
            continue
        image = _named(found.image, file, f"line {number}")
        if isinstance(image, Dropped):
            yield image
            continue
        meta = given(
            relation=found.relation,
            annotator_id=found.annotator_id,
            vote_true_validator_id=found.vote_true_validator_id,
            vote_false_validator_id=found.vote_false_validator_id,
            reference_frame=found.reference_frame,
        )
        yield Round(image, number, found.caption.strip(), "Yes" if found.label else "No", meta)


def read_aokvqa(root: Path, files: tuple[str, ...], pictures: Pictures) -> Found:
    """A-OKVQA: a question, four choices, three reasons; the test set's answers are withheld."""
    del pictures
    file = files[0]
    withheld = file.endswith("_test.json")
    for number, found in records(read_document(root, file, list[msgspec.Raw]), _Choice, file=file):
        if isinstance(found, Dropped):
            yield found
            continue
        place = f"question {found.question_id}"
        if found.correct_choice_idx is None or not found.rationales:
            missing = "right choice" if found.correct_choice_idx is None else "rationale"
            yield unanswered(file, place, f"no {missing} is given", withheld=withheld)
        elif found.correct_choice_idx >= len(found.choices):
            detail = f"choice {found.correct_choice_idx} of {len(found.choices)}, from 0"
            place = f"record {number}"
            yield Dropped(reason="bad_record", file=file, record=place, detail=detail)
        else:
            yield _chosen(found, found.correct_choice_idx)


def _chosen(found: _Choice, correct: int) -> Round:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    shown = [
        f"{letter}. {choice.strip()}"
        for letter, choice in zip(letters, found.choices, strict=False)
    ]
    meta: dict[str, Any] = given(
        answer=found.choices[correct].strip(),
        direct_answers=counted(found.direct_answers),
        difficult_direct_answer=found.difficult_direct_answer,
        other_rationales=[text.strip() for text in found.rationales[1:]],
    )
    question = "\n".join([found.question.strip(), *shown])
    answer = explained(letters[correct], found.rationales[0])
    return Round(found.image_id, found.question_id, question, answer, meta)


_TYPES = ("object", "number", "color", "location")


def read_cocoqa(root: Path, files: tuple[str, ...], pictures: Pictures) -> Found:
    """COCO-QA: files of lines that belong together; ``types.txt`` may be missing."""
    del pictures
    columns = [(root / file).read_bytes().splitlines() for file in files]
    kinds_file = files[0].replace("questions.txt", "types.txt")
    kinds = (root / kinds_file).read_bytes().splitlines() if (root / kinds_file).is_file() else None
    counts = [len(column) for column in columns] + ([len(kinds)] if kinds is not None else [])
    if len(set(counts)) > 1:
        # A line is missing somewhere: every question after it would get another one's answer.
        yield Dropped(
            reason="bad_record",
            file=files[0],
            detail=f"the files have {counts} lines, which should be equal; none is used",
            count=max(counts),
        )
        return
    for number, line in enumerate(zip(*columns, strict=True), 1):
        place = f"line {number}"
        try:
            question, answer, image = (part.decode().strip() for part in line)
        except UnicodeDecodeError as error:
            yield Dropped(reason="bad_text", file=files[0], record=place, detail=str(error))
            continue
        if not (image.isascii() and image.isdigit() and len(image) <= 12):
            detail = f"{image[:50]!r} is not a picture's id"
            yield Dropped(reason="bad_record", file=files[2], record=place, detail=detail)
        elif not answer:
            yield unanswered(files[1], place, "the line is empty")
        else:
            meta: dict[str, Any] = {}
            if kinds is not None:
                kind = kinds[number - 1].strip().decode("ascii", "replace")
                known = kind in ("0", "1", "2", "3")
                meta["question_type"] = _TYPES[int(kind)] if known else kind
            yield Round(int(image), number, question, answer, meta)
