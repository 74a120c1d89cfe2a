"""The files behind a name that a user typed: one file, a folder as `datasets` reads it, or the Hub.

A name is a path, relative to ROOT or absolute, or ``org/name`` on the Hugging Face Hub; both may
go on with ``:config`` and ``:split``, the Hub's also with ``@revision`` before them. Which files
make which split is asked of `datasets` itself (the ``configs`` of a README, else its rules for
names), so it is what ``load_dataset`` would read; the files are then read here, without decoding a
picture.

Files of the Hub are kept under ``ROOT/hub/org/name/<commit>/``, so that references to the pictures
in them are relative to ROOT like all others. ``files.json`` beside the commits says which were
brought whole; with ``HF_HUB_OFFLINE`` nothing else is asked.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from vision_ift._disk import explained, write_file
from vision_ift._errors import MissingInputError, OutputError, ServiceError, UsageError
from vision_ift._pictures.images import safe_path

#: What is read; everything else in a folder is left to whom it belongs.
SUFFIXES = (".jsonl", ".json", ".parquet")

#: Files that `datasets` lists beside the rows: pictures of an image folder.
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")

_HUB = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_RECORD = "files.json"


class File(NamedTuple):
    """A file to read, and the split that its rows belong to where they name none."""

    path: Path
    split: str = ""


class _Brought(msgspec.Struct):
    """What ``files.json`` says of one configuration: the commit, and each split and its files."""

    commit: str
    splits: list[tuple[str, list[str]]]


def labels_of(files: Iterable[Path], root: Path) -> dict[Path, str]:
    """Name files in ids: by their stems, by their paths where two have the same stem.

    >>> list(labels_of([Path("a/x.tar"), Path("b/x.tar"), Path("b/y.tar")], Path()).values())
    ['a/x', 'b/x', 'y']
    """
    listed = list(files)
    stems = Counter(file.stem for file in listed)
    return {
        file: file.stem
        if stems[file.stem] == 1
        else (file.relative_to(root) if file.is_relative_to(root) else file)
        .with_suffix("")
        .as_posix()
        .lstrip("/")
        for file in listed
    }


def files_of(source: str, root: Path, text: str) -> list[File]:
    """Find the files that a name means, in the order of their splits.

    Raises:
        MissingInputError: Nothing has that name, or it is not here and ``HF_HUB_OFFLINE`` is set.
        UsageError: It holds nothing that is read here, or there are several configurations and none
            is named, or no such configuration or split.
        ServiceError: The Hub does not answer.
    """
    where = root / text  # an absolute path replaces the root
    if where.is_file():
        if where.suffix not in SUFFIXES:
            raise UsageError(f"source {source}: {where} is none of {', '.join(SUFFIXES)}")
        return [File(where)]
    name, _, rest = text.partition(":")
    config, _, split = rest.partition(":")
    if (root / name).is_dir():
        found = _of_folder(source, root / name, config)
    elif hub := _HUB.fullmatch(name):
        found = _of_hub(source, root, hub["name"], hub["revision"] or "main", config)
    else:
        raise MissingInputError(
            f"source {source}: there is no file or folder {where}",
            hint="path is relative to ROOT; write it absolute to read what lies elsewhere",
        )
    if split:
        wanted = [file for file in found if file.split == split]
        if not wanted:
            splits = sorted({file.split for file in found})
            raise UsageError(
                f"source {source}: {name} has no split {split!r}",
                hint=f"it has {', '.join(splits)}",
            )
        found = wanted
    return found


def _of_folder(source: str, folder: Path, config: str) -> list[File]:
    if any((folder / name).exists() for name in ("state.json", "dataset_dict.json")):
        raise UsageError(
            f"source {source}: {folder} is what save_to_disk wrote (Arrow), whose pictures cannot "
            "be referred to",
            hint='write Parquet: load_from_disk(…).to_parquet("rows.parquet")',
        )
    found = []
    for split, names in _resolved(source, str(folder), config, None).items():
        for name in _readable(source, str(folder), names):
            path = Path(os.path.normpath(name))
            if not path.is_relative_to(os.path.normpath(folder.absolute())):
                raise UsageError(
                    f"source {source}: the README of {folder} names {name}, outside it"
                )
            found.append(
                File(folder / path.relative_to(os.path.normpath(folder.absolute())), split)
            )
    return found


def _of_hub(source: str, root: Path, name: str, revision: str, config: str) -> list[File]:
    from huggingface_hub import constants

    folder = root / "hub" / name
    key = f"{revision}:{config}"
    known = _known(folder)
    if constants.HF_HUB_OFFLINE:
        if key not in known:
            raise MissingInputError(
                f"source {source}: {name} at {key.rstrip(':')} was not brought to {folder} yet, "
                "and HF_HUB_OFFLINE is set",
                hint="unset it once; or, if it is a folder, look at its name: nothing has it",
            )
        return _files(folder, known[key])
    prefix = f"hf://datasets/{name}@"
    splits: list[tuple[str, list[str]]] = []
    commit = ""
    for split, names in _resolved(source, name, config, revision).items():
        splits.append((split, []))
        for full in _readable(source, name, names):
            commit, _, file = full.removeprefix(prefix).partition("/")
            if not full.startswith(prefix) or not re.fullmatch("[0-9a-f]{40}", commit):
                raise UsageError(f"source {source}: {name} names the file {full}, outside itself")
            splits[-1][1].append(safe_path(file))
    _bring(source, name, commit, splits, folder / commit)
    known[key] = _Brought(commit, splits)
    with explained(folder):
        encoded = msgspec.json.encode(known, order="sorted")
        write_file(folder / _RECORD, msgspec.json.format(encoded, indent=1) + b"\n")
    return _files(folder, known[key])


def _files(folder: Path, brought: _Brought) -> list[File]:
    return [
        File(folder / brought.commit / safe_path(file), split)
        for split, files in brought.splits
        for file in files
    ]


def _known(folder: Path) -> dict[str, _Brought]:
    try:
        return msgspec.json.decode((folder / _RECORD).read_bytes(), type=dict[str, _Brought])
    except FileNotFoundError:
        return {}
    except msgspec.DecodeError as error:
        raise OutputError(f"{folder / _RECORD}: {error}", hint="delete it") from None


def _bring(
    source: str, name: str, commit: str, splits: list[tuple[str, list[str]]], folder: Path
) -> None:
    """Download what is not there; a download that broke off goes on where it stopped."""
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError

    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    files = [file for _, listed in splits for file in listed]
    for file in ["README.md", *files]:
        try:
            huggingface_hub.hf_hub_download(
                name, file, repo_type="dataset", revision=commit, local_dir=folder
            )
        except EntryNotFoundError:
            if file != "README.md":  # a dataset may have none
                raise MissingInputError(f"source {source}: {name} has no {file} any more") from None
        except Exception as error:  # the Hub's client raises errors of three libraries
            raise _refused(source, name, error) from error


def _resolved(source: str, name: str, config: str, revision: str | None) -> dict[str, list[str]]:
    """Ask `datasets` which files make which split."""
    from datasets import load_dataset_builder
    from datasets.exceptions import DatasetNotFoundError

    given: dict[str, Any] = {"revision": revision} if revision else {}
    try:
        found = load_dataset_builder(name, name=config or None, **given).config.data_files
    except (DatasetNotFoundError, FileNotFoundError) as error:
        raise MissingInputError(
            f"source {source}: {name}: {_first_line(error)}",
            hint="there is no file or folder of that name under ROOT either" if revision else "",
        ) from None
    except ValueError as error:
        raise UsageError(
            f"source {source}: {name}: {' '.join(str(error).split())[:600]}",
            hint="name the configuration: path=NAME:CONFIG",
        ) from None
    except Exception as error:  # the Hub's client raises errors of three libraries
        raise _refused(source, name, error) from error
    return {str(split): [str(file) for file in files] for split, files in (found or {}).items()}


def _readable(source: str, name: str, files: list[str]) -> list[str]:
    """The files of rows; what else there is is refused, or it would be left out in silence."""
    rows = [file for file in files if file.endswith(SUFFIXES)]
    other = sorted(
        file
        for file in files
        if not file.endswith(SUFFIXES) and not file.lower().endswith(_PICTURES)
    )
    if other or not rows:
        what = f"it has {other[0]}" if other else "it has pictures alone"
        raise UsageError(
            f"source {source}: {name} is not made of {', '.join(SUFFIXES)} ({what})",
            hint="tars are read by the source shards; of others, write Parquet: "
            "load_dataset(…).to_parquet(…)",
        )
    return sorted(rows)


def _refused(source: str, name: str, error: Exception) -> ServiceError:
    return ServiceError(
        f"source {source}: the Hub did not give {name}: {_first_line(error)}",
        hint="try again; a private or gated one needs HF_TOKEN; HF_HUB_OFFLINE=1 uses what is here",
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
