"""Replaces the gateway's certificate while the platform runs, after certbot or a similar tool has written another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from rescoldo.model.errors import RescoldoError

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0


class Renewal:
    """Polls for a replaced certificate, and has the edge reloaded."""

    def __init__(self, renew: Callable[[], bool], reload: Callable[[], None]) -> None:
        """`renew` hands a replaced certificate to the edge and returns whether there was one. It raises RescoldoError
        or OSError for a certificate that the edge cannot use. It may block, so it runs in a thread."""
        self._renew = renew
        self._reload = reload
        self.problem = ""  # why the present certificate is not in use; empty: it is in use

    async def run(self) -> None:
        """Poll every LOOK_SECONDS."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Take over a replaced certificate. A broken one is logged once, and the present one stays in use."""
        try:
            renewed = await asyncio.to_thread(self._renew)
        except (RescoldoError, OSError) as error:
            if str(error) != self.problem:
                log.error("the gateway keeps its certificate, since the new one is not valid: %s", error)
            self.problem = str(error)
            return
        self.problem = ""
        if renewed:
            log.info("the gateway's certificate was renewed; reloading the edge")
            self._reload()
