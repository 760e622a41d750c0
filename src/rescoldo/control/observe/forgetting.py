"""Forgets logs and counts of removed functions."""

from __future__ import annotations

import asyncio

from rescoldo.control.fleet.entries import Entries
from rescoldo.control.fleet.outages import outlast
from rescoldo.control.observe.recorder import Recorder
from rescoldo.model.names import FunctionId
from rescoldo.node.protocol import Node
from rescoldo.tasks import Tasks

FORGET_PATIENCE = 2.0  # seconds that a removal waits for a restarting node
FORGET_SECONDS = 0.5  # between tries to reach the node


class Forgetting:
    """Deletes logs and counts of a removed function, so that the next function of its name begins anew."""

    def __init__(self, entries: Entries, recorder: Recorder, node: Node, tasks: Tasks) -> None:
        self._entries = entries
        self._recorder = recorder
        self._node = node
        self._tasks = tasks

    async def forget(self, function: FunctionId) -> None:
        """Forget a removed function; its name is not deployable meanwhile. If the node is away for longer than
        FORGET_PATIENCE, forget the logs after its return, unless the name is in use again."""
        self._recorder.forget(function)
        try:
            async with asyncio.timeout(FORGET_PATIENCE):
                await outlast(lambda: self._node.forget(function))
        except TimeoutError:
            self._tasks.spawn(f"forget {function}", outlast(lambda: self._forget_later(function), FORGET_SECONDS))

    async def _forget_later(self, function: FunctionId) -> None:
        if function not in self._entries:
            await self._node.forget(function)
