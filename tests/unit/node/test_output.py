from __future__ import annotations

import asyncio
import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from rescoldo.node.output import BURST_SECONDS, MAX_LINE, TAIL, Budget, Lines, Output

RATE = 1024
BURST = RATE * BURST_SECONDS


@given(st.lists(st.text(alphabet="ab c\u20ac", max_size=30)), st.integers(1, 7))
def test_lines_come_out_as_they_went_in_however_the_bytes_are_split(texts: list[str], step: int) -> None:
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


def test_what_is_not_utf8_is_replaced() -> None:
    assert Lines().feed(b"caf\xe9\n") == ["caf\ufffd"]


def test_a_budget_gives_its_burst_and_then_its_rate() -> None:
    budget = Budget(100.0, RATE)
    assert budget.take(BURST + 1, 100.0) == BURST
    assert budget.take(10, 100.0) == 0
    assert budget.take(RATE, 100.5) == RATE // 2
    assert budget.take(10 * BURST, 1000.0) == BURST


async def test_output_keeps_lines_in_order_and_the_last_ones_as_tail(tmp_path: Path) -> None:
    lines: list[str] = []
    output = Output.create(tmp_path / "fifo", None, lines.append, RATE)
    child = output.open_for_child()
    os.write(child, "".join(f"{n}\n" for n in range(30)).encode() + b"end")
    os.close(child)
    output.drain()
    assert lines == [*map(str, range(30)), "end"]
    assert list(output.tail) == lines[-TAIL:]
    output.close()
    assert not (tmp_path / "fifo").exists()


async def test_what_is_over_the_budget_is_counted_to_the_byte(tmp_path: Path) -> None:
    lines: list[str] = []
    output = Output.create(tmp_path / "fifo", None, lines.append, RATE)
    child = output.open_for_child()
    os.set_blocking(child, False)
    written = 0
    while not any("dropped" in line for line in lines):
        try:
            if written < 2 * BURST:
                written += os.write(child, (b"x" * 1023 + b"\n"))
        except BlockingIOError:
            pass
        await asyncio.sleep(0)
    os.close(child)
    output.close()
    kept = sum(len(line) + 1 for line in lines if line.startswith("x"))
    dropped = sum(int(line.split()[1]) for line in lines if "dropped" in line)
    assert written - 2048 <= kept + dropped <= written + 1024  # a cut line counts its newline twice
    assert dropped > 0
