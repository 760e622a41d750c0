"""Forks of the zygote that wait to become instances: neither a fork nor a sandbox is on the way of a wake."""

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

from rescoldo.model.errors import InvalidInput, NodeUnavailable, StartFailed
from rescoldo.model.instance import MAX_ORDER
from rescoldo.node.processes.processes import Ends, Watched, memory_is_scarce
from rescoldo.node.processes.sandboxes import Sandboxes
from rescoldo.node.protocol import SparePool
from rescoldo.node.zygotes.start_queue import StartQueue
from rescoldo.node.zygotes.zygote import Forked, Zygote, ZygoteGone
from rescoldo.policy.spares import WHEN_FEW, Demand, refill_pause
from rescoldo.tasks import set_within

_ATTEMPTS = 3  # to give an order to one that lives to hear it
_RETRY_PAUSE = 0.25  # seconds
_SMALL = 64 * 2**10  # bytes that every socket takes
_MADE_AT_ONCE = 2  # more would take the cpu from calls, though they have a low priority
_POLL_SECONDS = 10.0  # seconds; bursts are forgotten, and memory becomes scarce, without a sign
_END_PATIENCE = 2.0  # seconds for spares that are let go

_LOG = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Spare:
    """One of them, and what notices its end."""

    forked: Forked
    process: Watched
    burial: asyncio.Task[None] | None = field(default=None)


@dataclass(frozen=True, slots=True)
class Order:
    """What makes one of them an instance."""

    message: bytes  # as in runtime/spare.py
    descriptors: Sequence[int]  # the same
    memory: int  # limit in bytes; 0: none
    cpu: int  # limit in millicores; 0: none
    folder: int | None = None  # descriptor, for a program that binds a Unix socket there: a fork is made for it
    fresh: bool = False  # a fork is to be made for it


