"""Where the pictures of LLaVA-style sources lie, looked up at the cost of a dictionary."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import string
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from vision_ift import Images, RecordError
from vision_ift._archives.archive import ARCHIVE_SUFFIXES, SCHEME, archive_of, quote_member
from vision_ift._archives.ranges import is_url
from vision_ift._pictures.images import safe_path

from ._bare_names import PICTURE_ENDS, bare_name
from ._coco_pictures import FOLDERS as COCO_FOLDERS
from ._coco_pictures import coco_id
from ._zip_names import Names, members
from ._zip_pool import FolderPool, ZipPool

_UNUSUAL = re.compile(r"[\\:/]")
_ESCAPED = re.compile(r"#U([0-9a-fA-F]{4})")
#: What stands in a quoted name, and between two of them.
_QUOTED = (string.ascii_letters + string.digits + "_.-~/%\n").encode()

#: The names in a folder; those in an archive's each with what it is in a reference.
Listing = frozenset[str] | dict[str, str]


class Places(NamedTuple):
    """Where to look for a source's pictures: plain data, so that any process can look.

    Attributes:
        root: The folder where the user put the authors' files.
        folders: Folders and archives (``x.zip`` or ``x.zip!/inside``) relative to ROOT, in which a
            record's path is looked for, one after the other.
        coco: Whether a COCO picture is also taken from COCO's own folders, by its id.
        by_name: Folders and archives in which a picture may also be found by its bare name, where
            only one file there has it (archives: at any depth; folders: directly in them).
        pool: Archives, a hundred perhaps, that are looked through together and kept as hashes
            (see ``_zip_pool``); where there are any, or ``trees``, ``folders`` are no archives.
        trees: Folders to which the archives of ``pool`` unpack: the path is looked for under each,
            as under ``folders``, and the bare name anywhere below them.
        lookup: An Arrow file of names without their endings and references (``_mm_pictures.py``),
            in which a picture is also looked up by its bare name.
        token: Tells one build from the next, so that none sees an older one's listings.
        aliases: Folders of records' paths, each with other folders and archives in which users keep
            the same files.
        other_endings: Whether a picture may also be found under another ending (see ``renamed``).
    """

    root: str
    folders: tuple[str, ...]
    coco: bool = False
    by_name: tuple[str, ...] = ()
    pool: tuple[str, ...] = ()
    trees: tuple[str, ...] = ()
    lookup: str = ""
    token: int = 0
    aliases: tuple[tuple[str, tuple[str, ...]], ...] = ()
    other_endings: bool = False


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
        self._known: dict[str, list[tuple[str, Listing]]] = {}
        self._members: dict[str, dict[str, dict[str, str]]] = {}
        self._damaged: dict[str, RecordError] = {}
        self._single: dict[str, dict[str, tuple[str, str] | None]] = {}
        self._holds: dict[str, bool] = {}
        # Where a path without folders is looked for first, if that is an archive: most records are.
        self._bare: dict[str, str] = {}
        self._bare_prefix = ""
        self._stems: dict[str, dict[str, set[str]]] = {}

    def reference(self, path: str, *, keep: bool) -> str:
        """Give the reference of a path; of where it should be, if rows without are kept.

        Raises:
            RecordError: The path is unsafe, or (unless ``keep``) no file has it, or only one of
                another ending (see ``renamed``).
        """
        if shown := self._bare.get(path):
            return self._bare_prefix + shown
        folder, _, name = path.rpartition("/")
        for prefix, names in self._known.get(folder, ()):  # as `find`, without the call
            if type(names) is dict:
                break
            if name in names:
                return prefix + name
        found = self.find(path)
        if found is None:
            if not keep or self.renamed(path):
                raise RecordError(f"picture {path!r} is not under the root", reason="missing_image")
            found = self.first(path)
        return found

    def find(self, path: str) -> str | None:
        """Give the reference of a path as a record writes it, or ``None`` if no file has it.

        Raises:
            RecordError: The path is unsafe (see ``vision_ift.Images.find``).
        """
        if self._places.pool or self._places.trees:
            return self._find_pooled(safe_path(path))
        folder, _, name = path.rpartition("/")
        looked = self._known.get(folder)
        if looked is None:
            looked = self._look(folder, path)
        for prefix, names in looked:
            if type(names) is dict:
                if shown := names.get(name):
                    return prefix + shown
            elif name in names:
                return prefix + name
        clean = safe_path(path).rpartition("/")[2]
        if self._places.coco and (reference := self._find_coco(clean)):
            return reference
        if self._places.lookup and (reference := self._looked_up.get(bare_name(clean))):
            return reference
        for place in self._places.by_name:
            if only := self._only(place).get(_plain(clean)):
                archive, file = only
                return f"{SCHEME}{archive}!/{quote_member(file)}" if archive else file
        return None

    def broken(self) -> dict[str, str]:
        """Say of each archive that cannot be read why not; all directories are read for that."""
        found = dict(self._zips.broken)
        for place in (*self._places.folders, *self._places.by_name):
            archive, _ = _archive_place(place)
            try:
                if archive:
                    self._listed(archive)
            except RecordError as error:
                path = str(Path(self._places.root, archive))
                found[archive] = error.detail.replace(path, archive)
        return found

    def renamed(self, path: str) -> str | None:
        """Give the reference of the only picture that has a path's name up to its ending.

        OCR-VQA's pictures are GIF, PNG and JPEG, and LLaVA's mix calls all of them ``.jpg``: who
        downloads them under their own endings has pictures under names that no record says.
        Two pictures of one stem are no answer, and neither is one of another folder.
        """
        if not self._places.other_endings or self.find(path) is not None:
            return None
        folder, _, name = path.rpartition("/")
        if folder not in self._stems:
            stems: dict[str, set[str]] = {}
            for prefix, names in self._known[folder]:
                for one in names:
                    stem, _, ending = one.rpartition(".")
                    if ending.lower() in PICTURE_ENDS:
                        shown = names[one] if isinstance(names, dict) else one
                        stems.setdefault(stem, set()).add(prefix + shown)
            self._stems[folder] = stems
        found = self._stems[folder].get(name.rpartition(".")[0], set())
        return next(iter(found)) if len(found) == 1 else None

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

    def _look(self, folder: str, path: str) -> list[tuple[str, Listing]]:
        """List a record's folder under each place, once; only names that are safe are kept."""
        safe_path(path)  # refuses an unsafe folder with the whole path in the message
        clean = safe_path(f"{folder}/_").rpartition("/")[0] if folder else ""
        looked = []
        places = [(place, clean) for place in self._places.folders]
        places += [(place, "") for place in dict(self._places.aliases).get(clean, ())]
        for place, below in places:
            archive, inside = _archive_place(place)
            if archive:
                within = "/".join(part for part in (inside, below) if part)
                names: Listing | None = self._listed(archive).get(within)
                prefix = f"{SCHEME}{archive}!/{quote_member(within + '/' if within else '')}"
            else:
                joined = "/".join(part for part in (place, below) if part)
                names = frozenset(filter(_safe_name, self._images.listing(joined)))
                prefix = f"{joined}/" if joined else ""
            if names:
                looked.append((prefix, names))
        self._known[folder] = looked
        if not folder and looked and isinstance(looked[0][1], dict):
            self._bare_prefix, self._bare = looked[0][0], looked[0][1]
        return looked

    def _listed(self, archive: str) -> dict[str, dict[str, str]]:
        """Each folder of an archive: its names, and what each is in a reference."""
        if archive in self._damaged:
            raise self._damaged[archive]
        if archive not in self._members:
            folders: dict[str, dict[str, str]] = {}
            try:
                for block in _members_of(self._places.root, archive):
                    _list(block, folders)
            except RecordError as error:  # told of every record, but found out once
                self._damaged[archive] = error
                raise
            self._members[archive] = folders
        return self._members[archive]

    @functools.cached_property
    def _looked_up(self) -> dict[str, str]:
        """The references of the lookup, by bare name."""
        with pa.memory_map(self._places.lookup) as file:
            rows = pa.ipc.open_file(file).read_all()
            names, references = (column.to_pylist() for column in rows.columns)
        return dict(zip(names, references, strict=True))

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

    def _only(self, place: str) -> dict[str, tuple[str, str] | None]:
        """Plain name to archive and file, for one place; ``None`` where several files have it."""
        if place not in self._single:
            found: dict[str, tuple[str, str] | None] = {}
            archive, inside = _archive_place(place)
            folders: Mapping[str, Listing] = (
                self._listed(archive) if archive else {place: self._names(place)}
            )
            for folder, names in folders.items():
                if inside and folder != inside and not folder.startswith(inside + "/"):
                    continue
                for name in names:
                    plain = _plain(name)
                    file = f"{folder}/{name}" if folder else name
                    found[plain] = None if plain in found else (archive, file)
            self._single[place] = found
        return self._single[place]

    def _names(self, folder: str) -> frozenset[str]:
        return frozenset(filter(_safe_name, self._images.listing(folder)))

    @functools.cached_property
    def _zips(self) -> ZipPool:
        return ZipPool(Path(self._places.root), self._places.pool, _plain)

    @functools.cached_property
    def _folders(self) -> FolderPool:
        return FolderPool(Path(self._places.root), self._places.trees, _plain)

    def _find_pooled(self, path: str) -> str | None:
        """Look under each unpacked folder, in the archives, and for the bare name below folders."""
        for tree in (*self._places.folders, *self._places.trees):
            file = f"{tree}/{path}"
            top = file[: file.find("/", len(tree) + 1)] if "/" in path else tree
            if top not in self._holds:
                # These answer no where pathlib raises: a name that is too long is nowhere.
                self._holds[top] = os.path.isdir(f"{self._places.root}/{top}")  # noqa: PTH112 - see above
            if self._holds[top] and os.path.isfile(f"{self._places.root}/{file}"):  # noqa: PTH113 - see above
                return file
        plain = _plain(path)
        if member := self._zips.find(plain):
            return f"{SCHEME}{member[0]}!/{quote_member(member[1])}"
        return self._folders.find(plain.rpartition("/")[2])


