"""Positions, ranks, workers, epochs and the remainder: nothing is lost, nothing repeated."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_ift._errors import IntegrityError, UsageError
from vision_ift._stream.cursor import (
    CURSOR_VERSION,
    MOST_EPOCHS,
    Cursor,
    Remainder,
    Share,
    as_state,
    checked,
    checked_share,
    differences,
    read_cursor,
)

#: One run between two restarts: world size, workers, batch size, and batches until it stops.
Run = tuple[int, int, int, int]

RUNS = st.lists(
    st.tuples(st.integers(1, 64), st.integers(0, 16), st.integers(1, 9), st.integers(0, 6)),
    max_size=6,
)
REMAINDERS: list[Remainder] = ["ragged", "drop", "pad"]


def places_of(share: Share, low: int, high: int) -> list[int]:
    """The places of a rank's steps, all epochs on one line."""
    return [
        epoch * share.rows + position
        for epoch, positions in share.windows(low, high)
        for position in positions.tolist()
    ]


def batches_of(share: Share, workers: int, batch: int) -> Iterator[list[int]]:
    """A rank's batches as a loader with workers gives them: each worker's in turn."""
    count = max(1, workers)
    queues = [
        [
            places_of(share, low, min(low + batch, share.steps))
            for low in range(worker * batch, share.steps, count * batch)
        ]
        for worker in range(count)
    ]
    for turn in range(max(map(len, queues), default=0)):
        for queue in queues:
            if turn < len(queue):
                yield queue[turn]


def run_all(rows: int, epochs: int, runs: list[Run], remainder: Remainder) -> list[list[int]]:
    """Play a training with restarts; give the places of each step, all ranks together."""
    start, stop = 0, rows * epochs
    steps: list[list[int]] = []
    for world_size, workers, batch, limit in [*runs, (3, 2, 4, 10**9)]:
        shares = [
            Share(rows, start, stop, rank, world_size, remainder) for rank in range(world_size)
        ]
        given = [list(batches_of(share, workers, batch))[:limit] for share in shares]
        taken = [[place for some in one for place in some] for one in given]
        steps += [
            [own[step] for own in taken if step < len(own)] for step in range(max(map(len, taken)))
        ]
        ends = {share.after(limit * batch) for share in shares}
        assert len(ends) == 1, "the cursor is not the same on all ranks"
        start = ends.pop()
    return steps


@given(st.integers(1, 200), st.integers(1, 3), RUNS, st.sampled_from(REMAINDERS))
def test_every_row_comes_once_in_one_order_whatever_the_restarts(
    rows: int, epochs: int, runs: list[Run], remainder: Remainder
) -> None:
    steps = run_all(rows, epochs, runs, remainder)
    total = rows * epochs
    given = [place for step in steps for place in sorted(step)]
    if remainder == "ragged":
        assert given == list(range(total))
    elif remainder == "drop":
        assert given == list(range(len(given)))
        assert total - len(given) < 3  # the last run has three ranks
    else:
        counts = Counter(given)
        assert set(counts) == set(range(total))
        again = {place for place, count in counts.items() if count > 1}
        assert all(place >= total - rows for place in again), "not of the last epoch"
        assert len(given) - total < max([3, *(run[0] for run in runs)])


def test_schedules_that_other_loaders_get_wrong() -> None:
    """The control: what striding resumes and shuffle buffers do on the same schedules."""
    rng = random.Random(0)
    strided_wrong = buffered_wrong = 0
    for _ in range(60):
        rows = rng.randrange(50, 200)
        runs = [
            (rng.randrange(1, 9), 0, rng.randrange(1, 5), rng.randrange(1, 6)) for _ in range(3)
        ]
        assert sorted(itertools.chain(*run_all(rows, 1, runs, "ragged"))) == list(range(rows))
        strided_wrong += sorted(strided(rows, runs)) != list(range(rows))
        buffered_wrong += sorted(buffered(rows, runs, rng)) != list(range(rows))
    assert strided_wrong > 30 and buffered_wrong > 30


def strided(rows: int, runs: list[Run]) -> list[int]:
    """Each rank reads every n-th row and remembers how many it has read."""
    given, done = [], 0
    for world_size, _, batch, limit in [*runs, (3, 0, 1, 10**9)]:
        for rank in range(world_size):
            given += list(range(rank, rows, world_size))[done : done + batch * limit]
        done += batch * limit
    return given


def buffered(rows: int, runs: list[Run], rng: random.Random) -> list[int]:
    """Rows go through a shuffle buffer, and the state is how many were read into it."""
    given, read = [], 0
    for _, _, batch, limit in [*runs, (1, 0, 1, 10**9)]:
        buffer: list[int] = []
        left = batch * limit
        while left and (buffer or read < rows):
            while len(buffer) < 10 and read < rows:
                buffer.append(read)
                read += 1
            given.append(buffer.pop(rng.randrange(len(buffer))))
            left -= 1
    return given


