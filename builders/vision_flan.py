"""Vision-Flan: 191 human-labelled tasks, up to 1,000 conversations each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from vision_ift import Absent, Batch, Builder, Conversation, Dropped
from vision_ift._run import Run, here

from ._llava import Reading, batches, conversations, new_places

#: The annotations: the authors published the same list under both names.
FILES = ("vision_flan/annotation_191-task_1k.json", "vision_flan/metadata.json")

#: The pictures: the archive as published, under its older name, and unpacked.
ARCHIVES = ("vision_flan/image_191-task_1k.zip", "vision_flan/images_191task_1k.zip")
FOLDER = "vision_flan/images_191task_1k"


class VisionFlan(Builder):
    """Reads the release of 191 tasks; pictures from the archive in place, or unpacked.

    A picture is looked for by its path, then by its bare name, then as the only one of that name;
    ``#U91d1`` in the name of an unpacked file stands for the sign that it escapes.

    Options:
        missing_images: ``drop`` records whose picture is not there, or ``keep`` them with the
            reference under which it was looked for first.
    """

    title = "Vision-Flan: Scaling Human-Labeled Tasks in Visual Instruction Tuning"
    homepage = "https://vision-flan.github.io"
    license = "research only; each task keeps the licence of the dataset that it comes from"
    citation = """\
@inproceedings{xu2024vision,
  title={Vision-Flan: Scaling Human-Labeled Tasks in Visual Instruction Tuning},
  author={Xu, Zhiyang and Feng, Chao and Shao, Rulin and Ashby, Trevor and Shen, Ying and
          Jin, Di and Cheng, Yu and Wang, Qifan and Huang, Lifu},
  booktitle={Findings of the Association for Computational Linguistics: ACL 2024},
  year={2024}
}
"""
    files = (*FILES, *ARCHIVES, FOLDER)
    hub = "Vision-Flan/vision-flan_191-task_1k"
    hub_files = ("annotation_191-task_1k.json", "image_191-task_1k.zip")
    #: An id names a picture of the origin, not a record: several records of a task share one.
    repeated_ids = "number"

    def conversations(
        self, root: Path, *, missing_images: Literal["drop", "keep"] = "drop"
    ) -> Iterator[Conversation | Dropped | Absent]:
        """Yield what the annotations hold, record by record."""
        yield from conversations(self._readings(root, missing_images))

    def batches(  # type: ignore[override]  # its options stand by name
        self, root: Path, *, run: Run = here, missing_images: Literal["drop", "keep"] = "drop"
    ) -> Iterator[Batch]:
        """Yield the same in vectors."""
        yield from batches(self._readings(root, missing_images), run)

    def inputs(self, root: Path, **options: Any) -> list[Path]:  # noqa: ARG002 - no option names any
        """List the annotations that are read, the archive and the folder."""
        found = super().inputs(root)
        file = self._file(root)
        return [path for path in found if path == file or path not in map(root.joinpath, FILES)]

    def _file(self, root: Path) -> Path | None:
        return next((root / file for file in FILES if (root / file).is_file()), None)

    def _readings(self, root: Path, missing_images: Literal["drop", "keep"]) -> list[Reading]:
        file = self._file(root)
        if file is None:
            return []
        inside = FOLDER.rpartition("/")[2]
        archives = [name for name in ARCHIVES if (root / name).is_file()] or [ARCHIVES[0]]
        places = new_places(
            root,
            *(f"{archive}!/{inside}" for archive in archives),
            *archives,
            FOLDER,
            "vision_flan",
            by_name=(*archives, FOLDER),
        )
        return [
            Reading.of(
                self.name, root, file, places, keep_missing=missing_images == "keep", language="en"
            )
        ]
