"""The command ``convert``: to the files of other trainers, and from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import msgspec
import typer

from vision_ift._cli.console import note, say, show_json, show_table, watched
from vision_ift._cli.options import AllowMissing, DryRun, Jobs, Json, Root, Tables, app
from vision_ift._errors import UsageError

if TYPE_CHECKING:
    from vision_ift._convert.convert import ConvertReport
    from vision_ift._convert.marks import Mode
    from vision_ift._table import BuildReport

_MODES = ("path", "copy", "embed")


@app.command()
def convert(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="WHAT", help="A source, recipe, table or export; or, with --from, files."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder to write into.")],
    to: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="llava, llamafactory, swift, trl, qwen, internvl, finevision or openai.",
        ),
    ] = None,
    form: Annotated[
        str | None, typer.Option("--from", metavar="FORMAT", help="The format of the files.")
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(help="path, copy (to OUT/images) or embed [default: as the format does]."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What the files are called [default: as WHAT is].")
    ] = None,
    root: Root = None,
    tables: Tables = None,
    total: Annotated[int | None, typer.Option(help="Conversations of a recipe.", min=1)] = None,
    allow_missing: AllowMissing = False,
    strict: Annotated[
        bool, typer.Option(help="Stop at the first row that cannot be said without loss.")
    ] = False,
    jobs: Jobs = 1,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Write rows as another trainer reads them, or read its files into a table.

    Without --to, files given with --from become a table in OUT.

    Examples: vision-ift convert coco_mix --root ~/data --to llamafactory --out lf;
    vision-ift convert lf/coco_mix.json --from llamafactory --root ~/data --out table
    """
    from vision_ift._convert.convert import convert as write_rows
    from vision_ift._convert.convert import convert_files, read_files

    if images is not None and images not in _MODES:
        raise UsageError(f"--images {images}", hint=f"give {', '.join(_MODES)}")
    mode = cast("Mode | None", images)
    read: BuildReport | None = None
    written: ConvertReport | None = None
    if form is None and (to is None or len(what) != 1):
        raise UsageError(
            "nothing says what to convert to"
            if to is None
            else f"{len(what)} things to convert at once",
            hint="one source, recipe, table or export with --to; or files with --from",
        )
    if form is not None and (total is not None or allow_missing or tables is not None):
        raise UsageError(
            "--total, --tables and --allow-missing go with a source or a recipe",
            hint="leave them out with --from",
        )
    if form is not None and to is None and (dry_run or images is not None or name is not None):
        raise UsageError(
            "--dry-run, --images and --name go with --to", hint="leave them out, or add --to"
        )
    with watched() as progress:
        if form is None:
            assert to is not None
            written = write_rows(
                what[0],
                to=to,
                out=out,
                name=name,
                images=mode,
                root=root,
                tables=tables,
                total=total,
                allow_missing=allow_missing,
                strict=strict,
                dry_run=dry_run,
                jobs=jobs,
                progress=progress,
            )
        elif to is None:
            read = read_files(
                what, form=form, out=out, root=root, strict=strict, progress=progress
            ).report
        else:
            table, written = convert_files(
                what,
                form=form,
                to=to,
                out=out,
                name=name,
                images=mode,
                root=root,
                strict=strict,
                dry_run=dry_run,
                progress=progress,
            )
            read = table.report
    if as_json:
        show_json(_told(read, written, out, dry_run=dry_run))
        return
    if read is not None:
        say(f"read {read.rows:,} rows with {read.images:,} pictures from {len(what)} files")
        _show_dropped(read.dropped, read.dropped_first)
    if written is not None:
        _show_written(written, out, dry_run=dry_run)
    elif read is not None:
        say(f"the table is in {out}")


def _told(
    read: BuildReport | None, written: ConvertReport | None, out: Path, *, dry_run: bool
) -> dict[str, Any]:
    told: dict[str, Any] = {"out": str(out), "dry_run": dry_run, "read": None, "written": None}
    if read is not None:
        told["read"] = {
            key: value
            for key, value in msgspec.to_builtins(read).items()
            if key in ("rows", "images", "splits", "dropped", "dropped_first", "digest")
        }
    if written is not None:
        told["written"] = msgspec.to_builtins(written)
        del told["written"]["schema_version"]
    return told


def _show_written(report: ConvertReport, out: Path, *, dry_run: bool) -> None:
    verb = "would write" if dry_run else "wrote"
    say(
        f"{verb} {report.rows:,} rows with {report.images:,} pictures: "
        + ", ".join(str(out / file) for file in report.files),
        style="bold",
    )
    if report.images_as == "path":
        say(f"pictures are named relative to ROOT, from {out}: {report.images_base}")
    elif report.images_as == "copy":
        say(
            f"{report.pictures:,} picture files, {report.picture_bytes:,} bytes in {out / 'images'}"
        )
    _show_dropped(report.dropped, report.dropped_first)
    from vision_ift._convert.marks import LOST, NOTES

    for what, rows in report.lost.items():
        note(f"{rows:,} rows: {LOST[what]}")
    for what in report.notes:
        note(NOTES[what])


def _show_dropped(dropped: dict[str, int], first: dict[str, list[dict[str, str]]]) -> None:
    if not dropped:
        return
    show_table(
        ("dropped", "rows#", "the first"),
        [
            (
                reason,
                count,
                ": ".join(part for part in first[reason][0].values() if part)
                if first.get(reason)
                else "",
            )
            for reason, count in dropped.items()
        ],
    )
