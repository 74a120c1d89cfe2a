"""MMInstruct: layouts, domains, the language of each row, and the kinds of its rounds."""

from __future__ import annotations

import importlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_ift._build import build
from vision_ift._builder import Absent
from vision_ift._errors import UsageError
from vision_ift._registry import find

FIXTURE = Path(__file__).parents[1] / "fixtures" / "mminstruct" / "root"

types = importlib.import_module("vision_ift.builders._mminstruct_types")
type_of: Callable[[str, str], str] = types.type_of
languages_of: Callable[[list[str]], tuple[str, ...]] = types.languages_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the fixture's root, to change."""
    return Path(shutil.copytree(FIXTURE, tmp_path / "root"))


def rows(root: Path, **options: Any) -> list[dict[str, Any]]:
    """The rows, which are the same by both ways."""
    builder = find("mminstruct")
    found = [row for batch in builder.batches(root, **options) for row in batch.rows.to_pylist()]
    single = builder.gather(builder.conversations(root, **options))
    assert found == [row for batch in single for row in batch.rows.to_pylist()]
    return found


def absent(root: Path, **options: Any) -> list[str]:
    found = find("mminstruct").conversations(root, **options)
    return [one.name for one in found if isinstance(one, Absent)]


def write(path: Path, *records: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in records), "utf-8")


def record(*turns: str, image: str | None = None, **more: Any) -> dict[str, Any]:
    said = [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(turns)]
    return {**({"image": image} if image else {}), "conversations": said, **more}


def config_of(row: dict[str, Any]) -> str:
    return str(json.loads(row["meta"])["config"])


def test_subsets_part_the_rows() -> None:
    everything = rows(FIXTURE)
    captions, questions = rows(FIXTURE, subset="captions"), rows(FIXTURE, subset="qa")
    assert {config_of(row) for row in captions} == {"caption_cn", "caption_en"}
    assert {config_of(row) for row in questions} == {"qa_en"}
    assert len(captions) + len(questions) == len(everything)
    assert rows(FIXTURE, subset="caption_en") == [
        row for row in captions if config_of(row) == "caption_en"
    ]


def test_both_folders_count_every_row_once(root: Path) -> None:
    both = rows(root)
    naive = sum(
        len(path.read_text("utf-8").splitlines()) for path in root.rglob("mminstruct/**/*.jsonl")
    )
    assert naive > 1.5 * len(both)
    shutil.rmtree(root / "mminstruct/jsons_per_domain")
    assert [row["id"] for row in rows(root)] == [row["id"] for row in both]


def test_copies_by_domain_are_read_where_only_they_are_there(root: Path) -> None:
    def plain(row: dict[str, Any]) -> tuple[str, ...]:
        return (json.dumps(row["messages"]), row["language"], row["meta"], str(row["task"]))

    everything = {plain(row) for row in rows(root) if row["task"]}
    assert {plain(row) for row in rows(root, layout="per_domain")} == everything
    shutil.rmtree(root / "mminstruct/jsons_all")
    assert {plain(row) for row in rows(root)} == everything
    names = absent(root)
    assert names[0] == "jsons_all (its copies by domain are read)"
    assert "qa_en: 20 of 23 domains" in names
    assert "caption_en: 19 of 20 domains" in names


def test_only_the_folder_that_is_read_decides(root: Path) -> None:
    # jsons_all has no captions here, jsons_per_domain has: not a bit of each is read.
    for name in ("caption_en", "caption_cn"):
        (root / f"mminstruct/jsons_all/{name}.jsonl").unlink()
    assert {config_of(row) for row in rows(root)} == {"qa_en"}
    assert absent(root)[:2] == ["caption_cn", "caption_en"]
    assert {config_of(row) for row in rows(root, subset="captions")} == {"caption_cn", "caption_en"}


def test_a_list_is_the_same_as_lines(root: Path, tmp_path: Path) -> None:
    file = root / "mminstruct/jsons_all/caption_en.jsonl"
    wanted = rows(root, subset="caption_en")
    records = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    file.write_text(json.dumps(records), "utf-8")
    assert rows(root, subset="caption_en") == wanted
    file.rename(file.with_suffix(".json"))
    assert rows(root, subset="caption_en") == wanted


