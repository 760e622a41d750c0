"""The processes that a supervisor started, from its file and /proc."""

from __future__ import annotations

import json
from pathlib import Path

from rescoldo.control.observe.processes import PlatformProcess
from rescoldo.model.settings import Settings


class SupervisedProcesses:
    """Implements `Processes`."""

    def __init__(self, settings: Settings) -> None:
        self._file = settings.children_file

    def running(self) -> list[PlatformProcess]:
        try:
            children = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return []
        there = {name: pid for name, pid in children.items() if Path(f"/proc/{pid}").exists()}
        return [PlatformProcess(name, pid, _memory(pid)) for name, pid in there.items()]


def _memory(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
