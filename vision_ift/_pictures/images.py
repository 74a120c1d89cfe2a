"""Pictures by reference: where a path of a record leads, and the bytes behind it.

A reference is what a table holds for a picture:

* a path relative to ROOT, with ``/``: ``coco/train2017/000000000009.jpg``;
* a member of an archive that is read in place (zip, tar, Parquet), percent-encoded:
  ``vift://vision_flan/images.zip!/dir/a.jpg``, ``vift://data/train.parquet!/images/17/0``; a zip
  may also lie on a web server: ``vift://https://host/images.zip!/dir/a.jpg`` (see ``_archive.py``).

Paths come from other people's files, so they are checked as text before the disk is asked; links
that the user placed under ROOT are followed.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from vision_ift._archives.archive import ARCHIVE_SUFFIXES, SCHEME, archive_of, quote_member
from vision_ift._archives.ranges import is_url
from vision_ift._errors import MissingInputError, RecordError, unopened

#: The formats that a row may hold, by the first bytes: what they are called as a file.
_SIGNATURES = ((b"\xff\xd8\xff", "jpg"), (b"\x89PNG\r\n\x1a\n", "png"), (b"GIF8", "gif"))

#: The longest path of a record that is looked at, in characters.
MAX_PATH_CHARS = 1024

#: The largest picture file that is read, in bytes.
MAX_IMAGE_BYTES = 256 << 20

#: What the system says of a folder that a record names and that is not there: a name may also be
#: longer than any file's, and a link may lead to itself.
_NO_FOLDER = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)

_BAD_CHARACTERS = re.compile(r"[\x00-\x1f\x7f\\]|^[A-Za-z]:|^[A-Za-z][A-Za-z0-9+.-]*://")


def safe_path(path: str) -> str:
    """Give a record's path as a plain relative one, or refuse it.

    ``./a/b.jpg`` becomes ``a/b.jpg``. Refused: absolute paths, ``..``, backslashes, drive letters,
    URLs, control characters, more than ``MAX_PATH_CHARS`` characters, lone surrogates, and the
    empty path.

    >>> safe_path("./coco/a.jpg")
    'coco/a.jpg'
    >>> safe_path("../../etc/passwd")
    Traceback (most recent call last):
    vision_ift._errors.RecordError: image path '../../etc/passwd' leaves the root

    Raises:
        RecordError: With the reason ``unsafe_path``.
    """
    if len(path) > MAX_PATH_CHARS:
        raise RecordError(f"image path of {len(path):,} characters", reason="unsafe_path")
    if path.startswith("/") or _BAD_CHARACTERS.search(path) or not _encodes(path):
        raise RecordError(f"image path {path!r} is not a plain relative path", reason="unsafe_path")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise RecordError(f"image path {path!r} leaves the root", reason="unsafe_path")
    if not parts:
        raise RecordError(f"image path {path!r} names no file", reason="unsafe_path")
    return "/".join(parts)


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself, or to where nobody may look
        return False


class Images:
    """The pictures under one ROOT: finds references and reads them.

    A folder is listed once, and an archive's directory is read once, so that looking up a million
    paths costs a million dictionary look-ups.

    Args:
        root: The folder where the user put the authors' files.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self._listings: dict[str, frozenset[str]] = {}

    def listing(self, folder: str) -> frozenset[str]:
        """The names of the regular files in ``folder``, a path relative to ROOT."""
        names = self._listings.get(folder)
        if names is None:
            try:
                with os.scandir(self.root / folder) as entries:
                    names = frozenset(entry.name for entry in entries if _is_file(entry))
            except OSError as error:
                if error.errno not in _NO_FOLDER:
                    raise
                names = frozenset()
            self._listings[folder] = names
        return names

    def find(self, path: str, *, folders: tuple[str, ...] = ("",)) -> str | None:
        """Give the reference of a record's path, looked for in ``folders`` one after the other.

        A folder may be an archive (``mm_instruct/images.zip``), whose members are then looked at,
        also below a prefix (``vision_flan/images.zip!/images_191task_1k``), or the URL of a zip.

        Returns ``None`` where no regular file of that name lies in any of them.

        Raises:
            RecordError: The path is unsafe (see :func:`safe_path`).
        """
        clean = safe_path(path)
        for folder in folders:
            archive, mark, prefix = folder.partition("!")
            if mark or folder.endswith(ARCHIVE_SUFFIXES):
                inside = f"{prefix.strip('/')}/{clean}".lstrip("/")
                if self.member_exists(archive, inside):
                    return f"{SCHEME}{archive}!/{quote_member(inside)}"
                continue
            joined = f"{folder}/{clean}" if folder else clean
            parent, _, name = joined.rpartition("/")
            if name in self.listing(parent):
                return joined
        return None

    def member_exists(self, archive: str, member: str) -> bool:
        """Say whether an archive (under ROOT, or a URL) exists and has the member.

        Raises:
            RecordError: The archive is damaged (reason ``bad_image``).
            ServiceError: The archive's server does not answer.
        """
        place = self._place(archive)
        return (is_url(place) or Path(place).is_file()) and member in archive_of(place)

    def _place(self, archive: str) -> str:
        return archive if is_url(archive) else str(self.root / archive)

    def absolute(self, reference: str) -> str:
        """Give the reference as something that fsspec and `datasets` can open from anywhere."""
        return absolute(reference, str(self.root.absolute()))

    def read(self, reference: str) -> bytes:
        """Read a picture's bytes, as they are.

        Raises:
            MissingInputError: There is no such regular file or member.
            RecordError: It is larger than ``MAX_IMAGE_BYTES``, or its archive is damaged
                (reason ``bad_image``).
        """
        if reference.startswith(SCHEME):
            archive, _, member = reference.removeprefix(SCHEME).partition("!/")
            return archive_of(self._place(archive)).read(member, quoted=True)
        return read_file(self.root / reference)

    def size(self, reference: str) -> int:
        """Give a picture's size in bytes, as its folder or archive states it.

        Raises:
            MissingInputError: There is no such file or member.
        """
        if reference.startswith(SCHEME):
            archive, _, member = reference.removeprefix(SCHEME).partition("!/")
            return archive_of(self._place(archive)).size(member, quoted=True)
        try:
            return os.stat(self.root / reference).st_size  # noqa: PTH116 - a hot path
        except OSError as error:
            raise unopened(f"picture {self.root / reference}", error) from None


