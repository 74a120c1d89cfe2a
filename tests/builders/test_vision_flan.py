"""Vision-Flan: both releases, the order of the look-up, marks, and what is left out by rule."""

from __future__ import annotations

import importlib
import json
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.archives import Entry, unicode_path, zipped
from tests.builders.test_every_builder import plain, rows_of
from vision_ift._archives.archive import archive_of, quote_member
from vision_ift._build import build
from vision_ift._builder import Batch, Dropped
from vision_ift._conversation import SCHEMA
from vision_ift._errors import MissingInputError, RecordError, UsageError
from vision_ift._pictures.images import Images, absolute
from vision_ift._registry import find

tasks_of = importlib.import_module("vision_ift.builders._vision_flan_tasks")
marks_of = importlib.import_module("vision_ift.builders._vision_flan_marks")

FIXTURES = Path(__file__).parents[1] / "fixtures" / "vision_flan"
FIXTURE = FIXTURES / "root"
FULL = FIXTURES / "full"
ARCHIVE = "vision_flan/image_191-task_1k.zip"
BROKEN = "vision_flan/shard_07/raw_dataset/Multi-Modal_CelebA-HQ.zip"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the fixture's root, to change."""
    return Path(shutil.copytree(FIXTURE, tmp_path / "root"))


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A copy of the full release, to change."""
    return Path(shutil.copytree(FULL, tmp_path / "full"))


def references(root: Path, **options: Any) -> list[str]:
    batches = list(find("vision_flan").batches(root, **options))
    return [
        image["path"]
        for batch in batches
        for images in batch.rows.column("images").to_pylist()
        for image in images
    ]


class Outcome:
    """All that a way of reading gives."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        found = list(batches)
        self.rows = pa.Table.from_batches([batch.rows for batch in found], SCHEMA).to_pylist()
        self.dropped: list[Dropped] = [one for batch in found for one in batch.dropped]
        self.absent = [one for batch in found for one in batch.absent]

    @property
    def tasks(self) -> Counter[str]:
        return Counter(row["task"] for row in self.rows)

    @property
    def keys(self) -> list[tuple[str, str]]:
        return [(row["id"], row["messages"][1]["content"][0]["text"]) for row in self.rows]

    def counted(self, reason: str) -> dict[str, int]:
        return {one.record: one.count for one in self.dropped if one.reason == reason}


def both(root: Path, **options: Any) -> Outcome:
    """Read record by record and in vectors, and give the one result."""
    builder = find("vision_flan")
    quick = Outcome(builder.batches(root, **options))
    single = Outcome(builder.gather(builder.conversations(root, **options)))
    assert quick.rows == single.rows
    assert quick.dropped == single.dropped
    assert quick.absent == single.absent
    return quick


def record(name: str, task: str, image: str, answer: str = "Yes.", **more: Any) -> dict[str, Any]:
    talk = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": answer}]
    return {"id": name, "image": image, "task_name": task, **more, "conversations": talk}


def write(root: Path, records: list[dict[str, Any]]) -> Path:
    path = root / "vision_flan/annotation_191-task_1k.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(records), "utf-8")
    return root


def drawn(root: Path, tasks: int, each: int) -> Path:
    """So many tasks with so many records; every second id of a task is the same."""
    names = [f"task{task}_{row}.jpg" for task in range(tasks) for row in range(each)]
    records = [
        record(f"vision-flan_d+t{task}+{row // 2}", f"d+t{task}", f"task{task}_{row}.jpg", f"{row}")
        for row in range(each)
        for task in range(tasks)
    ]
    write(root, records)
    folder = root / "vision_flan/images_191task_1k"
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    return root


# Where pictures are found.


def test_unpacked_pictures_do_as_well_as_the_archive(root: Path) -> None:
    packed = [reference.rpartition("/")[2] for reference in references(root)]
    with zipfile.ZipFile(root / ARCHIVE) as archive:
        archive.extractall(root / "vision_flan")
    (root / ARCHIVE).unlink()
    unpacked = references(root)
    # What lies deeper is found in the archive alone.
    assert len(unpacked) == len(packed) - 1
    assert "vision_flan/images_191task_1k/#U91d1_2.JPEG" in unpacked


def test_a_name_that_two_files_have_is_not_guessed(root: Path) -> None:
    with zipfile.ZipFile(root / ARCHIVE, "a") as archive:
        archive.writestr("images_191task_1k/elsewhere/only.jpg", b"x")
    dropped = [one for batch in find("vision_flan").batches(root) for one in batch.dropped]
    assert "vision-flan_B+two+2" in [one.record for one in dropped]


