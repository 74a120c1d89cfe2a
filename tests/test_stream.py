"""A stream: the plan's rows, shared by any ranks and workers, and on from anywhere."""

from __future__ import annotations

import copy
import io
import itertools
import json
import pickle
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.exports import dialog, plan_of, small_plan, wanted
from tests.rows import table_of
from tests.streams import Row, change_index, ids, index_of, manifest_of, staged_plan
from vision_ift._errors import (
    IntegrityError,
    MissingInputError,
    UnknownNameError,
    UsageError,
    VisionIFTError,
)
from vision_ift._export.export import export
from vision_ift._plan.plan import Plan
from vision_ift._stream.stream import COLUMNS, stream

SHARD = 20_000
ROWS = 80


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """A plan of 80 rows, none to three pictures each, and its export; nobody writes to it."""
    folder = tmp_path_factory.mktemp("stream")
    plan = small_plan(folder, rows=40)
    export(plan, out=folder / "out", shard_bytes=SHARD)
    return plan, folder / "out"


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """A plan of two stages, and its export."""
    folder = tmp_path_factory.mktemp("staged")
    plan = staged_plan(folder)
    export(plan, out=folder / "out", shard_bytes=8000)
    assert len(manifest_of(folder / "out").shards) > 10
    return plan, folder / "out"


@pytest.fixture
def out(made: tuple[Plan, Path], tmp_path: Path) -> Path:
    """A copy of the export to damage."""
    shutil.copytree(made[1], tmp_path / "out")
    return tmp_path / "out"


def as_delivered(row: Row) -> Row:
    """A row in the form of :func:`tests.exports.wanted`."""
    return {
        **{name: value for name, value in row.items() if name != "images"},
        "pictures": [image["bytes"] for image in row["images"]],
    }


def epoch_of(what: Any, epoch: int, **options: Any) -> list[Row]:
    one = stream(what, **options)
    one.set_epoch(epoch)
    return list(one)


def test_an_export_gives_the_plan_s_rows(made: tuple[Plan, Path]) -> None:
    plan, out = made
    rows = list(stream(out))
    assert [as_delivered(row) for row in rows] == wanted(plan)
    assert list(rows[0]) == list(COLUMNS)
    assert rows[3]["images"][0]["path"] == "000000003-messages.png"
    assert all(type(image["bytes"]) is bytes for row in rows for image in row["images"])


def test_a_plan_gives_the_same_rows_as_its_export_in_every_epoch(
    made: tuple[Plan, Path], staged: tuple[Plan, Path]
) -> None:
    for plan, out in (made, staged):
        for epoch in (0, 1, 5):
            assert epoch_of(plan, epoch, seed=9) == epoch_of(out, epoch, seed=9)


def test_threads_change_nothing(made: tuple[Plan, Path]) -> None:
    plan, _ = made
    for what in made:
        assert list(stream(what, threads=3, epochs=2)) == list(stream(plan, epochs=2))


def test_columns_are_what_was_asked_and_cost_nothing_else(out: Path) -> None:
    whole = list(stream(out))
    lines = index_of(out)[0].to_pylist()
    first = out / manifest_of(out).shards[0].name
    data = bytearray(first.read_bytes())
    for line in lines:
        data[line["json_offset"]] ^= 1
    first.write_bytes(data)
    pictures = list(stream(out, columns=["images"]))
    assert pictures == [{"images": row["images"]} for row in whole]
    for line in lines:
        data[line["json_offset"]] ^= 1
        for offset in line["image_offsets"]:
            data[offset] ^= 1
    first.write_bytes(data)
    words = list(stream(out, columns=("messages", "id")))
    assert words == [{"id": row["id"], "messages": row["messages"]} for row in whole]
    assert list(words[0]) == ["id", "messages"]


