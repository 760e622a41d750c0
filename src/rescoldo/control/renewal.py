"""The gateway's certificate, replaced while the platform runs, as certbot and its like do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from rescoldo.edge import certificate
from rescoldo.model.errors import RescoldoError
from rescoldo.model.settings import Settings

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0


class Renewal:
    """Looks whether the files have changed, and has the edge reloaded."""

    def __init__(self, settings: Settings, reload: Callable[[], None]) -> None:
        self._settings = settings
        self._reload = reload
        self.problem = ""  # why the certificate that is there now is not in use; empty: it is

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Take over what was replaced. What is broken is said once, and the certificate in use stays."""
        try:
            renewed = await asyncio.to_thread(certificate.renew, self._settings)
        except (RescoldoError, OSError) as error:
            if str(error) != self.problem:
                log.error("the gateway keeps the certificate it has: %s", error)
            self.problem = str(error)
            return
        self.problem = ""
        if renewed:
            log.info("the gateway's certificate was replaced; the edge is reloaded")
            self._reload()
