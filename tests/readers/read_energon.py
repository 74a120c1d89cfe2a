"""Read a folder with Megatron-Energon: as a crude dataset, and at random by its SQLite index."""

from __future__ import annotations

import json
from typing import Any

from megatron.energon import (
    Cooker,
    CrudeSample,
    DefaultTaskEncoder,
    WorkerConfig,
    basic_sample_keys,
    edataclass,
    get_savable_loader,
    get_train_dataset,
    stateless,
)
from megatron.energon.cache.file_store import WebdatasetFileStore
from megatron.energon.epathlib import EPath
from megatron.energon.flavors.base_dataset import Sample
from told import Rows, sha256, tell


@edataclass
class Row(Sample):
    """A conversation's members."""

    members: dict[str, bytes]


@stateless
def cook(sample: CrudeSample) -> Row:
    """Keep the members as they came."""
    members = {name: value for name, value in sample.items() if not name.startswith("__")}
    return Row(**basic_sample_keys(sample), members=members)


class Encoder(DefaultTaskEncoder[Any, Any, Any, Any]):
    """Decodes nothing and batches nothing."""

    decoder = None
    cookers = (Cooker(cook),)


def read(folder: str) -> Rows:
    """Read one epoch."""
    worker = WorkerConfig(rank=0, world_size=1, num_workers=0)
    dataset: Any = get_train_dataset(
        folder,
        worker_config=worker,
        batch_size=None,
        shuffle_buffer_size=None,
        max_samples_per_sequence=None,
        task_encoder=Encoder(),
        repeat=False,
    )
    found: Rows = {}
    for row in get_savable_loader(dataset):
        key = row.__key__.rpartition("/")[2]
        assert key not in found, f"{key} came twice"
        found[key] = {name: sha256(_bytes(value)) for name, value in row.members.items()}
    return found


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if hasattr(value, "get"):
        return _bytes(value.get())
    return json.dumps(value).encode()


def at_random(folder: str) -> Rows:
    """Read every member by its name, through index.sqlite."""
    found: Rows = {}
    store = WebdatasetFileStore(EPath(folder))
    for name, _, _ in store.list_all_sample_parts():
        key, _, ending = name.partition(".")
        found.setdefault(key, {})[ending] = sha256(store[name][0])
    return found


if __name__ == "__main__":
    tell({"default": read, "at random": at_random})
