"""Planted contamination: what is found, what is not, and what a template question does."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.likeness.drawn import asked, encoded, photo, table
from vision_ift._errors import MissingInputError, RecordError, UsageError
from vision_ift._likeness import write as _write
from vision_ift._likeness.against import read_benchmark
from vision_ift._likeness.decontaminate import Found, decontaminate
from vision_ift._likeness.rows import Part, Texts, with_pieces
from vision_ift._pictures.child import Limits
from vision_ift._recipe.select import Excluded
from vision_ift._table import Table

BENCHMARK, CLEAN = 40, 60
LONG = (
    "which of the {n} wooden boats tied up near the old stone pier is about to leave for island {n}"
)
TEMPLATE = "What is in the image?"


def question(n: int) -> str:
    return LONG.format(n=n)


def lay(folder: Path) -> tuple[Path, Path, Table, dict[str, set[str]]]:
    """A benchmark of 40 rows, and a source of which 24 rows are planted; what was planted how."""
    root, against = folder / "root", folder / "bench"
    (root / "p").mkdir(parents=True)
    (against / "images").mkdir(parents=True)
    lines = []
    for n in range(BENCHMARK):
        (against / f"images/b{n}.jpg").write_bytes(encoded(photo(n), quality=92))
        text = question(n) if n % 2 else TEMPLATE
        lines.append({"question_id": n, "image": f"b{n}.jpg", "question": text})
    (against / "bench.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    planted: dict[str, set[str]] = {}
    rows = []

    def plant(kind: str, name: str, data: bytes | None, text: str) -> None:
        planted.setdefault(kind, set()).add(f"llava/{name}")
        shown = []
        if data is not None:
            (root / f"p/{name}.jpg").write_bytes(data)
            shown = [f"p/{name}.jpg"]
        rows.append(asked(name, ["Hello.", text], shown))

    for n in range(4):
        image = photo(n)
        width, height = image.size
        plant("exact", f"exact{n}", encoded(image, quality=92), f"Question {n}?")
        plant("coded", f"coded{n}", encoded(image, quality=60), f"Question {n}?")
        plant("small", f"small{n}", encoded(image.resize((200, 150))), f"Question {n}?")
        box = (width // 8, height // 8, width, height)
        plant("cropped", f"cropped{n}", encoded(image.crop(box)), f"Question {n}?")
        flipped = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        plant("flipped", f"flipped{n}", encoded(flipped), f"Question {n}?")
        odd = 2 * n + 1
        plant("both", f"both{n}", encoded(photo(odd), quality=80), question(odd))
        odd += 20
        plant("text", f"text{n}", None, f"Please say {question(odd).upper()}!")
        light = question(odd + 1 - 10 + 1).replace("which of", "tell me which of")
        plant("edited", f"edited{n}", None, light)
        plant("reworded", f"reworded{n}", None, f"Name the vessel that sails off next at quay {n}.")
    for n in range(CLEAN):
        data = encoded(photo(1000 + n))
        plant("clean", f"clean{n}", data, TEMPLATE if n % 2 else f"How many birds, {n}?")
    return root, against, table(folder / "table", rows), planted


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Table, dict[str, set[str]]]:
    return lay(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def found(laid: tuple[Path, Path, Table, dict[str, set[str]]]) -> Found:
    root, against, made, _ = laid
    return decontaminate([Part("llava", made)], [against], root=root)


def listed(found: Found) -> dict[str, str]:
    lines = [json.loads(line) for line in _write.exclude_lines(found).splitlines()]
    return {line["id"]: line["reason"] for line in lines}


def test_what_was_planted_is_found_and_nothing_else(
    laid: tuple[Path, Path, Table, dict[str, set[str]]], found: Found
) -> None:
    planted, ids = laid[3], listed(found)
    for kind in ("exact", "coded", "small", "both", "text", "edited"):
        assert planted[kind] <= ids.keys(), kind
    # Known limits: a mirrored picture, one cut by an eighth, other words for the same question.
    for kind in ("flipped", "cropped", "reworded"):
        assert planted[kind].isdisjoint(ids), kind
    assert planted["clean"].isdisjoint(ids)
    reasons = {
        kind: {ids[name] for name in planted[kind]}
        for kind in planted
        if planted[kind] <= ids.keys()
    }
    assert reasons["exact"] == reasons["small"] == {"benchmark_picture"}
    assert reasons["both"] == {"benchmark_picture_and_question"}
    assert reasons["text"] == {"benchmark_question"}


def test_a_template_question_is_weak_and_is_counted(
    laid: tuple[Path, Path, Table, dict[str, set[str]]], found: Found
) -> None:
    root, against, made, planted = laid
    common = found.report["common_questions"][0]
    assert common["question"] == TEMPLATE
    assert (common["rows"], common["benchmark_rows"]) == (CLEAN // 2, BENCHMARK // 2)
    # The control: with no regard to how common a question is, every second clean row is flagged.
    naive = decontaminate([Part("llava", made)], [against], root=root, min_score=0.01)
    assert len(planted["clean"] & listed(naive).keys()) == CLEAN // 2


def test_the_evidence_names_both_sides(found: Found) -> None:
    lines = {(line["id"], line["evidence"]): line for line in found.evidence.to_pylist()}
    picture = lines["llava/coded2", "picture"]
    assert (picture["how"], picture["benchmark"]) == ("dct", "bench")
    assert picture["benchmark_row"] == "bench.jsonl:2 (2)"
    assert picture["benchmark_image"] == "images/b2.jpg"
    assert 0.8 <= picture["score"] < 1
    text = lines["llava/text0", "question"]
    assert (text["how"], text["turn"], text["image"]) == ("grams", 2, None)
    assert text["benchmark_question"] == question(21)
    assert lines["llava/exact0", "picture"]["how"] == "sha256"


def test_the_same_files_for_any_jobs_and_a_recipe_reads_the_list(
    laid: tuple[Path, Path, Table, dict[str, set[str]]], found: Found, tmp_path: Path
) -> None:
    root, against, made, _ = laid
    again = decontaminate([Part("llava", made)], [against], root=root, jobs=3)
    for name, one in (("one", found), ("three", again)):
        _write.write_found(one, tmp_path / name, root=root)
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "three" / path.name).read_bytes(), path.name
    excluded = Excluded([str(tmp_path / "one/exclude.jsonl")])
    assert len(excluded) == len(found.listed) > 0
    assert pq.read_table(tmp_path / "one/evidence.parquet").num_rows == found.evidence.num_rows


def test_some_rows_of_a_table_alone(
    laid: tuple[Path, Path, Table, dict[str, set[str]]], found: Found
) -> None:
    import numpy as np

    root, against, made, _ = laid
    rows = np.arange(3, len(made), 2)
    some = decontaminate([Part("x", made, rows)], [against], root=root)
    names = made.take(rows)["id"].to_pylist()
    assert listed(some) == {name: why for name, why in listed(found).items() if name in names}
    told = {line["id"]: line["row"] for line in some.evidence.to_pylist()}
    assert all(made.take(np.array([row]))["id"][0].as_py() == name for name, row in told.items())


def test_coco_ids_are_evidence_of_their_own(tmp_path: Path) -> None:
    root, against = tmp_path / "root", tmp_path / "pope"
    (root / "coco/train2017").mkdir(parents=True)
    against.mkdir()
    for n in range(3):
        (root / f"coco/train2017/{n + 1:012}.jpg").write_bytes(encoded(photo(n)))
    # Another picture under the id of the second: what counts is the name.
    (against / "COCO_val2014_000000000002.jpg").write_bytes(encoded(photo(99)))
    rows = [asked(str(n), ["Is there a dog?"], [f"coco/train2017/{n:012}.jpg"]) for n in (1, 2, 3)]
    part = Part("llava", table(tmp_path / "t", rows))
    made = decontaminate([part], [against], root=root)
    assert listed(made) == {"llava/2": "benchmark_lineage"}
    path = tmp_path / "karpathy.txt"
    path.write_text("3\n")
    made = decontaminate([part], [], root=root, lineage=[f"Karpathy={path}", "train2017"])
    assert len(listed(made)) == 3
    assert [one["benchmark"] for one in made.report["found"]] == ["list Karpathy", "list train2017"]
    needs_lists = {one["benchmark"] for one in made.report["lineage"]["benchmarks"] if one["needs"]}
    assert {"POPE", "RefCOCOg test"} <= needs_lists


def test_parquet_benchmarks_of_every_layout(
    laid: tuple[Path, Path, Table, dict[str, set[str]]], tmp_path: Path
) -> None:
    root, _, made, _ = laid
    data = [encoded(photo(n), quality=92) for n in range(4)]
    structs = [{"bytes": one, "path": "x.jpg"} for one in data]
    dialog = [[{"role": "user", "content": question(n)}] for n in range(4)]
    layouts = {
        "struct": {"image": structs, "question": [question(n) for n in range(4)]},
        "binary": {"image": pa.array(data), "prompt": [question(n) for n in range(4)]},
        "listed": {"images": [[one] for one in structs], "messages": dialog},
        "numbered": {"image_1": structs, "image_2": [None] * 3 + structs[:1], "query": ["a"] * 4},
        "named": {"photo": structs, "ask": ["a"] * 4},
    }
    for name, columns in layouts.items():
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table(columns), path, row_group_size=3)
        how = {"text_columns": ["ask"], "image_columns": ["photo"]} if name == "named" else {}
        hit = listed(decontaminate([Part("llava", made)], [path], root=root, **how))  # type: ignore[arg-type]  # options of some
        assert {f"llava/{kind}{n}" for n in range(4) for kind in ("exact", "small")} <= hit.keys()


def test_a_hostile_folder_is_counted_not_fatal(tmp_path: Path) -> None:
    bench, root = tmp_path / "bench", tmp_path / "root"
    (bench / "deep").mkdir(parents=True)
    root.mkdir()
    (bench / "good.jpg").write_bytes(encoded(photo(1)))
    (bench / "empty.jpg").write_bytes(b"")
    (bench / "page.jpg").write_bytes(b"<html>")
    (bench / "cut.png").write_bytes(encoded(photo(1), "PNG")[:900])
    (bench / "loop").symlink_to(bench)
    (bench / "self.jpg").symlink_to("self.jpg")
    (bench / "gone.png").symlink_to(tmp_path / "nothing.png")
    os.mkfifo(bench / "pipe.jpg")
    (bench / "broken.parquet").write_bytes(b"PAR1 not")
    (bench / "numbers.parquet").write_bytes(b"")
    (bench / "types.jsonl").write_text(
        '{"question": 5, "image": {"path": 7}}\n[1]\n{"question": "Real?", "image": "../x.jpg"}\n'
        '{"question": ["a", {"role": "user", "content": "b"}], "id": true}\n{broken\n{}\n'
    )
    (bench / "deep" / ("n" * 200 + ".json")).write_text("[" * 50_000)
    os.symlink(bench / "good.jpg", os.fsencode(bench) + b"/\xff.jpg")
    found = read_benchmark(bench)
    assert found.references == ["cut.png", "empty.jpg", "good.jpg", "page.jpg"]
    assert sorted(found.texts) == ["Real?", "a", "b"]
    assert found.skipped["unreadable_file"] == 2
    assert found.skipped["folder_again"] == 1
    assert found.skipped["not_a_file"] == 4
    assert found.skipped["missing_image"] == 1
    rows = [asked("0", ["Really?"], ["a.jpg"])]
    (root / "a.jpg").write_bytes(encoded(photo(1)))
    made = decontaminate([Part("x", table(tmp_path / "t", rows))], [bench], root=root)
    assert listed(made) == {"llava/0": "benchmark_picture"}
    told = made.report["benchmarks"][0]["pictures_without_hash"]
    assert sum(told.values()) == 3


def test_a_bomb_among_the_pictures_costs_that_picture(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.png").write_bytes(encoded(Image.new("L", (3000, 3000)), "PNG"))
    (root / "b.jpg").write_bytes(encoded(photo(1)))
    rows = [asked("0", ["x"], ["a.png"]), asked("1", ["y"], ["b.jpg"]), asked("2", ["z"], ["../c"])]
    part = Part("x", table(tmp_path / "t", rows))
    limits = Limits(pixels=1_000_000)
    made = decontaminate([part], [root], root=root, limits=limits)
    assert made.report["pictures_without_hash"] == {"too_many_pixels": 1, "unsafe_path": 1}
    # Equal bytes are equal bytes, whether they can be decoded or not.
    assert listed(made).keys() == {"llava/0", "llava/1"}
    with pytest.raises(RecordError, match="without --strict"):
        decontaminate([part], [root], root=root, limits=limits, strict=True)


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("x.parquet", b"PAR1", "no Parquet file"),
        ("x.jsonl", b"{}\n", "holds no picture and no question"),
        ("x.txt", b"", "not of a kind"),
        ("x.json", b"[]", "holds no picture and no question"),
    ],
)
def test_a_benchmark_that_says_nothing_is_an_error(
    name: str, data: bytes, why: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=why):
        read_benchmark(tmp_path / name)
    with pytest.raises(MissingInputError):
        read_benchmark(tmp_path / "nothing")


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"ask": ["a"]}), tmp_path / "x.parquet")
    with pytest.raises(UsageError, match="there is no column 'aks'; there are 'ask'"):
        read_benchmark(tmp_path / "x.parquet", text_columns=["aks"])


def test_nothing_to_compare_with_is_an_error(tmp_path: Path) -> None:
    part = Part("x", table(tmp_path / "t", [asked("0", ["x"])]))
    with pytest.raises(UsageError, match="--against or --lineage"):
        decontaminate([part], [], root=tmp_path)


def test_a_question_is_found_among_its_options_and_the_way_to_answer(tmp_path: Path) -> None:
    """As A-OKVQA and VQAv2 stand in COCO-IFT: 27 of 29 such turns were missed by whole texts."""
    known = "How did the paper on the wall get holes in it?"
    (tmp_path / "b.jsonl").write_text(json.dumps({"question": known}))
    turns = {
        "options": f"{known}\nA. scissors\nB. pen\nAnswer with the option's letter.",
        "phrase": f" {known} Answer the question with a short phrase.",
        "led": f"Look at the picture. Question: {known}",
        "longer": known.replace("?", " after the party?"),
        "part": "Did the paper get holes in it?",
    }
    made = table(tmp_path / "table", [asked(name, [text]) for name, text in turns.items()])
    found = decontaminate([Part("llava", made)], [tmp_path / "b.jsonl"], root=tmp_path)
    assert listed(found).keys() == {"llava/options", "llava/phrase", "llava/led"}


def test_pieces_are_sentences_and_lines() -> None:
    texts = Texts(
        pa.array(["One? Two. 3.5 m\nA. x", "alone", "", "是吗？好。"], pa.large_string()),
        np.arange(4),
        np.arange(4),
    )
    found = with_pieces(texts)
    assert found.texts.to_pylist()[:4] == texts.texts.to_pylist()
    pieces = [" ".join(one.split()) for one in found.texts.to_pylist()[4:]]
    assert pieces == ["One", "Two", "3.5 m", "A", "x", "是吗", "好"]
    assert found.row.tolist()[4:] == [0, 0, 0, 0, 0, 3, 3]


def test_names_of_pictures_that_are_not_there_are_lineage(tmp_path: Path) -> None:
    """POPE's files come without its pictures; they are COCO's, and their names say which."""
    lines = [{"image": f"COCO_val2014_{n:012d}.jpg", "text": f"Is there a {n}?"} for n in (7, 9)]
    (tmp_path / "pope.json").write_text("\n".join(map(json.dumps, lines)))
    rows = [asked(str(n), ["What is it?"], [f"coco/train2017/{n:012d}.jpg"]) for n in range(5, 11)]
    made = table(tmp_path / "table", rows)
    found = decontaminate([Part("llava", made)], [tmp_path / "pope.json"], root=tmp_path)
    assert listed(found) == dict.fromkeys(("llava/7", "llava/9"), "benchmark_lineage")
    assert found.report["benchmarks"][0]["skipped"] == {"missing_image": 2}
