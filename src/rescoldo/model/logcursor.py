"""A reader's position in a log: after an interruption it resumes without losing or repeating a line."""

from __future__ import annotations

from collections import Counter
from typing import Generic, TypeVar

Moment = TypeVar("Moment")  # seconds, or a text of them; only compared for being the same

MOST_REMARKS = 1000  # kept: a stream that ends again and again with another remark takes no more memory


class LogCursor(Generic[Moment]):
    """Counts the lines of the last moment, because several lines may share one.

    A reader that resumes requests the lines since that moment, oldest first, and skips as many as it has read.

    The platform's remarks, which are the lines without an instance, do not move the cursor. Some are in the log ("7
    more calls failed"); others, such as the reason why a stream ends, exist in one stream only and may be ahead of
    lines that were not read yet. The log repeats the former, so the cursor recognises them by their text.
    """

    def __init__(self, since: Moment) -> None:
        self.since = since  # moment to read from
        self._had = 0  # lines read of that moment
        self._again = 0  # of these, lines that the log will repeat
        self._remarks: Counter[tuple[Moment, str]] = Counter()  # read since that moment
        self._remarks_again: Counter[tuple[Moment, str]] = Counter()  # of these, remarks that the log may repeat

    def interrupted(self) -> None:
        """Expect the log to repeat the lines of the last moment, and the remarks since then."""
        self._again = self._had
        self._remarks_again = self._remarks.copy()

    def takes(self, moment: Moment, instance: str, text: str) -> bool:
        """Take the next line, a remark of the platform if `instance` is empty; return whether the reader has not read
        it before."""
        return self.is_new(moment) if instance else self.is_new_remark(moment, text)

    def is_new(self, moment: Moment) -> bool:
        """Take an instance's next line, of `moment`; return whether the reader has not read it before."""
        if moment != self.since:
            self.since, self._had, self._again = moment, 0, 0
            if self._remarks:
                # a remark of the same moment comes again, too
                self._remarks = Counter({key: count for key, count in self._remarks.items() if key[0] == moment})
                self._remarks_again.clear()
        elif self._again:
            self._again -= 1
            return False
        self._had += 1
        return True

    def is_new_remark(self, moment: Moment, text: str) -> bool:
        """Take the platform's next remark; return whether the reader has not read it before."""
        if self._remarks_again[moment, text]:
            self._remarks_again[moment, text] -= 1
            return False
        self._remarks[moment, text] += 1
        if len(self._remarks) > MOST_REMARKS:
            del self._remarks[next(iter(self._remarks))]
        return True