def test_metadata_json_is_the_same_list(root: Path, tmp_path: Path) -> None:
    wanted = build("vision_flan", root=root, out=tmp_path / "one")
    file = root / "vision_flan/annotation_191-task_1k.json"
    shutil.copy(file, root / "vision_flan/metadata.json")
    assert build("vision_flan", root=root, out=tmp_path / "both").digest == wanted.digest
    file.unlink()
    assert build("vision_flan", root=root, out=tmp_path / "other").digest == wanted.digest


def test_the_archive_under_its_older_name(root: Path) -> None:
    wanted = references(root)
    (root / ARCHIVE).rename(root / "vision_flan/images_191task_1k.zip")
    older = [
        one.replace("images_191task_1k.zip", "image_191-task_1k.zip") for one in references(root)
    ]
    assert older == wanted


def test_the_empty_answer_is_counted(root: Path, tmp_path: Path) -> None:
    report = build("vision_flan", root=root, out=tmp_path / "table").report
    records = json.loads((root / "vision_flan/annotation_191-task_1k.json").read_text("utf-8"))
    assert report.dropped == {"empty_turn": 1, "missing_image": 1}
    assert report.rows + 2 == len(records)


def test_an_archive_elsewhere_under_root_and_outside(root: Path, tmp_path: Path) -> None:
    wanted = references(root)
    (root / "other").mkdir()
    (root / ARCHIVE).rename(root / "other/p.zip")
    assert references(root, archive="other/p.zip") == [
        one.replace(ARCHIVE, "other/p.zip") for one in wanted
    ]
    outside = (root / "other/p.zip").rename(tmp_path / "p.zip")
    found = references(root, archive=str(outside))
    assert found == [one.replace(ARCHIVE, str(outside)) for one in wanted]
    assert all(Images(root).read(one) for one in found)
    with pytest.raises(MissingInputError, match="no file"):
        find("vision_flan").inputs(root, archive="gone.zip")
    with pytest.raises(UsageError, match="hundred archives"):
        list(find("vision_flan").batches(root, release="full", archive=str(outside)))


