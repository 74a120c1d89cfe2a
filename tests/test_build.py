"""Building a table: drops are counted and named, reuse is safe, nothing half-done is seen."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from vision_ift import Absent, Builder, Conversation, Dropped, Message, _registry, build
from vision_ift._disk import locked, replace_folder
from vision_ift._errors import (
    LockedError,
    MissingInputError,
    OutputError,
    RecordError,
    UnknownNameError,
    UsageError,
)
from vision_ift._table import Table


class Lines(Builder):
    """One round a line: ``id question answer``."""

    name = "lines"
    files = ("lines.txt",)
    seen: ClassVar[int] = 0

    def conversations(
        self, root: Path, *, shout: bool = False, most: int = 100, tone: Literal["a", "b"] = "a"
    ) -> Iterator[Conversation | Dropped | Absent]:
        type(self).seen += 1
        yield Absent("more", ("more.txt",))
        for number, line in enumerate((root / "lines.txt").read_text("utf-8").splitlines()):
            if number >= most:
                yield Dropped(reason="caption_not_picked", count=2, by_rule=True)
                continue
            name, question, answer = line.split(" ")
            text = question.upper() if shout else question
            yield Conversation(
                id=name,
                messages=(Message.of("user", text), Message.of("assistant", answer)),
                meta={"tone": tone},
            )


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    builder = Lines()
    monkeypatch.setattr(_registry, "find", lambda name: builder)
    monkeypatch.setenv("VISION_IFT_TABLES", str(tmp_path / "tables"))
    root = tmp_path / "root"
    root.mkdir()
    (root / "lines.txt").write_text("1 wo hier\n2 wer ich\n2 noch einer\n3 was \n4 ja nein\n")
    return root


def test_what_is_dropped_is_counted_and_named(lines: Path, tmp_path: Path) -> None:
    table = build("lines", root=lines, out=tmp_path / "out")
    report = json.loads((tmp_path / "out" / "build.json").read_text())
    assert [row["id"] for batch in table.batches(["id"]) for row in batch.to_pylist()] == [
        "lines/1",
        "lines/2",
        "lines/4",
    ]
    assert report["rows"] == 3
    assert report["dropped"] == {"duplicate_id": 1, "empty_turn": 1}
    assert report["dropped_first"]["duplicate_id"][0]["record"] == "lines/2"
    assert report["dropped_first"]["empty_turn"][0]["detail"].startswith("the turn holds no text")
    assert report["absent"] == [{"name": "more", "wanted": ["more.txt"]}]
    assert report["inputs"] == {"lines.txt": (lines / "lines.txt").stat().st_size}
    assert str(tmp_path) not in (tmp_path / "out" / "build.json").read_text()


def test_at_most_ten_of_a_reason_are_named(lines: Path, tmp_path: Path) -> None:
    (lines / "lines.txt").write_text("".join(f"7 a b{n}\n" for n in range(30)))
    report = build("lines", root=lines, out=tmp_path / "out").report
    assert report.dropped == {"duplicate_id": 29}
    assert len(report.dropped_first["duplicate_id"]) == 10


def test_repeated_ids_are_numbered_where_the_source_says_so(
    lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lines, "repeated_ids", "number")
    (lines / "lines.txt").write_text("7 a b\n7 c d\n7#2 e f\n7 g h\n")
    table = build("lines", root=lines, out=tmp_path / "out")
    (batch,) = table.batches(["id"])
    assert batch.column("id").to_pylist() == ["lines/7", "lines/7#2", "lines/7#2#2", "lines/7#3"]


def test_a_record_that_only_repeats_another_is_dropped_and_counted(
    lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lines, "repeated_ids", "number")
    (lines / "lines.txt").write_text("7 a b\n7 c d\n7 a b\n8 a b\n7 c d\n7 ab x\n")
    table = build("lines", root=lines, out=tmp_path / "out")
    (batch,) = table.batches(["id"])
    assert batch.column("id").to_pylist() == ["lines/7", "lines/7#2", "lines/8", "lines/7#3"]
    assert table.report.dropped == {"duplicate_id": 2}


def test_strict_stops_at_the_first_broken_rule(lines: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="source lines, record 3: the turn holds no text"):
        build("lines", root=lines, out=tmp_path / "out", strict=True)
    assert list(tmp_path.iterdir()) != []
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / ".out.unfinished").exists()
    (lines / "lines.txt").write_text("1 a b\n2 c d\n")
    by_rule = build("lines", root=lines, out=tmp_path / "out", strict=True, options={"most": 1})
    assert by_rule.report.dropped == {"caption_not_picked": 2}


def test_a_table_is_built_once(lines: Path) -> None:
    Lines.seen = 0
    first = build("lines", root=lines)
    assert build("lines", root=lines).digest == first.digest
    assert Lines.seen == 1
    other = build("lines", root=lines, options={"shout": "true"})
    assert (Lines.seen, other.path == first.path) == (2, False)
    # The default written out is the same table.
    assert build("lines", root=lines, options={"shout": False}).path == first.path
    status = (lines / "lines.txt").stat()
    (lines / "lines.txt").write_text("1 a b\n")
    os.utime(lines / "lines.txt", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert len(build("lines", root=lines)) == 1
    assert Lines.seen == 3


def test_a_changed_source_replaces_its_own_table_only(lines: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build("lines", root=lines, out=out)
    (lines / "lines.txt").write_text("1 a b\n")
    assert len(build("lines", root=lines, out=out)) == 1
    assert len(Table(out)) == 1
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="is not empty and holds no table"):
        build("lines", root=lines, out=foreign)
    assert (foreign / "thesis.txt").read_text() == "mine"


def test_options_are_checked(lines: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean shout"):
        build("lines", root=lines, options={"shot": "1"})
    with pytest.raises(UsageError, match=r"option most=many of lines: Expected `int`"):
        build("lines", root=lines, options={"most": "many"})
    with pytest.raises(UsageError, match=r"option tone=c of lines"):
        build("lines", root=lines, options={"tone": "c"})


def test_missing_files_name_the_command_that_brings_them(lines: Path, tmp_path: Path) -> None:
    (lines / "lines.txt").unlink()
    with pytest.raises(MissingInputError) as caught:
        build("lines", root=lines)
    assert "looked for lines.txt" in str(caught.value)
    assert "vision-ift fetch lines" in str(caught.value)
    with pytest.raises(MissingInputError, match="there is no folder"):
        build("lines", root=tmp_path / "none")


def test_a_failed_build_leaves_the_old_table(
    lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    old = build("lines", root=lines, out=out).digest
    (lines / "lines.txt").write_text("1 a b\n2 c\n")  # the second line breaks the builder itself
    with pytest.raises(ValueError, match="not enough values"):
        build("lines", root=lines, out=out)
    assert Table(out).digest == old


def test_a_table_that_a_kill_left_without_its_name_gets_it_back(
    lines: Path, tmp_path: Path
) -> None:
    out, new = tmp_path / "out", tmp_path / "new"
    old = build("lines", root=lines, out=out).digest
    shutil.copytree(out, new)
    (tmp_path / ".out.b.7.old").mkdir()  # of a neighbour called out.b
    child = os.fork()
    if child == 0:
        rename = Path.rename

        def rename_and_die(one: Path, target: Path) -> Path:
            rename(one, target)
            os.kill(os.getpid(), signal.SIGKILL)
            return target

        Path.rename = rename_and_die  # type: ignore[assignment,method-assign]
        replace_folder(new, out)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not out.exists()  # nobody finds the table now
    read = Lines.seen
    assert build("lines", root=lines, out=out).digest == old
    assert Lines.seen == read  # it was not built anew
    left = {path.name for path in tmp_path.glob(".out*.old")}
    assert left == {".out.b.7.old"}
    # A kill later on leaves the older table beside the new one.
    out.with_name(f".out.{child}.old").mkdir()
    assert build("lines", root=lines, out=out).digest == old
    assert {path.name for path in tmp_path.glob(".out*.old")} == left


def test_a_lock_names_its_owner(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "lock"),
        pytest.raises(LockedError, match=f"process {os.getpid()} on "),
        locked(tmp_path / "lock"),
    ):
        pass
    with locked(tmp_path / "lock"):  # free again
        pass


def test_a_builder_that_is_not_written_says_so() -> None:
    class Empty(Builder):
        name = "empty"

    with pytest.raises(NotImplementedError, match=r"Empty\.conversations"):
        list(Empty().batches(Path()))


def test_gather_reports_the_rules_that_rows_break() -> None:
    def found() -> Iterator[Any]:
        yield Conversation(id="a", messages=(Message.of("user", "?"),))
        yield Conversation(id="b", messages=(Message.of("user", "?"), Message.of("assistant", "!")))

    (batch,) = Lines().gather(found())
    assert batch.rows.column("id").to_pylist() == ["lines/b"]
    assert [(one.reason, one.record) for one in batch.dropped] == [("roles", "a")]
