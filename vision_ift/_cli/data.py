"""The commands about what lies under ROOT: sources, fetch, build, check, doctor."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from vision_ift._cli.console import note, plain, say, show_json, show_table, watched
from vision_ift._cli.options import (
    DryRun,
    Jobs,
    Json,
    Root,
    Strict,
    Tables,
    app,
)
from vision_ift._errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vision_ift._fetch.bring import Fetched


@app.command()
def sources(root: Root = None, tables: Tables = None, as_json: Json = False) -> None:
    """Show what is there of every source, and list the shipped recipes.

    Examples: vision-ift sources; vision-ift sources --root ~/data --json
    """
    from vision_ift._recipe.recipe import Recipe, shipped
    from vision_ift._sources import stand

    standings = stand(root=root, tables=tables)
    recipes = [Recipe.read(name) for name in shipped()]
    if as_json:
        show_json(
            {
                "sources": [msgspec.to_builtins(one) for one in standings],
                "recipes": [{"name": one.name, "description": one.description} for one in recipes],
            }
        )
        return
    for one in standings:
        say(f"{one.name}: {one.state}", style="bold")
        for line in one.lines():
            say(f"  {line}")
    say("")
    show_table(("recipe", "what it mixes"), [(one.name, one.description) for one in recipes])


@app.command()
def fetch(
    source: Annotated[str, typer.Argument(help="The source's name.")],
    root: Root = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="Only files whose place or url match, e.g. '*.json'."),
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Take newer files; replace those that differ.")
    ] = False,
    resolve: Annotated[
        bool, typer.Option("--resolve", help="mm_instruct: find where its pictures come from.")
    ] = False,
    metadata: Annotated[
        str | None, typer.Option(help="With --resolve: DataComp's metadata (Parquet).")
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Bring a source's files, verified, or say where they come from.

    Examples: vision-ift fetch vision_flan --root ~/data; vision-ift fetch coco_ift --dry-run;
    vision-ift fetch coco_ift --only '*annotations*'
    """
    from vision_ift._fetch.fetch import fetch as bring

    if resolve or metadata is not None:
        _resolve(source, root, metadata, resolve=resolve, dry_run=dry_run, as_json=as_json)
        return
    with watched() as progress:
        found = bring(
            source,
            root=root,
            dry_run=dry_run,
            only=only,
            update=update,
            announce=None if dry_run else _announce,
            progress=progress,
        )
    if as_json:
        files = [msgspec.to_builtins(one) for one in found]
        show_json({"source": source, "dry_run": dry_run, "files": files})
    else:
        say("\n".join(plain(one) for one in found))


def _announce(found: Sequence[Fetched]) -> None:
    """List on stderr what is about to be fetched, largest first."""
    wanted = sorted(
        (one for one in found if one.state == "wanted"), key=lambda one: -(one.bytes or 0)
    )
    for one in wanted:
        note(str(one), style="")
    if wanted:
        total = sum(one.bytes or 0 for one in wanted)
        note(f"{len(wanted)} files, {total:,} bytes", style="bold")


