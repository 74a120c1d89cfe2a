"""COCO-IFT: conversations made of what many people wrote about COCO's pictures.

Paper: Han, Wang, Zhai, You, Yang, "COCO is 'ALL' You Need for Visual Instruction Fine-tuning",
arXiv 2401.08968. The set itself was never released; this builds it from the files of the eleven
sources in the paper's Table 1. What is the paper's and what is ours is told in docs/coco_ift.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import xxhash

from vision_ift import Absent, Builder, Conversation, Dropped, Message
from vision_ift._errors import UnknownNameError, UsageError

from ._coco_answers import Reader
from ._coco_files import READERS
from ._coco_json import Unreadable
from ._coco_pictures import CAPTION_FILES, FOLDERS, VG_IMAGES, Picture, Pictures
from ._coco_questions import read_questions
from ._coco_rounds import PAPER, TEMPLATES, Placed, Round, Store, group, user_text

#: These sources give no ids: a round's id is its place in the file, which other files repeat.
_NUMBERED = frozenset({"cocoqa", "vqae", "vsr"})

_MAX_ROUNDS = 1000

#: The splits, in the order of the table.
SPLITS = ("train", "val", "test")


class CocoIFT(Builder):
    """COCO-IFT, built from the eleven sources of the paper's Table 1."""

    title = "COCO-IFT: COCO is 'ALL' You Need for Visual Instruction Fine-tuning"
    homepage = "https://arxiv.org/abs/2401.08968"
    license = "CC-BY-4.0 AND Apache-2.0 AND LicenseRef-not-stated"
    citation = """\
@inproceedings{han2024coco,
  title={{COCO} is ``{ALL}'' You Need for Visual Instruction Fine-tuning},
  author={Han, Xiaotian and Wang, Yiqi and Zhai, Bohan and You, Quanzeng and Yang, Hongxia},
  booktitle={IEEE International Conference on Multimedia and Expo (ICME)},
  year={2024},
  doi={10.1109/ICME57554.2024.10687511},
  note={arXiv:2401.08968}
}"""
    languages = ("en",)
    files = (
        *FOLDERS,
        *CAPTION_FILES,
        *sorted({file for reader in READERS for file in reader.files} - set(CAPTION_FILES)),
        "cocoqa/*/types.txt",
    )
    by_hand = (
        "coco/: pictures and annotations of 2017, https://cocodataset.org/#download",
        "vqav2/: questions and annotations, https://visualqa.org/download.html",
        "okvqa/: questions and annotations, https://okvqa.allenai.org/download.html",
        "aokvqa/: aokvqa_v1p0.tar.gz, https://github.com/allenai/aokvqa",
        "vqae/: VQA-E_{train,val}_set.json, https://github.com/liqing-ustc/VQA-E",
        "stvqa/: train_task_3.json, https://rrc.cvc.uab.es/?ch=11 (asks for an account)",
        "tallyqa/: train.json and test.json, https://github.com/manoja328/TallyQA_dataset",
        "vsr/: the random split, https://github.com/cambridgeltl/visual-spatial-reasoning",
        "cocoqa/: train/ and test/, https://www.cs.toronto.edu/~mren/research/imageqa/data/cocoqa/",
        "paragraphs/: https://cs.stanford.edu/people/ranjaykrishna/im2p/index.html",
        "visual_genome/: image_data.json and question_answers.json, https://visualgenome.org",
    )

    def options(self, given: dict[str, Any]) -> dict[str, Any]:
        """Check options; a list of tasks is put in the order of the paper's table.

        Raises:
            UnknownNameError: There is no such option or task.
            UsageError: The value does not fit.
        """
        options = super().options(given)
        _check_max_rounds(options.get("max_rounds", 8))
        if "tasks" in options:
            options["tasks"] = _spelled(chosen_tasks(options["tasks"]))
            if options["tasks"] == "paper":
                del options["tasks"]
        return options

    def inputs(self, root: Path, **options: Any) -> list[Path]:
        """List the files and folders that the chosen tasks read."""
        tasks = chosen_tasks(options.get("tasks", "paper"))
        names = {file for reader in READERS if reader.task in tasks for file in reader.files}
        names.update(f"cocoqa/{split}/types.txt" for split in ("train", "test"))
        names.update((*FOLDERS, *CAPTION_FILES))
        return sorted(path for name in names if (path := root / name).exists())

    def conversations(
        self,
        root: Path,
        *,
        rounds: Literal["dialog", "single"] = "dialog",
        max_rounds: int = 8,
        tasks: str = "paper",
    ) -> Iterator[Conversation | Dropped | Absent]:
        """Yield dialogs, split by split and picture by picture.

        Args:
            root: The folder where the authors' files lie.
            rounds: ``dialog`` joins the rounds on a picture; ``single`` makes each a row.
            max_rounds: The most rounds of one dialog, 1 to 1000.
            tasks: ``paper`` (the eleven), ``all`` (also those beyond the paper), or names with
                commas between.

        Raises:
            UnknownNameError: There is no such task.
            UsageError: ``max_rounds`` is out of range.
        """
        _check_max_rounds(max_rounds)
        chosen = chosen_tasks(tasks)
        pictures = Pictures(root)
        stores = {split: Store() for split in SPLITS}
        told: set[str] = set()
        yield from _absent(root, chosen)
        yield from _read(root, chosen, pictures, stores, told)
        for split in SPLITS:
            for image, placed in stores.pop(split).by_image():
                picture = pictures.find(image)
                if picture is None:
                    yield from _missing(image, placed)
                elif rounds == "single":
                    yield from (_row(split, image, picture, [one]) for one in placed)
                else:
                    yield from _dialogs(split, image, picture, placed, max_rounds)
        yield from (one for one in pictures.dropped if one.file not in told)


