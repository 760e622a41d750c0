"""Has the node explain the calls that the edge answered in the place of their instances.

Off every request's path, as all that the access log tells. One function whose calls all fail costs others nothing: of
each function the node hears of few calls at a time, and of the others the number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from rescoldo.control.fleet.outages import outlast
from rescoldo.model.calls import FailedCall
from rescoldo.model.names import FunctionId
from rescoldo.node.protocol import Node

MOST = 50  # calls of a function that the node hears of at a time
PAUSE = 0.5  # seconds between two times


class FailureReports:
    def __init__(self, node: Node, exists: Callable[[FunctionId], bool]) -> None:
        """`exists` says whether a function is deployed: nothing is kept of others."""
        self._node = node
        self._exists = exists
        self._calls: dict[FunctionId, list[FailedCall]] = {}
        self._more: dict[FunctionId, int] = {}
        self._some = asyncio.Event()

    def add(self, calls: Iterable[FailedCall]) -> None:
        """The edge has told of these."""
        for call in calls:
            if len(told := self._calls.setdefault(call.function, [])) < MOST:
                told.append(call)
            else:
                self._more[call.function] = self._more.get(call.function, 0) + 1
            self._some.set()

    async def run(self) -> None:
        """Tell the node of them; what comes while it restarts waits."""
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
