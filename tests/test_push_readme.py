"""What a push makes of a README that is there: never two defaults, nothing of others lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_ift._cards.text import join_card, split_card
from vision_ift._errors import UsageError
from vision_ift._push.hub import State, Stored
from vision_ift._push.parquet import Share
from vision_ift._push.readme import (
    ConfigFacts,
    SplitFacts,
    configs_of,
    files_of,
    merged,
    parquet_facts,
    refuse_other_kinds,
)
from vision_ift._push.record import Record
from vision_ift._push.report import obsolete


def facts(config: str, *, title: str = "t", rows: int = 3) -> ConfigFacts:
    return parquet_facts(
        config,
        repo="org/name",
        title=title,
        digest="d",
        splits={"train": SplitFacts(rows, 10, 20)},
        shares={"llava": Share(rows=rows, licenses={"a|b <script>": rows}, languages={"no": 1})},
        dropped={},
    )


def defaults(readme: str) -> list[str]:
    entries = configs_of(split_card(readme)[0])
    return [entry["config_name"] for entry in entries if entry.get("default")]


NAMES = st.sampled_from(["a", "b", "a-img1-jpg", "default", "no"])


@given(st.lists(st.tuples(NAMES, st.sampled_from([None, True, False])), max_size=8))
def test_never_two_defaults_and_every_configuration_once(
    pushes: list[tuple[str, bool | None]],
) -> None:
    readme = ""
    for name, default in pushes:
        readme = merged(readme, facts(name), repo="org/name", set_default=default)
        assert len(defaults(readme)) <= 1
        if default:
            assert defaults(readme) == [name]
        head, body = split_card(readme)
        names = [entry["config_name"] for entry in head["configs"]]
        assert len(set(names)) == len(names)
        assert {one["config_name"] for one in head["dataset_info"]} == set(names)
        assert body.count(f"<!-- vision_ift: {name} -->") == 1
        # The same again changes nothing.
        assert merged(readme, facts(name), repo="org/name", set_default=None) == readme


@pytest.mark.parametrize(
    ("head", "names"),
    [
        ({}, ["mine"]),
        ({"configs": None, "dataset_info": None}, ["mine"]),
        ({"configs": "words", "dataset_info": "words"}, ["mine"]),
        ({"dataset_info": {"features": [], "splits": []}}, ["mine"]),
        ({"configs": [{"config_name": "x", "default": True}, 7]}, ["x", "mine"]),
    ],
)
def test_heads_as_others_write_them(head: dict[str, Any], names: list[str]) -> None:
    old = join_card({**head, "license": "mit", "size": 1}, "# Words")
    found, body = split_card(merged(old, facts("mine"), repo="org/name", set_default=None))
    assert [one["config_name"] for one in found["configs"]] == names
    assert (found["license"], found["size"]) == ("mit", 1)
    assert body.strip().startswith("# Words")


def test_text_from_data_stays_text() -> None:
    readme = merged(
        "", facts("mine", title="---\n<script>x</script>|"), repo="org/name", set_default=None
    )
    head, body = split_card(readme)
    assert head["language"] == ["no"]
    assert "<script>" not in body.replace("<!--", "")
    assert "a\\|b &lt;script&gt;" in body


def test_patterns_as_datasets_reads_them() -> None:
    paths = ["a/train-0.parquet", "a/test-0.parquet", "b/x.parquet", "c.parquet"]
    assert files_of({"data_files": "a/*"}, paths) == set(paths[:2])
    assert files_of({"data_files": [{"split": "train", "path": ["a/train-*", "c*"]}]}, paths) == {
        paths[0],
        paths[3],
    }
    assert files_of({"data_dir": "b"}, paths) == {paths[2]}
    assert files_of({"data_dir": "b", "data_files": "x.*"}, paths) == {paths[2]}
    assert files_of({}, paths) == set()


def test_formats_do_not_mix() -> None:
    readme = merged("", facts("mine"), repo="org/name", set_default=None)
    refuse_other_kinds(readme, "other", "parquet")
    refuse_other_kinds(readme, "mine", "tar")  # it is replaced
    with pytest.raises(UsageError, match="one format a repository"):
        refuse_other_kinds(readme, "other", "tar")


def test_only_files_of_the_configuration_are_removed() -> None:
    """Also where the record in the repository names others: anybody may have written it."""
    readme = merged("", facts("other"), repo="org/name", set_default=None)
    readme = merged(readme, facts("mine"), repo="org/name", set_default=None)
    paths = ["README.md", ".gitattributes", "mine/train-1.parquet", "other/train-1.parquet", "x"]
    paths += [".vision_ift/other.json"]
    state = State("c", True, True, False, {path: Stored(1, "s") for path in paths})
    from vision_ift._push.record import File

    before = Record(
        config="mine",
        kind="parquet",
        keys={},
        files=[
            File(path=path, sha256="s", bytes=1) for path in [*paths[:5], ".vision_ift/other.json"]
        ],
    )
    now = Record(config="mine", kind="parquet", keys={})
    assert obsolete(state, before, readme, now, facts("mine")) == ["mine/train-1.parquet", "x"]
