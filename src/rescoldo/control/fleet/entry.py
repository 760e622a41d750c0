"""What the controller knows of one function from moment to moment."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from rescoldo.control.fleet.cpu import CpuSampler
from rescoldo.edge.config import TIMEOUT_MARGIN
from rescoldo.edge.protocol import LiveServer, Route, Share
from rescoldo.kinds.registry import kind_named
from rescoldo.model.coldstart import NO_TIME, StartTimes
from rescoldo.model.errors import RescoldoError
from rescoldo.model.function import Function, FunctionPolicy
from rescoldo.model.names import FunctionId, InstanceId, RouteKey, SlotName, revision_key
from rescoldo.model.standing import PLAIN, Standing
from rescoldo.policy.idle import Activity
from rescoldo.policy.openfaasrule import Alert
from rescoldo.policy.scaling import Decision, ScalingState

NO_ALERT = Alert()
MAX_CHANGES = 10  # that are remembered of a function


@dataclass(frozen=True, slots=True)
class ReplicaChange:
    """The number of instances was changed."""

    at: float  # seconds on the loop's clock
    before: int
    after: int
    reason: str


@dataclass(slots=True, eq=False)
class Scale:
    """What the scaler knows of a function that is awake."""

    state: ScalingState
    looked_at: float  # seconds on the loop's clock
    total: int | None = None  # requests its slot had begun then; None: not known yet
    busy: bool = True  # a request was in flight or queued then
    decision: Decision | None = None  # the last one
    cpu: CpuSampler = field(default_factory=CpuSampler)
    cpu_due: float = 0.0  # seconds on the loop's clock: when it is read again, where the function scales by it
    alert: Alert = NO_ALERT  # where it scales by OpenFaaS's rule
    millicores: int = 0  # of all its instances, at the last reading


@dataclass(slots=True, eq=False)
class Awake:
    """One time awake: a slot on loan and the instances in it, all of one revision."""

    slot: SlotName
    function: Function
    policy: FunctionPolicy
    wanted: int  # instances
    activity: Activity
    answered_at: float  # seconds on the loop's clock: when a held request was last sent to this slot
    servers: dict[InstanceId, LiveServer] = field(default_factory=dict)
    woken_at: float = 0.0  # seconds on the monotonic clock: when its first instance was ready
    took: StartTimes = NO_TIME  # what that took
    closing: bool = False  # its route says asleep already, but a wake may still take it back
    scale: Scale | None = None  # None: the scaler has not looked yet
    starting: int = 0  # instances on their way
    failures: int = 0  # starts that failed in a row, those at the same time counted as one
    retry_at: float = 0.0  # seconds on the loop's clock: when one is tried again after that
    shrinking: bool = False  # instances are being chosen that are too many
    retired: bool = False  # its instances are being stopped: one that is still starting must not join them


@dataclass(slots=True, eq=False)
class Failure:
    """The last start failed; until `retry_at` nobody tries again."""

    error: RescoldoError
    count: int  # in a row
    retry_at: float  # seconds on the loop's clock


@dataclass(slots=True, eq=False)
class Entry:
    """A revision that takes traffic and its present state. Changed by the controller's event loop alone.

    A function has one for its current revision, and one more for each other revision that has a share of its traffic.
    """

    function: Function
    policy: FunctionPolicy
    past: bool = False  # not the function's current revision
    standing: Standing = PLAIN  # what of it outlives this controller; of the current revision
    trial: asyncio.Task[None] | None = None  # starts it for the first time
    asked: int = 0  # instances that `rescoldo scale` or an alert asked for: fewer only asleep
    awake: Awake | None = None
    waking: asyncio.Task[SlotName] | None = None  # shared by all who wait
    failure: Failure | None = None
    failed_wakes: Counter[str] | None = None  # by reason; None: none failed
    early_deaths: int = 0  # in a row, of instances that the node does not replace itself
    published: Route | None = None  # what the edge was last told
    publishing: asyncio.Lock = field(default_factory=asyncio.Lock)
    removed: bool = False
    fresh: bool = True  # not woken yet since it was deployed
    changes: tuple[ReplicaChange, ...] = ()  # of the number of instances, the last few, oldest first

    @property
    def id(self) -> FunctionId:
        return self.function.id

    def note(self, at: float, before: int, after: int, reason: str) -> None:
        """Remember that the number of instances is changed, and why."""
        self.changes = (*self.changes, ReplicaChange(at, before, after, reason))[-MAX_CHANGES:]

    @property
    def kept(self) -> int:
        """Instances that it is to have without any call; 0: it may be asleep."""
        return 0 if self.standing.paused else max(self.policy.floor, self.asked)

    @property
    def wake_number(self) -> int:
        """How many instances the next wake is to start."""
        scaling = self.policy.scaling
        own = max(self.policy.woken, scaling.activation, scaling.initial if self.fresh else 1)
        return max(self.asked, min(own, self.policy.max_replicas))

    @property
    def key(self) -> RouteKey:
        """What the edge calls it."""
        return revision_key(self.id, self.function.revision) if self.past else self.id

    @property
    def route(self) -> Route:
        """What the edge should know of it now."""
        slot = self.awake.slot if self.awake is not None and not self.awake.closing else None
        policy, limits = self.policy, self.policy.limits
        # an instance's own 504 comes first, where its kind has one
        margin = TIMEOUT_MARGIN if kind_named(policy.start.kind).answers_deadline else 0.0
        return Route(
            function=self.key,
            slot=slot,
            max_body=limits.max_body,
            response_timeout=limits.exec_timeout + margin,
            max_queue=limits.max_queue,
            max_response=limits.max_response,
            max_inflight=limits.max_inflight or None,
            split=_split(self.function),
            paused=self.standing.paused,
            cors=policy.cors,
        )


def _split(function: Function) -> tuple[Share, ...]:
    current = function.revision
    return tuple(
        Share(percent, number, function.id if number == current else revision_key(function.id, number))
        for number, percent in function.traffic.items()
    )
