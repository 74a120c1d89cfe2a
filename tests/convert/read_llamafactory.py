"""Load a folder as LLaMA-Factory does, in its own environment; prints the rows as JSON.

python read_llamafactory.py FOLDER NAME MEDIA_DIR
"""

from __future__ import annotations

import importlib.machinery
import json
import os
import sys
import types
from types import SimpleNamespace
from typing import Any

# Its data code imports torchaudio, whose wheels want CUDA; no row here has sound.
stub: Any = types.ModuleType("torchaudio")
stub.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
stub.__version__ = "2.11.0"
sys.modules["torchaudio"] = stub
os.environ.update(DISABLE_VERSION_CHECK="1", HF_HUB_OFFLINE="1")

from llamafactory.data.loader import _load_single_dataset  # type: ignore[import-not-found] # noqa: E402
from llamafactory.data.mm_plugin import get_mm_plugin  # type: ignore[import-not-found] # noqa: E402
from llamafactory.data.parser import get_dataset_list  # type: ignore[import-not-found] # noqa: E402


def main(folder: str, name: str, media: str) -> None:
    """Load, align, and count the tags as its template does."""
    (attributes,) = get_dataset_list([name], folder)
    data = SimpleNamespace(
        dataset_dir=folder,
        media_dir=media,
        preprocessing_num_workers=None,
        streaming=False,
        max_samples=None,
        overwrite_cache=True,
        preprocessing_batch_size=1000,
    )
    model = SimpleNamespace(cache_dir=f"{folder}/.cache", hf_hub_token=None)
    training = SimpleNamespace(local_process_index=0, dataloader_num_workers=0)
    rows = _load_single_dataset(attributes, model, data, training)
    plugin = get_mm_plugin("base", image_token="<image>")
    # What a template does before it puts a model's tokens in: as many tags as pictures.
    processor = SimpleNamespace(image_processor=object())
    told = []
    for row in rows:
        turns = [*row["_prompt"], *row["_response"]]
        images = row["_images"] or []
        plugin._validate_messages(turns, images, [], [])
        plugin._validate_input(processor, images, [], [])
        system = [["system", row["_system"]]] if row["_system"] else []
        told.append(
            {
                "turns": system + [[turn["role"], turn["content"]] for turn in turns],
                "images": [os.path.realpath(image) for image in images],
            }
        )
    sys.stdout.write("ROWS " + json.dumps(told) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
