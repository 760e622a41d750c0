"""Where a reader of a log is, so that it can go on after an interruption without losing or doubling a line."""

from __future__ import annotations

from typing import Generic, TypeVar

Moment = TypeVar("Moment")  # seconds, or a text of them; only compared for being the same


class LogCursor(Generic[Moment]):
    """Counts the lines of the last moment: several may have the same. A reader that begins anew asks for the lines
    since that moment, oldest first, and leaves out as many of them as it has had."""

    def __init__(self, since: Moment) -> None:
        self.since = since  # moment to read from
        self._had = 0  # lines of that moment
        self._again = 0  # of these, still to come once more

    def interrupted(self) -> None:
        """Reading begins anew."""
        self._again = self._had

    def is_new(self, moment: Moment) -> bool:
        """Whether the next line, of `moment`, has not been read before."""
        if moment != self.since:
            self.since, self._had, self._again = moment, 0, 0
        elif self._again:
            self._again -= 1
            return False
        self._had += 1
        return True
