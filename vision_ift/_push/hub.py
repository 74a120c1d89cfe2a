"""A repository of datasets on the Hub: what it holds, blobs to it, and one commit.

All requests go through ``huggingface_hub``. What it says of a failure is said anew in our own
words: a server may repeat what it was sent, and a frame of its stack holds the token.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from vision_ift._errors import (
    IntegrityError,
    RefusedError,
    ServiceError,
    UsageError,
)
from vision_ift._origin import Secret

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

Answer = TypeVar("Answer")

MAIN = "main"

#: Seconds between tries of what fails in passing; ``huggingface_hub`` tries again by itself too.
WAITS_S = (1.0, 4.0)

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_MOVED = frozenset({409, 412})
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_BRANCH = re.compile(r"(?!refs/)[A-Za-z0-9_][\w./-]{0,199}", re.ASCII)

#: The largest of our own files that is read from a repository, in bytes.
_MOST_BYTES = 64 << 20


class Stored(NamedTuple):
    """One file of a repository: a large one has a sha256, a small one git's own digest alone."""

    size: int
    sha256: str
    git_sha1: str = ""

    def holds(self, size: int, sha256: str, git_sha1: str = "") -> bool:
        """Whether it is the file of this size and these digests."""
        if self.size != size:
            return False
        return self.sha256 == sha256 if self.sha256 else self.git_sha1 == git_sha1 != ""


class State(NamedTuple):
    """A revision.

    Attributes:
        commit: Its name; empty where the repository, or anything about it, is not known.
        exists: Whether the repository is there.
        branch: Whether the branch is there; ``commit`` is then that of the main branch.
        private: Whether others cannot see it.
        files: By path.
    """

    commit: str
    exists: bool
    branch: bool
    private: bool
    files: dict[str, Stored]


UNKNOWN = State("", False, False, False, {})


class Sent(NamedTuple):
    """What became of a commit: its name, where to see it, and the pull request's page."""

    commit: str
    url: str
    pull_request: str


class MovedError(Exception):
    """Somebody else committed in between."""


def checked_names(repo: str, revision: str | None) -> None:
    """Refuse what is no name of a repository or a branch.

    Raises:
        UsageError: It is none.
    """
    if not _NAME.fullmatch(repo) or ".." in repo or "--" in repo:
        raise UsageError(f"{repo!r} names no repository", hint="give ORG/NAME")
    if revision is not None and (not _BRANCH.fullmatch(revision) or ".." in revision):
        raise UsageError(f"{revision!r} names no branch", hint="give a name such as next")


