"""What is used of `datasets` beyond its documentation: a release that changes it fails here."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest

from vision_ift import _hf


def test_the_private_names_are_as_expected() -> None:
    assert _hf.unexpected() == []
    load = importlib.import_module("datasets.load")
    factory = inspect.unwrap(load.dataset_module_factory)
    assert next(iter(inspect.signature(factory).parameters)) == "path"
    assert factory is inspect.unwrap(
        importlib.import_module("datasets.inspect").dataset_module_factory
    )
    module = load.DatasetModule("a", "b", {"dataset_name": "c"})
    assert (module.module_path, module.hash) == ("a", "b")
    assert module.builder_kwargs == {"dataset_name": "c"}


@pytest.mark.parametrize(("module", "name"), list(_hf.SURFACE))
def test_a_datasets_that_changed_is_left_alone_with_a_warning(
    module: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = importlib.import_module("datasets.load")
    original = inspect.unwrap(load.dataset_module_factory)
    monkeypatch.setattr(load, "dataset_module_factory", original)
    changed: Any = _changed
    monkeypatch.setattr(importlib.import_module(module), name, changed)
    with pytest.warns(RuntimeWarning, match=rf"{module}\.{name} has no .*vision_ift\.build"):
        _hf.install()
    assert load.dataset_module_factory in (original, changed)


def test_installing_again_does_nothing() -> None:
    load = importlib.import_module("datasets.load")
    _hf.install()
    factory = load.dataset_module_factory
    _hf.install()
    assert load.dataset_module_factory is factory


def _changed(elsewhere: str) -> None:
    del elsewhere
