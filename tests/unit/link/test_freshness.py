"""When a worker's edge is told to refuse calls, on a clock of the test."""

from __future__ import annotations

from pathlib import Path

import pytest

from rescoldo.edge.admin import AdminSocket
from rescoldo.link.freshness import Freshness, FreshnessFiles
from rescoldo.model.errors import EdgeUnavailable

INF = float("inf")


class FakeAdmin(AdminSocket):
    """The variable of an edge's process."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere"))
        self.stale: bool | None = None
        self.away = False

    async def run(self, *commands: str) -> str:
        if self.away:
            raise EdgeUnavailable
        for command in commands:
            if command.startswith("set var proc.stale "):
                self.stale = {"bool(true)": True, "bool(false)": False}[command.split()[-1]]
        return "" if self.stale is None else f"proc.stale: type=bool value=<{int(self.stale)}>"


class World:
    """A worker with --max-stale 60s; `heard` is when control confirmed what this controller knows."""

    def __init__(self, folder: Path) -> None:
        self.files = FreshnessFiles(folder / "confirmed", folder / "stale")
        self.admin = FakeAdmin()
        self.now = 1000.0
        self.restart_controller()

    def restart_controller(self) -> None:
        self.heard = -INF
        self.freshness = Freshness(
            60.0, lambda: self.now - self.heard, self.files, self.admin, now=lambda: self.now
        )

    async def at(self, now: float) -> tuple[bool, bool]:
        """Look at that time; return whether the edge refuses calls, and whether the next one would begin so."""
        self.now = now
        await self.freshness.look()
        return bool(self.admin.stale), self.files.stale.exists()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


REFUSES, SERVES = (True, True), (False, False)


async def test_calls_are_refused_once_control_was_silent_for_longer_than_allowed(world: World) -> None:
    world.heard = 1000.0
    assert [await world.at(now) for now in (1000.0, 1060.0, 1060.1, 2000.0)] == [SERVES, SERVES, REFUSES, REFUSES]
    world.heard = 2000.5
    assert await world.at(2001.0) == SERVES


async def test_what_was_never_confirmed_is_too_old(world: World) -> None:
    assert await world.at(1001.0) == REFUSES
    world.heard = 1001.5
    assert await world.at(1002.0) == SERVES


async def test_the_next_controller_knows_when_control_was_last_heard_of(world: World) -> None:
    world.heard = 1000.0
    await world.at(1001.0)
    world.now = 1030.0
    world.restart_controller()
    assert [await world.at(now) for now in (1031.0, 1060.0, 1061.0)] == [SERVES, SERVES, REFUSES]
    world.restart_controller()
    assert await world.at(1062.0) == REFUSES


@pytest.mark.parametrize("text", ["", "another-boot 1029.0", "nonsense", "{boot} soon", "{boot} nan"])
async def test_a_record_of_another_boot_or_of_nothing_counts_for_nothing(world: World, text: str) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    world.files.confirmed.write_text(text.replace("{boot}", boot))
    world.now = 1030.0
    world.restart_controller()
    assert await world.at(1030.0) == REFUSES


async def test_a_new_process_of_the_edge_is_told_what_an_earlier_one_was_told(world: World) -> None:
    assert await world.at(1001.0) == REFUSES
    world.admin.stale = None
    assert await world.at(1002.0) == REFUSES


async def test_an_edge_that_is_away_begins_with_the_file(world: World) -> None:
    world.admin.away = True
    with pytest.raises(EdgeUnavailable):
        await world.at(1001.0)
    assert world.files.stale.exists()
    world.heard = 1002.0
    with pytest.raises(EdgeUnavailable):
        await world.at(1003.0)
    assert not world.files.stale.exists()