def test_the_names_of_the_caption_files_decide_no_language(root: Path) -> None:
    # The release's README swaps them.
    folder = root / "mminstruct/jsons_all"
    before = {row["id"]: row["language"] for row in rows(root, subset="captions")}
    (folder / "caption_en.jsonl").rename(folder / "x")
    (folder / "caption_cn.jsonl").rename(folder / "caption_en.jsonl")
    (folder / "x").rename(folder / "caption_cn.jsonl")
    assert {row["id"]: row["language"] for row in rows(root, subset="captions")} == before
    assert before["mminstruct/c4"] == "zh"


@pytest.mark.parametrize(
    ("found", "copy"),
    [
        ("same record", record("Say it.", "So.", id="1")),
        ("id", record("Say something else.", "So.", id="1")),
        ("picture", record("<image>Other", "So.", image="ocr.png", id="other")),
        ("first question", record("<image>\nWhat now?", "Other.", id="other")),
    ],
)
def test_a_row_without_a_domain_is_found_among_the_copies(
    root: Path, found: str, copy: dict[str, Any]
) -> None:
    shutil.rmtree(root / "mminstruct/jsons_per_domain")
    shutil.copy(
        root / "mminstruct/images/ocr/0002/00000002.png", root / "mminstruct/images/ocr.png"
    )
    own = {
        "same record": record("Say it.", "So.", id="1"),
        "id": record("Say it.", "So.", id="1"),
        "picture": record("<image>Say it.", "So.", image="ocr.png", id="1"),
        "first question": record("<image>What now?", "So.", image="ocr.png", id="1"),
    }[found]
    write(root / "mminstruct/jsons_all/qa_en.jsonl", own)
    assert [row["task"] for row in rows(root, subset="qa")] == [None]
    assert absent(root, subset="qa") == ["domain of 1 row"]
    folder = root / "mminstruct/jsons_per_domain/qa_per_domain"
    write(folder / "posters_en.jsonl", copy, record("Unrelated", "yes", id="7"))
    assert [row["task"] for row in rows(root, subset="qa")] == ["posters"]
    assert absent(root, subset="qa") == []
    # The same key under another domain as well decides nothing.
    write(folder / "meme_comprehension_en.jsonl", copy)
    assert [row["task"] for row in rows(root, subset="qa")] == [None]


def test_a_copy_may_be_listed_under_another_domain_than_its_picture(root: Path) -> None:
    shutil.rmtree(root / "mminstruct/jsons_all")
    picture = "artwork/0001/00000001.jpg"
    write(
        root / "mminstruct/jsons_per_domain/qa_per_domain/posters_en.jsonl",
        record("<image>\nWho?", "Nobody.", image=picture),
    )
    (row,) = [row for row in rows(root, subset="qa") if "posters" in row["id"]]
    assert (row["task"], json.loads(row["meta"])["listed_under"]) == ("artwork", "posters")


def test_a_domain_that_only_the_copies_know_is_one(root: Path) -> None:
    write(root / "mminstruct/jsons_per_domain/qa_per_domain/misc_en.jsonl", record("?", "!"))
    assert rows(root)[-1]["task"] == "misc"


@pytest.mark.parametrize("top", ["", "images/", "MMInstruct/images/"])
def test_the_archive_may_have_a_top_folder(root: Path, top: str) -> None:
    path = root / "mminstruct/images.zip"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(top + name, data)
    shown = {image["path"] for row in rows(root) for image in row["images"]}
    assert f"vift://mminstruct/images.zip!/{top}artwork/0001/00000001.jpg" in shown


@pytest.mark.parametrize("place", ["images", ".", "images/images"])
def test_the_archive_may_be_unpacked(root: Path, place: str) -> None:
    wanted = len(rows(root))
    with zipfile.ZipFile(root / "mminstruct/images.zip") as archive:
        archive.extractall(root / "mminstruct" / place)
    (root / "mminstruct/images.zip").unlink()
    assert len(rows(root)) == wanted


def test_a_damaged_archive_drops_its_pictures_with_the_reason(root: Path) -> None:
    (root / "mminstruct/images.zip").write_bytes(b"PK\x03\x04 and no more")
    dropped = [one for batch in find("mminstruct").batches(root) for one in batch.dropped]
    assert {one.reason for one in dropped if one.record == "c1"} == {"bad_image"}


