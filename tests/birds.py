"""A small source of its own, in a package of its own, as other people would add one."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from PIL import Image

ROWS = 150
VAL_ROWS = 10

_SOURCE = """
from vision_ift import Builder, Conversation, Dropped, Images, Message


class Birds(Builder):
    title = "Birds"
    license = "CC0-1.0"
    files = ("birds/list.tsv", "birds/pictures", "birds/more.zip")
    hub = "others/birds"
    hub_files = ("list.tsv", "pictures/*.jpg")
    by_hand = ("birds/more.zip: ask the authors",)

    def conversations(self, root, *, polite: bool = False):
        pictures = Images(root)
        for line in (root / "birds/list.tsv").read_text().splitlines():
            name, split, path, answer = line.split("\\t")
            found = pictures.find(path, folders=("birds/pictures", "birds/more.zip"))
            if found is None:
                yield Dropped(reason="missing_image", record=name, detail=path)
                continue
            yield Conversation(
                id=name,
                split=split,
                images=(found,),
                image_paths=(path,),
                messages=(
                    Message.of("user", "Which bird, please?" if polite else "Which?", images=1),
                    Message.of("assistant", answer),
                ),
            )
"""


def install(folder: Path) -> None:
    """Write the package with its source ``birds``; it counts once ``folder`` is on the path."""
    package = folder / "birds_of_others"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "birds.py").write_text(_SOURCE)
    info = folder / "birds_of_others-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: birds_of_others\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vision_ift.builders]\nothers = birds_of_others\n")


def draw(root: Path, *, answer: str = "an owl") -> Path:
    """Lay out the source's files: turned, grey and archived pictures among them.

    ``0.jpg`` is 20 wide and 10 high, and turned by its EXIF tag; the others are 8 by 8.
    """
    pictures = root / "birds/pictures"
    pictures.mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    (pictures / "0.jpg").write_bytes(encoded(Image.new("RGB", (20, 10), (200, 0, 0)), exif=exif))
    (pictures / "1.jpg").write_bytes(encoded(Image.new("L", (8, 8), 77)))
    with zipfile.ZipFile(root / "birds/more.zip", "w") as archive:
        archive.writestr("a b/2::#.jpg", encoded(Image.new("RGB", (8, 8), (0, 200, 0))))
    paths = ("0.jpg", "1.jpg", "a b/2::#.jpg")
    write_list(root, [f"b{n}\ttrain\t{paths[n % 3]}\t{answer} {n}" for n in range(ROWS)])
    return root


def write_list(root: Path, lines: list[str]) -> None:
    """Write the annotation file: the lines, then ``VAL_ROWS`` rows of ``val``."""
    lines = [*lines, *(f"v{n}\tval\t1.jpg\ta wren" for n in range(VAL_ROWS))]
    (root / "birds/list.tsv").write_text("".join(f"{line}\n" for line in lines))


def encoded(picture: Image.Image, **options: object) -> bytes:
    """A picture as JPEG."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", **options)
    return stream.getvalue()
