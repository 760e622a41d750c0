"""The small ports of a controller: its processes, the edge's reload and its certificate, real and in memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest

from rescoldo.assembly.processes import SupervisedProcesses
from rescoldo.assembly.reload import EdgeReload
from rescoldo.control.fleet.growth import Reload
from rescoldo.control.observe.processes import PlatformProcess, Processes
from rescoldo.edge import certificate, config
from rescoldo.edge.protocol import EdgeState, LiveServer, Route
from rescoldo.model.errors import RescoldoError
from rescoldo.model.names import InstanceId, SlotName, function_id
from rescoldo.model.settings import Settings
from support.certificates import Authority, put_haproxy_on_path
from support.controller_ports import MemoryCertificate, MemoryProcesses, MemoryReload

FN = function_id("fn")
EMPTY = EdgeState((), ())
STATE = EdgeState(
    (Route(FN, SlotName("s1")),), (LiveServer(SlotName("s1"), InstanceId("one"), "unix@/run/x.sock", 3),)
)


# -- Processes


class Children(Protocol):
    """A platform whose processes start and end."""

    processes: Processes

    def start(self, name: str) -> int: ...

    def end(self, name: str) -> None: ...


class RealChildren:
    def __init__(self, folder: Path) -> None:
        settings = Settings(str(folder), str(folder))
        self.processes: Processes = SupervisedProcesses(settings)
        self._file = settings.children_file
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> int:
        self._children[name] = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self._file.write_text(json.dumps({one: child.pid for one, child in self._children.items()}))
        return self._children[name].pid

    def end(self, name: str) -> None:
        """End the process; the supervisor has not noted it yet."""
        self._children[name].communicate(b"\n")

    def close(self) -> None:
        for child in self._children.values():
            child.communicate()


class ChildrenInMemory:
    def __init__(self) -> None:
        self._memory = MemoryProcesses()
        self.processes: Processes = self._memory

    def start(self, name: str) -> int:
        pid = 1000 + len(self._memory.known)
        self._memory.known[name] = PlatformProcess(name, pid, 2**20)
        return pid

    def end(self, name: str) -> None:
        del self._memory.known[name]


@pytest.fixture(params=["real", "memory"])
def children(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Children]:
    with contextlib.ExitStack() as stack:
        if request.param == "memory":
            yield ChildrenInMemory()
        else:
            yield stack.enter_context(contextlib.closing(RealChildren(tmp_path)))


def test_running_returns_processes_while_they_run(children: Children) -> None:
    def told() -> list[tuple[str, int]]:
        found = children.processes.running()
        assert all(one.memory >= 0 for one in found)
        return [(one.name, one.pid) for one in found]

    assert told() == []
    edge, node = children.start("edge"), children.start("node")
    assert told() == [("edge", edge), ("node", node)]
    children.end("edge")
    assert told() == [("node", node)]
    children.end("node")
    assert told() == []


# -- Reload


class Supervisor(Protocol):
    """Gets the requests for another edge while it runs."""

    reload: Reload

    def leave(self) -> None: ...

    def come(self) -> None: ...

    async def asked(self, times: int) -> tuple[int, list[str]]:
        """Wait for exactly `times` requests; return the slots and the ids of instances of the last one."""
        ...


class RealSupervisor:
    """This process: it counts the signals that it gets."""

    def __init__(self, folder: Path) -> None:
        self._settings = Settings(str(folder), str(folder))
        self.reload: Reload = EdgeReload(self._settings)
        self._signals = 0

    def count(self) -> None:
        self._signals += 1

    def leave(self) -> None:
        self._settings.pid_file.unlink()

    def come(self) -> None:
        self._settings.pid_file.write_text(str(os.getpid()))

    async def asked(self, times: int) -> tuple[int, list[str]]:
        async with asyncio.timeout(5):
            while self._signals < times:
                await asyncio.sleep(0)
        assert self._signals == times
        text = config.config_file(self._settings).read_text()
        instances = [line.split()[1] for line in text.splitlines() if line.startswith("  server one ")]
        return int(self._settings.slots_file.read_text()), instances


class SupervisorInMemory:
    def __init__(self) -> None:
        self._memory = MemoryReload()
        self.reload: Reload = self._memory

    def leave(self) -> None:
        self._memory.answers = False

    def come(self) -> None:
        self._memory.answers = True

    async def asked(self, times: int) -> tuple[int, list[str]]:
        assert len(self._memory.slots) == times
        last = self._memory.states[-1]()
        return self._memory.slots[-1], [str(server.instance) for server in last.servers]


@pytest.fixture(params=["real", "memory"])
async def supervisor(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Supervisor]:
    if request.param == "memory":
        yield SupervisorInMemory()
        return
    real, loop = RealSupervisor(tmp_path), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, real.count)
    yield real
    loop.remove_signal_handler(signal.SIGHUP)


async def test_a_reload_passes_slots_and_state_to_the_next_edge(supervisor: Supervisor) -> None:
    supervisor.come()
    assert supervisor.reload(16, lambda: STATE) is True
    assert await supervisor.asked(1) == (16, ["one"])
    assert supervisor.reload(32, lambda: EMPTY) is True
    assert await supervisor.asked(2) == (32, [])


async def test_a_reload_without_a_supervisor_returns_false_and_succeeds_later(supervisor: Supervisor) -> None:
    supervisor.come()
    supervisor.leave()
    assert supervisor.reload(16, lambda: EMPTY) is False
    supervisor.come()
    assert supervisor.reload(16, lambda: STATE) is True
    assert await supervisor.asked(1) == (16, ["one"])


# -- renew_certificate


class Source(Protocol):
    """The place of the operator's certificate."""

    renew: Callable[[], bool]

    def replace(self) -> None: ...

    def spoil(self) -> None: ...

    def mend(self) -> None:
        """Put the certificate in use back."""
        ...

    def in_use(self) -> str: ...


