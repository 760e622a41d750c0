"""Wires a controller from its ports: the only place where its parts meet.

`python -m rescoldo.assembly.controller` passes the real ports, tests/unit/control/control_world.py the fakes.
Nothing here opens a file or a socket.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rescoldo.api.protocol import Platform
from rescoldo.bundle.builder import Builder
from rescoldo.bundle.protocol import Bundles, Elsewhere
from rescoldo.control.controller import Controller
from rescoldo.control.deploy.builds import Builds
from rescoldo.control.deploy.change_context import ChangeContext
from rescoldo.control.deploy.changes import Changes
from rescoldo.control.deploy.deployments import Deployments
from rescoldo.control.deploy.first_starts import FirstStarts
from rescoldo.control.deploy.function_secrets import FunctionSecrets
from rescoldo.control.deploy.images import Images
from rescoldo.control.deploy.namespaces import Namespaces
from rescoldo.control.deploy.pauses import Pauses
from rescoldo.control.deploy.policies import Policies
from rescoldo.control.deploy.process_builder import ProcessBuilder
from rescoldo.control.deploy.reconciler import Reconciler
from rescoldo.control.deploy.removals import Removals
from rescoldo.control.deploy.revision_check import RevisionCheck
from rescoldo.control.deploy.revisions import Revisions
from rescoldo.control.deploy.switch import Switch
from rescoldo.control.deploy.traffic import Traffic
from rescoldo.control.fleet.adoption import Adoption
from rescoldo.control.fleet.fleet import Fleet
from rescoldo.control.fleet.growth import Growth, Reload
from rescoldo.control.fleet.keep_requests import KeepRequests
from rescoldo.control.fleet.known_node import KnownNode
from rescoldo.control.fleet.scale_requests import ScaleRequests
from rescoldo.control.fleet.scaler import Scaler
from rescoldo.control.fleet.sleeper import Sleeper
from rescoldo.control.fleet.slots import SlotPool
from rescoldo.control.fleet.upkeep import ALWAYS, NEVER, Upkeep
from rescoldo.control.fleet.waker import Waker
from rescoldo.control.observe.failure_reports import FailureReports
from rescoldo.control.observe.forgetting import Forgetting
from rescoldo.control.observe.function_logs import FunctionLogs
from rescoldo.control.observe.overview import Overview
from rescoldo.control.observe.problems import Problems
from rescoldo.control.observe.processes import Processes
from rescoldo.control.observe.recorder import Recorder
from rescoldo.control.observe.statuses import Statuses
from rescoldo.control.renewal import Renewal
from rescoldo.edge.config import port_slot_names, slot_names
from rescoldo.edge.protocol import Edge
from rescoldo.link.refusals import Refusals
from rescoldo.model.names import FunctionId
from rescoldo.model.settings import Settings
from rescoldo.node.protocol import Node
from rescoldo.store.protocol import Secrets, Store
from rescoldo.tasks import Tasks

if TYPE_CHECKING:  # the link would cost the start of a platform that stands alone 8 ms
    from rescoldo.link.membership import Membership


@dataclass(frozen=True, slots=True)
class Ports:
    """The controller's connections to everything outside its own memory."""

    node: Node
    edge: Edge
    store: Store
    secrets: Secrets
    bundles: Bundles
    processes: Processes
    reload: Reload
    slots: int  # slots that the edge has now
    membership: Membership | None = None  # of a cluster
    elsewhere: Elsewhere | None = None  # where bundles come from that were not uploaded here
    renew_certificate: Callable[[], bool] | None = None  # see Renewal; None: the gateway has no certificate
    # in a cluster's control: the number of a function's instances in all workers; None: they run here
    workers: Callable[[FunctionId], int] | None = None
    problems: Callable[[], Sequence[str]] = tuple  # that the controller itself does not know
    builder: Builder | None = None  # of faas-cli's archives; None: in processes beside the controller


@dataclass(frozen=True, slots=True)
class Running:
    """Keeps functions running: the fleet, and the loops over it."""

    tasks: Tasks
    slots: SlotPool
    known: KnownNode
    fleet: Fleet
    growth: Growth
    sleeper: Sleeper
    scaler: Scaler
    waker: Waker
    recorder: Recorder


@dataclass(frozen=True, slots=True)
class Deploying:
    """Changes the set of functions, and each function's revisions, traffic and secrets."""

    spaces: Namespaces
    policies: Policies
    images: Images
    builds: Builds
    trials: FirstStarts
    deployments: Deployments
    traffic: Traffic
    secrets: FunctionSecrets
    pauses: Pauses
    removals: Removals
    reconciler: Reconciler


