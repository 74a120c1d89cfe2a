"""The body of a card: what it holds, claims, licences, how it was made, limits, loading, citing.

Texts of sources (``cards/<source>.yaml``) are Markdown of their authors; everything else, names of
recipes, parts, tasks and licences, is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vision_ift import _registry
from vision_ift._cards.counted import MOST_TASKS, Counted
from vision_ift._cards.facts import (
    CardFacts,
    PartFacts,
    SourceFacts,
    source_facts,
)
from vision_ift._cards.loading import show_loading
from vision_ift._cards.text import bullets, cell, code, fenced, number, table
from vision_ift._cards.told import LAYERS, Count
from vision_ift._plan.licences import judge

#: How this package is cited, after the sources; the words are those of CITATION.cff.
CITATION = """\
@software{vision_ift,
  title={vision\\_ift: the data layer of visual instruction tuning},
  author={{The vision\\_ift authors}}
}"""

_AMOUNTS = {"weight": "weight {}", "repeat": "{} ×", "count": "{} rows", "size": "by its size"}


def write_body(
    facts: CardFacts,
    counted: Counted | None = None,
    *,
    level: int = 1,
    repository: str = "",
) -> str:
    """Write the body of a card.

    Args:
        facts: What it is of.
        counted: What was counted; ``None``: what the authors claim stands in its place.
        level: The level of its title; a configuration of a repository has 2.
        repository: Its name on the Hub; empty where it is not published.
    """
    sections = [
        "#" * level + f" {cell(facts.title)}",
        facts.summary or cell(facts.description),
        _homepages(facts),
        _composition(facts, counted, level + 1),
        write_background(
            facts.sources,
            level=level + 1,
            licenses=None if counted is None else counted.licenses,
            loading=show_loading(facts, level=level + 1, repository=repository),
        ),
    ]
    return "\n\n".join(section for section in sections if section)


def write_background(
    sources: Sequence[SourceFacts],
    *,
    level: int = 2,
    licenses: Mapping[str, int] | None = None,
    loading: str = "",
) -> str:
    """Write what is known of sources: claims, licences, how they were made, limits, citations.

    Args:
        sources: The sources.
        level: The level of the headings.
        licenses: What rows say of their licence, to their number.
        loading: A section that stands before the citations.
    """
    sections = [
        _claims(sources, level),
        _licences(sources, licenses, level),
        _told(sources, level, "How it was made", "made"),
        _told(sources, level, "Known limits", "limits"),
        loading,
        _citing(sources, level),
    ]
    return "\n\n".join(section for section in sections if section)


def background_of(
    names: Iterable[str], *, level: int = 2, licenses: Mapping[str, int] | None = None
) -> str:
    """Write the background of sources by their names; ``level`` and ``licenses`` as there.

    One that is not installed here has its name alone.

    >>> print(background_of(["mminstruct"], level=3).splitlines()[0])
    ### Claimed against found
    """
    known = set(_registry.names())
    sources = [
        source_facts(name) if name in known else SourceFacts.unknown(name)
        for name in dict.fromkeys(names)
    ]
    return write_background(sources, level=level, licenses=licenses)


def _heading(level: int, text: str) -> str:
    return "#" * level + f" {text}\n\n"


def _homepages(facts: CardFacts) -> str:
    return bullets(
        f"{cell(one.name)}: <{one.homepage}>"
        for one in facts.sources
        if one.homepage.startswith(("https://", "http://")) and not set(one.homepage) & set(" <>\n")
    )


def _composition(facts: CardFacts, counted: Counted | None, level: int) -> str:
    text = _heading(level, "What is in it")
    if counted is None:
        return text + (_claimed_parts(facts) if facts.kind == "recipe" else _claimed_rows(facts))
    found = [_amounts(counted)]
    if counted.parts:
        found += [_asked(facts), _counted_parts(counted)]
    for title, values in (("split", counted.splits), ("language", counted.languages)):
        if values:
            found.append(_values(title, values))
    if counted.tasks:
        found.append(_values("task", counted.tasks, most=MOST_TASKS))
    if counted.missing:
        found.append("Not there: " + ", ".join(cell(one) for one in counted.missing) + ".")
    if counted.dropped:
        dropped = _values("reason", counted.dropped, of="records")
        found.append(f"Left out, counted by reason:\n\n{dropped}")
    if counted.digest:
        of = "plan" if counted.parts else "rows"
        found.append(f"Digest of the {of}: {code(counted.digest)}.")
    return text + "\n\n".join(found)


def _amounts(counted: Counted) -> str:
    """Say how much was counted, in one row."""
    shown = [
        ("conversations", counted.rows),
        ("pictures shown", counted.images),
        ("different pictures", counted.unique_images),
        ("rounds", counted.rounds),
        (f"text tokens ({counted.tokenizer})", counted.text_tokens),
        (f"image tokens ({counted.image_rule})", counted.image_tokens),
    ]
    there = [(cell(title), value) for title, value in shown if value is not None]
    return table([f"{title}#" for title, _ in there], [tuple(number(value) for _, value in there)])


def _values(
    title: str, values: Mapping[str, int], *, of: str = "rows", most: int | None = None
) -> str:
    rows = [(cell(name), number(count)) for name, count in values.items()]
    text = table((title, f"{of}#"), rows[:most])
    if most is not None and len(rows) > most:
        rest = sum(list(values.values())[most:])
        text += f"\n\nand {len(rows) - most:,} more with {rest:,} rows together."
    return text


def _counted_parts(counted: Counted) -> str:
    tokens = [
        name
        for name in ("text_tokens", "image_tokens")
        if any(getattr(part, name) is not None for part in counted.parts)
    ]
    rows = [
        (
            cell(part.name),
            number(part.available),
            number(part.asked),
            number(part.delivered),
            f"{part.share:.2%}",
            f"{part.repeats:.2f}",
            number(part.images),
            number(part.rounds),
            *(number(getattr(part, name)) for name in tokens),
        )
        for part in counted.parts
    ]
    titles = ("has", "asked", "delivered", "share", "times", "pictures", "rounds")
    more = [name.replace("_", " ") for name in tokens]
    return table(("part", *(f"{title}#" for title in (*titles, *more))), rows)


def _claimed_rows(facts: CardFacts) -> str:
    (source,) = facts.sources
    rows = [
        (
            cell(split)
            + (" (questions without an answer)" if split in source.prompt_splits else ""),
            number(count, about=source.told.rounded(count)),
        )
        for split, count in source.told.rows.items()
    ]
    text = table(("split", "conversations#"), rows)
    if None in source.told.rows.values():
        return f"{text}\n\nWhat is not known here depends on the files that you have."
    return f"{text}\n\nThese are the numbers of a whole release; a build drops and counts bad rows."


def _claimed_parts(facts: CardFacts) -> str:
    """Say what a recipe asks for and what that comes to by its sources' claims."""
    titles, asked = _stage_and_part(facts)
    rows = [
        (
            *asking,
            "not known" if part.share is None else f"{part.share / 10**6:.2%}",
            number(part.has, about=part.has_about),
            number(part.delivered, about=part.about),
        )
        for asking, part in zip(asked, facts.parts, strict=True)
    ]
    share = "share of its stage#" if titles[0] == "stage" else "share#"
    text = table((*titles, share, "has#", "delivered#"), rows)
    return f"{text}\n\n{_worked_out(facts.parts, facts.rows, about=facts.about)}"


