"""Budgets of tokens: where they end, what counts, and counts that are kept beside the table."""

from __future__ import annotations

import errno
import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.rows import MakeTable
from vision_ift._conversation import Conversation, Message, Part
from vision_ift._errors import DiskError, RecipeError
from vision_ift._pictures.child import Limits, look
from vision_ift._pictures.size import picture_size
from vision_ift._plan import token_counts as _token_counts
from vision_ift._plan.budget import given_sum, rows_for_tokens
from vision_ift._plan.order import Order
from vision_ift._plan.permute import Permutation
from vision_ift._plan.plan import arrange, plan
from vision_ift._plan.summary import summarise
from vision_ift._plan.token_counts import BROKEN, KNOWN, MISSING, REFUSED, token_counts
from vision_ift._recipe.recipe import Recipe
from vision_ift._recipe.select import Selection


def said(number: int, text: str, *images: str) -> Conversation:
    parts = [*(Part(type="image") for _ in images), Part(type="text", text=text)]
    return Conversation(
        id=str(number),
        images=tuple(images),
        image_paths=tuple(images),
        messages=(
            Message(role="user", content=tuple(parts)),
            Message.of("assistant", "four words of answer"),
        ),
    )


@given(
    drawn=st.lists(
        st.tuples(st.integers(1, 9), st.lists(st.integers(0, 30), min_size=1, max_size=30)),
        min_size=1,
        max_size=4,
    ),
    budget=st.integers(1, 3000),
    start=st.integers(0, 50),
)
def test_a_budget_ends_at_the_first_position_that_reaches_it(
    drawn: list[tuple[int, list[int]]], budget: int, start: int
) -> None:
    names = [f"s{k}" for k in range(len(drawn))]
    order = Order(names, [weight for weight, _ in drawn], seed=3)
    tokens = [np.array(values) for _, values in drawn]
    rows = [Permutation(n, len(t), seed=3) for n, t in zip(names, tokens, strict=True)]
    starts = [start] * len(drawn)
    if not any(one.sum() for one in tokens):
        with pytest.raises(RecipeError, match="none of its rows has a token"):
            rows_for_tokens(order, rows, tokens, budget, starts=starts, what="stage a")
        return
    found = rows_for_tokens(order, rows, tokens, budget, starts=starts, what="stage a")
    total = 0
    for position in range(found.rows):
        assert total < budget
        source, occurrence = order.at(position)
        total += int(tokens[source][rows[source].row(start + occurrence)])
    assert total == found.tokens >= budget
    assert given_sum(tokens[0], rows[0], start, start + 70) == sum(
        int(tokens[0][rows[0].row(start + n)]) for n in range(70)
    )


