"""The platform's own processes: the plug-point `Processes`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class PlatformProcess:
    """A process of the platform: edge, node, controller and their like."""

    name: str
    pid: int
    memory: int  # bytes of PSS; 0 where it cannot be read


class Processes(Protocol):
    """Where the platform's processes are found. `SupervisedProcesses` (assembly/processes.py) implements it for the
    children of a supervisor."""

    def running(self) -> list[PlatformProcess]:
        """Those that run now; none where they are not known."""
        ...
