"""A Hub on this machine to push to from this process, and to read from with plain `datasets`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub import Hub, serving

REPO = "org/name"
TOKEN = "hf_canaryABCDEFGHIJKLMNOPQRSTUVWXYZ"

#: What ``datasets`` alone makes of a repository: run in a process without our package.
READ = """
import base64, json, sys
import datasets
assert not any(name.startswith("vision_ift") for name in sys.modules)
datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0
repo, config, how = sys.argv[1:4]
if how == "names":
    print(json.dumps(datasets.get_dataset_config_names(repo)))
    sys.exit()
split, kept = (how, {"streaming": False}) if how != "stream" else ("train", {"streaming": True})
rows = datasets.load_dataset(repo, *([config] if config else []), split=split, **kept)
plain = rows.decode(False) if how == "stream" else rows.with_format(None)
if how != "stream":
    for name, feature in rows.features.items():
        if name == "images":
            rows = rows.cast_column(name, datasets.List(datasets.Image(decode=False)))
        elif isinstance(feature, datasets.Image):
            rows = rows.cast_column(name, datasets.Image(decode=False))
    plain = rows
def value(one):
    return base64.b64encode(one).decode()
print(json.dumps(list(plain), default=value))
"""


def hub_for(folder: Path, monkeypatch: pytest.MonkeyPatch, **how: Any) -> Iterator[Hub]:
    """Serve a Hub to this process, and to those that it starts with ``hub.environment``."""
    from huggingface_hub import close_session, constants

    with serving(folder / "hub", token=TOKEN, **how) as hub:
        for name, value in hub.environment(folder / "home").items():
            if os.environ.get(name) != value:
                monkeypatch.setenv(name, value)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("vision_ift._push.hub.WAITS_S", (0.01, 0.01))
        close_session()
        yield hub
        close_session()


def read(
    hub: Hub, home: Path, config: str = "", how: str = "train", *, repo: str = REPO
) -> list[Any]:
    """Load a repository's rows with `datasets` alone; bytes come as base64."""
    done = subprocess.run(
        [sys.executable, "-c", READ, repo, config, how],
        env=hub.environment(home, PYTHONPATH=""),
        cwd=home.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def tree(hub: Hub, repo: str = REPO, revision: str = "main") -> dict[str, str]:
    """Every file of a revision with the digest of its bytes."""
    return {path: entry.sha256 for path, entry in hub.files(repo, revision).items()}