def chosen_tasks(text: str) -> frozenset[str]:
    """Read the option ``tasks``.

    >>> sorted(chosen_tasks("vqav2, captions"))
    ['captions', 'vqav2']
    """
    groups = {"paper": frozenset(PAPER), "all": frozenset(TEMPLATES)}
    chosen: set[str] = set()
    for name in text.split(","):
        name = name.strip()
        if name in groups:
            chosen |= groups[name]
        elif name in TEMPLATES:
            chosen.add(name)
        else:
            raise UnknownNameError("task of coco_ift", name, [*TEMPLATES, *groups])
    return frozenset(chosen)


def _spelled(tasks: frozenset[str]) -> str:
    """Write a choice of tasks in one way, so that it is one table however it is typed."""
    if tasks == frozenset(PAPER):
        return "paper"
    return "all" if len(tasks) == len(TEMPLATES) else ",".join(t for t in TEMPLATES if t in tasks)


def _check_max_rounds(max_rounds: int) -> None:
    if not 1 <= max_rounds <= _MAX_ROUNDS:
        raise UsageError(
            f"option max_rounds={max_rounds} of coco_ift is not between 1 and {_MAX_ROUNDS}"
        )


def _missing_files(root: Path, reader: Reader) -> tuple[str, ...]:
    return tuple(file for file in reader.files if not (root / file).is_file())


def _absent(root: Path, chosen: frozenset[str]) -> Iterator[Absent]:
    """List the parts of which no file, or not every file, is there."""
    wanted: dict[str, tuple[str, ...]] = {}
    for reader in READERS:
        if reader.task not in chosen:
            continue
        name = f"{reader.task} {reader.split}"
        missing = _missing_files(root, reader)
        if name not in wanted or not missing:  # the first of several that stand in for each other
            wanted[name] = missing
        if reader.task == "tallyqa" and not missing and not (root / VG_IMAGES).is_file():
            wanted[f"{name} (Visual Genome pictures)"] = (VG_IMAGES,)
    for name, missing in wanted.items():
        if missing:
            yield Absent(name, missing)


def _read(
    root: Path,
    chosen: frozenset[str],
    pictures: Pictures,
    stores: dict[str, Store],
    told: set[str],
) -> Iterator[Dropped]:
    """Read every file that is there into the stores; ``told`` gets the files that are broken."""
    ids = Ids()
    for reader in READERS:
        if reader.task not in chosen or _missing_files(root, reader):
            continue
        store = stores[reader.split]
        file = reader.files[-1] if reader.read is read_questions else reader.files[0]
        try:
            for found in reader.read(root, reader.files, pictures):
                fault = found if isinstance(found, Dropped) else ids.fault(reader.task, file, found)
                if fault is not None:
                    yield fault
                elif isinstance(found, Round):
                    store.add(reader.task, file, found)
        except Unreadable as error:
            if error.dropped.file not in told:  # several readers may need one file
                told.add(error.dropped.file)
                yield error.dropped


