"""Each thing is done once, by this process or by another."""

from __future__ import annotations

import os
import time
from collections import Counter

import pytest

from vision_ift._errors import RecordError, WorkerError
from vision_ift._export.shared import call_on_each


def answer(number: int) -> tuple[int, int]:
    time.sleep(0.02)
    return number, os.getpid()


def fail_there(parent: int) -> int:
    if os.getpid() != parent:
        raise RecordError("a picture", reason="bad_image")
    time.sleep(0.05)
    return parent


def die_there(parent: int) -> int:
    if os.getpid() != parent:
        os._exit(3)
    time.sleep(0.05)
    return parent


def test_each_thing_is_done_once_and_this_process_is_one_of_them() -> None:
    answers = list(call_on_each(answer, range(150), jobs=3))
    assert sorted(number for number, _ in answers) == list(range(150))
    by = Counter(process for _, process in answers)
    assert by[os.getpid()] > 0
    assert 1 < len(by) <= 3
    assert list(call_on_each(answer, [], jobs=2)) == []
    assert [number for number, _ in call_on_each(answer, [4, 5], jobs=1)] == [4, 5]


def test_an_error_elsewhere_is_the_same_error_here() -> None:
    with pytest.raises(RecordError, match="a picture"):
        list(call_on_each(fail_there, [os.getpid()] * 200, jobs=2))


def test_a_process_that_is_killed_is_said() -> None:
    with pytest.raises(WorkerError, match="one of 2 processes was killed"):
        list(call_on_each(die_there, [os.getpid()] * 200, jobs=2))


def test_a_process_that_cannot_be_started_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor.submit", refuse)
    with pytest.raises(WorkerError, match="does not start 2 processes"):
        list(call_on_each(answer, [1], jobs=2))
