"""What Vision-Flan's rows are marked with: licence, dataset, origin, COCO id, evaluation set.

Two ways, held equal by a test: ``marked`` of one conversation, in plain words, and ``marked_rows``
of thousands at once.
"""

from __future__ import annotations

import functools
import re
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vision_ift import Conversation
from vision_ift._conversation import encode_meta

from ._vision_flan_tasks import dataset_of, is_evaluation, license_of

MULTIINSTRUCT = "multiinstruct_"
ORIGINS = ("vision-flan", "multiinstruct")

#: COCO's ids are below a million; the pictures that VisDial added itself have numbers of Flickr's.
_COCO_ID = r"(?:^|[/_])(?P<id>0{6}[0-9]{6})\.jpe?g"
_NOT_COCO = "VisualDialog_"
#: A picture's own split: it decides what a list of several splits leaves open.
_HELD_OUT_PICTURE = r"COCO_(?:val|test)20[0-9]{2}_"
_TRAIN_PICTURE = r"COCO_train20[0-9]{2}_"
#: An id with a list of splits: ``multiinstruct_ok_vqa_['train', 'val']_162419``.
_HELD_OUT_LIST = r"_\[[^\]]*(?:val|test|dev)[^\]]*\]"


def coco_id_in(path: str) -> int | None:
    """Give the COCO id that a picture's name carries.

    >>> coco_id_in("./task_imgs/visdial+answer_question_2_404_COCO_train2014_000000315827.jpg")
    315827
    """
    found = re.search(_COCO_ID + r"\Z", path)
    return (int(found["id"]) or None) if found and _NOT_COCO not in path else None


def is_evaluation_row(name: str, task: str, path: str) -> bool:
    """Say whether a row comes from a test or benchmark split, by its id, task and picture.

    >>> is_evaluation_row("multiinstruct_ok_vqa_['train', 'val']_1", "ok_vqa", "1.jpg")
    True
    >>> is_evaluation_row("multiinstruct_ok_vqa_['train']_1", "ok_vqa", "1.jpg")
    False
    """
    if is_evaluation(task):
        return True
    if not name.startswith(MULTIINSTRUCT):
        return False
    if re.search(_HELD_OUT_PICTURE, path):
        return True
    return bool(re.search(_HELD_OUT_LIST, name)) and not re.search(_TRAIN_PICTURE, path)


def marked(one: Conversation, release: str) -> Conversation:
    """Give a conversation with its marks; what its record says itself is kept."""
    task = one.task or ""
    path = one.image_paths[0] if one.image_paths else ""
    meta: dict[str, Any] = {
        "dataset": dataset_of(task),
        "eval_source": is_evaluation_row(one.id, task, path),
        "origin": ORIGINS[one.id.startswith(MULTIINSTRUCT)],
        "release": release,
    }
    if (image := coco_id_in(path)) is not None:
        meta["coco_id"] = image
    return msgspec.structs.replace(one, license=license_of(task), meta=one.meta | meta)


def marked_rows(rows: pa.RecordBatch, release: str) -> tuple[pa.RecordBatch, pa.Array]:
    """Give rows with their marks, and for each whether it comes from an evaluation set."""
    paths = _first_paths(rows)
    tasks = pc.fill_null(rows.column("task"), "").dictionary_encode()
    names = tasks.dictionary.to_pylist()
    codes = tasks.indices.to_numpy()
    prefix = rows.column("source")[0].as_py() + "/" if rows.num_rows else ""
    inherited = pc.starts_with(rows.column("id"), prefix + MULTIINSTRUCT)
    known = [_of_task(name, release) for name in names]
    held_out = np.array([one.evaluation for one in known], bool)[codes]
    if pc.any(inherited).as_py():
        listed = pc.match_substring_regex(rows.column("id"), _HELD_OUT_LIST)
        trained = pc.match_substring_regex(paths, _TRAIN_PICTURE)
        shown = pc.match_substring_regex(paths, _HELD_OUT_PICTURE)
        drawn = pc.and_(inherited, pc.or_(shown, pc.and_not(listed, trained)))
        held_out |= drawn.to_numpy(zero_copy_only=False)
    origins = inherited.to_numpy(zero_copy_only=False)
    kinds = codes.astype(np.int64) * 4 + held_out * 2 + origins
    tails = [tail for one in known for tail in one.tails]
    heads = _coco_heads(paths)
    metas = pc.binary_join_element_wise(heads, pa.array(tails, pa.string()).take(kinds), "")
    given = pc.not_equal(rows.column("meta"), "{}")
    if pc.any(given).as_py():
        metas = _merged(rows.column("meta"), metas)
    licenses = pa.array([one.license for one in known], pa.string()).take(tasks.indices)
    for column, values in (("license", licenses), ("meta", metas)):
        place = rows.schema.get_field_index(column)
        rows = rows.set_column(place, rows.schema.field(place), values)
    return rows, pa.array(held_out)


class _Task(NamedTuple):
    """What the rows of a task have in common; ``tails`` by evaluation set or not and origin."""

    license: str
    evaluation: bool
    tails: tuple[str, ...]


@functools.lru_cache(maxsize=1024)
def _of_task(task: str, release: str) -> _Task:
    tails = [
        encode_meta(
            {
                "dataset": dataset_of(task),
                "eval_source": held_out,
                "origin": origin,
                "release": release,
            }
        )[1:]
        for held_out in (False, True)
        for origin in ORIGINS
    ]
    return _Task(license_of(task), is_evaluation(task), tuple(tails))


def _coco_heads(paths: pa.Array) -> pa.Array:
    """How each row's ``meta`` begins: with the COCO id, where the path carries one."""
    likely = pc.and_not(pc.match_substring(paths, "000000"), pc.match_substring(paths, _NOT_COCO))
    digits = pc.struct_field(pc.extract_regex(paths.filter(likely), _COCO_ID + "$"), "id")
    number = pc.utf8_ltrim(digits, "0")
    number = pc.if_else(pc.equal(number, ""), None, number)
    heads = pc.binary_join_element_wise('{"coco_id":', number, ",", "")
    some = pa.array(["{"] * len(paths), pa.string())
    return pc.replace_with_mask(some, likely, pc.fill_null(heads, "{"))


def _first_paths(rows: pa.RecordBatch) -> pa.Array:
    paths = rows.column("image_paths")
    counts = paths.value_lengths()
    if pc.all(pc.equal(counts, 1)).as_py():
        return paths.flatten()
    return pa.array([(path or [""])[0] for path in paths.to_pylist()], pa.string())


def _merged(given: pa.Array, marks: pa.Array) -> pa.Array:
    pairs = zip(given.to_pylist(), marks.to_pylist(), strict=True)
    return pa.array(
        [
            mark
            if own == "{}"
            else encode_meta(msgspec.json.decode(own) | msgspec.json.decode(mark))
            for own, mark in pairs
        ],
        pa.string(),
    )
