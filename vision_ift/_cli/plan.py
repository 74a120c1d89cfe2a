"""The command ``plan``: asked and delivered side by side, locks, comparisons."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision_ift._cli.console import note, say, show_json, show_table, watched
from vision_ift._cli.options import AllowMissing, Jobs, Json, RecipeName, Root, Strict, Tables, app
from vision_ift._errors import UsageError

if TYPE_CHECKING:
    from vision_ift._plan.lock import Lock
    from vision_ift._plan.plan import Plan


@app.command()
def plan(
    recipe: RecipeName,
    other: Annotated[
        str | None, typer.Argument(metavar="[OTHER]", help="Compare with this recipe or lock.")
    ] = None,
    root: Root = None,
    tables: Tables = None,
    total: Annotated[int | None, typer.Option(help="Conversations to deliver.", min=1)] = None,
    epoch: Annotated[int, typer.Option(help="Which draw of the recipe.", min=0)] = 0,
    after: Annotated[
        Path | None,
        typer.Option("--continue", metavar="LOCK", help="Go on from this lock's plan (with --at)."),
    ] = None,
    at: Annotated[
        int | None, typer.Option(help="Rows of that plan that were delivered.", min=0)
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Count text tokens: chars/4, tiktoken:NAME or hf:PATH.")
    ] = None,
    image_tokens: Annotated[
        str | None, typer.Option(help="Count picture tokens: a rule, e.g. qwen2-vl.")
    ] = None,
    allow_missing: AllowMissing = False,
    strict: Strict = False,
    jobs: Jobs = 1,
    lock: Annotated[Path | None, typer.Option(help="Write the plan's lock (JSON) here.")] = None,
    as_json: Json = False,
) -> None:
    """Show what a recipe delivers: asked and delivered counts, tokens, repeats, licences.

    RECIPE may also be a lock, whose plan is then made again. With OTHER, two plans are compared.

    Examples: vision-ift plan coco_mix --root ~/data; vision-ift plan my.yaml --root ~/data --json;
    vision-ift plan new.yaml --continue old.json --at 120000 --lock new.json
    """
    from vision_ift._disk import write_file
    from vision_ift._plan.lock import encode_lock
    from vision_ift._plan.plan import plan as make_plan
    from vision_ift._plan.summary import summarise

    if (after is None) != (at is None):
        raise UsageError("--continue and --at go together", hint="give the lock and the position")
    if other is not None and (lock is not None or after is not None or epoch):
        raise UsageError(
            "two plans are compared as they are",
            hint="leave out --lock, --continue and --epoch, or give their locks",
        )
    how: dict[str, Any] = {
        "root": root,
        "tables": tables,
        "allow_missing": allow_missing,
        "strict": strict,
        "jobs": jobs,
    }
    with watched() as progress:
        if other is not None:
            counting = {"tokenizer": tokenizer, "image_tokens": image_tokens}
            _show_both(recipe, other, counting, as_json, total=total, progress=progress, **how)
            return
        made = make_plan(
            recipe,
            total=total,
            epoch=epoch,
            after=None if after is None else (after, at or 0),
            progress=progress,
            **how,
        )
        if lock is not None:
            write_file(lock, encode_lock(made.lock()))
        summary = summarise(
            made, tokenizer=tokenizer, image_tokens=image_tokens, jobs=jobs, progress=progress
        )
    if as_json:
        show_json(summary)
        return
    show_plan(summary)


def show_plan(summary: dict[str, Any]) -> None:
    """Print a plan's summary."""
    say(f"{summary['name']}: {_amount(summary)}", style="bold")
    show_table(
        ("part", "has#", "asked#", "delivered#", "share#", "times#", "distinct#"),
        [
            (
                part["name"],
                part["available"],
                part["asked"],
                part["delivered"],
                f"{part['share']:.1%}",
                f"{part['repeats']:.2f}",
                part["unique"],
            )
            for part in summary["sources"]
        ],
    )
    say("")
    counted = [name for name in ("text_tokens", "image_tokens") if summary[name] is not None]
    show_table(
        ("part", "images#", "turns#", *(f"{n.replace('_', ' ')}#" for n in counted), "licences"),
        [
            (
                part["name"],
                part["images"],
                part["rounds"],
                *(part[name] for name in counted),
                ", ".join(part["licenses"]["licenses"]),
            )
            for part in summary["sources"]
        ],
    )
    say("")
    for stage in summary["stages"]:
        if stage["tokens_asked"] is not None:
            say(
                f"stage {stage['name']}: {stage['tokens_reached']:,} tokens of "
                f"{stage['tokens_asked']:,} asked, reached by row {stage['stop']:,}"
            )
    for name, part in summary["continued"].items():
        say(_continued(name, part))
    say(_licences(summary["licenses"]))
    share = f" ({summary['unique'] / summary['rows']:.1%})" if summary["rows"] else ""
    say(
        f"{summary['unique']:,} different rows{share}; every prefix is within "
        f"{summary['certificate']:.2f} rows of its shares; digest {summary['plan_digest']}"
    )
    for warning in summary["warnings"]:
        note(warning)


