"""Runs a platform for tests as in an unprivileged pod: another user's, with a memory limit, and without cgroups of its
own."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from rescoldo.isolation.container import Groups, find_groups
from support.unprivileged import UnprivilegedLive

MIB = 2**20


class Pod:
    """A cgroup v1 with a limit of memory, below this process's own, and one of the processors, as pods have them:
    outside of one the kernel shares processors by session (sched(7), autogroup), and priorities mean little."""

    @staticmethod
    def possible() -> bool:
        """Whether this machine has the memory controller of cgroup v1, and lets this process make groups."""
        groups = _groups("memory")
        processors = _groups("cpu")
        return (
            groups is not None and groups.version == 1 and os.access(groups.folders[0], os.W_OK)
            and processors is not None and processors.version == 1 and os.access(processors.folders[0], os.W_OK)
        )  # fmt: skip

    def __init__(self, limit: int) -> None:
        groups, processors = _groups("memory"), _groups("cpu")
        assert groups is not None and processors is not None
        self.folder, self.processors = (found.folders[0] / f"rl-pod-{os.getpid()}" for found in (groups, processors))
        self.folder.mkdir()
        self.processors.mkdir()
        (self.folder / "memory.limit_in_bytes").write_text(str(limit))

    def remove(self) -> None:
        """Remove the groups, whose processes must have ended."""
        self.folder.rmdir()
        self.processors.rmdir()

    def kernel_kills(self) -> int:
        """How many processes the kernel has killed for lack of memory."""
        lines = (self.folder / "memory.oom_control").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("oom_kill ")))


def _groups(controller: str) -> Groups | None:
    return find_groups(controller, Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text())


# marks of a module whose tests have a platform in a pod
NEEDS = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a cgroup and to become another user"),
    pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv"),
    pytest.mark.skipif(not Pod.possible(), reason="needs the memory controller of cgroup v1"),
]


class ContainedLive(UnprivilegedLive):
    """A platform of UID in a pod."""

    def __init__(self, pod: Pod, library: Path, python: str, **settings: Any) -> None:
        super().__init__(library, python, **settings)
        self._pod = pod

    def command(self, request: Path) -> list[str]:
        processors = f"echo $$ > {self._pod.processors}/cgroup.procs"
        inside = shlex.join(super().command(request))
        return ["sh", "-c", f"echo $$ > {self._pod.folder}/cgroup.procs && {processors} && exec {inside}"]
