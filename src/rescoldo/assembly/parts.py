"""Wires a controller from the ports that it is given: the one place where its parts meet.

`python -m rescoldo.assembly.controller` gives it the real ports, tests/unit/control/control_world.py the fakes. Nothing
here opens a file or a socket.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from rescoldo.bundle.storage import BundleStorage
from rescoldo.control.controller import Controller
from rescoldo.control.fleet.adoption import Adoption
from rescoldo.control.fleet.fleet import Fleet
from rescoldo.control.fleet.growth import Growth, Reload
from rescoldo.control.fleet.scaler import Scaler
from rescoldo.control.fleet.sleeper import Sleeper
from rescoldo.control.fleet.slots import SlotPool
from rescoldo.control.fleet.waker import Waker
from rescoldo.control.observe.failure_reports import FailureReports
from rescoldo.control.observe.recorder import Recorder
from rescoldo.control.renewal import Renewal
from rescoldo.edge.accesslog import Tally
from rescoldo.edge.config import port_slot_names, slot_names
from rescoldo.edge.protocol import Edge
from rescoldo.model.settings import Settings
from rescoldo.node.protocol import Exit, Node
from rescoldo.store.protocol import Secrets, Store
from rescoldo.tasks import Tasks


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything that a controller reaches outside of its own memory."""

    node: Node
    edge: Edge
    store: Store
    secrets: Secrets
    bundles: BundleStorage
    reload: Reload
    slots: int  # that the edge has now


class Parts:
    """The parts of a controller, and the order in which they begin and end."""

    def __init__(self, settings: Settings, ports: Ports) -> None:
        node, edge, store = ports.node, ports.edge, ports.store
        self.tasks = Tasks()
        self.slots = SlotPool(
            slot_names(ports.slots), port_slot_names(ports.slots), on_scarce=lambda: self.growth.start()
        )
        self.fleet = Fleet(node, edge, store, self.slots, self.tasks, ports.bundles.group)
        self.adoption = Adoption(self.fleet, node, edge, self.slots, self.tasks)
        self.growth = Growth(ports.reload, self.fleet.routes.edge_state, self.slots)
        self.sleeper = Sleeper(self.fleet, edge, self.tasks)
        self.scaler = Scaler(self.fleet, edge, node)
        self.waker = Waker(self.fleet, settings.max_holds, settings.max_holds_per_function, self.scaler.full)
        self.recorder = Recorder(store, self.sleeper.saw_calls, self.fleet.entries.__contains__)
        self.failures = FailureReports(node, self.fleet.entries.__contains__)
        self.renewal = Renewal(settings, self.growth.renew) if settings.tls_cert is not None else None
        self.controller = Controller(
            settings, store, ports.secrets, ports.bundles, node, self.fleet, self.recorder, self.waker, self.tasks,
            self.renewal,
        )
        self._ports = ports
        self._watching: asyncio.Task[None] | None = None  # over the edge

    async def begin(self) -> None:
        """Take over what runs, and see from now on to what changes. `controller.load` goes before."""
        await self.adoption.adopt()
        self._watching = self.tasks.spawn("watch edge", self._ports.edge.watch(self._edge_restarted))
        self.tasks.spawn("watch node", self._ports.node.watch(self._instance_lost, self._node_restarted))
        self.tasks.spawn("sleeper", self.sleeper.run())
        self.tasks.spawn("scaler", self.scaler.run())
        self.tasks.spawn("recorder", self.recorder.run())
        self.tasks.spawn("failed calls", self.failures.run())
        if self.renewal is not None:
            self.tasks.spawn("renewal", self.renewal.run())
        await self.controller.keep_numbers()

    def stop_waking(self) -> None:
        """The platform ends. The edge does so when its last client has left, but not while it is watched: until then
        the requests that it holds are refused."""
        if self._watching is not None:
            self._watching.cancel()
        self.waker.stop()

    async def end(self) -> None:
        """End all that is under way, and save what was counted."""
        await self.tasks.close()
        await self.recorder.flush()
        await self._ports.store.close()

    def note_calls(self, told: Tally) -> None:
        """Calls have ended, as the edge tells of them."""
        self.recorder.record(told.calls)
        self.recorder.record_cold(told.colds)
        self.failures.add(told.failed)

    def _edge_restarted(self) -> None:
        self.tasks.spawn("synchronise edge", self._synchronise_edge())

    async def _synchronise_edge(self) -> None:
        await self.adoption.synchronise()
        self.growth.finish()

    def _instance_lost(self, exit: Exit) -> None:
        self.tasks.spawn(f"lost {exit.instance}", self.fleet.losses.lost(exit))

    def _node_restarted(self) -> None:
        self.tasks.spawn("check instances", self.adoption.check_instances())
