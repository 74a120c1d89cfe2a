"""A check finds what would hurt a run, and its exclude list is one that a recipe takes."""

from __future__ import annotations

import io
import json
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.rows import MakeTable
from vision_ift._check.check import CheckReport, check
from vision_ift._check.pictures import CHECK_REASONS, Pictures
from vision_ift._cli import main as _cli
from vision_ift._conversation import IMAGE, Conversation, Message, Part
from vision_ift._errors import MissingInputError, OutputError, RecipeError, UsageError
from vision_ift._hf_rows import Request
from vision_ift._plan.plan import plan
from vision_ift._plan.summary import summarise
from vision_ift._recipe.recipe import Recipe
from vision_ift._table import Table


def picture(
    size: tuple[int, int] = (56, 28), kind: str = "JPEG", shade: int = 0, orientation: int = 1
) -> bytes:
    image = Image.linear_gradient("L").resize(size).point(lambda value: (value + shade) % 256)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.convert("RGB").save(file, kind, **({} if kind == "BMP" else {"exif": exif}))
    return file.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Pictures of all kinds."""
    folder = tmp_path / "root" / "a"
    folder.mkdir(parents=True)
    files = {
        "good.jpg": picture(),
        "same.jpg": picture(),
        "other.png": picture(kind="PNG"),
        "turned.jpg": picture((280, 56), orientation=6),
        "cut.jpg": picture(shade=9)[:-200],
        "bmp.jpg": picture(kind="BMP"),
        "page.jpg": b"<html>not found</html>",
        "strip.png": picture((400, 1), kind="PNG"),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return tmp_path / "root"


def talk(name: str, *pictures: str, text: str = "what?", after: int = 0) -> Conversation:
    """A round that shows pictures, with ``after`` of them behind the text."""
    references = tuple(f"a/{one}" for one in pictures)
    shown = (IMAGE,) * len(pictures)
    content = (*shown[: len(shown) - after], Part("text", text), *shown[len(shown) - after :])
    return Conversation(
        id=name,
        images=references,
        image_paths=references,
        messages=(Message("user", content), Message.of("assistant", "so.")),
    )


@pytest.fixture
def table(make_table: MakeTable) -> Table:
    return make_table(
        [
            talk("fine", "good.jpg"),
            talk("same", "same.jpg", "good.jpg"),
            talk("words"),
            talk("cut", "good.jpg", "cut.jpg"),
            talk("gone", "gone.jpg", "cut.jpg"),
            talk("bmp", "bmp.jpg"),
            talk("page", "page.jpg"),
            talk("turned", "turned.jpg", "other.png"),
            talk("strip", "strip.png"),
            one_part_fewer(talk("fewer", "good.jpg", "same.jpg")),
        ]
    )


def one_part_fewer(one: Conversation) -> Conversation:
    """The same with one image part fewer than images."""
    user = Message("user", one.messages[0].content[1:])
    return msgspec.structs.replace(one, messages=(user, one.messages[1]))


WRONG = {
    "llava/cut": ("truncated", "a/cut.jpg: OSError: image file is truncated"),
    "llava/gone": ("missing_image", "a/gone.jpg: there is no such file or member"),
    "llava/bmp": ("not_allowed_format", "a/bmp.jpg: the content is BMP"),
    "llava/page": ("not_allowed_format", "a/page.jpg: the content is HTML"),
    "llava/fewer": ("image_count", "1 image parts but 2 images"),
}


def lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_what_is_wrong_is_listed_by_reason_and_source(
    root: Path, table: Table, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    report = check(table.path, root=root, out=out)
    listed = {one["id"]: (one["reason"], one["detail"]) for one in lines(out / "exclude.jsonl")}
    assert list(listed) == list(WRONG)
    for name, (reason, detail) in WRONG.items():
        assert listed[name][0] == reason
        assert listed[name][1].startswith(detail)
    counted = {one.reason: (one.pictures, one.rows) for one in report.problems}
    assert counted == {
        "image_count": (0, 1),
        "missing_image": (1, 1),
        "not_allowed_format": (2, 2),
        "truncated": (1, 1),
    }
    assert [one.reason for one in report.problems] == [
        reason for reason in CHECK_REASONS if reason in counted
    ]
    assert (report.rows, report.images, report.references) == (10, 14, 9)
    assert (report.decoded, report.excluded) == (5, 5)
    assert report.formats == {"JPEG": 3, "PNG": 2}
    assert report.orientations == {"1": 4, "6": 1}
    assert report.duplicates["groups"] == report.duplicates["pictures"] == 1
    assert json.loads((out / "check.json").read_text())["problems"][0]["first"] == [
        {"id": "llava/fewer", "detail": "1 image parts but 2 images"}
    ]
    assert str(tmp_path) not in (out / "check.json").read_text()


def test_the_files_say_all_of_every_picture_and_row(
    root: Path, table: Table, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    check(table.path, root=root, out=out, context=20, image_tokens="qwen2-vl:min_pixels=784")
    pictures = {one["reference"]: one for one in pq.read_table(out / "images.parquet").to_pylist()}
    assert pictures["a/same.jpg"]["duplicate_of"] == "a/good.jpg"
    assert pictures["a/good.jpg"]["duplicate_of"] is None
    assert pictures["a/good.jpg"]["xxh3_128"] == pictures["a/same.jpg"]["xxh3_128"]
    assert pictures["a/gone.jpg"]["xxh3_128"] is None
    assert pictures["a/gone.jpg"]["duplicate_of"] is None
    turned = pictures["a/turned.jpg"]
    assert (turned["width"], turned["height"], turned["orientation"]) == (280, 56, 6)
    rows = {one["id"].split("/")[1]: one for one in pq.read_table(out / "rows.parquet").to_pylist()}
    assert [row["row"] for row in rows.values()] == list(range(10))
    # "what?" is 2 tokens, "so." 1; 56 x 28 pixels are 2 patches and 2 marks.
    assert (rows["fine"]["text_tokens"], rows["fine"]["image_tokens"]) == (3, 4)
    assert (rows["words"]["tokens"], rows["words"]["over"]) == (3, 0)
    assert (rows["turned"]["tokens"], rows["turned"]["over"]) == (3 + 22 + 4, 9)
    assert rows["turned"]["reason"] == "too_long"
    assert rows["turned"]["detail"] == "29 tokens, 9 more than 20"
    assert rows["turned"]["images_cut"]
    assert rows["strip"]["reason"] == "image_refused"
    assert rows["cut"]["tokens"] is None  # its picture is not known


def test_rows_that_the_context_cuts(root: Path, make_table: MakeTable) -> None:
    table = make_table(
        [
            *(talk(f"short {n}", "good.jpg") for n in range(3)),
            talk("long answer", "good.jpg", text="a" * 4000),
            talk("late picture", "good.jpg", text="a" * 400, after=1),
            talk("a little", "good.jpg", text="a" * 396),
        ]
    )
    report = check(table.path, root=root, context=100, image_tokens="qwen2-vl:min_pixels=784")
    (tokens,) = report.tokens
    assert (tokens.judged, tokens.longest, tokens.cut, tokens.images_cut) == (6, 1005, 3, 1)
    assert (tokens.most_cut, tokens.tokens_cut) == (905, 905 + 5 + 4)
    assert tokens.cut_by == {"up to 10%": 2, "up to 50%": 0, "up to 100%": 0, "more": 1}
    assert [(one.reason, one.rows) for one in report.problems] == [("too_long", 3)]


def test_the_same_bytes_for_any_number_of_jobs(root: Path, table: Table, tmp_path: Path) -> None:
    for jobs in (1, 3):
        check(table.path, root=root, out=tmp_path / str(jobs), jobs=jobs)
    for name in ("check.json", "exclude.jsonl", "images.parquet", "rows.parquet"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "3" / name).read_bytes()
    assert not [one for one in (tmp_path / "1").iterdir() if one.name.startswith(".")]


def test_a_smaller_share_is_inside_a_larger_one(root: Path, make_table: MakeTable) -> None:
    for number in range(60):
        (root / "a" / f"{number}.png").write_bytes(picture((9, 9), "PNG", shade=number))
    table = make_table([talk(str(n), f"{n}.png") for n in range(61)])  # the last is not there

    def drawn(share: Fraction, out: str) -> tuple[set[str], CheckReport]:
        report = check(table.path, root=root, share=share, out=root / out)
        lines = pq.read_table(root / out / "images.parquet").to_pylist()
        return {one["reference"] for one in lines if one["decoded"]}, report

    some, report = drawn(Fraction(1, 5), "some")
    most, _ = drawn(Fraction(4, 5), "most")
    assert 0 < len(some) < len(most) < 60
    assert some < most
    assert report.share == "1/5"
    # What is not drawn is still looked for.
    assert [(one.reason, one.rows) for one in report.problems] == [("missing_image", 1)]


def test_a_table_of_somebody_else_cannot_read_outside_the_root(
    root: Path, make_table: MakeTable
) -> None:
    (root.parent / "secret.jpg").write_bytes(picture())
    names = ["../../secret.jpg", "../a/../../secret.jpg"]
    table = make_table([talk(str(n), name) for n, name in enumerate(names)])
    for share in (1, Fraction(1, 2**60)):
        report = check(table.path, root=root, share=share)
        assert [(one.reason, one.rows) for one in report.problems] == [("unsafe_path", 2)]


def test_members_of_an_archive_are_read_in_place(
    root: Path, make_table: MakeTable, tmp_path: Path
) -> None:
    with zipfile.ZipFile(root / "all.zip", "w") as archive:
        archive.writestr("a b.png", picture(kind="PNG"))
        archive.writestr("damaged.png", picture(kind="PNG", shade=1))
        archive.writestr("cut.png", picture(kind="PNG", shade=2)[:-60])
    data = bytearray((root / "all.zip").read_bytes())
    data[data.index(picture(kind="PNG", shade=1)) + 60] ^= 1
    (root / "all.zip").write_bytes(data)
    names = ["a%20b.png", "damaged.png", "cut.png", "none.png"]
    references = [f"vift://all.zip!/{name}" for name in (*names, "../../secret")]
    table = make_table(
        [
            Conversation(
                id=str(number),
                images=(reference,),
                image_paths=(reference,),
                messages=talk("x", "y").messages,
            )
            for number, reference in enumerate(references)
        ]
    )
    report = check(table.path, root=root, out=tmp_path / "out")
    found = {one["id"]: one["reason"] for one in lines(tmp_path / "out" / "exclude.jsonl")}
    assert found == {
        "llava/1": "bad_image",
        "llava/2": "truncated",
        "llava/3": "missing_image",
        "llava/4": "missing_image",
    }
    assert report.decoded == 1
    assert str(tmp_path) not in (tmp_path / "out" / "check.json").read_text()


def test_words_alone_and_no_rows_at_all(root: Path, make_table: MakeTable, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = check(make_table(3).path, root=root, out=out, context=5)
    assert (report.rows, report.references, report.tokens[0].judged) == (3, 0, 3)
    assert [one.reason for one in report.problems] == []
    assert len(pq.read_table(out / "rows.parquet")) == 3
    assert check(make_table(0).path, root=root, out=out).rows == 0
    assert not (out / "rows.parquet").exists()  # what the first check wrote is not true any more
    assert (out / "exclude.jsonl").read_bytes() == b""


def test_a_place_that_cannot_be_written_is_found_before_any_picture(
    root: Path, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(Pictures, "look", None)
    with pytest.raises(OutputError):
        check(table.path, root=root, out=tmp_path / "file" / "out")


def test_what_cannot_be_meant(root: Path, table: Table, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--image-tokens"):
        check(table.path, root=root, context=100)
    with pytest.raises(UsageError, match="share is 0"):
        check(table.path, root=root, share=0)
    with pytest.raises(MissingInputError, match="no finished table"):
        check(tmp_path, root=root)
    with pytest.raises(UsageError, match="options go with a source"):
        check("coco_mix", root=root, options={"a": "b"})


# ---------------------------------------------------------------------- the list in a recipe


@pytest.fixture
def chats(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A LLaVA file of good and broken pictures, and a recipe that mixes it."""
    monkeypatch.setenv("VISION_IFT_TABLES", str(tmp_path / "tables"))
    names = ["good.jpg", "cut.jpg", "other.png", "page.jpg", "turned.jpg"]
    records = [
        {
            "id": f"r{number}",
            "image": names[number % 5],
            "conversations": [
                {"from": "human", "value": "<image>\nwhat?"},
                {"from": "gpt", "value": "so."},
            ],
        }
        for number in range(50)
    ]
    (root / "chat.json").write_text(json.dumps(records))
    recipe = tmp_path / "recipes" / "mine.yaml"
    recipe.parent.mkdir()
    recipe.write_text(
        "name: mine\nmix: [{source: llava, path: chat.json, options: {images: a}, repeat: 1}]\n"
    )
    return recipe


