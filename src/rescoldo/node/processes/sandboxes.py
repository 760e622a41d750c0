"""The node's view of sandboxes: their cgroups, out-of-memory ends, and their removal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from rescoldo.isolation.cgroups import Base, Groups, find_base, leave_pids, named
from rescoldo.isolation.container import own_container
from rescoldo.isolation.level import level
from rescoldo.model.settings import Settings
from rescoldo.node.processes.processes import describe

_ATTEMPTS = 40  # attempts to remove a group whose last process was just killed: one second
_PAUSE = 0.025  # seconds between two attempts

_KERNEL = "out of memory: the kernel killed it, as all of the container's memory was used"

_LOG = logging.getLogger(__name__)


def excess(limit: int) -> str:
    """Why an instance that exceeded its memory `limit` (bytes) ended, in words."""
    return f"out of memory: it needed more than its limit of {limit / 2**20:g} MiB"


class Ending(NamedTuple):
    """How an instance ended."""

    reason: str  # in words
    starved: bool = False  # it hit its memory limit


class Sandboxes:
    """The cgroups of this platform's sandboxes; without cgroups, it only tells how instances ended."""

    def __init__(self, base: Base | None, file: Path, elsewhere: Iterable[Base] = ()) -> None:
        """`file` records `base` while the groups exist; `elsewhere` are bases of this platform that no file
        recorded."""
        self.base = base
        self._file = file
        self._groups = Groups(base) if base is not None else None
        self._elsewhere = [Groups(one) for one in elsewhere]
        self._kills = own_container().out_of_memory_kills()

    @classmethod
    def open(cls, settings: Settings) -> Sandboxes:
        """Reuse the cgroups of an earlier node, or create new ones where this machine permits it."""
        if level() != "full":
            return cls(None, settings.cgroups_file)
        key = group_key(settings)
        known = _read(settings.cgroups_file)
        base = known or find_base(key)
        if base is None:
            _LOG.warning("cannot create cgroups here: cpu limits are not enforced, memory limits by polling")
            return cls(None, settings.cgroups_file)
        leave_pids(base)
        elsewhere = [one for one in named(key) if set(base.places).isdisjoint(one.places)] if known is None else []
        sandboxes = cls(base, settings.cgroups_file, elsewhere)
        sandboxes.note()
        return sandboxes

    def note(self) -> None:
        """Write the place of the cgroups to the file, unless it exists. Raises OSError."""
        if self.base is not None and not self._file.exists():
            self._file.write_text(json.dumps(asdict(self.base)))

    def limit(self, sandbox: str, memory: int, cpu: int) -> None:
        """Limit memory (bytes) and cpu (millicores), 0: no limit, before the sandbox is used. Raises OSError."""
        if self._groups is not None and sandbox:
            self._groups.limit(sandbox, memory, cpu)

    def ending(self, sandbox: str, status: int | None, limit: int) -> Ending:
        """How an instance ended, in words: its wait status, or that it exceeded its memory limit (bytes)."""
        killed = status is None or os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        if self._groups is None or not sandbox:
            if status is not None and killed and self._kernel_has_killed():
                return Ending(_KERNEL, starved=True)
            return Ending(describe(status))
        if not self._groups.out_of_memory(sandbox):
            return Ending(describe(status))
        if killed:
            return Ending(excess(limit), starved=True)
        return Ending(f"{describe(status)}, after one of its processes was {excess(limit)}", starved=True)

    def _kernel_has_killed(self) -> bool:
        """Whether the kernel has killed a process of this container for lack of memory since the last such end."""
        before, self._kills = self._kills, own_container().out_of_memory_kills()
        return self._kills > before

    async def remove(self, sandbox: str) -> None:
        """Remove a sandbox's cgroup, and kill the processes that are still in it."""
        if self._groups is not None and sandbox:
            await _remove(self._groups, sandbox)

    async def remove_others(self, keep: Iterable[str], of_zygote: int | None = None) -> None:
        """Remove every sandbox not in `keep`: spares and aborted starts. `of_zygote`: only the sandboxes of that
        zygote, which has ended."""
        if self._groups is None:
            return
        names = self._groups.names() - set(keep)
        if of_zygote is not None:
            names = {name for name in names if name.startswith(f"{of_zygote}-")}
        await asyncio.gather(*map(self.remove, names))

    async def remove_elsewhere(self) -> None:
        """Remove the groups that no file recorded, with all processes in them."""
        for groups in self._elsewhere:
            await asyncio.gather(*(_remove(groups, name) for name in groups.names()))
            groups.remove_base()
        self._elsewhere.clear()

    def close(self) -> None:
        """Remove the platform's own groups, which are empty by now."""
        if self._groups is not None:
            self._groups.remove_base()
            self._file.unlink(missing_ok=True)


def group_key(settings: Settings) -> str:
    """The name of a platform's cgroups."""
    return f"rescoldo-{settings.run_path.name}"


async def _remove(groups: Groups, sandbox: str) -> None:
    for _ in range(_ATTEMPTS):
        if groups.remove(sandbox):
            return
        for pid in groups.processes(sandbox):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(_PAUSE)
    _LOG.error("cannot remove the cgroup of sandbox %s", sandbox)


def _read(file: Path) -> Base | None:
    with contextlib.suppress(OSError, ValueError, TypeError):
        base = Base(**json.loads(file.read_text()))
        if all(Path(place).is_dir() for place in base.places):
            return base
    return None
