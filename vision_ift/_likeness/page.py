"""The page with pairs side by side: one HTML file, no script, nothing fetched.

Whatever comes from data is text: jinja2 escapes it, no attribute holds any of it, and pictures are
small JPEGs that were encoded here from pixels. A content security policy says the same again.
"""

from __future__ import annotations

import base64
import difflib
import io
import re
import unicodedata
import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import jinja2
import numpy as np

from vision_ift._errors import VisionIFTError
from vision_ift._likeness.decontaminate import Found
from vision_ift._pictures.child import FORMATS
from vision_ift._pictures.images import Images

#: The largest page, in bytes, and the most pairs on it, listed ones and weak ones.
MAX_BYTES = 5_000_000
_LISTED, _WEAK = 150, 30

#: A thumbnail's longer side in pixels, its quality, and how many a side shows.
_SIDE, _QUALITY, _PICTURES = 224, 70, 4

#: Characters of a text that are shown, and words of a run that is marked.
_CHARS, _MARKED_WORDS = 1500, 3

_MAX_PIXELS = 50_000_000

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")


class _Span(NamedTuple):
    text: str
    marked: bool


class _Side(NamedTuple):
    name: str
    pictures: list[str]
    text: list[_Span]


class _Pair(NamedTuple):
    reason: str
    detail: str
    left: _Side
    right: _Side