@pytest.mark.parametrize("kind", ["export", "plan"])
def test_later_epochs_move_rows_within_their_stage_and_source(
    staged: tuple[Plan, Path], kind: str
) -> None:
    what = staged[kind == "export"]
    first = epoch_of(what, 0)
    seen = [ids(first)]
    for epoch in (1, 2, 3):
        rows = epoch_of(what, epoch)
        assert [row["source"] for row in rows] == [row["source"] for row in first]
        for stage in (slice(0, 25), slice(25, None)):
            assert Counter(ids(rows[stage])) == Counter(ids(first[stage]))
        assert ids(rows) not in seen
        seen.append(ids(rows))
    assert epoch_of(what, 1, seed=1) != epoch_of(what, 1, seed=2)


def test_whole_shards_move_within_their_stage(staged: tuple[Plan, Path]) -> None:
    _, out = staged
    first = epoch_of(out, 0, order="shards")
    assert first == epoch_of(out, 0)
    stop = np.cumsum([shard.rows for shard in manifest_of(out).shards])
    shard_of = {
        row["images"][0]["path"]: int(np.searchsorted(stop, place, side="right"))
        for place, row in enumerate(first)
    }
    orders = []
    for epoch in (1, 2):
        rows = epoch_of(out, epoch, order="shards")
        for stage in (slice(0, 25), slice(25, None)):
            paths = [row["images"][0]["path"] for row in rows[stage]]
            assert Counter(paths) == Counter(row["images"][0]["path"] for row in first[stage])
            shards = [shard for shard, _ in itertools.groupby(shard_of[path] for path in paths)]
            assert len(shards) == len(set(shards)), "a shard is read twice"
            assert shards != sorted(shards)
        orders.append(ids(rows))
    assert orders[0] != orders[1]
    one = [path for path, shard in shard_of.items() if shard == 3]
    inside = [p for row in rows if (p := row["images"][0]["path"]) in one]
    assert sorted(inside) == sorted(one)


@pytest.mark.parametrize("order", ["rows", "shards"])
def test_rows_that_were_dropped_leave_no_hole(tmp_path: Path, order: Any) -> None:
    plan = staged_plan(tmp_path, lost=(3, 4, 11))
    export(plan, out=tmp_path / "out", shard_bytes=8000)
    first = list(stream(tmp_path / "out"))
    there = [row for row in wanted_ids(plan) if not row.endswith(("/3", "/4", "/11"))]
    assert ids(first) == there
    border = len([row for row in wanted_ids(plan)[:25] if row in there])
    for epoch in (1, 2):
        rows = epoch_of(tmp_path / "out", epoch, order=order)
        for stage in (slice(0, border), slice(border, None)):
            assert Counter(ids(rows[stage])) == Counter(there[stage])
    whole = stream(plan, bad_rows="skip")
    assert ids(whole) == there
    assert whole.bad.counts == {"missing_image": len(plan) - len(there)}


def wanted_ids(plan: Plan) -> list[str]:
    found: list[str] = plan.rows(0, len(plan)).column("id").to_pylist()
    return found


def test_the_position_decides_in_a_uniform_export(tmp_path: Path) -> None:
    plan = small_plan(tmp_path, rows=40)
    export(plan, out=tmp_path / "uniform", shard_bytes=SHARD, uniform=True)
    export(plan, out=tmp_path / "ragged", shard_bytes=SHARD)
    positions = [
        n for batch in index_of(tmp_path / "uniform") for n in batch["position"].to_pylist()
    ]
    assert positions != sorted(positions)
    for epoch in (0, 1, 2):
        assert epoch_of(tmp_path / "uniform", epoch) == epoch_of(tmp_path / "ragged", epoch)
    moved = epoch_of(tmp_path / "uniform", 1, order="shards")
    assert sorted(ids(moved)) == sorted(wanted_ids(plan))


