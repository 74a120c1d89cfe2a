"""Makes the name ``vision_ift`` known to `datasets`, without importing `datasets`.

`datasets` has no public hook for a name, so one function of its is wrapped: the one that turns
``path`` into the module of a builder. ``SURFACE`` lists all that is used of `datasets` beyond its
documentation, and it is checked before anything is touched: a release that changed it gets a
warning that says what to use instead, and works as if this package were not there.

This module is imported by ``import vision_ift`` and is light; what needs Arrow lies elsewhere.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import time
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

NAME = "vision_ift"
_BUILDER_MODULE = "vision_ift._hf_builder"

#: Module and name to the parameters that are relied on.
SURFACE: dict[tuple[str, str], tuple[str, ...]] = {
    ("datasets.load", "dataset_module_factory"): ("path", "revision", "data_dir", "data_files"),
    ("datasets.inspect", "dataset_module_factory"): ("path", "revision", "data_dir", "data_files"),
    ("datasets.load", "DatasetModule"): ("module_path", "hash", "builder_kwargs"),
    ("datasets.builder", "ArrowBasedBuilder"): ("cache_dir", "dataset_name", "config_name", "hash"),
}


def watch() -> None:
    """Install the name now if `datasets` is loaded, else as soon as it has been imported."""
    if "datasets" in sys.modules:
        install()
    elif not any(isinstance(finder, _Watcher) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watcher())


class _Watcher:
    """Finds exactly ``datasets``, where the other finders find it, and installs after its import.

    It stays until that import has succeeded: others ask where `datasets` is and never import it.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "datasets":
            return None
        for finder in sys.meta_path:
            if isinstance(finder, _Watcher):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                self._follow(spec)
                return spec
        return None

    def _follow(self, spec: ModuleSpec) -> None:
        loader = spec.loader
        if loader is None:
            return
        original = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            original(module)
            del loader.exec_module
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            install()

        # The loader stays what it is (resources, source, pickling); only this import is followed.
        loader.exec_module = exec_module  # type: ignore[method-assign]  # for this one import


def install() -> None:
    """Wrap the function of `datasets` that resolves names; a second call does nothing."""
    if not hasattr(sys.modules["datasets"], "load_dataset"):
        return  # somebody's own package of that name
    problems = unexpected()
    if problems:
        warnings.warn(
            f"load_dataset({NAME!r}, ...) does not work with this version of datasets "
            f"({'; '.join(problems)}); use vision_ift.build(NAME, root=ROOT), or push a recipe to "
            "the Hub and load it from there",
            RuntimeWarning,
            stacklevel=2,
        )
        return
    load: Any = importlib.import_module("datasets.load")
    look: Any = importlib.import_module("datasets.inspect")  # holds a reference of its own
    original = load.dataset_module_factory
    if getattr(original, "__vision_ift__", False):
        return
    signature = _signature(original)

    @functools.wraps(original)
    def factory(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        if given["path"] != NAME:  # "./vision_ift" and "org/vision_ift" are other things
            return original(*args, **kwargs)
        _refuse(given)
        # The builder's own hash takes the place of this one: only it knows the configuration.
        return load.DatasetModule(_BUILDER_MODULE, "", {"dataset_name": NAME})

    factory.__vision_ift__ = True  # type: ignore[attr-defined]  # a mark of ours
    load.dataset_module_factory = factory
    look.dataset_module_factory = factory


def _signature(function: Any) -> Any:
    import inspect  # a third of what importing this package would cost

    return inspect.signature(function)


def _refuse(given: dict[str, Any]) -> None:
    """Stop at arguments that would be ignored."""
    from vision_ift._errors import UsageError

    if given.get("data_files"):
        raise UsageError(
            f"data_files has no meaning for {NAME}: a source knows its files",
            hint='give data_dir=ROOT; for a file of your own, load_dataset("vision_ift", '
            '"messages", options={"path": "my.jsonl"}, data_dir=ROOT)',
        )
    if given.get("revision"):
        raise UsageError(
            f"revision has no meaning for {NAME}: it is the installed package",
            hint='install the version that you want, or load "org/vision_ift" from the Hub',
        )


def unexpected() -> list[str]:
    """Say what of ``SURFACE`` is not as expected in the installed `datasets`."""
    problems = []
    for (module, name), wanted in SURFACE.items():
        try:
            value = getattr(importlib.import_module(module), name)
            parameters = _signature(value).parameters
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            problems.append(f"{module}.{name}: {error}")
            continue
        missing = [parameter for parameter in wanted if parameter not in parameters]
        if missing:
            problems.append(f"{module}.{name} has no {', '.join(missing)}")
    return problems


def prepare(name: str, *, root: Path | str | None = None) -> Path:
    """Fill the cache of `datasets`, so that the name loads without importing this package.

    Afterwards ``load_dataset("vision_ift", name)`` works in programs that know nothing of us, with
    ``streaming=True``, slices and offline; pictures are still read from under ROOT. It gives what
    was prepared last. Where the current folder holds a folder ``vision_ift``, `datasets` takes
    that instead.

    Args:
        name: A source or a shipped recipe.
        root: Where the authors' files lie; ``None``: ``VISION_IFT_ROOT``, else
            ``~/.cache/vision_ift/sources``.

    Returns:
        The folder that `datasets` will read.

    Raises:
        UnknownNameError: There is no such source or recipe.
        MissingInputError: Its files are not under ``root``.

    >>> prepare("coco_mixx")
    Traceback (most recent call last):
    vision_ift._errors.UnknownNameError: no source or recipe named 'coco_mixx'; did you mean ...
    """
    from vision_ift._hf_builder import VisionIFT
    from vision_ift._hf_rows import check_name

    check_name(name)
    builder = VisionIFT(dataset_name=NAME, config_name=name, root=root)
    builder.download_and_prepare()
    folder = Path(builder.cache_dir)
    # Of several, `datasets` takes the folder with the latest time; two may fall in one clock tick.
    latest = max(other.stat().st_mtime_ns for other in folder.parent.parent.glob("*/*"))
    now = max(time.time_ns(), latest + 1_000_000)
    os.utime(folder, ns=(now, now))
    return folder