def _asked(facts: CardFacts) -> str:
    titles, rows = _stage_and_part(facts)
    return table(titles, rows)


def _stage_and_part(facts: CardFacts) -> tuple[list[str], list[tuple[str, ...]]]:
    """Say what a recipe asks of each part: titles and rows; a stage where there are several."""
    several = len({part.stage for part in facts.parts}) > 1
    titles = [*(["stage"] if several else []), "part", "asked", "taken"]
    rows = [
        (
            *((cell(part.stage),) if several else ()),
            cell(part.name),
            _AMOUNTS[part.kind].format(part.amount),
            "<br>".join(f"{what} {code(how)}" for what, how in part.filters) or "all",
        )
        for part in facts.parts
    ]
    return titles, rows


def _worked_out(parts: Iterable[PartFacts], rows: int | None, *, about: bool) -> str:
    """Say where the numbers of a recipe that nothing was built of come from."""
    if rows is not None:
        return (
            f"Together {number(rows, about=about)} conversations. Worked out from the sizes that "
            "the sources' authors claim, not counted: rows whose pictures are not there are "
            "dropped. "
            "`vision-ift plan` gives the exact counts for your files."
        )
    unknown = list(dict.fromkeys(cell(part.name) for part in parts if part.has is None))
    return (
        f"Rows are not worked out, because nobody published the number of those that are taken of "
        f"{', '.join(unknown) or 'its parts'}. The shares hold in every prefix, so `--total` asks "
        "for any number of rows; `vision-ift plan` gives the exact counts for your files."
    )


