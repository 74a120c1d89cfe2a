"""The command that checks an export: verify."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from vision_ift._cli.console import note, say, show_json, show_table, watched
from vision_ift._cli.options import Jobs, Json, Root, Tables, app
from vision_ift._errors import IntegrityError

if TYPE_CHECKING:
    from vision_ift._verify.verify import VerifyReport

#: Findings that are printed one by one; --json has them all.
_MOST_FINDINGS = 50


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="The export.")],
    read_data: Annotated[
        bool, typer.Option("--read-data", help="Read every byte of every shard.")
    ] = False,
    share: Annotated[
        str | None,
        typer.Option(help="Read so much of the shards, e.g. 5%; the same ones every time."),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Read all and write anew what is damaged.")
    ] = False,
    recipe: Annotated[
        str | None, typer.Option(help="For --repair: the recipe, if not the one in the export.")
    ] = None,
    root: Root = None,
    tables: Tables = None,
    readers: Annotated[
        bool, typer.Option("--readers", help="Say which other readers read this export.")
    ] = False,
    sha256: Annotated[
        bool, typer.Option("--sha256", help="Write SHA256SUMS, or check the shards against it.")
    ] = False,
    jobs: Jobs = 1,
    as_json: Json = False,
) -> None:
    """Check an export, down to the byte and the row; repair it. Ends with 76 where damage stands.

    Examples: vision-ift verify shards; vision-ift verify shards --read-data --jobs 4;
    vision-ift verify shards --repair --root ~/data
    """
    from vision_ift._verify.verify import verify as check

    with watched() as progress:
        report = check(
            folder,
            read_data=read_data,
            share=share,
            repair=repair,
            sha256=sha256,
            readers=readers,
            root=root,
            tables=tables,
            recipe=recipe,
            jobs=jobs,
            progress=progress,
        )
    if as_json:
        show_json(msgspec.to_builtins(report))
    else:
        _show(report)
    if not report.sound:
        sys.exit(IntegrityError.exit_code)


def _show(report: VerifyReport) -> None:
    for name in report.repaired:
        say(f"written again: {name}")
    for one in report.restored[:_MOST_FINDINGS]:
        say(f"{one}")
        for place in one.places:
            say(f"  bytes {place.start:,} to {place.stop:,}: {place.what}")
    if report.readers:
        show_table(
            ("reader", "tried with", "reads", "rows#", "why", "how"),
            [
                (one.reader, one.tried, one.reads, one.rows, one.why, one.do)
                for one in report.readers
            ],
        )
    for one in report.findings[:_MOST_FINDINGS]:
        note(f"{one.kind}: {one}", style="red")
        for place in one.places:
            row = f" of {place.row}" if place.row else ""
            note(f"  bytes {place.start:,} to {place.stop:,}{row}: {place.what}", style="")
        if one.rows > len({place.row for place in one.places}):
            note(f"  {one.rows:,} rows are damaged in all", style="")
    if len(report.findings) > _MOST_FINDINGS:
        note(f"and {len(report.findings) - _MOST_FINDINGS:,} more: see --json", style="red")
    read = f"{report.shards_read:,} of them read to the byte" if report.shards_read else "not read"
    held = f"{report.rows:,} rows in {report.shards:,} shards, {report.bytes:,} bytes, {read}"
    if report.sha256:
        held += f"; SHA256SUMS {report.sha256}"
    if report.sound:
        say(f"sound: {held}", style="bold")
    else:
        say(f"damaged: {len(report.findings):,} findings; {held}", style="bold")
        if not report.repaired:
            note("vision-ift verify FOLDER --repair --root ROOT writes anew what is damaged")
