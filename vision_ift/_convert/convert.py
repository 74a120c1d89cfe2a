"""Rows to a file that another trainer reads, and such a file to rows."""

from __future__ import annotations

import contextlib
import importlib
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from vision_ift._build import Progress, silent
from vision_ift._builder import Batch
from vision_ift._convert.marks import Format, Mode, Row, Tally
from vision_ift._convert.out import Out
from vision_ift._convert.pictures import Pictures
from vision_ift._convert.restored import restored, tabulate
from vision_ift._convert.rows import Found, rows_of
from vision_ift._disk import explained, locked, write_file
from vision_ift._errors import MissingInputError, UnknownNameError, UsageError
from vision_ift._table import Table

#: The formats, each a module of this room.
FORMATS = (
    "finevision",
    "internvl",
    "llamafactory",
    "llava",
    "openai",
    "qwen",
    "swift",
    "trl",
)

#: How often progress is told, in rows.
_TOLD_ROWS = 1000

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


class ConvertReport(msgspec.Struct, kw_only=True):
    """What ``NAME.FORMAT.convert.json`` says.

    Attributes:
        format, name: What was written, and under which name.
        files: Its files, relative to the folder, this report not among them.
        images_as: ``path``, ``copy`` or ``embed``.
        images_base: What the paths of pictures are relative to, seen from the folder.
        rows, images: Rows written, and pictures shown in them.
        pictures, picture_bytes: Files copied, each picture once, and their bytes.
        dropped, dropped_first: Reason to rows refused, and the first ten of them.
        lost: What of a row cannot be had back, to the number of rows that lose it.
        notes: Why a file that is whole may still not load: keys of ``marks.NOTES``.
    """

    schema_version: int = 1
    format: str
    name: str
    files: list[str] = []
    images_as: Mode
    images_base: str = "."
    rows: int = 0
    images: int = 0
    pictures: int = 0
    picture_bytes: int = 0
    dropped: dict[str, int] = {}
    dropped_first: dict[str, list[dict[str, str]]] = {}
    lost: dict[str, int] = {}
    notes: list[str] = []


def find_format(name: str) -> ModuleType:
    """Give a format's module.

    Raises:
        UnknownNameError: There is no such format.
    """
    if name not in FORMATS:
        raise UnknownNameError("format", name, FORMATS)
    return importlib.import_module(f"vision_ift._convert.{name}")


def convert(
    what: str | Path,
    *,
    to: str,
    out: Path | str,
    name: str | None = None,
    images: Mode | None = None,
    root: Path | str | None = None,
    tables: Path | str | None = None,
    total: int | None = None,
    allow_missing: bool = False,
    strict: bool = False,
    dry_run: bool = False,
    jobs: int = 1,
    progress: Progress = silent,
) -> ConvertReport:
    """Write a source, a recipe, a table or an export as another trainer reads it.

    Args:
        what: A source's name, a recipe's name or YAML file, a folder with a table or an export. The
            order of a plan is kept.
        to: ``llava``, ``llamafactory``, ``swift``, ``trl``, ``qwen``, ``internvl``, ``finevision``
            or ``openai``; ``docs/convert.md`` says what each can say.
        out: The folder to write into; other files in it are left alone.
        name: What the files are called; ``None``: the source's or recipe's name.
        images: ``path``: as they lie under ROOT (those in archives are copied to ``OUT/images``);
            ``copy``: all copied to ``OUT/images``, named by content, byte for byte, each once;
            ``embed``: inside the file. ``None``: the format's default.
        root, tables, jobs: As for :func:`vision_ift.build`.
        total, allow_missing: As for :func:`vision_ift.plan`.
        strict: Stop at the first row that the format refuses or of which something is lost.
        dry_run: Go through all rows and write nothing.
        progress: Told how many rows are done.

    Returns:
        The counts; also in ``OUT/NAME.FORMAT.convert.json``.

    Raises:
        UnknownNameError: No such source, recipe or format.
        UsageError: The format does not take pictures that way, or the name cannot be a file's.
        RecordError: With ``strict``, a row that cannot be said.
        OutputError: ``out`` has files of that name which no conversion wrote.

    >>> convert("coco_ift", to="lava", out="out")
    Traceback (most recent call last):
    vision_ift._errors.UnknownNameError: no format named 'lava'; did you mean llava?
    """
    find_format(to)
    found = rows_of(
        str(what),
        root=root,
        tables=tables,
        total=total,
        allow_missing=allow_missing,
        strict=strict,
        jobs=jobs,
        progress=progress,
    )
    return _write(
        found,
        to,
        Path(out),
        name=name or found.name,
        images=images,
        strict=strict,
        dry_run=dry_run,
        progress=progress,
    )