def test_inputs_are_those_of_the_subset(root: Path) -> None:
    def names(**options: Any) -> set[str]:
        found = find("mminstruct").inputs(root, **options)
        return {path.relative_to(root / "mminstruct").as_posix() for path in found}

    # Copies of any subset may tell a domain.
    assert "jsons_per_domain/caption_per_domain/artwork_en.jsonl" in names(subset="qa")
    assert not any("caption" in name for name in names(subset="qa", layout="per_domain"))
    assert {name for name in names(subset="qa") if name.startswith("jsons_all")} == {
        "jsons_all/qa_en.jsonl"
    }


def test_an_unknown_subset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="subset"):
        build("mminstruct", root=FIXTURE, out=tmp_path / "t", options={"subset": "everything"})


def test_bad_records_are_dropped_alone(root: Path) -> None:
    write(
        root / "mminstruct/jsons_all/qa_en.jsonl",
        record("<image>\nWho?", "\ud800", image="artwork/0001/00000001.jpg"),
        record("<image>\nWho?", "I.", image="../../etc/passwd"),
        record("<image>\nWho?", "I.", image="artwork/0001/00000001.jpg", images=["b.jpg"]),
        {"conversations": [{"from": "gpt", "value": "No question."}]},
        record("Fine?", "Yes."),
    )
    batches = list(find("mminstruct").batches(root, subset="qa"))
    dropped = [one.reason for batch in batches for one in batch.dropped]
    assert dropped == ["bad_text", "unsafe_path", "bad_record", "roles"]
    assert len(rows(root, subset="qa")) == 1


@pytest.mark.parametrize(
    ("kind", "question", "answer"),
    [
        ("multiple_choice", "Which?\nA. Yes\nB. No", "A"),
        ("multiple_choice", "Which? (A) a cat (B) a dog", "It is a dog."),
        ("multiple_choice", "哪一个？A、红色 B、蓝色", "A"),
        ("multiple_choice", "Which is it? Kindly select one of the given options.", "The dog."),
        ("multiple_choice", "Which of them?", "(C)"),
        ("judgement", "Is it red? Say 'Yes' or 'No'.", "It is."),
        ("judgement", "它是红色的吗？回答是或否。", "红"),
        ("judgement", "Is it red?", "Yes, it is red."),
        ("judgement", "它是红色的吗？", "不是，它是蓝色的。"),
        ("short", "Is it red?", "Not at all."),
        ("short", "What can be done?", "No one knows."),
        ("short", "What is A. Smith doing?", "A dance."),
        ("short", "Who wrote it, C. S. Lewis or H. G. Wells?", "Wells did."),
        ("short", "Describe the extensive garden.", "Green."),
        ("short", "What is it? Answer briefly.", "word " * 100),
        ("long", "What is it? Explain it in detail.", "A cat."),
        ("long", "What is it?", "word " * 21),
        ("short", "What is it?", "word " * 20),
        ("long", "这是什么？", "字" * 41),
        ("short", "这是什么？", "字" * 40),
        ("long", "Is it red?", "Yes, it is, and " + "word " * 20),
        ("long", "Does the in-depth report say yes?", "word " * 30),
    ],
)
def test_the_kind_of_a_round(kind: str, question: str, answer: str) -> None:
    assert type_of(f"<image>\n{question}", answer) == kind


@pytest.mark.parametrize(
    ("languages", "texts"),
    [
        (("en",), ["What is written there?", "It says 红 and 绿."]),
        (("zh",), ["图中写了什么？", "写着 OCR 和 KFC 两个词。"]),
        (("zh", "en"), ["Please describe the picture for me.", "这是一张照片，上面有一只猫。"]),
        (("en", "zh"), ["Please translate the words on this sign for me, all of them", "小心地滑"]),
        (("en",), ["Café ’", "naïve"]),
        (("en",), ["1 + 1", "2"]),
        (("en",), []),
    ],
)
def test_the_language_of_a_row(languages: tuple[str, ...], texts: list[str]) -> None:
    if languages == ("en", "zh"):
        texts = [*texts, "请"]
    assert languages_of(texts) == languages


@given(st.text(max_size=300), st.text(max_size=100))
def test_any_text_has_a_kind_and_a_language(question: str, answer: str) -> None:
    assert type_of(question, answer) in {"judgement", "multiple_choice", "long", "short"}
    assert languages_of([question, answer])[0] in {"en", "zh"}
