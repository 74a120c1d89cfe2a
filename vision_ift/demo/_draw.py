"""Draws a complete root: every source's files, with pictures and annotations that agree."""

from __future__ import annotations

import tempfile
from pathlib import Path

from vision_ift._errors import OutputError, UsageError
from vision_ift.demo._choices import Choices
from vision_ift.demo._coco import take_shots, write_coco
from vision_ift.demo._dialogs import write_llava, write_mm_instruct
from vision_ift.demo._files import Tree
from vision_ift.demo._flan import write_flan
from vision_ift.demo._genome import take_views, write_genome, write_tally
from vision_ift.demo._mminstruct import write_mminstruct
from vision_ift.demo._vqa import write_questions

FEWEST, MOST = 60, 5000
# Of 200 pictures; "shared" ones are COCO's pictures under another source's name.
_SHARES = {
    "coco train2017": 66,
    "coco val2017": 22,
    "coco train2014": 6,
    "genome shared": 16,
    "genome own": 8,
    "mminstruct": 34,
    "mm_instruct train": 16,
    "mm_instruct bench": 6,
    "flan shared": 10,
    "flan own": 16,
}
_README = """# Drawn data

All pictures, annotations and texts below this folder were drawn and written by `vision_ift.demo`
(seed {seed}). The files have the names and layouts of the data sets that they stand for; nothing
in them is taken from those data sets, and the numbers in the file names mean nothing outside.
"""


def draw(root: Path, *, seed: int = 17, pictures: int = 200) -> dict[str, int]:
    """Draw small sources of every layout that the package reads, into a new folder.

    The pictures are simple scenes (parks, beaches, streets, kitchens …) of things from COCO's 80
    categories; every caption, answer, box, mask and keypoint follows from the scene and is true of
    it. Nothing is downloaded. The same arguments give the same bytes (pictures: for one Pillow).

    Args:
        root: The folder to make; it must not exist, or be empty.
        seed: Any whole number; another seed gives other scenes.
        pictures: About how many pictures there are in all sources together, from 60 to 5,000.

    Returns:
        How many records each file holds, by its path under root, and how many pictures each folder
        or archive holds; ``pictures`` and ``pictures/<source>`` are sums of pictures, and
        ``<path>:<word>`` counts what lies inside the records (``:qas``, ``:rounds``, ``:images``),
        or those of them on COCO pictures (``:coco``) or with an answer (``:answered``).

    Raises:
        UsageError: The number of pictures is out of range.
        OutputError: The folder holds something, or cannot be written.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     counts = draw(Path(folder, "root"), pictures=60)
        >>> counts["pictures"]
        60
    """
    if not FEWEST <= pictures <= MOST:
        raise UsageError(
            f"pictures is {pictures}, which is not between {FEWEST} and {MOST}",
            hint="200 make a root of about 5 MB",
        )
    root = Path(root)
    _refuse_full(root)
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as aside:
            tree = Tree(Path(aside, "root"))
            _fill(tree, Choices("vision_ift.demo", seed), pictures)
            tree.put("README.md", _README.format(seed=seed).encode())
            if root.exists():
                root.rmdir()  # empty, or this fails: nobody's files are lost
            tree.folder.rename(root)
    except OSError as error:
        raise OutputError(
            f"{root}: the drawn data cannot be written: {error}",
            hint="choose a new folder on a disk that has room",
        ) from error
    return dict(sorted(tree.counts.items()))


def _refuse_full(root: Path) -> None:
    if root.is_dir() and any(root.iterdir()):
        raise OutputError(f"{root}: the folder is not empty", hint="name a new folder")
    if root.exists() and not root.is_dir():
        raise OutputError(f"{root}: there is a file of that name", hint="name a new folder")


def _fill(tree: Tree, choices: Choices, pictures: int) -> None:
    many = _split(pictures)
    shots = take_shots(
        choices.under("coco"),
        many["coco train2017"],
        many["coco val2017"],
        many["coco train2014"],
    )
    write_coco(tree, shots, choices.under("coco"))
    write_questions(tree, shots, choices.under("vqa"))
    views = take_views(shots, choices.under("genome"), many["genome shared"], many["genome own"])
    write_genome(tree, views, choices.under("genome"))
    write_tally(tree, shots, views, choices.under("tally"))
    write_mminstruct(tree, choices.under("mminstruct"), many["mminstruct"])
    mm_instruct = many["mm_instruct train"], many["mm_instruct bench"]
    write_mm_instruct(tree, choices.under("mm_instruct"), *mm_instruct)
    write_flan(tree, shots, choices.under("flan"), many["flan shared"], many["flan own"])
    write_llava(tree, shots, choices.under("llava"), 2 * many["coco train2014"])


def _split(pictures: int) -> dict[str, int]:
    """The shares of so many pictures; what rounding leaves goes to train2017."""
    total = sum(_SHARES.values())
    many = {name: max(2, share * pictures // total) for name, share in _SHARES.items()}
    many["coco train2017"] += pictures - sum(many.values())
    return many
