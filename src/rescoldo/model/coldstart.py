"""What the time of a cold call goes into, from the moment the edge has its head to the first byte of its answer.

Each moment of it belongs to one phase, so that the phases add up to the whole:

queue       held while nobody works on its wake: the ways to the controller, to the node and back, and their turns
            (the node's are 8 at once, see node/instances/boot.py)
slot        its place is made: a slot is taken and the edge told of the server, the node makes uid, socket and log
fork        from the order to a spare (or to fork one) to the first step of the instance in its sandbox, as its user
load        the handler's import; of a program, from its exec until it accepts a connection
listen      from there until the node hears that the event loop serves; nothing of a program
first_byte  from the end of the hold to the answer's first byte: connecting, the slot's queue, the handler
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from rescoldo.model.names import FunctionId

PHASES = ("queue", "slot", "fork", "load", "listen", "first_byte")
FAILURES = ("timeout", "crashed", "busy", "other")
"""Why wakes fail: not ready in time, ended before it was ready, no room or no node, anything else."""


class StartTimes(NamedTuple):
    """What the start of an instance took; microseconds. The rest of a start is `queue`."""

    slot: int = 0
    fork: int = 0
    load: int = 0
    listen: int = 0

    def within(self, waited: int) -> StartTimes:
        """The share of a call that waited the last `waited` microseconds of the start: it came late to a wake that
        others share.

        StartTimes(100, 200, 300, 40).within(400) is StartTimes(0, 60, 300, 40).
        """
        rest, shares = max(waited, 0), []
        for took in reversed(self):
            shares.append(min(took, rest))
            rest -= shares[-1]
        return StartTimes(*reversed(shares))


NO_TIME = StartTimes()


def took_by(slot: int, ordered: float, began: object, loaded: object, ready: float) -> StartTimes:
    """What a start took: `slot` microseconds, then as the moments say (seconds on the monotonic clock, which all
    processes of a machine share).

    `began` and `loaded` are the instance's word for when its first step and its handler's import were over. The
    function may have written them: one that is no moment between its neighbours is taken for `ready`. Of a program
    nobody says when it was loaded.
    """
    steps = [ordered]
    for step in (began, loaded):
        steps.append(step if isinstance(step, float) and steps[-1] <= step <= ready else ready)
    return StartTimes(slot, *(round((later - sooner) * 1e6) for sooner, later in pairwise([*steps, ready])))


class ColdCall(NamedTuple):
    """A cold call that was answered; microseconds."""

    function: FunctionId
    queue: int
    slot: int
    fork: int
    load: int
    listen: int
    first_byte: int


@dataclass(frozen=True, slots=True)
class PhaseTimes:
    """What one phase, or the whole, took in many cold calls; seconds."""

    mean: float
    median: float  # an estimate, as `p99`: a histogram is all that is kept
    p99: float
    max: float
    last: float  # of the latest call


@dataclass(frozen=True, slots=True)
class ColdStarts:
    """What is known of cold calls since the controller started."""

    calls: int  # that were answered
    failed: dict[str, int]  # wakes that failed, by reason
    phases: dict[str, PhaseTimes]  # those of PHASES, and "total"; none without a call
