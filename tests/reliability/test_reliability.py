"""The promises of RELIABILITY.md, each tried a few times; ``run.py`` tries them all the way."""

from __future__ import annotations

from collections.abc import Iterator

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


@pytest.fixture
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("small_world")
    with Nursery(folder / "logs") as nursery:
        yield syscalls.small(folder, nursery)


def test_a_killed_export_ends_in_the_same_bytes(world: World) -> None:
    demand(kills.trials(world, 20))


def test_killed_ranks_end_in_the_same_bytes(world: World) -> None:
    demand(ranks.trials(world, 3))


@needs(commands=("strace",))
def test_no_system_call_can_spoil_an_export(small_world: World) -> None:
    demand(syscalls.trials(small_world, 25))


@needs(commands=("mkfs.ext4", "mount"), root=True)
def test_a_power_cut_spoils_nothing(world: World) -> None:
    demand(power.trials(world, 8))


def test_a_disk_without_room_is_said_and_survived(world: World) -> None:
    demand(disk.trials(world, 5))


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
