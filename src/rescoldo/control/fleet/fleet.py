"""The revisions that are awake or may wake, and the parts that move them from state to state.

`entries` holds one `Entry` for each revision that takes traffic; life.py describes its states. Each part makes its
own transitions, and each waits for the edge to confirm one before the next:

  Wakes       ASLEEP -> WAKING -> AWAKE; starts revisions aside, and lets them take over
  Replicas    while AWAKE: as many instances as wanted
  Retirement  AWAKE -> CLOSING -> ASLEEP; drains slots and stops their instances
  Losses      AWAKE -> ASLEEP when the last instance is lost, and another wake where one is due

This order keeps requests from failing:
  wake:   take slot -> start instance and add its server, side by side -> answer the held requests -> route
  retire: unroute -> wait until the slot is quiet -> remove servers -> stop instances -> give slot back
"""

from __future__ import annotations

from rescoldo.control.fleet.entries import Entries
from rescoldo.control.fleet.instances import Instances, Permit
from rescoldo.control.fleet.losses import Losses
from rescoldo.control.fleet.replicas import Replicas
from rescoldo.control.fleet.requested import RequestedReplicas
from rescoldo.control.fleet.retirement import Retirement
from rescoldo.control.fleet.routes import Routes
from rescoldo.control.fleet.slots import SlotPool
from rescoldo.control.fleet.standings import Standings
from rescoldo.control.fleet.upkeep import ALWAYS, Upkeep
from rescoldo.control.fleet.wakes import Wakes
from rescoldo.edge.protocol import Edge
from rescoldo.node.protocol import Node
from rescoldo.store.protocol import Store
from rescoldo.tasks import Tasks


class Fleet:
    """The entries and the parts that work on them."""

    def __init__(
        self, node: Node, edge: Edge, store: Store, slots: SlotPool, tasks: Tasks, upkeep: Upkeep = ALWAYS,
        permit: Permit | None = None,
    ) -> None:
        self.upkeep = upkeep
        self.entries = Entries(upkeep)
        self.instances = Instances(node, edge, tasks, permit)
        self.replicas = Replicas(self.instances, edge, tasks)
        self.requested = RequestedReplicas(store, tasks)
        self.standings = Standings(store, tasks)
        self.routes = Routes(self.entries, self.instances, edge, complete=store.complete)
        self.retirement = Retirement(self.routes, self.instances, self.requested, slots, tasks)
        self.wakes = Wakes(
            self.entries, self.routes, self.instances, self.replicas, self.retirement, self.standings, slots, tasks
        )
        self.losses = Losses(
            self.entries, self.routes, self.instances, self.replicas, self.retirement, self.wakes, tasks
        )

    def keep_numbers(self) -> None:
        """At the controller's start, resize awake revisions, and wake those that keep instances without a call.

        What is awake may be kept by the previous controller: so it counts as renewed now."""
        for entry in self.entries.values():
            if entry.awake is not None:
                self.upkeep.renew(entry.id)
            self.replicas.resize(entry)
            self.wakes.keep_awake_soon(entry)
