"""One awake period of a revision, and the scaler's knowledge of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from rescoldo.control.fleet.cpu import CpuSampler
from rescoldo.control.fleet.life import NEXT, IllegalTransition, Stage
from rescoldo.edge.protocol import LiveServer
from rescoldo.model.coldstart import NO_TIME, StartTimes
from rescoldo.model.function import Function, FunctionPolicy
from rescoldo.model.names import InstanceId, SlotName
from rescoldo.policy.idle import Activity
from rescoldo.policy.openfaasrule import Alert
from rescoldo.policy.scaling import Decision, ScalingState

NO_ALERT = Alert()


@dataclass(slots=True, eq=False)
class Scale:
    """The scaler's knowledge of an awake function."""

    state: ScalingState
    looked_at: float  # seconds on the loop's clock
    total: int | None = None  # requests that its slot had begun then; None: unknown yet
    busy: bool = True  # a request was in flight or queued then
    decision: Decision | None = None  # the latest
    cpu: CpuSampler = field(default_factory=CpuSampler)
    cpu_due: float = 0.0  # seconds on the loop's clock: the next reading; only for functions that scale by cpu
    alert: Alert = NO_ALERT  # only for functions that scale by OpenFaaS's rule
    millicores: int = 0  # of all its instances together, at the last reading


@dataclass(slots=True, eq=False)
class Awake:
    """One awake period: a slot on loan and the instances in it, all of one revision. life.py describes its stages."""

    slot: SlotName
    function: Function
    policy: FunctionPolicy
    wanted: int  # instances
    activity: Activity
    answered_at: float  # seconds on the loop's clock: when a held request was last sent to this slot
    stage: Stage = Stage.STARTING
    servers: dict[InstanceId, LiveServer] = field(default_factory=dict)
    woken_at: float = 0.0  # seconds on the monotonic clock: when its first instance was ready
    took: StartTimes = NO_TIME  # the phases of that start
    scale: Scale | None = None  # None: the scaler has not looked yet
    starting: int = 0  # instances being started
    failures: int = 0  # consecutive failed starts; simultaneous ones count as one
    retry_at: float = 0.0  # seconds on the loop's clock: no start before this, after failures

    def enter(self, stage: Stage) -> None:
        """Go on to `stage`. Raises IllegalTransition when it cannot follow the present one."""
        if stage not in NEXT[self.stage]:
            raise IllegalTransition(f"{self.function.id} in {self.slot}: {stage} after {self.stage}")
        self.stage = stage

    def drain(self) -> None:
        """Enter DRAINING, since nothing is routed to the slot from now on; repeating it is no error."""
        if self.stage is not Stage.DRAINING:
            self.enter(Stage.DRAINING)

    def note_call(self, now: float) -> None:
        """Note that a held request is sent to the slot at `now` (seconds on the loop's clock)."""
        self.answered_at = now
        self.activity = Activity(now, self.activity.total)
