"""Cards of sources, recipes, tables and repositories: true, the same everywhere, unbreakable."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Features, get_dataset_config_names, load_dataset
from huggingface_hub import DatasetCard
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from ruamel.yaml import YAML
from typer.testing import CliRunner

from tests.exports import dialog, small_plan
from tests.needs import needs
from tests.rows import MakeTable, conversation
from vision_ift import Recipe, _registry
from vision_ift._cards.body import CITATION, background_of, write_body
from vision_ift._cards.card import SOURCES, published_cards, write_card
from vision_ift._cards.counted import Counted, count_table
from vision_ift._cards.facts import describe, source_facts
from vision_ift._cards.head import planned_head, row_features
from vision_ift._cards.loading import snippets
from vision_ift._cards.text import cell, code, dump_yaml, fenced, split_card, table
from vision_ift._cards.told import read_told
from vision_ift._cli import main as _cli
from vision_ift._conversation import FEATURES_JSON
from vision_ift._errors import IntegrityError, MissingInputError, UnknownNameError, UsageError
from vision_ift._export.export import export
from vision_ift._plan.licences import licences_of
from vision_ift._recipe.recipe import shipped
from vision_ift._table import Table

rounds_of = importlib.import_module("vision_ift.builders._coco_rounds")
tasks_of = importlib.import_module("vision_ift.builders._vision_flan_tasks")

HERE = Path(__file__).parents[1]

#: Text that would be markup, another cell, another key, or an order to a screen.
PAYLOADS = (
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    "&lt;script&gt;",
    "[click](https://evil.example)",
    "![x](https://evil.example/a.png)",
    "<https://evil.example>",
    "https://evil.example/?q=1",
    "www.evil.example",
    "a | b | c",
    "x\n---\nlicense: mit\n---\n",
    "x\n\n# A heading",
    "* a list",
    "- a list",
    "1. a list",
    "> a quotation",
    "`code`",
    "```\n```",
    "~~gone~~",
    "**bold** _slanted_",
    "a\\|b",
    "<!-- vision_ift: end of default -->",
    "--> <b>out of the comment</b>",
    "x: {y: [z, !!python/object:os.system]}",
    "&anchor *alias",
    "no",
    "012",
    "\x1b[2J\x00\u202egnp.exe",
    "line\u2028line\u2029line\x85line",
    "$$x^2$$ @someone #1",
    "[ref]: https://evil.example",
    "'; DROP TABLE rows; --",
    '"""\nimport os\nos.abort()\n"""',
)


def text_of(markdown: str) -> str:
    """Render and give the words alone; fail where there is anything but one paragraph of text."""
    (_, inline, _) = MarkdownIt("gfm-like", {"linkify": False}).parse(markdown)
    assert {one.type for one in inline.children or []} <= {"text", "text_special"}, markdown
    return "".join(one.content for one in inline.children or [])


@pytest.mark.parametrize("payload", PAYLOADS)
def test_text_from_data_comes_out_as_text(payload: str) -> None:
    shown = text_of(cell(payload))
    assert not re.search(r"[\x00-\x08\x1b\u202e\u2028\x85\n]", shown)
    kept = [word for word in re.split(r"[^\x21-\x7e]+", payload) if word]
    assert all(word in shown for word in kept), shown


def test_without_escaping_most_of_them_are_markup() -> None:
    broken = 0
    for payload in PAYLOADS:
        try:
            text_of(payload)
        except (AssertionError, ValueError):
            broken += 1
    assert broken >= 15


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_stays_in_its_cell(text: str) -> None:
    shown = table(("a", "b"), [(cell(text), "end")])
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(shown)
    cells = [one for one in tokens if one.type == "inline"]
    assert [one.content for one in cells][-1] == "end"
    assert len(cells) == 4


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_code_holds_what_it_is_given(text: str) -> None:
    (block,) = MarkdownIt().parse(fenced(text, "python"))
    assert block.type == "fence"
    (_, inline, _) = MarkdownIt().parse(f"a {code(text)}")
    assert {one.type for one in inline.children or []} <= {"text", "code_inline", "text_special"}


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=120))
def test_any_name_reads_back_from_yaml(text: str) -> None:
    yaml = pytest.importorskip("yaml")
    head = {"pretty_name": text, "tags": [text], "configs": [{"config_name": text}]}
    written = f"---\n{dump_yaml(head).decode()}---\n"
    assert YAML(typ="safe", pure=True).load(dump_yaml(head)) == head
    assert yaml.safe_load(dump_yaml(head)) == head
    assert split_card(written + "\n# body\n") == (head, "\n# body\n")


def head_of(card: str) -> Any:
    """A card's head as the Hub's own library reads it."""
    data: Any = DatasetCard(card).data
    return data.to_dict()


@pytest.mark.parametrize("payload", PAYLOADS)
def test_payloads_of_a_recipe_and_its_rows_change_nothing_else(payload: str) -> None:
    plain = describe("coco_mix")
    parts = (msgspec.structs.replace(plain.parts[0], name=payload, filters=(("where", payload),)),)
    hostile = msgspec.structs.replace(
        plain, name=payload, title=payload, description=payload, parts=parts, shipped=False
    )
    rows = Counted(
        rows=3,
        splits={payload: 3},
        tasks={payload: 3},
        licenses={payload: 3},
        dropped={payload: 1},
        missing=(payload,),
    )
    for counted in (None, rows):
        card = write_card(hostile, counted)
        assert head_of(card)["configs"][0]["config_name"] == payload
        assert head_of(card)["pretty_name"] == payload
        assert set(head_of(card)) - {"size_categories"} == set(head_of(write_card(plain))) - {
            "size_categories"
        }
        assert shape(card) == shape(
            write_card(
                msgspec.structs.replace(
                    hostile,
                    name="n",
                    title="n",
                    description="n",
                    parts=(msgspec.structs.replace(parts[0], name="n", filters=(("where", "n"),)),),
                ),
                None
                if counted is None
                else Counted(
                    rows=3,
                    splits={"n": 3},
                    tasks={"n": 3},
                    licenses={"n": 3},
                    dropped={"n": 1},
                    missing=("n",),
                ),
            )
        )


def shape(card: str) -> list[str]:
    """The blocks and links of a card's body; what stands in them is not looked at."""
    _, body = split_card(card)
    found = []
    for token in MarkdownIt("gfm-like", {"linkify": False}).parse(body):
        found.append(token.type)
        found += [
            f"{one.type} {one.attrGet('href') or one.content}"
            for one in token.children or []
            if one.type in ("link_open", "image", "html_inline")
        ]
    return found