def _members_of(root: str, archive: str) -> Iterator[Names]:
    """The members of an archive under ROOT or at an address; none where it is not there."""
    path = Path(root, archive)
    if is_url(archive):
        yield Names(list(archive_of(archive)), [], simple=False)
    elif path.is_file() and archive.endswith((".tar", ".parquet")):
        yield Names(list(archive_of(str(path))), [], simple=False)
    elif path.is_file():
        yield from members(path)


def _list(block: Names, folders: dict[str, dict[str, str]]) -> None:
    """Put members into their folders; names that ``safe_path`` would change are left out."""
    names = block.names
    if not block.simple:
        for member in names:
            folder, _, name = member.rpartition("/")
            if _safe_name(name):
                folders.setdefault(folder, {})[name] = quote_member(name)
        return
    # Where all lie in one folder, and most of their signs stand for themselves, all are cut and
    # quoted at once: name by name it would take as long as reading the directory.
    joined = "\n".join(("", *names))
    folder = names[0].rpartition("/")[0]
    start = f"\n{folder}/" if folder else "\n"
    together = joined.count(start) == len(names) and joined.count("/") == len(names) * start.count(
        "/"
    )
    bare = joined.replace(start, "\n") if together else joined
    quoted = bare.replace("%", "%25").replace("+", "%2B").replace(" ", "%20")
    likely = not quoted.encode().translate(None, _QUOTED)
    shown: Iterable[str] = (
        quoted.split("\n")[1:] if likely else map(quote_member, bare.split("\n")[1:])
    )
    if together:
        folders.setdefault(folder, {}).update(zip(bare.split("\n")[1:], shown, strict=True))
        return
    for member, one in zip(names, shown, strict=True):
        folder, _, name = member.rpartition("/")
        folders.setdefault(folder, {})[name] = one.rpartition("/")[2]


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

    A zip whose names are UTF-8 without saying so is read as code page 437 by ``zipfile``.

    >>> _plain("#U91d1.jpg")
    '金.jpg'
    >>> _plain("caf\u251c\u2310.jpg")
    'café.jpg'
    """
    if "#U" in name:
        name = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), name)
    if name.isascii():
        return name
    with contextlib.suppress(UnicodeError):
        name = name.encode("cp437").decode("utf-8")
    return unicodedata.normalize("NFC", name)
