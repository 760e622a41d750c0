"""Reloads the edge: writes HAProxy's configuration and asks the supervisor for another process."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable

from rescoldo.edge import config
from rescoldo.edge.protocol import EdgeState
from rescoldo.model.settings import Settings

log = logging.getLogger(__name__)


class EdgeReload:
    """Implements `Reload` for the supervisor's edge."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __call__(self, slots: int, state: Callable[[], EdgeState]) -> bool:
        wanted = state()
        maps = config.map_text(wanted.routes, self._settings.limits, complete=wanted.complete)
        config.write(self._settings, slots, wanted.servers, **maps)
        self._settings.slots_file.write_text(str(slots))  # `slot_count` reads it in the next controller
        try:
            os.kill(int(self._settings.pid_file.read_text()), signal.SIGHUP)
        except (OSError, ValueError) as error:  # the supervisor is being replaced: `Growth` retries
            log.warning("cannot reload the edge yet: %s", error)
            return False
        return True
