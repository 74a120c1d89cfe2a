"""MMInstruct: captions and questions of 23 domains by GPT-4V and GPT-3.5, English and Chinese.

A record::

    {"id": 12, "image": "image_comparison/0001/00000053.jpg", "conversations": [
        {"from": "human", "value": "<image>\\nWhich side is sharper?"},
        {"from": "gpt", "value": "The left one."}]}
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from vision_ift import Absent, Batch, Builder, Conversation, Dropped, RecordError
from vision_ift._archives.archive import archive_of
from vision_ift._run import Run, here

from ._llava import Reading, batches, conversations, new_places
from ._mminstruct_domains import CAPTIONED, DOMAINS, QUESTIONED, Copy, Rules, describe

#: The release's configurations, in the order in which they are read. There is no ``qa_cn`` among
#: all rows; a file of that name is read where somebody made one.
CONFIGS = ("caption_cn", "caption_en", "qa_cn", "qa_en")
#: Those of which nothing is said where they are not there.
_UNRELEASED = frozenset({"qa_cn"})

ALL = "mminstruct/jsons_all"
PER_DOMAIN = "mminstruct/jsons_per_domain"
ARCHIVE = "mminstruct/images.zip"
_SUFFIXES = (".jsonl", ".json")
_MOST_TOPS = 8

Subset = Literal["all", "qa", "captions", "qa_en", "qa_cn", "caption_en", "caption_cn"]
Layout = Literal["auto", "all", "per_domain"]
Missing = Literal["drop", "keep"]


class MMInstruct(Builder):
    """Reads ``jsons_all/`` or ``jsons_per_domain/``; pictures from ``images.zip`` or unpacked.

    Both folders hold every record, so one of them is read. ``task`` is the domain: the first folder
    of the picture's path that is one, else that of the record's copy in ``jsons_per_domain/``, else
    null. ``language`` is that of most of the row (``zh``, ``en``): about a quarter of the English
    captions is Chinese. ``meta`` has ``config`` (``qa_en`` …), ``types`` (a word for each round:
    ``judgement``, ``multiple_choice``, ``long``, ``short``, ``caption``), ``languages`` where a row
    has much of both, and ``listed_under`` where the file of one domain shows a picture of another.

    Options:
        subset: ``all``, ``qa``, ``captions``, or one of the configurations.
        layout: ``all`` reads ``jsons_all/``, ``per_domain`` reads ``jsons_per_domain/``, ``auto``
            the first of the two that has any file of the subset.
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
        f"{ALL}/*.json*",
        f"{PER_DOMAIN}/*/*.json*",
        ARCHIVE,
        "mminstruct/images",
        *(f"mminstruct/{domain}" for domain in DOMAINS),
    )
    hub = "yuecao0119/MMInstruct-GPT4V"
    hub_files = ("jsons_all/*.jsonl", "images.zip")
    #: The paper's 973,000 counts open datasets that the release does not repeat. Its README swaps
    #: the names of the two languages of captions.
    claimed: ClassVar[dict[str, int]] = {
        "instructions in the paper": 973_000,
        "rows": 378_186,
        "caption_en": 144_000,
        "caption_cn": 18_200,
        "qa_en, of several rounds": 161_000,
        "qa_en, corrected by hand": 55_000,
        "qa_en, artwork": 11_829,
    }
    repeated_ids = "number"

    def conversations(
        self,
        root: Path,
        *,
        subset: Subset = "all",
        layout: Layout = "auto",
        missing_images: Missing = "drop",
    ) -> Iterator[Conversation | Dropped | Absent]:
        """Yield what the files hold, record by record."""
        yield from _absent(root, subset, layout)
        unknown = 0
        for one in conversations(self._readings(root, subset, layout, missing_images)):
            unknown += isinstance(one, Conversation) and one.task is None
            yield one
        yield from _without_domain(unknown)

    def batches(  # type: ignore[override]  # its options stand by name
        self,
        root: Path,
        *,
        run: Run = here,
        subset: Subset = "all",
        layout: Layout = "auto",
        missing_images: Missing = "drop",
    ) -> Iterator[Batch]:
        """Yield the same in vectors."""
        yield from self.gather(_absent(root, subset, layout))
        unknown = 0
        for batch in batches(self._readings(root, subset, layout, missing_images), run):
            unknown += batch.rows.column("task").null_count
            yield batch
        yield from self.gather(_without_domain(unknown))

    def inputs(self, root: Path, **options: Any) -> list[Path]:
        """List the files of the subset, the copies that tell domains, and the pictures."""
        layout = _layout(root, options.get("subset", "all"), options.get("layout", "auto"))
        wanted = {Path(file) for file, _, _ in _files(root, options.get("subset", "all"), layout)}
        if layout == "all":
            wanted.update(Path(copy.path) for copy in _copies(root))
        return [
            path for path in super().inputs(root) if path in wanted or path.suffix not in _SUFFIXES
        ]

    def _readings(
        self, root: Path, subset: Subset, layout: Layout, missing_images: Missing
    ) -> list[Reading]:
        layout = _layout(root, subset, layout)
        copies = _copies(root)
        known = frozenset(DOMAINS) | {copy.domain for copy in copies}
        places = new_places(
            root,
            "mminstruct/images",
            *(f"{ARCHIVE}!/{top}" if top else ARCHIVE for top in _tops(root, known)),
            "mminstruct/images/images",
            "mminstruct",
        )
        joined = copies if layout == "all" else ()
        return [
            Reading.of(
                self.name,
                root,
                file,
                places,
                keep_missing=missing_images == "keep",
                license="Apache-2.0",
                meta=(("config", config),),
                describe=functools.partial(
                    describe,
                    Rules(config.startswith("caption"), known, domain, joined, places.token),
                ),
            )
            for file, config, domain in _files(root, subset, layout)
        ]