def test_a_far_end_is_found_as_a_near_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole passes are skipped by their sums; that changes nothing."""
    order = Order(["a", "b"], [3, 1], seed=1)
    tokens = [np.arange(1, 5001), np.arange(700) % 7]
    rows = [Permutation("a", 5000, seed=1), Permutation("b", 700, seed=1)]
    near = rows_for_tokens(order, rows, tokens, 10**9, starts=(11, 5), what="s")
    monkeypatch.setattr("vision_ift._plan.budget._FAR", 1000)
    assert rows_for_tokens(order, rows, tokens, 10**9, starts=(11, 5), what="s") == near


BUDGET = """
tokenizer: chars/4
tokens: {tokens}
mix: [{{source: llava, weight: 2}}, {{source: messages, weight: 1}}]
"""


def test_a_smaller_budget_is_a_prefix_of_a_larger_one(make_table: MakeTable) -> None:
    tables = {
        "llava": make_table([said(n, "word " * (n % 37)) for n in range(200)]),
        "messages": make_table([said(n, "x" * n) for n in range(90)], source="messages"),
    }
    found = {name: Selection(table, None) for name, table in tables.items()}
    counts = {
        name: token_counts(table, "chars/4", None, root=Path()).text.astype(np.int64)
        for name, table in tables.items()
    }

    def planned(tokens: int, epoch: int = 0) -> tuple[int, int, list[tuple[int, int]]]:
        asked = Recipe.parse(BUDGET.format(tokens=tokens))
        made = arrange(asked, found, root=Path(), epoch=epoch, tokens_of=lambda name: counts[name])
        sources, rows = made.slice(0, len(made))
        pairs = list(zip(sources.tolist(), rows.tolist(), strict=True))
        names = list(tables)
        held = [int(counts[names[source]][row]) for source, row in pairs]
        assert sum(held) == made.segments[0].reached
        assert sum(held) - held[-1] < tokens <= sum(held)
        lock = made.lock()["stages"][0]
        assert (lock["tokens"], lock["reached"]) == (tokens, sum(held))
        return len(made), sum(held), pairs

    short, long = planned(3000), planned(9000)
    assert long[2][: short[0]] == short[2]
    assert planned(3000, epoch=3)[2] != short[2]


def test_tokens_without_a_tokenizer_are_refused(make_table: MakeTable) -> None:
    asked = Recipe.parse(BUDGET.format(tokens=100))
    import msgspec

    asked = msgspec.structs.replace(asked, tokenizer=None)
    from vision_ift._plan.plan import _counter

    found = {"llava": Selection(make_table(5), None)}
    tokens_of = _counter(asked, found, root=Path(), jobs=1, progress=lambda *_: None)
    with pytest.raises(RecipeError, match="nothing says how they are counted"):
        tokens_of("llava")


def picture(kind: str, size: tuple[int, int], *, orientation: int = 1, mode: str = "RGB") -> bytes:
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    file = io.BytesIO()
    Image.new(mode, size).save(file, kind, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_headers_size_is_the_decoders(kind: str, orientation: int) -> None:
    data = picture(kind, (70, 31), orientation=1 if kind == "GIF" else orientation)
    found = look(data, Limits())
    assert picture_size(data) == found.shown_size
    assert found.reason == ""


@given(cut=st.integers(0, 400), noise=st.binary(max_size=6), at=st.integers(0, 400))
def test_a_broken_header_gives_no_size_or_some_size(cut: int, noise: bytes, at: int) -> None:
    """Never an error: what it says is a positive size or nothing."""
    for kind in ("JPEG", "PNG", "WEBP"):
        whole = picture(kind, (70, 31), orientation=6)
        for data in (whole[:cut], whole[:at] + noise + whole[at + len(noise) :]):
            size = picture_size(data)
            assert size is None or min(size) > 0


def test_pictures_that_cannot_be_measured_are_named_and_kept(
    make_table: MakeTable, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "good.jpg").write_bytes(picture("JPEG", (224, 224)))
    (root / "turned.jpg").write_bytes(picture("JPEG", (560, 28), orientation=6))
    (root / "long.png").write_bytes(picture("PNG", (402, 2)))
    (root / "noise.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing follows")
    names = [("good.jpg",), ("turned.jpg", "good.jpg"), ("long.png",), ("noise.jpg",), ()]
    table = make_table([said(n, "abcd", *one) for n, one in enumerate(names)])
    counts = token_counts(table, "chars/4", "qwen2-vl", root=root)
    assert counts.image.tolist() == [66, 22 + 66, 0, 0, 0]
    assert counts.state.tolist() == [KNOWN, KNOWN, REFUSED, BROKEN, KNOWN]
    assert counts.text.tolist() == [1 + 5] * 5

    gone = make_table([said(0, "abcd", "gone.jpg")])
    missing = token_counts(gone, None, "qwen2-vl", root=root)
    assert missing.state.tolist() == [MISSING]
    assert not list(gone.path.glob("image-tokens-*"))  # it may be brought, so that is not kept
    (root / "gone.jpg").write_bytes(picture("JPEG", (224, 224)))
    _token_counts._measure.cache_clear()
    assert token_counts(gone, None, "qwen2-vl", root=root).image.tolist() == [66]

    asked = Recipe.parse("mix: [{source: llava, repeat: 2}]")
    made = arrange(asked, {"llava": Selection(table, None)}, root=root)
    summary = summarise(made, tokenizer="chars/4", image_tokens="qwen2-vl")
    assert (summary["text_tokens"], summary["image_tokens"]) == (60, 2 * 154)
    assert [(one["rows"], one["first"]) for one in summary["uncounted"]] == [
        (1, ["llava/2"]),
        (1, ["llava/3"]),
    ]
    assert any("llava/3" in warning for warning in summary["warnings"])


def test_counts_are_made_once_and_by_name(
    make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_table(9000)
    first = token_counts(table, "chars/4", None, root=Path()).text
    in_two = make_table(9000)
    assert np.array_equal(first, token_counts(in_two, "chars/4", None, root=Path(), jobs=2).text)
    calls = []
    monkeypatch.setattr(_token_counts, "_text_of_group", lambda *args: calls.append(args))
    assert np.array_equal(first, token_counts(table, "chars/4", None, root=Path()).text)
    assert calls == []
    (kept,) = table.path.glob("text-tokens-*.arrow")
    kept.write_bytes(kept.read_bytes()[:200])  # a file that is cut off is made again
    monkeypatch.undo()
    assert np.array_equal(first, token_counts(table, "chars/4", None, root=Path()).text)


def test_another_tokenizer_at_the_same_path_is_another(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text("{}")
    before = _token_counts._tokenizer_digest(f"hf:{tmp_path}")
    file.write_text("{ }")
    assert _token_counts._tokenizer_digest(f"hf:{tmp_path}") != before


def test_a_recipe_with_a_budget_is_planned_from_its_files(drawn_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "budget.yaml"
    path.write_text(
        "tokenizer: chars/4\nimage_tokens: internvl\ntokens: 200000\n"
        "mix: [{source: coco_ift, weight: 1}, {source: mm_instruct, weight: 1}]\n"
    )
    tables = drawn_root.parent / "tables"
    made = plan(path, root=drawn_root, tables=tables)
    summary = summarise(made)
    held = summary["text_tokens"] + summary["image_tokens"]
    assert held == made.segments[0].reached
    assert held >= 200_000
    assert summary["stages"][0]["tokens_asked"] == 200_000


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE])
def test_a_failing_disk_is_no_missing_picture(
    code: int, make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be read now must not be counted, and kept, as a picture that is not there."""
    (tmp_path / "a.jpg").write_bytes(b"x")
    table = make_table([said(1, "what is it?", "a.jpg")])

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(DiskError, match=re.escape(os.strerror(code))):
        token_counts(table, None, "llava-1.5", root=tmp_path)