@settings(max_examples=12)
@given(
    runs=st.lists(
        st.tuples(st.integers(1, 64), st.integers(1, 16), st.integers(1, 7), st.integers(0, 4)),
        max_size=4,
    ),
    epochs=st.integers(1, 3),
    order=st.sampled_from(["rows", "shards"]),
)
def test_restarts_with_other_ranks_and_workers_give_every_row_once_in_one_order(
    staged: tuple[Plan, Path], runs: list[tuple[int, ...]], epochs: int, order: Any
) -> None:
    _, out = staged
    options: dict[str, Any] = {"epochs": epochs, "order": order, "columns": ["id"], "seed": 4}
    expected = ids(stream(out, **options))
    opened = stream(out, **options)
    state = opened.state_dict()
    given: list[str] = []
    for world_size, workers, size, batches in [*runs, (2, 1, 50, 10**6)]:
        ranks = [stream(out, rank=n, world_size=world_size, **options) for n in range(world_size)]
        taken = []
        for one in ranks:
            one.load_state_dict(json.loads(json.dumps(state)))
            several = [one.split_batches(n, workers, size) for n in range(workers)]
            rows: list[str] = []
            for number in range(min(batches, len(one) // size + 1)):
                rows += ids(next(several[number % workers], []))
            taken.append(rows)
        states = [one.state_after(batches * size) for one in ranks]
        assert all(one == states[0] for one in states)
        start = place_of(state)
        for step in range(max(map(len, taken))):
            rank_of_first = (start + step * world_size) % world_size
            for n in range(world_size):
                own = taken[(rank_of_first + n) % world_size]
                given += own[step : step + 1]
        state = states[0]
    assert given == expected


def place_of(state: dict[str, Any]) -> int:
    return int(state["epoch"]) * 65 + int(state["position"])


def test_it_goes_on_from_anywhere_again_and_again(made: tuple[Plan, Path]) -> None:
    for what in made:
        whole = ids(stream(what, epochs=2, columns=["id"]))
        for stops in ([0], [1], [159], [160], [160, 0, 5], [1] * 5, [40, 40, 79, 1], [0, 0, 7]):
            given: list[str] = []
            state: dict[str, Any] = stream(what, epochs=2).state_dict()
            for stop in stops:
                one = stream(what, epochs=2, columns=["id"])
                one.load_state_dict(state)
                given += ids(itertools.islice(one, stop))
                state = json.loads(json.dumps(one.state_dict()))
                assert one.state_dict() == one.state_after(stop)
                assert len(one) == 160 - len(given)
            one.load_state_dict(state)
            assert given + ids(one) == whole
            assert not list(one)


def test_after_the_end_there_is_nothing_but_more_epochs(made: tuple[Plan, Path]) -> None:
    _, out = made
    one = stream(out, columns=["id"])
    first = ids(one)
    assert ids(one) == [] and len(one) == 0
    end = one.state_dict()
    assert (end["epoch"], end["position"]) == (1, 0)
    longer = stream(out, columns=["id"], epochs=2)
    longer.load_state_dict(end)
    assert first + ids(longer) == ids(stream(out, columns=["id"], epochs=2))
    with pytest.raises(UsageError, match="open it with epochs=2"):
        one.load_state_dict(longer.state_dict())


def test_one_epoch_at_a_time_is_the_same_as_all_at_once(made: tuple[Plan, Path]) -> None:
    _, out = made
    one = stream(out, columns=["id"], seed=2)
    given = []
    for epoch in range(3):
        one.set_epoch(epoch)
        given += ids(itertools.islice(one, 50))
        again = stream(out, columns=["id"], seed=2, rank=0, world_size=1)
        again.load_state_dict(one.state_dict())
        given += ids(again)
    assert given == ids(stream(out, columns=["id"], seed=2, epochs=3))


def test_ranks_share_one_order_and_stay_in_step(made: tuple[Plan, Path]) -> None:
    _, out = made
    expected = ids(stream(out, epochs=2))
    for world_size in (1, 2, 3, 8, 64):
        ranks = [
            stream(out, rank=n, world_size=world_size, epochs=2, columns=["id"])
            for n in range(world_size)
        ]
        rows = [list(one) for one in ranks]
        assert [ids([row])[0] for row in interleaved(rows)] == expected
        assert len({json.dumps(one.state_dict()) for one in ranks}) == 1
        for kind in ("drop", "pad"):
            lengths = {
                len(stream(out, rank=n, world_size=world_size, epochs=2, remainder=kind))
                for n in range(world_size)
            }
            assert len(lengths) == 1
    first = iter(ranks[5])
    assert ranks[5].state_dict() == ranks[6].state_dict()
    del first


def interleaved(ranks: list[list[Row]]) -> list[Row]:
    return [row for step in itertools.zip_longest(*ranks) for row in step if row is not None]


def test_a_cursor_of_another_stream_is_refused(
    made: tuple[Plan, Path], staged: tuple[Plan, Path]
) -> None:
    plan, out = made
    state = stream(out, seed=1).state_dict()
    for what, options, told in (
        (staged[1], {"seed": 1}, "digest"),
        (plan, {"seed": 1}, "digest"),
        (out, {"seed": 2}, "seed is 2, the cursor's 1"),
        (out, {"seed": 1, "order": "shards"}, "order is shards, the cursor's rows"),
    ):
        one = stream(what, **options)
        with pytest.raises(UsageError, match=told):
            one.load_state_dict(state)
        assert one.state_dict()["position"] == 0
    with pytest.raises(IntegrityError, match="damaged"):
        stream(out, seed=1).load_state_dict({**state, "position": -1})
    with pytest.raises(UsageError, match="80 rows an epoch"):
        stream(out, seed=1).load_state_dict({**state, "position": 80})


def test_any_positions_in_any_sequence(made: tuple[Plan, Path]) -> None:
    for what in made:
        for epoch in (0, 2):
            rows = epoch_of(what, epoch)
            one = stream(what)
            wanted_positions = np.array([79, 0, 3, 3, 78, 1])
            found = list(one.read(wanted_positions, epoch=epoch))
            assert found == [(n, rows[n]) for n in wanted_positions.tolist()]
            assert one.state_dict()["position"] == 0
        assert list(one.read([])) == []
        wrongs: list[Any] = [[80], [-1], [[0]]]
        for wrong in wrongs:
            with pytest.raises(UsageError):
                list(one.read(wrong))


def test_copies_and_pickles_stand_where_it_stood(made: tuple[Plan, Path]) -> None:
    for what in made:
        one = stream(what, rank=1, world_size=3, seed=5, epochs=2)
        rows = iter(one)
        next(rows), next(rows)
        others = [pickle.loads(pickle.dumps(one)), copy.copy(one)]
        rest = list(rows)
        for other in others:
            assert list(other) == rest
            assert other.state_dict() == one.state_dict()


def test_two_readers_of_one_stream_are_told(made: tuple[Plan, Path]) -> None:
    one = stream(made[1])
    first = iter(one)
    next(first)
    second = iter(one)
    assert next(second)["id"] == wanted_ids(made[0])[1]
    with pytest.raises(UsageError, match="iterated by somebody else"):
        next(first)
    one.set_epoch(0)
    with pytest.raises(UsageError, match="moved"):
        next(second)


def test_batches_move_the_stream(made: tuple[Plan, Path]) -> None:
    one = stream(made[1], rank=1, world_size=3, columns=["id"])
    rows = ids(copy.copy(one))
    several = one.batches(10)
    assert ids(next(several)) + ids(next(several)) == rows[:20]
    assert one.state_dict() == one.state_after(20)
    assert [ids(batch) for batch in one.batches(4)] == [rows[20:24], rows[24:]]
    assert one.state_dict()["epoch"] == 1


def damage(out: Path) -> dict[str, str]:
    """Spoil rows of the export in several ways: id of each to the reason."""
    reasons: dict[str, str] = {}
    names = [shard.name for shard in manifest_of(out).shards]
    rows = ids(stream(out))
    lines = [line for batch in index_of(out) for line in batch.to_pylist()]
    last = len(names) - 1

    def write(place: int, offset: int, data: bytes) -> None:
        with (out / names[lines[place]["shard"]]).open("r+b") as file:
            file.seek(offset)
            file.write(data)

    first_of_last = next(n for n, line in enumerate(lines) if line["shard"] == last)
    with_pictures = [n for n, line in enumerate(lines[:first_of_last]) if line["image_offsets"]]
    write(with_pictures[2], lines[with_pictures[2]]["image_offsets"][0], b"\0\0\0")
    reasons[rows[with_pictures[2]]] = "bad_bytes"
    write(7, lines[7]["json_offset"] - 512, b"x")
    reasons[rows[7]] = "bad_bytes"
    write(11, lines[11]["json_offset"] + 5, b'"')
    reasons[rows[11]] = "broken_json"
    (out / names[last]).unlink()
    for row in rows[first_of_last:]:
        reasons[row] = "missing_shard"
    return reasons


@pytest.mark.parametrize("threads", [0, 2])
def test_bad_rows_are_skipped_alike_on_all_ranks(out: Path, threads: int) -> None:
    whole = ids(stream(out))
    reasons = damage(out)
    ranks = [
        stream(
            out, rank=n, world_size=8, bad_rows="skip", columns=["id", "images"], threads=threads
        )
        for n in range(8)
    ]
    counts: Counter[str] = Counter()
    for step in range(2):
        for number, one in enumerate(ranks):
            batch = next(one.batches(5))
            own = whole[number + 40 * step : 40 * (step + 1) : 8]
            assert ids(batch) == [row for row in own if row not in reasons]
        assert len({json.dumps(one.state_dict()) for one in ranks}) == 1
    for one in ranks:
        counts.update(one.bad.counts)
        assert one.bad.total == len(one.bad.first)
    assert counts == Counter(reasons.values())
    told = [row for one in ranks for row in one.bad.first if row["reason"] == "broken_json"]
    assert told[0]["key"].startswith("000000011-") and "JSON" in told[0]["why"]


def test_a_bad_row_stops_the_stream_and_is_named(out: Path) -> None:
    damage(out)
    one = stream(out)
    given: list[Row] = []
    with pytest.raises(IntegrityError) as caught:
        given.extend(one)
    assert one.state_dict()["position"] == len(given)
    for word in ("train-000000.tar", f"row 00000000{len(given)}-", "offset ", "bad_bytes"):
        assert word in str(caught.value)


def test_ten_are_named_and_all_are_counted(out: Path) -> None:
    for shard in manifest_of(out).shards:
        (out / shard.name).unlink()
    one = stream(out, bad_rows="skip")
    assert list(one) == []
    assert one.bad.counts == {"missing_shard": ROWS} and len(one.bad.first) == 10
    assert one.state_dict()["epoch"] == 1


def test_a_shard_of_another_size_or_that_shrinks_is_seen(out: Path) -> None:
    first = out / manifest_of(out).shards[0].name
    one = stream(out, bad_rows="skip", columns=["id"])
    rows = iter(one)
    next(rows)
    with first.open("r+b") as file:
        file.truncate(2000)
    left = len(list(rows))
    assert one.bad.counts == {"short_read": ROWS - 1 - left}
    again = stream(out, bad_rows="skip", columns=["id"])
    list(again)
    assert again.bad.counts == {"shard_size": ROWS - left}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("offset", -512),
        ("offset", 2**62),
        ("size", 2**63 - 1),
        ("size", -1),
        ("json_offset", 0),
        ("json_offset", 2**63 - 1),
        ("json_size", -1),
        ("json_size", 2**40),
        ("image_offsets", [0]),
        ("image_offsets", [2**63 - 1]),
        ("image_sizes", [-5]),
        ("image_sizes", [2**50]),
    ],
)
def test_an_index_that_leads_astray_reads_nothing(out: Path, column: str, value: Any) -> None:
    line = next(
        n for n, row in enumerate(index_of(out)[0].to_pylist()) if len(row["image_sizes"]) == 1
    )
    change_index(out, lambda columns: columns[column].__setitem__(line, value))
    one = stream(out, bad_rows="skip")
    assert len(list(one)) == ROWS - 1
    assert one.bad.counts == {"bad_index": 1}


