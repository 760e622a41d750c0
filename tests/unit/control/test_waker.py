"""The limits on held calls and the lines that wake.lua reads; on virtual time."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import cast

import pytest
from control_world import FN, World

from rescoldo.model.coldstart import StartTimes
from rescoldo.model.errors import StartFailed
from rescoldo.model.names import FunctionId, function_id

pytestmark = pytest.mark.looptime


@pytest.fixture
async def capped() -> AsyncIterator[World]:
    made = await World.make(max_holds=5, max_holds_per_function=3)
    yield made
    await made.close()


def ask(world: World, function: FunctionId) -> asyncio.Task[bytes]:
    return asyncio.create_task(world.waker._answer(function))


def took_of(answer: bytes) -> StartTimes:
    """The times of the wake in an answer."""
    return StartTimes(*map(int, answer.split()[2].split(b":")))


async def test_an_answer_names_the_slot(world: World) -> None:
    await world.deploy()
    assert (await ask(world, FN)).startswith(f"ok {world.awake().slot} ".encode())


async def test_an_answer_has_the_times_of_the_wake_that_the_call_waited_for(world: World) -> None:
    await world.deploy()
    world.node.took = StartTimes(1000, 200, 300, 40)
    before = time.monotonic()
    told = took_of(await ask(world, FN))
    took = world.awake().took
    assert took.slot >= 1000, "the controller's own part is added"
    assert took[1:] == (200, 300, 40)
    # no virtual time passes here, only real time
    assert sum(told) <= (time.monotonic() - before) * 1e6
    assert told == took.within(sum(told))


async def test_a_call_that_joins_a_wake_gets_its_share_and_a_later_one_gets_none(world: World) -> None:
    await world.deploy()
    await world.fleet.wakes.wake(FN)
    world.awake().woken_at, world.awake().took = 5.0, StartTimes(100, 200, 300, 40)
    assert world.waker._took(FN, 4.0) == StartTimes(100, 200, 300, 40)
    assert world.waker._took(FN, 4.9998) == StartTimes(0, 0, 160, 40)
    assert world.waker._took(FN, 5.0001) == StartTimes()
    assert took_of(await ask(world, FN)) == StartTimes()


async def test_held_calls_are_counted_whatever_their_answer(world: World) -> None:
    await world.deploy()
    await ask(world, FN)
    await ask(world, function_id("nobody"))
    assert world.waker.holds == 2


async def test_an_unknown_function_is_a_404_without_retry_after(world: World) -> None:
    line, _, text = (await ask(world, function_id("nobody"))).partition(b"\n")
    assert line == b"no 404 0 %d" % len(text)
    assert b"nobody.openfaas-fn is not deployed" in text


async def test_a_failed_start_says_when_to_retry(world: World) -> None:
    await world.deploy()
    world.node.fail[FN] = deque([StartFailed("wört")])
    assert await ask(world, FN) == b"no 502 1 6\n" + "wört\n".encode()


async def test_held_calls_are_limited_for_each_function_and_in_total(capped: World) -> None:
    await capped.deploy()
    await capped.deploy("other")
    capped.node.start_delay = 1.0
    held = [ask(capped, FN) for _ in range(3)]
    await asyncio.sleep(0)
    assert (await ask(capped, FN)).startswith(b"no 503 1 ")
    held += [ask(capped, function_id("other")) for _ in range(2)]
    await asyncio.sleep(0)
    assert (await ask(capped, function_id("other"))).startswith(b"no 503 1 ")
    assert capped.waker.held == 5
    assert all(answer.startswith(b"ok ") for answer in await asyncio.gather(*held))
    assert capped.waker.held == 0


# -- clients that leave, and faults


class Writer:
    """Records writes to a held call's connection; the waker needs nothing else of a StreamWriter."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    async def drain(self) -> None: ...

    def close(self) -> None:
        self.closed = True


def connect(world: World, line: bytes = f"{FN}\n".encode()) -> tuple[asyncio.StreamReader, Writer, asyncio.Task[None]]:
    """A connection of the edge that asks for a wake; feed_eof means that its client leaves."""
    reader, writer = asyncio.StreamReader(), Writer()
    reader.feed_data(line)
    serving = asyncio.create_task(world.waker.serve(reader, cast(asyncio.StreamWriter, writer)))
    return reader, writer, serving


async def test_a_client_that_leaves_frees_its_place_while_the_wake_continues(capped: World) -> None:
    await capped.deploy()
    capped.node.start_delay = 10.0
    for _ in range(10):  # ten times the number of calls held at once
        waves = [connect(capped) for _ in range(3)]
        await asyncio.sleep(0.1)
        assert capped.waker.held == 3
        for reader, _, _ in waves:
            reader.feed_eof()
        await asyncio.wait([serving for _, _, serving in waves])
        assert capped.waker.held == 0
        assert all((writer.written, writer.closed) == (b"", True) for _, writer, _ in waves)
    _, writer, serving = connect(capped)
    await serving
    assert writer.written.startswith(b"ok ")
    assert len(capped.node.started) == 1, "a client that left ended the wake"


async def test_a_fault_of_the_platform_gets_an_answer_too(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.deploy()

    async def fail(_: FunctionId) -> None:
        raise KeyError("a fault")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.fleet.wakes, "wake", fail)
        assert (await ask(world, FN)).startswith(b"no 500 0 ")
    assert "KeyError: 'a fault'" in caplog.text
    assert world.waker.held == 0


async def test_a_reason_that_cannot_be_encoded_gets_an_answer_too(world: World) -> None:
    await world.deploy()
    world.node.fail[FN] = deque([StartFailed("a lone \ud800 surrogate")])
    assert await ask(world, FN) == "no 502 1 21\na lone \ufffd surrogate\n".encode()


async def test_a_stopping_platform_refuses_held_calls(capped: World) -> None:
    await capped.deploy()
    capped.node.start_delay = 60.0
    held = [connect(capped)]
    await asyncio.sleep(0.1)
    held.append(connect(capped))
    await asyncio.sleep(0)  # this one does not wait yet
    capped.waker.stop()
    await asyncio.gather(*(serving for _, _, serving in held))
    assert all(writer.written.startswith(b"no 503 1 ") for _, writer, _ in held)
    assert capped.waker.held == 0