def read_files(
    files: Iterable[Path | str],
    *,
    form: str,
    out: Path | str,
    root: Path | str | None = None,
    images: str = "",
    strict: bool = False,
    progress: Progress = silent,
) -> Table:
    """Read files of another trainer into a table.

    Args:
        files: Files of one format, in the order in which their rows are to stand.
        form: The format, as for :func:`convert`.
        out: The folder of the table.
        root: What the files' pictures are relative to; ``None``: the folder of the first file.
        images: Folders under ROOT in which pictures are looked for, with commas between them.
        strict: Stop at the first record that is dropped.
        progress: Told how many rows are done.

    Returns:
        The table. Its references are relative to ``root``; pictures that were inside the file
        (``openai``) are in ``OUT/images``, and ROOT is ``OUT``. What :func:`convert` wrote comes
        back with ids, source, task and the other columns as they were.

    Raises:
        MissingInputError: There is no such file.
        RecordError: With ``strict``, a record that breaks a rule.
        OutputError: ``out`` holds something else.
    """
    module = find_format(form)
    listed = [Path(file) for file in files]
    for file in listed:
        if not file.is_file():
            raise MissingInputError(f"there is no file {file}")
    if not listed:
        raise UsageError("no file is named", hint="vision-ift convert FILE --from FORMAT")
    folder = Path(out)
    where = Path(root).expanduser() if root is not None else listed[0].parent
    with explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / f".{folder.name}.lock"), _workplace(folder.parent) as work:
        return tabulate(
            module.SOURCE,
            _counted(_batches(module, listed, where, work, images), progress),
            folder,
            files={file.name: file.stat().st_size for file in listed},
            work=work,
            strict=strict,
        )


def convert_files(
    files: Iterable[Path | str],
    *,
    form: str,
    to: str,
    out: Path | str,
    name: str | None = None,
    images: Mode | None = None,
    root: Path | str | None = None,
    strict: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
) -> tuple[Table, ConvertReport]:
    """Write files of one trainer as another one reads them; see the two functions above.

    Returns:
        The table in between, of which only ``report`` is still there, and the counts.
    """
    find_format(to)
    listed = [Path(file) for file in files]
    folder = Path(out)
    with explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with _workplace(folder.parent) as work:
        table = read_files(
            listed, form=form, out=work / "table", root=root, strict=strict, progress=progress
        )
        where = Path(root).expanduser() if root is not None else listed[0].parent
        if (table.path / "images").is_dir():
            where = table.path
        found = rows_of(str(table.path), root=where)
        unpacked = images == "path" and where == table.path
        report = _write(
            found,
            to,
            folder,
            name=name or listed[0].stem,
            images="copy" if unpacked else images,
            strict=strict,
            dry_run=dry_run,
            progress=progress,
        )
    return table, report


def _write(
    found: Found,
    to: str,
    out: Path,
    *,
    name: str,
    images: Mode | None,
    strict: bool,
    dry_run: bool,
    progress: Progress,
) -> ConvertReport:
    module = find_format(to)
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a file and of a data set",
            hint="choose another --name: letters, digits, _ . and -",
        )
    mode = _mode(module, to, images, found.root)
    with explained(out):
        if not dry_run:
            out.mkdir(parents=True, exist_ok=True)
    pictures = Pictures(mode, found.root, out, dry=dry_run)
    tally = Tally(strict=strict)
    report_name = f"{name}.{to}.convert.json"
    hold = contextlib.nullcontext() if dry_run else locked(out / ".convert.lock")
    with hold:
        files = Out(out, name, base=pictures.base, known=_known(out / report_name, to), dry=dry_run)
        try:
            module.write(_told(found, f"convert to {to}", progress), files, pictures, tally)
            report = ConvertReport(
                format=to,
                name=name,
                files=sorted(files.files),
                images_as=mode,
                images_base=pictures.base,
                rows=tally.rows,
                images=tally.images,
                pictures=pictures.written,
                picture_bytes=pictures.written_bytes,
                dropped=dict(sorted(tally.dropped.items())),
                dropped_first=dict(sorted(tally.first.items())),
                lost=dict(sorted(tally.lost.items())),
                notes=sorted(tally.notes),
            )
            if not dry_run:
                pictures.settle()
                files.finish()
                encoded = msgspec.json.format(msgspec.json.encode(report), indent=1)
                write_file(out / report_name, encoded + b"\n")
        finally:
            files.drop()
    return report


def _mode(module: Any, to: str, images: Mode | None, root: Path | None) -> Mode:
    known: tuple[Mode, ...] = module.IMAGES
    if images is None:
        # An export's pictures are in its tars, where no trainer of these formats reads them.
        return "copy" if root is None and known[0] == "path" else known[0]
    if images not in known:
        raise UsageError(
            f"{to} does not take pictures as {images}", hint=f"it takes {', '.join(known)}"
        )
    if images == "path" and root is None:
        raise UsageError(
            "an export's pictures are inside its shards and have no path", hint="use --images copy"
        )
    return images


def _known(report: Path, to: str) -> set[str]:
    """List the files that an earlier conversion to the same format wrote under this name."""
    try:
        earlier = msgspec.json.decode(report.read_bytes(), type=ConvertReport)
    except (OSError, msgspec.DecodeError):
        return set()
    return {*earlier.files} if earlier.format == to else set()


def _batches(
    module: Any, files: list[Path], root: Path, work: Path, images: str
) -> Iterator[Batch]:
    form: Format = module
    for file in files:
        yield from restored(form.read(file, root, work, images), form.UNREAD)


def _counted(batches: Iterator[Batch], progress: Progress) -> Iterator[Batch]:
    done = 0
    for batch in batches:
        done += batch.rows.num_rows
        progress("read", done, 0)
        yield batch


def _told(found: Found, what: str, progress: Progress) -> Iterator[Row]:
    for number, row in enumerate(found.rows):
        if number % _TOLD_ROWS == 0:
            progress(what, number, found.total)
        yield row
    progress(what, found.total, found.total)


@contextlib.contextmanager
def _workplace(beside: Path) -> Iterator[Path]:
    """A folder for what is unpacked on the way, on the disk of what is written."""
    with explained(beside):
        path = Path(tempfile.mkdtemp(prefix=".convert-", dir=beside))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
