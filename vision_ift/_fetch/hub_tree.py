"""What a dataset's repository on the Hub holds at one commit, with sizes and digests."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from typing import NamedTuple
from urllib.parse import quote

from vision_ift._errors import IntegrityError, MissingInputError
from vision_ift._fetch.download import Downloads
from vision_ift._locks import Entry, HubPart
from vision_ift._origin import Secret

#: Where the Hub is for everybody; ``HF_ENDPOINT`` may name a mirror, which no lock mentions.
HUB = "https://huggingface.co"


class Tree(NamedTuple):
    """A commit and the files of it that a source reads."""

    revision: str
    entries: tuple[Entry, ...]


def secret() -> Secret | None:
    """The Hub's token, from ``HF_TOKEN`` alone."""
    from huggingface_hub import constants

    token = os.environ.get("HF_TOKEN", "").strip()
    return Secret(token, url=constants.ENDPOINT) if token else None


def switched_off() -> bool:
    """Whether ``HF_HUB_OFFLINE`` asks for no network at all."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def real_url(url: str) -> str:
    """Where a file of the Hub is fetched from here: the Hub itself, or ``HF_ENDPOINT``."""
    from huggingface_hub import constants

    return constants.ENDPOINT + url.removeprefix(HUB) if url.startswith(f"{HUB}/") else url


def latest(part: HubPart, downloads: Downloads) -> str:
    """The newest commit of a repository.

    Raises:
        ServiceError: The Hub does not answer, or refuses.
    """
    from huggingface_hub import HfApi

    info = downloads.ask(
        f"dataset {part.repository} on the Hub",
        lambda: HfApi(token=_token()).dataset_info(part.repository),
    )
    return info.sha or "main"


def tree(part: HubPart, revision: str, downloads: Downloads, *, source: str) -> Tree:
    """List the files that a source reads at one commit.

    Raises:
        ServiceError: The Hub does not answer, or refuses, or has no such commit any more.
        MissingInputError: The repository holds none of the files.
        IntegrityError: It names a file that would leave the source's folder.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    found = downloads.ask(
        f"dataset {part.repository} on the Hub",
        lambda: list(
            HfApi(token=_token()).list_repo_tree(
                part.repository, recursive=True, revision=revision, repo_type="dataset"
            )
        ),
    )
    patterns = part.files or ("*",)
    page = f"{HUB}/datasets/{part.repository}"
    entries = []
    for one in sorted(
        (one for one in found if isinstance(one, RepoFile)), key=lambda one: one.path
    ):
        if not any(fnmatchcase(one.path, pattern) for pattern in patterns):
            continue
        try:
            entries.append(
                Entry(
                    url=f"{page}/resolve/{revision}/{quote(one.path)}",
                    place=f"{source}/{one.path}",
                    bytes=one.size,
                    sha256=one.lfs.sha256 if one.lfs else None,
                    git_sha1=None if one.lfs else one.blob_id,
                    published=page,
                    license=part.license,
                    license_url=page,
                    on_request=part.on_request,
                )
            )
        except ValueError as error:
            raise IntegrityError(f"dataset {part.repository} on the Hub: {error}") from None
    if not entries:
        raise MissingInputError(
            f"dataset {part.repository} on the Hub holds none of {', '.join(patterns)}",
            hint=f"its authors may have renamed them: see {page}",
        )
    return Tree(revision, tuple(entries))


def _token() -> str | bool:
    """``False`` keeps the library from reading a stored one."""
    return os.environ.get("HF_TOKEN", "").strip() or False
