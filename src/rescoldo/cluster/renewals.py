"""Asks the owners of functions that have a minimum, or a requested number of instances, to keep them awake.

A worker keeps what was renewed within 30 s (control/fleet/upkeep.py), so control asks every 10 s. It asks through a
gateway, which alone knows the owner: where ownership has moved, the new owner is asked, and the old one drops it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from rescoldo.cluster.protocol import Asked, NoOwner, Owners
from rescoldo.model.names import FunctionId, split_id

PAUSE = 10.0  # seconds between two requests for a function
LOOK = 1.0  # seconds between two looks for functions that are to be kept
AT_ONCE = 8  # requests

log = logging.getLogger(__name__)


class Renewals:
    """Renews functions' upkeep; `run` goes on until it is cancelled."""

    def __init__(self, owners: Owners, kept: Callable[[], Sequence[FunctionId]]) -> None:
        """`kept` returns the functions that are to be awake without a call."""
        self._owners = owners
        self._kept = kept
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Ask for each function every PAUSE seconds, and for a new one at once, until cancelled. A request that takes
        longer delays no other function."""
        loop, asked = asyncio.get_running_loop(), dict[FunctionId, float]()
        async with asyncio.TaskGroup() as tasks:
            under_way: set[FunctionId] = set()
            while True:
                kept, now = self._kept(), loop.time()
                asked = {function: asked[function] for function in kept if function in asked}
                for function in kept:
                    if function not in under_way and now - asked.get(function, -PAUSE) >= PAUSE:
                        under_way.add(function)
                        asked[function] = now
                        asking = tasks.create_task(self._ask(function), name=f"keep {function}")
                        asking.add_done_callback(partial(_end, under_way, function))
                await asyncio.sleep(LOOK)

    async def _ask(self, function: FunctionId) -> None:
        name, namespace = split_id(function)
        asked = Asked(function, "POST", f"/system/function/{name}/keep?namespace={namespace}", {}, b"")
        try:
            async with self._turns, self._owners.ask(asked) as answered:
                if answered.status >= 300:
                    log.warning("the owner of %s does not keep it awake: it answers with %d", function, answered.status)
        except NoOwner as error:
            log.warning("%s", error.message)


def _end(under_way: set[FunctionId], function: FunctionId, task: asyncio.Task[None]) -> None:
    under_way.discard(function)
