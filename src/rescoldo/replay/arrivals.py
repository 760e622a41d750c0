"""Turns counts by minute into single calls, each with an arrival time and a duration."""

from __future__ import annotations

import random
from array import array
from bisect import bisect_right
from dataclasses import dataclass

from rescoldo.replay.trace import PERCENTILES, SECONDS, Trace, TracedFunction

# The start of each interval between two percentiles, as a fraction of all calls
_BEGINS = tuple(percentile / 100 for percentile in PERCENTILES)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Calls of one function in the order of arrival."""

    at: array[float]  # seconds from the start of the trace
    runs: array[float]  # seconds


def arrivals_of(function: TracedFunction, seed: int) -> Arrivals:
    """Draw the function's calls: arrivals at random within each minute, durations from the percentiles.

    The trace has neither for single calls. `seed` and the function's key determine the draws, so that a function gets
    the same calls whichever others are played. Durations are uniform between two percentiles: with 100 ms at 25 and
    200 ms at 50, the draw 0.3 gives 120 ms.
    """
    chance = random.Random(f"{seed}:{function.key}").random
    at, runs = array("d"), array("d")
    parts = list(zip(function.durations, function.durations[1:], strict=False))
    slopes = [
        (high - low) / (end - begin) for (low, high), begin, end in zip(parts, _BEGINS, _BEGINS[1:], strict=False)
    ]
    for minute, calls in enumerate(function.calls):
        at.extend(sorted([(minute + chance()) * SECONDS for _ in range(calls)]))
        for _ in range(calls):
            draw = chance()
            place = bisect_right(_BEGINS, draw) - 1
            runs.append(function.durations[place] + (draw - _BEGINS[place]) * slopes[place])
    return Arrivals(at, runs)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Calls of all functions of a trace in the order of arrival."""

    at: array[float]  # seconds from the start of the trace
    runs: array[float]  # seconds
    function: array[int]  # index in the trace's functions


def schedule_of(trace: Trace, seed: int) -> Schedule:
    """All calls of a trace, merged; about 100 bytes a call."""
    calls: list[tuple[float, float, int]] = []
    for place, function in enumerate(trace.functions):
        arrivals = arrivals_of(function, seed)
        calls.extend(zip(arrivals.at, arrivals.runs, (place,) * len(arrivals.at), strict=True))
    calls.sort()
    return Schedule(
        array("d", [call[0] for call in calls]),
        array("d", [call[1] for call in calls]),
        array("l", [call[2] for call in calls]),
    )
