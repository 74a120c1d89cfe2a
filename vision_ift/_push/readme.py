"""The README of a repository of several configurations, of which a push writes one.

What others wrote stays: keys of the head that are not ours, other configurations, and the body
outside the block between our two marks. Never are two configurations the default: `datasets` then
fails for everybody who names none (its own ``push_to_hub(set_default=True)`` fails with a KeyError
where the only other configuration is not marked; ours marks it).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from vision_ift._cards.body import background_of
from vision_ift._cards.head import row_features, size_category
from vision_ift._cards.text import cell, code, fenced, join_card, split_card, table
from vision_ift._errors import UsageError
from vision_ift._push.parquet import Share

README = "README.md"

#: Endings of the formats that a repository of `datasets` may be of.
_KINDS = frozenset({"parquet", "tar", "arrow", "csv", "json", "jsonl"})


class SplitFacts(NamedTuple):
    """What a README says of one split: its rows, and their bytes in memory and in files."""

    rows: int
    row_bytes: int
    file_bytes: int


class ConfigFacts(NamedTuple):
    """What a README says of one configuration.

    Attributes:
        name: The configuration.
        entries: Its entries under ``configs``: usually one.
        infos: Its entries under ``dataset_info``.
        title: What was pushed: a recipe's or source's name.
        rows, images: In all.
        languages: ISO 639-1 codes that rows state.
        tags: Of the repository.
        body: Its part of the body.
    """

    name: str
    entries: list[dict[str, Any]]
    infos: list[dict[str, Any]]
    title: str
    rows: int
    images: int
    languages: list[str]
    tags: list[str]
    body: str


def parquet_facts(
    config: str,
    *,
    repo: str,
    title: str,
    digest: str,
    splits: Mapping[str, SplitFacts],
    shares: Mapping[str, Share],
    dropped: Mapping[str, int],
) -> ConfigFacts:
    """Say what a configuration of Parquet files is."""
    languages = sorted({one for share in shares.values() for one in share.languages} - {"unknown"})
    rows = sum(one.rows for one in splits.values())
    images = sum(one.images for one in shares.values())
    info = {
        "config_name": config,
        "features": row_features(),
        "splits": [
            {"name": name, "num_bytes": one.row_bytes, "num_examples": one.rows}
            for name, one in splits.items()
        ],
        "download_size": sum(one.file_bytes for one in splits.values()),
        "dataset_size": sum(one.row_bytes for one in splits.values()),
    }
    files = [{"split": name, "path": f"{config}/{name}-*.parquet"} for name in splits]
    size = sum(one.file_bytes for one in splits.values())
    sections = [
        f"## {cell(config)}",
        (
            f"{rows:,} conversations with {images:,} pictures of {cell(title)}, {size:,} bytes "
            "of Parquet, made by `vision-ift push`. Pictures are the authors' own bytes, never "
            "encoded again."
        ),
        _composition(shares),
        _dropped(dropped),
        fenced(
            "from datasets import load_dataset\n\n"
            f'rows = load_dataset("{repo}", "{config}", split="{next(iter(splits))}")',
            "python",
        ),
        background_of(shares, level=3, licenses=_licenses(shares)),
        f"Rows named by {code(digest)}.",
    ]
    return ConfigFacts(
        name=config,
        entries=[{"config_name": config, "data_files": files}],
        infos=[info],
        title=title,
        rows=rows,
        images=images,
        languages=languages,
        tags=["visual-instruction-tuning", "vision_ift"],
        body="\n\n".join(part for part in sections if part),
    )


def _composition(shares: Mapping[str, Share]) -> str:
    rows = [
        (cell(source), cell(license_), f"{count:,}")
        for source, share in shares.items()
        for license_, count in sorted(share.licenses.items())
    ]
    return table(("source", "licence of the row", "conversations#"), rows) if rows else ""


def _licenses(shares: Mapping[str, Share]) -> dict[str, int]:
    """Rows by the licence that they state."""
    whole: Counter[str] = Counter()
    for share in shares.values():
        whole.update(share.licenses)
    return dict(whole)


def _dropped(dropped: Mapping[str, int]) -> str:
    if not dropped:
        return ""
    rows = [(cell(reason), f"{count:,}") for reason, count in sorted(dropped.items())]
    return "Left out:\n\n" + table(("reason", "conversations#"), rows)


def merged(old: str, facts: ConfigFacts, *, repo: str, set_default: bool | None) -> str:
    """Put a configuration into a README, in place of what it said of that one before.

    Args:
        old: The README as it is; empty where there is none.
        facts: The configuration.
        repo: The repository's name.
        set_default: Whether it is the one that is loaded where none is named; ``None``: where it
            is the first; one that was there stays what it was.

    Raises:
        IntegrityError: The head of the old one cannot be read.
    """
    head, body = split_card(old)
    mine = {entry["config_name"] for entry in facts.entries} | {
        entry.get("config_name") for entry in configs_of(head) if is_of(entry, facts.name)
    }
    before = configs_of(head)
    others = [dict(entry) for entry in before if entry.get("config_name") not in mine]
    entries = [dict(entry) for entry in facts.entries]
    was_default = any(entry.get("default") for entry in before if entry not in others)
    is_new = len(others) == len(before)
    wanted = set_default
    if wanted is None:
        wanted = was_default or (is_new and not others)
    if wanted:
        entries[0]["default"] = True
        for entry in others:
            entry.pop("default", None)
    infos = [one for one in _infos_of(head) if one.get("config_name", "default") not in mine]
    infos += facts.infos
    total = sum(_rows_of(one) for one in infos) or facts.rows
    # Keys that are there keep their place.
    for key, value in (
        ("pretty_name", head.get("pretty_name") or repo.partition("/")[2]),
        ("license", head.get("license") or "other"),
        ("language", _union(head.get("language"), facts.languages)),
        ("task_categories", _union(head.get("task_categories"), ["image-text-to-text"])),
        ("size_categories", [size_category(total)]),
        ("tags", _union(head.get("tags"), facts.tags)),
        ("configs", sorted(others + entries, key=lambda one: not one.get("default"))),
        ("dataset_info", infos),
    ):
        if value:
            head[key] = value
    return join_card(head, _with_block(body, facts, repo))


def configs_of(head: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give the entries under ``configs`` of a README's head."""
    found = head.get("configs")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def files_of(entry: Mapping[str, Any], paths: list[str]) -> set[str]:
    """Say which files of a repository an entry under ``configs`` names."""
    patterns = _patterns(entry)
    return {path for path in paths if any(fnmatchcase(path, pattern) for pattern in patterns)}


