"""Brings a source's files under ROOT from the Hub, or says what to fetch by hand."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import msgspec

from vision_ift import _registry
from vision_ift._build import default_root
from vision_ift._builder import Builder
from vision_ift._disk import explained
from vision_ift._errors import IntegrityError, MissingInputError, ServiceError
from vision_ift._images import safe_path


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a source, or one thing to do by hand.

    Attributes:
        state: ``here`` (it was there already), ``fetched``, ``wanted`` (a dry run would fetch it),
            or ``by_hand``.
        place: The file's path under ROOT; empty where ``note`` says it.
        bytes: Its size.
        note: What to fetch from where and where to put it.
    """

    state: Literal["here", "fetched", "wanted", "by_hand"]
    place: str = ""
    bytes: int = 0
    note: str = ""

    def __str__(self) -> str:
        if self.state == "by_hand":
            return f"by hand: {self.note}"
        return f"{self.state}: {self.place} ({self.bytes:,} bytes)"


def fetch(source: str, *, root: Path | str | None = None, dry_run: bool = False) -> list[Fetched]:
    """Bring what the Hub has of a source into ``ROOT/<source>``, and list the rest.

    What is there is kept, and a download that broke off goes on where it stopped. Where the authors
    ask for an account, its token is read from ``HF_TOKEN`` alone.

    Args:
        source: The source's name.
        root: ROOT; ``None``: ``VISION_IFT_ROOT``, else ``~/.cache/vision_ift/sources``.
        dry_run: Only say what would be fetched.

    Raises:
        UnknownNameError: No such source.
        ServiceError: The Hub does not answer, or does not give the files.
        MissingInputError: The repository has none of the files any more.
        DiskError: The disk is full.
    """
    builder = _registry.find(source)
    root = Path(root).expanduser() if root is not None else default_root()
    found = _from_hub(builder, root, dry_run=dry_run) if builder.hub else []
    return [*found, *(Fetched(state="by_hand", note=line) for line in builder.by_hand)]


def _from_hub(builder: Builder, root: Path, *, dry_run: bool) -> list[Fetched]:
    folder = root / builder.name
    sizes, revision = _listed(builder)
    if not sizes:
        raise MissingInputError(
            f"dataset {builder.hub} on the Hub holds none of {', '.join(builder.hub_files)}",
            hint=f"its authors may have renamed them: see {builder.homepage or builder.hub}",
        )
    wanted = [name for name, size in sizes.items() if _size(folder / name) != size]
    if wanted and not dry_run:
        _download(builder, folder, revision)
        for name in wanted:
            if _size(folder / name) != sizes[name]:
                raise IntegrityError(
                    f"{folder / name} is not the {sizes[name]:,} bytes that the Hub lists",
                    hint="delete it and fetch again",
                )
    new: Literal["wanted", "fetched"] = "wanted" if dry_run else "fetched"
    return [
        Fetched(state=new if name in wanted else "here", place=f"{builder.name}/{name}", bytes=size)
        for name, size in sizes.items()
    ]


def _listed(builder: Builder) -> tuple[dict[str, int], str]:
    """Sizes of the repository's files that the source reads, and the commit that has them."""
    from huggingface_hub import HfApi

    try:
        info = HfApi(token=_token()).dataset_info(builder.hub, files_metadata=True)
    except _refusals() as error:
        raise _service_error(builder, error) from error
    sizes = {one.rfilename: one.size or 0 for one in info.siblings or ()}
    patterns = builder.hub_files or ("*",)
    return {
        safe_path(name): sizes[name]
        for name in sorted(sizes)
        if any(fnmatchcase(name, pattern) for pattern in patterns)
    }, info.sha or "main"


def _download(builder: Builder, folder: Path, revision: str) -> None:
    from huggingface_hub import snapshot_download

    with explained(folder):
        try:
            snapshot_download(
                builder.hub,
                repo_type="dataset",
                revision=revision,
                local_dir=folder,
                allow_patterns=list(builder.hub_files) or None,
                token=_token(),
            )
        except _refusals() as error:
            raise _service_error(builder, error) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _token() -> str | bool:
    """The token of the environment; ``False`` keeps the library from reading a stored one."""
    return os.environ.get("HF_TOKEN") or False


def _refusals() -> tuple[type[Exception], ...]:
    """What the library raises where the Hub is away or refuses; its HTTP library changed twice."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    return (HfHubHTTPError.__bases__[0], LocalEntryNotFoundError, ConnectionError)


def _service_error(builder: Builder, error: Exception) -> ServiceError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        hint = f"accept the terms at {builder.homepage or builder.hub} and set HF_TOKEN"
    else:
        hint = "try again: what has arrived is kept"
    reason = str(error).strip().splitlines()
    return ServiceError(
        f"dataset {builder.hub} on the Hub: {reason[0] if reason else type(error).__name__}",
        hint=hint,
    )