def absolute(reference: str, root: str) -> str:
    """Make a table's reference absolute: ``/ROOT/a.jpg`` or ``vift:///ROOT/a.zip!/member``.

    One that is absolute stays: it leads to a file outside ROOT, or to a server, that the user named
    so.
    """
    path = reference.removeprefix(SCHEME)
    if path.startswith("/") or (is_url(path) and reference.startswith(SCHEME)):
        return reference
    return f"{SCHEME}{root}/{path}" if reference.startswith(SCHEME) else f"{root}/{path}"


def read_file(path: Path) -> bytes:
    """Read a regular file of bounded size, opened once (no check-then-open race).

    Raises:
        MissingInputError: It does not exist or is not a regular file.
        RecordError: It is larger than ``MAX_IMAGE_BYTES`` (reason ``bad_image``).
    """
    descriptor, _ = open_file(str(path))
    try:
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def open_file(path: str) -> tuple[int, int]:
    """Open a regular file of bounded size; give its descriptor and its size in bytes.

    Raises:
        MissingInputError: It does not exist or is not a regular file.
        RecordError: It is larger than ``MAX_IMAGE_BYTES`` (reason ``bad_image``).
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise unopened(f"picture {path}", error, hint="build the table again") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise MissingInputError(f"picture {path} is not a regular file")
        if status.st_size > MAX_IMAGE_BYTES:
            raise RecordError(
                f"picture {path} holds {status.st_size:,} bytes; at most {MAX_IMAGE_BYTES:,} are "
                "read",
                reason="bad_image",
            )
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status.st_size


def image_format(data: bytes) -> str | None:
    """Tell a picture's format from its first bytes: ``jpg png gif webp``, else ``None``.

    >>> image_format(b"\\xff\\xd8\\xff\\xe0")
    'jpg'
    """
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return None
