"""Pushing rows and exports to a Hub on this machine; plain `datasets` reads them back."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.exports import dialog, picture, plan_of, small_plan, wanted
from tests.hub import Hub
from tests.pushes import REPO, TOKEN, hub_for, read, tree
from tests.rows import MakeTable, table_of
from vision_ift._cards.text import split_card
from vision_ift._cli import main as _cli
from vision_ift._errors import (
    IntegrityError,
    MissingInputError,
    RecordError,
    RefusedError,
    ServiceError,
    UnknownNameError,
    UsageError,
)
from vision_ift._export.export import export
from vision_ift._plan.plan import Plan
from vision_ift._push import parquet
from vision_ift._push.push import push

# What httpx2 says of how huggingface_hub sends blobs.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

SMALL = 40_000


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    yield from hub_for(tmp_path, monkeypatch)


@pytest.fixture
def planned(tmp_path: Path) -> Plan:
    return small_plan(tmp_path / "toy", rows=30)


def as_wanted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Bring rows that `datasets` gave in the form of :func:`wanted`."""
    for row in rows:
        row["pictures"] = [base64.b64decode(one["bytes"]) for one in row.pop("images")]
    return rows


def head_of(hub: Hub) -> dict[str, Any]:
    return split_card(hub.read(REPO, "README.md").decode())[0]


def test_datasets_alone_reads_what_was_pushed(hub: Hub, planned: Plan, tmp_path: Path) -> None:
    report = push(planned, REPO, max_shard_bytes=SMALL)
    assert len(report.files) > 2
    assert report.rows == len(planned)
    assert len(hub.commits(REPO)) == 2  # the first is the repository's own
    asked = wanted(planned)
    assert as_wanted(read(hub, tmp_path / "h1", "toy")) == asked
    assert as_wanted(read(hub, tmp_path / "h1", how="train[10:20]")) == asked[10:20]
    assert as_wanted(read(hub, tmp_path / "h2", "toy", "stream")) == asked


def test_a_second_push_of_the_same_sends_nothing(hub: Hub, planned: Plan) -> None:
    first = push(planned, REPO, max_shard_bytes=SMALL)
    asked = len(hub.requests)
    second = push(planned, REPO, max_shard_bytes=SMALL)
    assert not second.changed
    assert second.commit == first.commit
    assert second.new_bytes == 0
    assert {one.method for one in hub.requests[asked:]} <= {"GET", "HEAD"}


