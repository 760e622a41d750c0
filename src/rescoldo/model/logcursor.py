"""A reader's position in a log: after an interruption it resumes without losing or repeating a line."""

from __future__ import annotations

from typing import Generic, TypeVar

Moment = TypeVar("Moment")  # seconds, or a text of them; only compared for being the same


class LogCursor(Generic[Moment]):
    """Counts the lines of the last moment, because several lines may share one.

    A reader that resumes requests the lines since that moment, oldest first, and skips as many as it has read.
    """

    def __init__(self, since: Moment) -> None:
        self.since = since  # moment to read from
        self._had = 0  # lines read of that moment
        self._again = 0  # of these, lines that the log will repeat

    def interrupted(self) -> None:
        """Expect the log to repeat the lines of the last moment."""
        self._again = self._had

    def is_new(self, moment: Moment) -> bool:
        """Take the next line, of `moment`; return whether the reader has not read it before."""
        if moment != self.since:
            self.since, self._had, self._again = moment, 0, 0
        elif self._again:
            self._again -= 1
            return False
        self._had += 1
        return True
