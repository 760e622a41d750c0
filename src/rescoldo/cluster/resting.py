"""Node and edge of a cluster's control, which runs no function itself: workers wake them.

Control is the controller of one machine in all else: it keeps functions, checks deployments, and answers for owners
that cannot be reached. What would start an instance here is refused, and what would route calls has no effect.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

from rescoldo.edge.protocol import EdgeState, LiveServer, Route, SlotLoad
from rescoldo.model.calls import FailedCall
from rescoldo.model.errors import Busy, EdgeUnavailable, NodeUnavailable
from rescoldo.model.instance import Launch, LogLine, RunningInstance
from rescoldo.model.names import FunctionId, InstanceId, RouteKey, SlotName, split_id
from rescoldo.node.protocol import Exit, InstanceUsage, NodeDescription, SparePool


def no_owner(function: FunctionId) -> str:
    """What a user reads when no worker answers for a function."""
    namespace = split_id(function)[1]
    return (
        f"no worker of namespace {namespace} answers for {function} now; look at its pods with: "
        f"kubectl get pods -n {namespace} -l app.kubernetes.io/component=worker"
    )


class RestingNode:
    """Implements `Node` without instances."""

    def __init__(self, isolation: str) -> None:
        """`isolation`: the level that workers are installed with, since status and notes speak of them."""
        self._level = isolation

    async def describe(self) -> NodeDescription:
        return NodeDescription(
            architecture=platform.machine(),  # images are built for one architecture: workers have the same
            system=platform.system(),
            isolation={"level": self._level, "limits": "memory polled"},  # pods may make no cgroups
            private_ports=False,
            most_instances=0,
            instance_address="",
        )

    async def start(
        self, launch: Launch, on_address: Callable[[str], None] | None = None, *, successor: bool = False
    ) -> RunningInstance:
        raise Busy(no_owner(launch.function))

    async def stop(self, instance: InstanceId) -> None:
        """There is none."""

    async def instances(self) -> list[RunningInstance]:
        return []

    async def usage(self, function: FunctionId) -> list[InstanceUsage]:
        return []

    async def logs(
        self, function: FunctionId, *, tail: int | None, since: float | None, follow: bool, instance: str = ""
    ) -> AsyncIterator[LogLine]:
        raise NodeUnavailable(no_owner(function))
        yield

    async def spares(self) -> SparePool:
        return SparePool(0, 0, 0)

    async def explain(self, calls: Sequence[FailedCall], more: Mapping[FunctionId, int]) -> None:
        """Nobody calls functions here."""

    async def failures(self, function: FunctionId) -> list[FailedCall]:
        return []

    async def forget(self, function: FunctionId) -> None:
        """Nothing is kept here."""

    async def watch(self, on_exit: Callable[[Exit], None], on_restart: Callable[[], None]) -> None:
        await asyncio.Event().wait()


class RestingEdge:
    """Implements `Edge` without calls."""

    async def add_server(self, server: LiveServer) -> None:
        """No instance comes."""

    async def remove_server(self, slot: SlotName, instance: InstanceId, *, patience: float = 3.0) -> None:
        """There is none."""

    async def set_route(self, route: Route) -> None:
        """Gateways choose a worker by the function's name alone."""

    async def drop_route(self, function: RouteKey) -> None:
        """See `set_route`."""

    async def servers(self) -> set[tuple[SlotName, InstanceId]]:
        return set()

    async def load(self, slot: SlotName) -> SlotLoad:
        raise EdgeUnavailable(f"control has no slot {slot}")

    async def loads(self, slots: Iterable[SlotName]) -> dict[SlotName, SlotLoad]:
        return {}

    async def server_loads(self, slot: SlotName) -> dict[InstanceId, int]:
        return {}

    async def synchronise(self, wanted: Callable[[], EdgeState]) -> None:
        wanted()

    async def watch(self, on_restart: Callable[[], None]) -> None:
        await asyncio.Event().wait()
