"""Every code block of the README and the docs is run, on the drawn root."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.needs import needs
from vision_ift._cli import main as _cli
from vision_ift._recipe.recipe import Recipe

# webdataset leaves the files that it has read to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

HERE = Path(__file__).parents[1]
PAGES = [HERE / "README.md", *sorted((HERE / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

#: A comment in a page whose code needs more than the core install.
NEEDS = re.compile(r"^<!-- the code of this page needs: (.+) -->$", re.MULTILINE)


def needed(page: Path) -> list[str]:
    """Name the packages that a page asks for."""
    return [
        name.strip()
        for found in NEEDS.findall(page.read_text("utf-8"))
        for name in found.split(",")
    ]


def test_a_block_is_found() -> None:
    assert BLOCK.findall("x\n```sh\nls\n```\n") == [("sh", "ls\n")]


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=needs(*needed(page)), id=page.name) for page in PAGES]
)
def test_the_code_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn_root: Path
) -> None:
    import datasets

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VISION_IFT_TABLES", str(drawn_root.parent / "tables"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    # A stream that is left early sleeps for seconds in `datasets`.
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)
    (tmp_path / "data").symlink_to(drawn_root)
    monkeypatch.chdir(tmp_path)
    if "transformers" in needed(page):
        _lay_out_model(tmp_path / "llava", monkeypatch)
    names: dict[str, object] = {}
    for kind, text in BLOCK.findall(page.read_text("utf-8")):
        if kind == "sh":
            _shell(text)
        elif kind == "python":
            exec(compile(text, page.name, "exec"), names)
        elif kind == "yaml":
            assert Recipe.parse(text).mix


def _lay_out_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Save a tiny processor and model where a page loads one from."""
    import warnings

    from tests.torch.processors import llava_model, llava_processor

    warnings.simplefilter("ignore")  # what torch, transformers and TRL say of each other
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    processor = llava_processor()
    processor.save_pretrained(folder)
    llava_model(processor).save_pretrained(folder)


def _shell(text: str) -> None:
    for line in text.splitlines():
        words = [os.path.expanduser(word) for word in shlex.split(line, comments=True)]
        if words[0] == "make":  # what the targets do is tested by running them
            continue
        assert words[0] == "vision-ift", line
        result = CliRunner().invoke(_cli.app, words[1:], catch_exceptions=False)
        assert result.exit_code == 0, (line, result.output)
