"""The origin of instances: a warm zygote and its spares for handlers, and a bare pair for programs.

A program needs none of the modules that a handler's zygote has imported, and an exec must first release the memory
of the old process image: 1 to 2 ms with everything imported. So programs come from a zygote with next to nothing in
memory. It starts together with the first program.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from rescoldo.isolation.container import descriptors, own_container
from rescoldo.isolation.forks import counted
from rescoldo.kinds.protocol import BARE, WARM
from rescoldo.kinds.registry import kind_of
from rescoldo.model.instance import Launch
from rescoldo.model.settings import Settings
from rescoldo.node.processes.processes import Ends, Watched
from rescoldo.node.processes.sandboxes import Sandboxes
from rescoldo.node.protocol import SparePool
from rescoldo.node.sockets.gateway import GatewayAccess
from rescoldo.node.zygotes.spares import Spares
from rescoldo.node.zygotes.start_queue import StartQueue
from rescoldo.node.zygotes.zygote import Zygote
from rescoldo.policy.spares import SHARE, WHEN_FEW, WHEN_FEW_PROGRAMS, most_spares

BARE_SPARES = 2  # kept at least, unless the settings ask for fewer
SPARES_DESCRIPTORS = 20  # spares may hold one in 20 of the node's descriptors, two each
BARE_SHARE = 4  # bare spares may be at most a quarter of the most warm spares


class ZygotePool:
    """One zygote, kept running, and its spares."""

    def __init__(self, zygote: Zygote, spares: Spares) -> None:
        self._zygote = zygote
        self.spares = spares
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_ready(self) -> bool:
        """Whether the zygote is ready, so that a start need not wait for it."""
        return self._zygote.is_ready

    def open(self, on_zygote_end: Callable[[int], Awaitable[None]], on_failure: Callable[[], None]) -> None:
        """Start the zygote and fill the pool. `on_failure` is called when one of the two tasks ends itself."""
        for work in (self._zygote.keep_running(on_zygote_end), self.spares.keep_filled()):
            task = asyncio.create_task(work)
            task.add_done_callback(lambda _: on_failure())
            self._tasks.add(task)

    @property
    def is_open(self) -> bool:
        return bool(self._tasks)

    def processes(self) -> list[Watched]:
        """The processes of its zygote and its spares."""
        zygote = self._zygote.process
        return [*self.spares.processes(), *([zygote] if zygote else [])]

    async def close(self) -> None:
        """End the zygote and the spares."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self.spares.close()


class Zygotes:
    """The warm and the bare pool; an instance's kind decides between them."""

    def __init__(self, settings: Settings, sandboxes: Sandboxes, ends: Ends, gateway: GatewayAccess | None) -> None:
        self.start_queue = StartQueue()

        def pool(name: str, least: int, most: int, when_few: float) -> ZygotePool:
            zygote = Zygote(settings, ends, sandboxes.base, gateway, name)
            spares = Spares(zygote, sandboxes, ends, self.start_queue, least, most, when_few, asks=counted())
            return ZygotePool(zygote, spares)

        least, most = settings.spares, most_spares_of(settings)
        self._warm = pool(WARM, least, most, WHEN_FEW)
        least = min(least, BARE_SPARES)
        self._bare = pool(BARE, least, max(least, most // BARE_SHARE), WHEN_FEW_PROGRAMS)
        self._sandboxes = sandboxes
        self.failed = asyncio.Event()
        self._in_use: Callable[[], set[str]] = set

    def open(self, in_use: Callable[[], set[str]]) -> None:
        """Start the warm pool; `in_use` returns the names of the instances' sandboxes."""
        self._in_use = in_use
        self._warm.open(self._zygote_ended, self.failed.set)

    @property
    def pool(self) -> SparePool:
        """The numbers of warm spares."""
        return self._warm.spares.pool

    def spares_for(self, launch: Launch) -> Spares:
        """The spares that can provide an instance's process soonest. The warm zygote forks every kind, so it stands
        in while the bare one is not ready."""
        if kind_of(launch).zygote == WARM:
            return self._warm.spares
        if not self._bare.is_open:
            self._bare.open(self._zygote_ended, self.failed.set)
        return (self._bare if self._bare.is_ready else self._warm).spares

    def processes(self) -> list[Watched]:
        """The processes of zygotes and spares."""
        return self._warm.processes() + self._bare.processes()

    def renew(self) -> None:
        """End zygotes and spares. Their replacements see the present folder of bundles."""
        for process in self.processes():
            process.kill()

    def sandboxes(self) -> set[str]:
        """The sandboxes of all spares."""
        return self._warm.spares.sandboxes | self._bare.spares.sandboxes

    async def _zygote_ended(self, pid: int) -> None:
        """Remove the sandboxes that an ended zygote had prepared without reporting them."""
        await self._sandboxes.remove_others(self._in_use() | self.sandboxes(), of_zygote=pid)

    async def close(self) -> None:
        """End both pools."""
        await asyncio.gather(self._warm.close(), self._bare.close())


def most_spares_of(settings: Settings) -> int:
    """The most warm spares that a platform keeps: by memory and by descriptors, but never fewer than the settings
    ask for. A container of 500 MiB keeps 10."""
    memory = settings.spares_memory
    if memory is None:
        memory = own_container().memory().limit // SHARE
    return max(settings.spares, min(most_spares(memory, settings.spares), descriptors() // SPARES_DESCRIPTORS // 2))
