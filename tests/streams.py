"""Exports and plans to stream, for several test files."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.ipc as ipc

from tests.exports import dialog, picture
from tests.rows import table_of
from vision_ift._export.manifest import INDEX, INDEX_SCHEMA, MANIFEST, Manifest
from vision_ift._plan.plan import Plan, arrange
from vision_ift._recipe.recipe import Entry, Recipe, Stage
from vision_ift._recipe.select import Selection

Row = dict[str, Any]


def staged_plan(folder: Path, *, rows: int = 30, lost: tuple[int, ...] = ()) -> Plan:
    """Two stages, the second of two sources, one of them in both; pictures of ``lost`` are gone."""
    root = folder / "root"
    (root / "p").mkdir(parents=True)
    tables = {}
    for place, source in enumerate(("llava", "messages")):
        for number in range(rows):
            if number not in lost:
                (root / f"p/{source}{number}.jpg").write_bytes(picture(100 * place + number))
        tables[source] = table_of(
            folder / source,
            [dialog(n, (f"p/{source}{n}.jpg",)) for n in range(rows)],
            source=source,
        )
    stages = tuple(
        Stage(
            name=name,
            mix=tuple(
                Entry(name=source, source=source, kind="count", amount=Fraction(count))
                for source, count in counts.items()
            ),
        )
        for name, counts in (("first", {"llava": 25}), ("second", {"llava": 17, "messages": 23}))
    )
    recipe = Recipe(name="staged", stages=stages, text="name: staged\n")
    found: dict[str, Selection | str] = {
        source: Selection(table, None) for source, table in tables.items()
    }
    return arrange(recipe, found, root=root)


def manifest_of(out: Path) -> Manifest:
    return msgspec.json.decode((out / MANIFEST).read_bytes(), type=Manifest)


def index_of(out: Path) -> list[pa.RecordBatch]:
    with ipc.open_file((out / INDEX).read_bytes()) as reader:
        return [reader.get_batch(n) for n in range(reader.num_record_batches)]


def change_index(out: Path, change: Callable[[dict[str, list[Any]]], None]) -> None:
    """Write the index anew, its first shard's columns changed."""
    batches = index_of(out)
    columns = batches[0].to_pydict()
    change(columns)
    arrays = [pa.array(columns[one.name], one.type) for one in INDEX_SCHEMA]
    batches[0] = pa.RecordBatch.from_arrays(arrays, schema=INDEX_SCHEMA)
    with ipc.new_file(out / INDEX, INDEX_SCHEMA) as writer:
        for batch in batches:
            writer.write_batch(batch)


def ids(rows: Any) -> list[str]:
    return [row["id"] for row in rows]
