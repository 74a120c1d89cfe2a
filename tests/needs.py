"""Tests that need more than the core install: skipped where it is missing, required in CI."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

import pytest


def needs(
    *packages: str, commands: tuple[str, ...] = (), root: bool = False
) -> pytest.MarkDecorator:
    """Skip a test where a package, a program or root's rights are missing, and say which.

    With ``VISION_IFT_REQUIRE=1`` in the environment the same lack fails the run instead.

    Args:
        packages: Importable names.
        commands: Programs on the path.
        root: Whether the test has to run as root.
    """
    missing = [f"package {name}" for name in packages if find_spec(name) is None]
    missing += [f"program {name}" for name in commands if shutil.which(name) is None]
    if root and os.geteuid() != 0:
        missing.append("root's rights")
    reason = f"needs {', '.join(missing)}" if missing else "everything is there"
    if missing and os.environ.get("VISION_IFT_REQUIRE") == "1":
        pytest.fail(f"VISION_IFT_REQUIRE=1, and this machine lacks {', '.join(missing)}")
    return pytest.mark.skipif(bool(missing), reason=reason)
