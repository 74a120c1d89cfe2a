"""The command ``compile``: one recipe to what others run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vision_ift._cli.console import note, say, show_json, show_table, watched
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


@app.command("compile")
def compile_recipe(
    recipe: RecipeName,
    to: Annotated[str, typer.Option(help="energon, llamafactory, swift or datasets.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    root: Root = None,
    tables: Tables = None,
    total: Annotated[int | None, typer.Option(help="Conversations to deliver.", min=1)] = None,
    allow_missing: AllowMissing = False,
    strict: Strict = False,
    jobs: Jobs = 1,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Write a recipe for Energon, LLaMA-Factory, ms-swift or datasets, and what it cannot say.

    Example: vision-ift compile coco_mix --root ~/data --to energon --out energon
    """
    from vision_ift._compile.compile import compile_plan, write_compiled
    from vision_ift._plan.plan import plan as make_plan

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
    compiled = compile_plan(made, to=to)
    if not dry_run:
        write_compiled(compiled, out)
    if as_json:
        show_json(
            {
                "name": made.recipe.name,
                "plan_digest": made.digest,
                "out": str(out),
                "dry_run": dry_run,
                **compiled.describe(),
            }
        )
        return
    show_table(
        ("part", "stage", "file", "rows#", "delivered#", "share#"),
        [
            (p["name"], p["stage"], p["file"], p["rows"], p["delivered"], f"{p['share']:.1%}")
            for p in compiled.parts
        ],
    )
    say("")
    say("would write:" if dry_run else f"wrote to {out}:", style="bold")
    say("  " + ", ".join(compiled.files))
    say("then, in that folder:", style="bold")
    for line in compiled.commands:
        say(f"  {line}")
    for one in compiled.notes:
        note(f"{one.about}: {one.lost} {one.instead}")
