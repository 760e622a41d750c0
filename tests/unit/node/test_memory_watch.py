"""The watch over instances' memory, on virtual time and with figures of the test's own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest

from rescoldo.isolation.cgroups import MOST_PIDS
from rescoldo.isolation.container import Memory
from rescoldo.model.errors import Busy
from rescoldo.model.instance import Launch
from rescoldo.model.names import FunctionId, InstanceId, function_id
from rescoldo.node.instances.brake import LONGEST_HOLD
from rescoldo.node.instances.fork_watch import ForkWatch
from rescoldo.node.instances.memory_watch import (
    GROWTH,
    MANY_FORKS,
    MOST_STRAYS,
    RECOUNT_SECONDS,
    SCAN_SECONDS,
    MemoryWatch,
)
from rescoldo.node.instances.roster import Roster
from rescoldo.node.instances.supervised import Supervised
from rescoldo.node.processes.footprints import STRAYS, Footprint, Footprints
from rescoldo.node.processes.processes import Watched, read_stat
from rescoldo.policy.memory import SHORTEST_PAUSE

pytestmark = pytest.mark.looptime
MIB = 2**20


@dataclass
class Instance:
    """What the watch sees of a `Supervised`; its process sleeps."""

    note: SimpleNamespace
    process: Watched | None
    serves: bool = True
    has_room: bool = True
    condemned: str = ""

    @property
    def function(self) -> FunctionId:
        return cast(FunctionId, self.note.launch.function)


@dataclass
class World:
    """A roster, a container and a reader of /proc in one."""

    limit: int = 500
    contained: bool = True
    platform: int = 100
    sizes: dict[int, int] = field(default_factory=dict)  # MiB by pid
    instances: list[Instance] = field(default_factory=list)
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)
    shown: dict[int, int] = field(default_factory=dict)  # where it is not what the container uses
    kin: dict[int, tuple[int, ...]] = field(default_factory=dict)  # pids of an instance's other processes
    forks: int = 100  # pid of the newest process
    scans: list[float] = field(default_factory=list)

    def __iter__(self) -> object:
        return iter(list(self.instances))

    def memory(self) -> Memory:
        return Memory(self.limit * MIB, (self.platform + sum(self.sizes.values())) * MIB, self.contained)

    def measure(
        self, leaders: Mapping[int, int], *, exact: bool = False, ours: Collection[int] = ()
    ) -> dict[int, Footprint]:
        self.scans.append(asyncio.get_running_loop().time())
        sizes = {pid: (self.sizes | self.shown)[pid] * MIB for pid in leaders}
        found = {pid: Footprint(size, size, (pid, *self.kin.get(pid, ()))) for pid, size in sizes.items()}
        strays = [pid for pid in self.sizes if pid not in leaders and pid not in ours and self.lives(pid)]
        if strays:
            size = sum(self.sizes[pid] for pid in strays) * MIB
            found[STRAYS] = Footprint(size, size, tuple(strays))
        return found

    def newest(self) -> int:
        return self.forks

    def lives(self, pid: int) -> bool:
        return any(child.pid == pid and child.poll() is None for child in self.children)

    def add_stray(self, size: int) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(["sleep", "600"])
        self.children.append(child)
        self.sizes[child.pid] = size
        return child

    def add(self, name: str, size: int, limit: int = 0) -> Instance:
        child = subprocess.Popen(["sleep", "600"])
        self.children.append(child)
        process = Watched(child.pid, os.pidfd_open(child.pid))
        self.sizes[child.pid] = size
        made = Instance(SimpleNamespace(launch=launch(name, limit), pid=child.pid), process)
        self.instances.append(made)
        return made

    def ended(self, instance: Instance) -> bool:
        """Wait for the end of a killed process, in real time."""
        child = next(child for child in self.children if child.pid == instance.process.pid)
        return child.wait(10) < 0

    def resize(self, instance: Instance, size: int) -> None:
        self.sizes[instance.process.pid] = size


def launch(name: str, limit: int = 0) -> Launch:
    return Launch(InstanceId(f"{name}-1"), function_id(name), "", memory_limit=limit * MIB)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    for instance in made.instances:
        if instance.process is not None:
            instance.process.close()
    for child in made.children:
        child.kill()
        child.wait()


class Forks:
    """Stands in for a `ForkWatch` whose instances do not fork."""

    def before_scan(self) -> None: ...

    def scanned(self, found: Mapping[int, int]) -> None: ...

    def is_full(self, pid: int, processes: int) -> bool:
        return False


def watch(world: World, forks: Forks | None = None) -> MemoryWatch:
    asked = cast(ForkWatch | None, forks)
    return MemoryWatch(cast(Roster, world), cast(Footprints, world), world.memory, cpus=2, forks=asked)


async def admit(watching: MemoryWatch, world: World, name: str) -> Instance:
    """Do as `Starts`: an instance enters the roster, and starts when it has room."""
    made = world.add(name, 0)
    made.serves, made.has_room = False, False
    await watching.take_room(cast(Supervised, made))
    return made


async def test_an_instance_above_its_limit_is_killed_and_the_reason_reads_as_a_cgroups(world: World) -> None:
    big, small = world.add("big", 65, limit=64), world.add("small", 60, limit=64)
    watch(world).poll()
    assert world.ended(big)
    assert big.condemned == "out of memory: it needed more than its limit of 64 MiB"
    assert not small.condemned
    assert small.process.is_alive()


async def test_without_a_containers_limit_only_an_instances_own_limit_counts(world: World) -> None:
    world.contained, world.limit = False, 10
    big = world.add("big", 300)
    watching = watch(world)
    assert watching.poll() == SCAN_SECONDS
    await admit(watching, world, "other")
    assert not big.condemned


async def test_when_the_container_fills_the_one_that_grew_is_killed(world: World) -> None:
    model, bomb = world.add("model", 200), world.add("bomb", 10)
    watching = watch(world)
    watching.poll()
    world.resize(bomb, 160)
    assert watching.poll() == SHORTEST_PAUSE
    assert world.ended(bomb)
    assert bomb.condemned.startswith("out of memory: the container's limit of 500 MiB was almost reached")
    assert not model.condemned
    world.shown[bomb.process.pid] = 0  # the kernel frees its pages, and does not show them any more
    watching.poll()
    assert not model.condemned


async def test_as_many_are_killed_as_the_shortage_needs(world: World) -> None:
    bombs = [world.add(f"bomb{number}", 1) for number in range(4)]
    watching = watch(world)
    watching.poll()
    for number, bomb in enumerate(bombs):
        world.resize(bomb, 90 + number)  # together 366: 16 MiB above 450 with the platform's 100
    watching.poll()
    assert [bool(bomb.condemned) for bomb in bombs] == [False, False, False, True]
    world.platform = 200
    watching.poll()
    assert [bool(bomb.condemned) for bomb in bombs] == [False, False, True, True]


async def test_scans_are_rare_while_nothing_grows(world: World) -> None:
    world.add("calm", 10)
    running = asyncio.create_task(watch(world).run())
    await asyncio.sleep(3.0)
    assert 3.0 / SCAN_SECONDS - 1 <= len(world.scans) <= 3.0 / SCAN_SECONDS + 1
    world.platform += GROWTH // MIB + 1
    before = len(world.scans)
    await asyncio.sleep(0.05)
    assert len(world.scans) == before + 1
    running.cancel()


async def test_a_start_is_refused_when_it_does_not_fit_and_the_reason_names_the_remedy(world: World) -> None:
    world.add("calm", 310)  # with the platform's 100 there is room for 15
    watching = watch(world)
    watching.poll()
    text = r"410 of this container's 500 MiB .* fn.* needs 16 more .* raise the container's limit"
    with pytest.raises(Busy, match=text):
        await admit(watching, world, "fn")


async def test_figures_are_read_again_before_a_refusal(world: World) -> None:
    calm = world.add("calm", 310)
    watching = watch(world)
    watching.poll()
    world.resize(calm, 275)
    await admit(watching, world, "fn")


async def test_a_start_waits_while_only_what_was_promised_to_others_is_in_its_way(world: World) -> None:
    world.add("calm", 305)  # with the platform's 100 there is room for 20
    watching = watch(world)
    watching.poll()
    first = await admit(watching, world, "first")  # 16 MiB are promised
    second = asyncio.create_task(admit(watching, world, "second"))
    await asyncio.sleep(60)
    assert not second.done()
    world.resize(first, 4)
    first.serves = True  # it has taken 4 of 16: 409 + 16 of 425
    assert (await second).has_room


async def test_starts_that_wait_for_room_get_it_in_their_order(world: World) -> None:
    world.add("calm", 305)
    watching = watch(world)
    watching.poll()
    first = await admit(watching, world, "first")
    order = list[str]()

    async def wait(name: str) -> None:
        await admit(watching, world, name)
        order.append(name)

    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(wait(name)) for name in ("leaves", "second", "third")]
        await asyncio.sleep(1)
        waiting[0].cancel()
        await asyncio.sleep(1)
        assert order == []
        world.instances.remove(first)
        await asyncio.sleep(1)
        assert order == ["second"]
        world.instances = [one for one in world.instances if one.function != function_id("second")]
        await asyncio.sleep(1)
        assert order == ["second", "third"]


async def test_a_start_that_waits_is_refused_once_memory_is_really_used(world: World) -> None:
    calm = world.add("calm", 305)
    watching = watch(world)
    watching.poll()
    await admit(watching, world, "first")
    second = asyncio.create_task(admit(watching, world, "second"))
    await asyncio.sleep(1)
    world.resize(calm, 312)
    with pytest.raises(Busy, match="412 of this container's 500 MiB"):
        await second


async def test_what_starting_instances_will_still_take_is_promised_to_them(world: World) -> None:
    world.add("calm", 290)
    starting = world.add("starting", 6)  # expected to take 10 more
    starting.serves = False
    watching = watch(world)
    watching.poll()
    await admit(watching, world, "first")  # 396 + 10 + 16 of 425
    second = asyncio.create_task(admit(watching, world, "second"))
    await asyncio.sleep(1)
    assert not second.done()
    second.cancel()


async def test_an_instance_that_waits_for_room_is_promised_nothing(world: World) -> None:
    ended = world.add("ended", 0)
    ended.process, ended.has_room = None, False
    world.platform = 405  # 20 less than what starts may use
    watching = watch(world)
    watching.poll()
    await admit(watching, world, "other")


async def test_an_instance_is_expected_to_use_what_the_last_one_used_at_rest(world: World) -> None:
    model = world.add("model", 120)
    watching = watch(world)
    watching.poll()
    await asyncio.sleep(SCAN_SECONDS)
    world.resize(model, 250)  # during a call
    watching.poll()
    world.instances.clear()
    world.sizes.clear()
    await asyncio.sleep(SCAN_SECONDS)
    watching.poll()
    world.platform = 300
    other = await admit(watching, world, "model")  # 300 + 120 + 5 of 425
    world.instances.remove(other)
    world.platform = 340
    await asyncio.sleep(SCAN_SECONDS)
    watching.poll()
    with pytest.raises(Busy, match="needs 125 more"):
        await admit(watching, world, "model")


async def test_a_second_instance_right_after_the_first_is_expected_to_need_as_much(world: World) -> None:
    watching = watch(world)
    watching.poll()
    world.add("model", 180)  # with the platform's 100 there is room for 145
    with pytest.raises(Busy, match="needs 185 more"):
        await admit(watching, world, "model")


def is_stopped(instance: Instance) -> bool:
    """Whether the kernel has stopped its process; a signal takes a moment."""
    stat = read_stat(instance.process.pid)
    return stat is not None and stat.state == "T"


def until(condition: Callable[[], bool]) -> None:
    """Wait in real time."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


