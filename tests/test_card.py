"""The card of an export: `datasets` reads the folder through it, and people see what is inside."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from datasets import Image, config, load_dataset

from tests.exports import delivered, dialog, picture, plan_of, small_plan, wanted
from tests.rows import MakeTable
from vision_ift._export.card import card, features, head
from vision_ift._export.export import export
from vision_ift._export.manifest import Manifest
from vision_ift._plan.plan import Plan


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)


def manifest_of(out: Path) -> Manifest:
    return msgspec.json.decode((out / "vision_ift/manifest.json").read_bytes(), type=Manifest)


def head_of(text: str) -> Any:
    """The YAML between the first two lines of dashes, as another library reads it."""
    yaml = pytest.importorskip("yaml")
    _, block, _ = re.split(r"^---\n", text, maxsplit=2, flags=re.MULTILINE)
    return yaml.safe_load(block)


def undecoded(row: dict[str, Any]) -> dict[str, Any]:
    """A row of `datasets` with plain bytes for pictures, and without members that it has not."""
    return {
        name: value["bytes"] if isinstance(value, dict) and "bytes" in value else value
        for name, value in row.items()
        if value is not None
    }


@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_reads_the_folder(streaming: bool, tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    out = tmp_path / "out"
    export(plan, out=out, shard_bytes=40_000)
    rows = load_dataset(
        str(out), split="train", streaming=streaming, cache_dir=str(tmp_path / "cache")
    )
    for name in [name for name, feature in rows.features.items() if isinstance(feature, Image)]:
        rows = rows.cast_column(name, Image(decode=False))
    assert {"jpg", "png", "00.webp", "02.png", "json", "txt"} < set(rows.features)
    found = [undecoded(row) for row in rows]
    assert [delivered(row) for row in found] == wanted(plan)
    assert [row["__key__"] for row in found] == sorted(row["__key__"] for row in found)


def test_datasets_reads_another_split_without_text(tmp_path: Path, make_table: MakeTable) -> None:
    # The first conversations say nothing of the later members: without the card they are lost.
    rows = [dialog(n, ("a.png",) * (n == 19)) for n in range(20)]
    (tmp_path / "a.png").write_bytes(picture(0, kind="png"))
    plan = plan_of(tmp_path, {"llava": make_table(rows)})
    out = tmp_path / "out"
    export(plan, out=out, split="val", text=False)
    loaded = load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["val"]
    read = loaded["val"].cast_column("png", Image(decode=False))
    assert set(read.features) == {"png", "json", "__key__", "__url__"}
    assert [delivered(undecoded(row)) for row in read] == wanted(plan)


def made_up(plan: Plan, out: Path, **changes: Any) -> Manifest:
    export(plan, out=out)
    return msgspec.structs.replace(manifest_of(out), **changes)


def test_the_table_says_what_was_asked_and_delivered(tmp_path: Path) -> None:
    manifest = made_up(small_plan(tmp_path), tmp_path / "out", missing=["coco_ift"])
    assert card(manifest) != (tmp_path / "out/README.md").read_text()
    parts = [
        msgspec.structs.replace(part, asked=asked, rows=rows)
        for part, asked, rows in zip(manifest.parts, (0.75, 0.25), (1500, 500), strict=True)
    ]
    text = card(msgspec.structs.replace(manifest, parts=parts, rows=2000))
    assert "| llava | 1,500 | 40 | 75.00% | 75.00% |" in text
    assert "| messages | 500 | 60 | 25.00% | 25.00% |" in text
    assert "| llava | CC-BY-4.0 | 40 |" in text
    assert "| messages | unknown | 40 |" in text
    assert "Left out, because the source was not there: coco\\_ift." in text


@pytest.mark.parametrize(
    "name",
    ["no", "010", "a: b", "x\n---\nlicense: mit", "*a", "{}", "12:30", "日本", "<script>|`"],
)
def test_names_of_others_change_nothing_but_themselves(name: str, tmp_path: Path) -> None:
    manifest = made_up(small_plan(tmp_path, rows=4), tmp_path / "out")
    plain = card(manifest)
    text = card(msgspec.structs.replace(manifest, name=name))
    assert head_of(text) == {**head_of(plain), "pretty_name": name}
    body, plain_body = (one.split("\n---\n\n", 1)[1].splitlines() for one in (text, plain))
    assert body[1:] == plain_body[1:]
    assert "<script>" not in body[0]


def test_the_head_is_what_was_meant(tmp_path: Path) -> None:
    manifest = made_up(small_plan(tmp_path, rows=4), tmp_path / "out")
    found = head_of(card(manifest))
    assert found == head(manifest)
    assert found["configs"][0]["data_files"] == [{"split": "train", "path": "train-*.tar"}]
    assert found["language"] == ["en"]
    names = [one["name"] for one in features(manifest, manifest.image_names)]
    assert names[0] == "jpg"
    assert names[-4:] == ["json", "txt", "__key__", "__url__"]
    assert len(set(names)) == len(names)
