"""The controller's knowledge of one revision from moment to moment."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from rescoldo.control.fleet.awake import Awake
from rescoldo.control.fleet.life import IllegalTransition, Life, Stage
from rescoldo.control.fleet.upkeep import ALWAYS, Upkeep
from rescoldo.edge.config import TIMEOUT_MARGIN
from rescoldo.edge.protocol import Route, Share
from rescoldo.kinds.registry import kind_named
from rescoldo.model.errors import Conflict, RescoldoError
from rescoldo.model.function import Function, FunctionPolicy
from rescoldo.model.names import FunctionId, RouteKey, SlotName, revision_key
from rescoldo.model.standing import PLAIN, Standing

MAX_CHANGES = 10  # remembered changes of a function's instance count


@dataclass(frozen=True, slots=True)
class ReplicaChange:
    """One change of the number of instances."""

    at: float  # seconds on the loop's clock
    before: int
    after: int
    reason: str


@dataclass(slots=True, eq=False)
class Failure:
    """The last start failed; no wake is tried again before `retry_at`."""

    error: RescoldoError
    count: int  # in a row
    retry_at: float  # seconds on the loop's clock


@dataclass(slots=True, eq=False)
class Entry:
    """A revision that takes traffic, with its present state. Only the controller's event loop changes it.

    A function has one entry for its current revision, and one for each other revision with a share of its traffic.
    `awake`, `waking` and `removed` make up the state (`life`), and only the transitions below change them.
    """

    function: Function
    policy: FunctionPolicy
    past: bool = False  # not the function's current revision
    upkeep: Upkeep = ALWAYS  # whether its minimum counts here
    resting: bool = False  # scaled to zero: its minimum does not wake it, its next call does
    standing: Standing = PLAIN  # the state that outlives this controller; only the current revision has one
    trial: asyncio.Task[None] | None = None  # its trial: the first start
    requested: int = 0  # instances requested by `rescoldo scale` or an alert; holds until it sleeps
    awake: Awake | None = None
    waking: asyncio.Task[SlotName] | None = None  # shared by all callers that wait
    removed: bool = False
    failure: Failure | None = None
    failed_wakes: Counter[str] | None = None  # by reason; None: no wake failed
    early_deaths: int = 0  # in a row, of instances that the node does not replace itself
    published: Route | None = None  # the last route that the edge has confirmed; None: unknown
    publishing: asyncio.Lock = field(default_factory=asyncio.Lock)
    fresh: bool = True  # not woken yet since its deployment
    changes: tuple[ReplicaChange, ...] = ()  # the latest changes of the number of instances, oldest first

    # -- its life; life.py draws the states

    @property
    def life(self) -> Life:
        """The state now."""
        if self.removed:
            return Life.REMOVED
        if self.waking is not None:
            return Life.WAKING
        if self.awake is None:
            return Life.ASLEEP
        return Life.CLOSING if self.awake.stage is Stage.CLOSING else Life.AWAKE

    def begin_wake(self, wake: asyncio.Task[SlotName]) -> None:
        """From ASLEEP: the task `wake` starts its first instance."""
        self._expect(Life.ASLEEP)
        self.waking = wake

    def give_up(self) -> None:
        """From WAKING: the start has failed."""
        self._expect(Life.WAKING)
        self.waking = None

    def serve(self, awake: Awake) -> Awake | None:
        """From any state but REMOVED: `awake` serves from now on. Returns the previous awake period, which drains. A
        wake under way finds out that it is not needed when its instance is ready."""
        self._expect(Life.ASLEEP, Life.WAKING, Life.AWAKE, Life.CLOSING)
        before = self.let_go()
        awake.enter(Stage.SERVING)
        self.awake, self.resting = awake, False
        self._expect(Life.AWAKE)
        return before

    def close(self) -> Awake:
        """From AWAKE: its route says asleep from now on; a call may still reopen it."""
        self._expect(Life.AWAKE)
        awake = self._awake()
        awake.enter(Stage.CLOSING)
        return awake

    def reopen(self) -> None:
        """From CLOSING: a call came."""
        self._expect(Life.CLOSING)
        self._awake().enter(Stage.SERVING)

    def fall_asleep(self) -> Awake:
        """From CLOSING: its slot is quiet. Returns the awake period whose instances must be stopped."""
        self._expect(Life.CLOSING)
        awake, self.awake = self._awake(), None
        awake.enter(Stage.ENDING)
        return awake

    def let_go(self) -> Awake | None:
        """From any state: no route leads to it any more. Returns the awake period that drains; None where nothing was
        awake."""
        self._expect(*Life)
        awake, self.awake, self.waking = self.awake, None, None
        if awake is not None:
            awake.drain()
        return awake

    def remove(self) -> None:
        """From ASLEEP: this revision takes no traffic any more."""
        self._expect(Life.ASLEEP)
        self.removed = True

    def _expect(self, *allowed: Life) -> None:
        if self.life not in allowed:
            raise IllegalTransition(f"{self.key} is {self.life.value}, not {' or '.join(one.value for one in allowed)}")
        awake = self.awake
        if awake is not None and (self.waking is not None or awake.stage not in (Stage.SERVING, Stage.CLOSING)):
            raise IllegalTransition(f"{self.key} is awake with what is {awake.stage.value}, waking: {self.waking}")

    def _awake(self) -> Awake:
        assert self.awake is not None
        return self.awake

    # -- derived from its state

    @property
    def id(self) -> FunctionId:
        """The function's id, which all its revisions share."""
        return self.function.id

    @property
    def key(self) -> RouteKey:
        """Its name at the edge."""
        return revision_key(self.id, self.function.revision) if self.past else self.id

    def note(self, at: float, before: int, after: int, reason: str) -> None:
        """Remember a change of the number of instances, and its reason."""
        self.changes = (*self.changes, ReplicaChange(at, before, after, reason))[-MAX_CHANGES:]

    def check_not_paused(self, why: str) -> None:
        """Raise Conflict if it is paused; `why` ends the sentence."""
        if self.standing.paused:
            resume = f"rescoldo resume {self.function.spec.name}"
            raise Conflict(f"{self.id} is paused, and {why}; resume it first: {resume}")

    @property
    def floor(self) -> int:
        """Instances that it keeps here however long nothing calls it; 0: it may sleep."""
        return self.policy.floor if self.upkeep.keeps(self.id) else 0

    @property
    def kept(self) -> int:
        """Instances that it keeps here without any call, some only until it sleeps."""
        if self.standing.paused or not self.upkeep.keeps(self.id):
            return 0
        return max(self.policy.floor, self.requested)

    @property
    def wake_number(self) -> int:
        """Number of instances that the next wake starts."""
        scaling = self.policy.scaling
        own = max(self.policy.woken, scaling.activation, scaling.initial if self.fresh else 1)
        return max(self.requested, min(own, self.policy.max_replicas))

    @property
    def route(self) -> Route:
        """The route that the edge should have now."""
        slot = self.awake.slot if self.awake is not None and self.life is Life.AWAKE else None
        policy, limits = self.policy, self.policy.limits
        # an instance whose kind answers a deadline itself must be first with its 504
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
