"""Finds the processes that a supervisor started, from its file and /proc."""

from __future__ import annotations

import json
from pathlib import Path

from rescoldo.control.observe.processes import PlatformProcess
from rescoldo.model.settings import Settings
from rescoldo.node.processes.processes import proportional_memory


class SupervisedProcesses:
    """Implements `Processes` for the children of a supervisor."""

    def __init__(self, settings: Settings) -> None:
        self._file = settings.children_file

    def running(self) -> list[PlatformProcess]:
        """The children that run; empty if the supervisor's file cannot be read."""
        try:
            children = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return []
        there = {name: pid for name, pid in children.items() if Path(f"/proc/{pid}").exists()}
        return [PlatformProcess(name, pid, proportional_memory(pid) or 0) for name, pid in there.items()]
