"""The log's own descriptor: a full pipe, a reused descriptor number, a missing reader."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

import pytest

from rescoldo.runtime.journal import MOST, Journal


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    for number in (read, write):
        with contextlib.suppress(OSError):
            os.close(number)


def opened(write: int) -> Journal:
    """A journal that writes to the pipe through a descriptor of its own."""
    kept = os.dup(2)
    os.dup2(write, 2)
    try:
        journal = Journal()
        journal.open()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    return journal


def fill(write: int) -> None:
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(write, True)


def test_writing_to_a_full_log_waits_once_and_briefly(pipe: tuple[int, int]) -> None:
    read, write = pipe
    journal = opened(write)
    fill(write)
    begin = time.monotonic()
    for _ in range(1000):
        journal.say("no room\n")
    assert time.monotonic() - begin < 2
    os.set_blocking(read, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.read(read, 65536)
    journal.say("room again\n")
    assert os.read(read, 100) == b"room again\n"


def test_a_long_text_keeps_its_end(pipe: tuple[int, int]) -> None:
    read, write = pipe
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 2**20)
    journal = opened(write)
    journal.say("begin\n" + "x" * 2**20 + "\nthe end\n")
    os.set_blocking(read, False)
    found = os.read(read, 2**21)
    assert len(found) <= MOST + 4 and found.endswith(b"the end\n")


def test_a_descriptor_number_that_was_reused_is_not_written_to(pipe: tuple[int, int]) -> None:
    read, write = pipe
    journal = opened(write)
    other_read, other_write = os.pipe()
    os.dup2(other_write, journal.descriptor)  # the function closed it, and a connection has its number now
    journal.say("for the log alone\n")
    for number in (read, other_read):
        os.set_blocking(number, False)
        with pytest.raises(BlockingIOError):
            os.read(number, 100)
    for number in (other_read, other_write, journal.descriptor):
        os.close(number)


def test_a_log_without_a_reader_does_not_raise(pipe: tuple[int, int]) -> None:
    read, write = pipe
    journal = opened(write)
    os.close(read)
    journal.say("for nobody\n")
