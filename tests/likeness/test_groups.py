"""Copies: exact and near, by text, by picture and by both; which rows a recipe leaves out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.likeness.drawn import asked, encoded, photo, table
from vision_ift._likeness import pictures as _pictures
from vision_ift._likeness.groups import CACHE, describe, extra_copies, row_keys
from vision_ift._likeness.rows import Part
from vision_ift._pictures.decode import decode_all
from vision_ift._recipe.recipe import Duplicates
from vision_ift._recipe.select import Selection
from vision_ift._table import Table


def lay(root: Path) -> dict[str, Selection]:
    """Two sources; ``b`` repeats rows and pictures of ``a``, some of them changed a little."""
    (root / "p").mkdir(parents=True)
    for seed in range(6):
        (root / f"p/{seed}.jpg").write_bytes(encoded(photo(seed), quality=92))
    (root / "p/0-again.jpg").write_bytes((root / "p/0.jpg").read_bytes())
    (root / "p/1-small.jpg").write_bytes(encoded(photo(1).resize((200, 150)), quality=85))
    flipped = photo(2).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    (root / "p/2-flipped.jpg").write_bytes(encoded(flipped))
    (root / "p/white.png").write_bytes(encoded(Image.new("RGB", (50, 40), "white"), "PNG"))
    (root / "p/snow.png").write_bytes(encoded(Image.new("RGB", (70, 40), "snow"), "PNG"))
    (root / "p/broken.jpg").write_bytes(encoded(photo(5))[:500])
    one = [asked(str(n), [f"What happens at place {n}?"], [f"p/{n}.jpg"]) for n in range(5)]
    text = "Tell me in some detail what the people near the old pier are doing this morning, "
    text += "and which of the boats behind them are about to leave for the other side of the bay"
    other = [
        asked("0", ["what happens at place 0"], ["p/0-again.jpg"]),  # both, exactly
        asked("1", ["Who is this?"], ["p/1-small.jpg"]),  # near picture
        asked("2", ["Who is that?"], ["p/2-flipped.jpg"]),  # flipped: not found
        asked("3", ["What happens at place 3?"]),  # text alone
        asked("4", ["White?"], ["p/white.png"]),
        asked("5", ["Snow?"], ["p/snow.png"]),  # plain pictures are not near each other
        asked("6", ["Broken?"], ["p/broken.jpg"]),
        asked("7", ["Gone?"], ["p/gone.jpg"]),
        asked("8", [text]),
        asked("9", [text + " there"]),  # near text
        asked("white", ["White again?"], ["p/white.png"]),  # the same bytes
    ]
    tables = {
        "a": table(root.parent / "a", one),
        "b": table(root.parent / "b", other, source="messages"),
    }
    return {name: Selection(found, None) for name, found in tables.items()}


def ids(found: Table, rows: NDArray[np.int64]) -> list[str]:
    return [name.split("/")[1] for name in found.take(rows)["id"].to_pylist()]


@pytest.mark.parametrize(
    ("by", "near", "lost"),
    [
        ("text", False, ["0", "3"]),
        pytest.param("text", True, ["0", "3", "9"]),
        ("picture", False, ["0", "white"]),
        ("picture", True, ["0", "1", "white"]),
        ("both", False, ["0"]),
        pytest.param("both", True, ["0"]),
    ],
)
def test_a_later_entry_gives_way(by: str, near: bool, lost: list[str], tmp_path: Path) -> None:
    found = lay(tmp_path / "root")
    rule = Duplicates(by=by, near=near)  # type: ignore[arg-type]  # pytest gives text
    extra = extra_copies(found, rule, root=tmp_path / "root")
    assert ids(found["a"].table, extra["a"]) == []
    assert ids(found["b"].table, extra["b"]) == lost
    turned = extra_copies(dict(reversed(found.items())), rule, root=tmp_path / "root", jobs=2)
    assert len(turned["a"]) == len([one for one in lost if one in "013"])


def test_keep_counts_in_the_order_of_entries_then_of_ids(tmp_path: Path) -> None:
    same = [asked(name, ["Again?"]) for name in ("c", "a", "d", "b")]
    first = Selection(table(tmp_path / "1", same), np.array([0, 2, 3]))
    second = Selection(table(tmp_path / "2", same[:2], source="messages"), None)
    extra = extra_copies({"x": first, "y": second}, Duplicates(by="text", keep=2), root=tmp_path)
    # Of x are selected c, d and b: b and c stay.
    assert extra["x"].tolist() == [2]
    assert extra["y"].tolist() == [0, 1]
    more = extra_copies({"y": second}, Duplicates(by="text", keep=2), root=tmp_path)
    assert more["y"].tolist() == []


def test_a_row_that_an_entry_does_not_take_is_nobodys_copy(tmp_path: Path) -> None:
    made = table(tmp_path / "1", [asked("0", ["Again?"]), asked("1", ["Again?"])])
    extra = extra_copies(
        {"x": Selection(made, np.array([1]))}, Duplicates(by="text"), root=tmp_path
    )
    assert extra["x"].tolist() == []


def test_nothing_goes_for_being_like_a_copy_of_a_copy(tmp_path: Path) -> None:
    """A chain of small changes: its ends are not alike, so both stay (a control joins them)."""
    words = [f"w{n}" for n in range(60)]
    texts = [" ".join([*(f"new{k}" for k in range(step)), *words[step:]]) for step in (0, 4, 8, 12)]
    made = table(tmp_path / "1", [asked(str(n), [text]) for n, text in enumerate(texts)])
    part = Part("x", made)
    keys, *_ = row_keys([part], by="text", near=True, root=tmp_path)
    assert len(set(keys.tolist())) == 2
    assert keys[0] == keys[1] != keys[2]
    assert keys[2] == keys[3]
    loose, *_ = row_keys([part], by="text", near=True, root=tmp_path, similarity=0.5)
    assert len(set(loose.tolist())) == 1


def test_groups_are_counted_by_pair_of_sources(tmp_path: Path) -> None:
    found = lay(tmp_path / "root")
    parts = [Part(name, one.table, one.rows) for name, one in found.items()]
    keys, broken, _ = row_keys(parts, by="picture", near=True, root=tmp_path / "root")
    told = describe(parts, keys)
    assert broken == {"plain": 2, "truncated": 1, "missing_image": 1}
    assert told["groups"] == 3
    assert told["copies_by_source"] == {"a": 0, "b": 3}
    assert told["between"] == [
        {"source": "a", "other": "b", "groups": 2, "rows": 2},
        {"source": "b", "other": "b", "groups": 1, "rows": 1},
    ]
    assert told["largest"][0] == {"rows": 2, "first": ["llava/0", "messages/0"]}


def test_fingerprints_are_kept_and_made_again_where_a_file_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = lay(tmp_path / "root")
    rule, root = Duplicates(by="picture"), tmp_path / "root"
    first = extra_copies(found, rule, root=root)
    kept = list((found["a"].table.path / CACHE).rglob("*.arrow"))
    assert kept
    decoded: list[str] = []

    def counted(references, *args, **kwargs):  # type: ignore[no-untyped-def]  # passes all on
        listed = list(references)
        decoded.extend(listed)
        return decode_all(listed, *args, **kwargs)

    monkeypatch.setattr(_pictures, "decode_all", counted)
    again = extra_copies(found, rule, root=root)
    assert {name: rows.tolist() for name, rows in again.items()} == {
        name: rows.tolist() for name, rows in first.items()
    }
    assert decoded == ["p/gone.jpg"]
    (root / "p/4.jpg").write_bytes((root / "p/3.jpg").read_bytes())
    kept[0].write_bytes(kept[0].read_bytes()[:-40])  # damaged: it counts as not there
    decoded.clear()
    changed = extra_copies(found, rule, root=root)
    assert "p/4.jpg" in decoded
    assert ids(found["a"].table, changed["a"]) == ["4"]


def test_a_stop_costs_the_part_that_was_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = lay(tmp_path / "root")
    monkeypatch.setattr(_pictures, "PART_PICTURES", 2)

    def stop(what: str, done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extra_copies(found, Duplicates(by="picture"), root=tmp_path / "root", progress=stop)
    assert len(list((found["a"].table.path / CACHE).rglob("*.arrow"))) == 2
