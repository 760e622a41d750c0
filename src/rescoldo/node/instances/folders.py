"""The node's part of the run folder: created at the start, and again after its removal."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Callable

from rescoldo.isolation.level import level
from rescoldo.model.ids import EDGE_UID
from rescoldo.model.settings import Settings
from rescoldo.node.processes.sandboxes import Sandboxes

LOOK_SECONDS = 0.5

_LOG = logging.getLogger(__name__)


def make_folders(settings: Settings) -> None:
    """Create missing folders, except the notes' folder: its absence tells `NodeProcess` (main.py) that there are no
    notes. Raises OSError."""
    for folder in (settings.logs, settings.instances, settings.bundles, settings.scratch, settings.program_sockets):
        folder.mkdir(parents=True, exist_ok=True)
    if level() == "full":
        # Only the edge may enter to connect; instances may pass through to the bundle of their group.
        os.chown(settings.instances, 0, EDGE_UID)
        settings.instances.chmod(0o710)
        settings.program_sockets.chmod(0o711)
        mode = stat.S_IMODE(settings.bundles.stat().st_mode)
        settings.bundles.chmod(mode | 0o011)


async def keep_whole(
    settings: Settings, sandboxes: Sandboxes, mend_instances: Callable[[], None], on_bundles: Callable[[], None]
) -> None:
    """Restore missing folders and files until cancelled. The supervisor creates the run folder itself.
    `mend_instances` mends the files of instances; `on_bundles` is called when another folder has replaced the
    folder of bundles."""
    failing = False
    bundles = settings.bundles.stat().st_ino
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        if not settings.run_path.is_dir():
            continue
        try:
            make_folders(settings)
            # the supervisor takes this folder as the sign that the node's part is whole
            settings.instance_state.mkdir(exist_ok=True)
            sandboxes.note()
            if (found := settings.bundles.stat().st_ino) != bundles:
                bundles = found
                on_bundles()
            mend_instances()
        except OSError as error:
            # Once per outage, not every LOOK_SECONDS.
            if not failing:
                _LOG.error("cannot restore the run folder: %s", error)
            failing = True
        else:
            failing = False