@pytest.mark.parametrize("world_size", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("remainder", REMAINDERS)
def test_length_is_what_a_rank_gives(world_size: int, remainder: Remainder) -> None:
    for start in (0, 1, 5, 99, 100, 199, 200):
        for rank in range(world_size):
            share = Share(100, start, 200, rank, world_size, remainder)
            assert len(places_of(share, 0, 10**6)) == share.steps


def test_ranks_stay_in_step_where_the_remainder_is_dropped_or_padded() -> None:
    for remainder, steps in (("drop", 14), ("pad", 15)):
        shares = [Share(101, 0, 101, rank, 7, remainder) for rank in range(7)]  # type: ignore[arg-type]  # on purpose
        assert {share.steps for share in shares} == {steps}


def test_a_dropped_remainder_waits_for_a_world_size_that_takes_it() -> None:
    first = Share(10, 0, 10, 0, 4, "drop")
    assert first.after(99) == 8
    rest = Share(10, first.after(99), 10, 0, 1, "drop")
    assert places_of(rest, 0, 9) == [8, 9]


def test_an_epoch_is_crossed_without_a_break() -> None:
    share = Share(5, 3, 15, 1, 3)
    found = [(epoch, positions.tolist()) for epoch, positions in share.windows(0, 99)]
    assert found == [(0, [4]), (1, [2]), (2, [0, 3])]


def test_far_places_are_exact() -> None:
    rows = 2**42
    share = Share(rows, 999_999 * rows + 1, 10**6 * rows, 3, 64)
    epoch, positions = next(share.windows(10**9, 10**9 + 4))
    assert epoch == 999_999
    assert positions.tolist() == [3 + 64 * (10**9 + n) for n in range(4)]


def cursor(**changes: Any) -> dict[str, Any]:
    state = as_state(
        Cursor(
            version=CURSOR_VERSION,
            digest="0" * 32,
            seed=2**64 - 1,
            order="shards",
            first_epoch=MOST_EPOCHS,
            epochs=MOST_EPOCHS,
            epoch=MOST_EPOCHS,
            position=2**42 - 1,
        )
    )
    return {**state, **changes}


def test_a_cursor_is_small_json() -> None:
    text = json.dumps(cursor())
    assert len(text) < 1000
    assert as_state(read_cursor(json.loads(text))) == cursor()


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (None, "is a mapping"),
        ([], "is a mapping"),
        ("{}", "is a mapping"),
        ({}, "version None"),
        (cursor(version=2), "version 2"),
        (cursor(version="1"), "version '1'"),
        (cursor(version=True), "version True"),
        (cursor(version="x" * 10**6), "version"),
        ({name: value for name, value in cursor().items() if name != "seed"}, "seed"),
        (cursor(more=1), "more"),
        (cursor(seed=-1), "seed -1"),
        (cursor(seed=2**64), "seed 18446744073709551616"),
        (cursor(seed=10**5000), "seed of 16610 bits"),
        (cursor(seed=1.0), "seed"),
        (cursor(seed="17"), "seed"),
        (cursor(digest=17), "digest"),
        (cursor(digest=None), "digest"),
        (cursor(order=["rows"]), "order"),
        (cursor(position=-1), "position -1"),
        (cursor(position=2**63), "position"),
        (cursor(position=float("nan")), "position"),
        (cursor(position=True), "position"),
        (cursor(epoch=-1), "epoch -1"),
        (cursor(epoch=10**30), "epoch"),
        (cursor(first_epoch=5, epochs=2, epoch=4), "epoch 4 is none of the 2 from 5"),
        (cursor(first_epoch=5, epochs=2, epoch=8), "epoch 8 is none"),
        (cursor(epochs=None), "epochs"),
    ],
)
def test_damaged_cursors_are_refused(state: Any, told: str) -> None:
    with pytest.raises(IntegrityError, match=told) as caught:
        read_cursor(state)
    assert len(str(caught.value)) < 300


def test_a_cursor_of_another_stream_says_what_differs() -> None:
    here = {"digest": "1" * 32, "seed": 3, "order": "rows", "rows": 100}
    found = differences(read_cursor(cursor()), **here)  # type: ignore[arg-type]  # on purpose
    assert [one.split()[0] for one in found] == ["digest", "seed", "order"]
    same = cursor(digest="1" * 32, seed=3, order="rows", position=100)
    assert "stands at 100" in differences(read_cursor(same), **here)[0]  # type: ignore[arg-type]  # on purpose
    same["position"] = 99
    assert not differences(read_cursor(same), **here)  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize("value", [None, "1", 1.5, True, -1, 11, 2**70])
def test_integers_are_checked(value: Any) -> None:
    with pytest.raises(UsageError, match="number"):
        checked("number", value, 0, 10)


@pytest.mark.parametrize(
    ("rank", "world_size", "remainder"),
    [(1, 1, "ragged"), (-1, 2, "drop"), (0, 0, "pad"), (0, 1, "wrap"), (0.0, 1, "pad")],
)
def test_ranks_are_checked(rank: Any, world_size: Any, remainder: Any) -> None:
    with pytest.raises(UsageError):
        checked_share(rank, world_size, remainder)
