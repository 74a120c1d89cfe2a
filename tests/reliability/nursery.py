"""A process that has everything imported, and forks an export or a naive writer in milliseconds.

Run as ``python -m tests.reliability.nursery`` it takes orders, one JSON object a line, and answers
each with one line. A child is the real command line (``vision_ift._cli.main``) in a process and a
session of its own; only the second that the imports would take is saved, so that faults hit the
work and not the start of the interpreter.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).parent

#: Where Debian's libfiu keeps the library that makes POSIX calls fail on demand.
FIU = Path("/usr/lib/fiu/fiu_posix_preload.so")

#: ``PR_SET_PDEATHSIG`` of ``linux/prctl.h``: no writer outlives the tests that started it.
_DIE_WITH_PARENT = 1

#: How often, and how long in seconds, a nursery may try to start.
_STARTS = 6
_START_SECONDS = 12.0

#: libfiu's lock and threads that start meanwhile do not go together.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "ARROW_IO_THREADS": "1"}

#: Whoever takes longer hangs.
LIMIT_SECONDS = 120.0


class Child:
    """One forked writer, or one process started from scratch (``parent`` is then ``None``)."""

    def __init__(self, pid: int, out: Path, parent: Nursery | None, process: Any = None) -> None:
        self.pid = pid
        self.log = out
        self._parent = parent
        self._process = process
        self.code: int | None = None

    def poll(self) -> int | None:
        """Give the exit code, or minus the signal's number; ``None`` while it runs."""
        if self.code is None:
            if self._parent is None:
                self.code = self._process.poll()
            else:
                self.code = self._parent.ask({"poll": self.pid})
        return self.code

    def wait(self) -> int:
        """Wait for the end; one that hangs is killed and is an error of the test."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"process {self.pid} hangs; it said: {self.said}")
            time.sleep(0.001)
        assert self.code is not None
        return self.code

    def kill(self, *, alone: bool = False) -> bool:
        """Kill it with -9, with its workers or alone; say whether it was still running."""
        running = self.poll() is None
        if running or not alone:
            with contextlib.suppress(ProcessLookupError):
                if alone:
                    os.kill(self.pid, signal.SIGKILL)
                else:
                    os.killpg(self.pid, signal.SIGKILL)
        if running:
            self.wait()
        return running

    def end_workers(self) -> None:
        """Kill the processes that a killed parent left behind."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def go(self) -> None:
        """Let a child that was started with ``wait`` begin."""
        os.kill(self.pid, signal.SIGUSR1)

    @property
    def said(self) -> str:
        """What it printed on either stream."""
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""


@contextlib.contextmanager
def removed_at_death(folder: Path, *, mounts: Path | None = None) -> Iterator[None]:
    """Unmount and remove a folder when this process ends, also where it is killed.

    A shell waits for the end of a pipe that only this process holds; whoever ends well has removed
    the folder by then.
    """
    script = 'cat; [ -z "$2" ] || umount -l "$2"; rm -rf --one-file-system "$1"'
    with subprocess.Popen(
        ["sh", "-c", script, "sh", str(folder), str(mounts or "")],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ):
        yield


