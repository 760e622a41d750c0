"""An in-memory edge for unit tests of the layers above; it passes the same contract tests as the real one.

It routes, holds, queues and counts calls as HAProxy does, and fails them where HAProxy would, so that a wrong order of
operations shows in a unit test. Time passes by asyncio.sleep alone: virtual time works.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import accumulate

from rescoldo.edge.config import port_slot_names, slot_names
from rescoldo.edge.protocol import EdgeState, LiveServer, Route, Share, SlotLoad
from rescoldo.model.errors import EdgeUnavailable, NotFound, RescoldoError
from rescoldo.model.names import FunctionId, InstanceId, RouteKey, SlotName

WAKES = 3  # requests for a slot before a call gives up; wake.lua counts seconds instead
AGAIN_SECONDS = 0.1  # pause before the next request for a slot; wake.lua's is 20 ms
REMOVE_SECONDS = 0.02  # between two checks whether a server may go


class CallFailed(RescoldoError):
    """The client would have seen an error of the edge."""

    status = 503


@dataclass(slots=True, eq=False)
class _Call:
    placed: asyncio.Future[_Server]  # done when it leaves the queue for a server
    cut: asyncio.Future[None]  # done when its server is removed before it ends


@dataclass(slots=True, eq=False)
class _Server:
    live: LiveServer
    enabled: bool = True
    calls: set[_Call] = field(default_factory=set)  # in flight

    def cut(self) -> None:
        for call in self.calls:
            if not call.cut.done():
                call.cut.set_result(None)


@dataclass(slots=True, eq=False)
class _Slot:
    servers: dict[InstanceId, _Server] = field(default_factory=dict)
    queue: deque[_Call] = field(default_factory=deque)
    total: int = 0

    @property
    def enabled(self) -> list[_Server]:
        return [server for server in self.servers.values() if server.enabled]

    @property
    def has_room(self) -> bool:
        return any(len(server.calls) < server.live.concurrency for server in self.enabled)

    def drain(self) -> None:
        """Give queued calls to servers that have room; without any server they fail, as in HAProxy."""
        while self.queue:
            room = [server for server in self.enabled if len(server.calls) < server.live.concurrency]
            if self.enabled and not room:
                return
            call = self.queue.popleft()
            if call.placed.done():  # its client has left
                continue
            if not room:
                call.placed.set_exception(CallFailed("503: queued in a slot whose last server was disabled"))
                continue
            server = min(room, key=lambda server: len(server.calls))
            server.calls.add(call)
            call.placed.set_result(server)


def _summed(split: tuple[Share, ...]) -> Iterator[tuple[Share, int]]:
    """Each share with the sum of the percentages up to it."""
    return zip(split, accumulate(share.percent for share in split), strict=True)


async def _no_work(function: FunctionId, instance: InstanceId) -> None:
    """An instance that answers at once."""


class FakeEdge:
    """In-memory `Edge`. Tests set `delay`, `fail`, `lose_answer`, `reachable`, `wake`, `work` and `log`, and call
    `call` and `restart`."""

    def __init__(self, slots: int = 8) -> None:
        """`slots` is the number of slots, as in `Settings`; those for programs at TCP ports come on top."""
        self.delay = 0.0  # seconds that each method takes; its effect comes in the middle
        self.fail: Counter[str] = Counter()  # by method: how many of its next calls only raise
        self.lose_answer: Counter[str] = Counter()  # by method: how many have their effect, then raise
        self.reachable = True  # set to False, every method raises EdgeUnavailable; calls go on
        self.wake: Callable[[RouteKey], Awaitable[SlotName]] | None = None  # called for a function without a server
        self.work: Callable[[FunctionId, InstanceId], Awaitable[None]] = _no_work  # what an instance does
        self.log: Callable[[FunctionId], None] = lambda function: None  # called at the end of each call
        self.routes: dict[RouteKey, Route] = {}
        self.complete = False  # all routes are known: other names are refused
        self._dice = random.Random(1)
        self._slots = {name: _Slot() for name in (*slot_names(slots), *port_slot_names(slots))}
        self._watchers: list[Callable[[], None]] = []

    # -- for tests

    async def call(self, function: FunctionId) -> InstanceId:
        """Send one request through the edge; return the instance that served it. Raises NotFound for an unknown name
        once all routes are known, what `wake` raises, and CallFailed where HAProxy would answer with an error."""
        route = self.routes.get(function)
        if route is None and self.complete:
            raise NotFound(f"function {function} is not deployed here")
        if route is not None and route.paused:
            raise CallFailed("503: paused")
        key: RouteKey = function
        if route is not None and route.split:
            left = self._dice.uniform(0, 100)
            key = next(share.key for share, below in _summed(route.split) if left <= below)
            route = self.routes.get(key, route)
        slot = route.slot if route is not None else None
        for attempt in range(WAKES):
            if slot in self._slots and self._slots[slot].enabled:
                break
            await asyncio.sleep(AGAIN_SECONDS if attempt else 0)
            if self.wake is None:
                raise CallFailed("503: nobody answers wake.sock")
            slot = await self.wake(key)
        if slot not in self._slots:
            raise CallFailed(f"503: the edge has no slot {slot}")
        return await self._run(function, self._slots[slot], route.max_queue if route is not None else None)

    def restart(self) -> None:
        """Restart as a process without routes and servers: cut calls in flight, notify watchers."""
        for slot in self._slots.values():
            for server in slot.servers.values():
                server.enabled = False
                server.cut()
            slot.drain()
        self.routes, self.complete = {}, False
        self._slots = {name: _Slot() for name in self._slots}
        for on_restart in list(self._watchers):
            on_restart()

    # -- Edge

    async def add_server(self, server: LiveServer) -> None:
        async with self._asked("add_server"):
            slot = self._slot(server.slot)
            slot.servers.setdefault(server.instance, _Server(server)).enabled = True
            slot.drain()

    async def remove_server(self, slot: SlotName, instance: InstanceId, *, patience: float = 3.0) -> None:
        deadline = asyncio.get_running_loop().time() + patience
        while True:
            async with self._asked("remove_server"):
                place = self._slots.get(slot)
                server = place.servers.get(instance) if place is not None else None
                if place is not None and server is not None:
                    server.enabled = False
                    place.drain()
                    if not server.calls:
                        del place.servers[instance]
                if server is None or not server.calls:
                    return
            if asyncio.get_running_loop().time() > deadline:
                server.cut()
            await asyncio.sleep(REMOVE_SECONDS)

    async def set_route(self, route: Route) -> None:
        async with self._asked("set_route"):
            self.routes[route.function] = route

    async def drop_route(self, function: RouteKey) -> None:
        async with self._asked("drop_route"):
            self.routes.pop(function, None)

    async def servers(self) -> set[tuple[SlotName, InstanceId]]:
        async with self._asked("servers"):
            return {(name, instance) for name, slot in self._slots.items() for instance in slot.servers}

    async def load(self, slot: SlotName) -> SlotLoad:
        async with self._asked("load"):
            return self._load(slot)

    async def loads(self, slots: Iterable[SlotName]) -> dict[SlotName, SlotLoad]:
        async with self._asked("loads"):
            return {slot: self._load(slot) for slot in slots if slot in self._slots}

    async def server_loads(self, slot: SlotName) -> dict[InstanceId, int]:
        async with self._asked("server_loads"):
            servers = self._slots[slot].servers if slot in self._slots else {}
            return {instance: len(server.calls) for instance, server in servers.items()}

    async def synchronise(self, wanted: Callable[[], EdgeState]) -> None:
        async with self._asked("synchronise"):
            state = wanted()
            keep = {(server.slot, server.instance): server for server in state.servers}
            stale = [(name, i) for name, slot in self._slots.items() for i in slot.servers if (name, i) not in keep]
            for (name, instance), server in keep.items():
                self._slot(name).servers.setdefault(instance, _Server(server)).enabled = True
                self._slot(name).drain()
            self.routes = {route.function: route for route in state.routes}
            self.complete = state.complete
        for name, instance in stale:
            await self.remove_server(name, instance)

    async def watch(self, on_restart: Callable[[], None]) -> None:
        self._watchers.append(on_restart)
        try:
            on_restart()
            await asyncio.Event().wait()
        finally:
            self._watchers.remove(on_restart)

    # -- inside

    @asynccontextmanager
    async def _asked(self, method: str) -> AsyncIterator[None]:
        await asyncio.sleep(self.delay / 2)
        if not self.reachable:
            raise EdgeUnavailable
        if self.fail[method] > 0:
            self.fail[method] -= 1
            raise EdgeUnavailable
        yield
        await asyncio.sleep(self.delay / 2)
        if self.lose_answer[method] > 0:
            self.lose_answer[method] -= 1
            raise EdgeUnavailable

    def _load(self, slot: SlotName) -> SlotLoad:
        place = self._slot(slot)
        in_flight = sum(len(server.calls) for server in place.servers.values())
        queued = sum(not call.placed.done() for call in place.queue)
        return SlotLoad(in_flight + queued, queued, place.total)

    def _slot(self, name: SlotName) -> _Slot:
        try:
            return self._slots[name]
        except KeyError:
            raise EdgeUnavailable(f"the edge has no slot {name}") from None

    async def _run(self, function: FunctionId, slot: _Slot, max_queue: int | None) -> InstanceId:
        waiting = sum(not call.placed.done() for call in slot.queue)
        if max_queue is not None and waiting >= max_queue and slot.enabled and not slot.has_room:
            raise CallFailed("429: too many requests are waiting")
        slot.total += 1
        if not slot.enabled:
            raise CallFailed("503: the slot has no server")
        loop = asyncio.get_running_loop()
        call = _Call(loop.create_future(), loop.create_future())
        slot.queue.append(call)
        slot.drain()
        server = await call.placed
        work = asyncio.ensure_future(self.work(function, server.live.instance))
        try:
            await asyncio.wait({work, call.cut}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise CallFailed("502: cut")
            work.result()
            return server.live.instance
        finally:
            work.cancel()
            server.calls.discard(call)
            slot.drain()
            self.log(function)