def test_only_shards_that_are_lacking_are_made_and_sent(
    hub: Hub, planned: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(planned, REPO, max_shard_bytes=SMALL)
    before, sent = tree(hub), hub.sent()
    from huggingface_hub import HfApi

    gone = next(path for path in before if path.endswith("00001-of-00003.parquet"))
    api = HfApi(endpoint=hub.url, token=TOKEN)
    api.delete_file(gone, REPO, repo_type="dataset")
    made = []
    write = parquet.write_shard

    def counted(*args: Any, **kwargs: Any) -> Any:
        made.append(args[2])
        return write(*args, **kwargs)

    monkeypatch.setattr("vision_ift._push.pushing.write_shard", counted)
    push(planned, REPO, max_shard_bytes=SMALL)
    assert made == [1]
    assert hub.sent() == sent  # the Hub has that blob still
    assert tree(hub) == before


def test_bytes_are_the_same_for_any_number_of_processes(
    hub: Hub, planned: Plan, tmp_path: Path
) -> None:
    push(planned, REPO, max_shard_bytes=SMALL)
    push(planned, "org/other", jobs=2, max_shard_bytes=SMALL)
    one, two = tree(hub), tree(hub, "org/other")
    assert {p: d for p, d in one.items() if p != "README.md"} == {
        p: d for p, d in two.items() if p != "README.md"
    }


def test_two_configurations_in_one_repository(
    hub: Hub, planned: Plan, tmp_path: Path, make_table: MakeTable
) -> None:
    push(planned, REPO, max_shard_bytes=SMALL)
    table = make_table([dialog(n, split="train" if n % 3 else "test") for n in range(9)])
    push(table, REPO, config="second", root=tmp_path)
    head = head_of(hub)
    assert [one["config_name"] for one in head["configs"]] == ["toy", "second"]
    assert [one.get("default") for one in head["configs"]] == [True, None]
    assert read(hub, tmp_path / "h", how="names") == ["toy", "second"]
    assert len(read(hub, tmp_path / "h", how="train")) == len(planned)
    assert len(read(hub, tmp_path / "h", "second", "test")) == 3
    push(table, REPO, config="second", root=tmp_path, set_default=True)
    assert [one.get("default") for one in head_of(hub)["configs"]] == [True, None]
    assert head_of(hub)["configs"][0]["config_name"] == "second"


def test_datasets_can_add_its_own_default_to_a_repository_of_ours(
    hub: Hub, planned: Plan, tmp_path: Path
) -> None:
    """Its push with set_default fails with a KeyError where one configuration is not marked."""
    import subprocess
    import sys

    push(planned, REPO)
    code = (
        "from datasets import Dataset; "
        f"Dataset.from_dict({{'a': [1]}}).push_to_hub({REPO!r}, 'theirs', set_default=True)"
    )
    environment = hub.environment(tmp_path / "h")
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert set(read(hub, tmp_path / "h", how="names")) == {"toy", "theirs"}
    assert push(planned, REPO, set_default=True).changed
    assert [one.get("default", False) for one in head_of(hub)["configs"]] == [True, False]


def test_old_files_of_the_configuration_go_in_the_same_commit(hub: Hub, planned: Plan) -> None:
    push(planned, REPO, max_shard_bytes=SMALL)
    report = push(planned, REPO)
    assert len(report.deleted) == 3
    assert sorted(tree(hub)) == [
        ".gitattributes",
        ".vision_ift/toy.json",
        "README.md",
        "toy/train-00000-of-00001.parquet",
    ]
    assert len(hub.commits(REPO)) == 3


def test_what_others_wrote_in_the_readme_stays(hub: Hub, planned: Plan) -> None:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.url, token=TOKEN)
    api.create_repo(REPO, repo_type="dataset")
    text = "---\nlicense: mit\nmine: [1, no]\ntags: [a]\n---\n# Ours\n\nWords of people.\n"
    api.upload_file(
        path_or_fileobj=text.encode(), path_in_repo="README.md", repo_id=REPO, repo_type="dataset"
    )
    push(planned, REPO)
    card = hub.read(REPO, "README.md").decode()
    head, body = split_card(card)
    assert head["license"] == "mit"
    assert head["mine"] == [1, "no"]
    assert head["tags"][0] == "a"
    assert "# Ours\n\nWords of people.\n" in body
    push(planned, REPO, max_shard_bytes=SMALL)
    again = hub.read(REPO, "README.md").decode()
    assert again.count("<!-- vision_ift: toy -->") == 1
    assert "Words of people." in again


