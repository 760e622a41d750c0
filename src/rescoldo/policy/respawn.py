"""Decides when an instance that ended unexpectedly is replaced in place, on the same socket.

The listening socket stays open, so requests wait for the replacement instead of being refused. In a crash loop the
pause before each replacement grows, and requests wait longer.
"""

from __future__ import annotations

SHORTEST_LIFE = 1.0  # seconds; an instance that ends sooner may be in a crash loop
FREE_DEATHS = 2  # early deaths in a row without a pause
FIRST_PAUSE = 0.1  # seconds
LONGEST_PAUSE = 2.0  # seconds
MOST_FAILED_STARTS = 2  # replacements in a row that fail to become ready; then the instance is lost


def early_deaths(before: int, *, ready_at: float, ended_at: float) -> int:
    """Return the number of early deaths in a row after one more instance ended (seconds of one clock).

    Ready at 10.0 and ended at 12.5: the instance lived long enough, and 1 begins a new row. Ended at 10.3: before + 1.
    """
    return 1 if ended_at - ready_at >= SHORTEST_LIFE else before + 1


def respawn_pause(deaths: int) -> float:
    """Return the seconds before the replacement starts: 0, 0, then 0.1, 0.2, 0.4 … at most 2."""
    if deaths <= FREE_DEATHS:
        return 0.0
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(deaths - FREE_DEATHS - 1, 10))
