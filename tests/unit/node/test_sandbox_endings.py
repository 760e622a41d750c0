"""How instances without cgroups ended, in words."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from rescoldo.isolation.container import Container
from rescoldo.node.processes.sandboxes import Sandboxes

KILLED, FAILED = int(signal.SIGKILL), 3 << 8  # wait statuses


def test_a_killed_instance_ran_out_of_memory_if_the_kernel_killed_for_that_reason_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills = 1
    monkeypatch.setattr(Container, "out_of_memory_kills", lambda _: kills)
    sandboxes = Sandboxes(None, tmp_path / "cgroups")
    assert sandboxes.ending("", KILLED, 0) == ("signal 9 (SIGKILL)", False)
    kills = 2
    assert sandboxes.ending("", FAILED, 0) == ("exit status 3", False)
    reason, starved = sandboxes.ending("", KILLED, 0)
    assert reason.startswith("out of memory: the kernel killed it")
    assert starved
    assert sandboxes.ending("", KILLED, 0) == ("signal 9 (SIGKILL)", False)  # somebody else did
