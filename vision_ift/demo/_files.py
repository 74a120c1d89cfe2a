"""The folder that is being written: every file is counted as it is put down."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

Record = Mapping[str, object]

_TURNED = 6  # EXIF orientation: stored on its side, to be shown a quarter turn clockwise
_ORIENTATION_TAG = 0x0112


class Tree:
    """Files under one folder.

    ``counts`` has, by relative path, how many records a file holds and how many pictures a folder
    or an archive holds; ``<path>:<word>`` counts something inside the records; ``pictures`` and
    ``pictures/<source>`` are the sums of pictures.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counts: Counter[str] = Counter()

    def put(self, path: str, data: bytes) -> None:
        """One file as it is."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    def value(self, path: str, value: object, records: int) -> None:
        """One JSON value that holds so many records."""
        self.put(path, (_dumps(value) + "\n").encode())
        self.counts[path] = records

    def array(self, path: str, records: Sequence[Record]) -> None:
        """A JSON array, one record a line."""
        self.put(path, ("[\n" + ",\n".join(map(_dumps, records)) + "\n]\n").encode())
        self.counts[path] = len(records)

    def lines(self, path: str, records: Sequence[Record]) -> None:
        """JSON Lines."""
        self.put(path, "".join(_dumps(record) + "\n" for record in records).encode())
        self.counts[path] = len(records)

    def text(self, path: str, lines: Sequence[object]) -> None:
        """Lines of text."""
        self.put(path, "".join(f"{line}\n" for line in lines).encode())
        self.counts[path] = len(lines)

    def picture(self, path: str, data: bytes) -> None:
        """A picture file."""
        self.put(path, data)
        self._count(path.rsplit("/", 1)[0], path, 1)

    def archive(self, path: str, members: Iterable[tuple[str, bytes]]) -> None:
        """A zip of pictures, stored as they are, without the time of writing."""
        buffer, count = BytesIO(), 0
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, data in members:
                entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                entry.create_system = 3  # the same on every platform
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, data)
                count += 1
        self.put(path, buffer.getvalue())
        self._count(path, path, count)

    def _count(self, place: str, path: str, count: int) -> None:
        for key in (place, "pictures", f"pictures/{path.split('/', 1)[0]}"):
            self.counts[key] += count


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def rounds(records: Iterable[Record]) -> int:
    """How many questions and answers records in LLaVA's layout hold."""
    total = 0
    for record in records:
        turns = record["conversations"]
        assert isinstance(turns, list)
        total += len(turns) // 2
    return total


def encode(picture: Image.Image, suffix: str = ".jpg", *, turned: bool = False) -> bytes:
    """The bytes of a picture file.

    Args:
        picture: What is to be seen.
        suffix: ``.jpg``, ``.jpeg``, ``.png`` or ``.webp``, in any case.
        turned: Store a JPEG on its side and say so in EXIF.
    """
    buffer, kind = BytesIO(), suffix.lower()
    if kind == ".png":
        picture.save(buffer, "PNG")
    elif kind == ".webp":
        picture.save(buffer, "WEBP", quality=85)
    elif turned:
        exif = Image.Exif()
        exif[_ORIENTATION_TAG] = _TURNED
        picture.transpose(Image.Transpose.ROTATE_90).save(buffer, "JPEG", quality=85, exif=exif)
    else:
        picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
