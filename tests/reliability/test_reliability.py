"""The promises of RELIABILITY.md, each tried a few times; ``run.py`` tries them all the way.

Here every 12th system call of a commit is struck, there every one.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.needs import needs
from tests.reliability import (
    background,
    builds,
    cursors,
    damage,
    disk,
    kills,
    power,
    ranks,
    readers,
    syscalls,
    writers,
)
from tests.reliability.nursery import Nursery
from tests.reliability.outcome import demand
from tests.reliability.world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    with Nursery(folder / "logs") as nursery:
        yield World(folder, nursery)


@pytest.fixture(scope="module")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("small_world")
    with Nursery(folder / "logs") as nursery:
        yield syscalls.small(folder, nursery)


_KILLED = """
import os, sys
from pathlib import Path
from tests.reliability.disk import small_disk
from tests.reliability.nursery import Nursery

with small_disk("size=1m") as disk, Nursery(Path(sys.argv[1])) as nursery:
    child = nursery.command(["doctor"], wait=True)
    print(disk, child.pid, flush=True)
    os.kill(os.getpid(), 9)
"""


@needs(commands=("mount",), root=True)
def test_tests_that_are_killed_leave_nothing_behind(tmp_path: Path) -> None:
    top = Path(__file__).parent.parent.parent
    command = [sys.executable, "-c", _KILLED, str(tmp_path)]
    done = subprocess.run(command, cwd=top, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    disk, pid = done.stdout.split()
    for _ in range(1500):
        mounted = disk in Path("/proc/mounts").read_text("utf-8")
        if not (mounted or Path(disk).exists() or Path(f"/proc/{pid}").exists()):
            break
        time.sleep(0.02)
    else:
        pytest.fail(f"still there: {disk} or process {pid}")


def test_a_killed_export_ends_in_the_same_bytes(world: World) -> None:
    demand(kills.trials(world, 14))


def test_killed_ranks_end_in_the_same_bytes(world: World) -> None:
    demand(ranks.trials(world, 3))


@needs(commands=("strace",))
def test_a_kill_at_no_system_call_can_spoil_an_export(small_world: World) -> None:
    demand([syscalls.killed(small_world, 12)])


@needs(commands=("strace",))
def test_no_system_call_that_fails_can_spoil_an_export(small_world: World) -> None:
    demand([syscalls.failing(small_world, 12)])


@needs(commands=("strace",))
def test_names_are_given_to_what_is_durable(small_world: World) -> None:
    demand([syscalls.ordered(small_world)])


@needs(commands=("mkfs.ext4", "mount"), root=True)
def test_a_power_cut_spoils_nothing(world: World) -> None:
    demand(power.trials(world, 8))


def test_a_disk_without_room_is_said_and_survived(world: World) -> None:
    demand(disk.trials(world, 4))


def test_one_of_several_writers_wins(world: World) -> None:
    demand(writers.trials(world, 8))


def test_damage_is_found_and_repaired(world: World) -> None:
    demand(damage.trials(world, 28))


def test_readers_see_old_or_new(world: World) -> None:
    demand(readers.trials(world, 60))


@needs(commands=("strace", "fiu-run"))
def test_errors_in_the_background_spoil_nothing(world: World) -> None:
    demand(background.trials(world, 5))


def test_a_cursor_gives_every_row_once(world: World) -> None:
    demand(cursors.trials(world, 6))


def test_a_killed_build_makes_the_same_table(world: World) -> None:
    demand(builds.trials(world, 5))
