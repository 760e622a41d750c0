"""Brings awake functions to the number of instances they should have."""

from __future__ import annotations

import asyncio
import logging

from rescoldo.control.entry import Entry
from rescoldo.control.instances import Instances
from rescoldo.model.errors import RescoldoError
from rescoldo.policy.backoff import retry_delay

log = logging.getLogger(__name__)


class Replicas:
    def __init__(self, instances: Instances) -> None:
        self._instances = instances

    async def resize(self, entry: Entry) -> None:
        """Start or stop instances until an awake function has as many as wanted."""
        async with entry.resizing:
            failures = 0
            while (awake := entry.awake) is not None and len(awake.servers) != awake.wanted:
                if len(awake.servers) > awake.wanted:
                    instance, _ = awake.servers.popitem()
                    await self._instances.remove(awake.slot, instance, awake.policy.limits.exec_timeout)
                    continue
                try:
                    await self._instances.launch(awake)
                except RescoldoError as error:
                    failures += 1
                    log.warning("%s stays at %d instances for now: %s", entry.id, len(awake.servers), error.message)
                    await asyncio.sleep(retry_delay(failures))
