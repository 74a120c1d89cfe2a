"""TRL reads what we write: its trainer takes a step on it, its checks pass on every row."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.convert.laid import laid, one, plain, turn
from tests.needs import needs
from vision_ift._convert.convert import convert

pytestmark = [
    needs("torch", "transformers", "trl"),
    pytest.mark.filterwarnings("ignore"),
]


def _loaded(out: Path, cache: Path) -> Any:
    import datasets

    return datasets.load_dataset(
        "parquet", data_files=str(out / "*.parquet"), split="train", cache_dir=str(cache)
    )


@pytest.mark.parametrize("images", ["embed", "copy"])
def test_its_check_of_pictures_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: Any
) -> None:
    from trl.data_utils import prepare_multimodal_messages

    rows = [
        plain("1"),
        one("2", turn("user", "no picture"), turn("assistant", "a")),
        one(
            "3",
            turn("system", "s"),
            turn("user", "a", None, "b", None),
            turn("assistant", "c"),
            images=("p/2.png", "p/3.jpg"),
        ),
    ]
    root, table = laid(tmp_path, rows)
    convert(table.path, to="trl", out=tmp_path / "out", root=root, images=images)
    monkeypatch.chdir(tmp_path / "out")  # `datasets` opens relative paths from where it runs
    loaded = _loaded(tmp_path / "out", tmp_path / "cache")
    assert loaded["id"][:] == ["llava/1", "llava/2", "llava/3"]
    for row, wanted in zip(loaded, rows, strict=True):
        made = prepare_multimodal_messages(row["messages"], images=row["images"])
        shown = [part for one in made for part in one["content"] if part["type"] == "image"]
        assert [part["image"] for part in shown] == row["images"]
        assert len(shown) == len(wanted.images)


def test_its_trainer_takes_a_step(tmp_path: Path) -> None:
    from trl import SFTConfig, SFTTrainer

    from tests.torch.processors import llava_model, llava_processor

    warnings.simplefilter("ignore")
    rows = [plain(str(n), f"p/{n}.jpg") for n in range(4)]
    root, table = laid(tmp_path, rows)
    convert(table.path, to="trl", out=tmp_path / "out", root=root)
    processor = llava_processor()
    trainer = SFTTrainer(
        model=llava_model(processor),
        args=SFTConfig(
            output_dir=str(tmp_path / "run"),
            per_device_train_batch_size=2,
            max_steps=1,
            max_length=None,
            report_to=[],
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
            save_strategy="no",
        ),
        train_dataset=_loaded(tmp_path / "out", tmp_path / "cache"),
        processing_class=processor,
    )
    assert trainer.train().training_loss > 0
