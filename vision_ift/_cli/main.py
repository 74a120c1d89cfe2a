"""The command line: ``vision-ift VERB``, one verb a step of the path.

Results go to stdout, everything else to stderr. Every command takes ``--json`` and then prints one
object; exit codes are those of ``_errors.py``. The commands about sources are in ``_cli_data.py``.
"""

from __future__ import annotations

import signal
import sys
import types
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

import vision_ift._cli.card
import vision_ift._cli.compile
import vision_ift._cli.convert
import vision_ift._cli.data
import vision_ift._cli.likeness
import vision_ift._cli.push
import vision_ift._cli.verify  # noqa: F401 - each registers its commands
from vision_ift._cli.console import finish, note, say, show_json, show_table, watched
from vision_ift._cli.options import (
    AllowMissing,
    DryRun,
    Jobs,
    Json,
    RecipeName,
    Root,
    Strict,
    Tables,
    app,
)
from vision_ift._cli.plan import show_plan

__all__ = ["app", "main"]


@app.callback(invoke_without_command=True)
def _top(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the versions that decide bytes.")
    ] = False,
) -> None:
    if show_version:
        parts = ("vision_ift", "datasets", "pyarrow", "pillow", "webdataset", "duckdb", "numpy")
        say("\n".join(f"{part} {version(part)}" for part in parts))
        raise typer.Exit


@app.command()
def export(
    recipe: RecipeName,
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    root: Root = None,
    tables: Tables = None,
    total: Annotated[int | None, typer.Option(help="Conversations to deliver.", min=1)] = None,
    shard_bytes: Annotated[int, typer.Option(help="Bytes of a shard, about.", min=1)] = 500_000_000,
    jobs: Jobs = 1,
    allow_missing: AllowMissing = False,
    strict: Strict = False,
    text: Annotated[bool, typer.Option(help="Write the flat text beside the JSON.")] = True,
    uniform: Annotated[
        bool, typer.Option("--uniform", help="A folder for each row of picture formats.")
    ] = False,
    rank: Annotated[
        str | None, typer.Option(help="Write every world-size-th shard from this; or auto.")
    ] = None,
    world_size: Annotated[int | None, typer.Option(help="Number of ranks.", min=1)] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Write a recipe as WebDataset shards; run it again to go on after a stop.

    Examples: vision-ift export coco_mix --root ~/data --out shards;
    vision-ift export my.yaml --root ~/data --out shards --total 100000 --jobs 8;
    srun vision-ift export my.yaml --root ~/data --out shards --rank auto
    """
    from vision_ift._export.export import export as write_shards
    from vision_ift._export.ranks import rank_named
    from vision_ift._plan.plan import plan as make_plan
    from vision_ift._plan.summary import summarise

    with watched() as progress:
        made = make_plan(
            recipe,
            root=root,
            tables=tables,
            total=total,
            allow_missing=allow_missing,
            strict=strict,
            jobs=jobs,
            progress=progress,
        )
        if not dry_run:
            report = write_shards(
                made,
                out=out,
                shard_bytes=shard_bytes,
                jobs=jobs,
                strict=strict,
                text=text,
                uniform=uniform,
                rank=rank_named(rank),
                world_size=world_size,
                progress=progress,
            )
    summary = summarise(made)
    if dry_run:
        show_json({**summary, "dry_run": True, "out": str(out)}) if as_json else show_plan(summary)
        return
    written: dict[str, Any] = msgspec.to_builtins(report)
    if as_json:
        show_json(
            {
                **written,
                "sources": summary["sources"],
                "missing": summary["missing"],
                "warnings": summary["warnings"],
            }
        )
        return
    show_plan(summary)
    say(
        f"wrote {written['rows']:,} rows and {written['images']:,} images in "
        f"{written['shards']:,} shards, {written['bytes']:,} bytes: {out}"
    )
    for reason, count in written["dropped"].items():
        note(f"dropped {count:,}: {reason}")
    if not written["finished"]:
        note("other ranks have still to write their shards; whoever comes last finishes the export")


@app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="A source or a shipped recipe.")],
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Fill the cache of `datasets`, so that load_dataset("vision_ift", NAME) works with no import.

    Example: vision-ift prepare coco_mix --root ~/data
    """
    from vision_ift._hf import prepare as fill

    path = fill(name, root=root)
    if as_json:
        show_json({"name": name, "cache": str(path)})
    else:
        say(f'load_dataset("vision_ift", "{name}") now reads {path}')


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--out", help="The folder to write.")] = Path("demo"),
    jobs: Jobs = 1,
    as_json: Json = False,
) -> None:
    """Draw a small root with true annotations, then build, plan, export and load coco_mix.

    Example: vision-ift demo
    """
    from vision_ift.demo._tour import tour

    with watched() as progress:
        made = tour(folder, jobs=jobs, progress=progress)
    if as_json:
        show_json(made)
        return
    show_table(("step", "what was made", "seconds#"), made["steps"])
    say("")
    say("Next:", style="bold")
    for line in made["next"]:
        say(f"  {line}")


def _stop(number: int, _: types.FrameType | None) -> None:
    """End on SIGTERM as on Ctrl-C, so that temporary files are removed."""
    sys.exit(128 + number)


def main() -> None:
    """Run the command line; every error that is ours ends in its own exit code."""
    signal.signal(signal.SIGTERM, _stop)
    as_json = "--json" in sys.argv
    try:
        code = app(standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the outermost place: says so
        finish(error, as_json=as_json)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
