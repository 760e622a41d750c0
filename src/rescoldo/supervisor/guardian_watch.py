"""The supervisor's watch over its guardian: each of the two replaces the other."""

from __future__ import annotations

import asyncio
import logging
import os
import signal

from rescoldo.isolation.syscalls import become_subreaper
from rescoldo.model.settings import Settings
from rescoldo.supervisor.guardian import become_guardian
from rescoldo.supervisor.held_descriptors import HeldDescriptors
from rescoldo.supervisor.parts import silence, supervisor_command
from rescoldo.supervisor.platformlog import bound
from rescoldo.tasks import Tasks

log = logging.getLogger(__name__)

BEAT_SECONDS = 1.0


class GuardianWatch:
    """Sends the guardian a beat once a second, and takes the place of a guardian that is gone or silent.

    A beat counts as unanswered until the guardian's answer arrives. With `probe_timeout` at 5 s, 10 unanswered beats
    in a row mean a dead guardian. Beats are counted, not seconds: while this process is stopped itself, it sends none.
    """

    def __init__(self, settings: Settings, held: HeldDescriptors, stopping: asyncio.Event) -> None:
        self._settings = settings
        self._held = held
        self._stopping = stopping
        self._unanswered = 0  # beats
        self._tasks = Tasks()

    def start(self) -> None:
        """Start to send beats and to read the answers."""
        self._held.on_loss = self._take_its_place
        asyncio.get_running_loop().add_reader(self._held.fileno(), self._take_answers)
        self._tasks.spawn("beat", self._beat())

    async def stop(self) -> None:
        """Stop sending beats; the guardian sees this process end."""
        await self._tasks.close()

    async def _beat(self) -> None:
        while True:
            self._held.beat()
            bound(self._settings.platform_log)
            await asyncio.sleep(BEAT_SECONDS)
            self._unanswered += 1
            if self._unanswered >= silence(self._settings):
                self._take_its_place()

    def _take_answers(self) -> None:
        if self._held.heard():
            self._unanswered = 0
        else:
            asyncio.get_running_loop().remove_reader(self._held.fileno())
            self._take_its_place()

    def _take_its_place(self) -> None:
        """Become the next guardian, whose new supervisor takes over. A platform that is stopping needs none."""
        if self._stopping.is_set():
            return
        log.warning("the guardian ended or does not report; this process becomes the guardian")
        if os.getppid() == self._held.guardian:  # not gone: stopped or hanging
            os.kill(self._held.guardian, signal.SIGKILL)
        try:
            become_subreaper()
            become_guardian(silence(self._settings), supervisor_command(self._settings), self._held.table)
        except OSError as error:
            log.error("continuing without a guardian: %s", error)
            self._unanswered = 0