def test_the_cards_are_those_that_lie_in_the_folder() -> None:
    there = {path.name: path.read_text("utf-8") for path in (HERE / "cards").glob("*.md")}
    made = published_cards()
    assert sorted(there) == sorted(f"{name}.md" for name in (*SOURCES, *shipped()))
    for name, text in made.items():
        assert text == there[name], f"{name} is old: make cards"


def test_they_are_the_same_in_any_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vision_ift._cards", "--check", str(HERE / "cards")]
    env = {**os.environ, "PYTHONHASHSEED": "77", "LC_ALL": "C", "TZ": "Asia/Tokyo"}
    env["HOME"] = str(tmp_path)
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"")


def test_make_writes_what_is_missing_and_removes_what_is_no_more(tmp_path: Path) -> None:
    from vision_ift._cards.__main__ import main

    (tmp_path / "gone.md").write_text("x")
    assert main(["--check", str(tmp_path)]) == 1
    assert (tmp_path / "gone.md").exists()
    assert main([str(tmp_path)]) == 0
    assert {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()} == published_cards()
    assert main(["--check", str(tmp_path)]) == 0
    assert main([]) == 2


#: From the Hub's specification of dataset cards.
_SIZES = re.compile(r"n<1K|1K<n<10K|10K<n<100K|100K<n<1M|1M<n<10M")
_TASKS = {"image-text-to-text", "visual-question-answering", "question-answering"}


@pytest.mark.parametrize("name", sorted((*SOURCES, *shipped())))
def test_a_head_is_one_that_the_hub_takes(name: str) -> None:
    text = (HERE / f"cards/{name}.md").read_text("utf-8")
    head = head_of(text)
    assert head == planned_head(describe(name))
    assert head["license"] == "other"
    assert set(head["task_categories"]) <= _TASKS
    assert all(re.fullmatch("[a-z]{2}", one) for one in head["language"])
    assert all(_SIZES.fullmatch(one) for one in head.get("size_categories", []))
    assert [one["config_name"] for one in head["configs"]] == [name]
    assert head["dataset_info"][0]["features"] == row_features()
    for place in ("/work/", "/home/", "/tmp/", "localhost"):
        assert place not in text


