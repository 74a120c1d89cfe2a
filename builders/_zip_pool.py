"""Finds pictures in a hundred zips, or in the folders that they unpack to, and keeps no names.

Of each file two hashes are kept, of its path and of its bare name, and where its name stands: 32
bytes a file, whatever its name (48 while they are sorted). Before a hash is believed the name is
read again from there. Measured on one core: 2 s a million members, 20 microseconds a look-up.
"""

from __future__ import annotations

import functools
import os
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import xxhash

from vision_ift import RecordError
from vision_ift._archives.ranges import LocalFile
from vision_ift._errors import MissingInputError

from ._zip_names import members, name_at

_OFFSET_BITS = 48
#: How many entries of one bare name are looked at: an archive may list the same member again.
_MOST_TWINS = 4

#: Gives a path as it was meant, where programs write it differently.
Plain = Callable[[str], str]


class _Index:
    """Hashes of paths and bare names; the number of an archive or folder, and a place in it."""

    def __init__(self) -> None:
        self._where = array("Q")
        self._paths = array("Q")
        self._names = array("Q")
        self._sorted: list[tuple[array[int], array[int]]] = []

    def add(self, container: int, place: int, path: str) -> None:
        self._where.append(container << _OFFSET_BITS | place)
        self._paths.append(_hash(path))
        self._names.append(_hash(path.rpartition("/")[2]))

    def __len__(self) -> int:
        return len(self._where)

    def cut(self, length: int) -> None:
        """Forget what was added after so many."""
        for column in (self._where, self._paths, self._names):
            del column[length:]

    def close(self) -> None:
        """Sort what was added; from now on it can be looked up."""
        for column in (self._paths, self._names):
            values = np.frombuffer(column, np.uint64) if column else np.zeros(0, np.uint64)
            order = np.argsort(values, kind="stable")
            ranked = array("Q", values[order].tobytes())
            self._sorted.append((ranked, array("I", order.astype(np.uint32).tobytes())))
        self._paths = self._names = array("Q")

    def by_path(self, path: str, container: int) -> list[tuple[int, int]]:
        """Container and place of the files of this path in one container."""
        return self._found(0, path, container)

    def by_name(self, name: str, container: int | None = None) -> list[tuple[int, int]]:
        """Container and place of the files of this bare name, of one too many at most."""
        return self._found(1, name, container)

    def _found(self, column: int, text: str, container: int | None) -> list[tuple[int, int]]:
        values, order = self._sorted[column]
        key = _hash(text)
        begin = bisect_left(values, key)  # an array's own numbers: faster than numpy's, one by one
        end = bisect_right(values, key, begin)
        if container is not None:  # equal hashes stand in the order of their containers
            at = self._where.__getitem__
            begin, end = (
                bisect_left(order, number << _OFFSET_BITS, begin, end, key=at)
                for number in (container, container + 1)
            )
        places = [self._where[place] for place in order[begin : min(end, begin + _MOST_TWINS + 1)]]
        return [(one >> _OFFSET_BITS, one & ((1 << _OFFSET_BITS) - 1)) for one in places]


class ZipPool:
    """The members of many archives.

    Args:
        root: The folder under which the archives lie.
        archives: Their paths relative to it.
        plain: Applied to the members' paths; the paths looked up must be so already.

    ``broken`` says of each archive that cannot be read why not; its members are not there.
    """

    def __init__(self, root: Path, archives: tuple[str, ...], plain: Plain) -> None:
        self._root = root
        self._archives = archives
        self._plain = plain
        self._index = _Index()
        self._stems: dict[str, list[int]] = {}
        self._files: dict[int, LocalFile] = {}
        self.broken: dict[str, str] = {}
        for number, archive in enumerate(archives):
            before = len(self._index)
            try:
                for block in members(root / archive):
                    for offset, member in zip(block.offsets, block.names, strict=True):
                        self._index.add(number, offset, plain(member))
            except (RecordError, MissingInputError) as error:
                self.broken[archive] = error.message.replace(str(root / archive), archive)
                self._index.cut(before)
            else:
                self._stems.setdefault(Path(archive).stem, []).append(number)
        self._index.close()

    def __len__(self) -> int:
        return len(self._index)

    def find(self, path: str) -> tuple[str, str] | None:
        """Give archive and member of a plain path, or ``None``.

        Tried one after the other: the path in an archive whose name stands in it, with or without
        what stands before that name and the name itself; the bare name, where only one member of
        those archives has it; the bare name, where only one member of all archives has it.
        """
        parts = path.split("/")
        named: set[int] = set()
        for place, part in enumerate(parts[:-1]):
            for number in self._stems.get(part.removesuffix(".zip"), ()):
                named.add(number)
                for start in (place + 1, place, 0):
                    if found := self._member("/".join(parts[start:]), number):
                        return found
        bare = parts[-1]
        near = [one for number in sorted(named) for one in self._index.by_name(bare, number)]
        return self._only(near, bare) or self._only(self._index.by_name(bare), bare)

    def _member(self, path: str, number: int) -> tuple[str, str] | None:
        for one in self._index.by_path(path, number):
            if (name := self._name(one)) and self._plain(name) == path:
                return self._archives[number], name
        return None

    def _only(self, places: list[tuple[int, int]], bare: str) -> tuple[str, str] | None:
        """Give the one member that has a bare name; an archive may list a member twice."""
        if len(places) > _MOST_TWINS:
            return None
        found = set()
        for one in places:
            name = self._name(one)
            if name and self._plain(name).rpartition("/")[2] == bare:
                found.add((self._archives[one[0]], name))
        return found.pop() if len(found) == 1 else None

    def _name(self, one: tuple[int, int]) -> str | None:
        number, offset = one
        file = self._files.get(number)
        if file is None:
            file = self._files[number] = LocalFile(str(self._root / self._archives[number]))
        return name_at(file, offset)


class FolderPool:
    """The files below some folders, walked once.

    Args:
        root: The folder under which they lie.
        folders: Their paths relative to it; links among them are followed, deeper ones are not.
        plain: As for :class:`ZipPool`.
    """

    def __init__(self, root: Path, folders: Iterable[str], plain: Plain) -> None:
        self._root = root
        self._plain = plain
        self._index = _Index()
        self._folders: list[str] = []
        bases = frozenset(folders)
        for base in sorted(bases):
            for folder, name in _walked(root, base, bases):
                if not self._folders or self._folders[-1] != folder:
                    self._folders.append(folder)
                self._index.add(0, len(self._folders) - 1, plain(name))
        self._index.close()
        self._listing = functools.lru_cache(maxsize=8)(self._listed)

    def find(self, name: str) -> str | None:
        """Give the path of the only file of a bare name, or ``None``."""
        places = self._index.by_name(name)
        if len(places) != 1:
            return None
        folder = self._folders[places[0][1]]
        if (self._root / folder / name).is_file():
            return f"{folder}/{name}"
        written = self._listing(folder).get(name)
        return f"{folder}/{written}" if written else None

    def _listed(self, folder: str) -> dict[str, str]:
        found = sorted(path.name for path in (self._root / folder).iterdir())
        return {self._plain(name): name for name in found}


def _walked(root: Path, base: str, others: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Yield folder and name of each file below a folder, but archives, and below no other base."""
    for folder, inside, names in os.walk(root / base):
        relative = Path(folder).relative_to(root).as_posix()
        inside[:] = sorted(name for name in inside if f"{relative}/{name}" not in others)
        for name in sorted(names):
            if not name.endswith(".zip"):
                yield relative, name


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))
