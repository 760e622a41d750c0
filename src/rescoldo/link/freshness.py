"""`--max-stale`: a worker that has not heard from its control for too long refuses calls.

The edge refuses them, by a variable of its process, so that a warm call costs no look at Python. With --max-stale 60s
and a look each second, a call that comes 61 s after control's last sign of life is refused, whether its function is
awake or asleep; one that was accepted before goes on. Calls are served again within a second of the comparison with
control. When control was last heard of outlives the controller, but not the machine's boot; where nothing is known of
that, everything counts as too old.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rescoldo.durable import replace_text
from rescoldo.edge import staleness
from rescoldo.edge.admin import AdminSocket
from rescoldo.model.errors import EdgeUnavailable

LOOK_SECONDS = 1.0
_BOOT = Path("/proc/sys/kernel/random/boot_id")

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FreshnessFiles:
    """What outlives the controller: when control last confirmed what is known, and whether the edge refuses calls,
    which the next process of the edge begins with."""

    confirmed: Path
    stale: Path


class Freshness:
    """Keeps the edge in step with the age of what is known."""

    def __init__(
        self, most: float, unconfirmed: Callable[[], float], files: FreshnessFiles, admin: AdminSocket,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`most`: seconds. `unconfirmed` tells how many seconds ago control confirmed what is known, to this
        controller. `now`: seconds on a clock that all processes since the boot share."""
        self._most = most
        self._unconfirmed = unconfirmed
        self._files = files
        self._admin = admin
        self._now = now
        self._confirmed = self._read()
        self._stale = False  # as last logged

    async def run(self) -> None:
        """Look every LOOK_SECONDS, until cancelled."""
        problem = ""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
                problem = ""
            except EdgeUnavailable:  # the next process of the edge begins with what the file says
                pass
            except OSError as error:
                if str(error) != problem:
                    problem = str(error)
                    _LOG.error("--max-stale cannot be followed now: %s", problem)

    async def look(self) -> None:
        """Have the edge refuse calls if what is known is too old, else serve them. Raises EdgeUnavailable, OSError."""
        now = self._now()
        before, self._confirmed = self._confirmed, max(self._confirmed, now - self._unconfirmed())
        stale = now - self._confirmed > self._most
        if stale != self._stale:
            _LOG.warning(
                "control was last heard of more than %g s ago (--max-stale): calls are refused"
                if stale else "control was heard of within %g s (--max-stale): calls are served", self._most,
            )  # fmt: skip
            self._stale = stale
        if stale:
            self._files.stale.touch()
        else:
            self._files.stale.unlink(missing_ok=True)
        if await staleness.refuses(self._admin) != stale:
            await staleness.refuse(self._admin, stale=stale)
        if self._confirmed != before:
            replace_text(self._files.confirmed, f"{_BOOT.read_text().strip()} {self._confirmed}")

    def _read(self) -> float:
        """When control confirmed what an earlier controller of this boot knew; long ago if that cannot be told."""
        try:
            boot, _, text = self._files.confirmed.read_text().partition(" ")
            if boot == _BOOT.read_text().strip() and (found := float(text)) <= self._now():
                return found
        except (OSError, ValueError):
            pass
        return float("-inf")
