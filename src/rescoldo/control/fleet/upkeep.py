"""Which functions keep their minimum and their requested number of instances here.

On one machine all do. In a cluster each function has one owner among the workers, and ownership moves with them. So
control asks the owner every 10 s, through a gateway, to keep the function (`POST /system/function/NAME/keep`), and a
worker keeps what was renewed within KEPT_SECONDS:

  * Another worker that had the function drops it: after 30 s without a renewal it may sleep, as if it had no minimum.
    Two lost requests in a row are forgiven: renewed at 0 s, asked again in vain at 10 and 20, it is kept until 30.
  * While control is away nothing is dropped, and that time does not count. Renewed at 0 s, control lost at 10 s and
    found again at 600 s: kept until 630.
  * A requested number ends when its function falls asleep, but for its owner alone: for who was renewed within the last
    11 s, as an owner is every 10 s. Another worker, on which the function idles since it moved, leaves the number.
  * A worker that lost a function starts nothing more for it, and needs no message for that: what is asleep here wakes
    for a call or a renewal alone, and both arrive at whom a gateway takes for the owner. Neither others' deployments,
    pauses and requests wake it, nor a new controller. Gateways of different opinion make two owners, and each serves
    the calls that it gets, as a first request never fails. What is awake stays as it is, crashed instances replaced
    and new revisions taken over, until it sleeps one idle window after its last call here.
  * Nothing wakes because it has a minimum before its first renewal: neither at the worker's start nor when its first
    call has the worker look it up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rescoldo.model.names import FunctionId

RENEWAL_SECONDS = 10.0  # between control's requests
KEPT_SECONDS = 3 * RENEWAL_SECONDS
LOOK_SECONDS = 1.0


class Upkeep:
    """Knows the functions that are kept. On a worker, `run` drops those that are not renewed."""

    def __init__(self, reachable: Callable[[], bool] | None = None) -> None:
        """`reachable`: whether control can be reached now. None: there is no control, and every function is kept."""
        self._reachable = reachable
        self._until: dict[FunctionId, float] = {}  # seconds on the loop's clock

    def keeps(self, function: FunctionId) -> bool:
        """Whether the function's minimum and requested number count here."""
        return self._reachable is None or function in self._until

    def is_owner(self, function: FunctionId) -> bool:
        """Whether the function was renewed so lately that no other worker can have it by now."""
        if self._reachable is None:
            return True
        left = self._until.get(function, 0.0) - asyncio.get_running_loop().time()
        return left > KEPT_SECONDS - 1.1 * RENEWAL_SECONDS and self._reachable()

    def renew(self, function: FunctionId) -> None:
        """Keep a function for the next KEPT_SECONDS."""
        if self._reachable is not None:
            self._until[function] = asyncio.get_running_loop().time() + KEPT_SECONDS

    async def run(self) -> None:
        """Drop what is not renewed, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._look()

    def _look(self) -> None:
        if self._reachable is not None and not self._reachable():
            for function in self._until:
                self.renew(function)
            return
        now = asyncio.get_running_loop().time()
        self._until = {function: until for function, until in self._until.items() if until > now}


class NoUpkeep(Upkeep):
    """Keeps nothing: a cluster's control, whose workers keep functions."""

    def keeps(self, function: FunctionId) -> bool:
        return False

    def is_owner(self, function: FunctionId) -> bool:
        return False


ALWAYS = Upkeep()
"""The upkeep of a platform that stands alone."""
NEVER = NoUpkeep()
"""The upkeep of a cluster's control."""
