"""Watches the platform's run and data folders, and restores what somebody removed from them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from rescoldo.model.errors import RescoldoError
from rescoldo.model.settings import Settings
from rescoldo.supervisor.child import Child
from rescoldo.supervisor.children import Children
from rescoldo.supervisor.datafolder import DataFolder
from rescoldo.supervisor.held_descriptors import HeldDescriptors
from rescoldo.supervisor.runfolder import ADMIN, FOLDER, RunFolder
from rescoldo.supervisor.sockets import ACCEPTED_BY

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between two checks of the folders
MEND_SECONDS = 3.0  # for the node to restore its own part of a lost run folder


class FolderWatch:
    """Checks both folders once a second. When a socket's path is lost, binds another there, for a new child."""

    def __init__(self, settings: Settings, held: HeldDescriptors, children: Children) -> None:
        self._settings = settings
        self._children = children
        self._run = RunFolder(settings)
        self._data = DataFolder(settings, held)
        self._said = ""  # the last error of restoring the run folder

    async def keep(self) -> None:
        """Check for ever; never return."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._data.mend()
            edge = self._children.current.get("edge")
            lost = self._run.lost(edge.pid if edge is not None else 0)
            self._children.reachable = not lost
            if lost and await self._make_again(lost):
                self._children.reachable = True

    async def _make_again(self, lost: set[str]) -> bool:
        """Restore the lost parts of the run folder; return whether that succeeded."""
        what = f"the run folder {self._settings.run} was lost ({', '.join(sorted(lost))})"
        try:
            sockets = self._run.make_again(lost)
        except (OSError, RescoldoError) as error:
            if str(error) != self._said:  # running children go on; none can start
                self._said = str(error)
                log.error("%s; cannot make it again: %s", what, error)
            return False
        log.warning("%s; made it again", what)
        self._said = ""
        there = dict(self._children.current)  # they have the old sockets; later ones get the new ones
        self._children.listen_on(sockets)
        await self._replace_unreachable(lost, there)
        return True

    async def _replace_unreachable(self, lost: set[str], there: Mapping[str, Child]) -> None:
        """Replace each child of `there` that accepts on a socket whose path was lost."""
        edge = there.get("edge")
        if ADMIN in lost and edge is not None and not edge.ended.is_set():
            self._children.replace_edge()  # a reload would need the lost admin socket
        for name in ("controller", "node"):
            child = there.get(name)
            if child is None or lost.isdisjoint(sock for sock, part in ACCEPTED_BY.items() if part == name):
                continue
            if name == "node" and FOLDER in lost:
                await self._until_node_mended(child)
            await child.kill()

    async def _until_node_mended(self, node: Child) -> None:
        """Wait at most MEND_SECONDS for the node: it tells the controller that its instances lost their sockets, and
        writes its notes for the next node."""
        deadline = asyncio.get_running_loop().time() + MEND_SECONDS
        while not (self._settings.instance_state.exists() or node.ended.is_set()):
            if asyncio.get_running_loop().time() > deadline:
                return
            await asyncio.sleep(LOOK_SECONDS / 20)
