"""The answers to forks, with a listener of the test's own: a pipe is readable while questions wait."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import cast

import pytest

from rescoldo.isolation.cgroups import MOST_PIDS
from rescoldo.isolation.forks import Question
from rescoldo.node.instances import fork_watch as module
from rescoldo.node.instances.fork_watch import CROWD, CROWD_PAUSE, ForkWatch
from rescoldo.node.instances.supervised import Supervised
from rescoldo.node.processes.footprints import Footprints
from rescoldo.node.processes.kept_listeners import KeptListeners, Key

NOBODY = 2**22 + 1  # above the kernel's largest pid


@dataclass
class Listener:
    """Stands in for `ForkListener`."""

    reader: int
    writer: int
    asked: deque[Question] = field(default_factory=deque)
    allowed: list[int] = field(default_factory=list)

    def fileno(self) -> int:
        return self.reader

    def ask(self, pid: int = NOBODY, *, leaves_session: bool = False) -> None:
        self.asked.append(Question(len(self.asked), pid, leaves_session))
        os.write(self.writer, b"x")

    def receive(self) -> Question | None:
        os.read(self.reader, 1)
        return self.asked.popleft()

    def allow(self, question: Question) -> bool:
        self.allowed.append(question.pid)
        return True

    def waits(self, question: Question) -> bool:
        return True

    def close(self) -> None:
        os.close(self.reader)

    def end(self) -> None:
        """The last process under the filter ends."""
        os.close(self.writer)
        self.writer = -1


class World:
    """A watch over one instance, whose main process sleeps."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.child = subprocess.Popen(["sleep", "600"])
        process = SimpleNamespace(pid=self.child.pid, started=1, ended=asyncio.Event())
        self.instance = SimpleNamespace(process=process, condemned="", note=SimpleNamespace(asks=True))
        self.footprints = Footprints()
        self.watch = ForkWatch(self.footprints, KeptListeners())
        self.wanted = 0
        self.watch.on_full = self._want
        self.watch.begin(cast(Supervised, self.instance), self.listener.reader)

    def _want(self) -> None:
        self.wanted += 1

    def close(self) -> None:
        self.watch.close()
        self.child.kill()
        self.child.wait()
        if self.listener.writer >= 0:
            os.close(self.listener.writer)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    listener = Listener(*os.pipe())
    monkeypatch.setattr(module, "ForkListener", lambda _: listener)
    made = World(listener)
    yield made
    made.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


async def test_forks_below_the_limit_are_allowed_without_a_scan(world: World) -> None:
    for _ in range(20):
        world.listener.ask()
    await until(lambda: len(world.listener.allowed) == 20)
    assert world.wanted == 0


async def test_a_fork_at_the_limit_waits_for_a_scan_and_goes_on_if_processes_have_ended(world: World) -> None:
    world.watch.scanned({world.child.pid: MOST_PIDS - 1})
    world.listener.ask()
    world.listener.ask(NOBODY + 1)
    await until(lambda: world.wanted == 1)
    assert world.listener.allowed == [NOBODY]
    assert world.watch.is_full(world.child.pid, MOST_PIDS)
    assert not world.watch.is_full(world.child.pid, MOST_PIDS - 1)
    world.watch.before_scan()
    world.watch.scanned({world.child.pid: 3})
    await until(lambda: len(world.listener.allowed) == 2)


