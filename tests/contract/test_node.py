"""What every `Node` does: the real node process behind NodeClient, the fake, and several nodes as one."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rescoldo.kinds.protocol import NODE
from rescoldo.model.calls import FailedCall
from rescoldo.model.errors import Conflict, StartFailed, StartTimeout
from rescoldo.model.instance import Launch
from rescoldo.model.names import FunctionId, InstanceId
from rescoldo.node.by_kind import NodesByKind
from rescoldo.node.fake import FakeNode
from rescoldo.node.protocol import Exit, Node

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.real_node import RealNode, call, until

pytestmark = pytest.mark.slow

PRINTS = """
def handle(event, context):
    print(event.path.strip("/"))
    return "done"
"""
CRASHES = "print('about to fail')\nraise ValueError('broken at import')\n"
HANGS = "import time\nprint('sleeping')\ntime.sleep(60)\n"


class Real:
    """The real node; real handlers tell it how to behave."""

    def __init__(self, real: RealNode) -> None:
        self.node: Node = real.client
        self._real = real

    def launch(self, behaviour: str = PRINTS, name: str = "fn", **more: Any) -> Launch:
        return self._real.launch(behaviour, name, **more)

    async def print(self, launch: Launch, text: str) -> None:
        (running,) = [one for one in await self.node.instances() if one.launch == launch]
        await call(running.address, "/" + text)

    def lose(self, launch: Launch) -> None:
        """Kill the instance; no replacement can start, because its code is gone."""
        shutil.rmtree(self._real.settings.bundles / launch.digest)
        for pid in _pids_of(self._real, launch):
            os.kill(pid, signal.SIGKILL)



def _pids_of(real: RealNode, launch: Launch) -> list[int]:
    import json

    note = json.loads((real.settings.instance_state / f"{launch.instance}.json").read_text())
    return [note["pid"]]


class Fake:
    """The fake; its own methods tell it how to behave."""

    def __init__(self) -> None:
        self.fake = FakeNode()
        self.node: Node = self.fake
        self._count = 0

    def launch(self, behaviour: str = PRINTS, name: str = "fn", **more: Any) -> Launch:
        self._count += 1
        function = FunctionId(f"{name}.ns")
        if behaviour == CRASHES:
            self.fake.fail[function] = deque([StartFailed("ValueError: broken at import\nabout to fail")])
        self.fake.start_delay = 60.0 if behaviour == HANGS else 0.001
        return Launch(InstanceId(f"{name}-{self._count}"), function, "digest", **more)

    async def print(self, launch: Launch, text: str) -> None:
        self.fake.print(launch.function, launch.instance, text)

    def lose(self, launch: Launch) -> None:
        self.fake.lose(launch.instance)


class OneOfTwo(Fake):
    """A fake behind `NodesByKind`, beside another that has no instance of the test's kind."""

    def __init__(self) -> None:
        super().__init__()
        self.node = NodesByKind({"elsewhere": FakeNode(), NODE: self.fake})


World = Real | Fake
FAKES: dict[str, type[Fake]] = {"fake": Fake, "one of two": OneOfTwo}


@pytest.fixture(params=["real", *FAKES])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param in FAKES:
        yield FAKES[request.param]()
        return
    real = RealNode()
    try:
        await real.boot()
        yield Real(real)
    finally:
        await real.close()


async def test_a_nodes_description_stays_the_same_and_is_true(world: World) -> None:
    described = await world.node.describe()
    assert described == await world.node.describe()
    assert (described.architecture, described.system) == (platform.machine(), platform.system())
    assert described.isolation["level"]
    assert described.most_instances > 0
    running = await world.node.start(world.launch())
    assert running.address == described.instance_address.format(instance=running.launch.instance)


async def test_a_started_instance_is_listed_with_its_launch_and_socket(world: World) -> None:
    launch = world.launch(env={"A": "b"})
    addresses: list[str] = []
    running = await world.node.start(launch, addresses.append)
    assert running.launch == launch
    assert [running.address] == addresses
    assert await world.node.instances() == [running]


async def test_an_instance_that_exists_is_not_started_again(world: World) -> None:
    launch = world.launch()
    await world.node.start(launch)
    with pytest.raises(Conflict):
        await world.node.start(launch)
    assert len(await world.node.instances()) == 1


async def test_a_stopped_instance_is_gone_and_stopping_it_again_is_no_error(world: World) -> None:
    launch = world.launch()
    await world.node.start(launch)
    await world.node.stop(launch.instance)
    assert await world.node.instances() == []
    await world.node.stop(launch.instance)
    await world.node.stop(InstanceId("never-was"))


async def test_a_failed_start_raises_with_the_reason_and_the_last_lines(world: World) -> None:
    with pytest.raises(StartFailed, match=r"(?s)broken at import.*about to fail"):
        await world.node.start(world.launch(CRASHES))
    assert await world.node.instances() == []


async def test_a_start_that_takes_too_long_ends_with_start_timeout(world: World) -> None:
    with pytest.raises(StartTimeout, match=r"not ready after 0\.3 s"):
        await world.node.start(world.launch(HANGS, ready_timeout=0.3))
    assert await world.node.instances() == []


