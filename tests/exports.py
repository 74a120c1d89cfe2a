"""Small roots and plans to export, for several test files. Pictures are bytes, nothing is drawn."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from tests.rows import table_of
from vision_ift._conversation import IMAGE, Conversation, Message, Part
from vision_ift._plan.plan import Plan, arrange
from vision_ift._recipe.recipe import Entry, Recipe, Stage
from vision_ift._recipe.select import Selection
from vision_ift._table import Table

_SIGNATURES = {
    "jpg": b"\xff\xd8\xff\xe0",
    "png": b"\x89PNG\r\n\x1a\n",
    "gif": b"GIF89a",
    "webp": b"RIFF\0\0\0\0WEBP",
}


def picture(number: int, *, kind: str = "jpg", size: int = 0) -> bytes:
    """Bytes that begin as a picture of this kind does; the rest is noise that never changes."""
    size = size or 300 + number * 97 % 1500
    noise = b"".join(
        hashlib.sha256(b"%d %d" % (number, block)).digest() for block in range(size // 32 + 1)
    )
    return (_SIGNATURES[kind] + noise)[:size]


def dialog(
    number: int, images: tuple[str, ...] = (), *, name: str = "", **columns: Any
) -> Conversation:
    """Two rounds about some pictures, with words that are not all ASCII."""
    return Conversation(
        id=name or str(number),
        images=images,
        image_paths=tuple(f"their/{path}" for path in images),
        messages=(
            Message("user", (IMAGE,) * len(images) + (Part("text", f"Was ist das, {number}?"),)),
            Message.of("assistant", "一只猫。\nNaïve “quotes”."),
            Message("user", (Part("text", "And"), Part("text", "now? <image>"))),
            Message.of("assistant", f'{number} \\ " \u2028 {"x" * (number % 700)}'),
        ),
        **columns,
    )


def plan_of(root: Path, tables: Mapping[str, Table], *, name: str = "toy", **amounts: int) -> Plan:
    """Plan tables with equal weights, or with these."""
    mix = tuple(
        Entry(name=source, source=source, kind="weight", amount=Fraction(amounts.get(source, 1)))
        for source in tables
    )
    asked = Recipe(name=name, stages=(Stage(name="mix", mix=mix),), text=f"name: {name}\n")
    found: dict[str, Selection | str] = {
        source: Selection(table, None) for source, table in tables.items()
    }
    return arrange(asked, found, root=root)


def small_plan(folder: Path, *, rows: int = 40) -> Plan:
    """Lay out a root and two sources: one picture a row, and none to three of several kinds."""
    root = folder / "root"
    (root / "a").mkdir(parents=True)
    (root / "b").mkdir()
    for number in range(rows):
        (root / f"a/{number}.jpg").write_bytes(picture(number))
    kinds = ("jpg", "png", "webp", "gif")
    for number in range(rows):
        kind = kinds[number % 4]
        (root / f"b/{number}.{kind}").write_bytes(picture(1000 + number, kind=kind))
    # What a file is called says nothing: these are told by their bytes.
    several = [
        tuple(f"b/{(n + k) % rows}.{kinds[(n + k) % rows % 4]}" for k in range(n % 4))
        for n in range(rows)
    ]
    tables = {
        "llava": table_of(
            folder / "llava",
            [dialog(n, (f"a/{n}.jpg",), license="CC-BY-4.0", language="en") for n in range(rows)],
            source="llava",
        ),
        "messages": table_of(
            folder / "messages",
            [dialog(n, several[n], task="t", meta={"n": n, "字": [0.5]}) for n in range(rows)],
            source="messages",
        ),
    }
    return plan_of(root, tables)


def wanted(plan: Plan) -> list[dict[str, Any]]:
    """The plan's rows as their JSON members should say them, and the pictures' bytes."""
    rows: list[dict[str, Any]] = plan.rows(0, len(plan)).to_pylist()
    for row in rows:
        references = [image["path"] for image in row["images"]]
        row["pictures"] = [(plan.root / reference).read_bytes() for reference in references]
        del row["images"]
    return rows


def members(out: Path) -> dict[str, dict[str, bytes]]:
    """All members as Python's tarfile reads them, in order: key to ending to bytes."""
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted(out.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, ending = member.name.partition(".")
                file = tar.extractfile(member)
                assert file is not None
                found.setdefault(key, {})[ending] = file.read()
    return found


def delivered(conversation: Mapping[str, Any]) -> dict[str, Any]:
    """One conversation's members in the form of :func:`wanted`."""
    value = conversation["json"]
    row: dict[str, Any] = json.loads(value) if isinstance(value, bytes) else dict(value)
    row["pictures"] = [conversation[ending] for ending in row.pop("images")]
    return row


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder with the digest of its bytes."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