def test_what_a_source_claims_stands_in_its_card() -> None:
    for name in SOURCES:
        told = source_facts(name).told
        counts = {
            value
            for one in told.counts
            for value in (one.claimed, one.found, one.worked_out)
            if value is not None
        }
        words = " ".join(one.how for one in told.counts)
        for what, claimed in _registry.find(name).claimed.items():
            assert claimed in counts or f"{claimed:,}" in words, (name, what)
        assert told.made
        assert told.limits
        assert {one.layer for one in told.layers} == {"text", "pictures", "generating model"}


def test_the_terms_told_are_those_that_rows_state() -> None:
    told = source_facts("coco_ift").told.layers
    terms = {one.terms for one in told if one.layer == "text"}
    assert terms == {one.license for one in rounds_of.PAPER.values()}
    (pictures,) = (
        one for one in source_facts("vision_flan").told.layers if one.layer == "pictures"
    )
    assert set(licences_of(pictures.terms)) == {*tasks_of._LICENSED, tasks_of.UNKNOWN}


def test_a_recipe_is_worked_out_of_what_is_known_and_no_further() -> None:
    mix = describe("coco_mix")
    assert [part.share for part in mix.parts] == [400_000, 300_000, 200_000, 100_000]
    assert mix.rows is None
    assert {part.delivered for part in mix.parts} == {None}
    two = describe("vision_flan_two_stage")
    assert [(part.stage, part.delivered, part.about) for part in two.parts] == [
        ("base", 186_102, False),
        ("chat", 1000, False),
    ]
    joined = describe("mm_instruct_sft")
    assert (joined.rows, joined.about) == (665_000 + 234_000, True)
    text = (
        "{name: a, total: 1000, mix: [{source: coco_ift, weight: 3}, {source: llava, weight: 1}]}"
    )
    asked = describe(Recipe.parse(text))
    assert [part.delivered for part in asked.parts] == [750, 250]
    assert not asked.shipped
    filtered = describe(
        Recipe.parse("{name: a, mix: [{source: vision_flan, repeat: 1, cap_per_task: 999}]}")
    )
    assert filtered.rows is None
    assert describe(Recipe.parse("{name: a, mix: [{source: mm_instruct, repeat: 2}]}")).rows == (
        468_000  # the benchmark's prompts have no answer
    )


def test_shares_that_need_sizes_or_tokens() -> None:
    weights = "mix: [{source: coco_ift, weight: 3}, {source: llava, weight: 1}]"
    asked = describe(Recipe.parse(f"{{name: a, tokenizer: chars/4, tokens: 1000, {weights}}}"))
    assert [(part.share, part.delivered) for part in asked.parts] == [
        (750_000, None),
        (250_000, None),
    ]
    sized = "{name: a, temperature: 1, mix: [{source: mminstruct}, {source: %s}]}"
    known = describe(Recipe.parse(sized % "vision_flan"))
    assert [part.delivered for part in known.parts] == [378_186, 186_102]
    unknown = describe(Recipe.parse(sized % "coco_ift"))
    assert [(part.share, part.delivered) for part in unknown.parts] == [(None, None)] * 2
    assert "not known" in write_body(unknown)


def test_a_recipe_of_somebody_is_escaped_and_loaded_by_its_file(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    name = "<b>a|b</b> `x`"
    file.write_text(f"# {name}\nname: '{name}'\nmix: [{{source: mm_instruct, repeat: 1}}]\n")
    card = called("card", file)[1]
    assert head_of(card)["configs"][0]["config_name"] == name
    assert "# &lt;b&gt;a\\|b&lt;/b&gt; \\`x\\`\n" in card
    assert "html" not in " ".join(shape(card.split("-->", 1)[1]))
    assert 'vision_ift.plan(recipe, root="data")' in card
    assert 'recipe = "RECIPE.yaml"' in card


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("summary: a\nrow: {train: 1}", "row"),
        ("summary: a\ncounts: [{what: rows, found: 1}]", "how"),
        ("summary: a\ncounts: [{what: rows, claimed: 1}]", "where it stands"),
        ("summary: a\ncounts: [{what: rows, found: 1, worked_out: 1, how: x}]", "not both"),
        ("summary: a\nlayers: [{layer: sound, of: x}]", "layer"),
        ("summary: [", "cards/x.yaml"),
        ("summary: !!python/object/apply:os.abort []", "cards/x.yaml"),
    ],
)
def test_facts_that_are_not_of_their_form_are_refused(text: str, why: str) -> None:
    with pytest.raises(IntegrityError, match=re.escape(why)):
        read_told(text, file="cards/x.yaml")


