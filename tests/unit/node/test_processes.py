from __future__ import annotations

import asyncio
import errno
import os
import signal
import time
from pathlib import Path

import pytest

from rescoldo.node.processes.processes import Ends, describe, read_stat, uid_of


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "exit status 0"),
        (3 << 8, "exit status 3"),
        (9, "signal 9 (SIGKILL)"),
        (11 | 0x80, "signal 11 (SIGSEGV)"),
        (50, "signal 50"),
        (None, "ended for an unknown reason"),
    ],
)
def test_a_wait_status_is_described(status: int | None, text: str) -> None:
    assert describe(status) == text


def test_the_stat_of_a_process_with_a_hostile_name_is_parsed_correctly() -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        Path("/proc/self/comm").write_text("a) R 1 (b c")
        os.write(write, b"x")
        signal.pause()
        os._exit(0)
    os.read(read, 1)
    stat = read_stat(child)
    assert stat is not None
    assert (stat.group, uid_of(child)) == (os.getpgrp(), os.getuid())
    assert abs(stat.started / os.sysconf("SC_CLK_TCK") - time.clock_gettime(time.CLOCK_BOOTTIME)) < 60
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert read_stat(child) is None
    os.close(read)
    os.close(write)


async def test_a_status_recorded_during_a_wait_arrives() -> None:
    ends = Ends()
    ends.expect(7)
    waiting = asyncio.create_task(ends.take(7, patience=5.0))
    await asyncio.sleep(0)
    ends.record(7, 256)
    assert await waiting == 256
    assert await ends.take(7) is None  # already taken


async def test_an_expected_status_is_kept_until_taken_and_an_unexpected_one_is_dropped() -> None:
    ends = Ends()
    ends.expect(7)
    ends.record(7, 0)
    ends.record(8, 0)
    assert await ends.take(7, patience=0.0) == 0
    assert await ends.take(8, patience=0.0) is None


def test_a_process_that_cannot_be_looked_at_does_not_count_as_ended(monkeypatch):
    def refuse(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        read_stat(os.getpid())
