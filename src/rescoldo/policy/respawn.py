"""How an instance that ended unasked is replaced where it stood, on the same socket.

Its listening socket stays open, so that requests wait for the replacement instead of being refused; one
that dies again and again makes them wait longer.
"""

from __future__ import annotations

SHORTEST_LIFE = 1.0  # seconds; what ends sooner may be in a crash loop
FREE_DEATHS = 2  # early deaths in a row that cost no pause
FIRST_PAUSE = 0.1  # seconds
LONGEST_PAUSE = 2.0  # seconds
MOST_FAILED_STARTS = 2  # replacements in a row that do not get ready; then the instance is lost


def early_deaths(before: int, *, ready_at: float, ended_at: float) -> int:
    """Early deaths in a row, now that one more instance has ended (seconds of one clock).

    Ready at 10.0 and ended at 12.5: it lived long enough, so 1 begins a new row. Ended at 10.3: before + 1.
    """
    return 1 if ended_at - ready_at >= SHORTEST_LIFE else before + 1


def respawn_pause(deaths: int) -> float:
    """Seconds before the replacement starts: 0, 0, then 0.1, 0.2, 0.4 … at most 2."""
    if deaths <= FREE_DEATHS:
        return 0.0
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(deaths - FREE_DEATHS - 1, 10))
