"""Zips on a web server: by range requests, or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO

import datasets
import fsspec
import huggingface_hub
import pytest
from PIL import Image

from tests.archives import Entry, zipped
from tests.faults import Request, Server, serving
from vision_ift._archives import ranges as _ranges
from vision_ift._archives.archive import _opened, archive_of
from vision_ift._errors import (
    MissingInputError,
    RecordError,
    RefusedError,
    ServiceError,
    UsageError,
)
from vision_ift._pictures.images import Images, absolute

PICTURE = b"\xff\xd8\xff" + bytes(range(256)) * 40
DATA = zipped(
    Entry(name=b"dir/a.jpg", data=PICTURE),
    Entry(name="日 b.jpg".encode(), data=b"b" * 5000, method=8),
    Entry(name=b"c.jpg", data=b"c" * 9, local_extra=b"\0" * 4 + b"\xff\xff" + bytes(1000)),
)

FIRST = {"Content-Range": f"bytes 0-0/{len(DATA)}"}
Answer = tuple[int, dict[str, str], bytes]


class Remote:
    """One zip on a loopback server; ``faults`` are given before true answers."""

    def __init__(self, server: Server) -> None:
        self.url = f"{server.url}/x.zip"
        self.data = DATA
        self.faults: list[Answer] = []
        self.honest = True
        self.requests = server.requests
        server.pages = self.page

    def page(self, request: Request) -> Answer | None:
        if self.faults:
            return self.faults.pop(0)
        if request.path != "/x.zip":
            return None
        if not self.honest:
            return 200, {}, self.data
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers["Range"])
        assert asked is not None
        body = self.data[int(asked[1]) : int(asked[2]) + 1]
        place = f"bytes {asked[1]}-{int(asked[1]) + len(body) - 1}/{len(self.data)}"
        return 206, {"Content-Range": place}, body


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    monkeypatch.setattr(_ranges, "_FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with serving() as running:
        yield Remote(running)
        huggingface_hub.close_session()
    _opened.cache_clear()


def test_a_member_is_one_request_once_the_directory_is_known(server: Remote) -> None:
    archive = archive_of(server.url)
    assert list(archive) == ["dir/a.jpg", "日 b.jpg", "c.jpg"]
    opening = len(server.requests)
    assert opening <= 3
    assert archive_of(server.url).read("dir/a.jpg") == PICTURE
    assert archive.read("日 b.jpg") == b"b" * 5000
    assert len(server.requests) == opening + 2
    # The bytes of this one stand farther behind its header than is guessed.
    assert archive.read("c.jpg") == b"c" * 9
    assert len(server.requests) == opening + 4


@pytest.mark.parametrize("query", ["", "?download=true&x=a.tar"])
def test_a_reference_survives_fsspec_and_datasets(server: Remote, query: str) -> None:
    out = BytesIO()
    Image.new("RGB", (4, 3), "red").save(out, "PNG")
    server.data = zipped(Entry(name="日 a::b.png".encode(), data=out.getvalue()))
    images = Images("nowhere")
    reference = images.find("日 a::b.png", folders=("none.zip", f"{server.url}{query}!/"))
    assert reference == f"vift://{server.url}{query}!/%E6%97%A5%20a%3A%3Ab.png"
    assert images.read(reference) == out.getvalue()
    assert images.size(reference) == len(out.getvalue())
    assert absolute(reference, "/root") == reference
    with fsspec.open(reference) as file:
        assert file.read() == out.getvalue()
    rows = datasets.Dataset.from_dict({"image": [{"path": reference, "bytes": None}]})
    decoded = rows.cast_column("image", datasets.Image())[0]["image"]
    assert decoded.size == (4, 3)


def test_a_server_that_ignores_ranges_is_refused_and_sends_no_archive(server: Remote) -> None:
    server.honest = False
    server.data = DATA + bytes(50_000_000)
    with pytest.raises(ServiceError, match="ignores range requests"):
        archive_of(server.url)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "fault",
    [
        (503, {}, b"away"),
        (429, {"Retry-After": "0"}, b"slower"),
        (206, {"Content-Range": f"bytes 0-0/{len(DATA)}"}, b""),
        (
            206,
            {
                "Content-Range": f"bytes 0-0/{len(DATA)}",
                "Content-Length": "9",
                "Connection": "close",
            },
            b"",
        ),
    ],
    ids=["503", "429", "no bytes", "short body"],
)
def test_a_fault_is_tried_again_and_tries_are_bounded(server: Remote, fault: Answer) -> None:
    server.faults = [fault] * 3
    assert archive_of(server.url).read("dir/a.jpg") == PICTURE
    _opened.cache_clear()
    server.requests.clear()
    server.faults = [fault] * 99
    with pytest.raises(ServiceError, match="try again later"):
        archive_of(server.url)
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ((404, {}, b""), MissingInputError, "is not there"),
        ((403, {}, b""), ServiceError, "HF_TOKEN"),
        ((429, {"Retry-After": "3600"}, b""), ServiceError, "asks to wait 3,600 s"),
        ((206, {"Content-Range": "bytes 5-5/9"}, b"x"), ServiceError, "status 206"),
        ((206, {}, b"x"), ServiceError, "status 206"),
        ((416, {}, b""), RecordError, "is empty"),
    ],
    ids=["404", "403", "long wait", "other range", "no range", "empty"],
)
def test_what_is_not_tried_again(
    server: Remote, fault: Answer, error: type[Exception], words: str
) -> None:
    server.faults = [fault]
    with pytest.raises(error, match=words):
        archive_of(server.url)
    assert len(server.requests) == 1


def test_a_file_that_changes_is_noticed(server: Remote) -> None:
    archive = archive_of(server.url)
    server.data = DATA + b"more"
    with pytest.raises(ServiceError, match="changed while it was read"):
        archive.read("dir/a.jpg")


def test_a_damaged_answer_is_noticed(server: Remote) -> None:
    archive = archive_of(server.url)
    server.data = DATA.replace(PICTURE, bytes(len(PICTURE)))
    with pytest.raises(RecordError, match="damaged"):
        archive.read("dir/a.jpg")


def test_the_token_goes_to_the_hub_alone(server: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "canary")
    archive_of(server.url)
    assert not any("authorization" in map(str.lower, one.headers) for one in server.requests)
    _opened.cache_clear()
    hub = server.url.rpartition("/")[0]
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub)
    archive_of(server.url)
    sent = {name.lower(): value for name, value in server.requests[-1].headers.items()}
    assert sent["authorization"] == "Bearer canary"
    _opened.cache_clear()
    seen = len(server.requests)
    server.faults = [(302, {"Location": server.url}, b"")]
    archive_of(server.url)
    with serving() as other:
        server.faults = [(302, {"Location": f"{other.url}/x.zip"}, b"")]
        _opened.cache_clear()
        with pytest.raises(MissingInputError):
            archive_of(server.url)
        assert not any("authorization" in map(str.lower, one.headers) for one in other.requests)
    for target in ("http://example.org/x.zip", "file:///etc/passwd", "ftp://127.0.0.1/x.zip"):
        server.faults = [(302, {"Location": target}, b"")]
        with pytest.raises(RefusedError, match="no https"):
            archive_of(server.url)
    assert len(server.requests) > seen
    server.faults = [(302, {"Location": "/x.zip"}, b"")] * 6
    with pytest.raises(ServiceError, match="more than 5 times"):
        archive_of(server.url)


def test_no_secret_of_a_url_is_shown(server: Remote) -> None:
    url = server.url.replace("://", "://me:canary@") + "?signature=canary"
    archive = archive_of(url)
    server.data = DATA.replace(PICTURE, bytes(len(PICTURE)))
    faults: list[list[Answer]] = [[], [(403, {}, b"")], [(503, {}, b"")] * 9]
    for server.faults in faults:
        with pytest.raises((RecordError, ServiceError)) as caught:
            archive.read("dir/a.jpg")
        assert "canary" not in str(caught.value)
        assert "x.zip" in str(caught.value)


@pytest.mark.parametrize("name", ["x.tar", "x.parquet", "x.tar.gz"])
def test_other_kinds_are_not_read_over_http(server: Remote, name: str) -> None:
    with pytest.raises(RecordError, match=r"not read in place|only zip files are read over HTTP"):
        archive_of(server.url.replace("x.zip", name))
    assert not server.requests


def test_nothing_is_asked_for_when_the_hub_is_offline(
    server: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ServiceError, match="HF_HUB_OFFLINE"):
        archive_of(server.url)
    assert not server.requests


def test_a_server_that_is_away(server: Remote) -> None:
    with serving() as gone:
        url = f"{gone.url}/x.zip"
    with pytest.raises(ServiceError, match="does not give a range"):
        archive_of(url)


@pytest.mark.parametrize(
    "url", ["http://h:x/a.zip", "http:///a.zip", "http://h/a b.zip", "http://h/\n"]
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(UsageError, match="is no URL"):
        _ranges.RemoteFile(url)
