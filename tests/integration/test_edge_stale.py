"""A worker's edge refuses calls while what is known is too old; against a real HAProxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rescoldo.edge import staleness
from rescoldo.edge.protocol import EdgeState, LiveServer, Route
from rescoldo.model.names import FunctionId, SlotName, function_id
from support.real_edge import S1, Message, RealEdge

FN, ASLEEP = function_id("fn"), function_id("asleep")
SECRET = "present-secret-of-the-pool"


class Worker(RealEdge):
    """A worker's edge, with a function that is awake and one that sleeps."""

    def __init__(self, identity: Path) -> None:
        super().__init__(join="https://control:8443", identity=str(identity), max_stale=60.0)

    async def fill(self) -> None:
        one = await self.instance("one")
        server = LiveServer(S1, one.name, one.address, 100)
        await self.edge.synchronise(lambda: EdgeState((Route(FN, S1), Route(ASLEEP)), (server,), complete=False))

    async def ask(self, path: str) -> Message:
        return await self.call(path, headers={"X-Rescoldo-Pool": SECRET})


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    (tmp_path / "pool-secret").write_text(SECRET)
    async with Worker(tmp_path) as real:
        await real.fill()
        yield real


async def test_calls_are_refused_asleep_or_awake_and_nothing_else_is(worker: Worker) -> None:
    assert not await staleness.refuses(worker.admin)
    await staleness.refuse(worker.admin, stale=True)
    assert await staleness.refuses(worker.admin)
    for name in ("fn", "asleep", "unknown"):
        answer = await worker.ask(f"/function/{name}")
        told = (answer.headers["x-rescoldo-reason"], answer.headers["retry-after"])
        assert (answer.status, told, worker.asked) == (503, ("stale", "5"), [])
        assert "--max-stale" in answer.text and "x-call-id" in answer.headers
    assert (await worker.ask("/system/functions")).status == 200
    await worker.until(lambda: len(worker.calls) == 3)
    assert {key.status for key in worker.calls} == {503}, "refused calls are counted"
    await staleness.refuse(worker.admin, stale=False)
    assert (await worker.ask("/function/fn")).status == 200


async def test_a_call_that_was_held_before_goes_on(worker: Worker) -> None:
    gate = asyncio.Event()

    async def wake(_: FunctionId) -> SlotName:
        await gate.wait()
        return S1

    worker.wake = wake
    client = await worker.connect()
    client.send("/function/asleep", headers={"X-Rescoldo-Pool": SECRET})
    await worker.until(lambda: worker.asked == [ASLEEP])
    await staleness.refuse(worker.admin, stale=True)
    gate.set()
    assert (await client.receive()).status == 200


async def test_an_edge_that_starts_meanwhile_refuses_from_its_start_on(worker: Worker) -> None:
    worker.settings.stale_file.touch()
    await worker.restart()
    assert await staleness.refuses(worker.admin)
    assert (await worker.ask("/function/fn")).status == 503
    worker.settings.stale_file.unlink()
    await worker.restart()
    await worker.fill()
    assert (await worker.ask("/function/fn")).status == 200
