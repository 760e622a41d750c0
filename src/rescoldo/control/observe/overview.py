"""Sums up the whole platform for `rescoldo status` and Prometheus."""

from __future__ import annotations

import contextlib
import platform as machine
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rescoldo import __version__
from rescoldo.control.fleet.fleet import Fleet
from rescoldo.control.fleet.known_node import KnownNode
from rescoldo.control.fleet.waker import Waker
from rescoldo.control.observe import metrics
from rescoldo.control.observe.problems import Problems
from rescoldo.control.observe.processes import Processes
from rescoldo.control.observe.recorder import Recorder
from rescoldo.model.errors import NodeUnavailable
from rescoldo.model.names import FunctionId
from rescoldo.model.settings import Settings
from rescoldo.node.protocol import Node, SparePool
from rescoldo.store.protocol import Condition, Store


class Overview:
    """Combines what fleet, store, node and recorder know."""

    def __init__(
        self, settings: Settings, fleet: Fleet, waker: Waker, recorder: Recorder, store: Store, node: Node,
        known: KnownNode, processes: Processes, problems: Problems,
        elsewhere: Callable[[FunctionId], int] = lambda function: 0,
    ) -> None:
        """`elsewhere` returns the number of a function's instances in other processes: a cluster's workers."""
        self._elsewhere = elsewhere
        self._settings = settings
        self._fleet = fleet
        self._waker = waker
        self._recorder = recorder
        self._store = store
        self._node = node
        self._known = known
        self._processes = processes
        self._problems = problems
        self._started_at = time.time()

    @property
    def architecture(self) -> str:
        """See api.protocol.Overview."""
        return self._known.description.architecture

    def problems(self) -> list[str]:
        """See api.protocol.Overview."""
        return self._problems.now()

    async def metrics(self) -> bytes:
        """See api.protocol.Overview."""
        entries = self._fleet.entries
        replicas = Counter[FunctionId]()
        for entry in entries.values():
            replicas[entry.id] += len(entry.awake.servers) if entry.awake is not None else 0
        for entry in entries.functions():
            replicas[entry.id] += self._elsewhere(entry.id)
        awake = {entry.id: entry.awake for entry in entries.functions() if entry.awake is not None}
        wakes = self._fleet.wakes
        waking = metrics.Waking(self._waker.held, self._waker.holds, wakes.succeeded, wakes.failed)
        spares = await self._spares()
        lifetimes, condition = self._fleet.instances.lifetimes, self._store.condition
        return await metrics.render(self._recorder, replicas, lifetimes, waking, spares, awake, condition)

    async def report(self) -> Mapping[str, Any]:
        """See api.protocol.Overview."""
        settings = self._settings
        entries = list(self._fleet.entries.functions())
        spares = await self._spares()
        awake = [entry.awake for entry in self._fleet.entries.values() if entry.awake is not None]
        others = [number for entry in entries if (number := self._elsewhere(entry.id))]
        return {
            "version": __version__,
            "arch": self.architecture,
            "python": machine.python_version(),
            "isolation": dict(self._known.description.isolation),
            "data": settings.data,
            "problems": self.problems(),
            "database": _told(self._store.condition),
            "gateway": settings.gateway,
            **({"certificate": settings.tls_cert} if settings.tls_cert is not None else {}),
            "metrics": settings.metrics,
            "started_at": self._started_at,
            "functions": len(entries),
            "awake": len({one.function.id for one in awake}) + len(others),
            "instances": sum(len(one.servers) for one in awake) + sum(others),
            "held": self._waker.held,
            "spares": asdict(spares) if spares is not None else {},
            "cold_starts": asdict(self._recorder.cold.all.summary(self._fleet.wakes.failed)),
            "processes": [asdict(one) for one in self._processes.running()],
        }

    async def _spares(self) -> SparePool | None:
        """The node's spares; None while the node restarts."""
        with contextlib.suppress(NodeUnavailable):
            return await self._node.spares()
        return None


def _told(condition: Condition) -> str:
    """The database's condition in one line."""
    found = condition.problem or "ok"
    if not condition.rewritten:
        return found
    at = datetime.fromtimestamp(condition.rewritten_at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    lost = condition.lost or "nothing"
    restored = f"restored from memory {condition.rewritten} times, last {at} ({condition.reason})"
    return f"{found}; {restored}; lost then: {lost}"
