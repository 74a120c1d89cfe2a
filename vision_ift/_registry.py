"""From a source's name to its builder.

Sources are the public modules of every package that the entry-point group ``vision_ift.builders``
names, so a new file in such a package is a new source: no list to edit. A module is imported when
it is asked for, not before.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points

from vision_ift._builder import Builder
from vision_ift._errors import UnknownNameError, UsageError

GROUP = "vision_ift.builders"


@cache
def _modules() -> dict[str, str]:
    found: dict[str, str] = {}
    for package_name in sorted({point.value for point in entry_points(group=GROUP)}):
        package = importlib.import_module(package_name)
        for module in pkgutil.iter_modules(package.__path__):
            if module.name.startswith("_"):
                continue
            dotted = f"{package_name}.{module.name}"
            if module.name in found:
                raise UsageError(
                    f"two sources are named {module.name!r}: {found[module.name]} and {dotted}",
                    hint="rename one of the files",
                )
            found[module.name] = dotted
    return found


def names() -> list[str]:
    """List the sources that are installed, sorted.

    >>> "coco_ift" in names()
    True
    """
    return sorted(_modules())


@cache
def find(name: str) -> Builder:
    """Give the builder of a source.

    >>> find("coco_ift").name
    'coco_ift'

    Raises:
        UnknownNameError: No such source; the message offers the nearest names.
        UsageError: The source's module does not define exactly one builder.
    """
    modules = _modules()
    if name not in modules:
        raise UnknownNameError("source", name, modules, hint="(list them: vision-ift sources)")
    module = importlib.import_module(modules[name])
    builders = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Builder)
        and value.__module__ == module.__name__
    ]
    if len(builders) != 1:
        raise UsageError(
            f"{modules[name]} defines {len(builders)} builders",
            hint="a source is a module with exactly one subclass of vision_ift.Builder",
        )
    (kind,) = builders
    kind.name = name
    return kind()
