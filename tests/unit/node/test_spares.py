"""The pool of spares, with a zygote that starts plain processes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Callable

import pytest

from rescoldo.isolation.container import Container
from rescoldo.model.errors import StartFailed
from rescoldo.node.processes.processes import Ends
from rescoldo.node.zygotes import spares as module
from rescoldo.node.zygotes.spares import Order, Spares
from rescoldo.node.zygotes.start_queue import AT_ONCE, StartQueue
from rescoldo.node.zygotes.zygote import Forked
from rescoldo.policy import spares as policy


class Processes:
    """Stands in for the zygote and the sandboxes."""

    def __init__(self) -> None:
        self.children: list[subprocess.Popen[bytes]] = []
        self.speaks = True
        self.channels: list[socket.socket] = []

    async def fork(self, *, urgent: bool, unwanted: Callable[[Forked], None], folder: int | None = None) -> Forked:
        child = subprocess.Popen(["sleep", "60"])  # noqa: ASYNC220 - it does not wait
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.children.append(child)
        self.channels.append(theirs)
        if self.speaks and not urgent:
            theirs.send(b"ready")
        return Forked(child.pid, os.pidfd_open(child.pid), ours, f"sandbox-{child.pid}")

    async def remove(self, name: str) -> None:
        """Do nothing: no sandbox exists."""

    def limit(self, name: str, memory: int, cpu: int) -> None:
        """Do nothing: no limit applies."""

    def close(self) -> None:
        for child, channel in zip(self.children, self.channels, strict=True):
            child.kill()
            child.wait()
            channel.close()


@pytest.fixture
def start_queue() -> StartQueue:
    return StartQueue()


@pytest.fixture
async def made(monkeypatch: pytest.MonkeyPatch, start_queue: StartQueue) -> AsyncIterator[tuple[Spares, Processes]]:
    monkeypatch.setattr(policy, "HOLD", 0.3)
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(Container, "memory_is_scarce", lambda _: False)
    processes = Processes()
    pool = Spares(processes, processes, Ends(), start_queue, 2, 5)  # type: ignore[arg-type]
    filling = asyncio.create_task(pool.keep_filled())
    try:
        yield pool, processes
    finally:
        filling.cancel()
        await asyncio.wait({filling})
        await pool.close()
        processes.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def take(pool: Spares, count: int) -> None:
    """Take spares for concurrent wakes."""
    with contextlib.ExitStack() as wakes:
        for _ in range(count):
            wakes.enter_context(pool.wake())
        for _ in range(count):
            await pool.start(Order(b"{}", [], 0, 0), lambda *_: None)
            pool.served_a_wake()


@pytest.mark.slow
async def test_the_pool_grows_with_a_burst_up_to_its_maximum_and_shrinks_later(made: tuple[Spares, Processes]) -> None:
    pool, _ = made
    await until(lambda: pool.pool.ready == 2)
    await take(pool, 8)
    assert pool.pool.wanted == 5
    await until(lambda: pool.pool.ready == 5)
    await until(lambda: pool.pool.ready == 2)
    assert pool.pool.wanted == 2


async def test_successive_wakes_do_not_grow_the_pool(made: tuple[Spares, Processes]) -> None:
    pool, _ = made
    await until(lambda: pool.pool.ready == 2)
    for _ in range(20):
        await take(pool, 1)
    assert pool.pool.wanted == 2


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
async def test_a_start_needs_no_right_to_raise_priorities(
    made: tuple[Spares, Processes], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    pool, processes = made
    await until(lambda: pool.pool.ready == 2)

    def refused(*_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "setpriority", refused)
    chosen: list[int] = []
    await pool.start(Order(b"{}", [], 0, 0), lambda process, *_: chosen.append(process.pid))
    assert chosen == [processes.children[0].pid] and processes.channels[0].recv(10) == b"{}"


async def test_if_a_spare_exceeds_the_memory_limit_no_other_is_tried(
    made: tuple[Spares, Processes], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, processes = made
    await until(lambda: pool.pool.ready == 2)

    def busy(*_: object) -> None:
        raise OSError(errno.EBUSY, "busy")

    monkeypatch.setattr(processes, "limit", busy)
    chosen: list[object] = []
    with pytest.raises(StartFailed, match="memory limit of 1 MiB"):
        await pool.start(Order(b"{}", [], 2**20, 0), lambda *one: chosen.append(one))
    assert len(chosen) == 1


async def test_starts_that_never_serve_do_not_grow_the_pool(made: tuple[Spares, Processes]) -> None:
    pool, _ = made
    await until(lambda: pool.pool.ready == 2)
    for _ in range(8):
        await pool.start(Order(b"{}", [], 0, 0), lambda *_: None)
    assert pool.pool.wanted == 2


async def test_no_spare_is_made_while_a_wake_waits_for_its_turn(
    made: tuple[Spares, Processes], start_queue: StartQueue
) -> None:
    pool, processes = made
    await until(lambda: pool.pool.ready == 2)
    async with contextlib.AsyncExitStack() as under_way:
        for _ in range(AT_ONCE):
            await under_way.enter_async_context(start_queue.turn("f.ns", replacing=False))
        waiting = asyncio.create_task(under_way_once(start_queue))
        await until(lambda: start_queue.waited_for)
        await take(pool, 2)
        for _ in range(20):
            await asyncio.sleep(policy.WHEN_FEW / 4)  # a spare would have been made by now
        assert (pool.pool.ready, len(processes.children)) == (0, 2)
        waiting.cancel()
        await asyncio.wait({waiting})
        await until(lambda: pool.pool.ready == 2)


async def under_way_once(start_queue: StartQueue) -> None:
    async with start_queue.turn("f.ns", replacing=False):
        pass


async def test_a_spare_that_is_not_ready_is_not_taken(made: tuple[Spares, Processes]) -> None:
    pool, processes = made
    await until(lambda: pool.pool.ready == 2)
    processes.speaks = False
    await take(pool, 2)
    await until(lambda: len(processes.children) >= 3)
    unfinished = {spare.pid for spare in pool.processes()}
    taken: list[int] = []
    await pool.start(Order(b"{}", [], 0, 0), lambda process, *_: taken.append(process.pid))
    assert not unfinished & set(taken)


async def test_scarce_memory_removes_surplus_spares(
    made: tuple[Spares, Processes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "HOLD", 300.0)
    pool, _ = made
    await take(pool, 5)
    await until(lambda: pool.pool.ready == 5)
    monkeypatch.setattr(Container, "memory_is_scarce", lambda _: True)
    await until(lambda: pool.pool.ready == 2)
