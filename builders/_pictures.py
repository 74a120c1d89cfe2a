"""Where the pictures of LLaVA-style sources lie, looked up at the cost of a dictionary."""

from __future__ import annotations

import functools
import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

from vision_ift import Images, RecordError
from vision_ift._archive import ARCHIVE_SUFFIXES, SCHEME, archive_of, quote_member
from vision_ift._images import safe_path

from ._coco_pictures import FOLDERS as COCO_FOLDERS
from ._coco_pictures import coco_id

_UNUSUAL = re.compile(r"[\\:/]")
_ESCAPED = re.compile(r"#U([0-9a-fA-F]{4})")


class Places(NamedTuple):
    """Where to look for a source's pictures: plain data, so that any process can look.

    Attributes:
        root: The folder where the user put the authors' files.
        folders: Folders and archives (``x.zip`` or ``x.zip!/inside``) relative to ROOT, in which a
            record's path is looked for, one after the other.
        coco: Whether a COCO picture is also taken from COCO's own folders, by its id.
        by_name: Folders and archives in which a picture may also be found by its bare name, where
            only one file there has it (archives: at any depth; folders: directly in them).
        token: Tells one build from the next, so that none sees an older one's listings.
    """

    root: str
    folders: tuple[str, ...]
    coco: bool = False
    by_name: tuple[str, ...] = ()
    token: int = 0


@functools.lru_cache(maxsize=2)  # a listing of COCO, GQA and OCR-VQA takes 60 MB
def pictures_of(places: Places) -> Pictures:
    """Give the pictures of these places, listed once a process and build."""
    return Pictures(places)


class Pictures:
    """Finds the reference of a record's image path.

    >>> Pictures(Places("nowhere", ("coco",))).find("train2017/1.jpg") is None
    True
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._images = Images(places.root)
        self._known: dict[str, list[tuple[str, bool, frozenset[str]]]] = {}
        self._members: dict[str, dict[str, frozenset[str]]] = {}
        self._single: dict[str, dict[str, str | None]] = {}

    def reference(self, path: str, *, keep: bool) -> str:
        """Give the reference of a path; of where it should be, if rows without are kept.

        Raises:
            RecordError: The path is unsafe, or (unless ``keep``) no file has it.
        """
        found = self.find(path)
        if found is None:
            if not keep:
                raise RecordError(f"picture {path!r} is not under the root", reason="missing_image")
            found = self.first(path)
        return found

    def find(self, path: str) -> str | None:
        """Give the reference of a path as a record writes it, or ``None`` if no file has it.

        Raises:
            RecordError: The path is unsafe (see ``vision_ift.Images.find``).
        """
        folder, _, name = path.rpartition("/")
        looked = self._known.get(folder)
        if looked is None:
            looked = self._look(folder, path)
        for prefix, quoted, names in looked:
            if name in names:
                return prefix + (quote_member(name) if quoted else name)
        clean = safe_path(path).rpartition("/")[2]
        if self._places.coco and (reference := self._find_coco(clean)):
            return reference
        for place in self._places.by_name:
            if reference := self._only(place).get(_plain(clean)):
                return reference
        return None

    def first(self, path: str) -> str:
        """Give the reference under which a path is looked for first, whether it is there or not.

        A bare COCO name belongs into COCO's own folder.
        """
        clean = safe_path(path)
        if self._places.coco and "/" not in clean and coco_id(clean) is not None:
            split = clean.split("_")[1] if "_" in clean else "train2017"
            return f"coco/{split}/{clean}"
        folder = self._places.folders[0]
        archive, inside = _archive_place(folder)
        if archive:
            return f"{SCHEME}{archive}!/{quote_member(f'{inside}/{clean}'.lstrip('/'))}"
        return f"{folder}/{clean}".lstrip("/")

    def _look(self, folder: str, path: str) -> list[tuple[str, bool, frozenset[str]]]:
        """List a record's folder under each place, once; only names that are safe are kept."""
        safe_path(path)  # refuses an unsafe folder with the whole path in the message
        clean = safe_path(f"{folder}/_").rpartition("/")[0] if folder else ""
        looked = []
        for place in self._places.folders:
            archive, inside = _archive_place(place)
            if archive:
                within = "/".join(part for part in (inside, clean) if part)
                names = self._listed(archive).get(within)
                prefix = f"{SCHEME}{archive}!/{quote_member(within + '/' if within else '')}"
            else:
                joined = "/".join(part for part in (place, clean) if part)
                names = frozenset(filter(_safe_name, self._images.listing(joined)))
                prefix = f"{joined}/" if joined else ""
            if names:
                looked.append((prefix, bool(archive), names))
        self._known[folder] = looked
        return looked

    def _listed(self, archive: str) -> dict[str, frozenset[str]]:
        """The names in each folder of an archive; nothing where the archive is not there."""
        if archive not in self._members:
            folders: dict[str, set[str]] = {}
            path = Path(self._places.root, archive)
            for member in archive_of(str(path)) if path.is_file() else ():
                folder, _, name = member.rpartition("/")
                if _safe_name(name):
                    folders.setdefault(folder, set()).add(name)
            self._members[archive] = {key: frozenset(names) for key, names in folders.items()}
        return self._members[archive]

    def _find_coco(self, name: str) -> str | None:
        image = coco_id(name)
        if image is None:
            return None
        for folder in COCO_FOLDERS:
            split = folder.rpartition("/")[2]
            official = f"COCO_{split}_{image:012d}.jpg" if "2014" in split else f"{image:012d}.jpg"
            if official in self._images.listing(folder):
                return f"{folder}/{official}"
        return None

    def _only(self, place: str) -> dict[str, str | None]:
        """Plain name to reference, for one place; ``None`` where several files have the name."""
        if place not in self._single:
            found: dict[str, str | None] = {}
            archive, inside = _archive_place(place)
            if archive:
                for folder, names in self._listed(archive).items():
                    if inside and folder != inside and not folder.startswith(inside + "/"):
                        continue
                    for name in names:
                        member = f"{folder}/{name}" if folder else name
                        reference = f"{SCHEME}{archive}!/{quote_member(member)}"
                        plain = _plain(name)
                        found[plain] = None if plain in found else reference
            else:
                for name in filter(_safe_name, self._images.listing(place)):
                    plain = _plain(name)
                    found[plain] = None if plain in found else f"{place}/{name}"
            self._single[place] = found
        return self._single[place]


def _archive_place(place: str) -> tuple[str, str]:
    """Split ``x.zip!/inside`` into archive and folder; no archive: two empty texts."""
    archive, mark, inside = place.partition("!")
    if mark or place.endswith(ARCHIVE_SUFFIXES):
        return archive, inside.strip("/")
    return "", ""


def _safe_name(name: str) -> bool:
    """Whether ``safe_path`` takes a listed name as it stands."""
    if name.isascii() and name.isprintable() and not _UNUSUAL.search(name):
        return name not in ("", ".", "..")
    try:
        return safe_path(name) == name
    except RecordError:
        return False


def _plain(name: str) -> str:
    """A name as it was meant: ``unzip`` outside a UTF-8 locale writes ``#U91d1`` for one sign.

    >>> _plain("#U91d1.jpg")
    '金.jpg'
    """
    if "#U" in name:
        name = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), name)
    return unicodedata.normalize("NFC", name)
