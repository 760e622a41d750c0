"""What the controller asks of the edge: the adapter's plug-point.

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
    """What of a function's calls goes to one of its revisions."""

    percent: int
    revision: int
    key: RouteKey


@dataclass(frozen=True, slots=True)
class Route:
    """What the edge must know of one function; or of a revision of it that is not the current one, and has a share of
    its traffic. Limits that are None are the platform's."""

    function: RouteKey
    slot: SlotName | None = None  # None: asleep
    max_body: int | None = None  # bytes
    response_timeout: float | None = None  # seconds
    max_queue: int | None = None  # requests; 0: none may wait
    max_response: int | None = None  # bytes; 0: any number
    max_inflight: int | None = None  # what a refusal for a full queue says as of-watchdog does; None: it does not
    paused: bool = False  # its calls are refused
    cors: tuple[str, ...] = ()  # origins whose pages may read what the edge itself answers; "*": all
    split: tuple[Share, ...] = ()  # 100 % together; empty: all calls go to the slot above


@dataclass(frozen=True, slots=True)
class LiveServer:
    """An instance that takes requests."""

    slot: SlotName
    instance: InstanceId
    address: str  # "unix@PATH", the path at most 97 bytes, or "IP:PORT"
    concurrency: int


@dataclass(frozen=True, slots=True)
class SlotLoad:
    """A slot's counters now."""

    in_flight: int
    queued: int
    total: int  # requests since the edge started

    @property
    def busy(self) -> bool:
        return self.in_flight > 0 or self.queued > 0


@dataclass(frozen=True, slots=True)
class EdgeState:
    """All that the edge should know."""

    routes: tuple[Route, ...]
    servers: tuple[LiveServer, ...]


class Edge(Protocol):
    """Every method raises EdgeUnavailable while HAProxy cannot be reached."""

    async def add_server(self, server: LiveServer) -> None:
        """Let an instance take requests of its slot. Doing it again is no error."""
        ...

    async def remove_server(self, slot: SlotName, instance: InstanceId, *, patience: float = 3.0) -> None:
        """Take an instance out: no new requests at once, then up to `patience` seconds for those it has,
        which are cut after that. An unknown one is no error."""
        ...

    async def set_route(self, route: Route) -> None:
        """Route a function to a slot, or mark it asleep."""
        ...

    async def drop_route(self, function: RouteKey) -> None:
        """From now on the function is unknown: 404. A revision's own route is dropped when no split names it."""
        ...

    async def servers(self) -> set[tuple[SlotName, InstanceId]]:
        """The instances the edge knows of: a new controller adopts them in their slots."""
        ...

    async def load(self, slot: SlotName) -> SlotLoad: ...

    async def loads(self, slots: Iterable[SlotName]) -> dict[SlotName, SlotLoad]:
        """The loads of many slots, in one exchange; a slot that the edge does not have is left out."""
        ...

    async def server_loads(self, slot: SlotName) -> dict[InstanceId, int]:
        """Requests in flight in each instance of a slot."""
        ...

    async def synchronise(self, wanted: Callable[[], EdgeState]) -> None:
        """Make the edge hold exactly what `wanted` returns, whatever it held before: after a restart of
        either side. `wanted` is called when no route can change any more before it is applied."""
        ...

    async def watch(self, on_restart: Callable[[], None]) -> None:
        """Run until cancelled; call `on_restart` whenever a new HAProxy process answers. Never raises."""
        ...