def test_a_source_without_facts_has_a_card_of_its_builder(others: Path) -> None:
    facts = describe("birds")
    assert "birds" in write_card(facts)
    assert head_of(write_card(facts))["configs"][0]["config_name"] == "birds"


def test_our_own_citation_is_that_of_the_repository() -> None:
    cited = YAML(typ="safe", pure=True).load((HERE / "CITATION.cff").read_text("utf-8"))
    plain = CITATION.replace("\\", "")
    assert cited["title"] in plain
    assert cited["authors"][0]["name"] in plain


def test_a_table_is_counted(make_table: MakeTable, tmp_path: Path) -> None:
    rows = [dialog(n, license="MIT", language="en", task="<b>t</b>") for n in range(3)]
    made = make_table([*rows, conversation(9, split="val")], source="mminstruct")
    counted = count_table(made, root=tmp_path, tokenizer="chars/4")
    assert (counted.rows, counted.images, counted.rounds) == (4, 0, 7)
    assert counted.splits == {"train": 3, "val": 1}
    assert counted.tasks == {"<b>t</b>": 3, "t": 1}
    assert counted.licenses == {"MIT": 3, "unknown": 1}
    body = write_body(describe("mminstruct"), counted)
    assert "| &lt;b&gt;t&lt;/b&gt; | 3 |" in body
    assert f"| 4 | 0 | 0 | 7 | {counted.text_tokens:,} |" in body
    assert "| MIT | 3 |" in body


