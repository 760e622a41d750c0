"""Reads the lines that functions print from the node."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import cast

from rescoldo.control.fleet.entries import Entries
from rescoldo.model.errors import NodeUnavailable
from rescoldo.model.instance import LogLine
from rescoldo.model.logcursor import LogCursor
from rescoldo.model.names import FunctionId
from rescoldo.node.protocol import Node

LOGS_SECONDS = 0.1  # between attempts to continue a followed log


class FunctionLogs:
    """Reads and follows the logs of functions."""

    def __init__(self, entries: Entries, node: Node) -> None:
        self._entries = entries
        self._node = node

    def read(
        self, function: FunctionId, *, tail: int | None, since: float | None, follow: bool, instance: str
    ) -> AsyncIterator[LogLine]:
        """See api.protocol.Logs. Followed lines continue after a restart of the node."""
        self._entries.current(function)
        if not follow:
            return self._node.logs(function, tail=tail, since=since, follow=False, instance=instance)
        return self._followed(function, tail, since, instance)

    async def _followed(
        self, function: FunctionId, tail: int | None, since: float | None, instance: str
    ) -> AsyncIterator[LogLine]:
        """Lines until the reader leaves or the function is removed; a restart of the node only interrupts them."""
        cursor = LogCursor(time.time())
        while True:
            lines = self._node.logs(function, tail=tail, since=since, follow=True, instance=instance)
            try:
                async with contextlib.aclosing(cast(AsyncGenerator[LogLine, None], lines)):
                    async for line in lines:
                        if cursor.takes(line.timestamp, line.instance, line.text):
                            yield line
            except NodeUnavailable:
                pass
            self._entries.current(function)
            tail, since = None, cursor.since
            cursor.interrupted()
            await asyncio.sleep(LOGS_SECONDS)
