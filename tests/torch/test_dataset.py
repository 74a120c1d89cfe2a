"""Batches are the same for any workers, and nothing is lost or given twice after any restart."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.needs import needs

pytestmark = [
    needs("torch", "torchdata"),
    # Two cores are few for torch; more workers than that are what is tested.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    # torchdata 0.11 calls what torch 2.13 calls old.
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),
    # Torch forks workers, whatever threads pytest and torch have.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

Ids = list[list[str]]


def ids(batches: Any) -> Ids:
    return [[row["id"] for row in batch] for batch in batches]


def flat(batches: Any) -> list[str]:
    return [one for batch in ids(batches) for one in batch]


def load(dataset: Any, workers: int = 0, **options: Any) -> Any:
    from torch.utils.data import DataLoader

    return DataLoader(dataset, batch_size=None, num_workers=workers, **options)


def stateful(dataset: Any, workers: int, **options: Any) -> Any:
    from torchdata.stateful_dataloader import StatefulDataLoader

    return StatefulDataLoader(dataset, batch_size=None, num_workers=workers, **options)


def wanted(toy: Path, epochs: int = 1) -> list[str]:
    from vision_ift._stream.stream import stream

    return [row["id"] for row in stream(toy, epochs=epochs)]


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_the_order_is_the_same_for_any_number_of_workers(toy: Path, workers: int) -> None:
    from vision_ift.torch import StreamDataset

    dataset = StreamDataset(toy, batch_size=7, epochs=2)
    batches = ids(load(dataset, workers))
    assert [one for batch in batches for one in batch] == wanted(toy, 2)
    assert [len(batch) for batch in batches] == [7] * 22 + [6]
    assert len(dataset) == 23


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_come_one_by_one_without_a_batch_size(toy: Path, workers: int) -> None:
    from vision_ift.torch import StreamDataset

    assert [row["id"] for row in load(StreamDataset(toy), workers)] == wanted(toy)


def test_torchs_own_batches_keep_every_row(toy: Path) -> None:
    """The naive use: each row once, but in an order that depends on the workers."""
    from torch.utils.data import DataLoader

    from vision_ift.torch import StreamDataset

    loader = DataLoader(StreamDataset(toy), batch_size=4, num_workers=2, collate_fn=list)
    found = flat(loader)
    assert sorted(found) == sorted(wanted(toy))
    assert found != wanted(toy)


def test_persistent_workers_follow_set_epoch_and_resume(toy: Path) -> None:
    from vision_ift.torch import StreamDataset

    dataset = StreamDataset(toy, batch_size=8)
    loader = load(dataset, 2, persistent_workers=True)
    rows = wanted(toy, 3)
    assert flat(loader) == rows[:80]
    dataset.set_epoch(1)
    assert flat(loader) == rows[80:160]
    cursor = dataset.state_after(4)
    dataset.set_epoch(2)
    assert flat(loader) == rows[160:]
    dataset.resume(cursor)
    dataset.set_epoch(1)  # in the middle of that very epoch: nothing moves
    assert flat(loader) == rows[112:160]


def test_a_spawned_worker_gives_the_same(toy: Path) -> None:
    from vision_ift.torch import StreamDataset

    loader = load(StreamDataset(toy, batch_size=16), 1, multiprocessing_context="spawn")
    assert flat(loader) == wanted(toy)


@settings(max_examples=40)
@given(data=st.data())
def test_any_schedule_of_ranks_and_restarts_gives_every_row_once(
    toy: Path, data: st.DataObject
) -> None:
    from vision_ift.torch import StreamDataset

    rows = wanted(toy, 2)
    seen: list[str] = []
    cursor: dict[str, Any] | None = None
    for _ in range(data.draw(st.integers(1, 5))):
        ranks, size = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 6))
        batches = data.draw(st.integers(0, 4))
        taken, cursors = [], []
        for rank in range(ranks):
            dataset = StreamDataset(toy, batch_size=size, epochs=2, rank=rank, world_size=ranks)
            if cursor is not None:
                dataset.resume(json.loads(json.dumps(cursor)))
            taken.append(flat(islice(dataset, batches)))
            cursors.append(dataset.state_after(batches))
        assert all(one == cursors[0] for one in cursors)
        assert len(json.dumps(cursors[0])) < 1024
        cursor = cursors[0]
        steps = max(map(len, taken))
        seen += [own[step] for step in range(steps) for own in taken if step < len(own)]
        if len(seen) == len(rows):
            break
    # Within a step ranks are counted from the place where it began, so only sets are compared.
    assert sorted(seen) == sorted(rows[: len(seen)])


@pytest.mark.parametrize(
    ("workers", "persistent"),
    [(0, False), *((n, persistent) for n in (1, 2, 3) for persistent in (False, True))],
)
def test_a_stateful_loader_goes_on_time_after_time(
    toy: Path, workers: int, persistent: bool
) -> None:
    from vision_ift.torch import StreamDataset

    def begin() -> Any:
        dataset = StreamDataset(toy, batch_size=3, epochs=2)
        return stateful(dataset, workers, **({"persistent_workers": True} if persistent else {}))

    rows = wanted(toy, 2)
    seen: list[str] = []
    state: Any = None
    for taken in (0, 1, 5, 2, 11, 100):
        loader = begin()
        if state is not None:
            loader.load_state_dict(state)
        batches: Iterator[Any] = iter(loader)
        seen += flat(islice(batches, taken))
        state = loader.state_dict()
        if workers:  # a state says nothing of the rows that were made ahead
            json.dumps({key: value for key, value in state.items() if "rng" not in key})
        del batches
    assert seen == rows
    loader = begin()
    loader.load_state_dict(state)
    assert flat(loader) == rows  # a state of the end is torchdata's way to say: begin anew


def test_another_number_of_workers_is_refused_by_state_and_taken_by_a_cursor(toy: Path) -> None:
    from vision_ift._errors import UsageError
    from vision_ift.torch import StreamDataset

    dataset = StreamDataset(toy, batch_size=4)
    batches = iter(dataset)
    for _ in range(3):
        next(batches)
    state = batches.state_dict()
    for other in ({**state, "workers": 2}, {**state, "batch_size": 5}):
        with pytest.raises(UsageError, match="state_after"):
            iter(dataset).load_state_dict(other)
    dataset.resume(dataset.state_after(3))
    assert flat(load(dataset, 3)) == wanted(toy)[12:]


def test_bad_rows_leave_batches_in_step(toy: Path, tmp_path: Path) -> None:
    import shutil

    from vision_ift.torch import StreamDataset

    broken = tmp_path / "out"
    shutil.copytree(toy, broken)
    shard = sorted(broken.glob("*.tar"))[1]
    shard.write_bytes(shard.read_bytes().replace(b'"messages":[', b'"massages":[', 3))
    whole = ids(StreamDataset(toy, batch_size=5))
    for workers in (0, 2):
        found = ids(load(StreamDataset(broken, batch_size=5, bad_rows="skip"), workers))
        assert len(found) == len(whole)
        assert sum(map(len, whole)) - sum(map(len, found)) == 3
        assert all(set(some) <= set(batch) for batch, some in zip(whole, found, strict=True))


def test_ranks_come_from_torch_distributed(toy: Path, tmp_path: Path) -> None:
    import torch.distributed as group

    from vision_ift.torch import StreamDataset

    store = group.FileStore(str(tmp_path / "store"), 1)
    group.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        assert len(StreamDataset(toy)) == 80
        assert len(StreamDataset(toy, rank=0, world_size=2)) == 40
    finally:
        group.destroy_process_group()
    assert len(StreamDataset(toy)) == 80


def test_accelerate_moves_the_epoch(toy: Path) -> None:
    needs("accelerate")
    from accelerate.data_loader import prepare_data_loader

    from vision_ift.torch import StreamDataset

    dataset = StreamDataset(toy, batch_size=10, rank=0, world_size=1)
    loader = prepare_data_loader(load(dataset, 1), num_processes=1, process_index=0)
    rows = wanted(toy, 2)
    assert flat(loader) == rows[:80]
    assert flat(loader) == rows[80:]  # it calls set_epoch(1)


def test_arguments_that_cannot_be_meant(toy: Path) -> None:
    from vision_ift._errors import UsageError
    from vision_ift._stream.stream import stream
    from vision_ift.torch import StreamDataset

    for options in ({"batch_size": 0}, {"batch_size": True}, {"collate": list}):
        with pytest.raises(UsageError):
            StreamDataset(toy, **options)
    with pytest.raises(UsageError, match="already"):
        StreamDataset(stream(toy), world_size=2)
    with pytest.raises(UsageError, match="packing"):
        StreamDataset(toy).resume({**StreamDataset(toy).cursor, "packs": {}})


def test_a_stream_goes_on_where_it_stands(toy: Path) -> None:
    from vision_ift._stream.stream import stream
    from vision_ift.torch import StreamDataset

    opened = stream(toy)
    for _ in zip(range(9), opened, strict=False):
        pass
    dataset = StreamDataset(opened, batch_size=4)
    taken = len(opened)
    assert flat(dataset) == wanted(toy)[80 - taken :]
    assert len(opened) == taken


def test_torch_is_imported_by_nothing_else() -> None:
    import subprocess

    code = "import sys, vision_ift._stream.stream; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
