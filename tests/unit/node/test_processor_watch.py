"""The watch over instances' use of processors, with processes that spin."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rescoldo.node.instances.processor_watch import LOOK_SECONDS, ProcessorWatch
from rescoldo.node.processes.processes import read_stat
from rescoldo.policy.processors import WORTH

SPINS = "import os, time\nfor _ in range(3):\n    if not os.fork():\n        while True: pass\ntime.sleep(600)\n"


@pytest.fixture
def spinner() -> Iterator[list[int]]:
    """The pids of a process and its three children that spin."""
    with subprocess.Popen([sys.executable, "-c", SPINS], start_new_session=True) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        until(lambda: len(children.read_text().split()) == 3)
        yield [process.pid, *map(int, children.read_text().split())]
        os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def sleeper() -> Iterator[int]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process.pid
        process.kill()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def used(pids: list[int]) -> float:
    return sum(stat.cpu_seconds for pid in pids if (stat := read_stat(pid)) is not None)


def policies(*pids: int) -> set[int]:
    return {os.sched_getscheduler(pid) for pid in pids}


def test_who_crowds_the_processors_runs_only_when_nobody_else_wants_to(spinner: list[int], sleeper: int) -> None:
    families = {spinner[0]: spinner, sleeper: [sleeper]}
    watch = ProcessorWatch(cpus=2)
    watch.look(1.0, families)
    before = used(spinner)
    until(lambda: used(spinner) > before + 2 * WORTH)
    watch.look(1.0 + LOOK_SECONDS / 2, families)
    assert policies(*spinner) == {os.SCHED_OTHER}
    watch.look(1.0 + LOOK_SECONDS, families)
    assert policies(*spinner) == {os.SCHED_IDLE}
    assert policies(sleeper) == {os.SCHED_OTHER}
    watch.look(1.0 + 2 * LOOK_SECONDS, {spinner[0]: [*spinner, sleeper]})  # a child of it by now
    assert policies(sleeper) == {os.SCHED_IDLE}


def test_no_more_threads_than_processors_keep_their_priority(spinner: list[int]) -> None:
    watch = ProcessorWatch(cpus=3)
    watch.look(1.0, {spinner[0]: spinner})
    before = used(spinner)
    until(lambda: used(spinner) > before + 2 * WORTH)
    watch.look(1.0 + LOOK_SECONDS, {spinner[0]: spinner})
    assert policies(*spinner) == {os.SCHED_OTHER}


def test_processes_that_have_ended_are_nobodys(spinner: list[int]) -> None:
    watch = ProcessorWatch(cpus=1.0)
    watch.look(1.0, {spinner[0]: [*spinner, 2**22 + 1]})
    watch.look(1.0 + LOOK_SECONDS, {})