def test_a_broken_archive_alone_is_an_error_and_beside_the_folder_is_named(root: Path) -> None:
    with zipfile.ZipFile(root / ARCHIVE) as archive:
        archive.extractall(root / "vision_flan")
    data = (root / ARCHIVE).read_bytes()
    (root / ARCHIVE).write_bytes(data[: len(data) // 2])
    outcome = both(root)
    assert len(outcome.rows) == 8
    ((absent),) = outcome.absent
    assert absent.wanted == (ARCHIVE,)
    assert "cut off" in absent.name
    assert str(root) not in absent.name
    shutil.rmtree(root / "vision_flan/images_191task_1k")
    with pytest.raises(RecordError, match="cut off"):
        both(root)


# The full release.


def test_the_full_release_makes_the_expected_rows(tmp_path: Path) -> None:
    expected = (FIXTURES / "expected_full.jsonl").read_text("utf-8").splitlines()
    table = build("vision_flan", root=FULL, out=tmp_path / "table", jobs=2)
    assert [plain(row) for row in rows_of(table)] == [json.loads(line) for line in expected]
    assert table.report.dropped == {"empty_turn": 1, "missing_image": 2}
    images = Images(FULL)
    assert all(images.read(row["images"][0]["path"]) for row in rows_of(table))
    both(FULL)


def test_one_broken_zip_of_a_hundred_is_named_and_the_build_goes_on() -> None:
    with pytest.raises(RecordError):
        archive_of(str(FULL / BROKEN))
    outcome = both(FULL)
    assert [one.wanted for one in outcome.absent] == [(BROKEN,)]
    assert len(outcome.rows) == 10


def test_unpacked_archives_do_as_well(full: Path) -> None:
    wanted = both(full)
    for path in sorted(full.glob("vision_flan/shard_0[1-4]/**/*.zip")):
        with zipfile.ZipFile(path) as archive:
            folder = path.parent if path.stem == "iconqa" else path.with_suffix("")
            archive.extractall(folder)
        path.unlink()
    found = both(full)
    gone = set(wanted.keys) - set(found.keys)
    # Of its name there are two, and no archive's name stands in the path of a folder.
    assert gone == {("vision_flan/vision-flan_iconqa+choose_txt+1", "(a) red")}
    assert not any("vift://" in row["images"][0]["path"] for row in found.rows)


def test_a_name_in_two_archives_is_taken_from_the_one_that_the_path_names(full: Path) -> None:
    answers = {row["image_paths"][0]: row["images"][0]["path"] for row in both(full).rows}
    assert "twice.jpg" not in answers
    assert "iconqa.zip" in answers["iconqa/sampled/choose_1.png"]
    bare = json.loads((full / "vision_flan/vision_flan.json").read_text("utf-8"))
    bare[3]["image"] = "choose_1.png"
    (full / "vision_flan/vision_flan.json").write_text(json.dumps(bare), "utf-8")
    assert both(full).counted("missing_image").keys() >= {bare[3]["id"]}


def test_the_191_tasks_come_first_and_either_release_can_be_named(root: Path, full: Path) -> None:
    shutil.copytree(full / "vision_flan", root / "vision_flan", dirs_exist_ok=True)
    shown = {
        release: {json.loads(row["meta"])["release"] for row in both(root, **options).rows}
        for release, options in (
            ("auto", {}),
            ("191", {"release": "191"}),
            ("full", {"release": "full"}),
        )
    }
    assert shown == {"auto": {"191"}, "191": {"191"}, "full": {"full"}}
    builder = find("vision_flan")
    names = {path.name for path in builder.inputs(root)}
    assert "vision_flan.json" not in names
    assert {"vision_flan.json", "coco.zip"} <= {
        path.name for path in builder.inputs(root, release="full")
    }
    assert both(full, release="191").absent[0].name == "annotations"


paths = st.lists(
    st.sampled_from(["a", "b", "coco", "coco.zip", "x.jpg", "#U91d1.jpg", "金.jpg", "é y.jpg"]),
    min_size=1,
    max_size=4,
).map("/".join)


@given(
    members=st.lists(st.tuples(st.sampled_from(["coco", "b", "deep/a"]), paths), max_size=12),
    wanted=st.lists(paths, min_size=1, max_size=8),
)
def test_the_index_finds_what_a_plain_search_finds(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, str]], wanted: list[str]
) -> None:
    pool_of = importlib.import_module("vision_ift.builders._zip_pool")
    meant = importlib.import_module("vision_ift.builders._pictures")._plain
    root = tmp_path_factory.mktemp("pool")
    held: dict[str, list[str]] = {}
    for stem, member in dict.fromkeys(members):
        held.setdefault(f"{stem}.zip", []).append(member)
    for archive, names in held.items():
        (root / archive).parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(root / archive, "w") as file:
            for name in names:
                file.writestr(name, b"x")
    archives = tuple(sorted(held))
    pool = pool_of.ZipPool(root, archives, meant)
    for path in map(meant, wanted):
        parts = path.split("/")
        everything = [(archive, name) for archive in archives for name in held[archive]]
        named = [archive for archive in archives if _stands_in(archive, parts[:-1])]
        exact = [
            (archive, name)
            for archive, name in everything
            if archive in named and _is_meant(meant(name), Path(archive).stem, parts)
        ]
        bare = [one for one in everything if meant(one[1]).rpartition("/")[2] == parts[-1]]
        near = [one for one in bare if one[0] in named]
        found = pool.find(path)
        if exact:
            assert found in exact
        elif len(near) == 1:
            assert found == near[0]
        else:
            assert found == (bare[0] if len(bare) == 1 else None)


def _stands_in(archive: str, folders: list[str]) -> bool:
    return Path(archive).stem in [folder.removesuffix(".zip") for folder in folders]


def _is_meant(member: str, stem: str, parts: list[str]) -> bool:
    starts = [place for place, part in enumerate(parts[:-1]) if part.removesuffix(".zip") == stem]
    tails = {"/".join(parts[start:]) for place in starts for start in (place, place + 1, 0)}
    return member in tails


signs = st.text("ab /.+%é金:\\\n\0", min_size=1, max_size=8) | st.text(min_size=1, max_size=12)
entries = st.builds(
    lambda name, system, utf8, mode, other: Entry(
        name=name,
        system=system,
        flags=utf8 * 0x800,
        mode=mode,
        extra=unicode_path(name, other) if other else b"",
    ),
    name=signs.map(lambda name: name.encode("utf-8", "replace"))
    | st.binary(min_size=1, max_size=4),
    system=st.sampled_from([0, 3, 19]),
    utf8=st.booleans(),
    mode=st.sampled_from([0, 0o100644, 0o120777, 0o040755]),
    other=st.none() | st.sampled_from(["other.jpg", "a/b.jpg"]),
)


