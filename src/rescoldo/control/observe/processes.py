"""What the platform's own processes hold and have found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rescoldo.model.settings import Settings


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
