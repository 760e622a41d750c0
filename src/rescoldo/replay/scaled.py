"""Scales a function in virtual time by the platform's own policy, which runs only when its decision may matter."""

from __future__ import annotations

import math
from collections import deque

from rescoldo.policy.scaling import Sample, ScalingState, Spec, begin, decide, observe


class Scaled:
    """Decides the instances of one function. While one instance has been enough for a stable window, it only records
    looks: no average of them can ask for a second instance, and most functions of a trace never need one."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._looks: deque[tuple[float, int]] = deque()  # time and load of looks: a stable window and one before
        self._state: ScalingState | None = None  # None: one instance is enough
        self._high_at = -math.inf  # time of the last look at which one instance was not enough

    def begin(self, at: float) -> None:
        """Start with one instance: the function wakes at `at` (seconds)."""
        self._looks.clear()
        self._looks.append((at, 0))
        self._state, self._high_at = None, -math.inf

    def look(self, at: float, load: int, queued: int, running: int) -> int:
        """Return the wanted number of instances; `load` counts requests in flight and queued."""
        scaling = self._spec.scaling
        if load > scaling.aim or queued or running > 1:
            self._high_at = at
            if self._state is None:
                self._state = self._remembered()
        self._looks.append((at, load))
        while self._looks[1][0] <= at - scaling.stable_window:
            self._looks.popleft()
        if self._state is None:
            return running
        decision, self._state = decide(self._spec, self._state, Sample(at, load, queued), running)
        if not decision.panicking and decision.wanted == 1 and at - self._high_at > scaling.stable_window:
            self._state = None
        return decision.wanted

    def _remembered(self) -> ScalingState:
        first, *others = self._looks
        state = begin(first[0], 1)
        for at, load in others:
            state = observe(self._spec.scaling, state, Sample(at, load, 0))
        return state
