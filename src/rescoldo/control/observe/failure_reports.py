"""Has the node explain the calls that the edge answered itself, in place of an instance.

This happens off every request's path, like everything from the access log. A function whose calls all fail costs
the others nothing: at a time, the node gets a few failed calls of each function, and only the number of the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from rescoldo.control.fleet.outages import outlast
from rescoldo.model.calls import FailedCall
from rescoldo.model.names import FunctionId
from rescoldo.node.protocol import Node

MOST = 50  # failed calls of a function that the node gets at a time
PAUSE = 0.5  # seconds between two reports


class FailureReports:
    """Collects failed calls, and reports them to the node in batches."""

    def __init__(self, node: Node, exists: Callable[[FunctionId], bool]) -> None:
        """`exists` returns whether a function is deployed; failed calls of others are dropped."""
        self._node = node
        self._exists = exists
        self._calls: dict[FunctionId, list[FailedCall]] = {}
        self._more: dict[FunctionId, int] = {}
        self._some = asyncio.Event()

    def add(self, calls: Iterable[FailedCall]) -> None:
        """Collect failed calls from the edge."""
        for call in calls:
            if len(told := self._calls.setdefault(call.function, [])) < MOST:
                told.append(call)
            else:
                self._more[call.function] = self._more.get(call.function, 0) + 1
            self._some.set()

    async def run(self) -> None:
        """Report to the node; calls that fail while it restarts wait."""
        while True:
            await self._some.wait()
            self._some.clear()
            calls, self._calls = self._calls, {}
            more, self._more = self._more, {}
            await outlast(partial(self._tell, calls, more))
            await asyncio.sleep(PAUSE)

    async def _tell(self, calls: Mapping[FunctionId, list[FailedCall]], more: Mapping[FunctionId, int]) -> None:
        told = [call for function, its in calls.items() if self._exists(function) for call in its]
        if told:
            await self._node.explain(told, {name: number for name, number in more.items() if self._exists(name)})