class Spares:
    """Keeps as many as recent bursts needed, between `least` and `most`; a few are made at a time, while nothing is
    started."""

    def __init__(
        self,
        zygote: Zygote,
        sandboxes: Sandboxes,
        ends: Ends,
        start_queue: StartQueue,
        least: int,
        most: int,
        when_few: float = WHEN_FEW,
    ) -> None:
        self._zygote = zygote
        self._sandboxes = sandboxes
        self._ends = ends
        self._start_queue = start_queue
        self._least = least
        self._most = most
        self._when_few = when_few  # seconds, for refill_pause
        self._ready: deque[Spare] = deque()
        self._burials: set[asyncio.Task[None]] = set()  # of those that no start waits for
        self._making: set[Spare] = set()  # set themselves up
        self._demand = Demand()
        self._changed = asyncio.Event()
        self._last_start = 0.0  # seconds on the loop's clock
        self._under_way = 0  # wakes that start, or wait for their turn
        self._at_once = 0  # the most of these since there were none

    @property
    def sandboxes(self) -> set[str]:
        """Of those that wait or set themselves up."""
        return {spare.forked.sandbox for spare in (*self._ready, *self._making)}

    def processes(self) -> list[Watched]:
        """Of those that wait or set themselves up."""
        return [spare.process for spare in (*self._ready, *self._making)]

    @property
    def pool(self) -> SparePool:
        """How many there are, and are wanted, now."""
        return SparePool(len(self._ready), self._wanted(), self._most)

    async def keep_filled(self) -> None:
        """Make spares whenever there are too few, end those that are too many; until cancelled."""
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
        """More than the least only where the machine has memory to spare."""
        wanted = self._demand.wanted(_now(), self._least, self._most)
        return self._least if wanted > self._least and memory_is_scarce() else wanted

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
        """It says that it is ready, or its end has closed the channel, which is noticed elsewhere."""
        asyncio.get_running_loop().remove_reader(spare.forked.channel)
        # what is said must be taken: a channel that is closed with something in it loses the order, too
        if spare in self._making and _receive(spare.forked.channel):
            self._making.remove(spare)
            self._ready.append(spare)
            self._demand = self._demand.made()
            self._changed.set()

    async def start(self, order: Order, chosen: Callable[[Watched, str], None]) -> None:
        """Make one the instance of `order`. `chosen` is told of the process and its sandbox before that hears its
        order. Raises InvalidInput when the order is too large, ZygoteGone, NodeUnavailable."""
        if len(order.message) > MAX_ORDER:
            raise InvalidInput("the function's environment is larger than 1 MiB")
        self._last_start = _now()
        try:
            for _ in range(_ATTEMPTS):
                spare = await self._next(order)
                chosen(spare.process, spare.forked.sandbox)
                try:
                    if self._give(spare, order):
                        return
                except StartFailed:  # for a reason that holds for every other spare, too
                    await self._bury(spare)
                    raise
                await self._bury(spare)
        finally:
            self._last_start = _now()
            self._changed.set()
        raise NodeUnavailable("no process could be started; see the platform's log")

    @contextlib.contextmanager
    def wake(self) -> Iterator[None]:
        """A wake starts, from when it comes until it serves or fails."""
        self._under_way += 1
        self._at_once = max(self._at_once, self._under_way)
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._at_once = 0

    def served_a_wake(self) -> None:
        """A start came to serve that replaces no instance: a spare was needed for it. Others do not count, or functions
        that do not start, and crash loops, would let the pool grow."""
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
        return Spare(forked, Watched(forked.pid, forked.pidfd))

    def _give(self, spare: Spare, order: Order) -> bool:
        forked = spare.forked
        try:
            self._limit(forked.sandbox, order)
            if len(order.message) > _SMALL:
                _enlarge(forked.channel, 2 * len(order.message))
            self._hurry(forked.pid)  # before it begins, or it would begin slowly
            socket.send_fds(forked.channel, [order.message], list(order.descriptors))
        except OSError as error:  # it has ended
            _LOG.warning("a spare cannot become an instance: %s", error)
            return False
        forked.channel.close()
        return True

    def _limit(self, sandbox: str, order: Order) -> None:
        """Raises StartFailed for a memory limit that a spare is above already, OSError for one that has ended."""
        try:
            self._sandboxes.limit(sandbox, order.memory, order.cpu)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            limit = f"{order.memory / 2**20:g} MiB"
            raise StartFailed(f"its memory limit of {limit} is less than a process needs before it starts") from error

    def _hurry(self, pid: int) -> None:
        """Let a spare go on at our own priority; without privileges it never had another."""
        if os.geteuid() == 0:
            os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, 0))

    async def _await_end(self, spare: Spare) -> None:
        await spare.process.ended.wait()
        spare.burial = None
        self._forget(spare)
        await self._bury(spare)

    def _forget(self, spare: Spare) -> None:
        """It is none any more."""
        if spare.burial is not None:
            spare.burial.cancel()
        if spare in self._making:
            asyncio.get_running_loop().remove_reader(spare.forked.channel)
            self._making.remove(spare)
        elif spare in self._ready:
            self._ready.remove(spare)
        self._changed.set()

    async def _bury(self, spare: Spare) -> None:
        """End a spare and remove what is left of it."""
        spare.forked.channel.close()
        spare.process.kill()
        await set_within(spare.process.ended, _END_PATIENCE)
        spare.process.close()
        await self._ends.take(spare.forked.pid)
        await self._sandboxes.remove(spare.forked.sandbox)

    def _end_unwanted(self, forked: Forked) -> None:
        """Its start was called off while the zygote made it."""
        self._bury_aside(Spare(forked, Watched(forked.pid, forked.pidfd)))

    def _bury_aside(self, spare: Spare) -> None:
        """Not on the way of a start, which may be called off in the middle of it."""
        burial = asyncio.create_task(self._bury(spare))
        self._burials.add(burial)
        burial.add_done_callback(self._burials.discard)

    async def close(self) -> None:
        """End all of them."""
        spares = [*self._ready, *self._making]
        for spare in spares:
            self._forget(spare)
        await asyncio.gather(*map(self._bury, spares), *self._burials)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _receive(channel: socket.socket) -> bytes:
    with contextlib.suppress(OSError):
        return channel.recv(_SMALL)
    return b""


def _enlarge(channel: socket.socket, size: int) -> None:
    for option in (socket.SO_SNDBUF, getattr(socket, "SO_SNDBUFFORCE", 32)):  # the second needs privileges
        with contextlib.suppress(OSError):
            channel.setsockopt(socket.SOL_SOCKET, option, size)