def called(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(_cli.app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def test_the_command_writes_the_published_card(tmp_path: Path) -> None:
    assert called("card", "coco_mix") == (0, published_cards()["coco_mix.md"])
    assert called("card", "mminstruct", "--out", tmp_path / "a.md") == (0, "")
    assert (tmp_path / "a.md").read_text("utf-8") == published_cards()["mminstruct.md"]
    found = json.loads(called("card", "mminstruct", "--json")[1])
    assert found["facts"]["rows"] == 378_186
    assert found["counted"] is None
    assert found["head"]["configs"][0]["config_name"] == "mminstruct"
    with pytest.raises(UnknownNameError, match="mminstruct"):
        called("card", "mminstrukt")
    with pytest.raises(MissingInputError, match="neither"):
        called("card", tmp_path)
    with pytest.raises(UsageError, match="--root"):
        called("card", "mminstruct", "--tokenizer", "chars/4")


def test_with_a_root_rows_are_counted(
    drawn_root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VISION_IFT_TABLES", str(drawn_root.parent / "tables"))
    found = json.loads(called("card", "vision_flan", "--root", drawn_root, "--json")[1])
    built = json.loads(called("build", "vision_flan", "--root", drawn_root, "--json")[1])
    assert found["counted"]["rows"] == built["rows"]
    assert sum(found["counted"]["tasks"].values()) == built["rows"]
    table_card = called("card", built["out"])[1]
    assert split_card(table_card)[0] == found["head"]
    words = ("--tokenizer", "chars/4", "--image-tokens", "qwen2-vl")
    mix = json.loads(called("card", "coco_mix", "--root", drawn_root, *words, "--json")[1])
    planned = json.loads(called("plan", "coco_mix", "--root", drawn_root, *words, "--json")[1])
    assert [part["delivered"] for part in mix["counted"]["parts"]] == [
        part["delivered"] for part in planned["sources"]
    ]
    assert mix["counted"]["text_tokens"] == planned["text_tokens"] > 0
    assert f"{planned['image_tokens']:,}" in mix["body"]


def test_an_export_has_its_own_card_and_what_is_known_of_its_sources(tmp_path: Path) -> None:
    export(small_plan(tmp_path, rows=4), out=tmp_path / "out")
    code, text = called("card", tmp_path / "out")
    assert code == 0
    assert text.startswith((tmp_path / "out/README.md").read_text("utf-8").rstrip())
    assert "## Known limits" in text
    assert "liu2023llava" in text


@pytest.mark.parametrize("name", ["coco_mix", "mm_instruct"])
def test_datasets_reads_a_repository_by_its_card(
    name: str, make_table: MakeTable, tmp_path: Path
) -> None:
    facts = describe(name)
    (tmp_path / f"repo/{name}").mkdir(parents=True)
    (tmp_path / "repo/README.md").write_text(write_card(facts), "utf-8")
    rows = pa.Table.from_batches(make_table(4).batches())
    for split in facts.splits:
        pq.write_table(rows, tmp_path / f"repo/{name}/{split}-00000-of-00001.parquet")
    assert get_dataset_config_names(str(tmp_path / "repo")) == [name]
    cache = str(tmp_path / "cache")
    found = load_dataset(str(tmp_path / "repo"), name, cache_dir=cache)
    assert list(found) == list(facts.splits)
    for split in facts.splits:
        assert found[split].features == Features.from_dict(FEATURES_JSON)
        assert found[split].num_rows == 4


def test_a_published_set_is_loaded_by_its_repository() -> None:
    text = snippets(describe("coco_mix"), repository="org/sets")["datasets"]
    assert 'load_dataset("org/sets", "coco_mix", split="train")' in text
    assert "vision_ift" not in text


def test_a_source_that_is_not_installed_is_named_and_no_more() -> None:
    text = background_of(["<b>gone</b>", "mminstruct"], level=3, licenses={"MIT": 2})
    assert "| &lt;b&gt;gone&lt;/b&gt; | not told apart |  | unknown |  |" in text
    assert "| MIT | 2 |" in text


@pytest.mark.parametrize("head", ["a: [", "- a", "a: 1\na: 2", "a: !!python/object/apply:os.x []"])
def test_a_head_that_cannot_be_read_is_refused(head: str) -> None:
    with pytest.raises(IntegrityError, match=r"README\.md"):
        split_card(f"---\n{head}\n---\n# x\n")


def run(text: str, names: dict[str, Any]) -> None:
    exec(compile(text, "card", "exec"), names)


@pytest.fixture
def place(drawn_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with `data`, in which a card's code runs."""
    import datasets

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VISION_IFT_TABLES", str(drawn_root.parent / "tables"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)
    (tmp_path / "data").symlink_to(drawn_root)
    with contextlib.chdir(tmp_path):
        yield tmp_path


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", ["vision_flan", "coco_mix"])
def test_the_code_of_a_card_runs(name: str, place: Path) -> None:
    found = snippets(describe(name))
    names: dict[str, Any] = {}
    run(found["datasets"], names)
    assert len(names["rows"]) > 0
    run(found["export"], names)
    assert (place / "shards/vision_ift/manifest.json").is_file()
    run(found["webdataset"], names)
    assert len(names["pictures"]) == len(names["row"]["json"]["images"])


def test_every_card_has_code_that_compiles_and_nothing_else() -> None:
    for name in (*SOURCES, *shipped()):
        body = (HERE / f"cards/{name}.md").read_text("utf-8")
        blocks = re.findall(r"^```python\n(.*?)^```$", body, re.MULTILINE | re.DOTALL)
        assert [one.rstrip("\n") for one in blocks] == list(snippets(describe(name)).values())
        for one in blocks:
            compile(one, name, "exec")


def test_energons_names_are_those_that_the_reader_trial_uses() -> None:
    trial = (HERE / "tests/readers/read_energon.py").read_text("utf-8")
    code_of_card = snippets(describe("coco_mix"))["Megatron-Energon"]
    imported = re.search(r"import \((.*?)\)", code_of_card, re.DOTALL)
    assert imported is not None
    names = {one.strip() for one in imported[1].split(",") if one.strip()}
    assert {name for name in names if name not in trial} <= {"get_loader"}


def test_energon_reads_by_the_code_of_the_card(place: Path) -> None:
    pytest.importorskip("megatron.energon")  # in an environment of its own
    found = snippets(describe("vision_flan"))
    names: dict[str, Any] = {}
    run(found["export"], names)
    run(found["Megatron-Energon"], names)
    assert next(iter(names["rows"])).members["json"]


@needs("torch", "transformers", "tokenizers", "trl")
@pytest.mark.filterwarnings("ignore")
def test_trl_and_torch_train_by_the_code_of_the_card(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.test_docs import _lay_out_model

    _lay_out_model(place / "llava", monkeypatch)
    found = snippets(describe("vision_flan"))
    names: dict[str, Any] = {}
    run(found["export"], names)
    run(found["torch"], names)
    assert names["batch"]["labels"].shape == names["batch"]["input_ids"].shape
    # On a machine without an accelerator, one step.
    small = 'output_dir="run", max_steps=1, use_cpu=True, bf16=False, report_to=[]'
    run(found["TRL"].replace('output_dir="run"', small), names)
    assert names["trainer"].state.global_step == 1


def test_a_table_by_its_folder_is_opened(make_table: MakeTable) -> None:
    made = make_table(3, source="mm_instruct")
    assert isinstance(made, Table)
    code_of_exit, text = called("card", made.path)
    assert code_of_exit == 0
    assert "| 3 | 0 | 0 | 3 |" in text
