"""The data layer of visual instruction tuning: build, mix, export and load conversations.

    source files ──Builder──▶ Conversation ──Recipe──▶ Plan ──export──▶ shards ──stream──▶ training

Importing this package is light, and it makes the name known to `datasets`:
``load_dataset("vision_ift", "coco_mix", data_dir=ROOT)``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vision_ift._hf import watch

if TYPE_CHECKING:
    from vision_ift._build import build
    from vision_ift._builder import Absent, Batch, Builder, Dropped
    from vision_ift._conversation import Conversation, Message, Part
    from vision_ift._errors import RecordError, VisionIFTError
    from vision_ift._export.export import export
    from vision_ift._pictures.images import Images
    from vision_ift._plan.interleave import interleave_datasets
    from vision_ift._plan.plan import Plan, plan
    from vision_ift._push.push import push
    from vision_ift._recipe.recipe import Recipe
    from vision_ift._registry import names as sources
    from vision_ift._stream.stream import stream
    from vision_ift._verify.verify import verify

__version__ = "0.1.0"

__all__ = [
    "Absent",
    "Batch",
    "Builder",
    "Conversation",
    "Dropped",
    "Images",
    "Message",
    "Part",
    "Plan",
    "Recipe",
    "RecordError",
    "VisionIFTError",
    "build",
    "export",
    "interleave_datasets",
    "plan",
    "push",
    "sources",
    "stream",
    "verify",
]

_HOMES = {
    "Absent": "_builder",
    "Batch": "_builder",
    "Builder": "_builder",
    "Conversation": "_conversation",
    "Dropped": "_builder",
    "Images": "_pictures.images",
    "Message": "_conversation",
    "Part": "_conversation",
    "Plan": "_plan.plan",
    "Recipe": "_recipe.recipe",
    "RecordError": "_errors",
    "VisionIFTError": "_errors",
    "build": "_build",
    "export": "_export.export",
    "interleave_datasets": "_plan.interleave",
    "plan": "_plan.plan",
    "push": "_push.push",
    "sources": "_registry",
    "stream": "_stream.stream",
    "verify": "_verify.verify",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vision_ift' has no attribute {name!r}")
    module = importlib.import_module(f"vision_ift.{_HOMES[name]}")
    value = getattr(module, "names" if name == "sources" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


watch()
