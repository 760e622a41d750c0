"""The programs of a gateway's pod: HAProxy and its agent in a container each, and the end of both.

Both containers have `drain` as their hook before SIGTERM, which ends HAProxy at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import NoReturn

from rescoldo.edge import process
from rescoldo.edge.admin import AdminSocket
from rescoldo.gateway import config
from rescoldo.gateway.agent import Agent
from rescoldo.gateway.config import GatewaySettings
from rescoldo.gateway.pods import WORKERS
from rescoldo.gateway.proxy import Proxy
from rescoldo.gateway.secrets import read_secrets
from rescoldo.kube.protocol import Cluster
from rescoldo.model.errors import EdgeUnavailable
from rescoldo.tasks import set_within

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1


def become_proxy(settings: GatewaySettings) -> NoReturn:
    """Wait until the agent has written the configuration, and become HAProxy. Raises RescoldoError without one."""
    while not settings.config_file.exists():  # written last
        time.sleep(POLL_SECONDS)
    binary = process.binary()
    command = config.command(binary, settings, first=os.getpid() == 1)
    os.execve(binary, command, {**os.environ, **process.environment(binary)})


async def run_agent(
    settings: GatewaySettings,
    cluster: Cluster,
    secrets: Path,
    stop: asyncio.Event,
    *,
    namespaces: Collection[str] = (),
    labels: str = WORKERS,
) -> None:
    """Write the configuration, and follow the workers' pods until `stop` is set: in `namespaces`, or in all if there
    are none.

    `secrets` is the folder that gateway/secrets.py describes. Raises an ExceptionGroup for an error in this program:
    the container is to be started again.
    """
    config.write(settings, read_secrets(secrets).authority)
    agent = Agent(
        settings,
        cluster,
        Proxy(settings, AdminSocket(settings.admin_socket)),
        secrets=partial(read_secrets, secrets),
        namespaces=namespaces,
        labels=labels,
    )
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(agent.run(), name="agent")
        await stop.wait()
        running.cancel()


async def drain(proxy: Proxy, seconds: float, longest: float) -> bool:
    """Take the gateway out of service: /healthz answers 404 and each response closes its connection, while everything
    that comes is served. Return after `seconds`, in which load balancers notice, once no call is at a worker; whether
    that was so before `longest` seconds were over. Raises EdgeUnavailable when no HAProxy answers at first; one that
    ends meanwhile, since the other container's hook was done sooner, has no calls.
    """
    await proxy.begin_draining()
    loop, never = asyncio.get_running_loop(), asyncio.Event()
    ends = loop.time() + longest
    await set_within(never, min(seconds, longest))
    while left := await _calls(proxy):
        if loop.time() >= ends:
            log.warning("draining took %g s; %d calls are cut", longest, left)
            return False
        await set_within(never, POLL_SECONDS)
    return True


async def _calls(proxy: Proxy) -> int:
    try:
        return await proxy.calls()
    except EdgeUnavailable:
        return 0
