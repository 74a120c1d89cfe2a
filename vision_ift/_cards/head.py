"""The YAML head of a card: what `datasets` and the Hub read.

Keys and values are those of the Hub's specification of dataset cards
(github.com/huggingface/hub-docs, datasetcard.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from vision_ift._cards.facts import CardFacts
from vision_ift._conversation import FEATURES_JSON
from vision_ift._plan.licences import licences_of

#: From the specification; a size belongs to the first whose limit it is below.
_SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
    (10**9, "100M<n<1B"),
    (10**10, "1B<n<10B"),
    (10**11, "10B<n<100B"),
    (10**12, "100B<n<1T"),
)

#: Licences that the Hub has a name for, of those that the sources state.
_HUB_LICENCES = {
    "Apache-2.0": "apache-2.0",
    "CC-BY-4.0": "cc-by-4.0",
    "CC-BY-NC-4.0": "cc-by-nc-4.0",
    "CC-BY-SA-4.0": "cc-by-sa-4.0",
    "CC0-1.0": "cc0-1.0",
    "MIT": "mit",
}

_LANGUAGE = re.compile(r"[a-z]{2,3}")


def size_category(rows: int) -> str:
    """Give the Hub's word for a number of rows.

    >>> size_category(378_186), size_category(10**12)
    ('100K<n<1M', 'n>1T')
    """
    return next((word for limit, word in _SIZES if rows < limit), "n>1T")


def row_features() -> list[dict[str, Any]]:
    """Describe the row as `datasets` writes it in a card.

    >>> row_features()[1]
    {'name': 'images', 'list': {'image': {'mode': 'RGB'}}}
    """
    return [{"name": name, **_feature(value)} for name, value in FEATURES_JSON.items()]


def _feature(value: Mapping[str, Any]) -> dict[str, Any]:
    """Write one feature of ``FEATURES_JSON`` in the form that cards have."""
    kind = value.get("_type")
    if kind == "List":
        inner = _feature(value["feature"])
        return {"list": inner.get("dtype", inner.get("struct", inner))}
    if kind == "Value":
        return {"dtype": value["dtype"]}
    if kind == "Image":
        return {"image": {"mode": value["mode"]}}
    return {"struct": [{"name": name, **_feature(one)} for name, one in value.items()]}


def licence_id(statements: Iterable[str]) -> str:
    """Give the Hub's name of a licence that covers everything, else ``other``.

    >>> licence_id(["CC-BY-4.0"]), licence_id(["CC-BY-4.0", "MIT"])
    ('cc-by-4.0', 'other')
    """
    found = {one for statement in statements for one in licences_of(statement)}
    return _HUB_LICENCES.get(found.pop(), "other") if len(found) == 1 else "other"


def general(facts: Iterable[CardFacts], *, rows: int | None, title: str) -> dict[str, Any]:
    """Make the part of a head that speaks of the whole repository.

    Args:
        facts: What the configurations are.
        rows: Rows of all of them; ``None`` leaves the size out.
        title: ``pretty_name``.
    """
    every = list(facts)
    sources = {source.name: source for one in every for source in one.sources}
    languages = sorted({one for fact in every for one in fact.languages})
    terms = [layer.terms for one in sources.values() for layer in one.told.layers if layer.terms]
    terms += [one.license for one in sources.values() if not one.told.layers]
    licence = licence_id(terms)
    return {
        "pretty_name": title,
        "license": licence,
        **({"license_name": "by-layer-see-licences"} if licence == "other" else {}),
        "language": [one for one in languages if _LANGUAGE.fullmatch(one)],
        "task_categories": list(dict.fromkeys(one for fact in every for one in fact.tasks)),
        **({} if rows is None else {"size_categories": [size_category(rows)]}),
        "tags": ["visual-instruction-tuning", "vision_ift", *sorted(sources)],
    }


def planned_head(facts: CardFacts, *, rows: int | None = None) -> dict[str, Any]:
    """Make the head of a card of something that is not published yet.

    Its files are named as ``vision-ift push`` names them; sizes are left out, since `datasets`
    takes them for exact.
    """
    return {
        **general([facts], rows=facts.rows if rows is None else rows, title=facts.title),
        "configs": [
            {
                "config_name": facts.name,
                "data_files": [
                    {"split": split, "path": f"{facts.name}/{split}-*"} for split in facts.splits
                ],
            }
        ],
        "dataset_info": [{"config_name": facts.name, "features": row_features()}],
    }