def endpoint() -> str:
    """Where the Hub is: ``HF_ENDPOINT``, else huggingface.co."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def secret() -> Secret | None:
    """The token of ``HF_TOKEN`` or of the login file, as ``hf auth login`` leaves it."""
    from huggingface_hub import get_token

    token = (get_token() or "").strip()
    return Secret(token, url=endpoint()) if token else None


class Repository:
    """One repository, asked and written to.

    Args:
        name: ``ORG/NAME``.
        revision: The branch that is meant.
        token: Who we are; ``None``: nobody.
    """

    def __init__(self, name: str, *, revision: str, token: Secret | None) -> None:
        self.name = name
        self.revision = revision
        self._secret = token

    def __repr__(self) -> str:
        return f"Repository({self.name!r}, revision={self.revision!r})"

    @property
    def has_token(self) -> bool:
        """Whether the Hub is told who we are."""
        return self._secret is not None

    @property
    def url(self) -> str:
        """Its page."""
        return f"{endpoint()}/datasets/{self.name}"

    def _api(self) -> HfApi:
        from huggingface_hub import HfApi

        said = self._secret.headers_for(endpoint()) if self._secret else {}
        token = said.get("Authorization", "").removeprefix("Bearer ")
        return HfApi(endpoint=endpoint(), token=token or False, library_name="vision_ift")

    # Reading

    def state(self, revision: str | None = None) -> State:
        """Say what a revision holds.

        Raises:
            ServiceError: The Hub does not answer, or refuses.
        """
        wanted = revision or self.revision
        found = self._info(wanted)
        if isinstance(found, State):
            return found
        branch = True
        if found is None:  # no such branch: it will begin where the main branch stands
            branch, found = False, self._info(MAIN)
            if found is None or isinstance(found, State):
                raise ServiceError(f"{self.name} on the Hub has no branch {MAIN}")
        commit, private = found
        return State(commit, True, branch, private, self.tree(commit))

    def _info(self, revision: str) -> State | tuple[str, bool] | None:
        """Give the commit of a branch; ``None`` where there is none, a state of no repository."""
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        def ask() -> State | tuple[str, bool] | None:
            try:
                info = self._api().dataset_info(self.name, revision=revision)
            except RevisionNotFoundError:
                return None
            except RepositoryNotFoundError:
                return UNKNOWN
            return info.sha or "", bool(info.private)

        return self._ask("asking for it", ask)

    def tree(self, commit: str) -> dict[str, Stored]:
        """List all files of a commit."""
        from huggingface_hub.hf_api import RepoFile

        found = self._ask(
            "listing its files",
            lambda: list(
                self._api().list_repo_tree(
                    self.name, recursive=True, revision=commit, repo_type="dataset"
                )
            ),
        )
        return {
            one.path: Stored(one.size, one.lfs.sha256 if one.lfs else "", one.blob_id)
            for one in found
            if isinstance(one, RepoFile)
        }

    def read(self, path: str, state: State) -> bytes | None:
        """Read a small file of a revision; ``None`` where there is none.

        Raises:
            IntegrityError: It is larger than any that we write.
        """
        there = state.files.get(path)
        if there is None:
            return None
        if there.size > _MOST_BYTES:
            raise IntegrityError(
                f"{path} of {self.name} holds {there.size:,} bytes; at most {_MOST_BYTES:,} are "
                "read",
                hint="see what it is, and remove it",
            )

        def ask() -> bytes:
            with tempfile.TemporaryDirectory(prefix="vision_ift-push-") as folder:
                found = self._api().hf_hub_download(
                    self.name, path, repo_type="dataset", revision=state.commit, cache_dir=folder
                )
                return Path(found).read_bytes()

        return self._ask(f"reading {path}", ask)

    # Writing

    def create(self, *, private: bool | None) -> None:
        """Create the repository where it is not there."""
        self._ask(
            "creating it",
            lambda: self._api().create_repo(
                self.name, repo_type="dataset", private=private, exist_ok=True
            ),
        )

    def create_branch(self, commit: str) -> None:
        """Create the branch where it is not there, from a commit."""
        self._ask(
            f"creating the branch {self.revision}",
            lambda: self._api().create_branch(
                self.name, branch=self.revision, revision=commit, repo_type="dataset", exist_ok=True
            ),
        )

    def addition(self, path: str, data: Path | bytes, sha256: str = "") -> CommitOperationAdd:
        """Make the part of a commit that adds a file; a known sha256 is not taken again."""
        from huggingface_hub import CommitOperationAdd

        made = CommitOperationAdd(path_in_repo=path, path_or_fileobj=data)
        if sha256:
            made.upload_info.sha256 = bytes.fromhex(sha256)
        return made

    def upload(self, addition: CommitOperationAdd, *, pull_request: bool) -> bool:
        """Send a blob, unless the Hub has it; say whether the file here is done with.

        A small file may be one that goes with the commit itself; it is then still needed.
        """
        self._ask(
            f"sending {addition.path_in_repo}",
            lambda: self._api().preupload_lfs_files(
                self.name,
                [addition],
                repo_type="dataset",
                revision=MAIN if pull_request else self.revision,
                create_pr=pull_request,
                num_threads=1,
            ),
        )
        if getattr(addition, "_should_ignore", False):  # the library would leave it out silently
            raise RefusedError(
                f"dataset {self.name} on the Hub: its .gitignore leaves out "
                f"{addition.path_in_repo}",
                hint="remove the line there",
            )
        return addition.path_or_fileobj == b""

    def commit(
        self,
        additions: list[CommitOperationAdd],
        deletions: list[str],
        *,
        title: str,
        parent: str,
        pull_request: bool,
    ) -> Sent:
        """Make one commit on a known parent; the last addition is last.

        Raises:
            MovedError: The branch is no longer there where it was.
            ServiceError: The Hub does not answer, or refuses.
        """
        from huggingface_hub import CommitOperationDelete

        gone = [CommitOperationDelete(path_in_repo=path, is_folder=False) for path in deletions]
        made = self._ask(
            "the commit",
            lambda: self._api().create_commit(
                self.name,
                operations=[*additions[:-1], *gone, *additions[-1:]],
                commit_message=title,
                repo_type="dataset",
                revision=None if pull_request else self.revision,
                create_pr=pull_request,
                parent_commit=parent,
                num_threads=1,
            ),
            again=False,
        )
        return Sent(made.oid, made.commit_url, made.pr_url or "")

    def pull_requests(self, title: str) -> list[tuple[int, str]]:
        """List the open pull requests of a title: number and page, the newest first."""

        def ask() -> list[tuple[int, str]]:
            found = self._api().get_repo_discussions(
                self.name,
                repo_type="dataset",
                discussion_type="pull_request",
                discussion_status="open",
            )
            return [(one.num, one.url) for one in found if one.title == title]

        return self._ask("listing its pull requests", ask)

    # Failures

    def _ask(self, doing: str, call: Callable[[], Answer], *, again: bool = True) -> Answer:
        """Make a request, again where it fails in passing; a commit is made once."""
        waits = [*WAITS_S] if again else []
        while True:
            try:
                with _quiet():
                    return call()
            except Exception as error:  # noqa: BLE001 - whatever it is, it may quote the token
                failure = self._failure(doing, error, commit=not again)
            # Out of the handler: the error that is raised here has no frame of the library's.
            if not _passing(failure) or not waits:
                raise failure
            time.sleep(waits.pop(0))

    def _failure(self, doing: str, error: Exception, *, commit: bool) -> Exception:
        status, said = _told(error)
        if self._secret is not None:
            said = self._secret.hide(said)
        where = f"dataset {self.name} on the Hub, {doing}"
        if type(error).__name__ == "OfflineModeIsEnabled":
            return RefusedError(
                f"{where}: HF_HUB_OFFLINE asks for no network", hint="unset it to push"
            )
        if commit and status in _MOVED:
            return MovedError(f"{where}: {said}")
        if status in (401, 403) or type(error).__name__ == "RepositoryNotFoundError":
            return RefusedError(
                f"{where}: refused ({status or 404}): {said}",
                hint="log in with hf auth login, or give HF_TOKEN or --token-stdin a token that "
                "may write there",
            )
        if status is None or status in _PASSING:
            return ServiceError(
                f"{where}: {said or 'no answer'}",
                hint="run the same command again: what has arrived is not sent again",
            )
        return RefusedError(f"{where}: refused ({status}): {said}")


def _passing(failure: Exception) -> bool:
    return isinstance(failure, ServiceError) and not isinstance(failure, RefusedError)


def _told(error: BaseException) -> tuple[int | None, str]:
    """Give the status of the reply behind an error, if there was one, and what it says."""
    found: BaseException | None = error
    while found is not None:
        response: Any = getattr(found, "response", None)
        if response is not None:
            said = str(getattr(found, "server_message", "") or "")
            return int(response.status_code), _line(said)
        found = found.__cause__
    cause = error.__cause__ or error
    if isinstance(cause, ValueError):  # what the library itself refuses: a head that is not valid
        return 400, _line(str(cause))
    return None, f"{type(cause).__name__}: {_line(str(cause))}"


def _line(text: str) -> str:
    """One line of at most 200 characters, without the parts of addresses that may be secret."""
    return re.sub(r"(https?://[^\s?#'\"]+)[?#][^\s'\"]*", r"\1", " ".join(text.split()))[:200]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library from drawing bars and from logging addresses with signatures."""
    logger = logging.getLogger("huggingface_hub")
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    level, bars = logger.level, not are_progress_bars_disabled()
    logger.setLevel(logging.CRITICAL)
    if bars:
        disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            enable_progress_bars()