def _configs(subset: Subset) -> tuple[str, ...]:
    kind = {"all": "", "captions": "caption"}.get(subset, subset)
    return tuple(name for name in CONFIGS if name.startswith(kind))


def _layout(root: Path, subset: Subset, layout: Layout) -> Layout:
    """The folder that is read: ``all`` or ``per_domain``."""
    if layout != "auto":
        return layout
    for one in ("all", "per_domain"):
        if _files(root, subset, one):
            return one
    return "all"


def _files(root: Path, subset: Subset, layout: str) -> list[tuple[Path, str, str | None]]:
    """The files of a folder, each with its configuration and, where it has one, its domain."""
    if layout == "all":
        tried = ((_first(root / ALL, config), config, None) for config in _configs(subset))
        return [(file, config, domain) for file, config, domain in tried if file]
    return [
        (Path(copy.path), config, copy.domain)
        for config in _configs(subset)
        for copy in _copies_of(root, config)
    ]


def _first(folder: Path, name: str) -> Path | None:
    """A file as JSON Lines, else as the list that some made of it."""
    return next((path for end in _SUFFIXES if (path := folder / f"{name}{end}").is_file()), None)


def _copies(root: Path) -> tuple[Copy, ...]:
    return tuple(itertools.chain.from_iterable(_copies_of(root, config) for config in CONFIGS))


def _copies_of(root: Path, config: str) -> list[Copy]:
    kind, _, language = config.partition("_")
    folder = root / PER_DOMAIN / f"{kind}_per_domain"
    names = {
        path.name.rpartition(".")[0]
        for end in _SUFFIXES
        for path in folder.glob(f"*_{language}{end}")
    }
    found = ((_first(folder, name), name) for name in sorted(names))
    return [Copy(str(path), name.removesuffix(f"_{language}")) for path, name in found if path]


def _absent(root: Path, subset: Subset, layout: Layout) -> Iterator[Absent]:
    """Say which files are missing of the folder that is read, and where it is the second one."""
    used = _layout(root, subset, layout)
    there: dict[str, set[str | None]] = {}
    for _, config, domain in _files(root, subset, used):
        there.setdefault(config, set()).add(domain)
    released = [config for config in _configs(subset) if config not in _UNRELEASED]
    if used == "per_domain" and layout == "auto":
        yield Absent(
            "jsons_all (its copies by domain are read)",
            tuple(f"{ALL}/{config}.jsonl" for config in released),
        )
    for config in released:
        if used == "all" and config not in there:
            yield Absent(config, (f"{ALL}/{config}.jsonl",))
        elif used == "per_domain":
            yield from _absent_domains(config, there.get(config, set()))


def _absent_domains(config: str, there: set[str | None]) -> Iterator[Absent]:
    kind, _, language = config.partition("_")
    folder = f"{PER_DOMAIN}/{kind}_per_domain"
    if not there:
        yield Absent(config, (f"{folder}/*_{language}.jsonl",))
    elif language == "en":  # which domains have Chinese captions is not known
        listed = CAPTIONED if kind == "caption" else QUESTIONED
        missing = [domain for domain in listed if domain not in there]
        if missing:
            yield Absent(
                f"{config}: {len(missing)} of {len(listed)} domains",
                tuple(f"{folder}/{domain}_{language}.jsonl" for domain in missing),
            )


def _without_domain(rows: int) -> Iterator[Absent]:
    if rows:
        yield Absent(f"domain of {rows:,} {'row' if rows == 1 else 'rows'}", (f"{PER_DOMAIN}/",))


def _tops(root: Path, known: frozenset[str]) -> list[str]:
    """The folders of the archive under which the domains' folders stand, as a rule the top."""
    path = root / ARCHIVE
    tops: dict[str, None] = {}
    seen: set[str] = set()
    try:
        for member in archive_of(str(path)) if path.is_file() else ():
            folder = member.rpartition("/")[0]
            if folder in seen:
                continue
            seen.add(folder)
            parts = folder.split("/")
            place = next((at for at, part in enumerate(parts) if part in known), None)
            if place is not None:
                tops["/".join(parts[:place])] = None
    except RecordError:  # it is told of each picture that is looked for in it
        pass
    tops |= dict.fromkeys(("", "images"))
    return sorted(tops)[:_MOST_TOPS]