@given(st.lists(entries, max_size=6))
def test_the_names_in_a_directory_are_those_that_can_be_read(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry]
) -> None:
    names_of = importlib.import_module("vision_ift.builders._zip_names")
    path = tmp_path_factory.mktemp("names") / "a.zip"
    path.write_bytes(zipped(Entry(name=b"always.jpg"), *entries))
    names_read = [name for block in names_of.members(path) for name in block.names]
    assert set(names_read) == set(archive_of(str(path)))
    pictures = importlib.import_module("vision_ift.builders._pictures")
    found = pictures.Pictures(pictures.Places(str(path.parent), ("a.zip",)))
    for name in names_read:
        folder, _, bare = name.rpartition("/")
        if pictures._safe_name(bare):
            assert found._listed("a.zip")[folder][bare] == quote_member(bare)


# Marks.


drawn_records = st.builds(
    record,
    st.sampled_from(
        [
            "vision-flan_A+b+1",
            "multiinstruct_ok_vqa_['train', 'val']_7",
            "multiinstruct_GQA_['train']_7",
            "multiinstruct_VQAv2_['test']_1",
            "multiinstruct_x",
            "#2",
        ]
    ),
    st.sampled_from(
        ["A+b", "ok_vqa", "coco+x", "Set5+image_recognition", "VisDA-2017+validation", 'q"\\é+1']
    ),
    st.sampled_from(
        [
            "a.jpg",
            "t_COCO_val2014_000000000042.jpg",
            "./task_imgs/t_COCO_train2014_000000000009.jpg",
            "000000000000.jpg",
            "VisualDialog_val2018_000000254080.jpg",
            "x_000000467037.jpeg",
        ]
    ),
)
extras = st.dictionaries(
    st.sampled_from(["model", "note", "origin", "coco_id"]), st.sampled_from(["x", ""]), max_size=2
)


@given(
    records=st.lists(st.builds(lambda one, more: one | more, drawn_records, extras), max_size=12),
    tasks=st.integers(0, 3),
    each=st.integers(0, 3),
    seed=st.integers(0, 2),
    drop=st.booleans(),
)
def test_both_ways_mark_and_leave_out_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[dict[str, Any]],
    tasks: int,
    each: int,
    seed: int,
    drop: bool,
) -> None:
    root = write(tmp_path_factory.getbasetemp() / "marks", records)
    options: dict[str, Any] = {"num_tasks": tasks, "per_task": each, "seed": seed}
    options |= {"missing_images": "keep", "eval_tasks": "drop" if drop else "keep"}
    outcome = both(root, **options)
    assert len(outcome.rows) + sum(one.count for one in outcome.dropped) == len(records)
    assert len(outcome.tasks) <= (tasks or 99)
    assert all(count <= (each or 99) for count in outcome.tasks.values())
    if drop:
        assert not any(json.loads(row["meta"])["eval_source"] for row in outcome.rows)


EVALUATION = [
    ("Set5+image_recognition", True),
    ("NOCAPS+image_caption", True),
    ("VisDA-2017+object_classification_validation", True),
    ("VisDA-2017+object_classification_train", False),
    ("ayahoo_test_images+animal_object_vehicle_image_classification", True),
    ("coco+image_classification_animal", False),
    ("image_text_selection", False),
]


@pytest.mark.parametrize(("task", "wanted"), EVALUATION)
def test_tasks_from_evaluation_sets_are_told(task: str, wanted: bool) -> None:
    assert tasks_of.is_evaluation(task) is wanted


COCO = [
    ("visdial+answer_question_2_404_COCO_train2014_000000315827.jpg", 315_827),
    ("./task_imgs/A-OKVQA+visual_question_answering_724_000000175438.jpg", 175_438),
    ("000000000009.jpg", 9),
    ("CrisisMMD+Informativeness_classification_122_910706371158466561_0.jpg", None),
    ("VisualDialog_val2018_000000254080.jpg", None),
    ("x_100000000009.jpg", None),
    ("x_000000000009.png", None),
]