class RealSource:
    def __init__(self, folder: Path) -> None:
        self._source, self._authority = folder / "bundle.pem", Authority(folder)
        self._settings = Settings(str(folder / "d"), str(folder / "r"), slots=5, tls_cert=str(self._source))
        (folder / "r" / "s").mkdir(parents=True)
        self.renew: Callable[[], bool] = partial(certificate.renew, self._settings)
        config.write(self._settings, 5)
        self._authority.pair("one", "DNS:fn.example").bundle(self._source)
        certificate.install(self._settings)

    def replace(self) -> None:
        self._authority.pair("two", "DNS:fn.example").bundle(self._source)

    def spoil(self) -> None:
        self._source.write_text("junk\n")

    def mend(self) -> None:
        self._source.write_text(self.in_use())

    def in_use(self) -> str:
        return self._settings.certificate.read_text()


class SourceInMemory:
    def __init__(self) -> None:
        self._memory = MemoryCertificate("one")
        self.renew: Callable[[], bool] = self._memory.renew

    def replace(self) -> None:
        self._memory.there = "two"

    def spoil(self) -> None:
        self._memory.there = ""

    def mend(self) -> None:
        self._memory.there = self._memory.in_use

    def in_use(self) -> str:
        return self._memory.in_use


@pytest.fixture(params=["real", "memory"])
def source(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    if request.param == "memory":
        return SourceInMemory()
    put_haproxy_on_path(tmp_path, monkeypatch)
    return RealSource(tmp_path)


def test_a_replaced_certificate_is_installed_once(source: Source) -> None:
    before = source.in_use()
    assert source.renew() is False
    source.replace()
    assert source.renew() is True
    assert source.in_use() != before
    assert source.renew() is False


def test_a_broken_certificate_raises_each_time_and_the_one_in_use_stays(source: Source) -> None:
    before = source.in_use()
    source.spoil()
    for _ in range(2):
        with pytest.raises((RescoldoError, OSError)):
            source.renew()
        assert source.in_use() == before
    source.mend()
    assert source.renew() is False
