"""The README of an export: what it holds, for people and for `datasets`.

Its YAML head tells `datasets` (and the Hub) which files to read and what is in them; without it,
`datasets` guesses from the first five conversations and loses what comes later. The body is a
function of the manifest alone.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from vision_ift._export.manifest import Manifest, PartOfExport
from vision_ift._export.sidecars import dump_yaml

#: The name of the card in an export.
CARD = "README.md"

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
_MORE_SIZES = ((10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B"))


def features(manifest: Manifest, image_names: Iterable[str]) -> list[dict[str, Any]]:
    """Describe a conversation's members as `datasets` reads them from a card's YAML.

    Plain structs: readable by ``datasets`` >= 4.0, which knows no ``Json``.

    Args:
        manifest: The export.
        image_names: Endings of the image members.
    """

    def text(name: str) -> dict[str, Any]:
        return {"name": name, "dtype": "string"}

    def texts(name: str) -> dict[str, Any]:
        return {"name": name, "list": "string"}

    content = {"name": "content", "list": [text("text"), text("type")]}
    document = [
        text("id"),
        texts("image_paths"),
        texts("images"),
        text("language"),
        text("license"),
        {"name": "messages", "list": [content, text("role")]},
        text("meta"),
        text("source"),
        text("split"),
        text("task"),
    ]
    # Plain endings first, then by number.
    images = sorted(image_names, key=lambda name: ("." in name, name))
    return [
        *({"name": name, "dtype": "image"} for name in images),
        {"name": "json", "struct": document},
        *([text("txt")] if manifest.text else []),
        text("__key__"),
        text("__url__"),
    ]


def head(manifest: Manifest) -> dict[str, Any]:
    """The card's YAML head as plain data."""
    languages = {language for part in manifest.parts for language in part.languages}
    known = sorted(languages - {"unknown"})
    size = next((word for limit, word in _SIZES + _MORE_SIZES if manifest.rows < limit), "n>1B")
    shards = f"{manifest.split}-*.tar"
    # A configuration for each group; the folders' names say nothing to `datasets`.
    configs = [
        {
            "config_name": group.name,
            "data_files": [{"split": manifest.split, "path": f"{group.name}/{shards}"}],
        }
        for group in manifest.groups
    ] or [
        {
            "config_name": "default",
            "data_files": [{"split": manifest.split, "path": shards}],
        }
    ]
    described: Any = [
        {"config_name": group.name, "features": features(manifest, group.image_names)}
        for group in manifest.groups
    ] or {"features": features(manifest, manifest.image_names)}
    return {
        "pretty_name": manifest.name,
        "license": "other",
        **({"language": known} if known else {}),
        "task_categories": ["image-text-to-text"],
        "size_categories": [size],
        "tags": ["webdataset", "visual-instruction-tuning", "vision_ift"],
        "configs": configs,
        "dataset_info": described,
    }


def card(manifest: Manifest) -> str:
    """Write the card of an export."""
    sections = [
        f"# {_cell(manifest.name)}",
        (
            f"{manifest.rows:,} conversations with {manifest.images:,} pictures in "
            f"{len(manifest.shards):,} WebDataset shards ({manifest.bytes:,} bytes), made by "
            "`vision-ift export`. Pictures are the authors' own bytes, never encoded again."
        ),
        _composition(manifest),
        _groups(manifest),
        _licences(manifest),
        _dropped(manifest),
        _loading(manifest),
        "## Identity\n\n"
        + _table(
            ("digest", "of"),
            [
                (f"`{manifest.plan_digest}`", "the plan (`vision_ift/plan.json`)"),
                (f"`{manifest.export_digest}`", "the shards (`vision_ift/manifest.json`)"),
            ],
        ),
    ]
    yaml = dump_yaml(head(manifest)).decode()
    return f"---\n{yaml}---\n\n" + "\n\n".join(part for part in sections if part) + "\n"