def _resolve(
    source: str,
    root: Path | None,
    metadata: str | None,
    *,
    resolve: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    if source != "mm_instruct" or not resolve:
        raise UsageError(
            f"--{'resolve' if resolve else 'metadata'} with source {source}",
            hint="vision-ift fetch mm_instruct --resolve [--metadata PATH]",
        )
    from vision_ift._build import default_root
    from vision_ift._fetch.resolve import resolve as find_pictures

    where = root if root is not None else default_root()
    made = find_pictures(root=where, metadata=metadata, dry_run=dry_run)
    if as_json:
        show_json({"source": source, "dry_run": dry_run, "resolved": msgspec.to_builtins(made)})
    else:
        say(str(made))


@app.command()
def build(
    source: Annotated[str, typer.Argument(help="The source's name.")],
    root: Root = None,
    out: Annotated[Path | None, typer.Option(help="The folder to write.")] = None,
    tables: Tables = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option of the source.")
    ] = None,
    jobs: Jobs = 1,
    strict: Strict = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Build a source's table: Parquet with pictures by reference, and build.json.

    Examples: vision-ift build coco_ift --root ~/data --out table;
    vision-ift build coco_ift --root ~/data --out table --option rounds=single --json
    """
    from vision_ift._build import build as build_table
    from vision_ift._build import describe_inputs

    options = _pairs(option or [])
    if dry_run:
        found = describe_inputs(source, root=root, options=options)
        _show_inputs(source, found, as_json=as_json)
        return
    with watched() as progress:
        table = build_table(
            source,
            root=root,
            out=out,
            tables=tables,
            options=options,
            strict=strict,
            jobs=jobs,
            progress=progress,
        )
    report = table.report
    if as_json:
        show_json(
            {
                "source": source,
                "rows": report.rows,
                "images": report.images,
                "unique_images": report.unique_images,
                "splits": report.splits,
                "dropped": report.dropped,
                "dropped_first": report.dropped_first,
                "absent": report.absent,
                "digest": report.digest,
                "out": str(table.path),
            }
        )
        return
    say(f"{source}: {report.rows:,} rows, {report.images:,} images shown in {table.path}")
    if report.splits:
        say("splits: " + ", ".join(f"{name} {count:,}" for name, count in report.splits.items()))
    if report.dropped:
        show_table(
            ("dropped", "records#", "the first"),
            [
                (reason, count, _first(report.dropped_first.get(reason, [])))
                for reason, count in report.dropped.items()
            ],
        )
    if report.absent:
        note(f"absent: {', '.join(one['name'] for one in report.absent)}")


def _pairs(given: list[str]) -> dict[str, str]:
    pairs = {}
    for one in given:
        key, mark, value = one.partition("=")
        if not mark or not key:
            raise UsageError(f"--option {one}", hint="write --option key=value")
        if key in pairs:
            raise UsageError(f"--option {key} is given twice", hint="keep one")
        pairs[key] = value
    return pairs


def _first(named: list[dict[str, str]]) -> str:
    if not named:
        return ""
    one = named[0]
    return ", ".join(part for part in (one["file"], one["record"], one["detail"]) if part)


def _show_inputs(source: str, found: dict[str, int], *, as_json: bool) -> None:
    if as_json:
        show_json({"source": source, "dry_run": True, "inputs": found})
        return
    show_table(
        ("would read", "bytes#"),
        [(name, size if size >= 0 else "folder") for name, size in found.items()],
    )


@app.command()
def check(
    what: Annotated[
        str,
        typer.Argument(metavar="SOURCE|TABLE_DIR|RECIPE", help="What to check."),
    ],
    root: Root = None,
    tables: Tables = None,
    option: Annotated[
        list[str] | None, typer.Option(help="A source's option, as key=value; may be repeated.")
    ] = None,
    share: Annotated[str, typer.Option(help="Share of the pictures to decode.")] = "100%",
    context: Annotated[
        int | None, typer.Option(help="List rows that take more tokens than this.", min=1)
    ] = None,
    tokenizer: Annotated[
        str, typer.Option(help="chars/4, tiktoken:NAME or hf:PATH (a local tokenizer).")
    ] = "chars/4",
    image_tokens: Annotated[
        str | None,
        typer.Option(help="llava-1.5, llava-next, qwen2-vl or internvl; see docs/check.md."),
    ] = None,
    max_pixels: Annotated[
        int, typer.Option(help="Pixels of a picture that is decoded, at most.", min=1)
    ] = 50_000_000,
    out: Annotated[
        Path | None,
        typer.Option(help="Write check.json, images.parquet, rows.parquet, exclude.jsonl here."),
    ] = None,
    jobs: Jobs = 1,
    as_json: Json = False,
) -> None:
    """Decode every picture and count every row's tokens; list the rows that would hurt a run.

    Ends with 0 where nothing is wrong and 1 where something is.

    Examples: vision-ift check coco_ift --root ~/data --jobs 8;
    vision-ift check my.yaml --root ~/data --context 4096 --image-tokens qwen2-vl --out checked
    """
    from vision_ift._check.check import check as look
    from vision_ift._pictures.child import Limits

    with watched() as progress:
        report = look(
            what,
            root=root,
            tables=tables,
            options=_pairs(option or []),
            share=_share(share),
            context=context,
            tokenizer=tokenizer,
            image_tokens=image_tokens,
            limits=Limits(pixels=max_pixels),
            out=out,
            jobs=jobs,
            progress=progress,
        )
    if as_json:
        show_json(msgspec.to_builtins(report))
    else:
        _show_check(msgspec.to_builtins(report), out)
    if report.problems:
        raise typer.Exit(1)


def _share(text: str) -> Fraction:
    try:
        return Fraction(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"--share {text}", hint="write 5% or 0.05") from None


def _show_check(report: dict[str, Any], out: Path | None) -> None:
    say(
        f"{report['name']}: {report['rows']:,} rows, {report['images']:,} images shown, "
        f"{report['references']:,} different, {report['decoded']:,} decoded",
        style="bold",
    )
    if report["problems"]:
        show_table(
            ("source", "reason", "pictures#", "rows#", "the first"),
            [
                (one["source"], one["reason"], one["pictures"], one["rows"], _named(one["first"]))
                for one in report["problems"]
            ],
        )
    if report["context"] is not None:
        show_table(
            ("source", "judged#", "longest#", "cut#", "a picture cut#", "most#", "by how much"),
            [
                (
                    one["source"],
                    one["judged"],
                    one["longest"],
                    one["cut"],
                    one["images_cut"],
                    one["most_cut"],
                    ", ".join(f"{word} {rows:,}" for word, rows in one["cut_by"].items() if rows),
                )
                for one in report["tokens"]
            ],
            title=f"{report['context']:,} tokens, {report['tokenizer']}, {report['image_tokens']}",
        )
    counts = (("formats", report["formats"]), ("modes", report["modes"]))
    for word, found in (*counts, ("EXIF orientations", report["orientations"])):
        say(f"{word}: " + ", ".join(f"{name} {count:,}" for name, count in found.items()))
    same = report["duplicates"]
    say(
        f"animated {report['animated']:,}, with transparency {report['with_alpha']:,}, "
        f"without an end mark {report['incomplete']:,}; "
        f"{same['pictures']:,} copies of {same['groups']:,} pictures"
    )
    if out is not None:
        say(f"{report['excluded']:,} rows are listed in {out / 'exclude.jsonl'}")


def _named(first: list[dict[str, str]]) -> str:
    return f"{first[0]['id']}: {first[0]['detail']}" if first else ""


@app.command()
def doctor(
    root: Root = None,
    tables: Tables = None,
    as_json: Json = False,
) -> None:
    """Look at this machine: packages, memory, disks, limits, and what lies under ROOT.

    Ends with 0 where a build can start and 1 where something would stop it.

    Examples: vision-ift doctor --root ~/data; vision-ift doctor --json
    """
    from vision_ift._doctor import examine

    found = examine(root=root, tables=tables)
    stopped = any(one.state == "problem" for one in found)
    if as_json:
        show_json({"ready": not stopped, "findings": [msgspec.to_builtins(one) for one in found]})
    else:
        show_table(
            ("looked at", "", "found", "what to do"),
            [
                (one.name, "" if one.state == "ok" else one.state, one.value, one.hint)
                for one in found
            ],
        )
    if stopped:
        raise typer.Exit(1)
