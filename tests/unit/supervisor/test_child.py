from __future__ import annotations

import asyncio
import signal
import sys

import pytest

from rescoldo.supervisor.child import Child, Program, describe_end


def program(code: str) -> Program:
    return Program("child", lambda: [sys.executable, "-S", "-c", code], {})


def test_an_end_is_told_by_status_or_signal() -> None:
    assert [describe_end(status) for status in (3, -9, -999, None)] == [
        "exit status 3", "SIGKILL", "signal 999", "how is not known"
    ]


@pytest.mark.slow
async def test_a_child_that_writes_more_than_a_pipe_holds_is_never_blocked() -> None:
    child = Child.start(program("import os\nfor n in range(300): os.write(2, b'x' * 4096)\nos.write(1, b'\\nlast\\n')"))
    await child.ended.wait()
    assert child.status == 0
    assert child.tail[-1] == "last"
    assert max(map(len, child.tail)) <= 2000


@pytest.mark.slow
async def test_a_child_that_must_not_wait_goes_on_when_nobody_reads_its_output() -> None:
    code = "import os\ntry:\n  for n in range(300): os.write(2, b'x' * 4096)\nexcept BlockingIOError: os._exit(7)"
    edge = program(code)
    edge.waits = False
    child = Child.start(edge)
    assert child.process is not None
    assert child.process.wait(20) == 7, "it waited"  # this blocks the loop: nobody reads
    await child.ended.wait()


@pytest.mark.slow
async def test_a_child_that_ignores_sigterm_is_killed_after_its_grace() -> None:
    code = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(60)"
    child = Child.start(program(code))
    while not child.tail:
        await asyncio.sleep(0.005)
    await child.stop(signal.SIGTERM, 0.1)
    assert child.status == -signal.SIGKILL


