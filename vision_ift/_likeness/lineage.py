"""Where a picture of the COCO family comes from, by its id: which split, and which lists name it.

COCO numbers its pictures once: 391895 is the same picture in train2014, in train2017, and in every
benchmark drawn from them. So a path says the id, and often the split. What it does not say (which
5,000 of val2014 are Karpathy's test, which 500 are POPE's) needs the benchmark's own list.
Nothing is guessed: without the list, the report says how many pictures could be in it, and which
file would tell.

Splits: Lin et al. 2014 and cocodataset.org (2017 repartitions train and val of 2014; test2015 holds
test2014). Karpathy and Fei-Fei 2015; Kazemzadeh et al. 2014 and Yu et al. 2016 (RefCOCO, RefCOCO+,
RefCOCOg: pictures of train2014); Li et al. 2023 (POPE: 500 pictures of val2014); Goyal et al. 2017
(VQAv2); Marino et al. 2019 (OK-VQA); Schwenk et al. 2022 (A-OKVQA: splits of 2017).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from vision_ift._errors import MissingInputError, UsageError

#: The largest list that is read, in bytes; the largest JSON in memory.
_MAX_LIST_BYTES = 1 << 30

#: Ids of COCO are below this (six digits today, twelve in a file's name).
_MAX_ID = 10**12

_NAMED = re.compile(r"COCO_(train2014|val2014|test2014|test2015)_(\d{12})(?!\d)")
_FOLDER = re.compile(
    r"(?:^|/)(train2014|val2014|test2014|test2015|train2017|val2017|test2017|unlabeled2017)/"
    r"(\d{1,12})\.[A-Za-z]{3,4}$"
)
_PLAIN = re.compile(r"(?:^|/)(\d{12})\.(?:jpg|jpeg|png)$", re.IGNORECASE)
_GENOME = re.compile(r"(?:^|/)VG_100K(?:_2)?/(\d{1,7})\.jpg$")

#: The splits of which all of 2014's and 2017's pictures are parts.
SPLITS = (
    "train2014",
    "val2014",
    "test2014",
    "test2015",
    "train2017",
    "val2017",
    "test2017",
    "unlabeled2017",
)


class Benchmark(NamedTuple):
    """A benchmark on COCO's pictures.

    Attributes:
        name: What it is called.
        within: The splits from which it is drawn.
        whole: Whether it is all of those splits; else a list decides.
        needs: The file that says which pictures are in it.
    """

    name: str
    within: tuple[str, ...]
    whole: bool
    needs: str = ""


#: A picture of train2017 may be one of val2014, so it may be in what is drawn from val2014.
_OF_VAL_2014 = ("val2014", "train2017", "val2017")
_OF_TRAIN_2014 = ("train2014", "train2017", "val2017")

BENCHMARKS = (
    Benchmark("COCO val2017 (captions, detection)", ("val2017",), True),
    Benchmark("COCO val2014", ("val2014",), True),
    Benchmark("COCO test (2014, 2015, 2017)", ("test2014", "test2015", "test2017"), True),
    Benchmark("VQAv2 val", ("val2014",), True),
    Benchmark("VQAv2 test-dev, test-standard", ("test2015",), True),
    Benchmark("Karpathy test and val", _OF_VAL_2014, False, "the list dataset_coco.json"),
    Benchmark(
        "POPE", _OF_VAL_2014, False, "the list coco_pope_random.json (or _popular, _adversarial)"
    ),
    Benchmark(
        "OK-VQA val", _OF_VAL_2014, False, "the list OpenEnded_mscoco_val2014_questions.json"
    ),
    Benchmark("RefCOCO, RefCOCO+ test", _OF_TRAIN_2014, False, "a list of its test images"),
    Benchmark("RefCOCOg test", _OF_TRAIN_2014, False, "a list of its test images"),
    Benchmark("A-OKVQA val", ("val2017",), False, "the list aokvqa_v1p0_val.json"),
    Benchmark("A-OKVQA test", ("test2017",), False, "the list aokvqa_v1p0_test.json"),
)


def coco_id(path: str) -> tuple[int, str] | None:
    """Read a COCO id, and the split where the path says it (else empty).

    >>> coco_id("coco/train2014/COCO_train2014_000000391895.jpg")
    (391895, 'train2014')
    >>> coco_id("coco/train2017/000000391895.jpg")
    (391895, 'train2017')
    >>> coco_id("images/000000391895.jpg")
    (391895, '')
    >>> coco_id("gqa/images/2354786.jpg") is None
    True
    """
    named = _NAMED.search(path)
    if named:
        return int(named[2]), named[1]
    folder = _FOLDER.search(path)
    if folder:
        return int(folder[2]), folder[1]
    plain = _PLAIN.search(path)
    return (int(plain[1]), "") if plain else None


class Ids(NamedTuple):
    """Each picture's COCO id (-1: none is known) and its split (-1, or a place in ``SPLITS``)."""

    ids: NDArray[np.int64]
    splits: NDArray[np.int8]
    genome: int
    genome_known: int


