"""Who calls a pure function on many things: this process, or several.

Everything heavy in this package is a pure function of one thing (a shard number, a chunk of a
file). A ``Run`` calls it on each and gives the answers back in order; which processes did the work
never shows in the answers.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol, TypeVar

from vision_ift._errors import UsageError, WorkerError

T = TypeVar("T")
R = TypeVar("R")


class Run(Protocol):
    """Calls ``function`` on each of ``things`` and yields the answers in their order.

    Where other processes are involved, the function and the things must pickle: functions of a
    module, ``functools.partial`` of one, plain data.
    """

    def __call__(self, function: Callable[[T], R], things: Iterable[T], /) -> Iterator[R]:
        """Yield ``function(thing)`` for each thing."""
        ...


def here(function: Callable[[T], R], things: Iterable[T], /) -> Iterator[R]:
    """Do the work in this process, one thing after the other.

    >>> list(here(abs, [-1, 2]))
    [1, 2]
    """
    return map(function, things)


def local(jobs: int) -> Run:
    """Give a :class:`Run` over ``jobs`` processes of this machine (1: this process).

    Processes are spawned, so a script that passes ``jobs`` > 1 needs the usual
    ``if __name__ == "__main__":``. At most ``2 * jobs`` things are under way at once, which bounds
    memory however many things there are.

    Raises:
        UsageError: ``jobs`` is below 1.
        WorkerError: While the answers are read: a process was killed, as the system does that has
            no memory left, or could not be started.
    """
    if jobs < 1:
        raise UsageError(f"jobs is {jobs}; give 1 or more")
    if jobs == 1:
        return here

    def run(function: Callable[[T], R], things: Iterable[T], /) -> Iterator[R]:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(jobs, mp_context=context)
        waiting: deque[Future[R]] = deque()
        try:
            for thing in things:
                try:
                    waiting.append(pool.submit(function, thing))
                except OSError as error:  # of starting a process; what is done in it comes later
                    raise WorkerError(
                        f"the system does not start {jobs} processes: {error.strerror}",
                        hint="run the same command again with fewer --jobs; what is finished is "
                        "kept",
                    ) from error
                if len(waiting) >= 2 * jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise WorkerError(
                f"one of {jobs} processes was killed from outside, perhaps for want of memory",
                hint="run the same command again with fewer --jobs; what is finished is kept",
            ) from None
        finally:  # also when the caller stops early or a thing fails: no process is left behind
            pool.shutdown(wait=True, cancel_futures=True)

    return run