_PAGE = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" \
content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'; \
base-uri 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Pairs</title>
<style>
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;\
color:#1b1b1b;background:#fff}
h1{font-size:1.3rem}h2{font-size:1rem;margin:0 0 .5rem}
article{border-top:1px solid #ccc;padding:1rem 0;display:grid;\
grid-template-columns:1fr 1fr;gap:1rem}
article>h2{grid-column:1/3}p{margin:.3rem 0;white-space:pre-wrap;overflow-wrap:anywhere}
.name{color:#555;font-size:.85rem}mark{background:#ffe08a}img{max-width:100%;margin:0 .3rem .3rem 0}
@media(prefers-color-scheme:dark){body{color:#eee;background:#181818}.name{color:#aaa}\
mark{background:#7a5c00;color:#fff}}
</style></head><body>
<h1>{{ listed }} rows are listed; {{ pairs|length }} pairs are shown</h1>
<p>Left: what was looked at. Right: the benchmark. Nothing was removed.</p>
{% for pair in pairs %}<article><h2>{{ pair.reason }}: {{ pair.detail }}</h2>
{% for side in (pair.left, pair.right) %}<section><p class="name">{{ side.name }}</p>
{% for picture in side.pictures %}\
<img alt="" src="data:image/jpeg;base64,{{ picture }}">{% endfor %}
<p>{% for span in side.text %}{% if span.marked %}<mark>{{ span.text }}</mark>{% else %}\
{{ span.text }}{% endif %}{% endfor %}</p></section>
{% endfor %}</article>
{% endfor %}</body></html>
"""
)


def pairs_page(found: Found, *, images: Images) -> str:
    """Write the page: the listed rows by reason in turn, then the strongest weak evidence.

    Pairs are left away from the end until the page has at most ``MAX_BYTES`` bytes.
    """
    pairs: list[_Pair] = []
    size = 20_000
    for reason, line in _chosen(found):
        pair = _pair(found, reason, line, images)
        size += len(_PAGE.render(listed="", pairs=[pair]).encode())
        if size > MAX_BYTES:
            break
        pairs.append(pair)
    return _PAGE.render(listed=f"{len(found.listed):,}", pairs=pairs)


def _chosen(found: Found) -> list[tuple[str, int]]:
    """Which lines are shown, in order."""
    score = found.lines.score
    by_reason: dict[str, list[int]] = {}
    for _, reason, line in found.listed:
        by_reason.setdefault(reason, []).append(line)
    for lines in by_reason.values():  # of each reason, those that a person should doubt stand last
        lines.sort(key=lambda line: (-score[line], line))
    turns = max((len(lines) for lines in by_reason.values()), default=0)
    chosen = [
        (reason, by_reason[reason][turn])
        for turn in range(min(turns, _LISTED))
        for reason in sorted(by_reason)
        if turn < len(by_reason[reason])
    ][:_LISTED]
    rows = {row for row, _, _ in found.listed}
    weak: list[int] = np.argsort(-score, kind="stable").tolist()
    weak = [line for line in weak if int(found.lines.row[line]) not in rows][:_WEAK]
    return chosen + [("not listed", line) for line in weak]


def _pair(found: Found, reason: str, line: int, images: Images) -> _Pair:
    told = found.evidence.slice(line, 1).to_pylist()[0]
    ours = _row(found, told)
    number = int(found.lines.benchmark[line])
    names: list[str] = []
    theirs = ""
    label = told["benchmark"]
    their_images: Images | None = None
    usable: frozenset[str] = frozenset()
    if number < len(found.benchmarks):
        one = found.benchmarks[number]
        row = one.rows.index(told["benchmark_row"])
        picture = told["benchmark_image"]
        names = [picture] if picture else [one.references[place] for place in one.shown[row]]
        said = told["benchmark_question"]
        theirs = said if said is not None else _asked(one.texts, one.asked, row)
        label = f"{one.name}, {told['benchmark_row']}"
        their_images, usable = Images(one.root), found.usable.get(str(number), frozenset())
    mine = [told["image"]] if told["image"] else ours["images"]
    left, right = _marked(ours["text"][:_CHARS], theirs[:_CHARS])
    detail = f"{told['evidence']} by {told['how']}, score {told['score']:g}"
    if told["evidence"] == "question":
        detail += f", in {told['rows_with_it']:,} rows"
    return _Pair(
        reason,
        detail,
        _Side(told["id"], _thumbnails(mine, images, found.usable.get("ours")), left),
        _Side(label, _thumbnails(names, their_images, usable), right),
    )


def _asked(texts: list[str], rows: list[int], row: int) -> str:
    place = int(np.searchsorted(rows, row))
    return texts[place] if place < len(rows) and rows[place] == row else ""


def _row(found: Found, told: dict[str, Any]) -> dict[str, Any]:
    """The pictures and the text of a row: the turn of the evidence, or its first question."""
    (part,) = (part for part in found.parts if part.name == told["part"])
    row = part.table.take(np.array([told["row"]])).to_pylist()[0]
    turns = [
        "\n".join(part["text"] or "" for part in message["content"]).strip()
        for message in row["messages"]
    ]
    users = [n for n, message in enumerate(row["messages"]) if message["role"] == "user"]
    turn = told["turn"] if told["turn"] is not None else (users[0] if users else 0)
    return {"text": turns[turn], "images": [image["path"] for image in row["images"]]}


def _thumbnails(
    references: Iterable[str], images: Images | None, usable: frozenset[str] | None
) -> list[str]:
    """Small JPEGs, base64; only of pictures that a decoder in a child got through before."""
    made = []
    for reference in [one for one in references if usable and one in usable][:_PICTURES]:
        assert images is not None
        try:
            made.append(_thumbnail(images.read(reference)))
        except (VisionIFTError, OSError, ValueError, SyntaxError):  # it changed since then
            continue
    return made


def _thumbnail(data: bytes) -> str:
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise ValueError
            image.draft("RGB", (_SIDE, _SIDE))
            small = ImageOps.exif_transpose(image).convert("RGB")
    small.thumbnail((_SIDE, _SIDE))
    out = io.BytesIO()
    # A copy of the pixels alone: whatever the file carried beside them stays behind.
    Image.frombytes("RGB", small.size, small.tobytes()).save(out, "JPEG", quality=_QUALITY)
    return base64.b64encode(out.getvalue()).decode()


def _marked(left: str, right: str) -> tuple[list[_Span], list[_Span]]:
    """Mark the runs of three words and more that both texts have; short texts where they agree."""
    words = [[_plain(match[0]) for match in _WORD.finditer(text)] for text in (left, right)]
    least = min(_MARKED_WORDS, len(words[0]), len(words[1]))
    matcher = difflib.SequenceMatcher(a=words[0], b=words[1], autojunk=False)
    blocks = [block for block in matcher.get_matching_blocks() if block.size >= max(least, 1)]
    return (
        _spans(left, [(block.a, block.size) for block in blocks]),
        _spans(right, [(block.b, block.size) for block in blocks]),
    )


def _plain(word: str) -> str:
    return unicodedata.normalize("NFKC", word).lower()


def _spans(text: str, runs: list[tuple[int, int]]) -> list[_Span]:
    places = [match.span() for match in _WORD.finditer(text)]
    spans, at = [], 0
    for first, count in runs:
        start, stop = places[first][0], places[first + count - 1][1]
        spans += [_Span(text[at:start], False), _Span(text[start:stop], True)]
        at = stop
    return [span for span in [*spans, _Span(text[at:], False)] if span.text]
