"""The controller's interface to the edge: the plug-point for adapters.

`HaproxyEdge` (haproxy.py) drives a real HAProxy; `FakeEdge` (fake.py) is the in-memory stand-in for unit
tests. Both pass tests/contract/test_edge.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from rescoldo.model.names import InstanceId, RouteKey, SlotName


@dataclass(frozen=True, slots=True)
class Share:
    """The part of a function's calls that goes to one of its revisions."""

    percent: int
    revision: int
    key: RouteKey


@dataclass(frozen=True, slots=True)
class Route:
    """The edge's data about one function, or about a revision that is not current and has a share of the traffic.
    A limit of None is the platform's."""

    function: RouteKey
    slot: SlotName | None = None  # None: asleep
    max_body: int | None = None  # bytes
    response_timeout: float | None = None  # seconds
    max_queue: int | None = None  # requests that may wait; 0: none
    max_response: int | None = None  # bytes; 0: unlimited
    max_inflight: int | None = None  # stated in a refusal for a full queue, as by of-watchdog; None: not stated
    paused: bool = False  # calls are refused
    cors: tuple[str, ...] = ()  # origins whose pages may read the edge's own responses; "*": all
    split: tuple[Share, ...] = ()  # sum 100 %; empty: all calls go to the slot above


@dataclass(frozen=True, slots=True)
class LiveServer:
    """An instance that takes requests."""

    slot: SlotName
    instance: InstanceId
    address: str  # "unix@PATH", the path at most 97 bytes, or "IP:PORT"
    concurrency: int


@dataclass(frozen=True, slots=True)
class SlotLoad:
    """A slot's current counters, in requests."""

    in_flight: int
    queued: int
    total: int  # requests since the edge started

    @property
    def busy(self) -> bool:
        """Whether requests are in flight or queued."""
        return self.in_flight > 0 or self.queued > 0


@dataclass(frozen=True, slots=True)
class EdgeState:
    """The routes and servers that the edge should hold."""

    routes: tuple[Route, ...]
    servers: tuple[LiveServer, ...]
    complete: bool = True  # all names have routes: others are refused, and not held


class Edge(Protocol):
    """Controls the edge. Every method but `watch` raises EdgeUnavailable while HAProxy cannot be reached."""

    async def add_server(self, server: LiveServer) -> None:
        """Let an instance take requests of its slot. Idempotent."""
        ...

    async def remove_server(self, slot: SlotName, instance: InstanceId, *, patience: float = 3.0) -> None:
        """Drain and remove an instance. It gets no new requests from now on; requests in flight have `patience`
        seconds to end, then they are cut. An unknown instance is no error."""
        ...

    async def set_route(self, route: Route) -> None:
        """Route a function to a slot, or mark it asleep."""
        ...

    async def drop_route(self, function: RouteKey) -> None:
        """Make the function unknown: its calls get 404. A revision's own route is dropped when no split names it."""
        ...

    async def servers(self) -> set[tuple[SlotName, InstanceId]]:
        """The instances in the edge, with their slots, which a new controller adopts."""
        ...

    async def load(self, slot: SlotName) -> SlotLoad:
        """The load of one slot. Raises EdgeUnavailable, too, when the edge does not have the slot."""
        ...

    async def loads(self, slots: Iterable[SlotName]) -> dict[SlotName, SlotLoad]:
        """The loads of many slots, in one exchange; slots that the edge does not have are left out."""
        ...

    async def server_loads(self, slot: SlotName) -> dict[InstanceId, int]:
        """Requests in flight in each instance of a slot."""
        ...

    async def synchronise(self, wanted: Callable[[], EdgeState]) -> None:
        """Make the edge hold exactly the state that `wanted` returns, after a restart of either side. `wanted` is
        called at a moment from which no route can change until the state is applied."""
        ...

    async def watch(self, on_restart: Callable[[], None]) -> None:
        """Run until cancelled; call `on_restart` whenever a new HAProxy process answers. Never raises."""
        ...