async def test_a_start_under_way_can_be_stopped(world: World) -> None:
    launch = world.launch(HANGS)
    starting = asyncio.create_task(world.node.start(launch))
    with pytest.raises(Conflict):  # the node knows the start
        while not await asyncio.sleep(0):
            await world.node.start(replace(launch))
    await world.node.stop(launch.instance)
    with pytest.raises(StartFailed, match="stopped while it was starting"):
        await starting


async def test_the_log_of_an_instance_can_be_read_whole_or_its_end(world: World) -> None:
    launch = world.launch()
    await world.node.start(launch)
    for text in ("one", "two", "three"):
        await world.print(launch, text)

    async def texts(tail: int | None, instance: str = "") -> list[str]:
        lines = world.node.logs(launch.function, tail=tail, since=None, follow=False, instance=instance)
        return [line.text async for line in lines]

    async def all_arrived() -> bool:
        return len(await texts(None)) == 3

    await until(all_arrived)
    assert await texts(None) == ["one", "two", "three"]
    assert await texts(2) == ["two", "three"]
    assert await texts(0) == []
    assert await texts(None, launch.instance) == ["one", "two", "three"]
    assert await texts(None, "another") == []


async def test_lines_before_since_are_left_out(world: World) -> None:
    launch = world.launch()
    await world.node.start(launch)
    await world.print(launch, "old")
    found: list[float] = []

    async def arrived() -> list[float]:
        lines = world.node.logs(launch.function, tail=None, since=None, follow=False)
        found[:] = [line.timestamp async for line in lines]
        return found

    await until(arrived)
    lines = world.node.logs(launch.function, tail=None, since=found[0] + 0.001, follow=False)
    assert [line async for line in lines] == []


async def test_a_follower_gets_the_kept_lines_and_then_new_ones(world: World) -> None:
    launch = world.launch()
    await world.node.start(launch)
    await world.print(launch, "before")
    lines = world.node.logs(launch.function, tail=None, since=None, follow=True)
    assert (await anext(lines)).text == "before"
    await world.print(launch, "after")
    line = await anext(lines)
    assert (line.text, line.instance, line.function) == ("after", launch.instance, launch.function)
    await lines.aclose()  # type: ignore[attr-defined]


async def test_forgetting_a_function_removes_its_lines(world: World) -> None:
    launch = world.launch()
    await world.node.start(launch)
    await world.print(launch, "something")

    async def kept() -> list[str]:
        lines = world.node.logs(launch.function, tail=None, since=None, follow=False)
        return [line.text async for line in lines]

    await until(kept)
    await world.node.forget(launch.function)
    assert await kept() == []


async def test_lines_of_a_forgotten_function_are_not_in_the_log_of_its_successor(world: World) -> None:
    old = world.launch()
    await world.node.start(old)
    await world.node.forget(old.function)
    await world.print(old, "last-words")
    new = world.launch()
    await world.node.start(new)
    await world.node.stop(old.instance)
    await world.print(new, "mine")

    async def kept() -> list[tuple[str, str]]:
        lines = world.node.logs(new.function, tail=None, since=None, follow=False)
        return [(line.instance, line.text) async for line in lines]

    await until(kept)
    assert await kept() == [(new.instance, "mine")]


async def test_explained_failures_are_kept_until_their_function_is_forgotten(world: World) -> None:
    launch, other = world.launch(), world.launch(name="other")
    await asyncio.gather(world.node.start(launch), world.node.start(other))
    calls = [FailedCall(one.function, one.instance, "id", time.time(), 504) for one in (launch, other)]
    await world.node.explain(calls, {})

    async def explained() -> bool:
        return bool(await world.node.failures(launch.function) and await world.node.failures(other.function))

    await until(explained)
    [found] = await world.node.failures(launch.function)
    assert found.reason
    assert replace(found, reason="") == calls[0]
    await world.node.forget(launch.function)
    assert await world.node.failures(launch.function) == []
    assert await world.node.failures(other.function)


async def test_usage_returns_memory_and_cpu_of_ready_instances(world: World) -> None:
    launch = world.launch()
    await world.node.start(launch)
    (usage,) = await world.node.usage(launch.function)
    assert usage.instance == launch.instance
    assert 2**20 < usage.memory < 64 * 2**20
    assert 0 <= usage.cpu_seconds < 5
    assert await world.node.usage(FunctionId("another.ns")) == []


async def test_spares_stay_within_the_most(world: World) -> None:
    pool = await world.node.spares()
    assert 0 <= pool.ready <= pool.most
    assert 0 <= pool.wanted <= pool.most


async def test_a_watcher_gets_lost_instances_but_not_stopped_ones(world: World) -> None:
    exits: list[Exit] = []
    reached = asyncio.Event()
    watching = asyncio.create_task(world.node.watch(exits.append, reached.set))
    await asyncio.wait_for(reached.wait(), 5)
    stopped, lost = world.launch(), world.launch()
    await world.node.start(stopped)
    await world.node.start(lost)
    await world.node.stop(stopped.instance)
    world.lose(lost)
    await until(lambda: exits)
    assert [(exit.instance, exit.function) for exit in exits] == [(lost.instance, lost.function)]
    assert exits[0].reason.startswith("signal 9 (SIGKILL)")
    assert await world.node.instances() == []
    watching.cancel()
