"""What the worker of a cluster must have before it starts: its identity, out of its functions' reach."""

from __future__ import annotations

from pathlib import Path

from rescoldo.edge.pool import read_pool
from rescoldo.isolation import landlock
from rescoldo.isolation.interpreter import needed_directories
from rescoldo.isolation.level import level
from rescoldo.model.errors import InvalidInput
from rescoldo.model.settings import Settings


def check_worker(settings: Settings) -> None:
    """Raise InvalidInput unless a worker has its pool's secrets, and its functions can read neither them nor its key.

    At the level full functions do not see the folder. At the level unprivileged they are of the same user, and only
    Landlock keeps them from it.
    """
    if settings.pool_secrets is None:
        raise InvalidInput("--join needs --identity: the folder with this worker's certificate and its pool's secret")
    read_pool(settings.pool_secrets)
    if level() == "full" or settings.allow_without_landlock:
        return
    if landlock.abi() == 0:
        raise InvalidInput(
            "this kernel has no Landlock, or it is not enabled (boot option lsm=): functions could read this worker's "
            "key and its pool's secret, and each other's files; use nodes with Linux 5.13 or later whose "
            "/sys/kernel/security/lsm names landlock, or accept that with --allow-without-landlock (the chart's value "
            "allowWithoutLandlock)"
        )
    folder = settings.pool_secrets.parent.resolve()
    for place in map(Path, (*landlock.SYSTEM, *needed_directories())):
        if folder.is_relative_to(place.resolve()):
            raise InvalidInput(f"--identity: functions may read {place}, so choose a folder that is not below it")
