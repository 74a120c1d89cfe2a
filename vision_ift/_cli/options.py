"""The application and the options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="vision-ift",
    help="The data layer of visual instruction tuning: build, mix, export and load conversations.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Root = Annotated[
    Path | None,
    typer.Option(
        help="Where the authors' files lie "
        "[default: VISION_IFT_ROOT or ~/.cache/vision_ift/sources]"
    ),
]
Tables = Annotated[
    Path | None,
    typer.Option(
        help="Where tables are kept [default: VISION_IFT_TABLES or ~/.cache/vision_ift/tables]"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Jobs = Annotated[int, typer.Option(help="Processes.", min=1, max=1024)]
Strict = Annotated[bool, typer.Option(help="Stop at the first record that breaks a rule.")]
AllowMissing = Annotated[
    bool,
    typer.Option("--allow-missing", help="Leave out sources whose files are not there."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be written; write nothing.")
]
RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped name or a YAML file.")]
