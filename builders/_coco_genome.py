"""Reads the sources whose pictures are Visual Genome's: those that COCO shows too are kept."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec

from vision_ift import Dropped, RecordError

from ._coco_answers import Found, given, not_coco, unanswered
from ._coco_json import ImageId, NumberId, Text, Word, read_document, records
from ._coco_pictures import VG_IMAGES, Pictures, check_name, coco_id
from ._coco_rounds import Round


class _Paragraph(msgspec.Struct):
    image_id: ImageId
    paragraph: Text


class _Picture(msgspec.Struct):
    id: ImageId
    qas: list[msgspec.Raw]


class _Question(msgspec.Struct):
    qa_id: NumberId
    question: Text
    answer: Text


class _Tally(msgspec.Struct):
    question_id: NumberId
    image: Text
    question: Text
    answer: NumberId
    data_source: Word | None = None
    issimple: bool | None = None


def read_paragraphs(root: Path, files: tuple[str, ...], pictures: Pictures) -> Found:
    """Stanford's image paragraphs; a split is a list of Visual Genome's picture ids."""
    paragraphs, listed, _ = files
    folder = listed.rpartition("/")[0]
    lists = [f"{folder}/{split}_split.json" for split in ("train", "val", "test")]
    present = [file for file in lists if (root / file).is_file()]
    speaks = listed == present[0]  # all splits read one file: the first tells of its bad records
    wanted = set(read_document(root, listed, list[int]))
    known = wanted
    if speaks and present == lists:
        known = wanted.union(*(read_document(root, file, list[int]) for file in lists[1:]))
    coco_of_vg = pictures.coco_of_vg
    times: Counter[int] = Counter()
    for number, found in records(
        read_document(root, paragraphs, list[msgspec.Raw]), _Paragraph, file=paragraphs
    ):
        if isinstance(found, Dropped):
            if speaks:
                yield found
            continue
        vg = found.image_id
        if speaks and present == lists and vg not in known:
            yield Dropped(
                reason="bad_record",
                file=paragraphs,
                record=f"record {number}",
                detail=f"Visual Genome picture {vg} is in none of the three lists of splits",
            )
        if vg not in wanted:
            continue
        times[vg] += 1
        name = vg if times[vg] == 1 else f"{vg}#{times[vg]}"  # a few pictures have two paragraphs
        if vg in coco_of_vg:
            yield Round(coco_of_vg[vg], name, "", found.paragraph.strip(), {"vg_id": vg})
        else:
            yield not_coco(paragraphs, vg)


def read_vgqa(root: Path, files: tuple[str, ...], pictures: Pictures) -> Found:
    """Visual Genome's questions and answers; the file has one split."""
    file = files[0]
    coco_of_vg = pictures.coco_of_vg
    for number, picture in records(
        read_document(root, file, list[msgspec.Raw]), _Picture, file=file, name="picture"
    ):
        if isinstance(picture, Dropped):
            yield picture
            continue
        image = coco_of_vg.get(picture.id)
        if image is None:
            if picture.qas:
                yield not_coco(file, picture.id, len(picture.qas))
            continue
        name = f"picture {number}, question"
        meta = {"vg_id": picture.id}
        for _, found in records(picture.qas, _Question, file=file, name=name):
            if isinstance(found, Dropped):
                yield found
            elif not found.answer.strip():
                yield unanswered(file, f"question {found.qa_id}", "the answer is empty")
            else:
                yield Round(image, found.qa_id, found.question.strip(), found.answer.strip(), meta)


def read_tallyqa(root: Path, files: tuple[str, ...], pictures: Pictures) -> Found:
    """TallyQA: counting questions on pictures of COCO and of Visual Genome."""
    file = files[0]
    joined = (root / VG_IMAGES).is_file()
    coco_of_vg = pictures.coco_of_vg if joined else {}
    unknown = 0
    for number, found in records(read_document(root, file, list[msgspec.Raw]), _Tally, file=file):
        if isinstance(found, Dropped):
            yield found
            continue
        place = f"record {number}"
        try:
            name = check_name(found.image)
        except RecordError as error:
            yield Dropped.of(error, file=file, record=place)
            continue
        image = coco_id(name)
        meta = given(data_source=found.data_source, issimple=found.issimple)
        if image is None and found.image.startswith("VG_100K"):
            stem = name.removesuffix(".jpg")
            vg = int(stem) if stem.isascii() and stem.isdigit() and len(stem) < 13 else -1
            if not joined:
                unknown += 1
                continue
            image = coco_of_vg.get(vg)
            if image is None:
                yield not_coco(file, vg)
                continue
            meta["vg_id"] = vg
        if image is None:
            detail = f"{found.image!r} is neither COCO's name of a picture nor Visual Genome's"
            yield Dropped(reason="bad_record", file=file, record=place, detail=detail)
            continue
        yield Round(image, found.question_id, found.question.strip(), str(found.answer), meta)
    if unknown:
        yield Dropped(
            reason="no_coco_image",
            file=file,
            detail=f"{VG_IMAGES} is not there to tell which of Visual Genome's pictures are COCO's",
            count=unknown,
            by_rule=True,
        )
