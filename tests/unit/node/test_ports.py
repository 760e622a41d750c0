"""Which instances a program waits for at a shared TCP port, and for how long."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rescoldo.model.errors import StartFailed, StartTimeout
from rescoldo.model.instance import Launch
from rescoldo.model.names import InstanceId, function_id
from rescoldo.node.instances import left_ports
from rescoldo.node.instances.notes import Note
from rescoldo.node.instances.supervised import Supervised
from rescoldo.node.output.output import Output
from rescoldo.node.output.pump import Pump
from rescoldo.node.processes.processes import Watched
from rescoldo.node.sockets import program_port
from rescoldo.node.sockets.given_socket import GivenSocket
from rescoldo.node.sockets.probe import is_free
from rescoldo.node.sockets.program_port import ProgramPort

FN, OTHER = function_id("fn"), function_id("other")
Make = Callable[..., Supervised]


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    """A listener that holds a port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def order(listener: socket.socket, **more: object) -> tuple[Launch, str]:
    host, port = listener.getsockname()
    launch = Launch(InstanceId("new"), FN, "digest", upstream=f"tcp:{port}", ready_timeout=5.0)
    return replace(launch, **more), f"{host}:{port}"  # type: ignore[arg-type]


def at(launch: Launch, address: str) -> ProgramPort:
    """The endpoint of a program on the host of `address`."""
    return ProgramPort(launch, address.rpartition(":")[0], None)


@pytest.fixture
async def make(tmp_path: Path) -> object:
    """Make an instance at an address; its process is this one, or none."""
    made: list[Supervised] = []

    def instance(launch: Launch, address: str, *, ready: bool = True, running: bool = True) -> Supervised:
        process = Watched(os.getpid(), os.pidfd_open(os.getpid())) if running else None
        output = Output.create(tmp_path / f"log{len(made)}", None, lambda _: None, launch.log_rate, Pump())
        note = Note(replace(launch, instance=InstanceId("old")), None, address, ready=ready)
        endpoint = at(launch, address)
        made.append(Supervised(note, tmp_path / "note.json", output, endpoint, str(tmp_path), process=process))
        made[-1].ready_at = 1.0 if ready else 0.0
        return made[-1]

    yield instance
    for one in made:
        if one.process is not None:
            one.process.close()
        one.output.close()


def end(instance: Supervised) -> None:
    """Let the instance's process be gone."""
    assert instance.process is not None
    instance.process.close()
    instance.process = None


async def test_a_running_instance_keeps_its_port_and_is_named(taken: socket.socket, make: Make) -> None:
    launch, address = order(taken)
    old = make(replace(launch, function=OTHER), address)
    for successor in (True, False):
        with pytest.raises(StartFailed, match=r"of other\.openfaas-fn"):
            at(launch, address).leavers([old], successor=successor)
    assert at(replace(launch, upstream="tcp:1"), address).leavers([old], successor=False) == []


async def test_only_a_successor_takes_the_port_of_its_own_function(taken: socket.socket, make: Make) -> None:
    launch, address = order(taken)
    old = make(launch, address)
    assert at(launch, address).leavers([old], successor=True) == [old]
    with pytest.raises(StartFailed):
        at(launch, address).leavers([old], successor=False)


@pytest.mark.parametrize("how", ["stopped", "ended", "lost"])
async def test_a_leaving_instance_is_waited_for(taken: socket.socket, make: Make, how: str) -> None:
    launch, address = order(taken)
    old = make(replace(launch, function=OTHER), address, running=how != "ended")
    if how == "stopped":
        old.ending = asyncio.create_task(asyncio.sleep(0))
    if how == "lost":
        old.ready_at = 0.0
    assert at(launch, address).leavers([old], successor=False) == [old]


async def test_a_start_continues_when_the_port_is_released_even_if_the_process_still_runs(
    taken: socket.socket, make: Make
) -> None:
    launch, address = order(taken)
    waiting = asyncio.create_task(at(launch, address).take_over([make(launch, address)]))
    await asyncio.wait({waiting}, timeout=2 * program_port.DYING_SECONDS)
    assert not waiting.done()
    taken.close()
    assert await waiting > 0


async def test_a_free_port_is_not_taken_before_an_instance_stopped_during_its_start_has_ended(
    taken: socket.socket, make: Make
) -> None:
    launch, address = order(taken)
    taken.close()
    old = make(launch, address, ready=False)
    waiting = asyncio.create_task(at(launch, address).take_over([old]))
    await asyncio.wait({waiting}, timeout=0.1)
    assert not waiting.done()
    old.gone = True
    await waiting


async def test_the_wait_ends_with_the_ready_timeout(taken: socket.socket, make: Make) -> None:
    launch, address = order(taken, ready_timeout=0.1)
    with pytest.raises(StartTimeout, match="the previous instance still has port"):
        await at(launch, address).take_over([make(launch, address)])


async def test_a_process_that_outlives_its_instance_soon_counts_as_foreign(
    taken: socket.socket, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_port, "DYING_SECONDS", 0.05)
    launch, address = order(taken)
    old = make(launch, address)
    waiting = asyncio.create_task(at(launch, address).take_over([old]))
    await asyncio.wait({waiting}, timeout=0.1)
    assert not waiting.done()
    end(old)
    with pytest.raises(StartFailed, match="is taken by a process of this machine"):
        await waiting


async def test_a_port_without_a_listener_is_left_to_the_program(
    taken: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_port, "DYING_SECONDS", 0.05)
    taken.close()
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # without SO_REUSEADDR, and not listening
        launch, address = order(bound)
        await at(launch, address).take_over([])


async def test_closed_connections_do_not_block_a_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        launch, address = order(listener)
        with socket.create_connection(listener.getsockname()) as client:
            listener.accept()[0].close()  # the server closes first, so that TIME_WAIT is on its side
            client.recv(1)
    assert await at(launch, address).take_over([]) < program_port.DYING_SECONDS


async def test_no_start_waits_for_a_unix_socket(make: Make, taken: socket.socket, tmp_path: Path) -> None:
    launch, address = order(taken, upstream="inherited")
    given = GivenSocket(tmp_path / "s", privileged=False)
    assert given.leavers([make(launch, given.address), make(launch, address)], successor=False) == []
    assert await given.take_over([]) == 0.0


# -- ports that programs abandoned


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("free", "told"),
    [("0000000", False), ("0011011", False), ("0111000", True), ("0001111", True)],
    ids=["it serves", "it restarts its server", "it has left it", "it has left it late"],
)
async def test_a_program_that_has_not_listened_at_its_port_for_a_while_is_reported(
    taken: socket.socket, make: Make, monkeypatch: pytest.MonkeyPatch, free: str, told: bool
) -> None:
    launch, address = order(taken)
    program, looks, left = make(launch, address), iter(free), list[Supervised]()
    monkeypatch.setattr(left_ports, "is_free", lambda _: next(looks) == "1")
    looking = asyncio.create_task(left_ports.report_left(lambda: [] if left else [program], left.append))
    await asyncio.wait({looking}, timeout=len(free) * left_ports.LOOK_SECONDS + 0.5)
    looking.cancel()
    assert left == ([program] if told else [])


def test_a_port_is_free_without_a_listener(taken: socket.socket) -> None:
    assert not is_free(taken.getsockname())
    address = taken.getsockname()
    taken.close()
    assert is_free(address)
