"""Rate limits of a stream of text: bytes and lines a second.

Bytes alone are no limit, because a line costs its reader about 5 µs whatever its length: 256 KiB a second may be
262,144 blank lines, more than one processor can read.
"""

from __future__ import annotations

BURST_SECONDS = 2  # seconds of quiet after which a burst may take as many seconds' worth at once
BYTES_A_LINE = 128  # bytes of the rate that allow one line
LEAST_LINES = 64  # lines a second, however low the rate


def lines_for(rate: int) -> int:
    """Return the lines a second for `rate` bytes a second: 2,048 for 256 KiB."""
    return max(LEAST_LINES, rate // BYTES_A_LINE)


class Budget:
    """Limits the bytes and lines that are kept, with a token bucket each.

    At a `rate` of 256 KiB a second the buckets hold 512 KiB and 4,096 lines; 2 quiet seconds fill them.
    """

    def __init__(self, now: float, rate: int) -> None:
        self._bytes = _Bucket(now, rate)
        self._lines = _Bucket(now, lines_for(rate))

    def take(self, data: bytes, now: float) -> int:
        """Spend the budget on `data` at `now` (seconds of one clock); return how many of its first bytes to keep."""
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
