"""Where a record's pictures are: under ROOT, copied beside it, or inside it. Never re-encoded."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import xxhash

from vision_ift._archives.archive import SCHEME
from vision_ift._convert.marks import Mode
from vision_ift._disk import explained
from vision_ift._errors import MissingInputError, RecordError, UsageError
from vision_ift._pictures.images import Images, image_format, safe_path

#: The folder of copied pictures.
FOLDER = "images"

#: References whose name by content is remembered; what is forgotten is read once more.
_REMEMBERED = 1 << 16

Picture = dict[str, Any]


class Pictures:
    """Gives each picture as the format wants it.

    Args:
        mode: ``path``: as it lies under ROOT; ``copy``: a file under ``OUT/images``, named by its
            content; ``embed``: its bytes.
        root: ROOT; ``None`` where rows bring their pictures' bytes.
        out: The folder that is written.
        dry: Write nothing.
    """

    def __init__(self, mode: Mode, root: Path | None, out: Path, *, dry: bool = False) -> None:
        self.mode = mode
        self.written = 0
        self.written_bytes = 0
        self._root = root
        self._images = Images(root) if root is not None else None
        self._out = out
        self._dry = dry
        self._seen: set[int] = set()
        self._name_of = lru_cache(_REMEMBERED)(self._copy_reference)

    @property
    def base(self) -> str:
        """What names are relative to, as seen from ``out``: ``.`` or the way to ROOT."""
        if self.mode != "path" or self._root is None:
            return "."
        return Path(os.path.relpath(self._root, self._out)).as_posix()

    def name(self, picture: Picture) -> str:
        """Give the path by which a record names the picture, which is there when this returns.

        Raises:
            MissingInputError: There is no such picture.
            RecordError: It cannot be read, or lies outside ROOT.
            UsageError: A picture in an archive cannot be named from ROOT.
        """
        if picture["bytes"] is not None:
            return self._copy(picture["bytes"], picture["path"] or "")
        reference = picture["path"]
        if self.mode == "path" and not reference.startswith(SCHEME):
            return safe_path(reference)
        if self.mode != "path":
            return self._name_of(reference)
        assert self._root is not None
        beside = os.path.relpath(self._out.resolve(), self._root.resolve())
        if beside.startswith(".."):
            raise UsageError(
                f"{reference} is inside an archive and would be copied to {self._out}, which is "
                "not under ROOT",
                hint="use --images copy, or an --out under ROOT",
            )
        return (Path(beside) / self._name_of(reference)).as_posix()

    def data(self, picture: Picture) -> bytes:
        """Read a picture's bytes.

        Raises:
            MissingInputError: There is no such picture.
            RecordError: It is no picture of a known format, or too large.
        """
        data: bytes | None = picture["bytes"]
        if data is None:
            if self._images is None:
                raise MissingInputError(f"picture {picture['path']} has no bytes")
            data = self._images.read(picture["path"])
        if image_format(data) is None:
            raise RecordError(
                f"picture {picture['path']} is no JPEG, PNG, WebP or GIF", reason="bad_image"
            )
        return data

    def content_name(self, data: bytes) -> str:
        """Name a picture by its content: 32 hex digits and its format."""
        return f"{xxhash.xxh3_128_hexdigest(data)}.{image_format(data)}"

    def settle(self) -> None:
        """Make the copied files durable, all at once; one by one would take longer than copying."""
        if self.written and not self._dry:
            os.sync()

    def _copy_reference(self, reference: str) -> str:
        return self._copy(self.data({"bytes": None, "path": reference}), reference)

    def _copy(self, data: bytes, called: str) -> str:
        self.data({"bytes": data, "path": called})
        name = self.content_name(data)
        place = f"{FOLDER}/{name[:2]}/{name}"
        key = int(name[:16], 16)
        if key in self._seen:
            return place
        self._seen.add(key)
        path = self._out / place
        self.written += 1
        self.written_bytes += len(data)
        if self._dry:
            return place
        with explained(path):
            # A file that a run before this one left is looked at: a crash may have torn it.
            if not path.is_file() or path.read_bytes() != data:
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
                try:
                    temporary.write_bytes(data)
                    temporary.replace(path)
                finally:
                    temporary.unlink(missing_ok=True)
        return place
