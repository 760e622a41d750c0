"""Spares: forks of the zygote that wait to become instances, so that a wake needs neither a fork nor a new sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from rescoldo.isolation.container import own_container
from rescoldo.model.errors import InvalidInput, NodeUnavailable, StartFailed
from rescoldo.model.instance import MAX_ORDER
from rescoldo.node.processes.processes import Ends, Watched
from rescoldo.node.processes.sandboxes import Sandboxes
from rescoldo.node.protocol import SparePool
from rescoldo.node.zygotes.start_queue import StartQueue
from rescoldo.node.zygotes.zygote import Forked, Zygote, ZygoteGone
from rescoldo.policy.spares import WHEN_FEW, Demand, refill_pause
from rescoldo.tasks import set_within

_ATTEMPTS = 3  # attempts to find a spare that lives to receive the order
_RETRY_PAUSE = 0.25  # seconds
_SMALL = 64 * 2**10  # bytes that any socket takes in one message
_MADE_AT_ONCE = 2  # more would take cpu from calls, in spite of their low priority
_POLL_SECONDS = 10.0  # seconds between two looks: no event marks the end of a burst's HOLD, or scarce memory
_END_PATIENCE = 2.0  # seconds for a killed spare to end

_LOG = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Spare:
    """One spare, and the task that notices its end."""

    forked: Forked
    process: Watched
    listener: int | None = None  # hears its forks; its instance's owner closes it
    burial: asyncio.Task[None] | None = field(default=None)


@dataclass(frozen=True, slots=True)
class Order:
    """The order that turns a spare into an instance."""

    message: bytes  # the format of runtime/spare.py
    descriptors: Sequence[int]  # in the sequence of runtime/spare.py
    memory: int  # limit in bytes; 0: none
    cpu: int  # limit in millicores; 0: none
    folder: int | None = None  # descriptor of the folder where a program binds its Unix socket; needs a fork of its own
    fresh: bool = False  # needs a fork of its own


class Spares:
    """Keeps a pool of spares as large as recent bursts needed, between `least` and `most`. It makes a few at a
    time, while no instance starts."""

    def __init__(
        self,
        zygote: Zygote,
        sandboxes: Sandboxes,
        ends: Ends,
        start_queue: StartQueue,
        least: int,
        most: int,
        when_few: float = WHEN_FEW,
        *,
        asks: bool = False,
    ) -> None:
        """`asks`: every fork reports with the listener for its own forks, an urgent one too."""
        self._zygote = zygote
        self._sandboxes = sandboxes
        self._ends = ends
        self._start_queue = start_queue
        self._least = least
        self._most = most
        self._asks = asks
        self._when_few = when_few  # seconds, for `refill_pause`
        self._ready: deque[Spare] = deque()
        self._burials: set[asyncio.Task[None]] = set()  # of spares whose end no start waits for
        self._making: set[Spare] = set()  # spares that are still setting themselves up
        self._demand = Demand()
        self._changed = asyncio.Event()
        self._last_start = 0.0  # seconds on the loop's clock
        self._under_way = 0  # wakes that are starting or wait for a turn
        self._at_once = 0  # the highest `_under_way` since it was last 0

    @property
    def sandboxes(self) -> set[str]:
        """The sandboxes of ready spares and of spares in the making."""
        return {spare.forked.sandbox for spare in (*self._ready, *self._making)}

    def processes(self) -> list[Watched]:
        """The processes of ready spares and of spares in the making."""
        return [spare.process for spare in (*self._ready, *self._making)]

    @property
    def pool(self) -> SparePool:
        """The numbers of ready and wanted spares, now."""
        return SparePool(len(self._ready), self._wanted(), self._most)

    async def keep_filled(self) -> None:
        """Make missing spares and end surplus ones, until cancelled."""
        while True:
            self._changed.clear()
            wanted, there = self._wanted(), len(self._ready) + len(self._making)
            if len(self._ready) > wanted:
                surplus = self._ready.pop()
                self._forget(surplus)
                await self._bury(surplus)
            elif there >= wanted or len(self._making) >= _MADE_AT_ONCE:
                if len(self._ready) >= wanted:
                    self._demand = self._demand.filled()
                await self._until_changed(_POLL_SECONDS if there > self._least else None)
            elif (pause := self._last_start + refill_pause(len(self._ready), self._when_few) - _now()) > 0:
                await asyncio.sleep(pause)
            elif self._start_queue.waited_for:
                await self._start_queue.none_waits()
            else:
                await self._make()

    def _wanted(self) -> int:
        """How many spares to keep: more than the least only while the machine or its container has memory to spare."""
        wanted = self._demand.wanted(_now(), self._least, self._most)
        return self._least if wanted > self._least and own_container().memory_is_scarce() else wanted

    async def _until_changed(self, seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def _make(self) -> None:
        try:
            forked = await self._zygote.fork(urgent=False, unwanted=self._end_unwanted)
        except (ZygoteGone, NodeUnavailable) as error:
            _LOG.warning("cannot create a spare: %s", error)
            await asyncio.sleep(_RETRY_PAUSE)
            return
        spare = Spare(forked, Watched(forked.pid, forked.pidfd))
        self._making.add(spare)
        spare.burial = asyncio.create_task(self._await_end(spare), name=f"spare {forked.pid}")
        asyncio.get_running_loop().add_reader(forked.channel, self._has_spoken, spare)

    def _has_spoken(self, spare: Spare) -> None:
        """Handle a readable channel: the spare is ready, or it has ended, and `_await_end` handles that."""
        asyncio.get_running_loop().remove_reader(spare.forked.channel)
        # read the message: closing a channel with unread data would lose the order, too
        if spare in self._making and _hear(spare):
            self._making.remove(spare)
            self._ready.append(spare)
            self._demand = self._demand.made()
            self._changed.set()

    async def start(self, order: Order, chosen: Callable[[Watched, str, int | None], None]) -> None:
        """Turn a spare into the instance of `order`. `chosen` receives the process, its sandbox and the listener for
        its forks (None if it does not ask; owned by the callee), before the spare gets its order. Raises InvalidInput
        when the order is too large, ZygoteGone, NodeUnavailable."""
        if len(order.message) > MAX_ORDER:
            raise InvalidInput("the function's environment is larger than 1 MiB")
        self._last_start = _now()
        try:
            for _ in range(_ATTEMPTS):
                spare = await self._next(order)
                listener, spare.listener = spare.listener, None
                chosen(spare.process, spare.forked.sandbox, listener)
                try:
                    if self._give(spare, order):
                        return
                except StartFailed:  # every other spare would fail for the same reason
                    await self._bury(spare)
                    raise
                await self._bury(spare)
        finally:
            self._last_start = _now()
            self._changed.set()
        raise NodeUnavailable("no process could be started; see the platform's log")

    @contextlib.contextmanager
    def wake(self) -> Iterator[None]:
        """Count a wake from its arrival until it serves or fails."""
        self._under_way += 1
        self._at_once = max(self._at_once, self._under_way)
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._at_once = 0

    def served_a_wake(self) -> None:
        """Count a start that replaces no instance and now serves: it needed a spare. Other starts do not count, or
        functions that fail to start, and crash loops, would let the pool grow."""
        self._demand = self._demand.taken(_now(), self._at_once)
        self._changed.set()

    async def _next(self, order: Order) -> Spare:
        while self._ready and order.folder is None and not order.fresh:
            spare = self._ready[0]
            self._forget(spare)
            if spare.process.is_alive():
                return spare
            self._bury_aside(spare)
        forked = await self._zygote.fork(urgent=True, unwanted=self._end_unwanted, folder=order.folder)
        spare = Spare(forked, Watched(forked.pid, forked.pidfd))
        if self._asks:
            await self._until_heard(spare)
        return spare

    async def _until_heard(self, spare: Spare) -> None:
        """Wait until a fork reports, or has ended; end it if the start is cancelled."""
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(spare.forked.channel, readable.set)
        try:
            await readable.wait()
        except asyncio.CancelledError:
            loop.remove_reader(spare.forked.channel)
            self._bury_aside(spare)
            raise
        loop.remove_reader(spare.forked.channel)
        _hear(spare)

    def _give(self, spare: Spare, order: Order) -> bool:
        forked = spare.forked
        try:
            self._limit(forked.sandbox, order)
            if len(order.message) > _SMALL:
                _enlarge(forked.channel, 2 * len(order.message))
            self._hurry(forked.pid)  # before the order, or the instance would begin at low priority
            socket.send_fds(forked.channel, [order.message], list(order.descriptors))
        except OSError as error:  # the spare has ended
            _LOG.warning("a spare cannot become an instance: %s", error)
            return False
        forked.channel.close()
        return True

    def _limit(self, sandbox: str, order: Order) -> None:
        """Set the order's limits. Raises StartFailed for a memory limit that a spare already exceeds, OSError for
        an ended spare."""
        try:
            self._sandboxes.limit(sandbox, order.memory, order.cpu)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            limit = f"{order.memory / 2**20:g} MiB"
            raise StartFailed(f"its memory limit of {limit} is less than a process needs before it starts") from error

    def _hurry(self, pid: int) -> None:
        """Raise a spare to the node's own priority. Where the node may not raise it, the spare has an instance's
        priority from the start (`be_spare` in runtime/spare.py)."""
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, 0))

    async def _await_end(self, spare: Spare) -> None:
        await spare.process.ended.wait()
        spare.burial = None
        self._forget(spare)
        await self._bury(spare)

    def _forget(self, spare: Spare) -> None:
        """Remove the process from the pool."""
        if spare.burial is not None:
            spare.burial.cancel()
        if spare in self._making:
            asyncio.get_running_loop().remove_reader(spare.forked.channel)
            self._making.remove(spare)
        elif spare in self._ready:
            self._ready.remove(spare)
        self._changed.set()

    async def _bury(self, spare: Spare) -> None:
        """End a spare and remove its sandbox."""
        spare.forked.channel.close()
        if spare.listener is not None:
            os.close(spare.listener)
            spare.listener = None
        spare.process.kill()
        await set_within(spare.process.ended, _END_PATIENCE)
        spare.process.close()
        await self._ends.take(spare.forked.pid)
        await self._sandboxes.remove(spare.forked.sandbox)

    def _end_unwanted(self, forked: Forked) -> None:
        """End a fork whose start was cancelled while the zygote made it."""
        self._bury_aside(Spare(forked, Watched(forked.pid, forked.pidfd)))

    def _bury_aside(self, spare: Spare) -> None:
        """End a spare in the background: a start need not wait for that, and a cancelled start must not interrupt
        it."""
        burial = asyncio.create_task(self._bury(spare))
        self._burials.add(burial)
        burial.add_done_callback(self._burials.discard)

    async def close(self) -> None:
        """End all spares."""
        spares = [*self._ready, *self._making]
        for spare in spares:
            self._forget(spare)
        await asyncio.gather(*map(self._bury, spares), *self._burials)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _hear(spare: Spare) -> bool:
    """Take a fork's report, with the listener for its forks if it has one; return False if it has ended."""
    with contextlib.suppress(OSError):
        message, descriptors, _, _ = socket.recv_fds(spare.forked.channel, _SMALL, 1)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)  # only since Python 3.14 does recv_fds pass flags on
            spare.listener = descriptor
        return bool(message)
    return False


def _enlarge(channel: socket.socket, size: int) -> None:
    for option in (socket.SO_SNDBUF, getattr(socket, "SO_SNDBUFFORCE", 32)):  # the second needs privileges
        with contextlib.suppress(OSError):
            channel.setsockopt(socket.SOL_SOCKET, option, size)
