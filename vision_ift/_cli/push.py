"""The command ``push``: to a dataset on the Hub, in one commit."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from vision_ift._cli.console import note, say, show_json, show_table, watched
from vision_ift._cli.options import AllowMissing, DryRun, Jobs, Json, Root, Strict, Tables, app
from vision_ift._errors import UsageError

if TYPE_CHECKING:
    from vision_ift._origin import Secret

#: The longest line that is read as a token.
_MOST_TOKEN_CHARS = 5000


@app.command()
def push(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT", help="A source, a recipe, or the folder of a table or an export."
        ),
    ],
    repo: Annotated[str, typer.Argument(metavar="ORG/NAME", help="The dataset on the Hub.")],
    config: Annotated[
        str | None, typer.Option(help="The configuration [default: the name of WHAT].")
    ] = None,
    root: Root = None,
    tables: Tables = None,
    total: Annotated[int | None, typer.Option(help="Conversations to deliver.", min=1)] = None,
    split: Annotated[str, typer.Option(help="The split that a recipe becomes.")] = "train",
    private: Annotated[
        bool | None, typer.Option("--private/--public", help="Of a repository that is created.")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="The branch; created where it is missing.")
    ] = None,
    pr: Annotated[bool, typer.Option("--pr", help="Open one pull request.")] = False,
    set_default: Annotated[
        bool | None,
        typer.Option(
            "--set-default/--no-set-default",
            help="Load this one where no configuration is named [default: if it is the first].",
        ),
    ] = None,
    max_shard_bytes: Annotated[
        int, typer.Option(help="Bytes of a Parquet file, about.", min=1)
    ] = 500_000_000,
    token_stdin: Annotated[
        bool,
        typer.Option(
            "--token-stdin", help="Read the token from stdin [default: HF_TOKEN or the login]."
        ),
    ] = False,
    allow_missing: AllowMissing = False,
    strict: Strict = False,
    jobs: Jobs = 1,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Push a source, recipe or table as Parquet, or an export as it is, to a dataset on the Hub.

    All of it arrives in one commit. After any stop, run it again: nothing is sent twice.

    Examples: vision-ift push coco_mix org/vision_ift --root ~/data --dry-run;
    vision-ift push coco_mix org/vision_ift --root ~/data --private;
    vision-ift push shards org/vision_ift --config coco_mix_tars --pr
    """
    from vision_ift._push.push import push as push_it

    with watched() as progress:
        report = push_it(
            what,
            repo,
            config=config,
            root=root,
            tables=tables,
            total=total,
            split=split,
            private=private,
            revision=revision,
            create_pr=pr,
            set_default=set_default,
            max_shard_bytes=max_shard_bytes,
            dry_run=dry_run,
            allow_missing=allow_missing,
            strict=strict,
            jobs=jobs,
            token=_token() if token_stdin else None,
            progress=progress,
        )
    pushed: dict[str, Any] = msgspec.to_builtins(report)
    if as_json:
        show_json(pushed)
        return
    _show(pushed)


def _token() -> Secret:
    """Read a token from the first line of stdin."""
    from vision_ift._origin import Secret
    from vision_ift._push.hub import endpoint

    if sys.stdin.isatty():
        note("token, then Enter (it is shown; better: pipe it in):")
    line = sys.stdin.readline(_MOST_TOKEN_CHARS).strip()
    if not line:
        raise UsageError("no token came on stdin", hint="vision-ift push ... --token-stdin < FILE")
    return Secret(line, url=endpoint())


def _show(pushed: dict[str, Any]) -> None:
    about = pushed["dry_run"] and pushed["kind"] == "parquet"
    if pushed["dry_run"]:
        show_table(
            ("file", "rows#", "bytes, about#" if about else "bytes#", ""),
            [
                (one["path"], one["rows"], one["bytes"], "there" if one["there"] else "new")
                for one in pushed["files"]
            ],
        )
        for path in pushed["deleted"]:
            say(f"{path} would be removed")
        say("")
        say(pushed["card"])
        say("")
    where = f"{pushed['repo']}, configuration {pushed['config']}, {pushed['revision']}"
    verb = "would push" if pushed["dry_run"] else "pushed" if pushed["changed"] else "unchanged:"
    say(
        f"{verb} {pushed['rows']:,} rows in {len(pushed['files']):,} files, "
        f"{'about ' if about else ''}{pushed['bytes']:,} bytes, of which {pushed['new_bytes']:,} "
        f"are new, to {where}"
    )
    for reason, count in pushed["dropped"].items():
        note(f"dropped {count:,}: {reason}")
    for line in pushed["notes"]:
        note(line)
    if not pushed["dry_run"]:
        say(pushed["pull_request"] or pushed["url"])
