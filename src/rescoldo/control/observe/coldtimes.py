"""Histograms of the phases of cold calls, for all functions together and for each that ever woke."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping

from rescoldo.model.coldstart import PHASES, ColdCall, ColdStarts, PhaseTimes
from rescoldo.model.names import FunctionId

BOUNDS = (
    250, 500, 1000, 1500, 2000, 3000, 4000, 6000, 8000, 10_000, 15_000, 20_000, 30_000, 50_000, 100_000, 250_000,
    500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
)  # fmt: skip
"""Upper bounds of the histograms, in microseconds; dense where wakes are."""
ROWS = (*PHASES, "total")
MOST_FUNCTIONS = 20_000  # remembered functions, about 1 KB each; beyond this, the one that woke first is forgotten
_WIDTH = len(BOUNDS) + 1


class ColdTimes:
    """A histogram for each of ROWS, in two plain arrays of about 1 KB together: lists of numbers would take several
    times that."""

    __slots__ = ("_counts", "_marks", "calls")

    def __init__(self) -> None:
        self.calls = 0
        self._counts = array("I", bytes(4 * _WIDTH * len(ROWS)))
        self._marks = array("Q", bytes(8 * 4 * len(ROWS)))  # for each row: sum, minimum, maximum, last

    def add(self, took: Iterable[int]) -> None:
        """Count a call; `took` are its phases in microseconds."""
        self.calls += 1
        times = list(took)
        for row, time in enumerate([*times, sum(times)]):
            self._counts[row * _WIDTH + bisect_left(BOUNDS, time)] += 1
            marks, place = self._marks, 4 * row
            marks[place] += time
            marks[place + 1] = min(marks[place + 1], time) if self.calls > 1 else time
            marks[place + 2] = max(marks[place + 2], time)
            marks[place + 3] = time

    def histogram(self, name: str) -> tuple[list[int], float]:
        """The number of calls up to each of BOUNDS, then of all calls; and the sum in seconds."""
        row = ROWS.index(name)
        counts, below = self._counts[row * _WIDTH : (row + 1) * _WIDTH], 0
        return [below := below + count for count in counts], self._marks[4 * row] / 1e6

    def summary(self, failed: Mapping[str, int]) -> ColdStarts:
        """A summary for users; `failed` counts failed wakes by reason."""
        phases = {name: self._times(row) for row, name in enumerate(ROWS)} if self.calls else {}
        return ColdStarts(self.calls, dict(failed), phases)

    def _times(self, row: int) -> PhaseTimes:
        total, _, most, last = self._marks[4 * row : 4 * row + 4]
        return PhaseTimes(
            mean=round(total / self.calls / 1e6, 6),
            median=self._quantile(row, 0.5),
            p99=self._quantile(row, 0.99),
            max=most / 1e6,
            last=last / 1e6,
        )

    def _quantile(self, row: int, share: float) -> float:
        """Compute a quantile like Prometheus' histogram_quantile, evenly spread within a bucket, but between minimum
        and maximum.

        Of 100 calls, 40 of at most 1 ms and 60 from there to 1.5 ms, the median is 1 ms + 0.5 ms × (50 - 40) / 60.
        """
        _, least, most, _ = self._marks[4 * row : 4 * row + 4]
        rank, below = share * self.calls, 0
        for place, count in enumerate(self._counts[row * _WIDTH : (row + 1) * _WIDTH]):
            if count and below + count >= rank:
                lower = max(BOUNDS[place - 1], least) if place else least
                upper = min(BOUNDS[place], most) if place < len(BOUNDS) else most
                return round(lower + (upper - lower) * (rank - below) / count) / 1e6
            below += count
        raise AssertionError("no call was counted")


class ColdLog:
    """Counts all cold calls that were answered since the controller's start."""

    def __init__(self) -> None:
        self.all = ColdTimes()
        self._of: dict[FunctionId, ColdTimes] = {}

    def record(self, calls: Iterable[ColdCall]) -> None:
        """Count ended calls."""
        for function, *took in calls:
            times = self._of.get(function)
            if times is None:
                if len(self._of) >= MOST_FUNCTIONS:
                    del self._of[next(iter(self._of))]
                times = self._of[function] = ColdTimes()
            times.add(took)
            self.all.add(took)

    def of(self, function: FunctionId) -> ColdTimes:
        """The cold calls of one function."""
        return self._of.get(function) or ColdTimes()

    def forget(self, function: FunctionId) -> None:
        """Forget a removed function."""
        self._of.pop(function, None)
