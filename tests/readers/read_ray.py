"""Read a folder of shards with Ray Data: as its documentation says, and without decoding."""

from __future__ import annotations

import logging
import os
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
import ray.data
from told import Rows, members, tell


def decoded(folder: str) -> int:
    """Read with the decoder that Ray applies where nothing is said."""
    return len(ray.data.read_webdataset(folder, file_extensions=["tar"]).take_all())


def read(folder: str) -> Rows:
    """Read members as bytes."""
    rows: list[dict[str, Any]] = ray.data.read_webdataset(
        folder, file_extensions=["tar"], decoder=None
    ).take_all()
    return members(rows)


if __name__ == "__main__":
    ray.init(
        num_cpus=1,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
        object_store_memory=100 << 20,
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    tell({"default": decoded, "decoder=None": read})
    ray.shutdown()
