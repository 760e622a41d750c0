"""What every `Edge` does: HaproxyEdge over a real HAProxy with the shipped configuration, and the fake."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from rescoldo.edge.fake import CallFailed, FakeEdge
from rescoldo.edge.protocol import Edge, EdgeState, LiveServer, Route, Share
from rescoldo.model.errors import EdgeUnavailable, NotFound, RescoldoError
from rescoldo.model.names import FunctionId, InstanceId, RouteKey, SlotName, revision_key
from support.real_edge import Message, RealEdge, ok

pytestmark = pytest.mark.slow

FN, OTHER = FunctionId("fn.openfaas-fn"), FunctionId("other.openfaas-fn")
S1, S2 = SlotName("s1"), SlotName("s2")
NO_SLOT = SlotName("s99999")
NOTHING = EdgeState((), ())

Wake = Callable[[RouteKey], Awaitable[SlotName]]


class Real:
    """The real edge; instances hold their calls until `let_go` is set."""

    def __init__(self) -> None:
        self.real = RealEdge()
        self.edge: Edge = self.real.edge
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def server(self, slot: SlotName, name: str, concurrency: int = 10) -> LiveServer:
        async def respond(_: Message) -> bytes:
            await self.let_go.wait()
            return ok(name)

        instance = await self.real.instance(name, respond)
        return LiveServer(slot, instance.name, instance.address, concurrency)

    async def call(self, function: FunctionId) -> str:
        """Call `function`; return the name of the server that answered, or the status."""
        answer = await self.real.call(f"/function/{function}")
        return answer.text if answer.status == 200 else str(answer.status)

    def wakes_with(self, wake: Wake) -> None:
        self.real.wake = wake

    async def restart(self) -> None:
        await self.real.restart()

    async def go_away(self) -> None:
        import signal

        assert self.real.child is not None
        self.real.child.send(signal.SIGKILL)
        await self.real.child.ended.wait()


class Fake:
    def __init__(self) -> None:
        self.fake = FakeEdge()
        self.edge: Edge = self.fake
        self.let_go = asyncio.Event()
        self.let_go.set()
        self.fake.work = self._work

    async def _work(self, function: FunctionId, instance: InstanceId) -> None:
        await self.let_go.wait()

    async def server(self, slot: SlotName, name: str, concurrency: int = 10) -> LiveServer:
        return LiveServer(slot, InstanceId(name), f"unix@/fake/{name}.sock", concurrency)

    async def call(self, function: FunctionId) -> str:
        try:
            return await self.fake.call(function)
        except RescoldoError as error:
            return error.message[:3] if isinstance(error, CallFailed) else str(error.status)

    def wakes_with(self, wake: Wake) -> None:
        self.fake.wake = wake

    async def restart(self) -> None:
        self.fake.restart()

    async def go_away(self) -> None:
        self.fake.reachable = False


World = Real | Fake


@pytest.fixture(params=["haproxy", "fake"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "fake":
        yield Fake()
        return
    made = Real()
    try:
        await made.real.boot()
        yield made
    finally:
        await made.real.close()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.005)


async def awake(world: World, name: str = "one", concurrency: int = 10) -> LiveServer:
    """Route `FN` to S1, which gets one server."""
    server = await world.server(S1, name, concurrency)
    await world.edge.add_server(server)
    await world.edge.set_route(Route(FN, S1))
    return server


async def in_flight(world: World, count: int) -> list[asyncio.Task[str]]:
    """Make `count` calls of `FN` that the slot holds without an answer."""
    world.let_go.clear()
    calls = [asyncio.create_task(world.call(FN)) for _ in range(count)]

    async def there() -> bool:
        return (await world.edge.load(S1)).in_flight == count

    await until(there)
    return calls


async def test_a_call_reaches_the_server_of_its_route(world: World) -> None:
    await awake(world)
    assert await world.call(FN) == "one"


async def test_adding_a_server_twice_is_no_error_and_makes_one(world: World) -> None:
    server = await awake(world)
    await world.edge.add_server(server)
    assert await world.edge.servers() == {(S1, server.instance)}
    assert await world.call(FN) == "one"


async def test_servers_lists_every_slot(world: World) -> None:
    assert await world.edge.servers() == set()
    await world.edge.add_server(await world.server(S1, "one"))
    await world.edge.add_server(await world.server(S1, "two"))
    await world.edge.add_server(await world.server(S2, "three"))
    assert await world.edge.servers() == {
        (S1, InstanceId("one")), (S1, InstanceId("two")), (S2, InstanceId("three"))
    }


async def test_a_removed_server_gets_no_calls_and_its_name_may_be_used_again(world: World) -> None:
    server = await awake(world)
    await world.edge.add_server(await world.server(S1, "two"))
    await world.edge.remove_server(S1, server.instance)
    assert await world.edge.servers() == {(S1, InstanceId("two"))}
    assert {await world.call(FN) for _ in range(5)} == {"two"}
    await world.edge.add_server(server)
    await world.edge.remove_server(S1, InstanceId("two"))
    assert await world.call(FN) == "one"


async def test_removing_an_unknown_server_is_no_error(world: World) -> None:
    await world.edge.remove_server(S1, InstanceId("nobody"))


async def test_removing_a_server_waits_for_its_calls(world: World) -> None:
    server = await awake(world)
    calls = await in_flight(world, 2)
    removing = asyncio.create_task(world.edge.remove_server(S1, server.instance, patience=20))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(removing), 0.2)
    world.let_go.set()
    assert await asyncio.gather(*calls) == ["one", "one"]
    await removing
    assert await world.edge.servers() == set()


async def test_calls_that_outlast_the_patience_are_cut(world: World) -> None:
    server = await awake(world)
    calls = await in_flight(world, 1)
    await world.edge.remove_server(S1, server.instance, patience=0.1)
    assert await world.edge.servers() == set()
    assert await calls[0] in ("502", "503")


async def test_an_instance_gets_no_more_calls_than_its_concurrency(world: World) -> None:
    await awake(world, concurrency=2)
    calls = await in_flight(world, 5)
    load = await world.edge.load(S1)
    assert (load.in_flight, load.queued, load.total, load.busy) == (5, 3, 5, True)
    world.let_go.set()
    assert await asyncio.gather(*calls) == ["one"] * 5
    load = await world.edge.load(S1)
    assert (load.in_flight, load.queued, load.total, load.busy) == (0, 0, 5, False)


async def test_a_second_server_drains_the_queue_of_the_first(world: World) -> None:
    await awake(world, concurrency=1)
    calls = await in_flight(world, 2)
    await world.edge.add_server(await world.server(S1, "two", 1))

    async def drained() -> bool:
        return (await world.edge.load(S1)).queued == 0

    await until(drained)
    world.let_go.set()
    assert sorted(await asyncio.gather(*calls)) == ["one", "two"]


@pytest.mark.parametrize("places", [0, 2])
async def test_a_call_beyond_its_functions_queue_is_refused(world: World, places: int) -> None:
    await awake(world, concurrency=1)
    await world.edge.set_route(Route(FN, S1, max_queue=places))
    calls = await in_flight(world, 1 + places)
    assert await world.call(FN) == "429"
    assert (await world.edge.load(S1)).queued == places
    world.let_go.set()
    assert await asyncio.gather(*calls) == ["one"] * (1 + places)
    assert await world.call(FN) == "one"


async def test_a_slot_that_was_never_used_has_no_load(world: World) -> None:
    load = await world.edge.load(S2)
    assert (load.in_flight, load.queued, load.total, load.busy) == (0, 0, 0, False)


async def test_an_edge_has_no_load_and_takes_no_server_in_a_slot_that_it_does_not_have(world: World) -> None:
    server = await world.server(NO_SLOT, "nowhere")
    for ask in (world.edge.load(NO_SLOT), world.edge.add_server(server)):
        with pytest.raises(EdgeUnavailable):
            await ask
    assert (await world.edge.loads([S1, NO_SLOT])).keys() == {S1}
    assert await world.edge.server_loads(NO_SLOT) == {}
    await world.edge.remove_server(NO_SLOT, server.instance)
    with pytest.raises(EdgeUnavailable):
        await world.edge.synchronise(lambda: EdgeState((), (server,)))
    assert await world.edge.servers() == set()


async def test_a_route_to_a_slot_that_the_edge_does_not_have_wakes_its_function(world: World) -> None:
    await world.edge.add_server(await world.server(S1, "woken"))
    given = S1

    async def wake(function: FunctionId) -> SlotName:
        return given

    world.wakes_with(wake)
    await world.edge.set_route(Route(FN, NO_SLOT))
    assert await world.call(FN) == "woken"
    given = NO_SLOT
    assert await world.call(FN) == "503"


async def test_a_call_wakes_a_sleeping_function_and_goes_to_the_slot_of_the_wake(world: World) -> None:
    server = await world.server(S2, "woken")
    woken: list[FunctionId] = []

    async def wake(function: FunctionId) -> SlotName:
        woken.append(function)
        await world.edge.add_server(server)
        return S2

    world.wakes_with(wake)
    await world.edge.set_route(Route(FN))
    assert await world.call(FN) == "woken"
    assert woken == [FN]


async def test_a_route_can_move_to_another_slot_and_to_sleep(world: World) -> None:
    await awake(world)
    await world.edge.add_server(await world.server(S2, "two"))
    await world.edge.set_route(Route(FN, S2))
    assert await world.call(FN) == "two"
    await world.edge.set_route(Route(FN))

    async def wake(function: FunctionId) -> SlotName:
        return S1

    world.wakes_with(wake)
    assert await world.call(FN) == "one"


async def test_unknown_names_are_held_before_a_synchronisation_and_refused_after_it(world: World) -> None:
    async def wake(function: FunctionId) -> SlotName:
        raise NotFound("the controller knows no such function")

    world.wakes_with(wake)
    assert await world.call(OTHER) == "404"
    await world.edge.synchronise(lambda: NOTHING)

    async def never(function: FunctionId) -> SlotName:
        raise AssertionError

    world.wakes_with(never)
    assert await world.call(OTHER) == "404"


async def test_unknown_names_are_held_as_long_as_not_all_are_known(world: World) -> None:
    held = []

    async def wake(function: RouteKey) -> SlotName:
        held.append(function)
        return S1

    await world.edge.synchronise(lambda: EdgeState((), (), complete=False))
    await world.edge.add_server(await world.server(S1, "one"))
    world.wakes_with(wake)
    assert await world.call(OTHER) == "one"
    assert held == [OTHER]


async def test_a_dropped_route_is_unknown_at_once(world: World) -> None:
    await world.edge.synchronise(lambda: NOTHING)
    await awake(world)
    await world.edge.drop_route(FN)
    assert await world.call(FN) == "404"
    await world.edge.drop_route(FN)


async def test_synchronising_adds_what_is_missing_and_removes_the_rest(world: World) -> None:
    await awake(world)
    kept, added = await world.server(S2, "kept"), await world.server(S2, "added")
    await world.edge.add_server(kept)
    state = EdgeState((Route(OTHER, S2),), (kept, added))
    await world.edge.synchronise(lambda: state)
    assert await world.edge.servers() == {(S2, kept.instance), (S2, added.instance)}
    assert await world.call(OTHER) in ("kept", "added")
    assert await world.call(FN) == "404"


async def test_a_draining_instance_gets_calls_again_when_a_synchronisation_keeps_it(world: World) -> None:
    server = await awake(world)
    await world.edge.add_server(await world.server(S1, "two"))
    calls = await in_flight(world, 2)
    removing = asyncio.create_task(world.edge.remove_server(S1, server.instance, patience=20))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(removing, 0.2)  # the controller is killed
    await world.edge.synchronise(lambda: EdgeState((Route(FN, S1),), (server,)))
    world.let_go.set()
    await asyncio.gather(*calls)
    assert {await world.call(FN) for _ in range(3)} == {"one"}


async def test_a_restarted_edge_knows_nothing_until_it_is_synchronised(world: World) -> None:
    server = await awake(world)
    await world.edge.synchronise(lambda: EdgeState((Route(FN, S1),), (server,)))
    await world.restart()
    assert await world.edge.servers() == set()
    await world.edge.synchronise(lambda: EdgeState((Route(FN, S1),), (server,)))
    assert await world.call(FN) == "one"


async def test_watch_reports_the_first_process_and_each_new_one(world: World) -> None:
    news: asyncio.Queue[None] = asyncio.Queue()
    watching = asyncio.create_task(world.edge.watch(lambda: news.put_nowait(None)))
    try:
        await asyncio.wait_for(news.get(), 10)
        await world.restart()
        await asyncio.wait_for(news.get(), 10)
        assert news.empty()
    finally:
        watching.cancel()


async def test_every_method_raises_edge_unavailable_without_an_edge(world: World) -> None:
    server = await world.server(S1, "one")
    await world.go_away()
    asks: list[Awaitable[object]] = [
        world.edge.add_server(server),
        world.edge.remove_server(S1, server.instance),
        world.edge.set_route(Route(FN, S1)),
        world.edge.drop_route(FN),
        world.edge.servers(),
        world.edge.load(S1),
        world.edge.loads([S1]),
        world.edge.server_loads(S1),
        world.edge.synchronise(lambda: EdgeState((), (server,))),
    ]
    for ask in asks:
        with pytest.raises(EdgeUnavailable):
            await ask


async def test_a_queued_call_fails_when_the_last_server_is_removed(world: World) -> None:
    server = await awake(world, concurrency=1)
    calls = await in_flight(world, 2)
    removing = asyncio.create_task(world.edge.remove_server(S1, server.instance, patience=20))
    done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    assert [call.result() for call in done] == ["503"]
    world.let_go.set()
    assert [await call for call in waiting] == ["one"]
    await removing


async def test_the_loads_of_many_slots_are_read_at_once(world: World) -> None:
    await awake(world, concurrency=2)
    await world.edge.add_server(await world.server(S2, "other"))
    calls = await in_flight(world, 3)
    loads = await world.edge.loads([S1, S2])
    assert {slot: (load.in_flight, load.queued, load.total) for slot, load in loads.items()} == {
        S1: (3, 1, 3), S2: (0, 0, 0)
    }
    assert await world.edge.loads([]) == {}
    world.let_go.set()
    await asyncio.gather(*calls)


async def test_the_load_of_each_instance_of_a_slot_can_be_read(world: World) -> None:
    await awake(world)
    await world.edge.add_server(await world.server(S1, "two"))
    calls = await in_flight(world, 3)
    loads = await world.edge.server_loads(S1)
    assert sorted(loads) == ["one", "two"]
    assert sorted(loads.values()) == [1, 2]
    assert await world.edge.server_loads(S2) == {}
    world.let_go.set()
    await asyncio.gather(*calls)


# -- split traffic

OLD = revision_key(FN, 3)


async def split(world: World, old: int) -> None:
    """Send `old` percent of `FN` to revision 3 in S2, the others to revision 4 in S1."""
    await awake(world, "new")
    await world.edge.add_server(await world.server(S2, "old"))
    await world.edge.set_route(Route(OLD, S2))
    await world.edge.set_route(Route(FN, S1, split=(Share(100 - old, 4, FN), Share(old, 3, OLD))))


async def shares(world: World, count: int) -> Counter[str]:
    """Make `count` calls; return how many each server answered."""
    return Counter(await asyncio.gather(*(world.call(FN) for _ in range(count))))


async def test_a_split_divides_calls_by_percent(world: World) -> None:
    await split(world, old=10)
    seen = await shares(world, 500)
    assert seen.keys() == {"old", "new"}
    assert abs(seen["old"] - 50) < 5 * (500 * 0.1 * 0.9) ** 0.5, "more than five sigma off its share"


async def test_a_share_of_100_percent_leaves_no_calls_to_the_others(world: World) -> None:
    await split(world, old=100)
    assert await shares(world, 50) == {"old": 50}


async def test_a_route_without_a_split_ends_the_split(world: World) -> None:
    await split(world, old=100)
    await world.edge.set_route(Route(FN, S1))
    await world.edge.drop_route(OLD)
    assert await shares(world, 20) == {"new": 20}


async def test_a_sleeping_revision_is_woken_by_its_own_key(world: World) -> None:
    await split(world, old=50)
    await world.edge.remove_server(S2, InstanceId("old"))
    await world.edge.set_route(Route(OLD, None))
    asked = Counter[str]()

    async def wake(key: RouteKey) -> SlotName:
        asked[key] += 1
        return S1

    world.wakes_with(wake)
    assert await shares(world, 40) == {"new": 40}
    assert asked.keys() == {OLD}


async def test_a_synchronisation_restores_splits_after_a_restart(world: World) -> None:
    await split(world, old=100)
    servers = [await world.server(S1, "new-2"), await world.server(S2, "old-2")]
    routes = (Route(OLD, S2), Route(FN, S1, split=(Share(100, 3, OLD),)))
    await world.restart()
    await world.edge.synchronise(lambda: EdgeState(routes, tuple(servers)))
    assert await shares(world, 20) == {"old-2": 20}
    await world.edge.synchronise(lambda: EdgeState((Route(FN, S1),), tuple(servers)))
    assert await shares(world, 20) == {"new-2": 20}


async def test_dropping_a_function_drops_its_split(world: World) -> None:
    await world.edge.synchronise(lambda: EdgeState((), ()))
    await split(world, old=100)
    await world.edge.drop_route(FN)
    assert await world.call(FN) == "404"
