"""MMInstruct: captions and questions of 23 domains by GPT-4V and GPT-3.5, English and Chinese."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from vision_ift import Absent, Batch, Builder, Conversation, Dropped
from vision_ift._run import Run, here

from ._llava import Reading, batches, conversations, new_places

#: The release's configurations, a file each. `jsons_per_domain/` repeats every record of these.
CAPTIONS = ("caption_cn", "caption_en")
QUESTIONS = ("qa_en",)

Subset = Literal["all", "qa", "captions"]
Missing = Literal["drop", "keep"]


class MMInstruct(Builder):
    """Reads ``jsons_all/``; pictures from ``images.zip`` in place, or unpacked in ``images/``.

    ``task`` is the domain, the first folder of the picture's path. ``language`` is found row by
    row (``zh`` where a turn has Chinese signs): about a quarter of the English captions is Chinese.
    ``meta`` has ``config``, the file's name.

    Options:
        subset: ``all``, ``qa`` or ``captions``.
        missing_images: ``drop`` records whose picture is not there, or ``keep`` them with the
            reference under which it was looked for first.
    """

    title = (
        "MMInstruct: A High-Quality Multi-Modal Instruction Tuning Dataset with Extensive Diversity"
    )
    homepage = "https://github.com/yuecao0119/MMInstruct"
    license = "Apache-2.0"
    citation = """\
@article{liu2024mminstruct,
  title={MMInstruct: A High-Quality Multi-Modal Instruction Tuning Dataset with Extensive
         Diversity},
  author={Liu, Yangzhou and Cao, Yue and Gao, Zhangwei and Wang, Weiyun and Chen, Zhe and
          Wang, Wenhai and Tian, Hao and Lu, Lewei and Zhu, Xizhou and Lu, Tong and
          Qiao, Yu and Dai, Jifeng},
  journal={Science China Information Sciences},
  volume={67},
  number={12},
  year={2024}
}
"""
    languages = ("en", "zh")
    files = (
        *(f"mminstruct/jsons_all/{name}.jsonl" for name in (*CAPTIONS, *QUESTIONS)),
        "mminstruct/images.zip",
        "mminstruct/images",
    )
    hub = "yuecao0119/MMInstruct-GPT4V"
    hub_files = ("jsons_all/*.jsonl", "images.zip")
    repeated_ids = "number"

    def conversations(
        self, root: Path, *, subset: Subset = "all", missing_images: Missing = "drop"
    ) -> Iterator[Conversation | Dropped | Absent]:
        """Yield what the files hold, record by record."""
        yield from self._absent(root, subset)
        yield from conversations(self._readings(root, subset, missing_images))

    def batches(  # type: ignore[override]  # its options stand by name
        self,
        root: Path,
        *,
        run: Run = here,
        subset: Subset = "all",
        missing_images: Missing = "drop",
    ) -> Iterator[Batch]:
        """Yield the same in vectors."""
        yield from self.gather(self._absent(root, subset))
        yield from batches(self._readings(root, subset, missing_images), run)

    def inputs(self, root: Path, **options: Any) -> list[Path]:
        """List the files of the subset and the pictures."""
        wanted = {_file(root, name) for name in _configs(options.get("subset", "all"))}
        return [
            path
            for path in super().inputs(root)
            if path in wanted or path.parent.name != "jsons_all"
        ]

    def _absent(self, root: Path, subset: Subset) -> Iterator[Absent]:
        for name in _configs(subset):
            file = _file(root, name)
            if not file.is_file():
                yield Absent(name, (file.relative_to(root).as_posix(),))

    def _readings(self, root: Path, subset: Subset, missing_images: Missing) -> list[Reading]:
        archive = "mminstruct/images.zip"
        places = new_places(root, "mminstruct/images", archive, f"{archive}!/images", "mminstruct")
        return [
            Reading.of(
                self.name,
                root,
                _file(root, name),
                places,
                keep_missing=missing_images == "keep",
                language="en",
                find_chinese=True,
                license="Apache-2.0",
                task="domain",
                meta=(("config", name),),
            )
            for name in _configs(subset)
            if _file(root, name).is_file()
        ]


def _configs(subset: Subset) -> tuple[str, ...]:
    return {"all": CAPTIONS + QUESTIONS, "captions": CAPTIONS, "qa": QUESTIONS}[subset]


def _file(root: Path, config: str) -> Path:
    return root / "mminstruct/jsons_all" / f"{config}.jsonl"
