"""The edge's count of held requests stays right however a hold ends; a real HAProxy with the shipped configuration."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from leavers import HOW, How, Leaver, ask
from rescoldo.edge.protocol import Route
from rescoldo.model.errors import StartFailed
from rescoldo.model.names import FunctionId, SlotName, function_id
from support.real_edge import S1, Message, RealEdge, ok

FN, OTHER = function_id("fn"), function_id("other")
EACH, ALL = 20, 30  # places of one function, and of all
SOON = 2.0  # seconds within which each place is free again


class Wakes:
    """Wakes under way until the test ends them."""

    def __init__(self) -> None:
        self.leavers: list[Leaver] = []
        self.begun = 0  # wakes that `end` can end
        self._waiting: list[asyncio.Future[SlotName]] = []

    async def wake(self, _: FunctionId) -> SlotName:
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self.begun += 1
        return await answer

    def end(self, error: Exception | None = None) -> None:
        """End all wakes under way: awake in S1, or failed with `error`."""
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            if not answer.done():
                answer.set_result(S1) if error is None else answer.set_exception(error)


@asynccontextmanager
async def edge(wakes: Wakes) -> AsyncIterator[RealEdge]:
    async with RealEdge(max_holds=ALL, max_holds_per_function=EACH) as real:
        real.wake = wakes.wake
        await make_known(real)
        try:
            yield real
        finally:
            for leaver in wakes.leavers:
                await leaver.close()


async def make_known(real: RealEdge) -> None:
    for function in (FN, OTHER):
        await real.edge.set_route(Route(function, None))


async def come(real: RealEdge, wakes: Wakes, count: int, how: How, name: str = "fn") -> list[Leaver]:
    host, _, port = real.settings.gateway.rpartition(":")
    found = await ask(host, int(port), f"/function/{name}", how, count)
    wakes.leavers += found
    return found


async def be_held(real: RealEdge, wakes: Wakes, count: int, how: How, name: str = "fn") -> list[Leaver]:
    """Make `count` requests; return when the edge has asked the controller to wake for each."""
    before = wakes.begun
    found = await come(real, wakes, count, how, name)
    await real.until(lambda: wakes.begun >= before + count)
    return found


async def leave(leavers: list[Leaver]) -> None:
    for leaver in leavers:
        await leaver.leave()


async def held(real: RealEdge) -> int:
    """Return the number of taken places, as the edge counts them."""
    return int(await real.admin.run("show holds"))


async def all_are_free(real: RealEdge, wakes: Wakes) -> None:
    """Fail unless every place is free SOON after the wakes have ended, and can be taken again."""
    await real.call("/healthz")  # the edge has accepted all earlier connections
    async with asyncio.timeout(SOON):
        while await held(real):
            wakes.end(StartFailed("it ended"))
            await asyncio.sleep(0.01)
    again = await be_held(real, wakes, EACH, "close")
    assert await held(real) == EACH
    assert (await real.call("/function/fn")).status == 503, "no place is left"
    await leave(again)
    wakes.end(StartFailed("it ended"))


async def none_held(real: RealEdge) -> bool:
    return await held(real) == 0


@pytest.mark.parametrize("how", HOW)
async def test_places_of_clients_that_left_are_free_after_their_wakes(how: How) -> None:
    wakes = Wakes()
    async with edge(wakes) as real:
        for wave in range(5):  # together more than three times the places
            await leave(await be_held(real, wakes, EACH, how))
            wakes.end(StartFailed(f"wave {wave}"))
            await real.until(lambda: none_held(real))
        await all_are_free(real, wakes)


@pytest.mark.parametrize("how", HOW)
async def test_a_client_that_leaves_frees_its_place_before_its_wake_ends(how: How) -> None:
    wakes = Wakes()
    async with edge(wakes) as real:
        leavers = await be_held(real, wakes, EACH, how)
        assert await held(real) == EACH
        await leave(leavers)
        await real.until(lambda: none_held(real))
        await real.until(lambda: real.left == EACH)  # the edge cancels their wakes at the controller


@pytest.mark.parametrize("how", HOW)
async def test_a_call_whose_client_left_while_it_was_held_never_reaches_its_function(how: How) -> None:
    wakes = Wakes()
    async with edge(wakes) as real:
        one = await real.place("s1", "one")
        stays = asyncio.create_task(real.call("/function/fn?stays"))
        await real.until(lambda: wakes.begun)
        await leave(await be_held(real, wakes, EACH - 1, how))
        await real.until(lambda: real.left == EACH - 1)
        wakes.end()
        assert (await stays).status == 200
        assert [request.path for request in one.requests] == ["/?stays"]


async def test_a_failure_of_the_hold_itself_frees_its_place() -> None:
    wakes = Wakes()
    async with edge(wakes) as real:
        for _ in range(2 * EACH):
            # a request and its end in one packet: HAProxy ends the hold before it waits
            leaver = await come(real, wakes, 1, "half-close")
            await leave(leaver)
        await all_are_free(real, wakes)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
async def test_all_places_are_free_after_a_random_mix_of_events(seed: int) -> None:
    dice, wakes = random.Random(seed), Wakes()
    async with edge(wakes) as real:
        here: list[Leaver] = []

        async def arrive() -> None:
            name = dice.choice(("fn", "other"))
            here.extend(await come(real, wakes, dice.randint(1, EACH), dice.choice(HOW), name))

        async def go() -> None:
            dice.shuffle(here)
            some, here[:] = here[: len(here) // 2], here[len(here) // 2 :]
            await leave(some)

        async def succeed() -> None:
            wakes.end()

        async def fail() -> None:
            wakes.end(StartFailed("it failed"))

        async def lose_the_controller() -> None:
            real.stop_controller()
            await real.start_controller()

        async def reload() -> None:
            if not real.leaving:  # once is enough, and takes half a second
                await real.reload([])
                await make_known(real)

        await real.place("s1", "one")
        for _ in range(25):
            await dice.choice((arrive, arrive, go, go, succeed, fail, lose_the_controller, reload))()
            await asyncio.sleep(dice.choice((0, 0, 0.01, 0.05)))  # so that steps overlap in many ways
        await leave(here)
        for leaver in wakes.leavers:
            await leaver.close()
        # requests that a replaced process still holds go to its successor when their wakes end
        await real.until(lambda: wakes.end(StartFailed("it ended")) or all(old.ended.is_set() for old in real.leaving))
        await all_are_free(real, wakes)


@pytest.mark.slow
async def test_no_answer_is_lost_when_holds_end_while_a_replaced_process_closes_connections() -> None:
    calls = 1000
    wakes = Wakes()
    async with RealEdge(max_connections=5000, max_holds=calls, max_holds_per_function=calls) as real:
        real.wake = wakes.wake
        await make_known(real)
        held = [asyncio.create_task(real.call("/function/fn")) for _ in range(calls)]
        await real.until(lambda: wakes.begun == calls)
        await real.reload([])
        await real.place("s1", "one", concurrency=calls)
        await real.edge.set_route(Route(FN, S1))
        # the answers take half a second, and a close-spread-time of 1 s would end in the middle of it
        await asyncio.sleep(0.6)
        wakes.end()
        assert Counter(answer.status for answer in await asyncio.gather(*held)) == {200: calls}


# -- requests that pass through a hold


@asynccontextmanager
async def cold_and_warm() -> AsyncIterator[tuple[RealEdge, Callable[..., Awaitable[list[Message]]]]]:
    """Yield a function that makes one call twice, cold and warm, and returns the requests that the instance got."""
    wakes = Wakes()
    async with edge(wakes) as real:
        one = await real.place("s1", "one")

        async def wake(_: FunctionId) -> SlotName:
            return S1

        async def twice(path: str = "/function/fn/a?b=c", **request: Any) -> list[Message]:
            one.requests.clear()
            for slot in (None, S1):
                await real.edge.set_route(Route(FN, slot))
                assert (await real.call(path, **request)).status == 200
            return list(one.requests)

        real.wake = wake
        yield real, twice


OF_EACH_CALL = ("x-call-id", "x-start-time")


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"method": "POST", "body": b"x" * 300_000},
        {"method": "PATCH", "body": b""},
        {"headers": {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Host": "there"}},
        {"headers": {"X-Long": "y" * 14_000}},
        {"headers": {"X-Bytes": "caf\xe9", "TE": "trailers", "Cookie": "a=1; b=2"}},
        {"path": "/function/fn//double/%2e%2e/%C3%A9?q=%20&q=2;x"},
        {"path": "/function/fn"},
    ],
    ids=["GET", "large body", "no body", "forwarded", "long header", "odd headers", "odd path", "bare"],
)
async def test_a_function_gets_the_same_request_whether_it_was_asleep_or_not(request_: dict[str, Any]) -> None:
    async with cold_and_warm() as (_, twice):
        cold, warm = await twice(**request_)
    for name in OF_EACH_CALL:
        assert cold.headers.pop(name) != warm.headers.pop(name)
    assert cold == warm


async def test_the_edges_internal_headers_neither_come_from_a_client_nor_reach_a_function() -> None:
    forged = {f"X-Rescoldo-{name}": "forged" for name in ("Key", "Start", "Id", "Function")}
    async with cold_and_warm() as (real, twice):
        cold, _ = await twice(headers=forged)
        assert real.asked == [FN]
    told = {name: value for name, value in cold.headers.items() if name.startswith("x-rescoldo-")}
    assert told == {"x-rescoldo-function": FN}
    assert "forged" not in cold.headers["x-start-time"] + cold.headers["x-call-id"]


async def test_a_held_upgrade_request_keeps_its_headers() -> None:
    async with cold_and_warm() as (_, twice):
        key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}
        cold, warm = await twice(headers={"Connection": "Upgrade", "Upgrade": "websocket", **key})
    assert cold.headers["upgrade"] == warm.headers["upgrade"] == "websocket"


async def test_a_client_that_does_not_read_delays_no_other_cold_call() -> None:
    wakes = Wakes()
    async with edge(wakes) as real:

        async def respond(request: Message) -> bytes:
            return ok("x" * 50_000_000 if "large" in request.path else "small")

        await real.place("s1", "one", respond)
        slow = await real.connect()
        slow.send("/function/fn/large")
        await real.until(lambda: wakes.begun)
        wakes.end()
        await asyncio.wait_for(slow.reader.readline(), 10)  # the answer has begun; the client does not read the rest
        other = asyncio.create_task(real.call("/function/fn/other"))
        await real.until(lambda: wakes.begun == 2)
        wakes.end()
        assert (await asyncio.wait_for(other, 5)).text == "small"
