"""From rows or an export to one commit on the Hub, again and again without sending a byte twice.

The order is what makes it safe: blobs first, which no revision names yet; then one commit that
adds all files of the configuration, removes its old ones, and has the card last. Killed anywhere,
the repository is at the revision before or at the one after. Blobs that arrived are not sent
again, and shards that the repository holds already are not even made (see ``record.py``).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vision_ift._build import Progress, silent
from vision_ift._errors import UsageError
from vision_ift._origin import Secret
from vision_ift._plan.plan import Plan
from vision_ift._push.content import content_of
from vision_ift._push.foresee import foresee
from vision_ift._push.hub import MAIN, Repository, checked_names
from vision_ift._push.hub import secret as stored_secret
from vision_ift._push.pushing import Pushing
from vision_ift._push.report import Asked, PushReport
from vision_ift._recipe.recipe import Recipe
from vision_ift._table import Table

__all__ = ["PushReport", "push"]

#: What a Parquet file comes to where nothing is asked: few enough files, and each is sent whole.
SHARD_BYTES = 500_000_000


def push(
    what: Plan | Table | Recipe | str | Path,
    repo: str,
    *,
    config: str | None = None,
    root: Path | str | None = None,
    tables: Path | str | None = None,
    total: int | None = None,
    split: str = "train",
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    set_default: bool | None = None,
    max_shard_bytes: int = SHARD_BYTES,
    dry_run: bool = False,
    allow_missing: bool = False,
    strict: bool = False,
    jobs: int = 1,
    token: Secret | None = None,
    progress: Progress = silent,
) -> PushReport:
    """Push a source or recipe as Parquet, or an export as it is, to a dataset on the Hub.

    Afterwards ``load_dataset(repo, config)`` reads it with `datasets` alone. All of it arrives in
    one commit. The same call after a kill or a failure ends in the same revision; blobs that
    arrived are not sent again, and files that are there are not made again.

    Args:
        what: A source's name, a recipe (a shipped name, a YAML file, a recipe or a plan), a table
            or its folder, or the folder of an export.
        repo: ``org/name``; created where it is not there.
        config: The configuration; ``None``: the recipe's or source's name, for an export
            ``default``, whose files lie at the top of the repository. What the configuration held
            before is replaced.
        root, tables, total, allow_missing: As for :func:`vision_ift.plan`.
        split: The split that a recipe's rows become; a source keeps its authors' splits.
        private: Whether a repository that is created is private.
        revision: The branch; created from the main one where it is not there.
        create_pr: Open one pull request instead of committing to the branch.
        set_default: Whether the configuration is the one that is loaded where none is named;
            ``None``: where it is the first.
        max_shard_bytes: Bytes a Parquet file, about.
        dry_run: Say what would be sent, and write nothing.
        strict: Stop at the first row whose picture is missing or not JPEG, PNG, WebP or GIF, which
            otherwise is left out and counted.
        jobs: Processes that make Parquet files.
        token: Who we are; ``None``: ``HF_TOKEN``, else what ``hf auth login`` stored.
        progress: Told how many rows, or bytes of an export, are done.

    Raises:
        UsageError, UnknownNameError: A call that cannot be meant.
        ServiceError, RefusedError: The Hub does not answer, or refuses.
        RecordError: With ``strict``, a row that cannot be pushed.
        MissingInputError: No row can be pushed, or a file is missing.
        IntegrityError: Files of an export, or of the repository, are not what was recorded.
        DiskError: The disk of the temporary folder is too small.

    >>> push("coco_mix", "not a repository")
    Traceback (most recent call last):
    vision_ift._errors.UsageError: 'not a repository' names no repository; give ORG/NAME
    """
    checked_names(repo, revision)
    if create_pr and revision not in (None, MAIN):
        raise UsageError(
            "a pull request is to the main branch", hint="give revision or create_pr, not both"
        )
    content = content_of(
        what,
        config=config,
        split=split,
        max_shard_bytes=max_shard_bytes,
        root=root,
        tables=tables,
        total=total,
        allow_missing=allow_missing,
        strict=strict,
        jobs=jobs,
        progress=progress,
    )
    repository = Repository(repo, revision=revision or MAIN, token=token or stored_secret())
    asked = Asked(private, create_pr, set_default, strict, jobs)
    if dry_run:
        return foresee(repository, content, asked)
    with _folder() as folder:
        return Pushing(repository, content, asked, folder, progress).run()


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vision_ift-push-") as folder:
        yield Path(folder)
