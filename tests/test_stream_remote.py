"""A stream behind a URL: the same rows, few requests, and a network that fails is no bad row."""

from __future__ import annotations

import itertools
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.exports import small_plan
from tests.faults import Request, Server, serving
from tests.streams import index_of, manifest_of
from vision_ift._archives import ranges as _ranges
from vision_ift._errors import IntegrityError, MissingInputError, ServiceError
from vision_ift._export.export import export
from vision_ift._stream import blocks as _blocks
from vision_ift._stream.blocks import Range
from vision_ift._stream.stream import stream

ROWS = 80


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("remote")
    export(small_plan(folder, rows=40), out=folder / "out", shard_bytes=20_000)
    return folder / "out"


def files_of(out: Path) -> dict[str, bytes]:
    return {
        f"/{path.relative_to(out).as_posix()}": path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def server(out: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(_ranges, "_FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setattr(_ranges, "_MAX_WAIT_SECONDS", 1.0)
    with serving(files_of(out)) as found:

        def give_range(request: Request) -> tuple[int, dict[str, str], bytes] | None:
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
            if request.path not in found.files or not asked or not found.ranges:
                return None
            if found.forever or (found.script and found.script[0]):
                return None  # the server misbehaves
            del found.script[:1]
            data = found.files[request.path]
            start, stop = int(asked[1]), min(int(asked[2]) + 1, len(data))
            stated = {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}
            return 206, stated, data[start:stop]

        found.pages = give_range
        yield found


@pytest.fixture
def memory(out: Path) -> Iterator[str]:
    store = fsspec.filesystem("memory")
    for name, data in files_of(out).items():
        store.pipe_file(f"/shards{name}", data)
    yield "memory://shards"
    store.rm("/shards", recursive=True)


@pytest.mark.parametrize("columns", [None, ["images"], ["id", "messages"]])
@pytest.mark.parametrize("epoch", [0, 1])
def test_rows_are_those_of_the_folder(
    out: Path, memory: str, server: Server, epoch: int, columns: Any
) -> None:
    here = stream(out, order="shards", columns=columns)
    here.set_epoch(epoch)
    wanted = list(here)
    for url in (memory, server.url):
        there = stream(url, columns=columns)
        assert there.state_dict()["order"] == "shards"
        there.set_epoch(epoch)
        assert list(there) == wanted
        moved = stream(url, columns=columns, order="rows", threads=2, rank=1, world_size=3)
        moved.set_epoch(epoch)
        same = stream(out, columns=columns, rank=1, world_size=3)
        same.set_epoch(epoch)
        assert list(moved) == list(same)


def test_neighbours_come_in_one_request(out: Path, server: Server) -> None:
    list(stream(server.url))
    for shard in manifest_of(out).shards:
        assert len(server.gets(f"/{shard.name}")) == 2  # one for its size
    assert len(server.gets("/vision_ift/manifest.json")) == 2
    assert len(server.gets("/vision_ift/index.arrow")) == 2


def test_a_range_is_no_more_than_what_the_columns_need(out: Path, server: Server) -> None:
    list(stream(server.url, columns=["images"], rank=3, world_size=ROWS))
    (line,) = [line for batch in index_of(out) for line in batch.to_pylist()][3:4]
    _, request = (one for one in server.requests if one.path.endswith(".tar"))
    stop = line["image_offsets"][-1] + line["image_sizes"][-1] - 1
    assert request.headers["Range"] == f"bytes={line['image_offsets'][0]}-{stop}"


def test_what_waits_in_memory_is_bounded(
    out: Path, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_blocks, "_BLOCK_BYTES", 4000)
    asked = 0
    real = _blocks.RemoteFolder._piece

    def counted(self: Any, name: str, start: int, stop: int) -> bytes:
        nonlocal asked
        asked += name.endswith(".tar")
        return real(self, name, start, stop)

    monkeypatch.setattr(_blocks.RemoteFolder, "_piece", counted)
    rows = iter(stream(memory, threads=2))
    next(rows)
    assert asked <= 4
    rows.close()  # type: ignore[attr-defined]  # it is a generator


def test_blocks_join_neighbours_only() -> None:
    ranges = [
        Range(0, 0, 10),
        Range(0, 10, 20),
        Range(0, 20 + _blocks._GAP_BYTES, 10**6),
        Range(0, 2 * 10**6, 3 * 10**6),
        Range(1, 3 * 10**6, 3 * 10**6 + 5),
        Range(1, 0, 5),
    ]
    assert [len(block) for block in _blocks._blocks(iter(ranges))] == [3, 1, 1, 1]


@pytest.mark.parametrize("fault", ["500", "503", "429", "reset", "reset-at-once", "short"])
def test_a_server_that_fails_is_no_bad_row(server: Server, fault: str) -> None:
    server.script = [""] * 4 + [fault] * 100  # the manifest and the index come
    one = stream(server.url, bad_rows="skip")
    with pytest.raises(ServiceError, match="failed"):
        list(one)
    assert one.bad.total == 0


def test_a_server_that_fails_later_stops_the_stream_where_it_is(out: Path, server: Server) -> None:
    whole = [row["id"] for row in stream(out)]
    one = stream(server.url, bad_rows="skip", columns=["id"], threads=1)
    given = [row["id"] for row in itertools.islice(one, 1)]
    server.forever = "500"
    with pytest.raises(ServiceError):
        given.extend(row["id"] for row in one)
    assert one.bad.total == 0 and one.state_dict()["position"] == len(given)
    server.forever = ""
    given += [row["id"] for row in one]
    assert given == whole


def test_a_server_without_ranges_is_told(server: Server) -> None:
    server.ranges = False
    with pytest.raises(ServiceError):
        list(stream(server.url, columns=["id"], rank=5, world_size=ROWS))


def test_a_shard_that_is_not_there_is_a_bad_row(out: Path, server: Server) -> None:
    shard = manifest_of(out).shards[1]
    del server.files[f"/{shard.name}"]
    one = stream(server.url, bad_rows="skip")
    assert len(list(one)) == ROWS - shard.rows
    assert one.bad.counts == {"missing_shard": shard.rows}
    with pytest.raises(IntegrityError, match=shard.name):
        list(stream(server.url))


def test_what_is_no_export_is_told(server: Server) -> None:
    with pytest.raises(MissingInputError, match="manifest"):
        stream(f"{server.url}/nowhere")
    with pytest.raises(MissingInputError):
        stream("memory://nowhere-at-all")
    with pytest.raises(MissingInputError, match="nosuchprotocol"):
        stream("nosuchprotocol://bucket/shards")
    server.files["/vision_ift/index.arrow"] = b"short"
    with pytest.raises(IntegrityError):
        list(stream(server.url))


def test_file_urls_are_folders(out: Path) -> None:
    one = stream(f"file://{out}")
    assert one.state_dict()["order"] == "rows"
    assert list(one) == list(stream(out))


def test_an_index_that_the_manifest_does_not_name_is_refused(out: Path, server: Server) -> None:
    data = bytearray(server.files["/vision_ift/index.arrow"])
    place = data.rindex((512).to_bytes(8, "little"))  # an offset, and a sound one would remain
    data[place + 1] ^= 4
    server.files["/vision_ift/index.arrow"] = bytes(data)
    with pytest.raises(IntegrityError, match=r"index.arrow has the digest"):
        next(iter(stream(server.url)))


def test_a_process_of_this_machine_takes_the_index_over(out: Path, server: Server) -> None:
    first = stream(server.url)
    rows = list(itertools.islice(first, 3))
    fetched = len(server.gets("/vision_ift/index.arrow"))
    sent = pickle.dumps(first)
    again = pickle.loads(sent)
    assert rows + list(again) == list(stream(out))
    assert len(server.gets("/vision_ift/index.arrow")) == fetched
    # The process that fetched it is gone: it is fetched again.
    handed = first._source.handed  # type: ignore[union-attr]  # it reads an export
    assert handed is not None
    gone = _blocks.RemoteFolder(server.url, handed._replace(process=2**30))
    assert gone.index("vision_ift/index.arrow", handed.digest).size == handed.size
    # Something else is behind that number by then: it is fetched again.
    other = _blocks.RemoteFolder(server.url, handed._replace(digest="0" * 32))
    assert other.index("vision_ift/index.arrow", handed.digest).size == handed.size
    assert len(server.gets("/vision_ift/index.arrow")) >= fetched + 2
