"""Decides how many spares to keep, and when to make another.

The pool is as large as recent bursts needed. A burst takes spares faster than they are made; the largest backlog is the
pool that would have served the burst without a fork in any wake. So the pool follows the rate of wakes: single wakes
keep it at its least, a burst of 200 lets it grow to 200, and after HOLD seconds without another such burst the surplus
ends.

A backlog that grows without end is no burst: a few clients, each calling one sleeping function after another, leave no
pause in which to make spares. So the pool is never larger than CROWD times the concurrent starts: four such clients
need 8.
"""

from __future__ import annotations

from dataclasses import dataclass

FEW = 4
WHEN_FEW = 0.003  # seconds without a start: the starts of a burst are hardly further apart
WHEN_FEW_PROGRAMS = 0.01  # the same for programs, whose starts take longer than 3 ms
WHEN_MANY = 0.05  # seconds; by then a single wake is over, with its first call
HOLD = 300.0  # seconds for which a burst counts
SPARE_MEMORY = 5 * 2**20  # bytes that one spare adds; measured: 4.6 MiB and its page tables
CROWD = 2  # in a burst of 500 the first starts have served before the last begin: about 300 run at once
SHARE = 10  # spares may by default hold the machine's or container's memory divided by this


def refill_pause(ready: int, when_few: float = WHEN_FEW) -> float:
    """Return the seconds without a start after which to make another spare, with `ready` of them in the pool.

    `when_few` is the pause while the pool has fewer than FEW. Making a spare takes about 10 ms of cpu; made too soon,
    it takes them from wakes in progress.
    """
    return when_few if ready < FEW else WHEN_MANY


def most_spares(memory: int, least: int) -> int:
    """Return how many spares fit into `memory` (bytes), at least `least`."""
    return max(least, memory // SPARE_MEMORY)


@dataclass(frozen=True, slots=True)
class Demand:
    """The spares that recent bursts needed. Only starts that went on to serve count: a failing function would let the
    pool grow for nothing."""

    missing: int = 0  # spares taken, or forks in place of one, not replaced since the pool was last full
    peaks: tuple[tuple[float, int], ...] = ()  # (seconds, missing then), highest and oldest first

    def taken(self, now: float, at_once: int) -> Demand:
        """Return the demand after one more start, which serves by `now` (seconds), among up to `at_once` at once."""
        missing = self.missing + 1
        needed = min(missing, CROWD * at_once)
        # a later peak that is at least as high makes an earlier one superfluous
        higher = tuple(peak for peak in self.peaks if peak[1] > needed and now - peak[0] < HOLD)
        return Demand(missing, (*higher, (now, needed)))

    def made(self) -> Demand:
        """Return the demand after one missing spare was made."""
        return Demand(max(0, self.missing - 1), self.peaks)

    def filled(self) -> Demand:
        """Return the demand once the pool is as large as it may be: nothing is missing any more."""
        return Demand(0, self.peaks)

    def wanted(self, now: float, least: int, most: int) -> int:
        """Return the number of spares to keep, between `least` and `most`."""
        peak = next((count for at, count in self.peaks if now - at < HOLD), 0)
        return max(least, min(peak, most))
