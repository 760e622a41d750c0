from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rescoldo.node.output.output import MAX_LINE, SHOW_AFTER, SLICE_LINES, TAIL, Lines, Output
from rescoldo.node.output.pump import Pump
from rescoldo.node.sockets.regain import regain_output
from rescoldo.policy.budget import BURST_SECONDS, lines_for

RATE = 1024
BURST = RATE * BURST_SECONDS


@given(st.lists(st.text(alphabet="ab c\u20ac", max_size=30)), st.integers(1, 7))
def test_lines_are_the_same_however_the_bytes_are_split(texts: list[str], step: int) -> None:
    data = "".join(text + "\n" for text in texts).encode()
    lines = Lines()
    found = [line for start in range(0, len(data), step) for line in lines.feed(data[start : start + step])]
    assert found == texts
    assert lines.end() == []


@given(st.lists(st.binary(max_size=3 * MAX_LINE), max_size=4))
def test_no_line_is_longer_than_the_limit_and_no_byte_is_lost(chunks: list[bytes]) -> None:
    chunks = [chunk.replace(b"\r", b"").replace(b"\x80", b"") for chunk in chunks]
    chunks = [bytes(byte & 0x7F for byte in chunk) for chunk in chunks]
    lines = Lines()
    found = [line for chunk in chunks for line in lines.feed(chunk)] + lines.end()
    assert all(len(line) <= MAX_LINE for line in found)
    assert "".join(found).replace("\r", "") == b"".join(chunks).replace(b"\n", b"").decode().replace("\r", "")


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    assert Lines().feed(b"caf\xe9\n") == ["caf\ufffd"]


def test_an_incomplete_line_can_be_shown_and_its_late_newline_adds_no_line() -> None:
    lines = Lines()
    assert lines.feed(b"Name: ") == []
    assert lines.show() == ["Name: "]
    assert lines.feed(b"\nnext\n") == ["next"]
    assert lines.feed(b"\n") == [""]


def test_an_incomplete_line_is_shown_without_an_incomplete_character() -> None:
    lines = Lines()
    assert lines.feed("50 €".encode()[:-1]) == []
    assert lines.show() == ["50 "]
    assert lines.show() == []
    assert lines.feed("€".encode()[-1:] + b"\n") == ["€"]


class Printer:
    """An instance's end of an output, and the kept lines."""

    def __init__(self, path: Path, pump: Pump, rate: int) -> None:
        self.lines: list[str] = []
        self.batches: list[int] = []
        self.output = Output.create(path, None, self._keep, rate, pump)
        self.out, self.err = self.output.open_for_child()
        for end in (self.out, self.err):
            os.set_blocking(end, False)
        self.written = 0

    def _keep(self, lines: list[str]) -> None:
        self.lines += lines
        self.batches.append(len(lines))

    def flood(self, data: bytes) -> None:
        """Write until the pipe is full."""
        try:
            while True:
                self.written += os.write(self.out, data)
        except BlockingIOError:
            pass

    def close(self) -> None:
        os.close(self.out)
        os.close(self.err)
        self.output.close()


@pytest.fixture
async def printer(tmp_path: Path) -> AsyncIterator[Printer]:
    printer = Printer(tmp_path / "fifo.log", Pump(), RATE)
    yield printer
    printer.close()
    assert not list(tmp_path.iterdir())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def test_output_keeps_lines_in_order_and_the_last_ones_as_a_tail(printer: Printer) -> None:
    os.write(printer.out, "".join(f"{n}\n" for n in range(30)).encode() + b"end")
    await printer.output.drain()
    assert printer.lines == [*map(str, range(30)), "end"]
    assert list(printer.output.tail) == printer.lines[-TAIL:]


async def test_output_over_the_budget_is_counted_in_bytes_and_lines(printer: Printer) -> None:
    while not any("dropped" in line for line in printer.lines):
        if printer.written < 2 * BURST:
            printer.flood(b"x" * 1023 + b"\n")
        await asyncio.sleep(0.001)
    await printer.output.drain()
    lines = [line for line in printer.lines if line.startswith("x")]
    dropped, count = (sum(int(line.split()[n]) for line in printer.lines if "dropped" in line) for n in (1, 6))
    kept = sum(len(line) + 1 for line in lines)
    assert printer.written - 2048 <= kept + dropped <= printer.written + 1024  # the newline of a cut line counts twice
    assert dropped > 0
    assert len(lines) + count >= printer.written // 1024


async def test_blank_lines_use_the_budget_of_lines_and_a_callback_handles_few(printer: Printer) -> None:
    began = time.monotonic()
    while not any("dropped" in line for line in printer.lines):
        printer.flood(b"\n" * 4096)
        await asyncio.sleep(0.001)
    rate = lines_for(RATE)
    assert printer.lines.count("") <= rate * (BURST_SECONDS + time.monotonic() - began) + 1
    assert max(printer.batches) <= SLICE_LINES


@pytest.mark.slow
async def test_the_loop_stays_responsive_while_many_instances_print_blank_lines(tmp_path: Path) -> None:
    pump = Pump()
    printers = [Printer(tmp_path / f"{number}.log", pump, 2**24) for number in range(40)]
    longest, end = 0.0, time.monotonic() + 1.0
    while (before := time.monotonic()) < end:
        for printer in printers:
            printer.flood(b"\n" * 65536)
        wrote = time.monotonic()
        await asyncio.sleep(0)
        longest = max(longest, time.monotonic() - wrote)
        await asyncio.sleep(max(0.0, 0.002 - (time.monotonic() - before)))
    assert all(printer.lines for printer in printers)
    for printer in printers:
        printer.close()
    assert longest < 0.25, f"the loop was blocked for {longest:.3f} s"


async def test_text_without_a_newline_is_shown_within_a_second_and_streams_are_separate(printer: Printer) -> None:
    began = time.monotonic()
    os.write(printer.out, b"Your name? ")
    os.write(printer.err, b"a warning\n")
    await until(lambda: len(printer.lines) == 2)
    assert printer.lines == ["a warning", "Your name? "]
    assert SHOW_AFTER * 0.9 < time.monotonic() - began < 1.0
    os.write(printer.out, b"\r 50%")
    await until(lambda: len(printer.lines) == 3)
    assert printer.lines[2] == "\r 50%"


async def test_the_next_node_continues_reading_even_from_a_fifo_whose_name_was_removed(tmp_path: Path) -> None:
    path, found = tmp_path / "fifo.log", list[str]()
    first = Output.create(path, None, lambda _: None, RATE, Pump())
    out, err = first.open_for_child()
    for stream in first._streams:
        stream.wait()  # the first node has ended
    (tmp_path / "fifo.err").unlink()
    second = Output(path, found.extend, RATE, Pump(), (None, regain_output(os.getpid(), err)))
    os.write(out, b"on\n")
    await until(lambda: found == ["on"])
    os.write(err, b"and on\n")
    await until(lambda: found == ["on", "and on"])
    for descriptor in (out, err):
        os.close(descriptor)
    first.close()
    second.close()