def assemble(settings: Settings, ports: Ports) -> tuple[Controller, Platform]:
    """Wire a controller that has not begun, and its services for the API."""
    running = _running(settings, ports)
    fleet, recorder, tasks = running.fleet, running.recorder, running.tasks
    deploying = _deploying(settings, ports, running)
    renew = ports.renew_certificate
    renewal = Renewal(renew, running.growth.renew) if renew is not None else None
    problems = Problems(settings.database, ports.store, renewal, ports.problems)
    controller = Controller(
        node=ports.node,
        edge=ports.edge,
        store=ports.store,
        tasks=tasks,
        slots=running.slots,
        known=running.known,
        fleet=fleet,
        adoption=Adoption(fleet, ports.node, ports.edge, running.slots, tasks),
        growth=running.growth,
        sleeper=running.sleeper,
        scaler=running.scaler,
        waker=running.waker,
        spaces=deploying.spaces,
        images=deploying.images,
        builds=deploying.builds,
        deployments=deploying.deployments,
        trials=deploying.trials,
        reconciler=deploying.reconciler,
        secrets=deploying.secrets,
        recorder=recorder,
        failures=FailureReports(ports.node, fleet.entries.__contains__),
        problems=problems,
        renewal=renewal,
        membership=ports.membership,
    )
    return controller, _platform(settings, ports, running, deploying, problems)


def _running(settings: Settings, ports: Ports) -> Running:
    tasks = Tasks()
    slots = SlotPool(slot_names(ports.slots), port_slot_names(ports.slots), on_scarce=lambda: growth.start())
    upkeep = ALWAYS if ports.membership is None else Upkeep(ports.membership.reachable)
    if ports.workers is not None:
        upkeep = NEVER
    permit = None if ports.membership is None else ports.membership.grants.acquire
    fleet = Fleet(ports.node, ports.edge, ports.store, slots, tasks, upkeep, permit)
    growth = Growth(ports.reload, fleet.routes.edge_state, slots)
    sleeper = Sleeper(fleet, ports.edge, tasks)
    scaler = Scaler(fleet, ports.edge, ports.node)
    return Running(
        tasks=tasks,
        slots=slots,
        known=KnownNode(ports.node),
        fleet=fleet,
        growth=growth,
        sleeper=sleeper,
        scaler=scaler,
        waker=Waker(fleet, settings.max_holds, settings.max_holds_per_function, scaler.full),
        recorder=Recorder(ports.store, sleeper.saw_calls, fleet.entries.__contains__),
    )


def _deploying(settings: Settings, ports: Ports, running: Running) -> Deploying:
    fleet, tasks, store, known = running.fleet, running.tasks, ports.store, running.known
    spaces = Namespaces(store, ports.secrets, fleet.entries)
    images = Images(store, ports.bundles, ports.node, fleet, tasks, settings.max_system_body, ports.elsewhere)
    policies = Policies(settings, spaces, images, known)
    is_control = ports.workers is not None
    check = RevisionCheck(fleet, known, tasks, elsewhere=is_control)
    trials = FirstStarts(fleet, tasks, elsewhere=is_control)
    context = ChangeContext(store, fleet, spaces, images, policies, check, Changes(), settings.kept_revisions)
    traffic = Traffic(context)
    switch = Switch(context, trials, traffic)
    deployments = Deployments(context, trials, switch, traffic)
    removals = Removals(context, traffic, Forgetting(fleet.entries, running.recorder, ports.node, tasks).forget)
    refusals = Refusals() if ports.membership is None else ports.membership.refusals
    pauses = Pauses(fleet, trials)
    reconciler = Reconciler(store, context, switch, traffic, deployments, removals, trials, pauses, refusals, tasks)
    if not store.complete:
        fleet.wakes.look_up = reconciler.look_up
    return Deploying(
        spaces=spaces,
        policies=policies,
        images=images,
        builds=Builds(settings, images, tasks, ports.builder or ProcessBuilder(settings.builds)),
        trials=trials,
        deployments=deployments,
        traffic=traffic,
        secrets=FunctionSecrets(context, switch),
        pauses=pauses,
        removals=removals,
        reconciler=reconciler,
    )


def _platform(
    settings: Settings, ports: Ports, running: Running, deploying: Deploying, problems: Problems
) -> Platform:
    fleet, recorder, node = running.fleet, running.recorder, ports.node
    elsewhere = ports.workers or _nowhere
    return Platform(
        statuses=Statuses(fleet.entries, recorder, node, deploying.policies.notes, elsewhere),
        deployments=deploying.deployments,
        removals=deploying.removals,
        pauses=deploying.pauses,
        scaling=ScaleRequests(fleet),
        revisions=Revisions(ports.store, fleet.entries),
        traffic=deploying.traffic,
        images=deploying.images,
        builds=deploying.builds,
        namespaces=deploying.spaces,
        secrets=deploying.secrets,
        logs=FunctionLogs(fleet.entries, node),
        overview=Overview(
            settings, fleet, running.waker, recorder, ports.store, node, running.known, ports.processes, problems,
            elsewhere,
        ),
        upkeep=None if ports.membership is None else KeepRequests(fleet, deploying.trials.resume),
    )


def _nowhere(function: FunctionId) -> int:
    return 0
