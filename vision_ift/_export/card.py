"""The README of an export: what it holds, for people and for `datasets`.

Its YAML head tells `datasets` (and the Hub) which files to read and what is in them; without it,
`datasets` guesses from the first five conversations and loses what comes later. The body is a
function of the manifest alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vision_ift._cards.head import size_category
from vision_ift._cards.text import cell, join_card, table
from vision_ift._export.manifest import Manifest, PartOfExport

#: The name of the card in an export.
CARD = "README.md"


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
        "size_categories": [size_category(manifest.rows)],
        "tags": ["webdataset", "visual-instruction-tuning", "vision_ift"],
        "configs": configs,
        "dataset_info": described,
    }


def card(manifest: Manifest) -> str:
    """Write the card of an export."""
    sections = [
        f"# {cell(manifest.name)}",
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
        + table(
            ("digest", "of"),
            [
                (f"`{manifest.plan_digest}`", "the plan (`vision_ift/plan.json`)"),
                (f"`{manifest.export_digest}`", "the shards (`vision_ift/manifest.json`)"),
            ],
        ),
    ]
    return join_card(head(manifest), "\n\n".join(part for part in sections if part))


def _composition(manifest: Manifest) -> str:
    rows = [
        (
            cell(part.name) + ("" if part.source == part.name else f" ({cell(part.source)})"),
            f"{part.rows:,}",
            f"{part.images:,}",
            f"{part.asked:.2%}",
            f"{part.rows / manifest.rows:.2%}",
        )
        for part in manifest.parts
    ]
    text = "## Composition\n\n" + table(
        ("part", "conversations", "pictures", "share asked", "share delivered"), rows
    )
    if manifest.missing:
        left_out = ", ".join(cell(name) for name in manifest.missing)
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
        + table(("folder", "image members", "conversations", "bytes"), rows)
    )


def _licences(manifest: Manifest) -> str:
    def lines(part: PartOfExport) -> list[tuple[str, str, str]]:
        return [
            (cell(part.name), cell(license_), f"{rows:,}")
            for license_, rows in sorted(part.licenses.items())
        ]

    rows = [line for part in manifest.parts for line in lines(part)]
    return "## Licences\n\nEach conversation names its own (`license` in its JSON).\n\n" + table(
        ("part", "licence", "conversations"), rows
    )


def _dropped(manifest: Manifest) -> str:
    if not manifest.dropped:
        return ""
    return "## Left out\n\nThe first ten of each are in `vision_ift/manifest.json`.\n\n" + table(
        ("reason", "conversations"),
        [(cell(reason), f"{rows:,}") for reason, rows in sorted(manifest.dropped.items())],
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
