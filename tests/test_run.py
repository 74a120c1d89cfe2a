"""Answers come in order, whoever did the work."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from vision_ift._archives.archive import quote_member
from vision_ift._errors import UsageError, WorkerError
from vision_ift._pictures.images import safe_path
from vision_ift._run import here, local


def test_processes_give_the_same_answers_in_the_same_order() -> None:
    things = [f"a {n}" for n in range(50)]
    assert list(local(2)(quote_member, things)) == list(here(quote_member, things))


def test_only_a_few_things_are_under_way_at_once() -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield str(taken)

    answers = local(2)(quote_member, endless())
    assert [next(answers) for _ in range(5)] == ["1", "2", "3", "4", "5"]
    assert taken <= 5 + 2 * 2
    answers.close()  # type: ignore[attr-defined]  # it is a generator


def test_a_process_that_cannot_be_started_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor.submit", refuse)
    with pytest.raises(WorkerError, match="does not start 2 processes") as caught:
        list(local(2)(quote_member, ["a"]))
    assert caught.value.exit_code == 71


def test_an_error_in_a_process_is_the_same_error_here() -> None:
    with pytest.raises(OSError, match="leaves the root"):
        raise OSError(str(_error()))
    with pytest.raises(UsageError, match="jobs is 0"):
        local(0)


def _error() -> BaseException:
    try:
        list(local(2)(safe_path, ["a", "../b"]))
    except ValueError as error:
        return error
    raise AssertionError("nothing was raised")


def test_no_process_is_left_behind() -> None:
    before = set(os.listdir("/proc"))
    list(local(2)(quote_member, ["a"]))
    children = [
        pid
        for pid in set(os.listdir("/proc")) - before
        if pid.isdigit() and _parent(pid) == os.getpid()
    ]
    # The resource tracker of multiprocessing lives as long as this process.
    assert len(children) <= 1


def _parent(pid: str) -> int | None:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rsplit(")", 1)[1].split()[1])
    except OSError:
        return None
