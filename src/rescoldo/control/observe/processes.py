"""What the platform's own processes hold and have found, and how much cpu functions used lately."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rescoldo.model.names import FunctionId, InstanceId
from rescoldo.model.settings import Settings
from rescoldo.node.protocol import InstanceUsage


class CpuSampler:
    """Turns cpu seconds since start into millicores since the last question."""

    def __init__(self) -> None:
        self._last: dict[FunctionId, tuple[float, dict[InstanceId, float]]] = {}

    def millicores(self, function: FunctionId, usage: list[InstanceUsage], now: float) -> int:
        """Average since the function was last asked for; the first answer is 0. `now` is in seconds."""
        current = {used.instance: used.cpu_seconds for used in usage}
        then, before = self._last.get(function, (now, current))
        self._last[function] = (now, current)
        spent = sum(seconds - before.get(instance, 0.0) for instance, seconds in current.items())
        return int(1000 * spent / (now - then)) if now > then else 0


def isolation_found(settings: Settings) -> dict[str, str]:
    """How the node isolates instances, as it has written it down; empty until it has."""
    try:
        return dict(json.loads(settings.isolation_file.read_text()))
    except (OSError, ValueError):
        return {}


def platform_processes(settings: Settings) -> list[dict[str, Any]]:
    """Name, pid and memory (bytes of PSS; 0 where it cannot be read) of the platform's processes."""
    try:
        children = json.loads(settings.children_file.read_text())
    except (OSError, ValueError):
        return []
    there = {name: pid for name, pid in children.items() if Path(f"/proc/{pid}").exists()}
    return [{"name": name, "pid": pid, "memory": _memory(pid)} for name, pid in there.items()]


def _memory(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
