"""What the command line prints: results on stdout, all else on stderr, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from vision_ift._disk import DISK_ERRORS
from vision_ift._errors import DiskError, VisionIFTError

#: Of the objects that ``--json`` prints.
JSON_VERSION = 1

#: Seconds between progress lines where there is no terminal.
LINE_SECONDS = 10.0

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


def plain(value: object) -> str:
    """Write a value from data so that a terminal takes no orders from it.

    >>> plain("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return str(value).translate(_CONTROL)


def out() -> Console:
    """The console for results."""
    return Console(highlight=False, soft_wrap=True)


def err() -> Console:
    """The console for everything else."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def show_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout."""
    text = json.dumps({"schema_version": JSON_VERSION, **value}, ensure_ascii=False, indent=1)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()  # now, where an error can still be said


def show_table(
    columns: Iterable[str], rows: Iterable[Iterable[object]], *, title: str = ""
) -> None:
    """Print a table on stdout; columns whose name ends with ``#`` are numbers, set to the right."""
    table = Table(
        title=Text(title) if title else None, title_justify="left", box=None, pad_edge=False
    )
    for column in columns:
        right = column.endswith("#")
        table.add_column(
            Text(column.rstrip("#"), style="bold"),
            justify="right" if right else "left",
            overflow="fold",
            no_wrap=right,
        )
    for row in rows:
        table.add_row(
            *(Text(f"{cell:,}" if isinstance(cell, int) else plain(cell)) for cell in row)
        )
    out().print(table)


def say(text: str, *, style: str = "") -> None:
    """Print a line of text on stdout."""
    out().print(Text(plain(text) if "\n" not in text else text, style=style))


def note(text: str, *, style: str = "yellow") -> None:
    """Print a line on stderr."""
    err().print(Text(plain(text), style=style))


@contextmanager
def watched() -> Iterator[Callable[[str, int, int], None]]:
    """Give a ``Progress`` that draws a bar on a terminal, or prints a line every ten seconds."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=err(),
            transient=True,
        )
        tasks: dict[str, Any] = {}

        def draw(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total or None)
            bar.update(tasks[what], completed=done, total=total or None)

        with bar:
            yield draw
        return
    last = time.monotonic()

    def line(what: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LINE_SECONDS:
            last = now
            sys.stderr.write(f"{what}: {done:,}{f' of {total:,}' if total else ''}\n")

    yield line


def finish(error: BaseException, *, as_json: bool) -> NoReturn:
    """End the process as an error asks for: message, hint, exit code."""
    if isinstance(error, VisionIFTError):
        if as_json:
            show_json({"error": {"code": error.code, "message": error.message, "hint": error.hint}})
        console = err()
        console.print(Text.assemble(("error: ", "bold red"), plain(error.message)))
        if error.hint:
            console.print(Text.assemble(("  try: ", "bold"), plain(error.hint)))
        sys.exit(error.exit_code)
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        # What typer says of a command line: a wrong option, a missing argument, an unknown command.
        if as_json:
            show_json({"error": {"code": "usage", "message": error.format_message(), "hint": ""}})
        error.show()  # type: ignore[attr-defined]  # it comes with the two above
        sys.exit(error.exit_code)
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        command = " ".join(["vision-ift", *sys.argv[1:]])
        note(f"stopped; what is finished is kept. Go on with: {command}")
        sys.exit(128 + signal.SIGINT)
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        # Of a call that nothing explained: a report that goes to a full disk, for one.
        if error.filename is None:
            as_json = False
            # What stdout still holds would fail again when the process ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        finish(
            DiskError(
                f"writing {error.filename or 'what this command prints'} failed: {error.strerror}",
                hint="free some space, or see to the disk, and run the same command again",
            ),
            as_json=as_json,
        )
    traceback.print_exception(error)
    note(
        "this is a mistake of vision_ift itself; please report it with the lines above", style="red"
    )
    sys.exit(70)
