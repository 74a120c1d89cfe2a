"""TRL's SFTTrainer trains on a stream and goes on after a stop: nothing lost, nothing twice."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.needs import needs
from tests.torch.processors import llava_model, llava_processor

pytestmark = [
    needs("torch", "transformers", "tokenizers", "trl"),
    # What torch, transformers and TRL say of each other is not ours to silence elsewhere.
    pytest.mark.filterwarnings("ignore"),
]

ROWS_A_STEP = 2


def train(
    out: Path,
    dataset: Any,
    names: dict[str, int],
    *,
    steps: int,
    resume: Path | None = None,
    ignore_data_skip: bool = False,
) -> tuple[list[int], list[float]]:
    """Train a tiny model; give the numbers of the rows that it saw, and the losses."""
    import torch
    from trl import SFTConfig, SFTTrainer

    from vision_ift.torch import Collate

    processor = llava_processor()
    model = llava_model(processor)
    collate = Collate(processor, columns=("id",))
    seen: list[int] = []

    def with_numbers(rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = collate(rows)
        batch["row_numbers"] = torch.tensor([names[one] for one in batch.pop("id")])
        return batch

    def note(_: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        seen.extend(kwargs.pop("row_numbers").tolist())
        return args, kwargs

    model.register_forward_pre_hook(note, with_kwargs=True)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(out),
            per_device_train_batch_size=ROWS_A_STEP,
            max_steps=steps,
            save_steps=3,
            logging_steps=1,
            max_length=None,
            remove_unused_columns=False,
            ignore_data_skip=ignore_data_skip,
            report_to=[],
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
        ),
        train_dataset=dataset,
        processing_class=processor,
        data_collator=with_numbers,
    )
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return seen, [one["loss"] for one in trainer.state.log_history if "loss" in one]


def test_sft_trainer_trains_and_goes_on(drawn: Path, tmp_path: Path) -> None:
    from vision_ift._stream.stream import stream
    from vision_ift.torch import trainer_dataset

    names = {row["id"]: place for place, row in enumerate(stream(drawn))}
    assert len(names) == 40
    opened = stream(drawn)
    whole, losses = train(tmp_path / "run", trainer_dataset(opened), names, steps=6)
    assert whole == list(range(12))
    assert all(map(math.isfinite, losses))
    checkpoint = tmp_path / "run/checkpoint-3"

    # The trainer reads again what it had taken, and throws it away.
    slowly, _ = train(
        tmp_path / "slow", trainer_dataset(stream(drawn)), names, steps=6, resume=checkpoint
    )
    assert whole[:6] + slowly == whole

    # The stream goes on at its cursor.
    cursor = json.loads(json.dumps(opened.state_after(3 * ROWS_A_STEP)))
    again = stream(drawn)
    again.load_state_dict(cursor)
    at_once, _ = train(
        tmp_path / "fast",
        trainer_dataset(again),
        names,
        steps=6,
        resume=checkpoint,
        ignore_data_skip=True,
    )
    assert whole[:6] + at_once == whole


def test_trls_own_collator_takes_the_rows(drawn: Path, tmp_path: Path) -> None:
    from trl import SFTConfig, SFTTrainer

    from vision_ift._stream.stream import stream
    from vision_ift.torch import trainer_dataset

    processor = llava_processor()
    trainer = SFTTrainer(
        model=llava_model(processor),
        args=SFTConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=4,
            max_steps=2,
            logging_steps=1,
            max_length=None,
            assistant_only_loss=True,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
        ),
        train_dataset=trainer_dataset(stream(drawn), image_size=64),
        processing_class=processor,
    )
    trainer.train()
    assert all(math.isfinite(one["loss"]) for one in trainer.state.log_history if "loss" in one)


def test_ranks_of_a_trainer_together_see_each_row_once(drawn: Path) -> None:
    """Accelerate wraps the dataset on every rank, and each rank takes its part of every step."""
    from accelerate.data_loader import prepare_data_loader
    from torch.utils.data import DataLoader

    from vision_ift._stream.stream import stream
    from vision_ift.torch import trainer_dataset

    seen = []
    for rank in range(2):
        loader = prepare_data_loader(
            DataLoader(trainer_dataset(stream(drawn)), batch_size=5, collate_fn=list),
            num_processes=2,
            process_index=rank,
            dispatch_batches=False,
        )
        seen.append([[row["id"] for row in batch] for batch in loader])
    steps = [one for step in zip(*seen, strict=True) for batch in step for one in batch]
    assert steps == [row["id"] for row in stream(drawn)]


def test_a_ranks_share_is_refused(drawn: Path) -> None:
    from vision_ift._errors import UsageError
    from vision_ift._stream.stream import stream
    from vision_ift.torch import trainer_dataset

    with pytest.raises(UsageError, match="world_size=1"):
        trainer_dataset(stream(drawn, rank=1, world_size=2))
