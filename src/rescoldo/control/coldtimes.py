"""How long the phases of cold calls took: histograms, of all functions together and of each that ever woke."""

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
MOST_FUNCTIONS = 20_000  # that are remembered, about 1 KB each; then the one that woke first is forgotten
_WIDTH = len(BOUNDS) + 1


class ColdTimes:
    """A histogram for each of ROWS. Plain arrays: 1 KB, where a list of numbers for each row takes five."""

    __slots__ = ("_counts", "_last", "_most", "_sums", "calls")

    def __init__(self) -> None:
        self.calls = 0
        self._counts = array("I", bytes(4 * _WIDTH * len(ROWS)))
        self._sums, self._most, self._last = (array("Q", bytes(8 * len(ROWS))) for _ in range(3))

    def add(self, took: Iterable[int]) -> None:
        """Count a call whose phases took so many microseconds."""
        self.calls += 1
        times = list(took)
        for row, time in enumerate([*times, sum(times)]):
            self._counts[row * _WIDTH + bisect_left(BOUNDS, time)] += 1
            self._sums[row] += time
            self._most[row] = max(self._most[row], time)
            self._last[row] = time

    def histogram(self, name: str) -> tuple[list[int], float]:
        """How many calls took at most each of BOUNDS, and how many there were; and the sum in seconds."""
        row = ROWS.index(name)
        counts, below = self._counts[row * _WIDTH : (row + 1) * _WIDTH], 0
        return [below := below + count for count in counts], self._sums[row] / 1e6

    def summary(self, failed: Mapping[str, int]) -> ColdStarts:
        """What there is to say; `failed` are wakes that failed, by reason."""
        phases = {name: self._times(row) for row, name in enumerate(ROWS)} if self.calls else {}
        return ColdStarts(self.calls, dict(failed), phases)

    def _times(self, row: int) -> PhaseTimes:
        return PhaseTimes(
            mean=round(self._sums[row] / self.calls / 1e6, 6),
            median=self._quantile(row, 0.5),
            p99=self._quantile(row, 0.99),
            max=self._most[row] / 1e6,
            last=self._last[row] / 1e6,
        )

    def _quantile(self, row: int, share: float) -> float:
        """As Prometheus' histogram_quantile, but no more than the most: evenly spread within a bucket.

        Of 100 calls, 40 up to 1 ms and 60 from there to 1.5 ms, the median is 1 ms + 0.5 ms × (50 - 40) / 60.
        """
        rank, below = share * self.calls, 0
        for place, count in enumerate(self._counts[row * _WIDTH : (row + 1) * _WIDTH]):
            if count and below + count >= rank:
                lower = BOUNDS[place - 1] if place else 0
                upper = min(BOUNDS[place], self._most[row]) if place < len(BOUNDS) else self._most[row]
                return round(lower + (upper - lower) * (rank - below) / count) / 1e6
            below += count
        raise AssertionError("no call was counted")


class ColdLog:
    """All cold calls that were answered since the controller started."""

    def __init__(self) -> None:
        self.all = ColdTimes()
        self._of: dict[FunctionId, ColdTimes] = {}

    def record(self, calls: Iterable[ColdCall]) -> None:
        """Count calls that have ended."""
        for function, *took in calls:
            times = self._of.get(function)
            if times is None:
                if len(self._of) >= MOST_FUNCTIONS:
                    del self._of[next(iter(self._of))]
                times = self._of[function] = ColdTimes()
            times.add(took)
            self.all.add(took)

    def of(self, function: FunctionId) -> ColdTimes:
        """Those of one function."""
        return self._of.get(function) or ColdTimes()

    def forget(self, function: FunctionId) -> None:
        """The function was removed."""
        self._of.pop(function, None)
