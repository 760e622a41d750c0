"""Draining: after SIGTERM the platform serves on, so that a load balancer takes it out of service before it stops.

1. For `--drain` seconds /healthz answers 404 and each response closes its connection. Load balancers notice and send
   their calls elsewhere; the platform still serves those that come.
2. The platform serves on until no call is in flight or held, at most until `--drain-timeout` has passed since SIGTERM.

All other parts go on as before: functions are woken, scaled and put to sleep, and a part that dies is replaced. The
guardian holds the moment of SIGTERM, so that a supervisor which replaces a killed one goes on draining.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time

from rescoldo.edge.admin import AdminSocket
from rescoldo.edge.draining import begin_draining, has_calls
from rescoldo.model.errors import EdgeUnavailable
from rescoldo.model.settings import Settings
from rescoldo.supervisor.children import Children
from rescoldo.supervisor.guardian import DRAINING
from rescoldo.supervisor.held_descriptors import HeldDescriptors
from rescoldo.supervisor.platformlog import say
from rescoldo.tasks import set_within

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.1  # between two looks at the calls in flight
MAX_MOMENT = 64  # bytes


class Draining:
    """Drains a platform whose settings want it, and remembers since when."""

    def __init__(self, settings: Settings, held: HeldDescriptors, children: Children) -> None:
        self._settings = settings
        self._held = held
        self._children = children
        self._admin = AdminSocket(settings.admin_socket)
        self._told = 0  # pid of the edge that knows
        if not self.begun:  # left by a platform that was killed
            with contextlib.suppress(OSError):
                settings.draining_file.unlink(missing_ok=True)

    @property
    def begun(self) -> bool:
        """Whether this supervisor or an earlier one has begun to drain."""
        return DRAINING in self._held.table

    async def run(self, stopping: asyncio.Event) -> None:
        """Drain, until no call is left, the time is over, or `stopping` is set. Does nothing where draining is not
        wanted."""
        if stopping.is_set() or not self._settings.drain:
            return
        since = self._since() if self.begun else self._begin()
        serves_until, ends = since + self._settings.drain, since + self._settings.longest_drain
        while True:
            await self._tell()
            now = time.monotonic()
            if now >= serves_until and await self._is_idle():
                return
            if now >= ends:
                log.warning("draining took %g s; calls in flight are cut", self._settings.longest_drain)
                return
            if await set_within(stopping, LOOK_SECONDS):
                return

    def _begin(self) -> float:
        """Remember the moment, and have edges that start from now on drain; return the moment."""
        now = time.monotonic()  # one clock for all processes of the machine
        moment = os.memfd_create("rescoldo-draining")
        os.write(moment, repr(now).encode())
        self._held.keep(DRAINING, moment)
        self._children.renew_parts()
        say(f"rescoldo: draining for {self._settings.drain:g} s, and until calls in flight have ended")
        try:
            self._settings.draining_file.touch()
        except OSError as error:  # `rescoldo status` alone misses it
            log.error("cannot write %s: %s", self._settings.draining_file, error)
        return now

    def _since(self) -> float:
        return float(os.pread(self._held.table[DRAINING][0], MAX_MOMENT, 0))

    async def _tell(self) -> None:
        """Tell the present edge unless it knows: it was just started, perhaps, and does not answer yet."""
        edge = self._children.current.get("edge")
        if edge is not None and edge.pid != self._told:
            with contextlib.suppress(EdgeUnavailable):
                if await begin_draining(self._admin, edge.pid):
                    self._told = edge.pid

    async def _is_idle(self) -> bool:
        """Whether no call is left. An edge that does not answer may have calls, until its successor answers."""
        edge = self._children.current.get("edge")
        if edge is None or edge.pid != self._told or self._children.leaving:
            return False
        try:
            return not await has_calls(self._admin)
        except EdgeUnavailable:
            return False
