"""The marks that control waits for on a worker.

Control marks a change with a number when somebody waits for it, for example `kubectl delete`. The worker sends the
number back in a report once the change is in force here, or refused. A mark that was sent once is a proof, where a
missing version is none: a worker may have looked a function up a moment ago, and not have reported it yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from rescoldo.model.names import FunctionId


class Marks:
    """The marks of one stream of changes that control has not got back, by function; a later one replaces an earlier
    one. `noted` is set while there are any."""

    def __init__(self) -> None:
        self.noted = asyncio.Event()
        self._due: dict[FunctionId, int] = {}

    @property
    def due(self) -> Mapping[FunctionId, int]:
        return self._due

    def note(self, function: FunctionId, mark: int) -> None:
        """Note the mark of a change that has arrived."""
        self._due[function] = mark
        self.noted.set()

    def end(self, marks: Mapping[FunctionId, int]) -> None:
        """Forget marks that control has got back; a later one of the same function stays."""
        for function, mark in marks.items():
            if self._due.get(function) == mark:
                del self._due[function]
        if not self._due:
            self.noted.clear()

    def clear(self) -> None:
        """Forget all: another stream begins, and control repeats the marks that it still waits for."""
        self._due.clear()
        self.noted.clear()