def ids_of_references(references: Sequence[str], *, root: Path) -> Ids:
    """Read the ids of pictures by their paths; Visual Genome's by its own list, where it is there.

    ``genome`` of the result counts the pictures of Visual Genome, and ``genome_known`` those of
    them that ``visual_genome/image_data.json`` gives a COCO id.
    """
    ids = np.full(len(references), -1, np.int64)
    splits = np.full(len(references), -1, np.int8)
    of_genome: dict[int, int] = {}
    for place, reference in enumerate(references):
        found = coco_id(reference)
        if found:
            ids[place] = found[0]
            splits[place] = SPLITS.index(found[1]) if found[1] else -1
            continue
        genome = _GENOME.search(reference)
        if genome:
            of_genome[place] = int(genome[1])
    known = 0
    listed = root / "visual_genome" / "image_data.json"
    if of_genome and listed.is_file():
        coco = _genome(listed)
        for place, number in of_genome.items():
            if number in coco:
                ids[place] = coco[number]
                known += 1
    return Ids(ids, splits, len(of_genome), known)


class _GenomeImage(msgspec.Struct):
    image_id: int
    coco_id: int | None = None


def _genome(path: Path) -> dict[int, int]:
    data = _read(path)
    try:
        images = msgspec.json.decode(data, type=list[_GenomeImage])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not Visual Genome's list of images: {error}") from None
    return {image.image_id: image.coco_id for image in images if image.coco_id is not None}


class List(NamedTuple):
    """The ids that a file lists, under the name by which it is reported."""

    name: str
    ids: frozenset[int]


def read_list(given: str) -> List:
    """Read ``FILE``, ``NAME=FILE``, or the name of a split.

    A file is text with an id or a file name a line, or JSON (also one object a line) in which the
    pictures are named ``image_id``, ``cocoid``, ``coco_id``, ``image`` or ``file_name``, or listed
    under ``images`` by ``id``. Of Karpathy's ``dataset_coco.json``, the pictures of ``test`` and
    ``val`` are taken. A split's name takes every picture whose path names that split.

    Raises:
        UsageError: No id is found in it, or it is broken.
        MissingInputError: There is no such file.
    """
    if given in SPLITS:
        return List(given, frozenset())
    name, mark, file = given.partition("=")
    path = Path(file if mark else given)
    name = name if mark else path.stem
    data = _read(path)
    try:
        ids = frozenset(_ids_in(data))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--lineage {path} cannot be read: {error}") from None
    if not ids:
        raise UsageError(
            f"--lineage {path} names no COCO picture",
            hint="write an id or a file name a line, or give the benchmark's own JSON",
        )
    return List(name, ids)


def _read(path: Path) -> bytes:
    if not path.is_file():  # a FIFO would be waited for
        raise MissingInputError(
            f"list {path} is not a regular file", hint=f"or name a split: {', '.join(SPLITS)}"
        )
    if path.stat().st_size > _MAX_LIST_BYTES:
        raise UsageError(f"list {path} is larger than {_MAX_LIST_BYTES:,} bytes")
    return path.read_bytes()


def _ids_in(data: bytes) -> Iterator[int]:
    text = data.decode("utf-8-sig")
    if text.lstrip()[:1] not in ("{", "["):
        for line in text.split():
            yield from _id_of(line)
        return
    try:
        yield from _walk(json.loads(text))
    except json.JSONDecodeError:
        for line in text.splitlines():
            if line.strip():
                yield from _walk(json.loads(line))


def _id_of(value: Any) -> Iterator[int]:
    """Read an id, or the id in a file's name."""
    if isinstance(value, bool):
        return
    if isinstance(value, int) and 0 < value < _MAX_ID:
        yield value
    elif isinstance(value, str) and len(value) < 1024:
        if value.isascii() and value.isdigit() and len(value) <= 12:
            yield int(value)
        elif found := coco_id(value):
            yield found[0]


#: The keys under which files name a picture, the surest first.
_KEYS = ("image_id", "cocoid", "coco_id", "file_name", "filename", "image", "coco_url")


def _walk(tree: Any) -> Iterator[int]:
    """Find the ids of a JSON file: each record's surest, or all plain values of a list."""
    if isinstance(tree, list):
        for one in tree:
            if isinstance(one, dict):
                yield from _of_record(one)
            else:
                yield from _id_of(one)
        return
    if not isinstance(tree, dict):
        return
    for key in ("images", "questions", "annotations", "data"):
        listed = tree.get(key)
        if isinstance(listed, list):
            for one in listed:
                if isinstance(one, dict):
                    yield from _of_record(one, own=key == "images")
            return
    yield from _of_record(tree)


def _of_record(record: dict[str, Any], *, own: bool = False) -> Iterator[int]:
    if "cocoid" in record and record.get("split") in ("train", "restval"):
        return  # Karpathy's list holds what may be trained on, too
    for key in (*_KEYS, "id") if own else _KEYS:
        if key in record:
            found = list(_id_of(record[key]))
            if found:
                yield from found[:1]
                return


def count_splits(splits: NDArray[np.int8], rows_of: Sequence[int]) -> dict[str, int]:
    """Rows that show a picture of each split, by its name."""
    counts = np.bincount(splits[np.asarray(rows_of, np.int64)] + 1, minlength=len(SPLITS) + 1)
    return {name: int(counts[n + 1]) for n, name in enumerate(SPLITS) if counts[n + 1]}


def needed(splits: dict[str, int], lists: Sequence[List]) -> list[dict[str, Any]]:
    """Say of each known benchmark what follows from the splits alone, and which list it needs.

    ``certain`` is whether every picture of those splits is in it.
    """
    told = []
    for benchmark in BENCHMARKS:
        pictures = sum(splits.get(name, 0) for name in benchmark.within)
        if pictures:
            told.append(
                {
                    "benchmark": benchmark.name,
                    "pictures": pictures,
                    "certain": benchmark.whole,
                    "needs": f"needs {benchmark.needs}" if benchmark.needs else "",
                    "lists_given": sorted(one.name for one in lists),
                }
            )
    return told