def with_excludes(recipe: Path, *names: str) -> Recipe:
    text = recipe.read_text("utf-8") + f"exclude: [{', '.join(names)}]\n"
    path = recipe.with_name("without.yaml")
    path.write_text(text)
    return Recipe.read(path)


def ids(recipe: Recipe, root: Path) -> set[str]:
    planned = plan(recipe, root=root)
    return set(planned.rows(0, len(planned)).column("id").to_pylist())


def test_a_recipe_takes_the_list(chats: Path, root: Path) -> None:
    whole = plan(chats, root=root)
    report = check(chats, root=root, out=chats.parent / "checked")
    assert (report.name, report.rows, report.excluded) == ("mine", 50, 20)
    recipe = with_excludes(chats, "checked/exclude.jsonl")
    left = ids(recipe, root)
    assert left == {f"llava/r{n}" for n in range(50) if n % 5 not in (1, 3)}
    planned = plan(recipe, root=root)
    assert planned.digest != whole.digest
    assert (len(planned), planned.unknown_excludes) == (30, 0)
    # What is left has nothing wrong, and the plan is the same wherever the list lies.
    assert check(recipe_path(chats), root=root).problems == []
    (chats.parent / "checked" / "exclude.jsonl").rename(chats.parent / "moved.jsonl")
    assert plan(with_excludes(chats, "moved.jsonl"), root=root).digest == planned.digest


