"""MM-Instruct: instructions generated for captioned pictures, and a benchmark of 99 prompts.

A training record, and one of the benchmark::

    {"id": "7", "image": "sa1b/sa_224577.jpg", "conversations": [
        {"from": "human", "value": "<image>\\nWrite a haiku."},
        {"from": "gpt", "value": "Yellow everywhere"}]}
    {"question_id": 0, "image": "sa_1419.jpg", "text": "Craft a caption.",
     "caption": "A model walks …", "category": "vllm_instruction_following"}
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

from vision_ift import Absent, Batch, Builder, Conversation, Dropped, Message, RecordError
from vision_ift._conversation import check
from vision_ift._fetch.sa1b import FOLDERS as SA1B_FOLDERS
from vision_ift._fetch.sa1b import INDEX
from vision_ift._run import Run, here

from ._json_records import parsed_records
from ._llava import Reading, batches, conversations, new_places
from ._mm_pictures import DATACOMP_FOLDERS, locate, wanted_of, write_lookup
from ._pictures import Pictures, pictures_of

TRAIN = "mm_instruct/train.json"
TEST = "mm_instruct/test.json"
#: The benchmark's pictures alone; in the first days of the release under the second name.
ARCHIVES = ("mm_instruct/images.zip", "mm_instruct/test_images.zip")

Missing = Literal["drop", "keep"]


class _Prompt(msgspec.Struct):
    """A record of the benchmark."""

    question_id: int
    image: str
    text: str


class MMInstruct(Builder):
    """Reads ``train.json`` and ``test.json``.

    The training pictures are not part of the release: they are those of DataComp-1B and SA-1B,
    under ``datacomp/`` and ``sa1b/`` in ``mm_instruct/`` or ROOT. A picture is looked for by its
    path, then by its name alone (uid, ``sa_<number>``) under any picture's ending: as a file, in
    what img2dataset made (folders or tars), in SA-1B's tars, read in place. The benchmark is the
    split ``test``: prompts without an answer, with what the authors say of the picture in ``meta``.

    Options:
        missing_images: ``drop`` records whose picture is not there, or ``keep`` them with the
            reference under which it was looked for first.
    """

    title = "MM-Instruct: Generated Visual Instructions for Large Multimodal Model Alignment"
    homepage = "https://github.com/jihaonew/MM-Instruct"
    license = "CC-BY-4.0"
    citation = """\
@article{liu2024mm,
  title={MM-Instruct: Generated Visual Instructions for Large Multimodal Model Alignment},
  author={Liu, Jihao and Huang, Xin and Zheng, Jinliang and Liu, Boxiao and Wang, Jia and
          Yoshie, Osamu and Liu, Yu and Li, Hongsheng},
  journal={arXiv preprint arXiv:2406.19736},
  year={2024}
}
"""
    files = (
        TRAIN,
        TEST,
        *ARCHIVES,
        "mm_instruct/images",
        INDEX,
        *DATACOMP_FOLDERS,
        *(f"{folder}/[0-9]*[0-9]" for folder in DATACOMP_FOLDERS),
        *SA1B_FOLDERS,
        *(f"{folder}/sa_*[0-9]" for folder in SA1B_FOLDERS),
        *(f"{folder}/*.tar" for folder in (*DATACOMP_FOLDERS, *SA1B_FOLDERS)),
    )
    hub = "jjjjh/MM-Instruct"
    hub_files = ("train.json", "test.json", "images.zip")
    by_hand = (
        "mm_instruct/datacomp/: https://huggingface.co/datasets/mlfoundations/datacomp_1b",
        "mm_instruct/sa1b/: https://ai.meta.com/datasets/segment-anything",
    )
    claimed: ClassVar[dict[str, int]] = {"train": 234_000, "test": 99}
    prompt_splits = frozenset({"test"})
    repeated_ids = "number"

    def conversations(
        self, root: Path, *, missing_images: Missing = "drop"
    ) -> Iterator[Conversation | Dropped | Absent]:
        """Yield the training records, then the benchmark."""
        yield from self._absent(root)
        with self._readings(root, missing_images) as (readings, dropped):
            yield from dropped
            yield from conversations(readings)
        yield from self._prompts(root, missing_images)

    def batches(  # type: ignore[override]  # its options stand by name
        self, root: Path, *, run: Run = here, missing_images: Missing = "drop"
    ) -> Iterator[Batch]:
        """Yield the same, the training records in vectors."""
        yield from self.gather(self._absent(root))
        with self._readings(root, missing_images) as (readings, dropped):
            yield from self.gather(dropped)
            yield from batches(readings, run)
        yield from self.gather(self._prompts(root, missing_images))

    def _absent(self, root: Path) -> Iterator[Absent]:
        for name, file in (("train", TRAIN), ("test", TEST)):
            if not (root / file).is_file():
                yield Absent(name, (file,))
        if (root / TRAIN).is_file():
            for name, folders in (("DataComp", DATACOMP_FOLDERS), ("SA-1B", SA1B_FOLDERS)):
                if not any((root / folder).is_dir() for folder in folders):
                    yield Absent(f"pictures of {name}", (f"{folders[0]}/",))

    @contextlib.contextmanager
    def _readings(
        self, root: Path, missing_images: Missing
    ) -> Generator[tuple[list[Reading], list[Dropped]]]:
        """Say how the training file is read, and what was unreadable among its pictures."""
        file = root / TRAIN
        if not file.is_file():
            yield [], []
            return
        folders = ("mm_instruct", "")
        plain = pictures_of(new_places(root, *folders))
        located = locate(root, wanted_of([file], plain))
        with tempfile.TemporaryDirectory(prefix="vision_ift-") as folder:
            lookup = ""
            if located.references:
                lookup = f"{folder}/lookup.arrow"
                write_lookup(Path(lookup), located.references)
            reading = Reading.of(
                self.name,
                root,
                file,
                new_places(root, *folders, lookup=lookup),
                keep_missing=missing_images == "keep",
                language="en",
                license="CC-BY-4.0",
            )
            yield [reading], located.dropped

    def _prompts(self, root: Path, missing_images: Missing) -> Iterator[Conversation | Dropped]:
        if not (root / TEST).is_file():
            return
        archives = [name for name in ARCHIVES if (root / name).is_file()] or [ARCHIVES[0]]
        places = new_places(root, *archives, "mm_instruct/images", by_name=tuple(archives))
        for offset, value in parsed_records(root / TEST):
            try:
                if isinstance(value, RecordError):
                    raise value
                made = _prompt(value, pictures_of(places), missing_images)
                check(made, prompt=True)
                yield made
            except RecordError as error:
                yield Dropped.of(error, file=TEST, record=f"byte {offset}")


def _prompt(value: Any, pictures: Pictures, missing_images: Missing) -> Conversation:
    try:
        prompt = msgspec.convert(value, _Prompt)
    except msgspec.ValidationError as error:
        raise RecordError(str(error), reason="bad_record") from None
    reference = pictures.reference(prompt.image, keep=missing_images == "keep")
    return Conversation(
        id=f"test-{prompt.question_id}",
        images=(reference,),
        image_paths=(prompt.image,),
        # Some of the published texts end in a space.
        messages=(Message.of("user", prompt.text.strip(), images=1),),
        split="test",
        language="en",
        license="CC-BY-4.0",
        meta={key: value[key] for key in value if key not in _Prompt.__struct_fields__},
    )
