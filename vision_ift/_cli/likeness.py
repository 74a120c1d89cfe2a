"""The commands ``decontaminate`` and ``duplicates``: what looks or reads like what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vision_ift._cli.console import note, say, show_json, show_table, watched
from vision_ift._cli.options import Jobs, Json, Root, Tables, app
from vision_ift._errors import MissingInputError, UsageError

if TYPE_CHECKING:
    from vision_ift._likeness.rows import Part

What = Annotated[
    list[str], typer.Argument(metavar="SOURCE|TABLE_DIR|RECIPE...", help="What to look at.")
]
PictureDistance = Annotated[
    int, typer.Option(help="Bits of 64 in which the hashes of near pictures differ.", min=0, max=16)
]
TextSimilarity = Annotated[
    float, typer.Option(help="Jaccard index of near texts, 0.5 to 1.", min=0.5, max=1)
]
StrictPictures = Annotated[
    bool, typer.Option("--strict", help="Stop at the first picture that cannot be decoded.")
]


@app.command()
def decontaminate(
    what: What,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="A benchmark: a folder, .parquet, .jsonl or .json; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write exclude.jsonl, evidence.parquet, pairs.html, report.json here."),
    ] = None,
    lineage: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]FILE|SPLIT",
            help="A list of COCO ids or file names, or a split such as val2014; may be repeated.",
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(help="An export of the same tables: also write its Energon split.yaml."),
    ] = None,
    root: Root = None,
    tables: Tables = None,
    picture_distance: PictureDistance = 6,
    text_similarity: TextSimilarity = 0.8,
    min_score: Annotated[
        float, typer.Option(help="List a row from this score on.", min=0.01, max=1)
    ] = 0.5,
    text_column: Annotated[
        list[str] | None, typer.Option(help="The benchmark's column or key with the question.")
    ] = None,
    image_column: Annotated[
        list[str] | None, typer.Option(help="The benchmark's column or key with pictures.")
    ] = None,
    strict: StrictPictures = False,
    jobs: Jobs = 1,
    as_json: Json = False,
) -> None:
    """Find rows whose picture, question or COCO id stands in a benchmark. Nothing is removed.

    Ends with 0 where none is listed and 1 where some are.

    Examples: vision-ift decontaminate coco_mix --root ~/data --against pope --out found;
    vision-ift decontaminate coco_ift --root ~/data --lineage karpathy=dataset_coco.json
    """
    from vision_ift._build import default_root
    from vision_ift._likeness.decontaminate import decontaminate as look
    from vision_ift._likeness.write import write_found

    if export is not None and out is None:
        raise UsageError("--export without --out", hint="name a folder for split.yaml with --out")
    folder = root.expanduser() if root is not None else default_root()
    with watched() as progress:
        found = look(
            _parts(what, folder, tables=tables, jobs=jobs, progress=progress),
            against or [],
            root=folder,
            lineage=lineage or [],
            picture_distance=picture_distance,
            text_similarity=text_similarity,
            min_score=min_score,
            text_columns=text_column or [],
            image_columns=image_column or [],
            strict=strict,
            jobs=jobs,
            progress=progress,
        )
    written: list[str] = []
    if out is not None:
        write_found(found, out, root=folder)
        if export is not None:
            listed = _numbers(found.parts, found.listed)
            written = _write_splits(export, out, {(part.table.digest, row) for part, row in listed})
    if as_json:
        show_json({**found.report, "splits": written})
    else:
        _show_found(found.report, out)
    if found.listed:
        raise typer.Exit(1)


def _show_found(report: dict[str, Any], out: Path | None) -> None:
    say(f"{report['listed']:,} rows are listed", style="bold")
    if report["found"]:
        show_table(
            ("benchmark", "evidence", "rows#", "too weak#", "how"),
            [
                (
                    one["benchmark"],
                    one["evidence"],
                    one["rows"],
                    one["weak"],
                    ", ".join(f"{how} {rows:,}" for how, rows in one["how"].items()),
                )
                for one in report["found"]
            ],
        )
    for one in report["common_questions"][:5]:
        say(f"common, so weak alone: {one['question'][:80]} ({one['rows']:,} rows)")
    told = report["lineage"]
    if told["splits"]:
        splits = ", ".join(f"{name} {count:,}" for name, count in told["splits"].items())
        say(f"pictures of COCO by their paths: {splits}")
    for one in told["benchmarks"]:
        if one["needs"] and not one["lists_given"]:
            note(f"{one['benchmark']}: up to {one['pictures']:,} pictures; {one['needs']}")
    if told["needs"]:
        note(f"Visual Genome: {told['pictures_of_visual_genome']:,} pictures; {told['needs']}")
    for where in (report, *report["benchmarks"]):
        for reason, count in where["pictures_without_hash"].items():
            note(f"{where.get('name', 'the rows')}: {count:,} pictures not compared: {reason}")
    for one in report["benchmarks"]:
        for reason, count in one["skipped"].items():
            note(f"{one['name']}: {count:,} passed over: {reason}")
    if out is not None:
        say(f"written: {out / 'exclude.jsonl'}, evidence.parquet, pairs.html, report.json")


@app.command()
def duplicates(
    what: What,
    by: Annotated[
        Literal["text", "picture", "both"],
        typer.Option(help="What makes two rows the same: text, picture or both."),
    ] = "both",
    near: Annotated[bool, typer.Option("--near", help="Near ones count as the same.")] = False,
    keep: Annotated[int, typer.Option(help="Rows of a group that stay.", min=1)] = 1,
    out: Annotated[
        Path | None,
        typer.Option(help="Write groups.parquet, exclude.jsonl and duplicates.json here."),
    ] = None,
    root: Root = None,
    tables: Tables = None,
    picture_distance: PictureDistance = 6,
    text_similarity: TextSimilarity = 0.8,
    strict: StrictPictures = False,
    jobs: Jobs = 1,
    as_json: Json = False,
) -> None:
    """Find rows that say or show the same, inside a source and between sources.

    Ends with 0 where there is none and 1 where there are some.

    Examples: vision-ift duplicates coco_ift vision_flan --root ~/data --by picture;
    vision-ift duplicates coco_mix --root ~/data --by text --near --out copies
    """
    from vision_ift._build import default_root
    from vision_ift._likeness import groups as _groups
    from vision_ift._likeness.write import write_groups

    folder = root.expanduser() if root is not None else default_root()
    with watched() as progress:
        parts = _parts(what, folder, tables=tables, jobs=jobs, progress=progress)
        keys, broken, crowded = _groups.row_keys(
            parts,
            by=by,
            near=near,
            root=folder,
            distance=picture_distance,
            similarity=text_similarity,
            strict=strict,
            jobs=jobs,
            progress=progress,
        )
    report = {
        "by": by,
        "near": near,
        "keep": keep,
        "picture_distance": picture_distance,
        "text_similarity": text_similarity,
        "parts": [
            {"name": part.name, "rows": len(part), "digest": part.table.digest} for part in parts
        ],
        "pictures_without_hash": broken,
        "crowded_texts": crowded,
        **_groups.describe(parts, keys),
    }
    if out is not None:
        write_groups(parts, keys, report, out, keep=keep)
    if as_json:
        show_json(report)
    else:
        _show_groups(report, out)
    if report["groups"]:
        raise typer.Exit(1)


def _show_groups(report: dict[str, Any], out: Path | None) -> None:
    say(
        f"{report['rows']:,} rows, {report['compared']:,} compared by {report['by']}: "
        f"{report['groups']:,} groups, {report['copies']:,} copies beyond the first",
        style="bold",
    )
    if report["between"]:
        show_table(
            ("source", "and", "groups#", "rows#"),
            [
                (one["source"], one["other"], one["groups"], one["rows"])
                for one in report["between"]
            ],
        )
        show_table(
            ("largest groups#", "the first"),
            [(one["rows"], ", ".join(one["first"])) for one in report["largest"][:10]],
        )
    for reason, count in report["pictures_without_hash"].items():
        note(f"{count:,} pictures not compared: {reason}")
    if report["crowded_texts"]:
        note(
            f"{report['crowded_texts']:,} texts share runs with so many others that they were "
            "compared with the first 32 of them only, and are close to none of those"
        )
    if out is not None:
        say(f"written: {out / 'groups.parquet'}, exclude.jsonl, duplicates.json")


def _parts(what: list[str], root: Path, **how: Any) -> list[Part]:
    """Find what is to be looked at; rows that are named twice count once."""
    import numpy as np

    from vision_ift import _registry
    from vision_ift._build import build
    from vision_ift._likeness.rows import Part
    from vision_ift._plan.plan import plan
    from vision_ift._table import REPORT, Table

    found: list[Part] = []
    for one in what:
        if one in _registry.names():
            found.append(Part(one, build(one, root=root, **how)))
        elif (Path(one) / REPORT).is_file():
            table = Table(one)
            found.append(Part(table.source, table))
        elif Path(one).is_dir():
            raise MissingInputError(f"{one} holds no finished table", hint="run vision-ift build")
        else:
            planned = plan(one, root=root, **how)
            for entry, selection in zip(planned.recipe.mix, planned.selections, strict=True):
                assert selection is not None  # nothing may be missing here
                found.append(Part(entry.name, selection.table, selection.rows))
    kept: dict[str, Part] = {}
    names: dict[str, int] = {}
    for part in found:
        before = kept.get(part.table.digest)
        if before is None:
            number = names[part.name] = names.get(part.name, 0) + 1
            name = part.name if number == 1 else f"{part.name} ({number})"
            kept[part.table.digest] = Part(name, part.table, part.rows)
        elif before.rows is not None:
            rows = None if part.rows is None else np.union1d(before.rows, part.rows)
            kept[part.table.digest] = Part(before.name, before.table, rows)
    return list(kept.values())


def _numbers(parts: list[Part], listed: list[tuple[int, str, int]]) -> list[tuple[Part, int]]:
    """Give rows counted over all parts as a part and a row of its table."""
    import numpy as np

    edges = np.cumsum([0, *(len(part) for part in parts)])
    found = []
    for row, _, _ in listed:
        place = int(np.searchsorted(edges, row, side="right")) - 1
        part, inside = parts[place], row - int(edges[place])
        found.append((part, inside if part.rows is None else int(part.rows[inside])))
    return found


def _write_splits(export: Path, out: Path, listed: set[tuple[str, int]]) -> list[str]:
    """Write Energon's ``split.yaml`` for an export, with the listed rows under ``exclude``.

    A uniform export has one for each of its groups. Samples are named ``shard.tar/key``.
    """
    import pyarrow as pa
    import pyarrow.ipc as ipc

    from vision_ift._cards.text import dump_yaml
    from vision_ift._disk import write_file
    from vision_ift._export.manifest import INDEX, LAYOUT, MANIFEST, PLAN, Layout, Manifest, read
    from vision_ift._plan.lock import read_lock

    manifest = read(export / MANIFEST, Manifest)
    layout = read(export / LAYOUT, Layout)
    if manifest is None or layout is None:
        raise MissingInputError(
            f"{export} holds no finished export", hint="run vision-ift export until it ends"
        )
    digests = {
        part.number: part.selection.partition("/")[0] for part in read_lock(export / PLAN).parts
    }
    excluded: dict[str, list[str]] = {shard.name: [] for shard in manifest.shards}
    with pa.memory_map(str(export / INDEX)) as source:
        reader = ipc.open_file(source)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number).select(["key", "source", "row", "shard"])
            for line in batch.to_pylist():
                if (digests.get(line["source"]), line["row"]) in listed:
                    excluded[layout.name(line["shard"])].append(line["key"])
    trees: dict[str, list[str]] = {}
    for name in excluded:
        trees.setdefault(name.rpartition("/")[0], []).append(name)
    written = []
    for group, shards in sorted(trees.items()):
        names = [name.rpartition("/")[2] for name in shards]
        lines = [
            f"{short}/{key}"
            for short, name in zip(names, shards, strict=True)
            for key in excluded[name]
        ]
        path = out / group / "split.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, dump_yaml({"split_parts": {manifest.split: names}, "exclude": lines}))
        written.append(path.relative_to(out).as_posix())
    return written