def recipe_path(recipe: Path) -> Path:
    return recipe.with_name("without.yaml")


def test_ids_that_no_table_has_are_counted(chats: Path, root: Path) -> None:
    (chats.parent / "a.jsonl").write_text('{"id": "llava/r1"}\n\n{"id": "llava/x", "reason": "?"}')
    (chats.parent / "b.jsonl").write_text('{"id": "llava/r1"}\n{"id": "gqa/1"}\n')
    planned = plan(with_excludes(chats, "a.jsonl", "b.jsonl"), root=root)
    assert (len(planned), planned.unknown_excludes) == (49, 2)
    warnings: Any = summarise(planned)["warnings"]
    assert "2 ids of the exclude lists stand in none of the tables" in warnings
    assert summarise(plan(chats, root=root))["warnings"] == []


@pytest.mark.parametrize(
    "line",
    [
        "{",
        '"llava/r1"',
        '{"id": 7}',
        "{}",
        '{"id": null}',
        "llava/r1",
        '{"id": "\\ud800"}',
        "\ufeff{}",
    ],
)
def test_a_broken_line_is_an_error_with_its_place(chats: Path, root: Path, line: str) -> None:
    (chats.parent / "a.jsonl").write_text(f'{{"id": "llava/r1"}}\n{line}\n')
    with pytest.raises(RecipeError, match=r"a\.jsonl:2: not a line of an exclude list") as caught:
        plan(with_excludes(chats, "a.jsonl"), root=root)
    assert caught.value.line == 2


