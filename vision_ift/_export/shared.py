"""Shards by several processes, of which this one is the first.

A process takes half a second to start and to import, in which this one writes shards already: an
export of some gigabytes would otherwise be over before its helpers are of use.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from vision_ift._errors import WorkerError

T = TypeVar("T")
R = TypeVar("R")

_HINT = "run the same command again with fewer --jobs; what is finished is kept"


def call_on_each(function: Callable[[T], R], things: Sequence[T], *, jobs: int) -> Iterator[R]:
    """Yield ``function(thing)`` for each thing, in any order, by ``jobs`` processes with this one.

    Whoever is free takes the next thing. Function and things must pickle where ``jobs`` > 1.

    Raises:
        WorkerError: A process was killed, or could not be started.
    """
    if jobs == 1:
        yield from map(function, things)
        return
    left = deque(things)
    answers: queue.SimpleQueue[Future[R]] = queue.SimpleQueue()
    pool = ProcessPoolExecutor(jobs - 1, mp_context=multiprocessing.get_context("spawn"))

    def hand_out() -> None:
        try:
            thing = left.popleft()
        except IndexError:
            return
        try:
            pool.submit(function, thing).add_done_callback(take_back)
        except BaseException:
            left.appendleft(thing)
            raise

    def take_back(future: Future[R]) -> None:
        if not future.cancelled() and future.exception() is None:
            with contextlib.suppress(OSError, RuntimeError):  # then the others do what is left
                hand_out()
        answers.put(future)

    try:
        try:
            for _ in range(jobs - 1):
                hand_out()
        except OSError as error:
            raise WorkerError(
                f"the system does not start {jobs} processes: {error.strerror}", hint=_HINT
            ) from error
        yield from _here_and_there(function, left, answers, len(things))
    except BrokenProcessPool:
        raise WorkerError(
            f"one of {jobs} processes was killed from outside, perhaps for want of memory",
            hint=_HINT,
        ) from None
    finally:  # also when the caller stops early or a thing fails: no process is left behind
        left.clear()
        pool.shutdown(wait=True, cancel_futures=True)


def _here_and_there(
    function: Callable[[T], R],
    left: deque[T],
    answers: queue.SimpleQueue[Future[R]],
    count: int,
) -> Iterator[R]:
    """Yield what others answered; while they have not, do what is left here."""
    for _ in range(count):
        if answers.empty():
            try:
                thing = left.popleft()
            except IndexError:
                yield answers.get().result()
            else:
                yield function(thing)
        else:
            yield answers.get().result()
