"""Real samples: skipped where none are at hand, a failure where they are required."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real samples that ``VISION_IFT_REAL_DATA`` names."""
    named = os.environ.get("VISION_IFT_REAL_DATA", "")
    if named and Path(named).is_dir():
        return Path(named).resolve()
    reason = f"VISION_IFT_REAL_DATA names no folder of real samples (it is {named!r})"
    if os.environ.get("VISION_IFT_REQUIRE") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def real_root(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples laid out as users have them."""
    root = tmp_path_factory.mktemp("real") / "root"
    script = real_data.parent / "tools" / "real_root.py"
    subprocess.run([sys.executable, str(script), str(real_data), str(root)], check=True)
    return root