def test_excluded_rows_are_gone_before_caps_count(chats: Path, root: Path) -> None:
    chats.write_text(chats.read_text().replace("repeat: 1", "repeat: 1, cap_per_task: 10"))
    capped = ids(Recipe.read(chats), root)
    assert len(capped) == 10
    out = sorted(capped)[:4]
    (chats.parent / "a.jsonl").write_text("".join(f'{{"id": "{name}"}}\n' for name in out))
    left = ids(with_excludes(chats, "a.jsonl"), root)
    assert len(left) == 10  # others take the place of those that are left out
    assert left > capped - set(out)
    assert not left & set(out)


def test_a_list_that_leaves_nothing_is_an_error(chats: Path, root: Path) -> None:
    lines = "".join(f'{{"id": "llava/r{n}"}}\n' for n in range(50))
    (chats.parent / "a.jsonl").write_text(lines)
    with pytest.raises(MissingInputError, match="change where or exclude"):
        plan(with_excludes(chats, "a.jsonl"), root=root)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("a.jsonl", "exclude is a list"),
        ("[]", "exclude is a list"),
        ("[7]", "not a path"),
        ("[[a.jsonl]]", "not a path"),
        ("[a.jsonl, ./a.jsonl]", "stands twice"),
    ],
)
def test_a_key_that_cannot_be_meant(value: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        Recipe.parse(f"mix: [{{source: llava, repeat: 1}}]\nexclude: {value}\n")
    assert caught.value.line == 2
    assert caught.value.column > 1


def test_a_relative_path_is_looked_for_beside_the_recipe() -> None:
    text = "mix: [{source: llava, repeat: 1}]\nexclude: [a.jsonl, /b/c.jsonl, ../d.jsonl]\n"
    beside = Recipe.parse(text, file="recipes/x.yaml")
    assert beside.exclude == ("recipes/a.jsonl", "/b/c.jsonl", "recipes/../d.jsonl")
    assert Recipe.parse(text).exclude[0] == "a.jsonl"


def test_a_list_that_is_not_there_is_an_error(chats: Path, root: Path) -> None:
    with pytest.raises(MissingInputError, match=r"exclude list .*none\.jsonl cannot be read"):
        plan(with_excludes(chats, "none.jsonl"), root=root)


def test_the_cache_of_datasets_knows_the_list(chats: Path, root: Path) -> None:
    path = chats.parent / "a.jsonl"
    path.write_text('{"id": "llava/r1"}\n')
    with_excludes(chats, "a.jsonl")
    one = Request.of(None, recipe=recipe_path(chats), root=root).cache_key()
    assert Request.of(None, recipe=recipe_path(chats), root=root).cache_key() == one
    path.write_text('{"id": "llava/r2"}\n')
    assert Request.of(None, recipe=recipe_path(chats), root=root).cache_key() != one


# ---------------------------------------------------------------------- the command


def called(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(_cli.app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def test_the_exit_code_says_whether_something_is_wrong(
    chats: Path, root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, text = called("check", chats, "--root", root, "--out", out, "--share", "100%")
    assert code == 1
    assert "truncated" in text
    assert "20 rows are listed" in text
    (chats.parent / "x.jsonl").write_bytes((out / "exclude.jsonl").read_bytes())
    with_excludes(chats, "x.jsonl")
    words = ["--context", 100, "--image-tokens", "qwen2-vl", "--json"]
    code, text = called("check", recipe_path(chats), "--root", root, *words)
    report = json.loads(text)
    assert (code, report["schema_version"], report["problems"]) == (0, 1, [])
    assert report["tokens"][0]["judged"] == 30
    options = ["--option", "path=chat.json", "--option", "images=a"]
    code, _ = called("check", "llava", "--root", root, *options)
    assert code == 1
    with pytest.raises(UsageError, match="write 5% or"):
        called("check", "llava", "--share", "a lot")


def test_every_reason_is_told() -> None:
    page = Path(__file__).parents[1].joinpath("docs", "check.md").read_text("utf-8")
    assert [reason for reason in CHECK_REASONS if f"`{reason}`" not in page] == []
