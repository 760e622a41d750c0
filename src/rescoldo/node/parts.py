"""The parts of a node and their wiring: the composition root of the node process."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

from rescoldo.isolation import landlock, seccomp
from rescoldo.isolation.container import descriptors, own_container
from rescoldo.isolation.forks import counted
from rescoldo.isolation.level import level
from rescoldo.model.settings import Settings
from rescoldo.node.disk import BundlesOnDisk, SecretsOnDisk
from rescoldo.node.exits import Exits
from rescoldo.node.instances.admission import Admission
from rescoldo.node.instances.adoption import Adoption
from rescoldo.node.instances.boot import Boot
from rescoldo.node.instances.deaf import DeafWatch
from rescoldo.node.instances.failed_calls import FailedCalls
from rescoldo.node.instances.fork_watch import ForkWatch
from rescoldo.node.instances.losses import Losses
from rescoldo.node.instances.memory_watch import MemoryWatch
from rescoldo.node.instances.roster import Roster
from rescoldo.node.instances.starts import Starts
from rescoldo.node.instances.stops import Stops
from rescoldo.node.instances.supervision import Supervision
from rescoldo.node.output.logs import LogBook
from rescoldo.node.output.printer import Printer
from rescoldo.node.processes.footprints import Footprints
from rescoldo.node.processes.kept_listeners import KeptListeners
from rescoldo.node.processes.processes import Ends
from rescoldo.node.processes.sandboxes import Sandboxes
from rescoldo.node.protocol import NodeDescription
from rescoldo.node.sockets.endpoints import Endpoints
from rescoldo.node.sockets.fence import FENCED, gate_address, put_up
from rescoldo.node.sockets.gateway import GatewayAccess, access
from rescoldo.node.sockets.listeners import Listeners
from rescoldo.node.sockets.waiting import WaitingRequests
from rescoldo.node.zygotes.zygotes import SPARES_DESCRIPTORS, Zygotes
from rescoldo.tasks import Tasks

OWN_DESCRIPTORS = 100  # descriptors of the node itself, its clients and the starts under way


@dataclass(frozen=True, slots=True)
class NodeParts:
    """The parts that the node process runs and its server uses."""

    settings: Settings
    privileged: bool  # each instance has a uid of its own
    tasks: Tasks  # all background tasks
    description: NodeDescription
    ends: Ends
    exits: Exits
    logs: LogBook
    sandboxes: Sandboxes
    zygotes: Zygotes
    roster: Roster
    memory: MemoryWatch | None  # enforces memory limits where there are no cgroups
    adoption: Adoption
    starts: Starts
    stops: Stops
    losses: Losses
    failures: FailedCalls
    listeners: Listeners
    forks: ForkWatch | None  # limits processes where there are no cgroups


def put_together(settings: Settings) -> NodeParts:
    """Create the parts of a node. None of them runs yet, but the fence may be up in the kernel. Needs a running
    event loop."""
    privileged, tasks = level() == "full", Tasks()
    ends, exits, sandboxes = Ends(), Exits(), Sandboxes.open(settings)
    logs = LogBook(settings.logs, Printer.inherited())
    # Only the supervisor's fence has a gate; a fence put up here lasts as long as this process.
    gate = gate_address(settings) if FENCED in os.environ else None
    fenced = gate is not None or put_up(settings) is not None
    gateway = access(settings, gate)
    zygotes = Zygotes(settings, sandboxes, ends, gateway)
    bundles = BundlesOnDisk(settings.bundles, own_gids=os.geteuid() == 0)
    footprints = Footprints()
    forks = ForkWatch(footprints, KeptListeners.inherited()) if counted() else None
    boot = Boot(zygotes, ends, sandboxes, bundles, SecretsOnDisk(settings.function_secrets), forks)

    roster, listeners, waiting = Roster(_reserved()), Listeners(tasks), WaitingRequests(tasks)
    failures = FailedCalls(logs.write, roster.__contains__, tasks)
    container = own_container()
    memory = None
    if not sandboxes.base:
        memory = MemoryWatch(roster, footprints, container.memory, container.cpus(), zygotes.processes, forks)
    admission = Admission(settings, roster, Endpoints(settings, privileged, fenced), listeners, logs, memory)
    deaf = DeafWatch(listeners, waiting, boot, tasks)
    supervision = Supervision(roster, admission, boot, deaf, listeners, waiting, failures, exits.tell, tasks)
    stops = Stops(roster, admission, boot, failures, tasks)
    starts = Starts(admission, boot, supervision, stops)
    losses = Losses(roster, stops, logs, exits.tell, tasks)
    adoption = Adoption(
        settings, roster, admission, boot, failures, sandboxes, supervision.begin, forks, losses.unanswered
    )
    description = _describe(settings, sandboxes, gateway, roster.most, fenced=fenced)
    return NodeParts(
        settings, privileged, tasks, description, ends, exits, logs, sandboxes, zygotes, roster, memory,
        adoption, starts, stops, losses, failures, listeners, forks,
    )  # fmt: skip


def _reserved() -> int:
    """Descriptors reserved for spares and for the node itself."""
    return descriptors() // SPARES_DESCRIPTORS + OWN_DESCRIPTORS


def _describe(
    settings: Settings, sandboxes: Sandboxes, gateway: GatewayAccess | None, most: int, *, fenced: bool
) -> NodeDescription:
    container = own_container()
    memory = container.memory()
    isolation = {
        "level": level(),
        "limits": f"cgroup v{sandboxes.base.version}" if sandboxes.base else "memory polled",
        "system_calls": "filtered" if seccomp.available() else "all",
        "processes": "limited" if level() == "full" or counted() else "polled",
        "ports": "private" if fenced else "shared",
        "landlock": f"ABI {landlock.abi()}" if landlock.abi() else "none",
        "memory": f"{memory.limit // 2**20} MiB of the {'container' if memory.contained else 'machine'}",
        "cpus": f"{container.cpus():g}",
        "gateway": str(gateway or "not shown to functions"),
    }
    address = f"unix@{settings.instances}/{{instance}}.sock"
    return NodeDescription(platform.machine(), platform.system(), isolation, fenced, most, address)
