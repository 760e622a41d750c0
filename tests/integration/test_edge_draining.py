"""A real edge that is told to drain, and asked for its calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from rescoldo.edge.admin import AdminSocket
from rescoldo.edge.draining import begin_draining, has_calls
from rescoldo.edge.protocol import Route
from rescoldo.model.names import function_id
from support.real_edge import S1, Message, RealEdge, ok

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


@pytest.fixture
async def real() -> AsyncIterator[RealEdge]:
    async with RealEdge() as made:
        yield made


async def drain(real: RealEdge) -> bool:
    assert real.child is not None
    return await begin_draining(AdminSocket(real.settings.admin_socket), real.child.pid)


async def busy(real: RealEdge) -> bool:
    return await has_calls(AdminSocket(real.settings.admin_socket))


async def test_a_draining_edge_fails_health_checks_and_closes_connections_but_serves_on(real: RealEdge) -> None:
    await real.place("s1", "one")
    await real.edge.set_route(Route(function_id("fn"), S1))
    kept = await real.connect()
    answer = await kept.call("/function/fn")
    assert (answer.status, answer.headers.get("connection")) == (200, None)
    assert await drain(real)
    answer = await kept.call("/function/fn")
    assert (answer.status, answer.body, answer.headers["connection"]) == (200, b"one", "close")
    for address in (real.settings.gateway, real.settings.metrics):
        client = await real.connect(address)
        answer = await client.call("/healthz")
        assert (answer.status, answer.body, answer.headers["connection"]) == (404, b"draining\n", "close")
    assert (await real.call("/system/info")).body == b"api /system/info"


async def test_another_process_that_answers_is_no_success(real: RealEdge) -> None:
    assert not await begin_draining(AdminSocket(real.settings.admin_socket), 1)


async def test_calls_in_flight_and_held_count_and_idle_connections_do_not(real: RealEdge) -> None:
    release = asyncio.Event()

    async def wait(_: Message) -> bytes:
        await release.wait()
        return ok("done")

    await real.place("s1", "one", wait)
    await real.edge.set_route(Route(function_id("fn"), S1))
    await real.edge.set_route(Route(function_id("asleep"), None))
    client = await real.connect()
    assert not await busy(real)
    for path in ("/function/fn", "/function/asleep"):
        release.clear()
        woken = asyncio.Event()

        async def wake(_: str, woken: asyncio.Event = woken) -> str:
            await woken.wait()
            return S1

        real.wake = wake  # type: ignore[assignment]
        call = asyncio.create_task(client.call(path))
        await real.until(lambda: busy(real))
        woken.set()
        release.set()
        assert (await call).body == b"done"
        assert not await busy(real)


async def test_requests_of_the_api_do_not_count(real: RealEdge) -> None:
    real.stop_controller()
    call = asyncio.create_task(real.call("/system/logs"))
    sessions = AdminSocket(real.settings.admin_socket)

    async def waits() -> bool:
        return "be=control" in await sessions.run("show sess")

    await real.until(waits)
    assert not await busy(real)
    await real.start_controller()
    await call
