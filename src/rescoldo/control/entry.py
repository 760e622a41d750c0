"""What the controller knows of one function from moment to moment."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from rescoldo.edge.config import TIMEOUT_MARGIN
from rescoldo.edge.protocol import LiveServer, Route
from rescoldo.model.coldstart import NO_TIME, Took
from rescoldo.model.errors import RescoldoError
from rescoldo.model.function import Function, FunctionPolicy
from rescoldo.model.names import FunctionId, InstanceId, SlotName
from rescoldo.policy.idle import Activity


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
    took: Took = NO_TIME  # what that took
    closing: bool = False  # its route says asleep already, but a wake may still take it back
    retired: bool = False  # its instances are being stopped: one that is still starting must not join them


@dataclass(slots=True, eq=False)
class Failure:
    """The last start failed; until `retry_at` nobody tries again."""

    error: RescoldoError
    count: int  # in a row
    retry_at: float  # seconds on the loop's clock


@dataclass(slots=True, eq=False)
class Entry:
    """A deployed function and its present state. Changed by the controller's event loop alone."""

    function: Function
    policy: FunctionPolicy
    awake: Awake | None = None
    waking: asyncio.Task[SlotName] | None = None  # shared by all who wait
    failure: Failure | None = None
    failed_wakes: Counter[str] | None = None  # by reason; None: none failed
    early_deaths: int = 0  # in a row, of instances that the node does not replace itself
    published: Route | None = None  # what the edge was last told
    publishing: asyncio.Lock = field(default_factory=asyncio.Lock)
    resizing: asyncio.Lock = field(default_factory=asyncio.Lock)
    removed: bool = False

    @property
    def id(self) -> FunctionId:
        return self.function.id

    @property
    def route(self) -> Route:
        """What the edge should know of the function now."""
        policy, limits = self.policy, self.policy.limits
        # a handler's own 504 comes first; a program has nobody but the edge to give one
        margin = TIMEOUT_MARGIN if policy.program is None else 0.0
        return Route(
            function=self.id,
            slot=self.awake.slot if self.awake is not None and not self.awake.closing else None,
            max_body=limits.max_body,
            response_timeout=limits.exec_timeout + margin,
            max_queue=limits.max_queue,
            max_response=limits.max_response,
            max_inflight=limits.max_inflight or None,
        )
