"""Measures how much cpu functions used lately."""

from __future__ import annotations

from rescoldo.model.names import FunctionId, InstanceId
from rescoldo.node.protocol import InstanceUsage


class CpuSampler:
    """Turns cpu seconds since an instance's start into millicores since the last reading."""

    def __init__(self) -> None:
        self._last: dict[FunctionId, tuple[float, dict[InstanceId, float]]] = {}

    def millicores(self, function: FunctionId, usage: list[InstanceUsage], now: float) -> int:
        """Average since the last call for this function; the first call returns 0. `now` is in seconds."""
        current = {used.instance: used.cpu_seconds for used in usage}
        then, before = self._last.get(function, (now, current))
        self._last[function] = (now, current)
        # an instance that was not there at the last reading began with 0
        spent = sum(seconds - before.get(instance, 0.0) for instance, seconds in current.items())
        return int(1000 * spent / (now - then)) if now > then else 0
