"""The controller's life: load at the start, loops while it serves, cleanup at the end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rescoldo.control.deploy.builds import Builds
from rescoldo.control.deploy.deployments import Deployments
from rescoldo.control.deploy.first_starts import FirstStarts
from rescoldo.control.deploy.function_secrets import FunctionSecrets
from rescoldo.control.deploy.images import Images
from rescoldo.control.deploy.namespaces import Namespaces
from rescoldo.control.deploy.reconciler import Reconciler
from rescoldo.control.fleet.adoption import Adoption
from rescoldo.control.fleet.fleet import Fleet
from rescoldo.control.fleet.growth import Growth
from rescoldo.control.fleet.known_node import KnownNode
from rescoldo.control.fleet.scaler import Scaler
from rescoldo.control.fleet.sleeper import Sleeper
from rescoldo.control.fleet.slots import SlotPool
from rescoldo.control.fleet.strict import StrictFunctions
from rescoldo.control.fleet.waker import Waker
from rescoldo.control.observe.failure_reports import FailureReports
from rescoldo.control.observe.problems import Problems
from rescoldo.control.observe.recorder import Recorder
from rescoldo.control.observe.served import Served
from rescoldo.control.renewal import Renewal
from rescoldo.edge.accesslog import Tally
from rescoldo.edge.protocol import Edge
from rescoldo.node.protocol import Exit, Node
from rescoldo.store.protocol import Store
from rescoldo.tasks import Tasks

if TYPE_CHECKING:  # the link would cost the start of a platform that stands alone 8 ms
    from rescoldo.link.membership import Membership


@dataclass(slots=True, eq=False, kw_only=True)
class Controller:
    """The parts with a start, a loop or an end, wired by assembly/parts.py."""

    node: Node
    edge: Edge
    store: Store
    tasks: Tasks
    slots: SlotPool
    known: KnownNode
    fleet: Fleet
    adoption: Adoption
    growth: Growth
    sleeper: Sleeper
    scaler: Scaler
    waker: Waker
    spaces: Namespaces
    images: Images
    builds: Builds
    deployments: Deployments
    trials: FirstStarts
    reconciler: Reconciler
    secrets: FunctionSecrets
    recorder: Recorder
    failures: FailureReports
    problems: Problems
    renewal: Renewal | None  # None: the gateway has no certificate
    membership: Membership | None  # None: the platform stands alone
    _watching: asyncio.Task[None] | None = field(default=None, init=False)  # watches the edge

    async def load(self) -> None:
        """Read the deployed functions and everything kept about them."""
        await self.builds.prepare()
        await self.images.load()
        await self.spaces.load()
        await self.deployments.load()
        await self.recorder.load()

    async def begin(self) -> None:
        """Adopt the running instances, and start the loops; call it after `load`."""
        await self.known.ask()
        await self.adoption.adopt()
        self._watching = self.tasks.spawn("watch edge", self.edge.watch(self._edge_restarted))
        self.tasks.spawn("watch node", self.node.watch(self._instance_lost, self._node_restarted))
        self.tasks.spawn("sleeper", self.sleeper.run())
        self.tasks.spawn("scaler", self.scaler.run())
        self.tasks.spawn("recorder", self.recorder.run())
        self.tasks.spawn("reconciler", self.reconciler.run())
        self.tasks.spawn("failed calls", self.failures.run())
        if self.renewal is not None:
            self.tasks.spawn("renewal", self.renewal.run())
        if self.membership is not None:
            served = Served(self.fleet.entries, self.reconciler.is_changing)
            self.tasks.spawn("upkeep", self.fleet.upkeep.run())
            self.tasks.spawn("grants", self.membership.grants.run(StrictFunctions(self.fleet)))
            self.tasks.spawn("report to control", self.membership.reports.run(served))
        self.fleet.keep_numbers()
        self.trials.go_on()

    def note_calls(self, told: Tally) -> None:
        """Count ended calls, which the edge reports."""
        self.recorder.record(told.calls)
        self.recorder.record_cold(told.colds)
        self.failures.add(told.failed)

    def stop_waking(self) -> None:
        """Refuse all requests that the edge holds, because the platform ends. The edge ends once its last client has
        left, but not while it is watched: so stop the watch, too."""
        if self._watching is not None:
            self._watching.cancel()
        self.waker.stop()

    async def end(self) -> None:
        """End every task, and save the counts."""
        await self.tasks.close()
        await self.recorder.flush()
        await self.store.close()

    # -- reactions to changes outside

    def _edge_restarted(self) -> None:
        self.tasks.spawn("synchronise edge", self._synchronise_edge())

    async def _synchronise_edge(self) -> None:
        await self.adoption.synchronise()
        self.growth.finish()

    def _instance_lost(self, exit: Exit) -> None:
        self.tasks.spawn(f"lost {exit.instance}", self.fleet.losses.lost(exit))

    def _node_restarted(self) -> None:
        self.tasks.spawn("check instances", self._check_node())

    async def _check_node(self) -> None:
        await self.known.ask()
        await self.adoption.check_instances()
