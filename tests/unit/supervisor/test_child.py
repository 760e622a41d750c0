from __future__ import annotations

import asyncio
import signal
import sys
import time

import pytest

from rescoldo.policy.budget import BURST_SECONDS, lines_for
from rescoldo.supervisor.child import RATE, Child, Part, describe_end


def program(code: str) -> Part:
    return Part("child", lambda: [sys.executable, "-S", "-c", code], {})


def test_an_end_is_described_by_status_or_signal() -> None:
    assert [describe_end(status) for status in (3, -9, -999, None)] == [
        "exit status 3", "SIGKILL", "signal 999", "for an unknown reason"
    ]


@pytest.mark.slow
async def test_a_child_that_writes_more_than_a_pipe_holds_is_never_blocked() -> None:
    child = Child.start(program("import os\nfor n in range(300): os.write(2, b'x' * 4096)\nos.write(1, b'\\nlast\\n')"))
    await child.ended.wait()
    assert child.status == 0
    assert child.tail[-1] == "last"
    assert max(map(len, child.tail)) <= 2000


@pytest.mark.slow
async def test_a_child_that_must_not_wait_continues_when_nobody_reads_its_output() -> None:
    code = "import os\ntry:\n  for n in range(300): os.write(2, b'x' * 4096)\nexcept BlockingIOError: os._exit(7)"
    edge = program(code)
    edge.waits = False
    child = Child.start(edge)
    assert child.process is not None
    assert child.process.wait(20) == 7, "the child waited"  # this blocks the loop: nobody reads
    await child.ended.wait()


@pytest.mark.slow
async def test_a_child_that_ignores_sigterm_is_killed_after_its_grace_period() -> None:
    code = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(60)"
    child = Child.start(program(code))
    while not child.tail:
        await asyncio.sleep(0.005)
    await child.stop(signal.SIGTERM, 0.1)
    assert child.status == -signal.SIGKILL




@pytest.mark.slow
async def test_a_child_that_writes_endless_lines_does_not_block_its_supervisor(
    capfd: pytest.CaptureFixture[str]
) -> None:
    child = Child.start(program("import os\nwhile True: os.write(2, b'x\\n' * 2048)"))
    longest, end = 0.0, time.monotonic() + 1.0
    while (before := time.monotonic()) < end:
        await asyncio.sleep(0)
        longest = max(longest, time.monotonic() - before)
    await child.stop(signal.SIGKILL, 1.0)
    shown = capfd.readouterr().err.splitlines()
    assert longest < 0.25, f"the loop was blocked for {longest:.3f} s"
    assert len(shown) < 2 * lines_for(RATE) * BURST_SECONDS
    assert any("lines left out" in line for line in shown)


@pytest.mark.slow
async def test_shown_output_of_a_child_has_no_control_characters(capfd: pytest.CaptureFixture[str]) -> None:
    child = Child.start(program(r"import os; os.write(2, b'\x1b[2J\x1b]0;t\x07 a\rb \xff \x9b\n')"))
    await child.ended.wait()
    shown = "\\x1b[2J\\x1b]0;t\\x07 a\\rb \ufffd \ufffd"
    assert capfd.readouterr().err == f"child: {shown}\n"
    assert list(child.tail) == [shown]
