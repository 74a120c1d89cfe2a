"""The command ``card``: what a source, a recipe, an export or a table holds, as a README."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from vision_ift._cli.console import show_json, watched
from vision_ift._cli.options import AllowMissing, Jobs, Json, Root, Tables, app
from vision_ift._errors import MissingInputError, UsageError

if TYPE_CHECKING:
    from vision_ift._build import Progress
    from vision_ift._cards.counted import Counted
    from vision_ift._cards.facts import CardFacts


@app.command()
def card(
    what: Annotated[
        str,
        typer.Argument(
            metavar="NAME|EXPORT|TABLE", help="A source, a recipe, or the folder of either."
        ),
    ],
    root: Root = None,
    tables: Tables = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Count text tokens: chars/4, tiktoken:NAME or hf:PATH.")
    ] = None,
    image_tokens: Annotated[
        str | None, typer.Option(help="Count picture tokens: a rule, e.g. qwen2-vl.")
    ] = None,
    allow_missing: AllowMissing = False,
    jobs: Jobs = 1,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the card here instead.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the card (README) of a source, a recipe, an export or a table.

    With --root the rows of a source or recipe are counted; without it, the card says what the
    authors claim.

    Examples: vision-ift card coco_mix; vision-ift card coco_ift --root ~/data --out README.md;
    vision-ift card shards --json
    """
    from vision_ift._cards.text import split_card
    from vision_ift._disk import write_file

    with watched() as progress:
        found = _Asked(
            root=root,
            tables=tables,
            tokenizer=tokenizer,
            image_tokens=image_tokens,
            allow_missing=allow_missing,
            jobs=jobs,
        ).find(what, progress)
    text = found.pop("card")
    if out is not None:
        write_file(out, text.encode())
    if as_json:
        head, body = split_card(text)
        written = None if out is None else str(out)
        show_json({**found, "head": head, "body": body.strip(), "out": written})
    elif out is None:
        typer.echo(text, nl=False)


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is counted, and how."""

    root: Path | None
    tables: Path | None
    tokenizer: str | None
    image_tokens: str | None
    allow_missing: bool
    jobs: int

    def find(self, what: str, progress: Progress) -> dict[str, Any]:
        """Make the card; a name goes before a folder of the same name."""
        from vision_ift import _registry
        from vision_ift._export.manifest import MANIFEST
        from vision_ift._recipe.recipe import shipped
        from vision_ift._table import REPORT

        folder = Path(what)
        if what in _registry.names() or what in shipped():
            return self._of_name(what, progress)
        if (folder / MANIFEST).is_file():
            return _of_export(folder)
        if (folder / REPORT).is_file():
            return self._of_table(folder, progress)
        if folder.is_dir():
            raise MissingInputError(
                f"{what} is a folder that holds neither a finished export nor a table",
                hint="name a source or recipe, or finish the export first",
            )
        return self._of_name(what, progress)

    def _of_name(self, name: str, progress: Progress) -> dict[str, Any]:
        from vision_ift._build import build
        from vision_ift._cards.counted import count_table, of_summary
        from vision_ift._cards.facts import describe
        from vision_ift._plan.plan import plan
        from vision_ift._plan.summary import summarise

        facts = describe(name)
        if self.root is None:
            if self.tokenizer is not None or self.image_tokens is not None:
                raise UsageError("tokens are counted in rows, and nothing is built without --root")
            return _made(facts, None)
        how: dict[str, Any] = {"tables": self.tables, "jobs": self.jobs, "progress": progress}
        if facts.kind == "source":
            table = build(name, root=self.root, **how)
            counted = count_table(
                table,
                root=self.root,
                tokenizer=self.tokenizer,
                image_tokens=self.image_tokens,
                jobs=self.jobs,
                progress=progress,
            )
            return _made(facts, counted)
        made = plan(name, root=self.root, allow_missing=self.allow_missing, **how)
        summary = summarise(
            made,
            tokenizer=self.tokenizer,
            image_tokens=self.image_tokens,
            jobs=self.jobs,
            progress=progress,
        )
        return _made(facts, of_summary(summary))

    def _of_table(self, folder: Path, progress: Progress) -> dict[str, Any]:
        from vision_ift._build import default_root
        from vision_ift._cards.counted import count_table
        from vision_ift._cards.facts import describe
        from vision_ift._table import Table

        table = Table(folder)
        counted = count_table(
            table,
            root=self.root if self.root is not None else default_root(),
            tokenizer=self.tokenizer,
            image_tokens=self.image_tokens,
            jobs=self.jobs,
            progress=progress,
        )
        return _made(describe(table.source), counted)


def _made(facts: CardFacts, counted: Counted | None) -> dict[str, Any]:
    from vision_ift._cards.card import write_card

    return {
        "name": facts.name,
        "kind": facts.kind,
        "facts": msgspec.to_builtins(facts),
        "counted": None if counted is None else msgspec.to_builtins(counted),
        "card": write_card(facts, counted),
    }


def _of_export(folder: Path) -> dict[str, Any]:
    """The card that the export has, with what is known of its sources."""
    from vision_ift._cards.body import background_of
    from vision_ift._export.card import card as card_of_export
    from vision_ift._export.manifest import MANIFEST, Manifest, read

    manifest = read(folder / MANIFEST, Manifest)
    assert manifest is not None  # it was there a moment ago
    known = background_of(part.source for part in manifest.parts)
    return {
        "name": manifest.name,
        "kind": "export",
        "facts": None,
        "counted": {"rows": manifest.rows, "images": manifest.images, "bytes": manifest.bytes},
        "card": f"{card_of_export(manifest).rstrip()}\n\n{known}\n",
    }