def _amount(summary: dict[str, Any]) -> str:
    text = f"{summary['rows']:,} rows, {summary['images']:,} images, {summary['rounds']:,} turns"
    if summary["text_tokens"] is not None:
        text += f", {summary['text_tokens']:,} text tokens ({summary['tokenizer']})"
    if summary["image_tokens"] is not None:
        text += f", {summary['image_tokens']:,} image tokens ({summary['image_rule']})"
    return text


def _continued(name: str, part: dict[str, Any]) -> str:
    if "gone" in part:
        return f"{name}: no more; it had given {part['gone']:,} rows"
    words = [
        f"{part[f'{word}_least']:,}"
        if part[f"{word}_least"] == part[f"{word}_most"]
        else f"{part[f'{word}_least']:,} to {part[f'{word}_most']:,}"
        for word in ("again", "new")
    ]
    return f"{name}: goes on at row {part['start']:,}; {words[0]} rows again, {words[1]} new"


def _licences(judged: dict[str, Any]) -> str:
    asks = ", ".join(judged["restricts"]) or "nothing"
    text = f"strictest licence: {judged['strictest']}; the known ones ask for: {asks}"
    if judged["strictest"] is None:
        text = "strictest licence: none of them is known"
    if judged["unknown"]:
        text += f"; not known, read them yourself: {', '.join(judged['unknown'])}"
    return text


def _show_both(
    first: str,
    second: str,
    counting: dict[str, str | None],
    as_json: bool,
    *,
    total: int | None,
    **how: Any,
) -> None:
    """Compare two recipes, or a recipe and a lock, or two locks."""
    from vision_ift._plan.compare import compare

    both = compare(
        _plan_or_lock(first, total, how),
        _plan_or_lock(second, total, how),
        tokenizer=counting["tokenizer"],
        image_tokens=counting["image_tokens"],
        jobs=how["jobs"],
        progress=how["progress"],
    )
    if as_json:
        show_json(both)
        return
    one, two = both["plans"]
    say(f"{one['name']}: {one['rows']:,} rows; {two['name']}: {two['rows']:,} rows", style="bold")
    counted = [
        key
        for key, by in (("text_tokens", "tokenizer"), ("image_tokens", "image_rule"))
        if both[by] is not None
    ]
    rows = []
    for part in both["parts"]:
        cells: list[object] = [part["name"]]
        for key in ("delivered", "share", "repeats", *counted):
            for side in part["plans"]:
                value = None if side is None else side[key]
                if isinstance(value, float):
                    value = f"{value:.1%}" if key == "share" else f"{value:.2f}"
                cells.append("-" if value is None else value)
        rows.append(cells)
    show_table(
        (
            *("part", "rows#", "rows#", "share#", "share#", "times#", "times#"),
            *(f"{key.replace('_', ' ')}#" for key in counted for _ in (1, 2)),
        ),
        rows,
        title="of each pair, the first plan stands first",
    )
    for table in both["tables"]:
        least, most = table["shared_least"], table["shared_most"]
        shared = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        say(
            f"{', '.join(table['names'])}: {table['rows'][0]:,} and {table['rows'][1]:,} different "
            f"rows of one table, {shared} of them in both"
        )
    for name in both["not_compared"]:
        note(f"{name} is read from two different tables: which of its rows they share is not known")


def _plan_or_lock(name: str, total: int | None, how: dict[str, Any]) -> Plan | Lock:
    from vision_ift._plan.lock import read_lock
    from vision_ift._plan.plan import plan as make_plan

    if Path(name).suffix == ".json":
        return read_lock(name)
    return make_plan(name, total=total, **how)
