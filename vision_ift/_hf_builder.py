"""The builder that `datasets` instantiates; it delegates everything.

It has a module of its own because `datasets` replaces ``open``, ``os.path`` and others in the
globals of a builder's module, and takes the first builder class that it finds there.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.utils import tqdm

from vision_ift import _registry
from vision_ift._conversation import FEATURES_JSON
from vision_ift._errors import UnknownNameError
from vision_ift._hf_rows import Ranges, Request, Rows, names, tables

_ARGUMENTS = ("recipe", "options", "total", "allow_missing", "tables", "strict")


@dataclass(eq=False)
class VisionIFTConfig(datasets.BuilderConfig):  # type: ignore[misc]  # datasets ships no types
    """A source or recipe, and what ``load_dataset`` was given beside its name.

    See :class:`vision_ift._hf_rows.Request` for what the arguments mean; ``recipe`` is the path of
    a recipe's YAML file, instead of a name.
    """

    recipe: str | None = None
    options: Mapping[str, Any] | None = None
    total: int | None = None
    allow_missing: bool = False
    tables: str | None = None
    strict: bool = False


class VisionIFT(datasets.ArrowBasedBuilder):  # type: ignore[misc]  # datasets ships no types
    """Gives the rows of a source or a recipe to `datasets`.

    Args:
        config_name: A source, a shipped recipe, or the path of a recipe's YAML file.
        data_dir: ROOT; ``None``: ``VISION_IFT_ROOT``, else ``~/.cache/vision_ift/sources``.
        root: ROOT where it must not become part of the cache's name (see ``prepare``).
        more: The fields of :class:`VisionIFTConfig`, and what `datasets` gives every builder.
    """

    BUILDER_CONFIG_CLASS = VisionIFTConfig
    BUILDER_CONFIGS = [VisionIFTConfig(name=name) for name in names()]  # noqa: RUF012 - their way

    def __init__(
        self,
        *,
        config_name: str | None = None,
        data_dir: Path | str | None = None,
        root: Path | str | None = None,
        **more: Any,
    ) -> None:
        _check(more)
        if config_name is not None and config_name.endswith((".yaml", ".yml")):
            more["recipe"], config_name = config_name, None
        given = {name: more[name] for name in _ARGUMENTS if more.get(name) is not None}
        self.request = Request.of(config_name, root=root if data_dir is None else data_dir, **given)
        more["hash"] = self.request.cache_key()
        super().__init__(config_name=config_name, data_dir=data_dir and str(data_dir), **more)

    def _info(self) -> datasets.DatasetInfo:
        features = datasets.Features.from_dict(FEATURES_JSON)
        recipe, source = self.request.recipe, self.request.source
        if source is None:
            return datasets.DatasetInfo(
                description=recipe.description if recipe else "", features=features
            )
        builder = _registry.find(source)
        return datasets.DatasetInfo(
            description=builder.title,
            homepage=builder.homepage,
            license=builder.license,
            citation=builder.citation,
            features=features,
        )

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        del dl_manager  # the files are there already
        with tqdm(unit=" rows", delay=2) as bar:

            def show(what: str, done: int, total: int) -> None:
                bar.set_description(what, refresh=False)
                bar.total = total or None
                bar.update(done - bar.n)

            splits = self.request.splits(show)
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"rows": rows, "ranges": ranges})
            for split, (rows, ranges) in splits.items()
        ]

    def _generate_tables(self, rows: Rows, ranges: Ranges) -> Iterator[tuple[str, pa.Table]]:
        yield from tables(rows, ranges)


def _check(more: dict[str, Any]) -> None:
    """Refuse arguments that nobody knows; `datasets` would take any attribute of the config."""
    theirs = inspect.signature(datasets.ArrowBasedBuilder.__init__).parameters
    for name in more:
        if name not in theirs and name not in _ARGUMENTS:
            raise UnknownNameError("argument of load_dataset for vision_ift", name, _ARGUMENTS)