async def test_forks_that_a_scan_may_miss_count_until_they_are_made(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = dict.fromkeys(range(1, 11), "R")
    monkeypatch.setattr(module, "read_stat", lambda pid: SimpleNamespace(state=states[pid]))
    monkeypatch.setattr(os, "sched_setscheduler", lambda *_: None)
    for number in states:
        world.listener.ask(number)
    await until(lambda: len(world.listener.allowed) == 10)
    states[10] = "S"  # it has made its child, which the scan finds
    world.watch.before_scan()
    world.watch.scanned({world.child.pid: MOST_PIDS - 9})
    world.listener.ask()
    await until(lambda: world.wanted > 0)
    assert len(world.listener.allowed) == 10


@pytest.mark.parametrize("how", ["condemned", "ended", "replaced"])
async def test_a_fork_of_a_killed_or_ended_instance_ends_the_process_that_asks(world: World, how: str) -> None:
    if how == "condemned":
        world.instance.condemned = "it had more than 512 processes"
    elif how == "ended":
        world.instance.process.ended.set()
    else:
        world.instance.process = SimpleNamespace(pid=1)
    stray = subprocess.Popen(["sleep", "600"])  # noqa: ASYNC220 - it does not wait
    world.listener.ask(stray.pid)
    await until(lambda: stray.poll() is not None)
    assert stray.returncode == -signal.SIGKILL
    assert world.listener.allowed == []


async def test_a_process_outside_of_the_pid_namespace_is_never_killed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    world.instance.condemned = "it had more than 512 processes"
    world.listener.ask(0)
    world.listener.ask(NOBODY)
    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", lambda pid, _: killed.append(pid))
        await until(lambda: killed == [NOBODY])


async def test_a_session_that_a_process_makes_is_the_instances_and_counts_as_no_process(world: World) -> None:
    world.watch.scanned({world.child.pid: MOST_PIDS - 1})
    world.listener.ask(NOBODY, leaves_session=True)
    world.listener.ask(NOBODY)
    await until(lambda: len(world.listener.allowed) == 2)
    assert world.watch.sessions(world.child.pid) == [NOBODY]


async def test_beyond_a_crowd_each_process_that_forks_gets_the_lowest_priority(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lowered: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda pid, policy, _: lowered.append((pid, policy)))
    for _ in range(CROWD + 1):  # a scan decides whether these children live
        world.listener.ask(NOBODY)
    await until(lambda: world.wanted > 0)
    assert lowered == []
    world.watch.scanned({world.child.pid: CROWD + 1})
    world.listener.ask(NOBODY + 1)
    await until(lambda: NOBODY + 1 in world.listener.allowed)
    assert lowered[-1] == (NOBODY + 1, os.SCHED_IDLE)


async def test_forks_of_a_crowd_are_allowed_one_after_another(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    later: list[tuple[float, Callable[[], None]]] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_later", lambda seconds, call, *its: later.append((seconds, partial(call, *its))))
    world.watch.scanned({world.child.pid: CROWD + 1})
    for number in range(1, 4):
        world.listener.ask()
        world.listener.ask()
        await until(lambda number=number: len(later) == number)
        for _ in range(100):  # the next question is there, and must not be answered before the time
            await asyncio.sleep(0)
        assert len(world.listener.allowed) == number and len(later) == number
        seconds, go_on = later[-1]
        assert seconds == CROWD_PAUSE
        go_on()


async def test_a_crowd_that_ends_or_is_killed_while_its_forks_wait_is_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CROWD_PAUSE", 0)
    world.watch.scanned({world.child.pid: CROWD + 1})
    world.listener.ask()
    await until(lambda: len(world.listener.allowed) == 1)
    world.listener.end()
    await until(lambda: not is_open(world.listener.reader))


async def test_a_listener_is_closed_when_the_last_process_has_ended(world: World) -> None:
    world.listener.end()
    await until(lambda: not is_open(world.listener.reader))


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


async def test_an_adopted_instance_whose_listener_is_lost_is_told(world: World) -> None:
    lost = cast(Supervised, SimpleNamespace(note=SimpleNamespace(asks=True)))
    plain = cast(Supervised, SimpleNamespace(note=SimpleNamespace(asks=False)))
    successor = ForkWatch(world.footprints, KeptListeners())
    assert list(successor.regain({Key(1, 1): lost, Key(2, 2): plain})) == [lost]
    successor.close()