def _claims(sources: Sequence[SourceFacts], level: int) -> str:
    shown = [one for one in sources if one.told.counts]
    if not shown:
        return ""
    parts = []
    for source in shown:
        rows = [
            (
                _inline(count.what),
                number(count.claimed, about=count.about) if count.claimed is not None else "",
                _inline(count.by),
                _found(count),
                _inline(count.how),
            )
            for count in source.told.counts
        ]
        parts.append(
            _of_source(sources, source, level)
            + table(("what", "claimed#", "by", "found#", "how, and why it differs"), rows)
        )
    return _heading(level, "Claimed against found") + "\n\n".join(parts)


def _found(count: Count) -> str:
    if count.found is not None:
        return number(count.found)
    return f"{number(count.worked_out)} (worked out)" if count.worked_out is not None else ""


def _of_source(sources: Sequence[SourceFacts], source: SourceFacts, level: int) -> str:
    """A heading where a card speaks of several sources."""
    return "" if len(sources) == 1 else _heading(level + 1, cell(source.name))


def _inline(text: str) -> str:
    """Put a source author's Markdown in a cell."""
    return " ".join(text.split()).replace("|", "\\|")


def _licences(
    sources: Sequence[SourceFacts], licenses: Mapping[str, int] | None, level: int
) -> str:
    rows, terms = [], dict(licenses or {})
    for source in sources:
        if not source.told.layers:
            rows.append((cell(source.name), "not told apart", "", cell(source.license), ""))
            terms.setdefault(source.license, 0)
        for name in LAYERS:
            for layer in source.told.layers:
                if layer.layer == name:
                    shown = (_inline(layer.of), cell(layer.terms) or "none", _inline(layer.note))
                    rows.append((cell(source.name), name, *shown))
                    if layer.terms:
                        terms.setdefault(layer.terms, 0)
    text = table(("source", "layer", "whose", "terms", "note"), rows)
    if licenses:
        text += "\n\nWhat the rows say of themselves:\n\n" + _values("licence", licenses)
    return _heading(level, "Licences") + f"{text}\n\n{_strictest(terms)}"


def _strictest(terms: Mapping[str, int]) -> str:
    judged = judge(terms)
    asks = ", ".join(judged["restricts"]) or "nothing"
    text = (
        f"For the whole, the strictest of the licences that are known is "
        f"{cell(judged['strictest'])}; together they ask for: {asks}."
        if judged["strictest"] is not None
        else "None of these is in the table of known licences."
    )
    if judged["unknown"]:
        names = "; ".join(cell(one) for one in judged["unknown"])
        text += f" Not in that table, so read them yourself: {names}."
    return f"{text} None of this is legal advice."


def _told(sources: Sequence[SourceFacts], level: int, title: str, what: str) -> str:
    parts = []
    for source in sources:
        lines: tuple[str, ...] = getattr(source.told, what)
        if lines:
            text = bullets(" ".join(line.split()) for line in lines)
            parts.append(_of_source(sources, source, level) + text)
    return _heading(level, title) + "\n\n".join(parts) if parts else ""


def _citing(sources: Sequence[SourceFacts], level: int) -> str:
    works = [source.citation.strip() for source in sources if source.citation.strip()]
    return (
        _heading(level, "How to cite")
        + "The sources first, then what put them together.\n\n"
        + fenced("\n\n".join([*works, CITATION]), "bibtex")
    )
