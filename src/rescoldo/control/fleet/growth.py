"""Decides when the edge is reloaded: with more slots when nearly all are lent, or with another certificate.

No other change of the edge needs a reload. A reload writes its configuration anew, with twice as many slots where
they are scarce, live servers and maps included. Then the supervisor starts a second HAProxy, which takes over the
listening sockets while the first finishes its requests.
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
    """Replaces the edge by one with another number of slots (plug-point of `Growth`)."""

    def __call__(self, slots: int, state: Callable[[], EdgeState]) -> bool:
        """Begin a reload with `slots` slots and the state that `state` returns then. Return False if the supervisor
        cannot be reached now."""
        ...


class Growth:
    """Begins reloads, one at a time."""

    def __init__(self, reload: Reload, state: Callable[[], EdgeState], slots: SlotPool) -> None:
        """`state` returns everything that the edge should have now."""
        self._reload = reload
        self._state = state
        self._slots = slots
        self._wanted = 0  # slots of the reload under way; 0: no reload is under way
        self._again = False  # reload once more: the present one may have read the previous certificate

    def start(self) -> None:
        """Begin a reload with twice as many slots, unless one is under way or that would exceed MOST_SLOTS."""
        if self._wanted or self._slots.size * 2 > MOST_SLOTS:
            return
        self._begin(self._slots.size * 2)

    def renew(self) -> None:
        """Begin a reload with the certificate that is on the disk now, once no other is under way."""
        if self._wanted:
            self._again = True
        else:
            self._begin(self._slots.size)

    def finish(self) -> None:
        """Lend the new slots; call it once the new edge answers and is synchronised."""
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
