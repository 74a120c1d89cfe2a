"""Streams for torch: a dataset for ``DataLoader``, batches for processors, packing.

Everything here needs torch (``pip install 'vision_ift[torch]'``); :class:`Collate` needs
`transformers` >= 5.18 besides, :func:`trainer_dataset` is for `trl`.
"""

from __future__ import annotations

try:
    import torch  # noqa: F401 - whether it is there
except ImportError:
    from vision_ift._errors import MissingExtraError

    raise MissingExtraError("vision_ift.torch", "torch") from None

from vision_ift.torch._collate import Collate
from vision_ift.torch._dataset import StreamDataset
from vision_ift.torch._flat import CollatePacks
from vision_ift.torch._lengths import Lengths, count_lengths
from vision_ift.torch._pack import Fill, Packing, report_fill
from vision_ift.torch._trainer import trainer_dataset

__all__ = [
    "Collate",
    "CollatePacks",
    "Fill",
    "Lengths",
    "Packing",
    "StreamDataset",
    "count_lengths",
    "report_fill",
    "trainer_dataset",
]
