"""LLaVA's instruction data, and any file of its layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from vision_ift import Absent, Batch, Builder, Conversation, Dropped
from vision_ift._run import Run, here

from ._files import existing, folders_of
from ._llava import Reading, batches, conversations, new_places

#: The authors' files, the fuller first: the mix of 665k holds the 150k as well.
FILES = ("llava/llava_v1_5_mix665k.json", "llava/llava_instruct_150k.json")

#: Where the mix's folders of pictures are looked for: below ROOT, and below LLaVA's own checkout.
BASES = ("", "llava", "playground/data", "llava/playground/data")

#: The mix's folders, and where else people have the same files: archives as they are downloaded,
#: which are read in place, and folders under their owners' names.
ALIASES = (
    ("coco/train2017", ("coco/train2017.zip!/train2017",)),
    ("gqa/images", ("gqa/images.zip!/images", "gqa/allImages/images")),
    ("ocr_vqa/images", ("ocrvqa/images", "ocr-vqa/images", "ocr_vqa")),
    (
        "textvqa/train_images",
        (
            "textvqa/train_val_images/train_images",
            "textvqa/train_val_images.zip!/train_images",
            "text_vqa/train_images",
        ),
    ),
    # A picture of Visual Genome has one id over both folders, and some keep all in the first.
    (
        "vg/VG_100K",
        ("visual_genome/VG_100K", "vg/images.zip!/VG_100K", "visual_genome/images.zip!/VG_100K"),
    ),
    (
        "vg/VG_100K_2",
        (
            "visual_genome/VG_100K_2",
            "vg/images2.zip!/VG_100K_2",
            "visual_genome/images2.zip!/VG_100K_2",
            "vg/VG_100K",
            "visual_genome/VG_100K",
        ),
    ),
)


class Llava(Builder):
    """Reads LLaVA-style JSON or JSON Lines, with pictures as LLaVA lays them out.

    Options:
        path: The file, relative to ROOT or absolute; by default the first of ``FILES`` that is
            there (the mix of 665k repeats every record of the 150k).
        images: Folders or zip archives under ROOT, with commas between them, to which the records'
            paths are relative; by default ROOT itself, ``llava/``, and ``playground/data/`` below
            either. The mix's own folders (``coco/train2017``, ``gqa/images``, ``ocr_vqa/images``,
            ``textvqa/train_images``, ``vg/VG_100K``, ``vg/VG_100K_2``) are also found under the
            other names of ``ALIASES``, among them the archives as they are downloaded; COCO's
            pictures also in ``coco/`` and ``coco/images/``, by their id, under either year's name.
            A picture that is there under another ending alone (OCR-VQA's ``.gif`` and ``.png``,
            which the mix calls ``.jpg``) is used where it is the only one of its stem; ``renamed``
            in ``meta`` says so.
        missing_images: ``drop`` records whose picture is not there, or ``keep`` them with the
            reference under which it was looked for first.
    """

    title = "LLaVA: Visual Instruction Tuning"
    homepage = "https://llava-vl.github.io"
    license = "CC-BY-4.0, and OpenAI's terms of use for what GPT-4 wrote"
    citation = """\
@inproceedings{liu2023llava,
  title={Visual Instruction Tuning},
  author={Liu, Haotian and Li, Chunyuan and Wu, Qingyang and Lee, Yong Jae},
  booktitle={Advances in Neural Information Processing Systems},
  year={2023}
}
@inproceedings{liu2024improved,
  title={Improved Baselines with Visual Instruction Tuning},
  author={Liu, Haotian and Li, Chunyuan and Li, Yuheng and Lee, Yong Jae},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2024}
}
"""
    files = (
        *FILES,
        "coco/*2014",
        "coco/*2017",
        "coco/images/*2014",
        "coco/images/*2017",
        "gqa/images",
        "ocr_vqa/images",
        "textvqa/train_images",
        "vg/VG_100K*",
    )
    hub = "liuhaotian/LLaVA-Instruct-150K"
    hub_files = ("llava_v1_5_mix665k.json", "llava_instruct_150k.json")
    by_hand = (
        "coco/train2017/: http://images.cocodataset.org/zips/train2017.zip",
        "gqa/images/: https://downloads.cs.stanford.edu/nlp/data/gqa/images.zip",
        "ocr_vqa/images/: the loader of https://ocr-vqa.github.io, every picture saved as .jpg",
        "textvqa/train_images/: https://dl.fbaipublicfiles.com/textvqa/images/train_val_images.zip",
        "vg/VG_100K/, vg/VG_100K_2/: the two archives of pictures of https://visualgenome.org",
    )
    #: The published files give some ids to several records.
    repeated_ids = "number"

    def conversations(
        self,
        root: Path,
        *,
        path: str = "",
        images: str = "",
        missing_images: Literal["drop", "keep"] = "drop",
    ) -> Iterator[Conversation | Dropped | Absent]:
        """Yield what the file holds, record by record."""
        yield from conversations(self._readings(root, path, images, missing_images))

    def batches(  # type: ignore[override]  # its options stand by name
        self,
        root: Path,
        *,
        run: Run = here,
        path: str = "",
        images: str = "",
        missing_images: Literal["drop", "keep"] = "drop",
    ) -> Iterator[Batch]:
        """Yield the same in vectors."""
        yield from batches(self._readings(root, path, images, missing_images), run)

    def inputs(self, root: Path, **options: Any) -> list[Path]:
        """List the file and the folders of pictures."""
        file = self._file(root, options.get("path", ""))
        if file is None:
            return []
        places = [found for found in super().inputs(root) if found.is_dir()]
        places += [root / base / folder for base in BASES for folder, _ in ALIASES]
        places += [root / other.partition("!")[0] for _, others in ALIASES for other in others]
        places += [root / place for place in folders_of(options.get("images", ""))]
        return sorted({file, *filter(Path.exists, places)})

    def _file(self, root: Path, path: str) -> Path | None:
        if path:
            return existing(self.name, root, path)
        return next((root / file for file in FILES if (root / file).is_file()), None)

    def _readings(
        self, root: Path, path: str, images: str, missing_images: Literal["drop", "keep"]
    ) -> list[Reading]:
        file = self._file(root, path)
        if file is None:
            return []
        places = new_places(root, *(folders_of(images) or BASES), coco=True)
        places = places._replace(aliases=ALIASES, other_endings=True)
        own = not path  # of somebody else's file neither licence nor language is known
        return [
            Reading.of(
                self.name,
                root,
                file,
                places,
                keep_missing=missing_images == "keep",
                language="en" if own else None,
                license="CC-BY-4.0" if own else None,
            )
        ]
