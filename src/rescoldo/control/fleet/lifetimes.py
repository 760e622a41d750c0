"""How long instances exist: what a function's memory costs is this times its size.

Two dictionary entries at a start and at an end, nothing in between; sums are made when somebody asks.
"""

from __future__ import annotations

from collections import Counter

from rescoldo.model.names import FunctionId, InstanceId


class Lifetimes:
    """Seconds that instances of each function have existed, from the order to start to the end of the process.

    A new controller begins at 0, as Prometheus counters do, with the instances it adopts; the seconds between the
    last look at the old one and the adoption are counted by nobody.
    """

    def __init__(self) -> None:
        self._since: dict[InstanceId, tuple[FunctionId, float]] = {}
        self._ended: dict[FunctionId, float] = {}  # seconds of instances that are gone, 0.0 while there is none

    def began(self, function: FunctionId, instance: InstanceId, now: float) -> None:
        """An instance exists, or soon will; `now` in seconds, of one clock in all calls."""
        self._since[instance] = (function, now)
        self._ended.setdefault(function, 0.0)

    def ended(self, instance: InstanceId, now: float) -> None:
        """It does not exist any more. What is not known is ignored: stopping may be asked for twice."""
        function, since = self._since.pop(instance, (None, 0.0))
        if function is not None and function in self._ended:
            self._ended[function] += now - since

    def forget(self, function: FunctionId) -> None:
        """Forget a removed function's seconds, else names that come and go would add up."""
        self._ended.pop(function, None)

    def seconds(self, now: float) -> dict[FunctionId, float]:
        """Of each function that has had an instance, until `now`."""
        sums = dict(self._ended)
        for function, since in self._since.values():
            if function in sums:
                sums[function] += now - since
        return sums

    def counts(self) -> dict[FunctionId, int]:
        """Instances that exist now, starting and stopping ones among them; 0 for those that had one."""
        there = Counter(function for function, _ in self._since.values())
        return {function: there[function] for function in self._ended}