def _composition(manifest: Manifest) -> str:
    rows = [
        (
            _cell(part.name) + ("" if part.source == part.name else f" ({_cell(part.source)})"),
            f"{part.rows:,}",
            f"{part.images:,}",
            f"{part.asked:.2%}",
            f"{part.rows / manifest.rows:.2%}",
        )
        for part in manifest.parts
    ]
    text = "## Composition\n\n" + _table(
        ("part", "conversations", "pictures", "share asked", "share delivered"), rows
    )
    if manifest.missing:
        left_out = ", ".join(_cell(name) for name in manifest.missing)
        text += f"\n\nLeft out, because the source was not there: {left_out}."
    return text


def _groups(manifest: Manifest) -> str:
    if not manifest.uniform:
        return ""
    rows = [
        (
            f"`{group.name}`",
            " ".join(f"`{name}`" for name in group.image_names) or "none",
            f"{group.rows:,}",
            f"{group.bytes:,}",
        )
        for group in manifest.groups
    ]
    return (
        "## Groups\n\nRows with the same image members lie in a folder of their own, which is a "
        "configuration for `datasets`.\n\n"
        + _table(("folder", "image members", "conversations", "bytes"), rows)
    )


def _licences(manifest: Manifest) -> str:
    def lines(part: PartOfExport) -> list[tuple[str, str, str]]:
        return [
            (_cell(part.name), _cell(license_), f"{rows:,}")
            for license_, rows in sorted(part.licenses.items())
        ]

    rows = [line for part in manifest.parts for line in lines(part)]
    return "## Licences\n\nEach conversation names its own (`license` in its JSON).\n\n" + _table(
        ("part", "licence", "conversations"), rows
    )


def _dropped(manifest: Manifest) -> str:
    if not manifest.dropped:
        return ""
    return "## Left out\n\nThe first ten of each are in `vision_ift/manifest.json`.\n\n" + _table(
        ("reason", "conversations"),
        [(_cell(reason), f"{rows:,}") for reason, rows in sorted(manifest.dropped.items())],
    )


def _loading(manifest: Manifest) -> str:
    split = manifest.split
    folder, config = "FOLDER", ""
    files = manifest.shards
    if manifest.uniform:  # the largest group stands for all
        most = max(manifest.groups, key=lambda group: group.rows)
        folder, config = f"FOLDER/{most.name}", f'"{most.name}", '
        files = manifest.shards_of(most.name)
    names = [shard.name.rpartition("/")[2] for shard in files]
    first, last = (
        name.removeprefix(f"{split}-").removesuffix(".tar") for name in (names[0], names[-1])
    )
    if len(names) == 1:
        shards = f'"{folder}/{names[0]}"'
    elif len(names) == int(last) - int(first) + 1:
        shards = f'"{folder}/{split}-{{{first}..{last}}}.tar"'
    else:  # a shard of no rows has no file, and webdataset stops at one that is not there
        shards = f'sorted(glob.glob("{folder}/{split}-*.tar"))'
    more = "import glob\n\n" if shards.startswith("sorted") else ""
    decoder = "" if manifest.uniform else ", decoder=None"
    each = " (a group is a whole)" if manifest.uniform else ""
    return f"""## Loading

With `datasets` (this folder, or its name on the Hub):

```python
from datasets import load_dataset

rows = load_dataset("FOLDER", {config}split="{split}", streaming=True)
```

With `webdataset`; `json["images"]` names the image members in the order of the image parts:

```python
{more}import webdataset

rows = webdataset.WebDataset({shards}, shardshuffle=False).decode("pil")
```

With Ray: `ray.data.read_webdataset("{folder}", file_extensions=["tar"]{decoder})`. Energon reads
the folder as it is{each} (`.nv-meta/`), wids by `wids.json`."""


def _table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [titles, ("---",) * len(titles), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


_SPECIAL = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]|<>#"})


def _cell(text: str) -> str:
    """Make text from data harmless in Markdown: one line, no markup."""
    plain = html.escape(" ".join(text.split()), quote=False)
    return plain.translate(_SPECIAL)
