"""More slots, when nearly all are lent, or another certificate: the only times the edge is reloaded.

The configuration is written anew, with twice as many slots where they are scarce, live servers and maps included; the
supervisor starts a second HAProxy, which takes the listening sockets over while the first finishes what it has.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal

from rescoldo.control.fleet.fleet import Fleet
from rescoldo.control.fleet.slots import SlotPool
from rescoldo.edge import config
from rescoldo.model.settings import MOST_SLOTS, Settings

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


class Growth:
    def __init__(self, settings: Settings, fleet: Fleet, slots: SlotPool) -> None:
        self._settings = settings
        self._fleet = fleet
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
        asyncio.get_running_loop().call_soon(self._reload)

    def _reload(self) -> None:
        state = self._fleet.edge_state()
        maps = config.map_text(state.routes, self._settings.limits)
        config.write(self._settings, self._wanted, state.servers, **maps)
        self._settings.slots_file.write_text(str(self._wanted))
        try:
            os.kill(int(self._settings.pid_file.read_text()), signal.SIGHUP)
        except (OSError, ValueError) as error:  # the supervisor is being replaced: ask its successor
            log.warning("the edge is not reloaded yet: %s", error)
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._reload)
