"""Looks at all that a source, a table or a recipe holds before a training run does.

Every distinct picture is decoded fully (``_decode.py``), every row's tokens are counted
(``_tokens.py``), and the rows that would hurt a run are listed by reason, in the form in which a
recipe leaves them out. What is kept for a picture while this runs is some sixty bytes beside its
reference; rows pass through in row groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from vision_ift import _registry
from vision_ift._build import Progress, build, default_root, silent
from vision_ift._check.out import CheckWriter
from vision_ift._check.pictures import CODES, NAMES, Part, Pictures, Shown
from vision_ift._check.rows import Rows
from vision_ift._errors import MissingInputError, UsageError
from vision_ift._pictures.child import Limits
from vision_ift._pictures.images import Images
from vision_ift._plan.plan import plan
from vision_ift._table import REPORT, Table
from vision_ift._tokens import IMAGE_RULES, ImageRule, Tokenizer, find_image_rule, find_tokenizer

#: How many problems of a kind are named in the report.
FIRST = 10

#: A row's tokens beyond the context, as a share of the context: up to which, and what it is called.
_SHARES = ((0.1, "up to 10%"), (0.5, "up to 50%"), (1.0, "up to 100%"), (np.inf, "more"))


class Problem(msgspec.Struct, kw_only=True):
    """What was found for one reason in one source.

    Attributes:
        pictures: Distinct pictures to blame; 0 where rows are.
        rows: Rows listed under this reason.
        first: The first ten of them: id and detail.
    """

    source: str
    reason: str
    pictures: int = 0
    rows: int = 0
    first: list[dict[str, str]] = []


class Tokens(msgspec.Struct, kw_only=True):
    """The tokens of one source.

    Attributes:
        text, image: Their sums; ``image`` over the rows that could be judged.
        judged: Rows whose tokens are all known.
        cut: Rows that take more than the context.
        images_cut: Those of them that lose tokens of a picture.
        tokens_cut: How many tokens are lost together; ``most_cut``: by one row.
        cut_by: Rows cut, by how much of the context they are too long.
    """

    source: str
    rows: int = 0
    judged: int = 0
    text: int = 0
    image: int = 0
    longest: int = 0
    cut: int = 0
    images_cut: int = 0
    tokens_cut: int = 0
    most_cut: int = 0
    cut_by: dict[str, int] = {}


class CheckReport(msgspec.Struct, kw_only=True):
    """What ``check.json`` says.

    Attributes:
        name: The source, table or recipe.
        sources: Name, rows looked at, and digest of each table.
        rows, images: Rows, and pictures shown in them.
        references: Distinct pictures; ``decoded``: how many of them were decoded.
        share: The share of the pictures that was asked for, exact.
        problems: By source and reason; empty where nothing is wrong.
        excluded: Rows in ``exclude.jsonl``.
        formats, modes, orientations: Of the pictures that can be used.
        animated, with_alpha, incomplete: Pictures with several frames, with transparency, without
            their format's end mark (all pixels are there).
        duplicates: ``groups`` of equal bytes under several references, the ``pictures`` beyond the
            first of each group, and their ``bytes``.
        tokenizer, image_tokens, context: As asked for.
        tokens: By source.
    """

    schema_version: int = 1
    name: str
    sources: list[dict[str, Any]]
    rows: int = 0
    images: int = 0
    references: int = 0
    decoded: int = 0
    share: str = "1"
    limits: Limits
    problems: list[Problem] = []
    excluded: int = 0
    formats: dict[str, int] = {}
    modes: dict[str, int] = {}
    orientations: dict[str, int] = {}
    animated: int = 0
    with_alpha: int = 0
    incomplete: int = 0
    duplicates: dict[str, int] = {}
    tokenizer: str
    image_tokens: str | None
    context: int | None
    tokens: list[Tokens] = []


def check(
    what: str | Path,
    *,
    root: Path | str | None = None,
    tables: Path | str | None = None,
    options: Mapping[str, Any] | None = None,
    share: Fraction | int = 1,
    context: int | None = None,
    tokenizer: str = "chars/4",
    image_tokens: str | None = None,
    limits: Limits | None = None,
    out: Path | str | None = None,
    jobs: int = 1,
    progress: Progress = silent,
) -> CheckReport:
    """Check the pictures and the lengths of a source, a table or a recipe.

    Args:
        what: A source's name, a folder with a table, a recipe's name, or a YAML file.
        root, tables, options, jobs: As for :func:`vision_ift.build`.
        share: Decode this share of the pictures, above 0; the others are only looked for. Which
            ones goes by a hash of the reference, so a smaller share is inside a larger one.
        context: Tokens that fit; rows that take more are listed.
        tokenizer, image_tokens: Names from ``_tokens.py``.
        limits: What decoding one picture may cost.
        out: Where to write ``check.json``, ``images.parquet``, ``rows.parquet``, ``exclude.jsonl``.

    Raises:
        UnknownNameError: There is no such source, recipe, tokenizer or rule.
        UsageError: ``context`` without ``image_tokens`` where there are pictures, or a bad number.
        MissingInputError: The table or the source's files are not there.
    """
    share = Fraction(share)
    if not 0 < share <= 1:
        raise UsageError(f"share is {share}", hint="give more than 0 and at most 1 (or 5%)")
    if context is not None and context < 1:
        raise UsageError(f"context is {context}", hint="give 1 or more tokens")
    count = find_tokenizer(tokenizer)
    rule = find_image_rule(image_tokens) if image_tokens else None
    folder = Path(root).expanduser() if root is not None else default_root()
    name, parts = _parts(
        str(what), folder, tables=tables, options=options, jobs=jobs, progress=progress
    )
    shown = Shown(parts)
    if context is not None and rule is None and len(shown.references):
        raise UsageError(
            "how many tokens a picture takes is not known",
            hint=f"name a rule with --image-tokens: {', '.join(IMAGE_RULES)}",
        )
    limits = limits or Limits()
    pictures = Pictures(shown.references)
    with CheckWriter(out) as writer:  # opened first: nobody decodes for hours and then cannot write
        pictures.look(Images(folder), share, limits=limits, jobs=jobs, progress=progress)
        report = CheckReport(
            name=name,
            sources=[
                {"name": part.name, "rows": part.size, "digest": part.table.digest}
                for part in parts
            ],
            share=str(share),
            limits=limits,
            tokenizer=tokenizer,
            image_tokens=image_tokens,
            context=context,
            **pictures.describe(),
        )
        _judge_rows(parts, shown, pictures, report, writer, count, rule, progress)
        _count_pictures(parts, shown, pictures, report)
        report.problems.sort(key=lambda one: (one.source, CODES[one.reason]))
        for batch in pictures.batches():
            writer.images(batch)
        writer.finish(msgspec.json.encode(report, order="sorted"))
    return report


def _parts(what: str, root: Path, **how: Any) -> tuple[str, list[Part]]:
    """Find what is to be checked; rows that several entries of a recipe take count once."""
    path = Path(what)
    options = how.pop("options") or {}
    if what in _registry.names():
        return what, [Part(what, build(what, root=root, options=options, **how), None)]
    if options:
        raise UsageError("options go with a source", hint="a recipe's stand in its mix")
    if (path / REPORT).is_file():
        table = Table(path)
        return table.source, [Part(table.source, table, None)]
    if path.is_dir():
        raise MissingInputError(f"{what} holds no finished table", hint="run vision-ift build")
    planned = plan(what, root=root, **how)
    parts: dict[str, Part] = {}
    for entry, selection in zip(planned.recipe.mix, planned.selections, strict=True):
        assert selection is not None  # nothing may be missing here
        key = str(selection.table.path)
        part = parts.get(key, Part(entry.name, selection.table, np.empty(0, np.int64)))
        if part.rows is not None:
            rows = None if selection.rows is None else np.union1d(part.rows, selection.rows)
            parts[key] = part._replace(rows=rows)
    return planned.recipe.name, list(parts.values())


def _judge_rows(
    parts: list[Part],
    shown: Shown,
    pictures: Pictures,
    report: CheckReport,
    writer: CheckWriter,
    count: Tokenizer,
    rule: ImageRule | None,
    progress: Progress,
) -> None:
    """Give every row its tokens and its reason, write them, and count them."""
    tokens = pictures.tokens(rule)
    codes = iter(shown.codes)
    total = sum(part.size for part in parts)
    for part in parts:
        sums = Tokens(source=part.name)
        problems: dict[str, Problem] = {}
        for numbers, batch in part.batches(["id", "image_paths", "images", "messages"]):
            judged = Rows(batch, next(codes), pictures, tokens, count, report.context)
            _add_tokens(sums, judged, report.context)
            writer.rows(judged.arrow(part.name, numbers))
            for row in np.flatnonzero(judged.reason).tolist():
                name, detail = NAMES[judged.reason[row]], judged.detail(row)
                one = problems.setdefault(name, Problem(source=part.name, reason=name))
                one.rows += 1
                report.excluded += 1
                if len(one.first) < FIRST:
                    one.first.append({"id": judged.id(row), "detail": detail})
                writer.exclude(judged.id(row), name, detail)
            report.rows += batch.num_rows
            report.images += len(judged.codes)
            progress("check rows", report.rows, total)
        report.problems += problems.values()
        report.tokens.append(sums)


def _count_pictures(
    parts: list[Part], shown: Shown, pictures: Pictures, report: CheckReport
) -> None:
    """Count the bad pictures of every source; one that several show counts in each."""
    codes = iter(shown.codes)
    found = {(one.source, one.reason): one for one in report.problems}
    for part in parts:
        met = np.zeros(len(pictures.reason), bool)
        for _ in part.batches(["id"]):
            met[next(codes)] = True
        for code, amount in enumerate(np.bincount(pictures.reason[met], minlength=1)):
            if code and amount:
                key = (part.name, NAMES[code])
                if key not in found:  # its rows are all listed for something worse
                    found[key] = Problem(source=part.name, reason=NAMES[code])
                    report.problems.append(found[key])
                found[key].pictures = int(amount)


def _add_tokens(sums: Tokens, rows: Rows, context: int | None) -> None:
    known = rows.known
    sums.rows += len(known)
    sums.judged += int(known.sum())
    sums.text += int(rows.text_tokens.sum())
    sums.image += int(rows.image_tokens[known].sum())
    totals = (rows.text_tokens + rows.image_tokens)[known]
    sums.longest = max(sums.longest, int(totals.max(initial=0)))
    over = rows.over[rows.over > 0]
    if context is None or not len(over):
        return
    sums.cut += len(over)
    sums.images_cut += int(rows.images_cut.sum())
    sums.tokens_cut += int(over.sum())
    sums.most_cut = max(sums.most_cut, int(over.max()))
    shares = np.searchsorted([limit for limit, _ in _SHARES], over / context)
    for place, (_, word) in enumerate(_SHARES):
        sums.cut_by[word] = sums.cut_by.get(word, 0) + int((shares == place).sum())
