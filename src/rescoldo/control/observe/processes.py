"""The platform's own processes: the plug-point `Processes`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class PlatformProcess:
    """A process of the platform, for example edge, node or controller."""

    name: str
    pid: int
    memory: int  # bytes of PSS; 0 where it cannot be read


class Processes(Protocol):
    """Lists the platform's processes. `SupervisedProcesses` (assembly/processes.py) implements it for the children of
    a supervisor."""

    def running(self) -> list[PlatformProcess]:
        """The processes that run now; empty if they are unknown."""
        ...