def test_lists_of_unequal_length_read_nothing(out: Path) -> None:
    change_index(out, lambda columns: columns["image_sizes"][1].append(7))
    one = stream(out, bad_rows="skip")
    list(one)
    assert one.bad.counts == {"bad_index": manifest_of(out).shards[0].rows}


def test_a_source_that_is_none_is_refused(out: Path) -> None:
    for wrong in (2, -1, 2**31 - 1):

        def change(columns: dict[str, list[Any]], wrong: int = wrong) -> None:
            columns["source"][0] = wrong

        change_index(out, change)
        assert len(list(stream(out))) == ROWS  # epoch 0 asks for no source
        with pytest.raises(IntegrityError, match="source"):
            epoch_of(out, 1)


def test_what_is_no_export_is_told(out: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="manifest"):
        stream(tmp_path / "nowhere")
    manifest = out / "vision_ift/manifest.json"
    good = manifest.read_bytes()
    for wrong in (b"", b"{", good.replace(b'"schema_version": 1', b'"schema_version": 9'), b"\xff"):
        manifest.write_bytes(wrong)
        with pytest.raises(IntegrityError, match="manifest"):
            stream(out)
    for name in (b"../evil.tar", b"/etc/evil.tar", b"a/../../evil.tar", b"a/b/c.tar"):
        manifest.write_bytes(good.replace(b"train-000000.tar", name))
        with pytest.raises(IntegrityError, match="shard"):
            stream(out)
    manifest.write_bytes(good)
    index = out / "vision_ift/index.arrow"
    whole = index.read_bytes()
    for wrong in (b"", b"ARROW1", whole[:-8], whole[: len(whole) // 2], bytes(len(whole))):
        index.write_bytes(wrong)
        with pytest.raises(IntegrityError, match=r"index\.arrow"):
            list(stream(out))
    index.unlink()
    with pytest.raises(MissingInputError, match=r"index\.arrow"):
        list(stream(out))


def test_every_flipped_byte_of_the_index_is_an_error_or_a_row(out: Path) -> None:
    index = out / "vision_ift/index.arrow"
    good = index.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(good), 150).tolist():
        data = bytearray(good)
        data[place] ^= 1 << int(rng.integers(8))
        index.write_bytes(data)
        try:
            one = stream(out, bad_rows="skip", epochs=2)
            assert len(list(one)) + one.bad.total == 2 * ROWS
        except VisionIFTError:
            pass


def test_pictures_are_decoded_where_asked(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for number in range(3):
        file = io.BytesIO()
        Image.new("RGB", (40, 20), (number * 90, 0, 0)).save(file, "JPEG")
        (root / f"{number}.jpg").write_bytes(file.getvalue())
    (root / "3.jpg").write_bytes(file.getvalue()[:60])
    table = table_of(tmp_path / "t", [dialog(n, (f"{n}.jpg",)) for n in range(4)], source="llava")
    plan = plan_of(root, {"llava": table})
    export(plan, out=tmp_path / "out")
    for what in (plan, tmp_path / "out"):
        one = stream(what, decode=True, columns=["images"], bad_rows="skip", threads=2)
        assert [row["images"][0].shape for row in one] == [(20, 40, 3)] * 3
        assert one.bad.counts == {"truncated": 1}
        small = stream(what, decode=10, columns=["images"], bad_rows="skip")
        assert {row["images"][0].shape for row in small} == {(5, 10, 3)}
        with pytest.raises(IntegrityError, match="truncated"):
            list(stream(what, decode=(30, 30)))


@pytest.mark.parametrize(
    "options",
    [
        {"rank": 1},
        {"world_size": 0},
        {"seed": -1},
        {"seed": 2**64},
        {"epochs": 0},
        {"epochs": 2**21},
        {"remainder": "wrap"},
        {"order": "random"},
        {"columns": []},
        {"columns": "images"},
        {"decode": 0},
        {"decode": (3,)},
        {"decode": "RGB"},
        {"bad_rows": "ignore"},
        {"threads": -1},
    ],
)
def test_arguments_that_mean_nothing_are_refused(
    made: tuple[Plan, Path], options: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        stream(made[1], **options)


def test_wrong_names_are_told(made: tuple[Plan, Path]) -> None:
    with pytest.raises(UnknownNameError, match="did you mean messages"):
        stream(made[1], columns=["message"])
    with pytest.raises(UsageError, match="a plan has no shards"):
        stream(made[0], order="shards")
    with pytest.raises(UsageError, match="not int"):
        stream(17)  # type: ignore[arg-type]  # on purpose


def test_the_import_is_light() -> None:
    code = (
        "import sys, vision_ift._stream.stream as one\n"
        "heavy = {'datasets', 'torch', 'webdataset', 'pandas', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_reading_does_not_import_pandas(made: tuple[Plan, Path]) -> None:
    code = (
        "import sys, vision_ift._stream.stream as one\n"
        f"rows = one.stream({str(made[1])!r}, epochs=2)\n"
        "assert len(list(rows)) == 160\n"
        "assert 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_link_that_is_turned_while_it_is_read_mixes_nothing(
    made: tuple[Plan, Path], staged: tuple[Plan, Path], tmp_path: Path
) -> None:
    link = tmp_path / "current"
    link.symlink_to(made[1])
    rows = list(stream(made[1]))
    one = stream(link)
    got = list(itertools.islice(one, 3))
    link.unlink()
    link.symlink_to(staged[1])
    # The control: by the path itself, the next shard would be one of the other export.
    first = manifest_of(made[1]).shards[0].name
    assert (link / first).read_bytes() != (made[1] / first).read_bytes()
    assert got + list(pickle.loads(pickle.dumps(one))) == rows
    assert got + list(one) == rows


def test_a_stream_sent_elsewhere_refuses_another_export(
    made: tuple[Plan, Path], staged: tuple[Plan, Path], tmp_path: Path
) -> None:
    shutil.copytree(made[1], tmp_path / "here")
    sent = pickle.dumps(stream(tmp_path / "here"))
    shutil.rmtree(tmp_path / "here")
    shutil.copytree(staged[1], tmp_path / "here")
    with pytest.raises(IntegrityError, match="was another export"):
        pickle.loads(sent)


@pytest.mark.parametrize("uniform", [False, True])
def test_row_numbers_say_which_rows_an_epoch_has(
    uniform: bool, staged: tuple[Plan, Path], tmp_path: Path
) -> None:
    plan = small_plan(tmp_path, rows=40)
    export(plan, out=tmp_path / "out", shard_bytes=SHARD, uniform=uniform)
    kinds: list[tuple[Any, dict[str, Any]]] = [
        (plan, {}),
        (tmp_path / "out", {"order": "rows"}),
        (tmp_path / "out", {"order": "shards"}),
        (staged[1], {"order": "shards"}),
    ]
    for what, options in kinds:
        one = stream(what, seed=4, columns=["id"], **options)
        first = ids(one)
        for epoch in (0, 1, 3):
            numbers = one.row_numbers(range(one.rows), epoch=epoch)
            assert sorted(numbers.tolist()) == list(range(one.rows))
            moved = ids(epoch_of(what, epoch, seed=4, columns=["id"], **options))
            assert moved == [first[number] for number in numbers.tolist()]
        with pytest.raises(UsageError, match="positions are"):
            one.row_numbers([one.rows])
    assert len(one.row_numbers([])) == 0


def test_a_stream_says_whose_share_it_is(made: tuple[Plan, Path]) -> None:
    one = stream(made[1], rank=1, world_size=3, remainder="drop")
    assert (one.rank, one.world_size, one.remainder) == (1, 3, "drop")
