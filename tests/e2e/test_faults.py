"""Faults around the platform. Others' warm calls do not notice, the error is clear, and all is well once the
cause is gone, without a restart."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator

import pytest

from live import Live
from matrix.client import Call, Client
from matrix.load import STEADY, Load
from matrix.world import ASLEEP, World

pytestmark = pytest.mark.slow

SLOW_START = "import time\ntime.sleep(1)\ndef handle(event, context):\n    return 'started'\n"


@pytest.fixture
def world() -> Iterator[World]:
    with Live() as live:
        world = World(live)
        world.prepare()
        world.settle()
        yield world


def failures(load: Load) -> list[str]:
    return [str(call) for call in load.calls if call.failed] + load.lost


# -- the edge is reloaded


async def reload_edge(world: World) -> None:
    """Have the edge reloaded; return when the new one serves and the old one takes no more."""
    before = world.live.pid("edge")
    os.kill(world.live.pid("supervisor"), signal.SIGHUP)
    deadline = time.monotonic() + 20
    while world.live.pid("edge") == before or not await asyncio.to_thread(world.live.answers):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_no_call_fails_while_the_edge_is_reloaded(world: World) -> None:
    async def reload_under_load() -> Load:
        load = Load(world)
        await load.start(STEADY)
        for _ in range(3):
            await reload_edge(world)
            await load.once(Call(ASLEEP, "GET", f"/function/{ASLEEP}", "cold"))
            await load.more(100)
        await load.stop()
        return load

    assert failures(asyncio.run(reload_under_load())) == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_call_held_at_the_moment_of_a_reload_is_answered(world: World, method: str) -> None:
    world.live.deploy("slow-start", SLOW_START)

    async def reload_in_hold() -> list[Call]:
        load = Load(world)
        held = Call("slow-start", method, "/function/slow-start", "cold")
        hold = asyncio.create_task(load.once(held, b"x" * 100_000))
        while not world.live.instances():
            await asyncio.sleep(0.01)
        await reload_edge(world)
        await hold
        return load.calls

    (held,) = asyncio.run(reload_in_hold())
    assert (held.outcome, held.body) == ("200", b"started")
    world.live.until(lambda: world.live.invocations("slow-start") == 1, "the call to be counted")


def test_an_idle_connection_from_before_a_reload_is_served_or_closed_cleanly(world: World) -> None:
    async def over_a_reload() -> list[Call]:
        calls: list[Call] = []
        clients = [Client(world.live.port, calls, kept=True) for _ in range(20)]
        for _ in range(2):
            for client in clients:
                await client.send(Call("warm-0", "GET", "/function/warm-0", "warm"))
            await reload_edge(world)
        for client in clients:
            await client.send(Call("warm-0", "GET", "/function/warm-0", "warm"))
            client.close()
        return calls

    calls = asyncio.run(over_a_reload())
    assert [str(call) for call in calls if call.failed] == []