async def test_all_are_stopped_until_what_was_killed_has_freed_its_memory(world: World) -> None:
    calm, bomb = world.add("calm", 10), world.add("bomb", 10)
    watching = watch(world)
    watching.poll()
    world.resize(bomb, 350)
    watching.poll()
    assert world.ended(bomb)
    until(lambda: is_stopped(calm))
    watching.poll()
    until(lambda: is_stopped(calm))
    assert not calm.condemned
    world.resize(bomb, 0)
    watching.poll()
    until(lambda: not is_stopped(calm))


async def test_nothing_is_stopped_for_long(world: World) -> None:
    calm = world.add("calm", 10)
    world.platform = 480  # no instance is to blame
    watching = watch(world)
    running = asyncio.create_task(watching.run())
    await asyncio.sleep(LONGEST_HOLD + 0.05)
    until(lambda: not is_stopped(calm))
    running.cancel()


async def test_instances_go_on_when_the_watch_ends(world: World) -> None:
    calm, bomb = world.add("calm", 10), world.add("bomb", 350)
    running = asyncio.create_task(watch(world).run())
    await asyncio.sleep(0.01)
    assert bomb.condemned
    until(lambda: is_stopped(calm))
    running.cancel()
    await asyncio.wait([running])
    until(lambda: not is_stopped(calm))


