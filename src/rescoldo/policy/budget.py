"""How much of a stream of text is kept: so many bytes and so many lines a second.

A line costs its reader the same whatever its length, some 5 µs: 256 KiB a second would be 262,144 blank lines, more
than a processor can take.
"""

from __future__ import annotations

BURST_SECONDS = 2  # a quiet time of so many seconds lets as much be kept at once
BYTES_A_LINE = 128  # a stream may have a line for each so many bytes of its rate
LEAST_LINES = 64  # a second, however low the rate


def lines_for(rate: int) -> int:
    """Lines a second that go with `rate` bytes a second: with 256 KiB 2,048."""
    return max(LEAST_LINES, rate // BYTES_A_LINE)


class Budget:
    """Two token buckets. With `rate` 256 KiB a second they hold 512 KiB and 4,096 lines, and are full after 2 quiet
    seconds."""

    def __init__(self, now: float, rate: int) -> None:
        self._bytes = _Bucket(now, rate)
        self._lines = _Bucket(now, lines_for(rate))

    def take(self, data: bytes, now: float) -> int:
        """How many bytes of `data`, from its beginning, may be kept at `now` (seconds of one clock)."""
        kept = min(len(data), self._bytes.left(now))
        most = self._lines.left(now)
        lines = data.count(b"\n", 0, kept)
        if lines > most:
            lines = most
            kept -= len(data[:kept].split(b"\n", most)[-1])
        self._bytes.spend(kept)
        self._lines.spend(lines)
        return kept


class _Bucket:
    def __init__(self, now: float, rate: int) -> None:
        self._rate = rate
        self._level = float(rate * BURST_SECONDS)
        self._at = now

    def left(self, now: float) -> int:
        self._level = min(self._rate * BURST_SECONDS, self._level + (now - self._at) * self._rate)
        self._at = now
        return int(self._level)

    def spend(self, count: int) -> None:
        self._level -= count
