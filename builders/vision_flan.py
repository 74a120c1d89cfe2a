"""Vision-Flan: human-labelled tasks; 191 of them with up to 1,000 conversations each, or all."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from vision_ift import Absent, Batch, Builder, Conversation, Dropped
from vision_ift._archives.ranges import is_url
from vision_ift._errors import RecordError, UsageError
from vision_ift._run import Run, here

from ._files import existing
from ._llava import Reading, batches, conversations, new_places
from ._pictures import Places, pictures_of
from ._vision_flan_budget import Budget
from ._vision_flan_rows import Rule, kept, kept_batches

#: The annotations of 191 tasks: the authors published the same list under both names.
FILES = ("vision_flan/annotation_191-task_1k.json", "vision_flan/metadata.json")

#: The pictures: the archive as published, under its older name, and unpacked.
ARCHIVES = ("vision_flan/image_191-task_1k.zip", "vision_flan/images_191task_1k.zip")
FOLDER = "vision_flan/images_191task_1k"

#: The full set: its annotations, a zip for each source dataset, and where those unpack to.
FULL_FILE = "vision_flan/vision_flan.json"
FULL_ARCHIVES = ("vision_flan/shard_*/*.zip", "vision_flan/shard_*/*/*.zip")
FULL_FOLDERS = ("vision_flan/shard_*", "vision_flan/shard_*/raw_dataset")

Release = Literal["auto", "191", "full"]
Missing = Literal["drop", "keep"]
EvalTasks = Literal["keep", "drop"]


class _Asked(NamedTuple):
    """The options."""

    release: Release = "auto"
    archive: str = ""
    missing_images: Missing = "drop"
    eval_tasks: EvalTasks = "keep"
    num_tasks: int = 0
    per_task: int = 0
    seed: int = 0


class VisionFlan(Builder):
    """Reads the release of 191 tasks or the full one; pictures from the archives in place.

    ``license`` is that of the task's dataset as far as known. ``meta`` has ``dataset``, ``origin``
    (``vision-flan`` or ``multiinstruct``), ``release``, ``eval_source`` (whether the row is drawn
    from a test or benchmark split) and ``coco_id`` where the picture's name carries one.

    A picture is looked for by its path, then by its bare name, then as the only one of that name;
    ``#U91d1`` in a name stands for the sign that it escapes.

    Options:
        release: ``191`` or ``full``; ``auto`` is ``191`` where its annotations are there.
        archive: The zip of the 191 tasks' pictures where it lies elsewhere: a path relative to
            ROOT or absolute, or an address (``https://…``), of which single pictures are fetched.
        missing_images: ``drop`` records whose picture is not there, or ``keep`` them with the
            reference under which it was looked for first.
        eval_tasks: ``drop`` leaves out the rows from test and benchmark splits.
        num_tasks: So many tasks, those whose names a hash puts first; 0: all.
        per_task: So many rows of each task, those whose ids a hash puts first; 0: all.
        seed: The key of both hashes.
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
    files = (*FILES, *ARCHIVES, FOLDER, FULL_FILE, *FULL_ARCHIVES, *FULL_FOLDERS)
    hub = "Vision-Flan/vision-flan_191-task_1k"
    hub_files = ("annotation_191-task_1k.json", "image_191-task_1k.zip")
    claimed: ClassVar[dict[str, int]] = {
        "rows": 186_103,
        "tasks": 191,
        "pictures": 181_394,
        "rows of the full set": 1_664_261,
        "tasks of the full set": 187,
    }
    #: An id names a picture of the origin, not a record: several records of a task share one.
    repeated_ids = "number"

    def conversations(
        self,
        root: Path,
        *,
        release: Release = "auto",
        archive: str = "",
        missing_images: Missing = "drop",
        eval_tasks: EvalTasks = "keep",
        num_tasks: int = 0,
        per_task: int = 0,
        seed: int = 0,
    ) -> Iterator[Conversation | Dropped | Absent]:
        """Yield what the annotations hold, record by record."""
        asked = _Asked(release, archive, missing_images, eval_tasks, num_tasks, per_task, seed)
        readings, rule, absent = self._prepare(root, asked)
        yield from absent
        yield from kept(functools.partial(conversations, readings), rule)

    def batches(  # type: ignore[override]  # its options stand by name
        self,
        root: Path,
        *,
        run: Run = here,
        release: Release = "auto",
        archive: str = "",
        missing_images: Missing = "drop",
        eval_tasks: EvalTasks = "keep",
        num_tasks: int = 0,
        per_task: int = 0,
        seed: int = 0,
    ) -> Iterator[Batch]:
        """Yield the same in vectors."""
        asked = _Asked(release, archive, missing_images, eval_tasks, num_tasks, per_task, seed)
        readings, rule, absent = self._prepare(root, asked)
        yield from self.gather(absent)
        yield from kept_batches(functools.partial(batches, readings, run), rule)

    def inputs(self, root: Path, **options: Any) -> list[Path]:
        """List the annotations that are read, the archives and the folders."""
        asked = _Asked(**options)
        release, file = _release(root, asked)
        if release == "full":
            patterns: tuple[str, ...] = (*FULL_ARCHIVES, *FULL_FOLDERS)
        else:
            patterns = () if asked.archive else (*ARCHIVES, FOLDER)
        found = {path for pattern in patterns for path in root.glob(pattern)}
        if file is not None:
            found.add(file)
        if asked.archive and not is_url(asked.archive):
            found.add(existing(self.name, root, asked.archive))
        return sorted(found)

    def _prepare(self, root: Path, asked: _Asked) -> tuple[list[Reading], Rule, list[Absent]]:
        release, file = _release(root, asked)
        budget = Budget(asked.num_tasks, asked.per_task, asked.seed).checked()
        if file is None:
            wanted = (FULL_FILE,) if release == "full" else FILES
            return [], Rule(release, wanted[0]), [Absent("annotations", wanted)]
        if release == "full":
            places = _full_places(root)
        else:
            places = _places(root, self._archives(root, asked))
        places, absent = self._without_broken(places)
        reading = Reading.of(
            self.name,
            root,
            file,
            places,
            keep_missing=asked.missing_images == "keep",
            language="en",
        )
        return [reading], Rule(release, reading.file, asked.eval_tasks == "drop", budget), absent

    def _archives(self, root: Path, asked: _Asked) -> list[str]:
        if not asked.archive:
            return [name for name in ARCHIVES if (root / name).is_file()] or [ARCHIVES[0]]
        if is_url(asked.archive):
            return [asked.archive]
        path = existing(self.name, root, asked.archive)
        return [path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)]

    def _without_broken(self, places: Places) -> tuple[Places, list[Absent]]:
        """Leave out archives that cannot be read, and name them.

        Raises:
            RecordError: There are no other pictures.
        """
        broken = pictures_of(places).broken()
        if not broken:
            return places, []
        absent = [Absent(f"pictures: {why}", (archive,)) for archive, why in sorted(broken.items())]
        if places.pool:
            return places, absent
        whole = [
            tuple(one for one in some if one.partition("!")[0] not in broken)
            for some in (places.folders, places.by_name)
        ]
        if not any(_holds_pictures(places.root, one) for one in whole[1]):
            raise RecordError(
                next(iter(broken.values())),
                reason="bad_image",
                source=self.name,
                hint="fetch it again, or unpack what can be saved beside it",
            )
        return places._replace(folders=whole[0], by_name=whole[1]), absent


