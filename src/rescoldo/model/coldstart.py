"""The phases of a cold call, from the moment the edge has its head to the first byte of the response.

Each moment belongs to one phase, so the phases add up to the whole:

queue       held while nothing works on its wake: messages to the controller, to the node and back, and waits for their
            turns (the node starts 8 at once: AT_ONCE of node/zygotes/start_queue.py)
slot        the place is made: the controller takes a slot and the edge gets the server; the node makes uid, socket and
            log
fork        from the order to a spare (or to fork one) to the instance's first step in its sandbox, as its user
load        the handler's import; for a program, from its exec until it accepts a connection
listen      from there until the node hears that the event loop serves; zero for a program
first_byte  from the end of the hold to the response's first byte: connecting, the slot's queue, the handler
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from rescoldo.model.names import FunctionId

PHASES = ("queue", "slot", "fork", "load", "listen", "first_byte")
FAILURES = ("timeout", "crashed", "busy", "other")
"""Why a wake fails: the instance was not ready in time, it ended before it was ready, there is no room or no node, or
any other reason."""


class StartTimes(NamedTuple):
    """The durations of the phases of an instance's start, in microseconds. The rest of a start is `queue`."""

    slot: int = 0
    fork: int = 0
    load: int = 0
    listen: int = 0

    def within(self, waited: int) -> StartTimes:
        """Return the share of a call that waited only the last `waited` microseconds of the start, because it joined a
        wake in progress.

        StartTimes(100, 200, 300, 40).within(400) is StartTimes(0, 60, 300, 40).
        """
        rest, shares = max(waited, 0), []
        for took in reversed(self):  # the call saw the end of the start, and missed its beginning
            shares.append(min(took, rest))
            rest -= shares[-1]
        return StartTimes(*reversed(shares))


NO_TIME = StartTimes()


def took_by(slot: int, ordered: float, began: object, loaded: object, ready: float) -> StartTimes:
    """Return the durations of a start: `slot` in microseconds, and the phases between the given moments (seconds on
    the monotonic clock, which all processes of a machine share).

    `began` and `loaded` are the instance's own report of the ends of its first step and its handler's import. The
    function may have forged them: a moment that is not between its neighbours counts as `ready`. A program does not
    report when it was loaded.
    """
    steps = [ordered]
    for step in (began, loaded):
        steps.append(step if isinstance(step, float) and steps[-1] <= step <= ready else ready)
    return StartTimes(slot, *(round((later - sooner) * 1e6) for sooner, later in pairwise([*steps, ready])))


class ColdCall(NamedTuple):
    """The phases of a cold call that got a response, in microseconds."""

    function: FunctionId
    queue: int
    slot: int
    fork: int
    load: int
    listen: int
    first_byte: int


@dataclass(frozen=True, slots=True)
class PhaseTimes:
    """The durations of one phase, or of the whole, over many cold calls, in seconds."""

    mean: float
    median: float  # an estimate, as `p99` is: only a histogram is kept
    p99: float
    max: float
    last: float  # of the latest call


@dataclass(frozen=True, slots=True)
class ColdStarts:
    """The statistics of cold calls since the controller started."""

    calls: int  # with a response
    failed: dict[str, int]  # failed wakes by reason (FAILURES)
    phases: dict[str, PhaseTimes]  # by PHASES and "total"; empty without a call
