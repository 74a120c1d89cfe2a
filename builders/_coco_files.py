"""The authors' own file names under ROOT, and which reader each one has."""

from __future__ import annotations

from ._coco_answers import Reader
from ._coco_extras import EXTRA_READERS
from ._coco_genome import read_paragraphs, read_tallyqa, read_vgqa
from ._coco_pictures import CAPTION_FILES, VG_IMAGES
from ._coco_questions import (
    read_aokvqa,
    read_captions,
    read_cocoqa,
    read_questions,
    read_stvqa,
    read_vqae,
    read_vsr,
)

_PARAGRAPHS = "paragraphs/paragraphs_v1.json"


def _asked(task: str, version: str, split: str) -> Reader:
    asked = f"{task}/{version}OpenEnded_mscoco_{split}2014_questions.json"
    answered = f"{task}/{version}mscoco_{split}2014_annotations.json"
    return Reader(task, split, (asked, answered), read_questions)


def _lines(split: str) -> tuple[str, ...]:
    return tuple(f"cocoqa/{split}/{name}.txt" for name in ("questions", "answers", "img_ids"))


#: Every file that is read, in the order in which it is read: where one annotation is published
#: twice, the first is kept. Several readers of one task and split may stand in for each other.
READERS: tuple[Reader, ...] = (
    *(
        Reader("captions", "train" if "_train" in file else "val", (file,), read_captions)
        for file in CAPTION_FILES
    ),
    *(
        Reader(
            "paragraphs",
            split,
            (_PARAGRAPHS, f"paragraphs/{split}_split.json", VG_IMAGES),
            read_paragraphs,
        )
        for split in ("train", "val", "test")
    ),
    *(Reader("cocoqa", split, _lines(split), read_cocoqa) for split in ("train", "test")),
    Reader("vgqa", "train", ("visual_genome/question_answers.json", VG_IMAGES), read_vgqa),
    *(_asked("vqav2", "v2_", split) for split in ("train", "val")),
    *(_asked("okvqa", "", split) for split in ("train", "val")),
    *(  # the three files ask the same questions, with other lists of words
        Reader("stvqa", "train", (f"stvqa/train_task_{number}.json",), read_stvqa)
        for number in (3, 2, 1)
    ),
    *(
        Reader("tallyqa", split, (f"tallyqa/{split}.json",), read_tallyqa)
        for split in ("train", "test")
    ),
    *(
        Reader("vqae", split, (f"vqae/VQA-E_{split}_set.json",), read_vqae)
        for split in ("train", "val")
    ),
    Reader("vsr", "train", ("vsr/train.jsonl",), read_vsr),
    Reader("vsr", "val", ("vsr/dev.jsonl",), read_vsr),
    Reader("vsr", "test", ("vsr/test.jsonl",), read_vsr),
    *(
        Reader("aokvqa", split, (f"aokvqa/aokvqa_v1p0_{split}.json",), read_aokvqa)
        for split in ("train", "val", "test")
    ),
    *EXTRA_READERS,
)
