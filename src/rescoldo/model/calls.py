"""Counts of ended calls, grouped by function, minute and outcome."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from rescoldo.model.names import FunctionId, InstanceId

BUCKETS_MS = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000)
"""Upper bounds of the histogram of calls' total times, in milliseconds: Prometheus' defaults."""


class CallKey(NamedTuple):
    """The group of a call: its function, its minute and its outcome."""

    function: FunctionId
    minute: int  # Unix minutes
    status: int  # HTTP status that the client got; 0: the client left before there was one
    cold: bool  # the edge held the call while an instance woke


@dataclass(frozen=True, slots=True)
class FailedCall:
    """A call that the platform answered because its instance did not."""

    function: FunctionId
    instance: InstanceId
    call_id: str  # X-Call-Id, which may be the client's: one line of at most 100 characters
    at: float  # Unix seconds of the response
    status: int
    reason: str = ""  # how the instance ended, in one line; empty: unknown so far


@dataclass(slots=True)
class CallSums:
    """The sums of the calls of one key."""

    calls: int = 0
    queue_ms: int = 0  # held for a wake, and in the slot's queue
    run_ms: int = 0  # from then to the response's last byte
    bytes_in: int = 0
    bytes_out: int = 0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_MS) + 1))  # by whole time

    def add(self, other: CallSums) -> None:
        """Add the sums of other calls of the same key."""
        self.calls += other.calls
        self.queue_ms += other.queue_ms
        self.run_ms += other.run_ms
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.buckets = [mine + theirs for mine, theirs in zip(self.buckets, other.buckets, strict=True)]