def test_an_export_is_read_as_webdataset(hub: Hub, planned: Plan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(planned, out=out, shard_bytes=60_000)
    report = push(out, REPO, config="tars")
    assert report.files[-1].path == "tars/vision_ift/manifest.json"
    for path in sorted(out.glob("*.tar")):
        assert hub.read(REPO, f"tars/{path.name}") == path.read_bytes()
    rows = read(hub, tmp_path / "h", "tars", "stream")
    assert [row["json"]["id"] for row in rows] == [row["id"] for row in wanted(planned)]
    row = next(row for row in rows if row["json"]["images"] == ["jpg"])
    assert row["jpg"]["bytes"]
    asked = hub.sent()
    assert not push(out, REPO, config="tars").changed
    assert hub.sent() == asked


def test_an_export_at_the_top_and_one_of_groups(hub: Hub, planned: Plan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(planned, out=out, shard_bytes=60_000, uniform=True)
    push(out, REPO)
    names = read(hub, tmp_path / "h", how="names")
    assert "default-img1-jpg" in names
    rows = read(hub, tmp_path / "h", "default-img1-jpg", "stream")
    assert len(rows) >= 30
    assert all(base64.b64decode(row["jpg"]["bytes"])[:2] == b"\xff\xd8" for row in rows)


def test_a_damaged_export_is_not_pushed(hub: Hub, planned: Plan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(planned, out=out)
    path = next(out.glob("*.tar"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="as the manifest says"):
        push(out, REPO)
    assert list(hub.files(REPO)) == [".gitattributes"]
    (out / "vision_ift/layout.json").unlink()
    with pytest.raises(MissingInputError, match=r"without vision_ift/layout\.json"):
        push(out, REPO)


def test_a_branch_and_a_private_repository(hub: Hub, planned: Plan) -> None:
    push(planned, REPO, revision="next", private=True)
    assert hub.repos[REPO].private
    assert list(hub.files(REPO)) == [".gitattributes"]
    assert "README.md" in hub.files(REPO, "next")
    with pytest.raises(UsageError, match="is public"):
        hub.repos[REPO].private = False
        push(planned, REPO, private=True)


def test_one_pull_request_however_often_it_is_run(hub: Hub, planned: Plan) -> None:
    push(planned, REPO)
    first = push(planned, REPO, create_pr=True, max_shard_bytes=2000)
    second = push(planned, REPO, create_pr=True, max_shard_bytes=2000)
    assert first.pull_request == second.pull_request
    assert len(hub.repos[REPO].pulls) == 1
    assert len(first.files) > 50
    assert {one.path for one in first.files} <= set(hub.files(REPO, "refs/pr/1"))
    assert "toy/train-00000-of-00001.parquet" in hub.files(REPO)


def test_missing_and_broken_pictures_are_left_out_and_counted(
    hub: Hub, tmp_path: Path, make_table: MakeTable
) -> None:
    for number in range(6):
        (tmp_path / f"{number}.jpg").write_bytes(picture(number))
    (tmp_path / "2.jpg").unlink()
    (tmp_path / "3.jpg").write_bytes(b"<html>")
    plan = plan_of(tmp_path, {"llava": make_table([dialog(n, (f"{n}.jpg",)) for n in range(6)])})
    report = push(plan, REPO)
    assert report.dropped == {"bad_image": 1, "missing_image": 1}
    assert report.rows == 4
    assert str(tmp_path) not in json.dumps(tree(hub)) + "".join(
        hub.read(REPO, path).decode("latin-1") for path in hub.files(REPO)
    )
    with pytest.raises(RecordError, match=r"2\.jpg|3\.jpg"):
        push(plan, REPO, strict=True)
    for path in tmp_path.glob("*.jpg"):
        path.unlink()
    with pytest.raises(MissingInputError, match="no row"):
        push(plan, "org/none")
    assert list(hub.files("org/none")) == [".gitattributes"]


def test_a_moved_branch_is_looked_at_anew(hub: Hub, planned: Plan) -> None:
    from huggingface_hub import HfApi

    push(planned, REPO)
    api = HfApi(endpoint=hub.url, token=TOKEN)
    data = b"other"

    def between(_: object) -> None:
        if "other.txt" not in hub.files(REPO):
            with hub.api.lock:
                repository = hub.repos[REPO]
                files = {**hub.files(REPO), "other.txt": hub.api.blobs.add(data)}
                repository._commit("refs/heads/main", files, "between", "")

    hub.fault_at(1, "412", path="/commit/main", then=between)
    push(planned, REPO, max_shard_bytes=SMALL)
    assert {"other.txt", "toy/train-00000-of-00003.parquet"} <= set(hub.files(REPO))
    del api


def test_files_that_the_hub_would_leave_out_are_no_push(
    hub: Hub, planned: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library skips what a repository's .gitignore names, in the commit too, silently."""
    from huggingface_hub import HfApi

    def ignored(_: HfApi, repo: str, additions: list[Any], **how: Any) -> None:
        additions[0]._should_ignore = True

    monkeypatch.setattr(HfApi, "preupload_lfs_files", ignored)
    with pytest.raises(RefusedError, match=r"\.gitignore leaves out"):
        push(planned, REPO)
    assert list(hub.files(REPO)) == [".gitattributes"]


@pytest.mark.parametrize("status", ["409", "412"])
def test_only_a_commit_is_made_anew(hub: Hub, planned: Plan, status: str) -> None:
    hub.fail_from(1, status, path="/preupload/")
    with pytest.raises(RefusedError, match=f"refused .{status}."):
        push(planned, REPO)
    hub.heal()
    hub.fail_from(1, status, path="/commit/")
    with pytest.raises(ServiceError, match="5 times in a row"):
        push(planned, REPO)


def test_files_are_as_the_viewer_and_datasets_want_them(
    hub: Hub, planned: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(parquet, "GROUP_BYTES", 10_000)
    push(planned, REPO)
    path = tmp_path / "one.parquet"
    path.write_bytes(hub.read(REPO, "toy/train-00000-of-00001.parquet"))
    with pq.ParquetFile(path) as file:
        meta = file.metadata
        for number in range(meta.num_row_groups):
            group = meta.row_group(number)
            columns = {
                one.path_in_schema: one for one in map(group.column, range(group.num_columns))
            }
            pictures = columns["images.list.element.bytes"]
            assert pictures.total_uncompressed_size < 14_000
            assert pictures.compression == "UNCOMPRESSED"
            assert columns["meta"].compression == "ZSTD"
            assert columns["meta"].has_offset_index
        assert meta.num_row_groups > 5
        assert b"content_defined_chunking" in meta.metadata
        schema = file.schema_arrow
    features = datasets.Features.from_arrow_schema(schema)
    (info,) = head_of(hub)["dataset_info"]
    assert features._to_yaml_list() == info["features"]
    rows = datasets.Dataset(pq.read_table(path))
    assert (
        info["splits"]
        == [{"name": "train", "num_bytes": rows.data.nbytes, "num_examples": len(planned)}]
        or abs(info["splits"][0]["num_bytes"] - rows.data.nbytes) < 1000
    )


def test_a_dry_run_writes_nothing(hub: Hub, planned: Plan, tmp_path: Path) -> None:
    report = push(planned, REPO, dry_run=True, max_shard_bytes=SMALL)
    assert report.new_bytes > 0
    assert "config_name: toy" in report.card
    assert not hub.repos
    push(planned, REPO, max_shard_bytes=SMALL)
    asked = len(hub.requests)
    report = push(planned, REPO, dry_run=True)
    assert len(report.deleted) == 3
    out = tmp_path / "out"
    export(planned, out=out)
    with pytest.raises(UsageError, match="one format a repository"):
        push(out, REPO, config="tars")
    report = push(out, "org/tars", config="tars", dry_run=True)
    exact = {one.path.removeprefix("tars/"): one.bytes for one in report.files}
    assert all((out / name).stat().st_size == size for name, size in exact.items())
    assert {one.method for one in hub.requests[asked:]} <= {"GET", "HEAD", "CONNECT"}


def test_what_cannot_be_meant(hub: Hub, planned: Plan, tmp_path: Path) -> None:
    for name in ("name", "a/b/c", "../b", "a/b..c", "a/b--c"):
        with pytest.raises(UsageError, match="names no repository"):
            push(planned, name)
    with pytest.raises(UsageError, match="names no branch"):
        push(planned, REPO, revision="refs/pr/1")
    with pytest.raises(UsageError, match="pull request"):
        push(planned, REPO, revision="next", create_pr=True)
    with pytest.raises(UsageError, match="names no configuration"):
        push(planned, REPO, config="../a")
    with pytest.raises(UnknownNameError, match="coco_mix"):
        push("coco_mxi", REPO)
    with pytest.raises(UsageError, match="total"):
        push(planned, REPO, total=3)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingInputError, match="neither"):
        push(tmp_path / "empty", REPO)
    assert not hub.repos


def test_a_damaged_record_or_readme_is_said(hub: Hub, planned: Plan) -> None:
    from huggingface_hub import HfApi

    push(planned, REPO)
    api = HfApi(endpoint=hub.url, token=TOKEN)
    for path, text, said in (
        (".vision_ift/toy.json", b"{}", "cannot be read"),
        ("README.md", b"---\na: [\n---\n", "not YAML"),
    ):
        before = hub.read(REPO, path)
        for data in (text, before):
            api.create_commit(
                REPO,
                [_add(path, data)],
                commit_message="x",
                repo_type="dataset",
            ) if path != "README.md" else _put(hub, path, data)
            if data == text:
                with pytest.raises(IntegrityError, match=said):
                    push(planned, REPO)


def _add(path: str, data: bytes) -> Any:
    from huggingface_hub import CommitOperationAdd

    return CommitOperationAdd(path_in_repo=path, path_or_fileobj=data)


def _put(hub: Hub, path: str, data: bytes) -> None:
    with hub.api.lock:
        files = {**hub.files(REPO), path: hub.api.blobs.add(data)}
        hub.repos[REPO]._commit("refs/heads/main", files, "x", "")


def test_the_command(hub: Hub, planned: Plan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(planned, out=out)
    words = ["push", str(out), REPO, "--config", "tars", "--json"]
    result = CliRunner().invoke(_cli.app, [*words, "--dry-run"], catch_exceptions=False)
    assert json.loads(result.stdout)["dry_run"]
    result = CliRunner().invoke(_cli.app, words, catch_exceptions=False)
    assert json.loads(result.stdout)["commit"] == hub.commits(REPO)[0].oid
    result = CliRunner().invoke(_cli.app, words[:-1], catch_exceptions=False)
    assert "unchanged: 60 rows" in result.stdout
    table = table_of(tmp_path / "rows", 5, source="llava")
    words = ["push", str(table.path), "org/rows", "--dry-run", "--root", str(tmp_path)]
    result = CliRunner().invoke(_cli.app, words, catch_exceptions=False)
    assert "would push 5 rows" in result.stdout
    assert "llava/train-00000-of-00001.parquet" in result.stdout


def test_the_report_is_json(hub: Hub, planned: Plan) -> None:
    assert msgspec.json.decode(msgspec.json.encode(push(planned, REPO)))["config"] == "toy"


def test_without_a_token_it_says_how_to_log_in(
    hub: Hub, planned: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(RefusedError, match="hf auth login"):
        push(planned, REPO)
    (tmp_path / "token").write_text(TOKEN)
    push(planned, REPO)
    shutil.rmtree(tmp_path / "toy/root")
