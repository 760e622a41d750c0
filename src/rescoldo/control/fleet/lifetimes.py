"""Measures how long instances exist: a function's cost in memory is this times its size.

A start and an end change two dictionary entries each, and nothing happens in between; sums are made on request.
"""

from __future__ import annotations

from collections import Counter

from rescoldo.model.names import FunctionId, InstanceId


class Lifetimes:
    """Seconds that instances of each function have existed, from the order to start to the end of the process.

    A new controller begins at 0, as Prometheus counters do, with the instances that it adopts. Nothing counts the
    seconds between the last scrape of the old controller and the adoption.
    """

    def __init__(self) -> None:
        self._since: dict[InstanceId, tuple[FunctionId, float]] = {}
        self._ended: dict[FunctionId, float] = {}  # seconds of ended instances; 0.0 before the first ends

    def began(self, function: FunctionId, instance: InstanceId, now: float) -> None:
        """Note that an instance exists or soon will; `now` in seconds, on one clock in all calls."""
        self._since[instance] = (function, now)
        self._ended.setdefault(function, 0.0)

    def ended(self, instance: InstanceId, now: float) -> None:
        """Note that an instance does not exist any more. An unknown instance is ignored, since it may be stopped
        twice."""
        function, since = self._since.pop(instance, (None, 0.0))
        if function is not None and function in self._ended:
            self._ended[function] += now - since

    def forget(self, function: FunctionId) -> None:
        """Forget a removed function's seconds; otherwise names that come and go would fill the memory."""
        self._ended.pop(function, None)

    def existing(self, function: FunctionId) -> list[InstanceId]:
        """The instances of a function, including starting and stopping ones."""
        return [instance for instance, (its, _) in self._since.items() if its == function]

    def seconds(self, now: float) -> dict[FunctionId, float]:
        """The seconds until `now` of each function that has had an instance."""
        sums = dict(self._ended)
        for function, since in self._since.values():
            if function in sums:
                sums[function] += now - since
        return sums

    def counts(self) -> dict[FunctionId, int]:
        """Existing instances by function, including starting and stopping ones; 0 for a function that has had one."""
        there = Counter(function for function, _ in self._since.values())
        return {function: there[function] for function in self._ended}
