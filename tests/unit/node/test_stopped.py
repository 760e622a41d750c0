from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess

import pytest

from rescoldo.node.instances.stopped import MOST_LOOKS, due, end_stopped
from rescoldo.node.processes.processes import Watched, read_stat


def test_each_of_many_processes_is_polled_in_turn() -> None:
    all_of_them = list(range(500))
    turns = [due(all_of_them, turn) for turn in (0, MOST_LOOKS, 2 * MOST_LOOKS)]
    assert turns == [all_of_them[:200], all_of_them[200:400], all_of_them[400:] + all_of_them[:100]]
    assert due(all_of_them[:200], 7) == all_of_them[:200]


def sleepers() -> list[subprocess.Popen[bytes]]:
    return [subprocess.Popen(["sleep", "600"]) for _ in range(2)]


@pytest.mark.slow
async def test_a_process_that_stays_stopped_is_killed_and_others_are_not() -> None:
    processes = sleepers()
    watched = [Watched(process.pid, os.pidfd_open(process.pid)) for process in processes]
    watching = asyncio.create_task(end_stopped(lambda: watched))
    try:
        processes[0].send_signal(signal.SIGSTOP)
        await asyncio.wait_for(watched[0].ended.wait(), 10)
        stat = read_stat(processes[1].pid)
        assert stat is not None
        assert stat.state == "S"
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        for process, one in zip(processes, watched, strict=True):
            one.close()
            process.kill()
            process.wait()
