"""The page with pairs: whatever stands in data stays text."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import pytest

from tests.likeness.drawn import asked, encoded, photo, table
from vision_ift._likeness import page as _page
from vision_ift._likeness.decontaminate import Found, decontaminate
from vision_ift._likeness.page import MAX_BYTES, _marked, pairs_page
from vision_ift._likeness.rows import Part
from vision_ift._pictures.images import Images

_CORES = (
    "alert(1)",
    "fetch('//127.0.0.1/x')",
    "location='//127.0.0.1'",
    "document.write(1)",
)
_SHAPES = (
    "<script>{}</script>",
    "</p></article><script>{}</script>",
    "<img src=x onerror={}>",
    '"><svg onload={}>',
    "'><body onpageshow={}>",
    "<iframe srcdoc='&lt;script&gt;{}&lt;/script&gt;'>",
    '<a href="javascript:{}">x</a>',
    "</style><style>@import '//127.0.0.1/{}'</style>",
    "<meta http-equiv=refresh content='0;url=javascript:{}'>",
    "{{{{ 7*7 }}}}{{% for x in [1] %}}{}{{% endfor %}}",
    "<!--<script>-->{}<!--</script>-->",
    "<math><mtext></form><form><mglyph><style></math><img src onerror={}>",
    "&#60;script&#62;{}&#60;/script&#62;",
    "\x00<scr\x00ipt>{}</scr\x00ipt>",
    "\u2028</mark><details open ontoggle={}>",
)
PAYLOADS = [shape.format(core) for shape in _SHAPES for core in _CORES]

_TAGS = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "article", "section"),
    *("img", "mark"),
}
_ATTRIBUTES = {
    *("lang", "charset", "http-equiv", "content", "name", "class", "alt", "src"),
}


class Live(HTMLParser):
    """Collects what a browser would do something with."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.policies: list[str] = []
        self.texts: list[str] = []
        self.pictures = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag not in _TAGS or (tag == "style" and attrs):
            self.found.append(tag)
        self.found += [f"{tag} {name}" for name in values if name not in _ATTRIBUTES]
        if tag == "meta" and values.get("http-equiv") == "Content-Security-Policy":
            self.policies.append(values["content"] or "")
        elif tag == "meta" and "http-equiv" in values:
            self.found.append("meta http-equiv")
        if "src" in values:
            self.pictures += 1
            if not re.fullmatch(r"data:image/jpeg;base64,[A-Za-z0-9+/=]+", values["src"] or ""):
                self.found.append("src")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def hostile(folder: Path) -> Found:
    """Sixty rows whose id, path, question and benchmark row are payloads, all listed."""
    root, against = folder / "root", folder / "<b>bench"
    root.mkdir()
    against.mkdir()
    (root / "<i onclick=x>.jpg").write_bytes(encoded(photo(1)))
    (against / "<i onclick=x>.jpg").write_bytes(encoded(photo(1)))
    tail = " and so on for as many words as it takes to be a long question"
    rows, lines = [], []
    for payload in PAYLOADS:
        rows.append(asked(payload, [payload + tail], ["<i onclick=x>.jpg"]))
        lines.append({"id": payload, "question": payload + tail, "image": "<i onclick=x>.jpg"})
    (against / "x.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    part = Part("<u>part", table(folder / "t", rows))
    return decontaminate([part], [against], root=root, text_similarity=1)


def test_sixty_payloads_are_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(set(PAYLOADS)) == 60
    found = hostile(tmp_path)
    assert len(found.listed) == 60
    page = pairs_page(found, images=Images(tmp_path / "root"))
    live = Live(page)
    assert live.found == []
    assert len(live.policies) == 1
    assert "default-src 'none'" in live.policies[0]
    assert "script" not in live.policies[0]
    assert live.pictures >= 60
    said = "".join(live.texts)
    for core in _CORES:  # it is shown, as text
        assert f"<script>{core}</script>" in said
    # The control: the same page without escaping is alive.
    source = _page._PAGE
    bare = jinja2.Environment(autoescape=False).from_string("{{ text }}")
    assert source.environment.autoescape is True
    alive = [payload for payload in PAYLOADS if Live(bare.render(text=payload)).found]
    assert len(alive) >= 40


def test_a_page_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = hostile(tmp_path)
    assert len(pairs_page(found, images=Images(tmp_path / "root")).encode()) <= MAX_BYTES
    monkeypatch.setattr(_page, "MAX_BYTES", 60_000)
    small = pairs_page(found, images=Images(tmp_path / "root"))
    assert len(small.encode()) <= 60_000
    assert 0 < small.count("<article>") < 60
    assert "60 rows are listed" in small


def test_a_picture_that_carries_more_than_pixels_is_encoded_anew(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    data = encoded(photo(1), comment=b"SECRET <script>") + b"<script>SECRET</script>"
    (root / "a.jpg").write_bytes(data)
    part = Part("x", table(tmp_path / "t", [asked("0", ["x"], ["a.jpg"])]))
    found = decontaminate([part], [root], root=root)
    page = pairs_page(found, images=Images(root))
    pictures = re.findall(r"base64,([A-Za-z0-9+/=]+)", page)
    assert len(pictures) == 2
    assert all(b"SECRET" not in base64.b64decode(one) for one in pictures)


def test_what_both_texts_have_is_marked() -> None:
    left, right = _marked("Well: how many RED boats are there, 12?", "How many red boats?")
    assert [span.text for span in left if span.marked] == ["how many RED boats"]
    assert [span.text for span in right if span.marked] == ["How many red boats"]
    assert "".join(span.text for span in left) == "Well: how many RED boats are there, 12?"
    left, _ = _marked("图片里有什么？", "请问图片里有什么")
    assert [span.text for span in left if span.marked] == ["图片里有什么"]
    assert _marked("", "") == ([], [])
