"""MM-Instruct: instructions generated for captioned pictures, and a benchmark of 99 prompts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from vision_ift import Absent, Batch, Builder, Conversation, Dropped, Message, RecordError
from vision_ift._conversation import check
from vision_ift._run import Run, here

from ._json_records import parsed_records
from ._llava import Reading, batches, conversations, new_places
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
    under ``datacomp/`` and ``sa1b/`` in ``mm_instruct/`` or ROOT. The benchmark is the split
    ``test``: prompts without an answer, with what the authors say of the picture in ``meta``.

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
        "mm_instruct/datacomp",
        "mm_instruct/datacomp/images",
        "mm_instruct/sa1b",
        "datacomp",
        "datacomp/images",
        "sa1b",
    )
    hub = "jjjjh/MM-Instruct"
    hub_files = ("train.json", "test.json", "images.zip")
    by_hand = (
        "mm_instruct/datacomp/: https://huggingface.co/datasets/mlfoundations/datacomp_1b",
        "mm_instruct/sa1b/: https://ai.meta.com/datasets/segment-anything",
    )
    prompt_splits = frozenset({"test"})
    repeated_ids = "number"

    def conversations(
        self, root: Path, *, missing_images: Missing = "drop"
    ) -> Iterator[Conversation | Dropped | Absent]:
        """Yield the training records, then the benchmark."""
        yield from self._absent(root)
        yield from conversations(self._readings(root, missing_images))
        yield from self._prompts(root, missing_images)

    def batches(  # type: ignore[override]  # its options stand by name
        self, root: Path, *, run: Run = here, missing_images: Missing = "drop"
    ) -> Iterator[Batch]:
        """Yield the same, the training records in vectors."""
        yield from self.gather(self._absent(root))
        yield from batches(self._readings(root, missing_images), run)
        yield from self.gather(self._prompts(root, missing_images))

    def _absent(self, root: Path) -> Iterator[Absent]:
        for name, file in (("train", TRAIN), ("test", TEST)):
            if not (root / file).is_file():
                yield Absent(name, (file,))

    def _readings(self, root: Path, missing_images: Missing) -> list[Reading]:
        if not (root / TRAIN).is_file():
            return []
        places = new_places(root, "mm_instruct", "")
        return [
            Reading.of(
                self.name,
                root,
                root / TRAIN,
                places,
                keep_missing=missing_images == "keep",
                language="en",
                license="CC-BY-4.0",
            )
        ]

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
