"""Has the edge reloaded: with more slots when nearly all are lent, or with another certificate.

No other change of the edge needs a reload. Its configuration is written anew, with twice as many slots where they are
scarce, live servers and maps included; the supervisor starts a second HAProxy, which takes the listening sockets over
while the first finishes what it has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from rescoldo.control.fleet.slots import SlotPool
from rescoldo.edge import config
from rescoldo.edge.protocol import EdgeState
from rescoldo.model.settings import MOST_SLOTS

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


class Reload(Protocol):
    """Replaces the edge by one with other slots (plug-point of `Growth`)."""

    def __call__(self, slots: int, state: Callable[[], EdgeState]) -> bool:
        """Begin a reload with so many slots and all that `state` returns then; False where the supervisor cannot be
        asked now."""
        ...


class Growth:
    """Decides when the edge is reloaded; one reload at a time."""

    def __init__(self, reload: Reload, state: Callable[[], EdgeState], slots: SlotPool) -> None:
        """`state` returns all that the edge should know now."""
        self._reload = reload
        self._state = state
        self._slots = slots
        self._wanted = 0  # slots of the reload under way; 0: none is
        self._again = False  # that reload may have begun too early for what is on the disk now

    def start(self) -> None:
        """Ask for a reload with twice as many slots, unless one is under way."""
        if self._wanted or self._slots.size * 2 > MOST_SLOTS:
            return
        self._begin(self._slots.size * 2)

    def renew(self) -> None:
        """Ask for a reload with the certificate that is there now."""
        if self._wanted:
            self._again = True
        else:
            self._begin(self._slots.size)

    def finish(self) -> None:
        """A new edge answers and is synchronised: lend its new slots."""
        if self._wanted:
            before = self._slots.size
            self._slots.add(config.slot_names(self._wanted)[before:])
            self._slots.add(config.port_slot_names(self._wanted)[len(config.port_slot_names(before)) :])
            log.info("the edge was reloaded and has %d slots", self._slots.size)
            self._wanted = 0
        if self._again:
            self._again = False
            self._begin(self._slots.size)

    def _begin(self, slots: int) -> None:
        self._wanted = slots
        asyncio.get_running_loop().call_soon(self._try)

    def _try(self) -> None:
        if not self._reload(self._wanted, self._state):
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._try)