async def test_what_a_killed_node_has_left_stopped_goes_on(world: World) -> None:
    calm = world.add("calm", 10)
    child = world.add_stray(1)
    world.kin[calm.process.pid] = (child.pid,)
    for pid in (calm.process.pid, child.pid):
        os.kill(pid, signal.SIGSTOP)
    until(lambda: is_stopped(calm))
    running = asyncio.create_task(watch(world).run())
    await asyncio.sleep(0)
    until(lambda: not is_stopped(calm))
    until(lambda: read_stat(child.pid).state != "T")
    running.cancel()


async def test_an_instance_with_too_many_processes_is_killed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb, calm = world.add("bomb", 10), world.add("calm", 10)
    child = world.add_stray(1)
    world.kin[bomb.process.pid] = (child.pid,) * MOST_PIDS
    lowered: dict[int, tuple[int, str]] = {}
    lower = lambda pid, policy, _: lowered.update({pid: (policy, bomb.condemned)})  # noqa: E731
    monkeypatch.setattr(os, "sched_setscheduler", lower)
    watch(world).poll()
    assert lowered == dict.fromkeys((bomb.process.pid, child.pid), (os.SCHED_IDLE, "")), "before it was killed"
    assert world.ended(bomb)
    assert bomb.condemned == f"it had more than {MOST_PIDS} processes"
    assert child.wait(10) < 0
    assert not calm.condemned


