"""The back-off after failed starts of a function."""

from __future__ import annotations

FIRST = 0.25  # seconds
LONGEST = 10.0  # seconds


def retry_delay(failures: int) -> float:
    """Return the seconds to wait after the n-th failure in a row: 0.25, 0.5, 1, 2, 4, 8, then 10."""
    return min(LONGEST, FIRST * 2.0 ** min(failures - 1, 10))  # the exponent has a bound: 2.0 ** 1024 overflows
