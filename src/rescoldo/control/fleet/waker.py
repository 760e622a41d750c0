"""Answers the edge's held requests and its reports of full slots: one connection each. edge/wake.lua describes the
two lines of the exchange."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from rescoldo.control.fleet.fleet import Fleet
from rescoldo.model.coldstart import NO_TIME, StartTimes
from rescoldo.model.errors import Busy, RescoldoError
from rescoldo.model.names import RouteKey, SlotName

_LOG = logging.getLogger(__name__)

STOPPING = Busy("the platform is stopping; try again")
FAULT = RescoldoError("the platform failed to wake the function; see the platform's log")
MAX_LINE = 512  # bytes; name, namespace and revision have at most 150
FULL = b"full "  # begins a report; no function's id has a space


class Waker:
    """Bounds the held requests, wakes their functions, and answers the edge."""

    def __init__(
        self, fleet: Fleet, max_holds: int, max_holds_per_function: int, on_full: Callable[[SlotName], Awaitable[float]]
    ) -> None:
        """`on_full` reads a full slot and returns the seconds for which the edge need not report it again."""
        self._fleet = fleet
        self._on_full = on_full
        self._most = max_holds
        self._most_each = max_holds_per_function
        self._held: Counter[RouteKey] = Counter()
        self._answers: set[asyncio.Task[bytes]] = set()
        self._stopping = False
        self.holds = 0  # requests that asked to be held

    @property
    def held(self) -> int:
        """Requests held now."""
        return self._held.total()

    def stop(self) -> None:
        """Refuse all requests that are held or still come: the edge accepts no more servers."""
        self._stopping = True
        for answer in self._answers:
            answer.cancel()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one held request or one report."""
        try:
            line = await reader.readline()
            if line.startswith(FULL) and len(line) <= MAX_LINE:
                quiet = await self._on_full(SlotName(line[len(FULL) :].decode("ascii", "replace").strip()))
                writer.write(b"again %d\n" % (1000 * quiet))
            elif line.endswith(b"\n") and len(line) <= MAX_LINE:
                writer.write(await self._hold(reader, RouteKey(line.decode("utf-8", "replace").strip())))
            await writer.drain()
        except (ConnectionError, ValueError):  # the edge has died, or the line is longer than the reader takes
            pass
        finally:
            writer.close()

    async def _hold(self, reader: asyncio.StreamReader, function: RouteKey) -> bytes:
        """Return the answer, or nothing if the edge closes the connection first. The client has left then: its place
        is free at once, while the wake goes on for other callers."""
        answer = asyncio.create_task(self._answer(function), name=f"hold {function}")
        left = asyncio.create_task(reader.read(1), name=f"client held for {function}")
        self._answers.add(answer)
        try:
            await asyncio.wait((answer, left), return_when=asyncio.FIRST_COMPLETED)
            if answer.cancelled():  # stopped before it began
                return _refusal(STOPPING, 1)
            return answer.result() if answer.done() else b""
        finally:
            self._answers.discard(answer)
            answer.cancel()
            left.cancel()

    async def _answer(self, function: RouteKey) -> bytes:
        came = time.monotonic()
        self.holds += 1
        if self._stopping:
            return _refusal(STOPPING, 1)
        if self.held >= self._most or self._held[function] >= self._most_each:
            return _refusal(Busy("too many requests are waiting for this function to wake"), 1)
        self._held[function] += 1
        try:
            slot = await self._fleet.wakes.wake(function)
            return f"ok {slot} {':'.join(map(str, self._took(function, came)))}\n".encode()
        except RescoldoError as error:
            return _refusal(error, self._retry_after(function, error))
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            return _refusal(STOPPING, 1)
        except Exception:  # a bug of ours: without an answer the edge would ask again until its deadline
            _LOG.exception("the wake of %s failed", function)
            return _refusal(FAULT, 0)
        finally:
            self._held[function] -= 1
            if not self._held[function]:
                del self._held[function]

    def _took(self, function: RouteKey, came: float) -> StartTimes:
        """The phases of the wake, cut to the time that a request waited since `came` (seconds on the monotonic
        clock); NO_TIME if the function is not awake any more."""
        entry = self._fleet.entries.get(function)
        awake = entry.awake if entry is not None else None
        if awake is None:  # asleep again, or removed
            return NO_TIME
        return awake.took.within(round((awake.woken_at - came) * 1e6))

    def _retry_after(self, function: RouteKey, error: RescoldoError) -> int:
        if isinstance(error, Busy):
            return max(1, math.ceil(error.retry_after))
        entry = self._fleet.entries.get(function)
        if entry is None or entry.failure is None:
            return 0
        return max(1, math.ceil(entry.failure.retry_at - asyncio.get_running_loop().time()))


def _refusal(error: RescoldoError, retry_after: int) -> bytes:
    text = f"{error.message}\n".encode("utf-8", "replace")  # a lone surrogate has no bytes
    return f"no {error.status} {retry_after} {len(text)}\n".encode() + text