@pytest.mark.parametrize("asks", [True, False])
async def test_what_a_killed_instance_has_just_forked_is_looked_for(world: World, asks: bool) -> None:
    bomb = world.add("bomb", 10)
    world.kin[bomb.process.pid] = (bomb.process.pid,) * MOST_PIDS
    watching = watch(world, forks=Forks() if asks else None)
    while len(world.scans) < 2:
        await asyncio.sleep(watching.poll())
    first, second = world.scans
    assert second - first == pytest.approx(RECOUNT_SECONDS if asks else SHORTEST_PAUSE)


async def test_many_forks_make_a_scan_due_at_once(world: World) -> None:
    world.add("calm", 10)
    watching = watch(world)
    watching.poll()
    for more, scans in ((MANY_FORKS, 1), (MANY_FORKS + 1, 2)):
        await asyncio.sleep(0.01)
        world.forks += more
        watching.poll()
        assert len(world.scans) == scans


async def test_processes_that_outlive_their_instances_are_killed_when_they_are_many(world: World) -> None:
    calm = world.add("calm", 10)
    watching = watch(world)
    few = [world.add_stray(0) for _ in range(2)]
    watching.poll()
    assert all(child.poll() is None for child in few)
    many = [world.add_stray(0) for _ in range(MOST_STRAYS)]
    await asyncio.sleep(SCAN_SECONDS)
    watching.poll()
    assert all(child.wait(10) < 0 for child in many)
    assert not calm.condemned


async def test_of_instances_and_strays_those_that_use_most_are_killed(world: World) -> None:
    calm = world.add("calm", 20)
    watching = watch(world)
    watching.poll()
    stray = world.add_stray(340)
    watching.poll()
    assert stray.wait(10) < 0
    assert not calm.condemned