@pytest.mark.parametrize(("path", "wanted"), COCO)
def test_the_coco_id_is_read_off_a_name(path: str, wanted: int | None) -> None:
    assert marks_of.coco_id_in(path) == wanted


def test_evaluation_tasks_are_left_out_and_counted(root: Path) -> None:
    kept, dropped = both(root), both(root, eval_tasks="drop")
    assert dropped.counted("eval_source") == {
        "task ImageNet-A+image_classification": 1,
        "task ok_vqa": 1,
    }
    marked = {row["id"] for row in kept.rows if json.loads(row["meta"])["eval_source"]}
    assert {row["id"] for row in kept.rows} - {row["id"] for row in dropped.rows} == marked


# Budgets.


def test_a_smaller_budget_lies_within_a_larger_one(tmp_path: Path) -> None:
    root = drawn(tmp_path, 8, 9)
    largest = set(both(root).keys)
    before: set[tuple[str, str]] = set()
    for tasks, each in ((2, 2), (2, 5), (5, 5), (8, 6), (0, 0)):
        outcome = both(root, num_tasks=tasks, per_task=each)
        taken = set(outcome.keys)
        assert before < taken <= largest
        assert outcome.tasks == Counter(dict.fromkeys(outcome.tasks, each or 9))
        assert len(outcome.tasks) == (tasks or 8)
        assert len(taken) + sum(outcome.counted("over_budget").values()) == 72
        before = taken
    other = both(root, num_tasks=2, per_task=2, seed=1)
    assert set(other.keys) != set(both(root, num_tasks=2, per_task=2).keys)


def test_rows_of_a_task_do_not_depend_on_its_neighbours(tmp_path: Path) -> None:
    many, one = drawn(tmp_path / "many", 5, 8), drawn(tmp_path / "one", 1, 8)
    alone = both(one, per_task=3).keys
    assert alone == [key for key in both(many, per_task=3).keys if "+t0+" in key[0]]
    assert [answer for _, answer in alone] != ["0", "1", "2"]  # not simply the first


def test_a_budget_is_spent_on_rows_that_can_be_built(tmp_path: Path) -> None:
    root = drawn(tmp_path, 2, 6)
    first = both(root, per_task=2).rows[0]
    (root / first["images"][0]["path"]).unlink()
    assert set(both(root, per_task=2).tasks.values()) == {2}


def test_a_budget_is_no_broken_rule(tmp_path: Path) -> None:
    root = drawn(tmp_path, 2, 6)
    options = {"per_task": "2", "num_tasks": "1"}
    table = build("vision_flan", root=root, out=tmp_path / "table", options=options, strict=True)
    assert table.report.dropped == {"over_budget": 10}
    with pytest.raises(UsageError, match="num_tasks=-1"):
        list(find("vision_flan").batches(root, num_tasks=-1))


# Pictures over HTTP.


@contextmanager
def served(data: bytes) -> Iterator[tuple[str, list[str]]]:
    """Serve one file with range requests; give its address and the ranges asked for."""
    asked: list[str] = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["Range"])
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            piece = data[int(first) : int(last) + 1]
            self.send_response(206)
            self.send_header(
                "Content-Range", f"bytes {first}-{int(first) + len(piece) - 1}/{len(data)}"
            )
            self.send_header("Content-Length", str(len(piece)))
            self.end_headers()
            self.wfile.write(piece)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/image_191-task_1k.zip", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def test_pictures_are_taken_from_an_archive_on_a_server(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    wanted = references(root)
    pictures = [Images(root).read(one) for one in wanted]
    data = (root / ARCHIVE).read_bytes()
    (root / ARCHIVE).unlink()
    with served(data) as (url, asked):
        found = references(root, archive=url)
        assert found == [one.replace(ARCHIVE, url) for one in wanted]
        built = len(asked)
        assert built <= 4  # the directory alone
        assert [Images(root).read(one) for one in found] == pictures
        assert len(asked) == built + len(found)
        opened = fsspec.open(absolute(found[0], str(root)))
        with opened as file:
            assert file.read() == pictures[0]


def test_a_folder_name_that_no_disk_takes_is_nowhere(full: Path) -> None:
    file = full / "vision_flan/vision_flan.json"
    records = json.loads(file.read_text("utf-8"))
    records[0]["image"] = "x" * 300 + "/a.jpg"
    file.write_text(json.dumps(records), "utf-8")
    dropped = [one.reason for one in both(full).dropped]
    assert "missing_image" in dropped
