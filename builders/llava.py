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


class Llava(Builder):
    """Reads LLaVA-style JSON or JSON Lines, with pictures as LLaVA lays them out.

    Options:
        path: The file, relative to ROOT or absolute; by default the first of ``FILES`` that is
            there (the mix of 665k repeats every record of the 150k).
        images: Folders or zip archives under ROOT, with commas between them, to which the records'
            paths are relative; by default ROOT itself, then ``llava/``. COCO's pictures are also
            found in ``coco/`` and ``coco/images/``, by their id, under either year's name.
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
        folders = [found for found in super().inputs(root) if found.is_dir()]
        named = [root / folder for folder in folders_of(options.get("images", ""))]
        file = self._file(root, options.get("path", ""))
        files = [file] if file else []
        return sorted({*files, *folders, *(found for found in named if found.exists())})

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
        places = new_places(root, *(folders_of(images) or ("", "llava")), coco=True)
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