class Ids:
    """Judges rounds one by one: an annotation counts once, in the first file that has it."""

    def __init__(self) -> None:
        self._task = ""
        self._files: dict[str, int] = {}
        self._seen: dict[int | str, int] = {}

    def fault(self, task: str, file: str, found: Round) -> Dropped | None:
        """Say why a round cannot be used, or give ``None`` and remember it."""
        if task != self._task:  # readers come task by task
            self._task, self._seen, self._files = task, {}, {}
        place = f"annotation {found.id}"
        empty = not found.answer or ("{question}" in TEMPLATES[task].text and not found.question)
        if empty:
            detail = "the question or the answer has no text"
            return Dropped(reason="empty_turn", file=file, record=place, detail=detail)
        if task in _NUMBERED:
            return None
        text = f"{found.image}\n{found.question}\n{found.answer}"
        number = self._files.setdefault(file, len(self._files))
        # 56 bits of the contents and 8 of the file, in one number: there are millions of these.
        mark = xxhash.xxh3_64_intdigest(text.encode()) >> 8 << 8 | number
        before = self._seen.setdefault(found.id, mark)
        if before is mark:
            return None
        names = list(self._files)
        published_twice = before >> 8 == mark >> 8 and before != mark
        detail = f"it was read before in {names[before & 255]}"
        if before >> 8 != mark >> 8:
            detail += ", with other contents"
        return Dropped(
            reason="duplicate_id",
            file=file,
            record=place,
            detail=detail,
            by_rule=published_twice,
        )


def _missing(image: int, placed: list[Placed]) -> Iterator[Dropped]:
    for file, count in Counter(one.file for one in placed).items():
        yield Dropped(
            reason="missing_image",
            file=file,
            record=f"image {image:012d}",
            detail=f"{count} rounds on a picture that lies in none of COCO's folders",
            count=count,
        )


def _dialogs(
    split: str, image: int, picture: Picture, placed: list[Placed], max_rounds: int
) -> Iterator[Conversation | Dropped]:
    captions = [one for one in placed if one.task == "captions"]
    if len(captions) > 1:  # placed is in hashed order: the first caption is the one picked
        yield Dropped(
            reason="caption_not_picked",
            file=captions[0].file,
            record=f"image {image:012d}",
            detail=f"caption {captions[0].round.id} is used of {len(captions)}",
            count=len(captions) - 1,
            by_rule=True,
        )
        placed = [one for one in placed if one.task != "captions" or one is captions[0]]
    for number, dialog in enumerate(group(placed, max_rounds)):
        yield _row(split, image, picture, dialog, number)


def _row(
    split: str, image: int, picture: Picture, placed: list[Placed], number: int | None = None
) -> Conversation:
    """Make a row; ``number``: the dialog's place among its picture's, ``None`` for one round."""
    messages = []
    for place, one in enumerate(placed):
        text = user_text(one.task, one.round.question)
        messages.append(Message.of("user", text, images=int(place == 0)))
        messages.append(Message.of("assistant", one.round.answer))
    meta: dict[str, Any] = {
        "coco_id": image,
        "rounds": [
            {**one.round.meta, "template": one.task, "id": one.round.id, "file": one.file}
            for one in placed
        ],
    }
    if picture.license is not None:
        meta["image_license"] = picture.license
    first = placed[0]
    return Conversation(
        id=(
            f"{split}/{first.task}/{first.round.id}"
            if number is None
            else f"{split}/{image:012d}/{number}"
        ),
        images=(picture.reference,),
        image_paths=(picture.file_name,),
        messages=tuple(messages),
        split=split,
        task=first.task if len(placed) == 1 else "dialog",
        language="en",
        license=" AND ".join(sorted({TEMPLATES[one.task].license for one in placed})),
        meta=meta,
    )
