"""``load_dataset("vision_ift", NAME)``: the same rows in every way that `datasets` gives them."""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import load_dataset
from PIL import Image

import vision_ift
from tests import birds
from tests.rows import MakeTable, conversation
from vision_ift import _hf
from vision_ift._errors import MissingInputError, RecordError, UnknownNameError, UsageError

REPOSITORY = Path(__file__).parent.parent

RECIPE = """
name: owls
seed: 3
mix:
  - {source: birds, name: train, weight: 2, where: "split = 'train'"}
  - {source: birds, name: val, weight: 1, where: "split = 'val'"}
"""

# Python 3.12 and later warn of the forks that `datasets` makes.
forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture(autouse=True)
def root(others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ROOT; all that is cached goes beside it, and the current folder is empty."""
    monkeypatch.setenv("VISION_IFT_TABLES", str(tmp_path / "tables"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VISION_IFT_ROOT", raising=False)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return birds.draw(tmp_path / "root")


def run(code: str, *, cwd: Path, path: Path, **environment: str) -> str:
    """Run Python in a process of its own; ``path`` is where the other package lies."""
    tried = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", textwrap.dedent(code)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(path), "HF_HUB_OFFLINE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert tried.returncode == 0, tried.stderr
    return tried.stdout


def test_a_source_has_the_authors_splits_and_the_rows_of_its_table(root: Path) -> None:
    loaded = load_dataset("vision_ift", "birds", data_dir=root)
    assert {split: len(rows) for split, rows in loaded.items()} == {
        "train": birds.ROWS,
        "val": birds.VAL_ROWS,
    }
    table = vision_ift.build("birds", root=root)
    built = [name for batch in table.batches(["id"]) for name in batch.column("id").to_pylist()]
    assert loaded["train"]["id"][:] + loaded["val"]["id"][:] == built


def test_pictures_decode_upright_and_in_colour_from_files_and_archives(root: Path) -> None:
    rows = load_dataset("vision_ift", "birds", data_dir=str(root), split="train")
    turned, grey, archived = (rows[n]["images"][0] for n in range(3))
    assert turned.size == (10, 20)
    assert (grey.mode, grey.getpixel((0, 0))) == ("RGB", (77, 77, 77))
    assert archived.getpixel((0, 0))[1] > 190
    plain = rows.cast_column("images", datasets.List(datasets.Image(decode=False)))
    assert plain[0]["images"] == [{"bytes": None, "path": f"{root}/birds/pictures/0.jpg"}]
    assert plain[2]["images"][0]["path"] == f"vift://{root}/birds/more.zip!/a%20b/2%3A%3A%23.jpg"


def test_names_splits_slices_and_the_builder(root: Path) -> None:
    place = str(root)
    configurations = datasets.get_dataset_config_names("vision_ift")
    assert {"birds", "coco_mix", "vision_flan_two_stage"} <= set(configurations)
    assert datasets.get_dataset_split_names("vision_ift", "birds", data_dir=place) == [
        "train",
        "val",
    ]
    tenth = load_dataset("vision_ift", "birds", data_dir=place, split="train[:10%]+val[-1:]")
    assert tenth["id"][:] == [*(f"birds/b{n}" for n in range(15)), "birds/v9"]
    builder = datasets.load_dataset_builder("vision_ift", "birds", data_dir=place)
    assert builder.info.license == "CC0-1.0"
    assert builder.info.features == tenth.features
    again = pickle.loads(pickle.dumps(builder))
    assert again.cache_dir == builder.cache_dir


def test_a_stream_gives_the_same_rows_in_shards_and_pickles(root: Path) -> None:
    kept = load_dataset("vision_ift", "birds", data_dir=str(root), split="train")
    stream = load_dataset("vision_ift", "birds", data_dir=str(root), split="train", streaming=True)
    assert stream.num_shards > 1
    assert [row["id"] for row in stream] == kept["id"][:]
    assert next(iter(stream.skip(2)))["images"][0].size == (8, 8)
    again = pickle.loads(pickle.dumps(stream))
    parts = [[row["id"] for row in again.shard(2, index)] for index in range(2)]
    assert sorted(parts[0] + parts[1]) == sorted(kept["id"])
    first = next(iter(again.with_format("numpy").skip(2)))
    assert first["images"][0].shape == (8, 8, 3)


@forks
def test_two_processes_write_and_map_the_same_rows(root: Path) -> None:
    one = load_dataset("vision_ift", "birds", data_dir=str(root), split="train", streaming=True)
    two = load_dataset("vision_ift", "birds", data_dir=str(root), split="train", num_proc=2)
    assert len(two.cache_files) == 2
    assert two["id"][:] == [row["id"] for row in one]
    sized = two.map(_size, num_proc=2, remove_columns=two.column_names)
    assert sized["width"][:3] == [10, 8, 8]


def _size(row: dict[str, Any]) -> dict[str, int]:
    return {"width": row["images"][0].width}


def test_an_edited_annotation_file_is_read_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers(count: int) -> list[str]:
        rows = load_dataset("vision_ift", "birds", data_dir=str(root), split="train")
        return [turns[1]["content"][0]["text"] for turns in rows["messages"][:count]]

    hf_rows = importlib.import_module("vision_ift._hf_rows")
    with monkeypatch.context() as naive:
        naive.setattr(hf_rows.Request, "cache_key", lambda self: "0" * 16)
        assert answers(1) == ["an owl 0"]
        birds.write_list(root, ["b0\ttrain\t0.jpg\ta barn owl"])
        assert answers(1) == ["an owl 0"], "datasets by itself would go on with the old rows"
    assert answers(1) == ["a barn owl"]
    birds.write_list(root, ["b0\ttrain\t0.jpg\ta tawny owl", "b1\ttrain\t1.jpg\ta wren"])
    assert answers(2) == ["a tawny owl", "a wren"]


def test_embedding_takes_the_files_bytes_as_they_are(root: Path) -> None:
    rows = load_dataset("vision_ift", "birds", data_dir=str(root), split="train[:3]")
    embedded = datasets.table.embed_table_storage(rows.data.table)
    pictures = [row[0] for row in embedded.column("images").to_pylist()]
    assert pictures[0]["bytes"] == (root / "birds/pictures/0.jpg").read_bytes()
    assert pictures[2]["bytes"] == birds.encoded(Image.new("RGB", (8, 8), (0, 200, 0)))


def test_a_recipe_is_one_split_in_plan_order(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "owls.yaml"
    file.write_text(RECIPE)
    rows = load_dataset("vision_ift", str(file), data_dir=str(root))
    planned = vision_ift.plan(file, root=root)
    assert list(rows) == ["train"]
    assert rows["train"]["id"][:] == planned.rows(0, len(planned)).column("id").to_pylist()
    assert rows["train"][0]["images"][0].mode == "RGB"
    short = load_dataset("vision_ift", recipe=str(file), total=9, data_dir=str(root), split="train")
    assert short["id"][:] == rows["train"]["id"][:9]
    stream = load_dataset("vision_ift", str(file), data_dir=str(root), streaming=True)["train"]
    assert [row["id"] for row in pickle.loads(pickle.dumps(stream))] == rows["train"]["id"][:]
    file.write_text(RECIPE.replace("seed: 3", "seed: 4"))
    other = load_dataset("vision_ift", str(file), data_dir=str(root), split="train")
    assert other["id"][:] != rows["train"]["id"][:]


def test_every_name_that_ships_loads_from_a_drawn_root(drawn_root: Path) -> None:
    planned = vision_ift.plan("coco_mix", root=drawn_root)
    mix = load_dataset("vision_ift", "coco_mix", data_dir=str(drawn_root), split="train")
    assert mix["id"][:] == planned.rows(0, len(planned)).column("id").to_pylist()
    archived = 0
    for name in datasets.get_dataset_config_names("vision_ift"):
        if name in ("birds", "messages", "shards"):  # not drawn
            continue
        for rows in load_dataset("vision_ift", name, data_dir=str(drawn_root)).values():
            stored = rows.cast_column("images", datasets.List(datasets.Image(decode=False)))
            paths = [picture["path"] for row in stored["images"][:20] for picture in row]
            shown = [picture for row in rows["images"][:20] for picture in row]
            assert len(shown) == len(paths) > 0
            assert {picture.mode for picture in shown} == {"RGB"}
            archived += sum(path.startswith("vift:///") for path in paths)
    assert archived, "no picture of an archive was looked at"


def test_a_recipe_may_leave_out_what_is_missing(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "owls.yaml"
    file.write_text(RECIPE.replace("split = 'val'", "split = 'none'"))
    with pytest.raises(MissingInputError, match="none of its 160 rows"):
        load_dataset("vision_ift", str(file), data_dir=str(root))
    rows = load_dataset(
        "vision_ift", str(file), data_dir=str(root), allow_missing=True, split="train"
    )
    assert len(rows) == birds.ROWS


def test_ranges_of_a_large_table_give_each_row_of_a_split_once(make_table: MakeTable) -> None:
    splits = [("val" if n % 9000 < 10 else "train") for n in range(20_000)]
    table = make_table(conversation(n, split=split) for n, split in enumerate(splits))
    hf_rows = importlib.import_module("vision_ift._hf_rows")
    ranges = hf_rows._ranges(table)
    assert list(ranges) == ["train", "val"]
    assert len(ranges["val"]) == 3, "ranges without a row of the split are left out"
    for split, parts in ranges.items():
        rows = hf_rows.SplitRows(str(table.path), table.digest, split, "/root")
        found = [name for part in parts for name in rows(*part).column("id").to_pylist()]
        assert found == [f"llava/{n}" for n, one in enumerate(splits) if one == split]


def test_options_and_strict_reach_the_source(root: Path) -> None:
    polite = load_dataset(
        "vision_ift", "birds", data_dir=str(root), split="val", options={"polite": "true"}
    )
    assert polite[0]["messages"][0]["content"][1]["text"] == "Which bird, please?"
    birds.write_list(root, ["b0\ttrain\tlost.jpg\ta raven", "b1\ttrain\t1.jpg\ta crow"])
    assert len(load_dataset("vision_ift", "birds", data_dir=str(root), split="train")) == 1
    with pytest.raises(RecordError, match=r"lost\.jpg"):
        load_dataset("vision_ift", "birds", data_dir=str(root), strict=True)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "bird"}, UnknownNameError, "did you mean birds"),
        ({}, UsageError, "name of a source or recipe is missing"),
        ({"name": "birds", "optoins": {}}, UnknownNameError, "did you mean options"),
        ({"name": "birds", "options": {"polit": 1}}, UnknownNameError, "did you mean polite"),
        ({"name": "birds", "total": 5}, UsageError, "total= goes with a recipe"),
        ({"name": "birds", "allow_missing": True}, UsageError, "allow_missing= goes with"),
        ({"name": "coco_mix", "options": {"a": 1}}, UsageError, "options= goes with a source"),
        ({"name": "coco_mix", "total": "9"}, UsageError, "give a whole number"),
        ({"name": "birds", "recipe": "a.yaml"}, UsageError, "both a name"),
        ({"name": "birds", "data_files": "a.jsonl"}, UsageError, "data_files has no meaning"),
        ({"name": "birds", "revision": "v2"}, UsageError, "revision has no meaning"),
        ({"name": "birds", "data_dir": "nowhere"}, MissingInputError, "there is no folder"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    root: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        load_dataset("vision_ift", **{"data_dir": str(root), **arguments})


def test_a_folder_of_the_same_name_does_not_win(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here/vision_ift").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    datasets.Dataset.from_dict({"a": [1]}).to_parquet("vision_ift/train.parquet")
    monkeypatch.setenv("VISION_IFT_ROOT", "../root")
    rows = load_dataset("vision_ift", "birds", split="val")
    assert len(rows) == birds.VAL_ROWS
    monkeypatch.chdir(root)
    assert rows[0]["images"][0].size == (8, 8), "references do not depend on the current folder"
    monkeypatch.chdir(tmp_path / "here")
    assert load_dataset("./vision_ift", split="train").column_names == ["a"]


def test_the_name_is_known_once_datasets_is_imported(root: Path, others: Path) -> None:
    """In a process of its own, in the repository's folder, which holds a folder vision_ift."""
    answer = run(
        """
        import sys
        before = set(sys.modules)
        import vision_ift
        heavy = {"datasets", "pyarrow", "numpy", "inspect", "msgspec"} & (set(sys.modules) - before)
        import importlib.util
        importlib.util.find_spec("datasets")  # as transformers does; imports nothing
        assert "datasets" not in sys.modules
        from datasets import load_dataset
        import datasets
        left = [f for f in sys.meta_path if type(f).__module__ == "vision_ift._hf"]
        print(heavy or None, left, "exec_module" in vars(datasets.__loader__))
        print(len(load_dataset("vision_ift", "birds", split="val")))
        """,
        cwd=REPOSITORY,
        path=others,
        VISION_IFT_ROOT=str(root),
        HF_HOME=str(root / "home"),
    )
    assert answer.split("\n")[:2] == ["None [] False", str(birds.VAL_ROWS)]


def test_a_package_of_the_users_own_named_datasets_is_left_alone(
    others: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine/datasets").mkdir(parents=True)
    (tmp_path / "mine/datasets/__init__.py").write_text("mine = True\n")
    code = "import vision_ift, datasets; print(datasets.mine)"
    assert run(code, cwd=tmp_path / "mine", path=others) == "True\n"


def test_prepared_names_load_without_this_package(root: Path, others: Path, tmp_path: Path) -> None:
    """In a process that never imports it, from an empty folder, offline."""
    other = birds.draw(tmp_path / "other", answer="a hawk")
    first = _hf.prepare("birds", root=root)
    assert _hf.prepare("birds", root=other) != first
    assert _hf.prepare("birds", root=root) == first
    assert first.parts[-3:-1] == ("birds", "0.0.0")
    answer = run(
        """
        import sys
        from datasets import load_dataset
        rows = load_dataset("vision_ift", "birds", split="train")
        stream = load_dataset("vision_ift", "birds", split="train", streaming=True)
        print("vision_ift" in sys.modules)
        print(rows[0]["messages"][1]["content"][0]["text"], rows[0]["images"][0].size)
        print(rows[2]["images"][0].getpixel((0, 0))[1] > 190)
        print(next(iter(stream))["id"], next(iter(stream.skip(2)))["images"][0].mode)
        """,
        cwd=tmp_path / "empty",
        path=others,
        HF_DATASETS_CACHE=str(tmp_path / "cache"),
    )
    assert answer.split("\n") == ["False", "an owl 0 (10, 20)", "True", "birds/b0 RGB", ""]
    assert _hf.prepare("birds", root=root) == first
    with pytest.raises(UnknownNameError, match="did you mean birds"):
        _hf.prepare("bird", root=root)