def _holds_pictures(root: str, place: str) -> bool:
    archive, mark, _ = place.partition("!")
    return Path(root, archive).exists() or bool(mark and is_url(archive))


def _release(root: Path, asked: _Asked) -> tuple[Literal["191", "full"], Path | None]:
    """Give the release that is read and its annotations, ``None`` where they are not there.

    Raises:
        UsageError: ``archive`` is given for the full set.
    """
    few = next((root / file for file in FILES if (root / file).is_file()), None)
    full = root / FULL_FILE if (root / FULL_FILE).is_file() else None
    if asked.release == "full" or (asked.release == "auto" and few is None and full is not None):
        if asked.archive:
            raise UsageError(
                "option archive of vision_flan names the pictures of the 191 tasks; the full set "
                "has a hundred archives, in vision_flan/shard_01 to shard_09"
            )
        return "full", full
    return "191", few


def _places(root: Path, archives: list[str]) -> Places:
    inside = FOLDER.rpartition("/")[2]
    return new_places(
        root,
        *(f"{archive}!/{inside}" for archive in archives),
        *(f"{archive}!/" for archive in archives),
        FOLDER,
        "vision_flan",
        by_name=(*(f"{archive}!/" for archive in archives), FOLDER),
    )


def _full_places(root: Path) -> Places:
    archives = {path for pattern in FULL_ARCHIVES for path in root.glob(pattern) if path.is_file()}
    folders = {path for pattern in FULL_FOLDERS for path in root.glob(pattern) if path.is_dir()}
    return new_places(root, "vision_flan")._replace(
        pool=tuple(sorted(path.relative_to(root).as_posix() for path in archives)),
        trees=tuple(sorted(path.relative_to(root).as_posix() for path in folders)),
    )