def _patterns(entry: Mapping[str, Any]) -> list[str]:
    found = entry.get("data_files")
    if isinstance(found, dict | str):
        found = [found]
    folder = str(entry.get("data_dir") or "").strip("/")
    patterns = []
    for one in found if isinstance(found, list) else []:
        path = one.get("path") if isinstance(one, dict) else one
        patterns += [str(each) for each in (path if isinstance(path, list) else [path]) if each]
    if not patterns and folder:
        patterns = ["*"]
    return [f"{folder}/{one}" if folder else one for one in patterns]


def refuse_other_kinds(readme: str, config: str, kind: str) -> None:
    """Stop where the repository has configurations of another format.

    `datasets` reads all configurations of a repository in the format that it finds first, so one of
    the two could not be read.

    Raises:
        UsageError: It has.
    """
    for entry in configs_of(split_card(readme)[0]):
        if is_of(entry, config):
            continue
        for path in _patterns(entry):
            ending = path.rpartition(".")[2]
            if ending in _KINDS and ending != kind:
                raise UsageError(
                    f"configuration {entry.get('config_name')} of the repository is of {ending} "
                    f"files, this one of {kind} files, and datasets reads one format a repository",
                    hint="push to a repository of its own",
                )


def is_of(entry: Mapping[str, Any], config: str) -> bool:
    """Whether an entry belongs to a configuration: it has its name, or is a group of it."""
    name = str(entry.get("config_name", ""))
    return name == config or re.fullmatch(rf"{re.escape(config)}-img\d+(-.+)?", name) is not None


def _infos_of(head: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = head.get("dataset_info")
    if isinstance(found, dict):
        found = [{"config_name": "default", **found}]
    return [dict(one) for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _rows_of(info: Mapping[str, Any]) -> int:
    splits = info.get("splits")
    counts = [one.get("num_examples") for one in splits or [] if isinstance(one, dict)]
    return sum(count for count in counts if isinstance(count, int))


def _union(old: Any, new: list[str]) -> list[Any]:
    """What was there, in its order, and what is new."""
    there = old if isinstance(old, list) else [] if old is None else [old]
    return [*there, *(one for one in new if one not in there)]


def _with_block(body: str, facts: ConfigFacts, repo: str) -> str:
    """Put a configuration's part into a body, in the place of its older one or at the end."""
    first, last = f"<!-- vision_ift: {facts.name} -->", f"<!-- end of {facts.name} -->"
    block = f"{first}\n{facts.body.strip()}\n{last}"
    start, stop = body.find(first), body.find(last)
    if 0 <= start < stop:
        return body[:start] + block + body[stop + len(last) :]
    title = f"# {cell(repo.partition('/')[2])}"
    return f"{body.strip() or title}\n\n{block}\n"