class Nursery:
    """The parent of many short-lived writers.

    Args:
        folder: Where what they print is kept.
        preload: A shared library to load before all others (libfiu's).
    """

    def __init__(self, folder: Path, *, preload: Path | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._count = 0
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(HERE.parent.parent),
            "HF_HUB_OFFLINE": "1",
            **({"LD_PRELOAD": str(preload), **_ONE_THREAD} if preload is not None else {}),
        }
        for _ in range(_STARTS):
            self._server = self._started()
            if self._answers(_START_SECONDS):
                break
            self.__exit__(None, None, None)  # libfiu now and then stops a process that imports
        self.ask({})

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=self._environment,
            cwd=HERE.parent.parent,
        )

    def _answers(self, seconds: float) -> bool:
        assert self._server.stdout is not None
        return bool(select.select([self._server.stdout], [], [], seconds)[0])

    def __enter__(self) -> Nursery:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.close()
        try:
            self._server.wait(2)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        self._server.stdout.close()

    def ask(self, order: dict[str, Any]) -> Any:
        """Send one order and give the answer."""
        assert self._server.stdin is not None and self._server.stdout is not None
        if order:
            self._server.stdin.write(json.dumps(order).encode() + b"\n")
        if not self._answers(LIMIT_SECONDS):
            raise TimeoutError(f"the nursery does not answer to {order}")
        return json.loads(self._server.stdout.readline())

    def command(
        self,
        arguments: Sequence[str | Path],
        *,
        wait: bool = False,
        file_bytes: int = 0,
        blind: bool = False,
        failing: Sequence[tuple[str, int, float]] = (),
        seed: int = 0,
    ) -> Child:
        """Fork ``vision-ift`` with these arguments.

        Args:
            arguments: What stands behind ``vision-ift``.
            wait: Wait for :meth:`Child.go` before the first line of it runs.
            file_bytes: The size beyond which no file may grow; 0 for no limit.
            blind: The system says that the disk is empty, as it does where a quota holds.
            failing: Calls that fail at random: libfiu's name, errno, probability.
            seed: Decides which.
        """
        return self._start(
            {
                "argv": [str(one) for one in arguments],
                "wait": wait,
                "file_bytes": file_bytes,
                "blind": blind,
                "failing": list(failing),
                "seed": seed,
            }
        )

    def naive(
        self,
        name: str,
        arguments: Sequence[str | Path],
        *,
        wait: bool = False,
        file_bytes: int = 0,
        failing: Sequence[tuple[str, int, float]] = (),
        seed: int = 0,
    ) -> Child:
        """Fork a function of ``naive.py`` or ``training.py``; the rest as for :meth:`command`."""
        return self._start(
            {
                "call": name,
                "argv": [str(one) for one in arguments],
                "wait": wait,
                "file_bytes": file_bytes,
                "failing": list(failing),
                "seed": seed,
            }
        )

    def real(self, arguments: Sequence[str | Path]) -> Child:
        """Start ``python -m vision_ift`` from scratch, imports and all."""
        log = self._log()
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "vision_ift", *map(str, arguments)],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
        return Child(process.pid, log, None, process)

    def _start(self, order: dict[str, Any]) -> Child:
        log = self._log()
        pid = self.ask({"log": str(log), **order})
        return Child(pid, log, self)

    def _log(self) -> Path:
        self._count += 1
        return self.folder / f"{self._count:06d}.log"


def _serve() -> None:
    for name in (
        "vision_ift._cli.main",
        "vision_ift._export.export",
        "vision_ift._plan.summary",
        "vision_ift._build",
        "vision_ift.builders.llava",
        "tests.reliability.naive",
        "tests.reliability.training",
        "vision_ift._stream.stream",
        "vision_ift._cli.data",
        "encodings.idna",
        "rich.traceback",
        "multiprocessing.popen_spawn_posix",
        "concurrent.futures.process",
        "pyarrow.parquet",
        "duckdb",
    ):
        importlib.import_module(name)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})  # children wait for it
    import typer

    from vision_ift import _registry
    from vision_ift._cli.main import app

    typer.main.get_command(app)  # what is read and imported at the first use, once
    _registry.find("llava")
    sys.stdout.write("null\n")  # ready
    sys.stdout.flush()
    for line in sys.stdin:
        order = json.loads(line)
        if "poll" in order:
            pid, status = os.waitpid(order["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if answer == 0:
                _be(order)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _be(order: dict[str, Any]) -> None:
    """Be the child: never returns."""
    os.setsid()
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, number in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, number)
    code = 70
    try:
        if order["wait"]:
            signal.sigwait({signal.SIGUSR1})
        _arrange(order)
        sys.argv = ["vision-ift", *order["argv"]]
        if "call" in order:
            from tests.reliability import naive, training

            module = naive if hasattr(naive, order["call"]) else training
            getattr(module, order["call"])(*order["argv"])
            code = 0
        else:
            from vision_ift._cli.main import main

            main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException as error:  # noqa: BLE001 - the child must end here, whatever it was
        import traceback

        traceback.print_exception(error)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)


def _arrange(order: dict[str, Any]) -> None:
    """Set up what is to go wrong in this child."""
    if order.get("file_bytes"):
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_bytes"], hard))
    if order.get("blind"):
        usage = shutil.disk_usage("/")
        shutil.disk_usage = lambda path: usage._replace(free=1 << 60)
    if order.get("failing"):
        fiu = ctypes.CDLL("libfiu.so.0")
        fiu.fiu_init(0)
        fiu.fiu_set_prng_seed(order["seed"])
        fiu.fiu_enable_random.argtypes = [
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_uint,
            ctypes.c_float,
        ]
        for name, error, probability in order["failing"]:
            fiu.fiu_enable_random(name.encode(), 1, error, 0, probability)


if __name__ == "__main__":
    _serve()
