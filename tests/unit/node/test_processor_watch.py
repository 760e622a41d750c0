"""The watch over instances' use of processors, with processes that spin."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rescoldo.node.instances.processor_watch import LOOK_SECONDS, ProcessorWatch
from rescoldo.node.processes.processes import read_stat

SPINS = "import threading\ndef spin():\n    while True: pass\nthreading.Thread(target=spin).start()\nspin()\n"
USED = 0.3  # seconds of processor time


@pytest.fixture
def spinner() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", SPINS]) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def sleeper() -> Iterator[int]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process.pid
        process.kill()


def until_it_has_used(pid: int, seconds: float) -> None:
    end = time.monotonic() + 60
    while (stat := read_stat(pid)) is None or stat.cpu_seconds < seconds:
        assert time.monotonic() < end
        time.sleep(0.005)


def policies(pid: int) -> set[int]:
    return {os.sched_getscheduler(int(thread.name)) for thread in Path(f"/proc/{pid}/task").iterdir()}


def test_who_uses_all_processors_runs_only_when_nobody_else_wants_to(spinner: int, sleeper: int) -> None:
    families = {spinner: [spinner], sleeper: [sleeper]}
    watch = ProcessorWatch(cpus=USED / 2)  # of which it uses all
    watch.look(1.0, families)
    stat = read_stat(spinner)
    assert stat is not None
    until_it_has_used(spinner, stat.cpu_seconds + USED)
    watch.look(1.0 + LOOK_SECONDS / 2, families)
    assert policies(spinner) == {os.SCHED_OTHER}
    watch.look(1.0 + LOOK_SECONDS, families)
    assert policies(spinner) == {os.SCHED_IDLE}
    assert policies(sleeper) == {os.SCHED_OTHER}


def test_what_was_used_before_the_first_look_does_not_count(spinner: int) -> None:
    until_it_has_used(spinner, USED)
    watch = ProcessorWatch(cpus=USED)
    watch.look(1.0, {spinner: [spinner]})
    watch.look(1.0 + LOOK_SECONDS, {spinner: [spinner]})
    assert policies(spinner) == {os.SCHED_OTHER}


def test_children_of_who_makes_way_do_so_too(spinner: int, sleeper: int) -> None:
    watch = ProcessorWatch(cpus=0.001)
    watch.look(1.0, {spinner: [spinner]})
    stat = read_stat(spinner)
    assert stat is not None
    until_it_has_used(spinner, stat.cpu_seconds + USED)
    watch.look(1.0 + LOOK_SECONDS, {spinner: [spinner, sleeper]})
    assert policies(sleeper) == {os.SCHED_IDLE}


def test_processes_that_have_ended_are_nobodys(spinner: int) -> None:
    watch = ProcessorWatch(cpus=1.0)
    watch.look(1.0, {spinner: [spinner, 2**22 + 1]})
    watch.look(1.0 + LOOK_SECONDS, {})
