"""Stray processes: instances without a note, where they have neither a uid nor a cgroup of their own."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from contextlib import suppress
from pathlib import Path

from rescoldo.isolation.cgroups import named
from rescoldo.isolation.level import level
from rescoldo.model.settings import Settings
from rescoldo.node.processes.processes import all_pids, read_stat
from rescoldo.node.processes.sandboxes import Sandboxes, group_key

_BUNDLES = b'"bundles": '  # part of a zygote's order, which is among the arguments of all its forks


_SWEEPS = 20
_PAUSE = 0.05  # seconds

_LOG = logging.getLogger(__name__)


def are_left(settings: Settings) -> bool:
    """Whether instances, or cgroups of instances, may exist without a note."""
    return bool(named(group_key(settings)) if level() == "full" else strays(settings.bundles))


async def end_unnoted(settings: Settings, sandboxes: Sandboxes) -> None:
    """End the instances of an earlier node whose notes are lost; at isolation level full, everything in its
    cgroups."""
    await sandboxes.remove_elsewhere()
    if level() == "full":
        return  # `Adoption.adopt` removes the rest
    for _ in range(_SWEEPS):
        found = strays(settings.bundles)
        if not found:
            return
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(_PAUSE)
    _LOG.error("processes of an earlier platform are still running: %s", ", ".join(map(str, found)))


def strays(bundles: Path) -> list[int]:
    """The pids of zygotes, spares and instances of the platform with this folder of bundles. Forks carry the
    arguments of their zygote; programs have their working directory in their bundle. So may a person's shell, but a
    shell has a terminal and programs have none.

    Call it before this node has started a process. It needs no privileges: all strays have the node's own uid.
    """
    mark = _BUNDLES + json.dumps(str(bundles)).encode()
    return [pid for pid in all_pids() if pid != os.getpid() and _is_stray(pid, mark, bundles)]


def _is_stray(pid: int, mark: bytes, bundles: Path) -> bool:
    process = Path(f"/proc/{pid}")
    try:
        # root owns the /proc entries of processes that are not dumpable
        if process.stat().st_uid not in (0, os.geteuid()):
            return False
        if mark in (process / "cmdline").read_bytes():
            return True
        stat = read_stat(pid)
        return stat is not None and not stat.terminal and (process / "cwd").readlink().is_relative_to(bundles)
    except OSError:
        return False
