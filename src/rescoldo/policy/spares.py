"""How many spares are kept, and when another is made.

As many as the last bursts would have needed: a burst takes spares faster than they are made, and how far the number
fell behind is how large a pool would have served it without a fork on the way of any wake. So the pool follows the
rate of wakes: single wakes keep it at its least, a burst of 200 lets it grow to 200, and after HOLD seconds without
another such burst the surplus ends.

What falls behind without end is no burst: a few clients that each call one sleeping function after another leave no
pause to make spares in. So a pool is never larger than CROWD times what was started at the same time: four such clients
need 8.
"""

from __future__ import annotations

from dataclasses import dataclass

FEW = 4
WHEN_FEW = 0.003  # seconds without a start: between two of a burst there is hardly more
WHEN_FEW_PROGRAMS = 0.01  # the same for programs, which are still on their way after 3 ms
WHEN_MANY = 0.05  # a single wake is over, with its first call
HOLD = 300.0  # seconds for which a burst is remembered
SPARE_MEMORY = 5 * 2**20  # bytes of a spare's own, measured: 4.6 MiB, and its page tables
CROWD = 2  # in a burst of 500 the first have served before the last come: some 300 are under way at once
SHARE = 10  # the machine's memory through this is what spares may hold where nothing is said


def refill_pause(ready: int, when_few: float = WHEN_FEW) -> float:
    """Seconds without a start after which another spare is made, with `ready` there; `when_few` where those are few.
    Making one takes about 10 ms of cpu, from those who wait if it is done too soon."""
    return when_few if ready < FEW else WHEN_MANY


def most_spares(memory: int, least: int) -> int:
    """How many spares `memory` (bytes) is enough for, but not fewer than `least`."""
    return max(least, memory // SPARE_MEMORY)


@dataclass(frozen=True, slots=True)
class Demand:
    """What recent bursts needed: starts that came to serve. One that fails would let the pool grow for nothing."""

    missing: int = 0  # taken, or forked in place of one, and not made again since the pool was last full
    peaks: tuple[tuple[float, int], ...] = ()  # (seconds, missing then), the highest first, each later than the last

    def taken(self, now: float, at_once: int) -> Demand:
        """Another start needed a spare, and serves by `now` (seconds); up to `at_once` were under way with it."""
        missing = self.missing + 1
        needed = min(missing, CROWD * at_once)
        higher = tuple(peak for peak in self.peaks if peak[1] > needed and now - peak[0] < HOLD)
        return Demand(missing, (*higher, (now, needed)))

    def made(self) -> Demand:
        """One of those missing is there again."""
        return Demand(max(0, self.missing - 1), self.peaks)

    def filled(self) -> Demand:
        """The pool is as large as it may be: nothing is missing any more."""
        return Demand(0, self.peaks)

    def wanted(self, now: float, least: int, most: int) -> int:
        """Spares to keep, between `least` and `most`."""
        peak = next((count for at, count in self.peaks if now - at < HOLD), 0)
        return max(least, min(peak, most))
