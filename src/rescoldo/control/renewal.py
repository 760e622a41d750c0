"""The gateway's certificate, replaced while the platform runs, as certbot and its like do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from rescoldo.model.errors import RescoldoError

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0


class Renewal:
    """Looks whether the certificate was replaced, and has the edge reloaded."""

    def __init__(self, renew: Callable[[], bool], reload: Callable[[], None]) -> None:
        """`renew` hands a certificate that was replaced to the edge; it returns whether one was, and raises
        RescoldoError or OSError for one that the edge cannot use. It may block: it is called in a thread."""
        self._renew = renew
        self._reload = reload
        self.problem = ""  # why the certificate that is there now is not in use; empty: it is

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Take over a certificate that was replaced. A broken one is logged once, and the one in use stays."""
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
